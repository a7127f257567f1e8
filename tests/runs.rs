//! What a user may rely on with many runs below one log directory: no name leads out of it, every run is listed, however
//! damaged, and what is removed is removed whole and is what was meant.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use support::{Entry, Outcome, Sandbox, finish, is_root, program, skip, start};
use trainer::catalogue::{self, Policy, State};
use trainer::config::{Config, Knob, Layers};
use trainer::rng::{Purpose, Stream};
use trainer::run_name::{RunName, Template};
use trainer::types::{Seed, WallTime};

/// A network and a data set that train in a tenth of a second.
const SMALL: &str = "--dataset synthetic --conv-filters 4,6 --dense-units 8 --epochs 2 --batch-size 50 \
                     --limit-train 120 --limit-validation 40 --image-freq 0 --histogram-freq 0";

/// Three runs, the last of which has another network.
static TRAINED: LazyLock<Sandbox> = LazyLock::new(|| {
    let sandbox = Sandbox::new();
    for (name, flags) in [("a", "--seed 1"), ("b", "--seed 2"), ("deep/er/c", "--dense-units 9")] {
        sandbox.run(&format!("{SMALL} {flags} --logdir logs/{name} --quiet")).succeeded();
    }
    sandbox
});

/// What `trainer runs --json` prints, by path.
fn rows(outcome: Outcome) -> BTreeMap<String, Value> {
    let outcome = outcome.succeeded();
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        (row["path"].as_str().unwrap().to_owned(), row)
    };
    outcome.stdout.lines().map(row).collect()
}

fn state(sandbox: &Sandbox, path: &str) -> (String, String) {
    let rows = rows(sandbox.run("runs logs --json"));
    let row = rows.get(path).unwrap_or_else(|| panic!("no {path} in {rows:?}"));
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("note"))
}

/// A finished run by hand, which ended `minutes` after 2020.
fn finished(sandbox: &Sandbox, name: &str, minutes: u64, accuracy: f64) {
    unfinished(sandbox, name, minutes);
    let result = serde_json::json!({
        "version": 1, "status": "finished", "epochs": 3, "iterations": 12, "validation_accuracy": accuracy,
        "best_validation_accuracy": accuracy,
    });
    sandbox.write(&format!("{name}/model.safetensors"), "weights");
    dated(&sandbox.write(&format!("{name}/result.json"), result.to_string()), minutes);
}

fn unfinished(sandbox: &Sandbox, name: &str, minutes: u64) {
    for (file, content) in [
        ("config.toml", "epochs = 5  # command line\ndataset = \"synthetic\"\n"),
        ("run.lock", "1\n"),
        ("train/x", "x"),
    ] {
        dated(&sandbox.write(&format!("{name}/{file}"), content), minutes);
    }
}

fn stopped(sandbox: &Sandbox, name: &str, minutes: u64) {
    unfinished(sandbox, name, minutes);
    let manifest = r#"{"step": 938, "facts": {"epoch": 2, "validation_accuracy": 0.5}}"#;
    sandbox.write(&format!("{name}/checkpoints/ckpt-000000000938/manifest.json"), manifest);
    let checkpoints = sandbox.path(name).join("checkpoints");
    dated(&checkpoints.join("ckpt-000000000938"), minutes);
    dated(&checkpoints, minutes);
}

fn dated(path: &Path, minutes: u64) {
    const YEAR_2020: u64 = 1_577_836_800;
    File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(YEAR_2020 + 60 * minutes)).unwrap();
}

/// The names in a directory.
fn names(sandbox: &Sandbox, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.path(dir)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn trained_runs_are_listed_the_youngest_first() {
    let sandbox = &TRAINED;
    let outcome = sandbox.run("runs logs").succeeded();
    let lines: Vec<Vec<&str>> = outcome.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["RUN", "STATE", "ACCURACY", "BEST", "EPOCHS", "STEPS", "AGE", "SIZE", "NOTE"]);
    let listed: Vec<&[&str]> = lines[1..].iter().map(|line| &line[..2]).collect();
    assert_eq!(listed, [["logs/deep/er/c", "finished"], ["logs/b", "finished"], ["logs/a", "finished"]]);
    assert_eq!(outcome.stderr, "");

    let rows = rows(sandbox.run("runs --json logs"));
    let result: Value = serde_json::from_slice(&sandbox.read("logs/a/result.json")).unwrap();
    let a = &rows["logs/a"];
    for (key, of_result) in [
        ("validation_accuracy", "validation_accuracy"),
        ("best_validation_accuracy", "best_validation_accuracy"),
        ("epochs", "epochs"),
        ("step", "iterations"),
    ] {
        assert!(a[key].is_number() && a[key] == result[of_result], "{key}: {a} {result}");
    }
    assert_eq!((&a["epochs_asked"], &a["pid"], &a["note"]), (&2.into(), &Value::Null, &Value::Null));
    let content: u64 = files(&sandbox.path("logs/a"));
    let bytes = a["bytes"].as_u64().unwrap();
    assert!(bytes >= content && bytes < content + 500_000, "{bytes} for {content}");

    // From wherever one looks, and as many as one likes.
    assert_eq!(self::rows(sandbox.run("runs logs/deep --json")).len(), 1);
    assert_eq!(self::rows(sandbox.run("runs logs/a --json")).keys().next().unwrap(), "logs/a");
    assert!(sandbox.run("runs logs/a/train").succeeded().stderr.contains("no runs at or below logs/a/train"));
    assert_eq!(sandbox.run("runs logs --limit 1").succeeded().stdout.lines().count(), 2);
    assert_eq!(self::rows(sandbox.run("runs logs --json --state finished")).len(), 3);
    let none = sandbox.run("runs logs --state stopped").succeeded();
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "no stopped runs at or below logs\n"));
}

