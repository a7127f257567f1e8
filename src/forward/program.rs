//! Execution of a plan.

use std::ops::Range;

use tch::Tensor;

use super::operation;
use crate::graph::{Graph, NodeId, Op, Plan, Step};

/// A plan with the operations of its steps. Independent of the graph it was made of, and of weights.
#[derive(Clone, Debug)]
pub struct Program {
    plan: Plan,
    /// Operation of each step, and the range of its parameters.
    operations: Vec<(Op, Range<usize>)>,
}

/// Values of nodes for a batch.
#[derive(Debug)]
pub struct Values {
    slots: Vec<Option<Tensor>>,
}

impl Program {
    /// A program for the values of `keep`.
    pub fn new(graph: &Graph, keep: &[NodeId]) -> Program {
        let plan = Plan::new(graph, keep);
        let operation = |step: &Step| {
            let node = graph.node(step.node);
            (node.op, node.parameters.clone())
        };
        Program { operations: plan.steps().iter().map(operation).collect(), plan }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Range of the parameters of each step; empty for an operation without any.
    pub fn parameters(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.operations.iter().map(|(_, parameters)| parameters.clone())
    }

    /// Values for images `N x C x H x W`.
    ///
    /// # Panics
    /// If the weights or images do not have the graph's shapes: a bug in the caller.
    pub fn run(&self, weights: &[Tensor], images_nchw: &Tensor) -> Values {
        self.run_watched(weights, images_nchw, |_, work| work())
    }

    /// As [`Program::run`], with `watch` around each step, to measure it.
    pub fn run_watched(
        &self,
        weights: &[Tensor],
        images_nchw: &Tensor,
        mut watch: impl FnMut(usize, &mut dyn FnMut() -> Tensor) -> Tensor,
    ) -> Values {
        let mut values = Values::of_images(self.plan.slots(), images_nchw);
        for (number, step) in self.plan.steps().iter().enumerate() {
            let result = watch(number, &mut || self.apply(number, weights, &values.read(step)));
            values.write(step, result);
        }
        values
    }

    /// As [`Program::run`], but `replace` changes the value of `node` for all that read it. Nothing before it is recorded for
    /// gradients.
    pub(super) fn run_replaced(
        &self,
        weights: &[Tensor],
        images_nchw: &Tensor,
        node: NodeId,
        replace: impl Fn(Tensor) -> Tensor,
    ) -> Values {
        let mut values = Values::of_images(self.plan.slots(), images_nchw);
        let mut is_before = node.index() > 0;
        if !is_before {
            values.slots[0] = Some(replace(images_nchw.shallow_clone()));
        }
        for (number, step) in self.plan.steps().iter().enumerate() {
            let work = || self.apply(number, weights, &values.read(step));
            let result = if is_before { tch::no_grad(work) } else { work() };
            is_before &= step.output != node;
            values.write(step, if step.output == node { replace(result) } else { result });
        }
        values
    }

    /// Result of step `number` alone.
    ///
    /// # Panics
    /// As [`Program::run`], and if there is no such step: a bug in the caller.
    pub fn apply(&self, number: usize, weights: &[Tensor], inputs: &[&Tensor]) -> Tensor {
        let (op, parameters) = &self.operations[number];
        operation::apply(*op, &weights[parameters.clone()], inputs)
    }
}

impl Values {
    fn of_images(slots: usize, images_nchw: &Tensor) -> Values {
        let mut values = Values { slots: (0..slots).map(|_| None).collect() };
        values.slots[0] = Some(images_nchw.shallow_clone());
        values
    }

    fn read(&self, step: &Step) -> Vec<&Tensor> {
        step.inputs.iter().flat_map(|id| &self.slots[id.index()]).collect()
    }

    fn write(&mut self, step: &Step, result: Tensor) {
        step.drops.iter().for_each(|id| self.slots[id.index()] = None);
        self.slots[step.output.index()] = Some(result);
    }

    /// The value of a node.
    ///
    /// # Panics
    /// If the program was not made to keep it: a bug in the caller.
    pub fn get(&self, id: NodeId) -> &Tensor {
        match &self.slots[id.index()] {
            Some(value) => value,
            None => unreachable!("the value of node {} was not kept", id.index()),
        }
    }

