//! Reads an event file, also one that is damaged, or still being written.

use std::io::Read;

use prost::Message;

use super::abridged::{self, AbridgeError, Abridged};
use super::proto::Event;
use super::record::{RecordError, RecordReader};
use crate::exit::{Classify, Exit};

/// The events of a file, each with the byte at which its record begins.
///
/// An event that cannot be read is an error in its place. The iterator goes on after one whose payload is damaged, and
/// ends after one that hides where the next begins. An event of more than [`DEFAULT_LIMIT`](super::record::DEFAULT_LIMIT)
/// bytes lacks its large contents. [`RecordError::Truncated`] is how a file ends that is being
/// written, or whose writer was killed.
#[derive(Debug)]
pub struct EventReader<R> {
    records: RecordReader<R>,
    /// Of the event that was read last, see [`EventReader::omitted`].
    omitted: Vec<u64>,
}

/// Error in reading an event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The bytes are those that were written, but no event.
    #[error("record at byte {offset}: the payload of {length} bytes is not an event: {source}")]
    Decode { offset: u64, length: u64, source: prost::DecodeError },
    /// As [`EventError::Decode`], of a record that was read in pieces.
    #[error("record at byte {offset}: the payload of {length} bytes is not an event: {source}")]
    Long { offset: u64, length: u64, source: AbridgeError },
}

impl EventError {
    /// Offset of the record in bytes from the start of the file.
    pub fn offset(&self) -> u64 {
        match self {
            EventError::Record(error) => error.offset(),
            EventError::Decode { offset, .. } | EventError::Long { offset, .. } => *offset,
        }
    }

    /// True if the payload is as it was written, and yet no event.
    pub fn is_no_event(&self) -> bool {
        matches!(self, EventError::Decode { .. } | EventError::Long { .. })
    }

    /// True if the file just ends early, which is allowed.
    pub fn is_truncation(&self) -> bool {
        matches!(self, EventError::Record(RecordError::Truncated { .. }))
    }
}

impl Classify for EventError {
    fn exit(&self) -> Exit {
        match self {
            EventError::Record(error) => error.exit(),
            EventError::Decode { .. } | EventError::Long { .. } => Exit::Data,
        }
    }
}

impl<R: Read> EventReader<R> {
    /// Reads from `input`, which is at its first byte. It is read in large pieces and need not be buffered.
    pub fn new(input: R) -> EventReader<R> {
        EventReader { records: RecordReader::new(input), omitted: Vec::new() }
    }

    /// Events longer than `limit` bytes are abridged.
    #[cfg(test)]
    pub(super) fn with_limit(input: R, limit: u64) -> EventReader<R> {
        EventReader { records: RecordReader::with_limit(input, limit), omitted: Vec::new() }
    }

    /// Bytes that the event read last lacks, for each value of its summary; of an event without a summary, one number.
    /// Empty for an event that is whole.
    pub fn omitted(&self) -> &[u64] {
        &self.omitted
    }

    /// The remaining bytes, from the record at which reading ended.
    pub fn into_rest(self) -> impl Read {
        self.records.into_rest()
    }

    /// Offset of the next record; at the end, the number of bytes read.
    pub fn offset(&self) -> u64 {
        self.records.offset()
    }
}

impl<R: Read> EventReader<R> {
    /// The event of a record that is too long to be held.
    fn abridged(&mut self, offset: u64, length: u64) -> Result<Event, EventError> {
        let read = abridged::read(self.records.long_payload(), length);
        self.records.finish_long()?;
        let Abridged { event, omitted } = read.map_err(|source| EventError::Long { offset, length, source })?;
        self.omitted = omitted;
        Ok(event)
    }
}

impl<R: Read> Iterator for EventReader<R> {
    type Item = (u64, Result<Event, EventError>);

