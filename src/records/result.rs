//! The result of a run: `result.json`, written last. Its presence marks the run as finished.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use super::line::Status;
use crate::durable::{self, Disk, WriteError};
use crate::exit::{Classify, Exit};
use crate::files;

/// Format version.
const VERSION: u32 = 1;
/// Maximum length of a result file in bytes.
const LONGEST: u64 = 1 << 20;

/// Result of a finished run. Losses are mean cross-entropies in nats, accuracies fractions from 0 to 1. A number that
/// is not finite is `null` in the file and NaN after reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub version: u32,
    pub status: Status,
    /// Whole epochs.
    pub epochs: u64,
    /// Optimizer steps of the whole run; steps undone by a rollback do not count.
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
    /// Time of all processes of the run, as far as checkpoints record it.
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
    /// Fraction of step and observer time spent in observers, 0 to 1.
    #[serde(deserialize_with = "number")]
    pub observers_share: f64,
    /// Entries of the event log that could not be written.
    pub lost_log_entries: u64,
    /// Bytes of the event log, by kind.
    pub log_bytes: BTreeMap<String, u64>,
    /// Processes that worked on the run; 1 if it was never interrupted.
    #[serde(default = "once")]
    pub attempts: u32,
    /// Last step of the run, under the journal's name for it; equal to `iterations`.
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
    /// BLAKE3 of `model.safetensors`, in hexadecimal.
    #[serde(default)]
    pub weights_blake3: Option<String>,
    /// The best epoch by validation metrics; `null` if an older version trained the run.
    #[serde(default)]
    pub best: Option<BestEpoch>,
    /// Start of the first process, in seconds since 1970; `null` if unknown.
    #[serde(default)]
    pub started: Option<f64>,
    /// End of the run, in seconds since 1970; `null` if unknown.
    #[serde(default)]
    pub ended: Option<f64>,
}

/// The best epoch: highest accuracy on the validation set; among equals the smallest loss, then the first one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestEpoch {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    #[serde(deserialize_with = "number")]
    pub validation_loss: f64,
    #[serde(deserialize_with = "number")]
    pub validation_accuracy: f64,
    /// File with its weights, in the run's directory; `model.safetensors` if it is the last epoch.
    pub weights: String,
    /// BLAKE3 of that file, in hexadecimal.
    pub weights_blake3: String,
}

/// Error from reading a result.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
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
            ResultError::TooLong { .. } | ResultError::Syntax { .. } | ResultError::Version { .. } => Exit::Data,
        }
    }
}

/// The field that every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

impl RunResult {
    /// The version that this program writes.
    pub const VERSION: u32 = VERSION;

    /// Writes the result atomically: a crash leaves the whole file or none.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        self.write_on(&Disk::default(), path)
    }

    /// As [`write`](RunResult::write), on `disk`.
    pub fn write_on(&self, disk: &Disk, path: &Path) -> Result<(), WriteError> {
        let bytes = self.encode().map_err(|error| WriteError { path: path.to_owned(), source: error.into() })?;
        durable::write_on(disk, path, &bytes)
    }

    /// Reads a result. Unknown fields are ignored; fields that older versions did not write get the values of a run
    /// that was never interrupted.
    pub fn read(path: &Path) -> Result<RunResult, ResultError> {
        RunResult::parse(path, &read(path)?)
    }

    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<RunResult, ResultError> {
        let syntax = |source| ResultError::Syntax { path: path.to_owned(), source };
        let Versioned { version } = serde_json::from_slice(bytes).map_err(syntax)?;
        if version != u64::from(VERSION) {
            return Err(ResultError::Version { path: path.to_owned(), found: version });
        }
        let mut result: RunResult = serde_json::from_slice(bytes).map_err(syntax)?;
        if result.step == 0 {
            result.step = result.iterations;
        }
        Ok(result)
    }

    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ResultError> {
    let path = || path.to_owned();
    files::read(&path(), LONGEST).map_err(|source| match source.kind() {
        io::ErrorKind::FileTooLarge => ResultError::TooLong { path: path() },
        _ => ResultError::Read { path: path(), source },
    })
}

