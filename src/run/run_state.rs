//! State of a run directory, and the check that a command may continue its run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::checkpointing::{CheckpointMetadata, DatasetIdentity};
use crate::checkpoint::{Checkpoint, Store, StoreError};
use crate::config::{Difference, Layers, Resolved};
use crate::data::{Dataset, Description};
use crate::exit::{Classify, Exit};
use crate::files;
use crate::records::ResultOverview;
use crate::run_dir::{self, CHECKPOINTS, CONFIG, DATASET, RESULT};
use crate::types::ImageShape;

/// Maximum length of a result file in bytes.
const MAX_RESULT: u64 = 1 << 20;

/// A run that was already finished.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedRun {
    pub logdir: PathBuf,
    pub epochs: Option<u64>,
    pub iterations: Option<u64>,
    pub validation_accuracy: Option<f64>,
    pub validation_loss: Option<f64>,
    /// End of the run, in seconds since 1970.
    pub ended: Option<f64>,
}

/// Error: a command cannot continue the run in a directory.
#[derive(Debug, thiserror::Error)]
pub enum RunStateError {
    #[error(
        "log directory {} holds a run with other settings:\n{}Go on with the settings as they were, start over with --fresh, \
         or choose another --logdir, with --fork-from {} to begin where this run is", path.display(), lines(differences),
        path.display()
    )]
    Changed { path: PathBuf, differences: Vec<Difference> },
    #[error(
        "log directory {} holds a run of {done} epochs, and no checkpoint from which it could go on to {wanted}; start over \
         with --fresh or choose another --logdir", path.display()
    )]
    NoCheckpoint { path: PathBuf, done: u64, wanted: u64 },
    #[error(
        "log directory {} holds a finished run, and its {file} cannot be read to tell whether it is this one; start over with \
         --fresh or choose another --logdir", path.display()
    )]
    Unreadable { path: PathBuf, file: &'static str },
    #[error("--fork-from {}: there is no checkpoint to begin from; want the directory of a run that was trained with --checkpoint-every", path.display())]
    NothingToFork { path: PathBuf },
    #[error("--fork-from {} is the run's own --logdir; name another directory for the new run", path.display())]
    ForkOfItself { path: PathBuf },
    #[error("every checkpoint in {} is damaged; bring one back from a copy, or start over with --fresh", path.display())]
    AllDamaged { path: PathBuf },
    #[error("cannot read checkpoint {}: {reason}; it may be good: look after the disk and run the same command again", path.display())]
    Unread { path: PathBuf, reason: String },
    #[error(
        "--fork-from {}: its network has other layers:\n{}Begin where it is with its network, or begin anew without \
         --fork-from", path.display(), lines(differences)
    )]
    ForkOfAnother { path: PathBuf, differences: Vec<Difference> },
    #[error("--fork-from {}: {done} epochs of that run are done, and --epochs asks for {wanted}; ask for more", path.display())]
    NothingLeft { path: PathBuf, done: u64, wanted: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("--warm-start {}: {reason}; name the directory of a finished run with the same network", path.display())]
    WarmStart { path: PathBuf, exit: Exit, reason: String },
}

impl Classify for RunStateError {
    fn exit(&self) -> Exit {
        match self {
            RunStateError::Changed { .. } | RunStateError::ForkOfAnother { .. } | RunStateError::NothingLeft { .. } => {
                Exit::Config
            }
            RunStateError::NoCheckpoint { .. }
            | RunStateError::Unreadable { .. }
            | RunStateError::ForkOfItself { .. } => Exit::CantCreate,
            RunStateError::NothingToFork { .. } => Exit::NoInput,
            RunStateError::Store(error) => error.exit(),
            RunStateError::Unread { .. } => Exit::Io,
            RunStateError::AllDamaged { .. } => Exit::Data,
            RunStateError::WarmStart { exit, .. } => *exit,
        }
    }
}

fn lines(differences: &[Difference]) -> String {
    differences.iter().map(|difference| format!("  {difference}\n")).collect()
}

