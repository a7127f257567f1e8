//! Names of runs, and templates for them.

#![no_main]

#[allow(dead_code, reason = "each target uses its own")]
#[path = "../../tests/mutations/subjects.rs"]
mod subjects;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        subjects::run_name(text);
    }
});
