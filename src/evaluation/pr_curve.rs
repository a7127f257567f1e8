//! Precision against recall of each class, as the probability that is asked for goes from 0 to 1.

use super::{Predictions, ratio};

/// One class against all others at evenly spaced thresholds, the first 0, the last 1: a sample counts as taken for the
/// class where its probability, rounded down to a threshold, is at least that threshold. These are TensorBoard's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrCurve {
    /// Samples of the class from each threshold on; never rising.
    true_positives: Vec<u64>,
    /// Samples of other classes from each threshold on; never rising.
    false_positives: Vec<u64>,
}

impl PrCurve {
    /// TensorBoard's usual number of thresholds.
    pub const THRESHOLDS: usize = 201;

    /// A curve for each class, at `thresholds` thresholds, at least 2. A probability that is NaN counts as 0.
    pub fn of(predictions: &Predictions, thresholds: usize) -> Vec<PrCurve> {
        let (classes, thresholds) = (predictions.classes(), thresholds.max(2));
        let mut buckets = vec![(0_u64, 0_u64); classes * thresholds];
        for sample in 0..predictions.len() {
            let label = predictions.label(sample);
            for (class, &probability) in predictions.probabilities(sample).iter().enumerate() {
                let (positives, negatives) = &mut buckets[class * thresholds + bucket(probability, thresholds)];
                *(if class == label { positives } else { negatives }) += 1;
            }
        }
        let curve = |buckets: &[(u64, u64)]| PrCurve {
            true_positives: from_each_on(buckets.iter().map(|bucket| bucket.0)),
            false_positives: from_each_on(buckets.iter().map(|bucket| bucket.1)),
        };
        buckets.chunks_exact(thresholds).map(curve).collect()
    }

    pub fn true_positives(&self) -> &[u64] {
        &self.true_positives
    }

    pub fn false_positives(&self) -> &[u64] {
        &self.false_positives
    }

    /// Samples of other classes below each threshold.
    pub fn true_negatives(&self) -> Vec<u64> {
        below(&self.false_positives)
    }

    /// Samples of the class below each threshold.
    pub fn false_negatives(&self) -> Vec<u64> {
        below(&self.true_positives)
    }

    /// At each threshold; 0 where no sample is taken for the class.
    pub fn precision(&self) -> Vec<f64> {
        let positives = self.true_positives.iter().zip(&self.false_positives);
        positives.map(|(&right, &wrong)| ratio(right, right + wrong)).collect()
    }

    /// At each threshold; 0 where the class has no sample.
    pub fn recall(&self) -> Vec<f64> {
        let all = self.true_positives.first().copied().unwrap_or(0);
        self.true_positives.iter().map(|&right| ratio(right, all)).collect()
    }
}

fn bucket(probability: f32, thresholds: usize) -> usize {
    let last = thresholds - 1;
    // In single precision, as there. The cast takes NaN and what is below 0 to 0.
    ((probability * last as f32).floor() as usize).min(last)
}

/// Sums from each place to the end.
fn from_each_on(counts: impl DoubleEndedIterator<Item = u64>) -> Vec<u64> {
    let mut sums: Vec<u64> = counts
        .rev()
        .scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
        .collect();
    sums.reverse();
    sums
}

fn below(from_each_on: &[u64]) -> Vec<u64> {
    let all = from_each_on.first().copied().unwrap_or(0);
    from_each_on.iter().map(|&count| all - count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::tests::{golden, golden_predictions};

    #[test]
    fn a_curve_by_hand() {
        // Thresholds 0, 0.5, 1. Probabilities of class 1: 1, 0.5, 0.49 for samples of it, 0.7 and 0 for others.
        let probabilities = [1.0_f32, 0.5, 0.49, 0.7, 0.0].iter().flat_map(|p| [1.0 - p, *p]).collect();
        let curves = PrCurve::of(&Predictions::new(2, probabilities, vec![1, 1, 1, 0, 0]), 3);
        let curve = &curves[1];
        assert_eq!(curve.true_positives(), [3, 2, 1]);
        assert_eq!(curve.false_positives(), [2, 1, 0]);
        assert_eq!((curve.true_negatives(), curve.false_negatives()), (vec![0, 1, 2], vec![0, 1, 2]));
        assert_eq!(curve.precision(), [3.0 / 5.0, 2.0 / 3.0, 1.0]);
        assert_eq!(curve.recall(), [1.0, 2.0 / 3.0, 1.0 / 3.0]);
    }

    #[test]
    fn tensorboard_gets_the_same_curves() {
        let curves = PrCurve::of(&golden_predictions(), PrCurve::THRESHOLDS);
        let golden = golden();
        assert_eq!(curves.len(), golden["pr_curves"].as_array().unwrap().len());
        for (class, curve) in curves.iter().enumerate() {
            let want = |row: &str| -> Vec<f64> {
                let row = golden["pr_curves"][class][row].as_array().unwrap().iter();
                row.map(|value| value.as_f64().unwrap()).collect()
            };
            let exact = |counts: &[u64]| -> Vec<f64> { counts.iter().map(|&count| count as f64).collect() };
            assert_eq!(exact(curve.true_positives()), want("true_positive_counts"), "class {class}");
            assert_eq!(exact(curve.false_positives()), want("false_positive_counts"), "class {class}");
            assert_eq!(exact(&curve.true_negatives()), want("true_negative_counts"), "class {class}");
            assert_eq!(exact(&curve.false_negatives()), want("false_negative_counts"), "class {class}");
            for (got, want) in
                curve.precision().iter().zip(want("precision")).chain(curve.recall().iter().zip(want("recall")))
            {
                assert!((got - want).abs() < 1e-6, "class {class}: got {got}, want {want}");
            }
        }
    }

    #[test]
    fn what_is_no_probability_is_0_or_1() {
        let predictions = Predictions::new(1, vec![f32::NAN, -1.0, f32::NEG_INFINITY, 1.5, f32::INFINITY], vec![0; 5]);
        assert_eq!(PrCurve::of(&predictions, 3)[0].true_positives(), [5, 2, 2]);
    }

    #[test]
    fn a_curve_of_nothing_is_zero() {
        let curve = &PrCurve::of(&Predictions::new(2, vec![], vec![]), 201)[0];
        assert!(curve.precision().iter().chain(&curve.recall()).all(|&value| value == 0.0));
        assert_eq!(curve.precision().len(), 201);
    }
}