    /// The value of a node, out of the others.
    ///
    /// # Panics
    /// As [`Values::get`], and on a second call.
    pub fn take(&mut self, id: NodeId) -> Tensor {
        let value = self.get(id).shallow_clone();
        self.slots[id.index()] = None;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward;
    use crate::graph::Graph;
    use crate::model::Architecture;
    use crate::types::{ImageShape, Seed};
    use crate::weights::Weights;
    use tch::{Device, Kind};

    const MNIST: ImageShape = ImageShape { height: 28, width: 28, channels: 1 };

    fn random_images(count: i64, shape: ImageShape) -> Tensor {
        let mut stream = crate::rng::Stream::new(Seed(3), crate::rng::Purpose::Test, 0, 0);
        let [h, w, c] = [shape.height, shape.width, shape.channels].map(|d| d as i64);
        let values: Vec<f32> = (0..count * h * w * c).map(|_| stream.uniform(0.0, 1.0)).collect();
        Tensor::from_slice(&values).as_strided([count, c, h, w], [h * w * c, 1, w * c, c], 0)
    }

    fn network() -> (Graph, Weights) {
        let network = Architecture::default().build(MNIST, 10).unwrap();
        let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
        (network, parameters)
    }

    #[test]
    fn pooling_before_relu_and_kept_values_give_the_same_bits() {
        let (network, parameters) = network();
        let images = random_images(3, MNIST);
        let program = Program::new(&network, &[network.taps().logits]);
        let order: Vec<String> = program
            .plan()
            .steps()
            .iter()
            .map(|step| {
                let is_relu = matches!(network.node(step.node).op, Op::Activation(_));
                format!("{}{}", network.layers()[step.layer].name, if is_relu { "+" } else { "" })
            })
            .collect();
        let pooled = ["conv2d", "max_pooling2d", "max_pooling2d+", "conv2d_1", "max_pooling2d_1", "max_pooling2d_1+"];
        assert_eq!(order, [&pooled[..], &["flatten", "dense", "dense+", "dense_1"]].concat());
        let logits = forward::logits(&network, parameters.views(), &images);
        let outputs: Vec<NodeId> = network.layers().iter().map(|layer| layer.value).collect();
        let values = Program::new(&network, &outputs).run(parameters.views(), &images);
        assert_eq!(values.get(network.taps().logits), &logits);
        for layer in network.layers() {
            let output = values.get(layer.value);
            assert_eq!(output.numel(), 3 * layer.output.len(), "{}", layer.name);
            assert_eq!(&forward::value(&network, layer.value, parameters.views(), &images), output);
            let cut = forward::cut(&network, layer.value, parameters.views(), &images);
            assert_eq!((&cut.leaf.detach(), &cut.logits_nk.detach()), (output, &logits), "{}", layer.name);
        }
    }

    #[test]
    fn a_value_is_dropped_after_its_last_reader() {
        let (network, parameters) = network();
        let logits = network.taps().logits;
        let values = Program::new(&network, &[logits]).run(parameters.views(), &random_images(1, MNIST));
        let kept: Vec<usize> = (0..values.slots.len()).filter(|&slot| values.slots[slot].is_some()).collect();
        assert_eq!(kept, [logits.index()]);
        // The image is kept if it is asked for.
        let input = network.nodes()[0].id;
        let values = Program::new(&network, &[input]).run(parameters.views(), &random_images(1, MNIST));
        assert_eq!(values.get(input).numel(), 784);
    }

    #[test]
    fn a_cut_is_the_gradient_by_a_node() {
        let (network, parameters) = network();
        let images = random_images(2, MNIST);
        let leaves: Vec<Tensor> = parameters.views().iter().map(forward::leaf).collect();
        for layer in network.layers() {
            let cut = forward::cut(&network, layer.value, &leaves, &images);
            let gradient = forward::gradients_of_sum(&cut.logits_nk, &[&cut.leaf]).swap_remove(0);
            assert_eq!(gradient.size(), cut.leaf.size(), "{}", layer.name);
            if layer.value != network.taps().logits {
                assert!(gradient.abs().sum(Kind::Float).double_value(&[]) > 0.0, "{}", layer.name);
            }
        }
        assert!(leaves.iter().all(|leaf| !leaf.grad().defined()));
    }

    #[test]
    fn activations_stay_channels_last() {
        let (network, parameters) = network();
        let outputs: Vec<NodeId> = network.layers()[..4].iter().map(|layer| layer.value).collect();
        let values = Program::new(&network, &outputs).run(parameters.views(), &random_images(2, MNIST));
        for (layer, &id) in network.layers().iter().zip(&outputs) {
            let output = values.get(id);
            let [_, c, h, w] = output.size()[..] else { panic!("four axes") };
            assert_eq!(output.stride(), [h * w * c, 1, w * c, c], "{}", layer.name);
        }
        let kernel = &parameters.views()[2];
        assert_eq!((kernel.size(), kernel.stride()), (vec![64, 32, 3, 3], vec![288, 1, 96, 32]));
    }

    /// PyTorch's own numbers for weights and images that both sides compute from a formula:
    /// `tests/golden/make_network.py`.
    #[test]
    fn logits_are_pytorchs() {
        let golden: Vec<Vec<f64>> = serde_json::from_str(include_str!("../../tests/golden/network.json")).unwrap();
        let input = ImageShape { height: 12, width: 10, channels: 3 };
        let architecture = Architecture { conv_filters: vec![4, 6], kernel_size: 3, dense_units: 8 };
        let network = architecture.build(input, 5).unwrap();
        let parameters = Weights::initialise(&network, Seed(0), Device::Cpu);
        let wave = |shape: &[i64], scale: f64| {
            let count: i64 = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|i| ((i as f64).sin() * scale) as f32).collect();
            Tensor::from_slice(&values).view(shape)
        };
        for (view, spec) in parameters.views().iter().zip(parameters.specs()) {
            view.shallow_clone().copy_(&wave(&spec.shape, 0.3));
        }
        let images = wave(&[2, 3, 12, 10], 1.0).abs().to_kind(Kind::Float);
        let logits = forward::logits(&network, parameters.views(), &images);
        for (n, row) in golden.iter().enumerate() {
            for (k, want) in row.iter().enumerate() {
                let got = logits.double_value(&[n as i64, k as i64]);
                assert!((got - want).abs() < 1e-5, "image {n}, class {k}: {got} and PyTorch's {want}");
            }
        }
    }
}
