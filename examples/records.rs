//! Writes the records of a run that was interrupted and went on, for people to look at and for the tests to check.
//!
//! ```sh
//! cargo run --release --example records -- logs/records
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use trainer::records::{
    BestEpoch, Checkpoints, EpochMetrics, Journal, Line, Objective, RunMetrics, RunResult, Status, Textfile, latest,
    settings,
};
use trainer::types::WallTime;

/// Steps of an epoch.
const STEPS: u64 = 938;
/// What the BLAKE3 of a file looks like; that of nothing.
const WEIGHTS: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
const BYTES: u64 = 4_887_512;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: records DIR")?);
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("metrics.jsonl");

    // Killed in its second epoch, while it wrote a line.
    write(&path, 0, &[start(0), epoch(1, 0.1875, 0.96875), checkpoint(1), skipped(1000)])?;
    OpenOptions::new().append(true).open(&path)?.write_all(b"{\"v\":1,\"kind\":\"check")?;
    // Stopped by somebody, and gone on with.
    let again = [start(1), skipped(1000), epoch(2, 0.125, 0.9765625), checkpoint(2), ended(2, Status::Stopped, 75)];
    write(&path, 100, &again)?;
    // Ended by a full disk.
    write(&path, 150, &[start(2), ended(2, Status::Failed, 74)])?;
    // Went back to a checkpoint from an epoch that came to nothing.
    let lost = [epoch(3, f64::NAN, 0.098), Line::Rollback { from_step: 3 * STEPS, to_step: 2 * STEPS }];
    let rest = [epoch(3, 0.0625, 0.984375), checkpoint(3), ended(3, Status::Finished, 0)];
    write(&path, 200, &[vec![start(2)], lost.into(), rest.into()].concat())?;

    let reading = Journal::read(&path)?;
    let count = |kind: &str| latest(&reading.lines).iter().filter(|line| line["kind"] == kind).count() as u64;
    let result = RunResult {
        version: RunResult::VERSION,
        status: Status::Finished,
        epochs: 3,
        iterations: 3 * STEPS,
        train_loss: 0.0625,
        train_accuracy: 0.9765625,
        validation_loss: 0.0625,
        validation_accuracy: 0.984375,
        best_validation_accuracy: 0.984375,
        seconds: 20.5,
        observers_share: 0.03125,
        lost_log_entries: 0,
        log_bytes: BTreeMap::from([("images".to_owned(), 1_048_576), ("scalars".to_owned(), 4096)]),
        attempts: 4,
        step: 3 * STEPS,
        skipped_steps: count("skipped"),
        rollbacks: count("rollback"),
        checkpoint: Some(format!("checkpoints/ckpt-{:012}", 3 * STEPS)),
        weights_blake3: Some(WEIGHTS.to_owned()),
        best: Some(BestEpoch {
            epoch: 3,
            validation_loss: 0.0625,
            validation_accuracy: 0.984375,
            weights: "model.safetensors".to_owned(),
            weights_blake3: WEIGHTS.to_owned(),
        }),
        started: Some(at(0)?.as_secs()),
        ended: Some(at(220)?.as_secs()),
    };
    result.write(&dir.join("result.json"))?;

    let figures = RunMetrics {
        now: at(220)?,
        seconds: 20.5,
        succeeded: None,
        exit_code: Some(0),
        epochs: 3,
        steps: 3 * STEPS,
        images: 180_000,
        validation_accuracy: Some(0.984375),
        validation_loss: Some(0.0625),
        checkpoints: Checkpoints { seconds: Some(0.03125), bytes: 3 * BYTES, failures: 0, last: Some(at(219)?) },
        event_write_errors: 0,
        skipped_steps: result.skipped_steps,
        rollbacks: result.rollbacks,
    };
    let textfile = |name: &str| Textfile::new(&dir.join(name), |_| false);
    textfile("trainer.prom")?.write(&figures)?;
    textfile("a \"quoted\" \\ name\nof two lines.prom")?.write(&figures)?;
    // A later run that failed: of the success nothing is lost.
    let failed = RunMetrics { now: at(300)?, exit_code: Some(65), validation_loss: Some(f64::INFINITY), ..figures };
    let textfile = textfile("failed.prom")?;
    textfile.write(&figures)?;
    textfile.write(&failed)?;
    Ok(())
}

/// Lines of one process, a second apart.
fn write(path: &std::path::Path, begin: u32, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let mut journal = Journal::open(path, Journal::next_attempt(path)?)?;
    for (second, line) in (begin..).zip(lines) {
        journal.append(line, at(second)?);
    }
    journal.sync();
    match journal.lost() {
        0 => Ok(()),
        lost => Err(format!("{lost} lines are lost").into()),
    }
}

fn at(second: u32) -> Result<WallTime, &'static str> {
    WallTime::from_secs(1_764_000_000.5 + f64::from(second)).ok_or("a time after 1970")
}

fn start(epoch: u64) -> Line {
    let settings = settings([("dataset", "mnist"), ("epochs", "3"), ("learning-rate", "0.001"), ("optimizer", "adam")]);
    Line::Start { step: epoch * STEPS, epoch, resumed: epoch > 0, settings }
}

fn epoch(epoch: u64, validation_loss: f64, validation_accuracy: f64) -> Line {
    let metrics = EpochMetrics {
        train_loss: validation_loss,
        train_accuracy: validation_accuracy - 0.0078125,
        validation_loss,
        validation_accuracy,
        learning_rate: 0.001,
    };
    Line::Epoch { step: epoch * STEPS, epoch, seconds: 6.25, images_per_second: 10_240.5, metrics }
}

fn checkpoint(epoch: u64) -> Line {
    Line::Checkpoint { step: epoch * STEPS, epoch, bytes: BYTES, seconds: 0.03125 }
}

fn skipped(step: u64) -> Line {
    Line::Skipped { step, reason: "the loss or the gradient is not finite".to_owned() }
}

fn ended(epoch: u64, status: Status, exit_code: u8) -> Line {
    let error = "cannot write checkpoints/ckpt-000000002814/model.safetensors: No space left on device (os error 28)";
    let error = (status == Status::Failed).then(|| error.to_owned());
    let objective = Objective::validation_accuracy(if epoch == 3 { 0.984375 } else { 0.9765625 });
    Line::Final { status, step: epoch * STEPS, epoch, objective, error, exit_code }
}
