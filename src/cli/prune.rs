//! `trainer prune`: removal of the oldest finished runs.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::runs::{self, age, age_text, bytes_text, percent, size_text};
use super::{Failure, note, option, path, print};
use crate::catalogue::{self, Plan, Policy, RemoveError, Run};
use crate::exit::Exit;
use crate::terminal::printable_path;
use crate::types::{Clock, SystemClock, WallTime};

pub(super) fn command() -> Command {
    let switch =
        |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("prune")
        .about("Remove the oldest finished runs at or below a log directory")
        .long_about(
            "Remove the oldest finished runs at or below a log directory, with all that is in their directories, and print \
             what went.\n\nA run that a process trains is never removed, nor is a damaged one, nor, without --unfinished, \
             one that can still go on. A run vanishes at once: it gets a hidden name, .trash-PID-NAME, before it is \
             removed, and what a killed prune left so is removed by the next one. Links in a run are removed, not \
             followed.",
        )
        .arg(runs::logdir())
        .arg(option("keep", "N", "Leave the N runs that ended last").required(true))
        .arg(option("keep-best", "N", "Also leave the N runs with the highest validation accuracy [default: 0]"))
        .arg(switch("unfinished", "Remove stopped, unfinished and failed runs like finished ones"))
        .arg(switch("dry-run", "Only print what would go"))
}

pub(super) fn prune(matches: &ArgMatches) -> Result<(), Failure> {
    let logdir = path(matches, "logdir").unwrap_or(Path::new(""));
    let policy = Policy {
        keep: runs::number(matches, "keep", 0)?.unwrap_or_default(),
        keep_best: runs::number(matches, "keep-best", 0)?.unwrap_or_default(),
        unfinished: matches.get_flag("unfinished"),
    };
    let dry = matches.get_flag("dry-run");
    let mut listing = catalogue::list(logdir)?;
    if matches!(listing.runs.as_slice(), [only] if only.path == logdir) {
        let message = format!("{} is itself a run; name the directory that it lies in", printable_path(logdir));
        return Err(Failure::new(Exit::Usage, message));
    }
    let (outer, runs) = apart(std::mem::take(&mut listing.runs));
    for run in &outer {
        let path = printable_path(&run.path);
        note(&format!(
            "warning: run {path} has other runs in it, and stays; `trainer unnest {path} NAME` sets it apart"
        ));
    }
    runs::warn(&listing);
    let mut done = Done { dry, now: SystemClock.now(), runs: 0, bytes: 0, failures: Vec::new() };
    for trash in &listing.trash {
        let removed = if dry { Ok(0) } else { catalogue::clear_trash(trash) };
        if let Some(bytes) = done.note(removed) {
            done.bytes += bytes;
            let size = if dry { String::new() } else { format!(", {}", bytes_text(bytes)) };
            print(&format!("{} {} (left by a prune that was stopped{size})", done.verb(), printable_path(trash)))?;
        }
    }
    let Plan { remove, keep } = policy.plan(runs);
    for run in &remove {
        done.remove(run, policy)?;
    }
    let stay = outer.len() + keep.len() + remove.len() - done.runs;
    let stays = if stay == 1 { "1 stays".to_owned() } else { format!("{stay} stay") };
    let sum = match done.runs {
        0 => format!("nothing to remove; {stays}"),
        1 => format!("{} 1 run, {}; {stays}", done.verb(), bytes_text(done.bytes)),
        gone => format!("{} {gone} runs, {}; {stays}", done.verb(), bytes_text(done.bytes)),
    };
    note(&sum);
    done.failures.into_iter().next().map_or(Ok(()), Err)
}

/// Runs that have others in them, and those others with all the rest, in the order in which they came.
fn apart(runs: Vec<Run>) -> (Vec<Run>, Vec<Run>) {
    let paths: BTreeSet<PathBuf> = runs.iter().map(|run| run.path.clone()).collect();
    let after = |path: &Path| paths.range::<Path, _>((Bound::Excluded(path), Bound::Unbounded)).next();
    // What lies in a directory follows it in the order of paths.
    runs.into_iter().partition(|run| after(&run.path).is_some_and(|next| next.starts_with(&run.path)))
}

/// What has been removed so far.
struct Done {
    dry: bool,
    now: WallTime,
    runs: usize,
    bytes: u64,
    /// All but the first have been said.
    failures: Vec<Failure>,
}

impl Done {
    fn remove(&mut self, run: &Run, policy: Policy) -> Result<(), Failure> {
        let size = run.size();
        let removed = match self.dry {
            true if size.holds_a_run => Err(RemoveError::HoldsARun { path: run.path.clone() }),
            true => Ok(size.bytes),
            false => catalogue::remove(run, policy),
        };
        let Some(bytes) = self.note(removed) else { return Ok(()) };
        self.runs += 1;
        self.bytes += bytes;
        let accuracy = run.validation_accuracy.map_or_else(String::new, |share| format!(", {}", percent(share)));
        print(&format!(
            "{} {} ({} {} ago{accuracy}, {})",
            self.verb(),
            printable_path(&run.path),
            run.state.name(),
            age_text(age(run, self.now)),
            size_text(size),
        ))
    }

    /// The bytes that went; one failure does not keep the others from being tried.
    fn note(&mut self, removed: Result<u64, RemoveError>) -> Option<u64> {
        match removed {
            Ok(bytes) => return Some(bytes),
            Err(error) if error.is_a_matter_of_course() => note(&format!("warning: {error}")),
            Err(error) => {
                if !self.failures.is_empty() {
                    note(&format!("error: {error}"));
                }
                self.failures.push(error.into());
            }
        }
        None
    }

    fn verb(&self) -> &'static str {
        if self.dry { "would remove" } else { "removed" }
    }
}
