//! TFRecord framing: length, checksum of the length, payload, checksum of the payload.
//!
//! ```text
//! u64 length | u32 masked CRC-32C of those 8 bytes | payload | u32 masked CRC-32C of the payload     (little-endian)
//! ```
//! A file is records one after another, and nothing else. A file that is being written may end within a record: that
//! is [`RecordError::Truncated`], the normal end of a live file, and not damage.

use std::io::{self, Read};

use super::crc::MaskedCrc;
use crate::exit::{Classify, Exit};

/// Bytes before a payload.
pub const HEADER_LEN: usize = 12;
/// Bytes after a payload.
pub const FOOTER_LEN: usize = 4;
/// The longest payload written, and the longest that is read unless [`RecordReader::with_limit`] says otherwise.
pub const DEFAULT_LIMIT: u64 = 64 << 20;
/// The longest payload that any limit lets into memory: protobuf's own.
pub const HARD_LIMIT: u64 = (1 << 31) - 1;
/// Bytes asked of a file at once.
const PIECE: usize = 256 << 10;

/// Reads records, one at a time, from the start of a file.
///
/// A record longer than the limit is refused, and can be read in pieces. Memory is bounded by the limit, and grows with the bytes that are really there, not with what a length field says.
#[derive(Debug)]
pub struct RecordReader<R> {
    input: R,
    limit: u64,
    /// Of the next record in the file.
    offset: u64,
    ended: bool,
    /// Bytes read so far: `buffer[begin..end]` is not parsed yet, the rest is unused.
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    /// The record that `read` has refused as too long, as far as it has been read.
    long: Option<LongRecord>,
    /// Ended the long record early; told by the next `read`.
    failed: Option<RecordError>,
}

/// A record that is longer than the limit and is read in pieces.
#[derive(Clone, Copy, Debug)]
struct LongRecord {
    offset: u64,
    length: u64,
    /// Bytes of the payload that are still to come.
    left: u64,
    /// Of the bytes before them.
    crc: u32,
}

/// Payload of a record that is too long to be held in memory; ends early where the file does.
#[derive(Debug)]
pub struct LongPayload<'a, R> {
    records: &'a mut RecordReader<R>,
}

/// Error in reading a record. Offsets are those of the record's first byte.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file ends within the record. More may come if it is still being written.
    #[error("record at byte {offset}: the file ends after {got} of its bytes, want {want}")]
    Truncated { offset: u64, got: u64, want: u64 },
    /// The length cannot be trusted, so nothing after it can be found.
    #[error("record at byte {offset}: length checksum mismatch: got {got}, want {want}; the rest is unreadable")]
    LengthChecksum { offset: u64, got: MaskedCrc, want: MaskedCrc },
    /// The payload is not what was written; the next record can still be read.
    #[error("record at byte {offset}: payload checksum mismatch: got {got}, want {want}")]
    PayloadChecksum { offset: u64, got: MaskedCrc, want: MaskedCrc },
    #[error("record at byte {offset}: got a payload of {length} bytes, want at most {limit}")]
    TooLong { offset: u64, length: u64, limit: u64 },
    #[error("record at byte {offset}: cannot read: {source}")]
    Io { offset: u64, source: io::Error },
}

/// A payload that is too long to be a record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("got a payload of {length} bytes, want at most {limit}")]
pub struct TooLong {
    pub length: u64,
    pub limit: u64,
}

impl RecordError {
    /// Offset of the record in bytes from the start of the file.
    pub fn offset(&self) -> u64 {
        match *self {
            RecordError::Truncated { offset, .. }
            | RecordError::LengthChecksum { offset, .. }
            | RecordError::PayloadChecksum { offset, .. }
            | RecordError::TooLong { offset, .. }
            | RecordError::Io { offset, .. } => offset,
        }
    }
}

impl Classify for RecordError {
    fn exit(&self) -> Exit {
        match self {
            RecordError::Io { source, .. } => Exit::of_input(source),
            _ => Exit::Data,
        }
    }
}

