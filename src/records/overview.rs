//! Overviews of a result and of a journal's end: the few numbers that listings show, read tolerantly.
//!
//! Any field may be missing or invalid, since files come from other versions and killed processes. For the whole result
//! see [`RunResult`](super::RunResult).

use serde_json::Value;

/// Numbers of a result, as far as they are valid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResultOverview {
    /// One word, such as `finished`.
    pub status: Option<String>,
    pub epochs: Option<u64>,
    pub iterations: Option<u64>,
    pub validation_accuracy: Option<f64>,
    pub validation_loss: Option<f64>,
    pub best_validation_accuracy: Option<f64>,
    /// End of the run, in seconds since 1970.
    pub ended: Option<f64>,
}

/// State that the last lines of a journal record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JournalEnd {
    pub last_epoch: Option<EpochOverview>,
    /// Error of the last process, if it failed.
    pub failure: Option<String>,
}

/// Numbers of one epoch, as far as they are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EpochOverview {
    /// Epochs done, this one included.
    pub epoch: Option<u64>,
    pub step: Option<u64>,
    pub validation_accuracy: Option<f64>,
}

impl ResultOverview {
    /// Parses the content of a result file.
    ///
    /// # Errors
    /// If it is not JSON.
    pub fn parse(bytes: &[u8]) -> serde_json::Result<ResultOverview> {
        let result: Value = serde_json::from_slice(bytes)?;
        Ok(ResultOverview {
            status: result["status"].as_str().map(str::to_owned),
            epochs: result["epochs"].as_u64(),
            iterations: result["iterations"].as_u64(),
            validation_accuracy: result["validation_accuracy"].as_f64(),
            validation_loss: result["validation_loss"].as_f64(),
            best_validation_accuracy: result["best_validation_accuracy"].as_f64(),
            ended: result["ended"].as_f64(),
        })
    }
}

impl JournalEnd {
    /// Parses the last bytes of a journal; the first line may be incomplete. Invalid lines are ignored.
    pub fn parse(bytes: &[u8]) -> JournalEnd {
        let mut end = JournalEnd::default();
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        for line in lines {
            // A line after a `final` belongs to a new process.
            end.failure = None;
            match line["kind"].as_str() {
                Some("epoch") => {
                    end.last_epoch = Some(EpochOverview {
                        epoch: line["epoch"].as_u64(),
                        step: line["step"].as_u64(),
                        validation_accuracy: line["metrics"]["validation_accuracy"].as_f64(),
                    });
                }
                Some("final") if line["status"] == "failed" => {
                    end.failure = Some(line["error"].as_str().unwrap_or_default().to_owned());
                }
                _ => {}
            }
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_invalid_fields_are_none() {
        let result = ResultOverview::parse(br#"{"status": "finished", "epochs": "3", "ended": 1.5}"#).unwrap();
        assert_eq!((result.status.as_deref(), result.epochs, result.ended), (Some("finished"), None, Some(1.5)));
        assert_eq!(ResultOverview::parse(b"[]").unwrap(), ResultOverview::default());
        assert!(ResultOverview::parse(b"{").is_err());
    }

    #[test]
    fn a_failure_is_void_once_another_process_has_written() {
        let text = "torn\n{\"kind\":\"epoch\",\"epoch\":2,\"step\":8}\n{\"kind\":\"final\",\"status\":\"failed\",\"error\":\"full\"}\n";
        let end = JournalEnd::parse(text.as_bytes());
        let epoch = EpochOverview { epoch: Some(2), step: Some(8), validation_accuracy: None };
        assert_eq!((end.last_epoch, end.failure.as_deref()), (Some(epoch), Some("full")));
        let end = JournalEnd::parse(format!("{text}{{\"kind\":\"start\"}}\n").as_bytes());
        assert_eq!((end.last_epoch, end.failure), (Some(epoch), None));
    }
}