/// Bytes of all files below a directory.
fn files(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|e| if e.path().is_dir() { files(&e.path()) } else { e.metadata().unwrap().len() }).sum()
}

#[test]
fn the_command_line_is_checked() {
    let sandbox = Sandbox::new();
    sandbox.create_dir("logs");
    sandbox.write("file", "x");
    for command in ["runs", "prune --keep 1", "prune --keep 1 --dry-run"] {
        let outcome = sandbox.run(&format!("{command} logs")).succeeded();
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.contains("no runs") || outcome.stderr.contains("nothing to remove; 0 stay"));
        for wrong in ["nowhere", "file", "logs/nowhere/at/all"] {
            let outcome = sandbox.run(&format!("{command} {wrong}"));
            assert_eq!(outcome.code(), 66, "{}", outcome.stderr);
            assert!(
                outcome.stderr.contains(&format!("error: cannot list the runs in {wrong}: ")),
                "{}",
                outcome.stderr
            );
        }
    }
    for (arguments, said) in [
        ("runs", "<LOGDIR>"),
        ("runs logs --state done", "state from command line: got `done`, want one of `finished`, "),
        ("runs logs --limit 0", "limit from command line: got `0`, want a whole number, at least 1"),
        ("prune logs", "--keep <N>"),
        ("prune logs --keep -1", "keep from command line: got `-1`, want a whole number, at least 0"),
        ("prune logs --keep 1 --keep-best x", "keep-best from command line: got `x`, want a whole number, at least 0"),
    ] {
        let outcome = sandbox.run(arguments);
        assert_eq!(outcome.code(), 64, "{arguments}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(said), "{arguments}: {}", outcome.stderr);
    }
}

#[test]
fn nobody_has_to_read_the_list() {
    let line = "\"$0\" runs logs | true; exit ${PIPESTATUS[0]}";
    assert_eq!(finish(TRAINED.command("bash").args(["-c", line, program()])).code(), 0);
}

#[test]
fn a_run_is_running_while_its_process_lives() {
    let sandbox = Sandbox::new();
    let flags = "--dataset synthetic --conv-filters 4 --dense-units 8 --epochs 1000000 --limit-train 64 --limit-validation 32 \
                 --threads 1 --observe none --logdir logs/run";
    let mut running = start(sandbox.trainer(flags.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null()));
    running.wait_until("training", || sandbox.path("logs/run/config.toml").exists());
    let row = rows(sandbox.run("runs logs --json")).remove("logs/run").unwrap();
    assert_eq!((row["state"].as_str().unwrap(), row["pid"].as_u64()), ("running", Some(running.pid().into())));
    let outcome = sandbox.run("prune logs --keep 0 --unfinished").succeeded();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", "nothing to remove; 1 stays\n"));
    assert!(running.is_running());
    running.signal("KILL");
    running.finish();
    let (state, _) = state(&sandbox, "logs/run");
    assert!(state == "unfinished" || state == "stopped", "{state}");
}

#[test]
fn a_run_that_was_stopped_says_how_far_it_came() {
    let sandbox = Sandbox::new();
    let endless = SMALL.replace("--epochs 2", "--epochs 1000000");
    let arguments = format!("{endless} --logdir logs/run");
    let mut running = start(sandbox.trainer(arguments.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null()));
    running.wait_until("a checkpoint", || {
        std::fs::read_dir(sandbox.path("logs/run/checkpoints"))
            .is_ok_and(|found| found.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("ckpt-")))
    });
    let row = rows(sandbox.run("runs logs --json")).remove("logs/run").unwrap();
    assert_eq!(row["state"], "running");
    assert!(row["epochs"].as_u64() >= Some(1) && row["validation_accuracy"].is_number(), "{row}");
    running.signal("TERM");
    running.finish();
    let row = rows(sandbox.run("runs logs --json")).remove("logs/run").unwrap();
    assert_eq!((row["state"].as_str(), row["epochs_asked"].as_u64()), (Some("stopped"), Some(1_000_000)), "{row}");
    let newest = names(&sandbox, "logs/run/checkpoints").into_iter().filter(|name| name.starts_with("ckpt-")).max();
    assert_eq!(newest, row["step"].as_u64().map(|step| format!("ckpt-{step:012}")), "{row}");
    assert_eq!(row["step"], row["checkpoint_step"]);
    for key in ["validation_accuracy", "best_validation_accuracy"] {
        assert!(row[key].as_f64().is_some_and(|share| share > 0.0), "{key}: {row}");
    }
    assert!(row["epochs"].as_u64() >= Some(1), "{row}");

    let outcome = sandbox
        .run(&format!("{SMALL} --logdir logs/bad --optimizer sgd --learning-rate 100 --weight-decay 10 --threads 2"));
    assert_eq!(outcome.code(), 65, "{}", outcome.stderr);
    let (state, note) = state(&sandbox, "logs/bad");
    assert!(state == "failed" && note.starts_with("training diverged"), "{state} {note}");
}

