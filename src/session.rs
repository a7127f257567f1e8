//! The run as a session of TensorBoard's HParams: its settings, its outcome, and the columns of the table that it shares
//! with all runs beside it, whoever wrote them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::{Column, KNOBS, Knob, Resolved};
use crate::durable;
use crate::eventlog::event::EncodeError;
use crate::eventlog::hparams::{Experiment, Hparam, HparamInfo, HparamKind, MetricInfo, MetricOf};
use crate::eventlog::hparams::{SessionEnd, SessionStart, Status};
use crate::eventlog::sweep::{Known, Sweep};
use crate::files;
use crate::optim::Rule;
use crate::run_dir::{self, EXPERIMENT, RunDir, RunDirError, SESSION_START};
use crate::types::{Run, Step, WallTime};

/// Times that columns are written anew because a run came while they were.
const TRIES: usize = 3;

/// Scalars that are columns.
const METRICS: [(Run, &str, &str, MetricOf); 5] = [
    (Run::Validation, "best/val_accuracy", "best validation accuracy", MetricOf::Validation),
    (Run::Validation, "epoch_accuracy", "validation accuracy", MetricOf::Validation),
    (Run::Validation, "epoch_loss", "validation loss", MetricOf::Validation),
    (Run::Train, "epoch_accuracy", "training accuracy", MetricOf::Training),
    (Run::Train, "epoch_loss", "training loss", MetricOf::Training),
];

/// A run that TensorBoard knows as a session. A file of it that cannot be written costs the run nothing but its row.
#[derive(Debug)]
pub struct Session {
    bytes: u64,
}

/// Why TensorBoard does not learn of a session.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Dir(#[from] RunDirError),
    #[error(transparent)]
    Write(#[from] durable::WriteError),
}

impl Session {
    /// Says with what the run is trained since `started`, and, in the directory above it, which columns there are.
    pub fn begin(dir: &RunDir, resolved: &Resolved, started: WallTime) -> Session {
        let mut session = Session { bytes: 0 };
        let start = SessionStart { hparams: hparams(resolved), group: String::new(), time: started };
        session.tell(|| {
            let bytes = start.event_file()?;
            dir.write_session_start(&bytes)?;
            Ok(bytes.len())
        });
        session.name_columns(dir);
        session
    }

    /// Says how the run ended, after its last step. Not for one that was stopped: it may go on.
    pub fn end(&mut self, dir: &RunDir, status: Status, now: WallTime, step: Step) {
        self.tell(|| {
            let bytes = SessionEnd { status, time: now, step }.event_file()?;
            dir.write_session_end(&bytes)?;
            Ok(bytes.len())
        });
        // Others may have begun meanwhile.
        self.name_columns(dir);
    }

    fn name_columns(&mut self, dir: &RunDir) {
        if let Some(parent) = run_dir::parent(dir.path()) {
            self.tell(|| write_experiment(parent));
        }
    }

    /// Bytes written so far in the run's own directory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn tell(&mut self, write: impl FnOnce() -> Result<usize, SessionError>) {
        match write() {
            Ok(bytes) => self.bytes += bytes as u64,
            Err(error) => tracing::warn!("{error}; TensorBoard's HParams may not show this run as it is"),
        }
    }
}

/// What the run is trained with. A limit that is not set is no number, and left out.
fn hparams(resolved: &Resolved) -> BTreeMap<String, Hparam> {
    let mut hparams = BTreeMap::new();
    for (knob, text, _) in resolved.values() {
        if knob.column == Column::Never {
            continue;
        }
        let value = match (kind(knob), knob.key) {
            (HparamKind::Number, "weight-decay") => Some(Hparam::Number(weight_decay(&resolved.config.rule()))),
            (HparamKind::Number, _) => text.parse().ok().map(Hparam::Number),
            (HparamKind::Bool, _) => text.parse().ok().map(Hparam::Bool),
            (HparamKind::Text, _) => Some(Hparam::Text(text.to_owned())),
        };
        hparams.extend(value.map(|value| (knob.key.to_owned(), value)));
    }
    hparams
}

fn weight_decay(rule: &Rule) -> f64 {
    match *rule {
        Rule::Adam { weight_decay } | Rule::AdamW { weight_decay } | Rule::Sgd { weight_decay, .. } => weight_decay,
    }
}

