//! Report on event files: runs, tags, kinds, steps, sizes, and damage.
//!
//! Reads what TensorBoard would read, in its order, whoever wrote it: a run is a directory that holds files whose names
//! contain `tfevents`, and of a tag's metadata the first seen counts. Unlike TensorBoard it checks every checksum and
//! says where one is wrong.

mod content;
mod damage;
mod file;
pub(super) mod search;
mod tag;
mod text;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::damage::{Damage, DamageKind};
use self::file::Contents;
pub use self::file::EventFile;
use self::search::Found;
pub use self::search::LeftOut;
pub use self::tag::{Form, Tag};
use self::tag::{Sample, Series};
use super::export::Table;
use super::file::MARK;
use super::plugin;
use super::snapshots;
use crate::exit::{Classify, Exit};
use crate::terminal::{path_text, printable_path};

/// Report on a path. Its `Display` is for people, its serialization for programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// A byte of a path that is not UTF-8 is shown as `\xff`, here and in the names of runs and files.
    pub path: String,
    /// By name.
    pub runs: Vec<Run>,
    /// Event files and directories that could not be read.
    pub left_out: Vec<LeftOut>,
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

/// Error in making a report.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("no such file or directory: {}", printable_path(path))]
    Missing { path: PathBuf },
    #[error("cannot read {}: {source}", printable_path(path))]
    Read { path: PathBuf, source: io::Error },
    #[error("no event files in {}: got no file whose name contains `{MARK}`", printable_path(path))]
    Nothing { path: PathBuf },
    #[error("cannot write the rows: {source}")]
    Write { source: io::Error },
}

impl Classify for InspectError {
    fn exit(&self) -> Exit {
        match self {
            InspectError::Missing { .. } | InspectError::Nothing { .. } => Exit::NoInput,
            InspectError::Read { source, .. } => Exit::of_input(source),
            InspectError::Write { .. } => Exit::Io,
        }
    }
}

/// Called with the name of a run and each of its series, when all its files have been read.
type Take<'a> = dyn FnMut(&str, &Series) -> io::Result<()> + 'a;

impl Report {
    /// Reads the event file `path`, whatever its name, or all event files in and below the directory `path`.
    pub fn of(path: &Path) -> Result<Report, InspectError> {
        Report::read(path, None)
    }

    /// As [`Report::of`], and puts the points of scalars into a table: those that count as [shown](super::shown), by run
    /// and tag, in ascending order of their steps. The points of one run are in memory at once.
    pub fn export(path: &Path, table: &mut Table<impl io::Write>) -> Result<Report, InspectError> {
        Report::read(path, Some(&mut |run, series| table.put(run, &series.tag.name, &series.points)))
    }

    fn read(path: &Path, mut take: Option<&mut Take<'_>>) -> Result<Report, InspectError> {
        let at = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => InspectError::Missing { path: path.to_owned() },
            _ => InspectError::Read { path: path.to_owned(), source },
        };
        let is_dir = fs::metadata(path).map_err(at)?.is_dir();
        let found = if is_dir { search::search(path) } else { Found::file(path) };
        let Found { runs: found, mut left_out, .. } = found.map_err(at)?;
        if found.is_empty() && left_out.is_empty() {
            return Err(InspectError::Nothing { path: path.to_owned() });
        }
        let mut runs = Vec::with_capacity(found.len());
        for (name, files) in found {
            runs.extend(Run::of(&name, &files, take.as_deref_mut(), &mut left_out)?);
        }
        Ok(Report { path: path_text(path), runs, left_out })
    }

    /// True if anything was read that was not written that way. A file that just ends early is not damaged.
    pub fn is_damaged(&self) -> bool {
        self.runs.iter().flat_map(|run| &run.files).any(|file| file.damage_count > 0)
    }

    /// The exit code, if not all of it was there to be read and as it was written: damage first, then permission.
    pub fn fault(&self) -> Option<Exit> {
        if self.is_damaged() {
            return Some(Exit::Data);
        }
        let is_forbidden = |left_out: &&LeftOut| left_out.exit == Exit::NoPermission;
        self.left_out.iter().find(is_forbidden).or(self.left_out.first()).map(|left_out| left_out.exit)
    }
}

