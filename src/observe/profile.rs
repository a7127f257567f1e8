//! What the operations of a training step cost: measured on a few images, before the first step.

use std::time::{Duration, Instant};

use tch::{Device, Kind, Reduction, Tensor};

use super::graph::{CROSS_ENTROPY, LOSS_GRADIENT, forward_node, gradient_node, variable_node, weight_shapes};
use crate::data::{Batch, Split};
use crate::eventlog::profile::ProfileError;
use crate::eventlog::{NodeCost, Profile};
use crate::model::{Network, Operation, Parameters};

/// Images that are measured with, at most.
const IMAGES: usize = 8;
/// Multiply-accumulates of a forward pass that the number of images is cut to, so that a large network costs its run
/// little more than a small one does.
const MACS: usize = 60_000_000;
/// Passes, of whose times the shortest counts: what disturbs a measurement only ever adds to it.
const PASSES: usize = 3;
/// Time after which no further pass begins, once there are two; the first one warms up.
const LONG_ENOUGH: Duration = Duration::from_millis(10);

/// Times of one operation, and what it leaves behind.
struct Cost {
    forward: Duration,
    backward: Duration,
    /// `N x ...`, as it lies in memory for people: channels last.
    output: Vec<u32>,
    input: Vec<u32>,
}

/// The shortest times of each operation and its gradient by the clock, one after the other on this thread, and the bytes
/// of their outputs. Nothing of the run is touched: gradients are of copies of the leaves and go nowhere.
pub(super) fn measure(
    network: &Network,
    parameters: &Parameters,
    images: &Split,
    device: &str,
) -> Result<Profile, ProfileError> {
    let count = (MACS / network.macs().max(1)).clamp(1, IMAGES).min(images.len());
    let indices: Vec<u32> = (0..).take(count).collect();
    let batch = Batch::gather(images, &indices, parameters.device());
    let operations = network.operations();
    let leaves = parameters.leaves();
    let started = Instant::now();
    let mut costs: Vec<Cost> = Vec::new();
    for number in 0..PASSES {
        if number >= 2 && started.elapsed() > LONG_ENOUGH {
            break;
        }
        let again = pass(&operations, parameters, &leaves, &batch);
        if costs.is_empty() {
            costs = again;
            continue;
        }
        for (cost, again) in costs.iter_mut().zip(again) {
            cost.forward = cost.forward.min(again.forward);
            cost.backward = cost.backward.min(again.backward);
        }
    }
    Profile::new(device, nodes(&operations, &costs))
}

