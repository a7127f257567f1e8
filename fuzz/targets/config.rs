//! The reader of configuration files, and of every setting in them.

#![no_main]

#[allow(dead_code, reason = "each target uses its own")]
#[path = "../../tests/mutations/subjects.rs"]
mod subjects;
#[path = "../scratch.rs"]
mod scratch;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    subjects::config(bytes, &scratch::SCRATCH);
});
