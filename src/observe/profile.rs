//! Costs of a training step's operations: time of the passes that train, memory of their results.

use std::time::Duration;

use super::operations::{
    CROSS_ENTROPY, LOSS_GRADIENT, Operation, forward_node, gradient_node, operations, variable_node, weight_shapes,
};
use crate::eventlog::profile::ProfileError;
use crate::eventlog::{NodeCost, Profile};
use crate::graph::{Graph, Role, Shape};
use crate::train::{LayerTimes, OperationTime, PassTime};

/// The nodes of the run graph with what they cost: weights, the forward pass, the loss, the backward pass, with their times
/// end to end, so that those of a scope add up. Of operations that are computed in one sweep the first has the time, and
/// none but the last leaves anything behind.
pub(super) fn profile(network: &Graph, times: &LayerTimes, device: &str) -> Result<Profile, ProfileError> {
    let operations = operations(network);
    let images = u32::try_from(times.images).unwrap_or(u32::MAX);
    let mut nodes = Nodes { images, now: 1, costs: Vec::new() };
    for operation in &operations {
        for (role, shape) in [Role::Kernel, Role::Bias].into_iter().zip(weights(operation)) {
            nodes.put(variable_node(operation.layer, role), None, vec![shape], true);
        }
    }
    let time = |index: usize| match times.operations.get(index) {
        Some(&OperationTime::Own(time)) => Some(time),
        Some(OperationTime::Within(_)) | None => None,
    };
    for (index, operation) in operations.iter().enumerate() {
        let output = nodes.batch(operation.output);
        let is_last = !matches!(times.operations.get(index + 1), Some(OperationTime::Within(_)));
        nodes.put(forward_node(operation).0, time(index).map(|time| time.forward), vec![output], is_last);
    }
    let PassTime { forward, backward } = times.loss;
    nodes.put(CROSS_ENTROPY.to_owned(), Some(forward), vec![vec![images]], true);
    let logits: Vec<Vec<u32>> = operations.last().map(|last| nodes.batch(last.output)).into_iter().collect();
    nodes.put(LOSS_GRADIENT.to_owned(), Some(backward), logits, true);
    let first = operations.iter().position(Operation::has_weights).unwrap_or(operations.len());
    for (index, operation) in operations.iter().enumerate().skip(first).rev() {
        let mut outputs = if index > first { vec![nodes.batch(operation.input)] } else { Vec::new() };
        outputs.extend(weights(operation));
        let own = time(index);
        nodes.put(gradient_node(operation).0, own.map(|time| time.backward), outputs, own.is_some());
    }
    Profile::new(device, nodes.costs)
}

/// Costs so far, in the order in which they arise.
struct Nodes {
    images: u32,
    /// Microseconds.
    now: u64,
    costs: Vec<NodeCost>,
}

impl Nodes {
    /// `time` is none of what takes none of its own; what is not `kept` is never in memory as a whole.
    fn put(&mut self, name: String, time: Option<Duration>, outputs: Vec<Vec<u32>>, kept: bool) {
        let micros = time.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
        let start_micros = self.now;
        self.now = self.now.saturating_add(micros);
        let bytes_of = |dims: &Vec<u32>| 4 * dims.iter().map(|&d| u64::from(d)).product::<u64>();
        let bytes = if kept { outputs.iter().map(bytes_of).sum() } else { 0 };
        let outputs = outputs.into_iter().map(|dims| dims.into_iter().map(Some).collect()).collect();
        self.costs.push(NodeCost { name, start_micros, end_micros: self.now, bytes, outputs });
    }

    /// Sizes of a batch, channels last.
    fn batch(&self, shape: Shape) -> Vec<u32> {
        let sizes = shape.dims_nhwc().into_iter().skip(1).map(|size| u32::try_from(size).unwrap_or(u32::MAX));
        [self.images].into_iter().chain(sizes).collect()
    }
}

