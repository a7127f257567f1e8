//! One optimizer step, and one evaluation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::device_pass::{DevicePass, end};
use super::evaluated::Evaluated;
use super::observer::{Metrics, PhaseSeconds};
use super::pool::{Pool, WorkerLost};
use super::sharded_pass::ShardedPass;
use super::state::TrainState;
use crate::data::Split;
use crate::engine::{Engine, LibtorchEngine, engines};
use crate::evaluation::Predictions;
use crate::floats::{floats, floats_mut};
use crate::graph::Graph;
use crate::model::Precision;
use crate::trace::{Part, Trace};

/// Measurements of a step, still on the device: reading a value waits for it.
pub struct StepOutput {
    /// Sum of the samples' cross-entropies before the update, `f64`.
    pub loss_sum: Tensor,
    /// Samples classified right before the update, `i64`.
    pub correct: Tensor,
    pub samples: usize,
    /// True if the loss is NaN or infinite, or the gradient of a guarded stepper; the weights have not changed then. Without
    /// a guard always false on CUDA, where a look at the loss would wait for the device.
    pub broken: bool,
    /// Data, forward, backward and optimizer; on CUDA the time to enqueue them.
    pub seconds: PhaseSeconds,
}

/// Runs steps and evaluations of one network on one device.
pub struct Stepper {
    pool: Pool,
    pass: Pass,
    classes: usize,
    guarded: bool,
    trace: Trace,
}

/// Computation of gradients.
enum Pass {
    /// On the CPU, shard by shard on all threads.
    Sharded(ShardedPass),
    /// On other devices, or in other precisions than `f32`: whole batches.
    Device(DevicePass),
}

impl Stepper {
    /// For batches of up to `batch_size` samples. `threads` matters on the CPU alone, and there only for speed.
    pub fn new(
        network: &Arc<Graph>,
        state: &TrainState,
        batch_size: usize,
        threads: usize,
    ) -> std::io::Result<Stepper> {
        if state.parameters.device() != Device::Cpu {
            return Stepper::in_whole_batches(network, state, Precision::F32);
        }
        let pool = Pool::start(ShardedPass::useful_threads(batch_size, threads), "train")?;
        let engines = engines(network, &state.parameters, pool.threads());
        Ok(Stepper::sharded(network, pool, engines))
    }

    /// As [`Stepper::new`] on the CPU, but by libtorch, also for networks that the fused kernels know: to compare them.
    pub fn by_libtorch(
        network: &Arc<Graph>,
        state: &TrainState,
        batch_size: usize,
        threads: usize,
    ) -> std::io::Result<Stepper> {
        let pool = Pool::start(ShardedPass::useful_threads(batch_size, threads), "train")?;
        let engine = || Box::new(LibtorchEngine::new(network, &state.parameters)) as Box<dyn Engine>;
        let engines = (0..pool.threads()).map(|_| engine()).collect();
        Ok(Stepper::sharded(network, pool, engines))
    }

    fn sharded(network: &Graph, pool: Pool, engines: Vec<Box<dyn Engine>>) -> Stepper {
        let pass = Pass::Sharded(ShardedPass::new(network, engines));
        Stepper { pool, pass, classes: network.classes(), guarded: false, trace: Trace::default() }
    }

    /// Whole batches by libtorch on one thread, in any precision and on any device.
    pub fn in_whole_batches(
        network: &Arc<Graph>,
        state: &TrainState,
        precision: Precision,
    ) -> std::io::Result<Stepper> {
        let pass = Pass::Device(DevicePass::new(network, &state.parameters, precision));
        let (pool, trace) = (Pool::start(1, "train")?, Trace::default());
        Ok(Stepper { pool, pass, classes: network.classes(), guarded: false, trace })
    }

    /// Checks every loss and every gradient before the update, on every device.
    #[must_use]
    pub fn guarded(self) -> Stepper {
        Stepper { guarded: true, ..self }
    }

    /// Records to `trace`. On CUDA each part of a step is waited for while it is recorded.
    #[must_use]
    pub fn traced(mut self, trace: &Trace) -> Stepper {
        match &mut self.pass {
            Pass::Sharded(pass) => pass.trace(trace),
            Pass::Device(pass) => pass.trace(trace),
        }
        Stepper { trace: trace.clone(), ..self }
    }

