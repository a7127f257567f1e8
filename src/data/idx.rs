//! The IDX format of MNIST: a magic number, the dimensions, then bytes; plain or gzipped.
//!
//! Layout after <http://yann.lecun.com/exdb/mnist/>: two zero bytes, the type of the values (0x08 is u8), the number of
//! dimensions, each dimension as a big-endian u32, the values with the last dimension fastest.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;

use super::mapping::Mapping;
use super::pixels::Pixels;
use crate::exit::{Classify, Exit};
use crate::files;

/// The most bytes of values that are read into memory, about twenty times MNIST's.
pub const MAX_BYTES: u64 = 1 << 30;

/// The most bytes of images that are read into memory from a file that could be mapped instead. MNIST is read, so that
/// what happens to its files afterwards matters no more.
const READ_RATHER: u64 = 256 << 20;

/// The most bytes of images that a file may hold, more than MNIST-sized images have numbers.
const MAX_MAPPED: u64 = 1 << 42;

/// Maximum allocation in bytes on the word of a header alone: MNIST's training images fit.
const TRUSTED: usize = 48 << 20;

const U8: u8 = 0x08;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Grey images as the file has them: `count` x `height` x `width` bytes, the width fastest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pub count: usize,
    pub height: usize,
    pub width: usize,
    pub pixels: Pixels,
}

/// Kind of values a file was opened for; IDX itself does not state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Three dimensions.
    Images,
    /// One dimension.
    Labels,
}

impl Kind {
    fn rank(self) -> u8 {
        match self {
            Kind::Images => 3,
            Kind::Labels => 1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Images => "images",
            Kind::Labels => "labels",
        })
    }
}

/// An IDX file that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct IdxError {
    pub path: PathBuf,
    pub fault: IdxFault,
}

/// Fault in an IDX file.
#[derive(Debug, thiserror::Error)]
pub enum IdxFault {
    /// The file exists perhaps, but this process cannot open it.
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    /// The machine's fault, not the file's: reading again may help.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    #[error("the gzip data is damaged: {0}")]
    Gzip(io::Error),
    #[error("not enough memory for {0} bytes of values")]
    Memory(u64),
    #[error("{len} bytes of values cannot be mapped into memory: {error}")]
    Map { len: u64, error: io::Error },
    #[error("the header is cut off: got {got} bytes, want {want}")]
    ShortHeader { got: usize, want: usize },
    #[error("not an IDX file: got first bytes {:02x} {:02x}, want 00 00", got[0], got[1])]
    Magic { got: [u8; 2] },
    #[error("wrong type of values: got 0x{got:02x}, want 0x08 (unsigned bytes)")]
    ValueType { got: u8 },
    #[error("wrong number of dimensions for {want}: got {got}, want {}{}", want.rank(), looks_like(*got))]
    Rank { got: u8, want: Kind },
    #[error("it is empty: the header says {dimensions}")]
    Empty { dimensions: Dimensions },
    #[error("too large: the header says {dimensions}, more than the {cap} bytes that are read at most")]
    TooLarge { dimensions: Dimensions, cap: u64 },
    #[error("cut off: got {got} bytes of values, want {want} for {dimensions}")]
    Truncated { dimensions: Dimensions, got: u64, want: u64 },
    #[error("{} after the values: the header says {dimensions}, {want} bytes", extra(*got))]
    Trailing { dimensions: Dimensions, got: Option<u64>, want: u64 },
}

/// A file's dimensions, shown as `60000x28x28`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimensions(pub Vec<u32>);

impl fmt::Display for Dimensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, dimension) in self.0.iter().enumerate() {
            write!(f, "{}{dimension}", if i == 0 { "" } else { "x" })?;
        }
        Ok(())
    }
}

impl Classify for IdxError {
    fn exit(&self) -> Exit {
        match &self.fault {
            IdxFault::Open(error) => Exit::of_input(error),
            IdxFault::Read(error)
                if matches!(error.kind(), io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput) =>
            {
                Exit::NoInput
            }
            IdxFault::Read(_) | IdxFault::Memory(_) | IdxFault::Map { .. } => Exit::Io,
            _ => Exit::Data,
        }
    }
}

/// Reads a file of images; gzip is recognised by its first bytes, whatever the file is called. Many plain images are left
/// in the file, and read when they are looked at.
pub fn read_images(path: &Path) -> Result<Images, IdxError> {
    images(path, READ_RATHER)
}

