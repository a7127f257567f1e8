//! The journal of a run, `metrics.jsonl`: each line is appended in one write.
//!
//! The last line of a killed process may be torn. It is removed before anything is appended, so a torn line never
//! stands in the middle. A line that cannot be written does not stop training: it waits in memory, up to [`BACKLOG`]
//! bytes of lines, and is retried with the next line.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::line::{LONGEST_LINE, Line};
use super::reading::{self, Reading, ReadingError};
use crate::durable::make_temporary_name;
use crate::exit::{Classify, Exit};
use crate::files::{Dir, Foreign};
use crate::types::WallTime;

/// Maximum bytes of waiting lines while the file cannot be written.
const BACKLOG: usize = 1 << 20;
/// Minimum time between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// First bytes of a journal, in every version.
const BEGINNING: &[u8; 5] = b"{\"v\":";
/// Bytes read at once in the search for the end of the last whole line.
const CHUNK: usize = 64 << 10;

/// Error from opening or writing a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "{} is not the journal of a run: its last {LONGEST_LINE} bytes hold no end of a line; move it away, start over with \
         --fresh, or choose another --logdir", path.display()
    )]
    NotAJournal { path: PathBuf },
}

impl Classify for JournalError {
    fn exit(&self) -> Exit {
        match self {
            JournalError::Write { source, .. } => Exit::of_output(source),
            JournalError::NotAJournal { .. } => Exit::CantCreate,
        }
    }
}

/// The journal, open for appending. Only the process that owns the run's directory writes it.
#[derive(Debug)]
pub struct Journal {
    place: Place,
    attempt: u32,
    /// None after a failure, until the next retry.
    file: Option<File>,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    given_up: u64,
    /// Lines that this process has written to the open file.
    written: u64,
    warned: Option<Instant>,
}

/// Location of the journal: a name below a directory descriptor.
#[derive(Debug)]
struct Place {
    dir: Dir,
    name: OsString,
    /// For error messages.
    path: PathBuf,
}

impl Journal {
    /// Opens or creates the journal for process number `attempt` of a run, counted from 1, and removes the torn last
    /// line of a killed process.
    pub fn open(path: &Path, attempt: u32) -> Result<Journal, JournalError> {
        let held = Dir::above(path).map_err(|source| JournalError::Write { path: path.to_owned(), source });
        let (dir, name) = held?;
        Journal::at(Place { dir, name, path: path.to_owned() }, attempt)
    }

    /// As [`open`](Journal::open), below a directory descriptor.
    pub fn open_in(dir: &Dir, name: &str, attempt: u32) -> Result<Journal, JournalError> {
        Journal::at(Place { dir: dir.clone(), name: name.into(), path: dir.path().join(name) }, attempt)
    }

    fn at(place: Place, attempt: u32) -> Result<Journal, JournalError> {
        let file = Some(place.open()?);
        let waiting = VecDeque::new();
        Ok(Journal { place, attempt, file, waiting, waiting_bytes: 0, given_up: 0, written: 0, warned: None })
    }

    /// Checks, without writing, that `path` is missing or can be opened as a journal.
    pub fn check(path: &Path) -> Result<(), JournalError> {
        let error = |source| JournalError::Write { path: path.to_owned(), source };
        let opened = Dir::above(path).and_then(|(dir, name)| dir.open_own(name));
        match opened {
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            file => check_names(&mut file.map_err(error)?).map_err(error),
        }
    }

    /// Reads every whole line of the journal at `path`; none if the file is missing.
    pub fn read(path: &Path) -> Result<Reading, ReadingError> {
        reading::read(path)
    }

