//! One optimizer step, and one evaluation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::autograd_pass::{AutogradPass, end};
use super::chain_pass::{ChainPass, fused_passes};
use super::observer::{Metrics, PhaseSeconds};
use super::pool::{Pool, WorkerLost};
use super::state::TrainState;
use crate::data::Split;
use crate::evaluation::Predictions;
use crate::floats::{floats, floats_mut};
use crate::model::{Network, Precision};
use crate::trace::{Part, Trace};

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
    /// Data, forward, backward and optimizer; on CUDA, of asking for them rather than of having them done.
    pub seconds: PhaseSeconds,
}

/// What an evaluation found, by sums and in the order of the samples.
#[derive(Default)]
pub(super) struct Evaluated {
    pub loss_sum: f64,
    pub correct: u64,
    /// Samples x classes.
    pub probabilities_nk: Vec<f32>,
    /// Samples x units of the last hidden layer; empty where nobody kept them.
    pub features_nd: Vec<f32>,
}

/// Runs steps and evaluations of one network on one device.
pub struct Stepper {
    pool: Pool,
    pass: Pass,
    classes: usize,
    guarded: bool,
    trace: Trace,
}

/// Who computes gradients.
enum Pass {
    /// On the CPU, for networks that it knows: several times faster than libtorch, which is measured by `make bench`.
    Chain(ChainPass),
    /// Everywhere else.
    Autograd(AutogradPass),
}

impl Stepper {
    /// For batches of up to `batch_size` samples. `threads` matters on the CPU alone, and there only for speed.
    pub fn new(
        network: &Arc<Network>,
        state: &TrainState,
        batch_size: usize,
        threads: usize,
    ) -> std::io::Result<Stepper> {
        match fused_passes(network, state.parameters.device(), Precision::F32) {
            Some(chain) => {
                let pool = Pool::start(ChainPass::useful_threads(batch_size, threads), "train")?;
                let pass = Pass::Chain(ChainPass::new(chain, pool.threads()));
                Ok(Stepper { pool, pass, classes: network.classes(), guarded: false, trace: Trace::default() })
            }
            None => Stepper::by_autograd(network, state, Precision::F32),
        }
    }

    /// By libtorch's automatic differentiation, whole batches on one thread: what [`Stepper::new`] falls back to, and what
    /// its faster passes are held against. Steps compute in `precision`, on any device.
    pub fn by_autograd(network: &Arc<Network>, state: &TrainState, precision: Precision) -> std::io::Result<Stepper> {
        let pass = Pass::Autograd(AutogradPass::new(network, &state.parameters, precision));
        let (pool, trace) = (Pool::start(1, "train")?, Trace::default());
        Ok(Stepper { pool, pass, classes: network.classes(), guarded: false, trace })
    }

    /// Looks at every loss and every gradient before it changes anything, on every device.
    #[must_use]
    pub fn guarded(self) -> Stepper {
        Stepper { guarded: true, ..self }
    }

    /// Says to `trace` what it does. On CUDA each part of a step is waited for while it is recorded.
    #[must_use]
    pub fn traced(mut self, trace: &Trace) -> Stepper {
        match &mut self.pass {
            Pass::Chain(pass) => pass.trace(trace),
            Pass::Autograd(pass) => pass.trace(trace),
        }
        Stepper { trace: trace.clone(), ..self }
    }

    /// Gradient of the mean loss of the samples of `split` at `indices`, then one update of the optimizer, but for a step
    /// that is broken: its gradient would wipe out the weights that can tell where it broke.
    ///
    /// # Panics
    /// When an index is not below `split.len()`: a bug in the caller.
    pub fn step(
        &mut self,
        state: &mut TrainState,
        split: &Split,
        indices: &[u32],
        learning_rate: f64,
    ) -> Result<StepOutput, WorkerLost> {
        let (loss_sum, correct, seconds) = match &mut self.pass {
            Pass::Chain(pass) => {
                let (parameters, gradient) = (floats(state.parameters.flat()), floats_mut(&mut state.gradient));
                let (Some(parameters), Some(gradient)) = (parameters, gradient) else { return Err(WorkerLost) };
                let passed = pass.gradient(&self.pool, parameters, split, indices, gradient)?;
                let correct = Tensor::from(passed.reply.correct as i64);
                (Tensor::from(passed.reply.loss_sum), correct, passed.seconds)
            }
            Pass::Autograd(pass) => {
                let passed = pass.gradient(state, split, indices);
                (passed.loss_sum, passed.correct, passed.seconds)
            }
        };
        let asks = self.guarded || state.parameters.device() == Device::Cpu;
        let is_finite = |tensor: &Tensor| tensor.double_value(&[]).is_finite();
        // Of values that are all finite the sum may still be infinite: then it is worth a second look.
        let gradient_is_finite = |gradient: &Tensor| {
            is_finite(&gradient.sum(Kind::Double)) || bool::try_from(gradient.isfinite().all()).unwrap_or(false)
        };
        let broken = asks && !(is_finite(&loss_sum) && (!self.guarded || gradient_is_finite(&state.gradient)));
        let started = Instant::now();
        if !broken {
            self.update(state, learning_rate)?;
        }
        state.position.iterations += 1;
        let seconds = PhaseSeconds { optimizer: started.elapsed().as_secs_f64(), ..seconds };
        Ok(StepOutput { loss_sum, correct, samples: indices.len(), broken, seconds })
    }