/// As [`read_images`]; more than `read_rather` bytes of plain images are mapped.
fn images(path: &Path, read_rather: u64) -> Result<Images, IdxError> {
    let (dimensions, pixels) = read(path, Kind::Images, read_rather)?;
    match dimensions[..] {
        [count, height, width] => {
            Ok(Images { count: count as usize, height: height as usize, width: width as usize, pixels })
        }
        _ => Err(IdxError {
            path: path.to_owned(),
            fault: IdxFault::Rank { got: dimensions.len() as u8, want: Kind::Images },
        }),
    }
}

/// Reads a file of labels; gzip is recognised by its first bytes, whatever the file is called.
pub fn read_labels(path: &Path) -> Result<Vec<u8>, IdxError> {
    read(path, Kind::Labels, MAX_BYTES).map(|(_, values)| values.to_vec())
}

/// A file whose form is known.
pub(crate) enum Opened {
    Plain(File),
    Gzipped(File),
}

impl Opened {
    /// Opens a file for reading what it says, gzipped or not.
    pub(crate) fn new(path: &Path) -> io::Result<Opened> {
        let mut file = files::open(path)?;
        let mut head = [0; 2];
        let got = read_up_to(&mut file, &mut head)?;
        file.rewind()?;
        Ok(if got == head.len() && head == GZIP_MAGIC { Opened::Gzipped(file) } else { Opened::Plain(file) })
    }

    pub(crate) fn is_gzipped(&self) -> bool {
        matches!(self, Opened::Gzipped(_))
    }

    /// A reader of its contents, unpacked.
    pub(crate) fn reader(self) -> Box<dyn Read> {
        match self {
            Opened::Plain(file) => Box::new(file),
            Opened::Gzipped(file) => Box::new(Members::new(BufReader::with_capacity(1 << 16, file))),
        }
    }
}

/// Contents of the members of a gzip file, one after the other. Zeros after a member are padding, as for `gzip`: tapes,
/// and transfers in blocks, fill up with them. Anything else there is damage.
pub(crate) struct Members<R> {
    /// None at the end, and after an error.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    pub(crate) fn new(reader: R) -> Members<R> {
        Members { member: Some(GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let got = member.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            let Some(mut rest) = self.member.take().map(GzDecoder::into_inner) else { break };
            if !skip_zeros(&mut rest)? {
                self.member = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// Goes to the first byte that is not zero. Says whether there is none.
fn skip_zeros(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let (is_end, is_other) = (bytes.is_empty(), zeros < bytes.len());
        reader.consume(zeros);
        if is_end || is_other {
            return Ok(is_end);
        }
    }
}

fn read(path: &Path, kind: Kind, read_rather: u64) -> Result<(Vec<u32>, Pixels), IdxError> {
    let fail = |fault| IdxError { path: path.to_owned(), fault };
    let opened = Opened::new(path).map_err(|error| {
        fail(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => IdxFault::Open(error),
            _ => IdxFault::Read(error),
        })
    })?;
    let read = || match opened {
        Opened::Plain(mut file) => {
            // The length is known, so what is too short or too long is found before anything is allocated.
            let length = Some(file.metadata().map_err(IdxFault::Open)?.len());
            let cap = if kind == Kind::Images { MAX_MAPPED } else { MAX_BYTES };
            let header = Header::read(&mut file, length, kind, cap)?;
            match kind {
                Kind::Images if header.want > read_rather => header.map(file, path),
                _ => header.values(&mut file, length).map(|values| (header.dimensions, values.into())),
            }
        }
        gzipped @ Opened::Gzipped(_) => {
            let (dimensions, values) = parse(gzipped.reader(), None, kind, MAX_BYTES).map_err(IdxFault::of_gzip)?;
            Ok((dimensions, values.into()))
        }
    };
    read().map_err(fail)
}

/// True if an error in reading gzipped data lies with the data; otherwise the operating system has reported it.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
}

impl IdxFault {
    fn of_gzip(self) -> IdxFault {
        match self {
            IdxFault::Read(error) if is_damage(&error) => IdxFault::Gzip(error),
            other => other,
        }
    }
}

/// Reads one array and expects the end after it. `length` is that of the whole input, where it is known.
fn parse(mut reader: impl Read, length: Option<u64>, kind: Kind, cap: u64) -> Result<(Vec<u32>, Vec<u8>), IdxFault> {
    let header = Header::read(&mut reader, length, kind, cap)?;
    let values = header.values(&mut reader, length)?;
    Ok((header.dimensions, values))
}

/// The bytes before the values.
struct Header {
    dimensions: Vec<u32>,
    /// Bytes of it, and of the values after it.
    len: usize,
    want: u64,
}

impl Header {
    fn read(reader: &mut impl Read, length: Option<u64>, kind: Kind, cap: u64) -> Result<Header, IdxFault> {
        let magic: [u8; 4] = header(reader, 0, 4)?;
        if magic[..2] != [0, 0] {
            return Err(IdxFault::Magic { got: [magic[0], magic[1]] });
        }
        if magic[2] != U8 {
            return Err(IdxFault::ValueType { got: magic[2] });
        }
        if magic[3] != kind.rank() {
            return Err(IdxFault::Rank { got: magic[3], want: kind });
        }
        let len = 4 + 4 * usize::from(kind.rank());
        let mut dimensions = Vec::with_capacity(kind.rank().into());
        for i in 0..usize::from(kind.rank()) {
            dimensions.push(u32::from_be_bytes(header(reader, 4 + 4 * i, len)?));
        }
        let shown = || Dimensions(dimensions.clone());
        let want = dimensions
            .iter()
            .try_fold(1u64, |product, dimension| product.checked_mul(u64::from(*dimension)))
            .filter(|want| *want <= cap)
            .ok_or_else(|| IdxFault::TooLarge { dimensions: shown(), cap })?;
        if want == 0 {
            return Err(IdxFault::Empty { dimensions: shown() });
        }
        if let Some(got) = length.map(|length| length.saturating_sub(len as u64)) {
            if got < want {
                return Err(IdxFault::Truncated { dimensions: shown(), got, want });
            }
            if got > want {
                return Err(IdxFault::Trailing { dimensions: shown(), got: Some(got - want), want });
            }
        }
        Ok(Header { dimensions, len, want })
    }

