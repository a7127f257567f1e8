//! The directory of a run: checked before any work is done, owned by one process, never overwritten by accident.
//!
//! ```text
//! logs/fit/
//!   events.out.tfevents.0000000000.session.*.v2   with what it is trained and how it ended, for TensorBoard's HParams
//!   config.toml          the resolved configuration; `--config` reads it back
//!   train/               event files; steps are epochs
//!   validation/          event files; steps are epochs
//!   steps/               event files; steps are iterations
//!   projector/epoch_*/   points for the Projector: tables, pictures, an event file
//!   checkpoints/ckpt-*/  states to go on from, the newest last
//!   metrics.jsonl        what happened, a line each: for programs
//!   model.safetensors    trained weights, once the run is finished
//!   result.json          the outcome; its presence marks the run as finished
//!   run.lock             held while a process trains here
//! ```

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::durable;
use crate::eventlog::projector;
use crate::exit::{Classify, Exit};
use crate::types::{Run, Step};

/// The resolved configuration, within the run's directory.
pub const CONFIG: &str = "config.toml";
/// The trained weights, within the run's directory.
pub const WEIGHTS: &str = "model.safetensors";
/// The outcome, within the run's directory.
pub const RESULT: &str = "result.json";
/// What happened, for programs.
pub const JOURNAL: &str = "metrics.jsonl";
/// Where the checkpoints are.
pub const CHECKPOINTS: &str = "checkpoints";
/// Held by the process that trains here.
pub const LOCK: &str = "run.lock";
/// Whoever lists runs holds a lock for a moment to see whether somebody trains: not worth giving up.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(20);
/// Event files of the run's own directory. TensorBoard reads on in the order of their names.
const SESSION_START: &str = "events.out.tfevents.0000000000.session.0-start.v2";
const SESSION_END: &str = "events.out.tfevents.0000000000.session.1-end.v2";
/// Entries among the checkpoints that are looked at for one.
const NEIGHBOURS: usize = 1000;
/// What makes a file an event file, to TensorBoard and to us.
const MARK: &str = ".tfevents.";

