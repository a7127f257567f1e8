//! The runs at or below a log directory: which there are, how far each came, and which may go.
//!
//! Everything is read tolerantly and within bounds, since directories come from other versions, from processes that were
//! killed, and from other programs: a damaged run is a row of the list, never the end of it.

mod lock;
mod listing;
mod prune;
mod run;

pub use listing::{ListError, Listing, Unread, list, newest_good};
pub use prune::{Plan, Policy, RemoveError, clear_trash, remove};
pub use run::{Run, Size, State};

use crate::run_dir::{CONFIG, WEIGHTS};

const RESULT: &str = "result.json";
const LOCK: &str = "run.lock";
const CHECKPOINTS: &str = "checkpoints";
/// How the name of a checkpoint begins; twelve digits of its step follow.
const CHECKPOINT: &str = "ckpt-";
const MANIFEST: &str = "manifest.json";
/// How the name of a run begins that is being removed; the number of the process and a `-` follow.
const TRASH: &str = ".trash-";
