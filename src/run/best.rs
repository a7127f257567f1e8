//! Weights file of the best epoch of a finished run.

use super::RunError;
use crate::records::BestEpoch;
use crate::run_dir::{BEST, RunDir, WEIGHTS};
use crate::train::TrainState;
use crate::weights;

/// Writes the weights after the best epoch, unless they are those of the last one, whose file has the checksum
/// `last_blake3`. `None` if no best epoch is known.
pub(super) fn save(dir: &RunDir, state: &TrainState, last_blake3: &str) -> Result<Option<BestEpoch>, RunError> {
    let of = |weights: &str, weights_blake3: String| {
        state.position.best.map(|best| BestEpoch {
            epoch: best.epoch + 1,
            validation_loss: best.validation.loss,
            validation_accuracy: best.validation.accuracy,
            weights: weights.to_owned(),
            weights_blake3,
        })
    };
    match &state.best {
        Some(best) if !state.position.is_best() => {
            Ok(of(BEST, weights::save_on(dir.disk(), &dir.best_weights(), best)?))
        }
        _ => {
            // A continued run may have an older file.
            dir.remove_best_weights()?;
            Ok(of(WEIGHTS, last_blake3.to_owned()))
        }
    }
}
