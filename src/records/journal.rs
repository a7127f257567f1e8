//! The journal of a run: `metrics.jsonl`, to which every line is appended by one write.
//!
//! The last line of a process that was killed may be torn; it is cut off before anything is appended, so a torn line
//! never stands in the middle. A line that cannot be written does not stop training: it waits in memory, up to
//! [`BACKLOG`] bytes of lines, and is tried again with the next.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::line::Line;
use super::reading::{self, Reading, ReadingError};
use crate::exit::{Classify, Exit};
use crate::types::WallTime;

/// Bytes of a line, at most, with its newline.
pub(super) const LONGEST_LINE: usize = 1 << 20;
/// Bytes of lines that wait, at most, while the file cannot be written.
const BACKLOG: usize = 1 << 20;
/// Time between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Bytes that are looked at at once for the end of the last whole line.
const CHUNK: usize = 64 << 10;

/// Why there is no journal to write to.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is not a file, want the run's journal; move it away or choose another --logdir", path.display())]
    NotAFile { path: PathBuf },
    #[error(
        "{} is not the journal of a run: its last {LONGEST_LINE} bytes hold no end of a line; move it away or choose \
         another --logdir", path.display()
    )]
    NotAJournal { path: PathBuf },
}

impl Classify for JournalError {
    fn exit(&self) -> Exit {
        match self {
            JournalError::Write { source, .. } => Exit::of_output(source),
            JournalError::NotAFile { .. } | JournalError::NotAJournal { .. } => Exit::CantCreate,
        }
    }
}

/// The journal, open for appending. One process writes it: the one that owns the run's directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    attempt: u32,
    /// None after a failure, until the next try.
    file: Option<File>,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    given_up: u64,
    warned: Option<Instant>,
}

impl Journal {
    /// Opens or creates the journal for the process number `attempt` of a run, counted from 1, and cuts off what a killed
    /// process has torn.
    pub fn open(path: &Path, attempt: u32) -> Result<Journal, JournalError> {
        Ok(Journal {
            path: path.to_owned(),
            attempt,
            file: Some(open(path)?),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            given_up: 0,
            warned: None,
        })
    }

    /// Every whole line of the journal at `path`; of one that is not there, none.
    pub fn read(path: &Path) -> Result<Reading, ReadingError> {
        reading::read(path)
    }

    /// The number of the process that comes next: one above the largest in the journal at `path`.
    pub fn next_attempt(path: &Path) -> Result<u32, ReadingError> {
        Ok(reading::largest_attempt(path)?.saturating_add(1))
    }

    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Appends `line`, after the lines that wait. A failure is told on the console and counted, and training goes on.
    pub fn append(&mut self, line: &Line, now: WallTime) {
        let bytes = match line.encode(self.attempt, now) {
            Ok(bytes) if bytes.len() <= LONGEST_LINE => bytes,
            Ok(bytes) => {
                self.given_up += 1;
                return self.warn(&format!("a line of {} bytes, at most {LONGEST_LINE} are read back", bytes.len()));
            }
            Err(error) => {
                self.given_up += 1;
                return self.warn(&error.to_string());
            }
        };
        if self.waiting_bytes + bytes.len() > BACKLOG {
            self.given_up += 1;
        } else {
            self.waiting_bytes += bytes.len();
            self.waiting.push_back(bytes);
        }
        if let Err(error) = self.push() {
            self.warn(&error.to_string());
        }
    }

    /// Brings the journal to the disk, as far as it can be written: before a checkpoint is published, and at the end.
    pub fn sync(&mut self) {
        let synced = self.push().and_then(|()| match &self.file {
            Some(file) => file.sync_all().map_err(|source| self.error(source)),
            None => Ok(()),
        });
        if let Err(error) = synced {
            // What the system says of this file from now on is not to be trusted.
            self.file = None;
            self.warn(&error.to_string());
        }
    }

    /// Lines that are not in the file: given up, or still waiting for it to become writable.
    pub fn lost(&self) -> u64 {
        self.given_up + self.waiting.len() as u64
    }

    /// Writes what waits, in order.
    fn push(&mut self) -> Result<(), JournalError> {
        while let Some(line) = self.waiting.front() {
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(open(&self.path)?),
            };
            if let Err(source) = write_line(file, line) {
                // Opened anew, the file is looked at for what was torn.
                self.file = None;
                return Err(self.error(source));
            }
            self.waiting_bytes -= line.len();
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn error(&self, source: io::Error) -> JournalError {
        JournalError::Write { path: self.path.clone(), source }
    }

    fn warn(&mut self, what: &str) {
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            let lost = self.lost();
            tracing::warn!("{what}; training goes on, {lost} lines of {} are missing so far", self.path.display());
        }
    }
}

/// Opens the file at its end, which is the end of a line.
fn open(path: &Path) -> Result<File, JournalError> {
    let error = |source| JournalError::Write { path: path.to_owned(), source };
    // A named pipe would wait for its other end.
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(JournalError::NotAFile { path: path.to_owned() }),
        _ => {}
    }
    let is_new = !path.exists();
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(error)?;
    if is_new {
        sync_name(path).map_err(error)?;
    }
    let length = file.metadata().map_err(error)?.len();
    match end_of_last_line(&mut file, length).map_err(error)? {
        Some(end) if end == length => {}
        Some(end) => file.set_len(end).map_err(error)?,
        None => return Err(JournalError::NotAJournal { path: path.to_owned() }),
    }
    Ok(file)
}

/// Brings the name of a new file to the disk; what is in it follows with the file's own.
fn sync_name(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Where the last whole line ends: behind the last newline, or at 0. `None` if more than a line is torn.
fn end_of_last_line(file: &mut File, length: u64) -> io::Result<Option<u64>> {
    let mut chunk = vec![0; CHUNK];
    let mut end = length;
    while end > 0 {
        if length - end >= LONGEST_LINE as u64 {
            return Ok(None);
        }
        let size = end.min(CHUNK as u64);
        let part = &mut chunk[..size as usize];
        file.seek(SeekFrom::Start(end - size))?;
        file.read_exact(part)?;
        end -= size;
        if let Some(at) = part.iter().rposition(|&byte| byte == b'\n') {
            return Ok(Some(end + at as u64 + 1));
        }
    }
    Ok(Some(0))
}

/// One write, so that a reader sees the whole line or none of it.
fn write_line(file: &mut impl Write, line: &[u8]) -> io::Result<()> {
    loop {
        match file.write(line) {
            Ok(written) if written == line.len() => return Ok(()),
            Ok(written) => {
                return Err(io::Error::new(
                    io::ErrorKind::WriteZero,
                    format!("{written} of {} bytes of a line could be written", line.len()),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
