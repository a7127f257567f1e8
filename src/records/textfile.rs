//! Metrics of a run for Prometheus: a file in its text format, for the textfile collector of node_exporter.
//!
//! Exposition format 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>. A failed run keeps the
//! time of the last success from the earlier file, so an alert on its age works regardless of single runs.
//!
//! The collector reads all files of a directory together and drops a series that occurs in two of them. Each series
//! therefore has a label with the file's name, which is unique and the same every night:
//! `schedule="trainer"` for `trainer.prom`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::durable::{self, WriteError};
use crate::exit::{Classify, Exit};
use crate::files::{self, Dir};
use crate::types::WallTime;

/// Maximum number of bytes read from an earlier file.
const LONGEST: u64 = 1 << 20;
/// File extension that the collector requires. Temporary files have another one, so it never reads a partial file.
const ENDING: &str = "prom";
/// Label that separates the series of different files. Prometheus itself adds `job` and `instance`.
const LABEL: &str = "schedule";

const LAST_SUCCESS: &str = "trainer_last_success_timestamp_seconds";
const LAST_RUN: &str = "trainer_last_run_timestamp_seconds";
const LAST_RUN_SUCCESS: &str = "trainer_last_run_success";
const LAST_RUN_EXIT_CODE: &str = "trainer_last_run_exit_code";

/// Output file for the metrics.
#[derive(Clone, Debug)]
pub struct Textfile {
    path: PathBuf,
    /// Descriptor of the run's directory and the file's name there, if the file is in it.
    held: Option<(Dir, OsString)>,
    /// Label set as written after a metric name, braces included.
    labels: String,
}

/// Rejected path for the metrics file.
#[derive(Debug, thiserror::Error)]
pub enum TextfileError {
    #[error(
        "metrics textfile {}: the name must end in .{ENDING}, the only extension that node_exporter reads", path.display()
    )]
    Ending { path: PathBuf },
    #[error("metrics textfile {}: there is no directory {}; create it first", path.display(), dir.display())]
    NoDir { path: PathBuf, dir: PathBuf },
    #[error("metrics textfile {} is a directory; name a file", path.display())]
    Directory { path: PathBuf },
    #[error("metrics textfile {} cannot be replaced: {source}, or name another file", path.display())]
    Foreign { path: PathBuf, source: io::Error },
}

impl Classify for TextfileError {
    fn exit(&self) -> Exit {
        match self {
            TextfileError::Ending { .. } => Exit::Config,
            TextfileError::NoDir { .. } | TextfileError::Directory { .. } => Exit::CantCreate,
            TextfileError::Foreign { source, .. } => Exit::of_output(source),
        }
    }
}

/// Metrics of a run so far, over all its processes except for `seconds`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunMetrics {
    pub now: WallTime,
    /// Run time of this process.
    pub seconds: f64,
    /// Time at which the run was finished, if not now.
    pub succeeded: Option<WallTime>,
    /// Exit code of the process; `None` during training, which keeps the values of the last ended run in the file.
    pub exit_code: Option<u8>,
    pub epochs: u64,
    pub steps: u64,
    pub images: u64,
    /// Of the last evaluation, 0 to 1.
    pub validation_accuracy: Option<f64>,
    /// Of the last evaluation, in nats.
    pub validation_loss: Option<f64>,
    pub checkpoints: Checkpoints,
    /// Entries of the event log and lines of the journal that could not be written.
    pub event_write_errors: u64,
    pub skipped_steps: u64,
    pub rollbacks: u64,
}

/// Counters of written and failed checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Checkpoints {
    /// Duration of the last one, from the first byte to the end of its sync.
    pub seconds: Option<f64>,
    /// Bytes of all checkpoints.
    pub bytes: u64,
    pub failures: u64,
    /// Time at which the last one was durable.
    pub last: Option<WallTime>,
}

