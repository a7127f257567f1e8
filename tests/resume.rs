//! Exact resumption: a run stopped at any step and restarted with the same command equals an uninterrupted run, to
//! the bit: weights, optimizer state, and every point that readers of its log see.

#![allow(clippy::unwrap_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Sandbox, TEST_IMAGES, TRAIN_IMAGES, idx, small_mnist};
use trainer::config::{KNOBS, Knob, Layers, Resolved};
use trainer::eventlog::reader::EventReader;
use trainer::exit::{Classify, Exit};
use trainer::run::{self, Ended, Requests, RunError, Start};
use trainer::train::{EpochReport, FitError, Metrics, Progress};

/// Three epochs of four steps, the last one short, with all default observers and more frequent ones.
const SMALL: &[(&str, &str)] = &[
    ("dataset", "synthetic"),
    ("conv-filters", "3,4"),
    ("dense-units", "6"),
    ("epochs", "3"),
    ("batch-size", "50"),
    ("limit-train", "170"),
    ("limit-validation", "40"),
    ("update-freq", "3"),
    ("learning-rate", "0.01"),
    ("threads", "1"),
    ("probes", "2"),
    ("observe", "explanations=off,activation-max=off,gradcam=off,weights=every:1epochs"),
];
const STEPS: usize = 12;

fn resolved(logdir: &Path, more: &[(&str, &str)]) -> Resolved {
    let mut layers = Layers::new();
    for (key, value) in SMALL.iter().chain(more) {
        layers.command_line(Knob::find(key).unwrap(), (*value).to_owned());
    }
    layers.command_line(Knob::find("logdir").unwrap(), logdir.to_str().unwrap().to_owned());
    layers.resolve().unwrap()
}

/// Requests a stop after this many steps.
struct StopAfter<'a> {
    steps: usize,
    stop: &'a AtomicUsize,
}

impl Progress for StopAfter<'_> {
    fn epoch_starts(&mut self, _: u64, _: usize) {}

    fn samples_done(&mut self, _: usize, _: Option<Metrics>) {
        self.steps = self.steps.saturating_sub(1);
        if self.steps == 0 {
            self.stop.store(15, Ordering::Relaxed);
        }
    }

    fn epoch_ends(&mut self, _: &EpochReport) {}
}

/// Trains until this process has done `steps` steps.
fn train(logdir: &Path, more: &[(&str, &str)], start: &Start, steps: usize) -> Result<Ended, RunError> {
    let requests = Requests::default();
    run::run(logdir, &resolved(logdir, more), start, &mut StopAfter { steps, stop: &requests.stop }, &requests)
}

fn stopped(logdir: &Path, more: &[(&str, &str)], steps: usize) {
    let error = train(logdir, more, &Start::Resume, steps).unwrap_err();
    assert!(matches!(error, RunError::Fit(FitError::Stopped { .. })), "{error}");
    assert_eq!(error.exit(), Exit::TemporaryFailure);
}

fn finished(logdir: &Path, more: &[(&str, &str)]) {
    let ended = train(logdir, more, &Start::Resume, usize::MAX).unwrap();
    assert!(matches!(ended, Ended::Finished(_)), "{ended:?}");
}

fn result(logdir: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(logdir.join("result.json")).unwrap()).unwrap()
}

type Points = BTreeMap<(String, String, i64), Vec<u8>>;