#[test]
fn whatever_is_in_a_directory_is_listed() {
    let sandbox = Sandbox::new();
    finished(&sandbox, "logs/good", 0, 0.9);
    finished(&sandbox, "outside", 0, 0.9);
    let broken = |name: &str, file: &str, content: &[u8]| {
        finished(&sandbox, &format!("logs/{name}"), 0, 0.9);
        sandbox.write(&format!("logs/{name}/{file}"), content);
    };
    broken("cut", "result.json", b"{\"status\": \"fini");
    broken("empty", "result.json", b"");
    broken("list", "result.json", b"[1, 2]");
    broken("deep", "result.json", &[b'['; 100_000]);
    broken("long", "result.json", &vec![b' '; (1 << 20) + 1]);
    broken(
        "odd",
        "result.json",
        br#"{"status": "finished", "epochs": -1, "validation_accuracy": 7, "iterations": "x"}"#,
    );
    broken("failed", "result.json", br#"{"status": "diver\u001b[31mged"}"#);
    broken("binary", "config.toml", &[0xff; 100]);
    broken("config", "config.toml", b"epochs = ");
    broken("nul", "run.lock", b"\0\0\0");
    let replaced = |name: &str, file: &str| {
        finished(&sandbox, &format!("logs/{name}"), 0, 0.9);
        let path = sandbox.path(format!("logs/{name}/{file}"));
        std::fs::remove_file(&path).unwrap();
        path
    };
    std::os::unix::fs::symlink("/dev/zero", replaced("zero", "result.json")).unwrap();
    std::os::unix::fs::symlink("run.lock", replaced("loop", "run.lock")).unwrap();
    std::fs::create_dir(replaced("dir", "result.json")).unwrap();
    for (name, file) in [("pipe", "config.toml"), ("pipes", "run.lock")] {
        let path = replaced(name, file);
        assert!(sandbox.command("mkfifo").arg(path).status().unwrap().success());
    }
    replaced("lost", "config.toml");
    sandbox.write("logs/half/run.lock", "");
    sandbox.write("logs/other/config.toml", "");
    unfinished(&sandbox, "logs/un\nfinished", 0);
    stopped(&sandbox, "logs/stopped", 0);
    stopped(&sandbox, "logs/newer", 0);
    sandbox.write("logs/newer/checkpoints/ckpt-000000001000/manifest.json", "{");
    stopped(&sandbox, "logs/torn", 0);
    sandbox.write("logs/torn/checkpoints/ckpt-000000000938/manifest.json", "");
    stopped(&sandbox, "logs/replaced", 0);
    std::fs::rename(
        sandbox.path("logs/replaced/checkpoints/ckpt-000000000938"),
        sandbox.path("logs/replaced/checkpoints/ckpt-000000000938.old"),
    )
    .unwrap();
    finished(&sandbox, "logs/ended", 0, 0.9);
    sandbox.write("logs/ended/checkpoints/ckpt-000000000938/manifest.json", "");
    stopped(&sandbox, "logs/diverged", 0);
    let epoch = r#"{"v":1,"kind":"epoch","step":500,"epoch":1,"metrics":{"validation_accuracy":0.25}}"#;
    let failed = r#"{"v":1,"kind":"final","status":"failed","error":"training diverged","exit_code":65}"#;
    let begun = r#"{"v":1,"kind":"start","step":500,"epoch":1}"#;
    let long = "x".repeat(100_000);
    sandbox.write("logs/diverged/metrics.jsonl", format!("{long}\n{epoch}\n{failed}\n"));
    stopped(&sandbox, "logs/again", 0);
    sandbox.write("logs/again/metrics.jsonl", format!("{epoch}\n{failed}\n{begun}\n{{\"v\":1,\"kin"));
    unfinished(&sandbox, "logs/early", 0);
    sandbox.write("logs/early/metrics.jsonl", format!("{epoch}\n"));
    unfinished(&sandbox, "logs/file", 0);
    sandbox.write("logs/file/checkpoints", "");
    unfinished(&sandbox, "logs/none", 0);
    sandbox.write("logs/none/checkpoints/ckpt-1/manifest.json", "{}");
    unfinished(&sandbox, "logs/.hidden", 0);
    unfinished(&sandbox, "logs/1/2/3/4/5/6/7/8", 0);
    unfinished(&sandbox, "logs/1/2/3/4/5/6/7/x/9", 0);
    sandbox.link("logs/link", "../outside");
    sandbox.link("logs/1/up", "..");

    let before = sandbox.tree();
    let outcome = sandbox.run("runs logs --json");
    assert!(outcome.stderr.contains("warning: there is more below than was looked at"), "{}", outcome.stderr);
    let rows = rows(outcome);
    assert_eq!(sandbox.tree(), before, "looking changes nothing");
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let found: Vec<(&str, String, String)> = rows
        .iter()
        .map(|(path, row)| (path.strip_prefix("logs/").unwrap(), text(row, "state"), text(row, "note")))
        .collect();
    let want = [
        ("1/2/3/4/5/6/7/8", "unfinished", ""),
        ("again", "stopped", ""),
        ("binary", "damaged", "config.toml: not TOML"),
        ("config", "damaged", "config.toml: not TOML"),
        ("cut", "damaged", "result.json: not JSON"),
        ("deep", "damaged", "result.json: not JSON"),
        ("dir", "damaged", "result.json: not a regular file"),
        ("diverged", "failed", "training diverged"),
        ("early", "unfinished", ""),
        ("empty", "damaged", "result.json: not JSON"),
        ("ended", "finished", ""),
        ("failed", "failed", "diver\u{1b}[31mged"),
        ("file", "damaged", "checkpoints: not a directory"),
        ("good", "finished", ""),
        ("list", "damaged", "result.json: says no status"),
        ("long", "damaged", "result.json: longer than 1048576 bytes"),
        ("loop", "damaged", "run.lock: a symbolic link"),
        ("lost", "damaged", "config.toml: missing"),
        ("newer", "stopped", ""),
        ("none", "unfinished", ""),
        ("nul", "finished", ""),
        ("odd", "finished", ""),
        ("pipe", "damaged", "config.toml: not a regular file"),
        ("pipes", "damaged", "run.lock: not a regular file"),
        ("replaced", "stopped", ""),
        ("stopped", "stopped", ""),
        ("torn", "damaged", "checkpoints: ckpt-000000000938/manifest.json: not JSON"),
        ("un\nfinished", "unfinished", ""),
        ("zero", "damaged", "result.json: a symbolic link"),
    ];
    assert_eq!(found, want.map(|(path, state, note)| (path, state.to_owned(), note.to_owned())));
    for name in ["stopped", "newer", "replaced", "again", "diverged"] {
        let row = &rows[&format!("logs/{name}")];
        let progress = (row["step"].as_u64(), row["epochs"].as_u64(), row["epochs_asked"].as_u64());
        assert_eq!(progress, (Some(938), Some(2), Some(5)), "{row}");
        assert_eq!((&row["validation_accuracy"], &row["checkpoint_step"]), (&0.5.into(), &938.into()));
    }
    let early = &rows["logs/early"];
    let progress = (early["step"].as_u64(), early["epochs"].as_u64(), early["validation_accuracy"].as_f64());
    assert_eq!((progress, &early["checkpoint_step"]), ((Some(500), Some(1), Some(0.25)), &Value::Null));
    for key in ["validation_accuracy", "epochs", "step"] {
        assert!(rows["logs/odd"][key].is_null(), "{key}");
    }
    // A line for each, whatever is in its name.
    assert_eq!(sandbox.run("runs logs").succeeded().stdout.lines().count(), want.len() + 1);
}

/// Runs of every state, named after how young they are.
fn mixed(sandbox: &Sandbox) {
    for (name, minutes, accuracy) in [("1", 1, 0.5), ("2", 2, 0.9), ("3", 3, 0.7), ("4", 4, 0.9), ("5", 5, 0.1)] {
        finished(sandbox, &format!("logs/{name}"), minutes, accuracy);
    }
    unfinished(sandbox, "logs/u0", 0);
    stopped(sandbox, "logs/s6", 6);
    finished(sandbox, "logs/damaged", 0, 0.9);
    sandbox.write("logs/damaged/result.json", "{");
    finished(sandbox, "logs/more/7", 7, 0.2);
    sandbox.write("logs/notes.txt", "mine");
}

#[test]
fn the_plan_keeps_the_youngest_and_the_best() {
    let sandbox = Sandbox::new();
    mixed(&sandbox);
    for (keep, keep_best, unfinished, want) in [
        (100, 0, false, ""),
        (6, 0, false, ""),
        (5, 0, false, "1"),
        (2, 0, false, "1 2 3 4"),
        (0, 0, false, "1 2 3 4 5 7"),
        (1, 1, false, "1 2 3 5"),
        (1, 2, false, "1 3 5"),
        (4, 1, false, "1 2"),
        (0, 1, false, "1 2 3 5 7"),
        (1, 100, false, ""),
        (1, 0, true, "u0 1 2 3 4 5 s6"),
        (2, 0, true, "u0 1 2 3 4 5"),
        (2, 3, true, "u0 1 5"),
    ] {
        let plan = Policy { keep, keep_best, unfinished }.plan(catalogue::list(&sandbox.path("logs")).unwrap().runs);
        assert_eq!(plan.keep.len() + plan.remove.len(), 9);
        let name = |run: &catalogue::Run| run.path.file_name().unwrap().to_string_lossy().into_owned();
        let gone: Vec<String> = plan.remove.iter().map(name).collect();
        assert_eq!(gone.join(" "), want, "--keep {keep} --keep-best {keep_best} --unfinished {unfinished}");
    }
}

#[test]
fn the_oldest_finished_runs_go() {
    let sandbox = Sandbox::new();
    for (flags, order) in [("--keep 4 --keep-best 1", "1 2"), ("--keep 2 --unfinished", "u0 1 2 3 4 5")] {
        mixed(&sandbox);
        let before = sandbox.tree();
        let order: Vec<PathBuf> = order.split(' ').map(|name| Path::new("logs").join(name)).collect();
        let listed = catalogue::list(&sandbox.path("logs")).unwrap().runs;
        let goes = |run: &&catalogue::Run| order.iter().any(|path| run.is_in(&sandbox.path(path)));
        let bytes: u64 = listed.iter().filter(goes).map(|run| run.size().bytes).sum();
        let dry = sandbox.run(&format!("prune logs --dry-run {flags}")).succeeded();
        assert_eq!(sandbox.tree(), before, "{flags}");
        let outcome = sandbox.run(&format!("prune logs {flags}")).succeeded();
        for (outcome, verb) in [(dry, "would remove"), (outcome, "removed")] {
            let words = format!("{verb} ");
            let went = outcome.stdout.lines().map(|line| line.strip_prefix(&words).unwrap().split(' ').next().unwrap());
            assert_eq!(went.map(PathBuf::from).collect::<Vec<_>>(), order, "{flags}");
            let (count, stay) = (order.len(), 9 - order.len());
            let sum = format!("{verb} {count} runs, {:.1} KiB; {stay} stay\n", bytes as f64 / 1024.0);
            assert_eq!(outcome.stderr, sum, "{flags}");
        }
        // What stays is as it was, and what was to go has gone.
        let mut want = before;
        want.retain(|path, _| !order.iter().any(|gone| path.starts_with(gone)));
        assert!(sandbox.tree() == want, "{flags}");
    }
}

#[test]
fn what_a_run_links_to_is_left_alone() {
    let sandbox = Sandbox::new();
    finished(&sandbox, "logs/run", 0, 0.9);
    finished(&sandbox, "elsewhere/run", 0, 0.9);
    sandbox.write("outside/precious.txt", "mine");
    sandbox.link("logs/run/dir", "../../outside");
    sandbox.link("logs/run/train/file", "../../../outside/precious.txt");
    sandbox.link("logs/run/root", "/");
    sandbox.link("logs/run/up", "..");
    sandbox.link("logs/away", "../elsewhere");
    sandbox.link("logs/run2", "../elsewhere/run");
    let before = sandbox.tree();
    let outcome = sandbox.run("prune logs --keep 0 --unfinished").succeeded();
    assert_eq!(outcome.stdout.lines().count(), 1, "{}", outcome.stdout);
    let after = sandbox.tree();
    assert!(after.iter().all(|(path, entry)| before[path] == *entry));
    assert_eq!(names(&sandbox, "logs"), ["away", "run2"]);
    assert_eq!(after.len(), before.len() - before.keys().filter(|path| path.starts_with("logs/run")).count());
}

#[test]
fn a_run_that_somebody_uses_stays() {
    let sandbox = Sandbox::new();
    for name in ["held", "outer", "free"] {
        finished(&sandbox, &format!("logs/{name}"), 1, 0.9);
    }
    finished(&sandbox, "logs/outer/inner", 1, 0.9);
    // Without a lock it is one all the same.
    std::fs::remove_file(sandbox.path("logs/outer/inner/run.lock")).unwrap();
    let lock = File::open(sandbox.path("logs/held/run.lock")).unwrap();
    lock.lock().unwrap();
    let before = sandbox.tree();
    assert_eq!(state(&sandbox, "logs/held"), ("running".to_owned(), "process 1".to_owned()));
    for flags in ["--dry-run", ""] {
        let outcome = sandbox.run(&format!("prune logs --keep 0 {flags}"));
        assert_eq!(outcome.code(), 0, "a good reason is no failure: {}", outcome.stderr);
        let said = "warning: run logs/outer has another run in it; it is left as it is: move that one away first";
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        assert_eq!(outcome.stdout.lines().count(), 1, "the other one goes all the same: {}", outcome.stdout);
    }
    assert_eq!(names(&sandbox, "logs"), ["held", "outer"]);
    assert!(sandbox.tree().iter().all(|(path, entry)| before[path] == *entry));

    let policy = Policy { keep: 0, keep_best: 0, unfinished: false };
    let listing = catalogue::list(&sandbox.path("logs")).unwrap();
    let mut held = listing.runs.into_iter().find(|run| run.path.ends_with("held")).unwrap();
    // As it looked before somebody began to train it on.
    held.state = State::Finished;
    let error = catalogue::remove(&held, policy).unwrap_err();
    assert!(error.to_string().ends_with("logs/held is in use by now; it is left as it is"), "{error}");
    lock.unlock().unwrap();
    std::fs::remove_file(sandbox.path("logs/held/result.json")).unwrap();
    let error = catalogue::remove(&held, policy).unwrap_err();
    let said = "logs/held has changed since it was looked at (unfinished); it is left as it is";
    assert!(error.to_string().ends_with(said), "{error}");
    std::fs::remove_dir_all(sandbox.path("logs/held")).unwrap();
    let error = catalogue::remove(&held, policy).unwrap_err();
    assert!(error.is_a_matter_of_course() && !sandbox.path("logs/held").exists(), "{error}");

    let outcome = sandbox.run("prune logs/outer --keep 0");
    assert_eq!(outcome.code(), 64);
    assert!(outcome.stderr.contains("logs/outer is itself a run; name the directory that it lies in"));
}

#[test]
fn a_directory_that_cannot_be_changed_is_an_error() {
    if is_root() {
        return skip("permissions do not bind root");
    }
    let sandbox = Sandbox::new();
    finished(&sandbox, "logs/run", 0, 0.9);
    let mut permissions = sandbox.path("logs").metadata().unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o555);
    std::fs::set_permissions(sandbox.path("logs"), permissions.clone()).unwrap();
    let before = sandbox.tree();
    let outcome = sandbox.run("prune logs --keep 0");
    assert_eq!(outcome.code(), 77, "{}", outcome.stderr);
    assert_eq!(sandbox.tree(), before);
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(sandbox.path("logs"), permissions).unwrap();
}

