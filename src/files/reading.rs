//! Regular files opened for reading. Links to them are followed; a named pipe, a device or a socket is refused, as opening
//! or reading it could wait for ever.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, openat, statat};
use rustix::io::Errno;

use super::kind::{Kind, Status};

/// Where a process finds the descriptors that it was given.
const INHERITED: [&str; 4] = ["/dev/stdin", "/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"];

/// Opens a regular file.
pub fn open(path: &Path) -> Result<File> {
    open_at(CWD, path)
}

/// As [`open`], and `/dev/stdin`, `/dev/fd/63` and the like, whatever stands behind them: a pipe that a shell has opened
/// for this process is meant, and has a writer.
pub fn open_input(path: &Path) -> Result<File> {
    if !INHERITED.iter().any(|inherited| path.to_str().is_some_and(|path| path.starts_with(inherited))) {
        return open(path);
    }
    let file = File::from(openat(CWD, path, flags(), Mode::empty())?);
    if status_of(&file)?.kind == Kind::Directory {
        return Err(Errno::ISDIR.into());
    }
    // Opened without waiting; what it holds is waited for.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// All of a regular file. One that is longer than `limit` bytes fails with [`ErrorKind::FileTooLarge`] before it is read.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_all(open(path)?, limit)
}

pub(super) fn read_all(file: File, limit: u64) -> Result<Vec<u8>> {
    if file.metadata()?.len() > limit {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Opens a regular file by a name in the directory `at`.
pub(super) fn open_at(at: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<File> {
    // Before the file is opened: opening alone does something to some devices.
    check(Status::from(statat(&at, name, AtFlags::empty())?).kind)?;
    let file = File::from(openat(&at, name, flags(), Mode::empty())?);
    check(status_of(&file)?.kind)?;
    Ok(file)
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

fn check(kind: Kind) -> Result<()> {
    match kind {
        Kind::File => Ok(()),
        Kind::Directory => Err(Errno::ISDIR.into()),
        other => Err(Error::new(ErrorKind::InvalidInput, format!("it is {other}, want {}", Kind::File))),
    }
}

pub(super) fn status_of(file: &File) -> Result<Status> {
    Ok(fstat(file)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> String {
        open(path).unwrap_err().to_string()
    }

    #[test]
    fn nothing_but_a_regular_file_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "1234").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        for name in ["file", "link"] {
            assert_eq!(read(&at(name), 4).unwrap(), b"1234");
            assert_eq!(read(&at(name), 3).unwrap_err().kind(), ErrorKind::FileTooLarge);
        }
        assert_eq!(refused(&at("pipe")), "it is a named pipe, want a regular file");
        assert_eq!(refused(&at("socket")), "it is a socket, want a regular file");
        assert_eq!(refused(&at("zero")), "it is a device, want a regular file");
        assert_eq!(refused(dir.path()), "Is a directory (os error 21)");
        assert_eq!(refused(&at("none")), "No such file or directory (os error 2)");
        assert_eq!(open_input(&at("pipe")).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_pipe_that_was_handed_over_is_read_to_its_end() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let mut file = open_input(Path::new(&path)).unwrap();
        let late = std::thread::Builder::new().spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            std::io::Write::write_all(&mut writer, b"late").unwrap();
        });
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "late");
        late.unwrap().join().unwrap();
    }
}
