//! The samples that a classifier gets wrong, the ones it is surest of first.

use super::Predictions;

/// Errors among the predictions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// Positions of wrong samples, those with the most probable prediction first, equals in the order of the samples;
    /// as many as were asked for, or as there are.
    pub ranked: Vec<usize>,
    /// All wrong samples, also those that are not ranked.
    pub count: usize,
    /// Samples about which nothing is said: their probabilities are NaN. They are neither ranked nor counted as wrong.
    pub not_finite: usize,
}

impl Errors {
    pub fn of(predictions: &Predictions, limit: usize) -> Errors {
        let mut wrong: Vec<(f32, usize)> = Vec::new();
        let mut not_finite = 0;
        for sample in 0..predictions.len() {
            let predicted = predictions.predicted(sample);
            let confidence = predictions.probabilities(sample)[predicted];
            if !confidence.is_finite() {
                not_finite += 1;
            } else if predicted != predictions.label(sample) {
                wrong.push((confidence, sample));
            }
        }
        let surest_first = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let count = wrong.len();
        if 0 < limit && limit < count {
            // Sorting all would be the only step here whose cost grows faster than the samples.
            wrong.select_nth_unstable_by(limit - 1, surest_first);
        }
        wrong.truncate(limit);
        wrong.sort_unstable_by(surest_first);
        Errors { ranked: wrong.into_iter().map(|(_, sample)| sample).collect(), count, not_finite }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::tests::golden_predictions;

    #[test]
    fn the_surest_errors_come_first() {
        let probabilities = [0.6_f32, 0.9, 0.7, 0.9, 0.8, f32::NAN].iter().flat_map(|p| [*p, 1.0 - p]).collect();
        let predictions = Predictions::new(2, probabilities, vec![1, 1, 1, 1, 0, 1]);
        let errors = Errors::of(&predictions, 3);
        assert_eq!(errors, Errors { ranked: vec![1, 3, 2], count: 4, not_finite: 1 });
        assert_eq!(Errors::of(&predictions, 9).ranked, [1, 3, 2, 0]);
        assert_eq!(Errors::of(&predictions, 0), Errors { ranked: vec![], count: 4, not_finite: 1 });
    }

    #[test]
    fn a_part_of_the_ranking_is_the_start_of_all_of_it() {
        let predictions = golden_predictions();
        let all = Errors::of(&predictions, usize::MAX);
        assert!(all.count > 50 && all.ranked.len() == all.count);
        for limit in [1, 2, 10, all.count - 1, all.count] {
            assert_eq!(Errors::of(&predictions, limit).ranked, all.ranked[..limit]);
        }
    }
}
