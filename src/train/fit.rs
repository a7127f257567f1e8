//! Epochs of steps, evaluations between them, observers at their moments.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tch::{Device, Tensor};

use super::checkpointer::{Checkpointer, Snapshot};
use super::divergence::{Divergence, NonFinite, in_backward_pass, in_forward_pass};
use super::look::{View, look, look_alone, lookers};
use super::memories::Memories;
use super::observer::{At, Logger, Metrics, ScheduledObserver};
use super::pool::{Pool, WorkerLost, single_threaded};
use super::settings::Fit;
use super::skip::{OnNonFinite, PATIENCE, Skip};
use super::state::{EpochReport, Position, TrainState};
use super::stepper::Stepper;
use super::sums::Sums;
use crate::data::{Batch, Order, order};
use crate::evaluation::Predictions;
use crate::exit::{Classify, Exit};
use crate::model::Precision;
use crate::trace::Part;

/// Steps between looks at the loss: each look waits for the device, and a diverged run should not go on for long. On the
/// CPU, where nobody waits, a loss that is no number ends the run at once.
const CHECK_EVERY: u64 = 20;
/// Mean cross-entropy, in nats, from which a run counts as diverged. Guessing costs the logarithm of the number of
/// classes; a network that is this sure of what is wrong does not come back, and running sums would drown what follows.
const DIVERGED: f64 = 1e6;
/// Validation images that are searched for what is not finite, at most.
const SEARCHED: usize = 64;
/// A run that went to its end.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub last: EpochReport,
    pub best_validation_accuracy: f64,
    pub iterations: u64,
    /// Steps that changed nothing.
    pub skipped: u64,
    /// Share of the time of training steps and observers that observers took, 0 to 1, the last epoch's included.
    pub observers_share: f64,
}

/// Told how far the loop is; for people, not for logs.
pub trait Progress {
    /// An epoch begins, or goes on, that visits `samples` samples.
    fn epoch_starts(&mut self, epoch: u64, samples: usize);
    /// `samples` of the epoch's samples are done; the metrics are of some of them, where the loop has just looked.
    fn samples_done(&mut self, samples: usize, metrics: Option<Metrics>);
    /// This step, counted from 1, changed nothing: its loss or gradient is not finite, or it is known to ruin the weights.
    fn step_skipped(&mut self, _step: u64, _why: Skip) {}
    fn epoch_ends(&mut self, report: &EpochReport);
}

/// Error that ends training early.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error(transparent)]
    Diverged(#[from] Divergence),
    /// Nothing was learned, and nothing will be.
    #[error(
        "no step of epoch {} could be applied: every loss or gradient was non-finite, or the step was excluded after a \
         rollback; use a smaller learning rate", epoch + 1
    )]
    NothingDone { epoch: u64 },
    /// The checkpointer has been given a snapshot to go on from.
    #[error("stopped after step {iterations} (epoch {})", epoch + 1)]
    Stopped { iterations: u64, epoch: u64, signal: usize },
    #[error("cannot start {threads} training threads: {source}")]
    Threads { threads: usize, source: std::io::Error },
    #[error(transparent)]
    WorkerLost(#[from] WorkerLost),
    /// Training cannot be kept, so it does not go on.
    #[error("{0}")]
    Checkpoint(Box<dyn Classify + Send + Sync>),
}

impl Classify for FitError {
    fn exit(&self) -> Exit {
        match self {
            FitError::Diverged(_) | FitError::NothingDone { .. } => Exit::Data,
            FitError::Stopped { .. } => Exit::TemporaryFailure,
            FitError::Threads { .. } => Exit::Io,
            FitError::WorkerLost(_) => Exit::Software,
            FitError::Checkpoint(error) => error.exit(),
        }
    }
}

