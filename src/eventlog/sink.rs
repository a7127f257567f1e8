//! Sinks: the interface of everything that accepts entries.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::event::{EncodeError, What};
use super::file::{CreateError, WriteError};
use super::snapshots::SnapshotError;
use super::tally::Tally;
use crate::exit::{Classify, Exit};
use crate::types::{Run, Step, WallTime};

/// Something to be logged, not yet encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub run: Run,
    pub wall_time: WallTime,
    pub step: Step,
    pub what: What,
}

/// Takes entries and keeps them.
///
/// A sink keeps the order of the entries of a run. It blocks when it is overwhelmed, and never drops an entry to catch
/// up. An error tells of every entry lost since the last one; writing may go on after it, and a sink does its best to
/// recover. `Err` from [`Sink::write`] need not be about the entry that was given: see the sink.
pub trait Sink {
    fn write(&mut self, entry: Entry) -> Result<(), SinkError>;

    /// Makes all written entries visible to readers and independent of this process; before, neither is promised.
    fn flush(&mut self) -> Result<(), SinkError>;

    /// As `flush`, and what was written survives a power cut.
    fn sync(&mut self) -> Result<(), SinkError>;

    /// Begins what `sync` does, if that can go on while the caller does something else; what comes of it is told later.
    fn begin_sync(&mut self) {}

    /// As `flush`, for the last time: what is written later is lost.
    fn close(&mut self) -> Result<(), SinkError>;

    /// Entries lost since the beginning.
    fn lost(&self) -> u64;

    /// Bytes written, or put in line for it, since the beginning; a sink that makes no bytes has none.
    fn tally(&self) -> Tally {
        Tally::default()
    }
}

/// Loss of entries: cause and number.
#[derive(Debug)]
pub struct SinkError {
    /// Entries lost since the last error. 0 if a sink still holds them and will try again.
    pub lost: u64,
    pub cause: Cause,
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Event files that are not where they were, and, unless others were begun at once, why not.
    #[error("{}; {}", joined(files), followed(files, next.as_deref()))]
    Gone { files: Vec<WriteError>, next: Option<Box<Cause>> },
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("cannot encode an event: {0}")]
    Encode(#[from] EncodeError),
    /// The file is broken, the next try is not due, and the memory for what waits is used up.
    #[error("{} cannot be written, and the events that wait take {bytes} bytes already", dir.display())]
    Full { dir: PathBuf, bytes: usize },
    /// The file is broken and the next try is not due.
    #[error("{} could not be written, and {events} events wait for the next try", dir.display())]
    Waiting { dir: PathBuf, events: u64 },
    #[error("the log is closed")]
    Closed,
    #[error("cannot start the thread that writes the log: {0}")]
    Spawn(io::Error),
    #[error("the thread that writes the log has ended too early")]
    Stopped,
}

/// Files that are gone and named in one error, at most: those of all runs.
const NAMED: usize = 4;

fn joined(files: &[WriteError]) -> String {
    files.iter().map(WriteError::to_string).collect::<Vec<_>>().join("; ")
}

fn followed(files: &[WriteError], next: Option<&Cause>) -> String {
    let begun = if files.len() > 1 { "new files are begun" } else { "a new file is begun" };
    next.map_or_else(|| begun.to_owned(), Cause::to_string)
}

impl SinkError {
    pub(super) fn new(lost: u64, cause: impl Into<Cause>) -> SinkError {
        SinkError { lost, cause: cause.into() }
    }

    /// Adds `error` to what `all` tells already: the first cause, and all losses. Of files that are gone it is each one:
    /// whoever removes one removes those of the other runs as well.
    pub(super) fn add(all: &mut Option<SinkError>, error: SinkError) {
        let Some(first) = all else {
            *all = Some(error);
            return;
        };
        first.lost += error.lost;
        if let (Cause::Gone { files, next }, Cause::Gone { files: more, next: why }) = (&mut first.cause, error.cause) {
            let room = NAMED.saturating_sub(files.len());
            files.extend(more.into_iter().take(room));
            *next = next.take().or(why);
        }
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lost {
            0 if matches!(self.cause, Cause::Stopped) => write!(f, "event log: {}", self.cause),
            0 => write!(f, "event log: {}; nothing is lost yet", self.cause),
            1 => write!(f, "event log: 1 entry is lost: {}", self.cause),
            lost => write!(f, "event log: {lost} entries are lost: {}", self.cause),
        }
    }
}

impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The cause's text is part of ours.
        self.cause.source()
    }
}

impl Classify for SinkError {
    fn exit(&self) -> Exit {
        self.cause.exit()
    }
}

impl Classify for Cause {
    fn exit(&self) -> Exit {
        match self {
            Cause::Create(error) => error.exit(),
            Cause::Write(error) => error.exit(),
            Cause::Encode(error) => error.exit(),
            Cause::Snapshot(error) => error.exit(),
            Cause::Gone { next, .. } => next.as_ref().map_or(Exit::Io, |next| next.exit()),
            Cause::Full { .. } | Cause::Waiting { .. } | Cause::Spawn(_) => Exit::Io,
            Cause::Closed | Cause::Stopped => Exit::Software,
        }
    }
}

impl Entry {
    /// Bytes held, roughly.
    pub fn size(&self) -> usize {
        size_of::<Entry>() + self.what.size()
    }
}

/// Keeps entries in memory, for tests. Clones share what they keep.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    kept: Arc<Mutex<Vec<Entry>>>,
    closed: bool,
}

impl Memory {
    pub fn entries(&self) -> Vec<Entry> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for Memory {
    fn write(&mut self, entry: Entry) -> Result<(), SinkError> {
        if self.closed {
            return Err(SinkError::new(1, Cause::Closed));
        }
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.closed = true;
        Ok(())
    }

    fn lost(&self) -> u64 {
        0
    }
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn write(&mut self, entry: Entry) -> Result<(), SinkError> {
        (**self).write(entry)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        (**self).flush()
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        (**self).sync()
    }

    fn begin_sync(&mut self) {
        (**self).begin_sync();
    }

    fn close(&mut self) -> Result<(), SinkError> {
        (**self).close()
    }

    fn lost(&self) -> u64 {
        (**self).lost()
    }

    fn tally(&self) -> Tally {
        (**self).tally()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_what_is_lost() {
        let mut all = None;
        SinkError::add(&mut all, SinkError::new(0, Cause::Closed));
        assert_eq!(all.as_ref().unwrap().to_string(), "event log: the log is closed; nothing is lost yet");
        SinkError::add(&mut all, SinkError::new(1, Cause::Stopped));
        assert_eq!(all.as_ref().unwrap().to_string(), "event log: 1 entry is lost: the log is closed");
        SinkError::add(&mut all, SinkError::new(2, Cause::Stopped));
        assert_eq!(all.unwrap().to_string(), "event log: 3 entries are lost: the log is closed");
    }
}