/// Every point seen by readers that honour restarts, as TensorBoard's do: points of earlier processes at or after the
/// first step of a later one are discarded.
fn points(logdir: &Path) -> Points {
    use trainer::eventlog::proto::event::What;
    use trainer::eventlog::proto::session_log::SessionStatus;
    let mut points = Points::new();
    for run in ["train", "validation", ""] {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(logdir.join(run)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.to_string_lossy().contains("tfevents") && !path.to_string_lossy().contains("session"));
        paths.sort();
        for path in paths {
            for (_, event) in EventReader::new(std::fs::read(&path).unwrap().as_slice()) {
                let event = event.unwrap();
                match event.what {
                    Some(What::SessionLog(log)) if log.status() == SessionStatus::Start => {
                        points.retain(|(of, _, step), _| of != run || *step < event.step);
                    }
                    Some(What::Summary(summary)) => {
                        for value in summary.value {
                            let key = (run.to_owned(), value.tag.clone(), event.step);
                            let said = format!("{:?}", value.value).into_bytes();
                            assert!(points.insert(key.clone(), said).is_none(), "{key:?} is there twice");
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    // Excludes times, and values that depend on the process and its directory.
    points.retain(|(_, tag, _), _| !tag.starts_with("time/") && tag != "images_per_second" && !tag.starts_with("run/"));
    points
}

/// The newest checkpoint's files without the manifest, which contains times.
fn newest_checkpoint(logdir: &Path) -> BTreeMap<String, Vec<u8>> {
    let dirs = std::fs::read_dir(logdir.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let files = std::fs::read_dir(dirs.max().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let file = |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap());
    // The observers' state contains times, too.
    files.map(file).filter(|(name, _)| name.ends_with(".safetensors")).collect()
}

/// The best epoch in the result, and its weights if they have a file of their own.
fn best(logdir: &Path) -> (serde_json::Value, Option<Vec<u8>>) {
    (result(logdir)["best"].clone(), std::fs::read(logdir.join("best.safetensors")).ok())
}

fn assert_same(logdir: &Path, whole: &Path, what: &str) {
    let weights = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    assert!(weights(logdir) == weights(whole), "{what}: other weights");
    assert!(best(logdir) == best(whole), "{what}: another best epoch");
    assert!(newest_checkpoint(logdir) == newest_checkpoint(whole), "{what}: another state of the optimizer");
    let (ours, want) = (points(logdir), points(whole));
    for (key, value) in &want {
        let found = ours.get(key).unwrap_or_else(|| panic!("{what}: {key:?} is lost"));
        assert!(found == value, "{what}: {key:?} has another value");
    }
    let extra: Vec<_> = ours.keys().filter(|key| !want.contains_key(*key)).collect();
    assert!(extra.is_empty(), "{what}: {extra:?}");
}

#[test]
fn a_run_that_is_stopped_after_any_step_goes_on_as_if_it_had_not_been() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    finished(&whole, &[]);
    let want = points(&whole);
    assert!(want.len() > 100 && want.keys().any(|(_, tag, _)| tag == "features/tsne/animation"), "{}", want.len());
    for step in 1..STEPS {
        let logdir = dir.path().join(format!("after-{step}"));
        stopped(&logdir, &[], step);
        finished(&logdir, &[]);
        assert_same(&logdir, &whole, &format!("stopped after step {step}"));
    }
}

#[test]
fn a_run_that_is_stopped_after_every_step_comes_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, logdir) = (dir.path().join("whole"), dir.path().join("pieces"));
    let sgd = [("optimizer", "sgd"), ("momentum", "0.9")];
    finished(&whole, &sgd);
    for _ in 1..STEPS {
        stopped(&logdir, &sgd, 1);
    }
    finished(&logdir, &sgd);
    assert_same(&logdir, &whole, "stopped after every step");
    let ended = train(&logdir, &sgd, &Start::Resume, usize::MAX).unwrap();
    assert!(matches!(ended, Ended::AlreadyFinished(already) if already.epochs == Some(3)));
}

#[test]
fn a_process_that_died_between_its_last_checkpoint_and_its_result_is_followed_up() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, logdir) = (dir.path().join("whole"), dir.path().join("run"));
    finished(&whole, &[]);
    finished(&logdir, &[]);
    std::fs::remove_file(logdir.join("result.json")).unwrap();
    std::fs::remove_file(logdir.join("model.safetensors")).unwrap();
    finished(&logdir, &[]);
    // `points` refuses duplicate points, times included.
    assert_same(&logdir, &whole, "followed up");
}

#[test]
fn a_finished_run_says_so_in_its_journal_though_its_process_could_not() {
    let dir = tempfile::tempdir().unwrap();
    let logdir = dir.path().join("run");
    let figures = dir.path().join("trainer.prom");
    let quiet = [("observe", "none"), ("metrics-textfile", figures.to_str().unwrap())];
    finished(&logdir, &quiet);
    let journal = logdir.join("metrics.jsonl");
    let whole = std::fs::read_to_string(&journal).unwrap();
    let (before, last) = whole.trim_end().rsplit_once('\n').unwrap();
    let failed = last.replace("\"finished\"", "\"failed\"");
    assert_ne!(failed, last);
    for killed in [format!("{before}\n"), format!("{before}\n{failed}\n"), whole.clone()] {
        std::fs::write(&journal, &killed).unwrap();
        std::fs::remove_file(&figures).unwrap_or_default();
        for _ in 0..2 {
            assert!(matches!(train(&logdir, &quiet, &Start::Resume, usize::MAX).unwrap(), Ended::AlreadyFinished(_)));
        }
        let after = std::fs::read_to_string(&journal).unwrap();
        let line: serde_json::Value = serde_json::from_str(after.lines().last().unwrap()).unwrap();
        assert_eq!((line["kind"].as_str(), line["status"].as_str()), (Some("final"), Some("finished")));
        assert_eq!((line["step"].as_u64(), line["epoch"].as_u64()), (Some(STEPS as u64), Some(3)));
        let added = after.lines().count() - killed.lines().count();
        assert_eq!(added, usize::from(killed != whole), "said once");
        let told = std::fs::read_to_string(&figures).unwrap();
        assert!(told.contains("\ntrainer_last_run_success{schedule=\"trainer\"} 1\n"), "{told}");
        assert!(told.contains("\ntrainer_validation_accuracy_ratio{schedule=\"trainer\"} 0."), "{told}");
        let ended = result(&logdir)["ended"].as_f64().unwrap();
        assert!(
            told.contains(&format!("\ntrainer_last_success_timestamp_seconds{{schedule=\"trainer\"}} {ended}\n")),
            "{told}"
        );
    }
}

#[test]
fn more_epochs_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, logdir) = (dir.path().join("whole"), dir.path().join("grown"));
    // Observers that log only at the end of a run would log at each end of an extended one.
    let calm = [("observe", "none,scalars=every:1epochs,steps=every:3steps,weights=every:1epochs")];
    finished(&whole, &calm);
    finished(&logdir, &[calm[0], ("epochs", "1")]);
    finished(&logdir, &[calm[0], ("epochs", "2")]);
    finished(&logdir, &calm);
    assert_same(&logdir, &whole, "grown");
}