/// Trains `state` in place from where it is and says what came of it.
///
/// On the CPU, weights depend on the network, the data, the optimizer and the fields of `fit` other than `threads`, bit
/// for bit; CUDA's kernels add in no fixed order. Observers see everything and change nothing. A state that was kept on
/// the way, with the memories of the observers, goes on as this one does, and says the same from there on.
pub fn fit<Log: Logger>(
    fit: &Fit<'_>,
    state: &mut TrainState,
    watches: &mut [ScheduledObserver<Log::Record>],
    log: &mut Log,
    checkpointer: &mut dyn Checkpointer<Log>,
    progress: &mut dyn Progress,
) -> Result<Outcome, FitError> {
    // A batch never holds more than the data set does.
    let largest_batch = fit.batch_size.min(fit.dataset.train.len());
    let stepper = match fit.precision {
        Precision::F32 => Stepper::new(fit.network, state, largest_batch, fit.threads),
        precision => Stepper::in_whole_batches(fit.network, state, precision),
    };
    let stepper = stepper.map_err(|source| FitError::Threads { threads: fit.threads, source })?;
    let stepper = stepper.traced(fit.trace);
    let stepper = if fit.on_non_finite == OnNonFinite::Skip { stepper.guarded() } else { stepper };
    let lookers = Pool::start(lookers(watches).min(fit.threads), "look");
    let lookers = lookers.map_err(|source| FitError::Threads { threads: fit.threads, source })?;
    fit.dataset.train.announce(Order::Shuffled);
    fit.dataset.validation.announce(Order::Rising);
    if state.position.iterations == 0 {
        show_start(fit, state, watches, log);
    }
    let sums = Sums::new(&state.position.totals, fit.device);
    let mut training = Training { fit, state, watches, log, lookers, checkpointer, progress, stepper, sums };
    while training.state.position.epoch < fit.epochs {
        training.epoch()?;
    }
    let position = &training.state.position;
    let last = position.last.unwrap_or(EpochReport {
        epoch: 0,
        iterations: 0,
        train: Metrics::default(),
        validation: Metrics::default(),
        seconds: 0.0,
        images_per_second: 0.0,
        samples: 0,
    });
    Ok(Outcome {
        last,
        best_validation_accuracy: position.best_validation_accuracy,
        iterations: position.iterations,
        skipped: position.skipped,
        observers_share: training.sums.seconds.observers_share(),
    })
}

/// Shows observers the moment before the first step. [`fit`] does it for a state that has made none; who goes on in the
/// first epoch shows them the state of that moment again, as what was seen then shares its step with the epoch's end.
pub fn show_start<Log: Logger>(
    fit: &Fit<'_>,
    state: &TrainState,
    watches: &mut [ScheduledObserver<Log::Record>],
    log: &mut Log,
) {
    single_threaded();
    let view = View { fit, state, predictions: None, at: At::Start };
    // One after the other: what an operation costs is measured here, and wants a quiet machine.
    look_alone(&view, watches, log);
}

/// Training under way.
struct Training<'a, Log: Logger> {
    fit: &'a Fit<'a>,
    state: &'a mut TrainState,
    watches: &'a mut [ScheduledObserver<Log::Record>],
    log: &'a mut Log,
    /// The threads that observers look on.
    lookers: Pool,
    checkpointer: &'a mut dyn Checkpointer<Log>,
    progress: &'a mut dyn Progress,
    stepper: Stepper,
    sums: Sums,
}

/// State after the last step of an epoch: checkpoints hold it until all observers have seen the epoch.
struct Unseen {
    position: Position,
    memories: Memories,
}

