//! Checkpoints of a run: when one is due, what its manifest says, and which are kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;

use super::notes::Notes;
use super::state_files::{self, StateError};
use crate::checkpoint::{Best, Checkpoint, Retention, Store, StoreError};
use crate::config::{Cadence, Config, KeepBest};
use crate::data::{Changed, Dataset};
use crate::eventlog::Tally;
use crate::exit::{Classify, Exit};
use crate::observe::Log;
use crate::run_dir::{LostDir, RunDir};
use crate::train::{Keeper, Position, Snapshot};
use crate::types::Step;

/// Between tries to write a checkpoint: a disk may be full for a moment. Short enough for the seconds that a container
/// has between being told to end and being ended.
const WAITS: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// Between looks at the run's directory, to see whether it is still there.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What a checkpoint says besides its files: all of it that the tensors do not hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    /// The settings that make the run what it is, as typed.
    pub settings: BTreeMap<String, String>,
    pub dataset: DatasetFact,
    /// What it was computed on: another device gives other bits.
    pub device: String,
    /// Epochs done, and what the last one came to where the checkpoint is of its end.
    pub epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    pub optimizer_steps: u64,
    pub position: Position,
    pub ledger: Ledger,
}

/// The data set that a run learns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DatasetFact {
    pub name: String,
    /// Of every pixel and label.
    pub blake3: String,
}

/// What is counted over all processes of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// Processes that trained, this one included.
    pub attempts: u32,
    /// When the first of them began, in seconds since 1970.
    pub started: Option<f64>,
    pub rollbacks: u32,
    /// Steps that are left out since a rollback.
    pub left_out: BTreeSet<u64>,
    pub seconds: f64,
    pub lost_entries: u64,
    pub log_bytes: Tally,
}

impl Facts {
    pub fn of(checkpoint: &Checkpoint) -> Result<Facts, StateError> {
        serde_json::from_value(Value::Object(checkpoint.facts.clone()))
            .map_err(|source| StateError::Fact { key: "facts", source })
    }
}

/// The checkpoints of a run that is under way.
pub(super) struct Keeping<'a> {
    pub dir: &'a RunDir,
    pub store: &'a Store,
    pub cadence: Cadence,
    pub retention: Retention,
    /// Whether the curves over steps are wanted, and with them what watching cost.
    pub shows_share: bool,
    /// The epochs that the run is to have.
    pub epochs: u64,
    pub settings: BTreeMap<String, String>,
    pub dataset: DatasetFact,
    /// What is learned, which must still be what `dataset` says.
    pub learned: &'a Dataset,
    pub device: String,
    /// As it was when this process began.
    pub ledger: Ledger,
    pub started: Instant,
    /// The weights of a warm start.
    pub initial: Option<&'a Tensor>,
    pub latest: Instant,
    /// When the directory was last looked at.
    pub looked: Instant,
    pub notes: &'a RefCell<Notes>,
    /// Raised where somebody asks for a checkpoint that the cadence does not have.
    pub requested: &'a AtomicBool,
    /// The checkpoint that is due answers such a request.
    pub answers: bool,
}

/// A snapshot that could not be kept.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("{source}")]
    Store { source: StoreError },
    #[error("cannot make a checkpoint of step {step}: {source}")]
    State { step: u64, source: StateError },
    #[error("{source}")]
    Data { source: Changed },
    #[error("{source}")]
    Lost { source: LostDir },
}

impl Classify for KeepError {
    fn exit(&self) -> Exit {
        match self {
            KeepError::Store { source } => source.exit(),
            KeepError::State { .. } => Exit::Software,
            KeepError::Data { source } => source.exit(),
            KeepError::Lost { .. } => Exit::Io,
        }
    }
}

