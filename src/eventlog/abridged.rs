//! An event without its large contents, for records that are too long to be held in memory.
//!
//! TensorFlow's graphs and large tensors make records of any length. Everything but their contents is small: tags, steps,
//! metadata and scalars are kept, and the content of each field that is longer than [`KEPT`] is left out, with its length
//! noted.

use std::io::{self, BufReader, Read};

use prost::DecodeError;

use super::proto::Event;

/// The longest content of one field that is kept: tags and metadata are shorter.
const KEPT: u64 = 16 << 10;
/// Bytes of one event that are kept. It would take hundreds of thousands of values in one event to have more; those that
/// come after them are left out.
const MOST: usize = 64 << 20;

/// An event, and the bytes that it lacks.
#[derive(Debug)]
pub struct Abridged {
    pub event: Event,
    /// Bytes left out of each value of the summary, in their order; of an event without a summary, of the event.
    pub omitted: Vec<u64>,
}

/// A payload that is no event.
#[derive(Debug, thiserror::Error)]
pub enum AbridgeError {
    #[error("its fields do not fit into it")]
    Fields(#[from] io::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Reads the event of `length` bytes from `input`.
pub fn read(input: impl Read, length: u64) -> Result<Abridged, AbridgeError> {
    let (mut kept, mut omitted) = (Vec::new(), Vec::new());
    let mut fields = Fields { input: BufReader::new(input), at: 0 };
    fields.message(length, Kind::Event, &mut kept, &mut omitted)?;
    Ok(Abridged { event: prost::Message::decode(kept.as_slice())?, omitted })
}

/// Messages that are looked into if they are too long to be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Event,
    Summary,
    Value,
    Metadata,
    /// A message without messages.
    Plain,
}

impl Kind {
    fn of_field(self, number: u64) -> Option<Kind> {
        match (self, number) {
            (Kind::Event, 5) => Some(Kind::Summary),
            (Kind::Summary, 1) => Some(Kind::Value),
            (Kind::Value, 9) => Some(Kind::Metadata),
            (Kind::Event, 7 | 8 | 10) | (Kind::Value, 4..=6 | 8) | (Kind::Metadata, 1) => Some(Kind::Plain),
            _ => None,
        }
    }
}

/// The fields of a message in protobuf's encoding.
struct Fields<R> {
    input: BufReader<R>,
    at: u64,
}

impl<R: Read> Fields<R> {
    fn message(&mut self, end: u64, kind: Kind, kept: &mut Vec<u8>, omitted: &mut Vec<u64>) -> io::Result<()> {
        while self.at < end {
            let key = self.varint()?;
            if kind == Kind::Summary && key >> 3 == 1 {
                omitted.push(0);
            }
            match key & 7 {
                0 => {
                    let number = self.varint()?;
                    if kept.len() < MOST {
                        prost::encoding::encode_varint(key, kept);
                        prost::encoding::encode_varint(number, kept);
                    }
                }
                fixed @ (1 | 5) => {
                    let length = if fixed == 1 { 8 } else { 4 };
                    if kept.len() < MOST {
                        prost::encoding::encode_varint(key, kept);
                        self.copy(length, kept)?;
                    } else {
                        self.skip(length)?;
                    }
                }
                2 => self.content(key, end, kind, kept, omitted)?,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        if self.at == end { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// A field that says how long it is.
    fn content(
        &mut self,
        key: u64,
        end: u64,
        kind: Kind,
        kept: &mut Vec<u8>,
        omitted: &mut Vec<u64>,
    ) -> io::Result<()> {
        let length = self.varint()?;
        let stop = self.at.checked_add(length).filter(|&stop| stop <= end).ok_or(io::ErrorKind::InvalidData)?;
        let mut inside = Vec::new();
        match kind.of_field(key >> 3) {
            _ if length <= KEPT && kept.len() < MOST => self.copy(length, &mut inside)?,
            Some(kind) if kept.len() < MOST => self.message(stop, kind, &mut inside, omitted)?,
            _ => {
                self.skip(length)?;
                match omitted.last_mut() {
                    Some(bytes) => *bytes = bytes.saturating_add(length),
                    None => omitted.push(length),
                }
            }
        }
        if kept.len() < MOST {
            prost::encoding::encode_varint(key, kept);
            prost::encoding::encode_varint(inside.len() as u64, kept);
            kept.append(&mut inside);
        }
        Ok(())
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            self.at += 1;
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(number);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    fn copy(&mut self, length: u64, to: &mut Vec<u8>) -> io::Result<()> {
        self.moved(length, |input| input.read_to_end(to).map(|count| count as u64))
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        self.moved(length, |input| io::copy(input, &mut io::sink()))
    }

    fn moved(
        &mut self,
        length: u64,
        go: impl FnOnce(&mut io::Take<&mut BufReader<R>>) -> io::Result<u64>,
    ) -> io::Result<()> {
        let count = go(&mut self.input.by_ref().take(length))?;
        self.at += count;
        if count == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
