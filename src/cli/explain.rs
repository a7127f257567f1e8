//! `trainer explain`: why a trained network sees in pictures what it sees.

use std::iter;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};

use super::pictures::{self, text, wrong};
use super::{Failure, flags, option, path, path_parser, print};
use crate::config::{Config, Resolved, Source};
use crate::data::Specimen;
use crate::exit::Exit;
use crate::explain::Method;
use crate::graph::{NodeId, Shape};
use crate::inquiry::{self, Inquiry, Reply};
use crate::run;
use crate::saved::SavedRun;
use crate::telemetry::Console;
use crate::terminal::printable_path;
use crate::types::{Clock, Percent, SystemClock};

/// Images that are explained at once, at most.
const MOST: usize = 1_000;

/// What is asked, with everything checked that can be checked before the work.
pub(super) struct Question {
    pub saved: SavedRun,
    /// Pictures first, then images of the validation split, in the order in which they were named.
    pub specimens: Vec<Specimen>,
    /// Of pictures that cannot be used; the others are explained.
    pub failures: Vec<Failure>,
    pub inquiry: Inquiry,
    pub out: PathBuf,
}

pub(super) fn command() -> Command {
    let image = Arg::new("image").long("image").value_name("FILE").action(ArgAction::Append);
    let image = image.value_parser(value_parser!(PathBuf));
    let image = image.num_args(1..).help("PNG, JPEG or BMP pictures of any size; `-` for standard input");
    Command::new("explain")
        .about("Show why a trained network sees in pictures what it sees")
        .long_about(
            "Show why a trained network sees in pictures what it sees.\n\nInto --out go, for each picture, one with all \
             methods side by side (NAME.explanations.png), one for each method (NAME.METHOD.png), and an event file, so that \
             TensorBoard shows them, too. Nothing is trained, and the run is left as it is.",
        )
        .args(pictures::flags())
        .arg(image)
        .arg(option("indices", "N,...", "Images of the run's validation split, from 0, such as `0,7,20-29`"))
        .group(ArgGroup::new("images").args(["image", "indices"]).required(true).multiple(true))
        .arg(
            option("method", "NAME,...", "Methods, with commas between, or `all` [default: all]").long_help(format!(
                "Methods, with commas between, or `all` [default: all]\n\n{}",
                Method::ALL.map(|m| format!("  {:20}  {} ({})", m.name(), m.title(), m.source())).join("\n")
            )),
        )
        .arg(option(
            "layer",
            "NAME",
            "Layer that the CAMs look at, as `trainer summary` names it [default: the last convolution]",
        ))
        .arg(option("target", "CLASS", "Class to be explained, by name or number [default: the predicted one]"))
        .arg(
            option("out", "DIR", "Directory for pictures and event file; made if it is not there")
                .value_parser(path_parser())
                .required(true),
        )
        .arg(
            Arg::new("raw")
                .long("raw")
                .action(ArgAction::SetTrue)
                .help("Write the maps as numbers, too: maps.safetensors with NAME/METHOD for each"),
        )
        .args(flags::flags_of(&["data-dir", "device", "quiet", "log-format"]))
}

pub(super) fn explain(matches: &ArgMatches) -> Result<(), Failure> {
    let resolved = flags::resolve(matches)?;
    Console::start(resolved.config.quiet, resolved.config.log_format);
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    let Question { saved, specimens, mut failures, inquiry, out } = Question::of(matches, &resolved)?;
    if !specimens.is_empty() {
        let (replies, refused) = inquiry.ask(&saved, specimens);
        failures.extend(refused.into_iter().map(Failure::from));
        replies.iter().for_each(|reply| pictures::doubted(&reply.specimen.name, &reply.doubts));
        if replies.is_empty() {
            return pictures::report(failures);
        }
        let sheets = inquiry::write(&out, &saved, &replies, matches.get_flag("raw"), SystemClock.now())?;
        let lines = replies.iter().zip(&sheets).map(|(reply, sheet)| line(&saved.classes, reply, sheet));
        let lines = iter::once(format!("weights: {}", saved.origin)).chain(lines);
        print(&lines.collect::<Vec<_>>().join("\n"))?;
    }
    pictures::report(failures)
}

