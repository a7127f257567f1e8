//! Interface of checkpointing: schedule and storage of resumable states.

use super::memories::Memories;
use super::state::{Position, TrainState};
use crate::exit::Classify;

/// A state, and what observers remember of it.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    pub state: &'a TrainState,
    pub memories: &'a Memories,
}

/// Keeps snapshots where they outlive the process; knows when, and nothing of training.
pub trait Checkpointer<Log> {
    /// True if a snapshot is due: after a step, or after an epoch and its observations.
    fn is_due(&mut self, position: &Position) -> bool;

    /// Keeps a snapshot. What went to `log` before it has to be as safe as the snapshot is when this returns: whoever
    /// goes on from it does not say it again.
    ///
    /// # Errors
    /// If it cannot be saved. Earlier snapshots stay as they were.
    fn save(&mut self, snapshot: Snapshot<'_>, log: &mut Log) -> Result<(), Box<dyn Classify + Send + Sync>>;
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoCheckpoints;

impl<Log> Checkpointer<Log> for NoCheckpoints {
    fn is_due(&mut self, _: &Position) -> bool {
        false
    }

    fn save(&mut self, _: Snapshot<'_>, _: &mut Log) -> Result<(), Box<dyn Classify + Send + Sync>> {
        Ok(())
    }
}
