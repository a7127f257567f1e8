//! Guarantees for many runs below one log directory: every run is listed with its true state, even a damaged one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use support::hand_made::{finished, names, stopped, unfinished};
use support::listed::{rows, state};
use support::{Sandbox, finish, program, start};
use trainer::catalogue;
use trainer::config::Config;
use trainer::config::Knob;
use trainer::config::Layers;

/// A network and a data set that train in a tenth of a second.
const SMALL: &str = "--dataset synthetic --conv-filters 4,6 --dense-units 8 --epochs 2 --batch-size 50 \
                     --limit-train 120 --limit-validation 40 --image-freq 0 --histogram-freq 0";

/// Three runs, of which the last has another network.
static TRAINED: LazyLock<Sandbox> = LazyLock::new(|| {
    let sandbox = Sandbox::new();
    for (name, flags) in [("a", "--seed 1"), ("b", "--seed 2"), ("deep/er/c", "--dense-units 9")] {
        sandbox.run(&format!("{SMALL} {flags} --logdir logs/{name} --quiet")).succeeded();
    }
    sandbox
});

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

    // Listings from any directory, and of any length.
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
    // One line for each, with any characters in its name.
    assert_eq!(sandbox.run("runs logs").succeeded().stdout.lines().count(), want.len() + 1);
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
    // A pipe in place of a configuration does not block.
    std::fs::remove_file(found.path.join("config.toml")).unwrap();
    assert!(hand_made.command("mkfifo").arg(found.path.join("config.toml")).status().unwrap().success());
    assert!(!found.has_network_of(&config(&[])));
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
