//! File system operations for durable files, in one trait: tests prove the same sequence of calls that runs.
//!
//! Every call is one system call, or nearly so: a test can fail each of them, and stop between any two. Retries after
//! an interruption or a short write happen above the trait, in [`write_new`] and its neighbours.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Error, ErrorKind, Result, Write};
use std::path::Path;

use crate::files::Dir;

pub use crate::files::Entry;

/// A file system. Every method may fail with [`ErrorKind::Interrupted`]; then nothing has happened.
pub trait Fs {
    /// A file that is open for writing, from its creation until it is synced.
    type File;

    /// Fails with [`ErrorKind::AlreadyExists`] if the name is taken.
    fn create_dir(&self, path: &Path) -> Result<()>;
    /// Creates a file. Fails with [`ErrorKind::AlreadyExists`] if the name is taken.
    fn create(&self, path: &Path) -> Result<Self::File>;
    /// Appends `bytes` and returns the number of bytes written, perhaps not all.
    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> Result<usize>;
    /// Waits until the content is on the disk. After an error the kernel may have dropped it and report success the
    /// next time: the file must be removed and written anew.
    fn sync(&self, file: &Self::File) -> Result<()>;
    /// Waits until the names in `dir` are on the disk.
    fn sync_dir(&self, dir: &Path) -> Result<()>;
    /// Renames `from` to `to` and replaces an existing file atomically: at every time `to` is the old file or the new
    /// one.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// As [`rename`](Fs::rename), but fails with [`ErrorKind::AlreadyExists`] if `to` exists.
    fn rename_new(&self, from: &Path, to: &Path) -> Result<()>;
    fn remove_file(&self, path: &Path) -> Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> Result<()>;
    /// Entries of a directory, in any order.
    fn list(&self, dir: &Path) -> Result<Vec<Entry>>;
    /// Reads a whole file. A file longer than `limit` bytes fails with [`ErrorKind::FileTooLarge`], before more than
    /// that is in memory.
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>>;
}

/// The machine's file system: all of it, or the part below a directory descriptor.
///
/// No write follows a link at the end of a path, nor, below a descriptor, anywhere in it. A replaced file must be a
/// regular one of this user. A file to read must be a regular one.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    root: Option<Dir>,
}

impl Disk {
    /// Resolves paths that begin with the path of `root` relative to the descriptor, even after the directory was
    /// moved.
    pub fn within(root: Dir) -> Disk {
        Disk { root: Some(root) }
    }

    fn dir(&self, path: &Path) -> Result<Dir> {
        let Some(root) = &self.root else {
            return Dir::open(if path.as_os_str().is_empty() { Path::new(".") } else { path });
        };
        root.dir_at(path)
    }

    /// Parent directory of `path`, and the name in it.
    fn place(&self, path: &Path) -> Result<(Dir, OsString)> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name.to_owned()))
    }

    /// Common parent directory of `from` and `to`, and both names. A rename stays within one directory.
    fn places(&self, from: &Path, to: &Path) -> Result<(Dir, OsString, OsString)> {
        let (dir, from_name) = self.place(from)?;
        // `file` and `./file` are the same.
        let parent = |path: &Path| path.parent().map(|dir| Path::new(".").join(dir));
        match to.file_name() {
            Some(name) if parent(to) == parent(from) => Ok((dir, from_name, name.to_owned())),
            _ => Err(ErrorKind::CrossesDevices.into()),
        }
    }
}

impl Fs for Disk {
    type File = File;

    fn create_dir(&self, path: &Path) -> Result<()> {
        let (dir, name) = self.place(path)?;
        dir.make_dir(name)
    }

