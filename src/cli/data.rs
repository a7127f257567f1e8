//! `trainer data`: fetching and verifying data sets.

use clap::{ArgMatches, Command};

use super::Failure;

pub(super) fn command() -> Command {
    Command::new("data").about("Fetch or verify a data set")
}

pub(super) fn data(_matches: &ArgMatches) -> Result<(), Failure> {
    Ok(())
}
