//! A file for readers of files, in memory if the machine has such a place.

use std::path::PathBuf;
use std::sync::LazyLock;

pub static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let dir = if memory.is_dir() { memory } else { PathBuf::from(".") };
    dir.join(format!("trainer-fuzz-{}", std::process::id()))
});