    fn next(&mut self) -> Option<Self::Item> {
        self.omitted.clear();
        match self.records.read() {
            Ok(None) => None,
            Ok(Some((offset, payload))) => {
                let event = Event::decode(payload).map_err(|source| {
                    let length = payload.len() as u64;
                    EventError::Decode { offset, length, source }
                });
                Some((offset, event))
            }
            Err(RecordError::TooLong { offset, length, .. }) => Some((offset, self.abridged(offset, length))),
            Err(error) => Some((error.offset(), Err(error.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::eventlog::event;
    use crate::eventlog::histogram::Histogram;
    use crate::eventlog::proto::event::What;
    use crate::eventlog::record::{self, TooLong};
    use crate::eventlog::summary::Value;
    use crate::eventlog::tally::Tally;
    use crate::picture::Picture;
    use crate::types::{Step, Tag, WallTime};

    fn sample() -> Vec<u8> {
        let time = WallTime::from_secs(1.5).unwrap();
        let mut file = Vec::new();
        event::append_version(&mut file, time, "trainer").unwrap();
        event::append_start(&mut file, time, Step::ZERO).unwrap();
        let values = [
            Value::scalar(Tag::of("loss"), 0.5),
            Value::histogram(Tag::of("kernel/histogram"), Histogram::of(&[1.0, 2.0])),
            Value::images(Tag::of("image"), vec![Picture::filled(2, 2, [1, 2, 3])]),
            Value::text(Tag::of("text"), "hello"),
        ];
        event::append_values(&mut file, time, Step::new(1).unwrap(), &values, &mut Tally::default()).unwrap();
        event::append_values(&mut file, time, Step::new(2).unwrap(), &values[..1], &mut Tally::default()).unwrap();
        file
    }

    #[test]
    fn events_come_back() {
        let events: Vec<_> = EventReader::new(sample().as_slice()).map(|(_, event)| event.unwrap()).collect();
        assert_eq!(events.iter().map(|event| event.step).collect::<Vec<_>>(), [0, 0, 1, 2]);
        assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".to_owned())));
        let Some(What::Summary(summary)) = &events[2].what else { panic!("{events:?}") };
        let tags: Vec<_> = summary.value.iter().map(|value| value.tag.as_str()).collect();
        assert_eq!(tags, ["loss", "kernel/histogram", "image", "text"]);
    }

    #[test]
    fn a_payload_that_is_no_event_is_an_error_in_its_place() {
        let mut file = Vec::new();
        for payload in [&b"\x09\0"[..], b"\x10\x03"] {
            record::append(&mut file, |buffer| {
                buffer.extend_from_slice(payload);
                Ok::<(), TooLong>(())
            })
            .unwrap();
        }
        let read: Vec<_> = EventReader::new(file.as_slice()).collect();
        let error = read[0].1.as_ref().unwrap_err();
        assert!(error.to_string().starts_with("record at byte 0: the payload of 2 bytes is not an event: "), "{error}");
        assert_eq!(error.exit(), Exit::Data);
        assert_eq!((read[1].0, read[1].1.as_ref().unwrap().step), (18, 3));
    }

    #[test]
    fn a_long_event_comes_without_its_large_contents() {
        let time = WallTime::from_secs(1.5).unwrap();
        let mut file = Vec::new();
        let values = [
            Value::scalar(Tag::of("loss"), 0.5),
            Value::text(Tag::of("text"), "x".repeat(3 << 20)),
            Value::scalar(Tag::of("accuracy"), 0.25),
        ];
        event::append_values(&mut file, time, Step::new(7).unwrap(), &values, &mut Tally::default()).unwrap();
        event::append_values(&mut file, time, Step::new(8).unwrap(), &values[..1], &mut Tally::default()).unwrap();
        let mut reader = EventReader::with_limit(file.as_slice(), 1 << 20);
        let (_, long) = reader.next().unwrap();
        assert_eq!(reader.omitted(), [0, 3 << 20, 0]);
        let long = long.unwrap();
        let Some(What::Summary(summary)) = &long.what else { panic!("{long:?}") };
        let whole = EventReader::new(file.as_slice()).next().unwrap().1.unwrap();
        let Some(What::Summary(want)) = &whole.what else { panic!("{whole:?}") };
        assert_eq!((long.wall_time, long.step, summary.value.len()), (1.5, 7, 3));
        assert_eq!((&summary.value[0], &summary.value[2]), (&want.value[0], &want.value[2]));
        assert_eq!((&summary.value[1].tag, &summary.value[1].metadata), (&want.value[1].tag, &want.value[1].metadata));
        let (offset, next) = reader.next().unwrap();
        assert_eq!((offset, next.unwrap().step, reader.omitted().len()), (reader.offset() - 64, 8, 0));
        assert!(reader.next().is_none());
    }

    #[test]
    fn a_long_graph_and_a_long_payload_that_is_no_event() {
        let graph = Event { step: 3, what: Some(What::GraphDef(vec![7; 2 << 20])), ..Event::default() };
        let mut file = Vec::new();
        for payload in [graph.encode_to_vec(), vec![0xff; 2 << 20], vec![0; 2 << 20], b"\x10\x05".to_vec()] {
            record::append(&mut file, |buffer| {
                buffer.extend_from_slice(&payload);
                Ok::<(), TooLong>(())
            })
            .unwrap();
        }
        let mut reader = EventReader::with_limit(file.as_slice(), 1 << 20);
        let (_, event) = reader.next().unwrap();
        assert_eq!(event.unwrap(), Event { step: 3, what: Some(What::GraphDef(Vec::new())), ..Event::default() });
        assert_eq!(reader.omitted(), [2 << 20]);
        for _ in 0..2 {
            let error = reader.next().unwrap().1.unwrap_err();
            assert!(error.to_string().contains("the payload of 2097152 bytes is not an event: "), "{error}");
        }
        assert_eq!(reader.next().unwrap().1.unwrap().step, 5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Whatever happens to a file, reading it ends, and every byte that differs is noticed or beyond the end.
        #[test]
        fn a_damaged_file_is_read_to_its_end(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let good = sample();
            let mut bytes = good.clone();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            let mut reader = EventReader::new(bytes.as_slice());
            let read: Vec<_> = reader.by_ref().collect();
            prop_assert!(read.len() <= 4);
            prop_assert!(reader.offset() <= bytes.len() as u64);
            if read.iter().all(|(_, event)| event.is_ok()) {
                prop_assert_eq!(&bytes[..], &good[..bytes.len()]);
            }
        }

        #[test]
        fn noise_is_read_to_its_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(EventReader::new(bytes.as_slice()).count() <= 1);
        }

        #[test]
        fn noise_in_a_sound_record_is_an_event_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut file = Vec::new();
            record::append(&mut file, |buffer| {
                buffer.extend_from_slice(&bytes);
                Ok::<(), TooLong>(())
            }).unwrap();
            prop_assert_eq!(EventReader::new(file.as_slice()).count(), 1);
        }
    }
}
