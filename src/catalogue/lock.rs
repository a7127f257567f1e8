//! Lock of a run, on its directory or on the file in it, and safe opening of regular files.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::LOCK;

/// Maximum bytes read of a lock file, which holds a process number.
const LONGEST_OWNER: u64 = 64;

/// State of a run's lock.
#[derive(Debug)]
pub(super) enum Lock {
    /// No process trains here.
    Free,
    /// Held by the process with this number, if the file contains it.
    Held(Option<u32>),
    /// The state cannot be determined.
    Unknown(io::Error),
}

/// A held lock of a run, released on drop.
pub(super) struct Held {
    pub file: File,
    /// None if the file system does not lock directories.
    _dir: Option<File>,
}

/// Returns the state of the lock of the run in `dir`.
///
/// The kernel reveals a lock only to a process that requests it: a shared lock is taken for an instant, so concurrent
/// checks do not hinder each other.
pub(super) fn probe(dir: &Path) -> Lock {
    let file = match open(&dir.join(LOCK), OFlags::RDONLY) {
        Ok(file) => file,
        // Removing the file does not end the run.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if is_dir_locked(dir) { Lock::Held(None) } else { Lock::Free };
        }
        Err(error) => return Lock::Unknown(error),
    };
    if is_dir_locked(dir) {
        return Lock::Held(owner(&file));
    }
    match file.try_lock_shared() {
        Ok(()) => Lock::Free,
        Err(TryLockError::WouldBlock) => Lock::Held(owner(&file)),
        Err(TryLockError::Error(error)) => Lock::Unknown(error),
    }
}

/// Takes the lock of the run in `dir`, and creates its file if missing. `None` if another process holds it.
pub(super) fn take(dir: &Path) -> io::Result<Option<Held>> {
    taken(dir, OFlags::RDWR | OFlags::CREATE)
}

/// As [`take`], but a missing lock file is a `NotFound` error.
pub(super) fn take_existing(dir: &Path) -> io::Result<Option<Held>> {
    taken(dir, OFlags::RDONLY)
}

fn taken(dir: &Path, how: OFlags) -> io::Result<Option<Held>> {
    let own = open_dir(dir)?;
    let own = match own.try_lock() {
        Ok(()) => Some(own),
        Err(TryLockError::WouldBlock) => return Ok(None),
        // The file system does not lock directories.
        Err(TryLockError::Error(_)) => None,
    };
    let file = open(&dir.join(LOCK), how)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Held { file, _dir: own })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_dir_locked(dir: &Path) -> bool {
    open_dir(dir).is_ok_and(|dir| matches!(dir.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn open_dir(dir: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(dir, flags, Mode::empty())?.into())
}

/// Reads a regular file of at most `most` bytes.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path, OFlags::RDONLY)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("longer than {most} bytes")));
    }
    Ok(bytes)
}

/// Reads the last `most` bytes of a regular file.
pub(super) fn read_end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = open(path, OFlags::RDONLY)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a regular file. Links are refused, since they may lead anywhere, and pipes, since a read could block
/// forever.
fn open(path: &Path, how: OFlags) -> io::Result<File> {
    let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)).map_err(|errno| match errno {
        Errno::LOOP => io::Error::other("a symbolic link"),
        errno => errno.into(),
    })?;
    let file = File::from(file);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

fn owner(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(LONGEST_OWNER).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