impl<Log: Logger> Training<'_, Log> {
    /// Runs the rest of the current epoch: steps, evaluation, observations.
    fn epoch(&mut self) -> Result<(), FitError> {
        let started = Instant::now();
        let Fit { dataset, batch_size, seed, .. } = *self.fit;
        let order = order(seed, self.state.position.epoch, dataset.train.len());
        let position = &mut self.state.position;
        if position.samples == 0 {
            let totals = self.sums.read();
            (position.epoch_began, position.checked) = (totals, totals);
            position.checked_iterations = position.iterations;
        }
        self.sums.start_clock();
        self.progress.epoch_starts(position.epoch, order.len());
        let done = usize::try_from(position.samples).map_or(order.len(), |done| done.min(order.len()));
        if done > 0 {
            self.progress.samples_done(done, None);
        }
        let mut unseen = None;
        if position.unseen {
            unseen = Some(self.unseen());
            let last_batch = order.chunks(batch_size).next_back().unwrap_or_default();
            if self.state.position.skipped_in_a_row == 0 {
                self.see_step(last_batch)?;
            }
        }
        let mut left = order.len() - done;
        let mut batches = order[done..].chunks(batch_size).peekable();
        while let Some(indices) = batches.next() {
            dataset.train.will_need(batches.peek().copied().unwrap_or_default());
            left -= indices.len();
            let looks = self.step(indices, left == 0)?;
            if left == 0 {
                self.state.position.unseen = true;
                unseen = Some(self.unseen());
            }
            let looked = if looks { Some(self.see_step(indices)?) } else { None };
            self.progress.samples_done(indices.len(), looked);
            if left > 0 {
                if self.stop_signal() != 0 {
                    return Err(self.stop());
                }
                if self.checkpointer.is_due(&self.state.position) {
                    self.keep()?;
                }
            }
        }
        // All steps of an epoch are done: there was a last one.
        let unseen = unseen.unwrap_or_else(|| self.unseen());
        self.end_epoch(started, unseen)
    }

    /// One step on the samples of these indices. Says whether it is to be looked at.
    fn step(&mut self, indices: &[u32], last_of_epoch: bool) -> Result<bool, FitError> {
        let fit = self.fit;
        let next = self.state.position.iterations + 1;
        self.state.position.samples += indices.len() as u64;
        if fit.left_out.contains(&next) {
            self.state.position.iterations = next;
            self.state.position.skipped += 1;
            self.state.position.skipped_in_a_row += 1;
            self.progress.step_skipped(next, Skip::LeftOut);
            return Ok(false);
        }
        fit.trace.step_begins(next, self.steps_left(indices.len()));
        let mut spans = fit.trace.spans();
        let started = spans.start();
        let wanted = self.watches.iter().any(|watch| watch.trigger.fires_after_step(next));
        let looks = wanted || last_of_epoch || next.is_multiple_of(CHECK_EVERY);
        // The copy is a hundredth of a step. On the CPU a loss that is no number is seen before the update, with the
        // weights that gave it; elsewhere at the next look, which then asks for them.
        let compared = fit.device != Device::Cpu || self.watches.iter().any(|watch| watch.observer.compares());
        if looks && (compared || last_of_epoch) {
            self.state.previous.copy_(self.state.parameters.flat());
        }
        let output = self.stepper.step(self.state, &fit.dataset.train, indices, fit.learning_rate)?;
        spans.end_of(started, Part::Phase, "step", ("images", indices.len()));
        if output.broken {
            self.state.previous.copy_(self.state.parameters.flat());
        }
        if output.broken && fit.on_non_finite == OnNonFinite::Skip {
            let position = &mut self.state.position;
            position.skipped += 1;
            position.skipped_in_a_row += 1;
            if position.skipped_in_a_row >= PATIENCE {
                let loss = output.loss_sum.double_value(&[]) / output.samples as f64;
                let totals = self.sums.read();
                return Err(self.diverged(At::Step(totals), loss, indices));
            }
            self.progress.step_skipped(next, Skip::NotFinite);
            return Ok(false);
        }
        self.state.position.skipped_in_a_row = 0;
        self.sums.add(&output);
        Ok(looks || output.broken)
    }

    /// Shows the step that has just been done to whom it concerns, and gives the metrics of the epoch so far.
    fn see_step(&mut self, indices: &[u32]) -> Result<Metrics, FitError> {
        let totals = self.sums.read();
        let looking = Instant::now();
        let view = View { fit: self.fit, state: self.state, predictions: None, at: At::Step(totals) };
        look(&view, self.watches, self.log, &AtomicUsize::new(0), &self.lookers)?;
        self.sums.seconds.observers += looking.elapsed().as_secs_f64();
        // After the look: a curve that ends in NaN says more than one that just ends.
        let loss = totals.since(&self.state.position.checked).metrics().loss;
        if is_lost(loss) {
            return Err(self.diverged(At::Step(totals), loss, indices));
        }
        let position = &mut self.state.position;
        position.checked = totals;
        position.checked_iterations = position.iterations;
        Ok(totals.since(&position.epoch_began).metrics())
    }

    /// Evaluates, and looks at what came of the epoch.
    fn end_epoch(&mut self, started: Instant, unseen: Unseen) -> Result<(), FitError> {
        let fit = self.fit;
        fit.trace.epoch_ends();
        let totals = self.sums.read();
        self.sums.stop_clock();
        let in_epoch = totals.since(&self.state.position.epoch_began);
        if in_epoch.samples == 0 {
            return Err(FitError::NothingDone { epoch: self.state.position.epoch });
        }
        if self.stop_signal() != 0 {
            return Err(self.stop_unseen(&unseen));
        }
        let mut spans = fit.trace.spans();
        let evaluating = spans.start();
        let evaluation = self.stepper.evaluate(self.state, &fit.dataset.validation, fit.stop)?;
        spans.end_of(evaluating, Part::Phase, "evaluation", ("images", fit.dataset.validation.len()));
        let Some((validation, predictions)) = evaluation else { return Err(self.stop_unseen(&unseen)) };
        // A loss is of the weights before its step: what the last step of an epoch did shows here first.
        if is_lost(validation.loss) {
            let mut non_finite = in_backward_pass(fit.network, &self.state.parameters.views_of(&self.state.gradient));
            let images_nchw = ruined(fit, &predictions);
            non_finite.extend(in_forward_pass(fit.network, self.state.parameters.views(), &images_nchw));
            return Err(self.report(At::Step(totals), validation.loss, non_finite));
        }
        self.sums.start_clock();
        let looking = Instant::now();
        let at = At::Epoch { train: in_epoch.metrics(), validation, totals };
        let view = View { fit, state: self.state, predictions: Some(&predictions), at };
        let seen = look(&view, self.watches, self.log, fit.stop, &self.lookers)?;
        self.sums.seconds.observers += looking.elapsed().as_secs_f64();
        self.sums.stop_clock();
        if !seen {
            return Err(self.stop_unseen(&unseen));
        }
        // With films in them memories are large: these are not to lie beside those of a checkpoint.
        drop(unseen);
        let position = &self.state.position;
        let report = EpochReport {
            epoch: position.epoch,
            iterations: position.iterations,
            train: in_epoch.metrics(),
            validation,
            seconds: started.elapsed().as_secs_f64(),
            images_per_second: in_epoch.samples as f64 / in_epoch.seconds.total.max(f64::MIN_POSITIVE),
            samples: totals.samples,
        };
        self.state.note_epoch(report);
        let position = &mut self.state.position;
        position.epoch += 1;
        position.samples = 0;
        position.unseen = false;
        self.progress.epoch_ends(&report);
        let more = self.state.position.epoch < fit.epochs;
        if more && self.stop_signal() != 0 {
            return Err(self.stop());
        }
        if self.checkpointer.is_due(&self.state.position) {
            self.keep()?;
        }
        fit.trace.epoch_is_over();
        Ok(())
    }

    /// Steps that are left in the run, the one included that begins, whose `images` are counted already.
    fn steps_left(&self, images: usize) -> u64 {
        let Fit { dataset, batch_size, epochs, .. } = *self.fit;
        let position = &self.state.position;
        let an_epoch = dataset.train.len().div_ceil(batch_size) as u64;
        let done = position.samples.saturating_sub(images as u64) / batch_size as u64;
        (epochs - position.epoch).saturating_mul(an_epoch).saturating_sub(done)
    }

    fn stop_signal(&self) -> usize {
        self.fit.stop.load(Ordering::Relaxed)
    }

    /// Keeps the state as it is.
    fn keep(&mut self) -> Result<(), FitError> {
        self.state.position.totals = self.sums.read();
        let memories = self.memories();
        let snapshot = Snapshot { state: self.state, memories: &memories };
        let mut spans = self.fit.trace.spans();
        let started = spans.start();
        let kept = self.checkpointer.save(snapshot, self.log).map_err(FitError::Checkpoint);
        spans.end(started, Part::Phase, "checkpoint");
        kept
    }

    fn stop(&mut self) -> FitError {
        match self.keep() {
            Ok(()) => self.stopped(),
            Err(error) => error,
        }
    }

    /// Keeps the state as it was before anybody looked at the epoch's last step.
    fn stop_unseen(&mut self, unseen: &Unseen) -> FitError {
        self.state.position = unseen.position;
        let snapshot = Snapshot { state: self.state, memories: &unseen.memories };
        match self.checkpointer.save(snapshot, self.log) {
            Ok(()) => self.stopped(),
            Err(error) => FitError::Checkpoint(error),
        }
    }

    fn stopped(&self) -> FitError {
        let Position { iterations, epoch, .. } = self.state.position;
        FitError::Stopped { iterations, epoch, signal: self.stop_signal() }
    }

    fn unseen(&mut self) -> Unseen {
        self.state.position.totals = self.sums.read();
        Unseen { position: self.state.position, memories: self.memories() }
    }

    fn memories(&self) -> Memories {
        let mut memories = Memories::default();
        for watch in self.watches.iter() {
            watch.observer.remember(&mut memories);
        }
        memories
    }

    /// The end, seen in a step on the training images at these indices.
    fn diverged(&mut self, at: At, loss: f64, indices: &[u32]) -> FitError {
        let state = &self.state;
        let before = state.parameters.views_of(&state.previous);
        let batch = Batch::gather(&self.fit.dataset.train, indices, self.fit.device);
        let mut non_finite = in_forward_pass(self.fit.network, &before, &batch.images_nchw);
        non_finite.extend(in_backward_pass(self.fit.network, &state.parameters.views_of(&state.gradient)));
        self.report(at, loss, non_finite)
    }

    /// Tells every observer that this is the end, and returns why.
    fn report(&mut self, at: At, loss: f64, non_finite: Vec<NonFinite>) -> FitError {
        let view = View { fit: self.fit, state: self.state, predictions: None, at };
        let moment = view.moment();
        let fine_until = self.state.position.checked_iterations;
        let divergence =
            Divergence { loss, iterations: moment.iterations, epoch: moment.epoch, fine_until, non_finite };
        for watch in self.watches.iter_mut() {
            let mut said = Log::Record::default();
            watch.observer.diverged(&moment, &divergence, &mut said);
            self.log.take(said);
        }
        divergence.into()
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::data::Dataset;
    use crate::data::Split;
    use crate::model::Architecture;
    use crate::optim::Rule;
    use crate::trace::Trace;
    use crate::train::{Moment, NoCheckpoints, Observer};
    use crate::trigger::Trigger;
    use crate::types::ImageShape;
    use crate::types::Seed;

    struct Silent;

    impl Progress for Silent {
        fn epoch_starts(&mut self, _: u64, _: usize) {}
        fn samples_done(&mut self, _: usize, _: Option<Metrics>) {}
        fn epoch_ends(&mut self, _: &EpochReport) {}
    }

    /// Notes every moment it is shown.
    struct Noting;

    impl Logger for Vec<String> {
        type Record = Vec<String>;

        fn take(&mut self, mut said: Vec<String>) {
            self.append(&mut said);
        }
    }

    impl Observer<Vec<String>> for Noting {
        fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<String>) {
            let what = match moment.at {
                At::Start => "start".to_owned(),
                At::Step(totals) => format!("{} samples", totals.samples),
                At::Epoch { totals, .. } => format!("epoch {} after {} samples", moment.epoch, totals.samples),
            };
            let left_out = if moment.skipped { ", the last step left out" } else { "" };
            out.push(format!("step {}: {what}{left_out}", moment.iterations));
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
            let labels: Vec<u16> = (0..count).map(|i| (i % 2) as u16).collect();
            let pixels = labels.iter().flat_map(|label| vec![*label as u8 * 200; shape.len()]).collect();
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
        train_without(&BTreeSet::new(), learning_rate, batch_size, stop, out)
    }

    fn train_without(
        left_out: &BTreeSet<u64>,
        learning_rate: f64,
        batch_size: usize,
        stop: usize,
        out: &mut Vec<String>,
    ) -> (TrainState, Result<Outcome, FitError>) {
        let dataset = dataset();
        let architecture = Architecture { conv_filters: vec![2], kernel_size: 3, dense_units: 4 };
        let network = Arc::new(architecture.build(dataset.train.shape(), 2).unwrap());
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
            precision: Precision::F32,
            on_non_finite: OnNonFinite::Stop,
            left_out,
            stop: &AtomicUsize::new(stop),
            trace: &Trace::default(),
        };
        let mut watches = [
            ScheduledObserver::new(Trigger::start().or(Trigger::every_steps(2)), Box::new(Noting), "steps"),
            ScheduledObserver::new(Trigger::every_epochs(1), Box::new(Noting), "epochs"),
        ];
        let outcome = fit(&how, &mut state, &mut watches, out, &mut NoCheckpoints, &mut Silent);
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
        let error = train(0.1, 15, &mut Vec::new()).1.unwrap_err();
        assert_eq!(error.to_string(), "stopped after step 1 (epoch 1)");
        assert_eq!(error.exit(), Exit::TemporaryFailure);
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
    fn an_epoch_without_a_step_is_none() {
        let mut seen = Vec::new();
        // Of three steps an epoch.
        let (state, outcome) = train_without(&BTreeSet::from([2, 4, 5, 6]), 0.1, 20, 0, &mut seen);
        let error = outcome.unwrap_err();
        let want = "no step of epoch 2 could be applied: every loss or gradient was non-finite, or the step was excluded \
                    after a rollback; use a smaller learning rate";
        assert_eq!((error.to_string().as_str(), error.exit()), (want, Exit::Data));
        assert_eq!(seen, ["step 0: start", "step 3: epoch 0 after 30 samples"]);
        assert_eq!((state.position.epoch, state.position.skipped), (1, 4));
    }

    #[test]
    fn who_looks_at_a_step_that_was_left_out_is_told() {
        let mut seen = Vec::new();
        train_without(&BTreeSet::from([3]), 0.1, 20, 0, &mut seen).1.unwrap();
        let want = [
            "step 0: start",
            "step 2: 40 samples",
            "step 3: epoch 0 after 40 samples, the last step left out",
            "step 4: 60 samples",
            "step 6: 90 samples",
            "step 6: epoch 1 after 90 samples",
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn a_batch_larger_than_the_data_set_costs_no_memory_for_what_is_not_there() {
        let outcome = train_batches(0.1, 1 << 40, 0, &mut Vec::new()).1.unwrap();
        assert_eq!(outcome.iterations, 2);
    }
}
