//! Catalogue of the runs at or below a log directory: listing, progress and removal.
//!
//! Everything is read tolerantly and within bounds, since directories come from other versions, killed processes and
//! other programs: a damaged run is a row of the listing and never ends it.

mod listing;
mod lock;
mod progress;
mod prune;
mod run;

pub use listing::{ListError, Listing, Unread, good, list};
pub use prune::{Plan, Policy, RemoveError, clear_trash, remove};
pub use run::{Run, Size, State};

use crate::run_dir::{CHECKPOINTS, CONFIG, JOURNAL, LOCK, RESULT, WEIGHTS};

/// Prefix of the name of a run during removal; the process number and a `-` follow.
const TRASH: &str = ".trash-";
