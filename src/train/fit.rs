//! Epochs of steps, evaluations between them, observers at their moments.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::observer::{At, Metrics, Moment, Observer, PhaseSeconds, Totals};
use super::state::TrainState;
use super::stepper::{StepOutput, Stepper};
use super::worker::WorkerLost;
use crate::data::{Batch, Dataset, order};
use crate::exit::{Classify, Exit};
use crate::model::Network;
use crate::types::Seed;

/// Steps between looks at the loss: each look waits for the device, and a diverged run should not go on for long.
const CHECK_EVERY: u64 = 50;
const SIGTERM: usize = libc::SIGTERM as usize;

/// What to train on what, for how long.
pub struct Fit<'a> {
    pub network: &'a Arc<Network>,
    pub dataset: &'a Dataset,
    pub device: Device,
    pub epochs: u64,
    pub batch_size: usize,
    pub learning_rate: f64,
    pub seed: Seed,
    pub threads: usize,
    /// 0, until a signal of this number asks to stop after the step that is running.
    pub stop: &'a AtomicUsize,
}

/// One finished epoch.
#[derive(Clone, Copy, Debug)]
pub struct EpochReport {
    /// Counted from 0.
    pub epoch: u64,
    pub train: Metrics,
    pub validation: Metrics,
    /// Training and evaluation together.
    pub seconds: f64,
    /// Of training alone.
    pub images_per_second: f64,
}

/// A run that went to its end.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub last: EpochReport,
    pub best_validation_accuracy: f64,
    pub iterations: u64,
    pub seconds: PhaseSeconds,
}

/// Told how far the loop is; for people, not for logs.
pub trait Progress {
    /// An epoch begins that will visit `samples` samples.
    fn epoch_starts(&mut self, epoch: u64, samples: usize);
    /// `samples` of the epoch's samples are done; the metrics are of some of them, where the loop has just looked.
    fn samples_done(&mut self, samples: usize, metrics: Option<Metrics>);
    fn epoch_ends(&mut self, report: &EpochReport);
}

/// Why training did not go to its end.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error("training diverged: the loss is {loss} after step {iterations} (epoch {}); use a smaller learning rate", epoch + 1)]
    Diverged { loss: f64, iterations: u64, epoch: u64 },
    #[error("stopped after step {iterations} (epoch {})", epoch + 1)]
    Stopped { iterations: u64, epoch: u64, signal: usize },
    #[error("cannot start {threads} training threads: {source}")]
    Threads { threads: usize, source: std::io::Error },
    #[error(transparent)]
    WorkerLost(#[from] WorkerLost),
}

impl Classify for FitError {
    fn exit(&self) -> Exit {
        match self {
            FitError::Diverged { .. } => Exit::Data,
            FitError::Stopped { signal: SIGTERM, .. } => Exit::Terminated,
            FitError::Stopped { .. } => Exit::Interrupted,
            FitError::Threads { .. } => Exit::Io,
            FitError::WorkerLost(_) => Exit::Software,
        }
    }
}

