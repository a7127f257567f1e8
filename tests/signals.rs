//! Signals to a run: stop with a checkpoint, request for a checkpoint alone, and the files left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::process::Stdio;

use support::{Running, Sandbox, finish, program, skip, start};

/// A network with many short steps, so that every signal arrives during training.
const SMALL: &str = "--dataset synthetic --conv-filters 3 --dense-units 4 --batch-size 10 --limit-validation 20 \
                     --threads 1 --image-freq 0 --histogram-freq 0 --logdir run";

/// Starts a run that no test waits for, and waits for its first epoch.
fn endless(sandbox: &Sandbox, more: &str) -> Running {
    let flags = format!("{SMALL} --epochs 1000000 --limit-train 200 {more}");
    let mut running = start(sandbox.trainer(flags.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let journal = sandbox.path("run/metrics.jsonl");
    running.wait_until("the end of an epoch", || {
        std::fs::read_to_string(&journal).is_ok_and(|lines| lines.contains("\"kind\":\"epoch\""))
    });
    running
}

/// Steps of the existing checkpoints.
fn checkpoints(sandbox: &Sandbox) -> Vec<u64> {
    let entries = std::fs::read_dir(sandbox.path("run/checkpoints")).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut steps: Vec<u64> = entries.filter_map(|entry| name(entry).strip_prefix("ckpt-")?.parse().ok()).collect();
    steps.sort_unstable();
    steps
}

#[test]
fn a_batch_system_s_warning_stops_a_run_with_a_checkpoint() {
    for signal in ["USR2", "XCPU"] {
        let sandbox = Sandbox::new();
        let running = endless(&sandbox, "--checkpoint-every 1000000epochs");
        // A scheduler that sends several warnings still gets its checkpoint.
        for again in [signal, "USR2", "XCPU", "TERM"] {
            running.signal(again);
        }
        let outcome = running.finish();
        assert_eq!(outcome.code(), 75, "{signal}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("the same command goes on from there"), "{signal}: {}", outcome.stderr);
        assert_eq!(checkpoints(&sandbox).len(), 1, "{signal}");
    }
}

/// `timeout` signals its child and then the child's process group; Ctrl-C in a container has the same effect.
#[test]
fn signals_at_once_are_one_request() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("INT", "TERM")] {
        let sandbox = Sandbox::new();
        let running = endless(&sandbox, "--checkpoint-every 1000000epochs");
        running.signal(first);
        running.signal(second);
        let outcome = running.finish();
        assert_eq!(outcome.code(), 75, "{first} {second}: {}", outcome.stderr);
        assert_eq!(checkpoints(&sandbox).len(), 1, "{first} {second}");
    }
    let sandbox = Sandbox::new();
    let flags = format!("{SMALL} --epochs 1000000 --limit-train 200 --checkpoint-every 1000000epochs");
    let outcome = finish(sandbox.command("timeout").arg("4").arg(program()).args(flags.split_whitespace()));
    assert_eq!(outcome.code(), 124, "{}", outcome.stderr);
    assert_eq!(checkpoints(&sandbox).len(), 1, "{}", outcome.stderr);
}

#[test]
fn sigusr1_writes_a_checkpoint_and_training_goes_on() {
    let sandbox = Sandbox::new();
    let mut running = endless(&sandbox, "--checkpoint-every 1000000epochs --keep-last 10");
    for count in 1..=3 {
        running.signal("USR1");
        running.wait_until("a checkpoint", || checkpoints(&sandbox).len() == count);
    }
    let steps = checkpoints(&sandbox);
    assert!(running.is_running());
    running.signal("TERM");
    let outcome = running.finish();
    assert_eq!(outcome.code(), 75, "{}", outcome.stderr);
    for step in steps {
        let said = format!("checkpoint of step {step} written on request; training continues\n");
        assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
    }
}

#[test]
fn without_checkpoints_sigusr1_is_answered_in_words() {
    let sandbox = Sandbox::new();
    let running = endless(&sandbox, "--checkpoint-every off");
    running.signal("USR1");
    std::thread::sleep(std::time::Duration::from_millis(200));
    running.signal("TERM");
    let outcome = running.finish();
    assert_eq!(outcome.code(), 75, "{}", outcome.stderr);
    assert!(
        outcome
            .stderr
            .contains("warning: checkpoint request ignored: checkpoints are disabled (--checkpoint-every off)")
    );
    assert!(outcome.stderr.contains("warning: stopped after step "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(", without a checkpoint, as they are off: the same command begins again"));
    assert!(checkpoints(&sandbox).is_empty());
}

#[test]
fn a_run_that_was_asked_for_checkpoints_is_the_run_that_was_not() {
    let whole = Sandbox::new();
    let flags = format!("{SMALL} --epochs 3 --limit-train 4000 --checkpoint-every 1000epochs --quiet");
    whole.run(&flags).succeeded();
    let sandbox = Sandbox::new();
    let mut running = start(sandbox.trainer(flags.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    running.wait_until("training", || sandbox.path("run/config.toml").exists());
    running.signal("USR1");
    running.wait_until("a checkpoint", || !checkpoints(&sandbox).is_empty());
    running.signal("KILL");
    assert_eq!(running.finish().code(), 137);
    let kept = checkpoints(&sandbox);
    assert!(kept.iter().all(|step| *step < 1200), "within the run: {kept:?}");
    sandbox.run(&flags).succeeded();
    assert!(sandbox.read("run/model.safetensors") == whole.read("run/model.safetensors"), "from {kept:?}");
}

#[test]
fn a_terminal_that_is_closed_is_no_reason_to_stop() {
    let sandbox = Sandbox::new();
    let mut running = endless(&sandbox, "");
    running.signal("HUP");
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(running.is_running());
    // Background jobs of a shell without job control inherit an ignored SIGQUIT: `make test &` in a script.
    if ignores_quit() {
        return skip("SIGQUIT is ignored here");
    }
    running.signal("QUIT");
    assert_eq!(running.finish().code(), 131, "SIGQUIT ends at once");
}

/// True if this process, and so every program that it starts, ignores SIGQUIT.
fn ignores_quit() -> bool {
    const QUIT: u64 = 1 << 2;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & QUIT != 0))
}

#[test]
fn a_limit_on_cpu_time_stops_a_run_with_a_checkpoint() {
    let sandbox = Sandbox::new();
    let script = format!("ulimit -S -t 3; exec \"$0\" {SMALL} --epochs 1000000 --limit-train 200");
    let outcome = finish(sandbox.command("bash").args(["-c", &script, program()]));
    assert_eq!(outcome.code(), 75, "{}", outcome.stderr);
    assert!(!checkpoints(&sandbox).is_empty());
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_with_a_name() {
    let sandbox = Sandbox::new();
    let script = "ulimit -f 1; \"$0\" --help >help.txt; echo $?; \"$0\" config >config.txt; echo $?";
    let outcome = finish(sandbox.command("bash").args(["-c", script, program()]));
    assert_eq!(outcome.stdout, "74\n74\n", "{}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("cannot write to stdout: File too large").count(), 2, "{}", outcome.stderr);
}