/// The kind of a knob's values in HParams. A column that is only there where runs differ holds texts, also for numbers:
/// the runs that are already on disk have it so.
fn kind(knob: &Knob) -> HparamKind {
    let is_number = matches!(knob.column, Column::Shown(_)) && knob.domain.is_number();
    if is_number { HparamKind::Number } else { HparamKind::Text }
}

fn column(knob: &Knob) -> HparamInfo {
    HparamInfo::new(knob.key, kind(knob), knob.help.lines().next().unwrap_or_default())
}

/// The columns that are there in any case.
fn shown_columns() -> Vec<HparamInfo> {
    let rank = |knob: &'static Knob| match knob.column {
        Column::Shown(rank) => Some((rank, knob)),
        Column::IfDifferent | Column::Never => None,
    };
    let mut shown: Vec<(u8, &Knob)> = KNOBS.iter().filter_map(rank).collect();
    shown.sort_by_key(|(rank, _)| *rank);
    shown.into_iter().map(|(_, knob)| column(knob)).collect()
}

/// The columns of knobs that are only there where runs differ.
fn more_columns() -> Vec<HparamInfo> {
    KNOBS.iter().filter(|knob| knob.column == Column::IfDifferent).map(column).collect()
}

fn experiment() -> Experiment {
    let metric = |(run, tag, name, of): (Run, &str, &str, MetricOf)| MetricInfo {
        group: run.dir().to_owned(),
        tag: tag.to_owned(),
        display_name: name.to_owned(),
        description: String::new(),
        of,
    };
    Experiment {
        description: "Runs of trainer, by their settings.".to_owned(),
        hparams: shown_columns(),
        metrics: METRICS.map(metric).to_vec(),
    }
}

/// Says in `parent` which columns the runs have that lie there, or where TensorBoard may be started above it, unless it says
/// so already; and where others name columns above it. The bytes depend on those runs alone. Of several processes that do
/// it at a time the last one to write looks once more, and finds what the others found.
fn write_experiment(parent: &Path) -> Result<usize, SessionError> {
    let known = Known { start: SESSION_START, experiment: EXPERIMENT, is_own: &run_dir::is_own };
    for _ in 0..TRIES {
        let sweep = Sweep::read(parent, known);
        let bytes = sweep.event_file(&experiment(), &more_columns(), WallTime::default())?;
        let mut is_new = replace(&parent.join(EXPERIMENT), &bytes)?;
        for dir in sweep.above() {
            match replace(&dir.join(EXPERIMENT), &bytes) {
                Ok(is_other) => is_new |= is_other,
                // Somebody else's directory: TensorBoard shows their columns alone where it is started there.
                Err(error) => tracing::debug!("HParams' columns: {error}"),
            }
        }
        if !is_new {
            break;
        }
    }
    Ok(0)
}

