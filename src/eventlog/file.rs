//! One event file: created once, written in whole records, never appended to by a later process.
//!
//! TensorBoard reads the files of a run in the order of their names, and what stands in a later file overrides. A new
//! file is therefore named so that it sorts after all that are there, also when the clock went back.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::event::{self, EncodeError, What};
use super::reader::EventReader;
use super::record;
use super::summary::Value;
use super::tally::{Kind, Tally};
use crate::exit::{Classify, Exit};
use crate::files::{self, Dir};
use crate::types::{Step, WallTime};

/// TensorBoard's mark of an event file: its name contains this.
pub const MARK: &str = "tfevents";

const PREFIX: &str = "events.out.tfevents.";
/// The largest number of ten digits.
const LAST_NUMBER: u64 = 9_999_999_999;
/// Bytes of a file's name, at most.
/// Characters of a name, with room for what is put behind the last one when a run ends.
const LONGEST_NAME: usize = 240;
pub(super) const WRITER: &str = "trainer";
/// Bytes gathered before they are written.
const BUFFER: usize = 64 << 10;

/// An open event file. What was appended is in the file after [`EventFile::flush`], on the disk after
/// [`EventFile::sync`].
///
/// After a write that failed the file may end within a record, and takes nothing more: take what is left with
/// [`EventFile::abandon`]. Dropping a file loses what was not flushed.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
    dir: Dir,
    buffer: Vec<u8>,
    records: u64,
    /// Records in the file.
    written: u64,
    bytes: u64,
    tally: Tally,
    says_start: bool,
    torn: bool,
    entry_synced: bool,
}

/// Identity of a writer: the part of a file's name that keeps two writers apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    host: String,
    pid: u32,
}

/// Whole records that are not in any file yet, and the tally of all that was said until now.
#[derive(Debug, Default)]
pub struct Backlog {
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
    pub(super) tally: Tally,
}

/// Error in creating an event file. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("cannot create the run directory {}: {source}", dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error("cannot list the run directory {}: {source}", dir.display())]
    List { dir: PathBuf, source: io::Error },
    #[error("cannot create the event file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "cannot name a new event file in {} that TensorBoard reads last: the last name there is {last}, and none is left after it; \
         move it away",
        dir.display()
    )]
    Name { dir: PathBuf, last: String },
}

/// Error in writing an event.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("cannot write to {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot bring {} to the disk: {source}", path.display())]
    Sync { path: PathBuf, source: io::Error },
    /// It is not where it was, with so many events in it, and somewhere else unless it was removed.
    #[error("{} was {} while it was written, with {}", path.display(), went(to.as_deref()), counted(*events))]
    Gone { path: PathBuf, to: Option<PathBuf>, events: u64 },
    /// The file is as it was.
    #[error("cannot encode an event for {}: {source}", path.display())]
    Encode { path: PathBuf, source: EncodeError },
}

impl Classify for CreateError {
    fn exit(&self) -> Exit {
        match self {
            CreateError::Directory { source, .. }
            | CreateError::List { source, .. }
            | CreateError::File { source, .. } => Exit::of_output(source),
            CreateError::Name { .. } => Exit::CantCreate,
        }
    }
}

impl Classify for WriteError {
    fn exit(&self) -> Exit {
        match self {
            WriteError::Write { .. } | WriteError::Sync { .. } | WriteError::Gone { .. } => Exit::Io,
            WriteError::Encode { source, .. } => source.exit(),
        }
    }
}

impl WriteError {
    /// Events that were in the file and are lost with it.
    pub(super) fn lost(&self) -> u64 {
        match self {
            WriteError::Gone { events, .. } => *events,
            _ => 0,
        }
    }
}

impl Origin {
    /// Characters of `host` that have no place in a file name become `_`.
    pub fn new(host: &str, pid: u32) -> Origin {
        let keep = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
        let host: String = host.chars().take(128).map(keep).collect();
        Origin { host: if host.is_empty() { "localhost".to_owned() } else { host }, pid }
    }

    /// This process on this machine.
    pub fn here() -> Origin {
        Origin::new(&gethostname::gethostname().to_string_lossy(), std::process::id())
    }
}

