//! One run as its directory tells of it: state, progress, accuracy, size.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::lock::{self, Lock};
use super::{CHECKPOINT, CHECKPOINTS, CONFIG, LOCK, MANIFEST, RESULT, WEIGHTS};
use crate::config::{Config, Layers};
use crate::types::WallTime;

/// Longer files are none of ours.
const LONGEST_FILE: u64 = 1 << 20;
/// Entries of the directory of checkpoints that are looked at.
const MOST_CHECKPOINTS: usize = 10_000;
/// Checkpoints whose manifest is tried, the newest first.
const TRIED: usize = 8;
/// Entries that are counted for the size of a run.
const MOST_ENTRIES: u64 = 1_000_000;
/// As much of a file's word as a state tells, in characters.
const LONGEST_WORD: usize = 40;

/// A run, or what is left of one. Numbers are there where the run says them.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub path: PathBuf,
    pub state: State,
    /// From 0 to 1: of the last epoch that is known of.
    pub validation_accuracy: Option<f64>,
    /// From 0 to 1: of the best epoch.
    pub best_validation_accuracy: Option<f64>,
    /// Epochs done.
    pub epochs: Option<u64>,
    /// Epochs that the configuration asks for.
    pub epochs_asked: Option<u64>,
    /// Optimizer steps done.
    pub step: Option<u64>,
    /// When it ended, or else gave its last sign of life: the time of the youngest of its own files.
    pub active: WallTime,
    /// Whether trained weights are there.
    pub has_weights: bool,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Finished,
    /// A process trains it now; its number, where the lock tells.
    Running {
        pid: Option<u32>,
    },
    /// Has a checkpoint to go on from.
    Stopped,
    /// Has nothing to go on from.
    Unfinished,
    /// Ended otherwise, in the result's own word.
    Failed {
        status: String,
    },
    /// Something in it cannot be read.
    Damaged {
        why: String,
    },
}

/// What a run takes of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// In blocks that are taken, as `du` counts; what has several names counts once.
    pub bytes: u64,
    /// Not everything could be counted.
    pub is_partial: bool,
    /// There is a run within the run.
    pub holds_a_run: bool,
}

impl Run {
    /// Whether `dir` is a run: something says what was trained, or that somebody trained. Links are not followed.
    pub(super) fn is_at(dir: &Path) -> bool {
        let has = |name: &str| dir.join(name).symlink_metadata().is_ok();
        let has_checkpoints = || dir.join(CHECKPOINTS).symlink_metadata().is_ok_and(|found| found.is_dir());
        match (has(CONFIG), has(LOCK)) {
            (true, true) => true,
            (false, false) => false,
            _ => has(RESULT) || has_checkpoints(),
        }
    }

    /// Reads what the run in `path` says of itself.
    pub fn read(path: &Path) -> Run {
        Run::with_lock(path, &lock::look(path))
    }

    /// The same when the lock is already known.
    pub(super) fn with_lock(path: &Path, lock: &Lock) -> Run {
        let mut faults = Vec::new();
        let mut fault = |name: &str, why: &dyn fmt::Display| faults.push(format!("{name}: {why}"));
        let config = match lock::read(&path.join(CONFIG), LONGEST_FILE) {
            Ok(bytes) => match String::from_utf8(bytes).ok().and_then(|text| text.parse::<toml::Table>().ok()) {
                Some(table) => Some(table),
                None => {
                    fault(CONFIG, &"not TOML");
                    None
                }
            },
            Err(error) => {
                fault(CONFIG, &reason(&error));
                None
            }
        };
        let result = match lock::read(&path.join(RESULT), LONGEST_FILE) {
            Ok(bytes) => match serde_json::from_slice::<Value>(&bytes) {
                Ok(result) if result["status"].is_string() => Some(result),
                Ok(_) => {
                    fault(RESULT, &"says no status");
                    None
                }
                Err(_) => {
                    fault(RESULT, &"not JSON");
                    None
                }
            },
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    fault(RESULT, &reason(&error));
                }
                None
            }
        };
        let checkpoint = match Checkpoint::newest(path) {
            Ok(checkpoint) => checkpoint,
            Err(why) => {
                fault(CHECKPOINTS, &why);
                None
            }
        };
        if let Lock::Unknown(error) = lock {
            fault(LOCK, &reason(error));
        }

        let is_running = matches!(lock, Lock::Held(_));
        let state = match (lock, &result) {
            (Lock::Held(pid), _) => State::Running { pid: *pid },
            _ if !faults.is_empty() => State::Damaged { why: faults.join("; ") },
            (_, Some(result)) => match result["status"].as_str().unwrap_or_default() {
                "finished" => State::Finished,
                other => State::Failed { status: word(other) },
            },
            _ if checkpoint.is_some() => State::Stopped,
            _ => State::Unfinished,
        };
        // A run that goes on has left its result behind.
        let said = match (&result, &checkpoint) {
            (Some(result), checkpoint) if !is_running || checkpoint.is_none() => Said::in_result(result),
            (_, Some(checkpoint)) => checkpoint.said,
            _ => Said::default(),
        };
        let ended = result.is_some() && !is_running;
        let mut signs = vec![path.join(RESULT)];
        if !ended {
            signs.extend([CONFIG, LOCK, CHECKPOINTS, "metrics.jsonl"].map(|name| path.join(name)));
            signs.extend(checkpoint.map(|checkpoint| checkpoint.path));
        }
        let epochs_asked = config.as_ref().and_then(|table| table.get("epochs")).and_then(toml::Value::as_integer);
        Run {
            path: path.to_owned(),
            state,
            validation_accuracy: said.accuracy,
            best_validation_accuracy: said.best,
            epochs: said.epochs,
            epochs_asked: epochs_asked.and_then(|epochs| u64::try_from(epochs).ok()),
            step: said.step,
            active: signs.iter().filter_map(|path| modified(path)).fold(WallTime::default(), latest),
            has_weights: path.join(WEIGHTS).symlink_metadata().is_ok_and(|found| found.is_file() && found.len() > 0),
        }
    }

    /// Whether its network has the layers that `config` describes, and learned the same data set, so that its weights fit.
    pub fn has_network_of(&self, config: &Config) -> bool {
        let path = self.path.join(CONFIG);
        let mut layers = Layers::new();
        // Read once with care first: the file may be a pipe.
        let own = lock::read(&path, LONGEST_FILE).is_ok().then(|| layers.file(&path).and_then(|()| layers.resolve()));
        matches!(own, Some(Ok(own)) if own.config.architecture == config.architecture && own.config.dataset == config.dataset)
    }

    /// Whether `path` is its directory, by whatever name.
    pub fn is_in(&self, path: &Path) -> bool {
        match (self.path.canonicalize(), path.canonicalize()) {
            (Ok(own), Ok(other)) => own == other,
            _ => self.path == path,
        }
    }

    /// Goes through all that is in it, and follows no link.
    pub fn size(&self) -> Size {
        // A block of `stat` has 512 bytes, whatever the file system's have.
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
                size.holds_a_run |= dir != self.path && entry.file_name() == LOCK;
                if metadata.is_dir() {
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
    /// Its one word.
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

    /// The words of all states.
    pub const NAMES: [&str; 6] = ["finished", "running", "stopped", "unfinished", "failed", "damaged"];
}

/// What a result or a checkpoint says of progress.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    accuracy: Option<f64>,
    best: Option<f64>,
    epochs: Option<u64>,
    step: Option<u64>,
}

