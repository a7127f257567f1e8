//! Files and directories, opened with care: no open waits for anything, no planted link is followed into a file that is to
//! be written, and a directory that is held by its descriptor stays the same one whatever becomes of its path.

mod dir;
mod kind;
mod reading;

pub use dir::{Dir, Entry};
pub use kind::{Foreign, Kind};
pub use reading::{open, open_input, read};
