//! `trainer inspect`: what event files hold, and whether it is whole.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{Failure, print};
use crate::eventlog::Report;
use crate::exit::Exit;
use crate::terminal::printable_path;

pub(super) fn command() -> Command {
    let path = Arg::new("path")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .required(true)
        .help("An event file, or a directory to search for them");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON instead of tables");
    Command::new("inspect")
        .about("List runs, tags, kinds, steps and sizes in event files, whoever wrote them, and verify every checksum")
        .long_about(
            "List runs, tags, kinds, steps and sizes in event files, whoever wrote them, and verify every checksum.\n\n\
             Exits with 65 when a file is damaged, after printing everything that could be read.",
        )
        .args([path, json])
}

pub(super) fn inspect(matches: &ArgMatches) -> Result<(), Failure> {
    let path = matches.get_one::<PathBuf>("path").cloned().unwrap_or_default();
    let report = Report::of(&path)?;
    if matches.get_flag("json") {
        let json = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(Exit::Software, format!("cannot print the report as JSON: {error}")))?;
        print(&json)?;
    } else {
        print(&report.to_string())?;
    }
    match report.is_damaged() {
        true => Err(Failure::new(Exit::Data, format!("{}: damaged event files, see above", printable_path(&path)))),
        false => Ok(()),
    }
}
