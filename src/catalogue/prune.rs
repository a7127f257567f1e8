//! Which runs may go, and their removal: whole or not at all, to whoever looks at the log directory.

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

/// As much of a run's name as the name of what is left of it holds, in bytes; file systems take 255 in all.
const LONGEST_NAME: usize = 200;

/// Which runs stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Runs that were active last.
    pub keep: usize,
    /// Runs with the highest accuracy on the validation set, beside those.
    pub keep_best: usize,
    /// Whether runs may go, too, that have not finished and are not training.
    pub unfinished: bool,
}

/// What is to be done with the runs of a directory.
#[derive(Debug, Default)]
pub struct Plan {
    /// The oldest first.
    pub remove: Vec<Run>,
    /// The youngest first.
    pub keep: Vec<Run>,
}

/// Why a run was not removed.
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
    /// Whether the run is left for a good reason: nothing failed.
    pub fn is_a_matter_of_course(&self) -> bool {
        matches!(self, RemoveError::InUse { .. } | RemoveError::Changed { .. } | RemoveError::HoldsARun { .. })
    }
}

impl Policy {
    /// Whether runs in that state may go at all. A damaged run may be one of a newer version: a person has to look.
    pub fn may_remove(self, state: &State) -> bool {
        match state {
            State::Finished => true,
            State::Stopped | State::Unfinished | State::Failed { .. } => self.unfinished,
            State::Running { .. } | State::Damaged { .. } => false,
        }
    }

    /// Of `runs`, the youngest first, as a list has them.
    pub fn plan(self, runs: Vec<Run>) -> Plan {
        let accuracy = |run: &Run| run.validation_accuracy.unwrap_or(-1.0);
        let mut best: Vec<usize> = (0..runs.len()).filter(|i| self.may_remove(&runs[*i].state)).collect();
        let young: Vec<usize> = best.iter().copied().take(self.keep).collect();
        // Stable: of two that are as good the younger one stays.
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

/// Removes a run, and gives the bytes that it took.
///
/// Its lock is taken first, so that nobody trains in it. Then it gets a hidden name beside its own, at once, and only then
/// is removed from within: a process that is killed here leaves the whole run, or one that no list shows and the next
/// [`clear_trash`] removes. Links in it are removed, not followed.
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
    // It may have been trained on since.
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
    // Or a power cut could bring back the name of what is half gone. Where that cannot be had, the kill is still covered.
    if let Some(parent) = trash.parent() {
        let _ = File::open(parent).and_then(|dir| dir.sync_all());
    }
    remove_tree(&trash)?;
    drop(lock);
    Ok(size.bytes)
}

/// Removes what a killed removal left, unless another process is at it; gives the bytes that it took.
pub fn clear_trash(path: &Path) -> Result<u64, RemoveError> {
    // Held until all is gone. There is none where the lock itself is gone already.
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

/// Whether the file that was locked is still the one in the run.
fn is_lock_of(lock: &File, run: &Path) -> bool {
    match (lock.metadata(), run.join(LOCK).symlink_metadata()) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Beside the run, so that the name is changed at once and on the same file system.
fn trash_of(run: &Path) -> Option<PathBuf> {
    let name = run.file_name()?.as_bytes();
    let mut hidden = OsString::from(format!("{TRASH}{}-", std::process::id()));
    hidden.push(OsString::from_vec(name[..name.len().min(LONGEST_NAME)].to_vec()));
    Some(run.with_file_name(hidden))
}