/// A number; `null` becomes NaN.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn once() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> RunResult {
        RunResult {
            version: VERSION,
            status: Status::Finished,
            epochs: 5,
            iterations: 4690,
            train_loss: 0.25,
            train_accuracy: 0.9375,
            validation_loss: 0.5,
            validation_accuracy: 0.875,
            best_validation_accuracy: 0.875,
            seconds: 12.5,
            observers_share: 0.03125,
            lost_log_entries: 0,
            log_bytes: BTreeMap::from([("images".to_owned(), 1024), ("scalars".to_owned(), 512)]),
            attempts: 3,
            step: 4690,
            skipped_steps: 2,
            rollbacks: 1,
            checkpoint: Some("checkpoints/ckpt-000000004690".to_owned()),
            weights_blake3: Some("ab".repeat(32)),
            best: Some(BestEpoch {
                epoch: 4,
                validation_loss: 0.5,
                validation_accuracy: 0.875,
                weights: "best.safetensors".to_owned(),
                weights_blake3: "cd".repeat(32),
            }),
            started: Some(1_700_000_000.0),
            ended: Some(1_700_000_100.5),
        }
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.json");
        result().write(&path).unwrap();
        assert_eq!(RunResult::read(&path).unwrap(), result());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\n  \"version\": 1,\n  \"status\": \"finished\",\n  \"epochs\": 5,"), "{text}");
        assert!(text.ends_with("\n  \"ended\": 1700000100.5\n}\n"), "{text}");
    }

    #[test]
    fn what_is_not_finite_is_null_and_comes_back_as_no_number() {
        let lost = RunResult { train_loss: f64::NAN, validation_loss: f64::INFINITY, ..result() };
        let bytes = lost.encode().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains("\"train_loss\": null") && text.contains("\"validation_loss\": null"), "{text}");
        let read = RunResult::parse(Path::new("r"), &bytes).unwrap();
        assert!(read.train_loss.is_nan() && read.validation_loss.is_nan());
    }

    /// A result written by version 0.1.0 of the program.
    const OLD: &str = r#"{
      "version": 1, "status": "finished", "epochs": 3, "iterations": 24, "train_loss": 0.5, "train_accuracy": 0.75,
      "validation_loss": 0.25, "validation_accuracy": 0.875, "best_validation_accuracy": 0.875, "seconds": 1.5,
      "observers_share": 0.125, "lost_log_entries": 0, "log_bytes": {"scalars": 10}
    }"#;

    #[test]
    fn a_result_of_an_older_program_is_one_of_a_run_without_interruption() {
        let read = RunResult::parse(Path::new("r"), OLD.as_bytes()).unwrap();
        assert_eq!((read.attempts, read.step, read.skipped_steps, read.rollbacks), (1, 24, 0, 0));
        assert_eq!((read.checkpoint, read.best, read.started, read.ended), (None, None, None, None));
    }

    #[test]
    fn what_a_newer_program_adds_is_passed_over() {
        let newer = OLD.replace("\"version\": 1,", "\"version\": 1, \"of\": {\"a\": []},");
        assert_eq!(RunResult::parse(Path::new("r"), newer.as_bytes()).unwrap().epochs, 3);
    }

    #[test]
    fn errors_say_what_is_wrong_and_whose_fault_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.json");
        let shown = path.display();
        let error = RunResult::read(&path).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot read {shown}: ")), "{error}");
        assert_eq!(error.exit(), Exit::NoInput);
        let error = RunResult::read(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with(": Is a directory (os error 21)"), "{error}");
        assert_eq!(error.exit(), Exit::NoInput);
        let found = |content: &str| {
            std::fs::write(&path, content).unwrap();
            let error = RunResult::read(&path).unwrap_err();
            assert_eq!(error.exit(), Exit::Data);
            error.to_string()
        };
        let newer = OLD.replace("\"version\": 1", "\"version\": 2");
        assert_eq!(
            found(&newer),
            format!("{shown} is of version 2, this program knows version 1; read it with a newer one")
        );
        assert_eq!(
            found(&OLD.replace("24", "\"many\"")),
            format!(
                "{shown} is not the result of a run: invalid type: string \"many\", expected u64 at line 2 column 75"
            )
        );
        assert_eq!(
            found(&" ".repeat(LONGEST as usize + 1)),
            format!("{shown} is longer than {LONGEST} bytes, which no result of a run is")
        );
    }
}
