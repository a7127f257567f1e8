//! One event file: its events, its writer, and the places where it is damaged.

use std::collections::BTreeMap;
use std::io;

use prost::Message;
use serde::Serialize;

use super::content;
use super::damage::{Damage, DamageKind};
use super::tag::{Form, Sample, Series, kind};
use crate::eventlog::export::Point;
use crate::eventlog::plugin;
use crate::eventlog::png;
use crate::eventlog::proto::Event;
use crate::eventlog::proto::event::What;
use crate::eventlog::proto::session_log::SessionStatus;
use crate::eventlog::proto::summary::value::Value as Wire;
use crate::eventlog::reader::{EventError, EventReader};
use crate::eventlog::record::RecordError;
use crate::eventlog::scalar;
use crate::eventlog::shown::{Reception, Sessions};
use crate::terminal::{printable, shortened};

/// Damages of one file that are told one by one; a file may have any number.
const TOLD: usize = 20;
/// Characters of a tag in a message.
const TAG: usize = 64;

/// One file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventFile {
    pub name: String,
    pub bytes: u64,
    /// Events that could be read.
    pub records: u64,
    pub version: Option<String>,
    /// The program that wrote it, if it says so.
    pub writer: Option<String>,
    /// Steps from which a process wrote.
    pub starts: Vec<i64>,
    /// Seconds since 1970.
    pub first_wall_time: Option<f64>,
    pub last_wall_time: Option<f64>,
    /// The file ends within a record: it is being written, or its writer was killed. Not damage.
    pub truncated_at: Option<u64>,
    /// Bytes at the end of the file that could not be read as events.
    pub unread_bytes: u64,
    /// The record behind which TensorBoard's data server reads no more of the file, as its wall time is NaN.
    pub nan_wall_time_at: Option<u64>,
    /// Events that TensorBoard's data server leaves out, as their wall time is infinite.
    pub infinite_wall_times: u64,
    /// Number of damages; the report lists at most 20.
    pub damage_count: u64,
    pub damages: Vec<Damage>,
}

/// The series of a run, from file to file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub series: BTreeMap<String, Series>,
    sessions: Sessions,
    /// Points of scalars are kept, not only counted.
    keeps_points: bool,
}

impl Contents {
    pub fn new(keeps_points: bool) -> Contents {
        Contents { keeps_points, ..Contents::default() }
    }

    /// A value of the tag `name`. A name is copied once for each tag, not for each point.
    pub fn add(&mut self, name: &str, plugin: &str, form: Form, sample: Sample) {
        if let Some(series) = self.series.get_mut(name) {
            return series.add(sample);
        }
        let mut series = Series::new(name, plugin, form, sample.step);
        series.add(sample);
        self.series.insert(name.to_owned(), series);
    }
}

impl EventFile {
    pub(super) fn of(name: String, bytes: u64, input: impl io::Read, contents: &mut Contents) -> EventFile {
        let mut file = EventFile {
            name,
            bytes,
            records: 0,
            version: None,
            writer: None,
            starts: Vec::new(),
            first_wall_time: None,
            last_wall_time: None,
            truncated_at: None,
            unread_bytes: 0,
            nan_wall_time_at: None,
            infinite_wall_times: 0,
            damage_count: 0,
            damages: Vec::new(),
        };
        // Behind a payload that is no event neither of TensorBoard's loaders reads more of the file.
        let mut is_event_log = true;
        let mut ending = None;
        let mut reader = EventReader::new(input);
        while let Some((offset, event)) = reader.next() {
            match event {
                Ok(event) => {
                    file.check_pictures(offset, &event);
                    let reception = file.receive(offset, event.wall_time);
                    file.add(event, reader.omitted(), is_event_log && reception == Reception::Read, contents);
                }
                Err(error) => {
                    is_event_log &= !error.is_no_event();
                    match error {
                        EventError::Record(RecordError::PayloadChecksum { .. }) => file.damaged(Damage::of(&error)),
                        error if error.is_no_event() => file.damaged(Damage::of(&error)),
                        error => ending = Some(error),
                    }
                }
            }
        }
        if let Some(error) = ending {
            file.ends_with(&error, reader);
        }
        file
    }

