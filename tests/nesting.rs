//! Nested runs: no run starts inside another, and a directory of runs that became a run stays usable.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::process::Stdio;

use support::listed::rows;
use support::{Sandbox, finish, start};

const SMALL: &str = "--dataset synthetic --conv-filters 3 --dense-units 4 --epochs 1 --limit-train 50 \
                     --limit-validation 20 --observe none --quiet";

fn train(sandbox: &Sandbox, flags: &str) {
    sandbox.run(&format!("{SMALL} {flags}")).succeeded();
}

/// Asserts that the flags are refused before anything is written.
fn refused(sandbox: &Sandbox, flags: &str, says: &[&str]) {
    let before = sandbox.tree();
    let outcome = sandbox.run(&format!("{SMALL} {flags}"));
    assert_eq!(outcome.code(), 73, "{flags}: {}", outcome.stderr);
    for text in says {
        assert!(outcome.stderr.contains(text), "{flags}: {}", outcome.stderr);
    }
    assert!(sandbox.tree() == before, "{flags} writes something");
}

#[test]
fn a_start_without_a_name_makes_no_run_of_a_directory_of_runs() {
    let sandbox = Sandbox::new();
    train(&sandbox, "--logdir s/r1");
    train(&sandbox, "--logdir deep/er/r2");
    sandbox.create_dir("links");
    sandbox.link("links/r1", "../s/r1");
    for (logdir, run) in
        [("s", "s/r1"), ("s/.", "s/r1"), ("s/r1/..", "s/r1"), ("deep", "deep/er/r2"), ("links", "links/r1"), (".", "r")]
    {
        refused(&sandbox, &format!("--logdir {logdir}"), &[" holds runs, such as ", run, "--run-name"]);
        refused(&sandbox, &format!("--logdir {logdir} --fresh"), &[" holds runs, such as "]);
    }
    let before = sandbox.tree();
    let outcome = finish(sandbox.trainer(SMALL.split_whitespace()).env("TRAINER_LOGDIR", "s"));
    assert_eq!((outcome.code(), sandbox.tree() == before), (73, true), "{}", outcome.stderr);
    train(&sandbox, "--logdir s --run-name night");
    train(&sandbox, "--logdir s/r1");
    assert_eq!(rows(sandbox.run("runs s --json")).len(), 2);
}

#[test]
fn a_directory_too_full_to_be_searched_for_runs_is_used_with_a_warning() {
    let sandbox = Sandbox::new();
    sandbox.create_dir("s/files");
    for n in 0..20_001 {
        std::fs::File::create(sandbox.path(format!("s/files/{n}"))).unwrap();
    }
    let outcome = sandbox.run(&format!("{SMALL} --logdir s")).succeeded();
    let warning = "s: 20000 entries were searched for runs, and there are more: a run below may have been missed";
    assert!(outcome.stderr.contains(warning), "{}", outcome.stderr);
}

#[test]
fn no_run_begins_inside_a_run() {
    let sandbox = Sandbox::new();
    train(&sandbox, "--logdir a");
    sandbox.link("link", "a");
    sandbox.link("deep", "a/train");
    for inside in ["a/b", "a/b/c", "link/b", "a/../a/b", "new/../a/b"] {
        refused(&sandbox, &format!("--logdir {inside}"), &["is inside run ", "`trainer unnest "]);
    }
    refused(&sandbox, "--logdir a --run-name b", &["is inside run ", "`trainer unnest "]);
    refused(&sandbox, "--logdir a --run-name {time}", &["is inside run "]);
    for own in ["a/train", "a/checkpoints", "a/checkpoints/x", "deep", "deep/x"] {
        refused(&sandbox, &format!("--logdir {own}"), &["where a run keeps its own files"]);
    }
    train(&sandbox, "--logdir link");
}

