//! Operations of a training step, with the names of their nodes in the run graph.

use crate::graph::{Activation, Graph, Layer, Op, Plan, Role, Shape, Step};

/// Node of the loss of each image.
pub(super) const CROSS_ENTROPY: &str = "loss/cross_entropy";
/// Node of the gradient of the loss by the logits.
pub(super) const LOSS_GRADIENT: &str = "gradients/loss/CrossEntropyGrad";

/// One operation of a forward pass.
pub(super) struct Operation<'a> {
    /// The layer in whose scope it appears.
    pub layer: &'a Layer,
    pub op: Op,
    pub input: Shape,
    pub output: Shape,
    /// Position of the operation whose result it reads, counted from 1; 0 for the images.
    pub reads: usize,
}

/// The operations of a training step's forward pass, in their order.
pub(super) fn operations(network: &Graph) -> Vec<Operation<'_>> {
    let plan = Plan::new(network, &[network.taps().logits]);
    let steps = plan.steps();
    let operation = |(index, step): (usize, &Step)| Operation {
        layer: &network.layers()[step.layer],
        op: network.node(step.node).op,
        input: step.input_shape,
        output: step.output_shape,
        reads: steps[..index].iter().rposition(|earlier| step.inputs.contains(&earlier.output)).map_or(0, |at| at + 1),
    };
    steps.iter().enumerate().map(operation).collect()
}

impl Operation<'_> {
    /// True for an operation with a kernel and a bias.
    pub fn has_weights(&self) -> bool {
        matches!(self.op, Op::Conv2d { .. } | Op::Linear { .. })
    }
}

/// Name and kind of the node of an operation, its bias included.
pub(super) fn forward_node(operation: &Operation<'_>) -> (String, &'static str) {
    let op = match operation.op {
        Op::Input => "Identity",
        Op::Activation(Activation::Relu) => "Relu",
        Op::Conv2d { .. } => "Conv2D",
        Op::MaxPool2d { .. } => "MaxPool",
        Op::Flatten => "Reshape",
        Op::Linear { .. } => "MatMul",
    };
    (format!("{}/{op}", operation.layer.name), op)
}

/// Name and kind of the node of an operation's backward pass.
pub(super) fn gradient_node(operation: &Operation<'_>) -> (String, &'static str) {
    let op = match operation.op {
        Op::Input => "IdentityGrad",
        Op::Activation(Activation::Relu) => "ReluGrad",
        Op::Conv2d { .. } => "Conv2DGrad",
        Op::MaxPool2d { .. } => "MaxPoolGrad",
        Op::Flatten => "ReshapeGrad",
        Op::Linear { .. } => "MatMulGrad",
    };
    (format!("gradients/{}/{op}", operation.layer.name), op)
}

/// Name of the node of a parameter.
pub(super) fn variable_node(layer: &Layer, role: Role) -> String {
    format!("{}/{role}", layer.name)
}

/// Kernel and bias as Keras has them: height x width x input channels x filters, or inputs x units.
pub(super) fn weight_shapes(layer: &Layer) -> (Vec<i64>, Vec<i64>) {
    match (layer.op, layer.input) {
        (Op::Conv2d { filters, kernel }, Shape::Image(image)) => {
            let [side, channels, filters] = [kernel, image.channels, filters].map(|d| d as i64);
            (vec![side, side, channels, filters], vec![filters])
        }
        (Op::Conv2d { filters: units, .. } | Op::Linear { units }, input) => {
            (vec![input.len() as i64, units as i64], vec![units as i64])
        }
        (Op::Input | Op::MaxPool2d { .. } | Op::Activation(_) | Op::Flatten, _) => (Vec::new(), Vec::new()),
    }
}