#[test]
fn another_setting_is_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let logdir = dir.path().join("run");
    stopped(&logdir, &[("observe", "none")], 5);
    let before = std::fs::read(logdir.join("config.toml")).unwrap();
    let others = [
        ("seed", "1"),
        ("dataset", "mnist"),
        ("limit-train", "171"),
        ("limit-validation", "all"),
        ("batch-size", "49"),
        ("optimizer", "sgd"),
        ("learning-rate", "0.02"),
        ("momentum", "0.5"),
        ("weight-decay", "0.1"),
        ("conv-filters", "3"),
        ("kernel-size", "5"),
        ("dense-units", "7"),
        ("precision", "bf16"),
        ("update-freq", "4"),
        ("histogram-freq", "2"),
        ("image-freq", "2"),
        ("observe", "default"),
        ("probes", "3"),
        ("probe-seed", "1"),
    ];
    let fixed = KNOBS.iter().filter(|knob| knob.later == trainer::config::Later::Fixed);
    assert!(fixed.clone().all(|knob| others.iter().any(|(key, _)| *key == knob.key)), "a knob is not tried");
    for (key, value) in others {
        let error = train(&logdir, &[("observe", "none"), (key, value)], &Start::Resume, usize::MAX).unwrap_err();
        assert_eq!(error.exit(), Exit::Config, "{key}: {error}");
        let said = error.to_string();
        assert!(said.contains(&format!("  {key}: was ")) && said.contains(&format!(", now {value}\n")), "{said}");
        assert_eq!(std::fs::read(logdir.join("config.toml")).unwrap(), before);
    }
    // Equal values in another notation, and settings that may change, are accepted.
    let same = [("observe", "none"), ("learning-rate", "1e-2"), ("threads", "2"), ("keep-last", "1")];
    finished(&logdir, &same);
}

