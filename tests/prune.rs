//! Pruning of a log directory: the right runs are removed, each as a whole.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use support::hand_made::{finished, names, stopped, unfinished};
use support::listed::{rows, state};
use support::{Entry, Sandbox, finish, is_root, program, proof, skip};
use trainer::catalogue;
use trainer::catalogue::Policy;
use trainer::catalogue::State;

/// Runs in every state; a larger number in a name means a younger run.
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
        // Kept runs are unchanged, removed ones are gone.
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
    // A directory without a lock file is still a run.
    std::fs::remove_file(sandbox.path("logs/outer/inner/run.lock")).unwrap();
    let lock = File::open(sandbox.path("logs/held/run.lock")).unwrap();
    lock.lock().unwrap();
    let before = sandbox.tree();
    assert_eq!(state(&sandbox, "logs/held"), ("running".to_owned(), "process 1".to_owned()));
    for flags in ["--dry-run", ""] {
        let outcome = sandbox.run(&format!("prune logs --keep 0 {flags}"));
        assert_eq!(outcome.code(), 0, "a good reason is no failure: {}", outcome.stderr);
        let said =
            "warning: run logs/outer has other runs in it, and stays; `trainer unnest logs/outer NAME` sets it apart";
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        assert_eq!(outcome.stdout.lines().count(), 2, "the others go all the same: {}", outcome.stdout);
    }
    assert_eq!(names(&sandbox, "logs"), ["held", "outer"]);
    assert!(!sandbox.path("logs/outer/inner").exists());
    assert!(sandbox.tree().iter().all(|(path, entry)| before[path] == *entry));

    let policy = Policy { keep: 0, keep_best: 0, unfinished: false };
    let listing = catalogue::list(&sandbox.path("logs")).unwrap();
    let mut held = listing.runs.into_iter().find(|run| run.path.ends_with("held")).unwrap();
    // Its state in a listing made before it was trained further.
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

/// Kills the program at the k-th call of every kind that changes the directory, until it runs to its end.
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
    // Calls that this architecture lacks are never made.
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
            // The next prune.
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
