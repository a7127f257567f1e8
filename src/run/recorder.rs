//! Records written during training: lines of the journal, metrics for Prometheus.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::FinishedRun;
use super::profile::Profile;
use crate::config::Resolved;
use crate::files::Dir;
use crate::records::{EpochMetrics, Journal, JournalError, Line, Objective, RunMetrics, Status, Textfile};
use crate::records::{latest, settings};
use crate::run_dir::JOURNAL;
use crate::train::{EpochReport, Metrics, Position, Progress, Skip};
use crate::types::{Clock, WallTime};

/// The journal, once open, and the optional metrics file. Write errors do not stop training.
pub(super) struct RunRecorder {
    clock: Arc<dyn Clock>,
    began: Instant,
    learning_rate: f64,
    journal: Option<Journal>,
    textfile: Option<Textfile>,
    metrics: RunMetrics,
    last: Option<EpochReport>,
}

impl RunRecorder {
    pub fn new(resolved: &Resolved, textfile: Option<Textfile>, clock: Arc<dyn Clock>) -> RunRecorder {
        let metrics = RunMetrics::default();
        let learning_rate = resolved.config.learning_rate;
        RunRecorder { clock, began: Instant::now(), learning_rate, journal: None, textfile, metrics, last: None }
    }

    /// Opens the journal of the run in `dir` and returns this process's number in the run, from 1.
    pub fn open(&mut self, dir: &Dir, at_least: u32) -> Result<u32, JournalError> {
        let next = Journal::next_attempt(&dir.path().join(JOURNAL)).unwrap_or_else(|error| {
            tracing::warn!("{error}");
            1
        });
        let attempt = next.max(at_least);
        self.journal = Some(Journal::open_in(dir, JOURNAL, attempt)?);
        if let Some(textfile) = &mut self.textfile {
            textfile.hold(dir);
        }
        Ok(attempt)
    }

    pub fn start(&mut self, position: &Position, rollbacks: u32, resolved: &Resolved) {
        let texts = resolved.values().map(|(knob, text, _)| (knob.key, text));
        self.append(&Line::Start {
            step: position.iterations,
            epoch: position.epoch,
            resumed: position.iterations > 0,
            settings: settings(texts),
        });
        self.count(position);
        self.metrics.skipped_steps = position.skipped;
        self.metrics.rollbacks = rollbacks.into();
        self.last = position.last;
        self.tell(None);
    }

    pub fn epoch(&mut self, report: &EpochReport) {
        let EpochReport { train, validation, seconds, images_per_second, .. } = *report;
        let metrics = EpochMetrics {
            train_loss: train.loss,
            train_accuracy: train.accuracy,
            validation_loss: validation.loss,
            validation_accuracy: validation.accuracy,
            learning_rate: self.learning_rate,
        };
        let (step, epoch) = (report.iterations, report.epoch + 1);
        self.append(&Line::Epoch { step, epoch, seconds, images_per_second, metrics });
        self.last = Some(*report);
        self.metrics.epochs = epoch;
        self.metrics.steps = step;
        self.metrics.images = report.samples;
        self.tell(None);
    }