#[test]
fn the_description_of_the_data_is_compared_and_may_be_missing() {
    let sandbox = Sandbox::new();
    let (whole, run) = (sandbox.path("whole"), sandbox.path("run"));
    finished(&whole, &[]);
    stopped(&run, &[], 3);
    let description = sandbox.read("run/dataset.json");
    assert_eq!(description, sandbox.read("whole/dataset.json"));

    sandbox.write("run/dataset.json", String::from_utf8(description.clone()).unwrap().replace("ring", "wheel"));
    let error = train(&run, &[], &Start::Resume, usize::MAX).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("classes") && text.contains("wheel") && text.contains("ring"), "{text}");

    // An older version wrote none, and a damaged one can be made again.
    for damage in [None, Some("{")] {
        match damage {
            None => std::fs::remove_file(run.join("dataset.json")).unwrap(),
            Some(damage) => drop(sandbox.write("run/dataset.json", damage)),
        }
        stopped(&run, &[], 1);
        assert_eq!(sandbox.read("run/dataset.json"), description);
    }
    finished(&run, &[]);
    assert_same(&run, &whole, "resumed");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, logdir) = (dir.path().join("whole"), dir.path().join("run"));
    let often = [("checkpoint-every", "2steps"), ("keep-last", "3")];
    finished(&whole, &often);
    stopped(&logdir, &often, 7);
    let dirs = std::fs::read_dir(logdir.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let newest = dirs.max().unwrap();
    assert!(newest.ends_with("ckpt-000000000007"), "{}", newest.display());
    let file = newest.join("optimizer.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    // If no checkpoint is valid, nothing is done silently.
    let all = dir.path().join("all");
    stopped(&all, &often, 1);
    let manifest = all.join("checkpoints/ckpt-000000000001/manifest.json");
    std::fs::write(&manifest, &std::fs::read(&manifest).unwrap()[1..]).unwrap();
    let error = train(&all, &often, &Start::Resume, usize::MAX).unwrap_err();
    assert_eq!(error.exit(), Exit::Data);
    assert!(error.to_string().contains("every checkpoint in ") && error.to_string().ends_with("--fresh"), "{error}");

    finished(&logdir, &often);
    assert_same(&logdir, &whole, "from the checkpoint before");
}

#[test]
fn a_fork_begins_where_the_other_run_is() {
    let dir = tempfile::tempdir().unwrap();
    let (trunk, fork) = (dir.path().join("trunk"), dir.path().join("fork"));
    finished(&trunk, &[("epochs", "2")]);
    let before = std::fs::read(trunk.join("model.safetensors")).unwrap();
    let from = Start::Fork(trunk.clone());
    let other = [("learning-rate", "0.001"), ("optimizer", "sgd"), ("batch-size", "40")];
    // Stopped and restarted, the fork resumes from its own checkpoint.
    let error = train(&fork, &other, &from, 2).unwrap_err();
    assert!(matches!(error, RunError::Fit(FitError::Stopped { iterations: 10, .. })), "{error}");
    let ended = train(&fork, &other, &from, usize::MAX).unwrap();
    assert!(matches!(ended, Ended::Finished(finished) if finished.outcome.iterations == 13));
    assert_eq!(std::fs::read(trunk.join("model.safetensors")).unwrap(), before);
    assert!(std::fs::read(fork.join("model.safetensors")).unwrap() != before);
    let seen = points(&fork);
    let belongs = |run: &str, step: i64| if run.is_empty() { step > 8 } else { step == 2 || step == 0 };
    assert!(seen.keys().all(|(run, _, step)| belongs(run, *step)), "{:?}", seen.keys());
    assert!(seen.keys().any(|(run, _, step)| run == "validation" && *step == 2));

    let refused = |from: &Path, more: &[(&str, &str)], to: &str| {
        train(&dir.path().join(to), more, &Start::Fork(from.to_owned()), usize::MAX).unwrap_err()
    };
    assert_eq!(refused(&dir.path().join("none"), &[], "a").exit(), Exit::NoInput);
    assert_eq!(refused(&trunk, &[("dense-units", "9")], "b").exit(), Exit::Config);
    assert_eq!(refused(&trunk, &[("epochs", "2")], "c").exit(), Exit::Config);
}

#[test]
fn a_warm_start_takes_weights_alone_and_is_resumed_in_its_first_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (teacher, whole, logdir) = (dir.path().join("teacher"), dir.path().join("whole"), dir.path().join("run"));
    finished(&teacher, &[("epochs", "1"), ("seed", "5")]);
    let teacher = teacher.to_str().unwrap().to_owned();
    let warm = [("warm-start", teacher.as_str())];
    finished(&whole, &warm);
    stopped(&logdir, &warm, 2);
    // The source of the initial weights is no longer needed.
    std::fs::remove_dir_all(&teacher).unwrap();
    finished(&logdir, &warm);
    assert_same(&logdir, &whole, "warm");
    let cold = dir.path().join("cold");
    finished(&cold, &[]);
    assert!(
        std::fs::read(cold.join("model.safetensors")).unwrap()
            != std::fs::read(whole.join("model.safetensors")).unwrap()
    );
}

