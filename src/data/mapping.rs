//! A file's bytes where they lie: read from the disk when they are looked at, dropped when memory is short.
//!
//! Other processes may write to a file that is mapped, and the slice over it then changes. Nobody can be kept from it, so
//! it is noticed instead: bytes that are gone end the process ([`Watch`]), and [`Mapping::check`] tells of every other
//! change, also of the zeros that the kernel shows after the end of a file that was cut within a page.

#![expect(unsafe_code, reason = "only the kernel can put a file where a slice may be")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr::{NonNull, null_mut};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::bus_error::Watch;
use crate::exit::{Classify, Exit};

/// A file that is not what it was when it was opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}; the same command goes on from the last checkpoint if the data are still the same", path.display())]
pub struct Changed {
    pub path: PathBuf,
    pub fault: Change,
}

/// The change.
#[derive(Debug, thiserror::Error)]
pub enum Change {
    #[error("its length has changed while it was in use: got {got} bytes, want {want}")]
    Length { got: u64, want: u64 },
    #[error("it was written to while it was in use")]
    Written,
    #[error("cannot be looked at any more: {0}")]
    Look(io::Error),
}

impl Classify for Changed {
    /// The next start reports the fault in the data, or finds none.
    fn exit(&self) -> Exit {
        Exit::Io
    }
}

/// The order in which bytes will be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Rising,
    Shuffled,
}

/// Some bytes of a file, which is read as far as they are looked at.
pub(super) struct Mapping {
    /// Of the file's first byte.
    address: NonNull<c_void>,
    values: Range<usize>,
    file: File,
    path: PathBuf,
    stamp: Stamp,
    _watch: Watch,
}

/// Metadata that any write changes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: (i64, i64),
}

// SAFETY: the mapping is only ever read, from any thread, and taken away by its one owner.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The bytes `values` of `file`, which is at `path`. They are not empty.
    pub fn new(file: File, path: &Path, values: Range<usize>) -> io::Result<Mapping> {
        let stamp = Stamp::of(&file)?;
        if values.is_empty() || stamp.len < values.end as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: at an address that the kernel chooses, nothing is overwritten. That others may write to the file, and
        // what is done about it, is told above.
        let address = unsafe { mmap(null_mut(), values.end, ProtFlags::READ, MapFlags::PRIVATE, &file, 0)? };
        let address = NonNull::new(address).ok_or(io::ErrorKind::Unsupported)?;
        let start = address.as_ptr() as usize;
        let gone = "cannot be read any more: it was cut off while it was in use, or its disk fails";
        let watch = Watch::over(start..start + values.end, &format!("{}: {gone}", path.display()));
        Ok(Mapping { address, values, file, path: path.to_owned(), stamp, _watch: watch })
    }

    pub fn values(&self) -> &[u8] {
        let Range { start, end } = self.values;
        // SAFETY: `end` bytes are mapped for as long as `self` lives, `start` is less.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr().cast::<u8>().add(start), end - start) }
    }

    /// Says in which order the values will be asked for: a disk reads ahead for the one, and would do it in vain for the
    /// other.
    pub fn announce(&self, order: Order) {
        self.advise(
            0..self.values.len(),
            match order {
                Order::Rising => Advice::Sequential,
                Order::Shuffled => Advice::Random,
            },
        );
    }

    /// Lets these values come from the disk while something else is done.
    pub fn will_need(&self, values: Range<usize>) {
        self.advise(values, Advice::WillNeed);
    }

    /// An error if length or modification time of the file have changed.
    pub fn check(&self) -> Result<(), Changed> {
        let changed = |fault| Changed { path: self.path.clone(), fault };
        let now = Stamp::of(&self.file).map_err(|error| changed(Change::Look(error)))?;
        if now.len != self.stamp.len {
            return Err(changed(Change::Length { got: now.len, want: self.stamp.len }));
        }
        if now == self.stamp { Ok(()) } else { Err(changed(Change::Written)) }
    }

    fn advise(&self, values: Range<usize>, advice: Advice) {
        // Pages are advised whole.
        let page = rustix::param::page_size();
        let start = (self.values.start + values.start.min(self.values.len())) / page * page;
        let end = self.values.start + values.end.min(self.values.len());
        if start < end {
            // SAFETY: within the mapping; these advices change when bytes are read, and no byte. It is as well if the
            // kernel does not take one.
            let _ = unsafe { madvise(self.address.as_ptr().byte_add(start), end - start, advice) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that was made, and every slice of it has borrowed `self`. It can only fail for
        // another address.
        let _ = unsafe { munmap(self.address.as_ptr(), self.values.end) };
    }
}

impl Stamp {
    fn of(file: &File) -> io::Result<Stamp> {
        let about = file.metadata()?;
        Ok(Stamp { len: about.len(), modified: (about.mtime(), about.mtime_nsec()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::{Duration, SystemTime};

    fn mapped(bytes: &[u8], values: Range<usize>) -> (tempfile::NamedTempFile, Mapping) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mapping = Mapping::new(File::open(file.path()).unwrap(), file.path(), values).unwrap();
        (file, mapping)
    }

    #[test]
    fn a_mapping_shows_the_bytes_that_were_asked_for() {
        let bytes: Vec<u8> = (0..20_000).map(|i| (i % 251) as u8).collect();
        let (_file, mapping) = mapped(&bytes, 16..19_000);
        for order in [Order::Rising, Order::Shuffled] {
            mapping.announce(order);
            mapping.will_need(9_000..10_000);
            mapping.will_need(18_984..50_000);
            assert_eq!(mapping.values(), &bytes[16..19_000]);
        }
        mapping.check().unwrap();
    }

    #[test]
    fn what_is_not_there_is_not_mapped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(10).unwrap();
        for values in [2..11, 3..3] {
            let error = Mapping::new(file.reopen().unwrap(), file.path(), values).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_change_is_told() {
        let told = |change: fn(&mut File)| {
            let (mut file, mapping) = mapped(&[7; 100], 16..100);
            change(file.as_file_mut());
            let error = mapping.check().unwrap_err();
            assert_eq!(error.exit(), Exit::Io);
            error.to_string().replace(&file.path().display().to_string(), "PATH")
        };
        let goes_on = "; the same command goes on from the last checkpoint if the data are still the same";
        assert_eq!(
            told(|file| file.set_len(99).unwrap()),
            format!("PATH: its length has changed while it was in use: got 99 bytes, want 100{goes_on}")
        );
        let later = |file: &mut File| file.set_modified(SystemTime::now() + Duration::from_secs(9)).unwrap();
        assert_eq!(told(later), format!("PATH: it was written to while it was in use{goes_on}"));
    }

    #[test]
    fn a_file_that_is_replaced_stays_as_it_was() {
        let (file, mapping) = mapped(&[7; 100], 0..100);
        std::fs::remove_file(file.path()).unwrap();
        std::fs::write(file.path(), [8; 3]).unwrap();
        mapping.check().unwrap();
        assert_eq!(mapping.values(), [7; 100]);
    }
}
