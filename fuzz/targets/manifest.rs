//! The list of files of a checkpoint.

#![no_main]

#[allow(dead_code, reason = "each target uses its own")]
#[path = "../../tests/mutations/subjects.rs"]
mod subjects;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    subjects::manifest(bytes);
});
