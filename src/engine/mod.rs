//! Engines: forward and backward passes of one shard of a batch, on one thread.
//!
//! Forward and backward are apart. Between them an [`Objective`] turns logits into scores and into cotangents, their
//! gradient. A [`TreeSum`] adds the gradients of the shards, in an order that depends on nothing but their numbers, and a
//! [`Reduce`] those of several processes.

mod fused;
mod libtorch;
mod objective;
mod reduce;

use crate::data::Split;
use crate::graph::Graph;
use crate::trace::Spans;
use crate::weights::Weights;

pub use fused::FusedEngine;
pub use libtorch::LibtorchEngine;
pub(crate) use libtorch::point_gradients;
pub use objective::{CrossEntropy, Objective, Scores};
pub use reduce::{Alone, Reduce, TreeSum};

/// Number of samples in a shard. A constant: it is part of the result.
pub const SHARD: usize = 32;

/// Passes of one graph on the CPU. An engine has buffers of its own and works on one thread; other threads have other engines.
pub trait Engine: Send {
    /// Loads the images of the samples of `split` with these indices.
    fn load(&mut self, split: &Split, samples: &[u32]);

    /// Computes the logits of the loaded images, for [`Engine::backward`] to go on from. `parameters` is the flat buffer.
    fn forward(&mut self, parameters: &[f32]);

    /// Computes logits and features of the loaded images, without a way back.
    fn evaluate(&mut self, parameters: &[f32]);

    /// Logits of the last pass, `N x K`.
    fn logits(&self) -> &[f32];

    /// Inputs of the layer of the logits in the last [`Engine::evaluate`], `N x D`; empty if that layer reads the image.
    fn features(&self) -> &[f32];

    /// Computes the gradient by the parameters of the sum of the cotangents `N x K` times the logits of the last
    /// [`Engine::forward`].
    fn backward(&mut self, parameters: &[f32], cotangents_nk: &[f32]);

    /// Gradient of the last backward pass, laid out like the parameters.
    fn gradient(&self) -> &[f32];

    /// Times of layers, for a trace.
    fn spans(&mut self) -> &mut Spans;
}

/// Engines for threads of the CPU: the fused kernels if they know the graph, else libtorch. The weights are read at each
/// pass; their buffer has to stay where it is.
pub fn engines(graph: &Graph, weights: &Weights, count: usize) -> Vec<Box<dyn Engine>> {
    match FusedEngine::of(graph) {
        Some(engine) => (0..count).map(|_| Box::new(engine.another()) as Box<dyn Engine>).collect(),
        None => (0..count).map(|_| Box::new(LibtorchEngine::new(graph, weights)) as Box<dyn Engine>).collect(),
    }
}
