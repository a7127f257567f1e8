//! A directory of runs as TensorBoard's HParams finds it, whoever wrote them: settings, columns, and the scalars of runs
//! for which nobody named columns.
//!
//! TensorBoard takes its columns from one experiment alone, the first that it finds. Whoever writes one there beside
//! the runs of others has to name theirs, too: those of their experiments, and, for runs without, what TensorBoard itself
//! would make of them. What is read is bounded, in each file and in all, so that a start costs the same whatever lies there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use prost::Message;

use super::crc::MaskedCrc;
use super::event::EncodeError;
use super::file::MARK;
use super::hparams::{self, EXPERIMENT_TAG, Experiment, HparamInfo, MetricInfo, SESSION_TAG};
use super::plugin;
use super::proto::event::What;
use super::proto::hparam_info::Type;
use super::proto::hparam_value::Kind;
use super::proto::hparams_plugin_data::Data;
use super::proto::summary::value::Value as Wire;
use super::proto::{self, Event, HparamsPluginData};
use super::record::{FOOTER_LEN, HEADER_LEN};
use crate::files;
use crate::types::{Step, WallTime};

/// Directories below the one that is read.
const DEEPEST: usize = 8;
/// Entries of directories looked at in all.
const MOST_ENTRIES: usize = 20_000;
/// Bytes read of one file and of all, and records of one file: HParams stand at the beginning, and so does the first of
/// each scalar.
const FILE_BYTES: u64 = 64 << 10;
const ALL_BYTES: u64 = 16 << 20;
const FILE_RECORDS: usize = 1_000;
/// Levels above it on which TensorBoard may be started, and what is read there.
const LEVELS: usize = 2;
const NEAR_DEPTH: usize = 4;
const NEAR_ENTRIES: usize = 2_000;
const NEAR_BYTES: u64 = 1 << 20;
/// Columns of one kind, at most. TensorBoard draws each of them for each run.
const MOST_COLUMNS: usize = 500;
/// Columns that TensorBoard shows until it is asked for more.
const SHOWN_FIRST: usize = 5;

/// Runs of which the sweep's writer needs no more than one file.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The file with the settings, by which such a run is known.
    pub start: &'a str,
    /// The file with the columns, which is made of what is read here.
    pub experiment: &'a str,
    /// Names in such a run's directory that hold nothing of others.
    pub is_own: &'a dyn Fn(&OsStr) -> bool,
}

/// Knowledge of the runs at or below a directory.
#[derive(Debug, Default)]
pub struct Sweep {
    sessions: BTreeMap<PathBuf, Session>,
    /// With their directories.
    experiments: Vec<(PathBuf, proto::HparamsExperiment)>,
    /// Directories above that have one, which wins where TensorBoard is started there.
    above: BTreeSet<PathBuf>,
    /// Directories with scalars, and their tags, of all but known runs.
    scalars: BTreeMap<PathBuf, BTreeSet<String>>,
}

#[derive(Debug)]
struct Session {
    hparams: BTreeMap<String, proto::HparamValue>,
    is_known: bool,
}

/// Remaining bytes and files to read.
struct Budget {
    entries: usize,
    bytes: u64,
    seen: HashSet<(u64, u64)>,
}

impl Sweep {
    /// Reads what is at or below `root`, as far as it can be read. Links to directories are followed once.
    ///
    /// TensorBoard may be started above `root`, and finds the columns all the same: runs of others that lie near are among
    /// them, too.
    pub fn read(root: &Path, known: Known<'_>) -> Sweep {
        // Directories below and above it are compared by their paths.
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let mut sweep = Sweep::default();
        let mut budget = Budget { entries: MOST_ENTRIES, bytes: ALL_BYTES, seen: HashSet::new() };
        sweep.walk(vec![root.clone()], DEEPEST, known, &mut budget);
        let mut near = Sweep::default();
        budget = Budget { entries: NEAR_ENTRIES, bytes: NEAR_BYTES, ..budget };
        for above in root.ancestors().skip(1).take(LEVELS).take_while(|above| is_of_one_user(above)) {
            near.walk(vec![above.to_owned()], NEAR_DEPTH, known, &mut budget);
        }
        near.sessions.retain(|_, session| !session.is_known);
        sweep.above = near.above.into_iter().filter(|dir| root.starts_with(dir)).collect();
        // Ours takes the place of those above, whoever's runs they are for.
        let has_near = !near.sessions.is_empty();
        let wanted = near.experiments.into_iter().filter(|(dir, _)| has_near || sweep.above.contains(dir));
        sweep.experiments.extend(wanted);
        if has_near {
            sweep.sessions.extend(near.sessions);
            sweep.scalars.extend(near.scalars);
        }
        sweep
    }

