//! `trainer prune`: removal of the oldest finished runs.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::pictures::text;
use super::runs::{self, age, age_text, bytes_text, percent, size_text};
use super::{Failure, note, option, print};
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
    let logdir = Path::new(text(matches, "logdir").unwrap_or_default());
    let policy = Policy {
        keep: runs::number(matches, "keep", 0)?.unwrap_or_default(),
        keep_best: runs::number(matches, "keep-best", 0)?.unwrap_or_default(),
        unfinished: matches.get_flag("unfinished"),
    };
    let dry = matches.get_flag("dry-run");
    let mut listing = catalogue::list(logdir)?;
    // The directory of all others is no run to remove, whatever was trained in it.
    let (own, others): (Vec<Run>, Vec<Run>) = listing.runs.drain(..).partition(|run| run.path == logdir);
    if !own.is_empty() {
        let shown = printable_path(logdir);
        if others.is_empty() {
            return Err(Failure::new(
                Exit::Usage,
                format!("{shown} is itself a run; name the directory that it lies in"),
            ));
        }
        note(&format!(
            "warning: {shown} is itself a run, which stays; `trainer unnest {shown} NAME` moves it into {shown}/NAME"
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
    let Plan { remove, keep } = policy.plan(others);
    for run in &remove {
        done.remove(run, policy)?;
    }
    let stay = keep.len() + remove.len() - done.runs;
    let stays = if stay == 1 { "1 stays".to_owned() } else { format!("{stay} stay") };
    let sum = match done.runs {
        0 => format!("nothing to remove; {stays}"),
        1 => format!("{} 1 run, {}; {stays}", done.verb(), bytes_text(done.bytes)),
        gone => format!("{} {gone} runs, {}; {stays}", done.verb(), bytes_text(done.bytes)),
    };
    note(&sum);
    done.failures.into_iter().next().map_or(Ok(()), Err)
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
