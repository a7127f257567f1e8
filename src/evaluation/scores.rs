//! Precision, recall and F1 of each class, and their means over the classes.

use super::{Confusion, ratio};

/// Precision, recall and F1 of one class. A division by 0 gives 0, as scikit-learn's `zero_division=0`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassScore {
    /// Of the samples that are taken for the class, the share that belong to it; 0 when there are none.
    pub precision: f64,
    /// Of the samples of the class, the share that are found; 0 when there are none.
    pub recall: f64,
    /// The harmonic mean of both; 0 when both are.
    pub f1: f64,
    /// Samples of the class.
    pub support: u64,
}

/// The scores of all classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    pub classes: Vec<ClassScore>,
    /// Means in which every class counts the same, however many samples it has (macro averages). A class that has no
    /// sample and that nothing is taken for does not count; with no class left they are 0. `support` is of all classes.
    pub mean: ClassScore,
}

impl Scores {
    pub fn of(confusion: &Confusion) -> Scores {
        let class = |class: usize| {
            let (right, support) = (confusion.count(class, class), confusion.support(class));
            let predicted = confusion.predicted(class);
            ClassScore {
                precision: ratio(right, predicted),
                recall: ratio(right, support),
                f1: ratio(2 * right, support + predicted),
                support,
            }
        };
        let classes: Vec<ClassScore> = (0..confusion.classes()).map(class).collect();
        let seen: Vec<&ClassScore> = (classes.iter().enumerate())
            .filter(|&(class, score)| score.support > 0 || confusion.predicted(class) > 0)
            .map(|(_, score)| score)
            .collect();
        let mean = |of: fn(&ClassScore) -> f64| match seen.len() {
            0 => 0.0,
            count => seen.iter().map(|score| of(score)).sum::<f64>() / count as f64,
        };
        let mean = ClassScore {
            precision: mean(|score| score.precision),
            recall: mean(|score| score.recall),
            f1: mean(|score| score.f1),
            support: confusion.samples(),
        };
        Scores { classes, mean }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::tests::{decided, golden, golden_predictions};

    #[test]
    fn scores_by_hand() {
        // Class 0: found 2 of 3, and 1 of the 3 taken for it is none. Class 1: never found. Class 2: no sample.
        let confusion = Confusion::of(&decided(4, &[(0, 0), (0, 0), (0, 2), (1, 0), (1, 2)]));
        let scores = Scores::of(&confusion);
        let score = |precision, recall, f1, support| ClassScore { precision, recall, f1, support };
        let third = 2.0 / 3.0;
        assert_eq!(
            scores.classes,
            [score(third, third, third, 3), score(0.0, 0.0, 0.0, 2), score(0.0, 0.0, 0.0, 0), score(0.0, 0.0, 0.0, 0)]
        );
        // The fourth class does not count, the third does: samples are taken for it.
        assert_eq!(scores.mean, score(third / 3.0, third / 3.0, third / 3.0, 5));
    }

    #[test]
    fn scikit_learn_gets_the_same() {
        let scores = Scores::of(&Confusion::of(&golden_predictions()));
        let golden = golden();
        let close = |got: f64, want: &serde_json::Value, what: &str| {
            let want = want.as_f64().unwrap();
            assert!((got - want).abs() < 1e-12, "{what}: got {got}, want {want}");
        };
        for (class, score) in scores.classes.iter().enumerate() {
            let want = &golden["scores"][class];
            close(score.precision, &want[0], "precision");
            close(score.recall, &want[1], "recall");
            close(score.f1, &want[2], "F1");
            assert_eq!(score.support, want[3].as_u64().unwrap());
        }
        let mean = scores.mean;
        for (got, want) in [mean.precision, mean.recall, mean.f1].into_iter().zip(golden["mean"].as_array().unwrap()) {
            close(got, want, "mean");
        }
    }

    #[test]
    fn of_nothing_all_is_zero() {
        let scores = Scores::of(&Confusion::of(&decided(2, &[])));
        assert_eq!((scores.classes, scores.mean), (vec![ClassScore::default(); 2], ClassScore::default()));
    }
}
