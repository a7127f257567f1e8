//! Reader of a journal: its whole lines, and those still valid after resumes and rollbacks.
//!
//! A resumed process continues at the step of a checkpoint, so the journal may hold later steps twice. Of the lines
//! of one kind at one step, the line of the largest attempt is valid. [`latest`] returns the lines of a run as if it
//! had never been interrupted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::line::{LONGEST_LINE, VERSION};
use crate::exit::{Classify, Exit};
use crate::files;

/// Maximum length of a readable journal, in bytes. One line per epoch and per checkpoint fills a hundredth of it in
/// ten years.
const LONGEST_JOURNAL: u64 = 64 << 20;
/// Maximum number of listed faults; all are counted.
const FAULTS_TOLD: usize = 20;

/// Error from reading a journal.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is longer than {LONGEST_JOURNAL} bytes, which no journal of a run is", path.display())]
    TooLong { path: PathBuf },
}

impl Classify for ReadingError {
    fn exit(&self) -> Exit {
        match self {
            ReadingError::Read { source, .. } => Exit::of_input(source),
            ReadingError::TooLong { .. } => Exit::Data,
        }
    }
}

/// Content of a journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Valid lines in file order: objects with `v`, `kind`, `attempt` and a step.
    pub lines: Vec<Value>,
    /// The first invalid lines, `FAULTS_TOLD` at most.
    pub faults: Vec<Fault>,
    /// Number of all invalid lines.
    pub fault_count: u64,
    /// True if the file ends within a line: one is being written, or the process was killed.
    pub torn: bool,
}

/// An invalid line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number}: {reason}")]
pub struct Fault {
    /// Line number, from 1.
    pub number: u64,
    pub reason: String,
}

/// Returns the valid lines in file order, without those that a later process or a rollback superseded.
///
/// Of the lines of one kind at one step, the line of the largest attempt is valid; among equal attempts, the last
/// one. A `start` invalidates lines of earlier attempts for steps after its own, a `rollback` all lines for steps
/// after `to_step`. Only `start` and `final` lines of the largest attempt are valid: the last line is a `final` if
/// and only if the process has ended.
pub fn latest(lines: &[Value]) -> Vec<&Value> {
    let mut ordered: Vec<(usize, &Value)> = lines.iter().enumerate().collect();
    ordered.sort_by_key(|(_, line)| attempt(line));
    // Keyed by step and kind. Several rollbacks may start from one step, so each has a number of its own.
    let mut holding: BTreeMap<(u64, &str, usize), (usize, &Value)> = BTreeMap::new();
    let mut newest = 0;
    for (at, line) in ordered {
        let (step, kind) = (step(line), kind(line));
        if attempt(line) > newest {
            newest = attempt(line);
            holding.retain(|(_, kind, _), _| *kind != "start" && *kind != "final");
        }
        match kind {
            "start" => holding.retain(|(other, ..), (_, line)| *other <= step || attempt(line) == newest),
            "rollback" => {
                let to = line.get("to_step").and_then(Value::as_u64).unwrap_or(step);
                holding.retain(|(other, kind, _), _| *other <= to || *kind == "rollback");
            }
            _ => {}
        }
        holding.insert((step, kind, if kind == "rollback" { at + 1 } else { 0 }), (at, line));
    }
    let mut kept: Vec<(usize, &Value)> = holding.into_values().collect();
    kept.sort_by_key(|(at, _)| *at);
    kept.into_iter().map(|(_, line)| line).collect()
}

pub(super) fn read(path: &Path) -> Result<Reading, ReadingError> {
    let Some((file, length)) = open(path)? else { return Ok(Reading::default()) };
    if length > LONGEST_JOURNAL {
        return Err(ReadingError::TooLong { path: path.to_owned() });
    }
    // The file may grow during the read.
    parse(BufReader::new(file.take(LONGEST_JOURNAL)))
        .map_err(|source| ReadingError::Read { path: path.to_owned(), source })
}

