//! One optimizer step, and one evaluation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::observer::{Metrics, PhaseSeconds};
use super::state::TrainState;
use super::worker::{Pool, WorkerLost};
use crate::data::{Batch, Split};
use crate::evaluation::Predictions;
use crate::model::{Network, host_values};

/// Samples in a shard on the CPU. A constant: it is part of the result.
const SHARD: usize = 32;
/// Samples in a piece of an evaluation: large enough to be fast, small enough to keep activations in few megabytes.
const EVALUATION_PIECE: usize = 128;

/// What a step measured, still on the device: reading a value waits for it.
pub struct StepOutput {
    /// Sum of the samples' cross-entropies before the update, `f64`.
    pub loss_sum: Tensor,
    /// Samples classified right before the update, `i64`.
    pub correct: Tensor,
    pub samples: usize,
    /// The loss is NaN or infinite, and the weights are still those that gave it; said by a guarded stepper of the
    /// gradient, too. Others never say it on CUDA, where asking would wait for the device.
    pub broken: bool,
    /// Forward, backward and optimizer; on CUDA, of asking for them rather than of having them done.
    pub seconds: PhaseSeconds,
}

/// Runs steps and evaluations of one network on one device.
pub struct Stepper {
    pool: Pool,
    shard: usize,
    classes: usize,
    guarded: bool,
}

impl Stepper {
    /// For batches of up to `batch_size` samples. `threads` matters on the CPU alone, and there only for speed.
    pub fn new(
        network: &Arc<Network>,
        state: &TrainState,
        batch_size: usize,
        threads: usize,
    ) -> std::io::Result<Stepper> {
        let (shard, threads) = match state.parameters.device() {
            Device::Cpu => (SHARD, threads.min(batch_size.div_ceil(SHARD))),
            _ => (batch_size.max(1), 1),
        };
        let classes = network.classes();
        Ok(Stepper { pool: Pool::start(network, &state.parameters, threads)?, shard, classes, guarded: false })
    }

    /// Looks at every loss and every gradient before it changes anything, on every device.
    #[must_use]
    pub fn guarded(self) -> Stepper {
        Stepper { guarded: true, ..self }
    }

    /// Gradient of the batch's mean loss, then one update of the optimizer, but for a step that is broken: its gradient
    /// would wipe out the weights that can tell where it broke.
    pub fn step(
        &mut self,
        state: &mut TrainState,
        batch: &Batch,
        learning_rate: f64,
    ) -> Result<StepOutput, WorkerLost> {
        let started = Instant::now();
        let samples = batch.len();
        let mut outputs = Vec::new();
        let (mut forward, mut backward) = (0.0, 0.0);
        let mut shards = batch.split(self.shard).into_iter().peekable();
        while shards.peek().is_some() {
            let wave_started = Instant::now();
            let wave: Vec<Batch> = shards.by_ref().take(self.pool.threads()).collect();
            let done = self.pool.train(wave, 1.0 / samples as f64)?;
            // The calling thread's share stands for all; what it waits for the others counts as backward.
            let wave_forward = done.first().map_or(0.0, |shard| shard.forward_seconds);
            forward += wave_forward;
            backward += wave_started.elapsed().as_secs_f64() - wave_forward;
            // In the order of the shards, however many there are in a wave.
            tch::no_grad(|| {
                for (index, gradient) in self.pool.gradients()[..done.len()].iter().enumerate() {
                    if outputs.is_empty() && index == 0 {
                        state.gradient.copy_(gradient);
                    } else {
                        let _ = state.gradient.g_add_(gradient);
                    }
                }
            });
            outputs.extend(done);
        }
        let (loss_sum, correct) = sums(outputs.into_iter().map(|shard| (shard.loss_sum, shard.correct)));
        let asks = self.guarded || state.parameters.device() == Device::Cpu;
        let is_finite = |tensor: &Tensor| tensor.double_value(&[]).is_finite();
        // Of values that are all finite the sum may still be infinite: then it is worth a second look.
        let gradient_is_finite = |gradient: &Tensor| {
            is_finite(&gradient.sum(Kind::Double)) || bool::try_from(gradient.isfinite().all()).unwrap_or(false)
        };
        let broken = asks && !(is_finite(&loss_sum) && (!self.guarded || gradient_is_finite(&state.gradient)));
        if !broken {
            state.optimizer.update(state.parameters.flat(), &state.gradient, learning_rate);
        }
        state.position.iterations += 1;

        let optimizer = started.elapsed().as_secs_f64() - forward - backward;
        let seconds = PhaseSeconds { forward, backward, optimizer, ..PhaseSeconds::default() };
        Ok(StepOutput { loss_sum, correct, samples, broken, seconds })
    }