/// The shapes of an operation's weights.
fn weights(operation: &Operation<'_>) -> Vec<Vec<u32>> {
    let (kernel, bias) = weight_shapes(operation.layer);
    let sizes = |shape: Vec<i64>| shape.into_iter().map(|d| u32::try_from(d).unwrap_or(u32::MAX)).collect();
    if operation.has_weights() { vec![sizes(kernel), sizes(bias)] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::Architecture;
    use crate::observe::graph::run_graph;
    use crate::optim::Rule;
    use crate::types::ImageShape;

    const DEVICE: &str = "/device:CPU:0";

    /// Each operation takes 10 us more than the one before, and twice as long backward.
    fn costs(conv_filters: &[usize], is_fused: bool) -> (Graph, Profile, BTreeSet<String>) {
        let shape = ImageShape { height: 12, width: 10, channels: 1 };
        let architecture = Architecture { conv_filters: conv_filters.to_vec(), kernel_size: 3, dense_units: 8 };
        let network = architecture.build(shape, 5).unwrap();
        let micros = |micros: u64| PassTime {
            forward: Duration::from_micros(micros),
            backward: Duration::from_micros(2 * micros),
        };
        let mut leader = 0;
        let mut time = |(index, operation): (usize, &Operation<'_>)| {
            if operation.has_weights() || operation.layer.name == "flatten" || !is_fused {
                leader = index;
                OperationTime::Own(micros(10 * (index as u64 + 1)))
            } else {
                OperationTime::Within(leader)
            }
        };
        let operations = operations(&network).iter().enumerate().map(&mut time).collect();
        let times = LayerTimes { images: 7, operations, loss: micros(1) };
        let profile = profile(&network, &times, DEVICE).unwrap();
        let rule = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };
        let graph = run_graph(&network, rule, 0.1, DEVICE, Some(&times)).unwrap();
        let names = graph.nodes().iter().map(|node| node.name().to_owned()).collect();
        (network, profile, names)
    }

    fn node<'a>(profile: &'a Profile, name: &str) -> &'a NodeCost {
        profile.nodes().iter().find(|node| node.name == name).unwrap()
    }

    fn micros(profile: &Profile, name: &str) -> u64 {
        node(profile, name).end_micros - node(profile, name).start_micros
    }

    #[test]
    fn every_cost_is_of_a_node_of_the_graph() {
        for filters in [&[4, 6][..], &[4], &[]] {
            for is_fused in [false, true] {
                let (network, profile, names) = costs(filters, is_fused);
                for node in profile.nodes() {
                    assert!(names.contains(&node.name), "{} is not in {names:?}", node.name);
                }
                for operation in operations(&network) {
                    assert!(profile.nodes().iter().any(|node| node.name == forward_node(&operation).0));
                }
            }
        }
    }

    #[test]
    fn a_sweep_has_its_time_at_its_first_operation_and_its_output_at_the_last() {
        let (_, profile, _) = costs(&[4], true);
        let all = ["conv2d/Conv2D", "max_pooling2d/MaxPool", "max_pooling2d/Relu"];
        assert_eq!(all.map(|name| micros(&profile, name)), [10, 0, 0]);
        assert_eq!(all.map(|name| node(&profile, name).bytes), [0, 0, 7 * 5 * 4 * 4 * 4]);
        let back =
            ["gradients/conv2d/Conv2DGrad", "gradients/max_pooling2d/MaxPoolGrad", "gradients/max_pooling2d/ReluGrad"];
        assert_eq!(back.map(|name| micros(&profile, name)), [20, 0, 0]);
        assert_eq!(back.map(|name| node(&profile, name).bytes), [3 * 3 * 4 * 4 + 4 * 4, 0, 0]);
        let times = ["loss/cross_entropy", "gradients/loss/CrossEntropyGrad"].map(|name| micros(&profile, name));
        assert_eq!(times, [1, 2]);
    }

    #[test]
    fn bytes_are_of_outputs_and_weights() {
        let (_, profile, _) = costs(&[4], false);
        let bytes = |name: &str| node(&profile, name).bytes;
        assert_eq!(bytes("conv2d/kernel"), 3 * 3 * 4 * 4);
        assert_eq!(bytes("conv2d/Conv2D"), 7 * 10 * 8 * 4 * 4);
        assert_eq!(bytes("max_pooling2d/Relu"), 7 * 5 * 4 * 4 * 4);
        assert_eq!(bytes("gradients/conv2d/Conv2DGrad"), 3 * 3 * 4 * 4 + 4 * 4);
        assert_eq!(bytes("gradients/dense_1/MatMulGrad"), (7 * 8 + 8 * 5 + 5) * 4);
        assert_eq!(bytes("loss/cross_entropy"), 7 * 4);
    }
}
