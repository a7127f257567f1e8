//! State, progress, accuracy and size of one run, read from its directory.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::lock::{self, Lock};
use super::progress::{Checkpoint, JournalEnd, LONGEST_FILE, Outcome, reason};
use super::{CHECKPOINTS, CONFIG, JOURNAL, LOCK, RESULT, WEIGHTS};
use crate::config::{Config, Layers};
use crate::run_dir;
use crate::types::WallTime;

/// Maximum entries counted for the size of a run.
const MOST_ENTRIES: u64 = 1_000_000;

/// A run, possibly incomplete. Unknown numbers are `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub path: PathBuf,
    pub state: State,
    /// Of the last known epoch, from 0 to 1.
    pub validation_accuracy: Option<f64>,
    /// Of the best epoch, from 0 to 1.
    pub best_validation_accuracy: Option<f64>,
    /// Epochs done.
    pub epochs: Option<u64>,
    /// Epochs that the configuration requests.
    pub epochs_asked: Option<u64>,
    /// Optimizer steps done.
    pub step: Option<u64>,
    /// Step of the newest checkpoint.
    pub checkpoint: Option<u64>,
    /// Time of its end or its last activity: the modification time of the youngest of its own files.
    pub active: WallTime,
    /// True if trained weights exist.
    pub has_weights: bool,
}

/// State of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Finished,
    /// A process trains it now; `pid` is its number, if the lock file contains it.
    Running {
        pid: Option<u32>,
    },
    /// Has a checkpoint to resume from.
    Stopped,
    /// Has no checkpoint to resume from.
    Unfinished,
    /// The last process ended with the error `why`. With a checkpoint the run can still be resumed.
    Failed {
        why: String,
    },
    /// A part of it cannot be read.
    Damaged {
        why: String,
    },
}

/// Disk usage of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Size of the allocated blocks, as `du` counts; a file with several hard links counts once.
    pub bytes: u64,
    /// Not everything could be counted.
    pub is_partial: bool,
    /// There is a run within the run.
    pub holds_a_run: bool,
}

impl Run {
    /// Reads the run in `path`.
    pub fn read(path: &Path) -> Run {
        Run::with_lock(path, &lock::probe(path))
    }

    /// As [`read`](Run::read), with a known lock state.
    pub(super) fn with_lock(path: &Path, lock: &Lock) -> Run {
        let mut faults = Vec::new();
        let config = match read_config(path) {
            Ok(table) => table,
            Err(fault) => {
                faults.push(fault);
                toml::Table::new()
            }
        };
        let mut outcome = Outcome::read(path).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        let checkpoint = Checkpoint::newest(path).unwrap_or_else(|fault| {
            // A run with a result needs no checkpoint.
            faults.extend(outcome.is_none().then_some(fault));
            None
        });
        if let Lock::Unknown(error) = lock {
            faults.push(format!("{LOCK}: {}", reason(error)));
        }
        let is_running = matches!(lock, Lock::Held(_));
        if is_running {
            // The result of a resumed run is outdated.
            outcome = None;
        }
        let journal = if outcome.is_none() { JournalEnd::read(path) } else { JournalEnd::default() };
        let kept = checkpoint.as_ref().map(|checkpoint| checkpoint.progress).unwrap_or_default();
        let said = match &outcome {
            Some(outcome) => outcome.progress,
            None if is_running => journal.progress.or(kept),
            // Progress after the checkpoint is lost.
            None if checkpoint.is_some() => kept,
            None => journal.progress,
        };
        let mut signs = vec![path.join(RESULT)];
        if outcome.is_none() {
            signs.extend([CONFIG, LOCK, CHECKPOINTS, JOURNAL].map(|name| path.join(name)));
            signs.extend(checkpoint.as_ref().map(|checkpoint| checkpoint.path.clone()));
        }
        let state = match (lock, outcome) {
            (Lock::Held(pid), _) => State::Running { pid: *pid },
            _ if !faults.is_empty() => State::Damaged { why: faults.join("; ") },
            (_, Some(outcome)) if outcome.status == "finished" => State::Finished,
            (_, Some(outcome)) => State::Failed { why: outcome.status },
            (_, None) => match journal.failure {
                Some(why) => State::Failed { why },
                None if checkpoint.is_some() => State::Stopped,
                None => State::Unfinished,
            },
        };
        let epochs_asked = config.get("epochs").and_then(toml::Value::as_integer);
        Run {
            path: path.to_owned(),
            state,
            validation_accuracy: said.accuracy,
            best_validation_accuracy: said.best,
            epochs: said.epochs,
            epochs_asked: epochs_asked.and_then(|epochs| u64::try_from(epochs).ok()),
            step: said.step,
            checkpoint: checkpoint.map(|checkpoint| checkpoint.step),
            active: signs.iter().filter_map(|path| modified(path)).fold(WallTime::default(), latest),
            has_weights: path.join(WEIGHTS).symlink_metadata().is_ok_and(|found| found.is_file() && found.len() > 0),
        }
    }