/// `out/three.explanations.png: why 3 (99.8 %)`
fn line(classes: &[String], reply: &Reply, sheet: &Path) -> String {
    let truth = match reply.specimen.label {
        Some(label) if label != reply.target => format!(", but it is {}", classes[label]),
        _ => String::new(),
    };
    format!("{}: why {} ({}{truth})", printable_path(sheet), classes[reply.target], Percent(reply.probability))
}

impl Question {
    pub fn of(matches: &ArgMatches, resolved: &Resolved) -> Result<Question, Failure> {
        let inversion = pictures::inversion(matches)?;
        let indices = match text(matches, "indices") {
            Some(text) => indices(text).map_err(|want| wrong("indices", text, &want))?,
            None => Vec::new(),
        };
        let wanted = text(matches, "method").unwrap_or("all");
        let methods = methods(wanted)?;
        let saved = pictures::saved_run(matches, &resolved.config)?;
        let node = text(matches, "layer").map(|name| node(&saved, name)).transpose()?;
        let methods = applicable(methods, wanted, node.is_some() || saved.network.taps().last_maps.is_some())?;
        let target = text(matches, "target").map(|name| target(&saved.classes, name)).transpose()?;
        let files = matches.get_many::<PathBuf>("image").into_iter().flatten();
        let (mut specimens, failures) = pictures::read(files, &saved.look(), inversion);
        if !indices.is_empty() {
            let dataset = run::dataset(&with_data_of(&saved.config, resolved))?;
            for index in indices {
                specimens.push(Specimen::of_split(&dataset.validation, index)?);
            }
            dataset.check()?;
        }
        let out = path(matches, "out").map(Path::to_owned).unwrap_or_default();
        let count = specimens.len() + failures.len();
        if count > MOST {
            return Err(Failure::new(Exit::Usage, format!("explain: got {count} pictures, want at most {MOST}")));
        }
        Ok(Question { saved, specimens, failures, inquiry: Inquiry { methods, node, target }, out })
    }
}

/// The run's configuration, with data sets where somebody says now that they are.
fn with_data_of(saved: &Config, resolved: &Resolved) -> Config {
    let is_said = |source: &Source| *source != Source::Default;
    let mut config = saved.clone();
    if resolved.values().any(|(knob, _, source)| knob.key == "data-dir" && is_said(source)) {
        config.data_dir.clone_from(&resolved.config.data_dir);
    }
    config
}

/// Output of a layer with feature maps.
fn node(saved: &SavedRun, name: &str) -> Result<NodeId, Failure> {
    let layers = saved.network.layers();
    let with_maps = || layers.iter().filter(|layer| matches!(layer.output, Shape::Image(_)));
    let found = with_maps().find(|layer| layer.name == name).map(|layer| layer.value);
    let names = || with_maps().map(|layer| format!("`{}`", layer.name)).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| wrong("layer", name, &format!("one of those with maps: {}", names())))
}

/// Without a layer to look at, `all` means those that need none, and one that was named is refused.
fn applicable(methods: Vec<Method>, wanted: &str, has_layer: bool) -> Result<Vec<Method>, Failure> {
    let (blind, rest): (Vec<Method>, Vec<Method>) = methods.into_iter().partition(|m| m.needs_layer() && !has_layer);
    let names = blind.iter().map(|method| method.name()).collect::<Vec<_>>().join(", ");
    match blind.first() {
        None => {}
        Some(_) if wanted == "all" => tracing::warn!("left out, since the network has no convolution: {names}"),
        Some(_) => {
            let want = "methods that look at the image alone: the network has no convolution";
            return Err(wrong("method", &names, want));
        }
    }
    Ok(rest)
}

/// Each once, in the order in which they were named.
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

/// A class by its name, or by its number where no class has that name.
fn target(classes: &[String], text: &str) -> Result<usize, Failure> {
    let by_name = classes.iter().position(|class| class == text);
    let by_number = || text.parse().ok().filter(|&class: &usize| class < classes.len());
    let names = || classes.iter().map(|class| format!("`{class}`")).collect::<Vec<_>>().join(", ");
    by_name.or_else(by_number).ok_or_else(|| wrong("target", text, &format!("one of {}", names())))
}