impl Keeper<Log> for Keeping<'_> {
    fn is_due(&mut self, position: &Position) -> bool {
        let epoch_ended = position.samples == 0;
        let requested = self.requested.swap(false, Ordering::Relaxed);
        self.answers = requested && self.cadence != Cadence::Off;
        if epoch_ended || self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            // Then it is the end: what can be kept is kept now.
            if self.dir.check_held().is_err() {
                return true;
            }
        }
        match self.cadence {
            Cadence::Off if requested => {
                tracing::warn!("a checkpoint is asked for, and none is written, as they are off (--checkpoint-every)");
                false
            }
            Cadence::Off => false,
            _ if requested => true,
            _ if epoch_ended && position.epoch >= self.epochs => true,
            // What is best shows at the end of an epoch alone.
            _ if epoch_ended && self.retention.best.is_some() => true,
            Cadence::Epochs(n) => epoch_ended && position.epoch.is_multiple_of(n.get()),
            // At the end of an epoch the same step comes twice: what counts is after the look.
            Cadence::Steps(n) => position.iterations.is_multiple_of(n.get()),
            Cadence::Minutes(n) => self.latest.elapsed().as_secs() / 60 >= n.get(),
        }
    }

    fn keep(&mut self, snapshot: Snapshot<'_>, log: &mut Log) -> Result<(), Box<dyn Classify + Send + Sync>> {
        let lost = |source| -> Box<dyn Classify + Send + Sync> { Box::new(KeepError::Lost { source }) };
        // One that was moved takes what is there to be kept.
        let held = match self.dir.check_held() {
            Err(source) if self.cadence == Cadence::Off || !source.is_owned() => return Err(lost(source)),
            held => held.map_err(lost),
        };
        if self.cadence == Cadence::Off {
            return Ok(());
        }
        let began = Instant::now();
        self.learned.check().map_err(|source| Box::new(KeepError::Data { source }) as _)?;
        let position = snapshot.state.position;
        // Before the last checkpoint, or a process that goes on from it, and has no step to do, would say it again.
        if self.shows_share && position.samples == 0 && position.epoch >= self.epochs {
            log.push_share(position.iterations, position.totals.seconds.observers_share());
        }
        // The log goes to the disk while the state does.
        log.begin_to_secure();
        self.notes.borrow_mut().secure();
        let step = position.iterations;
        let log_step = Step::new(step).unwrap_or(Step::MAX);
        let files = state_files::files(&snapshot, self.initial)
            .inspect_err(|_| log.secure(log_step))
            .map_err(|source| Box::new(KeepError::State { step, source }) as _)?;
        // First the curves, then the state that goes on after them: no checkpoint may be newer than its log.
        let mut secured = false;
        let lost_dir = || self.dir.check_held().err().filter(|lost| !lost.is_owned());
        let facts = || {
            secured = true;
            log.secure(log_step);
            // A directory that was emptied meanwhile stays empty.
            if let Some(lost) = lost_dir() {
                return Err(lost.to_string());
            }
            self.facts(&snapshot, log).map_err(|error| error.to_string())
        };
        let failed = || {
            self.notes.borrow_mut().checkpoint_failed();
            lost_dir().is_none()
        };
        let saved = self.store.save_patiently(step, &files, facts, &WAITS, failed);
        if !secured {
            log.secure(log_step);
        }
        let bytes = match saved {
            Ok(bytes) => bytes,
            Err(source) => {
                self.notes.borrow_mut().checkpoint_failed();
                return Err(Box::new(KeepError::Store { source }));
            }
        };
        // One too many is no reason to stop.
        if let Err(error) = self.store.retain(&self.retention) {
            tracing::warn!("{error}");
        }
        self.latest = Instant::now();
        let mut notes = self.notes.borrow_mut();
        notes.lost_entries(log.lost_entries());
        notes.checkpoint(&position, bytes, began.elapsed().as_secs_f64());
        if std::mem::take(&mut self.answers) && held.is_ok() {
            tracing::info!(step, "checkpoint of step {step} written, as was asked; training goes on");
        }
        held
    }
}

impl Keeping<'_> {
    fn facts(&self, snapshot: &Snapshot<'_>, log: &Log) -> serde_json::Result<serde_json::Map<String, Value>> {
        let position = snapshot.state.position;
        let at_epoch_end = position.last.filter(|_| position.samples == 0);
        let facts = Facts {
            settings: self.settings.clone(),
            dataset: self.dataset.clone(),
            device: self.device.clone(),
            epoch: position.epoch,
            validation_accuracy: at_epoch_end.map(|report| report.validation.accuracy),
            validation_loss: at_epoch_end.map(|report| report.validation.loss),
            optimizer_steps: snapshot.state.optimizer.steps(),
            position,
            ledger: self.ledger_now(log),
        };
        serde_json::from_value(serde_json::to_value(facts)?)
    }

    /// What has been counted up to now.
    fn ledger_now(&self, log: &Log) -> Ledger {
        let mut ledger = self.ledger.clone();
        ledger.seconds += self.started.elapsed().as_secs_f64();
        ledger.lost_entries += log.lost_entries();
        ledger.log_bytes.merge(&log.bytes());
        ledger
    }
}

/// Which checkpoints `config` wants to keep.
pub(super) fn retention(config: &Config) -> Retention {
    let best = match config.keep_best {
        KeepBest::None => None,
        KeepBest::ValidationAccuracy => Some(Best::Larger("validation_accuracy".to_owned())),
        KeepBest::ValidationLoss => Some(Best::Smaller("validation_loss".to_owned())),
    };
    Retention { last: config.keep_last, best }
}
