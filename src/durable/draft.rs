//! A file written piece by piece to a temporary beside it, and renamed into place when it is published.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::fs::{Disk, Fs, again};
use super::{WriteError, directory_of, make_temporary};
use crate::files::Dir;

/// A file that is written piece by piece. Dropped without [`publish`](Draft::publish), it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    disk: Disk,
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl Draft {
    /// Begins the file `path`. An existing file stays until the draft is published, and must be a regular file: a
    /// link, a pipe or a device is not replaced.
    pub fn create(path: &Path) -> Result<Draft, WriteError> {
        let at = |source| WriteError { path: path.to_owned(), source };
        // Checked before anything is written, and again by the rename.
        Dir::open(directory_of(path))
            .and_then(|dir| dir.has_own_file(path.file_name().unwrap_or_default()))
            .map_err(at)?;
        let disk = Disk::default();
        let (temporary, file) = make_temporary(directory_of(path), |temporary| disk.create(temporary)).map_err(at)?;
        Ok(Draft { disk, path: path.to_owned(), temporary, file })
    }

    /// Syncs the content and renames it into place.
    pub fn publish(self) -> Result<(), WriteError> {
        let put = || {
            again(|| self.disk.sync(&self.file))?;
            again(|| self.disk.rename(&self.temporary, &self.path))?;
            again(|| self.disk.sync_dir(directory_of(&self.path)))
        };
        put().map_err(|source| WriteError { path: self.path.clone(), source })
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After `publish` the temporary name no longer exists.
        let _ = again(|| self.disk.remove_file(&self.temporary));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{Classify, Exit};

    fn names(dir: &Path) -> Vec<String> {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_draft_replaces_a_file_when_it_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("points.csv");
        std::fs::write(&path, "old").unwrap();
        let mut draft = Draft::create(&path).unwrap();
        draft.write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        draft.publish().unwrap();
        assert_eq!(
            (std::fs::read(&path).unwrap(), names(dir.path())),
            (b"new".to_vec(), vec!["points.csv".to_owned()])
        );
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut draft = Draft::create(&dir.path().join("points.csv")).unwrap();
        draft.write_all(b"new").unwrap();
        assert_eq!(names(dir.path()).len(), 1);
        drop(draft);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_directories_are_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("target"), &link).unwrap();
        for (path, found) in [(link.as_path(), "a symbolic link"), (dir.path(), "a directory")] {
            let error = Draft::create(path).unwrap_err();
            let want = format!("cannot write {}: it is {found}, want a regular file; move it away", path.display());
            assert_eq!((error.to_string(), error.exit()), (want, Exit::CantCreate));
        }
        assert_eq!(names(dir.path()), ["link"]);
    }
}