/// Why a directory cannot hold this run.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    #[error("log directory {}: {} is a file; choose another --logdir", path.display(), file.display())]
    File { path: PathBuf, file: PathBuf },
    #[error("log directory {}: {} is a directory, and the run has a file of that name; move it away or choose another --logdir", path.display(), dir.display())]
    Directory { path: PathBuf, dir: PathBuf },
    #[error(
        "log directory {}: /{} does not exist; create it first if it is meant, or mount what should be there",
        path.display(), missing.display()
    )]
    MissingRoot { path: PathBuf, missing: PathBuf },
    #[error("log directory {} is the root of the file system; name a directory for the run", path.display())]
    Root { path: PathBuf },
    #[error(
        "log directory {}: {} is a symbolic link to {}, which does not exist; create it or choose another --logdir",
        path.display(), link.display(), target.display()
    )]
    DanglingLink { path: PathBuf, link: PathBuf, target: PathBuf },
    #[error("log directory {}: {} cannot be written: {source}", path.display(), dir.display())]
    NotWritable { path: PathBuf, dir: PathBuf, source: std::io::Error },
    #[error("log directory {} is in use{}; wait for that run to end or choose another --logdir", path.display(), owner)]
    InUse { path: PathBuf, owner: String },
    #[error("log directory {}: cannot remove {} for --fresh: {source}", path.display(), file.display())]
    Remove { path: PathBuf, file: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Write(#[from] durable::WriteError),
}

impl Classify for RunDirError {
    fn exit(&self) -> Exit {
        match self {
            RunDirError::File { .. }
            | RunDirError::Directory { .. }
            | RunDirError::MissingRoot { .. }
            | RunDirError::Root { .. }
            | RunDirError::DanglingLink { .. }
            | RunDirError::InUse { .. } => Exit::CantCreate,
            RunDirError::NotWritable { source, .. } | RunDirError::Remove { source, .. } => Exit::of_output(source),
            RunDirError::Write(error) => error.exit(),
        }
    }
}

/// A run directory that this process owns. The lock goes with it, however the process ends.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

/// Looks, without writing anything, whether a run could start at `path`: before data is read, so that a wrong path costs
/// no time and leaves no trace.
pub fn check(path: &Path) -> Result<(), RunDirError> {
    if path.canonicalize().is_ok_and(|resolved| resolved == Path::new("/")) {
        return Err(RunDirError::Root { path: path.to_owned() });
    }
    let existing = nearest_existing(path)?;
    if existing != path && existing == Path::new("/") {
        let missing = path.components().nth(1).map(|part| PathBuf::from(part.as_os_str())).unwrap_or_default();
        return Err(RunDirError::MissingRoot { path: path.to_owned(), missing });
    }
    let mut dirs = vec![existing.clone()];
    if existing == path {
        for name in [CONFIG, WEIGHTS, RESULT, JOURNAL, LOCK, SESSION_START, SESSION_END] {
            let dir = path.join(name);
            if dir.is_dir() {
                return Err(RunDirError::Directory { path: path.to_owned(), dir });
            }
        }
        // Somebody else's first: nothing below may be looked at while it changes.
        if let Ok(lock) = File::open(path.join(LOCK)) {
            take(&lock, path)?;
        }
        for name in Run::ALL.map(Run::dir).into_iter().chain([projector::DIR, CHECKPOINTS]) {
            let dir = path.join(name);
            match std::fs::metadata(&dir) {
                Ok(found) if found.is_dir() => dirs.push(dir),
                Ok(_) => return Err(RunDirError::File { path: path.to_owned(), file: dir }),
                Err(_) => {}
            }
        }
    }
    for dir in dirs {
        rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .map_err(|errno| RunDirError::NotWritable { path: path.to_owned(), dir, source: errno.into() })?;
    }
    Ok(())
}

/// The names of all files and directories that a run keeps in its own.
pub fn own_names() -> impl Iterator<Item = &'static str> {
    let names = [CONFIG, WEIGHTS, RESULT, JOURNAL, LOCK, SESSION_START, SESSION_END, CHECKPOINTS, projector::DIR];
    names.into_iter().chain(Run::ALL.map(Run::dir))
}

/// Whether a run keeps something of its own under this name in its directory.
pub fn is_own(name: &OsStr) -> bool {
    own_names().any(|own| name == own) || name.to_string_lossy().contains(MARK)
}

/// Whether `dir` is a run: something says what was trained and that somebody trained, or what came of it. Links are not
/// followed. Other programs have a `config.toml` beside `checkpoints`, too, but none of our names in there.
pub fn is_run(dir: &Path) -> bool {
    let has = |name: &str| dir.join(name).symlink_metadata().is_ok();
    match (has(CONFIG), has(LOCK)) {
        (true, true) => true,
        (false, false) => false,
        _ => has(RESULT) || has_checkpoint(dir),
    }
}

