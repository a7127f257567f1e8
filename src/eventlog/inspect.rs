//! What event files hold: runs, tags, kinds, steps, sizes, and where they are damaged.
//!
//! Reads what TensorBoard would read, in its order, whoever wrote it: a run is a directory that holds files whose names
//! contain `tfevents`, and of a tag's metadata the first seen counts. Unlike TensorBoard it checks every checksum and
//! says where one is wrong.

mod text;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::file::MARK;
use super::png;
use super::projector;
use super::proto::event::What;
use super::proto::session_log::SessionStatus;
use super::proto::summary::Value;
use super::proto::summary::value::Value as Wire;
use super::proto::{self, Event};
use super::reader::{EventError, EventReader};
use super::record::RecordError;
use super::summary::plugin;
use crate::exit::{Classify, Exit};
use crate::terminal::printable;

/// Damages of one file that are told one by one; a file may have any number.
const TOLD: usize = 20;

/// What was found at a path. Its `Display` is a text for people, its serialization one for programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub path: PathBuf,
    /// By name.
    pub runs: Vec<Run>,
}

/// A directory that holds event files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Path of the directory relative to the one inspected; `.` is that one itself.
    pub name: String,
    /// By name.
    pub tags: Vec<Tag>,
    /// In the order in which TensorBoard reads them.
    pub files: Vec<EventFile>,
}

/// One series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tag {
    /// The run's own graph has none; it is `__run_graph__`, as within TensorBoard.
    pub name: String,
    /// What shows it: `scalars`, `histograms`, `images`, `text`, `graphs`, ...; empty if nothing does.
    pub plugin: String,
    /// How it is stored.
    pub form: Form,
    pub count: u64,
    /// Of the point that comes first.
    pub first_step: i64,
    /// Of the point that comes last.
    pub last_step: i64,
    pub min_step: i64,
    pub max_step: i64,
    /// Bytes of the values, without what they share with others of their event.
    pub bytes: u64,
}

/// The field of the message that holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    Tensor,
    SimpleValue,
    Image,
    Histo,
    Audio,
    /// A value that holds nothing but its metadata.
    None,
    GraphDef,
    MetaGraphDef,
    RunMetadata,
    /// Files beside the event file, not events.
    Files,
}

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
    /// How many damages there are; at most 20 are told.
    pub damage_count: u64,
    pub damages: Vec<Damage>,
}

/// Something in a file that is not as it was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Damage {
    /// The first byte of the record.
    pub offset: u64,
    pub kind: DamageKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DamageKind {
    LengthChecksum,
    PayloadChecksum,
    TooLong,
    NotAnEvent,
    /// A picture within a record whose own checksum is right.
    Picture,
    Unreadable,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("no such file or directory: {}", path.display())]
    Missing { path: PathBuf },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("no event files in {}: got no file whose name contains `{MARK}`", path.display())]
    Nothing { path: PathBuf },
}

impl Classify for InspectError {
    fn exit(&self) -> Exit {
        match self {
            InspectError::Missing { .. } | InspectError::Nothing { .. } => Exit::NoInput,
            InspectError::Read { source, .. } => Exit::of_input(source),
        }
    }
}

impl Report {
    /// Reads the event file `path`, whatever its name, or all event files in and below the directory `path`.
    pub fn of(path: &Path) -> Result<Report, InspectError> {
        let metadata = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => InspectError::Missing { path: path.to_owned() },
            _ => InspectError::Read { path: path.to_owned(), source },
        })?;
        let mut found = BTreeMap::new();
        if metadata.is_dir() {
            find(path, ".", &mut HashSet::new(), &mut found)?;
        } else {
            found.insert(".".to_owned(), vec![path.to_owned()]);
        }
        if found.is_empty() {
            return Err(InspectError::Nothing { path: path.to_owned() });
        }
        let mut runs = Vec::with_capacity(found.len());
        for (name, mut files) in found {
            files.sort();
            runs.push(Run::of(name, &files)?);
        }
        Ok(Report { path: path.to_owned(), runs })
    }

    /// Whether something was read that was not written so. A file that just ends early is not damaged.
    pub fn is_damaged(&self) -> bool {
        self.runs.iter().flat_map(|run| &run.files).any(|file| file.damage_count > 0)
    }
}

