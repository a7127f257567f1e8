//! Guarantees of training: the same bits with or without observers, precedence of settings, clean endings.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Outcome, Running, Sandbox, finish, idx, program, skip, small_mnist, start};

/// A network and a data set that train in a tenth of a second; the last batch of 120 images is short.
const SMALL: &str = "--dataset synthetic --conv-filters 4,6 --dense-units 8 --epochs 2 --batch-size 50 \
                     --limit-train 120 --limit-validation 40";
const SILENT: &str = "--observe none";
const WATCHED: &str = "--update-freq batch --observe \
                       gradcam=every:1step,weights=every:1step,gradients=every:1step,activations=every:1step";
/// More epochs than any test waits for.
const ENDLESS: &str = "--dataset synthetic --conv-filters 4 --dense-units 8 --epochs 1000000 --limit-train 640 \
                       --limit-validation 32 --threads 1 --logdir run";

/// Weights after a short run.
fn weights(sandbox: &Sandbox, logdir: &str, flags: &str) -> Vec<u8> {
    sandbox.run(&format!("{SMALL} --logdir {logdir} {flags}")).succeeded();
    sandbox.read(&format!("{logdir}/model.safetensors"))
}

/// The values printed by `trainer config`.
fn table(text: &[u8]) -> toml::Table {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

#[test]
fn neither_threads_nor_watching_change_a_bit_of_the_weights() {
    let sandbox = Sandbox::new();
    let mut seen = Vec::new();
    for (name, rule) in [
        ("adam", "--optimizer adam"),
        ("adamw", "--optimizer adamw --weight-decay 0.1"),
        ("sgd", "--optimizer sgd --momentum 0.9 --learning-rate 0.05"),
    ] {
        let want = weights(&sandbox, &format!("{name}-0"), &format!("{rule} {SILENT} --threads 1"));
        for (number, how) in [
            (1, format!("{WATCHED} --threads 1")),
            (2, format!("{WATCHED} --threads 2")),
            (3, format!("{SILENT} --threads 3")),
        ] {
            let got = weights(&sandbox, &format!("{name}-{number}"), &format!("{rule} {how}"));
            assert!(got == want, "{rule}: other weights with {how}");
        }
        seen.push(want);
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2], "the optimizers do the same");
}

/// Unlike the other tests' networks, this one is large enough for libtorch to split an operation among threads.
#[test]
fn threads_do_not_change_a_bit_of_the_usual_network() {
    let sandbox = Sandbox::new();
    let [one, two] = ["1", "2"].map(|threads| {
        let flags = "--dataset synthetic --epochs 1 --limit-train 640 --limit-validation 40";
        sandbox.run(&format!("{flags} --threads {threads} --logdir {threads}")).succeeded();
        sandbox.read(&format!("{threads}/model.safetensors"))
    });
    assert!(one.len() > 900_000, "not the usual network");
    assert!(one == two, "other weights with 2 threads");
}

#[test]
fn the_seed_decides_and_nothing_else_does() {
    let sandbox = Sandbox::new();
    let first = weights(&sandbox, "a", "--seed 7");
    assert!(first == weights(&sandbox, "b", "--seed 7"), "same seed, other weights");
    assert!(first != weights(&sandbox, "c", "--seed 8"), "other seed, same weights");
    assert!(first != weights(&sandbox, "d", "--seed 7 --learning-rate 2e-3"), "other rate, same weights");
}

#[test]
fn the_command_line_wins_over_the_environment_over_the_file() {
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", "epochs = 2\nbatch-size = 2\nseed = 2\nconv-filters = [8, 16]\n");
    let mut command = sandbox.trainer(["config", "--config", "run.toml", "--seed", "4", "--learning-rate", "1e-2"]);
    let outcome = finish(command.env("TRAINER_BATCH_SIZE", "3").env("TRAINER_SEED", "3")).succeeded();
    for line in [
        "epochs = 2                   # file run.toml",
        "batch-size = 3               # environment variable TRAINER_BATCH_SIZE",
        "seed = 4                     # command line",
        "learning-rate = 1e-2         # command line",
        "conv-filters = \"8,16\"        # file run.toml",
        "momentum = 0                 # default",
    ] {
        assert!(outcome.stdout.lines().any(|printed| printed == line), "no line {line:?} in\n{}", outcome.stdout);
    }
    assert_eq!(outcome.stderr, "");

    // A variable may name the file, and the output is a valid file for --config.
    sandbox.write("printed.toml", &outcome.stdout);
    let again = finish(sandbox.trainer(["config"]).env("TRAINER_CONFIG", "printed.toml")).succeeded();
    assert_eq!(table(again.stdout.as_bytes()), table(outcome.stdout.as_bytes()));
    assert!(again.stdout.lines().all(|line| line.ends_with("# file printed.toml")), "{}", again.stdout);
}