impl Run {
    /// Nothing where not one of its files could be opened.
    fn of(
        name: &OsStr,
        paths: &[PathBuf],
        mut take: Option<&mut Take<'_>>,
        left_out: &mut Vec<LeftOut>,
    ) -> Result<Option<Run>, InspectError> {
        let mut contents = Contents::new(take.is_some());
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            match search::open(path) {
                Ok((file, bytes)) => {
                    let name = path.file_name().map_or_else(String::new, path_text);
                    files.push(EventFile::of(name, bytes, file, &mut contents));
                }
                Err(error) if search::is_nothing(&error) => {}
                Err(error) => left_out.push(LeftOut::new(path, &error)),
            }
        }
        if files.is_empty() {
            return Ok(None);
        }
        let dir = paths.first().and_then(|path| Some(crate::files::Dir::above(path).ok()?.0));
        for (name, epoch, bytes) in dir.map(|dir| snapshots::listed(&dir)).unwrap_or_default() {
            let step = i64::try_from(epoch).unwrap_or(i64::MAX);
            let sample = Sample { step, bytes, number: None, is_read: true, point: None };
            contents.add(&name, plugin::PROJECTOR, Form::Files, sample);
        }
        let name = path_text(name);
        if let Some(take) = &mut take {
            for series in contents.series.values() {
                take(&name, series).map_err(|source| InspectError::Write { source })?;
            }
        }
        Ok(Some(Run { name, tags: contents.series.into_values().map(Series::finished).collect(), files }))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::eventlog::Format;
    use crate::eventlog::file::{EventFile as Writer, Origin};
    use crate::eventlog::graph::{Graph, Node};
    use crate::eventlog::proto::event::What;
    use crate::eventlog::proto::session_log::SessionStatus;
    use crate::eventlog::proto::summary::value::Value as Wire;
    use crate::eventlog::proto::summary_metadata::PluginData;
    use crate::eventlog::proto::{self, Event, SessionLog, SummaryMetadata};
    use crate::eventlog::record::{self, TooLong};
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

    fn record(event: &Event) -> Vec<u8> {
        let mut bytes = Vec::new();
        record::append(&mut bytes, |buffer| {
            prost::Message::encode(event, buffer).unwrap();
            Ok::<(), TooLong>(())
        })
        .unwrap();
        bytes
    }

    fn version() -> Event {
        Event { what: Some(What::FileVersion("brain.Event:2".to_owned())), ..Event::default() }
    }

    fn start(step: i64) -> Event {
        let log = SessionLog { status: SessionStatus::Start.into(), ..SessionLog::default() };
        Event { step, what: Some(What::SessionLog(log)), ..Event::default() }
    }

    /// As TensorFlow 1, PyTorch and tensorboardX write it.
    fn scalar(tag: &str, step: i64, number: f32) -> Event {
        let value = Some(Wire::SimpleValue(number));
        let value = proto::summary::Value { tag: tag.to_owned(), value, ..proto::summary::Value::default() };
        Event {
            wall_time: 100.0 + step as f64,
            step,
            what: Some(What::Summary(proto::Summary { value: vec![value] })),
            ..Event::default()
        }
    }

    /// Files of events in one run, the rows that are exported, and the report.
    fn exported(files: &[Vec<Event>]) -> (Vec<String>, Report) {
        let dir = tempfile::tempdir().unwrap();
        for (number, events) in files.iter().enumerate() {
            let bytes: Vec<u8> = events.iter().flat_map(record).collect();
            fs::write(dir.path().join(format!("events.out.tfevents.{number}.host")), bytes).unwrap();
        }
        let mut table = Table::new(Vec::new(), Format::Csv);
        let report = Report::export(dir.path(), &mut table).unwrap();
        let (bytes, ..) = table.finish().unwrap();
        let rows = String::from_utf8(bytes).unwrap();
        let row = |row: &str| row.strip_prefix(".,").unwrap().to_owned();
        (rows.lines().skip(1).map(row).collect(), report)
    }

    fn steps(rows: &[String]) -> Vec<&str> {
        rows.iter().map(|row| row.split(',').nth(1).unwrap()).collect()
    }

    #[test]
    fn the_latest_session_wins() {
        // A process is killed behind step 2, the next goes on from there, with one of two tags so far.
        let first = [0, 1, 2, 3, 4].map(|step| scalar("loss", step, 0.5)).into_iter().chain([scalar("rare", 4, 0.5)]);
        let first = [version(), start(0)].into_iter().chain(first).collect();
        let second = vec![version(), start(2), scalar("loss", 2, 0.25), scalar("loss", 3, 0.25)];
        let (rows, report) = exported(&[first, second]);
        assert_eq!(rows, ["loss,0,100.0,0.5", "loss,1,101.0,0.5", "loss,2,102.0,0.25", "loss,3,103.0,0.25"]);
        let tags: Vec<_> =
            report.runs[0].tags.iter().map(|tag| (&*tag.name, tag.count, tag.shown, tag.out_of_order)).collect();
        assert_eq!(tags, [("loss", 7, 4, 0), ("rare", 1, 0, 0)]);
    }

    #[test]
    fn steps_that_go_back_take_back() {
        let file = [0, 10, 20, 30, 5, 15, 25, 25].map(|step| scalar("loss", step, 0.5));
        let (rows, report) = exported(&[[version()].into_iter().chain(file).collect()]);
        assert_eq!(steps(&rows), ["0", "5", "15", "25"]);
        let note = "note: loss: steps repeat or go back 2 times; TensorBoard shows 4 of 8 points";
        assert!(report.to_string().contains(note), "{report}");
    }