#[test]
fn what_a_killed_prune_left_is_removed_by_the_next() {
    let sandbox = Sandbox::new();
    finished(&sandbox, "logs/run", 0, 0.9);
    for name in [".trash-7-half", "group/.trash-4294967295-a-b"] {
        finished(&sandbox, &format!("logs/{name}"), 0, 0.9);
    }
    std::fs::remove_file(sandbox.path("logs/.trash-7-half/run.lock")).unwrap();
    finished(&sandbox, "logs/.trash-8-busy", 0, 0.9);
    let others = [".trash", ".trash-x-y", ".trash-7", ".trash-7-", ".trash-99999999999-a"];
    others.iter().for_each(|name| sandbox.create_dir(&format!("logs/{name}")));
    sandbox.write("outside/precious.txt", "mine");
    sandbox.link("logs/.trash-9-link", "../outside");
    let lock = File::open(sandbox.path("logs/.trash-8-busy/run.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(rows(sandbox.run("runs logs --json")).len(), 1, "no list shows it");
    let before = sandbox.tree();
    let dry = sandbox.run("prune logs --keep 1 --dry-run").succeeded();
    assert_eq!(dry.stdout.lines().count(), 3, "{}", dry.stdout);
    assert_eq!(sandbox.tree(), before);
    let outcome = sandbox.run("prune logs --keep 1").succeeded();
    assert_eq!(outcome.stdout.lines().count(), 2, "{}", outcome.stdout);
    assert!(outcome.stdout.contains("removed logs/.trash-7-half (left by a prune that was stopped, "));
    assert!(outcome.stderr.contains(".trash-8-busy is in use"), "{}", outcome.stderr);
    assert!(names(&sandbox, "logs/group").is_empty());
    let mut want: Vec<&str> = [".trash-8-busy", ".trash-9-link", "group", "run"].into_iter().chain(others).collect();
    want.sort_unstable();
    assert_eq!(names(&sandbox, "logs"), want);
    assert_eq!(sandbox.read("outside/precious.txt"), b"mine");
}

/// Kills the program at every change that it makes to the directory, the k-th of each kind, until it gets to its end.
#[test]
fn a_prune_that_is_killed_anywhere_leaves_no_half_of_a_run() {
    let sandbox = Sandbox::new();
    let traced = |how: &[&str]| {
        let mut command = sandbox.command("strace");
        command.args(["-f", "-qq", "-o", "/dev/null"]).args(how);
        command
    };
    if sandbox.command("strace").args(["-qq", "-o", "/dev/null", "true"]).status().map_or(true, |s| !s.success()) {
        return skip("no strace here");
    }
    let seed = || {
        for (name, minutes) in [("old", 0), ("young", 1)] {
            finished(&sandbox, &format!("logs/{name}"), minutes, 0.9);
        }
    };
    let of = |name: &str| -> Vec<(PathBuf, Entry)> {
        sandbox.tree().into_iter().filter(|(path, _)| path.starts_with(format!("logs/{name}"))).collect()
    };
    seed();
    let (old, young) = (of("old"), of("young"));
    let mut kills = 0;
    // A call that this machine does not have is not made.
    for call in ["rename", "renameat", "renameat2", "fsync", "unlink", "unlinkat", "rmdir"] {
        for k in 1.. {
            assert!(k < 100, "{call} has no end");
            seed();
            let (trace, inject) = (format!("trace=?{call}"), format!("inject=?{call}:signal=SIGKILL:when={k}"));
            let mut command = traced(&["-e", &trace, "-e", &inject]);
            let outcome = finish(command.args([program(), "prune", "logs", "--keep", "1"]));
            let is_killed = outcome.code() == 137;
            assert!(is_killed || outcome.code() == 0, "{call} {k}: {}", outcome.stderr);
            assert!(of("young") == young, "{call} {k}");
            let left = of("old");
            assert!(left == old || left.is_empty(), "{call} {k}: half of a run: {left:?}");
            let listed = catalogue::list(&sandbox.path("logs")).unwrap();
            assert_eq!(listed.runs.len(), 1 + usize::from(!left.is_empty()), "{call} {k}");
            assert!(listed.runs.iter().all(|run| run.state == State::Finished), "{call} {k}: {listed:?}");
            kills += i32::from(is_killed);
            // The next one.
            for trash in &listed.trash {
                catalogue::clear_trash(trash).unwrap();
            }
            let policy = Policy { keep: 1, keep_best: 0, unfinished: false };
            for run in policy.plan(listed.runs).remove {
                catalogue::remove(&run, policy).unwrap();
            }
            assert_eq!(names(&sandbox, "logs"), ["young"], "{call} {k}");
            if !is_killed {
                break;
            }
        }
    }
    assert!(kills >= 8, "only {kills} kills");
    proof(&format!("X kills of a prune: {kills} points, 0 failures"));
}

#[test]
fn new_training_begins_with_the_newest_run_of_the_same_network() {
    let sandbox = &TRAINED;
    let config = |flags: &[(&str, &str)]| -> Config {
        let mut layers = Layers::new();
        layers.file(&sandbox.path("logs/a/config.toml")).unwrap();
        for (key, value) in flags {
            layers.command_line(Knob::find(key).unwrap(), (*value).to_owned());
        }
        layers.resolve().unwrap().config
    };
    let newest = |config: &Config, own: &str| {
        let own = sandbox.path(own);
        catalogue::good(&sandbox.path("logs"), &|run| !run.is_in(&own) && run.has_network_of(config))
            .first()
            .map(|run| run.path.strip_prefix(sandbox.path("logs")).unwrap().to_string_lossy().into_owned())
    };
    let other_seed = config(&[("seed", "9"), ("epochs", "7"), ("learning-rate", "0.1")]);
    assert_eq!(newest(&other_seed, "logs/new").as_deref(), Some("b"));
    assert_eq!(newest(&other_seed, "logs/./b/../b").as_deref(), Some("a"), "not itself");
    assert_eq!(newest(&config(&[("dense-units", "9")]), "x").as_deref(), Some("deep/er/c"));
    for (key, value) in [("dense-units", "10"), ("conv-filters", "4"), ("kernel-size", "5"), ("dataset", "mnist")] {
        assert_eq!(newest(&config(&[(key, value)]), "x"), None, "{key}");
    }
    assert!(catalogue::good(&sandbox.path("nowhere"), &|_| true).is_empty());

    let hand_made = Sandbox::new();
    finished(&hand_made, "logs/good", 1, 0.9);
    finished(&hand_made, "logs/no-weights", 2, 0.9);
    std::fs::remove_file(hand_made.path("logs/no-weights/model.safetensors")).unwrap();
    stopped(&hand_made, "logs/stopped", 3);
    let found = catalogue::good(&hand_made.path("logs"), &|_| true).remove(0);
    assert_eq!(found.path, hand_made.path("logs/good"));
    // A pipe for a configuration keeps nobody waiting.
    std::fs::remove_file(found.path.join("config.toml")).unwrap();
    assert!(hand_made.command("mkfifo").arg(found.path.join("config.toml")).status().unwrap().success());
    assert!(!found.has_network_of(&config(&[])));
}

/// Whether a name is one that everybody can live with, told without the code under test.
fn is_plain(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let is_component = Path::new(name).components().collect::<Vec<_>>() == [Component::Normal(name.as_ref())];
    (1..=128).contains(&name.len())
        && name.bytes().all(fits)
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && !name.contains("..")
        && !name.ends_with('.')
        && is_component
}

fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "",
        " ",
        ".",
        "..",
        "...",
        "../",
        "../..",
        "../x",
        "a/..",
        "a/../..",
        "a/../../b",
        "./a",
        "a/.",
        "a/./b",
        "/",
        "//",
        "/etc",
        "/etc/passwd",
        "//proc/self/root",
        "/proc/self/fd/3",
        "/dev/null",
        "~",
        "~root",
        "~/x",
        "$HOME",
        "${HOME}",
        "$(id)",
        "`id`",
        "a;b",
        "a&b",
        "a|b",
        "a>b",
        "a<b",
        "a*b",
        "a?b",
        "a[b]",
        "a{b}",
        "a!b",
        "a#b",
        "a#/../../b",
        "a%b",
        "a^b",
        "a(b)",
        "a'b",
        "a\"b",
        "a\\b",
        "a b",
        " a",
        "a ",
        "a,b",
        "a:b",
        "a=b",
        "a+b",
        "a@b",
        "%2e%2e%2f",
        "%2e%2e/x",
        "..%2f",
        "%2f",
        "%00",
        "..%c0%af",
        "..%252f",
        "..;/",
        "..\\",
        "..\\..\\x",
        "C:\\x",
        "C:",
        "\\\\host\\share",
        "a\0b",
        "\0",
        "a\0.txt",
        "a\nb",
        "a\r\nb",
        "a\n",
        "\n",
        "a\tb",
        "\u{7f}",
        "\u{1b}[31m",
        "\u{1b}]0;x\u{7}",
        "-",
        "--",
        "-rf",
        "--help",
        "-a",
        "_",
        "_a",
        ".a",
        ".trash-1-a",
        ".tmp-a",
        ".git",
        "a.",
        "a..",
        "a..b",
        "a...b",
        "..a",
        "a.-.b",
        "a-",
        "a_",
        "a--b",
        "CON",
        "con",
        "NUL",
        "COM1",
        "LPT9",
        "AUX.txt",
        "nul.",
        "train",
        "checkpoints",
        "run.lock",
        "0",
        "1e3",
        "true",
        "null",
        "é",
        "aé",
        "ünï",
        "日本",
        "a\u{301}",
        "\u{202e}gpj.a",
        "a\u{202e}b",
        "\u{200f}a",
        "a\u{200b}b",
        "\u{feff}a",
        "a\u{2028}b",
        "a\u{2029}b",
        "a\u{a0}b",
        "a\u{2024}b",
        "\u{ff0e}\u{ff0e}\u{ff0f}",
        "a\u{2215}b",
        "a\u{2044}b",
        "a\u{ff0f}b",
        "\u{ff21}",
        "\u{430}",
        "a\u{fe0f}",
        "😀",
        "\u{10ffff}",
        "\u{fffd}",
        "Z",
        "z9",
        "9Z",
    ]
    .map(str::to_owned)
    .into();
    // Every control character and sign, within a name and before it.
    for c in (0..=0x2f).chain(0x3a..=0x40).chain(0x5b..=0x60).chain(0x7b..=0xa0).filter_map(char::from_u32) {
        names.extend([format!("a{c}b"), format!("{c}a")]);
    }
    for length in [127, 128, 129, 255, 256, 4096, 1 << 20] {
        names.extend([".", "a", "../", "é", "a.", "{{"].map(|part| part.repeat(length)[..].to_owned()));
    }
    names
}