    /// Reads directories in rows, so that what is near comes before the budget is used up.
    fn walk(&mut self, mut row: Vec<PathBuf>, depth: usize, known: Known<'_>, budget: &mut Budget) {
        for _ in 0..=depth {
            row = row.iter().flat_map(|dir| self.read_dir(dir, known, budget)).collect();
        }
    }

    /// Reads the files in `dir`, and gives the directories.
    fn read_dir(&mut self, dir: &Path, known: Known<'_>, budget: &mut Budget) -> Vec<PathBuf> {
        let is_new = fs::metadata(dir).is_ok_and(|found| budget.seen.insert((found.dev(), found.ino())));
        let (Ok(entries), true) = (fs::read_dir(dir), is_new) else { return Vec::new() };
        let (mut files, mut dirs) = (Vec::new(), Vec::new());
        for entry in entries.flatten() {
            let Some(left) = budget.entries.checked_sub(1) else { break };
            budget.entries = left;
            let Ok(mut kind) = entry.file_type() else { continue };
            if kind.is_symlink() {
                let Ok(target) = fs::metadata(entry.path()) else { continue };
                kind = target.file_type();
            }
            if kind.is_dir() {
                // Of tools that keep thousands of files.
                let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                dirs.extend((!is_hidden).then(|| entry.path()));
            } else if kind.is_file() && entry.file_name().to_string_lossy().contains(MARK) {
                files.push(entry.path());
            }
        }
        let is_known = files.iter().any(|path| path.ends_with(known.start));
        if is_known {
            files.retain(|path| path.ends_with(known.start));
            dirs.retain(|path| !path.file_name().is_some_and(known.is_own));
        }
        files.sort();
        dirs.sort();
        for path in files.iter().filter(|path| !path.ends_with(known.experiment)) {
            self.read_file(dir, path, is_known, budget);
        }
        dirs
    }

    fn read_file(&mut self, dir: &Path, path: &Path, is_known: bool, budget: &mut Budget) {
        let Ok(file) = files::open(path) else { return };
        let mut input = BufReader::new(file);
        let mut left = FILE_BYTES.min(budget.bytes);
        let before = left;
        for _ in 0..FILE_RECORDS {
            match next_event(&mut input, &mut left) {
                None => break,
                Some(None) => {}
                Some(Some(event)) => self.take(dir, event, is_known),
            }
        }
        budget.bytes -= before - left;
    }

    fn take(&mut self, dir: &Path, event: Event, is_known: bool) {
        let Some(What::Summary(summary)) = event.what else { return };
        for value in summary.value {
            let data = value.metadata.and_then(|metadata| metadata.plugin_data);
            match data {
                Some(data) if data.plugin_name == plugin::HPARAMS => {
                    self.take_hparams(dir, &value.tag, &data.content, is_known);
                }
                Some(data) if data.plugin_name != plugin::SCALARS => {}
                Some(_) => self.take_scalar(dir, value.tag),
                None if matches!(value.value, Some(Wire::SimpleValue(_))) => self.take_scalar(dir, value.tag),
                None => {}
            }
        }
    }

