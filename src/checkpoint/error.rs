//! Errors of a checkpoint store.

use std::io::{Error, ErrorKind};
use std::path::PathBuf;

use super::manifest::ManifestError;
use crate::exit::{Classify, Exit};

/// Error from writing, finding or removing checkpoints.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "cannot write checkpoint {}: {source}; the checkpoints before it are intact; free space or repair the disk, and \
         run the same command again", path.display()
    )]
    Write { path: PathBuf, source: Error },
    #[error("cannot read checkpoint {}: {source}; let this user read it, and run the same command again", path.display())]
    Read { path: PathBuf, source: Error },
    #[error("cannot remove checkpoint {}: {source}; let this user write there, or remove it by hand", path.display())]
    Remove { path: PathBuf, source: Error },
    #[error("checkpoint {}: {source}; run the program that wrote it, or start over with --fresh", path.display())]
    Version { path: PathBuf, source: ManifestError },
    #[error("checkpoint of step {step} cannot be stored: {reason}")]
    Draft { step: u64, reason: String },
}

impl Classify for StoreError {
    fn exit(&self) -> Exit {
        match self {
            StoreError::Write { source, .. } | StoreError::Read { source, .. } | StoreError::Remove { source, .. } => {
                if source.kind() == ErrorKind::PermissionDenied {
                    Exit::NoPermission
                } else {
                    Exit::Io
                }
            }
            StoreError::Version { .. } => Exit::Config,
            StoreError::Draft { .. } => Exit::Software,
        }
    }
}