    /// The values, read into memory.
    fn values(&self, reader: &mut impl Read, length: Option<u64>) -> Result<Vec<u8>, IdxFault> {
        let want = self.want;
        let shown = || Dimensions(self.dimensions.clone());
        let mut values = Vec::new();
        let room = usize::try_from(want).map_err(|_| IdxFault::Memory(want))?;
        let room = if length.is_some() { room } else { room.min(TRUSTED) };
        values.try_reserve_exact(room).map_err(|_| IdxFault::Memory(want))?;
        reader.by_ref().take(want).read_to_end(&mut values).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => IdxFault::Memory(want),
            _ => IdxFault::Read(error),
        })?;
        if (values.len() as u64) < want {
            return Err(IdxFault::Truncated { dimensions: shown(), got: values.len() as u64, want });
        }
        // Reading on to the end is also what makes the gzip decoder compare its checksum.
        if read_up_to(reader, &mut [0])? != 0 {
            return Err(IdxFault::Trailing { dimensions: shown(), got: None, want });
        }
        Ok(values)
    }

    /// The values, left in their file.
    fn map(self, file: File, path: &Path) -> Result<(Vec<u32>, Pixels), IdxFault> {
        let len = self.want;
        let end = usize::try_from(len).ok().and_then(|len| len.checked_add(self.len)).ok_or(IdxFault::Memory(len))?;
        let mapping = Mapping::new(file, path, self.len..end).map_err(|error| IdxFault::Map { len, error })?;
        Ok((self.dimensions, Pixels::mapped(mapping)))
    }
}

fn header(reader: &mut impl Read, before: usize, want: usize) -> Result<[u8; 4], IdxFault> {
    let mut bytes = [0; 4];
    match read_up_to(reader, &mut bytes)? {
        4 => Ok(bytes),
        got => Err(IdxFault::ShortHeader { got: before + got, want }),
    }
}

/// Fills the buffer unless the input ends first.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl From<io::Error> for IdxFault {
    fn from(error: io::Error) -> IdxFault {
        IdxFault::Read(error)
    }
}

fn looks_like(rank: u8) -> &'static str {
    match rank {
        1 => "; this looks like a label file",
        3 => "; this looks like an image file",
        _ => "",
    }
}

fn extra(bytes: Option<u64>) -> String {
    match bytes {
        Some(bytes) => format!("{bytes} bytes too many"),
        None => "more data".to_owned(),
    }
}

/// An IDX file's bytes, for tests of everything that reads them.
#[cfg(test)]
pub(crate) fn encode(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, U8, dimensions.len() as u8];
    bytes.extend(dimensions.iter().flat_map(|d| d.to_be_bytes()));
    bytes.extend_from_slice(values);
    bytes
}