    fn take_hparams(&mut self, dir: &Path, tag: &str, content: &[u8], is_known: bool) {
        match HparamsPluginData::decode(content).ok().and_then(|data| data.data) {
            Some(Data::Experiment(experiment)) if tag == EXPERIMENT_TAG => {
                self.experiments.push((dir.to_owned(), experiment));
                self.above.insert(dir.to_owned());
            }
            Some(Data::SessionStartInfo(info)) if tag == SESSION_TAG => {
                let hparams = info.hparams.into_iter().collect();
                // As TensorBoard, which believes the first.
                self.sessions.entry(dir.to_owned()).or_insert(Session { hparams, is_known });
            }
            _ => {}
        }
    }

    fn take_scalar(&mut self, dir: &Path, tag: String) {
        let tags = self.scalars.entry(dir.to_owned()).or_default();
        if tags.len() < MOST_COLUMNS {
            tags.insert(tag);
        }
    }

    /// Directories above the one that was read in which others named columns: ours have to stand there, too.
    pub fn above(&self) -> impl Iterator<Item = &Path> {
        self.above.iter().map(PathBuf::as_path)
    }

    /// The content of an event file with the columns of all runs: `own` in any case, of `more` those in which known runs
    /// differ, then those of others.
    pub fn event_file(&self, own: &Experiment, more: &[HparamInfo], now: WallTime) -> Result<Vec<u8>, EncodeError> {
        hparams::event_file(EXPERIMENT_TAG, Data::Experiment(self.experiment(own, more)), now, Step::ZERO)
    }

    fn experiment(&self, own: &Experiment, more: &[HparamInfo]) -> proto::HparamsExperiment {
        let mut columns: Vec<proto::HparamInfo> = Vec::new();
        for info in own.hparams.iter().map(HparamInfo::to_wire) {
            add(&mut columns, info);
        }
        let differs = |name: &str| self.differs(name, own.hparams.iter().any(|info| info.name == name));
        for info in more.iter().filter(|info| differs(&info.name)) {
            add(&mut columns, info.to_wire());
        }
        for info in self.experiments.iter().flat_map(|(_, experiment)| &experiment.hparam_infos) {
            add(&mut columns, info.clone());
        }
        for session in self.sessions.values().filter(|session| !session.is_known) {
            for (name, value) in &session.hparams {
                if let Some(info) = inferred(name, value) {
                    add(&mut columns, info);
                }
            }
        }
        let mut shown = 0;
        for column in &mut columns {
            column.differs = differs(&column.name);
            shown += usize::from(column.differs);
        }
        // If few differ yet, columns that usually come to differ are added.
        for column in columns.iter_mut().take(own.hparams.len()).filter(|column| !column.differs) {
            column.differs = shown < SHOWN_FIRST;
            shown += 1;
        }
        let mut metrics: Vec<proto::MetricInfo> = own.metrics.iter().map(MetricInfo::to_wire).collect();
        let named = self.experiments.iter().flat_map(|(_, experiment)| experiment.metric_infos.iter().cloned());
        for metric in named.chain(self.inferred_metrics()) {
            if metrics.len() < MOST_COLUMNS && metrics.iter().all(|known| known.name != metric.name) {
                metrics.push(metric);
            }
        }
        proto::HparamsExperiment {
            description: own.description.clone(),
            hparam_infos: columns,
            metric_infos: metrics,
            ..Default::default()
        }
    }

    /// True if runs have different values of a setting; `always`: known runs that lack it have another one.
    fn differs(&self, name: &str, always: bool) -> bool {
        let of = |session: &Session| session.hparams.get(name).and_then(|value| value.kind.clone());
        let sessions = self.sessions.values().filter(|session| of(session).is_some() || (always && session.is_known));
        let mut values = sessions.map(of);
        values.next().is_some_and(|first| values.any(|value| value != first))
    }