#[test]
fn a_fresh_start_forgets_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, logdir) = (dir.path().join("whole"), dir.path().join("run"));
    finished(&whole, &[]);
    stopped(&logdir, &[("seed", "3")], 6);
    train(&logdir, &[], &Start::Fresh, usize::MAX).unwrap();
    assert_same(&logdir, &whole, "fresh");
}

/// MNIST with one image that makes the network overflow, and a run with weights that large.
fn one_image_too_many(sandbox: &Sandbox) -> [(String, String); 4] {
    small_mnist(sandbox, 200, 20);
    // All images are black except one: the network's outputs are zero for those and infinite for this one.
    for (name, count) in [(TRAIN_IMAGES, 200_u32), (TEST_IMAGES, 20)] {
        let mut pixels = vec![0_u8; count as usize * 784];
        if name == TRAIN_IMAGES {
            pixels[70 * 784..71 * 784].fill(255);
        }
        sandbox.write(name, idx(&[count, 28, 28], &pixels));
    }
    let teacher = sandbox.path("teacher");
    let flags = [("dataset", "mnist"), ("data-dir", sandbox.path("data").to_str().unwrap())].map(owned);
    let flags: Vec<(&str, &str)> = flags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    finished(&teacher, &[&flags[..], &[("epochs", "1"), ("learning-rate", "1e-6")]].concat());
    let weights = teacher.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (head, data) = bytes[8..].split_at_mut(header);
    let table: serde_json::Value = serde_json::from_slice(head).unwrap();
    for (name, tensor) in table.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__") {
        let [from, to] = [0, 1].map(|end| tensor["data_offsets"][end].as_u64().unwrap() as usize);
        let scale = if name.ends_with("bias") { 0.0 } else { 1e20 };
        for value in data[from..to].chunks_exact_mut(4) {
            let weight = f32::from_le_bytes((&*value).try_into().unwrap());
            value.copy_from_slice(&(weight.abs() * scale).to_le_bytes());
        }
    }
    std::fs::write(&weights, bytes).unwrap();
    // The result contains the checksum of the old weights.
    std::fs::remove_file(teacher.join("result.json")).unwrap();
    [
        ("dataset", "mnist"),
        ("data-dir", sandbox.path("data").to_str().unwrap()),
        ("warm-start", teacher.to_str().unwrap()),
        ("learning-rate", "1e-6"),
    ]
    .map(owned)
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn a_step_that_is_not_finite_ends_the_run_or_is_skipped_or_rolled_back() {
    let sandbox = Sandbox::new();
    let flags = one_image_too_many(&sandbox);
    let flags: Vec<(&str, &str)> = flags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let with =
        |more: &[(&'static str, &'static str)]| [&flags[..], &[("observe", "none,steps=every:1steps")], more].concat();
    let often = ("checkpoint-every", "1steps");

    let error = train(&sandbox.path("stop"), &with(&[often]), &Start::Resume, usize::MAX).unwrap_err();
    assert!(matches!(error, RunError::Fit(FitError::Diverged(_))), "{error}");
    assert_eq!(error.exit(), Exit::Data);
    assert!(error.to_string().contains("first non-finite values are in"), "{error}");

    let skip = with(&[("on-nan", "skip")]);
    let (whole, pieces) = (sandbox.path("skip"), sandbox.path("pieces"));
    finished(&whole, &skip);
    assert_eq!(result(&whole)["skipped_steps"], 3, "once an epoch");
    for _ in 0..6 {
        stopped(&pieces, &skip, 2);
    }
    finished(&pieces, &skip);
    assert_same(&pieces, &whole, "skipping and stopped");

    let back = sandbox.path("rollback");
    finished(&back, &with(&[("on-nan", "rollback"), often]));
    assert_eq!(result(&back)["rollbacks"], 3, "once an epoch");
    let journal = std::fs::read_to_string(back.join("metrics.jsonl")).unwrap();
    assert_eq!(journal.lines().filter(|line| line.contains("\"kind\":\"rollback\"")).count(), 3, "{journal}");
    points(&back);
    // Skipped steps change nothing: the weights equal those of the run that skips.
    let weights = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    assert!(weights(&back) == weights(&whole));
}