impl EventFile {
    /// As [`create_in`](EventFile::create_in), in the directory of that path, which is made if need be.
    pub fn create(
        dir: &Path,
        origin: &Origin,
        counter: u64,
        now: WallTime,
        start: Option<Step>,
    ) -> Result<EventFile, CreateError> {
        let held = Dir::make(dir).map_err(|source| CreateError::Directory { dir: dir.to_owned(), source })?;
        EventFile::create_in(&held, origin, counter, now, start)
    }

    /// Creates the next file of the run in `dir`.
    ///
    /// `counter` is the number of files that this process opened before. With `start` the file says that a process
    /// begins, and writes from that step on: of the points of earlier processes those from it on are void.
    pub fn create_in(
        dir: &Dir,
        origin: &Origin,
        counter: u64,
        now: WallTime,
        start: Option<Step>,
    ) -> Result<EventFile, CreateError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| CreateError::File { path, source }
        };
        // Another process may take the name between the look and the creation.
        let (name, file) = loop {
            let name = next_name(dir, origin, counter, now)?;
            match dir.create(&name) {
                Ok(file) => break (name, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(at(&dir.path().join(&name))(source)),
            }
        };
        let (path, dir) = (dir.path().join(&name), dir.clone());
        let buffer = Vec::with_capacity(BUFFER + BUFFER / 4);
        let tally = Tally::default();
        let mut event_file = EventFile {
            file,
            path,
            dir,
            buffer,
            records: 0,
            written: 0,
            bytes: 0,
            tally,
            says_start: start.is_some(),
            torn: false,
            entry_synced: false,
        };
        // The run shows in TensorBoard from here on, and a disk that is full is found before anything is lost.
        if let Err(source) = event_file.begin(now, start) {
            // Ours, new, and of no use; if it cannot be removed the first error is still the one to tell.
            let _ = event_file.dir.remove_file(&name);
            return Err(at(&event_file.path)(source));
        }
        Ok(event_file)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file; what is still in memory does not count.
    pub fn written_bytes(&self) -> u64 {
        self.bytes
    }

    /// True if it begins with a session start.
    pub(super) fn says_start(&self) -> bool {
        self.says_start
    }

    /// Bytes of what was appended and adopted.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Appends one event with all of `values`.
    pub fn write_values(&mut self, wall_time: WallTime, step: Step, values: &[Value]) -> Result<(), WriteError> {
        let result = event::append_values(&mut self.buffer, wall_time, step, values, &mut self.tally);
        self.appended(result)
    }

    /// Appends one event.
    pub fn write(&mut self, wall_time: WallTime, step: Step, what: &What) -> Result<(), WriteError> {
        let result = event::append_what(&mut self.buffer, wall_time, step, what, &mut self.tally);
        self.appended(result)
    }

    /// Writes what other files could not take.
    pub fn adopt(&mut self, backlog: &mut Backlog) -> Result<(), WriteError> {
        self.records += std::mem::take(&mut backlog.records);
        self.buffer.append(&mut backlog.bytes);
        self.tally.merge(&std::mem::take(&mut backlog.tally));
        self.flush()
    }

    /// Hands what is in memory to the operating system: readers see it, and it survives the process.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        let at = |source| WriteError::Write { path: self.path.clone(), source };
        if self.torn {
            return Err(at(io::Error::other("the file was given up when an earlier write failed")));
        }
        let mut done = 0;
        while let Some(rest) = self.buffer.get(done..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(count) if count > 0 => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    // Whole records that got through are not written again.
                    let (end, count) = record::whole_records(&self.buffer, done);
                    self.buffer.drain(..end);
                    self.records = self.records.saturating_sub(count);
                    self.written += count;
                    self.bytes += done as u64;
                    self.torn = true;
                    return Err(at(other.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into())));
                }
            }
        }
        self.bytes += done as u64;
        self.buffer.clear();
        self.written += std::mem::take(&mut self.records);
        self.check_there()
    }

    /// Nobody looks for the run in a file that was removed or moved away, by itself or with its directory.
    fn check_there(&mut self) -> Result<(), WriteError> {
        let name = self.path.file_name().unwrap_or_default();
        // An error of this check is left to the next write.
        let is_gone = |is_there: io::Result<bool>| matches!(is_there, Ok(false));
        if !is_gone(self.dir.is_file_at(&self.file, name)) && !is_gone(self.dir.is_in_place()) {
            return Ok(());
        }
        self.torn = true;
        let to = Dir::place_of(&self.file, &self.path);
        Err(WriteError::Gone { path: self.path.clone(), to, events: std::mem::take(&mut self.written) })
    }

    /// Flushes, and waits for the disk: what was written survives a power cut.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.flush()?;
        let at = |source| WriteError::Sync { path: self.path.clone(), source };
        self.file.sync_data().map_err(at)?;
        if !self.entry_synced {
            // The name, too, must be on the disk.
            self.dir.sync().map_err(at)?;
            self.entry_synced = true;
        }
        Ok(())
    }

    /// Flushes and closes. An error means that what was not flushed is lost; flush before to keep it.
    pub fn close(mut self) -> Result<(), WriteError> {
        self.flush()
    }

    /// Gives the file up and returns the records that are not in it, with the tally of all that were appended.
    pub fn abandon(self) -> Backlog {
        Backlog { bytes: self.buffer, records: self.records, tally: self.tally }
    }

    /// Sends what follows elsewhere, such as a device that is full.
    #[cfg(test)]
    pub(super) fn redirect(&mut self, file: File) {
        self.file = file;
    }

    fn begin(&mut self, now: WallTime, start: Option<Step>) -> io::Result<()> {
        let result = event::append_version(&mut self.buffer, now, WRITER).and_then(|()| match start {
            Some(step) => event::append_start(&mut self.buffer, now, step),
            None => Ok(()),
        });
        result.map_err(io::Error::other)?;
        self.tally.add(Kind::Headers, self.buffer.len() as u64);
        self.flush().map_err(|error| match error {
            WriteError::Write { source, .. } | WriteError::Sync { source, .. } => source,
            error => io::Error::other(error),
        })
    }

    fn appended(&mut self, result: Result<(), EncodeError>) -> Result<(), WriteError> {
        result.map_err(|source| WriteError::Encode { path: self.path.clone(), source })?;
        self.records += 1;
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }
}