    fn create(&self, path: &Path) -> Result<File> {
        let (dir, name) = self.place(path)?;
        dir.create(name)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> Result<usize> {
        file.write(bytes)
    }

    fn sync(&self, file: &File) -> Result<()> {
        file.sync_all()
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.dir(dir)?.sync()
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (dir, from, to) = self.places(from, to)?;
        dir.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<()> {
        let (dir, from, to) = self.places(from, to)?;
        dir.rename_new(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        let (dir, name) = self.place(path)?;
        dir.remove_file(name)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        let (dir, name) = self.place(path)?;
        dir.remove_dir(name)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>> {
        self.dir(dir)?.list()
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let (dir, name) = self.place(path)?;
        dir.read(name, limit)
    }
}

/// Creates a file with this content and syncs it; its name is durable only after a sync of its directory. After an
/// error the file is removed, if the file system allows it.
pub fn write_new<F: Fs>(fs: &F, path: &Path, content: &[u8]) -> Result<()> {
    let mut file = again(|| fs.create(path))?;
    let written = write_all(fs, &mut file, content).and_then(|()| again(|| fs.sync(&file)));
    drop(file);
    if written.is_err() {
        let _ = again(|| fs.remove_file(path));
    }
    written
}

/// Removes a file, a link, or a directory with all its contents; links are not followed. A missing entry is no error.
pub fn remove_all<F: Fs>(fs: &F, path: &Path, is_dir: bool) -> Result<()> {
    if is_dir {
        for entry in again(|| fs.list(path)).or_else(absent(Vec::new()))? {
            remove_all(fs, &path.join(&entry.name), entry.is_dir)?;
        }
        again(|| fs.remove_dir(path)).or_else(absent(()))
    } else {
        again(|| fs.remove_file(path)).or_else(absent(()))
    }
}

/// Repeats a call while signals interrupt it.
pub fn again<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// For `or_else`: replaces a `NotFound` error by `value`.
pub(crate) fn absent<T>(value: T) -> impl FnOnce(Error) -> Result<T> {
    |error| if error.kind() == ErrorKind::NotFound { Ok(value) } else { Err(error) }
}

fn write_all<F: Fs>(fs: &F, file: &mut F::File, mut rest: &[u8]) -> Result<()> {
    while !rest.is_empty() {
        match again(|| fs.write(file, rest))? {
            0 => return Err(ErrorKind::WriteZero.into()),
            n => rest = rest.get(n..).unwrap_or_default(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_bounded_and_what_is_removed_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        assert_eq!(
            disk.read(Path::new("/dev/zero"), 1000).unwrap_err().to_string(),
            "it is a device, want a regular file"
        );
        let kept = dir.path().join("kept");
        write_new(&disk, &kept, b"1234").unwrap();
        assert_eq!(disk.read(&kept, 4).unwrap(), b"1234");
        assert_eq!(disk.read(&kept, 3).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let gone = dir.path().join("gone");
        std::fs::create_dir_all(gone.join("deep")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path(), gone.join("deep/link")).unwrap();
        remove_all(&disk, &gone, true).unwrap();
        remove_all(&disk, &gone, true).unwrap();
        assert!(kept.exists() && !gone.exists());
    }
    #[test]
    fn a_file_is_renamed_within_its_directory_alone_however_that_is_written() {
        let names = |from: &str, to: &str| Disk::default().places(Path::new(from), Path::new(to));
        for (from, to) in [("./.tmp-1", "trace.json"), (".tmp-1", "./trace.json"), ("/.tmp-1", "/trace.json")] {
            let (_, old, new) = names(from, to).unwrap();
            assert_eq!((old.to_str(), new.to_str()), (Some(".tmp-1"), Some("trace.json")));
        }
        for (from, to) in [(".tmp-1", "/trace.json"), ("./.tmp-1", "../trace.json"), ("a", "..")] {
            assert_eq!(names(from, to).unwrap_err().kind(), ErrorKind::CrossesDevices);
        }
    }

    #[test]
    fn below_a_held_directory_paths_lead_where_it_is_and_through_no_link() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::create_dir_all(at("run/deep")).unwrap();
        std::fs::create_dir(at("elsewhere")).unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), at("run/link")).unwrap();
        let disk = Disk::within(Dir::open(&at("run")).unwrap());
        std::fs::rename(at("run"), at("moved")).unwrap();
        std::fs::create_dir_all(at("run/deep")).unwrap();
        write_new(&disk, &at("run/deep/new"), b"a").unwrap();
        disk.rename(&at("run/deep/new"), &at("run/deep/file")).unwrap();
        disk.sync_dir(&at("run/deep")).unwrap();
        assert_eq!(std::fs::read(at("moved/deep/file")).unwrap(), b"a");
        assert_eq!(disk.list(&at("run/deep")).unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(at("run/deep")).unwrap().count(), 0);
        for path in ["run/link/file", "run/deep/../file", "other/file"] {
            assert!(disk.create(&at(path)).is_err(), "{path}");
        }
        assert_eq!(std::fs::read_dir(at("elsewhere")).unwrap().count(), 0);
    }
}