#[cfg(test)]
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The bytes, then EIO, as a disk that fails gives it.
#[cfg(test)]
pub(crate) fn failing_after(bytes: &[u8]) -> impl Read + use<> {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
    }
    io::Cursor::new(bytes.to_vec()).chain(Failing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    /// The message without the path, and the exit status.
    fn refusal(bytes: &[u8], kind: Kind) -> (String, Exit) {
        let file = file(bytes);
        let error = match kind {
            Kind::Images => read_images(file.path()).unwrap_err(),
            Kind::Labels => read_labels(file.path()).unwrap_err(),
        };
        let text = error.to_string();
        let path = format!("{}: ", file.path().display());
        (text.strip_prefix(&path).unwrap_or_else(|| panic!("no path in: {text}")).to_owned(), error.exit())
    }

    fn images() -> Vec<u8> {
        encode(&[2, 2, 3], &(0..12).collect::<Vec<_>>())
    }

    #[test]
    fn plain_and_gzipped_files_read_the_same() {
        let want = Images { count: 2, height: 2, width: 3, pixels: (0..12).collect::<Vec<_>>().into() };
        assert_eq!(read_images(file(&images()).path()).unwrap(), want);
        assert_eq!(super::images(file(&images()).path(), 11).unwrap(), want);
        assert_eq!(read_images(file(&gzip(&images())).path()).unwrap(), want);
        let labels = encode(&[3], &[9, 0, 4]);
        assert_eq!(read_labels(file(&labels).path()).unwrap(), [9, 0, 4]);
        assert_eq!(read_labels(file(&gzip(&labels)).path()).unwrap(), [9, 0, 4]);
    }

    #[test]
    fn a_gzip_of_several_members_is_one_file() {
        let bytes = images();
        let want = read_images(file(&bytes).path()).unwrap();
        let (one, other) = (gzip(&bytes[..10]), gzip(&bytes[10..]));
        let zeros = vec![0; 200_000];
        for parts in [
            [&one[..], &[], &other, &[]],
            [&gzip(&[]), &one, &other, &gzip(&[])],
            // Padding, shorter and longer than a buffer.
            [&one, &other, &[0], &[]],
            [&one, &zeros[..3], &other, &zeros],
        ] {
            assert_eq!(read_images(file(&parts.concat()).path()).unwrap(), want);
        }
    }

    #[test]
    fn bytes_after_padding_are_damage() {
        let padded = [&gzip(&images())[..], &[0; 512], b"x"].concat();
        let (text, exit) = refusal(&padded, Kind::Images);
        assert!(text.starts_with("the gzip data is damaged: "), "{text}");
        assert_eq!(exit, Exit::Data);
    }

    #[test]
    fn every_header_field_is_checked() {
        let with = |at: usize, value: &[u8]| {
            let mut bytes = images();
            bytes[at..at + value.len()].copy_from_slice(value);
            bytes
        };
        let cases: Vec<(Vec<u8>, Kind, &str)> = vec![
            (vec![], Kind::Images, "the header is cut off: got 0 bytes, want 4"),
            (images()[..9].to_vec(), Kind::Images, "the header is cut off: got 9 bytes, want 16"),
            (with(0, b"PK"), Kind::Images, "not an IDX file: got first bytes 50 4b, want 00 00"),
            (with(2, &[0x0d]), Kind::Images, "wrong type of values: got 0x0d, want 0x08 (unsigned bytes)"),
            (with(3, &[2]), Kind::Images, "wrong number of dimensions for images: got 2, want 3"),
            (
                encode(&[3], &[1, 2, 3]),
                Kind::Images,
                "wrong number of dimensions for images: got 1, want 3; this looks like a label file",
            ),
            (
                images(),
                Kind::Labels,
                "wrong number of dimensions for labels: got 3, want 1; this looks like an image file",
            ),
            (encode(&[0, 28, 28], &[]), Kind::Images, "it is empty: the header says 0x28x28"),
            (encode(&[5, 0, 28], &[]), Kind::Images, "it is empty: the header says 5x0x28"),
            (
                with(4, &[0xff; 12]),
                Kind::Images,
                "too large: the header says 4294967295x4294967295x4294967295, more than the 4398046511104 bytes that are \
                 read at most",
            ),
            (with(7, &[3]), Kind::Images, "cut off: got 12 bytes of values, want 18 for 3x2x3"),
            (with(7, &[1]), Kind::Images, "6 bytes too many after the values: the header says 1x2x3, 6 bytes"),
        ];
        for (bytes, kind, want) in cases {
            assert_eq!(refusal(&bytes, kind), (want.to_owned(), Exit::Data));
        }
    }

    #[test]
    fn gzipped_values_are_counted_too() {
        let bytes = images();
        assert_eq!(refusal(&gzip(&bytes[..20]), Kind::Images).0, "cut off: got 4 bytes of values, want 12 for 2x2x3");
        assert_eq!(
            refusal(&gzip(&[&bytes[..], &[0]].concat()), Kind::Images).0,
            "more data after the values: the header says 2x2x3, 12 bytes"
        );
    }

    #[test]
    fn damaged_gzip_data_is_named() {
        let whole = gzip(&images());
        let mut wrong_crc = whole.clone();
        let crc = wrong_crc.len() - 8;
        wrong_crc[crc] ^= 1;
        let cut = whole[..whole.len() - 9].to_vec();
        let garbage = [&whole[..], b"not gzip"].concat();
        for bytes in [wrong_crc, cut, garbage, vec![0x1f, 0x8b], vec![0x1f, 0x8b, 7, 0]] {
            let (text, exit) = refusal(&bytes, Kind::Images);
            assert!(text.starts_with("the gzip data is damaged: "), "{text}");
            assert_eq!(exit, Exit::Data);
        }
    }

    #[test]
    fn a_disk_that_fails_is_not_blamed_on_the_gzip_data() {
        for cut in [0, 5, 30] {
            let failing = Members::new(BufReader::new(failing_after(&gzip(&images())[..cut])));
            let fault = parse(failing, None, Kind::Images, MAX_BYTES).err().unwrap().of_gzip();
            let error = IdxError { path: "x.gz".into(), fault };
            assert!(error.to_string().starts_with("x.gz: cannot be read: "), "{error}");
            assert_eq!(error.exit(), Exit::Io);
        }
    }

    #[test]
    fn missing_and_unreadable_files_keep_their_exit_status() {
        let dir = tempfile::tempdir().unwrap();
        let missing = read_labels(&dir.path().join("nothing")).unwrap_err();
        assert!(missing.to_string().contains("nothing: cannot be opened: No such file"), "{missing}");
        assert_eq!(missing.exit(), Exit::NoInput);
        assert_eq!(read_labels(dir.path()).unwrap_err().exit(), Exit::NoInput);
    }

    #[test]
    fn a_gzip_bomb_costs_no_memory() {
        // 64 MiB of zeros behind a header for 12 values.
        let bomb = gzip(&[&images()[..16], &vec![0; 64 << 20]].concat());
        assert!(bomb.len() < 1 << 20);
        let (text, _) = refusal(&bomb, Kind::Images);
        assert_eq!(text, "more data after the values: the header says 2x2x3, 12 bytes");
    }

    #[test]
    fn the_cap_holds_whatever_the_header_says() {
        let bytes = encode(&[3, 2, 2], &[0; 12]);
        assert!(parse(&bytes[..], None, Kind::Images, 12).is_ok());
        assert!(matches!(parse(&bytes[..], None, Kind::Images, 11), Err(IdxFault::TooLarge { cap: 11, .. })));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(height in 1u32..8, width in 1u32..8, count in 1u32..20, packed: bool, seed: u8) {
            let pixels: Vec<u8> = (0..count * height * width).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
            let mut bytes = encode(&[count, height, width], &pixels);
            if packed {
                bytes = gzip(&bytes);
            }
            let images = read_images(file(&bytes).path()).unwrap();
            prop_assert_eq!((images.count, images.height, images.width),
                            (count as usize, height as usize, width as usize));
            prop_assert_eq!(&images.pixels[..], &pixels[..]);
            prop_assert_eq!(super::images(file(&bytes).path(), 0).unwrap(), images);
        }

        #[test]
        fn no_input_makes_it_panic_or_take_more_than_the_cap(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
            packed: bool,
            labels: bool,
        ) {
            let mut bytes = if labels { encode(&[12], &[3; 12]) } else { images() };
            if packed {
                bytes = gzip(&bytes);
            }
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            let kind = if labels { Kind::Labels } else { Kind::Images };
            let cap = 64;
            let array = match packed {
                true => parse(Members::new(&bytes[..]), None, kind, cap),
                false => parse(&bytes[..], Some(bytes.len() as u64), kind, cap),
            };
            if let Ok((dimensions, values)) = array {
                prop_assert!(values.capacity() as u64 <= cap);
                prop_assert_eq!(values.len() as u64, dimensions.iter().map(|d| u64::from(*d)).product::<u64>());
            }
        }
    }
}
