//! One event as bytes: what a record holds.

use std::sync::Arc;

use prost::Message;

use super::graph::Graph;
use super::plugin;
use super::profile::Profile;
use super::projector::Embeddings;
use super::proto;
use super::proto::event::What as Wire;
use super::record::{self, TooLong};
use super::summary::{PictureError, Summary, Value};
use super::tally::{Kind, Tally};
use crate::exit::{Classify, Exit};
use crate::types::{Step, Tag, WallTime};

/// Content of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A point of one series.
    Value(Value),
    /// Points of one step in any number of series. Together they take less room than an event each.
    Values(Vec<Value>),
    /// The run's graph; one for each run.
    Graph(Graph),
    /// Costs of the nodes of the run's graph. No summary of the run may have the same tag.
    Profile { tag: Tag, profile: Profile },
    /// Points for the Projector. They become a run of their own, named by the step, which is an epoch; the entry's run
    /// does not matter. One snapshot for each step.
    Embeddings(Arc<Embeddings>),
}

/// Error in encoding an event.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("tag `{tag}`: {source}")]
    Picture { tag: Tag, source: PictureError },
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("embeddings are no event: a log directory keeps them in files of their own")]
    NotAnEvent,
}

impl Classify for EncodeError {
    fn exit(&self) -> Exit {
        Exit::Software
    }
}

impl What {
    /// Bytes held, roughly.
    pub fn size(&self) -> usize {
        match self {
            What::Value(value) => value.size(),
            What::Values(values) => values.iter().map(Value::size).sum(),
            What::Graph(graph) => graph.size(),
            What::Profile { profile, .. } => profile.size(),
            What::Embeddings(embeddings) => embeddings.size(),
        }
    }

    /// The points of series among it.
    pub(super) fn values_mut(&mut self) -> &mut [Value] {
        match self {
            What::Value(value) => std::slice::from_mut(value),
            What::Values(values) => values,
            What::Graph(_) | What::Profile { .. } | What::Embeddings(_) => &mut [],
        }
    }
}

/// Appends a record that says `what` to `buffer`, which is as it was if that fails.
pub(super) fn append_what(
    buffer: &mut Vec<u8>,
    wall_time: WallTime,
    step: Step,
    what: &What,
    tally: &mut Tally,
) -> Result<(), EncodeError> {
    let wire = match what {
        What::Value(value) => return append_values(buffer, wall_time, step, std::slice::from_ref(value), tally),
        What::Values(values) => return append_values(buffer, wall_time, step, values, tally),
        What::Graph(graph) => Wire::GraphDef(graph.encode()),
        What::Profile { tag, profile } => {
            let (tag, run_metadata) = (tag.as_str().to_owned(), profile.encode());
            Wire::TaggedRunMetadata(proto::TaggedRunMetadata { tag, run_metadata })
        }
        What::Embeddings(_) => return Err(EncodeError::NotAnEvent),
    };
    let before = buffer.len();
    append(buffer, &event(wall_time, step, wire))?;
    tally.add(Kind::Graphs, (buffer.len() - before) as u64);
    Ok(())
}

/// Appends a record that says `values` to `buffer`, which is as it was if that fails.
pub(super) fn append_values(
    buffer: &mut Vec<u8>,
    wall_time: WallTime,
    step: Step,
    values: &[Value],
    tally: &mut Tally,
) -> Result<(), EncodeError> {
    if !values.iter().all(|value| matches!(value.summary, Summary::Scalar(_))) {
        return append_summaries(buffer, wall_time, step, values, tally);
    }
    let before = buffer.len();
    record::append::<EncodeError>(buffer, |payload| {
        put_scalars(payload, wall_time, step, values);
        Ok(())
    })?;
    let kind = if values.is_empty() { Kind::Headers } else { Kind::Scalars };
    tally.add(kind, (buffer.len() - before) as u64);
    Ok(())
}

