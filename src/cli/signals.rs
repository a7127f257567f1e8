//! Signals: which ones end training after a checkpoint, which ask for a checkpoint alone, and which are passed over.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::run::Requests;

/// CPU time has come to its soft limit. The kernel repeats it every second. Of no number in signal-hook's list.
const SIGXCPU: i32 = libc::SIGXCPU;
/// A file has grown to the size that `ulimit -f` allows. Of no number in signal-hook's list.
const SIGXFSZ: i32 = libc::SIGXFSZ;

/// Signals this soon after the first belong to the same request: GNU `timeout` signals its child and the child's process
/// group, Ctrl-C in a container reaches a process from the terminal and from the process above it.
const ONE_REQUEST: Duration = Duration::from_millis(500);

/// Lets a write past `ulimit -f` fail with an error that has a path, instead of ending the process without a word.
pub(super) fn let_writes_fail() -> std::io::Result<()> {
    pass_over(SIGXFSZ)
}

/// Turns signals into requests to the training loop.
///
/// SIGINT and SIGTERM ask for a checkpoint and the end; another one, more than [`ONE_REQUEST`] later, ends the process.
/// SIGUSR2 and SIGXCPU, by which batch systems announce the end, ask for the same, and may be repeated: a scheduler that
/// warns twice, or warns and then sends SIGTERM, still gets its checkpoint. SIGUSR1 asks for a checkpoint alone. SIGHUP,
/// which comes when a terminal is closed, is no reason to stop. All other signals keep their default action; SIGQUIT ends
/// at once.
///
/// Fails where the system has no descriptors or no thread left.
pub(super) fn watch() -> std::io::Result<Requests> {
    let requests = Requests::default();
    // One flag for both: Ctrl-C and a later `kill` are two requests.
    let repeated = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&repeated))?;
        flag::register_usize(signal, Arc::clone(&requests.stop), signal as usize)?;
    }
    let mut first = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if first.forever().next().is_some() {
            std::thread::sleep(ONE_REQUEST);
            repeated.store(true, Ordering::Relaxed);
        }
    })?;
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
