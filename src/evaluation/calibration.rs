//! Calibration: confidence of a classifier against its accuracy.
//!
//! Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).

use super::Predictions;

/// The samples whose predicted class has a probability within some bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    pub count: u64,
    pub right: u64,
    /// Sum of the probabilities of the predicted classes.
    confidence_sum: f64,
}

/// Samples by the probability of the predicted class, in bins of equal width.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Bin `m` of `M` holds probabilities above `m / M` and up to `(m + 1) / M`; the first also holds 0.
    pub bins: Vec<Bin>,
    /// Samples that are in no bin: their probabilities are NaN.
    pub not_finite: u64,
}

impl Bin {
    /// Share of samples that are right, 0 to 1; `None` when there are none.
    pub fn accuracy(&self) -> Option<f64> {
        self.mean(self.right as f64)
    }

    /// Mean probability of the predicted classes; `None` when there are no samples.
    pub fn confidence(&self) -> Option<f64> {
        self.mean(self.confidence_sum)
    }

    /// Accuracy less confidence: below 0 where the classifier is too sure.
    pub fn gap(&self) -> Option<f64> {
        Some(self.accuracy()? - self.confidence()?)
    }

    /// Between which values the accuracy would lie with 95 % confidence were there more samples: Wilson's score
    /// interval.
    pub fn interval(&self) -> Option<(f64, f64)> {
        const Z: f64 = 1.96;
        let (share, n) = (self.accuracy()?, self.count as f64);
        let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        Some(((middle - half).max(0.0), (middle + half).min(1.0)))
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        (self.count > 0).then(|| sum / self.count as f64)
    }
}

impl Calibration {
    /// In `bins` bins, at least 1.
    pub fn of(predictions: &Predictions, bins: usize) -> Calibration {
        let mut bins = vec![Bin::default(); bins.max(1)];
        let mut not_finite = 0;
        for sample in 0..predictions.len() {
            let predicted = predictions.predicted(sample);
            let confidence = f64::from(predictions.probabilities(sample)[predicted]);
            if !confidence.is_finite() {
                not_finite += 1;
                continue;
            }
            // The cast takes what is below 0 to 0.
            let above = (confidence * bins.len() as f64).ceil() as usize;
            let last = bins.len() - 1;
            let bin = &mut bins[above.saturating_sub(1).min(last)];
            bin.count += 1;
            bin.right += u64::from(predicted == predictions.label(sample));
            bin.confidence_sum += confidence;
        }
        Calibration { bins, not_finite }
    }

    /// Mean distance between accuracy and confidence of the bins, weighted with their samples (ECE), 0 to 1; `None`
    /// when no sample is in a bin.
    pub fn expected_error(&self) -> Option<f64> {
        let samples = self.all().count;
        let gaps = self.bins.iter().filter_map(|bin| Some(bin.gap()?.abs() * bin.count as f64));
        (samples > 0).then(|| gaps.sum::<f64>() / samples as f64)
    }

    /// The largest distance between accuracy and confidence of a bin (MCE), 0 to 1, however few samples it has.
    pub fn maximum_error(&self) -> Option<f64> {
        self.bins.iter().filter_map(|bin| Some(bin.gap()?.abs())).reduce(f64::max)
    }

    /// All bins as one.
    pub fn all(&self) -> Bin {
        self.bins.iter().fold(Bin::default(), |all, bin| Bin {
            count: all.count + bin.count,
            right: all.right + bin.right,
            confidence_sum: all.confidence_sum + bin.confidence_sum,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::tests::{golden, golden_predictions};

    /// One row for each confidence in class 0 of two; `right` says whether that is the label.
    fn sure(samples: &[(f32, bool)]) -> Predictions {
        let probabilities = samples.iter().flat_map(|&(p, _)| [p, 1.0 - p]).collect();
        Predictions::new(2, probabilities, samples.iter().map(|&(_, right)| u16::from(!right)).collect())
    }

    #[test]
    fn errors_by_hand() {
        // Bins (0.5, 0.75] with accuracy 1/2 and confidence 0.625, (0.75, 1] with accuracy 1 and confidence 0.875.
        let samples = [(0.625, true), (0.625, false), (0.875, true), (1.0, true), (0.8125, true), (0.8125, true)];
        let calibration = Calibration::of(&sure(&samples), 4);
        let counts: Vec<(u64, u64)> = calibration.bins.iter().map(|bin| (bin.count, bin.right)).collect();
        assert_eq!(counts, [(0, 0), (0, 0), (2, 1), (4, 4)]);
        assert_eq!(calibration.bins[2].gap(), Some(-0.125));
        assert_eq!(calibration.bins[3].gap(), Some(0.125));
        assert_eq!((calibration.bins[0].accuracy(), calibration.bins[0].confidence()), (None, None));
        assert_eq!(calibration.expected_error(), Some(0.125));
        assert_eq!(calibration.maximum_error(), Some(0.125));
        assert_eq!(calibration.all().accuracy(), Some(5.0 / 6.0));
    }

    #[test]
    fn an_upper_edge_belongs_to_its_bin() {
        let calibration = Calibration::of(&sure(&[(0.5, true), (0.75, true), (1.0, true)]), 4);
        assert_eq!(calibration.bins.iter().map(|bin| bin.count).collect::<Vec<_>>(), [0, 1, 1, 1]);
    }

    #[test]
    fn scikit_learn_gets_the_same_bins() {
        let calibration = Calibration::of(&golden_predictions(), 15);
        let golden = golden();
        let want = |what: &str| -> Vec<f64> {
            golden[what].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
        };
        let got = |of: fn(&Bin) -> Option<f64>| -> Vec<f64> { calibration.bins.iter().filter_map(of).collect() };
        for (got, want) in [(got(Bin::accuracy), want("bin_accuracy")), (got(Bin::confidence), want("bin_confidence"))]
        {
            assert_eq!(got.len(), want.len());
            assert!(got.len() > 5, "too few bins to prove anything");
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() < 1e-7, "got {got}, want {want}");
            }
        }
        let want = golden["expected_calibration_error"].as_f64().unwrap();
        assert!((calibration.expected_error().unwrap() - want).abs() < 1e-7);
    }

    #[test]
    fn the_interval_is_wilsons() {
        // `scipy.stats.binomtest(8, 10).proportion_ci(method="wilson")`, whose quantile has more digits.
        let (low, high) = Bin { count: 10, right: 8, confidence_sum: 8.0 }.interval().unwrap();
        assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4, "{low}, {high}");
        assert_eq!(Bin { count: 3, right: 3, confidence_sum: 3.0 }.interval().unwrap().1, 1.0);
        assert_eq!(Bin::default().interval(), None);
    }

    #[test]
    fn a_diverged_network_has_no_calibration() {
        let calibration = Calibration::of(&Predictions::new(2, vec![f32::NAN; 4], vec![0, 1]), 15);
        assert_eq!((calibration.not_finite, calibration.all().count), (2, 0));
        assert_eq!((calibration.expected_error(), calibration.maximum_error()), (None, None));
    }
}
