//! The directory of a run: checked before any work is done, owned by one process, never overwritten by accident.
//!
//! ```text
//! logs/fit/
//!   events.out.tfevents.*                         event files; steps are iterations
//!   events.out.tfevents.0000000000.session.*.v2   the settings, for TensorBoard's HParams
//!   events.out.tfevents.*.session-end.v2          the outcome, for HParams
//!   config.toml          the resolved configuration; `--config` reads it back
//!   dataset.json         classes, image shape and checksum of the data
//!   train/               event files; steps are epochs
//!   validation/          event files; steps are epochs
//!   plugins/             points for the Projector: tables and pictures
//!   projector/           while a process trains here, an event file that lets TensorBoard see new points
//!   checkpoints/ckpt-*/  states to go on from, the newest last
//!   metrics.jsonl        what happened, a line each: for programs
//!   model.safetensors    trained weights, once the run is finished
//!   best.safetensors     those after the best epoch, where that was not the last one
//!   result.json          the outcome; its presence marks the run as finished
//!   run.lock             held while a process trains here
//! ```

mod lock;
mod lost;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use crate::checkpoint;
use crate::durable::fs::Fs;
use crate::durable::{self, Disk};
use crate::eventlog::file::{MARK, is_of_this_program};
use crate::eventlog::snapshots;
use crate::exit::{Classify, Exit};
use crate::files::{Dir, Kind};
use crate::types::{Run, Step};

pub use lock::{LOCK, LockError, RunLock};
pub use lost::LostDir;

/// The resolved configuration, within the run's directory.
pub const CONFIG: &str = "config.toml";
/// The trained weights, within the run's directory.
pub const WEIGHTS: &str = "model.safetensors";
/// The weights after the best epoch, within the run's directory, where that was not the last one.
pub const BEST: &str = "best.safetensors";
/// The outcome, within the run's directory.
pub const RESULT: &str = "result.json";
/// Classes, image shape and checksum of the data.
pub const DATASET: &str = "dataset.json";
/// What happened, for programs.
pub const JOURNAL: &str = "metrics.jsonl";
/// Where the checkpoints are.
pub const CHECKPOINTS: &str = "checkpoints";
/// The event file with the run's settings. TensorBoard reads on in the order of names, and reads this one first.
pub const SESSION_START: &str = "events.out.tfevents.0000000000.session.0-start.v2";
/// The event file with the run's outcome ends so, after the name of the last one before it: TensorBoard reads it then,
/// and before any that a later process opens.
const SESSION_END: &str = ".session-end.v2";
/// The same in runs that kept the curves over iterations in a directory of their own.
const OLD_SESSION_END: &str = "events.out.tfevents.0000000000.session.1-end.v2";
/// That directory. A run that began with it goes on with it.
const OLD_STEPS: &str = "steps";
/// The event file in the directory above runs with the columns of HParams.
pub const EXPERIMENT: &str = "events.out.tfevents.0000000000.hparams.v2";
/// Entries among the checkpoints that are looked at for one.
const NEIGHBOURS: usize = 1000;

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
    #[error(transparent)]
    Lost(#[from] LostDir),
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
            RunDirError::Lost(_) => Exit::Io,
        }
    }
}

/// A run directory that this process owns. The lock goes with it, however the process ends.
///
/// It is held by its descriptor: what is written through it goes to this directory, wherever that is moved.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    dir: Dir,
    disk: Disk,
    lock: RunLock,
}

/// Files of a run in its own directory.
const FILES: [&str; 8] = [CONFIG, DATASET, WEIGHTS, BEST, RESULT, JOURNAL, LOCK, SESSION_START];
/// Directories of the run within its own.
const DIRS: [&str; 6] = ["train", "validation", OLD_STEPS, snapshots::DIRS[0], snapshots::DIRS[1], CHECKPOINTS];

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
        let dir = Dir::open(path).map_err(|source| not_writable(path, path, source))?;
        dirs.extend(own_dirs(&dir)?);
        // Somebody else's first: nothing below may be looked at while it changes.
        RunLock::check(&dir).map_err(|error| unlocked(path, error))?;
    }
    for dir in dirs {
        rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .map_err(|errno| not_writable(path, &dir, errno.into()))?;
    }
    Ok(())
}

