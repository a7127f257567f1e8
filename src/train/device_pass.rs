//! Gradients and evaluations of whole batches by libtorch: any network, any device, any precision. Nothing waits for the
//! device.

use std::sync::Arc;
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::evaluated::Evaluated;
use super::observer::PhaseSeconds;
use super::state::TrainState;
use crate::data::{Batch, Split};
use crate::engine::{CrossEntropy, Objective, point_gradients};
use crate::forward::Program;
use crate::graph::{Graph, NodeId, Step};
use crate::model::Precision;
use crate::trace::{Name, Part, Spans, Started, Trace};
use crate::weights::{Weights, host_values};

/// Samples in a piece of an evaluation: large enough to be fast, small enough to keep activations in few megabytes.
const EVALUATION_PIECE: usize = 512;

/// Leaves of backward passes, and where those leave their gradient.
pub(super) struct DevicePass {
    /// The weights, shared with everybody, for passes without gradients.
    weights: Vec<Tensor>,
    /// The weights again, as leaves.
    leaves: Vec<Tensor>,
    gradient: Tensor,
    /// Precision of steps. Evaluations use the weights as they are saved, in `f32`.
    precision: Precision,
    objective: Arc<dyn Objective>,
    forward: ForwardPass,
}

/// A program for the logits, with the times of its steps for a trace.
struct ForwardPass {
    program: Program,
    logits: NodeId,
    device: Device,
    /// Names of the program's steps.
    names: Vec<Arc<str>>,
    spans: Spans,
}

/// Result of a batch, still on the device.
pub(super) struct Passed {
    /// Sum of cross-entropies, `f64`, no axes.
    pub loss_sum: Tensor,
    /// Samples classified right, `i64`, no axes.
    pub correct: Tensor,
    pub seconds: PhaseSeconds,
}

impl DevicePass {
    pub fn new(network: &Arc<Graph>, parameters: &Weights, precision: Precision) -> DevicePass {
        let leaves = parameters.leaves();
        let gradient = parameters.flat().zeros_like();
        point_gradients(network, &leaves, &parameters.views_of(&gradient));
        let weights = parameters.views().iter().map(Tensor::shallow_clone).collect();
        let forward = ForwardPass::new(network, parameters.device());
        DevicePass { weights, leaves, gradient, precision, objective: Arc::new(CrossEntropy), forward }
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
        let logits_nk = self.forward.logits(&self.leaves, &batch.images_nchw, self.precision);
        let adding = self.forward.spans.start_layer();
        let loss = self.objective.loss_sum(&logits_nk, &batch.labels_n);
        self.forward.end(adding, Part::Forward, "loss");
        self.forward.end(passing, Part::Phase, "forward");
        let forward = started.elapsed().as_secs_f64() - data;
        let passing = self.forward.spans.start();
        let scale = self.precision.loss_scale();
        (&loss * (scale / indices.len() as f64)).backward();
        self.forward.end(passing, Part::Phase, "backward");
        let copying = self.forward.spans.start();
        tch::no_grad(|| state.gradient.copy_(&self.gradient));
        if self.precision.loss_scale() > 1.0 {
            let _ = tch::no_grad(|| state.gradient.g_mul_scalar_(1.0 / scale));
        }
        self.forward.end(copying, Part::Phase, "copy gradient");
        let backward = started.elapsed().as_secs_f64() - data - forward;
        self.forward.spans.flush();
        Passed {
            loss_sum: loss.detach().to_kind(Kind::Double),
            correct: self.objective.correct(&logits_nk.detach(), &batch.labels_n),
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
                let logits_nk = self.forward.logits(&self.weights, &batch.images_nchw, Precision::F32);
                self.forward.end(passing, Part::Phase, "forward");
                evaluated.loss_sum += self.objective.loss_sum(&logits_nk, &batch.labels_n).double_value(&[]);
                evaluated.correct += self.objective.correct(&logits_nk, &batch.labels_n).int64_value(&[]) as u64;
                evaluated.probabilities_nk.extend(host_values(&logits_nk.softmax(-1, Kind::Float)));
            });
            self.forward.end(whole, Part::Phase, "piece");
            self.forward.spans.flush();
        }
        Some(evaluated)
    }
}

