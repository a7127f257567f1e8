//! One line of the journal: something that happened in a run, as a JSON object.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::types::WallTime;

/// Format version, written in every line.
pub(super) const VERSION: u64 = 1;

/// Maximum length of a line in bytes, newline included.
pub(super) const LONGEST_LINE: usize = 1 << 20;

/// Something that happened in a run. `step` counts optimizer steps, `epoch` whole epochs, both since the run began,
/// over all its processes. Numbers that are not finite become `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// A process begins to train: at step 0, or at the step of the checkpoint that it resumes.
    Start { step: u64, epoch: u64, resumed: bool, settings: Map<String, Value> },
    /// An epoch and its evaluation are done. `seconds` covers both, `images_per_second` training alone.
    Epoch { step: u64, epoch: u64, seconds: f64, images_per_second: f64, metrics: EpochMetrics },
    /// A checkpoint is on disk, of `bytes` bytes, written in `seconds`.
    Checkpoint { step: u64, epoch: u64, bytes: u64, seconds: f64 },
    /// A step that was not applied, as its loss or its gradient was not finite.
    Skipped { step: u64, reason: String },
    /// The run went back to a checkpoint and continues from there.
    Rollback { from_step: u64, to_step: u64 },
    /// The process ends.
    Final {
        status: Status,
        step: u64,
        epoch: u64,
        objective: Objective,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        exit_code: u8,
    },
}

/// Metrics of an epoch. Losses are mean cross-entropies in nats, accuracies fractions from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EpochMetrics {
    pub train_loss: f64,
    pub train_accuracy: f64,
    pub validation_loss: f64,
    pub validation_accuracy: f64,
    pub learning_rate: f64,
}

/// Outcome of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The run is complete.
    Finished,
    /// Stopped by request; the same command resumes the run.
    Stopped,
    /// Ended by an error.
    Failed,
}

/// The number by which runs are compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Objective {
    name: &'static str,
    value: f64,
    mode: &'static str,
}

impl Objective {
    /// The validation accuracy of the last epoch, from 0 to 1; NaN before the first evaluation.
    pub fn validation_accuracy(value: f64) -> Objective {
        Objective { name: "validation_accuracy", value, mode: "max" }
    }
}

impl Line {
    /// Value of `kind` in the file.
    pub fn kind(&self) -> &'static str {
        match self {
            Line::Start { .. } => "start",
            Line::Epoch { .. } => "epoch",
            Line::Checkpoint { .. } => "checkpoint",
            Line::Skipped { .. } => "skipped",
            Line::Rollback { .. } => "rollback",
            Line::Final { .. } => "final",
        }
    }

    /// The line as written to the file, newline included.
    pub(super) fn encode(&self, attempt: u32, now: WallTime) -> serde_json::Result<Vec<u8>> {
        let envelope = Envelope { v: VERSION, kind: self.kind(), attempt, time: now.as_secs(), line: self };
        let mut bytes = serde_json::to_vec(&envelope)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Fields at the start of every line.
#[derive(Serialize)]
struct Envelope<'a> {
    v: u64,
    kind: &'static str,
    attempt: u32,
    time: f64,
    #[serde(flatten)]
    line: &'a Line,
}

/// Converts names and texts to the settings of [`Line::Start`]. Texts of numbers and Booleans become JSON numbers and
/// Booleans.
pub fn settings<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Map<String, Value> {
    let value = |text: &str| match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => Value::String(text.to_owned()),
    };
    texts.into_iter().map(|(name, text)| (name.to_owned(), value(text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &Line) -> String {
        String::from_utf8(line.encode(2, WallTime::from_secs(1_700_000_000.5).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn a_line_is_one_object_in_a_fixed_order() {
        let settings =
            settings([("learning-rate", "0.001"), ("optimizer", "adam"), ("quiet", "true"), ("name", "007")]);
        assert_eq!(
            text(&Line::Start { step: 938, epoch: 1, resumed: true, settings }),
            r#"{"v":1,"kind":"start","attempt":2,"time":1700000000.5,"step":938,"epoch":1,"resumed":true,"#.to_owned()
                + r#""settings":{"learning-rate":0.001,"optimizer":"adam","quiet":true,"name":"007"}}"#
                + "\n"
        );
        assert_eq!(
            text(&Line::Rollback { from_step: 12, to_step: 8 }),
            "{\"v\":1,\"kind\":\"rollback\",\"attempt\":2,\"time\":1700000000.5,\"from_step\":12,\"to_step\":8}\n"
        );
    }

    #[test]
    fn what_is_not_finite_is_null_and_a_newline_is_escaped() {
        let line = Line::Final {
            status: Status::Failed,
            step: 1,
            epoch: 0,
            objective: Objective::validation_accuracy(f64::NAN),
            error: Some("two\nlines".to_owned()),
            exit_code: 65,
        };
        let text = text(&line);
        assert!(text.contains(r#""objective":{"name":"validation_accuracy","value":null,"mode":"max"}"#), "{text}");
        assert!(text.contains(r#""error":"two\nlines","exit_code":65"#), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
    }
}