    /// Reading has ended before the file does.
    fn ends_with<R: io::Read>(&mut self, error: &EventError, reader: EventReader<R>) {
        let offset = error.offset();
        self.unread_bytes = self.bytes.saturating_sub(offset);
        match error {
            EventError::Record(RecordError::Truncated { .. }) => self.truncated_at = Some(offset),
            EventError::Record(RecordError::LengthChecksum { .. }) => {
                let known = content::recognise(offset, reader.into_rest());
                self.damaged(known.unwrap_or_else(|| Damage::of(error)));
            }
            _ => self.damaged(Damage::of(error)),
        }
    }

    fn damaged(&mut self, damage: Damage) {
        self.damage_count += 1;
        if self.damages.len() < TOLD {
            self.damages.push(damage);
        }
    }

    fn check_pictures(&mut self, offset: u64, event: &Event) {
        let Some(What::Summary(summary)) = &event.what else { return };
        for value in &summary.value {
            let blobs: &[Vec<u8>] = match &value.value {
                Some(Wire::Image(image)) => std::slice::from_ref(&image.encoded_image_string),
                Some(Wire::Tensor(tensor)) if kind(value).0 == plugin::IMAGES => &tensor.string_val,
                _ => continue,
            };
            for error in blobs.iter().filter(|blob| png::is_png(blob)).filter_map(|blob| png::check(blob).err()) {
                let tag = shortened(&printable(&value.tag), TAG);
                let message = format!("picture of tag {tag} in the record at byte {offset}: {error}");
                self.damaged(Damage { offset, kind: DamageKind::Picture, message });
            }
        }
    }

    /// Notes an odd wall time.
    fn receive(&mut self, offset: u64, wall_time: f64) -> Reception {
        if self.nan_wall_time_at.is_some() {
            return Reception::LastOfFile;
        }
        let reception = Reception::of(wall_time);
        match reception {
            Reception::Read => {}
            Reception::LeftOut => self.infinite_wall_times += 1,
            Reception::LastOfFile => self.nan_wall_time_at = Some(offset),
        }
        reception
    }

    fn add(&mut self, event: Event, omitted: &[u64], is_read: bool, contents: &mut Contents) {
        self.records += 1;
        self.first_wall_time.get_or_insert(event.wall_time);
        self.last_wall_time = Some(event.wall_time);
        if let Some(step) = contents.sessions.restart(&event) {
            contents.series.values_mut().for_each(|series| series.take_back(step));
        }
        if let Some(source) = event.source_metadata {
            self.writer.get_or_insert(source.writer);
        }
        let (step, wall_time) = (event.step, event.wall_time);
        let mut add = |index: usize, name: &str, plugin: &str, form, bytes: usize, number: Option<f64>| {
            let bytes = omitted.get(index).map_or(0, |&bytes| bytes).saturating_add(bytes as u64);
            let point = number.filter(|_| contents.keeps_points).map(|value| Point { step, wall_time, value });
            contents.add(name, plugin, form, Sample { step, bytes, number, is_read, point });
        };
        match event.what {
            Some(What::FileVersion(version)) => {
                self.version.get_or_insert(version);
            }
            Some(What::SessionLog(log)) if log.status() == SessionStatus::Start => self.starts.push(step),
            Some(What::Summary(summary)) => {
                for (index, value) in summary.value.iter().enumerate() {
                    let (plugin, form) = kind(value);
                    add(index, &value.tag, plugin, form, value.encoded_len(), scalar::number(value));
                }
            }
            Some(What::GraphDef(graph)) => add(0, "__run_graph__", plugin::GRAPHS, Form::GraphDef, graph.len(), None),
            Some(What::MetaGraphDef(graph)) => add(0, "__meta_graph__", "", Form::MetaGraphDef, graph.len(), None),
            Some(What::TaggedRunMetadata(tagged)) => {
                let bytes = tagged.run_metadata.len();
                add(0, &tagged.tag, plugin::RUN_METADATA, Form::RunMetadata, bytes, None);
            }
            Some(What::SessionLog(_)) | None => {}
        }
    }
}
