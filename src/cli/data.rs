//! `trainer data`: fetching and verifying data sets.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Failure, flags, note, option, print};
use crate::data::fetch::{Progress, fetch};
use crate::data::{DatasetName, source};
use crate::exit::Exit;

pub(super) fn command() -> Command {
    let name = || Arg::new("name").value_name("NAME").required(true).help("`mnist` or `fashion-mnist`");
    let dir = || flags::flags_of(&["data-dir"]);
    let mirror = option("mirror", "URL", "Fetch from this address instead of the public mirrors; may be given again");
    Command::new("data")
        .about("Fetch or verify the files of a data set")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("fetch")
                .about(
                    "Fetch a data set over HTTPS: each mirror in turn, resumed where it broke off, checked by SHA-256",
                )
                .args([name(), mirror.action(ArgAction::Append)])
                .args(dir()),
        )
        .subcommand(
            Command::new("verify")
                .about("Compare the files of a data set with the published SHA-256 sums")
                .arg(name())
                .args(dir()),
        )
}

pub(super) fn data(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((what, matches)) = matches.subcommand() else {
        return Err(Failure::new(Exit::Usage, "data: want `fetch` or `verify`"));
    };
    let name = matches.get_one::<String>("name").map(String::as_str).unwrap_or_default();
    let name: DatasetName = name.parse().map_err(|error| Failure::new(Exit::Usage, error))?;
    let resolved = flags::resolve(matches)?;
    for warning in &resolved.warnings {
        note(&format!("warning: {warning}"));
    }
    let dir = resolved.config.data_dir.as_path();
    if what == "verify" {
        let report = source::verify(name, dir)?;
        print(&report.to_string())?;
        return match report.exit() {
            None => Ok(()),
            Some(exit) => Err(Failure::new(exit, format!("data set {name} is not as published, see above"))),
        };
    }
    let mirrors = matches.get_many::<String>("mirror").map(|urls| urls.cloned().collect());
    fetch(name, dir, mirrors, &mut |progress| {
        if !matches!(progress, Progress::Received { .. }) {
            note(&progress.to_string());
        }
    })?;
    Ok(())
}