/// Largest attempt in a journal of any length; 0 if the file is missing or has no valid line.
pub(super) fn largest_attempt(path: &Path) -> Result<u32, ReadingError> {
    let Some((file, _)) = open(path)? else { return Ok(0) };
    let mut largest = 0;
    scan(BufReader::new(file), |_, found| largest = largest.max(found.as_ref().map_or(0, attempt)))
        .map_err(|source| ReadingError::Read { path: path.to_owned(), source })?;
    Ok(largest)
}

/// The file and its length; `None` if it does not exist.
fn open(path: &Path) -> Result<Option<(File, u64)>, ReadingError> {
    let error = |source| ReadingError::Read { path: path.to_owned(), source };
    match files::open(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        file => {
            let file = file.map_err(error)?;
            let length = file.metadata().map_err(error)?.len();
            Ok(Some((file, length)))
        }
    }
}

pub(super) fn parse(source: impl BufRead) -> io::Result<Reading> {
    let mut reading = Reading::default();
    reading.torn = scan(source, |number, found| match found {
        Ok(line) => reading.lines.push(line),
        Err(reason) => {
            reading.fault_count += 1;
            if reading.faults.len() < FAULTS_TOLD {
                reading.faults.push(Fault { number, reason });
            }
        }
    })?;
    Ok(reading)
}

/// Passes every line with its number to `each`, with one line in memory at a time. True if the last line is torn.
fn scan(mut source: impl BufRead, mut each: impl FnMut(u64, Result<Value, String>)) -> io::Result<bool> {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let read = (&mut source).take(LONGEST_LINE as u64).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            break;
        }
        if bytes.pop_if(|byte| *byte == b'\n').is_some() {
            each(number, line(&bytes));
        } else if read < LONGEST_LINE || !skip_line(&mut source)? {
            return Ok(true);
        } else {
            each(number, Err(format!("longer than {LONGEST_LINE} bytes")));
        }
    }
    Ok(false)
}

/// Skips past the next newline; false if there is none.
fn skip_line(source: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = source.fill_buf()?;
        let (used, found) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        let ended = buffer.is_empty();
        source.consume(used);
        if found {
            return Ok(!ended);
        }
    }
}

fn line(bytes: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))?;
    if !value.is_object() {
        return Err("not a JSON object".to_owned());
    }
    match value.get("v").and_then(Value::as_u64) {
        Some(VERSION) => {}
        found => return Err(format!("version {}, want {VERSION}", found.map_or("none".to_owned(), |v| v.to_string()))),
    }
    if value.get("kind").and_then(Value::as_str).is_none() {
        return Err("no text `kind`".to_owned());
    }
    if value.get("attempt").and_then(Value::as_u64).is_none_or(|attempt| attempt > u64::from(u32::MAX)) {
        return Err(format!("no `attempt` from 0 to {}", u32::MAX));
    }
    if step_of(&value).is_none() {
        return Err("no number `step`".to_owned());
    }
    Ok(value)
}

fn attempt(line: &Value) -> u32 {
    let attempt = line.get("attempt").and_then(Value::as_u64).unwrap_or(0);
    u32::try_from(attempt).unwrap_or(u32::MAX)
}

