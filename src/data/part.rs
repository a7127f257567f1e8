//! A compressed file of a data set on its way here.

use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::fetch::FetchError;
use super::places;
use super::published::File;
use super::source;
use crate::files::{Dir, Foreign};

/// The compressed file as far as it is here, locked against other processes.
pub(super) struct Part {
    file: fs::File,
    pub path: PathBuf,
    directory: Dir,
    /// Bytes that are here.
    pub len: u64,
}

impl Part {
    pub fn open(directory: &Path, file: &File) -> Result<Part, FetchError> {
        let path = directory.join(format!("{}.gz.part", file.stem));
        let open = || {
            let (directory, name) = Dir::above(&path)?;
            let mut file = match directory.open_own(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => directory.create(&name)?,
                file => file?,
            };
            match Dir::names_of(&file)? {
                0 | 1 => {}
                names => return Err(Foreign::Names { names }.into()),
            }
            let len = file.seek(SeekFrom::End(0))?;
            Ok((directory, file, len))
        };
        // Before hours of transfer: it takes the place of what is there.
        let place = places::vacant(directory, file);
        Dir::open(directory)
            .and_then(|directory| directory.has_own_file(place.file_name().unwrap_or_default()))
            .map_err(|error| FetchError::Write { path: place, error })?;
        let (directory, file, len) = open().map_err(|error| FetchError::Write { path: path.clone(), error })?;
        match file.try_lock() {
            Ok(()) => Ok(Part { file, path, directory, len }),
            Err(fs::TryLockError::WouldBlock) => Err(FetchError::Busy { path }),
            Err(fs::TryLockError::Error(error)) => Err(FetchError::Write { path, error }),
        }
    }

    pub fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.len = self.file.seek(SeekFrom::Start(0))?;
        Ok(())
    }

    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Puts the uncompressed file in place if it is the published one, or says why it is not and starts afresh.
    pub fn unpack(&mut self, file: &File) -> Result<Result<PathBuf, String>, FetchError> {
        let place = places::vacant(self.directory.path(), file);
        let scratch = format!("{}.part", file.stem);
        let unpacked = self.unpack_to(&scratch, file).map_err(|error| self.failed(error))?;
        let done = match unpacked {
            Ok(out) => out
                .sync_all()
                .and_then(|()| self.directory.rename(&scratch, place.file_name().unwrap_or_default()))
                .and_then(|()| self.directory.sync())
                .and_then(|()| fs::remove_file(&self.path))
                .map(|()| Ok(place)),
            Err(reason) => self.directory.remove_file(&scratch).and_then(|()| self.clear()).map(|()| Err(reason)),
        };
        done.map_err(|error| self.failed(error))
    }

    /// The written file, not yet durable, or what is wrong with the compressed one.
    fn unpack_to(&self, scratch: &str, file: &File) -> io::Result<Result<fs::File, String>> {
        // Leftovers of a killed process, or of somebody else, are not written to.
        match self.directory.remove_file(scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut out = self.directory.create(scratch)?;
        let mut reader = crate::data::idx::Opened::new(&self.path)?.reader();
        match source::digest(&mut *reader, &mut out, file.bytes) {
            Ok(got) if got == file.sha256 => Ok(Ok(out)),
            Ok(got) => Ok(Err(format!("not the published file: SHA-256 is {got}, want {}", file.sha256))),
            // Reading fails on damaged gzip data only, and writing with an error of the operating system.
            Err(error) if crate::data::idx::is_damage(&error) => Ok(Err(format!("damaged gzip data: {error}"))),
            Err(error) => Err(error),
        }
    }

    /// An error of writing it.
    pub fn failed(&self, error: io::Error) -> FetchError {
        FetchError::Write { path: self.path.clone(), error }
    }
}