    /// Mean loss and accuracy of the current weights on a whole split, and what they say about each sample; none when
    /// `stop` was raised meanwhile.
    pub fn evaluate(
        &mut self,
        split: &Split,
        device: Device,
        stop: &AtomicUsize,
    ) -> Result<Option<(Metrics, Predictions)>, WorkerLost> {
        let indices: Vec<u32> = (0..split.len() as u32).collect();
        let mut outputs = Vec::new();
        // A wave of pieces at a time: the images of a whole split as floats would be the largest thing in memory.
        for wave in indices.chunks(EVALUATION_PIECE * self.pool.threads()) {
            if stop.load(Ordering::Relaxed) != 0 {
                return Ok(None);
            }
            let pieces = wave.chunks(EVALUATION_PIECE).map(|piece| Batch::gather(split, piece, device)).collect();
            outputs.extend(self.pool.evaluate(pieces)?);
        }
        let probabilities = outputs.iter().filter_map(|piece| piece.probabilities_nk.as_ref());
        let probabilities: Vec<f32> = probabilities.flat_map(host_values).collect();
        let labels = (0..split.len()).map(|index| split.label(index)).collect();
        let predictions = Predictions::new(self.classes, probabilities, labels);
        let (loss_sum, correct) = sums(outputs.into_iter().map(|piece| (piece.loss_sum, piece.correct)));
        let metrics = Metrics::of(loss_sum.double_value(&[]), correct.int64_value(&[]) as u64, split.len() as u64);
        Ok(Some((metrics, predictions)))
    }
}

