//! Checkpoints of a run: schedule, metadata in the manifest, and retention.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::recorder::RunRecorder;
use super::state_files::{self, StateError};
use crate::checkpoint::{Best, Checkpoint, Retention, Store, StoreError};
use crate::config::{Cadence, Config, KeepBest};
use crate::data::{Changed, Dataset};
use crate::eventlog::Tally;
use crate::exit::{Classify, Exit};
use crate::observe::Log;
use crate::run_dir::{LostDir, RunDir};
use crate::train::{Checkpointer, Position, Snapshot};
use crate::types::Step;
use crate::weights::Weights;

/// Delays before each retry of a checkpoint: a disk may be full for a moment. Short enough for the few seconds that a
/// container has between the request to stop and its kill.
const WAITS: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// Interval between checks that the run's directory still exists.
const DIR_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Checkpoint metadata: all state that is not in the tensor files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CheckpointMetadata {
    /// The settings that must not change within a run, as typed.
    pub settings: BTreeMap<String, String>,
    pub dataset: DatasetIdentity,
    /// Kind of device: on another one, results differ in their bits.
    pub device: String,
    /// Whole epochs. If the checkpoint is from the end of an epoch, the next two fields are that epoch's metrics.
    pub epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    pub optimizer_steps: u64,
    pub position: Position,
    #[serde(rename = "ledger")]
    pub counters: RunCounters,
}

/// Identity of a run's data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DatasetIdentity {
    pub name: String,
    /// Hash of every pixel and label.
    pub blake3: String,
}

/// Counters over all processes of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct RunCounters {
    /// Processes that trained, this one included.
    pub attempts: u32,
    /// Start of the first process, in seconds since 1970.
    pub started: Option<f64>,
    pub rollbacks: u32,
    /// Steps skipped because of rollbacks.
    pub left_out: BTreeSet<u64>,
    pub seconds: f64,
    pub lost_entries: u64,
    pub log_bytes: Tally,
}

impl CheckpointMetadata {
    pub fn of(checkpoint: &Checkpoint) -> Result<CheckpointMetadata, StateError> {
        serde_json::from_value(Value::Object(checkpoint.facts.clone()))
            .map_err(|source| StateError::Fact { key: "facts", source })
    }
}

/// Checkpoint writer of a run in training.
pub(super) struct RunCheckpointer<'a> {
    pub dir: &'a RunDir,
    pub store: &'a Store,
    pub cadence: Cadence,
    pub retention: Retention,
    /// True if per-step curves are logged, and with them the share of time that observers took.
    pub shows_share: bool,
    /// Total epochs of the run.
    pub epochs: u64,
    pub settings: BTreeMap<String, String>,
    pub dataset: DatasetIdentity,
    /// The loaded data set, which must still match `dataset`.
    pub learned: &'a Dataset,
    pub device: String,
    /// Counters at the start of this process.
    pub counters: RunCounters,
    pub started: Instant,
    /// The weights of a warm start.
    pub initial: Option<&'a Weights>,
    pub latest: Instant,
    /// Time of the last check of the directory.
    pub dir_checked: Instant,
    pub recorder: &'a RefCell<RunRecorder>,
    /// Set to request a checkpoint outside the cadence.
    pub requested: &'a AtomicBool,
    /// True if the checkpoint that is due serves such a request.
    pub answers: bool,
}

/// Error from saving a snapshot.
#[derive(Debug, thiserror::Error)]
enum CheckpointError {
    #[error("{source}")]
    Store { source: StoreError },
    #[error("cannot make a checkpoint of step {step}: {source}")]
    State { step: u64, source: StateError },
    #[error("{source}")]
    Data { source: Changed },
    #[error("{source}")]
    Lost { source: LostDir },
}

impl Classify for CheckpointError {
    fn exit(&self) -> Exit {
        match self {
            CheckpointError::Store { source } => source.exit(),
            CheckpointError::State { .. } => Exit::Software,
            CheckpointError::Data { source } => source.exit(),
            CheckpointError::Lost { .. } => Exit::Io,
        }
    }
}