fn has_checkpoint(dir: &Path) -> bool {
    let is_ours = |name: &str| {
        let step = name.strip_prefix("ckpt-").filter(|step| step.len() == 12);
        step.is_some_and(|step| step.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let entries = std::fs::read_dir(dir.join(CHECKPOINTS)).into_iter().flatten().flatten();
    entries.take(NEIGHBOURS).any(|entry| entry.file_name().to_str().is_some_and(is_ours))
}

/// `path` without links and `..`, also where the end of it does not exist yet.
pub fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut parts: VecDeque<Component<'_>> = absolute.components().collect();
    let mut resolved = PathBuf::new();
    while let Some(part) = parts.pop_front() {
        match part {
            // Of a path without links the parent is its name's.
            Component::ParentDir => drop(resolved.pop()),
            part => resolved.push(part),
        }
        if let Ok(real) = resolved.canonicalize() {
            resolved = real;
        }
    }
    resolved
}

/// Whether a run makes the directory `dir` when it begins in `logdir`: its own, those above it, and those in it.
pub fn makes(logdir: &Path, dir: &Path) -> bool {
    let (logdir, dir) = (resolved(logdir), resolved(dir));
    logdir.starts_with(&dir) || Run::ALL.iter().any(|run| logdir.join(run.dir()) == dir)
}

/// The directory in which a run lies beside its siblings: what TensorBoard is to be started on. None above the root's own
/// children, and none that the path does not name.
pub fn parent(logdir: &Path) -> Option<&Path> {
    // Above `runs/..` is not `runs`.
    let parent = logdir.file_name().and_then(|_| logdir.parent())?;
    let parent = if parent == Path::new("") { Path::new(".") } else { parent };
    let is_root = parent.canonicalize().map_or(parent == Path::new("/"), |resolved| resolved == Path::new("/"));
    (!is_root).then_some(parent)
}

impl RunDir {
    /// Creates the directory where needed and takes ownership. What is in it stays, but for what a process that was
    /// killed left half written.
    pub fn open(path: &Path) -> Result<RunDir, RunDirError> {
        check(path)?;
        let not_writable =
            |dir: &Path, source| RunDirError::NotWritable { path: path.to_owned(), dir: dir.to_owned(), source };
        std::fs::create_dir_all(path).map_err(|source| not_writable(path, source))?;
        // What is durable in a directory is lost with its entry in the one above. Some file systems cannot say so.
        for above in path.ancestors().skip(1).take(2).filter(|above| !above.as_os_str().is_empty()) {
            let _ = File::open(above).and_then(|dir| dir.sync_all());
        }
        let lock_path = path.join(LOCK);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .map_err(|source| not_writable(&lock_path, source))?;
        take(&lock, path)?;
        // For people and for the message above; the lock itself is the kernel's.
        let _ = std::fs::write(&lock_path, format!("{}\n", std::process::id()));
        let dir = RunDir { path: path.to_owned(), _lock: lock };
        dir.remove(durable::leftovers(path))?;
        for run in Run::ALL {
            let dir = path.join(run.dir());
            std::fs::create_dir_all(&dir).map_err(|source| not_writable(&dir, source))?;
        }
        Ok(dir)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn weights(&self) -> PathBuf {
        self.path.join(WEIGHTS)
    }

    pub fn write_config(&self, toml: &str) -> Result<(), RunDirError> {
        Ok(durable::write(&self.path.join(CONFIG), toml.as_bytes())?)
    }

    /// An event file that says with what the run is trained.
    pub fn write_session_start(&self, events: &[u8]) -> Result<(), RunDirError> {
        Ok(durable::write(&self.path.join(SESSION_START), events)?)
    }

    /// An event file that says how the run ended.
    pub fn write_session_end(&self, events: &[u8]) -> Result<(), RunDirError> {
        Ok(durable::write(&self.path.join(SESSION_END), events)?)
    }

    /// What marks the run as finished: written last.
    pub fn result(&self) -> PathBuf {
        self.path.join(RESULT)
    }

    /// Event files that an unfinished run left here.
    pub fn has_events(&self) -> bool {
        Run::ALL.iter().any(|run| !event_files(&self.path.join(run.dir())).is_empty())
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// Removes what an earlier run left: event files in the run's directories, points of the Projector, what TensorBoard's
    /// HParams know of the run, configuration, metrics, weights and result, and nothing else. Its checkpoints are to be
    /// removed before, or a crash half-way leaves states to go on from without their curves.
    pub fn clear(&self) -> Result<(), RunDirError> {
        // The result first: a crash half-way leaves an unfinished run, never a finished one without its curves.
        let names = [RESULT, WEIGHTS, CONFIG, JOURNAL, SESSION_END, SESSION_START];
        let mut files: Vec<PathBuf> = names.iter().map(|name| self.path.join(name)).collect();
        files.extend(Run::ALL.iter().flat_map(|run| event_files(&self.path.join(run.dir()))));
        self.remove(files)?;
        self.remove_snapshots(Step::ZERO)
    }

    /// Takes back that the run has ended, and what it said from this epoch on where that is not voided by saying it again:
    /// curves are, the Projector's points are files and would stay.
    pub fn go_on_at(&self, epoch: Step) -> Result<(), RunDirError> {
        // The weights stay until there are new ones: somebody may use them.
        self.remove([RESULT, SESSION_END].map(|name| self.path.join(name)))?;
        self.remove_snapshots(epoch)
    }

    fn remove_snapshots(&self, from: Step) -> Result<(), RunDirError> {
        let (files, dirs) = projector::snapshots(&self.path, from);
        self.remove(files)?;
        for dir in dirs {
            // One that holds something of somebody else stays.
            let _ = std::fs::remove_dir(dir);
        }
        Ok(())
    }

    fn remove(&self, files: impl IntoIterator<Item = PathBuf>) -> Result<(), RunDirError> {
        for file in files {
            match std::fs::remove_file(&file) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(RunDirError::Remove { path: self.path.clone(), file, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Takes the lock of the run directory `path`.
fn take(lock: &File, path: &Path) -> Result<(), RunDirError> {
    let lock_path = path.join(LOCK);
    let mut tries = LOOKS;
    let taken = loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if tries > 0 => tries -= 1,
            taken => break taken,
        }
        std::thread::sleep(LOOK);
    };
    match taken {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let owner = std::fs::read_to_string(&lock_path).unwrap_or_default();
            let owner = match owner.trim().parse::<u32>() {
                Ok(pid) => format!(" by process {pid}"),
                Err(_) => String::new(),
            };
            Err(RunDirError::InUse { path: path.to_owned(), owner })
        }
        Err(TryLockError::Error(source)) => {
            Err(RunDirError::NotWritable { path: path.to_owned(), dir: lock_path, source })
        }
    }
}

/// Whether a finished run is in `path`. Whatever stands where the result belongs says so, readable or not.
pub fn is_finished(path: &Path) -> bool {
    std::fs::symlink_metadata(path.join(RESULT)).is_ok()
}

fn event_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(MARK)) && path.is_file())
        .collect()
}

/// The path itself or the closest directory above it that is there; a file on the way is an error.
fn nearest_existing(path: &Path) -> Result<PathBuf, RunDirError> {
    let mut candidate = path;
    loop {
        match std::fs::metadata(candidate) {
            Ok(found) if found.is_dir() => return Ok(candidate.to_owned()),
            Ok(_) => return Err(RunDirError::File { path: path.to_owned(), file: candidate.to_owned() }),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) if source.kind() == std::io::ErrorKind::NotADirectory => {}
            Err(source) => {
                return Err(RunDirError::NotWritable { path: path.to_owned(), dir: candidate.to_owned(), source });
            }
        }
        // A dangling symbolic link is there and leads nowhere; creating a directory in its place would fail.
        if let Ok(target) = candidate.read_link() {
            return Err(RunDirError::DanglingLink { path: path.to_owned(), link: candidate.to_owned(), target });
        }
        candidate = match candidate.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) => return Ok(PathBuf::from(".")),
            None => return Ok(PathBuf::from("/")),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_place_is_found_without_leaving_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(check(&file), Err(RunDirError::File { .. })));
        assert!(matches!(check(&file.join("below")), Err(RunDirError::File { .. })));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        assert!(matches!(check(&link), Err(RunDirError::DanglingLink { .. })));
        assert!(matches!(check(&link.join("below")), Err(RunDirError::DanglingLink { .. })));
        assert!(matches!(check(Path::new("/tmp/..")), Err(RunDirError::Root { .. })));
        let error = check(Path::new("/no-such-mount/logs/fit")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "log directory /no-such-mount/logs/fit: /no-such-mount does not exist; create it first if it is meant, or \
             mount what should be there"
        );
        assert_eq!(error.exit(), Exit::CantCreate);
        check(&dir.path().join("a/b/c")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_directory_where_the_weights_belong_is_found_before_training() {
        let dir = tempfile::tempdir().unwrap();
        for name in [CONFIG, WEIGHTS, RESULT, LOCK, SESSION_START, SESSION_END] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.join(name)).unwrap();
            let error = check(&path).unwrap_err();
            assert!(error.to_string().contains(&format!("{} is a directory", path.join(name).display())), "{error}");
            assert_eq!(error.exit(), Exit::CantCreate);
        }
    }

    #[test]
    fn fresh_removes_event_files_by_their_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tfevents.b");
        let run = RunDir::open(&path).unwrap();
        let foreign = path.join("train/notes.txt");
        std::fs::write(&foreign, "x").unwrap();
        assert!(!run.has_events());
        run.clear().unwrap();
        assert!(foreign.exists());
    }

    #[test]
    fn a_run_lies_in_the_directory_that_its_path_names() {
        for (logdir, want) in [
            ("logs/fit", Some("logs")),
            ("logs/fit/", Some("logs")),
            ("fit", Some(".")),
            ("/fit", None),
            (".", None),
            ("runs/..", None),
            ("/", None),
        ] {
            assert_eq!(parent(Path::new(logdir)), want.map(Path::new), "{logdir}");
        }
        let up = format!("{}x", "../".repeat(40));
        assert_eq!(parent(Path::new(&up)), None, "the root by another name");
    }

    #[test]
    fn points_of_the_projector_are_removed_from_an_epoch_on_and_nothing_else() {
        for (from, gone) in [(0, 2), (1, 1), (2, 0)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("fit");
            let run = RunDir::open(&path).unwrap();
            let snapshots = ["projector/epoch_0000", "projector/epoch_0001"].map(|name| path.join(name));
            for snapshot in &snapshots {
                std::fs::create_dir_all(snapshot).unwrap();
                for name in ["tensors.tsv", "projector_config.pbtxt", "events.out.tfevents.1.h.1.0.v2"] {
                    std::fs::write(snapshot.join(name), "x").unwrap();
                }
            }
            let foreign = path.join("projector/notes.txt");
            std::fs::write(&foreign, "x").unwrap();
            run.go_on_at(Step::new(from).unwrap()).unwrap();
            assert!(foreign.exists() && !run.has_events());
            assert_eq!(snapshots.iter().filter(|snapshot| !snapshot.exists()).count(), gone);
        }
    }

    #[test]
    fn a_result_that_cannot_be_read_still_marks_a_finished_run() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_finished(dir.path()));
        std::fs::write(dir.path().join(RESULT), [0xff, 0xfe]).unwrap();
        assert!(is_finished(dir.path()));
    }

    #[test]
    fn what_a_dead_process_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [WEIGHTS, RESULT, ".tmp-x1y2z3"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        RunDir::open(dir.path()).unwrap().go_on_at(Step::ZERO).unwrap();
        assert!(!dir.path().join(RESULT).exists() && !dir.path().join(".tmp-x1y2z3").exists());
        assert!(dir.path().join(WEIGHTS).exists(), "until there are new ones");
    }

    #[test]
    fn one_process_owns_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fit");
        let first = RunDir::open(&path).unwrap();
        let error = RunDir::open(&path).unwrap_err();
        assert!(error.to_string().contains(&format!("is in use by process {}", std::process::id())), "{error}");
        drop(first);
        RunDir::open(&path).unwrap();
    }

    #[test]
    fn a_run_is_cleared_of_what_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fit");
        let run = RunDir::open(&path).unwrap();
        let (events, foreign) = (path.join("train/events.out.tfevents.1.h.1.0.v2"), path.join("train/notes.txt"));
        std::fs::write(&events, "x").unwrap();
        std::fs::write(&foreign, "x").unwrap();
        std::fs::write(run.result(), "{}").unwrap();
        drop(run);
        let run = RunDir::open(&path).unwrap();
        assert!(events.exists() && is_finished(&path), "opening removes nothing that is whole");
        run.clear().unwrap();
        assert!(!events.exists() && foreign.exists() && !run.has_events() && !is_finished(&path));
    }
}
