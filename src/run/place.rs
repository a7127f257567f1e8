//! Directory of a new run: expands its name, refuses nested runs, and creates a new directory if each start is a run
//! of its own.

use std::path::{Path, PathBuf};

use super::RunError;
use crate::config::Resolved;
use crate::nesting::{self, Both};
use crate::run_dir::{self, LOCK, RunDirError};
use crate::types::Clock;

/// A run's directory. If it was created for this start alone, it is removed on drop while it is empty.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    made: Option<Footprint>,
}

impl Place {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(made) = &self.made {
            made.erase_empty();
        }
    }
}

/// The directory of the run that `resolved` describes, for a start at the current time.
///
/// Nothing is written unless the name contains the time of day: then the directory is created at once, so two starts
/// never share one.
pub fn place(resolved: &Resolved, clock: &dyn Clock) -> Result<Place, RunError> {
    let config = &resolved.config;
    let logdir = config.logdir.clone().ok_or(RunError::NoLogdir)?;
    let Some(template) = &config.run_name else {
        refuse_nesting(&logdir)?;
        return Ok(Place { path: logdir, made: None });
    };
    let host = || Some(gethostname::gethostname().to_string_lossy().into_owned());
    let setting = |key: &str| {
        let mut values = resolved.values().map(|(knob, text, _)| (knob.key, text.to_owned()));
        values.find(|(known, _)| *known == key).map(|(_, text)| text)
    };
    let lookup = |field: &str| if field == "host" { host() } else { setting(field) };
    let name = template.name(clock.now(), &lookup)?;
    nesting::check_name(&logdir, &name)?;
    let path = name.within(&logdir)?;
    refuse_nesting(&path)?;
    if !template.is_of_one_start() {
        return Ok(Place { path, made: None });
    }
    if !logdir.is_dir() {
        run_dir::check(&path)?;
    }
    let made = Footprint::before(&path);
    std::fs::create_dir_all(&logdir).map_err(|source| RunDirError::NotWritable {
        path: path.clone(),
        dir: logdir.clone(),
        source,
    })?;
    let path = name.claim(&logdir)?;
    Ok(Place { made: Some(made.and(&path)), path })
}

fn refuse_nesting(path: &Path) -> Result<(), RunError> {
    if let Some(Both(dir)) = nesting::check(path)? {
        tracing::warn!(
            "{dir} is a directory of runs and itself a run; `trainer unnest {dir} NAME` moves that run into {dir}/NAME",
            dir = dir.display()
        );
    }
    Ok(())
}

/// Directories that a start creates, to be removed if it fails.
#[derive(Debug)]
pub(super) struct Footprint {
    /// The innermost first.
    dirs: Vec<PathBuf>,
    lock: Option<PathBuf>,
}

impl Footprint {
    /// Records the missing directories of a start in `logdir`, before any is created.
    pub fn before(logdir: &Path) -> Footprint {
        let is_missing = |path: &PathBuf| !path.as_os_str().is_empty() && path.symlink_metadata().is_err();
        let own = run_dir::own_names().filter(|name| *name != LOCK).map(|name| logdir.join(name));
        let above = logdir.ancestors().map(Path::to_owned);
        let lock = Some(logdir.join(LOCK)).filter(is_missing);
        Footprint { dirs: own.chain(above).filter(is_missing).collect(), lock }
    }

    fn and(mut self, dir: &Path) -> Footprint {
        self.dirs.insert(0, dir.to_owned());
        self
    }

    /// Removes the directories created since. The lock must be held, so no other process works here.
    pub fn erase(&self) {
        let (own, above): (Vec<_>, Vec<_>) = self.dirs.iter().partition(|dir| self.is_beside_lock(dir));
        own.iter().for_each(|dir| remove(dir));
        if let Some(lock) = &self.lock {
            let _ = std::fs::remove_file(lock);
        }
        above.iter().for_each(|dir| remove(dir));
    }

    fn erase_empty(&self) {
        self.dirs.iter().for_each(|dir| remove(dir));
    }

    fn is_beside_lock(&self, dir: &Path) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.parent() == dir.parent())
    }
}

/// Removes an empty directory. Anything else stays.
fn remove(dir: &Path) {
    let _ = std::fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Knob, Layers};
    use crate::run_dir::RunDir;
    use crate::types::WallTime;

    struct At(f64);

    impl Clock for At {
        fn now(&self) -> WallTime {
            WallTime::from_secs(self.0).unwrap()
        }
    }

    fn placed(logdir: &Path, name: &str) -> Result<Place, RunError> {
        let mut layers = Layers::new();
        for (key, value) in [("logdir", logdir.to_str().unwrap()), ("run-name", name)] {
            layers.command_line(Knob::find(key).unwrap(), value.into());
        }
        place(&layers.resolve().unwrap(), &At(1_795_527_131.9))
    }

    #[test]
    fn starts_with_the_time_in_their_name_share_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let logdir = dir.path().join("new/logs");
        let places: Vec<Place> = (0..3).map(|_| placed(&logdir, "{time}").unwrap()).collect();
        let names: Vec<_> = places.iter().map(|place| place.path().file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["13-32-11", "13-32-11-2", "13-32-11-3"]);
        std::fs::write(places[1].path().join("config.toml"), "").unwrap();
        let used = places[1].path().to_owned();
        drop(places);
        assert!(used.exists() && std::fs::read_dir(&logdir).unwrap().count() == 1, "those with nothing in them go");
        for own in ["train", "plugins", "checkpoints", "config.toml"] {
            assert!(matches!(placed(&logdir, own), Err(RunError::Nesting(_))), "{own}");
        }
        assert_eq!(placed(&logdir, "{date}").unwrap().path(), logdir.join("2026-11-24"));
        assert!(!logdir.join("2026-11-24").exists(), "one a day goes on, and is made when it begins");
    }

    #[test]
    fn a_start_that_comes_to_nothing_leaves_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let logdir = dir.path().join("new/logs");
        drop(placed(&logdir, "{time}").unwrap());
        let footprint = Footprint::before(&logdir);
        let run = RunDir::open(&logdir).unwrap();
        footprint.erase();
        drop(run);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        std::fs::create_dir_all(logdir.join("train")).unwrap();
        std::fs::write(logdir.join("recorder.txt"), "mine").unwrap();
        let footprint = Footprint::before(&logdir);
        let run = RunDir::open(&logdir).unwrap();
        footprint.erase();
        drop(run);
        let mut names: Vec<_> = std::fs::read_dir(&logdir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["recorder.txt", "train"]);
    }
}
