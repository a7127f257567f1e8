//! Epochs of steps, evaluations between them, observers at their moments.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::divergence::{Divergence, NonFinite, in_backward_pass, in_forward_pass};
use super::observer::{At, Metrics, Moment, PhaseSeconds, Totals, Watch};
use super::state::TrainState;
use super::stepper::{StepOutput, Stepper};
use super::worker::WorkerLost;
use crate::data::{Batch, Dataset, order};
use crate::evaluation::Predictions;
use crate::exit::{Classify, Exit};
use crate::model::Network;
use crate::types::Seed;

/// Steps between looks at the loss: each look waits for the device, and a diverged run should not go on for long. On the
/// CPU, where nobody waits, a loss that is no number ends the run at once.
const CHECK_EVERY: u64 = 20;
/// Mean cross-entropy, in nats, from which a run counts as diverged. Guessing costs the logarithm of the number of
/// classes; a network that is this sure of what is wrong does not come back, and running sums would drown what follows.
const DIVERGED: f64 = 1e6;
/// Validation images that are searched for what is not finite, at most.
const SEARCHED: usize = 64;
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
    /// Of the training steps, by the clock on the wall: data, steps and what observers do between them, without
    /// evaluation and what is looked at after the epoch.
    pub images_per_second: f64,
}

/// A run that went to its end.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub last: EpochReport,
    pub best_validation_accuracy: f64,
    pub iterations: u64,
    /// Share of the time of training steps and observers that observers took, 0 to 1, the last epoch's included.
    pub observers_share: f64,
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
    #[error(transparent)]
    Diverged(#[from] Divergence),
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
            FitError::Diverged(_) => Exit::Data,
            FitError::Stopped { signal: SIGTERM, .. } => Exit::Terminated,
            FitError::Stopped { .. } => Exit::Interrupted,
            FitError::Threads { .. } => Exit::Io,
            FitError::WorkerLost(_) => Exit::Software,
        }
    }
}