    /// The scalars of runs that no experiment speaks for, as TensorBoard takes them where there is none.
    fn inferred_metrics(&self) -> impl Iterator<Item = proto::MetricInfo> {
        // Those of other sweeps may have columns of the same names.
        let has_spoken = |dir: &Path, session: &Session| {
            let names = |experiment: &proto::HparamsExperiment, name: &String| {
                experiment.hparam_infos.iter().any(|info| info.name == *name)
            };
            let mut above = self.experiments.iter().filter(|(of, _)| dir.starts_with(of));
            above.any(|(_, experiment)| session.hparams.keys().all(|name| names(experiment, name)))
        };
        let is_left = |dir: &Path, session: &Session| !session.is_known && !has_spoken(dir, session);
        let mut found = BTreeSet::new();
        for (dir, tags) in &self.scalars {
            let nearest = dir.ancestors().find_map(|above| self.sessions.get_key_value(above));
            let Some((session, _)) = nearest.filter(|(dir, session)| is_left(dir, session)) else { continue };
            let group = dir.strip_prefix(session).unwrap_or(dir).to_string_lossy();
            found.extend(tags.iter().map(|tag| (group.clone().into_owned(), tag.clone())));
        }
        found.into_iter().map(|(group, tag)| proto::MetricInfo {
            name: Some(proto::MetricName { group, tag }),
            ..Default::default()
        })
    }
}

/// Adds a column, or widens the one of that name to what both allow.
fn add(columns: &mut Vec<proto::HparamInfo>, info: proto::HparamInfo) {
    let is_full = columns.len() >= MOST_COLUMNS;
    match columns.iter_mut().find(|column| column.name == info.name) {
        None if is_full => {}
        None => columns.push(info),
        Some(column) => {
            if column.r#type != info.r#type {
                column.r#type = Type::String.into();
            }
            if column.domain != info.domain {
                column.domain = None;
            }
        }
    }
}

