//! Runs inside runs: the places where none may begin, and the way out of a directory of runs that has become a run.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use crate::eventlog::snapshots;
use crate::exit::{Classify, Exit};
use crate::files::Dir;
use crate::run_dir::{self, CONFIG, LOCK, LockError, RunLock};
use crate::run_name::{RunName, WithinError};

/// Entries of directories that are searched for runs in all. The search ends with the first run.
const MOST_ENTRIES: usize = 20_000;

/// Why a run may not begin in a directory.
#[derive(Debug, thiserror::Error)]
pub enum NestingError {
    #[error(
        "log directory {} holds runs, such as {}; name the new run with --run-name, or pass a directory of its own, such \
         as --logdir {}", path.display(), run.display(), path.join("NAME").display()
    )]
    HoldsRuns { path: PathBuf, run: PathBuf },
    #[error(
        "log directory {} is inside run {run}; pass a directory outside the run (with --run-name, its parent directory), or \
         make {run} a directory of runs: `trainer unnest {run} NAME` moves the run into {run}/NAME", path.display(), run = run.display()
    )]
    InsideRun { path: PathBuf, run: PathBuf },
    #[error("log directory {} lies in {}, where a run keeps its own files; pass a directory outside of the run", path.display(), own.display())]
    InsideOwn { path: PathBuf, own: PathBuf },
    #[error(
        "log directory {}: {name} is the name of a file or directory that every run keeps; choose another name for the run",
        path.display()
    )]
    OwnName { path: PathBuf, name: RunName },
}

impl Classify for NestingError {
    fn exit(&self) -> Exit {
        Exit::CantCreate
    }
}

/// A directory of runs that is a run itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Both(pub PathBuf);

/// Refuses `path` as a run's directory where it lies in a run, or has runs in it and is none. Writes nothing.
///
/// A directory of runs that once was made a run stays usable: it is given back, to be warned about.
pub fn check(path: &Path) -> Result<Option<Both>, NestingError> {
    let resolved = run_dir::resolved(path);
    let mut below = resolved.as_path();
    let mut both = None;
    for dir in resolved.ancestors().skip(1) {
        if run_dir::is_run(dir) {
            let own = below.strip_prefix(dir).ok().and_then(|rest| rest.components().next());
            if own.is_some_and(|own| run_dir::is_own(own.as_os_str())) {
                return Err(NestingError::InsideOwn { path: path.to_owned(), own: below.to_owned() });
            }
            if run_below(dir).is_none() {
                return Err(NestingError::InsideRun { path: path.to_owned(), run: dir.to_owned() });
            }
            both = Some(Both(dir.to_owned()));
        }
        below = dir;
    }
    // The root of the file system is refused for what it is.
    match resolved.parent().and_then(|_| run_below(&resolved)) {
        Some(_) if run_dir::is_run(&resolved) => Ok(Some(Both(path.to_owned()))),
        Some(run) => Err(NestingError::HoldsRuns { path: path.to_owned(), run }),
        None => Ok(both),
    }
}

/// Refuses a new run in `logdir` by a name that runs use in their own directories, such as `train`.
pub fn check_name(logdir: &Path, name: &RunName) -> Result<(), NestingError> {
    if run_dir::is_own(name.as_str().as_ref()) && !run_dir::is_run(&logdir.join(name.as_str())) {
        return Err(NestingError::OwnName { path: logdir.to_owned(), name: name.clone() });
    }
    Ok(())
}

/// The run that `path` is the directory of or lies in, whether it exists yet or not.
pub fn holding(path: &Path) -> Option<PathBuf> {
    run_dir::resolved(path).ancestors().find(|dir| run_dir::is_run(dir)).map(Path::to_owned)
}

