//! Pictures on the command line: the flags about them, and reading them, with what was done to them said.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches};

use super::{Failure, option, path, path_parser};
use crate::data::photo::Photo;
use crate::data::{Doubt, Inversion, Look, PhotoError, Specimen, change, doubt};
use crate::exit::Exit;
use crate::run;
use crate::saved::{Epoch, SavedRun};
use crate::terminal::{echoed, printable, printable_path};

/// Standard input, where a path is wanted.
const STDIN: &str = "-";

/// `--run`, `--weights` and `--invert`.
pub(super) fn flags() -> [Arg; 3] {
    let short = "Whether light and dark are exchanged: `auto`, `yes` or `no` [default: auto]";
    let long = "`auto` compares a picture's ground, which is what lies along its edge, with that of the data set.";
    [
        option("run", "DIR", "Directory of a finished run, such as logs/fit")
            .value_parser(path_parser())
            .required(true),
        option("weights", "EPOCH", "Epoch whose weights answer: `best` or `last` [default: best]").long_help(
            "Epoch whose weights answer: `best` or `last` [default: best]\n\nThe best epoch is that with the highest \
             accuracy on the validation set; of equal ones that with the smallest loss, of equal losses the first. Without \
             this flag a run that does not say which it was, as one that is not finished, is asked with the last one.",
        ),
        option("invert", "WHEN", short).long_help(format!("{short}\n\n{long}")),
    ]
}

/// The run that `--run` names, on the device that is configured.
pub(super) fn saved_run(matches: &ArgMatches, config: &crate::config::Config) -> Result<SavedRun, Failure> {
    let dir = path(matches, "run").unwrap_or(Path::new(""));
    let epoch = match text(matches, "weights") {
        None => Epoch::BestKnown,
        Some("best") => Epoch::Best,
        Some("last") => Epoch::Last,
        Some(other) => return Err(wrong("weights", other, "`best` or `last`")),
    };
    Ok(SavedRun::of_epoch(dir, epoch, run::device(config.device)?)?)
}

pub(super) fn inversion(matches: &ArgMatches) -> Result<Inversion, Failure> {
    match text(matches, "invert").unwrap_or("auto") {
        "auto" => Ok(Inversion::Auto),
        "yes" => Ok(Inversion::Always),
        "no" => Ok(Inversion::Never),
        other => Err(wrong("invert", other, "`auto`, `yes` or `no`")),
    }
}

/// What the pictures became, and why some of them became nothing.
pub(super) fn read<'a>(
    files: impl IntoIterator<Item = &'a PathBuf>,
    look: &Look,
    inversion: Inversion,
) -> (Vec<Specimen>, Vec<Failure>) {
    let (mut specimens, mut failures) = (Vec::new(), Vec::new());
    for file in files {
        match read_one(file, look, inversion) {
            Ok(specimen) => specimens.push(specimen),
            Err(failure) => failures.push(failure),
        }
    }
    (specimens, failures)
}

fn read_one(file: &Path, look: &Look, inversion: Inversion) -> Result<Specimen, Failure> {
    let (name, photo) = match file.to_str() {
        Some(STDIN) => ("stdin".to_owned(), Photo::read("stdin", std::io::stdin().lock())),
        Some(name) => (name.to_owned(), Photo::open(file)),
        // What asks for JSON gets names as they are, as far as JSON can hold them.
        None => (printable_path(file), Photo::open(file)),
    };
    let shown = printable(&name);
    let photo = photo.map_err(|error| PhotoError { name: shown.clone(), ..error })?;
    let specimen = Specimen::of_photo(&name, photo, look, inversion)?;
    if !specimen.changes.is_empty() {
        tracing::info!("{shown}: {}", change::sentence(&specimen.changes));
    }
    Ok(specimen)
}

/// Says which answers are to be doubted, and why.
pub(super) fn doubted(name: &str, doubts: &[Doubt]) {
    if !doubts.is_empty() {
        tracing::warn!("{}: the answer is doubtful: {}", printable(name), doubt::sentence(doubts));
    }
}

/// Says all failures but one, which is for `main` to say; the exit code is that of the first one.
pub(super) fn report(mut failures: Vec<Failure>) -> Result<(), Failure> {
    let Some(last) = failures.pop() else { return Ok(()) };
    failures.iter().for_each(|failure| tracing::error!("{}", failure.message));
    let exit = failures.first().map_or(last.exit, |first| first.exit);
    Err(Failure { exit, ..last })
}

pub(super) fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

pub(super) fn wrong(flag: &str, got: &str, want: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{flag} from command line: got `{}`, want {want}", echoed(got)))
}
