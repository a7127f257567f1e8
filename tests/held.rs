//! A run's directory belongs to one process for its whole run: planted links, pipes and devices are refused, a moved,
//! emptied or deleted directory is noticed, and only regular files of the expected size are read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use support::{Entry, Outcome, Running, Sandbox, finish, is_root, skip, start};

const SMALL: &str = "--dataset synthetic --conv-filters 2 --dense-units 2 --limit-train 40 --limit-validation 10 --threads 1 \
                     --observe none,scalars=every:1epochs";
const EXPLAIN: &str = "explain --run run --indices 0 --method gradcam --out maps";
const POINTS: &str = "plugins/org_tensorflow_tensorboard_projector";
const FIRST_POINTS: &str = "plugins/org_tensorflow_tensorboard_projector/epoch_0001";
const PREDICT: &str = "predict --run run picture.bmp";
/// More epochs than any test waits for. Quiet, as nobody reads the output before the end: a full pipe would block the
/// run.
const LONG: &str = "--epochs 1000000 --checkpoint-every 1epoch --quiet";

impl Sandbox {
    fn train(&self, logdir: &str, how: &str) -> Outcome {
        self.run(&format!("{SMALL} --logdir {logdir} {how}"))
    }

    fn finished(&self, logdir: &str) {
        self.train(logdir, "--epochs 2").succeeded();
    }

    /// A run in training that has published a checkpoint.
    fn training(&self, logdir: &str) -> Running {
        let mut command = self.trainer(format!("{SMALL} --logdir {logdir} {LONG}").split_whitespace());
        let mut running = start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        running.wait_until("a checkpoint", || self.checkpoints(logdir) > 0);
        running
    }

    fn checkpoints(&self, logdir: &str) -> usize {
        let found = std::fs::read_dir(self.path(logdir).join("checkpoints")).into_iter().flatten().flatten();
        found.filter(|entry| entry.file_name().to_string_lossy().starts_with("ckpt-")).count()
    }

    fn pipe(&self, name: &str) {
        assert!(self.command("mkfifo").arg(name).status().unwrap().success());
    }

    /// Writes `picture.bmp`, a grey square on black.
    fn picture(&self) {
        let mut bytes = b"BM\x62\x09\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x1c\0\0\0\x1c\0\0\0\x01\0\x18\0".to_vec();
        bytes.resize(54, 0);
        let inside = |i: usize| (8..20).contains(&(i % 28)) && (8..20).contains(&(i / 28));
        bytes.extend((0..28 * 28).flat_map(|i| [if inside(i) { 200 } else { 0 }; 3]));
        self.write("picture.bmp", bytes);
    }

    /// A sparse file of this length.
    fn sparse(&self, name: &str, bytes: u64) {
        std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path(name))
            .unwrap()
            .set_len(bytes)
            .unwrap();
    }
}

