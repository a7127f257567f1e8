//! A log directory: one event file a run, opened when the run has something to say.
//!
//! A write that fails does not stop anything. The file is given up where it is, as it may end within a record; what
//! did not get into it waits in memory, and so does what comes, up to [`BACKLOG`] bytes a run. A new file is tried at
//! most every [`RETRY`]; it takes what waits, in order, so a disk that is full for a moment costs nothing. Only what
//! finds the memory full, or still waits at the end, is lost, and each loss is told.
//!
//! A file that is not where it was, removed or moved away by itself or with its directory, is noticed when it is flushed. What
//! it held is lost, and the next one is begun at once, in a directory that is made again if need be.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::event::What;
use super::file::{Backlog, CreateError, EventFile, Origin, WriteError};
use super::sink::{Cause, Entry, Sink, SinkError};
use super::snapshots::{self, SnapshotError};
use super::tally::{Kind, Tally};
use crate::files::Dir;
use crate::types::{Run, Step, WallTime};

/// Bytes that wait, at most, while a run's file cannot be written.
pub const BACKLOG: usize = 4 << 20;
/// Time between two tries to open a file.
pub const RETRY: Duration = Duration::from_secs(5);

/// The event files below one directory. `Err` from `write` is about the entry given, or those shortly before it.
pub struct LogDir {
    root: Root,
    origin: Origin,
    starts: BTreeMap<Run, Step>,
    /// Of runs that do not have their usual one.
    dirs: BTreeMap<Run, PathBuf>,
    lanes: BTreeMap<Run, Lane>,
    /// A TensorBoard that runs is shown each snapshot for the Projector.
    shows: Option<Shown>,
    retry: Duration,
    opened: u64,
    lost: u64,
    /// Of what is in no lane's tally: snapshots for the Projector, and lanes that are closed.
    tally: Tally,
    closed: bool,
}

/// Place of the runs' directories.
#[derive(Debug)]
enum Root {
    /// Made, too, when there is something to write.
    Path(PathBuf),
    /// Held by somebody, who has seen to it that it is the right one.
    Held(Dir),
}

/// State of one run.
#[derive(Default)]
struct Lane {
    file: Option<EventFile>,
    /// A file of this process says that it begins. A second one must not, as long as that is there: readers would drop what
    /// the first holds.
    started: bool,
    backlog: Backlog,
    /// Of the last entry, and so the time with which a file that it opens begins: not the clock's, so that times in a
    /// file do not go back and equal entries give equal bytes.
    latest: Option<(WallTime, Step)>,
    failed: Option<Instant>,
}

/// The state of the signs that there are snapshots.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    Nothing,
    Something,
}

/// Durability level of a flush.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    File,
    Disk,
}