/// Trains `state` in place and says what came of it.
///
/// Weights depend on the network, the data, the optimizer and the fields of `fit` other than `threads`, bit for bit;
/// observers see everything and change nothing.
pub fn fit<Out>(
    fit: &Fit<'_>,
    state: &mut TrainState,
    observers: &mut [Box<dyn Observer<Out>>],
    out: &mut Out,
    progress: &mut dyn Progress,
) -> Result<Outcome, FitError> {
    let mut stepper = Stepper::new(fit.network, state, fit.batch_size, fit.threads)
        .map_err(|source| FitError::Threads { threads: fit.threads, source })?;
    let mut sums = Sums::new(fit.device);
    let mut best = 0.0_f64;
    let mut last = None;
    look(fit, state, 0, At::Start, observers, out);

    for epoch in 0..fit.epochs {
        let epoch_started = Instant::now();
        let before = sums.read();
        let order = order(fit.seed, epoch, fit.dataset.train.len());
        progress.epoch_starts(epoch, order.len());

        for indices in order.chunks(fit.batch_size) {
            let step_started = Instant::now();
            let batch = Batch::gather(&fit.dataset.train, indices, fit.device);
            let data_seconds = step_started.elapsed().as_secs_f64();
            let output = stepper.step(state, &batch, fit.learning_rate)?;
            sums.add(&output, data_seconds);

            let wanted = observers.iter().any(|observer| observer.trigger().fires_after_step(state.iterations));
            let looked = if wanted || state.iterations % CHECK_EVERY == 0 {
                let totals = sums.read(); // waits for the device
                check(&totals, state.iterations, epoch)?;
                let looking = Instant::now();
                look(fit, state, epoch, At::Step(totals), observers, out);
                sums.observed(looking.elapsed().as_secs_f64());
                Some(totals.since(&before).metrics())
            } else {
                None
            };
            progress.samples_done(indices.len(), looked);
            let signal = fit.stop.load(Ordering::Relaxed);
            if signal != 0 {
                return Err(FitError::Stopped { iterations: state.iterations, epoch, signal });
            }
        }

        let totals = sums.read();
        check(&totals, state.iterations, epoch)?;
        let in_epoch = totals.since(&before);
        let validation = stepper.evaluate(&fit.dataset.validation, fit.device)?;
        best = best.max(validation.accuracy);
        let looking = Instant::now();
        look(fit, state, epoch, At::Epoch { train: in_epoch.metrics(), validation, totals }, observers, out);
        sums.observed(looking.elapsed().as_secs_f64());
        let report = EpochReport {
            epoch,
            train: in_epoch.metrics(),
            validation,
            seconds: epoch_started.elapsed().as_secs_f64(),
            images_per_second: in_epoch.samples as f64 / in_epoch.seconds.total.max(f64::MIN_POSITIVE),
        };
        progress.epoch_ends(&report);
        last = Some(report);
    }
    let last = last.unwrap_or_else(|| EpochReport {
        epoch: 0,
        train: Metrics::default(),
        validation: Metrics::default(),
        seconds: 0.0,
        images_per_second: 0.0,
    });
    let seconds = sums.read().seconds;
    Ok(Outcome { last, best_validation_accuracy: best, iterations: state.iterations, seconds })
}

fn check(totals: &Totals, iterations: u64, epoch: u64) -> Result<(), FitError> {
    if totals.loss_sum.is_finite() {
        Ok(())
    } else {
        Err(FitError::Diverged { loss: totals.loss_sum, iterations, epoch })
    }
}

/// Shows one moment to every observer that wants it.
fn look<Out>(
    fit: &Fit<'_>,
    state: &TrainState,
    epoch: u64,
    at: At,
    observers: &mut [Box<dyn Observer<Out>>],
    out: &mut Out,
) {
    let moment = Moment {
        at,
        epoch,
        iterations: state.iterations,
        learning_rate: fit.learning_rate,
        network: fit.network,
        parameters: &state.parameters,
        gradient: &state.gradient,
        dataset: fit.dataset,
    };
    for observer in observers {
        let trigger = observer.trigger();
        let fires = match at {
            At::Start => trigger.fires_at_start(),
            At::Step(_) => trigger.fires_after_step(state.iterations),
            At::Epoch { .. } => trigger.fires_after_epoch(epoch),
        };
        if fires {
            observer.observe(&moment, out);
        }
    }
}

/// The running sums; loss and hits stay on the device until somebody reads them.
struct Sums {
    loss_sum: Tensor,
    correct: Tensor,
    samples: u64,
    seconds: PhaseSeconds,
}

impl Sums {
    fn new(device: Device) -> Sums {
        Sums {
            loss_sum: Tensor::zeros([], (Kind::Double, device)),
            correct: Tensor::zeros([], (Kind::Int64, device)),
            samples: 0,
            seconds: PhaseSeconds::default(),
        }
    }

    fn add(&mut self, output: &StepOutput, data_seconds: f64) {
        let _ = self.loss_sum.g_add_(&output.loss_sum);
        let _ = self.correct.g_add_(&output.correct);
        self.samples += output.samples as u64;
        let data = PhaseSeconds { data: data_seconds, total: data_seconds, ..PhaseSeconds::default() };
        self.seconds = self.seconds.plus(&output.seconds).plus(&data);
    }

    fn observed(&mut self, seconds: f64) {
        self.seconds.observers += seconds;
        self.seconds.total += seconds;
    }

    fn read(&self) -> Totals {
        Totals {
            loss_sum: self.loss_sum.double_value(&[]),
            correct: self.correct.int64_value(&[]) as u64,
            samples: self.samples,
            seconds: self.seconds,
        }
    }
}