/// TensorBoard's column for a value without a declared one.
fn inferred(name: &str, value: &proto::HparamValue) -> Option<proto::HparamInfo> {
    let kind = match value.kind.as_ref()? {
        Kind::NumberValue(_) => Type::Float64,
        Kind::StringValue(_) => Type::String,
        Kind::BoolValue(_) => Type::Bool,
        Kind::NullValue(_) => return None,
    };
    Some(proto::HparamInfo { name: name.to_owned(), r#type: kind.into(), ..Default::default() })
}

/// The next event, of which `left` bytes may be read: `Some(None)` for one that is passed over, none at the end.
fn next_event(input: &mut BufReader<File>, left: &mut u64) -> Option<Option<Event>> {
    let mut header = [0; HEADER_LEN];
    *left = left.checked_sub(HEADER_LEN as u64)?;
    input.read_exact(&mut header).ok()?;
    let [length @ .., c0, c1, c2, c3] = header;
    if MaskedCrc::of(&length) != MaskedCrc::from_le_bytes([c0, c1, c2, c3]) {
        return None;
    }
    let length = u64::from_le_bytes(length);
    if length > *left {
        // A graph or a picture before what is looked for.
        let past = i64::try_from(length.checked_add(FOOTER_LEN as u64)?).ok()?;
        input.seek_relative(past).ok()?;
        return Some(None);
    }
    *left -= length;
    let mut payload = vec![0; usize::try_from(length).ok()?];
    input.read_exact(&mut payload).ok()?;
    input.seek_relative(FOOTER_LEN as i64).ok()?;
    Some(Event::decode(payload.as_slice()).ok())
}

/// True if a directory above may be one of runs: not one that anybody puts things into, such as `/tmp`, nor the root.
fn is_of_one_user(dir: &Path) -> bool {
    dir.parent().is_some() && fs::metadata(dir).is_ok_and(|found| found.mode() & 0o002 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventlog::event;
    use crate::eventlog::hparams::{Hparam, HparamKind, MetricOf, SessionStart};
    use crate::eventlog::record::{self, TooLong};
    use crate::eventlog::summary::Value;
    use crate::eventlog::tally::Tally;
    use crate::types::Tag;

    const START: &str = "events.out.tfevents.0.start";
    const COLUMNS: &str = "events.out.tfevents.0.columns";

    fn write(path: &Path, content: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn session(hparams: &[(&str, Hparam)]) -> Vec<u8> {
        let hparams = hparams.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        SessionStart { hparams, group: String::new(), time: WallTime::default() }.event_file().unwrap()
    }

    fn scalars(tags: &[&str]) -> Vec<u8> {
        let values: Vec<Value> = tags.iter().map(|tag| Value::scalar(Tag::of(tag), 0.5)).collect();
        let mut bytes = Vec::new();
        event::append_values(&mut bytes, WallTime::default(), Step::ZERO, &values, &mut Tally::default()).unwrap();
        bytes
    }

    fn metric(group: &str, tag: &str) -> MetricInfo {
        let (group, tag) = (group.to_owned(), tag.to_owned());
        MetricInfo { group, tag, display_name: String::new(), description: String::new(), of: MetricOf::Validation }
    }

    fn own() -> Experiment {
        let column = |name: &str| HparamInfo::new(name, HparamKind::Number, "");
        Experiment {
            description: "ours".to_owned(),
            hparams: ["lr", "batch", "epochs", "limit"].map(column).to_vec(),
            metrics: vec![metric("validation", "epoch_loss")],
        }
    }

    /// Names of columns, those that differ in capitals, and metrics.
    fn columns(root: &Path) -> (Vec<String>, Vec<String>) {
        let known = Known { start: START, experiment: COLUMNS, is_own: &|name| name == "train" };
        let more = [HparamInfo::new("probes", HparamKind::Number, "")];
        let experiment = Sweep::read(root, known).experiment(&own(), &more);
        let name = |info: &proto::HparamInfo| if info.differs { info.name.to_uppercase() } else { info.name.clone() };
        let metric = |info: &proto::MetricInfo| {
            let name = info.name.clone().unwrap();
            format!("{}:{}", name.group, name.tag)
        };
        (experiment.hparam_infos.iter().map(name).collect(), experiment.metric_infos.iter().map(metric).collect())
    }

    #[test]
    fn settings_that_differ_are_shown_first() {
        let dir = tempfile::tempdir().unwrap();
        let run = |name: &str, hparams: &[(&str, Hparam)]| write(&dir.path().join(name).join(START), &session(hparams));
        let numbers = |values: [f64; 3], probes: f64| {
            let names = ["lr", "batch", "epochs", "probes"].into_iter().zip(values.into_iter().chain([probes]));
            names.map(|(name, value)| (name, Hparam::Number(value))).collect::<Vec<_>>()
        };
        run("a", &numbers([0.1, 64.0, 5.0], 10.0));
        assert_eq!(columns(dir.path()).0, ["LR", "BATCH", "EPOCHS", "LIMIT"], "nothing differs: what usually does");
        run("b", &[numbers([0.1, 64.0, 2.0], 10.0), vec![("limit", Hparam::Number(9.0))]].concat());
        run("c", &numbers([0.2, 64.0, 2.0], 3.0));
        assert_eq!(
            columns(dir.path()).0,
            ["LR", "BATCH", "EPOCHS", "LIMIT", "PROBES"],
            "four differ, and one beside them"
        );
        for (number, name) in ["other0", "other1", "other2"].iter().enumerate() {
            run(
                name,
                &[
                    ("x", Hparam::Number(number as f64)),
                    ("y", Hparam::Bool(number == 1)),
                    ("probes", Hparam::Number(1.0)),
                ],
            );
        }
        assert_eq!(columns(dir.path()).0[..5], ["LR", "BATCH", "EPOCHS", "LIMIT", "PROBES"].map(str::to_owned));
    }

    #[test]
    fn columns_of_others_are_there_with_or_without_an_experiment_of_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = |name: &str| dir.path().join(name);
        write(&dir.path().join("fit").join(START), &session(&[("lr", Hparam::Number(0.1))]));
        // Settings alone: all scalars of the run and of those below it are metrics.
        write(
            &theirs("a/b/keras0/x.tfevents.1"),
            &session(&[("units", Hparam::Number(16.0)), ("opt", Hparam::Text("s".to_owned()))]),
        );
        write(&theirs("a/b/keras0/validation/x.tfevents.1"), &[scalars(&["f1"]), vec![0; 7]].concat());
        write(
            &theirs("a/b/keras1/x.tfevents.1"),
            &[session(&[("units", Hparam::Number(32.0))]), scalars(&["top"])].concat(),
        );
        // With an experiment: what it names, and no other scalar.
        let named = Experiment {
            description: String::new(),
            hparams: vec![HparamInfo::new("width", HparamKind::Text, "of theirs")],
            metrics: vec![metric("", "score")],
        };
        let mut torch = named.event_file(WallTime::default()).unwrap();
        torch.extend(session(&[("width", Hparam::Text("w".to_owned()))]));
        torch.extend(scalars(&["score", "noise"]));
        write(&theirs("torch/1.5/x.tfevents.1"), &torch);
        // Of another sweep, with a column of the same name.
        let other =
            Experiment { hparams: vec![HparamInfo::new("units", HparamKind::Number, "")], ..Experiment::default() };
        let other_columns = other.event_file(WallTime::default()).unwrap();
        write(&theirs("other/x.tfevents.1"), &other_columns);
        // Neither ours nor of a session.
        write(&theirs("plain/x.tfevents.1"), &scalars(&["loss"]));
        write(&dir.path().join(COLUMNS), b"old");
        write(&theirs("fit/train/x.tfevents.1"), &scalars(&["of ours"]));
        let (hparams, metrics) = columns(dir.path());
        assert_eq!(hparams, ["LR", "BATCH", "EPOCHS", "LIMIT", "UNITS", "width", "opt"]);
        assert_eq!(metrics, ["validation:epoch_loss", ":score", ":top", "validation:f1"]);
    }

    #[test]
    fn a_name_of_two_kinds_is_a_text() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("a/x.tfevents.1"), &session(&[("lr", Hparam::Text("auto".to_owned()))]));
        let known = Known { start: START, experiment: COLUMNS, is_own: &|_| false };
        let wire = Sweep::read(dir.path(), known).experiment(&own(), &[]);
        assert_eq!((wire.hparam_infos[0].name.as_str(), wire.hparam_infos[0].r#type()), ("lr", Type::String));
    }

    #[test]
    fn what_is_damaged_or_large_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let whole = session(&[("x", Hparam::Number(1.0))]);
        let mut record = Vec::new();
        let large = |buffer: &mut Vec<u8>| {
            buffer.resize(buffer.len() + (1 << 20), 7);
            Ok::<(), TooLong>(())
        };
        record::append(&mut record, large).unwrap();
        write(&dir.path().join("large/x.tfevents.1"), &[record, whole.clone()].concat());
        for (name, content) in
            [("cut", &whole[..whole.len() - 9]), ("zeros", &[0; 4096]), ("text", b"what is this, please?")]
        {
            write(&dir.path().join(name).join("x.tfevents.1"), content);
        }
        let (hparams, _) = columns(dir.path());
        assert_eq!(hparams[4..], ["x".to_owned()]);
    }

    #[test]
    fn runs_of_others_above_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        write(&root.join("fit").join(START), &session(&[("lr", Hparam::Number(0.1))]));
        write(&dir.path().join("known").join(START), &session(&[("lr", Hparam::Number(0.2))]));
        assert_eq!(columns(&root).0, ["LR", "BATCH", "EPOCHS", "LIMIT"]);
        write(
            &dir.path().join("keras/x.tfevents.1"),
            &[session(&[("units", Hparam::Number(1.0))]), scalars(&["f1"])].concat(),
        );
        let (hparams, metrics) = columns(&root);
        assert_eq!(hparams, ["LR", "BATCH", "EPOCHS", "LIMIT", "units"]);
        assert_eq!(metrics, ["validation:epoch_loss", ":f1"]);
        assert_eq!(columns(&root.join("fit")).0[4..], [] as [&str; 0], "too far above");
    }
}