/// A run below `dir`, those nearest first. What a run itself keeps in its directory is not searched; links are followed
/// to runs and no further. A search of too many entries ends with a warning.
fn run_below(top: &Path) -> Option<PathBuf> {
    let mut left = MOST_ENTRIES;
    let mut dirs = VecDeque::from([top.to_owned()]);
    while let Some(dir) = dirs.pop_front() {
        let is_run = run_dir::is_run(&dir);
        // A directory that cannot be read, such as lost+found, holds nothing that would be missed.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if left == 0 {
                tracing::warn!(
                    "{}: {MOST_ENTRIES} entries were searched for runs, and there are more: a run below may have been missed; \
                     keep runs and other files apart",
                    top.display()
                );
                return None;
            }
            left -= 1;
            let (name, path) = (entry.file_name(), entry.path());
            let Ok(kind) = entry.file_type() else { continue };
            if name.as_encoded_bytes().starts_with(b".") || (is_run && run_dir::is_own(&name)) {
                continue;
            }
            let is_another = || path.canonicalize().is_ok_and(|real| !dir.starts_with(real));
            if (kind.is_dir() || (kind.is_symlink() && is_another())) && run_dir::is_run(&path) {
                return Some(path);
            }
            if kind.is_dir() {
                dirs.push_back(path);
            }
        }
    }
    None
}

