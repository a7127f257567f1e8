//! `trainer runs`: the runs at or below a log directory, how far each came and how good it is.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;

use super::pictures::{text, wrong};
use super::{Failure, note, option, path, path_parser, print};
use crate::catalogue::{self, Listing, Run, Size, State};
use crate::exit::Exit;
use crate::terminal::{Side, columns, printable, printable_path, safe_json};
use crate::types::{Clock, SystemClock, WallTime};

pub(super) fn command() -> Command {
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object a line");
    Command::new("runs")
        .about("List the runs at or below a log directory, the youngest first")
        .long_about(
            "List the runs at or below a log directory, the one that was active last first.\n\nA run is finished, running \
             (a process trains it now), stopped (it has a checkpoint to go on from), unfinished (it has none), failed \
             (its last process ended with an error), or damaged; the last column says why. ACCURACY is that of the \
             validation set after the last epoch that is known of, BEST that of the best epoch; AGE is counted from the \
             end of the run, or from its last sign of life; SIZE is what it takes of the disk. Links are not \
             followed.\n\nWith --json each run is one line with one object: `path`, `state`, `pid`, `note`, \
             `validation_accuracy` and `best_validation_accuracy` (from 0 to 1), `epochs`, `epochs_asked`, `step`, \
             `checkpoint_step`, `active` (seconds since 1970), `age_seconds` and `bytes`; what is not known is null.",
        )
        .args([logdir(), json])
        .arg(option("state", "STATE", "Only runs in this state, such as `finished`"))
        .arg(option("limit", "N", "Only the first N runs"))
        .arg(option("max-age", "TIME", "Only runs that wrote something within TIME, such as 90s, 30m, 2h; none ends with 69"))
}

/// The directory that is searched.
pub(super) fn logdir() -> Arg {
    Arg::new("logdir")
        .value_name("LOGDIR")
        .required(true)
        .value_parser(path_parser())
        .help("A directory with runs in it, at any depth up to 8")
}

pub(super) fn runs(matches: &ArgMatches) -> Result<(), Failure> {
    let logdir = path(matches, "logdir").unwrap_or(Path::new(""));
    let state = match text(matches, "state") {
        Some(state) if !State::NAMES.contains(&state) => {
            let names: Vec<String> = State::NAMES.iter().map(|name| format!("`{name}`")).collect();
            return Err(wrong("state", state, &format!("one of {}", names.join(", "))));
        }
        state => state,
    };
    let limit = number(matches, "limit", 1)?.unwrap_or(usize::MAX);
    let max_age = match text(matches, "max-age") {
        Some(text) => Some((text, seconds(text)?)),
        None => None,
    };
    let listing = catalogue::list(logdir)?;
    warn(&listing);
    let now = SystemClock.now();
    let is_young = |run: &&Run| max_age.is_none_or(|(_, seconds)| age(run, now) <= seconds);
    let is_meant = |run: &&Run| state.is_none_or(|state| run.state.name() == state);
    let chosen: Vec<&Run> = listing.runs.iter().filter(is_meant).filter(is_young).take(limit).collect();
    if chosen.is_empty() {
        let kind = state.map_or_else(String::new, |state| format!("{state} "));
        return match max_age {
            // The question of a health check.
            Some((text, _)) => Err(Failure::new(
                Exit::Unavailable,
                format!("no {kind}run at or below {} has written anything within {text}", printable_path(logdir)),
            )),
            None => {
                note(&format!("no {kind}runs at or below {}", printable_path(logdir)));
                Ok(())
            }
        };
    }
    let rows = chosen.into_iter().map(|run| (run, run.size()));
    let lines: Vec<String> = match matches.get_flag("json") {
        true => rows.map(|(run, size)| safe_json(&object(run, size, now).to_string())).collect(),
        false => table(&rows.collect::<Vec<_>>(), now),
    };
    print(&lines.join("\n"))
}

/// A time as somebody types it: `90s`, `30m`, `2h`, `1d`.
fn seconds(text: &str) -> Result<f64, Failure> {
    let units = [('s', 1.0), ('m', 60.0), ('h', 3600.0), ('d', 86_400.0)];
    let found = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, seconds)));
    match found.and_then(|(count, seconds)| Some(f64::from(count.parse::<u32>().ok()?) * seconds)) {
        Some(seconds) => Ok(seconds),
        None => Err(wrong("max-age", text, "a whole number and s, m, h or d, such as 30m")),
    }
}

/// A whole number, at least `least`.
pub(super) fn number(matches: &ArgMatches, flag: &str, least: usize) -> Result<Option<usize>, Failure> {
    let Some(text) = text(matches, flag) else { return Ok(None) };
    match text.parse() {
        Ok(number) if number >= least => Ok(Some(number)),
        _ => Err(wrong(flag, text, &format!("a whole number, at least {least}"))),
    }
}

/// Says what a list lacks.
pub(super) fn warn(listing: &Listing) {
    for unread in &listing.unread {
        note(&format!("warning: cannot look into {}: {}", printable_path(&unread.path), unread.source));
    }
    if listing.is_cut {
        note("warning: there is more below than was looked at: name a directory further down");
    }
}

fn object(run: &Run, size: Size, now: WallTime) -> serde_json::Value {
    let pid = match run.state {
        State::Running { pid } => pid,
        _ => None,
    };
    let note = remark(run);
    json!({
        "path": run.path.to_string_lossy(),
        "state": run.state.name(),
        "pid": pid,
        "note": if note.is_empty() { None } else { Some(note) },
        "validation_accuracy": run.validation_accuracy,
        "best_validation_accuracy": run.best_validation_accuracy,
        "epochs": run.epochs,
        "epochs_asked": run.epochs_asked,
        "step": run.step,
        "checkpoint_step": run.checkpoint,
        "active": run.active.as_secs(),
        "age_seconds": age(run, now),
        "bytes": size.bytes,
    })
}