    #[test]
    fn the_first_start_of_a_run_takes_back_nothing() {
        // tensorboardX writes a start only when it goes on, and its loaders ignore the first.
        let (rows, _) = exported(&[
            vec![version(), scalar("loss", 0, 0.5), scalar("loss", 5, 0.5)],
            vec![version(), start(3), scalar("other", 3, 0.5)],
        ]);
        assert_eq!(steps(&rows), ["0", "5", "3"]);
    }

    #[test]
    fn numbers_that_are_none_are_counted() {
        let file = [f32::NAN, 0.5, f32::INFINITY, f32::NAN].into_iter().zip(0..);
        let (rows, report) = exported(&[file.map(|(number, step)| scalar("loss", step, number)).collect()]);
        assert_eq!(rows, ["loss,0,100.0,NaN", "loss,1,101.0,0.5", "loss,2,102.0,inf", "loss,3,103.0,NaN"]);
        assert!(report.to_string().contains("  note: loss: of 4 values, 2 NaN and 1 infinite\n"), "{report}");
    }

    #[test]
    fn nothing_is_shown_behind_a_wall_time_that_is_no_number() {
        let at = |wall_time, step| Event { wall_time, ..scalar("loss", step, 0.5) };
        let (rows, report) = exported(&[
            vec![version(), at(1.0, 0), at(f64::INFINITY, 1), at(2.0, 2), at(f64::NAN, 3), at(4.0, 4)],
            vec![version(), at(5.0, 5)],
        ]);
        assert_eq!(steps(&rows), ["0", "2", "5"]);
        let file = &report.runs[0].files[0];
        assert_eq!((file.infinite_wall_times, file.nan_wall_time_at, file.records), (1, Some(155), 6));
        let text = report.to_string();
        assert!(text.contains("wall time NaN in the record at byte 155: TensorBoard reads no further"), "{text}");
        assert!(text.contains("1 event with an infinite wall time, not shown by TensorBoard"), "{text}");
    }