fn kind(line: &Value) -> &str {
    line.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// Step of a line; for a rollback, `from_step`.
fn step_of(line: &Value) -> Option<u64> {
    line.get("step").or_else(|| line.get("from_step")).and_then(Value::as_u64)
}

fn step(line: &Value) -> u64 {
    step_of(line).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each text is `kind attempt step`, or `rollback attempt from to`.
    fn lines(texts: &[&str]) -> Vec<Value> {
        let line = |text: &&str| {
            let words: Vec<&str> = text.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            let mut line = serde_json::json!({"v": 1, "kind": words[0], "attempt": number(1)});
            line[if words[0] == "rollback" { "from_step" } else { "step" }] = number(2).into();
            if words.len() > 3 {
                line["to_step"] = number(3).into();
            }
            line
        };
        texts.iter().map(line).collect()
    }

    fn holding(texts: &[&str]) -> Vec<String> {
        let lines = lines(texts);
        let mut short = Vec::new();
        for line in latest(&lines) {
            short.push(format!("{} {} {}", kind(line), attempt(line), step(line)));
        }
        short
    }

    #[test]
    fn after_a_resume_the_largest_attempt_holds() {
        assert_eq!(
            holding(&[
                "start 1 0",
                "epoch 1 10",
                "checkpoint 1 10",
                "epoch 1 20",
                "start 2 10",
                "epoch 2 20",
                "checkpoint 2 20",
                "final 2 20",
            ]),
            ["epoch 1 10", "checkpoint 1 10", "start 2 10", "epoch 2 20", "checkpoint 2 20", "final 2 20"]
        );
        // The attempt decides, not the order in the file.
        assert_eq!(holding(&["epoch 2 20", "epoch 1 20"]), ["epoch 2 20"]);
    }

    #[test]
    fn a_resume_takes_back_what_is_behind_it() {
        assert_eq!(
            holding(&["start 1 0", "epoch 1 10", "skipped 1 15", "epoch 1 20", "final 1 20", "start 2 10"]),
            ["epoch 1 10", "start 2 10"]
        );
        // A stopped run that resumes at the same step has not ended.
        assert_eq!(holding(&["start 1 0", "final 1 10", "start 2 10"]), ["start 2 10"]);
        // The `start` line of attempt 2 is lost.
        assert_eq!(holding(&["start 1 0", "final 1 10", "epoch 2 20"]), ["epoch 2 20"]);
    }

    #[test]
    fn a_rollback_takes_back_what_is_behind_it_and_every_rollback_counts() {
        assert_eq!(
            holding(&[
                "start 1 0",
                "epoch 1 10",
                "skipped 1 12",
                "rollback 1 13 10",
                "skipped 1 12",
                "rollback 1 13 10",
                "epoch 1 20",
            ]),
            ["start 1 0", "epoch 1 10", "rollback 1 13", "rollback 1 13", "epoch 1 20"]
        );
    }

    #[test]
    fn what_is_no_line_is_told_and_the_rest_is_read() {
        let good = r#"{"v":1,"kind":"epoch","attempt":1,"step":1}"#;
        let long = format!("\"{}\"", "x".repeat(LONGEST_LINE));
        let deep = "[".repeat(100_000);
        let wrong = [
            "nonsense",
            "[]",
            "{}",
            r#"{"v":2,"kind":"epoch","attempt":1,"step":1}"#,
            r#"{"v":1,"attempt":1,"step":1}"#,
            r#"{"v":1,"kind":"epoch","attempt":4294967296,"step":1}"#,
            r#"{"v":1,"kind":"epoch","attempt":1,"step":-1}"#,
            "",
            &long,
            &deep,
        ];
        let mut text = String::new();
        for wrong in wrong {
            text += &format!("{good}\n{wrong}\n");
        }
        text += "{\"v\":1";
        let reading = parse(text.as_bytes()).unwrap();
        assert_eq!((reading.lines.len(), reading.fault_count, reading.torn), (wrong.len(), wrong.len() as u64, true));
        let faults: Vec<String> = reading.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "line 2: not JSON: expected ident at line 1 column 2",
                "line 4: not a JSON object",
                "line 6: version none, want 1",
                "line 8: version 2, want 1",
                "line 10: no text `kind`",
                "line 12: no `attempt` from 0 to 4294967295",
                "line 14: no number `step`",
                "line 16: not JSON: EOF while parsing a value at line 1 column 0",
                "line 18: longer than 1048576 bytes",
                "line 20: not JSON: recursion limit exceeded at line 1 column 128",
            ]
        );
    }

    #[test]
    fn faults_are_told_up_to_a_number_and_all_counted() {
        let reading = parse("x\n".repeat(1000).as_bytes()).unwrap();
        assert_eq!((reading.faults.len(), reading.fault_count, reading.torn), (FAULTS_TOLD, 1000, false));
        let endless = "x".repeat(3 * LONGEST_LINE);
        assert!(parse(endless.as_bytes()).unwrap().torn);
    }

    #[test]
    fn a_journal_that_is_not_there_has_no_lines_and_one_that_is_no_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("metrics.jsonl")).unwrap(), Reading::default());
        assert_eq!(read(dir.path()).unwrap_err().exit(), Exit::NoInput);
        let path = dir.path().join("long");
        File::create(&path).unwrap().set_len(LONGEST_JOURNAL + 1).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("is longer than 67108864 bytes"), "{error}");
    }
}
