//! The run as a session of TensorBoard's HParams: with what it is trained, how it ends, and the columns of the table that
//! it shares with its siblings.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::{Knob, Resolved};
use crate::durable;
use crate::eventlog::event::EncodeError;
use crate::eventlog::hparams::{Experiment, Hparam, HparamInfo, HparamKind, MetricInfo, MetricOf};
use crate::eventlog::hparams::{SessionEnd, SessionStart, Status};
use crate::files;
use crate::optim::Rule;
use crate::run_dir::{self, RunDir, RunDirError};
use crate::types::{Run, WallTime};

/// The event file in the directory above the run that names the columns.
const EXPERIMENT: &str = "events.out.tfevents.0000000000.hparams.v2";

/// Knobs that are columns. TensorBoard shows five at first, of those that differ; which do is not known to one run, so the
/// ones most often varied come first.
const COLUMNS: [(&str, HparamKind); 14] = [
    ("learning-rate", HparamKind::Number),
    ("batch-size", HparamKind::Number),
    ("optimizer", HparamKind::Text),
    ("conv-filters", HparamKind::Text),
    ("dense-units", HparamKind::Number),
    ("weight-decay", HparamKind::Number),
    ("momentum", HparamKind::Number),
    ("epochs", HparamKind::Number),
    ("seed", HparamKind::Number),
    ("kernel-size", HparamKind::Number),
    ("dataset", HparamKind::Text),
    ("precision", HparamKind::Text),
    ("limit-train", HparamKind::Number),
    ("limit-validation", HparamKind::Number),
];
const SHOWN_FIRST: usize = 5;

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
pub struct Session<'a> {
    dir: &'a RunDir,
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

impl Session<'_> {
    /// Says with what the run is trained, and, in the directory above it, which columns there are.
    pub fn begin<'a>(dir: &'a RunDir, resolved: &Resolved, now: WallTime) -> Session<'a> {
        let mut session = Session { dir, bytes: 0 };
        let start = SessionStart { hparams: hparams(resolved), group: String::new(), time: now };
        session.tell(|| {
            let bytes = start.event_file()?;
            dir.write_session_start(&bytes)?;
            Ok(bytes.len())
        });
        if let Some(parent) = run_dir::parent(dir.path()) {
            // The columns are not the run's own: whichever run comes first writes them.
            session.tell(|| write_experiment(parent).map(|()| 0));
        }
        session
    }

    /// Says how the run ended. Not for one that was stopped: it may go on.
    pub fn end(&mut self, status: Status, now: WallTime) {
        let dir = self.dir;
        self.tell(|| {
            let bytes = SessionEnd { status, time: now }.event_file()?;
            dir.write_session_end(&bytes)?;
            Ok(bytes.len())
        });
    }

    /// Bytes written so far into the run's own directory.
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
        let Some((_, kind)) = COLUMNS.iter().find(|(key, _)| *key == knob.key) else { continue };
        let value = match (*kind, knob.key) {
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

fn experiment() -> Experiment {
    let column = |(index, &(key, kind)): (usize, &(&str, HparamKind))| {
        let help = Knob::find(key).map_or("", |knob| knob.help);
        let differs = index < SHOWN_FIRST;
        HparamInfo { differs, ..HparamInfo::new(key, kind, help.lines().next().unwrap_or_default()) }
    };
    let metric = |(run, tag, name, of): (Run, &str, &str, MetricOf)| MetricInfo {
        group: run.dir().to_owned(),
        tag: tag.to_owned(),
        display_name: name.to_owned(),
        description: String::new(),
        of,
    };
    Experiment {
        description: "Runs of trainer, by their settings.".to_owned(),
        hparams: COLUMNS.iter().enumerate().map(column).collect(),
        metrics: METRICS.map(metric).to_vec(),
    }
}

/// Says which columns there are, unless `parent` says so already. The bytes depend on nothing but the program, so runs
/// that do it at the same time do the same.
fn write_experiment(parent: &Path) -> Result<(), SessionError> {
    let path = parent.join(EXPERIMENT);
    let bytes = experiment().event_file(WallTime::default())?;
    if files::read(&path, bytes.len() as u64).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    Ok(durable::write(&path, &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::types::Step;

    fn resolved(flags: &[(&str, &str)]) -> Resolved {
        let mut layers = Layers::new();
        for (key, value) in flags {
            layers.command_line(Knob::find(key).unwrap(), (*value).to_owned());
        }
        layers.resolve().unwrap()
    }

    #[test]
    fn every_column_is_a_knob() {
        for (key, _) in COLUMNS {
            assert!(Knob::find(key).is_some(), "{key}");
        }
    }

    #[test]
    fn numbers_are_numbers_and_what_is_not_set_is_left_out() {
        let values = hparams(&resolved(&[("optimizer", "adamw"), ("limit-train", "512"), ("conv-filters", "8")]));
        assert_eq!(values["learning-rate"], Hparam::Number(0.001));
        assert_eq!(values["weight-decay"], Hparam::Number(0.01));
        assert_eq!(values["limit-train"], Hparam::Number(512.0));
        assert_eq!(values["conv-filters"], Hparam::Text("8".to_owned()));
        assert_eq!(values["optimizer"], Hparam::Text("adamw".to_owned()));
        assert!(!values.contains_key("limit-validation") && !values.contains_key("threads"));
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
        session.end(Status::Failure, now);
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
            again.end(Status::Success, now);
            assert_eq!(again.bytes(), written, "the columns are nobody's");
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
}