#[test]
fn a_directory_of_runs_that_became_a_run_stays_usable() {
    let sandbox = Sandbox::new();
    // The layout that earlier versions created.
    train(&sandbox, "--logdir s");
    for name in ["r1", "r2"] {
        train(&sandbox, &format!("--logdir {name}"));
        std::fs::rename(sandbox.path(name), sandbox.path("s").join(name)).unwrap();
    }
    let listed = || rows(sandbox.run("runs s --json")).keys().cloned().collect::<Vec<_>>();
    assert_eq!(listed(), ["s", "s/r1", "s/r2"]);
    let outcome = sandbox.run(&format!("{SMALL} --logdir s --run-name night")).succeeded();
    let said = "is a directory of runs and itself a run; `trainer unnest ";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    train(&sandbox, "--logdir s/r3");
    assert_eq!(listed(), ["s", "s/night", "s/r1", "s/r2", "s/r3"]);
    let outcome = sandbox.run("prune s --keep 2").succeeded();
    assert!(
        outcome.stderr.contains("run s has other runs in it, and stays; `trainer unnest s NAME`"),
        "{}",
        outcome.stderr
    );
    assert_eq!(listed(), ["s", "s/night", "s/r3"]);

    assert_eq!(sandbox.run("unnest s night").code(), 73, "taken");
    assert_eq!(sandbox.run("unnest s ../x").code(), 64);
    let weights = sandbox.read("s/model.safetensors");
    let outcome = sandbox.run("unnest s first").succeeded();
    assert_eq!(outcome.stdout, "moved the run in s to s/first\n");
    assert_eq!(listed(), ["s/first", "s/night", "s/r3"]);
    assert!(sandbox.read("s/first/model.safetensors") == weights);
    // The run continues in its new place.
    train(&sandbox, "--logdir s --run-name first --epochs 2");
    assert_eq!(sandbox.run("unnest s again").code(), 66);
    let outcome = sandbox.run(&format!("{SMALL} --logdir s --run-name more")).succeeded();
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_run_in_use_is_not_moved() {
    let sandbox = Sandbox::new();
    let flags = "--dataset synthetic --conv-filters 3 --dense-units 4 --epochs 1000000 --limit-train 200 \
                 --limit-validation 20 --observe none --logdir s";
    let mut running = start(sandbox.trainer(flags.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    running.wait_until("training", || sandbox.path("s/config.toml").exists());
    let outcome = sandbox.run("unnest s first");
    assert_eq!(outcome.code(), 73, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("run s is in use"), "{}", outcome.stderr);
    assert!(!sandbox.path("s/first").exists());
}

#[test]
fn every_start_with_the_time_in_its_name_is_a_run_of_its_own() {
    let sandbox = Sandbox::new();
    let flags = format!("{SMALL} --logdir s --run-name {{time}}");
    let running: Vec<_> = (0..4)
        .map(|_| start(sandbox.trainer(flags.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped())))
        .collect();
    for running in running {
        running.finish().succeeded();
    }
    train(&sandbox, "--logdir s --run-name {datetime}");
    train(&sandbox, "--logdir s --run-name {datetime}");
    assert_eq!(rows(sandbox.run("runs s --json --state finished")).len(), 6);
    // A run whose name has no time of day is continued.
    for _ in 0..2 {
        train(&sandbox, "--logdir s --run-name night-{seed}");
    }
    assert_eq!(rows(sandbox.run("runs s --json --state finished")).len(), 7);
}

#[test]
fn a_start_that_is_refused_leaves_no_directory() {
    let sandbox = Sandbox::new();
    train(&sandbox, "--logdir run");
    sandbox.create_dir("mine");
    let before = sandbox.tree();
    for (flags, code) in [
        ("--logdir new/a --fork-from none", 66),
        ("--logdir new/a --fork-from mine", 66),
        ("--logdir new/a --fork-from run --dense-units 5", 78),
        ("--logdir new/a --fork-from run --epochs 1", 78),
        ("--logdir mine --fork-from none", 66),
        ("--logdir new/a --warm-start none-such", 66),
        ("--logdir new/a --warm-start run --dense-units 5", 65),
        ("--logdir new/a --run-name {time} --warm-start none-such", 66),
        ("--logdir new/a --run-name {time} --dataset mnist", 66),
    ] {
        let outcome = sandbox.run(&format!("{SMALL} {flags}"));
        assert_eq!(outcome.code(), code, "{flags}: {}", outcome.stderr);
        let after = sandbox.tree();
        let left: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
        assert!(left.is_empty() && after == before, "{flags} leaves {left:?}");
    }
}
