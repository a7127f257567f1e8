//! `trainer config`: the resolved configuration and where each value came from.

use clap::{ArgMatches, Command};

use super::{Failure, flags, note, print};

pub(super) fn command() -> Command {
    Command::new("config")
        .about("Print the resolved configuration, as a file for --config, and where each value came from")
        .args(flags::flags())
}

pub(super) fn config(matches: &ArgMatches) -> Result<(), Failure> {
    let resolved = flags::resolve(matches)?;
    for warning in &resolved.warnings {
        note(&format!("warning: {warning}"));
    }
    print(&resolved.to_toml())
}