const HEADER: [&str; 9] = ["RUN", "STATE", "ACCURACY", "BEST", "EPOCHS", "STEPS", "AGE", "SIZE", "NOTE"];
/// Numbers stand on the right.
const SIDES: [Side; 9] = {
    let mut sides = [Side::Right; 9];
    (sides[0], sides[1], sides[8]) = (Side::Left, Side::Left, Side::Left);
    sides
};

fn table(rows: &[(&Run, Size)], now: WallTime) -> Vec<String> {
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let count = |value: Option<u64>| known(value.map(|n| n.to_string()));
    let cells = rows.iter().map(|(run, size)| {
        [
            printable_path(&run.path),
            run.state.name().to_owned(),
            known(run.validation_accuracy.map(percent)),
            known(run.best_validation_accuracy.map(percent)),
            format!("{}/{}", count(run.epochs), count(run.epochs_asked)),
            count(run.step),
            age_text(age(run, now)),
            size_text(*size),
            printable(&remark(run)),
        ]
    });
    let cells: Vec<[String; 9]> = [HEADER.map(str::to_owned)].into_iter().chain(cells).collect();
    columns(&cells, &SIDES)
}

/// What else there is to say of the state.
fn remark(run: &Run) -> String {
    match &run.state {
        State::Finished if !run.has_weights => "no weights".to_owned(),
        State::Running { pid: Some(pid) } => format!("process {pid}"),
        State::Failed { why } => why.clone(),
        State::Damaged { why } => why.clone(),
        _ => String::new(),
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Seconds since it ended or gave its last sign of life; a clock that goes back makes nothing younger than new.
pub(super) fn age(run: &Run, now: WallTime) -> f64 {
    (now.as_secs() - run.active.as_secs()).max(0.0)
}

pub(super) fn age_text(seconds: f64) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    const DAY: f64 = 24.0 * HOUR;
    // Whole units that have passed; of few days hours are still of interest.
    let (unit, name) = match seconds {
        s if s < MINUTE => (1.0, "s"),
        s if s < HOUR => (MINUTE, "min"),
        s if s < 2.0 * DAY => (HOUR, "h"),
        _ => (DAY, "d"),
    };
    format!("{:.0} {name}", (seconds / unit).floor())
}

pub(super) fn size_text(size: Size) -> String {
    let text = bytes_text(size.bytes);
    if size.is_partial { format!(">{text}") } else { text }
}

pub(super) fn bytes_text(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    let (unit, name) = match bytes {
        n if n < KIB * KIB => (KIB, "KiB"),
        n if n < KIB * KIB * KIB => (KIB * KIB, "MiB"),
        _ => (KIB * KIB * KIB, "GiB"),
    };
    format!("{:.1} {name}", bytes as f64 / unit as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(path: &str, state: State) -> Run {
        Run {
            path: path.into(),
            state,
            validation_accuracy: None,
            best_validation_accuracy: None,
            epochs: None,
            epochs_asked: None,
            step: None,
            checkpoint: None,
            active: WallTime::from_secs(1000.0).unwrap(),
            has_weights: true,
        }
    }

    #[test]
    fn columns_are_aligned() {
        let finished = Run {
            validation_accuracy: Some(0.9912),
            best_validation_accuracy: Some(1.0),
            epochs: Some(5),
            epochs_asked: Some(5),
            step: Some(4690),
            ..run("logs/a", State::Finished)
        };
        let running = Run { epochs_asked: Some(12), ..run("logs/näm\ne\u{202e}", State::Running { pid: Some(42) }) };
        let damaged = run("logs/b", State::Damaged { why: "result.json: not JSON".to_owned() });
        let rows = [
            (&finished, Size { bytes: 4_400_000, ..Size::default() }),
            (&running, Size { bytes: 5000, is_partial: true, ..Size::default() }),
            (&damaged, Size::default()),
        ];
        let now = WallTime::from_secs(1000.0 + 7300.0).unwrap();
        assert_eq!(
            table(&rows, now).join("\n"),
            "\
RUN                  STATE     ACCURACY      BEST  EPOCHS  STEPS  AGE      SIZE  NOTE
logs/a               finished   99.12 %  100.00 %     5/5   4690  2 h   4.2 MiB
logs/näm\\ne\\u{202e}  running          -         -    -/12      -  2 h  >4.9 KiB  process 42
logs/b               damaged          -         -     -/-      -  2 h   0.0 KiB  result.json: not JSON"
        );
    }

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, want) in [("90s", 90.0), ("30m", 1800.0), ("2h", 7200.0), ("1d", 86_400.0), ("0s", 0.0)] {
            assert_eq!(seconds(text).unwrap(), want, "{text}");
        }
        for text in ["", "s", "30", "-1m", "1.5h", "1w", "99999999999s", "1 h"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_are_whole_units() {
        let texts = [-5.0, 0.4, 59.9, 60.0, 3599.0, 3600.0, 172_799.0, 172_800.0, 1e9]
            .map(|secs| age_text(f64::max(secs, 0.0)));
        assert_eq!(texts, ["0 s", "0 s", "59 s", "1 min", "59 min", "1 h", "47 h", "2 d", "11574 d"]);
    }

    #[test]
    fn sizes_are_in_the_nearest_unit() {
        let texts = [0, 512, 1 << 20, 5 << 30].map(bytes_text);
        assert_eq!(texts, ["0.0 KiB", "0.5 KiB", "1.0 MiB", "5.0 GiB"]);
    }
}