#[test]
fn no_name_leads_out_of_the_log_directory() {
    let sandbox = Sandbox::new();
    sandbox.create_dir("above/logs");
    sandbox.write("above/canary/config.toml", "mine");
    sandbox.link("above/logs/away", "../canary");
    let canary = sandbox.tree();
    let logdir = sandbox.path("above/logs");
    let names = hostile_names();
    let (mut points, mut taken) = (0, Vec::new());
    for name in &names {
        let lookup = |_: &str| Some(name.clone());
        let made = [
            RunName::new(name.clone()).ok(),
            Template::parse(name).ok().and_then(|template| template.name(WallTime::default(), &lookup).ok()),
            Template::parse("{host}").unwrap().name(WallTime::default(), &lookup).ok(),
            Template::parse("a{seed}-{host}").unwrap().name(WallTime::default(), &lookup).ok(),
        ];
        for run in made.into_iter().flatten() {
            assert!(is_plain(run.as_str()), "{name:?} gives {:?}", run.as_str());
            let path = run.within(&logdir).unwrap();
            assert_eq!(path.parent(), Some(logdir.as_path()));
            std::fs::create_dir_all(&path).unwrap();
            taken.push(path);
        }
        points += 1;
    }
    assert!(points >= 200, "{points}");
    assert_eq!(RunName::new("CON").unwrap().as_str(), "CON");
    for name in ["../x", "/etc", "%2e%2e%2f", "a\0b", "a\r\nb", "a\u{202e}b", &"a".repeat(4096)] {
        assert!(RunName::new(name).is_err(), "{name:?}");
    }
    assert_eq!(trainer::exit::Classify::exit(&RunName::new("away").unwrap().within(&logdir).unwrap_err()).code(), 73);
    for path in taken {
        let _ = std::fs::remove_dir(path);
    }
    assert_eq!(sandbox.tree(), canary, "something was made elsewhere");
    proof(&format!("X hostile run names: {points} points, 0 failures"));
}