impl fmt::Debug for LogDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDir").field("root", &self.root).field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl LogDir {
    /// Nothing is created yet.
    pub fn new(root: impl Into<PathBuf>, origin: Origin) -> LogDir {
        LogDir::at(Root::Path(root.into()), origin)
    }

    /// As [`new`](LogDir::new), in a directory that is held: files go there, whatever its path leads to later.
    pub fn within(root: Dir, origin: Origin) -> LogDir {
        LogDir::at(Root::Held(root), origin)
    }

    fn at(root: Root, origin: Origin) -> LogDir {
        LogDir {
            root,
            origin,
            starts: BTreeMap::new(),
            dirs: BTreeMap::new(),
            lanes: BTreeMap::new(),
            shows: None,
            retry: RETRY,
            opened: 0,
            lost: 0,
            tally: Tally::default(),
            closed: false,
        }
    }

    /// Says that `run` goes on at `step`, so that readers drop what an interrupted process wrote from there on.
    #[must_use]
    pub fn starting_at(mut self, run: Run, step: Step) -> LogDir {
        self.starts.insert(run, step);
        self
    }

    /// Puts the files of `run` into `dir`.
    #[must_use]
    pub fn placing(mut self, run: Run, dir: impl Into<PathBuf>) -> LogDir {
        self.dirs.insert(run, dir.into());
        self
    }

    /// Shows snapshots for the Projector to a TensorBoard that runs as they come, from the first entry to the last.
    #[must_use]
    pub fn showing_snapshots(mut self) -> LogDir {
        self.shows = Some(Shown::Nothing);
        self
    }

    fn show(&mut self, snapshot: Option<Step>, now: WallTime) {
        if self.shows.is_none() || (snapshot.is_none() && self.shows == Some(Shown::Something)) {
            return;
        }
        self.shows = Some(Shown::Something);
        // The points themselves are there, and the next TensorBoard that starts finds them.
        let root = self.root.open();
        let root = root.map_err(|source| CreateError::Directory { dir: self.root.path().to_owned(), source });
        if let Err(error) = root.and_then(|root| snapshots::show(&root, snapshot, &self.origin, now)) {
            tracing::debug!("TensorBoard is not told of a snapshot: {error}");
        }
    }

    /// Opens the file of `run` if it has none and the time has come.
    fn open(&mut self, run: Run, force: bool) -> Result<(), SinkError> {
        let lane = self.lanes.entry(run).or_default();
        let due = force || lane.failed.is_none_or(|at| at.elapsed() >= self.retry);
        let (None, Some((now, _)), true) = (&lane.file, lane.latest, due) else { return Ok(()) };
        let start = (!lane.started).then(|| self.starts.get(&run).copied().unwrap_or(Step::ZERO));
        let path = place(&self.dirs, self.root.path(), run);
        let dir = self.root.dir(&path).map_err(|source| CreateError::Directory { dir: path, source });
        match dir.and_then(|dir| EventFile::create_in(&dir, &self.origin, self.opened, now, start)) {
            Ok(mut file) => {
                self.opened += 1;
                lane.started = true;
                let adopted = file.adopt(&mut lane.backlog);
                lane.file = Some(file);
                lane.failed = None;
                adopted.map_err(|error| {
                    lane.give_up();
                    self.lost += error.lost();
                    SinkError::new(error.lost(), error)
                })
            }
            Err(error) => {
                lane.failed = Some(Instant::now());
                Err(SinkError::new(0, error))
            }
        }
    }

    /// Ends the use of a file that failed, and begins the next if it is only gone: nothing says that writing fails.
    fn replace(&mut self, run: Run, error: WriteError) -> SinkError {
        let lane = self.lanes.entry(run).or_default();
        let said_start = lane.give_up();
        self.lost += error.lost();
        if !matches!(error, WriteError::Gone { .. }) {
            return SinkError::new(error.lost(), error);
        }
        if let (true, Some((_, step))) = (said_start, lane.latest) {
            // Points of earlier processes stay void from the first step of the new file on.
            lane.started = false;
            self.starts.insert(run, step);
        }
        let mut lost = error.lost();
        let next = self.open(run, true).err().map(|failed| {
            lost += failed.lost;
            Box::new(failed.cause)
        });
        SinkError::new(lost, Cause::Gone { files: vec![error], next })
    }

    fn lose(&mut self, cause: impl Into<Cause>) -> SinkError {
        self.lost += 1;
        SinkError::new(1, cause)
    }

    /// Brings everything as far as `reach` says. All runs are tried, whatever happens to one.
    fn push(&mut self, reach: Reach, last: bool) -> Result<(), SinkError> {
        let mut errors = None;
        for run in Run::ALL {
            if !self.lanes.contains_key(&run) {
                continue;
            }
            let mut error = self.open(run, last).err();
            let file = self.lanes.get_mut(&run).and_then(|lane| lane.file.as_mut());
            let pushed = file.map(|file| if reach == Reach::Disk { file.sync() } else { file.flush() });
            if let Some(Err(failed)) = pushed {
                SinkError::add(&mut error, self.replace(run, failed));
            }
            let events = self.lanes.get(&run).map_or(0, |lane| lane.backlog.records());
            if error.is_none() && events > 0 {
                let dir = place(&self.dirs, self.root.path(), run);
                error = Some(SinkError::new(0, Cause::Waiting { dir, events }));
            }
            if let Some(mut error) = error {
                if last {
                    self.lost += events;
                    error.lost += events;
                }
                SinkError::add(&mut errors, error);
            }
        }
        errors.map_or(Ok(()), Err)
    }
}