impl Textfile {
    /// Checks the path given as an option. Its directory must exist, or the run must create it (`is_made` returns
    /// true).
    pub fn new(path: &Path, is_made: impl Fn(&Path) -> bool) -> Result<Textfile, TextfileError> {
        let own = || path.to_owned();
        if path.extension().is_none_or(|ending| ending != ENDING) {
            return Err(TextfileError::Ending { path: own() });
        }
        if path.is_dir() {
            return Err(TextfileError::Directory { path: own() });
        }
        match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() && !dir.is_dir() && !is_made(dir) => {
                return Err(TextfileError::NoDir { path: own(), dir: dir.to_owned() });
            }
            _ => {}
        }
        // Every write replaces an existing file.
        match Dir::above(path).and_then(|(dir, name)| dir.has_own_file(name)) {
            // Not found is fine: the run has yet to create the directory.
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(TextfileError::Foreign { path: own(), source });
            }
            _ => {}
        }
        let schedule = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Textfile { path: own(), held: None, labels: format!("{{{LABEL}=\"{}\"}}", escaped(&schedule)) })
    }

    /// Binds a path in the run's directory to its descriptor, so that the file follows the directory when that is
    /// moved.
    pub fn hold(&mut self, run: &Dir) {
        self.held = run.name_in(&self.path).map(|name| (run.clone(), name));
    }

    /// Replaces the whole file atomically.
    pub fn write(&self, figures: &RunMetrics) -> Result<(), WriteError> {
        let text = |past| render(figures, &self.labels, past);
        match &self.held {
            Some((dir, name)) => durable::write_in(dir, name, text(Past::read(dir.open_file(name))).as_bytes()),
            None => durable::write(&self.path, text(Past::read(files::open(&self.path))).as_bytes()),
        }
    }
}

/// Metrics of ended runs, from an earlier file. Unreadable values count as missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Past {
    success: Option<f64>,
    run: Option<f64>,
    run_success: Option<f64>,
    run_exit_code: Option<f64>,
}

impl Past {
    fn read(file: io::Result<File>) -> Past {
        let mut bytes = Vec::new();
        let read = file.and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
        read.map_or_else(|_| Past::default(), |_| Past::parse(&bytes))
    }

    pub(super) fn parse(bytes: &[u8]) -> Past {
        let mut past = Past::default();
        for line in bytes.split(|&byte| byte == b'\n') {
            let Some((name, value)) = std::str::from_utf8(line).ok().and_then(sample) else { continue };
            let place = match name {
                LAST_SUCCESS => &mut past.success,
                LAST_RUN => &mut past.run,
                LAST_RUN_SUCCESS => &mut past.run_success,
                LAST_RUN_EXIT_CODE => &mut past.run_exit_code,
                _ => continue,
            };
            // Duplicates should not occur; the largest value wins.
            *place = Some(place.map_or(value, |known| known.max(value)));
        }
        past
    }
}

/// Parses a sample `name{schedule="..."} value`, or one without a label, as earlier versions wrote it. Any label
/// value is accepted, since the file may have been renamed. Samples that this program would not write are rejected.
fn sample(line: &str) -> Option<(&str, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.find('{') {
        Some(at) => series.split_at(at),
        None => (series, ""),
    };
    let value: f64 = value.parse().ok()?;
    let own = |labels: &str| {
        let rest = labels.strip_prefix('{')?.strip_prefix(LABEL)?.strip_prefix("=\"")?;
        rest.strip_suffix("\"}").map(is_escaped)
    };
    let labels_are_ours = labels.is_empty() || own(labels) == Some(true);
    (labels_are_ours && value.is_finite() && value >= 0.0).then_some((name, value))
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// True if `text` is possible output of [`escaped`].
fn is_escaped(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        let fits = match char {
            '"' | '\n' => false,
            '\\' => matches!(chars.next(), Some('\\' | '"' | 'n')),
            _ => true,
        };
        if !fits {
            return false;
        }
    }
    true
}