#[test]
fn the_configuration_of_a_run_repeats_it() {
    let sandbox = Sandbox::new();
    let first = weights(&sandbox, "first", "--optimizer adamw --learning-rate 3e-3 --seed 18446744073709551615");
    sandbox.run("--config first/config.toml --logdir second").succeeded();
    assert!(first == sandbox.read("second/model.safetensors"));
    let (mut one, mut two) = (table(&sandbox.read("first/config.toml")), table(&sandbox.read("second/config.toml")));
    assert_eq!(one.remove("logdir"), Some("first".into()));
    assert_eq!(two.remove("logdir"), Some("second".into()));
    assert_eq!(one, two);
}

#[test]
fn a_json_log_is_json_in_every_line() {
    let sandbox = Sandbox::new();
    let flags = SMALL.replace("--limit-train 120", "--limit-train 9000");
    let outcome = sandbox.run(&format!("{flags} --logdir run --log-format json --momentum 0.5")).succeeded();
    assert_eq!(outcome.stdout, "");
    let lines: Vec<serde_json::Value> =
        outcome.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let level = |level: &str| lines.iter().filter(|line| line["level"] == level).count();
    assert_eq!(level("WARN"), 2, "a momentum without effect and a limit beyond the data:\n{}", outcome.stderr);
    let epochs: Vec<&serde_json::Value> =
        lines.iter().map(|line| &line["fields"]).filter(|fields| fields["epoch"].is_number()).collect();
    assert_eq!(epochs.len(), 2, "{}", outcome.stderr);
    for (number, fields) in epochs.iter().enumerate() {
        assert_eq!((&fields["epoch"], &fields["epochs"]), (&(number + 1).into(), &2.into()));
        for name in ["loss", "accuracy", "val_loss", "val_accuracy", "seconds", "images_per_second"] {
            assert!(fields[name].as_f64().is_some_and(|value| value >= 0.0), "{name} in {fields}");
        }
    }
}

#[test]
fn quiet_is_silent_and_plain_lines_are_plain() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.run(&format!("{SMALL} --logdir quiet --quiet")).succeeded();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));

    sandbox.write("bin/tensorboard", "");
    let flags = SMALL.split_whitespace().chain(["--logdir", "logs/run/"]);
    let outcome = finish(sandbox.trainer(flags).env("PATH", sandbox.path("bin"))).succeeded();
    assert_eq!(outcome.stdout, "", "stdout is for data");
    assert!(!outcome.stderr.contains(['\x1b', '\r']), "no bar in a pipe:\n{}", outcome.stderr);
    assert!(outcome.stderr.contains("epoch 2/2  loss "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("\n    tensorboard --logdir logs\n"), "{}", outcome.stderr);
}

