//! `trainer predict`: what a trained network sees in pictures.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Failure, flags, option, print};
use crate::data::photo::Photo;
use crate::data::{Change, Inversion, Look, PhotoError, Specimen, change};
use crate::exit::Exit;
use crate::run;
use crate::saved::SavedRun;
use crate::telemetry::Console;

const MOST: usize = 65_536;

pub(super) fn command() -> Command {
    let files = Arg::new("file")
        .value_name("FILE")
        .required(true)
        .action(ArgAction::Append)
        .help("PNG, JPEG or BMP pictures of any size; `-` for standard input");
    Command::new("predict")
        .about("Ask a trained network what pictures show")
        .long_about(
            "Ask a trained network what pictures show.\n\nA picture of any size and colour is made to look like the \
             images that the network has learned from, and what was done to it is said on stderr. A picture that cannot \
             be used does not stop the others; the exit code is that of the first one.\n\nWith --format json each \
             picture is one line with one object: `file`, `class`, `class_index`, `probability`, `probabilities` (of \
             every class by name, in the order of the data set) and `prepared` (a list of what was done to the \
             picture).",
        )
        .arg(run_option())
        .arg(inversion_option())
        .arg(option("format", "FORMAT", "Form of what is printed: `table` or `json` [default: table]"))
        .arg(option("top", "N", "Most probable classes in a row of the table [default: 2]"))
        .args(flags::flags_of(&["device", "quiet", "log-format"]))
        .arg(files)
}

pub(super) fn predict(matches: &ArgMatches) -> Result<(), Failure> {
    let json = match text(matches, "format").unwrap_or("table") {
        "table" => false,
        "json" => true,
        other => return Err(wrong("format", other, "`table` or `json`")),
    };
    let top = match text(matches, "top") {
        None => 2,
        Some(text) => match text.parse() {
            Ok(top) if (1..=MOST).contains(&top) => top,
            _ => return Err(wrong("top", text, &format!("a whole number from 1 to {MOST}"))),
        },
    };
    let inversion = inversion(matches)?;
    let config = flags::resolve(matches)?.config;
    Console::start(config.quiet, config.log_format);
    let saved = SavedRun::open(Path::new(text(matches, "run").unwrap_or_default()), run::device(config.device)?)?;

    let mut failures = Vec::new();
    let mut specimens = Vec::new();
    for file in matches.get_many::<String>("file").into_iter().flatten() {
        match specimen(file, &saved.look(), inversion) {
            Ok(specimen) => specimens.push(specimen),
            Err(failure) => failures.push(failure),
        }
    }
    let images: Vec<&[u8]> = specimens.iter().map(|specimen| specimen.pixels.as_slice()).collect();
    let rows: Vec<Prediction<'_>> = specimens
        .iter()
        .zip(saved.probabilities(&images))
        .map(|(specimen, probabilities)| Prediction::new(specimen, probabilities))
        .collect();
    if !rows.is_empty() {
        let lines: Vec<String> = match json {
            true => rows.iter().map(|row| row.json(&saved.classes).to_string()).collect(),
            false => table(&rows, &saved.classes, top),
        };
        print(&lines.join("\n"))?;
    }
    // Each is said once, and the last one by `main`.
    let Some(last) = failures.pop() else { return Ok(()) };
    failures.iter().for_each(|failure| tracing::error!("{}", failure.message));
    let exit = failures.first().map_or(last.exit, |first| first.exit);
    Err(Failure { exit, ..last })
}

/// `--run`.
pub(super) fn run_option() -> Arg {
    option("run", "DIR", "Directory of a finished run, such as logs/fit").required(true)
}

/// `--invert`.
pub(super) fn inversion_option() -> Arg {
    option(
        "invert",
        "WHEN",
        "Whether light and dark are exchanged: `auto`, `yes` or `no` [default: auto]\n\n`auto` compares a picture's ground, \
         which is what lies along its edge, with that of the data set.",
    )
}

pub(super) fn inversion(matches: &ArgMatches) -> Result<Inversion, Failure> {
    match text(matches, "invert").unwrap_or("auto") {
        "auto" => Ok(Inversion::Auto),
        "yes" => Ok(Inversion::Always),
        "no" => Ok(Inversion::Never),
        other => Err(wrong("invert", other, "`auto`, `yes` or `no`")),
    }
}

/// Reads one picture and says what was done to it.
pub(super) fn specimen(file: &str, look: &Look, inversion: Inversion) -> Result<Specimen, Failure> {
    let photo: Result<Photo, PhotoError> = match file {
        "-" => Photo::read("stdin", std::io::stdin().lock()),
        path => Photo::open(Path::new(path)),
    };
    let name = if file == "-" { "stdin" } else { file };
    let specimen = Specimen::of_photo(name, photo?, look, inversion)?;
    if !specimen.changes.is_empty() {
        tracing::warn!("{name}: {}", change::sentence(&specimen.changes));
    }
    Ok(specimen)
}

/// What the network says about one picture.
struct Prediction<'a> {
    specimen: &'a Specimen,
    /// By class.
    probabilities: Vec<f32>,
    /// Classes, the most probable first.
    ranked: Vec<usize>,
}

impl<'a> Prediction<'a> {
    fn new(specimen: &'a Specimen, probabilities: Vec<f32>) -> Prediction<'a> {
        let mut ranked: Vec<usize> = (0..probabilities.len()).collect();
        // Stable, so that equal ones keep the order of their classes.
        ranked.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        Prediction { specimen, probabilities, ranked }
    }

    fn json(&self, classes: &[String]) -> serde_json::Value {
        let best = self.ranked.first().copied().unwrap_or_default();
        let by_name: serde_json::Map<String, serde_json::Value> =
            classes.iter().cloned().zip(self.probabilities.iter().map(|&p| p.into())).collect();
        serde_json::json!({
            "file": self.specimen.name,
            "class": classes.get(best),
            "class_index": best,
            "probability": self.probabilities.get(best),
            "probabilities": by_name,
            "prepared": self.specimen.changes.iter().map(Change::to_string).collect::<Vec<_>>(),
        })
    }
}

/// A heading and a line for each picture.
fn table(rows: &[Prediction<'_>], classes: &[String], top: usize) -> Vec<String> {
    let ranks = top.min(classes.len());
    let mut lines = vec![vec!["file".to_owned(), "class".to_owned(), "probability".to_owned()]];
    lines[0].extend((2..=ranks).map(|rank| match rank {
        2 => "runner-up".to_owned(),
        3 => "3rd".to_owned(),
        rank => format!("{rank}th"),
    }));
    for row in rows {
        let percent = |class: usize| format!("{:.1} %", row.probabilities[class] * 100.0);
        let mut cells = vec![row.specimen.name.clone()];
        for (rank, &class) in row.ranked.iter().take(ranks).enumerate() {
            match rank {
                0 => cells.extend([classes[class].clone(), format!("{:>11}", percent(class))]),
                _ => cells.push(format!("{} {}", classes[class], percent(class))),
            }
        }
        lines.push(cells);
    }
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let padded = |cells: &Vec<String>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(padded).collect()
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

fn wrong(flag: &str, got: &str, want: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{flag} from command line: got `{got}`, want {want}"))
}
