//! `trainer explain`: why a trained network sees in pictures what it sees.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::predict::{inversion, inversion_option, run_option, specimen};
use super::{Failure, flags, option, print};
use crate::data::{self, Specimen};
use crate::exit::Exit;
use crate::explain::Method;
use crate::inquiry::{self, Inquiry, Reply};
use crate::run;
use crate::saved::SavedRun;
use crate::telemetry::Console;
use crate::types::{Clock, SystemClock};

/// Images of one command: each has ten pictures.
const MOST: usize = 1000;

pub(super) fn command() -> Command {
    let methods = Method::ALL.map(|m| format!("  {:20}  {} ({})", m.name(), m.title(), m.source())).join("\n");
    let files = Arg::new("file").value_name("FILE").action(ArgAction::Append);
    let image = Arg::new("image").long("image").value_name("FILE").action(ArgAction::Append);
    Command::new("explain")
        .about("Show why a trained network sees in pictures what it sees")
        .long_about(
            "Show why a trained network sees in pictures what it sees.\n\nInto --out go, for each picture, one with all \
             methods side by side (NAME.png), one for each method (NAME.METHOD.png), and an event file, so that \
             TensorBoard shows them, too. Nothing is trained, and the run is left as it is.",
        )
        .arg(run_option())
        .arg(
            option("out", "DIR", "Directory for pictures and event file; made if it is not there").required(true),
        )
        .arg(image.help("A PNG, JPEG or BMP picture of any size; may be given again (or without --image)"))
        .arg(files.help("More pictures; `-` for standard input"))
        .arg(option("indices", "N,...", "Validation images of the run's data set, counted from 0"))
        .arg(
            option("method", "NAME,...", "Methods, or `all` [default: all]")
                .long_help(format!("Methods, or `all` [default: all]\n\n{methods}")),
        )
        .arg(option("layer", "NAME", "Layer that the CAMs look at [default: the last convolution]"))
        .arg(option("target", "CLASS", "Class to explain, by name or number [default: the predicted one]"))
        .arg(inversion_option())
        .arg(
            Arg::new("raw")
                .long("raw")
                .action(ArgAction::SetTrue)
                .help("Write the maps as numbers, too: maps.safetensors, NAME/METHOD"),
        )
        .args(flags::flags_of(&["data-dir", "device", "quiet", "log-format"]))
}

pub(super) fn explain(matches: &ArgMatches) -> Result<(), Failure> {
    let methods = methods(text(matches, "method").unwrap_or("all"))?;
    let indices = indices(text(matches, "indices"))?;
    let inversion = inversion(matches)?;
    let files: Vec<&String> =
        ["image", "file"].into_iter().filter_map(|name| matches.get_many::<String>(name)).flatten().collect();
    if files.is_empty() && indices.is_empty() {
        let want = "explain: want pictures: FILE..., or --indices of validation images, such as --indices 0,1,2";
        return Err(Failure::new(Exit::Usage, want));
    }
    let count = files.len() + indices.len();
    if count > MOST {
        return Err(Failure::new(Exit::Usage, format!("explain: got {count} pictures, want at most {MOST}")));
    }
    let resolved = flags::resolve(matches)?;
    Console::start(resolved.config.quiet, resolved.config.log_format);
    let run_dir = Path::new(text(matches, "run").unwrap_or_default());
    let saved = SavedRun::open(run_dir, run::device(resolved.config.device)?)?;
    let inquiry = Inquiry::new(&saved, methods, text(matches, "layer"), text(matches, "target"))?;

    let mut specimens = Vec::new();
    let mut failures = Vec::new();
    for file in files {
        match specimen(file, &saved.look(), inversion) {
            Ok(specimen) => specimens.push(specimen),
            Err(failure) => failures.push(failure),
        }
    }
    if !indices.is_empty() {
        // The data are where this command says, if it does, else where they were when the network was trained.
        let said = resolved.values().find(|(knob, ..)| knob.key == "data-dir");
        let dir = match said {
            Some((.., source)) if *source != crate::config::Source::Default => &resolved.config.data_dir,
            _ => &saved.config.data_dir,
        };
        let dataset = data::load(saved.config.dataset, dir, saved.config.seed)?;
        for index in indices {
            specimens.push(Specimen::of_split(&dataset.validation, index)?);
        }
    }
    if !specimens.is_empty() {
        let replies = inquiry.ask(&saved, specimens);
        let out = Path::new(text(matches, "out").unwrap_or_default());
        let written = inquiry::write(out, &saved, &replies, matches.get_flag("raw"), SystemClock.now())?;
        let lines = replies.iter().zip(&written.sheets).map(|(reply, path)| line(&saved, reply, path));
        print(&lines.collect::<Vec<_>>().join("\n"))?;
    }
    let Some(last) = failures.pop() else { return Ok(()) };
    failures.iter().for_each(|failure| tracing::error!("{}", failure.message));
    let exit = failures.first().map_or(last.exit, |first| first.exit);
    Err(Failure { exit, ..last })
}

/// `out/three.png: why 3 (99.8 %)`
fn line(saved: &SavedRun, reply: &Reply, sheet: &Path) -> String {
    let class = saved.classes.get(reply.target).map_or("", String::as_str);
    let truth = match reply.specimen.label {
        Some(label) if label != reply.target => format!(", but it is {}", saved.classes[label]),
        _ => String::new(),
    };
    format!("{}: why {class} ({:.1} %{truth})", sheet.display(), reply.probability * 100.0)
}

fn methods(text: &str) -> Result<Vec<Method>, Failure> {
    if text == "all" {
        return Ok(Method::ALL.to_vec());
    }
    let mut methods = Vec::new();
    for name in text.split(',') {
        let method: Method = name.parse().map_err(|error| Failure::new(Exit::Usage, error))?;
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    Ok(methods)
}

fn indices(text: Option<&str>) -> Result<Vec<usize>, Failure> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let parsed = text.split(',').map(|part| part.trim().parse()).collect::<Result<Vec<usize>, _>>();
    parsed.map_err(|_| {
        let want = "whole numbers from 0 with commas between, such as `0,1,2`";
        Failure::new(Exit::Usage, format!("indices from command line: got `{text}`, want {want}"))
    })
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}