    /// True if the network has the layers of `config` and learned the same data set, so that its weights fit.
    pub fn has_network_of(&self, config: &Config) -> bool {
        let path = self.path.join(CONFIG);
        let mut layers = Layers::new();
        // The safe reader comes first: the file may be a pipe.
        let own = lock::read(&path, LONGEST_FILE).is_ok().then(|| layers.file(&path).and_then(|()| layers.resolve()));
        matches!(own, Some(Ok(own)) if own.config.architecture == config.architecture && own.config.dataset == config.dataset)
    }

    /// True if `path` is its directory, under any name.
    pub fn is_in(&self, path: &Path) -> bool {
        match (self.path.canonicalize(), path.canonicalize()) {
            (Ok(own), Ok(other)) => own == other,
            _ => self.path == path,
        }
    }

    /// Disk usage of everything in it. Links are not followed.
    pub fn size(&self) -> Size {
        // A block of `stat` has 512 bytes, regardless of the file system's block size.
        let taken = |metadata: &Metadata| metadata.blocks().saturating_mul(512);
        let own = self.path.symlink_metadata();
        let mut size = Size { bytes: own.as_ref().map_or(0, taken), ..Size::default() };
        let mut seen = BTreeSet::new();
        let mut left = MOST_ENTRIES;
        let mut dirs = vec![self.path.clone()];
        while let Some(dir) = dirs.pop() {
            let Ok(entries) = std::fs::read_dir(&dir) else {
                size.is_partial = true;
                continue;
            };
            for entry in entries {
                let metadata = entry.as_ref().map_err(|_| ()).and_then(|entry| entry.metadata().map_err(|_| ()));
                let (Ok(entry), Ok(metadata)) = (entry, metadata) else {
                    size.is_partial = true;
                    continue;
                };
                if left == 0 {
                    size.is_partial = true;
                    return size;
                }
                left -= 1;
                if metadata.is_dir() {
                    size.holds_a_run |= run_dir::is_run(&entry.path());
                    dirs.push(entry.path());
                } else if metadata.nlink() > 1 && !seen.insert((metadata.dev(), metadata.ino())) {
                    continue;
                }
                size.bytes = size.bytes.saturating_add(taken(&metadata));
            }
        }
        size
    }
}

impl State {
    /// Name of the state.
    pub fn name(&self) -> &'static str {
        match self {
            State::Finished => "finished",
            State::Running { .. } => "running",
            State::Stopped => "stopped",
            State::Unfinished => "unfinished",
            State::Failed { .. } => "failed",
            State::Damaged { .. } => "damaged",
        }
    }

    /// Names of all states.
    pub const NAMES: [&str; 6] = ["finished", "running", "stopped", "unfinished", "failed", "damaged"];
}

fn read_config(run: &Path) -> Result<toml::Table, String> {
    let bytes = lock::read(&run.join(CONFIG), LONGEST_FILE).map_err(|error| format!("{CONFIG}: {}", reason(&error)))?;
    let text = String::from_utf8(bytes).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| format!("{CONFIG}: not TOML"))
}

fn modified(path: &Path) -> Option<WallTime> {
    let modified: SystemTime = path.symlink_metadata().ok()?.modified().ok()?;
    WallTime::from_secs(modified.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}

fn latest(a: WallTime, b: WallTime) -> WallTime {
    if b > a { b } else { a }
}
