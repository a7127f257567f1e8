//! Safetensors files, as weights and the optimizer's state are read.

#![no_main]

#[allow(dead_code, reason = "each target uses its own")]
#[path = "../../tests/mutations/subjects.rs"]
mod subjects;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let want = [("a".to_owned(), vec![2, 3]), ("b".to_owned(), vec![4])];
    subjects::tensors(bytes, &want);
});