/// Looks whether everything in the run's directory that has the name of something of the run is a regular file or a
/// directory of this user. Gives the directories.
fn own_dirs(dir: &Dir) -> Result<Vec<PathBuf>, RunDirError> {
    let path = dir.path();
    for name in FILES {
        match dir.has_own_file(name) {
            Err(_) if matches!(dir.kind(name), Ok(Some(Kind::Directory))) => {
                return Err(RunDirError::Directory { path: path.to_owned(), dir: path.join(name) });
            }
            found => found.map_err(|source| not_writable(path, &path.join(name), source))?,
        };
    }
    let mut dirs = Vec::new();
    for name in DIRS {
        match dir.has_own_dir(name) {
            Ok(is_there) => dirs.extend(is_there.then(|| path.join(name))),
            Err(_) if matches!(dir.kind(name), Ok(Some(Kind::File))) => {
                return Err(RunDirError::File { path: path.to_owned(), file: path.join(name) });
            }
            Err(source) => return Err(not_writable(path, &path.join(name), source)),
        }
    }
    dirs.extend(snapshots::check(dir).map_err(|found| not_writable(path, &found.path, found.source))?);
    if let Ok(checkpoints) = dir.dir(CHECKPOINTS) {
        let entries = checkpoints.list().map_err(|source| not_writable(path, checkpoints.path(), source))?;
        // Other kinds of entries are passed over like damaged checkpoints.
        for entry in entries.iter().filter(|entry| entry.is_dir && checkpoint::is_name(&entry.name)) {
            let found = checkpoints.has_own_dir(&entry.name);
            found.map_err(|source| not_writable(path, &checkpoints.path().join(&entry.name), source))?;
        }
    }
    Ok(dirs)
}

fn not_writable(path: &Path, what: &Path, source: std::io::Error) -> RunDirError {
    RunDirError::NotWritable { path: path.to_owned(), dir: what.to_owned(), source }
}

fn unlocked(path: &Path, error: LockError) -> RunDirError {
    match error {
        LockError::Held(owner) => {
            let owner = owner.map_or_else(String::new, |pid| format!(" by process {pid}"));
            RunDirError::InUse { path: path.to_owned(), owner }
        }
        LockError::Failed(source) => not_writable(path, &path.join(LOCK), source),
    }
}

/// The names of all files and directories that a run keeps in its own, but for event files.
pub fn own_names() -> impl Iterator<Item = &'static str> {
    FILES.into_iter().chain(DIRS)
}

/// The event files in the directory of a run that are its own: not those of other programs, nor the columns of runs that lie
/// there.
pub fn own_event_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = event_files(dir);
    files.retain(|path| !path.ends_with(EXPERIMENT) && is_of_this_program(path));
    files
}

/// Whether a run keeps something of its own under this name in its directory.
pub fn is_own(name: &OsStr) -> bool {
    own_names().any(|own| name == own) || name.to_string_lossy().contains(MARK)
}

/// True if `dir` is a run: something says what was trained and that somebody trained, or what came of it. Links are not
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
    let entries = std::fs::read_dir(dir.join(CHECKPOINTS)).into_iter().flatten().flatten();
    entries.take(NEIGHBOURS).any(|entry| checkpoint::is_name(&entry.file_name()))
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