/// As [`append_values`], for values of any kind.
#[inline(never)] // Its stack frame would be made for each scalar.
fn append_summaries(
    buffer: &mut Vec<u8>,
    wall_time: WallTime,
    step: Step,
    values: &[Value],
    tally: &mut Tally,
) -> Result<(), EncodeError> {
    let before = buffer.len();
    let mut sizes = Tally::default();
    record::append::<EncodeError>(buffer, |payload| {
        let mut summary = proto::Summary { value: Vec::with_capacity(values.len()) };
        for value in values {
            let wire = value.to_wire().map_err(|source| EncodeError::Picture { tag: value.tag.clone(), source })?;
            sizes.add(value.summary.kind(), wire.encoded_len() as u64);
            summary.value.push(wire);
        }
        put(payload, &event(wall_time, step, Wire::Summary(summary)));
        Ok(())
    })?;
    // Shared bytes count with the first value.
    let shared = ((buffer.len() - before) as u64).saturating_sub(sizes.total());
    sizes.add(values.first().map_or(Kind::Headers, |value| value.summary.kind()), shared);
    tally.merge(&sizes);
    Ok(())
}

/// Appends a record whose one value holds nothing but what `plugin` wants to know.
pub(super) fn append_metadata(
    buffer: &mut Vec<u8>,
    wall_time: WallTime,
    step: Step,
    tag: &str,
    plugin: &str,
    content: Vec<u8>,
) -> Result<(), EncodeError> {
    // As TensorFlow writes it: a tensor without elements.
    let empty = proto::TensorShapeProto { dim: vec![proto::tensor_shape_proto::Dim::default()], unknown_rank: false };
    let tensor =
        proto::TensorProto { dtype: proto::DataType::DtFloat.into(), tensor_shape: Some(empty), ..Default::default() };
    let plugin_data = Some(proto::summary_metadata::PluginData { plugin_name: plugin.to_owned(), content });
    let value = proto::summary::Value {
        tag: tag.to_owned(),
        metadata: Some(proto::SummaryMetadata { plugin_data, ..Default::default() }),
        value: Some(proto::summary::value::Value::Tensor(tensor)),
        ..Default::default()
    };
    append(buffer, &event(wall_time, step, Wire::Summary(proto::Summary { value: vec![value] })))
}

/// Appends the record that every file begins with; it also tells readers how to treat steps that come twice.
pub(super) fn append_version(buffer: &mut Vec<u8>, wall_time: WallTime, writer: &str) -> Result<(), EncodeError> {
    let mut event = event(wall_time, Step::ZERO, Wire::FileVersion("brain.Event:2".to_owned()));
    event.source_metadata = Some(proto::SourceMetadata { writer: writer.to_owned() });
    append(buffer, &event)
}

/// A complete file that says `values`, for what is written whole or not at all.
pub fn file(wall_time: WallTime, step: Step, values: &[Value]) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    append_version(&mut bytes, wall_time, super::file::WRITER)?;
    for value in values {
        append_values(&mut bytes, wall_time, step, std::slice::from_ref(value), &mut Tally::default())?;
    }
    Ok(bytes)
}

/// Appends the record by which a new process says that it writes from `step` on: what is there from an earlier
/// process at that step or later is void.
pub(super) fn append_start(buffer: &mut Vec<u8>, wall_time: WallTime, step: Step) -> Result<(), EncodeError> {
    let log = proto::SessionLog { status: proto::session_log::SessionStatus::Start.into(), ..Default::default() };
    append(buffer, &event(wall_time, step, Wire::SessionLog(log)))
}

fn event(wall_time: WallTime, step: Step, what: Wire) -> proto::Event {
    proto::Event { wall_time: wall_time.as_secs(), step: step.as_i64(), what: Some(what), source_metadata: None }
}

fn append(buffer: &mut Vec<u8>, event: &proto::Event) -> Result<(), EncodeError> {
    record::append(buffer, |payload| {
        put(payload, event);
        Ok(())
    })
}

fn put(payload: &mut Vec<u8>, event: &proto::Event) {
    payload.reserve(event.encoded_len() + record::FOOTER_LEN);
    event.encode_raw(payload);
}