impl<R: Read> RecordReader<R> {
    /// Reads from `input`, which is at its first byte. It is read in large pieces and need not be buffered.
    pub fn new(input: R) -> RecordReader<R> {
        RecordReader::with_limit(input, DEFAULT_LIMIT)
    }

    /// Refuses payloads longer than `limit` bytes, or than [`HARD_LIMIT`].
    pub fn with_limit(input: R, limit: u64) -> RecordReader<R> {
        let limit = limit.min(HARD_LIMIT);
        let (long, failed) = (None, None);
        RecordReader { input, limit, offset: 0, ended: false, buffer: Vec::new(), begin: 0, end: 0, long, failed }
    }

    /// Offset of the next record.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next payload, and where its record began; `None` at the end.
    ///
    /// After a payload checksum error the next call gives the next record. After [`RecordError::TooLong`] it checks what
    /// [`long_payload`](RecordReader::long_payload) has left of the long one first. After any other error there is no
    /// more.
    pub fn read(&mut self) -> Result<Option<(u64, &[u8])>, RecordError> {
        self.finish_long()?;
        if self.ended {
            return Ok(None);
        }
        let offset = self.offset;
        // Until the record is known to be whole, whatever goes wrong ends the file.
        self.ended = true;

        if !self.fill(HEADER_LEN)? {
            let got = self.give_up();
            return if got == 0 {
                Ok(None)
            } else {
                Err(RecordError::Truncated { offset, got, want: HEADER_LEN as u64 })
            };
        }
        let header = self.buffer.get(self.begin..).and_then(|rest| rest.first_chunk::<HEADER_LEN>());
        let Some(&[length @ .., c0, c1, c2, c3]) = header else { return Ok(None) };
        let (got, want) = (MaskedCrc::of(&length), MaskedCrc::from_le_bytes([c0, c1, c2, c3]));
        if got != want {
            self.offset += HEADER_LEN as u64;
            return Err(RecordError::LengthChecksum { offset, got, want });
        }
        let length = u64::from_le_bytes(length);
        if length > self.limit {
            self.begin += HEADER_LEN;
            self.offset += HEADER_LEN as u64;
            self.ended = false;
            self.long = Some(LongRecord { offset, length, left: length, crc: 0 });
            return Err(RecordError::TooLong { offset, length, limit: self.limit });
        }

        // The hard limit is less than any address.
        let whole = length as usize + HEADER_LEN + FOOTER_LEN;
        if !self.fill(whole)? {
            return Err(RecordError::Truncated { offset, got: self.give_up(), want: whole as u64 });
        }
        self.ended = false;
        let record = &self.buffer[self.begin..self.begin + whole];
        self.begin += whole;
        self.offset += whole as u64;
        let Some((payload, footer)) = record[HEADER_LEN..].split_last_chunk::<FOOTER_LEN>() else { return Ok(None) };
        let (got, want) = (MaskedCrc::of(payload), MaskedCrc::from_le_bytes(*footer));
        if got != want {
            return Err(RecordError::PayloadChecksum { offset, got, want });
        }
        Ok(Some((offset, payload)))
    }