impl Root {
    fn path(&self) -> &Path {
        match self {
            Root::Path(path) => path,
            Root::Held(dir) => dir.path(),
        }
    }

    /// The directory at a path below it, which is made where there is none: no link is followed on the way.
    fn dir(&self, path: &Path) -> io::Result<Dir> {
        match self {
            Root::Path(root) => Dir::make(root)?.own_dir_at(path),
            Root::Held(root) => root.own_dir_at(path),
        }
    }

    fn open(&self) -> io::Result<Dir> {
        self.dir(self.path())
    }
}

/// The directory of a run's files.
fn place(dirs: &BTreeMap<Run, PathBuf>, root: &Path, run: Run) -> PathBuf {
    dirs.get(&run).cloned().unwrap_or_else(|| run.within(root))
}

impl Lane {
    /// Ends the use of a file that failed, and tells whether it said that a process begins. What is not in it waits.
    fn give_up(&mut self) -> bool {
        self.failed = Some(Instant::now());
        let Some(file) = self.file.take() else { return false };
        let said_start = file.says_start();
        self.backlog = file.abandon();
        said_start
    }
}

impl Sink for LogDir {
    fn write(&mut self, entry: Entry) -> Result<(), SinkError> {
        if self.closed {
            self.lost += 1;
            return Err(SinkError::new(1, Cause::Closed));
        }
        let Entry { run, wall_time, step, ref what } = entry;
        self.show(None, wall_time);
        if let What::Embeddings(embeddings) = what {
            // Not kept for another try: a snapshot is large, and the next one tells as much.
            let root = self.root.open();
            let root = root.map_err(|source| SnapshotError::Write { path: self.root.path().to_owned(), source });
            return match root.and_then(|root| snapshots::write(&root, step, embeddings, &self.origin, wall_time)) {
                Ok(bytes) => {
                    self.tally.add(Kind::Projector, bytes);
                    self.show(Some(step), wall_time);
                    Ok(())
                }
                Err(error) => Err(self.lose(error)),
            };
        }
        let lane = self.lanes.entry(run).or_default();
        lane.latest = Some((wall_time, step));
        let opened = if lane.file.is_some() { Ok(()) } else { self.open(run, false) };
        let lane = self.lanes.entry(run).or_default();
        let written = match &mut lane.file {
            Some(file) => match file.write(wall_time, step, what) {
                Err(error @ WriteError::Encode { .. }) => Err(self.lose(error)),
                written => written.map_err(|error| self.replace(run, error)),
            },
            None if lane.backlog.bytes.len() >= BACKLOG => {
                let bytes = lane.backlog.bytes.len();
                let dir = place(&self.dirs, self.root.path(), run);
                Err(self.lose(Cause::Full { dir, bytes }))
            }
            None => lane.backlog.push(wall_time, step, what).map_err(|error| self.lose(error)),
        };
        let mut errors = opened.err();
        if let Err(error) = written {
            SinkError::add(&mut errors, error);
        }
        errors.map_or(Ok(()), Err)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.push(Reach::File, false)
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        self.push(Reach::Disk, false)
    }

    fn close(&mut self) -> Result<(), SinkError> {
        if self.closed {
            return Ok(());
        }
        self.closed = true;
        if self.shows == Some(Shown::Something)
            && let Ok(root) = self.root.open()
        {
            snapshots::hide(&root);
        }
        let result = self.push(Reach::File, true);
        self.tally = self.tally();
        self.lanes.clear();
        result
    }

    fn lost(&self) -> u64 {
        self.lost
    }

