//! A journal read back: every whole line, and what of it holds after resumes and rollbacks.
//!
//! A process that resumes goes on at the step of a checkpoint, so steps behind it may stand in the journal twice. Of the
//! lines of one kind at one step that of the largest attempt holds. [`latest`] leaves a run's lines as they would be if
//! it had never been interrupted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::journal::LONGEST_LINE;
use super::line::VERSION;
use crate::exit::{Classify, Exit};

/// Bytes of a journal that are read, at most: a line an epoch and a checkpoint makes a hundredth of it in ten years.
const LONGEST_JOURNAL: u64 = 64 << 20;
/// Faults that are told, at most; all are counted.
const FAULTS_TOLD: usize = 20;

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a file, want the journal of a run", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is longer than {LONGEST_JOURNAL} bytes, which no journal of a run is", path.display())]
    TooLong { path: PathBuf },
}

impl Classify for ReadingError {
    fn exit(&self) -> Exit {
        match self {
            ReadingError::Read { source, .. } => Exit::of_input(source),
            ReadingError::NotAFile { .. } => Exit::NoInput,
            ReadingError::TooLong { .. } => Exit::Data,
        }
    }
}

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Objects with `v`, `kind`, `attempt` and a step, in the order of the file.
    pub lines: Vec<Value>,
    /// Lines that are none of these: the first of them.
    pub faults: Vec<Fault>,
    /// All of those.
    pub fault_count: u64,
    /// Whether the file ends within a line, as it does while a line is written or when a process was killed.
    pub torn: bool,
}

/// A line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number}: {reason}")]
pub struct Fault {
    /// From 1.
    pub number: u64,
    pub reason: String,
}

/// The lines that hold, in the order in which they were written: without what a later process or a rollback took back.
///
/// Lines of one kind at one step: that of the largest attempt, the later one of equal attempts. A `start` takes back what
/// earlier attempts wrote of steps behind its own, a `rollback` what was written of steps behind `to_step`. Of `start` and
/// `final` lines only those of the largest attempt hold: the last line is a `final` if and only if the process has ended.
pub fn latest(lines: &[Value]) -> Vec<&Value> {
    let mut ordered: Vec<(usize, &Value)> = lines.iter().enumerate().collect();
    ordered.sort_by_key(|(_, line)| attempt(line));
    // By step, kind, and for rollbacks, of which several may be from one step, a number of its own.
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
    let error = |source| ReadingError::Read { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Reading::default()),
        Err(source) => return Err(error(source)),
        Ok(found) if !found.is_file() => return Err(ReadingError::NotAFile { path: path.to_owned() }),
        Ok(found) if found.len() > LONGEST_JOURNAL => return Err(ReadingError::TooLong { path: path.to_owned() }),
        Ok(_) => {}
    }
    // It may grow while it is read.
    let file = File::open(path).map_err(error)?.take(LONGEST_JOURNAL);
    parse(BufReader::new(file)).map_err(error)
}

/// 0 of a journal that is not there or holds no line.
pub(super) fn largest_attempt(path: &Path) -> Result<u32, ReadingError> {
    Ok(read(path)?.lines.iter().map(attempt).max().unwrap_or(0))
}

/// Reads to the end, holding one line at a time besides those that are kept.
fn parse(mut source: impl BufRead) -> io::Result<Reading> {
    let mut reading = Reading::default();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let read = (&mut source).take(LONGEST_LINE as u64).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            break;
        }
        let whole = bytes.pop_if(|byte| *byte == b'\n').is_some();
        if !whole && read < LONGEST_LINE {
            reading.torn = true;
            break;
        }
        let reason = if whole {
            match line(&bytes) {
                Ok(line) => {
                    reading.lines.push(line);
                    continue;
                }
                Err(reason) => reason,
            }
        } else {
            if !skip_line(&mut source)? {
                reading.torn = true;
            }
            format!("longer than {LONGEST_LINE} bytes")
        };
        reading.fault_count += 1;
        if reading.faults.len() < FAULTS_TOLD {
            reading.faults.push(Fault { number, reason });
        }
    }
    Ok(reading)
}

/// Reads on behind the next newline; false if there is none.
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

/// Where in the run a line stands; of a rollback, where the run went back.
fn step_of(line: &Value) -> Option<u64> {
    line.get("step").or_else(|| line.get("from_step")).and_then(Value::as_u64)
}

fn step(line: &Value) -> u64 {
    step_of(line).unwrap_or(0)
}