    /// Gradient of the mean loss of the samples of `split` at `indices`, then one update of the optimizer. A broken step
    /// changes no weight: the old ones can tell where it broke.
    ///
    /// # Panics
    /// If an index is not below `split.len()`: a bug in the caller.
    pub fn step(
        &mut self,
        state: &mut TrainState,
        split: &Split,
        indices: &[u32],
        learning_rate: f64,
    ) -> Result<StepOutput, WorkerLost> {
        let (loss_sum, correct, seconds) = match &mut self.pass {
            Pass::Sharded(pass) => {
                let (parameters, gradient) = (floats(state.parameters.flat()), floats_mut(&mut state.gradient));
                let (Some(parameters), Some(gradient)) = (parameters, gradient) else { return Err(WorkerLost) };
                let passed = pass.gradient(&self.pool, parameters, split, indices, gradient)?;
                let correct = Tensor::from(passed.scores.correct as i64);
                (Tensor::from(passed.scores.loss_sum), correct, passed.seconds)
            }
            Pass::Device(pass) => {
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
        let broken = match &mut self.pass {
            Pass::Sharded(pass) => pass.any(broken),
            Pass::Device(_) => broken,
        };
        let started = Instant::now();
        if !broken {
            self.update(state, learning_rate)?;
        }
        state.position.iterations += 1;
        let seconds = PhaseSeconds { optimizer: started.elapsed().as_secs_f64(), ..seconds };
        Ok(StepOutput { loss_sum, correct, samples: indices.len(), broken, seconds })
    }

    /// Each thread updates some of the parameters. No value depends on another, so the number of threads changes nothing.
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

    /// Mean loss and accuracy of the current weights on a whole split, and their predictions; `None` if `stop` was raised
    /// meanwhile.
    pub fn evaluate(
        &mut self,
        state: &TrainState,
        split: &Split,
        stop: &AtomicUsize,
    ) -> Result<Option<(Metrics, Predictions)>, WorkerLost> {
        let stop = || stop.load(Ordering::Relaxed) != 0;
        let evaluated = match &mut self.pass {
            Pass::Sharded(pass) => {
                let parameters = floats(state.parameters.flat()).ok_or(WorkerLost)?;
                pass.evaluate(&self.pool, parameters, split, &stop)?
            }
            Pass::Device(pass) => pass.evaluate(split, &stop),
        };
        let Some(Evaluated { loss_sum, correct, probabilities_nk, features_nd }) = evaluated else { return Ok(None) };
        let labels = (0..split.len()).map(|index| split.label(index)).collect();
        let predictions = Predictions::new(self.classes, probabilities_nk, labels).with_features(features_nd);
        Ok(Some((Metrics::of(loss_sum, correct, split.len() as u64), predictions)))
    }
}

/// Does `work`, recorded as the optimizer.
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
        Split::new(SHAPE, 3, pixels, (0..count).map(|i| (i % 3) as u16).collect()).unwrap()
    }

    fn network() -> Arc<Graph> {
        let architecture = Architecture { conv_filters: vec![4], kernel_size: 3, dense_units: 6 };
        Arc::new(architecture.build(SHAPE, 3).unwrap())
    }

    fn state(network: &Graph) -> TrainState {
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
        for (engine, start) in ENGINES {
            // 32 + 32 + 7 samples
            let output = start(&network, &state, 71, 2).unwrap().step(&mut state, &split, &indices, 0.0).unwrap();
            let views = state.parameters.views_of(&state.gradient);
            assert_eq!(views.len(), whole.len());
            for ((spec, view), want) in state.parameters.specs().iter().zip(&views).zip(&whole) {
                let difference = (view - want).abs().max().double_value(&[]);
                assert!(difference < 1e-6, "{engine}, {}: {difference}", spec.path());
            }
            let mean = output.loss_sum.double_value(&[]) / 71.0;
            assert!((mean - loss.double_value(&[])).abs() < 1e-6, "{engine}");
        }
    }

    type Start = fn(&Arc<Graph>, &TrainState, usize, usize) -> std::io::Result<Stepper>;
    const ENGINES: [(&str, Start); 2] = [("fused", Stepper::new), ("libtorch", Stepper::by_libtorch)];

    #[test]
    fn threads_change_no_bit() {
        let (network, split) = (network(), split(450));
        for (engine, start) in ENGINES {
            let train = |threads: usize| {
                let mut state = state(&network);
                // Up to seven shards.
                let mut stepper = start(&network, &state, 200, threads).unwrap();
                for indices in order(Seed(0), 0, 450).chunks(200) {
                    stepper.step(&mut state, &split, indices, 1e-2).unwrap();
                }
                let (metrics, predictions) = stepper.evaluate(&state, &split, &AtomicUsize::new(0)).unwrap().unwrap();
                (state.parameters.flat().copy(), metrics, predictions)
            };
            let one = train(1);
            for threads in [2, 3, 5] {
                assert_eq!(train(threads), one, "{engine}, {threads} threads");
            }
        }
    }

    #[test]
    fn engines_agree() {
        let (network, split) = (network(), split(100));
        let indices = order(Seed(0), 0, 100);
        let results = ENGINES.map(|(_, start)| {
            let mut state = state(&network);
            let mut stepper = start(&network, &state, 100, 2).unwrap();
            let output = stepper.step(&mut state, &split, &indices, 0.0).unwrap();
            let (metrics, predictions) = stepper.evaluate(&state, &split, &AtomicUsize::new(0)).unwrap().unwrap();
            let features: Vec<f32> = (0..100).flat_map(|i| predictions.features(i).unwrap()).copied().collect();
            let values = [Vec::try_from(&state.gradient).unwrap(), features];
            (output.loss_sum.double_value(&[]), output.correct.int64_value(&[]), metrics, values)
        });
        let [(loss, correct, metrics, values), other] = results;
        assert!((loss - other.0).abs() < 1e-4 && correct == other.1, "{loss} and {}", other.0);
        assert!((metrics.loss - other.2.loss).abs() < 1e-6 && metrics.accuracy == other.2.accuracy);
        for (values, others) in values.iter().zip(&other.3) {
            assert_eq!(values.len(), others.len());
            let off = values.iter().zip(others).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(off < 1e-5, "{off}");
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
