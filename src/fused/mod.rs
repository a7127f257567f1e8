//! Fused CPU kernels: forward and backward passes of chains of layers, in plain numbers. Convolution, ReLU and max-pooling
//! are one block, dense layers follow.
//!
//! libtorch differentiates anything. These kernels know one family of graphs, and save what that allows:
//!
//! - Convolution, bias, pooling and ReLU of a few pixels happen in registers: only the pooled values are written.
//! - Rows and columns that a pooling drops are not computed, nor is anything that only they depend on.
//! - A pooling window passes its gradient to one pixel, and a silent ReLU to none: at least three quarters of a convolution's
//!   outputs under 2x2 windows have no gradient. If a filter has many weights, the backward pass visits only the rest.
//!
//! The numbers are those of [`forward::logits`](crate::forward::logits) and its derivatives but for the order of sums. They
//! depend on the processor's instructions (length of vectors, fused multiply-add), and on nothing else.

mod aligned;
mod conv_block;
mod conv_gradient;
mod dense;
mod network;
mod runs;
mod workspace;

#[cfg(test)]
mod tests;

pub use network::FusedNetwork;
pub use workspace::Workspace;
