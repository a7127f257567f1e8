//! Selection and removal of runs. In the log directory a run disappears as a whole or not at all.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::lock::{self, Lock};
use super::run::{Run, State};
use super::{LOCK, TRASH};
use crate::exit::{Classify, Exit};

/// Maximum bytes of a run's name in the name of its trash directory; file systems allow 255 in total.
const LONGEST_NAME: usize = 200;

/// Rules for the runs to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Number of most recently active runs to keep.
    pub keep: usize,
    /// Number of runs with the highest accuracy on the validation set to keep, too.
    pub keep_best: usize,
    /// True if runs that are neither finished nor training may be removed, too.
    pub unfinished: bool,
}

/// Runs of a directory to remove and to keep.
#[derive(Debug, Default)]
pub struct Plan {
    /// The oldest first.
    pub remove: Vec<Run>,
    /// The youngest first.
    pub keep: Vec<Run>,
}

/// Error from removing a run.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error("run {} is in use by now; it is left as it is", path.display())]
    InUse { path: PathBuf },
    #[error("run {} has changed since it was looked at ({state}); it is left as it is", path.display())]
    Changed { path: PathBuf, state: &'static str },
    #[error("run {} has another run in it; it is left as it is: move that one away first", path.display())]
    HoldsARun { path: PathBuf },
    #[error("run {}: its lock cannot be taken, so it is left as it is: {source}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("run {} cannot be removed, and is left as it is: {source}", path.display())]
    Rename { path: PathBuf, source: io::Error },
    #[error("cannot remove all of {}: {source}; the next prune tries again", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

impl Classify for RemoveError {
    fn exit(&self) -> Exit {
        match self {
            RemoveError::InUse { .. } | RemoveError::Changed { .. } | RemoveError::HoldsARun { .. } => Exit::CantCreate,
            RemoveError::Lock { source, .. }
            | RemoveError::Rename { source, .. }
            | RemoveError::Remove { source, .. } => Exit::of_output(source),
        }
    }
}

impl RemoveError {
    /// True if the run was kept on purpose: nothing failed.
    pub fn is_a_matter_of_course(&self) -> bool {
        matches!(self, RemoveError::InUse { .. } | RemoveError::Changed { .. } | RemoveError::HoldsARun { .. })
    }
}

impl Policy {
    /// True if runs in that state may be removed. A damaged run may come from a newer version, so a person has to
    /// decide.
    pub fn may_remove(self, state: &State) -> bool {
        match state {
            State::Finished => true,
            State::Stopped | State::Unfinished | State::Failed { .. } => self.unfinished,
            State::Running { .. } | State::Damaged { .. } => false,
        }
    }

    /// Plan for `runs`, sorted from the youngest to the oldest as in a listing.
    pub fn plan(self, runs: Vec<Run>) -> Plan {
        let accuracy = |run: &Run| run.validation_accuracy.unwrap_or(-1.0);
        let mut best: Vec<usize> = (0..runs.len()).filter(|i| self.may_remove(&runs[*i].state)).collect();
        let young: Vec<usize> = best.iter().copied().take(self.keep).collect();
        // The sort is stable: of two runs with equal accuracy the younger one stays.
        best.sort_by(|a, b| accuracy(&runs[*b]).total_cmp(&accuracy(&runs[*a])));
        best.truncate(self.keep_best);
        let mut plan = Plan::default();
        for (index, run) in runs.into_iter().enumerate() {
            let stays = !self.may_remove(&run.state) || young.contains(&index) || best.contains(&index);
            if stays { plan.keep.push(run) } else { plan.remove.push(run) }
        }
        plan.remove.reverse();
        plan
    }
}

/// Removes a run and returns the bytes that it took.
///
/// The lock is taken first, so no process trains in the run. Then the directory gets a hidden name beside its own in
/// one rename, and only then its contents are removed: a process killed here leaves the whole run, or a hidden
/// directory that no listing shows and the next [`clear_trash`] removes. Links in it are removed, not followed.
pub fn remove(run: &Run, policy: Policy) -> Result<u64, RemoveError> {
    let path = || run.path.clone();
    let lock = match lock::take(&run.path) {
        Ok(Some(lock)) => lock,
        Ok(None) => return Err(RemoveError::InUse { path: path() }),
        Err(error) if is_gone(&error) => return Err(RemoveError::Changed { path: path(), state: "gone" }),
        Err(source) => return Err(RemoveError::Lock { path: path(), source }),
    };
    if !is_lock_of(&lock.file, &run.path) {
        return Err(RemoveError::Changed { path: path(), state: "replaced" });
    }
    // The run may have been trained further since the listing.
    let now = Run::with_lock(&run.path, &Lock::Free);
    if !policy.may_remove(&now.state) || now.step != run.step || now.validation_accuracy != run.validation_accuracy {
        return Err(RemoveError::Changed { path: path(), state: now.state.name() });
    }
    let size = now.size();
    if size.holds_a_run {
        return Err(RemoveError::HoldsARun { path: path() });
    }
    let trash = trash_of(&run.path).ok_or_else(|| RemoveError::Rename {
        path: path(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "it is named by no name of its own"),
    })?;
    std::fs::rename(&run.path, &trash).map_err(|source| RemoveError::Rename { path: path(), source })?;
    // Without this sync a power cut could restore the name of a half-removed run. If it fails, a kill is still
    // covered.
    if let Some(parent) = trash.parent() {
        let _ = File::open(parent).and_then(|dir| dir.sync_all());
    }
    remove_tree(&trash)?;
    drop(lock);
    Ok(size.bytes)
}

/// Removes the remains of a killed removal and returns the bytes that they took. Fails if another process removes
/// them.
pub fn clear_trash(path: &Path) -> Result<u64, RemoveError> {
    // The lock is held until everything is removed; there is none if the lock file itself is removed already.
    let _lock = match lock::take_existing(path) {
        Ok(Some(lock)) => Some(lock),
        Ok(None) => return Err(RemoveError::InUse { path: path.to_owned() }),
        Err(error) if is_gone(&error) => None,
        Err(source) => return Err(RemoveError::Lock { path: path.to_owned(), source }),
    };
    let bytes = Run::with_lock(path, &Lock::Free).size().bytes;
    remove_tree(path)?;
    Ok(bytes)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn remove_tree(path: &Path) -> Result<(), RemoveError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RemoveError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// True if the locked file is still the one in the run.
fn is_lock_of(lock: &File, run: &Path) -> bool {
    match (lock.metadata(), run.join(LOCK).symlink_metadata()) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Path of the trash directory: beside the run, so that the rename is atomic and within one file system.
fn trash_of(run: &Path) -> Option<PathBuf> {
    let name = run.file_name()?.as_bytes();
    let mut hidden = OsString::from(format!("{TRASH}{}-", std::process::id()));
    hidden.push(OsString::from_vec(name[..name.len().min(LONGEST_NAME)].to_vec()));
    Some(run.with_file_name(hidden))
}
