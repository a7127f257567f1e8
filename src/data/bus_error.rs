//! SIGBUS, which the kernel sends where a mapped file has no bytes any more, becomes a message and an exit code.

#![expect(unsafe_code, reason = "a handler that is told an address has no safe wrapper")]

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::exit::Exit;

/// The newest entry. Entries are never freed: a handler may be reading them at any moment.
static NEWEST: AtomicPtr<Entry> = AtomicPtr::new(null_mut());

/// SIGBUS handler before this module's.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Addresses, and the last words of a process that finds nothing there. Empty once nobody watches them.
struct Entry {
    start: AtomicUsize,
    end: AtomicUsize,
    words: String,
    next: Option<&'static Entry>,
}

/// As long as it lives, a SIGBUS at its addresses ends the process with [`Exit::Io`] and a message. Others go where they
/// went before.
pub(super) struct Watch(&'static Entry);

impl Watch {
    /// Costs a hundred bytes for ever: for the few large files of a process.
    pub fn over(addresses: Range<usize>, message: &str) -> Watch {
        let words = format!("error: {message}\n");
        let entry = Entry { start: addresses.start.into(), end: addresses.end.into(), words, next: None };
        let entry = Box::into_raw(Box::new(entry));
        let mut newest = NEWEST.load(Ordering::Acquire);
        loop {
            // SAFETY: the new entry is nobody else's yet; the newest is null, or one that is never freed.
            unsafe { (*entry).next = newest.as_ref() };
            match NEWEST.compare_exchange(newest, entry, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(other) => newest = other,
            }
        }
        listen();
        // SAFETY: it is never freed, and from now on only its atomics change.
        Watch(unsafe { &*entry })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The end first: between the two stores the entry is empty, not larger.
        self.0.end.store(0, Ordering::Release);
        self.0.start.store(0, Ordering::Release);
    }
}

fn listen() {
    // SAFETY: plain C structures for which zeros are valid, filled in as sigaction(2) says. The handler stays for ever and
    // does only what a signal handler may.
    unsafe {
        BEFORE.get_or_init(|| {
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, null(), &mut before);
            before
        });
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = end as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut ours.sa_mask);
        libc::sigaction(libc::SIGBUS, &ours, null_mut());
    }
}

/// The handler. Reads atomics, writes, exits: it allocates nothing and takes no lock.
extern "C" fn end(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes the address that was asked for; entries live for ever.
    unsafe {
        let address = (*info).si_addr() as usize;
        let mut entry = NEWEST.load(Ordering::Acquire).as_ref();
        while let Some(Entry { start, end, words, next }) = entry {
            if (start.load(Ordering::Acquire)..end.load(Ordering::Acquire)).contains(&address) {
                libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len());
                libc::_exit(Exit::Io.code().into());
            }
            entry = *next;
        }
        // Not ours: the instruction is tried again, and whoever was there before is told.
        match BEFORE.get() {
            Some(before) => libc::sigaction(libc::SIGBUS, before, null_mut()),
            None => libc::signal(libc::SIGBUS, libc::SIG_DFL) as c_int,
        };
    }
}