/// Starts an endless run and waits for its first epoch.
fn endless(sandbox: &Sandbox, more: &str) -> Running {
    let flags = ENDLESS.split_whitespace().chain(more.split_whitespace());
    let mut running = start(sandbox.trainer(flags).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let validation = sandbox.path("run/validation");
    running.wait_until("the end of an epoch", || {
        std::fs::read_dir(&validation).is_ok_and(|mut files| files.next().is_some())
    });
    running
}

fn is_unfinished(sandbox: &Sandbox) -> bool {
    !sandbox.path("run/result.json").exists() && !sandbox.path("run/model.safetensors").exists()
}

/// Without a checkpoint a second run in the same directory starts over, with the same result as in a new one.
fn starts_over(sandbox: &Sandbox) {
    let outcome = sandbox.run(&format!("{SMALL} --logdir run")).succeeded();
    let said = "run holds an unfinished run without a checkpoint; training starts over";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    assert!(sandbox.read("run/model.safetensors") == weights(sandbox, "elsewhere", ""));
    sandbox.run("inspect run").succeeded();
}

fn stopped_by(signal: &str) {
    let sandbox = Sandbox::new();
    let running = endless(&sandbox, "");
    let asked = Instant::now();
    running.signal(signal);
    let outcome = running.finish();
    assert!(asked.elapsed() < Duration::from_secs(20), "took {:?}", asked.elapsed());
    assert_eq!(outcome.code(), 75, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("\nstopped after step ") && !outcome.stderr.contains("error"),
        "{}",
        outcome.stderr
    );
    let said = ", with a checkpoint: the same command goes on from there. What was logged so far:\n\n    ";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    assert!(is_unfinished(&sandbox));
    let report: serde_json::Value =
        serde_json::from_str(&sandbox.run("inspect run --json").succeeded().stdout).unwrap();
    let tags: Vec<_> =
        report["runs"].as_array().unwrap().iter().flat_map(|run| run["tags"].as_array().unwrap()).collect();
    let has = |name: &str| tags.iter().any(|tag| tag["name"] == name);
    assert!(has("_hparams_/session_start_info") && !has("_hparams_/session_end_info"), "it may go on: {report}");
    let files: Vec<_> =
        report["runs"].as_array().unwrap().iter().flat_map(|run| run["files"].as_array().unwrap()).collect();
    assert!(files.len() >= 3 && files.iter().all(|file| file["truncated_at"].is_null()), "a record is cut: {report}");
    assert!(sandbox.path("run/checkpoints").read_dir().unwrap().count() >= 1);
}

#[test]
fn an_interrupt_ends_a_run_in_good_order() {
    stopped_by("INT");
}

#[test]
fn a_termination_ends_a_run_in_good_order() {
    stopped_by("TERM");
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    let sandbox = Sandbox::new();
    // One step of these takes many seconds.
    let flags = "--dataset synthetic --batch-size 6000 --conv-filters 128,256 --epochs 9 --threads 1 --logdir run";
    let mut running = start(sandbox.trainer(flags.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    running.wait_until("training", || sandbox.path("run/config.toml").exists());
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(1000));
    running.signal("TERM");
    let outcome = running.finish();
    assert_eq!(outcome.code(), 143, "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("stopped after step"), "{}", outcome.stderr);
    assert!(is_unfinished(&sandbox));
}

#[test]
fn a_killed_run_without_a_checkpoint_starts_over() {
    let sandbox = Sandbox::new();
    let running = endless(&sandbox, "--checkpoint-every off");
    running.signal("KILL");
    assert_eq!(running.finish().code(), 137);
    assert!(is_unfinished(&sandbox));
    starts_over(&sandbox);
}

#[test]
fn a_finished_run_is_left_alone_until_fresh_is_said() {
    let sandbox = Sandbox::new();
    let first = weights(&sandbox, "run", "--seed 1");
    sandbox.write("run/notes.txt", "mine");
    sandbox.write("run/train/notes.txt", "mine");
    let before = sandbox.tree();
    let outcome = sandbox.run(&format!("{SMALL} --logdir run --seed 2"));
    assert_eq!(outcome.code(), 78);
    assert!(outcome.says("  seed: was 1, now 2\n"), "{}", outcome.stderr);
    assert_eq!(sandbox.tree(), before);
    let outcome = sandbox.run(&format!("{SMALL} --logdir run --seed 1")).succeeded();
    assert!(
        outcome.says("the run in run is finished after 2 epochs with a validation accuracy of "),
        "{}",
        outcome.stderr
    );
    assert_eq!(sandbox.tree(), before);

    let second = weights(&sandbox, "run", "--seed 2 --fresh");
    assert!(first != second);
    assert_eq!((sandbox.read("run/notes.txt"), sandbox.read("run/train/notes.txt")), (b"mine".into(), b"mine".into()));
    let after = sandbox.tree();
    // HParams files have the same names in every run.
    let start = Path::new("run/events.out.tfevents.0000000000.session.0-start.v2");
    assert!(before[start] != after[start], "the old settings are left");
    let events = |path: &&std::path::PathBuf| {
        let name = path.to_string_lossy();
        name.contains("tfevents") && !name.contains("tfevents.0000000000")
    };
    assert!(before.keys().filter(events).all(|path| !after.contains_key(path)), "old curves are left");
    assert_eq!(after.keys().filter(events).count(), before.keys().filter(events).count());

    // Missing data is found before anything is removed.
    let outcome = sandbox.run("--dataset mnist --logdir run --fresh");
    assert_eq!(outcome.code(), 66, "{}", outcome.stderr);
    assert_eq!(sandbox.tree(), after);
}

/// Runs a shell script; `$0` is the program.
fn shell(sandbox: &Sandbox, script: &str) -> Outcome {
    finish(sandbox.command("bash").args(["-c", script, program()]))
}

#[test]
fn nobody_has_to_listen() {
    let sandbox = Sandbox::new();
    let want = weights(&sandbox, "heard", "");
    for (logdir, where_to) in
        [("full", ">/dev/full 2>/dev/full"), ("closed", ">&- 2>&- <&-"), ("gone", "2> >(exit) > >(exit)")]
    {
        for format in ["text", "json"] {
            let logdir = format!("{logdir}-{format}");
            let line = format!("exec \"$0\" {SMALL} --logdir {logdir} --log-format {format} {where_to}");
            assert_eq!(shell(&sandbox, &line).code(), 0, "{where_to}, {format}");
            assert!(sandbox.read(&format!("{logdir}/model.safetensors")) == want, "{where_to}, {format}");
            sandbox.run(&format!("inspect {logdir}")).succeeded();
        }
    }
    assert_eq!(shell(&sandbox, "\"$0\" config | true; exit ${PIPESTATUS[0]}").code(), 0);
    let outcome = shell(&sandbox, "\"$0\" config >/dev/full");
    assert_eq!(outcome.code(), 74, "data that is lost is an error");
    assert!(outcome.stderr.contains("cannot write to stdout"), "{}", outcome.stderr);
}

/// Asserts that the weights did not fit on the disk.
fn is_full(outcome: &Outcome, path: &str, why: &str) {
    assert_eq!(outcome.code(), 74, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains(&format!("error: cannot write {path}/model.safetensors: {why}")),
        "{}",
        outcome.stderr
    );
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

/// 900 kB of weights.
const LARGE: &str = "--dataset synthetic --epochs 1 --limit-train 32 --limit-validation 10 --image-freq 0 --threads 1 --checkpoint-every off";

#[test]
fn a_limit_on_the_size_of_files_leaves_no_half_of_one() {
    let sandbox = Sandbox::new();
    let line = format!("trap '' XFSZ; ulimit -f 400; exec \"$0\" {LARGE} --logdir run");
    is_full(&shell(&sandbox, &line), "run", "File too large");
    assert!(is_unfinished(&sandbox));
    assert!(sandbox.tree().keys().all(|path| !path.to_string_lossy().contains(".tmp")), "a temporary file is left");
}

#[test]
fn training_goes_on_without_its_log() {
    let sandbox = Sandbox::new();
    let want = weights(&sandbox, "whole", "");
    // Enough for the weights, too little for the images.
    let line = format!("trap '' XFSZ; ulimit -f 40; exec \"$0\" {SMALL} --checkpoint-every off --logdir run");
    let outcome = shell(&sandbox, &line).succeeded();
    assert!(sandbox.read("run/model.safetensors") == want);
    assert!(outcome.stderr.contains("event log: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("could not be written; the curves have gaps"), "{}", outcome.stderr);
    let result: serde_json::Value = serde_json::from_slice(&sandbox.read("run/result.json")).unwrap();
    assert_eq!(result["status"], "finished");
    assert!(result["lost_log_entries"].as_u64().unwrap() > 0, "{result}");
    sandbox.run("inspect run");
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let sandbox = Sandbox::new();
    sandbox.create_dir("disk");
    for (size, said) in [("400k", "model.safetensors: No space left"), ("4k", "No space left")] {
        let line = format!(
            "unshare -rm true || exit 200; unshare -rm bash -c 'mount -t tmpfs -o size={size} none disk || exit 200; \"$0\" {LARGE} --logdir disk/run; \
             code=$?; ls -A disk/run >&2; exit $code' \"$0\""
        );
        let outcome = shell(&sandbox, &line);
        if outcome.code() == 200 {
            return skip("no mounting in a namespace of one's own here");
        }
        assert_eq!(outcome.code(), 74, "{size}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("disk/run/") && outcome.stderr.contains(said), "{size}: {}", outcome.stderr);
        for unwanted in ["panicked", "result.json", ".tmp"] {
            assert!(!outcome.stderr.contains(unwanted), "{size}: {unwanted} in {}", outcome.stderr);
        }
    }
}

#[test]
fn a_diverging_run_ends_and_says_so() {
    let sandbox = Sandbox::new();
    // Weight decay makes every weight a thousand times larger, with the opposite sign, at each step.
    let outcome = sandbox.run(&format!(
        "{SMALL} --logdir run --optimizer sgd --learning-rate 100 --weight-decay 10 --threads 2 {WATCHED}"
    ));
    assert_eq!(outcome.code(), 65, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("error: training diverged: the loss is "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("use a smaller learning rate"), "{}", outcome.stderr);
    assert!(is_unfinished(&sandbox));
    sandbox.run("inspect run").succeeded();
}

#[test]
fn a_run_that_ends_in_nan_says_in_which_layer() {
    let sandbox = Sandbox::new();
    // The loss is checked after 20 steps, and is NaN long before.
    let outcome = sandbox.run(
        "--dataset synthetic --conv-filters 4,6 --dense-units 8 --limit-train 640 --limit-validation 40 --batch-size 16 \
         --logdir run --optimizer sgd --learning-rate 100 --weight-decay 10 --threads 1",
    );
    assert_eq!(outcome.code(), 65, "{}", outcome.stderr);
    let said = "error: training diverged: the loss is NaN after step ";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("; the first non-finite values are in the output of dense"), "{}", outcome.stderr);
    let inspected = sandbox.run("inspect run").succeeded();
    assert!(inspected.stdout.contains("run/non_finite"), "the log has its last words");
    assert!(is_unfinished(&sandbox));
}

#[test]
fn the_smallest_data_sets_train() {
    let sandbox = Sandbox::new();
    small_mnist(&sandbox, 1, 1);
    let small = "--dense-units 2 --epochs 2";
    for (logdir, flags) in [
        ("one", "--conv-filters 2"),
        ("wide", "--conv-filters 2 --batch-size 1048576 --threads 3"),
        ("limit", "--conv-filters 2 --limit-train 1 --limit-validation 1"),
        ("beyond", "--conv-filters 2 --limit-train 18446744073709551615"),
        ("threads", "--conv-filters 2 --threads 1024"),
        ("kernel", "--conv-filters 2 --kernel-size 27"),
    ] {
        let outcome = sandbox.run(&format!("{small} --logdir {logdir} {flags}")).succeeded();
        assert!(outcome.stderr.contains("on mnist: 1 images"), "{}", outcome.stderr);
    }
    assert!(sandbox.read("one/model.safetensors") == sandbox.read("wide/model.safetensors"));
    // Two images in batches of one are two steps, also without a convolution.
    small_mnist(&sandbox, 2, 1);
    sandbox.run(&format!("{small} --batch-size 1 --logdir single --conv-filters none")).succeeded();
    let result: serde_json::Value = serde_json::from_slice(&sandbox.read("single/result.json")).unwrap();
    assert_eq!((&result["iterations"], &result["status"]), (&4.into(), &"finished".into()));
    // A gzipped file may replace a plain one.
    let labels = idx(&[2], &[3, 4]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &labels).unwrap();
    std::fs::remove_file(sandbox.path(support::TRAIN_LABELS)).unwrap();
    sandbox.write(&format!("{}.gz", support::TRAIN_LABELS), encoder.finish().unwrap());
    sandbox.run(&format!("{small} --logdir gzipped")).succeeded();
}

#[test]
fn odd_paths_are_paths() {
    let sandbox = Sandbox::new();
    sandbox.create_dir("target");
    sandbox.link("link", "target");
    sandbox.write("bin/tensorboard", "");
    for (logdir, above) in [
        ("sp ace/ünï", "'sp ace'"),
        ("new\nline", "."),
        ("it's/run", "'it'\\''s'"),
        ("1e3", "."),
        ("link", "."),
        ("a/./b//c/", "a/./b"),
        ("-dash/run", "./-dash"),
        ("$(touch x)/`x`", "'$(touch x)'"),
    ] {
        let flags = SMALL.split_whitespace().map(str::to_owned).chain([format!("--logdir={logdir}")]);
        let outcome = finish(sandbox.trainer(flags).env("PATH", sandbox.path("bin"))).succeeded();
        assert!(sandbox.path(Path::new(logdir)).join("result.json").exists(), "{logdir}");
        let command = format!("\n    tensorboard --logdir {above}\n");
        assert!(outcome.stderr.contains(&command), "{logdir}: {}", outcome.stderr);
        let config = sandbox.path(Path::new(logdir)).join("config.toml");
        assert_eq!(table(&std::fs::read(config).unwrap())["logdir"].as_str(), Some(logdir));
    }
    assert!(sandbox.path("target/result.json").exists());
}