/// True if a run makes the directory `dir` when it begins in `logdir`: its own, those above it, and those in it.
pub fn makes(logdir: &Path, dir: &Path) -> bool {
    let (logdir, dir) = (resolved(logdir), resolved(dir));
    logdir.starts_with(&dir) || Run::ALL.iter().any(|run| run.within(&logdir) == dir)
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
        std::fs::create_dir_all(path).map_err(|source| not_writable(path, path, source))?;
        // What is durable in a directory is lost with its entry in the one above. Some file systems cannot say so.
        for above in path.ancestors().skip(1).take(2).filter(|above| !above.as_os_str().is_empty()) {
            let _ = File::open(above).and_then(|dir| dir.sync_all());
        }
        let dir = Dir::open(path).map_err(|source| not_writable(path, path, source))?;
        // Once more: from here on it is this directory, whatever stood at the path before.
        own_dirs(&dir)?;
        let lock = RunLock::take(&dir).map_err(|error| unlocked(path, error))?;
        let dir = RunDir { path: path.to_owned(), disk: Disk::within(dir.clone()), dir, lock };
        dir.remove(durable::leftovers(path))?;
        for run in Run::ALL {
            let made = if run.dir().is_empty() { Ok(dir.dir.clone()) } else { dir.dir.own_dir(run.dir()) };
            made.map_err(|source| not_writable(path, &run.within(path), source))?;
        }
        Ok(dir)
    }

    /// Looks whether the directory is still where it was and what it was, and belongs to this process: before something is
    /// published in it, and now and then.
    pub fn check_held(&self) -> Result<(), LostDir> {
        let path = || self.path.clone();
        let replaced = match self.dir.is_at(&self.path) {
            Ok(Some(true)) if !self.has_config() => return Err(LostDir::Emptied { path: path() }),
            Ok(Some(true)) if !self.lock.holds(&self.dir) => return Err(LostDir::Unlocked { path: path() }),
            // What cannot be told now is told by what cannot be written.
            Ok(Some(true)) | Err(_) => return Ok(()),
            Ok(there) => there.is_some(),
        };
        match self.dir.place_now() {
            Some(to) => Err(LostDir::Moved { path: path(), to, replaced }),
            None => Err(LostDir::Deleted { path: path() }),
        }
    }

    /// There is one from the beginning of training on.
    fn has_config(&self) -> bool {
        !matches!(self.dir.kind(CONFIG), Ok(None))
    }

    /// The directory as it is held.
    pub fn held(&self) -> &Dir {
        &self.dir
    }

    /// What lies below it, by paths that begin with [`path`](RunDir::path).
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn weights(&self) -> PathBuf {
        self.path.join(WEIGHTS)
    }

    pub fn best_weights(&self) -> PathBuf {
        self.path.join(BEST)
    }

    /// Removes the weights of an earlier best epoch: the last one is the best by now.
    pub fn remove_best_weights(&self) -> Result<(), RunDirError> {
        self.remove([self.best_weights()])
    }

    pub fn write_config(&self, toml: &str) -> Result<(), RunDirError> {
        Ok(durable::write_on(&self.disk, &self.path.join(CONFIG), toml.as_bytes())?)
    }

    /// Writes the description of the data.
    pub fn write_dataset(&self, json: &[u8]) -> Result<(), RunDirError> {
        Ok(durable::write_on(&self.disk, &self.path.join(DATASET), json)?)
    }

    /// An event file that says with what the run is trained.
    pub fn write_session_start(&self, events: &[u8]) -> Result<(), RunDirError> {
        Ok(durable::write_on(&self.disk, &self.path.join(SESSION_START), events)?)
    }

    /// An event file that says how the run ended: the last one in the run's own directory.
    pub fn write_session_end(&self, events: &[u8]) -> Result<(), RunDirError> {
        let files = event_files(&self.path).into_iter().filter(|path| !is_session_end(path));
        let names = files.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let last = names.max().unwrap_or_else(|| SESSION_START.to_owned());
        Ok(durable::write_on(&self.disk, &self.path.join(last + SESSION_END), events)?)
    }

    /// What marks the run as finished: written last.
    pub fn result(&self) -> PathBuf {
        self.path.join(RESULT)
    }

    /// Where the event files of `run` are.
    pub fn dir_of(&self, run: Run) -> PathBuf {
        let old = self.path.join(OLD_STEPS);
        if run == Run::Steps && !event_files(&old).is_empty() { old } else { run.within(&self.path) }
    }

    /// Curves that an unfinished run left here.
    pub fn has_events(&self) -> bool {
        let of = |&run: &Run| {
            let dir = self.dir_of(run);
            if dir == self.path { own_event_files(&dir) } else { event_files(&dir) }
        };
        Run::ALL.iter().flat_map(of).any(|path| !is_of_hparams(&path))
    }

    /// What says how the run ended, if it has.
    fn session_ends(&self) -> impl Iterator<Item = PathBuf> {
        event_files(&self.path).into_iter().filter(|path| is_session_end(path))
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
        let mut files: Vec<PathBuf> =
            [RESULT, WEIGHTS, BEST, CONFIG, DATASET, JOURNAL].map(|name| self.path.join(name)).into();
        files.extend(self.session_ends());
        files.push(self.path.join(SESSION_START));
        files.extend(own_event_files(&self.path));
        let below = [Run::Train.dir(), Run::Validation.dir(), OLD_STEPS];
        files.extend(below.iter().flat_map(|dir| event_files(&self.path.join(dir))));
        self.remove(files)?;
        let _ = self.disk.remove_dir(&self.path.join(OLD_STEPS));
        self.remove_snapshots(Step::ZERO)
    }

    /// Takes back that the run has ended, and what it said from this epoch on where that is not voided by saying it again:
    /// curves are, the Projector's points are files and would stay.
    pub fn go_on_at(&self, epoch: Step) -> Result<(), RunDirError> {
        // The weights stay until there are new ones: somebody may use them.
        self.remove([self.result()].into_iter().chain(self.session_ends()))?;
        self.remove_snapshots(epoch)
    }

    fn remove_snapshots(&self, from: Step) -> Result<(), RunDirError> {
        snapshots::void(&self.dir, from).map_err(|snapshots::EntryError { path: file, source }| RunDirError::Remove {
            path: self.path.clone(),
            file,
            source,
        })
    }

    fn remove(&self, files: impl IntoIterator<Item = PathBuf>) -> Result<(), RunDirError> {
        for file in files {
            match self.disk.remove_file(&file) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(RunDirError::Remove { path: self.path.clone(), file, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a finished run is in `path`. Whatever stands where the result belongs says so, readable or not.
pub fn is_finished(path: &Path) -> bool {
    std::fs::symlink_metadata(path.join(RESULT)).is_ok()
}

fn is_session_end(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(SESSION_END) || name == OLD_SESSION_END
}

/// True if an event file has no curves, but what HParams knows.
fn is_of_hparams(path: &Path) -> bool {
    is_session_end(path) || [SESSION_START, EXPERIMENT].iter().any(|name| path.ends_with(name))
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
        for name in [CONFIG, WEIGHTS, BEST, RESULT, LOCK, SESSION_START] {
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
    fn a_run_that_began_with_a_directory_for_steps_goes_on_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fit");
        let run = RunDir::open(&path).unwrap();
        run.write_session_start(b"x").unwrap();
        assert_eq!((run.dir_of(Run::Steps), run.has_events()), (path.clone(), false));
        std::fs::create_dir(path.join(OLD_STEPS)).unwrap();
        assert_eq!(run.dir_of(Run::Steps), path);
        std::fs::write(path.join("steps/events.out.tfevents.1.h.1.0.v2"), "x").unwrap();
        std::fs::write(path.join(OLD_SESSION_END), "x").unwrap();
        assert_eq!((run.dir_of(Run::Steps), run.has_events()), (path.join(OLD_STEPS), true));
        run.go_on_at(Step::ZERO).unwrap();
        assert!(!path.join(OLD_SESSION_END).exists());
        run.clear().unwrap();
        assert!(!path.join(OLD_STEPS).exists() && run.dir_of(Run::Steps) == path);
    }

    #[test]
    fn the_end_of_a_session_is_the_last_file_and_gone_when_the_run_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fit");
        let run = RunDir::open(&path).unwrap();
        run.write_session_start(b"x").unwrap();
        let names = || -> Vec<String> {
            let mut files = event_files(&path);
            files.sort();
            files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        let curves = "events.out.tfevents.9999999998.host.1.0.v2";
        for file in [None, Some(curves)] {
            if let Some(file) = file {
                std::fs::write(path.join(file), "x").unwrap();
            }
            let before = names();
            run.write_session_end(b"x").unwrap();
            assert_eq!(names().len(), before.len() + 1);
            assert_eq!(names()[..before.len()], before);
            assert_eq!(run.has_events(), file.is_some());
            run.go_on_at(Step::ZERO).unwrap();
            assert_eq!(names(), before);
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
    fn a_link_a_pipe_or_a_strangers_entry_is_refused_before_anything_is_written() {
        let place = tempfile::tempdir().unwrap();
        let (path, mine) = (place.path().join("fit"), place.path().join("mine"));
        std::fs::create_dir(&path).unwrap();
        std::fs::create_dir(place.path().join("elsewhere")).unwrap();
        std::fs::write(&mine, "mine").unwrap();
        let refused = |name: &str, says: &str| {
            for open in [check, |path: &Path| RunDir::open(path).map(drop)] {
                let error = open(&path).unwrap_err();
                let want = format!(
                    "log directory {0}: {0}/{name} cannot be written: it is {says}; move it away",
                    path.display()
                );
                assert_eq!((error.to_string(), error.exit()), (want, Exit::CantCreate));
            }
            assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "{name}");
            std::fs::remove_file(path.join(name)).unwrap();
        };
        for name in FILES {
            for target in ["../mine", "nowhere"] {
                std::os::unix::fs::symlink(target, path.join(name)).unwrap();
                refused(name, "a symbolic link, want a regular file");
            }
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path.join(name), rustix::fs::FileType::Fifo, mode, 0).unwrap();
            refused(name, "a named pipe, want a regular file");
        }
        for name in DIRS {
            std::os::unix::fs::symlink("../elsewhere", path.join(name)).unwrap();
            refused(name, "a symbolic link, want a directory");
        }
        assert_eq!(std::fs::read(&mine).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(place.path().join("elsewhere")).unwrap().count(), 0);
        std::fs::hard_link(&mine, path.join(LOCK)).unwrap();
        RunDir::open(&path).unwrap();
        assert_eq!(std::fs::read(&mine).unwrap(), b"mine", "a lock of two names is replaced");
    }

    #[test]
    fn a_directory_that_is_moved_replaced_emptied_or_deleted_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().canonicalize().unwrap();
        let at = |name: &str| real.join(name);
        let begin = || {
            let run = RunDir::open(&at("fit")).unwrap();
            run.write_config("").unwrap();
            run.check_held().unwrap();
            run
        };
        let text = |run: &RunDir| {
            let lost = run.check_held().unwrap_err();
            assert_eq!(RunDirError::from(lost.clone()).exit(), Exit::Io);
            lost.to_string().replace(&format!("{}/", real.display()), "")
        };
        let run = begin();
        std::fs::rename(at("fit"), at("old")).unwrap();
        let moved = "log directory fit was moved to old while the run trained there";
        let way_on = "; what the run has saved is in old: go on with --logdir old";
        assert_eq!(text(&run), format!("{moved}{way_on}"));
        // What is written goes where the run is.
        let other = begin();
        assert_eq!(text(&run), format!("{moved}, and something else stands in its place{way_on}"));
        run.write_config("epochs = 3\n").unwrap();
        assert_eq!(std::fs::read(at("old/config.toml")).unwrap(), b"epochs = 3\n");
        assert_eq!(std::fs::read(at("fit/config.toml")).unwrap(), b"");
        other.check_held().unwrap();
        std::fs::remove_file(at("fit/run.lock")).unwrap();
        other.check_held().unwrap();
        assert!(at("fit/run.lock").exists(), "put back, as the directory is locked, too");
        std::fs::remove_file(at("fit/run.lock")).unwrap();
        std::fs::remove_file(at("fit/config.toml")).unwrap();
        assert!(text(&other).starts_with("log directory fit was emptied while the run trained there; "));
        std::fs::remove_dir_all(at("fit")).unwrap();
        let deleted = "log directory fit was deleted while the run trained there; ";
        assert!(text(&other).starts_with(deleted));
        std::fs::create_dir(at("fit")).unwrap();
        assert!(text(&other).starts_with(deleted), "what stands there now is another one");
        assert!(other.write_config("").is_err());
        assert_eq!(std::fs::read_dir(at("fit")).unwrap().count(), 0);
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
