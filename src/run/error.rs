//! Error type of a run, which wraps the errors of its parts.

use std::path::PathBuf;

use super::profile::ProfileError;
use super::run_state::RunStateError;
use super::state_files::StateError;
use crate::checkpoint::StoreError;
use crate::data::{Changed, LoadError};
use crate::durable;
use crate::eventlog::SinkError;
use crate::exit::{Classify, Exit};
use crate::graph::ShapeError;
use crate::model::Precision;
use crate::nesting::NestingError;
use crate::records::{JournalError, TextfileError};
use crate::run_dir::RunDirError;
use crate::run_name::{TemplateError, WithinError};
use crate::train::FitError;
use crate::weights::WeightsError;

/// Error that ended a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("no log directory is given: say where the run goes with --logdir, such as --logdir logs/fit")]
    NoLogdir,
    #[error(transparent)]
    Dir(#[from] RunDirError),
    #[error(transparent)]
    Data(#[from] LoadError),
    #[error(transparent)]
    Changed(#[from] Changed),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error("device cuda:{index} is not there: libtorch sees {found} CUDA devices; use --device cpu or --device auto")]
    NoCuda { index: usize, found: usize },
    #[error(
        "precision {precision} requires CUDA; on the CPU only f32 is supported: use --precision f32, or --device cuda if there \
         is one"
    )]
    Precision { precision: Precision },
    #[error(transparent)]
    Log(#[from] SinkError),
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    RunState(#[from] RunStateError),
    #[error(transparent)]
    Name(#[from] TemplateError),
    #[error(transparent)]
    Place(#[from] WithinError),
    #[error(transparent)]
    Nesting(#[from] NestingError),
    #[error(transparent)]
    Textfile(#[from] TextfileError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Result(#[from] durable::WriteError),
    #[error(transparent)]
    Checkpoints(#[from] StoreError),
    #[error("checkpoint {} cannot be used: {source}", path.display())]
    State { path: PathBuf, source: StateError },
}

impl Classify for RunError {
    fn exit(&self) -> Exit {
        match self {
            RunError::NoLogdir => Exit::Usage,
            RunError::Dir(error) => error.exit(),
            RunError::Data(error) => error.exit(),
            RunError::Changed(error) => error.exit(),
            RunError::Shape(error) => error.exit(),
            RunError::NoCuda { .. } => Exit::Unavailable,
            RunError::Precision { .. } => Exit::Config,
            RunError::Log(error) => error.exit(),
            RunError::Fit(error) => error.exit(),
            RunError::Weights(error) => error.exit(),
            RunError::RunState(error) => error.exit(),
            RunError::Name(error) => error.exit(),
            RunError::Place(error) => error.exit(),
            RunError::Nesting(error) => error.exit(),
            RunError::Textfile(error) => error.exit(),
            RunError::Profile(error) => error.exit(),
            RunError::Journal(error) => error.exit(),
            RunError::Result(error) => error.exit(),
            RunError::Checkpoints(error) => error.exit(),
            RunError::State { .. } => Exit::Data,
        }
    }
}
