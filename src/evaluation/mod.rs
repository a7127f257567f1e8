//! Metrics of a classifier on labelled samples: plain numbers in, plain numbers out.
//!
//! Everything takes one pass over the predictions. Where a network has diverged, so that its probabilities are NaN,
//! each result says what it is then; none of them panics.

mod calibration;
mod confusion;
mod errors;
mod pr_curve;
mod predictions;
mod scores;

pub use calibration::{Bin, Calibration};
pub use confusion::{Confusion, Mistake};
pub use errors::Errors;
pub use pr_curve::PrCurve;
pub use predictions::{Predictions, most_probable};
pub use scores::{ClassScore, Scores};

/// 0 of nothing: scikit-learn's `zero_division=0`, and TensorBoard's division by at least 1e-7.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::Predictions;

    /// Samples with their labels and the classes that they are taken for, without a doubt.
    pub fn decided(classes: usize, samples: &[(u16, usize)]) -> Predictions {
        let row =
            |&(_, predicted): &(u16, usize)| (0..classes).map(move |class| f32::from(u8::from(class == predicted)));
        Predictions::new(
            classes,
            samples.iter().flat_map(row).collect(),
            samples.iter().map(|&(label, _)| label).collect(),
        )
    }

    /// The predictions of tests/golden/make_evaluation.py, by the same formula: exact in single precision.
    pub fn golden_predictions() -> Predictions {
        let (samples, classes) = (500_u32, 6_u32);
        let mut probabilities = Vec::new();
        let mut labels = Vec::new();
        for n in 0..samples {
            let guess = (n * n + n / 3) % 5;
            let weights = (0..classes).map(|k| match k {
                // Never predicted.
                5 => 1,
                _ => (n * 7919 + k * 104_729 + n * n * 31) % 700 + 1 + if k == guess { 500 } else { 0 },
            });
            let squares: Vec<u32> = weights.map(|weight| weight * weight).collect();
            let sum: u32 = squares.iter().sum();
            probabilities.extend(squares.iter().map(|&square| square as f32 / sum as f32));
            // No sample of the last two classes.
            labels.push((guess % 4) as u16);
        }
        Predictions::new(classes as usize, probabilities, labels)
    }

    /// Written by tests/golden/make_evaluation.py with scikit-learn and TensorBoard.
    pub fn golden() -> serde_json::Value {
        serde_json::from_str(include_str!("../../tests/golden/evaluation.json")).unwrap()
    }
}