/// The costs of all operations, and after them of the loss.
fn pass(operations: &[Operation<'_>], parameters: &Parameters, leaves: &[Tensor], batch: &Batch) -> Vec<Cost> {
    let device = parameters.device();
    let first = operations.iter().position(|operation| operation.weights().is_some()).unwrap_or(operations.len());
    let mut costs = Vec::with_capacity(operations.len() + 1);
    let mut x = batch.images_nchw.shallow_clone();
    for (index, operation) in operations.iter().enumerate() {
        let (output, forward) = timed(device, || tch::no_grad(|| operation.apply(parameters.views(), &x)));
        let mut backward = Duration::ZERO;
        if index >= first {
            let leaf = x.detach().set_requires_grad(index > first);
            let mut inputs = if index > first { vec![leaf.shallow_clone()] } else { Vec::new() };
            inputs.extend(operation.weights().into_iter().flatten().map(|weight| leaves[weight].shallow_clone()));
            // A backward pass begins at a number. What the step to that number takes is not of the operation.
            let ones = output.ones_like();
            let (_, whole) = backward_of(device, &(operation.apply(leaves, &leaf) * &ones), &inputs);
            let end = output.detach().set_requires_grad(true);
            let (_, less) = backward_of(device, &(&end * &ones), std::slice::from_ref(&end));
            backward = whole.saturating_sub(less);
        }
        costs.push(Cost { forward, backward, output: dims(&output), input: dims(&x) });
        x = output;
    }
    let logits = x.detach().set_requires_grad(true);
    let entropy = |reduction| logits.cross_entropy_loss::<Tensor>(&batch.labels_n, None, reduction, -100, 0.0);
    let (each, forward) = timed(device, || tch::no_grad(|| entropy(Reduction::None)));
    let mean = entropy(Reduction::Mean);
    let (_, backward) = timed(device, || Tensor::run_backward(&[&mean], &[&logits], false, false));
    costs.push(Cost { forward, backward, output: dims(&each), input: dims(&logits) });
    costs
}

fn backward_of(device: Device, output: &Tensor, inputs: &[Tensor]) -> (Vec<Tensor>, Duration) {
    let root = output.sum(Kind::Float);
    timed(device, || Tensor::run_backward(&[&root], inputs, false, false))
}

/// What `work` gives and how long it took, on the device, too.
fn timed<T>(device: Device, work: impl FnOnce() -> T) -> (T, Duration) {
    let wait = || {
        if let Device::Cuda(index) = device {
            tch::Cuda::synchronize(index as i64);
        }
    };
    wait();
    let started = Instant::now();
    let result = work();
    wait();
    (result, started.elapsed())
}

/// Sizes with channels last.
fn dims(tensor: &Tensor) -> Vec<u32> {
    let size: Vec<u32> = tensor.size().iter().map(|&d| u32::try_from(d).unwrap_or(u32::MAX)).collect();
    match size[..] {
        [n, c, h, w] => vec![n, h, w, c],
        _ => size,
    }
}

/// The nodes of the run graph that the costs belong to: weights, the forward pass, the loss, the backward pass, with their
/// times end to end, so that those of a scope add up.
fn nodes(operations: &[Operation<'_>], costs: &[Cost]) -> Vec<NodeCost> {
    let mut now = 1;
    let mut nodes = Vec::new();
    let mut put = |name: String, time: Option<Duration>, outputs: &[Vec<u32>]| {
        let micros = time.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
        let start_micros = now;
        now += micros;
        let bytes = outputs.iter().map(|dims| 4 * dims.iter().map(|&d| u64::from(d)).product::<u64>()).sum();
        let outputs = outputs.iter().map(|dims| dims.iter().copied().map(Some).collect()).collect();
        nodes.push(NodeCost { name, start_micros, end_micros: now, bytes, outputs });
    };
    let weights = |operation: &Operation<'_>| -> Vec<Vec<u32>> {
        let (kernel, bias) = weight_shapes(operation.layer);
        let sizes = |shape: Vec<i64>| shape.into_iter().map(|d| u32::try_from(d).unwrap_or(u32::MAX)).collect();
        operation.weights().map_or_else(Vec::new, |_| vec![sizes(kernel), sizes(bias)])
    };
    for operation in operations {
        for (role, shape) in ["kernel", "bias"].into_iter().zip(weights(operation)) {
            put(variable_node(operation.layer, role), None, &[shape]);
        }
    }
    for (operation, cost) in operations.iter().zip(costs) {
        put(forward_node(operation).0, Some(cost.forward), std::slice::from_ref(&cost.output));
    }
    if let Some(loss) = costs.get(operations.len()) {
        put(CROSS_ENTROPY.to_owned(), Some(loss.forward), std::slice::from_ref(&loss.output));
        put(LOSS_GRADIENT.to_owned(), Some(loss.backward), std::slice::from_ref(&loss.input));
    }
    let first = operations.iter().position(|operation| operation.weights().is_some()).unwrap_or(operations.len());
    for (index, (operation, cost)) in operations.iter().zip(costs).enumerate().skip(first).rev() {
        let mut outputs = if index > first { vec![cost.input.clone()] } else { Vec::new() };
        outputs.extend(weights(operation));
        put(gradient_node(operation).0, Some(cost.backward), &outputs);
    }
    nodes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::Architecture;
    use crate::observe::graph::run_graph;
    use crate::optim::Rule;
    use crate::types::{ImageShape, Seed};

    fn profile(conv_filters: &[usize]) -> (Network, Profile, BTreeSet<String>) {
        let shape = ImageShape { height: 12, width: 10, channels: 1 };
        let architecture = Architecture { conv_filters: conv_filters.to_vec(), kernel_size: 3, dense_units: 8 };
        let network = Network::build(&architecture, shape, 5).unwrap();
        let parameters = Parameters::initialise(&network, Seed(1), Device::Cpu);
        let before = parameters.flat().copy();
        let images = Split::new(shape, 5, vec![100; 7 * shape.len()], vec![1; 7]).unwrap();
        let profile = measure(&network, &parameters, &images, "/device:CPU:0").unwrap();
        assert_eq!(*parameters.flat(), before);
        assert!(parameters.views().iter().all(|view| !view.requires_grad() && !view.grad().defined()));
        let rule = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };
        let graph = run_graph(&network, rule, 0.1, "/device:CPU:0").unwrap();
        let names = graph.nodes().iter().map(|node| node.name().to_owned()).collect();
        (network, profile, names)
    }

    #[test]
    fn every_cost_is_of_a_node_of_the_graph() {
        for filters in [&[4, 6][..], &[4], &[]] {
            let (network, profile, names) = profile(filters);
            for node in profile.nodes() {
                assert!(names.contains(&node.name), "{} is not in {names:?}", node.name);
            }
            // Every layer has a forward time, every layer from the first with weights on a backward time.
            let timed: Vec<&str> =
                profile.nodes().iter().filter(|n| n.end_micros > n.start_micros).map(|n| n.name.as_str()).collect();
            for layer in network.layers() {
                assert!(timed.iter().any(|name| name.starts_with(&format!("{}/", layer.name))), "{}", layer.name);
                let gradient = timed.iter().any(|name| name.starts_with(&format!("gradients/{}/", layer.name)));
                assert_eq!(gradient, !(filters.is_empty() && layer.name == "flatten"), "{}", layer.name);
            }
        }
    }

    #[test]
    fn bytes_are_of_outputs_and_weights() {
        let (_, profile, _) = profile(&[4]);
        let bytes = |name: &str| profile.nodes().iter().find(|node| node.name == name).unwrap().bytes;
        assert_eq!(bytes("conv2d/kernel"), 3 * 3 * 4 * 4);
        assert_eq!(bytes("conv2d/Conv2D"), 7 * 10 * 8 * 4 * 4);
        assert_eq!(bytes("max_pooling2d/Relu"), 7 * 5 * 4 * 4 * 4);
        assert_eq!(bytes("gradients/conv2d/Conv2DGrad"), 3 * 3 * 4 * 4 + 4 * 4);
        assert_eq!(bytes("gradients/dense_1/MatMulGrad"), (7 * 8 + 8 * 5 + 5) * 4);
        assert_eq!(bytes("loss/cross_entropy"), 7 * 4);
    }
}
