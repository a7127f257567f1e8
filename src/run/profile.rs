//! `--profile`: time spans of a few training steps, in a file for Perfetto and Chrome.

use std::cell::{Cell, OnceCell};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::durable;
use crate::exit::{Classify, Exit};
use crate::files::{self, Dir};
use crate::run_dir;
use crate::trace::{self, Trace};

/// A trace and its output path, or neither.
pub(super) struct Profile {
    path: Option<PathBuf>,
    trace: Trace,
    is_written: Cell<bool>,
    /// Descriptor of the run's directory and the file's name there, if the file is in it: the file follows the
    /// directory when that is moved.
    held: OnceCell<(Dir, OsString)>,
}

/// Rejected path for a profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("profile {}: there is no directory {}; create it first", path.display(), dir.display())]
    NoDir { path: PathBuf, dir: PathBuf },
    #[error("profile {} is a directory; name a file", path.display())]
    Directory { path: PathBuf },
    #[error("profile {}: the figures for Prometheus go there; choose another", path.display())]
    RunMetrics { path: PathBuf },
    #[error("profile {}: the run has a file of that name; choose another", path.display())]
    Own { path: PathBuf },
    #[error("profile {}: something else than a profile is there; choose another name", path.display())]
    Foreign { path: PathBuf },
    #[error("profile {}: {} cannot be written: {source}", path.display(), dir.display())]
    NotWritable { path: PathBuf, dir: PathBuf, source: std::io::Error },
}

impl Classify for ProfileError {
    fn exit(&self) -> Exit {
        match self {
            ProfileError::NoDir { .. }
            | ProfileError::Directory { .. }
            | ProfileError::RunMetrics { .. }
            | ProfileError::Own { .. }
            | ProfileError::Foreign { .. } => Exit::CantCreate,
            ProfileError::NotWritable { source, .. } => Exit::of_output(source),
        }
    }
}

impl Profile {
    /// Checks that a profile can be written to
    /// `path`, and writes nothing. The path may lie in the run's directory `logdir` before that exists, and must
    /// differ from the metrics file `figures`.
    pub fn new(path: Option<&Path>, logdir: &Path, figures: Option<&Path>) -> Result<Profile, ProfileError> {
        let trace = if path.is_some() { Trace::start() } else { Trace::default() };
        path.map(|path| check(path, logdir, figures)).transpose()?;
        Ok(Profile { path: path.map(Path::to_owned), trace, is_written: Cell::new(false), held: OnceCell::new() })
    }

    /// Sets the descriptor of the run's directory, once it is open.
    pub fn hold(&self, run: &Dir) {
        if let Some(name) = self.path.as_ref().and_then(|path| run.name_in(path)) {
            let _ = self.held.set((run.clone(), name));
        }
    }

    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Writes the file as soon as the trace is complete: a run may last for days and end abruptly.
    pub fn write_if_complete(&self) {
        if self.trace.is_complete() && !self.is_written.get() {
            self.write();
        }
    }

    /// Writes the trace after training, unless it is written already, and logs its path.
    pub fn finish(&self) {
        let Some(path) = &self.path else { return };
        let steps = self.trace.steps();
        if steps == 0 {
            // An earlier profile is worth more than an empty one.
            tracing::warn!("profile {}: not written, as no step was recorded", path.display());
            return;
        }
        if !self.is_written.get() {
            self.write();
        }
        if self.is_written.get() {
            let steps = if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") };
            let path = path.display();
            tracing::info!(profile = %path, "profile of {steps} in {path}: open it in https://ui.perfetto.dev or chrome://tracing");
            if self.trace.left_out() > 0 {
                let left_out = self.trace.left_out();
                tracing::warn!("profile {path}: it was full, and {left_out} layers and operators were left out");
            }
        }
    }

    fn write(&self) {
        let Some(path) = &self.path else { return };
        let content = self.trace.to_json(std::process::id());
        let written = match self.held.get() {
            Some((dir, name)) => durable::write_in(dir, name, content.as_bytes()),
            None => durable::write(path, content.as_bytes()),
        };
        match written {
            Ok(()) => self.is_written.set(true),
            // The run is worth more than its profile.
            Err(error) => tracing::warn!("{error}; the run goes on without its profile"),
        }
    }
}