    /// The payload of the record that [`read`](RecordReader::read) has just refused as too long; nothing otherwise.
    pub fn long_payload(&mut self) -> LongPayload<'_, R> {
        LongPayload { records: self }
    }

    /// Reads what is left of a record that was too long, and tells if it is not as it was written.
    pub fn finish_long(&mut self) -> Result<(), RecordError> {
        while self.failed.is_none() && self.long.is_some_and(|long| long.left > 0) {
            self.piece(usize::MAX)?;
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Some(long) = self.long else { return Ok(()) };
        if !self.fill(FOOTER_LEN)? {
            return Err(self.cut_off(long));
        }
        self.long = None;
        let footer = self.buffer.get(self.begin..).and_then(|rest| rest.first_chunk::<FOOTER_LEN>());
        let Some(&footer) = footer else { return Ok(()) };
        self.begin += FOOTER_LEN;
        self.offset += FOOTER_LEN as u64;
        let (got, want) = (MaskedCrc::mask(long.crc), MaskedCrc::from_le_bytes(footer));
        if got == want { Ok(()) } else { Err(RecordError::PayloadChecksum { offset: long.offset, got, want }) }
    }

    /// The next bytes of the long payload, at most `most`; none at its end.
    fn piece(&mut self, most: usize) -> Result<&[u8], RecordError> {
        let Some(long) = self.long.filter(|long| long.left > 0 && most > 0) else { return Ok(&[]) };
        if !self.fill(1)? {
            return Err(self.cut_off(long));
        }
        let left = usize::try_from(long.left).unwrap_or(usize::MAX);
        let (from, count) = (self.begin, (self.end - self.begin).min(left).min(most));
        self.begin += count;
        self.offset += count as u64;
        let piece = &self.buffer[from..from + count];
        let crc = crc32c::crc32c_append(long.crc, piece);
        self.long = Some(LongRecord { left: long.left - count as u64, crc, ..long });
        Ok(piece)
    }

    /// The file ends within a long record.
    fn cut_off(&mut self, long: LongRecord) -> RecordError {
        self.give_up();
        (self.long, self.ended) = (None, true);
        let want = long.length.saturating_add((HEADER_LEN + FOOTER_LEN) as u64);
        RecordError::Truncated { offset: long.offset, got: self.offset - long.offset, want }
    }

    /// The remaining bytes, from the record at which reading ended.
    pub fn into_rest(self) -> impl Read {
        let mut buffer = self.buffer;
        buffer.truncate(self.end);
        let mut begun = io::Cursor::new(buffer);
        begun.set_position(self.begin as u64);
        begun.chain(self.input)
    }

    /// Reads until there are `want` bytes to look at; `false` if the file ends before.
    fn fill(&mut self, want: usize) -> Result<bool, RecordError> {
        while self.end - self.begin < want {
            if self.begin > 0 {
                self.buffer.copy_within(self.begin..self.end, 0);
                (self.begin, self.end) = (0, self.end - self.begin);
            }
            if self.end == self.buffer.len() {
                // At most twice as much as is really there.
                self.buffer.resize((2 * self.end).min(want).max(PIECE), 0);
            }
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.long.map_or(self.offset, |long| long.offset);
                    self.give_up();
                    (self.long, self.ended) = (None, true);
                    return Err(RecordError::Io { offset, source });
                }
            }
        }
        Ok(true)
    }

    /// Leaves the rest of the file, which is no whole record, and tells how long it is.
    fn give_up(&mut self) -> u64 {
        let rest = (self.end - self.begin) as u64;
        self.begin = self.end;
        self.offset += rest;
        rest
    }
}

impl<R: Read> Read for LongPayload<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.records.piece(buffer.len()) {
            Ok(piece) => {
                buffer[..piece.len()].copy_from_slice(piece);
                Ok(piece.len())
            }
            Err(error) => {
                self.records.failed = Some(error);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
    }
}