/// Sums in the order given, whoever computed the parts.
fn sums(parts: impl Iterator<Item = (Tensor, Tensor)>) -> (Tensor, Tensor) {
    parts
        .reduce(|(loss, correct), (more_loss, more_correct)| (loss + more_loss, correct + more_correct))
        .unwrap_or_else(|| (Tensor::from(0.0_f64), Tensor::from(0_i64).to_kind(Kind::Int64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::order;
    use crate::model::Architecture;
    use crate::optim::Rule;
    use crate::rng::{Purpose, Stream};
    use crate::types::{ImageShape, Seed};

    const SHAPE: ImageShape = ImageShape { height: 10, width: 10, channels: 1 };

    fn split(count: usize) -> Split {
        let mut stream = Stream::new(Seed(1), Purpose::Test, 0, 0);
        let pixels = (0..count * SHAPE.len()).map(|_| stream.below(256) as u8).collect();
        Split::new(SHAPE, 3, pixels, (0..count).map(|i| (i % 3) as u8).collect()).unwrap()
    }

    fn network() -> Arc<Network> {
        let architecture = Architecture { conv_filters: vec![4], kernel_size: 3, dense_units: 6 };
        Arc::new(Network::build(&architecture, SHAPE, 3).unwrap())
    }

    fn state(network: &Network) -> TrainState {
        TrainState::initialise(network, Rule::Adam { weight_decay: 0.0 }, Seed(5), Device::Cpu)
    }

    #[test]
    fn the_gradient_is_that_of_the_mean_loss_however_the_batch_is_cut() {
        let (network, split) = (network(), split(71));
        let batch = Batch::gather(&split, &order(Seed(0), 0, 71), Device::Cpu);
        let mut state = state(&network);
        let leaves = state.parameters.leaves();
        let loss = network.forward(&leaves, &batch.images_nchw).cross_entropy_for_logits(&batch.labels_n);
        let whole = Tensor::run_backward(&[&loss], &leaves, false, false);
        // 32 + 32 + 7 samples
        let output = Stepper::new(&network, &state, 71, 2).unwrap().step(&mut state, &batch, 0.0).unwrap();
        let views = state.parameters.views_of(&state.gradient);
        assert_eq!(views.len(), whole.len());
        for ((spec, view), want) in state.parameters.specs().iter().zip(&views).zip(&whole) {
            let difference = (view - want).abs().max().double_value(&[]);
            assert!(difference < 1e-6, "{}: {difference}", spec.path());
        }
        let mean = output.loss_sum.double_value(&[]) / 71.0;
        assert!((mean - loss.double_value(&[])).abs() < 1e-6);
    }

    #[test]
    fn threads_change_no_bit() {
        let (network, split) = (network(), split(200));
        let train = |threads: usize| {
            let mut state = state(&network);
            let mut stepper = Stepper::new(&network, &state, 90, threads).unwrap();
            for indices in order(Seed(0), 0, 200).chunks(90) {
                stepper.step(&mut state, &Batch::gather(&split, indices, Device::Cpu), 1e-2).unwrap();
            }
            let (metrics, predictions) = stepper.evaluate(&split, Device::Cpu, &AtomicUsize::new(0)).unwrap().unwrap();
            (state.parameters.flat().copy(), metrics, predictions)
        };
        let one = train(1);
        for threads in [2, 3, 5] {
            assert_eq!(train(threads), one, "{threads} threads");
        }
    }

    #[test]
    fn a_broken_step_leaves_the_weights_that_broke_it() {
        let (network, split) = (network(), split(32));
        let mut state = state(&network);
        // One filter answers the largest number there is, and the next layer adds several of them.
        let _ = state.parameters.views()[1].get(0).fill_(f64::from(f32::MAX));
        let _ = state.parameters.views()[2].shallow_clone().fill_(1.0);
        let before = state.parameters.flat().copy();
        let batch = Batch::gather(&split, &order(Seed(0), 0, 32), Device::Cpu);
        let output = Stepper::new(&network, &state, 32, 1).unwrap().step(&mut state, &batch, 0.1).unwrap();
        assert!(output.broken && !output.loss_sum.double_value(&[]).is_finite());
        assert_eq!((state.parameters.flat(), state.position.iterations), (&before, 1));
    }

    #[test]
    fn evaluation_is_the_mean_over_the_whole_split() {
        let (network, split) = (network(), split(300));
        let state = state(&network);
        let mut stepper = Stepper::new(&network, &state, 32, 2).unwrap();
        let (metrics, predictions) = stepper.evaluate(&split, Device::Cpu, &AtomicUsize::new(0)).unwrap().unwrap();
        let batch = Batch::gather(&split, &(0..300).collect::<Vec<u32>>(), Device::Cpu);
        let logits = network.forward(state.parameters.views(), &batch.images_nchw);
        let loss = logits.cross_entropy_for_logits(&batch.labels_n).double_value(&[]);
        let hits = logits.argmax(-1, false).eq_tensor(&batch.labels_n).sum(Kind::Int64).int64_value(&[]);
        assert!((metrics.loss - loss).abs() < 1e-6);
        assert_eq!(metrics.accuracy, hits as f64 / 300.0);
        assert_eq!((0..300).filter(|&sample| predictions.is_right(sample)).count() as i64, hits);
        let surprise: f32 = (0..300).map(|i| -predictions.probabilities(i)[predictions.label(i)].ln()).sum();
        assert!((f64::from(surprise) / 300.0 - loss).abs() < 1e-5);
    }
}