    /// Syncs the lines so far, before a checkpoint that follows them is published.
    pub fn secure(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.sync();
        }
    }

    pub fn checkpoint(&mut self, position: &Position, bytes: u64, seconds: f64) {
        self.append(&Line::Checkpoint { step: position.iterations, epoch: position.epoch, bytes, seconds });
        self.count(position);
        self.metrics.checkpoints.seconds = Some(seconds);
        self.metrics.checkpoints.bytes += bytes;
        self.metrics.checkpoints.last = Some(self.clock.now());
        self.tell(None);
    }

    pub fn checkpoint_failed(&mut self) {
        self.metrics.checkpoints.failures += 1;
    }

    fn skipped(&mut self, step: u64, why: Skip) {
        self.append(&Line::Skipped { step, reason: why.to_string() });
        self.metrics.skipped_steps += 1;
    }

    pub fn rollback(&mut self, from_step: u64, to_step: u64) {
        self.append(&Line::Rollback { from_step, to_step });
        self.metrics.rollbacks += 1;
    }

    /// Sets the number of event log entries lost by this process.
    pub fn lost_entries(&mut self, entries: u64) {
        self.metrics.event_write_errors = entries;
    }

    /// Sets the position of a process that ends between two records.
    pub fn at(&mut self, step: u64, epoch: u64) {
        (self.metrics.steps, self.metrics.epochs) = (step, epoch);
    }

    /// Stops writing to the journal, which may belong to another process by now.
    pub fn leave(&mut self) {
        self.journal = None;
    }

    /// Writes the last line and the final metrics.
    pub fn end(&mut self, status: Status, error: Option<String>, exit_code: u8) {
        let objective = Objective::validation_accuracy(self.last.map_or(f64::NAN, |report| report.validation.accuracy));
        let (step, epoch) = (self.metrics.steps, self.metrics.epochs);
        self.append(&Line::Final { status, step, epoch, objective, error, exit_code });
        self.secure();
        self.tell(Some(exit_code));
    }

    /// Writes the last line for a process that finished the run but ended before writing it.
    pub fn end_of_another(&mut self, dir: &Dir, finished: &FinishedRun) {
        // The previous owner of the lock may have written it meanwhile.
        if !lacks_end(&dir.path().join(JOURNAL)) {
            return;
        }
        if let Err(error) = self.open(dir, 1) {
            tracing::warn!("{error}");
            return;
        }
        let objective = Objective::validation_accuracy(finished.validation_accuracy.unwrap_or(f64::NAN));
        let (step, epoch) = (finished.iterations.unwrap_or(0), finished.epochs.unwrap_or(0));
        self.append(&Line::Final { status: Status::Finished, step, epoch, objective, error: None, exit_code: 0 });
        self.secure();
    }

    /// Writes the metrics of a run that was already finished.
    pub fn already_finished(&mut self, finished: &FinishedRun) {
        self.at(finished.iterations.unwrap_or(0), finished.epochs.unwrap_or(0));
        self.metrics.validation_accuracy = finished.validation_accuracy;
        self.metrics.validation_loss = finished.validation_loss;
        self.metrics.succeeded = finished.ended.and_then(WallTime::from_secs);
        self.tell(Some(0));
    }

    fn count(&mut self, position: &Position) {
        self.metrics.epochs = position.epoch;
        self.metrics.steps = position.iterations;
        self.metrics.images = position.totals.samples;
    }

    fn append(&mut self, line: &Line) {
        if let Some(journal) = &mut self.journal {
            journal.append(line, self.clock.now());
        }
    }

    fn tell(&mut self, exit_code: Option<u8>) {
        let Some(textfile) = &self.textfile else { return };
        let lost_lines = self.journal.as_ref().map_or(0, Journal::lost);
        let metrics = RunMetrics {
            now: self.clock.now(),
            seconds: self.began.elapsed().as_secs_f64(),
            exit_code,
            validation_accuracy: self
                .last
                .map(|report| report.validation.accuracy)
                .or(self.metrics.validation_accuracy),
            validation_loss: self.last.map(|report| report.validation.loss).or(self.metrics.validation_loss),
            event_write_errors: self.metrics.event_write_errors + lost_lines,
            ..self.metrics
        };
        if let Err(error) = textfile.write(&metrics) {
            tracing::warn!("{error}");
        }
    }
}

/// True if the journal can be read and does not say that the run is finished.
pub(super) fn lacks_end(path: &Path) -> bool {
    let Ok(reading) = Journal::read(path) else { return false };
    let newest = latest(&reading.lines);
    let is_end = |line: &&serde_json::Value| line["kind"] == "final" && line["status"] == "finished";
    !newest.iter().any(is_end)
}

/// Records the progress of the training loop and passes it to the console.
pub(super) struct RecordedProgress<'a> {
    pub recorder: &'a RefCell<RunRecorder>,
    pub profile: &'a Profile,
    pub console: &'a mut dyn Progress,
}

impl Progress for RecordedProgress<'_> {
    fn epoch_starts(&mut self, epoch: u64, samples: usize) {
        self.profile.write_if_complete();
        self.console.epoch_starts(epoch, samples);
    }

    fn samples_done(&mut self, samples: usize, metrics: Option<Metrics>) {
        self.console.samples_done(samples, metrics);
    }

    fn step_skipped(&mut self, step: u64, why: Skip) {
        self.recorder.borrow_mut().skipped(step, why);
        self.console.step_skipped(step, why);
    }

    fn epoch_ends(&mut self, report: &EpochReport) {
        self.recorder.borrow_mut().epoch(report);
        self.console.epoch_ends(report);
    }
}
