//! `trainer unnest`: a run in a directory of runs gets a directory of its own.

use std::path::Path;

use clap::{Arg, ArgMatches, Command};

use super::pictures::{text, wrong};
use super::{Failure, path, path_parser, print};
use crate::nesting;
use crate::run_name::RunName;
use crate::terminal::printable_path;

pub(super) fn command() -> Command {
    Command::new("unnest")
        .about("Move a run that lies in a directory of runs into a directory of its own below it")
        .long_about(
            "Move a run that lies in a directory of runs into a directory of its own below it.\n\nA start without \
             --run-name makes a run of the log directory itself. `trainer unnest logs first` moves what that run keeps in \
             logs, and nothing else, into logs/first, where the same command with --run-name first goes on with it. A \
             command that was killed goes on where it was when it is run again.",
        )
        .arg(Arg::new("logdir").value_name("LOGDIR").required(true).value_parser(path_parser()).help("The directory that is a run"))
        .arg(Arg::new("name").value_name("NAME").required(true).help("Name of the run from now on"))
}

pub(super) fn unnest(matches: &ArgMatches) -> Result<(), Failure> {
    let logdir = path(matches, "logdir").unwrap_or(Path::new(""));
    let name = text(matches, "name").unwrap_or_default();
    let name = RunName::new(name).map_err(|error| wrong("name", name, &error.to_string()))?;
    let moved = nesting::unnest(logdir, &name)?;
    print(&format!("moved the run in {} to {}", printable_path(logdir), printable_path(moved)))
}
