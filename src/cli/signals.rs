//! SIGINT and SIGTERM: the first asks the loop to stop, the second ends the process. SIGHUP, which comes when a terminal
//! is closed, is no reason to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A file has grown to the size that `ulimit -f` allows. Of no number in signal-hook's list.
const SIGXFSZ: i32 = libc::SIGXFSZ;

/// The number of the signal that came, 0 before.
pub(super) fn watch() -> std::io::Result<Arc<AtomicUsize>> {
    let stop = Arc::new(AtomicUsize::new(0));
    // One flag for both: who presses Ctrl-C and then says `kill` has asked twice.
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Handlers run in this order: the first signal finds the flag unset, raises it, and is remembered.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, again.clone())?;
        signal_hook::flag::register(signal, again.clone())?;
        signal_hook::flag::register_usize(signal, stop.clone(), signal as usize)?;
    }
    signal_hook::flag::register(SIGHUP, Arc::new(AtomicBool::new(false)))?;
    // Caught, it leaves the write to fail with an error that has a path; uncaught, it ends the process without a word.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(stop)
}