impl Backlog {
    /// Events that wait.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Appends one event.
    pub(super) fn push(&mut self, wall_time: WallTime, step: Step, what: &What) -> Result<(), EncodeError> {
        event::append_what(&mut self.bytes, wall_time, step, what, &mut self.tally)?;
        self.records += 1;
        Ok(())
    }
}

fn went(to: Option<&Path>) -> String {
    to.map_or_else(|| "removed".to_owned(), |to| format!("moved to {}", to.display()))
}

fn counted(events: u64) -> String {
    format!("{events} event{} in it", if events == 1 { "" } else { "s" })
}

/// True if a file says that this program wrote it, or is torn before it says anything.
pub fn is_of_this_program(path: &Path) -> bool {
    let Ok(file) = files::open(path) else { return false };
    match EventReader::new(file).next() {
        Some((_, Ok(event))) => event.source_metadata.is_some_and(|source| source.writer == WRITER),
        Some((_, Err(error))) => error.is_truncation(),
        None => true,
    }
}

/// A name that sorts after those of all event files in `dir`, whoever made them and whatever their names are.
fn next_name(dir: &Dir, origin: &Origin, counter: u64, now: WallTime) -> Result<String, CreateError> {
    let entries = dir.list().map_err(|source| CreateError::List { dir: dir.path().to_owned(), source })?;
    let names = entries.iter().map(|entry| entry.name.to_string_lossy());
    let last = names.filter(|name| name.contains(MARK)).max().unwrap_or_default();
    // Of the second when the file is made, or the next one that is free; then it goes on with the numbers of the last name.
    let numbered = |head: &str| {
        let number = last.strip_prefix(head).and_then(|rest| rest.get(..10)?.parse::<u64>().ok());
        let secs = (now.as_secs() as u64).max(number.map_or(0, |number| number + 1));
        let name = format!("{head}{secs:010}.{}.{}.{counter}.v2", origin.host, origin.pid);
        (secs <= LAST_NUMBER && name.as_str() > &*last && name.len() <= LONGEST_NAME).then_some(name)
    };
    let head = last.rfind(MARK).and_then(|at| last.get(..at + MARK.len() + 1)).filter(|head| head.ends_with('.'));
    // A name that the last one begins with, up to the first letter that is not a `z` or beyond, and a `z` in its place.
    let beyond = last.find(|c: char| c < 'z').map_or(&*last, |at| &last[..at]);
    numbered(PREFIX)
        .or_else(|| numbered(head?))
        .or_else(|| numbered(&format!("{beyond}z.{MARK}.")))
        .ok_or_else(|| CreateError::Name { dir: dir.path().to_owned(), last: last.into_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};

    use super::*;
    use crate::eventlog::reader::EventReader;
    use crate::types::Tag;

    fn time(secs: f64) -> WallTime {
        WallTime::from_secs(secs).unwrap()
    }

    fn create(dir: &Path, secs: f64) -> Result<EventFile, CreateError> {
        EventFile::create(dir, &Origin::new("host", 42), 0, time(secs), Some(Step::ZERO))
    }

    fn name(file: &EventFile) -> &str {
        file.path().file_name().unwrap().to_str().unwrap()
    }

    #[test]
    fn a_file_begins_with_version_and_start() {
        let dir = tempfile::tempdir().unwrap();
        let step = Step::new(5).unwrap();
        let file = EventFile::create(&dir.path().join("a/train"), &Origin::new("h/o st", 7), 3, time(12.9), Some(step));
        let file = file.unwrap();
        assert_eq!(name(&file), "events.out.tfevents.0000000012.h_o_st.7.3.v2");
        let bytes = fs::read(file.path()).unwrap();
        assert_eq!(file.written_bytes(), bytes.len() as u64);
        let mut want = Vec::new();
        event::append_version(&mut want, time(12.9), "trainer").unwrap();
        event::append_start(&mut want, time(12.9), step).unwrap();
        assert_eq!(bytes, want);
    }

    #[test]
    fn equal_input_makes_equal_bytes() {
        let write = || {
            let dir = tempfile::tempdir().unwrap();
            let mut file = create(dir.path(), 100.0).unwrap();
            for step in 0..5000 {
                let values = [Value::scalar(Tag::of("loss"), step as f32)];
                file.write_values(time(step as f64), Step::new(step).unwrap(), &values).unwrap();
            }
            let path = file.path().to_owned();
            file.close().unwrap();
            (fs::read(&path).unwrap(), path.file_name().unwrap().to_owned())
        };
        let (first, second) = (write(), write());
        assert_eq!(first, second);
        assert_eq!(EventReader::new(first.0.as_slice()).filter(|(_, event)| event.is_ok()).count(), 5002);
    }

    #[test]
    fn a_new_file_sorts_last_whatever_the_clock_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        for secs in [1_000_000.0, 1_000_000.0, 0.0, 999_999.5, 2_000_000.0, 5.0] {
            names.push(name(&create(dir.path(), secs).unwrap()).to_owned());
        }
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert!(names[5].starts_with("events.out.tfevents.0002000001.host.42."), "{names:?}");
    }

    #[test]
    fn a_new_file_sorts_last_whatever_names_there_are() {
        let long = format!("z.tfevents.{}", "z".repeat(200));
        for (last, want) in [
            ("events.out.tfevents.9999999998.host", "events.out.tfevents.9999999999.host.42.0.v2"),
            ("events.out.tfevents.9999999999.host", "z.tfevents.0000000005.host.42.0.v2"),
            ("events.out.tfevents.99999999999999.host", "z.tfevents.0000000005.host.42.0.v2"),
            ("events.out.tfevents.later", "z.tfevents.0000000005.host.42.0.v2"),
            ("events.tfevents.2000000000.v2", "events.tfevents.2000000001.host.42.0.v2"),
            ("run.tfevents", "z.tfevents.0000000005.host.42.0.v2"),
            ("z.tfevents", "zz.tfevents.0000000005.host.42.0.v2"),
            ("z.tfevents.9999999999.v2", "zz.tfevents.0000000005.host.42.0.v2"),
            (&long, "zz.tfevents.0000000005.host.42.0.v2"),
            ("zz\u{e9}~.tfevents", "zz\u{e9}~z.tfevents.0000000005.host.42.0.v2"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(last), b"").unwrap();
            let mut names = vec![last.to_owned()];
            names.extend((0..3).map(|_| name(&create(dir.path(), 5.0).unwrap()).to_owned()));
            assert_eq!(names[1], want);
            assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
            assert_eq!(names[2].len(), names[3].len(), "the next ones count on: {names:?}");
        }
    }

    #[test]
    fn a_name_that_nothing_sorts_after_is_an_error() {
        let last = format!("{}.tfevents", "z".repeat(240));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(&last), b"").unwrap();
        let error = create(dir.path(), 5.0).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot name a new event file in {} that TensorBoard reads last: the last name there is {last}, and none is \
                 left after it; move it away",
                dir.path().display()
            )
        );
        assert_eq!(error.exit(), Exit::CantCreate);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_was_removed_takes_nothing_more_and_says_what_is_lost_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = create(dir.path(), 5.0).unwrap();
        let values = [Value::scalar(Tag::of("loss"), 0.5)];
        file.write_values(time(1.0), Step::ZERO, &values).unwrap();
        file.flush().unwrap();
        fs::remove_file(file.path()).unwrap();
        file.write_values(time(1.0), Step::ZERO, &values).unwrap();
        let error = file.sync().unwrap_err();
        let want = format!("{} was removed while it was written, with 2 events in it", file.path().display());
        assert_eq!(error.to_string(), want);
        assert_eq!((error.lost(), error.exit()), (2, Exit::Io));
        file.write_values(time(1.0), Step::ZERO, &values).unwrap();
        assert_eq!(file.flush().unwrap_err().lost(), 0);
        assert_eq!(file.abandon().records(), 1);
    }

    #[test]
    fn a_file_that_is_elsewhere_takes_nothing_more_and_says_where_it_is() {
        let values = [Value::scalar(Tag::of("loss"), 0.5)];
        type Move = fn(&Path, &Path);
        let moves: [(Move, Option<&str>); 5] = [
            (|dir, path| fs::rename(path, dir.join("elsewhere")).unwrap(), Some("elsewhere")),
            (|dir, _| fs::rename(dir.join("train"), dir.join("old")).unwrap(), Some("old/NAME")),
            (
                |dir, _| {
                    fs::rename(dir.join("train"), dir.join("old")).unwrap();
                    std::os::unix::fs::symlink("old", dir.join("train")).unwrap();
                },
                Some("old/NAME"),
            ),
            (
                |dir, path| {
                    fs::copy(path, dir.join("copy")).unwrap();
                    fs::rename(dir.join("copy"), path).unwrap();
                },
                None,
            ),
            (
                |dir, path| {
                    fs::hard_link(path, dir.join("second")).unwrap();
                    fs::remove_file(path).unwrap();
                },
                None,
            ),
        ];
        for (gone, to) in moves {
            let place = tempfile::tempdir().unwrap();
            let dir = place.path().canonicalize().unwrap();
            let train = Dir::open(&dir).unwrap().own_dir("train").unwrap();
            let mut file = EventFile::create_in(&train, &Origin::new("host", 42), 0, time(5.0), None).unwrap();
            file.write_values(time(1.0), Step::ZERO, &values).unwrap();
            file.flush().unwrap();
            gone(&dir, file.path());
            let error = file.flush().unwrap_err();
            let went = to.map_or("removed".to_owned(), |to| {
                format!("moved to {}", dir.join(to.replace("NAME", name(&file))).display())
            });
            let want = format!("{} was {went} while it was written, with 1 event in it", file.path().display());
            assert_eq!((error.to_string(), error.lost()), (want, 1));
        }
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train");
        fs::write(&path, b"mine").unwrap();
        let error = create(&path, 5.0).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot create the run directory {}: ", path.display())));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_full_disk_leaves_the_records_to_the_next_file() {
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
        let dir = tempfile::tempdir().unwrap();
        let mut file = create(dir.path(), 5.0).unwrap();
        file.redirect(full);
        let values = [Value::scalar(Tag::of("loss"), 1.0)];
        file.write_values(time(1.0), Step::ZERO, &values).unwrap();
        let error = file.flush().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot write to {}: No space left on device (os error 28)", file.path().display())
        );
        assert_eq!(error.exit(), Exit::Io);
        let again = file.flush().unwrap_err().to_string();
        assert!(again.ends_with("the file was given up when an earlier write failed"), "{again}");
        let mut backlog = file.abandon();
        assert_eq!(backlog.records(), 1);

        let mut next = create(dir.path(), 5.0).unwrap();
        let before = next.written_bytes();
        next.adopt(&mut backlog).unwrap();
        assert!(next.written_bytes() > before);
        assert_eq!(backlog.records(), 0);
    }
}