/// Text of the whole file.
pub(super) fn render(figures: &RunMetrics, labels: &str, past: Past) -> String {
    let RunMetrics { now, checkpoints, .. } = *figures;
    let count = |value: u64| Some(value as f64);
    let Past { success, run, run_success, run_exit_code } = match figures.exit_code {
        None => past,
        Some(code) => Past {
            success: match (figures.succeeded, past.success) {
                (_, past) if code != 0 => past,
                (None, _) => Some(now.as_secs()),
                // Another run may have finished since then.
                (Some(then), past) => Some(past.unwrap_or(0.0).max(then.as_secs())),
            },
            run: Some(now.as_secs()),
            run_success: count(u64::from(code == 0)),
            run_exit_code: count(u64::from(code)),
        },
    };
    let mut text = Text { text: String::new(), labels };
    text.build_info();
    text.gauge(LAST_SUCCESS, "When a run was last finished, in seconds since 1970.", success);
    text.gauge(LAST_RUN, "When a run last ended, whether finished, stopped or failed, in seconds since 1970.", run);
    text.gauge(LAST_RUN_SUCCESS, "Whether the run that last ended was finished: 1 or 0.", run_success);
    text.gauge(LAST_RUN_EXIT_CODE, "Exit code of the run that last ended.", run_exit_code);
    text.gauge("trainer_run_duration_seconds", "Time that the process of the run has taken.", Some(figures.seconds));
    text.counter("trainer_epochs_total", "Epochs done in the run.", count(figures.epochs));
    text.counter("trainer_steps_total", "Optimizer steps done in the run.", count(figures.steps));
    text.counter("trainer_images_total", "Images trained on in the run.", count(figures.images));
    text.gauge(
        "trainer_validation_accuracy_ratio",
        "Share of validation images that are classified right, 0 to 1.",
        figures.validation_accuracy,
    );
    text.gauge("trainer_validation_loss", "Mean cross-entropy of validation images, in nats.", figures.validation_loss);
    text.gauge(
        "trainer_checkpoint_duration_seconds",
        "Time that writing the last checkpoint took.",
        checkpoints.seconds,
    );
    text.counter("trainer_checkpoint_bytes_total", "Bytes of checkpoints written.", count(checkpoints.bytes));
    text.counter(
        "trainer_checkpoint_failures_total",
        "Tries to write a checkpoint that failed.",
        count(checkpoints.failures),
    );
    text.gauge(
        "trainer_last_checkpoint_timestamp_seconds",
        "When the last checkpoint was safe on the disk, in seconds since 1970.",
        checkpoints.last.map(WallTime::as_secs),
    );
    text.counter(
        "trainer_event_write_errors_total",
        "Entries of the event log and lines of the journal that could not be written.",
        count(figures.event_write_errors),
    );
    text.counter(
        "trainer_skipped_steps_total",
        "Steps that were not applied, as their loss or gradient was not finite.",
        count(figures.skipped_steps),
    );
    text.counter("trainer_rollbacks_total", "Times that the run went back to a checkpoint.", count(figures.rollbacks));
    text.text
}

/// A file in the text format, under construction.
struct Text<'a> {
    text: String,
    /// Labels of every series.
    labels: &'a str,
}