/// A scalar's tensor up to its number: dtype DT_FLOAT, a shape of rank 0, the field number and length of `float_val`.
const TENSOR: [u8; 8] = [0x42, 10, 0x08, 1, 0x12, 0, 0x2a, 4];
const NUMBER: usize = size_of::<f32>();
/// A scalar's plugin, and its data class.
const PLUGIN: [u8; 11] = *b"\x0a\x09\x0a\x07scalars";
const CLASS: [u8; 2] = [0x20, 1];
const _: () = assert!(PLUGIN.len() == 4 + plugin::SCALARS.len());
/// The tensor of 0, and what follows it where there is no description. Most scalars differ from this in their number alone.
const PLAIN: [u8; TENSOR.len() + NUMBER + 2 + PLAIN_METADATA] = {
    let mut plain = [0; TENSOR.len() + NUMBER + 2 + PLAIN_METADATA];
    let (tensor, metadata) = plain.split_at_mut(TENSOR.len() + NUMBER);
    tensor.split_at_mut(TENSOR.len()).0.copy_from_slice(&TENSOR);
    let (field, metadata) = metadata.split_at_mut(2);
    field.copy_from_slice(&[0x4a, PLAIN_METADATA as u8]);
    let (plugin, class) = metadata.split_at_mut(PLUGIN.len());
    plugin.copy_from_slice(&PLUGIN);
    class.copy_from_slice(&CLASS);
    plain
};
const PLAIN_METADATA: usize = PLUGIN.len() + CLASS.len();

/// The most that an event with one scalar has, unless its tag is long.
const USUAL: usize = 128;

/// The same bytes as the generated code makes, without building its messages: scalars are most of a log.
fn put_scalars(payload: &mut Vec<u8>, wall_time: WallTime, step: Step, values: &[Value]) {
    let (seconds, step) = (wall_time.as_secs(), step.get());
    let seconds_len = if seconds != 0.0 { 9 } else { 0 };
    let step_len = if step != 0 { 1 + number_len(step) } else { 0 };
    let values_len = values.iter().fold(0, |len, value| len + field_len(scalar_len(value)));
    let start = payload.len();
    let end = start + seconds_len + step_len + field_len(values_len);
    // Room of a fixed size is a few stores, of any other a call.
    payload.extend_from_slice(&[0; USUAL]);
    payload.resize(end, 0);
    let mut fields = Fields { rest: &mut payload[start..] };
    if seconds != 0.0 {
        let mut field = [0x09; 9];
        field[1..].copy_from_slice(&seconds.to_le_bytes());
        fields.put(&field);
    }
    if step != 0 {
        fields.put_number(0x10, step);
    }
    fields.put_number(0x2a, values_len as u64);
    for value in values {
        let Summary::Scalar(number) = value.summary else { continue };
        fields.put_number(0x0a, scalar_len(value) as u64);
        fields.put_text(0x0a, value.tag.as_str());
        match value.description.as_deref() {
            None | Some("") => {
                let mut plain = PLAIN;
                plain[TENSOR.len()..][..NUMBER].copy_from_slice(&number.to_le_bytes());
                fields.put(&plain);
            }
            Some(description) => {
                fields.put(&TENSOR);
                fields.put(&number.to_le_bytes());
                fields.put_number(0x4a, metadata_len(value) as u64);
                fields.put(&PLUGIN);
                fields.put_text(0x1a, description);
                fields.put(&CLASS);
            }
        }
    }
    debug_assert!(fields.rest.is_empty(), "the lengths do not agree with the fields");
}

#[inline(always)]
fn scalar_len(value: &Value) -> usize {
    field_len(value.tag.as_str().len()) + TENSOR.len() + NUMBER + field_len(metadata_len(value))
}

#[inline(always)]
fn metadata_len(value: &Value) -> usize {
    let description = value.description.as_deref().unwrap_or_default().len();
    PLAIN_METADATA + if description > 0 { field_len(description) } else { 0 }
}

/// Room for fields, filled from the front.
struct Fields<'a> {
    rest: &'a mut [u8],
}

impl Fields<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        if let Some((first, rest)) = std::mem::take(&mut self.rest).split_first_chunk_mut() {
            *first = *bytes;
            self.rest = rest;
        }
    }

    #[inline(always)]
    fn put_number(&mut self, key: u8, mut number: u64) {
        if number < 0x80 {
            return self.put(&[key, number as u8]);
        }
        self.put(&[key]);
        while number >= 0x80 {
            self.put(&[number as u8 | 0x80]);
            number >>= 7;
        }
        self.put(&[number as u8]);
    }

    fn put_text(&mut self, key: u8, text: &str) {
        self.put_number(key, text.len() as u64);
        if let Some((first, rest)) = std::mem::take(&mut self.rest).split_at_mut_checked(text.len()) {
            first.copy_from_slice(text.as_bytes());
            self.rest = rest;
        }
    }
}

