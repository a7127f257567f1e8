//! Kinds of file-system entries, and why an entry is not one that this process may write to.

use std::fmt;
use std::io;

use rustix::fs::{FileType, Stat};

/// Kind of an entry. A symbolic link is one whatever it points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
    Pipe,
    Socket,
    Device,
}

/// Why an entry is not written to.
#[derive(Debug, thiserror::Error)]
pub enum Foreign {
    #[error("it is {found}, want {want}; move it away")]
    Kind { found: Kind, want: Kind },
    #[error(
        "it belongs to user {owner}, and this process runs as user {user}; run it as the owner, or give this user the file \
         with chown"
    )]
    Owner { owner: u32, user: u32 },
    #[error(
        "it has {names} names (hard links), want one: the file of the other name would be changed; put a copy in its place"
    )]
    Names { names: u64 },
}

impl From<Foreign> for io::Error {
    fn from(foreign: Foreign) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, foreign)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::File => "a regular file",
            Kind::Directory => "a directory",
            Kind::Link => "a symbolic link",
            Kind::Pipe => "a named pipe",
            Kind::Socket => "a socket",
            Kind::Device => "a device",
        })
    }
}

impl From<FileType> for Kind {
    fn from(found: FileType) -> Kind {
        match found {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            FileType::Fifo => Kind::Pipe,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => Kind::Device,
        }
    }
}

/// Metadata of an entry, as far as it decides who may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub kind: Kind,
    pub owner: u32,
    /// Hard links.
    pub names: u64,
    /// Device and inode.
    pub id: (u64, u64),
}

impl From<Stat> for Status {
    #[allow(clippy::unnecessary_cast, reason = "the fields have other types on other platforms")]
    fn from(stat: Stat) -> Status {
        Status {
            kind: FileType::from_raw_mode(stat.st_mode).into(),
            owner: stat.st_uid,
            names: stat.st_nlink as u64,
            id: (stat.st_dev as u64, stat.st_ino as u64),
        }
    }
}
