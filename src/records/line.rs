//! One line of the journal: something that happened in a run, as a JSON object.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::types::WallTime;

/// The version of the format, in every line.
pub(super) const VERSION: u64 = 1;

/// Something that happened in a run. `step` counts optimizer steps, `epoch` whole epochs, both since the run began, over
/// all its processes. What is not finite becomes `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// A process begins to train: at step 0, or where the checkpoint was written from which it goes on.
    Start { step: u64, epoch: u64, resumed: bool, settings: Map<String, Value> },
    /// An epoch and its evaluation are done. `seconds` is the time of both, `images_per_second` that of training.
    Epoch { step: u64, epoch: u64, seconds: f64, images_per_second: f64, metrics: EpochMetrics },
    /// A checkpoint is on disk, of `bytes` bytes, written in `seconds`.
    Checkpoint { step: u64, epoch: u64, bytes: u64, seconds: f64 },
    /// A step that was not applied, as its loss or its gradient was not finite.
    Skipped { step: u64, reason: String },
    /// The run went back to a checkpoint, and goes on from there.
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

/// What an epoch came to. Losses are mean cross-entropies in nats, accuracies shares from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EpochMetrics {
    pub train_loss: f64,
    pub train_accuracy: f64,
    pub validation_loss: f64,
    pub validation_accuracy: f64,
    pub learning_rate: f64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The run has gone to its end.
    Finished,
    /// Somebody asked it to stop; the same command goes on.
    Stopped,
    /// An error ended it.
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
    /// The validation accuracy of the last epoch, from 0 to 1; NaN where there was none.
    pub fn validation_accuracy(value: f64) -> Objective {
        Objective { name: "validation_accuracy", value, mode: "max" }
    }
}

impl Line {
    /// Its name in the file.
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

    /// The line as it stands in the file, its newline included.
    pub(super) fn encode(&self, attempt: u32, now: WallTime) -> serde_json::Result<Vec<u8>> {
        let envelope = Envelope { v: VERSION, kind: self.kind(), attempt, time: now.as_secs(), line: self };
        let mut bytes = serde_json::to_vec(&envelope)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// What every line begins with.
#[derive(Serialize)]
struct Envelope<'a> {
    v: u64,
    kind: &'static str,
    attempt: u32,
    time: f64,
    #[serde(flatten)]
    line: &'a Line,
}

/// Settings for [`Line::Start`] from names and texts: a text that is a number or a truth value becomes one.
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