/// Trains `state` in place and says what came of it.
///
/// On the CPU, weights depend on the network, the data, the optimizer and the fields of `fit` other than `threads`, bit
/// for bit; CUDA's kernels add in no fixed order. Observers see everything and change nothing.
pub fn fit<Out>(
    fit: &Fit<'_>,
    state: &mut TrainState,
    watches: &mut [Watch<Out>],
    out: &mut Out,
    progress: &mut dyn Progress,
) -> Result<Outcome, FitError> {
    // A batch never holds more than the data set does.
    let largest_batch = fit.batch_size.min(fit.dataset.train.len());
    let mut stepper = Stepper::new(fit.network, state, largest_batch, fit.threads)
        .map_err(|source| FitError::Threads { threads: fit.threads, source })?;
    let mut sums = Sums::new(fit.device);
    let mut best = 0.0_f64;
    let mut last = None;
    // Copied only where somebody will look: the copy is a hundredth of a step.
    let mut previous = state.parameters.flat().copy();
    look(&View { fit, state, previous: &previous, predictions: None, epoch: 0, at: At::Start }, watches, out);

    for epoch in 0..fit.epochs {
        let epoch_started = Instant::now();
        let before = sums.read();
        let mut checked = before;
        sums.start_clock();
        let order = order(fit.seed, epoch, fit.dataset.train.len());
        progress.epoch_starts(epoch, order.len());
        let mut samples_done = 0;

        for indices in order.chunks(fit.batch_size) {
            let step_started = Instant::now();
            let batch = Batch::gather(&fit.dataset.train, indices, fit.device);
            let data_seconds = step_started.elapsed().as_secs_f64();
            let next = state.iterations + 1;
            let wanted = watches.iter().any(|watch| watch.trigger.fires_after_step(next));
            samples_done += indices.len();
            let last_of_epoch = samples_done == order.len();
            let looks = wanted || last_of_epoch || next.is_multiple_of(CHECK_EVERY);
            if looks {
                previous.copy_(state.parameters.flat());
            }
            let output = stepper.step(state, &batch, fit.learning_rate)?;
            sums.add(&output, data_seconds);
            if output.broken {
                previous.copy_(state.parameters.flat());
            }

            let looked = if looks || output.broken {
                let totals = sums.read();
                let looking = Instant::now();
                let at = At::Step(totals);
                let view = View { fit, state, previous: &previous, predictions: None, epoch, at };
                look(&view, watches, out);
                sums.seconds.observers += looking.elapsed().as_secs_f64();
                // After the look: a curve that ends in NaN says more than one that just ends.
                let loss = totals.since(&checked).metrics().loss;
                if is_lost(loss) {
                    let before = state.parameters.views_of(&previous);
                    let mut non_finite = in_forward_pass(fit.network, &before, &batch.images_nchw);
                    non_finite.extend(in_backward_pass(fit.network, &state.parameters.views_of(&state.gradient)));
                    return Err(report(&view, loss, non_finite, watches, out));
                }
                checked = totals;
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
        sums.stop_clock();
        let in_epoch = totals.since(&before);
        let (validation, predictions) = stepper.evaluate(&fit.dataset.validation, fit.device)?;
        // A loss is of the weights before its step: what the last step of an epoch did shows here first.
        if is_lost(validation.loss) {
            let mut non_finite = in_backward_pass(fit.network, &state.parameters.views_of(&state.gradient));
            let images_nchw = ruined(fit, &predictions);
            non_finite.extend(in_forward_pass(fit.network, state.parameters.views(), &images_nchw));
            let view = View { fit, state, previous: &previous, predictions: None, epoch, at: At::Step(totals) };
            return Err(report(&view, validation.loss, non_finite, watches, out));
        }
        best = best.max(validation.accuracy);
        sums.start_clock();
        let looking = Instant::now();
        let at = At::Epoch { train: in_epoch.metrics(), validation, totals };
        look(&View { fit, state, previous: &previous, predictions: Some(&predictions), epoch, at }, watches, out);
        sums.seconds.observers += looking.elapsed().as_secs_f64();
        sums.stop_clock();
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
    let PhaseSeconds { observers, total, .. } = sums.seconds;
    let observers_share = if total > 0.0 { observers / total } else { 0.0 };
    Ok(Outcome { last, best_validation_accuracy: best, iterations: state.iterations, observers_share })
}

fn is_lost(loss: f64) -> bool {
    loss.is_nan() || loss >= DIVERGED
}

/// Validation images about which the network says nothing that is a number, or any if there are none.
fn ruined(fit: &Fit<'_>, predictions: &Predictions) -> Tensor {
    let is_ruined = |&sample: &u32| !predictions.probabilities(sample as usize).iter().all(|p| p.is_finite());
    let samples = 0..predictions.len() as u32;
    let ruined: Vec<u32> = samples.clone().filter(is_ruined).take(SEARCHED).collect();
    let chosen = if ruined.is_empty() { samples.take(SEARCHED).collect() } else { ruined };
    Batch::gather(&fit.dataset.validation, &chosen, fit.device).images_nchw
}

/// Tells every observer that this is the end, and returns why.
fn report<Out>(
    view: &View<'_>,
    loss: f64,
    non_finite: Vec<NonFinite>,
    watches: &mut [Watch<Out>],
    out: &mut Out,
) -> FitError {
    let moment = view.moment();
    let divergence = Divergence { loss, iterations: moment.iterations, epoch: moment.epoch, non_finite };
    for watch in watches {
        watch.observer.diverged(&moment, &divergence, out);
    }
    divergence.into()
}

/// What a moment is made of.
struct View<'a> {
    fit: &'a Fit<'a>,
    state: &'a TrainState,
    previous: &'a Tensor,
    predictions: Option<&'a Predictions>,
    epoch: u64,
    at: At,
}

impl View<'_> {
    fn moment(&self) -> Moment<'_> {
        let View { fit, state, epoch, .. } = *self;
        Moment {
            at: self.at,
            epoch,
            iterations: state.iterations,
            learning_rate: fit.learning_rate,
            network: fit.network,
            parameters: &state.parameters,
            gradient: &state.gradient,
            previous: self.previous,
            dataset: fit.dataset,
            predictions: self.predictions,
            last: matches!(self.at, At::Epoch { .. }) && epoch + 1 >= fit.epochs,
        }
    }
}

