//! Gradients and evaluations by libtorch's automatic differentiation: any network, any device.

use std::sync::Arc;
use std::time::Instant;

use tch::{Device, Kind, Reduction, Tensor};

use super::observer::PhaseSeconds;
use super::state::TrainState;
use super::stepper::Evaluated;
use crate::data::{Batch, Split};
use crate::model::{Network, Operation, Parameters, host_values};
use crate::trace::{Name, Part, Spans, Started, Trace};

/// Samples in a piece of an evaluation: large enough to be fast, small enough to keep activations in few megabytes.
const EVALUATION_PIECE: usize = 512;

/// Leaves of backward passes, and where those leave their gradient.
pub(super) struct AutogradPass {
    /// The weights, shared with everybody, for passes without gradients.
    weights: Vec<Tensor>,
    /// The weights again, as leaves.
    leaves: Vec<Tensor>,
    gradient: Tensor,
    forward: ForwardPass,
}

/// What forward passes go through, and who is told how long each part took.
struct ForwardPass {
    network: Arc<Network>,
    device: Device,
    /// Names of the network's operations.
    names: Vec<Arc<str>>,
    spans: Spans,
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
        let forward = ForwardPass::new(network.clone(), parameters.device());
        AutogradPass { weights, leaves, gradient, forward }
    }

    /// Says to `trace` what it does from now on.
    pub fn trace(&mut self, trace: &Trace) {
        self.forward.spans = trace.spans();
    }

    /// Sets the state's gradient to that of the mean loss of the samples at `indices`. On CUDA nothing waits for the device.
    pub fn gradient(&mut self, state: &mut TrainState, split: &Split, indices: &[u32]) -> Passed {
        let started = Instant::now();
        let gathering = self.forward.spans.start();
        let batch = Batch::gather(split, indices, state.parameters.device());
        self.forward.end(gathering, Part::Phase, "data");
        let data = started.elapsed().as_secs_f64();
        let _ = self.gradient.zero_();
        let passing = self.forward.spans.start();
        let logits_nk = self.forward.logits(&self.leaves, &batch.images_nchw);
        let adding = self.forward.spans.start_layer();
        let loss = loss_sum(&logits_nk, &batch.labels_n);
        self.forward.end(adding, Part::Forward, "loss");
        self.forward.end(passing, Part::Phase, "forward");
        let forward = started.elapsed().as_secs_f64() - data;
        let passing = self.forward.spans.start();
        (&loss * (1.0 / indices.len() as f64)).backward();
        self.forward.end(passing, Part::Phase, "backward");
        let copying = self.forward.spans.start();
        tch::no_grad(|| state.gradient.copy_(&self.gradient));
        self.forward.end(copying, Part::Phase, "copy gradient");
        let backward = started.elapsed().as_secs_f64() - data - forward;
        self.forward.spans.flush();
        Passed {
            loss_sum: loss.detach().to_kind(Kind::Double),
            correct: hits(&logits_nk.detach(), &batch.labels_n),
            seconds: PhaseSeconds { data, forward, backward, ..PhaseSeconds::default() },
        }
    }

    /// Evaluates a whole split, until `stop` says so: then there is nothing.
    pub fn evaluate(&mut self, split: &Split, stop: &dyn Fn() -> bool) -> Option<Evaluated> {
        let device = self.gradient.device();
        let indices: Vec<u32> = (0..split.len() as u32).collect();
        let mut evaluated = Evaluated::default();
        // A piece at a time: the images of a whole split as floats would be the largest thing in memory.
        for piece in indices.chunks(EVALUATION_PIECE) {
            if stop() {
                return None;
            }
            let whole = self.forward.spans.start();
            let batch = Batch::gather(split, piece, device);
            self.forward.end(whole, Part::Phase, "data");
            tch::no_grad(|| {
                let passing = self.forward.spans.start();
                let logits_nk = self.forward.logits(&self.weights, &batch.images_nchw);
                self.forward.end(passing, Part::Phase, "forward");
                evaluated.loss_sum += loss_sum(&logits_nk, &batch.labels_n).double_value(&[]);
                evaluated.correct += hits(&logits_nk, &batch.labels_n).int64_value(&[]) as u64;
                evaluated.probabilities_nk.extend(host_values(&logits_nk.softmax(-1, Kind::Float)));
            });
            self.forward.end(whole, Part::Phase, "piece");
            self.forward.spans.flush();
        }
        Some(evaluated)
    }
}

impl ForwardPass {
    fn new(network: Arc<Network>, device: Device) -> ForwardPass {
        let name = |operation: &Operation<'_>| match operation.relu {
            true => format!("{}/relu", operation.layer.name).into(),
            false => operation.layer.name.as_str().into(),
        };
        let names = network.operations().iter().map(name).collect();
        ForwardPass { network, device, names, spans: Spans::default() }
    }

    /// What [`Network::forward`] computes.
    fn logits(&mut self, weights: &[Tensor], images_nchw: &Tensor) -> Tensor {
        let mut x = images_nchw.shallow_clone();
        for (operation, name) in self.network.operations().iter().zip(&self.names) {
            let started = self.spans.start_layer();
            x = operation.apply(weights, &x);
            end(&mut self.spans, self.device, started, Part::Forward, name);
        }
        x
    }

    fn end(&mut self, started: Started, part: Part, name: &'static str) {
        end(&mut self.spans, self.device, started, part, name);
    }
}

/// Ends a span when the device has done what was asked for: on CUDA it would otherwise show the asking.
pub(super) fn end(spans: &mut Spans, device: Device, started: Started, part: Part, name: impl Into<Name>) {
    if let Device::Cuda(index) = device
        && started.is_recorded()
    {
        tch::Cuda::synchronize(index as i64);
    }
    spans.end(started, part, name);
}

fn loss_sum(logits_nk: &Tensor, labels_n: &Tensor) -> Tensor {
    logits_nk.cross_entropy_loss::<Tensor>(labels_n, None, Reduction::Sum, -100, 0.0)
}

fn hits(logits_nk: &Tensor, labels_n: &Tensor) -> Tensor {
    logits_nk.argmax(-1, false).eq_tensor(labels_n).sum(Kind::Int64)
}
