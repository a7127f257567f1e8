//! A run's directory that is no longer where, or what, it was when the process began to train in it.

use std::path::PathBuf;

/// Why a process does not go on in its directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LostDir {
    #[error(
        "log directory {} was moved to {to} while the run trained there{}; what the run has saved is in {to}: go on with \
         --logdir {to}", path.display(), if *replaced { ", and something else stands in its place" } else { "" },
        to = to.display()
    )]
    Moved { path: PathBuf, to: PathBuf, replaced: bool },
    #[error(
        "log directory {} was deleted while the run trained there; its settings, curves, checkpoints and weights are lost: \
         bring them back from a copy, or run the same command again to begin anew", path.display()
    )]
    Deleted { path: PathBuf },
    #[error(
        "log directory {} was emptied while the run trained there; its settings, and what else was removed, are lost: bring \
         them back from a copy, or run the same command again to go on with what is left", path.display()
    )]
    Emptied { path: PathBuf },
    #[error(
        "log directory {}: its run.lock was removed while the run trained there, so that another process may train there; \
         steps after the last checkpoint are lost: run the same command again when no other process trains there",
        path.display()
    )]
    Unlocked { path: PathBuf },
}

impl LostDir {
    /// True if the directory is still this process's, wherever it is.
    pub fn is_owned(&self) -> bool {
        matches!(self, LostDir::Moved { .. })
    }
}