/// Asserts the exit code and the messages.
fn ended(outcome: &Outcome, code: i32, says: &[&str]) {
    assert_eq!(outcome.code(), code, "{}", outcome.stderr);
    for text in says {
        assert!(outcome.stderr.contains(text), "no `{text}` in: {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

#[test]
fn planted_entries_end_a_start_before_anything_is_written() {
    let sandbox = Sandbox::new();
    sandbox.write("mine", "not a journal\n");
    sandbox.create_dir("elsewhere");
    sandbox.finished("done");
    let link = |to: &'static str| move |at: &Path| symlink(to, at).unwrap();
    type Plant<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>, &'a str);
    let cases: Vec<Plant<'_>> = vec![
        ("run.lock", Box::new(link("../mine")), "run.lock cannot be written: it is a symbolic link"),
        ("run.lock", Box::new(link("nowhere")), "run.lock cannot be written: it is a symbolic link"),
        ("metrics.jsonl", Box::new(link("../mine")), "metrics.jsonl cannot be written: it is a symbolic link"),
        ("config.toml", Box::new(link("../mine")), "config.toml cannot be written: it is a symbolic link"),
        ("result.json", Box::new(link("/dev/zero")), "result.json cannot be written: it is a symbolic link"),
        ("train", Box::new(link("../elsewhere")), "train cannot be written: it is a symbolic link, want a directory"),
        ("steps", Box::new(link("../elsewhere")), "steps cannot be written: it is a symbolic link"),
        ("validation", Box::new(link("../elsewhere")), "validation cannot be written: it is a symbolic link"),
        ("checkpoints", Box::new(link("../elsewhere")), "checkpoints cannot be written: it is a symbolic link"),
        ("projector", Box::new(link("../elsewhere")), "projector cannot be written: it is a symbolic link"),
        (
            "metrics.jsonl",
            Box::new(|at| std::fs::hard_link(sandbox.path("mine"), at).unwrap()),
            "metrics.jsonl: it has 2 names (hard links)",
        ),
        ("run.lock", Box::new(|_| sandbox.pipe("run/run.lock")), "run.lock cannot be written: it is a named pipe"),
        (
            "result.json",
            Box::new(|_| sandbox.pipe("run/result.json")),
            "result.json cannot be written: it is a named pipe",
        ),
        ("train", Box::new(|_| sandbox.pipe("run/train")), "train cannot be written: it is a named pipe"),
        (
            POINTS,
            Box::new(link("../../elsewhere")),
            "_projector cannot be written: it is a symbolic link, want a directory",
        ),
        (
            FIRST_POINTS,
            Box::new(link("../../../elsewhere")),
            "_projector/epoch_0001 cannot be written: it is a symbolic link, want a directory",
        ),
        (
            FIRST_POINTS,
            Box::new(|_| sandbox.pipe(&format!("run/{FIRST_POINTS}"))),
            "_projector/epoch_0001 cannot be written: it is a named pipe, want a directory",
        ),
    ];
    for (name, plant, says) in cases {
        for fresh in ["", "--fresh"] {
            sandbox.create_dir(Path::new("run").join(name).parent().unwrap().to_str().unwrap());
            plant(&sandbox.path(format!("run/{name}")));
            let before = sandbox.tree();
            ended(&sandbox.train("run", &format!("--epochs 1 {fresh}")), 73, &["log directory run: ", says][1..]);
            assert_eq!(sandbox.tree(), before, "{name}: {says}");
            std::fs::remove_dir_all(sandbox.path("run")).unwrap();
        }
    }
    // A lock file with two hard links is replaced, and a resumed run refuses a link that was planted later.
    sandbox.create_dir("run");
    std::fs::hard_link(sandbox.path("mine"), sandbox.path("run/run.lock")).unwrap();
    sandbox.train("run", "--epochs 1").succeeded();
    std::fs::remove_file(sandbox.path("done/metrics.jsonl")).unwrap();
    sandbox.link("done/metrics.jsonl", "../mine");
    ended(&sandbox.train("done", "--epochs 3"), 73, &["metrics.jsonl cannot be written: it is a symbolic link"]);
    assert_eq!(sandbox.read("mine"), b"not a journal\n");
    assert_eq!(std::fs::read_dir(sandbox.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn what_belongs_to_another_user_is_not_written() {
    if !is_root() {
        return skip("only root can give files away");
    }
    let sandbox = Sandbox::new();
    for name in ["run.lock", "metrics.jsonl", "train", "checkpoints", POINTS, FIRST_POINTS] {
        sandbox.create_dir("run");
        let path = sandbox.path(format!("run/{name}"));
        if name.contains('.') {
            std::fs::write(&path, "").unwrap();
        } else {
            std::fs::create_dir_all(&path).unwrap();
        }
        chown(&path, Some(12345), None).unwrap();
        let before = sandbox.tree();
        ended(
            &sandbox.train("run", "--epochs 1"),
            73,
            &[name, "it belongs to user 12345, and this process runs as user 0"],
        );
        assert_eq!(sandbox.tree(), before);
        std::fs::remove_dir_all(sandbox.path("run")).unwrap();
    }
    let goes_on = "--epochs 3 --checkpoint-every 1epoch";
    sandbox.train("run", goes_on).succeeded();
    let mut entries = std::fs::read_dir(sandbox.path("run/checkpoints")).unwrap();
    let checkpoint = entries.next().unwrap().unwrap().path();
    chown(&checkpoint, Some(12345), None).unwrap();
    std::fs::remove_file(sandbox.path("run/result.json")).unwrap();
    let name = format!("run/checkpoints/{} cannot be written: ", checkpoint.file_name().unwrap().to_str().unwrap());
    let before = sandbox.tree();
    ended(&sandbox.train("run", goes_on), 73, &[&name, "it belongs to user 12345, and this process runs as user 0"]);
    assert_eq!(sandbox.tree(), before);
    std::fs::remove_dir_all(sandbox.path("run")).unwrap();
    // The directory itself may belong to another user: a volume's often belongs to root.
    sandbox.create_dir("run");
    chown(sandbox.path("run"), Some(12345), None).unwrap();
    sandbox.train("run", "--epochs 1").succeeded();
}

#[test]
fn figures_and_profiles_do_not_replace_a_link() {
    let sandbox = Sandbox::new();
    sandbox.write("mine", "mine");
    for (flag, link) in [("--metrics-textfile", "figures.prom"), ("--profile", "trace.json")] {
        sandbox.link(link, "mine");
        ended(&sandbox.train("run", &format!("--epochs 1 {flag} {link}")), 73, &[link]);
    }
    assert!(!sandbox.path("run").exists());
    assert_eq!(sandbox.tree().get(Path::new("figures.prom")), Some(&Entry::Link("mine".into())));
    assert_eq!(sandbox.read("mine"), b"mine");
    // A refused HParams file, which runs share, causes only a warning.
    sandbox.create_dir("logs");
    sandbox.link("logs/events.out.tfevents.0000000000.hparams.v2", "../mine");
    ended(&sandbox.train("logs/run", "--epochs 1"), 0, &["hparams.v2: it is a symbolic link"]);
    sandbox.create_dir("maps");
    sandbox.link("maps/events.out.tfevents.explanations", "../mine");
    let explained = sandbox.run("explain --run logs/run --indices 3 --method gradcam --out maps");
    ended(&explained, 73, &["maps/events.out.tfevents.explanations: it is a symbolic link"]);
    assert_eq!(std::fs::read_dir(sandbox.path("maps")).unwrap().count(), 1);
    assert_eq!(sandbox.read("mine"), b"mine");
}

#[test]
fn a_run_whose_directory_is_moved_away_ends_and_leaves_the_next_one_alone() {
    let sandbox = Sandbox::new();
    let first = sandbox.training("run");
    std::fs::rename(sandbox.path("run"), sandbox.path("old")).unwrap();
    sandbox.train("run", "--epochs 2 --seed 9").succeeded();
    let alone = Sandbox::new();
    alone.train("run", "--epochs 2 --seed 9").succeeded();
    let first = first.finish();
    ended(&first, 74, &["log directory run was moved to ", "/old while the run trained there", "go on with --logdir"]);
    for name in ["config.toml", "model.safetensors"] {
        assert_eq!(sandbox.read(&format!("run/{name}")), alone.read(&format!("run/{name}")), "{name}");
    }
    let lines = String::from_utf8(sandbox.read("run/metrics.jsonl")).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains("\"kind\":\"start\"")).count(), 1);
    let lines = String::from_utf8(sandbox.read("old/metrics.jsonl")).unwrap();
    assert!(lines.lines().last().unwrap().contains("\"exit_code\":74"), "{lines}");
    // The trained epochs are kept, and the run can be resumed.
    let epochs: usize = lines.lines().filter(|line| line.contains("\"kind\":\"epoch\"")).count();
    let outcome = sandbox.train("old", &format!("--epochs {} --checkpoint-every 1epoch", epochs + 1)).succeeded();
    assert!(outcome.says("going on"), "{}", outcome.stderr);
}

#[test]
fn event_files_that_are_removed_or_moved_away_are_followed_by_others_at_once() {
    for (script, went) in [
        ("rm run/train/events.out.tfevents.*", "was removed while it was written, with "),
        ("mv run/train elsewhere", "/elsewhere/events.out.tfevents."),
        ("mv run/train elsewhere; mkdir -p run/train", "/elsewhere/events.out.tfevents."),
        ("mv run/train elsewhere; rm -r elsewhere", " while it was written, with "),
    ] {
        let sandbox = Sandbox::new();
        let mut running = sandbox.training("run");
        let event_files = || -> Vec<_> {
            let found = std::fs::read_dir(sandbox.path("run/train")).into_iter().flatten().flatten();
            found.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("tfevents")).collect()
        };
        let first = event_files();
        assert!(sandbox.command("sh").args(["-c", script]).status().unwrap().success());
        running.wait_until("the next event file", || event_files().iter().any(|path| !first.contains(path)));
        let next = event_files();
        let length = || std::fs::metadata(&next[0]).map_or(0, |file| file.len());
        let begun = length();
        running.wait_until("points in it", || length() > begun);
        running.signal("TERM");
        let outcome = running.finish();
        ended(&outcome, 75, &["warning: event log: ", went, "; a new file is begun"]);
        assert_eq!(outcome.stderr.matches("event log: ").count(), 1, "{}", outcome.stderr);
        assert_eq!(event_files(), next, "{script}");
        let report = sandbox.run("inspect run/train").succeeded();
        assert!(report.stdout.contains("epoch_loss") && report.stdout.contains("1 file"), "{}", report.stdout);
    }
}

#[test]
fn a_run_that_lost_an_event_file_ends_well_and_counts_what_is_lost() {
    let sandbox = Sandbox::new();
    let flags = format!("{SMALL} --logdir run --quiet --epochs 1000 --checkpoint-every 1epoch");
    let mut running = start(sandbox.trainer(flags.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    running.wait_until("a checkpoint", || sandbox.checkpoints("run") > 0);
    assert!(sandbox.command("sh").args(["-c", "rm run/train/events.out.tfevents.*"]).status().unwrap().success());
    let outcome = running.finish().succeeded();
    assert_eq!(outcome.stderr.matches("was removed while it was written").count(), 1, "{}", outcome.stderr);
    let result: serde_json::Value = serde_json::from_slice(&sandbox.read("run/result.json")).unwrap();
    let lost = result["lost_log_entries"].as_u64().unwrap();
    assert!((1..900).contains(&lost), "{lost}");
}

#[test]
fn a_link_in_place_of_a_directory_that_was_moved_is_told_and_not_followed() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.training("run");
    sandbox.link("elsewhere", "../elsewhere");
    // At once: between two calls the run would make the directory again.
    let (train, elsewhere) = (sandbox.path("run/train"), sandbox.path("elsewhere"));
    renameat_with(CWD, train, CWD, elsewhere, RenameFlags::EXCHANGE).unwrap();
    let checkpoint = || std::fs::read_dir(sandbox.path("run/checkpoints")).unwrap().next().unwrap().unwrap().path();
    for _ in 0..2 {
        let before = checkpoint();
        running.wait_until("the next checkpoint", || checkpoint() != before);
    }
    running.signal("TERM");
    let link = "; cannot create the run directory run/train: it is a symbolic link, want a directory; move it away";
    ended(&running.finish(), 75, &["events.out.tfevents.", " was moved to ", link]);
    assert_eq!(std::fs::read_dir(sandbox.path("elsewhere")).unwrap().count(), 1);
}

#[test]
fn a_lock_that_is_removed_lets_nobody_in() {
    let sandbox = Sandbox::new();
    let mut first = sandbox.training("run");
    for _ in 0..3 {
        std::fs::remove_file(sandbox.path("run/run.lock")).unwrap();
        ended(&sandbox.train("run", "--epochs 2"), 73, &["log directory run is in use"]);
        let listed = sandbox.run("runs .").succeeded();
        assert!(listed.stdout.contains("running"), "{}", listed.stdout);
        sandbox.run("prune . --keep 0 --unfinished --yes");
        first.wait_until("the lock to be put back", || sandbox.path("run/run.lock").exists());
        assert!(sandbox.path("run/config.toml").exists());
    }
    first.signal("TERM");
    ended(&first.finish(), 75, &["run.lock was removed, and is put back"]);
    sandbox.train("run", "--epochs 2 --fresh").succeeded();
}

#[test]
fn a_directory_that_is_deleted_or_emptied_ends_the_run_and_stays_gone() {
    for emptied in [false, true] {
        let sandbox = Sandbox::new();
        let first = sandbox.training("run");
        let remove = if emptied { "rm -rf run/*" } else { "rm -rf run" };
        // The run may create a file during the removal.
        while !sandbox.command("sh").args(["-c", remove]).stderr(Stdio::null()).status().unwrap().success() {}
        let outcome = first.finish();
        // A deletion empties the directory first, so the run may notice either.
        let says = if emptied { "log directory run was emptied" } else { "log directory run was " };
        ended(&outcome, 74, &[says, "while the run trained there; its settings, ", "are lost: bring"]);
        assert!(!sandbox.path("run/config.toml").exists() && !sandbox.path("run/result.json").exists());
        assert_eq!(sandbox.path("run").exists(), emptied);
        sandbox.finished("run");
    }
}

#[test]
fn pipes_and_devices_are_named_and_not_waited_for() {
    let sandbox = Sandbox::new();
    sandbox.picture();
    sandbox.pipe("pipe");
    let pipe = "it is a named pipe, want a regular file";
    for (name, replace) in [("config.toml", true), ("model.safetensors", true), ("result.json", false)] {
        for planted in ["../pipe", "/dev/zero"] {
            sandbox.finished("run");
            std::fs::remove_file(sandbox.path(format!("run/{name}"))).unwrap();
            sandbox.link(&format!("run/{name}"), planted);
            let what = if planted == "../pipe" { pipe } else { "it is a device, want a regular file" };
            for command in [PREDICT, EXPLAIN, &format!("{SMALL} --logdir new --epochs 1 --warm-start run")] {
                // An unreadable result is reported, and the weights are used as they are.
                let code = if replace { 66 } else { 0 };
                ended(&sandbox.run(command), code, &[&format!("run/{name}: "), what]);
                let _ = std::fs::remove_dir_all(sandbox.path("new"));
                let _ = std::fs::remove_dir_all(sandbox.path("maps"));
            }
            std::fs::remove_dir_all(sandbox.path("run")).unwrap();
        }
    }
    for command in ["predict --run run pipe", "inspect pipe", &format!("{SMALL} --logdir new --config pipe")] {
        sandbox.finished("run");
        ended(&sandbox.run(command), 66, &["pipe: ", pipe]);
    }
}

#[test]
fn a_checkpoint_with_a_pipe_in_it_is_passed_over() {
    let sandbox = Sandbox::new();
    for name in ["manifest.json", "model.safetensors", "optimizer.safetensors", "observers.bin"] {
        sandbox.train("run", "--epochs 2 --checkpoint-every 1epoch --keep-last 1").succeeded();
        let checkpoint = std::fs::read_dir(sandbox.path("run/checkpoints")).unwrap().next().unwrap().unwrap().path();
        std::fs::remove_file(checkpoint.join(name)).unwrap();
        sandbox.pipe(checkpoint.join(name).to_str().unwrap());
        let outcome = sandbox.train("run", "--epochs 3 --checkpoint-every 1epoch --keep-last 1");
        ended(
            &outcome,
            65,
            &[&format!("{name}: it is a named pipe"), "every checkpoint in run/checkpoints is damaged"],
        );
        std::fs::remove_dir_all(sandbox.path("run")).unwrap();
    }
}

#[test]
fn settings_may_come_through_a_pipe_that_a_shell_made() {
    let sandbox = Sandbox::new();
    let shell = |script: &str| finish(sandbox.command("bash").arg("-c").arg(script));
    let program = support::program();
    let asked = format!("{program} config --config");
    let direct = shell(&format!("{asked} <(sleep 0.1; echo 'epochs = 7')"));
    assert!(direct.succeeded().stdout.contains("epochs = 7"));
    let piped = shell(&format!("echo 'epochs = 7' | {asked} /dev/stdin"));
    assert!(piped.succeeded().stdout.contains("epochs = 7"));
}

#[test]
fn weights_of_another_length_are_not_read() {
    let sandbox = Sandbox::new();
    sandbox.picture();
    sandbox.finished("run");
    let limited = |command: &str| {
        // Reading one GiB of it would exceed this limit.
        let script = format!("ulimit -v 3000000; {} {command}", support::program());
        finish(sandbox.command("sh").arg("-c").arg(script))
    };
    sandbox.sparse("run/model.safetensors", 100 << 30);
    let warm = format!("{SMALL} --logdir new --epochs 1 --warm-start run");
    for command in [EXPLAIN, PREDICT, &warm] {
        let outcome = limited(command);
        ended(&outcome, 65, &["run/model.safetensors", "107374182400 bytes"]);
    }
}

#[test]
fn a_copy_by_hard_links_goes_on_by_itself() {
    let sandbox = Sandbox::new();
    sandbox.train("a", "--epochs 2 --checkpoint-every 1epoch").succeeded();
    let copied = sandbox.command("cp").args(["-al", "a", "b"]).status().unwrap();
    assert!(copied.success());
    let before: Vec<_> = sandbox.tree().into_iter().filter(|(path, _)| path.starts_with("a")).collect();
    assert_eq!(std::fs::metadata(sandbox.path("b/metrics.jsonl")).unwrap().nlink(), 2);
    sandbox.train("b", "--epochs 3 --checkpoint-every 1epoch").succeeded();
    let after: Vec<_> = sandbox.tree().into_iter().filter(|(path, _)| path.starts_with("a")).collect();
    assert!(before == after, "the original is as it was");
    let lines = |name: &str| String::from_utf8(sandbox.read(name)).unwrap();
    assert!(lines("b/metrics.jsonl").starts_with(&lines("a/metrics.jsonl")), "the copy has the history");
    // The original continues without changing the copy.
    let copy = sandbox.read("b/metrics.jsonl");
    sandbox.train("a", "--epochs 3 --checkpoint-every 1epoch").succeeded();
    assert_eq!(sandbox.read("b/metrics.jsonl"), copy);
    assert_eq!(sandbox.read("a/model.safetensors"), sandbox.read("b/model.safetensors"));
}

#[test]
fn weights_that_nothing_vouches_for_are_used_with_a_word() {
    let sandbox = Sandbox::new();
    sandbox.finished("run");
    let sound = sandbox.run(EXPLAIN).succeeded();
    assert!(!sound.stderr.contains("checksum"), "{}", sound.stderr);
    for content in [None, Some("half a fi")] {
        std::fs::remove_file(sandbox.path("run/result.json")).unwrap();
        if let Some(content) = content {
            sandbox.write("run/result.json", content);
        }
        let outcome = sandbox.run(EXPLAIN).succeeded();
        assert!(outcome.stderr.contains("run/result.json"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("are used without comparing their checksum"), "{}", outcome.stderr);
        sandbox.write("run/result.json", "");
    }
}

#[test]
fn an_event_file_of_the_far_future_does_not_stop_the_log() {
    let sandbox = Sandbox::new();
    for name in ["events.out.tfevents.9999999999.other", "z.tfevents"] {
        for dir in ["train", "steps", "validation"] {
            sandbox.write(&format!("run/{dir}/{name}"), "");
        }
        let outcome = sandbox.train("run", "--epochs 2 --fresh").succeeded();
        assert!(!outcome.stderr.contains("cannot name"), "{}", outcome.stderr);
        sandbox.create_dir("again");
        for dir in ["train", "steps", "validation"] {
            sandbox.write(&format!("again/{dir}/{name}"), "");
        }
        let outcome = sandbox.train("again", "--epochs 2").succeeded();
        assert!(!outcome.stderr.contains("lost"), "{}", outcome.stderr);
        let report = sandbox.run("inspect again/validation").succeeded();
        assert!(report.stdout.contains("epoch_loss"), "{}", report.stdout);
        std::fs::remove_dir_all(sandbox.path("again")).unwrap();
        std::fs::remove_dir_all(sandbox.path("run")).unwrap();
    }
}
