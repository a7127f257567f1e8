//! Flags made from the table of knobs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::path_parser;
use crate::config::{ConfigError, KNOBS, Knob, Layers, OBSERVERS, Resolved, Source};
use crate::config::{path_of, text_of, without_line_end};

/// One flag for each knob, and `--config`.
pub(super) fn flags() -> Vec<Arg> {
    KNOBS.iter().map(flag).chain([file()]).collect()
}

/// The flags of some knobs, and `--config`.
pub(super) fn flags_of(keys: &[&str]) -> Vec<Arg> {
    KNOBS.iter().filter(|knob| keys.contains(&knob.key)).map(flag).chain([file()]).collect()
}

fn file() -> Arg {
    let file = Arg::new("config").long("config").value_name("FILE").help_heading("Run");
    let file = file.value_parser(path_parser());
    file.help("Read settings from a TOML file (also TRAINER_CONFIG)")
}

/// Where a run begins, if not where it was left.
pub(super) fn beginnings() -> [Arg; 2] {
    [fresh(), fork_from()]
}

fn fork_from() -> Arg {
    let fork = Arg::new("fork-from").long("fork-from").value_name("RUN").help_heading("Run").conflicts_with("fresh");
    let fork = fork.value_parser(path_parser());
    fork.help("Begin where the newest checkpoint of another run is, also with other settings").long_help(
        "Begin where the newest checkpoint of another run is, also with other settings\n\nThat run is left as it is. The \
         network has to be the same; another optimizer begins with an empty memory, another data set, batch size or seed \
         at the start of the epoch. The second start of the same command goes on with the new run.",
    )
}

fn fresh() -> Arg {
    Arg::new("fresh")
        .long("fresh")
        .action(ArgAction::SetTrue)
        .help_heading("Run")
        .help("Remove what an earlier run left in --logdir and start over")
}

fn flag(knob: &'static Knob) -> Arg {
    let (short, long) = match knob.help.split_once("\n\n") {
        Some((short, rest)) => (short, format!("{short}\n\n{rest}")),
        None => (knob.help, knob.help.to_owned()),
    };
    let arg = Arg::new(knob.key).long(knob.key).help_heading(knob.heading);
    if knob.is_switch() {
        return arg.action(ArgAction::SetTrue).help(short);
    }
    let shown = |text: &str| match knob.default {
        "" => text.to_owned(),
        default => format!("{text} [default: {default}]"),
    };
    let list = if knob.key == "observe" { format!("\n\n{}", observers()) } else { String::new() };
    let arg = if knob.is_path() { arg.value_parser(value_parser!(OsString)) } else { arg };
    arg.value_name(knob.value_name).help(shown(short)).long_help(shown(&long) + &list)
}

/// Every observer with what it shows and when it usually does, a line each.
fn observers() -> String {
    let width = OBSERVERS.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let lines = OBSERVERS.iter().map(|row| format!("  {:width$}  {} ({})", row.name, row.help, row.default()));
    lines.collect::<Vec<_>>().join("\n")
}

/// Defaults, file, environment, command line.
pub(super) fn resolve(matches: &ArgMatches) -> Result<Resolved, ConfigError> {
    let mut layers = Layers::new();
    let named = matches.get_one::<PathBuf>("config").cloned();
    // An empty variable is as good as none, as it is for every knob.
    let variable = std::env::var_os("TRAINER_CONFIG").map(without_line_end).filter(|path| !path.is_empty());
    let file = match (named, variable) {
        (Some(path), _) => Some(path),
        (None, Some(given)) => {
            let origin = Source::Environment("TRAINER_CONFIG".to_owned());
            let got = given.to_string_lossy().into_owned();
            Some(path_of(&given).map_err(|want| ConfigError::Value { key: "config", origin, got, want })?)
        }
        (None, None) => None,
    };
    if let Some(path) = file {
        layers.file(&path)?;
    }
    // Names that are not Unicode cannot be ours.
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    layers.environment(variables.filter(|(name, _)| name != "TRAINER_CONFIG"))?;
    for knob in KNOBS {
        // Not every subcommand has the flags of all knobs.
        if !matches!(matches.try_contains_id(knob.key), Ok(true)) {
            continue;
        }
        if knob.is_switch() {
            if matches.get_flag(knob.key) {
                layers.command_line(knob, "true".to_owned());
            }
        } else if knob.is_path() {
            let given = matches.get_one::<OsString>(knob.key);
            if let Some(given) = given {
                layers.command_line(knob, given.to_str().map_or_else(|| text_of(Path::new(given)), str::to_owned));
            }
        } else if let Some(text) = matches.get_one::<String>(knob.key) {
            layers.command_line(knob, text.clone());
        }
    }
    layers.resolve()
}