/// `0,7,20-22` is 0, 7, 20, 21 and 22.
fn indices(text: &str) -> Result<Vec<usize>, String> {
    let want = || format!("up to {MOST} positions from 0 with commas between, such as `0,7,20-29`");
    let mut found = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let [first, last] = [first, last].map(|number| number.trim().parse::<usize>());
        let (Ok(first), Ok(last)) = (first, last) else { return Err(want()) };
        if first > last || last - first >= MOST || found.len() + last - first >= MOST {
            return Err(want());
        }
        found.extend(first..=last);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn indices_are_numbers_and_ranges() {
        assert_eq!(indices("7"), Ok(vec![7]));
        assert_eq!(indices("0, 7,20-22,7"), Ok(vec![0, 7, 20, 21, 22, 7]));
        assert_eq!(indices("0-999").unwrap().len(), 1000);
        for wrong in ["", "a", "1,,2", "-1", "3-1", "0-1000", "0-998,5,6", "0-18446744073709551615", "1.5", "1-2-3"] {
            assert!(indices(wrong).unwrap_err().contains("such as `0,7,20-29`"), "{wrong}");
        }
    }

    #[test]
    fn a_class_is_named_or_numbered() {
        let classes = ["disc", "2", "ring"].map(str::to_owned);
        assert_eq!(target(&classes, "ring").ok(), Some(2));
        assert_eq!(target(&classes, "0").ok(), Some(0));
        assert_eq!(target(&classes, "2").ok(), Some(1), "a name comes first");
        let failure = target(&classes, "3").err().unwrap();
        assert_eq!(failure.message, "target from command line: got `3`, want one of `disc`, `2`, `ring`");
        assert_eq!(failure.exit, Exit::Usage);
    }

    /// A run of the drawn data set, with the weights that training begins with.
    fn run() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let config = "dataset = \"synthetic\"\nconv-filters = \"2\"\ndense-units = 3\nlimit-validation = 30\n";
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        crate::saved::tests::write_weights(dir.path());
        dir
    }

    fn question(dir: &tempfile::TempDir, flags: &str) -> Result<Question, Failure> {
        let run = dir.path().to_string_lossy().into_owned();
        let words = ["explain", "--run", &run].into_iter().chain(flags.split_whitespace());
        let matches = command().try_get_matches_from(words).unwrap();
        Question::of(&matches, &crate::config::Layers::new().resolve().unwrap())
    }

    #[test]
    fn a_question_is_whole() {
        let dir = run();
        let question = question(&dir, "--indices 3,29 --out x --layer conv2d --target ring --method gradcam,occlusion");
        let question = question.ok().unwrap();
        let names: Vec<&str> = question.specimens.iter().map(|specimen| specimen.name.as_str()).collect();
        assert_eq!(names, ["validation 3", "validation 29"]);
        let validation = crate::data::synthetic::dataset(question.saved.config.seed).validation;
        assert_eq!(question.specimens[1].pixels, validation.image(29));
        assert_eq!(question.specimens[1].label, Some(usize::from(validation.label(29))));
        assert_eq!(
            (question.inquiry.node, question.inquiry.target),
            (question.saved.network.layer("conv2d").map(|layer| layer.value), Some(1))
        );
        assert_eq!(question.inquiry.methods, [Method::GradCam, Method::Occlusion]);
        assert!(question.failures.is_empty());
    }

    #[test]
    fn a_question_about_what_is_not_there_is_refused() {
        let dir = run();
        let refuse = |flags: &str| {
            let failure = question(&dir, &format!("--out x {flags}")).err().unwrap();
            (failure.exit, failure.message)
        };
        let (exit, message) = refuse("--indices 30");
        assert_eq!((exit, message.as_str()), (Exit::Usage, "validation image 30 is not there: there are 30, 0 to 29"));
        let (exit, message) = refuse("--indices 0 --layer conv");
        assert_eq!(exit, Exit::Usage);
        assert!(
            message.starts_with("layer from command line: got `conv`, want one of those with maps: `conv2d`, "),
            "{message}"
        );
        let failures = question(&dir, "--out x --image none.png").ok().unwrap().failures;
        assert_eq!(failures.len(), 1);
    }
}