impl ForwardPass {
    fn new(network: &Graph, device: Device) -> ForwardPass {
        let logits = network.taps().logits;
        let program = Program::new(network, &[logits]);
        let name = |step: &Step| step.name(network).into();
        let names = program.plan().steps().iter().map(name).collect();
        ForwardPass { program, logits, device, names, spans: Spans::default() }
    }

    /// Logits, computed in `precision`, as `f32`. Casts are part of the graph: gradients come back through
    /// them, as `f32` again.
    fn logits(&mut self, weights: &[Tensor], images_nchw: &Tensor, precision: Precision) -> Tensor {
        let started = self.spans.start_layer();
        let cast = |tensor: &Tensor| tensor.to_kind(precision.kind());
        let (cast_weights, images_nchw) = match precision {
            Precision::F32 => (None, images_nchw.shallow_clone()),
            _ => (Some(weights.iter().map(cast).collect::<Vec<_>>()), cast(images_nchw)),
        };
        if cast_weights.is_some() {
            self.end(started, Part::Forward, "cast");
        }
        let weights = cast_weights.as_deref().unwrap_or(weights);
        let ForwardPass { program, logits, device, names, spans } = self;
        let mut values = program.run_watched(weights, &images_nchw, |step, work| {
            let started = spans.start_layer();
            let value = work();
            end(spans, *device, started, Part::Forward, &names[step]);
            value
        });
        values.take(*logits).to_kind(Kind::Float)
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::data::order;
    use crate::model::Architecture;
    use crate::optim::Rule;
    use crate::rng::{Purpose, Stream};
    use crate::train::Stepper;
    use crate::types::{ImageShape, Seed};

    const SHAPE: ImageShape = ImageShape { height: 12, width: 12, channels: 1 };
    const SAMPLES: usize = 48;

    /// Noise, brighter where the class is higher.
    fn split() -> Split {
        let mut stream = Stream::new(Seed(1), Purpose::Test, 0, 0);
        let labels: Vec<u16> = (0..SAMPLES).map(|i| (i % 3) as u16).collect();
        let pixel = |label: u16, stream: &mut Stream| label as u8 * 70 + stream.below(100) as u8;
        let pixels = labels.iter().flat_map(|&label| vec![label; SHAPE.len()]).map(|l| pixel(l, &mut stream)).collect();
        Split::new(SHAPE, 3, pixels, labels).unwrap()
    }

    fn network() -> Arc<Graph> {
        let architecture = Architecture { conv_filters: vec![4, 6], kernel_size: 3, dense_units: 8 };
        Arc::new(architecture.build(SHAPE, 3).unwrap())
    }

    fn state(network: &Graph, device: Device) -> TrainState {
        TrainState::initialise(network, Rule::Adam { weight_decay: 0.0 }, Seed(5), device)
    }

    /// Loss and gradient of one step.
    fn step(precision: Precision, device: Device) -> (f64, Vec<f32>) {
        let network = network();
        let mut state = state(&network, device);
        let mut stepper = Stepper::in_whole_batches(&network, &state, precision).unwrap();
        let output = stepper.step(&mut state, &split(), &order(Seed(0), 0, SAMPLES), 0.01).unwrap();
        assert_eq!((output.loss_sum.kind(), state.gradient.kind()), (Kind::Double, Kind::Float));
        assert_eq!(state.parameters.flat().kind(), Kind::Float);
        (output.loss_sum.double_value(&[]) / SAMPLES as f64, host_values(&state.gradient))
    }

    /// Length of the difference of two gradients, as a share of the first.
    fn distance(one: &[f32], other: &[f32]) -> f64 {
        let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        length(&mut one.iter().zip(other).map(|(a, b)| a - b)) / length(&mut one.iter().copied())
    }

    /// Tolerated differences to `f32` of the loss and the gradient: a few units in the last place of their inputs.
    fn tolerance(precision: Precision) -> (f64, f64) {
        match precision {
            // Convolutions on CUDA may round their factors to 10 bits (TF32).
            Precision::F32 => (2e-3, 1e-2),
            Precision::Bf16 => (1e-2, 5e-2),
            Precision::F16 => (2e-3, 1e-2),
        }
    }

    #[test]
    fn fewer_digits_give_nearly_the_same_loss_and_gradient() {
        let (loss, gradient) = step(Precision::F32, Device::Cpu);
        for precision in [Precision::Bf16, Precision::F16] {
            let (rounded_loss, rounded) = step(precision, Device::Cpu);
            let (loss_tolerance, gradient_tolerance) = tolerance(precision);
            assert!((rounded_loss - loss).abs() < loss_tolerance, "{precision}: {rounded_loss}, want {loss}");
            let off = distance(&gradient, &rounded);
            assert!(off < gradient_tolerance, "{precision}: {off}");
            assert!(off > 1e-6, "{precision} is not what was computed in");
        }
    }

    #[test]
    fn a_network_learns_in_every_precision_and_is_judged_by_its_weights() {
        for precision in Precision::ALL {
            let (network, split) = (network(), split());
            let mut state = state(&network, Device::Cpu);
            let mut stepper = Stepper::in_whole_batches(&network, &state, precision).unwrap();
            for epoch in 0..40 {
                let output = stepper.step(&mut state, &split, &order(Seed(0), epoch, SAMPLES), 0.01).unwrap();
                assert!(!output.broken, "{precision}");
            }
            let stop = std::sync::atomic::AtomicUsize::new(0);
            let (metrics, _) = stepper.evaluate(&state, &split, &stop).unwrap().unwrap();
            assert!(metrics.accuracy > 0.9, "{precision}: {metrics:?}");
            let mut plain = Stepper::in_whole_batches(&network, &state, Precision::F32).unwrap();
            let (want, _) = plain.evaluate(&state, &split, &stop).unwrap().unwrap();
            assert_eq!(metrics, want, "{precision}");
        }
    }

    #[test]
    fn what_is_too_large_for_f16_breaks_a_step_and_changes_nothing() {
        let network = network();
        let mut state = state(&network, Device::Cpu);
        // Of a class that every sample is taken for: 1 x 1024 / 48 x 30,000 is beyond 65,504, and no value is.
        let fill =
            |parameter: usize, value: f64| drop(state.parameters.views()[parameter].shallow_clone().fill_(value));
        fill(4, 0.0);
        fill(5, 1e-3);
        fill(6, 0.0);
        let _ = state.parameters.views()[6].get(0).fill_(3e4);
        let before = state.parameters.flat().copy();
        let mut stepper = Stepper::in_whole_batches(&network, &state, Precision::F16).unwrap().guarded();
        let output = stepper.step(&mut state, &split(), &order(Seed(0), 0, SAMPLES), 0.01).unwrap();
        assert!(output.broken && output.loss_sum.double_value(&[]).is_finite());
        assert_eq!(state.parameters.flat(), &before);
    }

    #[test]
    fn cuda_computes_what_the_processor_does() {
        if !tch::Cuda::is_available() {
            let _ = writeln!(std::io::stderr(), "skipped: there is no CUDA device");
            return;
        }
        let (loss, gradient) = step(Precision::F32, Device::Cpu);
        for precision in Precision::ALL {
            let (device_loss, on_device) = step(precision, Device::Cuda(0));
            let (loss_tolerance, gradient_tolerance) = tolerance(precision);
            assert!((device_loss - loss).abs() < loss_tolerance, "{precision}: {device_loss}, want {loss}");
            let off = distance(&gradient, &on_device);
            assert!(off < gradient_tolerance, "{precision}: {off}");
        }
    }
}