/// Every step multiplies the weights by -99.
const WILD: &[(&str, &str)] =
    &[("optimizer", "sgd"), ("learning-rate", "100"), ("weight-decay", "1"), ("batch-size", "5"), ("observe", "none")];

#[test]
fn a_run_that_learns_nothing_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    for (name, cadence) in [("often", "3steps"), ("never", "off"), ("epochs", "1epoch")] {
        let logdir = dir.path().join(name);
        let how = [WILD, &[("on-nan", "rollback"), ("checkpoint-every", cadence)]].concat();
        let error = train(&logdir, &how, &Start::Resume, usize::MAX).unwrap_err();
        let ends = matches!(error, RunError::Fit(FitError::Diverged(_) | FitError::NothingDone { .. }));
        assert!(ends, "{name}: {error}");
        assert_eq!(error.exit(), Exit::Data);
        assert!(!logdir.join("result.json").exists() && !logdir.join("model.safetensors").exists(), "{name}");
        let journal = std::fs::read_to_string(logdir.join("metrics.jsonl")).unwrap();
        assert!(journal.contains("the run went back, to go on without it"), "{name}: {journal}");
        assert!(!journal.contains("\"kind\":\"epoch\""), "{name}: an epoch without a step is none");
    }
}

#[test]
fn a_rollback_goes_back_before_what_ruined_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let logdir = dir.path().join("run");
    // The loss is checked after step 20 of 34; all checkpoints are kept.
    let kept = [("on-nan", "rollback"), ("checkpoint-every", "1steps"), ("keep-last", "100"), ("epochs", "1")];
    let error = train(&logdir, &[WILD, &kept].concat(), &Start::Resume, usize::MAX).unwrap_err();
    assert_eq!(error.exit(), Exit::Data, "{error}");
    let journal = std::fs::read_to_string(logdir.join("metrics.jsonl")).unwrap();
    let lines = journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let rollbacks: Vec<_> = lines.filter(|line| line["kind"] == "rollback").collect();
    // No earlier loss was checked, so no checkpoint is trusted either.
    let (from, to) = (&rollbacks[0]["from_step"], &rollbacks[0]["to_step"]);
    assert!(from.as_u64().unwrap() > 2 && to == 0, "{rollbacks:?}");
}