    #[test]
    fn only_numbers_have_rows() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("fit/train"), 0..3);
        write(&dir.path().join("fit/train"), 2..5);
        let mut table = Table::new(Vec::new(), Format::Jsonl);
        Report::export(dir.path(), &mut table).unwrap();
        let (bytes, rows, series) = table.finish().unwrap();
        assert_eq!((rows, series), (5, 1), "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn zeros_behind_the_last_record_have_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), 0..1);
        let mut bytes = fs::read(&path).unwrap();
        let whole = bytes.len();
        bytes.resize(whole + 4096, 0);
        fs::write(&path, &bytes).unwrap();
        let report = Report::of(&path).unwrap();
        let file = &report.runs[0].files[0];
        assert_eq!((file.damages[0].kind, file.unread_bytes, file.records), (DamageKind::Zeros, 4096, 4));
        let text = report.to_string();
        let damage =
            format!("damaged: nothing but zeros from byte {whole} to the end, as after a crash of the machine");
        assert!(text.contains(&damage) && text.contains(&format!("4096 of {} bytes unread", bytes.len())), "{text}");
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_is_told() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("a"), 0..1);
        let status = std::process::Command::new("mkfifo").arg(dir.path().join("a/tfevents.fifo")).status().unwrap();
        assert!(status.success());
        let report = Report::of(dir.path()).unwrap();
        assert_eq!((report.runs.len(), report.runs[0].files.len(), report.fault()), (1, 1, Some(Exit::NoInput)));
        let text = report.to_string();
        let line = format!(
            "\nleft out {}: it is a named pipe, want a regular file\n",
            dir.path().join("a/tfevents.fifo").display()
        );
        assert!(text.contains(&line) && text.ends_with("; 1 left out\n"), "{text}");
        let error = Report::of(&dir.path().join("a/tfevents.fifo")).unwrap_err();
        assert_eq!(error.exit(), Exit::NoInput);
        // Nor does what describes points of the Projector block.
        let config = dir.path().join("a/projector_config.pbtxt");
        assert!(std::process::Command::new("mkfifo").arg(config).status().unwrap().success());
        assert_eq!(Report::of(dir.path()).unwrap().runs, report.runs);
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_are_distinct_runs() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        for name in [&b"a\xff"[..], b"a\xfe"] {
            write(&dir.path().join(OsStr::from_bytes(name)), 0..1);
        }
        let report = Report::of(dir.path()).unwrap();
        assert_eq!(report.runs.iter().map(|run| &*run.name).collect::<Vec<_>>(), [r"a\xfe", r"a\xff"]);
        serde_json::to_string(&Report::of(&dir.path().join(OsStr::from_bytes(b"a\xff"))).unwrap()).unwrap();
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
              tag                   kind     points  shown  steps      size
              __run_graph__         graphs        2      2   0..2      52 B
              a text\nof two lines  text          6      5   0..4  12.0 KiB
              epoch_loss            scalars       6      5   0..4     234 B
              file events.out.tfevents.1700000000.host.7.0.v2: 6.3 KiB, 6 records, 2023-11-14 22:13:20Z to 2023-11-14 22:13:22Z, by trainer, start at step 0
              file events.out.tfevents.1700000001.host.7.0.v2: 6.3 KiB, 6 records, 2023-11-14 22:13:20Z to 2023-11-14 22:13:24Z, by trainer, start at step 2

            run fit/validation
              tag                   kind     points  shown  steps     size
              __run_graph__         graphs        1      1      0     26 B
              a text\nof two lines  text          1      1      0  2.0 KiB
              epoch_loss            scalars       1      1      0     39 B
              file events.out.tfevents.1700000000.host.7.0.v2: 2.2 KiB, 4 records, 2023-11-14 22:13:20Z to 2023-11-14 22:13:20Z, by trainer, start at step 0

            2 runs, 3 files, 16 records, 14.9 KiB; all checksums are right
        "#]].assert_eq(&report.to_string());
    }

    #[test]
    fn no_name_reaches_the_terminal_as_it_is() {
        let steering = ["\u{1b}", "\u{7}", "\u{9b}", "\r", "\u{202e}", "\u{2066}", "\u{200f}"];
        let dir = tempfile::tempdir().unwrap();
        for (number, mark) in steering.iter().enumerate() {
            let tag = format!("a{mark}[2J\nb{number}");
            let plugin_data = Some(PluginData { plugin_name: format!("p{mark}"), ..PluginData::default() });
            let metadata = Some(SummaryMetadata { plugin_data, ..SummaryMetadata::default() });
            let value = proto::summary::Value { tag, metadata, ..proto::summary::Value::default() };
            let mut bytes = record(&Event {
                what: Some(What::Summary(proto::Summary { value: vec![value] })),
                source_metadata: Some(proto::SourceMetadata { writer: format!("w{mark}") }),
                ..Event::default()
            });
            bytes.extend([7; 20]);
            let run = dir.path().join(format!("r{mark}\n{number}"));
            fs::create_dir(&run).unwrap();
            fs::write(run.join(format!("tfevents{mark}")), bytes).unwrap();
        }
        let report = Report::of(dir.path()).unwrap();
        let (text, json) = (report.to_string(), crate::terminal::safe_json(&serde_json::to_string(&report).unwrap()));
        for mark in steering {
            assert!(!text.contains(mark) && !json.contains(mark), "{mark:?}: {text:?} {json:?}");
        }
        assert!(text.contains("run r\\u{1b}\\n0\n") && text.contains("a\\u{202e}[2J\\nb4"), "{text}");
        assert!(text.contains("file tfevents\\u{7}: ") && text.contains(", by w\\u{2066}\n"), "{text}");
    }

    #[test]
    fn a_long_tag_neither_panics_nor_widens_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let values = [Value::scalar(Tag::new("x".repeat(70_000)).unwrap(), 0.5), Value::scalar(Tag::of("loss"), 0.5)];
        let time = WallTime::from_secs(0.0).unwrap();
        let mut file = Writer::create(dir.path(), &Origin::new("host", 7), 0, time, None).unwrap();
        file.write_values(time, Step::ZERO, &values).unwrap();
        file.close().unwrap();
        let report = Report::of(dir.path()).unwrap();
        assert!(report.to_string().lines().all(|line| line.chars().count() < 200), "{report}");
        assert_eq!(report.runs[0].tags[1].name.len(), 70_000);
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
              tag                   kind     points  shown  steps     size
              __run_graph__         graphs        1      1      0     26 B
              a text\nof two lines  text          1      1      1  2.0 KiB
              epoch_loss            scalars       1      1      1     39 B
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
                "unread_bytes": 2116,
                "nan_wall_time_at": null,
                "infinite_wall_times": 0,
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
        let origin = Origin::new("host", 7);
        for epoch in [0, 4] {
            snapshots::write(
                &crate::files::Dir::open(dir.path()).unwrap(),
                Step::new(epoch).unwrap(),
                &points,
                &origin,
                time,
            )
            .unwrap();
        }
        expect![[r#"
            run .
              tag    kind       points  shown  steps   size
              dense  projector       2      2   0..4  238 B
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
            let file = EventFile::of(String::new(), cut as u64, &bytes[..cut], &mut Contents::default());
            assert_eq!(file.damages, [], "cut at {cut}");
            assert_eq!(file.unread_bytes, file.truncated_at.map_or(0, |offset| cut as u64 - offset), "cut at {cut}");
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
