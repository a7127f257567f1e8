//! Who keeps states that training can go on from, and when.

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
    /// Whether a snapshot is wanted here: after a step, or after an epoch and all that was looked at then.
    fn is_due(&mut self, position: &Position) -> bool;

    /// Keeps a snapshot. What went to `log` before it has to be as safe as the snapshot is when this returns: whoever
    /// goes on from it does not say it again.
    ///
    /// # Errors
    /// When it is not kept. Earlier snapshots are as they were.
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