#[test]
fn whatever_is_wrong_with_a_fresh_start_is_found_before_the_old_run_goes() {
    let dir = tempfile::tempdir().unwrap();
    let logdir = dir.path().join("run");
    let quiet = [("observe", "none")];
    finished(&logdir, &quiet);
    let before = newest_checkpoint(&logdir);
    let nowhere = dir.path().join("nowhere");
    let warm = |from: &Path| [quiet[0], ("warm-start", from.to_str().unwrap().to_owned().leak() as &str)];
    let error = train(&logdir, &warm(&nowhere), &Start::Fresh, usize::MAX).unwrap_err();
    assert_eq!(error.exit(), Exit::NoInput, "{error}");
    assert!(logdir.join("result.json").exists() && logdir.join("model.safetensors").exists());
    assert!(newest_checkpoint(&logdir) == before);
    // A run's own weights are a valid source.
    train(&logdir, &warm(&logdir), &Start::Fresh, usize::MAX).unwrap();
    assert!(newest_checkpoint(&logdir) != before);
}

#[test]
fn a_finished_run_is_compared_with_what_it_was_whatever_its_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let logdir = dir.path().join("run");
    let quiet = [("observe", "none")];
    finished(&logdir, &quiet);
    for text in ["", "learning-rate = = 3", "learning-rate = 0.5"] {
        std::fs::write(logdir.join("config.toml"), text).unwrap();
        let ended = train(&logdir, &quiet, &Start::Resume, usize::MAX).unwrap();
        assert!(matches!(ended, Ended::AlreadyFinished(_)), "{text:?}");
        let error = train(&logdir, &[quiet[0], ("learning-rate", "0.5")], &Start::Resume, usize::MAX).unwrap_err();
        assert_eq!(error.exit(), Exit::Config, "{text:?}");
        assert!(error.to_string().contains("learning-rate: was 0.01, now 0.5"), "{text:?}: {error}");
    }
}

#[test]
fn a_warm_start_takes_the_newest_run_of_which_the_weights_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let quiet = ("observe", "none");
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    finished(&old, &[quiet]);
    finished(&new, &[quiet, ("seed", "1")]);
    let first_weights = |name: &str| {
        let logdir = dir.path().join(name);
        stopped(&logdir, &[quiet, ("warm-start", "latest"), ("learning-rate", "1e-30")], 1);
        newest_checkpoint(&logdir)["model.safetensors"].clone()
    };
    let weights = |of: &Path| std::fs::read(of.join("model.safetensors")).unwrap();
    assert!(first_weights("a") == weights(&new));
    let mut bytes = weights(&new);
    let middle = bytes.len() - 100;
    bytes[middle] ^= 1;
    std::fs::write(new.join("model.safetensors"), &bytes).unwrap();
    assert!(first_weights("b") == weights(&old), "one bit is wrong in the newer one");
    std::fs::write(new.join("model.safetensors"), &bytes[..middle]).unwrap();
    assert!(first_weights("c") == weights(&old));
    let error = train(&dir.path().join("d"), &[quiet, ("warm-start", new.to_str().unwrap())], &Start::Resume, 1);
    assert_eq!(error.unwrap_err().exit(), Exit::Data);
}

#[test]
fn the_weights_of_a_run_that_goes_on_can_be_used_until_there_are_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let logdir = dir.path().join("run");
    let quiet = [("observe", "none"), ("epochs", "1")];
    finished(&logdir, &quiet);
    let before = std::fs::read(logdir.join("model.safetensors")).unwrap();
    stopped(&logdir, &[quiet[0]], 2);
    assert!(std::fs::read(logdir.join("model.safetensors")).unwrap() == before);
    assert!(!logdir.join("result.json").exists());
}

#[test]
fn a_fork_says_why_it_cannot_begin_and_forgets_what_is_of_other_images() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    let quiet = ("observe", "none");
    finished(&from, &[quiet]);
    let fork = |name: &str, more: &[(&str, &str)]| {
        train(&dir.path().join(name), &[&[quiet], more].concat(), &Start::Fork(from.clone()), usize::MAX)
    };
    let error = fork("same", &[]).unwrap_err();
    let want =
        format!("--fork-from {}: 3 epochs of that run are done, and --epochs asks for 3; ask for more", from.display());
    assert_eq!((error.to_string(), error.exit()), (want, Exit::Config));
    let error = fork("wide", &[("epochs", "4"), ("conv-filters", "9")]).unwrap_err();
    assert!(error.to_string().contains("its network has other layers:\n  conv-filters: was 3,4, now 9\n"), "{error}");
    let best = |name: &str| result(&dir.path().join(name))["best_validation_accuracy"].as_f64().unwrap();
    fork("on", &[("epochs", "4")]).unwrap();
    assert!(best("on") >= best("from"));
    fork("other", &[("epochs", "4"), ("limit-validation", "20"), ("learning-rate", "1e-30")]).unwrap();
    assert_eq!(best("other"), result(&dir.path().join("other"))["validation_accuracy"].as_f64().unwrap());
}