fn check(path: &Path, logdir: &Path, figures: Option<&Path>) -> Result<(), ProfileError> {
    let own = || path.to_owned();
    if path.is_dir() || path.file_name().is_none() {
        return Err(ProfileError::Directory { path: own() });
    }
    let dir = parent(path);
    if figures.is_some_and(|figures| figures.file_name() == path.file_name() && same(parent(figures), dir)) {
        return Err(ProfileError::RunMetrics { path: own() });
    }
    let is_within = same(dir, logdir);
    if is_within && path.file_name().is_some_and(run_dir::is_own) {
        return Err(ProfileError::Own { path: own() });
    }
    if !dir.is_dir() {
        // The run creates its own directory, and has checked that it can.
        let is_made = run_dir::makes(logdir, dir) && !dir.exists();
        return if is_made { Ok(()) } else { Err(ProfileError::NoDir { path: own(), dir: dir.to_owned() }) };
    }
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|errno| ProfileError::NotWritable { path: own(), dir: dir.to_owned(), source: errno.into() })?;
    if path.symlink_metadata().is_ok() && !is_profile(path) {
        return Err(ProfileError::Foreign { path: own() });
    }
    Dir::above(path).and_then(|(dir, name)| dir.has_own_file(name)).map_err(|source| ProfileError::NotWritable {
        path: own(),
        dir: own(),
        source,
    })?;
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// True if two paths name one directory, which need not exist yet.
fn same(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    matches!((whole(one), whole(other)), (Ok(one), Ok(other)) if one == other)
}

/// True for a file that may be overwritten: an earlier profile or an empty file.
fn is_profile(path: &Path) -> bool {
    if !std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return false;
    }
    let mut start = Vec::new();
    let read = files::open(path).and_then(|file| file.take(trace::BEGINNING.len() as u64).read_to_end(&mut start));
    read.is_ok() && (start.is_empty() || start == trace::BEGINNING.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path, logdir: &Path) -> (String, Exit) {
        let error = Profile::new(Some(path), logdir, None).err().unwrap();
        (error.to_string(), error.exit())
    }

    #[test]
    fn a_path_that_cannot_be_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let logdir = at("run");
        let path = at("missing/trace.json");
        let want =
            format!("profile {}: there is no directory {}; create it first", path.display(), at("missing").display());
        assert_eq!(refused(&path, &logdir), (want, Exit::CantCreate));
        let want = format!("profile {} is a directory; name a file", dir.path().display());
        assert_eq!(refused(dir.path(), &logdir), (want, Exit::CantCreate));
        for own in ["result.json", "train", "events.out.tfevents.1"] {
            let path = logdir.join(own);
            let want = format!("profile {}: the run has a file of that name; choose another", path.display());
            assert_eq!(refused(&path, &logdir), (want, Exit::CantCreate));
        }
        let file = at("notes.txt");
        std::fs::write(&file, "mine").unwrap();
        let want = format!("profile {}: something else than a profile is there; choose another name", file.display());
        assert_eq!(refused(&file, &logdir), (want, Exit::CantCreate));
        assert_eq!(refused(Path::new("/dev/null"), &logdir).1, Exit::CantCreate);
        let figures = at("./run.prom");
        let error = Profile::new(Some(&at("run.prom")), &logdir, Some(&figures)).err().unwrap();
        let want = format!("profile {}: the figures for Prometheus go there; choose another", at("run.prom").display());
        assert_eq!((error.to_string(), error.exit()), (want, Exit::CantCreate));
        Profile::new(Some(&at("run.json")), &logdir, Some(&figures)).unwrap();
        assert_eq!(std::fs::read(file).unwrap(), b"mine");
        assert!(!logdir.exists());
    }

    #[test]
    fn an_earlier_profile_is_written_over_and_the_run_makes_its_own_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let logdir = dir.path().join("run");
        Profile::new(Some(&logdir.join("trace.json")), &logdir, None).unwrap();
        Profile::new(Some(&dir.path().join("./run/trace.json")), &logdir, None).unwrap();
        for _ in 0..2 {
            let profile = Profile::new(Some(&path), &logdir, None).unwrap();
            profile.trace().step_begins(1, 1);
            let mut spans = profile.trace().spans();
            let started = spans.start();
            spans.end(started, trace::Part::Phase, "step");
            drop(spans);
            assert!(!profile.is_written.get());
            profile.write_if_complete();
            assert!(!profile.is_written.get(), "the epoch is not over");
            profile.finish();
            assert!(std::fs::read_to_string(&path).unwrap().starts_with(trace::BEGINNING));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_profile_in_the_runs_directory_goes_where_the_run_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let profile = Profile::new(Some(&at("run/trace.json")), &at("run"), None).unwrap();
        profile.hold(&Dir::make(&at("run")).unwrap());
        std::fs::rename(at("run"), at("moved")).unwrap();
        std::fs::create_dir(at("run")).unwrap();
        profile.write();
        assert!(profile.is_written.get() && at("moved/trace.json").is_file() && !at("run/trace.json").exists());
    }

    #[test]
    fn nothing_is_written_where_nothing_was_trained_or_wanted() {
        let dir = tempfile::tempdir().unwrap();
        Profile::new(Some(&dir.path().join("trace.json")), Path::new("run"), None).unwrap().finish();
        Profile::new(None, Path::new("run"), None).unwrap().finish();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