/// Why a run was not moved into a directory of its own.
#[derive(Debug, thiserror::Error)]
pub enum UnnestError {
    #[error("{} is no run; name a log directory in which a run was trained that lies beside others", path.display())]
    NoRun { path: PathBuf },
    #[error("{} is there already; choose another name", path.display())]
    Taken { path: PathBuf },
    #[error("cannot move {} to {}: {source}; the same command goes on", from.display(), to.display())]
    Move { from: PathBuf, to: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Name(#[from] NestingError),
    #[error(transparent)]
    Place(#[from] WithinError),
    #[error("run {} is in use; wait for it to end, and run the same command again", path.display())]
    InUse { path: PathBuf },
    #[error("cannot take the lock {}: {source}", path.display())]
    Lock { path: PathBuf, source: std::io::Error },
}

impl Classify for UnnestError {
    fn exit(&self) -> Exit {
        match self {
            UnnestError::NoRun { .. } => Exit::NoInput,
            UnnestError::Taken { .. } | UnnestError::InUse { .. } => Exit::CantCreate,
            UnnestError::Move { source, .. } | UnnestError::Lock { source, .. } => Exit::of_output(source),
            UnnestError::Name(error) => error.exit(),
            UnnestError::Place(error) => error.exit(),
        }
    }
}

/// Moves the run in `logdir` into a directory `name` below it, with all that a run keeps and nothing else, and gives that
/// directory. Its lock is held meanwhile, and goes with it. A process that is killed here is followed up by the same call.
pub fn unnest(logdir: &Path, name: &RunName) -> Result<PathBuf, UnnestError> {
    check_name(logdir, name)?;
    let to = name.within(logdir)?;
    let there = |dir: &Path, name: &OsStr| dir.join(name).symlink_metadata().is_ok();
    let is_begun = to.is_dir()
        && (there(logdir, CONFIG.as_ref()) != there(&to, CONFIG.as_ref())
            || there(logdir, LOCK.as_ref()) != there(&to, LOCK.as_ref()));
    if !run_dir::is_run(logdir) && !(is_begun && (there(logdir, CONFIG.as_ref()) || there(logdir, LOCK.as_ref()))) {
        return Err(UnnestError::NoRun { path: logdir.to_owned() });
    }
    if to.symlink_metadata().is_ok() && (run_dir::is_run(&to) || !to.is_dir()) {
        return Err(UnnestError::Taken { path: to });
    }
    let is_moved = there(&to, LOCK.as_ref()) && !there(logdir, LOCK.as_ref());
    let held = held(if is_moved { &to } else { logdir })?;
    let failed =
        |from: &Path, to: &Path, source| UnnestError::Move { from: from.to_owned(), to: to.to_owned(), source };
    std::fs::create_dir_all(&to).map_err(|source| failed(logdir, &to, source))?;
    // Last what makes it a run: until then this call finds it where it was.
    let events = run_dir::own_event_files(logdir).into_iter().filter_map(|path| path.file_name().map(OsStr::to_owned));
    // Of what plugins of TensorBoard keep there, one directory is a run's.
    let [plugins, ..] = snapshots::DIRS;
    if there(logdir, snapshots::ROOT.as_ref()) {
        std::fs::create_dir_all(to.join(plugins)).map_err(|source| failed(logdir, &to, source))?;
    }
    let others = run_dir::own_names().map(|name| if name == plugins { snapshots::ROOT } else { name });
    let others = others.filter(|name| ![LOCK, CONFIG].contains(name)).map(OsString::from);
    let names = events.chain(others).chain([LOCK, CONFIG].map(OsString::from));
    for name in names.filter(|name| there(logdir, name)) {
        let (from, to) = (logdir.join(&name), to.join(&name));
        rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE)
            .or_else(|errno| match errno {
                // Of some network file systems; nothing is in the way, as was seen above.
                rustix::io::Errno::INVAL if to.symlink_metadata().is_err() => rustix::fs::rename(&from, &to),
                errno => Err(errno),
            })
            .map_err(|errno| failed(&from, &to, errno.into()))?;
    }
    let _ = std::fs::remove_dir(logdir.join(plugins));
    for dir in [&to, logdir] {
        // Where the file system cannot say, the move is done all the same.
        let _ = File::open(dir).and_then(|dir| dir.sync_all());
    }
    drop(held);
    Ok(to)
}

/// The lock of the run in `dir`, taken.
fn held(dir: &Path) -> Result<RunLock, UnnestError> {
    let taken = Dir::open(dir).map_err(LockError::from).and_then(|dir| RunLock::take(&dir));
    taken.map_err(|error| match error {
        LockError::Held(_) => UnnestError::InUse { path: dir.to_owned() },
        LockError::Failed(source) => UnnestError::Lock { path: dir.join(LOCK), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with runs of these names in it; `.` is the directory itself.
    fn with_runs(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let run = dir.path().join(name);
            std::fs::create_dir_all(run.join("train")).unwrap();
            for file in [CONFIG, LOCK] {
                std::fs::write(run.join(file), "").unwrap();
            }
        }
        dir
    }

    fn refused(path: &Path) -> NestingError {
        let error = check(path).unwrap_err();
        assert_eq!(error.exit(), Exit::CantCreate);
        error
    }

    #[test]
    fn a_directory_of_runs_is_no_place_for_a_run() {
        for run in ["a", "sweep/lr=1", "1/2/3/4/5/6/7/8/9/10/11/12"] {
            let dir = with_runs(&[run]);
            let error = refused(dir.path());
            assert!(matches!(&error, NestingError::HoldsRuns { run: found, .. } if found.ends_with(run)), "{error}");
            assert!(error.to_string().contains("--run-name"), "{error}");
            check(&dir.path().join("new")).unwrap();
            check(&dir.path().join("new/er")).unwrap();
            assert_eq!(check(&dir.path().join(run)).unwrap(), None, "the run itself may go on");
        }
    }

    #[test]
    fn links_to_runs_make_a_directory_of_runs() {
        let runs = with_runs(&["a"]);
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(runs.path().join("a"), dir.path().join("one")).unwrap();
        assert!(matches!(refused(dir.path()), NestingError::HoldsRuns { .. }));
        let lone = with_runs(&["."]);
        std::os::unix::fs::symlink(".", lone.path().join("self")).unwrap();
        assert_eq!(check(lone.path()).unwrap(), None, "a run is no run below itself");
    }

    #[test]
    fn no_run_begins_inside_a_run() {
        let dir = with_runs(&["a"]);
        let run = dir.path().join("a");
        std::os::unix::fs::symlink(&run, dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("a/train", dir.path().join("deep")).unwrap();
        for path in ["a/b", "a/b/c/d", "a/./b", "link/b", "new/../a/b", "a/new/../b", "link/../a/b"] {
            let error = refused(&dir.path().join(path));
            assert!(matches!(&error, NestingError::InsideRun { run, .. } if run.ends_with("a")), "{path}: {error}");
            assert!(error.to_string().contains("`trainer unnest "), "{error}");
        }
        for path in ["a/train", "a/checkpoints", "a/checkpoints/x", "a/projector/x", "deep", "deep/x"] {
            let error = refused(&dir.path().join(path));
            assert!(matches!(&error, NestingError::InsideOwn { .. }), "{path}: {error}");
        }
        for path in ["a", "a/", "link", "deep/..", "a/../b", "b", "link/../b"] {
            assert_eq!(check(&dir.path().join(path)).unwrap(), None, "{path}");
        }
    }

    #[test]
    fn what_others_keep_in_a_directory_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["lost+found", "keras/train", "train", ".trash-1-a"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for path in
            ["keras/train/events.out.tfevents.1.h", "config.toml", ".trash-1-a/config.toml", ".trash-1-a/run.lock"]
        {
            std::fs::write(dir.path().join(path), "").unwrap();
        }
        // Another program's project: settings, and checkpoints as others name them.
        std::fs::create_dir_all(dir.path().join("checkpoints/ckpt-100")).unwrap();
        assert_eq!(check(dir.path()).unwrap(), None);
        assert_eq!(check(&dir.path().join("logs/fit")).unwrap(), None);
    }

    #[test]
    fn a_directory_of_runs_that_became_a_run_stays_usable() {
        let dir = with_runs(&[".", "a", "sweep/b"]);
        let both = Some(Both(dir.path().canonicalize().unwrap()));
        for path in ["new", "a", "sweep/b", "sweep/new"] {
            assert_eq!(check(&dir.path().join(path)).unwrap(), both, "{path}");
        }
        assert_eq!(check(dir.path()).unwrap(), Some(Both(dir.path().to_owned())), "the run in it may go on");
        assert!(matches!(refused(&dir.path().join("a/new")), NestingError::InsideRun { .. }));
        assert!(matches!(refused(&dir.path().join("train/new")), NestingError::InsideOwn { .. }));
    }

    #[test]
    fn a_run_is_moved_out_of_the_way_with_all_it_has_and_nothing_else() {
        let dir = with_runs(&[".", "a"]);
        let columns = dir.path().join("events.out.tfevents.0000000000.hparams.v2");
        std::fs::write(&columns, "").unwrap();
        std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        std::fs::write(dir.path().join("train/events.out.tfevents.1.h"), "x").unwrap();
        let name = |text: &str| RunName::new(text).unwrap();
        for taken in ["a", "notes.txt"] {
            let error = unnest(dir.path(), &name(taken)).unwrap_err();
            assert!(matches!(error, UnnestError::Taken { .. }), "{error}");
        }
        for own in ["train", "plugins", "config.toml"] {
            let error = unnest(dir.path(), &name(own)).unwrap_err();
            assert!(matches!(error, UnnestError::Name(NestingError::OwnName { .. })), "{error}");
        }
        let to = unnest(dir.path(), &name("first")).unwrap();
        assert_eq!(to, dir.path().join("first"));
        assert!(run_dir::is_run(&to) && to.join("train/events.out.tfevents.1.h").exists());
        assert!(!run_dir::is_run(dir.path()) && columns.exists() && dir.path().join("notes.txt").exists());
        assert_eq!(check(&dir.path().join("new")).unwrap(), None);
        assert!(matches!(unnest(dir.path(), &name("again")).unwrap_err(), UnnestError::NoRun { .. }));
        assert!(matches!(unnest(&dir.path().join("none"), &name("a")).unwrap_err(), UnnestError::NoRun { .. }));
    }

    #[test]
    fn a_move_that_was_killed_is_followed_up() {
        for moved in [&["metrics.jsonl"][..], &["metrics.jsonl", "train"], &["metrics.jsonl", "train", LOCK]] {
            let dir = with_runs(&["."]);
            std::fs::write(dir.path().join("metrics.jsonl"), "x").unwrap();
            let to = dir.path().join("first");
            std::fs::create_dir(&to).unwrap();
            for name in moved {
                std::fs::rename(dir.path().join(name), to.join(name)).unwrap();
            }
            let done = unnest(dir.path(), &RunName::new("first").unwrap()).unwrap();
            assert!(run_dir::is_run(&done) && done.join("train").is_dir(), "{moved:?}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{moved:?}");
        }
    }
}
