//! The result of a run: `result.json`, written last, whose presence marks the run as finished.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use super::line::Status;
use crate::durable::{self, WriteError};
use crate::exit::{Classify, Exit};

/// The version of the format.
const VERSION: u32 = 1;
/// Bytes of a result, at most.
const LONGEST: u64 = 1 << 20;

/// What came of a finished run. Losses are mean cross-entropies in nats, accuracies shares from 0 to 1; what is not
/// finite is `null` in the file, and NaN when it is read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub version: u32,
    pub status: Status,
    /// Whole epochs.
    pub epochs: u64,
    /// Optimizer steps of the whole run; what a rollback took back does not count.
    pub iterations: u64,
    #[serde(deserialize_with = "number")]
    pub train_loss: f64,
    #[serde(deserialize_with = "number")]
    pub train_accuracy: f64,
    #[serde(deserialize_with = "number")]
    pub validation_loss: f64,
    #[serde(deserialize_with = "number")]
    pub validation_accuracy: f64,
    #[serde(deserialize_with = "number")]
    pub best_validation_accuracy: f64,
    /// Of all processes that worked on the run, as far as checkpoints tell.
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
    /// Share of the time of training steps and observers that observers took, 0 to 1.
    #[serde(deserialize_with = "number")]
    pub observers_share: f64,
    /// Entries of the event log that could not be written.
    pub lost_log_entries: u64,
    /// Bytes of the event log, by kind.
    pub log_bytes: BTreeMap<String, u64>,
    /// Processes that worked on the run; 1 if it was never interrupted.
    #[serde(default = "once")]
    pub attempts: u32,
    /// The step at which the run ended, as the journal counts: `iterations` by another name.
    #[serde(default)]
    pub step: u64,
    /// Steps that were not applied, as their loss or gradient was not finite.
    #[serde(default)]
    pub skipped_steps: u64,
    /// Times that the run went back to a checkpoint.
    #[serde(default)]
    pub rollbacks: u64,
    /// The newest checkpoint, relative to the run's directory.
    #[serde(default)]
    pub checkpoint: Option<String>,
    /// Seconds since the epoch at which the first process began; `null` where it is not known.
    #[serde(default)]
    pub started: Option<f64>,
    /// Seconds since the epoch at which the run was finished; `null` where it is not known.
    #[serde(default)]
    pub ended: Option<f64>,
}

/// Why a result cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a file, want the result of a run", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is longer than {LONGEST} bytes, which no result of a run is", path.display())]
    TooLong { path: PathBuf },
    #[error("{} is not the result of a run: {source}", path.display())]
    Syntax { path: PathBuf, source: serde_json::Error },
    #[error(
        "{} is of version {found}, this program knows version {VERSION}; read it with a newer one", path.display()
    )]
    Version { path: PathBuf, found: u64 },
}

impl Classify for ResultError {
    fn exit(&self) -> Exit {
        match self {
            ResultError::Read { source, .. } => Exit::of_input(source),
            ResultError::NotAFile { .. } => Exit::NoInput,
            ResultError::TooLong { .. } | ResultError::Syntax { .. } | ResultError::Version { .. } => Exit::Data,
        }
    }
}

/// What every version says.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

impl RunResult {
    /// The version that this program writes.
    pub const VERSION: u32 = VERSION;

    /// Writes the result so that a crash leaves it whole or leaves none.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| WriteError { path: path.to_owned(), source: error.into() })?;
        bytes.push(b'\n');
        durable::write(path, &bytes)
    }

    /// Reads a result back. Fields that this version does not know are passed over; those that older programs did not
    /// write have the value of a run that was never interrupted.
    pub fn read(path: &Path) -> Result<RunResult, ResultError> {
        let bytes = read(path)?;
        let syntax = |source| ResultError::Syntax { path: path.to_owned(), source };
        let Versioned { version } = serde_json::from_slice(&bytes).map_err(syntax)?;
        if version != u64::from(VERSION) {
            return Err(ResultError::Version { path: path.to_owned(), found: version });
        }
        let mut result: RunResult = serde_json::from_slice(&bytes).map_err(syntax)?;
        if result.step == 0 {
            result.step = result.iterations;
        }
        Ok(result)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ResultError> {
    let error = |source| ResultError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(error)?.is_file() {
        return Err(ResultError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(error)?.take(LONGEST + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > LONGEST {
        return Err(ResultError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

/// A number, or the `null` that stands for one that is not finite.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn once() -> u32 {
    1
}