#[test]
fn no_template_makes_a_name_that_is_not_plain() {
    const POINTS: u64 = 100_000;
    let seeds = [
        "{date}-{time}",
        "{datetime}",
        "mnist-s{seed}_lr{learning-rate}",
        "{host}.{dataset}",
        "{{{seed}}}",
        "a{{b}}c",
        "{conv-filters}-{dense-units}",
        "run",
        "{learning_rate}",
    ];
    let parts = [
        "{", "}", "{{", "}}", "{date}", "{seed}", "{host}", "{dat}", "{}", ".", "..", "/", "-", "_", "\0", "é",
        "\u{202e}", "a", "0", " ", "{a", "b}",
    ];
    let values = ["", ".", "..", "../../etc", "1e-3", "a\0", "é", "-", "{date}", "x.", &"y".repeat(200)];
    let mut chance = Stream::new(Seed(1), Purpose::Initialise, 0, 0);
    let (mut accepted, mut named) = (0, 0);
    for point in 0..POINTS {
        let mut below = |n: usize| usize::try_from(chance.below(n as u64)).unwrap();
        let mut text: Vec<char> = seeds[below(seeds.len())].chars().collect();
        for _ in 0..=below(4) {
            let at = below(text.len() + 1);
            match below(3) {
                0 => drop(text.splice(at..at, parts[below(parts.len())].chars())),
                1 => drop(text.drain(at..(at + 1 + below(3)).min(text.len()).max(at))),
                _ => text.extend_from_within(at..),
            }
        }
        let text: String = text.into_iter().collect();
        let (value, now) = (values[below(values.len())], WallTime::from_secs(below(1 << 40) as f64).unwrap());
        let Ok(template) = Template::parse(&text) else { continue };
        accepted += 1;
        assert_eq!(template.to_string(), text);
        let Ok(name) = template.name(now, &|_| Some(value.to_owned())) else { continue };
        named += 1;
        assert!(is_plain(name.as_str()), "point {point}: {text:?} with {value:?} gives {:?}", name.as_str());
    }
    assert!(
        accepted > POINTS / 20 && named > POINTS / 50,
        "{accepted} templates, {named} names: too few to say anything"
    );
    proof(&format!("X run-name templates: {POINTS} points, 0 failures"));
}

#[test]
fn a_health_check_asks_for_a_sign_of_life() {
    let sandbox = Sandbox::new();
    sandbox.write("logs/fit/config.toml", "dataset = \"synthetic\"\n");
    sandbox.write("logs/fit/run.lock", "1\n");
    let outcome = sandbox.run("runs logs --max-age 1h");
    assert_eq!((outcome.code(), outcome.says("logs/fit")), (0, true), "{}", outcome.stderr);
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3700);
    for name in ["logs/fit/config.toml", "logs/fit/run.lock"] {
        let file = File::options().write(true).open(sandbox.path(name)).unwrap();
        file.set_modified(hour_ago).unwrap();
    }
    let outcome = sandbox.run("runs logs --max-age 1h");
    assert_eq!(outcome.code(), 69, "{}", outcome.stdout);
    assert!(outcome.says("no run at or below logs has written anything within 1h"), "{}", outcome.stderr);
    assert_eq!(sandbox.run("runs logs --max-age soon").code(), 64);
    assert_eq!(sandbox.run("runs logs --max-age 2h").code(), 0);
}

/// Says what was tried, where it is seen without a flag.
fn proof(text: &str) {
    let _ = writeln!(std::io::stderr(), "proof: {text}");
}
