//! Signals: which ones end training after a checkpoint, which ask for a checkpoint alone, and which are passed over.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::run::Requests;

/// CPU time has come to its soft limit. The kernel repeats it every second. Of no number in signal-hook's list.
const SIGXCPU: i32 = libc::SIGXCPU;
/// A file has grown to the size that `ulimit -f` allows. Of no number in signal-hook's list.
const SIGXFSZ: i32 = libc::SIGXFSZ;

/// Lets a write past `ulimit -f` fail with an error that has a path, instead of ending the process without a word.
pub(super) fn let_writes_fail() -> std::io::Result<()> {
    pass_over(SIGXFSZ)
}

/// Turns signals into requests to the training loop.
///
/// SIGINT and SIGTERM ask for a checkpoint and the end; the second of them ends the process. SIGUSR2 and SIGXCPU, by
/// which batch systems announce the end, ask for the same, and may be repeated: a scheduler that warns twice, or warns
/// and then sends SIGTERM, still gets its checkpoint. SIGUSR1 asks for a checkpoint alone. SIGHUP, which comes when a
/// terminal is closed, is no reason to stop. Whatever else there is keeps its default action; SIGQUIT ends at once.
pub(super) fn watch() -> std::io::Result<Requests> {
    let requests = Requests::default();
    // One flag for both: who presses Ctrl-C and then says `kill` has asked twice.
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Handlers run in this order: the first signal finds the flag unset, raises it, and is remembered.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
        flag::register(signal, Arc::clone(&again))?;
        flag::register_usize(signal, Arc::clone(&requests.stop), signal as usize)?;
    }
    for signal in [SIGUSR2, SIGXCPU] {
        flag::register_usize(signal, Arc::clone(&requests.stop), signal as usize)?;
    }
    flag::register(SIGUSR1, Arc::clone(&requests.checkpoint))?;
    pass_over(SIGHUP)?;
    Ok(requests)
}

/// A handler that does nothing. Unlike an ignored signal, it does not pass to programs that are started from here.
fn pass_over(signal: i32) -> std::io::Result<()> {
    flag::register(signal, Arc::new(AtomicBool::new(false))).map(drop)
}