/// Bytes of a length-delimited field with a one-byte key.
#[inline(always)]
fn field_len(content: usize) -> usize {
    1 + number_len(content as u64) + content
}

/// Bytes of a number, seven bits each.
#[inline(always)]
fn number_len(number: u64) -> usize {
    if number < 0x80 { 1 } else { (u64::BITS - number.leading_zeros()).div_ceil(7) as usize }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(secs: f64) -> WallTime {
        WallTime::from_secs(secs).unwrap()
    }

    #[test]
    fn a_version_as_tensorflow_writes_it() {
        let mut buffer = Vec::new();
        append_version(&mut buffer, time(1.5), "w").unwrap();
        let want = b"\x1d\0\0\0\0\0\0\0\x60\x2f\xdf\x23\
            \x09\0\0\0\0\0\0\xf8\x3f\x1a\x0dbrain.Event:2\x52\x03\x0a\x01w\
            \x4a\x32\x91\x31";
        assert_eq!(buffer, want);
    }

    #[test]
    fn a_scalar_that_stock_tensorboard_was_seen_to_read() {
        let mut buffer = Vec::new();
        append_values(
            &mut buffer,
            time(2.0),
            Step::new(7).unwrap(),
            &[Value::scalar(Tag::of("a"), 0.5)],
            &mut Tally::default(),
        )
        .unwrap();
        let want = b"\x2d\0\0\0\0\0\0\0\x3c\x41\x8a\xfb\
            \x09\0\0\0\0\0\0\0\x40\x10\x07\x2a\x20\x0a\x1e\x0a\x01a\x42\x0a\x08\x01\x12\0\x2a\x04\0\0\0\x3f\
            \x4a\x0d\x0a\x09\x0a\x07scalars\x20\x01\
            \x04\x8d\x04\x63";
        assert_eq!(buffer, want);
    }

    #[test]
    fn a_start_has_the_step_it_starts_from() {
        let mut buffer = Vec::new();
        append_start(&mut buffer, time(1.0), Step::new(3).unwrap()).unwrap();
        let payload = &buffer[record::HEADER_LEN..buffer.len() - record::FOOTER_LEN];
        assert_eq!(payload, b"\x09\0\0\0\0\0\0\xf0\x3f\x10\x03\x3a\x02\x08\x01");
    }

    #[test]
    fn an_event_too_long_to_be_read_back_is_refused() {
        let text = "x".repeat(record::DEFAULT_LIMIT as usize);
        let mut buffer = b"before".to_vec();
        let result = append_values(
            &mut buffer,
            time(1.0),
            Step::ZERO,
            &[Value::text(Tag::of("t"), text)],
            &mut Tally::default(),
        );
        assert!(matches!(result, Err(EncodeError::TooLong(TooLong { limit: record::DEFAULT_LIMIT, .. }))));
        assert_eq!(buffer, b"before");
    }

    fn scalar() -> impl Strategy<Value = Value> {
        let description = prop_oneof![Just(None), ".{0,200}".prop_map(Some)];
        ("[^/].{0,300}", any::<u32>(), description).prop_map(|(tag, bits, description)| Value {
            tag: Tag::of(tag),
            summary: Summary::Scalar(f32::from_bits(bits)),
            description: description.map(Into::into),
        })
    }

    proptest! {
        #[test]
        fn scalars_are_the_bytes_of_the_generated_code(
            values in prop::collection::vec(scalar(), 0..6),
            step in 0..=Step::MAX.get(),
            secs in prop_oneof![Just(0.0), 0.0..4e9],
        ) {
            let step = Step::new(step).unwrap();
            let wire = values.iter().map(|value| value.to_wire().unwrap()).collect();
            let want = event(time(secs), step, Wire::Summary(proto::Summary { value: wire })).encode_to_vec();
            let mut got = Vec::new();
            put_scalars(&mut got, time(secs), step, &values);
            prop_assert_eq!(got, want);
        }
    }
}