/// Appends one record to `buffer`, whose payload is what `encode` appends.
///
/// If `encode` fails, or makes more than [`DEFAULT_LIMIT`] bytes, the buffer is as it was.
pub fn append<E: From<TooLong>>(
    buffer: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = buffer.len();
    let payload = start + HEADER_LEN;
    buffer.extend_from_slice(&[0; HEADER_LEN]);
    if let Err(error) = encode(buffer) {
        buffer.truncate(start);
        return Err(error);
    }
    let length = (buffer.len() - payload) as u64;
    if length > DEFAULT_LIMIT {
        buffer.truncate(start);
        return Err(TooLong { length, limit: DEFAULT_LIMIT }.into());
    }
    let length = length.to_le_bytes();
    buffer[start..start + 8].copy_from_slice(&length);
    buffer[start + 8..payload].copy_from_slice(&MaskedCrc::of(&length).to_le_bytes());
    let crc = MaskedCrc::of(&buffer[payload..]);
    buffer.extend_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// Offset in `records`, a run of whole records, of the first one that does not end within the first `written`
/// bytes, and how many stand before it.
pub(super) fn whole_records(records: &[u8], written: usize) -> (usize, u64) {
    let (mut end, mut count) = (0, 0);
    while let Some(length) = records.get(end..).and_then(|rest| rest.first_chunk::<8>()) {
        let next = (u64::from_le_bytes(*length) as usize).saturating_add(end + HEADER_LEN + FOOTER_LEN);
        if next > written {
            break;
        }
        (end, count) = (next, count + 1);
    }
    (end, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        append(&mut out, |buffer| {
            buffer.extend_from_slice(payload);
            Ok::<(), TooLong>(())
        })
        .unwrap();
        out
    }

    fn read_all(bytes: &[u8], limit: u64) -> Vec<Result<(u64, Vec<u8>), String>> {
        let mut reader = RecordReader::with_limit(bytes, limit);
        let mut all = Vec::new();
        loop {
            match reader.read() {
                Ok(Some((offset, payload))) => all.push(Ok((offset, payload.to_vec()))),
                Ok(None) => return all,
                Err(error) => all.push(Err(error.to_string())),
            }
        }
    }

    #[test]
    fn a_record_as_tensorflow_frames_it() {
        let payload = b"\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x1a\x0dbrain.Event:2\x52\x03\x0a\x01w";
        let mut want = b"\x1d\x00\x00\x00\x00\x00\x00\x00\x60\x2f\xdf\x23".to_vec();
        want.extend_from_slice(payload);
        want.extend_from_slice(b"\x4a\x32\x91\x31");
        assert_eq!(record(payload), want);
    }

    #[test]
    fn records_come_back_with_their_offsets() {
        let bytes = [record(b"one"), record(b""), record(b"three")].concat();
        assert_eq!(read_all(&bytes, 5), [Ok((0, b"one".to_vec())), Ok((19, Vec::new())), Ok((35, b"three".to_vec()))]);
        assert_eq!(read_all(&[], 5), []);
    }

    #[test]
    fn every_cut_is_a_truncation_that_knows_its_size() {
        let bytes = [record(b"one"), record(b"three")].concat();
        for cut in 0..bytes.len() {
            let all = read_all(&bytes[..cut], 64);
            let (whole, start, want) = if cut < 19 { (0, 0, 19) } else { (1, 19, 21) };
            assert_eq!(all.iter().filter(|r| r.is_ok()).count(), whole, "cut at {cut}");
            if cut == start {
                assert_eq!(all.len(), whole, "cut at {cut}");
            } else {
                let got = cut - start;
                // A header that is cut says nothing yet about the length.
                let want = if got < HEADER_LEN { HEADER_LEN } else { want };
                let text = format!("record at byte {start}: the file ends after {got} of its bytes, want {want}");
                assert_eq!(all.last(), Some(&Err(text)), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_damaged_payload_is_skipped_and_a_damaged_length_ends_the_file() {
        let good = [record(b"one"), record(b"two"), record(b"three")].concat();
        let mut bytes = good.clone();
        bytes[19 + HEADER_LEN] ^= 1;
        let all = read_all(&bytes, 64);
        let text = all[1].clone().unwrap_err();
        assert!(text.starts_with("record at byte 19: payload checksum mismatch: got "), "{text}");
        assert_eq!((all.len(), all[2].clone()), (3, Ok((38, b"three".to_vec()))));

        let mut bytes = good;
        bytes[19] ^= 1;
        let all = read_all(&bytes, 64);
        let text = all[1].clone().unwrap_err();
        assert!(text.starts_with("record at byte 19: length checksum mismatch: got "), "{text}");
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn zeros_are_no_records() {
        assert_eq!(
            read_all(&[0; 64], 64),
            [Err("record at byte 0: length checksum mismatch: got 07980329, want 00000000; the rest is unreadable"
                .to_owned())]
        );
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_it_is_believed() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend_from_slice(&MaskedCrc::of(&bytes.clone()).to_le_bytes());
        let texts = [
            "record at byte 0: got a payload of 18446744073709551615 bytes, want at most 2147483647",
            "record at byte 0: the file ends after 12 of its bytes, want 18446744073709551615",
        ];
        assert_eq!(read_all(&bytes, u64::MAX), texts.map(|text| Err(text.to_owned())));
        // Nothing is allocated for bytes that are not there.
        let mut bytes = HARD_LIMIT.to_le_bytes().to_vec();
        bytes.extend_from_slice(&MaskedCrc::of(&bytes.clone()).to_le_bytes());
        let text = "record at byte 0: the file ends after 12 of its bytes, want 2147483663";
        assert_eq!(read_all(&bytes, HARD_LIMIT), [Err(text.to_owned())]);
    }

    #[test]
    fn a_record_over_the_limit_is_checked_in_pieces() {
        let long: Vec<u8> = (0..600_000u32).map(|i| (i % 251) as u8).collect();
        let good = [record(b"one"), record(&long), record(b"three")].concat();
        let refused = Err("record at byte 19: got a payload of 600000 bytes, want at most 5".to_owned());
        let all = read_all(&good, 5);
        assert_eq!(all, [Ok((0, b"one".to_vec())), refused.clone(), Ok((600_035, b"three".to_vec()))]);

        let mut bytes = good.clone();
        bytes[500_000] ^= 1;
        let all = read_all(&bytes, 5);
        let text = all[2].clone().unwrap_err();
        assert!(text.starts_with("record at byte 19: payload checksum mismatch: got "), "{text}");
        assert_eq!((all.len(), all[3].clone()), (4, Ok((600_035, b"three".to_vec()))));

        for cut in [19 + 12, 19 + 13, 400_000, 600_031, 600_034] {
            let text = format!("record at byte 19: the file ends after {} of its bytes, want 600016", cut - 19);
            assert_eq!(read_all(&good[..cut], 5)[1..], [refused.clone(), Err(text)], "cut at {cut}");
        }
    }

    #[test]
    fn a_long_payload_can_be_read() {
        let long = vec![7; 600_000];
        let bytes = [record(&long), record(b"two")].concat();
        for part in [0, 1, 599_999, 600_000, 700_000] {
            let mut reader = RecordReader::with_limit(bytes.as_slice(), 5);
            assert!(matches!(reader.read(), Err(RecordError::TooLong { offset: 0, length: 600_000, .. })));
            let mut read = Vec::new();
            reader.long_payload().take(part).read_to_end(&mut read).unwrap();
            assert_eq!(read, long[..long.len().min(part as usize)]);
            assert_eq!(reader.read().unwrap(), Some((600_016, &b"two"[..])));
            assert_eq!(reader.offset(), bytes.len() as u64);
        }
        let mut reader = RecordReader::with_limit(&bytes[..1000], 5);
        assert!(reader.read().is_err() && reader.long_payload().read_to_end(&mut Vec::new()).is_err());
        assert!(matches!(reader.read(), Err(RecordError::Truncated { offset: 0, got: 1000, .. })));
        assert!(matches!(reader.read(), Ok(None)));
    }

    #[test]
    fn the_rest_begins_with_the_record_that_ended_the_file() {
        let bytes = [record(b"one"), vec![0; 300_000]].concat();
        let mut reader = RecordReader::new(bytes.as_slice());
        assert!(reader.read().is_ok() && reader.read().is_err());
        let mut rest = Vec::new();
        reader.into_rest().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, bytes[19..]);
    }

    #[test]
    fn a_failed_payload_leaves_the_buffer_alone() {
        let mut buffer = b"before".to_vec();
        let result = append(&mut buffer, |buffer| {
            buffer.push(1);
            Err(TooLong { length: 9, limit: 8 })
        });
        assert_eq!(result.unwrap_err().to_string(), "got a payload of 9 bytes, want at most 8");
        assert_eq!(buffer, b"before");
    }

    #[test]
    fn a_partial_write_ends_within_a_record() {
        let records = [record(b"one"), record(b"three")].concat();
        for (written, want) in [(0, (0, 0)), (18, (0, 0)), (19, (19, 1)), (39, (19, 1)), (40, (40, 2))] {
            assert_eq!(whole_records(&records, written), want, "{written}");
        }
    }
}
