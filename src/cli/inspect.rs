//! `trainer inspect`: what event files hold, and whether it is whole.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Failure, print};
use crate::eventlog::Report;
use crate::exit::Exit;

pub(super) fn command() -> Command {
    let path = Arg::new("path").value_name("PATH").required(true).help("An event file, or a directory to search for them");
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
    let path = matches.get_one::<String>("path").map(String::as_str).unwrap_or_default();
    let report = Report::of(Path::new(path))?;
    if matches.get_flag("json") {
        let json = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(Exit::Software, format!("cannot print the report as JSON: {error}")))?;
        print(&json)?;
    } else {
        print(&report.to_string())?;
    }
    match report.is_damaged() {
        true => Err(Failure::new(Exit::Data, format!("{path}: damaged event files, see above"))),
        false => Ok(()),
    }
}
