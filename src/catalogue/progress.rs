//! Progress of a run, from its result, its newest checkpoint and the end of its journal.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::lock;
use super::{CHECKPOINTS, JOURNAL, RESULT};
use crate::checkpoint::manifest::{NAME as MANIFEST, Overview};
use crate::checkpoint::step_of;
use crate::records::{self, ResultOverview};

/// Maximum length of a file in bytes; the program writes no longer ones.
pub(super) const LONGEST_FILE: u64 = 1 << 20;
/// Bytes read from the end of a journal. The longest line, with all settings, takes 2 KiB.
const JOURNAL_END: u64 = 64 << 10;
/// Maximum entries read from the checkpoint directory.
const MOST_CHECKPOINTS: usize = 10_000;
/// Maximum number of manifests tried, from the newest.
const TRIED: usize = 8;

/// Maximum characters of a file's text that a state quotes.
const LONGEST_WORD: usize = 100;
const NOT_JSON: &str = "not JSON";

/// Numbers of a run, as far as known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub accuracy: Option<f64>,
    pub best: Option<f64>,
    pub epochs: Option<u64>,
    pub step: Option<u64>,
}

/// Content of the result file.
#[derive(Debug)]
pub(super) struct Outcome {
    /// One word, such as `finished`.
    pub status: String,
    pub progress: Progress,
}

/// A checkpoint to resume from.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub path: PathBuf,
    pub step: u64,
    pub progress: Progress,
}

/// Content of the last lines of a journal.
#[derive(Debug, Default)]
pub(super) struct JournalEnd {
    /// Of the last epoch.
    pub progress: Progress,
    /// Error of the last process.
    pub failure: Option<String>,
}

/// Error text for an invalid file, with its name.
pub(super) type Fault = String;

impl Outcome {
    /// `None` if the file is missing.
    pub fn read(run: &Path) -> Result<Option<Outcome>, Fault> {
        let fault = |why: String| format!("{RESULT}: {why}");
        let bytes = match bytes(&run.join(RESULT)) {
            Err(Unread::Missing) => return Ok(None),
            Err(unread) => return Err(fault(unread.to_string())),
            Ok(bytes) => bytes,
        };
        let result = ResultOverview::parse(&bytes).map_err(|_| fault(NOT_JSON.to_owned()))?;
        let Some(status) = result.status else { return Err(fault("says no status".to_owned())) };
        let progress = Progress {
            accuracy: result.validation_accuracy.filter(is_share),
            best: result.best_validation_accuracy.filter(is_share),
            epochs: result.epochs,
            step: result.iterations,
        };
        Ok(Some(Outcome { status: word(&status), progress }))
    }
}

impl Checkpoint {
    /// The newest checkpoint with a readable manifest; its other files are not checked. An error if there are
    /// checkpoints and none has a readable manifest.
    pub fn newest(run: &Path) -> Result<Option<Checkpoint>, Fault> {
        let fault = |why: &str| format!("{CHECKPOINTS}: {why}");
        let dir = run.join(CHECKPOINTS);
        match dir.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(&reason(&error))),
            Ok(found) if !found.is_dir() => return Err(fault("not a directory")),
            Ok(_) => {}
        }
        let entries = std::fs::read_dir(&dir).map_err(|error| fault(&reason(&error)))?;
        let mut named: Vec<(u64, PathBuf)> = entries
            .take(MOST_CHECKPOINTS)
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| Some((step_of(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        named.sort();
        let mut why = None;
        for (step, path) in named.into_iter().rev().take(TRIED) {
            let manifest = bytes(&path.join(MANIFEST))
                .and_then(|bytes| Overview::parse(&bytes).map_err(|_| Unread::Fault(NOT_JSON.to_owned())));
            match manifest {
                Ok(manifest) => {
                    let progress = Progress::in_manifest(&manifest, step);
                    return Ok(Some(Checkpoint { path, step, progress }));
                }
                Err(unread) => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    why = why.or_else(|| Some(fault(&format!("{name}/{MANIFEST}: {unread}"))));
                }
            }
        }
        why.map_or(Ok(None), Err)
    }
}

impl JournalEnd {
    /// Reads as much as is valid: a damaged journal never makes a run damaged.
    pub fn read(run: &Path) -> JournalEnd {
        let Ok(bytes) = lock::read_end(&run.join(JOURNAL), JOURNAL_END) else { return JournalEnd::default() };
        let end = records::JournalEnd::parse(&bytes);
        let epoch = end.last_epoch.unwrap_or_default();
        let progress = Progress {
            accuracy: epoch.validation_accuracy.filter(is_share),
            best: None,
            epochs: epoch.epoch,
            step: epoch.step,
        };
        JournalEnd { progress, failure: end.failure.map(|error| word(&error)) }
    }
}

impl Progress {
    fn in_manifest(manifest: &Overview, step: u64) -> Progress {
        let facts = &manifest.facts;
        let position = &facts["position"];
        Progress {
            // Within an epoch: the accuracy of the epoch before.
            accuracy: share(&facts["validation_accuracy"])
                .or_else(|| share(&position["last"]["validation"]["accuracy"])),
            best: share(&position["best_validation_accuracy"]).filter(|best| *best > 0.0),
            epochs: facts["epoch"].as_u64(),
            step: Some(manifest.step.unwrap_or(step)),
        }
    }

    /// Fills missing numbers from `other`.
    pub fn or(self, other: Progress) -> Progress {
        Progress {
            accuracy: self.accuracy.or(other.accuracy),
            best: self.best.or(other.best),
            epochs: self.epochs.or(other.epochs),
            step: self.step.or(other.step),
        }
    }
}

enum Unread {
    Missing,
    Fault(String),
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unread::Missing => "missing",
            Unread::Fault(why) => why,
        })
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, Unread> {
    lock::read(path, LONGEST_FILE).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unread::Missing,
        _ => Unread::Fault(reason(&error)),
    })
}

/// Error text without the error number, which adds nothing.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::NotFound => "missing".to_owned(),
        _ => text.split(" (os error").next().unwrap_or_default().to_lowercase(),
    }
}

/// The first `LONGEST_WORD` characters of a text.
fn word(text: &str) -> String {
    text.chars().take(LONGEST_WORD).collect()
}

/// A number from 0 to 1, such as an accuracy.
fn share(value: &Value) -> Option<f64> {
    value.as_f64().filter(is_share)
}

fn is_share(value: &f64) -> bool {
    (0.0..=1.0).contains(value)
}
