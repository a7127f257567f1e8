//! The reader of event files, and what is made of them for people.

#![no_main]

#[allow(dead_code, reason = "each target uses its own")]
#[path = "../../tests/mutations/subjects.rs"]
mod subjects;

use std::path::PathBuf;
use std::sync::LazyLock;

/// What reads files gets one, in memory where there is such a place.
static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let dir = if memory.is_dir() { memory } else { PathBuf::from(".") };
    dir.join(format!("trainer-fuzz-{}", std::process::id()))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    subjects::event_file(bytes, &SCRATCH);
});
