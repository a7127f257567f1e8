//! The runs at or below a log directory: which there are, how far each came, and which may go.
//!
//! Everything is read tolerantly and within bounds, since directories come from other versions, from processes that were
//! killed, and from other programs: a damaged run is a row of the list, never the end of it.

mod listing;
mod lock;
mod progress;
mod prune;
mod run;

pub use listing::{ListError, Listing, Unread, good, list};
pub use prune::{Plan, Policy, RemoveError, clear_trash, remove};
pub use run::{Run, Size, State};

use crate::run_dir::{CHECKPOINTS, CONFIG, JOURNAL, LOCK, RESULT, WEIGHTS};

/// How the name of a run begins that is being removed; the number of the process and a `-` follow.
const TRASH: &str = ".trash-";
