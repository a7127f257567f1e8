//! Files that exist whole or not at all.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub mod draft;
pub mod fs;
pub mod sim;

pub use draft::Draft;
pub use fs::{Disk, Fs};

use crate::exit::{Classify, Exit};
use crate::files::Dir;

/// Prefix of the name of a file or directory that is incomplete or being removed.
pub const TEMPORARY: &str = ".tmp-";

/// Error: a file could not be written, or is not yet safe from a power cut. The file has either the whole old content
/// or the whole new one.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    pub path: PathBuf,
    pub source: std::io::Error,
}

impl Classify for WriteError {
    fn exit(&self) -> Exit {
        Exit::of_output(&self.source)
    }
}

/// Writes a file so that a crash at any time leaves the old content or the new: a temporary beside it, fsync, rename,
/// fsync of the directory.
pub fn write(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    write_on(&Disk::default(), path, content)
}

/// As [`write()`], below a directory descriptor.
pub fn write_in(dir: &Dir, name: &OsStr, content: &[u8]) -> Result<(), WriteError> {
    write_on(&Disk::within(dir.clone()), &dir.path().join(name), content)
}

/// As [`write()`], on any file system.
pub fn write_on<F: Fs>(fs: &F, path: &Path, content: &[u8]) -> Result<(), WriteError> {
    put(fs, path, content).map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Temporary files in `dir` left by killed processes.
pub fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMPORARY))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect()
}

/// Calls `make` with paths in `dir` whose names begin with [`TEMPORARY`] until one is free.
pub(crate) fn make_temporary<T>(
    dir: &Path,
    mut make: impl FnMut(&Path) -> std::io::Result<T>,
) -> std::io::Result<(PathBuf, T)> {
    let (name, made) = make_temporary_name(|name| make(&dir.join(name)))?;
    Ok((dir.join(name), made))
}

/// Calls `make` with names that begin with [`TEMPORARY`] until one is free. A killed process with the same number may
/// have left some: in a container the number is always 1.
pub(crate) fn make_temporary_name<T>(
    mut make: impl FnMut(&OsString) -> std::io::Result<T>,
) -> std::io::Result<(OsString, T)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut tries = 0..1000;
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{TEMPORARY}{}-{n}", std::process::id()).into();
        match make(&name) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && tries.next().is_some() => {}
            made => return made.map(|made| (name, made)),
        }
    }
}

/// The directory that holds the name `path`.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn put<F: Fs>(fs: &F, path: &Path, content: &[u8]) -> std::io::Result<()> {
    let dir = directory_of(path);
    let (temporary, ()) = make_temporary(dir, |temporary| fs::write_new(fs, temporary, content))?;
    if let Err(error) = fs::again(|| fs.rename(&temporary, path)) {
        let _ = fs::again(|| fs.remove_file(&temporary));
        return Err(error);
    }
    fs::again(|| fs.sync_dir(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_the_file_that_could_not_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing").join("a.json");
        let error = write(&path, b"x").unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot write {}: ", path.display())), "{error}");
        assert_eq!(error.exit(), Exit::CantCreate);
    }

    #[test]
    fn names_of_killed_processes_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut taken = 3;
        let (path, ()) = make_temporary(dir.path(), |path| {
            taken -= 1;
            if taken > 0 { Err(std::io::ErrorKind::AlreadyExists.into()) } else { std::fs::write(path, "") }
        })
        .unwrap();
        assert_eq!(leftovers(dir.path()), [path]);
        let error = make_temporary(dir.path(), |_| Err::<(), _>(std::io::ErrorKind::AlreadyExists.into()));
        assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    }
}
