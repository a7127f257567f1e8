//! libtorch's own operators in a trace. `tch` reaches none of libtorch's profilers, but libtorch calls whoever asks it to
//! at the beginning and end of each operator (`at::RecordFunction`); `operators.cpp` asks.

#![expect(unsafe_code, reason = "libtorch has an interface for this in C++ alone")]

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use crate::trace::Trace;

/// libtorch has one list of whom to call, so a process has one trace that is told.
static TRACE: OnceLock<Trace> = OnceLock::new();

type Begins = extern "C" fn() -> u64;
type Ends = unsafe extern "C" fn(*const c_char, u64);

unsafe extern "C" {
    fn trainer_watch_operators(begins: Begins, ends: Ends);
}

/// Says to `trace`, while it records, what operators libtorch runs on whatever thread: `aten::convolution`, within it
/// `aten::mkldnn_convolution`, and in a backward pass nodes such as `ConvolutionBackward0`. On CUDA an operator takes as
/// long as it takes to ask for it.
///
/// The first trace of a process is told, and no other. Libtorch goes on calling when nothing is recorded any more: what it
/// calls may only be taken back while no operator runs on any thread.
pub fn watch(trace: &Trace) {
    if trace.records() && TRACE.set(trace.clone()).is_ok() {
        // SAFETY: both are functions that outlive the process, and libtorch gives `ends` a string that ends in 0 and what
        // `begins` has returned.
        unsafe { trainer_watch_operators(begins, ends) };
    }
}

/// 0 for an operator that is not recorded.
extern "C" fn begins() -> u64 {
    TRACE.get().map_or(0, Trace::operator_begins)
}

unsafe extern "C" fn ends(name: *const c_char, began: u64) {
    if let Some(trace) = TRACE.get() {
        // SAFETY: as `watch` says; the name is copied before this returns.
        let name = unsafe { CStr::from_ptr(name) };
        trace.operator_ends(began, &name.to_string_lossy());
    }
}