impl Checkpointer<Log> for RunCheckpointer<'_> {
    fn is_due(&mut self, position: &Position) -> bool {
        let epoch_ended = position.samples == 0;
        let requested = self.requested.swap(false, Ordering::Relaxed);
        self.answers = requested && self.cadence != Cadence::Off;
        if epoch_ended || self.dir_checked.elapsed() >= DIR_CHECK_INTERVAL {
            self.dir_checked = Instant::now();
            // A lost directory ends the run: a last checkpoint is attempted now.
            if self.dir.check_held().is_err() {
                return true;
            }
        }
        match self.cadence {
            Cadence::Off if requested => {
                tracing::warn!("checkpoint request ignored: checkpoints are disabled (--checkpoint-every off)");
                false
            }
            Cadence::Off => false,
            _ if requested => true,
            _ if epoch_ended && position.epoch >= self.epochs => true,
            // The best epoch is known only at the end of an epoch.
            _ if epoch_ended && self.retention.best.is_some() => true,
            Cadence::Epochs(n) => epoch_ended && position.epoch.is_multiple_of(n.get()),
            // For the last step of an epoch this is checked after the evaluation, so that the checkpoint includes it.
            Cadence::Steps(n) => position.iterations.is_multiple_of(n.get()),
            Cadence::Minutes(n) => self.latest.elapsed().as_secs() / 60 >= n.get(),
        }
    }

    fn save(&mut self, snapshot: Snapshot<'_>, log: &mut Log) -> Result<(), Box<dyn Classify + Send + Sync>> {
        let lost = |source| -> Box<dyn Classify + Send + Sync> { Box::new(CheckpointError::Lost { source }) };
        // A directory that was moved, and is still owned, gets the checkpoint before the error is returned.
        let held = match self.dir.check_held() {
            Err(source) if self.cadence == Cadence::Off || !source.is_owned() => return Err(lost(source)),
            held => held.map_err(lost),
        };
        if self.cadence == Cadence::Off {
            return Ok(());
        }
        let began = Instant::now();
        self.learned.check().map_err(|source| Box::new(CheckpointError::Data { source }) as _)?;
        let position = snapshot.state.position;
        // Logged before the last checkpoint: a process that resumes it with no steps left would log the share again.
        if self.shows_share && position.samples == 0 && position.epoch >= self.epochs {
            log.push_share(position.iterations, position.totals.seconds.observers_share());
        }
        // The event log is synced in parallel with the checkpoint.
        log.begin_to_secure();
        self.recorder.borrow_mut().secure();
        let step = position.iterations;
        let log_step = Step::new(step).unwrap_or(Step::MAX);
        let files = state_files::files(&snapshot, self.initial)
            .inspect_err(|_| log.secure(log_step))
            .map_err(|source| Box::new(CheckpointError::State { step, source }) as _)?;
        // Curves are synced before the state that follows them: no checkpoint may be newer than its log.
        let mut secured = false;
        let lost_dir = || self.dir.check_held().err().filter(|lost| !lost.is_owned());
        let metadata = || {
            secured = true;
            log.secure(log_step);
            // A directory that was emptied meanwhile stays empty.
            if let Some(lost) = lost_dir() {
                return Err(lost.to_string());
            }
            self.metadata(&snapshot, log).map_err(|error| error.to_string())
        };
        let failed = || self.recorder.borrow_mut().checkpoint_failed();
        let saved = self.store.save_patiently(step, &files, metadata, &WAITS, failed, || lost_dir().is_none());
        if !secured {
            log.secure(log_step);
        }
        let bytes = match saved {
            Ok(bytes) => bytes,
            Err(source) => {
                self.recorder.borrow_mut().checkpoint_failed();
                return Err(Box::new(CheckpointError::Store { source }));
            }
        };
        // A superfluous checkpoint is no reason to stop.
        if let Err(error) = self.store.retain(&self.retention) {
            tracing::warn!("{error}");
        }
        self.latest = Instant::now();
        let mut recorder = self.recorder.borrow_mut();
        recorder.lost_entries(log.lost_entries());
        recorder.checkpoint(&position, bytes, began.elapsed().as_secs_f64());
        if std::mem::take(&mut self.answers) && held.is_ok() {
            tracing::info!(step, "checkpoint of step {step} written on request; training continues");
        }
        held
    }
}

impl RunCheckpointer<'_> {
    fn metadata(&self, snapshot: &Snapshot<'_>, log: &Log) -> serde_json::Result<serde_json::Map<String, Value>> {
        let position = snapshot.state.position;
        let at_epoch_end = position.last.filter(|_| position.samples == 0);
        let metadata = CheckpointMetadata {
            settings: self.settings.clone(),
            dataset: self.dataset.clone(),
            device: self.device.clone(),
            epoch: position.epoch,
            validation_accuracy: at_epoch_end.map(|report| report.validation.accuracy),
            validation_loss: at_epoch_end.map(|report| report.validation.loss),
            optimizer_steps: snapshot.state.optimizer.steps(),
            position,
            counters: self.counters_now(log),
        };
        serde_json::from_value(serde_json::to_value(metadata)?)
    }

    /// Counters up to now.
    fn counters_now(&self, log: &Log) -> RunCounters {
        let mut counters = self.counters.clone();
        counters.seconds += self.started.elapsed().as_secs_f64();
        counters.lost_entries += log.lost_entries();
        counters.log_bytes.merge(&log.bytes());
        counters
    }
}

/// Retention policy from `config`.
pub(super) fn retention(config: &Config) -> Retention {
    let best = match config.keep_best {
        KeepBest::None => None,
        KeepBest::ValidationAccuracy => Some(Best::Larger("validation_accuracy".to_owned())),
        KeepBest::ValidationLoss => Some(Best::Smaller("validation_loss".to_owned())),
    };
    Retention { last: config.keep_last, best }
}