/// Shows one moment to every observer that wants it.
fn look<Out>(view: &View<'_>, watches: &mut [Watch<Out>], out: &mut Out) {
    let moment = view.moment();
    for Watch { trigger, observer } in watches {
        let fires = match view.at {
            At::Start => trigger.fires_at_start(),
            At::Step(_) => trigger.fires_after_step(moment.iterations),
            At::Epoch { .. } => trigger.fires_after_epoch(moment.epoch, view.fit.epochs),
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
    /// When the stretch of training began that is running; the wall clock stands still between stretches.
    running_since: Option<Instant>,
}

impl Sums {
    fn new(device: Device) -> Sums {
        Sums {
            loss_sum: Tensor::zeros([], (Kind::Double, device)),
            correct: Tensor::zeros([], (Kind::Int64, device)),
            samples: 0,
            seconds: PhaseSeconds::default(),
            running_since: None,
        }
    }

    fn start_clock(&mut self) {
        self.running_since = Some(Instant::now());
    }

    fn stop_clock(&mut self) {
        self.seconds.total += self.running_since.take().map_or(0.0, |since| since.elapsed().as_secs_f64());
    }

    fn add(&mut self, output: &StepOutput, data_seconds: f64) {
        let _ = self.loss_sum.g_add_(&output.loss_sum);
        let _ = self.correct.g_add_(&output.correct);
        self.samples += output.samples as u64;
        self.seconds = self.seconds.plus(&output.seconds);
        self.seconds.data += data_seconds;
    }

    /// Waits for the device.
    fn read(&mut self) -> Totals {
        let (loss_sum, correct) = (self.loss_sum.double_value(&[]), self.correct.int64_value(&[]) as u64);
        if self.running_since.is_some() {
            self.stop_clock();
            self.start_clock();
        }
        Totals { loss_sum, correct, samples: self.samples, seconds: self.seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Split;
    use crate::model::Architecture;
    use crate::optim::Rule;
    use crate::train::Observer;
    use crate::trigger::Trigger;
    use crate::types::ImageShape;

    struct Silent;

    impl Progress for Silent {
        fn epoch_starts(&mut self, _: u64, _: usize) {}
        fn samples_done(&mut self, _: usize, _: Option<Metrics>) {}
        fn epoch_ends(&mut self, _: &EpochReport) {}
    }

    /// Notes every moment it is shown.
    struct Noting;

    impl Observer<Vec<String>> for Noting {
        fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<String>) {
            let what = match moment.at {
                At::Start => "start".to_owned(),
                At::Step(totals) => format!("{} samples", totals.samples),
                At::Epoch { totals, .. } => format!("epoch {} after {} samples", moment.epoch, totals.samples),
            };
            out.push(format!("step {}: {what}", moment.iterations));
        }

        fn diverged(&mut self, moment: &Moment<'_>, divergence: &Divergence, out: &mut Vec<String>) {
            let first = divergence.non_finite.first().map(NonFinite::to_string).unwrap_or_default();
            out.push(format!("step {}: diverged, {first}", moment.iterations));
        }
    }

    fn dataset() -> Dataset {
        let shape = ImageShape { height: 6, width: 6, channels: 1 };
        let split = |count: usize| {
            // A class is a brightness.
            let labels: Vec<u8> = (0..count).map(|i| (i % 2) as u8).collect();
            let pixels = labels.iter().flat_map(|label| vec![label * 200; shape.len()]).collect();
            Split::new(shape, 2, pixels, labels).unwrap()
        };
        Dataset {
            name: "two".to_owned(),
            classes: vec!["dark".into(), "bright".into()],
            train: split(50),
            validation: split(20),
        }
    }

    fn train(learning_rate: f64, stop: usize, out: &mut Vec<String>) -> (TrainState, Result<Outcome, FitError>) {
        train_batches(learning_rate, 20, stop, out)
    }

    fn train_batches(
        learning_rate: f64,
        batch_size: usize,
        stop: usize,
        out: &mut Vec<String>,
    ) -> (TrainState, Result<Outcome, FitError>) {
        let dataset = dataset();
        let architecture = Architecture { conv_filters: vec![2], kernel_size: 3, dense_units: 4 };
        let network = Arc::new(Network::build(&architecture, dataset.train.shape(), 2).unwrap());
        let rule = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };
        let mut state = TrainState::initialise(&network, rule, Seed(1), Device::Cpu);
        let how = Fit {
            network: &network,
            dataset: &dataset,
            device: Device::Cpu,
            epochs: 2,
            batch_size,
            learning_rate,
            seed: Seed(1),
            threads: 1,
            stop: &AtomicUsize::new(stop),
        };
        let mut watches = [
            Watch::new(Trigger::start().or(Trigger::every_steps(2)), Noting),
            Watch::new(Trigger::every_epochs(1), Noting),
        ];
        let outcome = fit(&how, &mut state, &mut watches, out, &mut Silent);
        (state, outcome)
    }

    #[test]
    fn observers_see_their_moments_and_the_last_batch_is_used() {
        let mut seen = Vec::new();
        let (_, outcome) = train(0.1, 0, &mut seen);
        let want = [
            "step 0: start",
            "step 2: 40 samples",
            "step 3: epoch 0 after 50 samples",
            "step 4: 70 samples",
            "step 6: 100 samples",
            "step 6: epoch 1 after 100 samples",
        ];
        assert_eq!(seen, want);
        let outcome = outcome.unwrap();
        assert_eq!((outcome.iterations, outcome.last.epoch), (6, 1));
        assert!(outcome.best_validation_accuracy >= outcome.last.validation.accuracy);
    }

    #[test]
    fn a_signal_ends_training_after_the_step() {
        let error = train(0.1, SIGTERM, &mut Vec::new()).1.unwrap_err();
        assert_eq!(error.to_string(), "stopped after step 1 (epoch 1)");
        assert_eq!(error.exit(), Exit::Terminated);
    }

    #[test]
    fn divergence_is_an_error_that_names_where_it_begins() {
        // Beyond `f32`: after the first step no weight is a number.
        let mut seen = Vec::new();
        let error = train(1e39, 0, &mut seen).1.unwrap_err();
        let want = "training diverged: the loss is NaN after step 2 (epoch 1); the first non-finite values are in conv2d's \
                    kernel; use a smaller learning rate";
        assert_eq!(error.to_string(), want);
        assert_eq!(error.exit(), Exit::Data);
        let last_words = "step 2: diverged, conv2d's kernel";
        assert_eq!(seen, ["step 0: start", "step 2: 40 samples", last_words, last_words]);
    }

    #[test]
    fn a_loss_that_is_too_large_is_divergence_too() {
        let error = train(1e38, 0, &mut Vec::new()).1.unwrap_err().to_string();
        assert!(error.starts_with("training diverged: the loss is 5."), "{error}");
        assert!(error.ends_with("e36 after step 2 (epoch 1); use a smaller learning rate"), "{error}");
    }

    #[test]
    fn what_the_last_step_broke_shows_in_the_evaluation() {
        let mut seen = Vec::new();
        let error = train_batches(f64::MAX, 50, 0, &mut seen).1.unwrap_err();
        let want =
            "after step 1 (epoch 1); the first non-finite values are in conv2d's kernel; use a smaller learning rate";
        assert!(error.to_string().ends_with(want), "{error}");
        assert_eq!(seen[0], "step 0: start");
        assert_eq!(seen[1..], ["step 1: diverged, conv2d's kernel"; 2], "an epoch without numbers is not shown");
    }

    #[test]
    fn a_batch_larger_than_the_data_set_costs_no_memory_for_what_is_not_there() {
        let outcome = train_batches(0.1, 1 << 40, 0, &mut Vec::new()).1.unwrap();
        assert_eq!(outcome.iterations, 2);
    }
}