    /// Number of the next process: one above the largest attempt in the journal at `path`.
    pub fn next_attempt(path: &Path) -> Result<u32, ReadingError> {
        Ok(reading::largest_attempt(path)?.saturating_add(1))
    }

    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Appends `line` after the waiting lines. A failure is logged and counted; training continues.
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
        // Writing first makes room: a line is dropped only if those before it cannot be written either.
        let mut pushed = self.push();
        if self.waiting_bytes + bytes.len() > BACKLOG {
            self.given_up += 1;
        } else {
            self.waiting_bytes += bytes.len();
            self.waiting.push_back(bytes);
        }
        if pushed.is_ok() {
            pushed = self.push();
        }
        if let Err(error) = pushed {
            self.warn(&error.to_string());
        }
    }

    /// Writes the waiting lines and syncs the file. Called before a checkpoint is published, and at the end.
    pub fn sync(&mut self) {
        let synced = self.push().and_then(|()| match &self.file {
            Some(file) => file.sync_all().and_then(|()| self.check_there(file)).map_err(|source| self.error(source)),
            None => Ok(()),
        });
        if let Err(error) = synced {
            // After a failed sync, later results for this file cannot be trusted.
            if self.file.take().is_some_and(|file| matches!(Dir::names_of(&file), Ok(0))) {
                self.given_up += std::mem::take(&mut self.written);
            }
            self.warn(&error.to_string());
        }
    }

    fn check_there(&self, file: &File) -> io::Result<()> {
        match Dir::names_of(file)? {
            0 => Err(io::Error::new(io::ErrorKind::NotFound, "it was removed while it was written")),
            _ => Ok(()),
        }
    }

    /// Lines missing in the file: dropped, or still waiting for it to become writable.
    pub fn lost(&self) -> u64 {
        self.given_up + self.waiting.len() as u64
    }

    /// Writes the waiting lines in order.
    fn push(&mut self) -> Result<(), JournalError> {
        while let Some(line) = self.waiting.front() {
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(self.place.open()?),
            };
            if let Err(source) = write_line(file, line) {
                // Reopening the file removes the torn part.
                self.file = None;
                return Err(self.error(source));
            }
            self.waiting_bytes -= line.len();
            self.written += 1;
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn error(&self, source: io::Error) -> JournalError {
        JournalError::Write { path: self.place.path.clone(), source }
    }

    fn warn(&mut self, what: &str) {
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            let lost = self.lost();
            tracing::warn!(
                "{what}; training goes on, {lost} lines of {} are missing so far",
                self.place.path.display()
            );
        }
    }
}

impl Place {
    /// Opens the file for appending, after the end of its last whole line.
    fn open(&self) -> Result<File, JournalError> {
        let error = |source| JournalError::Write { path: self.path.clone(), source };
        let mut file = match self.dir.open_own(&self.name) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                let file = self.dir.create(&self.name).map_err(error)?;
                // The name of a new file is synced now, its content later.
                self.dir.sync().map_err(error)?;
                file
            }
            file => file.map_err(error)?,
        };
        if Dir::names_of(&file).map_err(error)? > 1 {
            file = self.copied(file).map_err(error)?;
        }
        rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::APPEND).map_err(|errno| error(errno.into()))?;
        let length = file.metadata().map_err(error)?.len();
        match end_of_last_line(&mut file, length).map_err(error)? {
            Some(end) if end == length => {}
            Some(end) => file.set_len(end).map_err(error)?,
            None => return Err(JournalError::NotAJournal { path: self.path.clone() }),
        }
        Ok(file)
    }

    /// Replaces a journal that has several hard links by a copy. A run copied by hard links shares its journal with
    /// the original run, whose file stays unchanged.
    fn copied(&self, mut original: File) -> io::Result<File> {
        check_names(&mut original)?;
        let (name, mut copy) = make_temporary_name(|name| self.dir.create(name))?;
        let permissions = original.metadata()?.permissions();
        let placed = io::copy(&mut original, &mut copy)
            .and_then(|_| copy.set_permissions(permissions))
            .and_then(|()| copy.sync_all())
            .and_then(|()| self.dir.rename(&name, &self.name))
            .and_then(|()| self.dir.sync());
        if placed.is_err() {
            let _ = self.dir.remove_file(&name);
        }
        placed.map(|()| copy)
    }
}