/// Gives a file this content, and says whether it had another one.
fn replace(path: &Path, bytes: &[u8]) -> Result<bool, durable::WriteError> {
    let is_there = files::read(path, bytes.len() as u64).is_ok_and(|found| found == bytes);
    if !is_there {
        durable::write(path, bytes)?;
    }
    Ok(!is_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn resolved(flags: &[(&str, &str)]) -> Resolved {
        let mut layers = Layers::new();
        for (key, value) in flags {
            layers.command_line(Knob::find(key).unwrap(), (*value).to_owned());
        }
        layers.resolve().unwrap()
    }

    #[test]
    fn the_first_columns_are_what_runs_differ_in_most_often() {
        let names: Vec<String> = shown_columns().into_iter().map(|info| info.name).collect();
        assert_eq!(names.len(), 14);
        assert_eq!(names[..5], ["learning-rate", "batch-size", "optimizer", "conv-filters", "dense-units"]);
        assert_eq!(names[13], "limit-validation");
    }

    #[test]
    fn numbers_are_numbers_and_what_is_not_set_is_left_out() {
        let values = hparams(&resolved(&[("optimizer", "adamw"), ("limit-train", "512"), ("conv-filters", "8")]));
        assert_eq!(values["learning-rate"], Hparam::Number(0.001));
        assert_eq!(values["weight-decay"], Hparam::Number(0.01));
        assert_eq!(values["limit-train"], Hparam::Number(512.0));
        assert_eq!(values["conv-filters"], Hparam::Text("8".to_owned()));
        assert_eq!(values["optimizer"], Hparam::Text("adamw".to_owned()));
        assert!(!values.contains_key("limit-validation") && !values.contains_key("logdir"));
        assert_eq!(values["probes"], Hparam::Text("10".to_owned()));
    }

    #[test]
    fn a_session_leaves_a_file_at_its_start_one_at_its_end_and_one_above() {
        let dir = tempfile::tempdir().unwrap();
        let (parent, logdir) = (dir.path(), dir.path().join("lr=1"));
        let now = WallTime::default();
        let files = |dir: &Path| -> Vec<String> {
            let found = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
            let mut names: Vec<String> = found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.retain(|name| name.contains("tfevents"));
            names.sort();
            names
        };
        let run = RunDir::open(&logdir).unwrap();
        let mut session = Session::begin(&run, &resolved(&[]), now);
        assert_eq!((files(&logdir).len(), files(parent)), (1, vec![EXPERIMENT.to_owned()]));
        session.end(&run, Status::Failure, now, Step::ZERO);
        assert_eq!(files(&logdir).len(), 2);
        let written = session.bytes();
        let sizes = std::fs::read_dir(&logdir).unwrap().map(|entry| entry.unwrap());
        let sizes = sizes.filter(|entry| entry.file_name().to_string_lossy().contains("tfevents"));
        assert_eq!(written, sizes.map(|entry| entry.metadata().unwrap().len()).sum::<u64>());
        drop(run);
        for fresh in [false, true] {
            let run = RunDir::open(&logdir).unwrap();
            if fresh { run.clear() } else { run.go_on_at(Step::ZERO) }.unwrap();
            assert!(!run.has_events(), "a session alone is no unfinished run");
            assert_eq!(files(&logdir).len(), usize::from(!fresh), "the end is void, with --fresh the start, too");
            let mut again = Session::begin(&run, &resolved(&[]), now);
            again.end(&run, Status::Success, now, Step::ZERO);
            assert_eq!(again.bytes(), written, "without those of the columns, which all runs share");
        }
        // Another version's columns are replaced.
        std::fs::write(parent.join(EXPERIMENT), "old").unwrap();
        write_experiment(parent).unwrap();
        assert_ne!(std::fs::read(parent.join(EXPERIMENT)).unwrap(), b"old");
    }

    #[test]
    fn a_parent_that_cannot_be_written_costs_nothing_but_the_columns() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(EXPERIMENT).join("in the way")).unwrap();
        let run = RunDir::open(&dir.path().join("fit")).unwrap();
        let session = Session::begin(&run, &resolved(&[]), WallTime::default());
        assert!(session.bytes() > 0);
    }

    /// The columns that a directory's experiment names, those that are shown first in capitals.
    fn columns(parent: &Path) -> Vec<String> {
        use crate::eventlog::EventReader;
        use crate::eventlog::proto::event::What;
        use crate::eventlog::proto::hparams_plugin_data::Data;
        use prost::Message as _;
        let bytes = std::fs::read(parent.join(EXPERIMENT)).unwrap();
        let mut columns = Vec::new();
        for (_, event) in EventReader::new(bytes.as_slice()) {
            let Some(What::Summary(summary)) = event.unwrap().what else { continue };
            let content = &summary.value[0].metadata.as_ref().unwrap().plugin_data.as_ref().unwrap().content;
            let data = crate::eventlog::proto::HparamsPluginData::decode(content.as_slice()).unwrap().data;
            let Some(Data::Experiment(experiment)) = data else { panic!("{data:?}") };
            let name = |info: &crate::eventlog::proto::HparamInfo| {
                if info.differs { info.name.to_uppercase() } else { info.name.clone() }
            };
            columns.extend(experiment.hparam_infos.iter().map(name));
        }
        columns
    }

    #[test]
    fn whatever_differs_between_runs_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let runs: [&[(&str, &str)]; 3] =
            [&[("epochs", "1")], &[("limit-train", "9")], &[("epochs", "2"), ("image-freq", "0"), ("on-nan", "skip")]];
        for (number, flags) in runs.into_iter().enumerate() {
            let run = RunDir::open(&dir.path().join(number.to_string())).unwrap();
            let _ = Session::begin(&run, &resolved(flags), WallTime::default());
        }
        let shown: Vec<String> = columns(dir.path()).into_iter().filter(|name| *name == name.to_uppercase()).collect();
        assert_eq!(shown, ["LEARNING-RATE", "EPOCHS", "LIMIT-TRAIN", "IMAGE-FREQ", "ON-NAN"]);
    }
}
