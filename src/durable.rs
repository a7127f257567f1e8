//! Files that exist whole or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::exit::{Classify, Exit};

/// How the name of a file begins that is not yet whole.
const TEMPORARY: &str = ".tmp-";

/// A file that could not be written, or is not yet safe from a power cut. What stands there is the old content whole, or
/// the new one.
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
    put(path, content).map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Temporaries in `dir` of processes that were killed while they wrote.
pub fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMPORARY))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect()
}

fn put(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // What is published can be read by whom the umask lets; a temporary would be private.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(dir)?;
    // Past the wrapper, whose errors tell the name of the temporary.
    file.as_file_mut().write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(dir)?.sync_all()
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
}