/// Returns the run in `logdir` if it matches `resolved` and is finished; `None` if there is something to train.
pub(super) fn finished(logdir: &Path, resolved: &Resolved) -> Result<Option<FinishedRun>, RunStateError> {
    let is_finished = run_dir::is_finished(logdir);
    let store = Store::new(logdir.join(CHECKPOINTS));
    let has_checkpoints = store.holds()?;
    if !is_finished && !has_checkpoints {
        return Ok(None);
    }
    // Settings in a checkpoint are protected by a checksum; the configuration file may have been edited.
    let earlier = sealed_settings(&store)?.or_else(|| {
        let mut layers = Layers::new();
        let resolved = layers.file(&logdir.join(CONFIG)).ok().and_then(|()| layers.resolve().ok());
        resolved.map(|resolved| resolved.fixed())
    });
    let is_known = earlier.is_some();
    let result = is_finished.then(|| result(logdir)).flatten();
    // Unreadable files are rewritten when training resumes from a checkpoint, whose settings are compared then.
    if !has_checkpoints && (!is_known || result.is_none()) {
        let file = if is_known { RESULT } else { CONFIG };
        return Err(RunStateError::Unreadable { path: logdir.to_owned(), file });
    }
    let mut differences = earlier.map_or_else(Vec::new, |earlier| resolved.differences(&earlier));
    let done = result.as_ref().and_then(|result| result.epochs);
    let wanted = resolved.config.epochs;
    differences.extend(done.filter(|&done| wanted < done).map(|done| fewer_epochs(done, wanted)));
    if !differences.is_empty() {
        return Err(RunStateError::Changed { path: logdir.to_owned(), differences });
    }
    let Some(result) = result.filter(|_| is_known) else { return Ok(None) };
    match done {
        Some(done) if wanted > done && has_checkpoints => Ok(None),
        Some(done) if wanted > done => Err(RunStateError::NoCheckpoint { path: logdir.to_owned(), done, wanted }),
        _ => Ok(Some(FinishedRun {
            logdir: logdir.to_owned(),
            epochs: done,
            iterations: result.iterations,
            validation_accuracy: result.validation_accuracy,
            validation_loss: result.validation_loss,
            ended: result.ended,
        })),
    }
}

/// The settings in the newest readable manifest.
pub(super) fn sealed_settings(store: &Store) -> Result<Option<BTreeMap<String, String>>, RunStateError> {
    let settings = store.newest_facts()?.and_then(|mut facts| facts.remove("settings"));
    Ok(settings.and_then(|settings| serde_json::from_value(settings).ok()))
}

/// Checks that the run with this checkpoint metadata may continue with `resolved` and this data set.
pub(super) fn compare(
    metadata: &CheckpointMetadata,
    resolved: &Resolved,
    dataset: &DatasetIdentity,
    logdir: &Path,
) -> Result<(), RunStateError> {
    let mut differences = resolved.differences(&metadata.settings);
    let text = |dataset: &DatasetIdentity| format!("{} with checksum {:.12}", dataset.name, dataset.blake3);
    if metadata.dataset != *dataset {
        differences.push(Difference {
            what: "images and labels".to_owned(),
            was: text(&metadata.dataset),
            now: text(dataset),
        });
    }
    if resolved.config.epochs < metadata.position.epoch {
        differences.push(fewer_epochs(metadata.position.epoch, resolved.config.epochs));
    }
    if differences.is_empty() { Ok(()) } else { Err(RunStateError::Changed { path: logdir.to_owned(), differences }) }
}

/// Checks that a run continues with the classes and the image shape that it began with: the checksum of the data does not
/// cover the names of classes.
pub(super) fn compare_classes(logdir: &Path, dataset: &Dataset) -> Result<(), RunStateError> {
    let known = match Description::read(&logdir.join(DATASET)) {
        Ok(Some(known)) => known,
        Ok(None) => return Ok(()),
        Err(error) => {
            // It is written again; the data themselves are compared by their checksum.
            tracing::warn!("{error}");
            return Ok(());
        }
    };
    let text = |classes: &[String], shape: ImageShape| format!("{} of {shape}: {}", classes.len(), classes.join(", "));
    let was = text(&known.classes, known.shape());
    let now = text(&dataset.classes, dataset.train.shape());
    if was == now {
        return Ok(());
    }
    let differences = vec![Difference { what: "classes".to_owned(), was, now }];
    Err(RunStateError::Changed { path: logdir.to_owned(), differences })
}

/// The newest valid checkpoint of the store in `checkpoints`; invalid ones are logged. If all are invalid, this is an
/// error, since work would be lost.
pub(super) fn newest(store: &Store, checkpoints: &Path) -> Result<Option<Checkpoint>, RunStateError> {
    let found = store.newest()?;
    for rejected in &found.rejected {
        let why = if rejected.is_unreadable { "cannot be read" } else { "is damaged" };
        tracing::warn!("checkpoint {} {why} and is not used: {}", rejected.path.display(), rejected.reason);
    }
    if found.checkpoint.is_none()
        && let Some(rejected) = found.rejected.iter().find(|rejected| rejected.is_unreadable)
    {
        let (path, reason) = (rejected.path.clone(), rejected.reason.clone());
        return Err(RunStateError::Unread { path, reason });
    }
    if found.checkpoint.is_none() && !found.rejected.is_empty() {
        return Err(RunStateError::AllDamaged { path: checkpoints.to_owned() });
    }
    Ok(found.checkpoint)
}

pub(super) fn fewer_epochs(done: u64, wanted: u64) -> Difference {
    Difference { what: "epochs".to_owned(), was: format!("{done} done"), now: wanted.to_string() }
}

fn result(logdir: &Path) -> Option<ResultOverview> {
    let bytes = files::read(&logdir.join(RESULT), MAX_RESULT).ok()?;
    ResultOverview::parse(&bytes).ok()
}
