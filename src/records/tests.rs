//! Damaged files given to the record readers: no panic, only typed errors.

use std::collections::BTreeSet;
use std::path::Path;

use super::textfile::{self, Past};
use super::{Journal, Line, Objective, RunMetrics, RunResult, Status, latest, reading};
use crate::rng::{Purpose, Stream};
use crate::types::{Seed, WallTime};

const POINTS: u64 = 100_000;

/// Tokens that commonly break text parsers.
const TOKENS: &[&str] = &[
    "\0",
    "\n",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[[[[[[[[[[[[[[[[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "-0",
    "1e999",
    "1e-999",
    "0x10",
    "NaN",
    "+Inf",
    "inf",
    "18446744073709551616",
    "9007199254740993",
    "4294967296",
    "\u{feff}",
    "é",
    "{\"v\":1,",
    "\"step\":",
    "\"attempt\":4294967295,",
    "{run=\"",
    "\"} 1",
    " ",
];

/// Damages `bytes` in one to four places; `point` selects the random stream.
fn damaged(bytes: &[u8], point: u64) -> Vec<u8> {
    let mut stream = Stream::new(Seed(0), Purpose::Test, 0, point);
    let mut bytes = bytes.to_vec();
    let mut below = |n: usize| stream.below(n as u64) as usize;
    for _ in 0..1 + below(4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = below(bytes.len());
        let end = (at + 1 + below(64)).min(bytes.len());
        match below(7) {
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[at] = below(256) as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = below(bytes.len());
                bytes.splice(to..to, part);
            }
            5 => {
                bytes.splice(at..at, TOKENS[below(TOKENS.len())].bytes());
            }
            _ => {
                bytes.splice(at..end, TOKENS[below(TOKENS.len())].bytes());
            }
        }
    }
    bytes
}

#[test]
fn a_damaged_journal_is_read_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    for attempt in [1, 2] {
        let mut journal = Journal::open(&path, attempt).unwrap();
        journal.append(
            &Line::Start { step: 0, epoch: 0, resumed: false, settings: super::settings([]) },
            WallTime::default(),
        );
        journal.append(&Line::Checkpoint { step: 10, epoch: 1, bytes: 7, seconds: 0.5 }, WallTime::default());
        journal.append(&Line::Rollback { from_step: 12, to_step: 10 }, WallTime::default());
        journal.append(
            &Line::Final {
                status: Status::Finished,
                step: 20,
                epoch: 2,
                objective: Objective::validation_accuracy(0.5),
                error: None,
                exit_code: 0,
            },
            WallTime::default(),
        );
    }
    let whole = std::fs::read(&path).unwrap();
    let mut used = 0;
    for point in 0..POINTS {
        let bytes = damaged(&whole, point);
        let reading = reading::parse(&bytes[..]).unwrap();
        let newlines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(reading.lines.len() + reading.fault_count as usize, newlines, "point {point}");
        assert_eq!(reading.torn, bytes.last().is_some_and(|&byte| byte != b'\n'), "point {point}");
        assert!(latest(&reading.lines).len() <= reading.lines.len());
        used += reading.lines.len();
    }
    assert!(used as u64 > POINTS, "most lines of most journals are whole: {used}");
    println!("proof: X journal parser: {POINTS} points, 0 failures");
}

#[test]
fn a_damaged_result_is_an_error_or_a_result() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("result.json");
    let whole = br#"{"version": 1, "status": "finished", "epochs": 3, "iterations": 24, "train_loss": 0.5,
        "train_accuracy": 0.75, "validation_loss": null, "validation_accuracy": 0.875, "best_validation_accuracy": 0.875,
        "seconds": 1.5, "observers_share": 0.125, "lost_log_entries": 0, "log_bytes": {"scalars": 10, "images": 20},
        "attempts": 2, "step": 24, "skipped_steps": 0, "rollbacks": 0, "checkpoint": "checkpoints/ckpt-000000000024",
        "started": 1700000000.5, "ended": 1700000001.5}"#;
    let (mut read, mut refused) = (0, 0);
    for point in 0..POINTS {
        match RunResult::parse(Path::new("result.json"), &damaged(whole, point)) {
            Ok(result) => {
                read += 1;
                // Only every 1000th result goes through the disk, which is slow.
                if point % 1000 == 0 {
                    result.write(&path).unwrap();
                    let again = RunResult::read(&path).unwrap();
                    assert_eq!(format!("{again:?}").len(), format!("{result:?}").len(), "point {point}");
                }
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().starts_with("result.json is "), "point {point}: {error}");
            }
        }
    }
    assert!(read > POINTS / 100 && refused > POINTS / 2, "{read} read, {refused} refused");
    println!("proof: X result parser: {POINTS} points, 0 failures");
}

#[test]
fn a_damaged_textfile_is_replaced_by_a_sound_one() {
    let run = format!("{{schedule=\"{}\"}}", textfile::escaped("a \"b\"\\"));
    let before = RunMetrics { exit_code: Some(0), now: WallTime::from_secs(1.5e9).unwrap(), ..RunMetrics::default() };
    let whole = textfile::render(&before, &run, Past::default());
    let mut kept = 0;
    for point in 0..POINTS {
        let past = Past::parse(&damaged(whole.as_bytes(), point));
        let after = RunMetrics { exit_code: (point % 2 == 0).then_some(65), ..before };
        let text = textfile::render(&after, &run, past);
        if point % 10 == 0 {
            assert_eq!(lint(&text), Vec::<String>::new(), "point {point}: {text}");
        }
        kept += u64::from(
            text.contains("trainer_last_success_timestamp_seconds{schedule=\"a \\\"b\\\"\\\\\"} 1500000000\n"),
        );
    }
    assert!(kept > POINTS / 2, "most files keep the success: {kept}");
    println!("proof: X textfile parser: {POINTS} points, 0 failures");
}

/// Violations in a text file of the rules of `promtool check metrics` and of the format itself.
pub(super) fn lint(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.ends_with('\n') {
        faults.push("no newline at the end".to_owned());
    }
    let (mut metrics, mut series) = (BTreeSet::new(), BTreeSet::new());
    let (mut helped, mut current): (Option<&str>, Option<&str>) = (None, None);
    for line in text.lines() {
        let mut fault = |what: &str| faults.push(format!("{what}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            if help.is_empty() || help.contains('\\') {
                fault("help is missing or has to be escaped");
            }
            (helped, current) = (Some(name), None);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, ""));
            if helped != Some(name) {
                fault("no help before the type");
            }
            if !metrics.insert(name) {
                fault("a metric twice");
            }
            current = Some(name);
            let words: Vec<&str> = name.split('_').collect();
            if words[0] != "trainer" || words.iter().any(|word| !is_lower(word)) {
                fault("not a name of ours");
            }
            if !matches!(kind, "counter" | "gauge") || (kind == "counter") != name.ends_with("_total") {
                fault("counters, and they alone, end in _total");
            }
            let wrong =
                ["ms", "millis", "milliseconds", "minutes", "hours", "kb", "mb", "kilobytes", "percent", "gauge"];
            if words.iter().any(|word| wrong.contains(word)) || ["_count", "_sum"].iter().any(|end| name.ends_with(end))
            {
                fault("not a base unit, or a word that has a meaning of its own");
            }
        } else {
            let Some((name_and_labels, value)) = line.rsplit_once(' ') else {
                fault("no value");
                continue;
            };
            let (name, labels) = match name_and_labels.find('{') {
                Some(at) => name_and_labels.split_at(at),
                None => (name_and_labels, ""),
            };
            if current != Some(name) {
                fault("a sample without its type before it");
            }
            if !series.insert(name_and_labels) {
                fault("a series twice");
            }
            if value.parse::<f64>().is_err() {
                fault("no number");
            }
            if !labels.is_empty() && !are_labels(labels) {
                fault("not labels");
            }
        }
    }
    faults
}

fn is_lower(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase())
}

/// True for `{name="value",...}` with quotes, backslashes and newlines escaped.
fn are_labels(text: &str) -> bool {
    let Some(mut rest) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return false };
    let mut names = BTreeSet::new();
    loop {
        let Some((name, value)) = rest.split_once("=\"") else { return false };
        if !is_lower(name) || !names.insert(name) {
            return false;
        }
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) if matches!(chars.next(), Some((_, 'n' | '\\' | '"'))) => {}
                Some((_, '\\' | '\n')) | None => return false,
                Some(_) => {}
            }
        };
        match value[end + 1..].strip_prefix(',') {
            Some(more) => rest = more,
            None => return value[end + 1..].is_empty(),
        }
    }
}
