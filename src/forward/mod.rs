//! Forward and backward passes of a graph by libtorch: weights and images in, values out. Nothing is kept between passes.
//!
//! A [`Program`] executes the operations that some values need. Passes that differ in their weights alone share one.

mod operation;
mod program;
mod tape;

use tch::{Kind, Tensor};

use crate::graph::{Graph, NodeId};

pub use program::{Program, Values};
pub use tape::Tape;

/// Logits `N x K` of a batch of images `N x C x H x W`.
///
/// # Panics
/// If the weights or images do not have the graph's shapes: a bug in the caller.
pub fn logits(graph: &Graph, weights: &[Tensor], images_nchw: &Tensor) -> Tensor {
    value(graph, graph.taps().logits, weights, images_nchw)
}

/// Value of a node for a batch of images: `N x C x H x W` with channels-last strides, or `N x K`.
///
/// # Panics
/// As [`logits`].
pub fn value(graph: &Graph, node: NodeId, weights: &[Tensor], images_nchw: &Tensor) -> Tensor {
    Program::new(graph, &[node]).run(weights, images_nchw).take(node)
}

/// Logits as a function of the value of a node, for derivatives by it.
pub struct Cut {
    /// The value, as a leaf of libtorch's autograd graph. Operations that do not read it are constants.
    pub leaf: Tensor,
    pub logits_nk: Tensor,
}

/// A pass that is cut at `node`: its value becomes a leaf, and all that read it read the leaf.
///
/// # Panics
/// As [`logits`].
pub fn cut(graph: &Graph, node: NodeId, weights: &[Tensor], images_nchw: &Tensor) -> Cut {
    let logits = graph.taps().logits;
    let program = Program::new(graph, &[node, logits]);
    let mut values = tch::with_grad(|| program.run_replaced(weights, images_nchw, node, |value| leaf(&value)));
    let leaf = values.take(node);
    // A cut at the logits themselves leaves nothing behind it.
    let logits_nk = if node == logits { leaf.shallow_clone() } else { values.take(logits) };
    Cut { leaf, logits_nk }
}

/// Logits if all that read the value of `node` read what `replace` makes of it.
///
/// # Panics
/// As [`logits`].
pub fn replaced(
    graph: &Graph,
    node: NodeId,
    weights: &[Tensor],
    images_nchw: &Tensor,
    replace: impl Fn(Tensor) -> Tensor,
) -> Tensor {
    let logits = graph.taps().logits;
    Program::new(graph, &[node, logits]).run_replaced(weights, images_nchw, node, replace).take(logits)
}

/// The same values as a leaf of a new autograd graph.
pub(crate) fn leaf(tensor: &Tensor) -> Tensor {
    tensor.detach().set_requires_grad(true)
}

/// Gradient of the sum of `values` by leaves of their autograd graph. Sets no `.grad`.
pub(crate) fn gradients_of_sum(values: &Tensor, leaves: &[&Tensor]) -> Vec<Tensor> {
    // Not `backward`: it would set `.grad` in every leaf.
    // A sum that is not recorded would have no way back, and libtorch would crash.
    let sum = tch::with_grad(|| values.sum(Kind::Float));
    Tensor::run_backward(&[sum], leaves, false, false)
}