impl Run {
    fn of(name: String, paths: &[PathBuf]) -> Result<Run, InspectError> {
        let mut tags = BTreeMap::new();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let at = |source| InspectError::Read { path: path.clone(), source };
            let file = File::open(path).map_err(at)?;
            let bytes = file.metadata().map_err(at)?.len();
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            files.push(EventFile::of(name, bytes, file, &mut tags));
        }
        if let Some((snapshot, bytes)) = paths.first().and_then(|path| path.parent()).and_then(projector::snapshot) {
            Tag::add(&mut tags, &snapshot, plugin::PROJECTOR, Form::Files, 0, bytes);
        }
        Ok(Run { name, tags: tags.into_values().collect(), files })
    }
}

impl EventFile {
    fn of(name: String, bytes: u64, input: impl io::Read, tags: &mut BTreeMap<String, Tag>) -> EventFile {
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
            damage_count: 0,
            damages: Vec::new(),
        };
        for (offset, event) in EventReader::new(input) {
            match event {
                Ok(event) => {
                    file.check_pictures(offset, &event);
                    file.add(event, tags);
                }
                Err(error) if error.is_truncation() => file.truncated_at = Some(offset),
                Err(error) => file.damaged(Damage::of(&error)),
            }
        }
        file
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
                let message =
                    format!("picture of tag {} in the record at byte {offset}: {error}", printable(&value.tag));
                self.damaged(Damage { offset, kind: DamageKind::Picture, message });
            }
        }
    }

    fn add(&mut self, event: Event, tags: &mut BTreeMap<String, Tag>) {
        self.records += 1;
        self.first_wall_time.get_or_insert(event.wall_time);
        self.last_wall_time = Some(event.wall_time);
        if let Some(source) = event.source_metadata {
            self.writer.get_or_insert(source.writer);
        }
        let step = event.step;
        let mut add = |name: &str, plugin: &str, form, bytes| Tag::add(tags, name, plugin, form, step, bytes as u64);
        match event.what {
            Some(What::FileVersion(version)) => {
                self.version.get_or_insert(version);
            }
            Some(What::SessionLog(log)) if log.status() == SessionStatus::Start => self.starts.push(step),
            Some(What::Summary(summary)) => {
                for value in &summary.value {
                    let (plugin, form) = kind(value);
                    add(&value.tag, plugin, form, prost::Message::encoded_len(value));
                }
            }
            Some(What::GraphDef(graph)) => add("__run_graph__", plugin::GRAPHS, Form::GraphDef, graph.len()),
            Some(What::MetaGraphDef(graph)) => add("__meta_graph__", "", Form::MetaGraphDef, graph.len()),
            Some(What::TaggedRunMetadata(tagged)) => {
                add(&tagged.tag, plugin::RUN_METADATA, Form::RunMetadata, tagged.run_metadata.len());
            }
            Some(What::SessionLog(_)) | None => {}
        }
    }
}

impl Tag {
    fn add(tags: &mut BTreeMap<String, Tag>, name: &str, plugin: &str, form: Form, step: i64, bytes: u64) {
        // A name is copied once for each tag, not for each point.
        if let Some(tag) = tags.get_mut(name) {
            tag.count += 1;
            tag.last_step = step;
            tag.min_step = tag.min_step.min(step);
            tag.max_step = tag.max_step.max(step);
            tag.bytes += bytes;
            return;
        }
        let tag = Tag {
            name: name.to_owned(),
            plugin: plugin.to_owned(),
            form,
            count: 1,
            first_step: step,
            last_step: step,
            min_step: step,
            max_step: step,
            bytes,
        };
        tags.insert(name.to_owned(), tag);
    }

    fn steps(&self) -> String {
        if self.min_step == self.max_step {
            self.min_step.to_string()
        } else {
            format!("{}..{}", self.min_step, self.max_step)
        }
    }
}

impl Damage {
    fn of(error: &EventError) -> Damage {
        let kind = match error {
            EventError::Record(RecordError::LengthChecksum { .. }) => DamageKind::LengthChecksum,
            EventError::Record(RecordError::PayloadChecksum { .. }) => DamageKind::PayloadChecksum,
            EventError::Record(RecordError::TooLong { .. }) => DamageKind::TooLong,
            EventError::Record(RecordError::Io { .. } | RecordError::Truncated { .. }) => DamageKind::Unreadable,
            EventError::Decode { .. } => DamageKind::NotAnEvent,
        };
        Damage { offset: error.offset(), kind, message: error.to_string() }
    }
}

