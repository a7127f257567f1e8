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
        "{} is not the journal of a run: its last {LONGEST_LINE} bytes hold no end of a line; move it away, start over with \
         --fresh, or choose another --logdir", path.display()
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
        // Room first: a line is given up only if those before it cannot be written either.
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
            assert!(matches!(Journal::open(path, 1), Err(JournalError::NotAFile { .. })));
        }
        let error = Journal::open(&dir.path().join("missing/metrics.jsonl"), 1).unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
    }

    #[test]
    fn a_line_that_cannot_be_written_is_written_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut journal = Journal::open(&path, 1).unwrap();
        append(&mut journal, 1..=1);
        // Open for reading alone: as with a failing disk, what was open is of no more use.
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
