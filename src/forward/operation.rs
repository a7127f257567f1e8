//! Operations in libtorch's terms.

use tch::Tensor;

use crate::graph::{Activation, Op};

/// The result of an operation. `parameters` are its own.
///
/// # Panics
/// If the shapes do not fit: a bug in the caller, since a graph's shapes are checked.
pub(super) fn apply(op: Op, parameters: &[Tensor], inputs: &[&Tensor]) -> Tensor {
    let x = inputs[0];
    match op {
        Op::Input => x.shallow_clone(),
        Op::Conv2d { .. } => x.conv2d(&parameters[0], parameters.get(1), [1, 1], [0, 0], [1, 1], 1),
        Op::MaxPool2d { size } => {
            let size = size as i64;
            x.max_pool2d([size, size], [size, size], [0, 0], [1, 1], false)
        }
        Op::Activation(Activation::Relu) => x.relu(),
        Op::Flatten => x.flatten(1, -1),
        Op::Linear { .. } => x.linear(&parameters[0], parameters.get(1)),
    }
}