/// What shows a value, and how it is stored.
fn kind(value: &Value) -> (&str, Form) {
    let named = value.metadata.as_ref().and_then(|metadata| metadata.plugin_data.as_ref());
    let named = named.map_or("", |data| data.plugin_name.as_str());
    let (usual, form) = match &value.value {
        Some(Wire::SimpleValue(_)) => (plugin::SCALARS, Form::SimpleValue),
        Some(Wire::Image(_)) => (plugin::IMAGES, Form::Image),
        Some(Wire::Histo(_)) => (plugin::HISTOGRAMS, Form::Histo),
        Some(Wire::Audio(_)) => (plugin::AUDIO, Form::Audio),
        Some(Wire::Tensor(proto::TensorProto { .. })) => ("", Form::Tensor),
        None => ("", Form::None),
    };
    (if named.is_empty() { usual } else { named }, form)
}

/// Collects event files in and below `dir`, by run. Links are followed, as TensorBoard does, but not in circles.
fn find(
    dir: &Path,
    run: &str,
    above: &mut HashSet<PathBuf>,
    found: &mut BTreeMap<String, Vec<PathBuf>>,
) -> Result<(), InspectError> {
    let at = |source| InspectError::Read { path: dir.to_owned(), source };
    let real = dir.canonicalize().map_err(at)?;
    if !above.insert(real.clone()) {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        // A link that leads nowhere is nothing to read.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            let run = if run == "." { name } else { format!("{run}/{name}") };
            find(&path, &run, above, found)?;
        } else if metadata.is_file() && name.contains(MARK) {
            found.entry(run.to_owned()).or_default().push(path);
        }
    }
    above.remove(&real);
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::eventlog::file::{EventFile as Writer, Origin};
    use crate::eventlog::graph::{Graph, Node};
    use crate::eventlog::summary::Value;
    use crate::types::{Step, Tag, WallTime};

    fn write(dir: &Path, steps: std::ops::Range<u64>) -> PathBuf {
        let time = WallTime::from_secs(1_700_000_000.0).unwrap();
        let start = Step::new(steps.start).unwrap();
        let mut file = Writer::create(dir, &Origin::new("host", 7), 0, time, Some(start)).unwrap();
        let graph = Graph::new(vec![Node::new("input", "Placeholder")]).unwrap();
        file.write(time, start, &super::super::What::Graph(graph)).unwrap();
        for step in steps {
            let values = [
                Value::scalar(Tag::of("epoch_loss"), 0.5),
                Value::text(Tag::of("a text\nof two lines"), "x".repeat(2000)),
            ];
            let time = WallTime::from_secs(1_700_000_000.0 + step as f64).unwrap();
            file.write_values(time, Step::new(step).unwrap(), &values).unwrap();
        }
        let path = file.path().to_owned();
        file.close().unwrap();
        path
    }

    #[test]
    fn a_log_directory_as_text() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("fit/train"), 0..3);
        write(&dir.path().join("fit/train"), 2..5);
        write(&dir.path().join("fit/validation"), 0..1);
        fs::write(dir.path().join("fit/notes.txt"), b"no events").unwrap();
        let report = Report::of(dir.path()).unwrap();
        assert!(!report.is_damaged());
        expect![[r#"
            run fit/train
              tag                   kind     points  steps      size
              __run_graph__         graphs        2   0..2      52 B
              a text\nof two lines  text          6   0..4  12.0 KiB
              epoch_loss            scalars       6   0..4     234 B
              file events.out.tfevents.1700000000.host.7.0.v2: 6.3 KiB, 6 records, 2023-11-14 22:13:20Z to 2023-11-14 22:13:22Z, by trainer, start at step 0
              file events.out.tfevents.1700000001.host.7.0.v2: 6.3 KiB, 6 records, 2023-11-14 22:13:20Z to 2023-11-14 22:13:24Z, by trainer, start at step 2

            run fit/validation
              tag                   kind     points  steps     size
              __run_graph__         graphs        1      0     26 B
              a text\nof two lines  text          1      0  2.0 KiB
              epoch_loss            scalars       1      0     39 B
              file events.out.tfevents.1700000000.host.7.0.v2: 2.2 KiB, 4 records, 2023-11-14 22:13:20Z to 2023-11-14 22:13:20Z, by trainer, start at step 0

            2 runs, 3 files, 16 records, 14.9 KiB; all checksums are right
        "#]].assert_eq(&report.to_string());
    }

    #[test]
    fn no_name_reaches_the_terminal_as_it_is() {
        let mut tags = BTreeMap::new();
        super::Tag::add(&mut tags, "a\nb", "\u{1b}[2J", Form::Audio, 0, 1);
        super::Tag::add(&mut tags, "c", "\u{9b}2J", Form::Tensor, 0, 1);
        let run = Run { name: "d\u{7}".to_owned(), tags: tags.into_values().collect(), files: Vec::new() };
        let text = Report { path: PathBuf::new(), runs: vec![run] }.to_string();
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(text.contains("\\u{1b}[2J (audio)") && text.contains("run d\\u{7}\n"), "{text}");
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), 0..3);
        let good = fs::read(&path).unwrap();
        // Inside the payload of the first event with values.
        let mut bytes = good.clone();
        bytes[400] ^= 1;
        bytes.truncate(good.len() - 1);
        fs::write(&path, &bytes).unwrap();
        let report = Report::of(&path).unwrap();
        assert!(report.is_damaged());
        let file = &report.runs[0].files[0];
        assert_eq!((file.records, file.damage_count, file.damages[0].kind), (4, 1, DamageKind::PayloadChecksum));
        assert!(file.truncated_at.is_some_and(|offset| offset > 400));
        expect![[r#"
            run .
              tag                   kind     points  steps     size
              __run_graph__         graphs        1      0     26 B
              a text\nof two lines  text          1      1  2.0 KiB
              epoch_loss            scalars       1      1     39 B
              file events.out.tfevents.1700000000.host.7.0.v2: 6.3 KiB, 4 records, 2023-11-14 22:13:20Z to 2023-11-14 22:13:21Z, by trainer, start at step 0
                ends within the record at byte 4365: still being written, or its writer was killed
                damaged: record at byte 133: payload checksum mismatch: got eed744cc, want 1bfc409e

            1 run, 1 file, 4 records, 6.3 KiB; 1 damage; 1 file ends within a record
        "#]].assert_eq(&report.to_string());
        expect![[r#"
            [
              {
                "name": "events.out.tfevents.1700000000.host.7.0.v2",
                "bytes": 6481,
                "records": 4,
                "version": "brain.Event:2",
                "writer": "trainer",
                "starts": [
                  0
                ],
                "first_wall_time": 1700000000.0,
                "last_wall_time": 1700000001.0,
                "truncated_at": 4365,
                "damage_count": 1,
                "damages": [
                  {
                    "offset": 133,
                    "kind": "payload_checksum",
                    "message": "record at byte 133: payload checksum mismatch: got eed744cc, want 1bfc409e"
                  }
                ]
              }
            ]"#]]
        .assert_eq(&serde_json::to_string_pretty(&report.runs[0].files).unwrap());
    }

    #[test]
    fn points_of_the_projector_are_files_beside_the_event_file() {
        let dir = tempfile::tempdir().unwrap();
        let points = crate::eventlog::Embeddings::new("dense", 2, vec![0.5; 4]).unwrap();
        let time = WallTime::from_secs(1_700_000_000.0).unwrap();
        points.write(&dir.path().join("projector/epoch_0004"), &Origin::new("host", 7), time).unwrap();
        expect![[r#"
            run projector/epoch_0004
              tag    kind       points  steps   size
              dense  projector       1      0  119 B
              file events.out.tfevents.1700000000.host.7.0.v2: 51 B, 1 record, 2023-11-14 22:13:20Z to 2023-11-14 22:13:20Z, by trainer

            1 run, 1 file, 1 record, 51 B; all checksums are right
        "#]]
        .assert_eq(&Report::of(dir.path()).unwrap().to_string());
    }

    #[test]
    fn a_cut_file_is_not_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), 0..1);
        let bytes = fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            let file = EventFile::of(String::new(), cut as u64, &bytes[..cut], &mut BTreeMap::new());
            assert_eq!(file.damages, [], "cut at {cut}");
        }
    }

    #[test]
    fn nothing_to_inspect_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let error = Report::of(&missing).unwrap_err();
        assert_eq!(error.to_string(), format!("no such file or directory: {}", missing.display()));
        assert_eq!(error.exit(), Exit::NoInput);
        let error = Report::of(dir.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no event files in {}: got no file whose name contains `tfevents`", dir.path().display())
        );
        assert_eq!(error.exit(), Exit::NoInput);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_in_circles() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("a"), 0..1);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/up")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("a"), dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("gone"), dir.path().join("c")).unwrap();
        let runs: Vec<_> = Report::of(dir.path()).unwrap().runs.into_iter().map(|run| run.name).collect();
        assert_eq!(runs, ["a", "b"]);
    }

    #[test]
    fn dates() {
        for (secs, want) in [
            (0.0, "1970-01-01 00:00:00Z"),
            (951_782_400.0, "2000-02-29 00:00:00Z"),
            (1_700_000_000.9, "2023-11-14 22:13:20Z"),
            (4_107_542_400.0, "2100-03-01 00:00:00Z"),
            (-1.0, "-1 s"),
            (f64::NAN, "NaN s"),
        ] {
            assert_eq!(text::time(secs), want);
        }
    }
}