impl Text<'_> {
    /// Omits a metric without a value: a zero would be read as measured.
    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.metric(name, "gauge", help, self.labels, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.metric(name, "counter", help, self.labels, value);
    }

    fn build_info(&mut self) {
        let (version, revision) = (escaped(env!("CARGO_PKG_VERSION")), escaped(env!("TRAINER_REVISION")));
        let rest = self.labels.trim_start_matches('{');
        let labels = format!("{{version=\"{version}\",revision=\"{revision}\",{rest}");
        self.metric("trainer_build_info", "gauge", "The program that writes this.", &labels, Some(1.0));
    }

    fn metric(&mut self, name: &str, kind: &str, help: &str, labels: &str, value: Option<f64>) {
        // The format writes infinities as Go does; Rust writes them in lower case.
        let value = match value {
            None => return,
            Some(f64::INFINITY) => "+Inf".to_owned(),
            Some(f64::NEG_INFINITY) => "-Inf".to_owned(),
            Some(value) => value.to_string(),
        };
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::lint;
    use super::*;

    fn at(secs: f64) -> WallTime {
        WallTime::from_secs(secs).unwrap()
    }

    fn figures() -> RunMetrics {
        RunMetrics {
            now: at(1_700_000_000.25),
            seconds: 12.5,
            succeeded: None,
            exit_code: Some(0),
            epochs: 5,
            steps: 4690,
            images: 300_000,
            validation_accuracy: Some(0.990625),
            validation_loss: Some(0.03125),
            checkpoints: Checkpoints { seconds: Some(0.03125), bytes: 1 << 40, failures: 1, last: Some(at(1.7e9)) },
            event_write_errors: 0,
            skipped_steps: 2,
            rollbacks: 1,
        }
    }

    const LABELS: &str = "{schedule=\"trainer\"}";

    fn nothing_is_made(_: &Path) -> bool {
        false
    }

    fn textfile(path: &Path) -> Textfile {
        Textfile::new(path, nothing_is_made).unwrap()
    }

    /// Value of the series `name` with any label.
    fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        text.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then(|| rest.rsplit_once(' ')).flatten().map(|(_, value)| value)
        })
    }

    #[test]
    fn every_metric_has_help_type_and_a_name_as_prometheus_has_them() {
        let text = render(&figures(), LABELS, Past::default());
        assert_eq!(lint(&text), Vec::<String>::new(), "{text}");
        assert_eq!(text.matches("# TYPE ").count(), 18);
        assert_eq!(text.matches("schedule=\"trainer\"} ").count(), 18, "every series has the label: {text}");
        let bare = render(&RunMetrics::default(), LABELS, Past::default());
        assert_eq!(lint(&bare), Vec::<String>::new(), "{bare}");
        assert!(!bare.contains("trainer_last_") && !bare.contains("trainer_validation_"), "{bare}");
        assert_eq!(value(&text, LAST_SUCCESS), Some("1700000000.25"));
        assert_eq!(value(&text, "trainer_checkpoint_bytes_total"), Some("1099511627776"));
    }

    #[test]
    fn two_files_of_one_directory_share_texts_and_no_series() {
        let dir = tempfile::tempdir().unwrap();
        let written = ["digits.prom", "fashion.prom"].map(|name| {
            let path = dir.path().join(name);
            textfile(&path).write(&figures()).unwrap();
            std::fs::read_to_string(path).unwrap()
        });
        let lines = |text: &str, comments: bool| -> std::collections::BTreeSet<String> {
            let lines = text.lines().filter(|line| line.starts_with('#') == comments);
            lines.map(|line| if comments { line } else { line.rsplit_once(' ').unwrap().0 }.to_owned()).collect()
        };
        let [one, other] = &written;
        assert_eq!(lines(one, true), lines(other, true));
        assert!(lines(one, false).is_disjoint(&lines(other, false)), "{one}{other}");
    }

    #[test]
    fn the_lint_can_fail() {
        let good = "# HELP trainer_a_total A.\n# TYPE trainer_a_total counter\ntrainer_a_total 1\n";
        assert_eq!(lint(good), Vec::<String>::new());
        for wrong in [
            good.trim_end().to_owned(),
            good.replace("counter", "gauge"),
            good.replace("_total", ""),
            good.replace("_total", "_ms_total"),
            good.replace("trainer_a", "a"),
            good.replace(" 1\n", " one\n"),
            good.repeat(2),
            good.lines().rev().map(|line| format!("{line}\n")).collect(),
            good.replace("# HELP trainer_a_total A.\n", ""),
            good.replace("_total 1", "_total{run=\"a\"b\"} 1"),
            format!("{good}trainer_a_total 2\n"),
        ] {
            assert!(!lint(&wrong).is_empty(), "{wrong}");
        }
    }

    #[test]
    fn a_failure_never_takes_back_a_success() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trainer.prom");
        let textfile = textfile(&path);
        let read = || std::fs::read_to_string(&path).unwrap();
        textfile.write(&figures()).unwrap();
        // The next run, during training: values of ended runs are kept.
        textfile.write(&RunMetrics { now: at(1.8e9), exit_code: None, ..figures() }).unwrap();
        assert_eq!(value(&read(), LAST_RUN), Some("1700000000.25"));
        assert_eq!((value(&read(), LAST_RUN_SUCCESS), value(&read(), LAST_RUN_EXIT_CODE)), (Some("1"), Some("0")));
        for exit_code in [65, 75, 143] {
            textfile.write(&RunMetrics { now: at(1.9e9), exit_code: Some(exit_code), ..figures() }).unwrap();
            let text = read();
            assert_eq!(value(&text, LAST_SUCCESS), Some("1700000000.25"));
            assert_eq!(value(&text, LAST_RUN), Some("1900000000"));
            assert_eq!(value(&text, LAST_RUN_SUCCESS), Some("0"));
            assert_eq!(value(&text, LAST_RUN_EXIT_CODE), Some(exit_code.to_string().as_str()));
            assert_eq!(lint(&text), Vec::<String>::new());
        }
        // A run finished earlier counts with its own time, and never moves the last success back.
        for (then, want) in [(1.75e9, "1750000000"), (1.72e9, "1750000000")] {
            textfile.write(&RunMetrics { now: at(1.95e9), succeeded: Some(at(then)), ..figures() }).unwrap();
            assert_eq!((value(&read(), LAST_SUCCESS), value(&read(), LAST_RUN)), (Some(want), Some("1950000000")));
        }
        textfile.write(&RunMetrics { now: at(2e9), ..figures() }).unwrap();
        assert_eq!(value(&read(), LAST_SUCCESS), Some("2000000000"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_success_is_carried_over_to_the_file_s_own_label() {
        for earlier in ["", "{schedule=\"before it was renamed\"}"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("trainer.prom");
            std::fs::write(&path, format!("{LAST_SUCCESS}{earlier} 1700000000\n")).unwrap();
            textfile(&path).write(&RunMetrics { now: at(1.9e9), exit_code: Some(65), ..figures() }).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(&format!("\n{LAST_SUCCESS}{LABELS} 1700000000\n")), "{text}");
            assert_eq!(lint(&text), Vec::<String>::new());
        }
    }

    #[test]
    fn a_label_is_escaped_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a\\b\"c\nd} e.prom");
        let textfile = textfile(&path);
        textfile.write(&figures()).unwrap();
        let series = format!(r#"{LAST_SUCCESS}{{schedule="a\\b\"c\nd}} e"}} 1700000000.25"#);
        assert!(std::fs::read_to_string(&path).unwrap().lines().any(|line| line == series));
        textfile.write(&RunMetrics { now: at(1.9e9), exit_code: Some(65), ..figures() }).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().any(|line| line == series), "{text}");
        assert_eq!(lint(&text), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_read_of_an_earlier_file_is_as_if_it_were_not_there() {
        for damaged in [
            &b"trainer_last_success_timestamp_seconds"[..],
            b"trainer_last_success_timestamp_seconds x\n",
            b"trainer_last_success_timestamp_seconds NaN\n",
            b"trainer_last_success_timestamp_seconds{schedule=\"a\"b\"} 1\n",
            b"trainer_last_success_timestamp_seconds{job=\"a\"} 1\n",
            b"\xfftrainer_last_success_timestamp_seconds 1\n",
        ] {
            assert_eq!(Past::parse(damaged), Past::default(), "{}", String::from_utf8_lossy(damaged));
        }
        let twice =
            Past::parse(b"trainer_last_success_timestamp_seconds 7\ntrainer_last_success_timestamp_seconds 5\n");
        assert_eq!(twice.success, Some(7.0));
    }

    #[test]
    fn a_path_that_nobody_would_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Textfile::new(&dir.path().join("trainer.txt"), nothing_is_made).unwrap_err();
        assert!(error.to_string().ends_with("the name must end in .prom, the only extension that node_exporter reads"));
        assert_eq!(error.exit(), Exit::Config);
        let error = Textfile::new(&dir.path().join("missing/trainer.prom"), nothing_is_made).unwrap_err();
        assert!(error.to_string().contains("there is no directory"), "{error}");
        std::fs::create_dir(dir.path().join("a.prom")).unwrap();
        assert_eq!(Textfile::new(&dir.path().join("a.prom"), nothing_is_made).unwrap_err().exit(), Exit::CantCreate);
        Textfile::new(Path::new("trainer.prom"), nothing_is_made).unwrap();
        Textfile::new(&dir.path().join("missing/trainer.prom"), |dir| dir.ends_with("missing")).unwrap();
    }

    #[test]
    fn figures_in_the_runs_directory_go_where_the_run_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let run = Dir::make(&at("run")).unwrap();
        let mut textfile = Textfile::new(&at("run/a.prom"), nothing_is_made).unwrap();
        textfile.hold(&run);
        std::fs::rename(at("run"), at("moved")).unwrap();
        std::fs::create_dir(at("run")).unwrap();
        textfile.write(&RunMetrics::default()).unwrap();
        assert!(at("moved/a.prom").is_file() && !at("run/a.prom").exists());
    }

    #[test]
    fn a_link_is_neither_followed_nor_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("mine"), dir.path().join("a.prom"));
        std::fs::write(&file, "mine").unwrap();
        let written = Textfile::new(&link, nothing_is_made).unwrap();
        std::os::unix::fs::symlink("mine", &link).unwrap();
        let error = Textfile::new(&link, nothing_is_made).unwrap_err();
        let want = format!(
            "metrics textfile {} cannot be replaced: it is a symbolic link, want a regular file; move it away, or name \
             another file",
            link.display()
        );
        assert_eq!((error.to_string(), error.exit()), (want, Exit::CantCreate));
        // A link planted after the check.
        let error = written.write(&RunMetrics::default()).unwrap_err();
        assert_eq!(error.exit(), Exit::CantCreate);
        assert_eq!(link.read_link().unwrap(), Path::new("mine"));
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