    fn tally(&self) -> Tally {
        let mut sum = self.tally;
        for lane in self.lanes.values() {
            sum.merge(&lane.backlog.tally);
            if let Some(file) = &lane.file {
                sum.merge(file.tally());
            }
        }
        sum
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::sync::Arc;

    use super::*;
    use crate::eventlog::projector::Embeddings;
    use crate::eventlog::proto::event::What as Wire;
    use crate::eventlog::proto::session_log::SessionStatus;
    use crate::eventlog::reader::EventReader;
    use crate::eventlog::summary::Value;
    use crate::exit::{Classify, Exit};
    use crate::types::Tag;

    fn log(root: &Path) -> LogDir {
        let mut log = LogDir::new(root, Origin::new("host", 1));
        log.retry = Duration::ZERO;
        log
    }

    fn entry(run: Run, step: u64) -> Entry {
        let wall_time = WallTime::from_secs(1.0).unwrap();
        let what = What::Values(vec![Value::scalar(Tag::of("loss"), step as f32)]);
        Entry { run, wall_time, step: Step::new(step).unwrap(), what }
    }

    /// Steps of summaries, and steps of starts, of all files of a run in order.
    fn read(root: &Path, run: Run) -> (Vec<i64>, Vec<i64>) {
        let mut paths: Vec<_> = fs::read_dir(run.within(root)).unwrap().map(|e| e.unwrap().path()).collect();
        paths.retain(|path| path.is_file());
        paths.sort();
        let (mut steps, mut starts) = (Vec::new(), Vec::new());
        for path in paths {
            for (_, event) in EventReader::new(fs::read(path).unwrap().as_slice()) {
                let event = event.unwrap();
                match event.what {
                    Some(Wire::Summary(_)) => steps.push(event.step),
                    Some(Wire::SessionLog(log)) if log.status() == SessionStatus::Start => starts.push(event.step),
                    _ => {}
                }
            }
        }
        (steps, starts)
    }

    #[test]
    fn each_run_has_its_file_once_it_says_something() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path()).starting_at(Run::Steps, Step::new(60).unwrap());
        log.write(entry(Run::Train, 0)).unwrap();
        log.write(entry(Run::Steps, 60)).unwrap();
        log.write(entry(Run::Train, 1)).unwrap();
        log.close().unwrap();
        assert_eq!(read(dir.path(), Run::Train), (vec![0, 1], vec![0]));
        assert_eq!(read(dir.path(), Run::Steps), (vec![60], vec![60]));
        assert!(!dir.path().join("validation").exists());
        assert_eq!(
            log.write(entry(Run::Train, 2)).unwrap_err().to_string(),
            "event log: 1 entry is lost: the log is closed"
        );
        assert_eq!(log.lost(), 1);
    }

    #[test]
    fn dropping_flushes() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path()).write(entry(Run::Train, 0)).unwrap();
        assert_eq!(read(dir.path(), Run::Train).0, [0]);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_tried_again_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let in_the_way = dir.path().join("train");
        fs::write(&in_the_way, b"").unwrap();
        let mut log = log(dir.path());
        let error = log.write(entry(Run::Train, 0)).unwrap_err();
        assert!(error.to_string().starts_with("event log: cannot create the run directory "), "{error}");
        assert!(error.to_string().ends_with("; nothing is lost yet"), "{error}");
        assert_eq!(error.exit(), Exit::CantCreate);
        // The other runs do not suffer.
        log.write(entry(Run::Steps, 0)).unwrap();
        assert!(log.flush().is_err());
        log.retry = RETRY;
        log.write(entry(Run::Train, 1)).unwrap();
        let error = log.flush().unwrap_err().to_string();
        assert!(
            error.ends_with("could not be written, and 2 events wait for the next try; nothing is lost yet"),
            "{error}"
        );

        fs::remove_file(&in_the_way).unwrap();
        log.retry = Duration::ZERO;
        log.write(entry(Run::Train, 2)).unwrap();
        log.close().unwrap();
        assert_eq!(read(dir.path(), Run::Train), (vec![0, 1, 2], vec![0]));
        assert_eq!(log.lost(), 0);
    }

    #[test]
    fn a_full_disk_costs_a_file_but_no_entry() {
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path());
        log.write(entry(Run::Train, 0)).unwrap();
        log.sync().unwrap();
        log.lanes.get_mut(&Run::Train).unwrap().file.as_mut().unwrap().redirect(full);
        log.write(entry(Run::Train, 1)).unwrap();
        log.write(entry(Run::Train, 2)).unwrap();
        let error = log.flush().unwrap_err();
        assert_eq!((error.lost, error.exit()), (0, Exit::Io));
        log.write(entry(Run::Train, 3)).unwrap();
        log.close().unwrap();
        // The second file must not say START: its step would void the first.
        assert_eq!(read(dir.path(), Run::Train), (vec![0, 1, 2, 3], vec![0]));
        assert_eq!(fs::read_dir(dir.path().join("train")).unwrap().count(), 2);
    }

    #[test]
    fn a_directory_that_is_held_gets_the_files_wherever_it_is_and_no_link_does() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("run")).unwrap();
        fs::create_dir_all(at("elsewhere")).unwrap();
        let mut log = LogDir::within(Dir::open(&at("run")).unwrap(), Origin::new("host", 1));
        log.retry = Duration::ZERO;
        log.write(entry(Run::Train, 0)).unwrap();
        fs::rename(at("run"), at("moved")).unwrap();
        fs::create_dir(at("run")).unwrap();
        log.write(entry(Run::Steps, 0)).unwrap();
        for dir in ["validation", "plugins"] {
            std::os::unix::fs::symlink(at("elsewhere"), at("moved").join(dir)).unwrap();
        }
        let error = log.write(entry(Run::Validation, 0)).unwrap_err().to_string();
        assert!(error.contains("it is a symbolic link, want a directory; move it away"), "{error}");
        let points = What::Embeddings(Arc::new(Embeddings::new("dense", 2, vec![0.5; 4]).unwrap()));
        assert_eq!(log.write(Entry { what: points, ..entry(Run::Train, 1) }).unwrap_err().lost, 1);
        assert_eq!(log.close().unwrap_err().lost, 1);
        assert_eq!((read(&at("moved"), Run::Train).0, read(&at("moved"), Run::Steps).0), (vec![0], vec![0]));
        for dir in ["run", "elsewhere"] {
            assert_eq!(fs::read_dir(at(dir)).unwrap().count(), 0, "{dir}");
        }
    }

    /// A log that waits before it tries again, and the one file that it has of a run, with steps 0 and 1.
    fn begun(root: &Path) -> (LogDir, PathBuf) {
        let mut log = log(root);
        log.retry = RETRY;
        log.write(entry(Run::Train, 0)).unwrap();
        log.write(entry(Run::Train, 1)).unwrap();
        log.sync().unwrap();
        let file = fs::read_dir(root.join("train")).unwrap().next().unwrap().unwrap().path();
        (log, file)
    }

    #[test]
    fn what_a_removed_file_held_is_lost_and_the_next_is_begun_at_once() {
        type Removal = fn(&Path, &Path);
        let removals: [Removal; 4] = [
            |_, file| fs::remove_file(file).unwrap(),
            |root, _| fs::remove_dir_all(root.join("train")).unwrap(),
            |root, _| fs::rename(root.join("train"), root.join("elsewhere")).unwrap(),
            |root, _| {
                fs::rename(root.join("train"), root.join("elsewhere")).unwrap();
                fs::create_dir(root.join("train")).unwrap();
            },
        ];
        for (remove, went) in removals.into_iter().zip(["removed", "removed", "moved to ", "moved to "]) {
            let dir = tempfile::tempdir().unwrap();
            let (mut log, file) = begun(dir.path());
            remove(dir.path(), &file);
            log.write(entry(Run::Train, 2)).unwrap();
            let error = log.flush().unwrap_err().to_string();
            let want = format!("event log: 3 entries are lost: {} was {went}", file.display());
            assert!(error.starts_with(&want), "{error}");
            assert!(error.ends_with(" while it was written, with 3 events in it; a new file is begun"), "{error}");
            log.write(entry(Run::Train, 3)).unwrap();
            log.flush().unwrap();
            log.close().unwrap();
            // It says START, as the removed one did, and voids no step that was read and is not written again.
            assert_eq!((read(dir.path(), Run::Train), log.lost()), ((vec![3], vec![2]), 3));
        }
    }

    #[test]
    fn a_file_that_is_found_gone_within_a_write_is_followed_too() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, file) = begun(dir.path());
        fs::remove_file(file).unwrap();
        let text = vec![Value::text(Tag::of("t"), "x".repeat(100_000))];
        let long = Entry { what: What::Values(text), ..entry(Run::Train, 2) };
        assert_eq!(log.write(long).unwrap_err().lost, 3);
        log.write(entry(Run::Train, 3)).unwrap();
        log.close().unwrap();
        assert_eq!((read(dir.path(), Run::Train), log.lost()), ((vec![3], vec![2]), 3));
    }

    #[test]
    fn a_second_file_that_is_gone_takes_back_nothing_of_the_first() {
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = begun(dir.path());
        log.retry = Duration::ZERO;
        log.lanes.get_mut(&Run::Train).unwrap().file.as_mut().unwrap().redirect(full);
        log.write(entry(Run::Train, 1)).unwrap();
        assert_eq!(log.flush().unwrap_err().lost, 0);
        log.flush().unwrap();
        fs::remove_file(log.lanes[&Run::Train].file.as_ref().unwrap().path()).unwrap();
        assert_eq!(log.flush().unwrap_err().lost, 1);
        log.write(entry(Run::Train, 2)).unwrap();
        log.close().unwrap();
        assert_eq!(read(dir.path(), Run::Train), (vec![0, 1, 2], vec![0]));
    }

    #[test]
    fn files_of_all_runs_that_are_gone_are_told_in_one() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, file) = begun(dir.path());
        log.write(entry(Run::Validation, 1)).unwrap();
        log.flush().unwrap();
        for run in ["train", "validation"] {
            fs::remove_dir_all(dir.path().join(run)).unwrap();
        }
        let error = log.flush().unwrap_err().to_string();
        let first = format!("event log: 3 entries are lost: {} was removed while it was written, ", file.display());
        assert!(error.starts_with(&first), "{error}");
        assert!(error.contains("with 2 events in it; ") && error.contains("validation/events.out"), "{error}");
        assert!(error.ends_with(" with 1 event in it; new files are begun"), "{error}");
        log.close().unwrap();
    }

    #[test]
    fn what_stands_where_a_directory_was_is_told_and_written_to_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, file) = begun(dir.path());
        let at = |name: &str| dir.path().join(name);
        fs::rename(at("train"), at("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", at("train")).unwrap();
        log.write(entry(Run::Train, 2)).unwrap();
        let error = log.flush().unwrap_err();
        let want = format!("event log: 3 entries are lost: {} was moved to ", file.display());
        assert!(error.to_string().starts_with(&want), "{error}");
        let want = format!(
            "; cannot create the run directory {}: it is a symbolic link, want a directory; move it away",
            at("train").display()
        );
        assert!(error.to_string().ends_with(&want), "{error}");
        assert_eq!(error.exit(), Exit::CantCreate);
        log.write(entry(Run::Train, 3)).unwrap();
        assert_eq!(log.close().unwrap_err().lost, 1);
        assert_eq!((log.lost(), fs::read_dir(at("elsewhere")).unwrap().count()), (4, 1));

        // Once it is out of the way nothing more is lost.
        fs::remove_file(at("train")).unwrap();
        fs::remove_dir_all(at("elsewhere")).unwrap();
        let (mut log, _) = begun(dir.path());
        fs::remove_dir_all(at("train")).unwrap();
        fs::write(at("train"), "in the way").unwrap();
        assert_eq!(log.flush().unwrap_err().lost, 2);
        log.write(entry(Run::Train, 2)).unwrap();
        fs::remove_file(at("train")).unwrap();
        log.close().unwrap();
        assert_eq!((read(dir.path(), Run::Train).0, log.lost()), (vec![2], 2));
    }

    #[test]
    fn bytes_are_counted_by_kind_and_add_up_to_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path());
        fs::write(dir.path().join("train"), b"in the way").unwrap();
        assert!(log.write(entry(Run::Train, 0)).is_err());
        fs::remove_file(dir.path().join("train")).unwrap();
        let values = vec![Value::text(Tag::of("t"), "x".repeat(500)), Value::scalar(Tag::of("s"), 1.0)];
        log.write(Entry { what: What::Values(values), ..entry(Run::Train, 1) }).unwrap();
        log.write(entry(Run::Steps, 1)).unwrap();
        let points = What::Embeddings(Arc::new(Embeddings::new("dense", 2, vec![0.5; 4]).unwrap()));
        log.write(Entry { what: points, ..entry(Run::Train, 1) }).unwrap();
        log.close().unwrap();
        let size = |name: &str| -> u64 {
            let found = fs::read_dir(dir.path().join(name)).unwrap().map(|e| e.unwrap().metadata().unwrap());
            found.filter(fs::Metadata::is_file).map(|metadata| metadata.len()).sum()
        };
        let tally = log.tally();
        let points = "plugins/org_tensorflow_tensorboard_projector";
        let snapshot = size(points) + size(&format!("{points}/epoch_0001"));
        assert_eq!(tally.of(Kind::Projector), snapshot);
        assert_eq!(tally.total(), size("train") + size("") + snapshot);
        let kinds: Vec<Kind> = tally.kinds().into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [Kind::Text, Kind::Projector, Kind::Headers, Kind::Scalars]);
    }

    #[test]
    fn what_still_waits_at_the_end_is_lost_and_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("train"), b"").unwrap();
        let mut log = log(dir.path());
        assert!(log.write(entry(Run::Train, 0)).is_err());
        assert!(log.write(entry(Run::Train, 1)).is_err());
        let error = log.close().unwrap_err();
        assert!(error.to_string().starts_with("event log: 2 entries are lost: cannot create the run directory "));
        assert_eq!(log.lost(), 2);
    }

    #[test]
    fn embeddings_are_files_and_what_cannot_be_written_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let points = dir.path().join("plugins/org_tensorflow_tensorboard_projector");
        let mut log = log(dir.path()).showing_snapshots();
        let embeddings = Arc::new(Embeddings::new("dense", 2, vec![0.5; 4]).unwrap());
        let snapshot = |step| Entry { what: What::Embeddings(Arc::clone(&embeddings)), ..entry(Run::Train, step) };
        log.write(entry(Run::Train, 0)).unwrap();
        assert!(dir.path().join("projector/training").exists());
        log.write(snapshot(3)).unwrap();
        assert!(points.join("epoch_0003/tensors.tsv").exists() && dir.path().join("projector/epoch_0003").exists());
        fs::write(points.join("epoch_0004"), b"in the way").unwrap();
        let error = log.write(snapshot(4)).unwrap_err();
        assert!(error.to_string().starts_with("event log: 1 entry is lost: cannot write "), "{error}");
        assert_eq!(log.lost(), 1);
        log.write(entry(Run::Train, 1)).unwrap();
        log.close().unwrap();
        assert!(!dir.path().join("projector").exists() && points.join("projector_config.pbtxt").exists());
    }

    #[test]
    fn waiting_entries_take_bounded_memory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("train"), b"").unwrap();
        let mut log = log(dir.path());
        let text = || Entry {
            what: What::Values(vec![Value::text(Tag::of("t"), "x".repeat(BACKLOG / 2))]),
            ..entry(Run::Train, 0)
        };
        let lost: Vec<u64> = (0..4).map(|_| log.write(text()).unwrap_err().lost).collect();
        assert_eq!(lost, [0, 0, 1, 1]);
    }
}
