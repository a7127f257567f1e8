//! The command line: types and help text, one file a subcommand.

mod config;
mod data;
mod explain;
mod flags;
mod inspect;
mod pictures;
mod predict;
mod prune;
mod runs;
mod signals;
mod summary;
mod train;
mod unnest;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command};

use crate::config::path_of;
use crate::exit::{Classify, Exit};
use crate::terminal::{echoed_lines, printable_lines, printable_path, shortened};

/// What a subcommand ends with when it fails: the message is printed once, here.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
}

impl<E: Classify> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure { exit: error.exit(), message: error.to_string() }
    }
}

impl Failure {
    /// All has been said already.
    pub(crate) fn said(exit: Exit) -> Failure {
        Failure { exit, message: String::new() }
    }

    pub(crate) fn new(exit: Exit, message: impl Display) -> Failure {
        Failure { exit, message: message.to_string() }
    }
}

/// Characters of a line of an error, whatever it repeats: room for two paths.
const LONGEST_LINE: usize = 8192;
/// A longer argument is not repeated whole.
const LONGEST_ARGUMENT: usize = 200;

/// Runs the program with the arguments of a command line, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Where it cannot be had, such a write ends the process.
    let _ = signals::let_writes_fail();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = match command().try_get_matches_from(with_negative_numbers(arguments.clone())) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::InvalidUtf8 => {
            // Paths may be any bytes; the first argument that is not UTF-8 is the likely one where no path is wanted.
            let strange = arguments.iter().find(|argument| argument.to_str().is_none());
            note(&format!("error: argument `{}` is not UTF-8", printable_path(strange.unwrap_or(&OsString::new()))));
            return ExitCode::from(Exit::Usage.code());
        }
        // What it repeats may be too long to read, or steer the terminal.
        Err(error) if error.use_stderr() && !arguments.iter().all(is_plain) => {
            note(echoed_lines(&error.render().to_string()).trim_end());
            return ExitCode::from(Exit::Usage.code());
        }
        Err(error) => {
            match error.print() {
                Err(source) if !error.use_stderr() && source.kind() != std::io::ErrorKind::BrokenPipe => {
                    note(&format!("error: cannot write to stdout: {source}"));
                    return ExitCode::from(Exit::Io.code());
                }
                _ => {}
            }
            return if error.use_stderr() { ExitCode::from(Exit::Usage.code()) } else { ExitCode::SUCCESS };
        }
    };
    // A panic is a bug of ours: it gets the exit code for one instead of Rust's 101.
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dispatch(&matches))).unwrap_or_else(|_| {
        Err(Failure::new(Exit::Software, "this is a bug in trainer; please report it with the lines above"))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { exit, message }) => {
            let message = message.lines().map(|line| shortened(line, LONGEST_LINE)).collect::<Vec<_>>().join("\n");
            // Once the console is set up it knows the form: text or JSON.
            if message.is_empty() {
                // Said where it happened.
            } else if tracing::dispatcher::has_been_set() {
                tracing::error!("{message}");
            } else {
                note(&format!("error: {message}"));
            }
            ExitCode::from(exit.code())
        }
    }
}

fn dispatch(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        None => train::train(matches),
        Some(("train", matches)) => train::train(matches),
        Some(("config", matches)) => config::config(matches),
        Some(("summary", matches)) => summary::summary(matches),
        Some(("predict", matches)) => predict::predict(matches),
        Some(("inspect", matches)) => inspect::inspect(matches),
        Some(("data", matches)) => data::data(matches),
        Some(("runs", matches)) => runs::runs(matches),
        Some(("prune", matches)) => prune::prune(matches),
        Some(("unnest", matches)) => unnest::unnest(matches),
        Some(("explain", matches)) => explain::explain(matches),
        Some((other, _)) => Err(Failure::new(Exit::Software, format!("subcommand `{other}` is not wired up"))),
    }
}

fn command() -> Command {
    Command::new("trainer")
        .version(concat!(env!("CARGO_PKG_VERSION"), " (", env!("TRAINER_REVISION"), ")"))
        .about("Trains a convolutional network on libtorch and lets you watch it learn in TensorBoard")
        .after_help(EXIT_CODES)
        .args_conflicts_with_subcommands(true)
        .args_override_self(true)
        .disable_help_subcommand(true)
        .args(flags::flags())
        .args(flags::beginnings())
        .subcommand(
            Command::new("train")
                .about("Train a network (what happens without a subcommand)")
                .args(flags::flags())
                .args(flags::beginnings()),
        )
        .subcommand(config::command())
        .subcommand(summary::command())
        .subcommand(predict::command())
        .subcommand(inspect::command())
        .subcommand(data::command())
        .subcommand(runs::command())
        .subcommand(prune::command())
        .subcommand(unnest::command())
        .subcommand(explain::command())
}

const EXIT_CODES: &str = "\
Every flag is also a key of the --config file (learning-rate = 1e-3) and a variable (TRAINER_LEARNING_RATE).
The command line wins over the environment, the environment over the file, the file over the defaults.

Exit codes: 0 done, 64 wrong command line, 65 wrong data or diverged training, 66 missing input,
69 device not available, 70 a bug, 73 output cannot be created, 74 reading or writing failed,
75 stopped by SIGINT, SIGTERM, SIGUSR2 or SIGXCPU: the same command goes on, 77 no permission,
78 wrong configuration, 130 and 143 stopped by a second SIGINT or SIGTERM, at once.
SIGUSR1 writes a checkpoint, and training goes on.";

/// `--momentum -1e-3` as `--momentum=-1e-3`: for clap the number is a bundle of flags, and its message would not name the
/// flag that the number is wrong for.
fn with_negative_numbers(arguments: Vec<OsString>) -> Vec<OsString> {
    let is_number = |text: &str| text.starts_with('-') && text.parse::<f64>().is_ok();
    let is_flag = |text: &str| text.len() > 2 && text.starts_with("--") && !text.contains('=');
    let mut joined: Vec<OsString> = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match joined.last_mut() {
            Some(flag) if argument.to_str().is_some_and(is_number) && flag.to_str().is_some_and(is_flag) => {
                flag.push("=");
                flag.push(&argument);
            }
            _ => joined.push(argument),
        }
    }
    joined
}

/// Prints data on stdout, ending in a newline; a reader that has gone away is not an error.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Io, format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// True if an argument can be repeated as it is.
fn is_plain(argument: &OsString) -> bool {
    argument.len() <= LONGEST_ARGUMENT && Some(printable_path(argument).as_str()) == argument.to_str()
}

/// Says something on stderr, with nothing in it that steers the terminal; that it cannot be said is no reason to stop.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", printable_lines(text));
}

/// Takes a path of any bytes, with `~` and `file:` URLs as they are meant.
fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|given| path_of(&given))
}

/// The value of an argument that [`path_parser`] reads.
fn path<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a Path> {
    matches.get_one::<PathBuf>(name).map(PathBuf::as_path)
}

/// A flag that takes a value.
fn option(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value_name).help(help)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn negative_numbers_belong_to_the_flag_before_them() {
        let joined = |line: &str| {
            let joined = with_negative_numbers(line.split(' ').map(OsString::from).collect());
            joined.join(OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(joined("t --momentum -1e-3 --seed -1"), "t --momentum=-1e-3 --seed=-1");
        assert_eq!(joined("t --momentum=1 -1"), "t --momentum=1 -1");
        assert_eq!(joined("t inspect -- -1"), "t inspect -- -1");
        assert_eq!(joined("t -inf --momentum -h"), "t -inf --momentum -h");
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        command().debug_assert();
    }
}
