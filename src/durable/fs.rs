//! What a file system has to do for durable files: one trait, so that the sequence that runs is the sequence that is proven.
//!
//! Every call is one system call, or nearly so: a test can fail each of them, and stop between any two. What has to be
//! done again after an interruption or a short write is done above the trait, in [`write_new`] and its neighbours.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;

/// What a directory lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: OsString,
    /// False for a symbolic link, whatever it points at.
    pub is_dir: bool,
}

/// A file system. Every method may fail with [`ErrorKind::Interrupted`]; then nothing has happened.
pub trait Fs {
    /// A file that is open for writing, from its creation until it is synced.
    type File;

    /// Fails with [`ErrorKind::AlreadyExists`] on whatever has that name.
    fn create_dir(&self, path: &Path) -> Result<()>;
    /// A new file. Fails with [`ErrorKind::AlreadyExists`] on whatever has that name.
    fn create(&self, path: &Path) -> Result<Self::File>;
    /// How many of `bytes` were appended, perhaps not all.
    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> Result<usize>;
    /// Waits until the content is on the disk. After an error the kernel may have dropped it and say yes the next time:
    /// the file is to be removed and written anew.
    fn sync(&self, file: &Self::File) -> Result<()>;
    /// Waits until the names in `dir` are on the disk.
    fn sync_dir(&self, dir: &Path) -> Result<()>;
    /// Puts `from` in the place of the file `to`, if there is one: at every time `to` is the old one or the new.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// As [`rename`](Fs::rename), but fails with [`ErrorKind::AlreadyExists`] if something has the name `to`.
    fn rename_new(&self, from: &Path, to: &Path) -> Result<()>;
    fn remove_file(&self, path: &Path) -> Result<()>;
    /// An empty directory.
    fn remove_dir(&self, path: &Path) -> Result<()>;
    /// In any order.
    fn list(&self, dir: &Path) -> Result<Vec<Entry>>;
    /// All of a file. One that is longer than `limit` bytes fails with [`ErrorKind::FileTooLarge`], before more than that
    /// is in memory.
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>>;
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Fs for Disk {
    type File = File;

    fn create_dir(&self, path: &Path) -> Result<()> {
        std::fs::create_dir(path)
    }

    fn create(&self, path: &Path) -> Result<File> {
        File::options().write(true).create_new(true).open(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> Result<usize> {
        file.write(bytes)
    }

    fn sync(&self, file: &File) -> Result<()> {
        file.sync_all()
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        match File::open(dir)?.sync_all() {
            // Some network and container file systems have no such call for directories; there is nothing to wait for.
            Err(error) if is_unknown(&error) => Ok(()),
            result => result,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<()> {
        rename_new_by(rename_no_replace, from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        std::fs::remove_dir(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>> {
        let entry = |entry: Result<std::fs::DirEntry>| {
            let entry = entry?;
            Ok(Entry { name: entry.file_name(), is_dir: entry.file_type()?.is_dir() })
        };
        std::fs::read_dir(dir)?.map(entry).collect()
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit { Err(ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    }
}

/// Creates a file with this content and waits until that is on the disk; its name is there for good only once its
/// directory is synced. After an error there is no such file, if the file system lets it be removed.
pub fn write_new<F: Fs>(fs: &F, path: &Path, content: &[u8]) -> Result<()> {
    let mut file = again(|| fs.create(path))?;
    let written = write_all(fs, &mut file, content).and_then(|()| again(|| fs.sync(&file)));
    drop(file);
    if written.is_err() {
        let _ = again(|| fs.remove_file(path));
    }
    written
}

/// Removes a file, a link, or a directory with all that is in it; links are not followed. What is gone already is no
/// error.
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

/// Makes a call until no signal interrupts it.
pub fn again<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// For `or_else`: what is not there counts as `value`.
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

/// The call is not known to this system, or not to this file system.
fn is_unknown(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

#[cfg(target_os = "linux")]
fn rename_no_replace(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(not(target_os = "linux"))]
fn rename_no_replace(_: &Path, _: &Path) -> Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Where the file system cannot refuse by itself, looks first: the owner of a run's directory is alone in it.
fn rename_new_by(no_replace: fn(&Path, &Path) -> Result<()>, from: &Path, to: &Path) -> Result<()> {
    match no_replace(from, to) {
        Err(error) if is_unknown(&error) => match to.symlink_metadata() {
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => std::fs::rename(from, to),
            Err(error) => Err(error),
        },
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(_: &Path, _: &Path) -> Result<()> {
        Err(Error::from_raw_os_error(22))
    }

    #[test]
    fn a_name_that_is_taken_is_not_taken_over_whether_or_not_the_file_system_can_refuse() {
        for no_replace in [rename_no_replace, unknown] {
            let dir = tempfile::tempdir().unwrap();
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            std::fs::create_dir(&a).unwrap();
            std::fs::write(&b, "kept").unwrap();
            let error = rename_new_by(no_replace, &a, &b).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&b).unwrap(), b"kept");
            rename_new_by(no_replace, &a, &dir.path().join("c")).unwrap();
            assert!(dir.path().join("c").is_dir() && !a.exists());
        }
    }

    #[test]
    fn what_is_read_is_bounded_and_what_is_removed_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Disk.read(Path::new("/dev/zero"), 1000).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let kept = dir.path().join("kept");
        write_new(&Disk, &kept, b"1234").unwrap();
        assert_eq!(Disk.read(&kept, 4).unwrap(), b"1234");
        assert_eq!(Disk.read(&kept, 3).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let gone = dir.path().join("gone");
        std::fs::create_dir_all(gone.join("deep")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path(), gone.join("deep/link")).unwrap();
        remove_all(&Disk, &gone, true).unwrap();
        remove_all(&Disk, &gone, true).unwrap();
        assert!(kept.exists() && !gone.exists());
    }
}
