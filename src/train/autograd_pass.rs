//! Gradients and evaluations by libtorch's automatic differentiation: any network, any device.

use std::sync::Arc;
use std::time::Instant;

use tch::{Kind, Reduction, Tensor};

use super::observer::PhaseSeconds;
use super::state::TrainState;
use super::stepper::Evaluated;
use crate::data::{Batch, Split};
use crate::model::{Network, Parameters, host_values};

/// Samples in a piece of an evaluation: large enough to be fast, small enough to keep activations in few megabytes.
const EVALUATION_PIECE: usize = 512;

/// Leaves of backward passes, and where those leave their gradient.
pub(super) struct AutogradPass {
    network: Arc<Network>,
    /// The weights, shared with everybody, for passes without gradients.
    weights: Vec<Tensor>,
    /// The weights again, as leaves.
    leaves: Vec<Tensor>,
    gradient: Tensor,
}

/// What a batch came to, still on the device.
pub(super) struct Passed {
    /// Sum of cross-entropies, `f64`, no axes.
    pub loss_sum: Tensor,
    /// Samples classified right, `i64`, no axes.
    pub correct: Tensor,
    pub seconds: PhaseSeconds,
}

impl AutogradPass {
    pub fn new(network: &Arc<Network>, parameters: &Parameters) -> AutogradPass {
        let leaves = parameters.leaves();
        let gradient = parameters.flat().zeros_like();
        let views = parameters.views_of(&gradient);
        // The first backward pass makes `.grad`; from then on passes add to it in place, so pointing it into the flat
        // buffer once is enough.
        let shape = network.input();
        let [c, h, w] = [shape.channels, shape.height, shape.width].map(|d| d as i64);
        let blank = Tensor::zeros([1, c, h, w], (Kind::Float, parameters.device()));
        network.forward(&leaves, &blank).sum(Kind::Float).backward();
        for (leaf, view) in leaves.iter().zip(&views) {
            leaf.grad().set_data(view);
        }
        let weights = parameters.views().iter().map(Tensor::shallow_clone).collect();
        AutogradPass { network: network.clone(), weights, leaves, gradient }
    }

    /// Sets the state's gradient to that of the mean loss of the samples at `indices`. On CUDA nothing waits for the device.
    pub fn gradient(&mut self, state: &mut TrainState, split: &Split, indices: &[u32]) -> Passed {
        let started = Instant::now();
        let batch = Batch::gather(split, indices, state.parameters.device());
        let data = started.elapsed().as_secs_f64();
        let _ = self.gradient.zero_();
        let logits_nk = self.network.forward(&self.leaves, &batch.images_nchw);
        let loss = loss_sum(&logits_nk, &batch.labels_n);
        let forward = started.elapsed().as_secs_f64() - data;
        (&loss * (1.0 / indices.len() as f64)).backward();
        tch::no_grad(|| state.gradient.copy_(&self.gradient));
        let backward = started.elapsed().as_secs_f64() - data - forward;
        Passed {
            loss_sum: loss.detach().to_kind(Kind::Double),
            correct: hits(&logits_nk.detach(), &batch.labels_n),
            seconds: PhaseSeconds { data, forward, backward, ..PhaseSeconds::default() },
        }
    }

    /// Evaluates a whole split, until `stop` says so: then there is nothing.
    pub fn evaluate(&self, split: &Split, stop: &dyn Fn() -> bool) -> Option<Evaluated> {
        let device = self.gradient.device();
        let indices: Vec<u32> = (0..split.len() as u32).collect();
        let mut evaluated = Evaluated::default();
        // A piece at a time: the images of a whole split as floats would be the largest thing in memory.
        for piece in indices.chunks(EVALUATION_PIECE) {
            if stop() {
                return None;
            }
            let batch = Batch::gather(split, piece, device);
            tch::no_grad(|| {
                let logits_nk = self.network.forward(&self.weights, &batch.images_nchw);
                evaluated.loss_sum += loss_sum(&logits_nk, &batch.labels_n).double_value(&[]);
                evaluated.correct += hits(&logits_nk, &batch.labels_n).int64_value(&[]) as u64;
                evaluated.probabilities_nk.extend(host_values(&logits_nk.softmax(-1, Kind::Float)));
            });
        }
        Some(evaluated)
    }
}

fn loss_sum(logits_nk: &Tensor, labels_n: &Tensor) -> Tensor {
    logits_nk.cross_entropy_loss::<Tensor>(labels_n, None, Reduction::Sum, -100, 0.0)
}

fn hits(logits_nk: &Tensor, labels_n: &Tensor) -> Tensor {
    logits_nk.argmax(-1, false).eq_tensor(labels_n).sum(Kind::Int64)
}
