//! Forward and backward passes of a chain of layers on the CPU, in plain numbers: convolution, ReLU and max-pooling as one
//! block, then dense layers.
//!
//! libtorch differentiates anything; this knows one family of networks and uses what it knows:
//!
//! - Convolution, bias, pooling and ReLU of a few pixels happen in registers: what is written is what is left after pooling.
//! - Rows and columns that a pooling drops are not computed, nor is what only they depend on.
//! - A pooling window hands its gradient to one pixel, and a ReLU to none where it was silent: of a convolution's outputs
//!   under 2x2 windows at least three quarters have no gradient. Where a filter has many weights the backward pass visits
//!   only those that have one.
//!
//! The numbers are those of [`Network::forward`](crate::model::Network::forward) and its derivatives but for the order of
//! sums. They depend on the processor's instructions (how long its vectors are, and whether it multiplies and adds in one),
//! and on nothing else.

mod aligned;
mod conv_block;
mod conv_gradient;
mod dense;
mod loss;
mod passes;
mod runs;
mod workspace;

#[cfg(test)]
mod tests;

pub use passes::{Chain, Reply};
pub use workspace::Workspace;
