//! The bytes of many images: in memory, or where they lie in a file.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::mapping::{Changed, Mapping, Order};

/// Bytes, used like a slice of them.
#[derive(Clone)]
pub struct Pixels(Held);

#[derive(Clone)]
enum Held {
    Read(Vec<u8>),
    /// The first `len` of the mapping's values.
    Mapped {
        mapping: Arc<Mapping>,
        len: usize,
    },
}

impl Pixels {
    pub(super) fn mapped(mapping: Mapping) -> Pixels {
        Pixels(Held::Mapped { len: mapping.values().len(), mapping: Arc::new(mapping) })
    }

    /// True if they stay in their file and are read on access.
    pub fn are_mapped(&self) -> bool {
        matches!(self.0, Held::Mapped { .. })
    }

    /// The first `len` bytes, or all where there are fewer; the memory of the rest is given back.
    pub(super) fn truncate(&mut self, wanted: usize) {
        match &mut self.0 {
            Held::Read(bytes) => {
                bytes.truncate(wanted);
                bytes.shrink_to_fit();
            }
            Held::Mapped { len, .. } => *len = wanted.min(*len),
        }
    }

    /// Says in which order they will be looked at. It matters for speed alone.
    pub(super) fn announce(&self, order: Order) {
        if let Held::Mapped { mapping, .. } = &self.0 {
            mapping.announce(order);
        }
    }

    /// Says which of them are looked at soon. It matters for speed alone.
    pub(super) fn will_need(&self, each: impl Iterator<Item = Range<usize>>) {
        if let Held::Mapped { mapping, .. } = &self.0 {
            each.for_each(|bytes| mapping.will_need(bytes));
        }
    }

    /// An error if they have changed. Pixels in memory cannot.
    pub(super) fn check(&self) -> Result<(), Changed> {
        match &self.0 {
            Held::Read(_) => Ok(()),
            Held::Mapped { mapping, .. } => mapping.check(),
        }
    }
}

impl From<Vec<u8>> for Pixels {
    fn from(bytes: Vec<u8>) -> Pixels {
        Pixels(Held::Read(bytes))
    }
}

impl Deref for Pixels {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Read(bytes) => bytes,
            Held::Mapped { mapping, len } => &mapping.values()[..*len],
        }
    }
}

impl PartialEq for Pixels {
    fn eq(&self, other: &Pixels) -> bool {
        **self == **other
    }
}

impl Eq for Pixels {}

impl fmt::Debug for Pixels {
    /// Of a few bytes all, of more than anybody reads their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len() <= 64 {
            f.debug_list().entries(self.iter()).finish()
        } else {
            write!(f, "[{} bytes]", self.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn pixels_are_the_same_wherever_they_are() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0, 0, 1, 2, 3, 4, 5]).unwrap();
        let mut mapped = Pixels::mapped(Mapping::new(file.reopen().unwrap(), file.path(), 2..7).unwrap());
        let mut read = Pixels::from(vec![1, 2, 3, 4, 5]);
        assert!(mapped.are_mapped() && !read.are_mapped());
        for len in [9, 5, 3, 4, 0] {
            mapped.truncate(len);
            read.truncate(len);
            mapped.announce(Order::Shuffled);
            mapped.will_need([0..2, 2..9].into_iter());
            assert_eq!(mapped, read);
            assert_eq!(format!("{mapped:?}"), format!("{read:?}"));
            mapped.check().unwrap();
        }
    }

    #[test]
    fn the_memory_of_what_is_cut_off_is_given_back() {
        let mut pixels = Pixels::from(vec![1, 2, 3, 4, 5, 6]);
        pixels.truncate(4);
        assert!(matches!(pixels.0, Held::Read(bytes) if bytes == [1, 2, 3, 4] && bytes.capacity() == 4));
    }

    #[test]
    fn many_pixels_are_shown_as_their_number() {
        assert_eq!(format!("{:?}", Pixels::from(vec![1, 2])), "[1, 2]");
        assert_eq!(format!("{:?}", Pixels::from(vec![0; 784])), "[784 bytes]");
    }
}