/// Refuses a file with several hard links that is not a journal: it was linked here by mistake or on purpose. It is
/// not copied either, since others may read the copy.
fn check_names(file: &mut File) -> io::Result<()> {
    let names = Dir::names_of(file)?;
    let mut start = [0; BEGINNING.len()];
    let is_journal = file.metadata()?.len() == 0 || (file.read_exact(&mut start).is_ok() && start == *BEGINNING);
    file.rewind()?;
    if names <= 1 || is_journal { Ok(()) } else { Err(Foreign::Names { names }.into()) }
}

/// Offset of the end of the last whole line: after the last newline, or 0. `None` if the torn part is longer than a
/// line.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(step: u64) -> Line {
        Line::Skipped { step, reason: "the loss is NaN".to_owned() }
    }

    fn steps(path: &Path) -> Vec<u64> {
        let reading = Journal::read(path).unwrap();
        assert_eq!((reading.fault_count, reading.torn), (0, false), "{:?}", reading.faults);
        reading.lines.iter().map(|line| line["step"].as_u64().unwrap()).collect()
    }

    fn append(journal: &mut Journal, steps: std::ops::RangeInclusive<u64>) {
        for step in steps {
            journal.append(&skipped(step), WallTime::default());
        }
    }

    #[test]
    fn a_torn_line_is_cut_off_at_every_length_and_no_whole_line_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut journal = Journal::open(&path, 1).unwrap();
        append(&mut journal, 1..=3);
        let whole = std::fs::read(&path).unwrap();
        let line = whole.len() / 3;
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut journal = Journal::open(&path, 2).unwrap();
            append(&mut journal, 9..=9);
            let mut want: Vec<u64> = (1..=(length / line) as u64).collect();
            want.push(9);
            assert_eq!(steps(&path), want, "cut at {length}");
            assert_eq!(journal.lost(), 0);
        }
        println!("proof: R6 journal torn at every byte: {} points, 0 failures", whole.len() + 1);
    }

    #[test]
    fn the_end_of_the_last_line_is_found_beyond_a_chunk_and_not_beyond_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        for (torn, opens) in [(CHUNK - 1, true), (CHUNK, true), (3 * CHUNK + 1, true), (LONGEST_LINE + CHUNK, false)] {
            let mut content = b"{}\n".to_vec();
            content.resize(content.len() + torn, 0);
            std::fs::write(&path, &content).unwrap();
            assert_eq!(Journal::open(&path, 1).is_ok(), opens, "{torn}");
            assert_eq!(std::fs::metadata(&path).unwrap().len(), if opens { 3 } else { content.len() as u64 });
        }
        let error = Journal::open(&path, 1).unwrap_err();
        assert!(error.to_string().contains("hold no end of a line; move it away"), "{error}");
        assert_eq!(error.exit(), Exit::CantCreate);
    }

    #[test]
    fn what_is_no_file_is_no_journal() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path(), Path::new("/dev/null")] {
            let error = Journal::open(path, 1).unwrap_err();
            assert!(error.to_string().ends_with(", want a regular file; move it away"), "{error}");
            assert_eq!(error.exit(), Exit::CantCreate);
        }
        let error = Journal::open(&dir.path().join("missing/metrics.jsonl"), 1).unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
    }

    #[test]
    fn a_journal_of_two_names_is_copied_and_no_other_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        append(&mut Journal::open(&at("original"), 1).unwrap(), 1..=2);
        let before = std::fs::read(at("original")).unwrap();
        std::fs::hard_link(at("original"), at("metrics.jsonl")).unwrap();
        append(&mut Journal::open(&at("metrics.jsonl"), 2).unwrap(), 3..=3);
        assert_eq!(steps(&at("metrics.jsonl")), [1, 2, 3]);
        assert_eq!(std::fs::read(at("original")).unwrap(), before);
        append(&mut Journal::open(&at("original"), 2).unwrap(), 4..=4);
        assert_eq!((steps(&at("original")), steps(&at("metrics.jsonl"))), (vec![1, 2, 4], vec![1, 2, 3]));

        for planted in ["a secret\n", "{\"a\": 1}\n", "x"] {
            std::fs::write(at("planted"), planted).unwrap();
            let _ = std::fs::remove_file(at("link"));
            std::fs::hard_link(at("planted"), at("link")).unwrap();
            let error = Journal::open(&at("link"), 1).unwrap_err();
            assert!(error.to_string().contains("link: it has 2 names (hard links), want one"), "{error}");
            assert_eq!((std::fs::read(at("planted")).unwrap(), error.exit()), (planted.into(), Exit::CantCreate));
        }
        std::fs::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink("planted", at("link")).unwrap();
        let error = Journal::open(&at("link"), 1).unwrap_err();
        assert!(
            error.to_string().ends_with("link: it is a symbolic link, want a regular file; move it away"),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "no copy is left");
    }

    #[test]
    fn lines_of_a_journal_that_was_removed_are_counted_and_it_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut journal = Journal::open(&path, 1).unwrap();
        append(&mut journal, 1..=2);
        journal.sync();
        assert_eq!(journal.lost(), 0);
        std::fs::remove_file(&path).unwrap();
        journal.sync();
        append(&mut journal, 3..=3);
        assert_eq!((journal.lost(), steps(&path)), (2, vec![3]));
    }

    #[test]
    fn a_line_that_cannot_be_written_is_written_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut journal = Journal::open(&path, 1).unwrap();
        append(&mut journal, 1..=1);
        // A read-only descriptor stands for a failing disk: the open file cannot be written any more.
        journal.file = Some(File::open(&path).unwrap());
        append(&mut journal, 2..=2);
        assert_eq!((journal.lost(), steps(&path)), (1, vec![1]));
        append(&mut journal, 3..=3);
        assert_eq!((journal.lost(), steps(&path)), (0, vec![1, 2, 3]));
        assert!(journal.warned.is_some());
    }

    #[test]
    fn a_torn_line_never_stands_in_the_middle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut journal = Journal::open(&path, 1).unwrap();
        append(&mut journal, 1..=1);
        journal.file.as_mut().unwrap().write_all(b"{\"v\":1,").unwrap();
        journal.file = Some(File::open(&path).unwrap());
        append(&mut journal, 2..=3);
        assert_eq!((journal.lost(), steps(&path)), (0, vec![1, 2, 3]));
    }

    #[test]
    fn a_short_write_is_a_failure() {
        struct Half(Vec<u8>);
        impl Write for Half {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.extend_from_slice(&bytes[..bytes.len() / 2]);
                Ok(bytes.len() / 2)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = write_line(&mut Half(Vec::new()), b"1234567890").unwrap_err();
        assert_eq!(error.to_string(), "5 of 10 bytes of a line could be written");
    }

    #[test]
    fn lines_wait_within_bounds_and_what_finds_no_room_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut journal = Journal::open(&path, 1).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        journal.file = None;
        let long = Line::Skipped { step: 1, reason: "x".repeat(BACKLOG / 10) };
        for _ in 0..20 {
            journal.append(&long, WallTime::default());
        }
        assert_eq!((journal.lost(), journal.waiting.len()), (20, 9));
        let warned = journal.warned;
        journal.sync();
        assert_eq!(journal.warned, warned, "one warning a minute");
        std::fs::remove_dir(&path).unwrap();
        journal.append(&long, WallTime::default());
        assert_eq!((journal.lost(), steps(&path).len()), (11, 10));
        journal.sync();
        assert_eq!(journal.lost(), 11);
    }

    #[test]
    fn a_line_that_would_not_be_read_back_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut journal = Journal::open(&path, 1).unwrap();
        journal.append(&Line::Skipped { step: 1, reason: "x".repeat(LONGEST_LINE) }, WallTime::default());
        append(&mut journal, 2..=2);
        assert_eq!((journal.lost(), steps(&path)), (1, vec![2]));
    }

    #[test]
    fn attempts_are_counted_from_what_the_journal_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        assert_eq!(Journal::next_attempt(&path).unwrap(), 1);
        append(&mut Journal::open(&path, 1).unwrap(), 1..=2);
        append(&mut Journal::open(&path, 4).unwrap(), 2..=2);
        assert_eq!(Journal::next_attempt(&path).unwrap(), 5);
    }
}