#[test]
fn the_best_epoch_is_kept_however_often_checkpoints_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let logdir = dir.path().join("run");
    let how = [("observe", "none"), ("checkpoint-every", "3steps"), ("keep-best", "val_loss"), ("keep-last", "1")];
    // The loss rises after the first epoch.
    finished(&logdir, &[&how[..], &[("learning-rate", "1")]].concat());
    let journal = std::fs::read_to_string(logdir.join("metrics.jsonl")).unwrap();
    let lines = journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let epochs = lines.filter(|line| line["kind"] == "epoch");
    let losses: Vec<(f64, u64)> = epochs
        .map(|line| (line["metrics"]["validation_loss"].as_f64().unwrap(), line["step"].as_u64().unwrap()))
        .collect();
    let best = losses.iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1;
    assert!(logdir.join(format!("checkpoints/ckpt-{best:012}")).exists(), "{losses:?}");
}

#[test]
fn the_weights_of_the_best_epoch_are_those_of_a_run_that_ends_with_it_however_often_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, short) = (dir.path().join("whole"), dir.path().join("short"));
    // The loss rises after the first epoch.
    let how = [("observe", "none"), ("learning-rate", "1")];
    finished(&whole, &how);
    let (told, weights) = best(&whole);
    let epoch = told["epoch"].as_u64().unwrap();
    assert!(epoch < 3 && told["weights"] == "best.safetensors", "{told}");
    let weights = weights.unwrap();
    assert_eq!(told["weights_blake3"], blake3::hash(&weights).to_hex().as_str());
    finished(&short, &[&how[..], &[("epochs", &epoch.to_string())]].concat());
    assert!(std::fs::read(short.join("model.safetensors")).unwrap() == weights);
    assert_eq!(best(&short).1, None, "it would be the same file twice");
    for of_both in ["validation_loss", "validation_accuracy"] {
        assert_eq!(told[of_both], result(&short)["best"][of_both]);
        assert_eq!(told[of_both], result(&short)[of_both]);
    }
    for every in ["1epochs", "5steps"] {
        for step in 1..STEPS {
            let logdir = dir.path().join(format!("{every}-{step}"));
            let how = [&how[..], &[("checkpoint-every", every)]].concat();
            stopped(&logdir, &how, step);
            finished(&logdir, &how);
            assert!(best(&logdir) == best(&whole), "{every}, stopped after step {step}");
        }
    }
    // Another process continues the run that ended with its best epoch.
    finished(&short, &how);
    assert!(best(&short) == best(&whole), "gone on with");
    // A best epoch that is no longer known leaves no file.
    train(&short, &[&how[..], &[("epochs", "1")]].concat(), &Start::Fresh, usize::MAX).unwrap();
    assert_eq!((best(&short).1, &best(&short).0["weights"]), (None, &"model.safetensors".into()));
}

#[test]
fn who_finds_a_run_in_use_leaves_its_figures_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (logdir, figures) = (dir.path().join("run"), dir.path().join("trainer.prom"));
    let owner = trainer::run_dir::RunDir::open(&logdir).unwrap();
    let how = [("observe", "none"), ("metrics-textfile", figures.to_str().unwrap())];
    let error = train(&logdir, &how, &Start::Resume, usize::MAX).unwrap_err();
    assert_eq!(error.exit(), Exit::CantCreate, "{error}");
    assert!(!figures.exists());
    drop(owner);
    finished(&logdir, &how);
    assert!(std::fs::read_to_string(&figures).unwrap().contains("\ntrainer_images_total{schedule=\"trainer\"} 510\n"));
}