impl Said {
    fn in_result(result: &Value) -> Said {
        Said {
            accuracy: share(&result["validation_accuracy"]),
            best: share(&result["best_validation_accuracy"]),
            epochs: result["epochs"].as_u64(),
            step: result["iterations"].as_u64(),
        }
    }

    fn in_manifest(manifest: &Value) -> Said {
        let facts = &manifest["facts"];
        Said {
            accuracy: share(&facts["validation_accuracy"]),
            best: share(&facts["best_validation_accuracy"]),
            epochs: facts["epoch"].as_u64(),
            step: manifest["step"].as_u64(),
        }
    }
}

struct Checkpoint {
    path: PathBuf,
    said: Said,
}

impl Checkpoint {
    /// The newest one whose manifest can be read; an error when there are some and none can.
    fn newest(run: &Path) -> Result<Option<Checkpoint>, String> {
        let dir = run.join(CHECKPOINTS);
        match dir.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(reason(&error)),
            Ok(found) if !found.is_dir() => return Err("not a directory".to_owned()),
            Ok(_) => {}
        }
        let entries = std::fs::read_dir(&dir).map_err(|error| reason(&error))?;
        let mut steps: Vec<u64> = entries.take(MOST_CHECKPOINTS).flatten().filter_map(|e| step_of(&e)).collect();
        steps.sort_unstable();
        let mut why = None;
        for step in steps.iter().rev().take(TRIED) {
            let name = format!("{CHECKPOINT}{step:012}");
            let path = dir.join(&name);
            let manifest = lock::read(&path.join(MANIFEST), LONGEST_FILE).map_err(|error| reason(&error));
            match manifest.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|_| "not JSON".to_owned())) {
                Ok(manifest) => {
                    let mut said = Said::in_manifest(&manifest);
                    said.step = said.step.or(Some(*step));
                    return Ok(Some(Checkpoint { path, said }));
                }
                Err(fault) => why = why.or(Some(format!("{name}/{MANIFEST}: {fault}"))),
            }
        }
        why.map_or(Ok(None), Err)
    }
}

fn step_of(entry: &std::fs::DirEntry) -> Option<u64> {
    let name = entry.file_name();
    let digits = name.to_str()?.strip_prefix(CHECKPOINT)?;
    let is_step = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit());
    if is_step && entry.file_type().is_ok_and(|kind| kind.is_dir()) { digits.parse().ok() } else { None }
}

/// A share of 1, as an accuracy is.
fn share(value: &Value) -> Option<f64> {
    value.as_f64().filter(|share| (0.0..=1.0).contains(share))
}

/// The error without its number, which says nothing more.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::NotFound => "missing".to_owned(),
        _ => text.split(" (os error").next().unwrap_or_default().to_lowercase(),
    }
}

fn word(text: &str) -> String {
    text.chars().take(LONGEST_WORD).flat_map(char::escape_debug).collect()
}

fn modified(path: &Path) -> Option<WallTime> {
    let modified: SystemTime = path.symlink_metadata().ok()?.modified().ok()?;
    WallTime::from_secs(modified.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}

fn latest(a: WallTime, b: WallTime) -> WallTime {
    if b > a { b } else { a }
}