    /// Every thread updates some of the parameters: no value depends on another, so their number changes nothing.
    fn update(&self, state: &mut TrainState, learning_rate: f64) -> Result<(), WorkerLost> {
        let TrainState { parameters, optimizer, gradient, .. } = state;
        let (device, trace) = (gradient.device(), &self.trace);
        let piece = self.pool.share(gradient.numel());
        match optimizer.sweep(parameters.flat_mut(), gradient, learning_rate, piece) {
            Some(mut pieces) => self.pool.each(&mut pieces, |piece| optimizing(trace, device, || piece.update())),
            None => {
                optimizing(trace, device, || optimizer.update(parameters.flat(), gradient, learning_rate));
                Ok(())
            }
        }
    }

    /// Mean loss and accuracy of the current weights on a whole split, and what they say about each sample; none when
    /// `stop` was raised meanwhile.
    pub fn evaluate(
        &mut self,
        state: &TrainState,
        split: &Split,
        stop: &AtomicUsize,
    ) -> Result<Option<(Metrics, Predictions)>, WorkerLost> {
        let stop = || stop.load(Ordering::Relaxed) != 0;
        let evaluated = match &mut self.pass {
            Pass::Chain(pass) => {
                let parameters = floats(state.parameters.flat()).ok_or(WorkerLost)?;
                pass.evaluate(&self.pool, parameters, split, &stop)?
            }
            Pass::Autograd(pass) => pass.evaluate(split, &stop),
        };
        let Some(Evaluated { loss_sum, correct, probabilities_nk, features_nd }) = evaluated else { return Ok(None) };
        let labels = (0..split.len()).map(|index| split.label(index)).collect();
        let predictions = Predictions::new(self.classes, probabilities_nk, labels).with_features(features_nd);
        Ok(Some((Metrics::of(loss_sum, correct, split.len() as u64), predictions)))
    }
}

/// Does `work` and says how long it took.
fn optimizing(trace: &Trace, device: Device, work: impl FnOnce()) {
    let mut spans = trace.spans();
    let started = spans.start();
    work();
    end(&mut spans, device, started, Part::Phase, "optimizer");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Batch, order};
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
        let indices = order(Seed(0), 0, 71);
        let batch = Batch::gather(&split, &indices, Device::Cpu);
        let mut state = state(&network);
        let leaves = state.parameters.leaves();
        let loss =
            crate::forward::logits(&network, &leaves, &batch.images_nchw).cross_entropy_for_logits(&batch.labels_n);
        let whole = Tensor::run_backward(&[&loss], &leaves, false, false);
        // 32 + 32 + 7 samples
        let output = Stepper::new(&network, &state, 71, 2).unwrap().step(&mut state, &split, &indices, 0.0).unwrap();
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
                stepper.step(&mut state, &split, indices, 1e-2).unwrap();
            }
            let (metrics, predictions) = stepper.evaluate(&state, &split, &AtomicUsize::new(0)).unwrap().unwrap();
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
        let indices = order(Seed(0), 0, 32);
        let output = Stepper::new(&network, &state, 32, 1).unwrap().step(&mut state, &split, &indices, 0.1).unwrap();
        assert!(output.broken && !output.loss_sum.double_value(&[]).is_finite());
        assert_eq!((state.parameters.flat(), state.position.iterations), (&before, 1));
    }

    #[test]
    fn evaluation_is_the_mean_over_the_whole_split() {
        let (network, split) = (network(), split(300));
        let state = state(&network);
        let mut stepper = Stepper::new(&network, &state, 32, 2).unwrap();
        let (metrics, predictions) = stepper.evaluate(&state, &split, &AtomicUsize::new(0)).unwrap().unwrap();
        let batch = Batch::gather(&split, &(0..300).collect::<Vec<u32>>(), Device::Cpu);
        let logits = crate::forward::logits(&network, state.parameters.views(), &batch.images_nchw);
        let loss = logits.cross_entropy_for_logits(&batch.labels_n).double_value(&[]);
        let hits = logits.argmax(-1, false).eq_tensor(&batch.labels_n).sum(Kind::Int64).int64_value(&[]);
        assert!((metrics.loss - loss).abs() < 1e-6);
        assert_eq!(metrics.accuracy, hits as f64 / 300.0);
        assert_eq!((0..300).filter(|&sample| predictions.is_right(sample)).count() as i64, hits);
        let surprise: f32 = (0..300).map(|i| -predictions.probabilities(i)[predictions.label(i)].ln()).sum();
        assert!((f64::from(surprise) / 300.0 - loss).abs() < 1e-5);
    }
}
