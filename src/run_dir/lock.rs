//! The lock of a run: on its directory, and on a file in it.
//!
//! The directory's cannot be removed; the file's is what network file systems have, which lock no directories, and what
//! tells people which process it is. Both are the kernel's, and end with the process.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::time::Duration;

use crate::durable::make_temporary_name;
use crate::files::Dir;

/// The file that is locked, within the run's directory.
pub const LOCK: &str = "run.lock";
/// Whoever lists runs holds a lock for a moment to see whether somebody trains: not worth giving up.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(20);
/// Longer files say no process's number.
const LONGEST_OWNER: u64 = 64;

/// Ownership of a run's directory.
#[derive(Debug)]
pub struct RunLock {
    /// None where the file system locks no directories.
    dir: Option<File>,
    file: RefCell<File>,
}

/// Why a run is not locked.
#[derive(Debug)]
pub enum LockError {
    /// By the process of that number, where the file says so.
    Held(Option<u32>),
    Failed(Error),
}

/// Outcome of a try to lock a file.
enum Taken {
    Yes,
    No,
    /// The file system cannot lock it.
    Unknown(Error),
}

impl From<Error> for LockError {
    fn from(error: Error) -> LockError {
        LockError::Failed(error)
    }
}

impl RunLock {
    /// Takes the lock of the run in `dir`. Waits a little where it is held, as it may be held for a look.
    pub fn take(dir: &Dir) -> std::result::Result<RunLock, LockError> {
        let own = dir.reopened()?;
        let own = match patiently(|| own.try_lock()) {
            Taken::Yes => Some(own),
            Taken::No => return Err(LockError::Held(owner(dir))),
            Taken::Unknown(_) => None,
        };
        Ok(RunLock { dir: own, file: RefCell::new(take_file(dir)?) })
    }

    /// Looks whether the lock could be taken, and writes nothing.
    pub fn check(dir: &Dir) -> std::result::Result<(), LockError> {
        let own = dir.reopened()?;
        if matches!(patiently(|| own.try_lock()), Taken::No) {
            return Err(LockError::Held(owner(dir)));
        }
        match dir.open_own(LOCK) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            file => lock_file(dir, &file?),
        }
    }

    /// True if nobody else can have taken the run since: the file that is locked is where it was, or could be put back
    /// while the directory was locked.
    pub fn holds(&self, dir: &Dir) -> bool {
        if dir.is_file_at(&self.file.borrow(), LOCK).unwrap_or(false) {
            return true;
        }
        // Where the directory cannot be locked, somebody else may be at work by now.
        if self.dir.is_none() {
            return false;
        }
        match take_file(dir) {
            Ok(file) => {
                tracing::warn!("{} was removed, and is put back; the run goes on", dir.path().join(LOCK).display());
                self.file.replace(file);
                true
            }
            Err(LockError::Held(_)) => false,
            // As on a full disk; the directory is locked all the same.
            Err(LockError::Failed(_)) => true,
        }
    }
}

/// Takes the lock of the file, which is made where there is none. One with several names, as a copy by hard links leaves
/// it, is replaced: the other name is another run's.
fn take_file(dir: &Dir) -> std::result::Result<File, LockError> {
    for _ in 0..LOOKS {
        let file = match dir.open_own(LOCK) {
            Err(error) if error.kind() == ErrorKind::NotFound => match dir.create(LOCK) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                file => file?,
            },
            file => file?,
        };
        lock_file(dir, &file)?;
        let file = if Dir::names_of(&file)? > 1 { replaced(dir)? } else { file };
        // Somebody may have put another one there meanwhile.
        if dir.is_file_at(&file, LOCK)? {
            say_owner(&file);
            return Ok(file);
        }
    }
    Err(LockError::Held(None))
}

fn lock_file(dir: &Dir, file: &File) -> std::result::Result<(), LockError> {
    match patiently(|| file.try_lock()) {
        Taken::Yes => Ok(()),
        Taken::No => Err(LockError::Held(owner(dir))),
        Taken::Unknown(error) => Err(error.into()),
    }
}

/// A new file, locked, in the place of the one that is there.
fn replaced(dir: &Dir) -> Result<File> {
    let create = |name: &OsString| dir.create(name);
    let (name, file) = make_temporary_name(create)?;
    let placed = file.try_lock().map_err(Error::from).and_then(|()| dir.rename(&name, LOCK));
    if placed.is_err() {
        let _ = dir.remove_file(&name);
    }
    placed.map(|()| file)
}

/// For people and for the message of who comes second; the lock itself is the kernel's.
fn say_owner(mut file: &File) {
    let _ = file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
}

/// The process that the file names.
fn owner(dir: &Dir) -> Option<u32> {
    let mut text = String::new();
    dir.open_file(LOCK).ok()?.take(LONGEST_OWNER).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn patiently(lock: impl Fn() -> std::result::Result<(), TryLockError>) -> Taken {
    let mut tries = LOOKS;
    loop {
        match lock() {
            Ok(()) => return Taken::Yes,
            Err(TryLockError::WouldBlock) if tries == 0 => return Taken::No,
            Err(TryLockError::WouldBlock) => tries -= 1,
            Err(TryLockError::Error(error)) => return Taken::Unknown(error),
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> (tempfile::TempDir, Dir) {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        (place, dir)
    }

    fn is_held(dir: &Dir) -> bool {
        let check = matches!(RunLock::check(dir), Err(LockError::Held(_)));
        assert_eq!(matches!(RunLock::take(dir), Err(LockError::Held(_))), check);
        check
    }

    #[test]
    fn a_lock_whose_file_is_removed_or_replaced_is_still_held_and_put_back() {
        let (place, dir) = run();
        let path = place.path().join(LOCK);
        let lock = RunLock::take(&dir).unwrap();
        for content in [None, Some("12\n")] {
            std::fs::remove_file(&path).unwrap();
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            assert!(is_held(&dir));
            assert!(lock.holds(&dir));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        }
        drop(lock);
        assert!(!is_held(&dir));
    }

    #[test]
    fn where_directories_cannot_be_locked_a_lock_whose_file_is_gone_is_lost() {
        let (place, dir) = run();
        let lock = RunLock { dir: None, ..RunLock::take(&dir).unwrap() };
        assert!(lock.holds(&dir) && is_held(&dir));
        std::fs::remove_file(place.path().join(LOCK)).unwrap();
        assert!(!lock.holds(&dir));
    }

    #[test]
    fn a_lock_file_of_two_names_is_replaced_and_no_other_is_written() {
        let (place, dir) = run();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("other"), "mine").unwrap();
        std::fs::hard_link(at("other"), at(LOCK)).unwrap();
        let lock = RunLock::take(&dir).unwrap();
        assert_eq!(std::fs::read(at("other")).unwrap(), b"mine");
        assert_eq!(owner(&dir), Some(std::process::id()));
        drop(lock);
        std::fs::remove_file(at(LOCK)).unwrap();
        std::os::unix::fs::symlink("other", at(LOCK)).unwrap();
        let Err(LockError::Failed(error)) = RunLock::take(&dir) else { panic!("a link was followed") };
        assert_eq!(error.to_string(), "it is a symbolic link, want a regular file; move it away");
        assert_eq!(std::fs::read(at("other")).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
    }
}
