//! Confusion matrix: counts of predicted classes by true class.

use super::Predictions;

/// Counts of predictions by true class and predicted class.
///
/// A sample whose probabilities are NaN counts as one of the class that [`Predictions::predicted`] gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `K x K`, a row for each true class.
    counts: Vec<u64>,
    /// Sums of the rows.
    supports: Vec<u64>,
}

/// Samples of one class that are taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub label: usize,
    pub predicted: usize,
    pub count: u64,
}

impl Confusion {
    pub fn of(predictions: &Predictions) -> Confusion {
        let classes = predictions.classes();
        let mut counts = vec![0; classes * classes];
        let mut supports = vec![0; classes];
        for sample in 0..predictions.len() {
            let (label, predicted) = (predictions.label(sample), predictions.predicted(sample));
            if let (Some(count), Some(support)) = (counts.get_mut(label * classes + predicted), supports.get_mut(label))
            {
                *count += 1;
                *support += 1;
            }
        }
        Confusion { classes, counts, supports }
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Samples of class `label` that are taken for `predicted`.
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        self.counts[label * self.classes + predicted]
    }

    /// [`count`](Confusion::count) as a share of the samples of class `label`, 0 to 1; `None` when there are none.
    pub fn share(&self, label: usize, predicted: usize) -> Option<f64> {
        let support = self.support(label);
        (support > 0).then(|| self.count(label, predicted) as f64 / support as f64)
    }

    /// Samples of a class.
    pub fn support(&self, label: usize) -> u64 {
        self.supports[label]
    }

    /// Samples that are taken for a class.
    pub fn predicted(&self, class: usize) -> u64 {
        self.counts.iter().skip(class).step_by(self.classes).sum()
    }

    pub fn samples(&self) -> u64 {
        self.supports.iter().sum()
    }

    /// Samples whose class is found.
    pub fn right(&self) -> u64 {
        (0..self.classes).map(|class| self.count(class, class)).sum()
    }

    /// Every mistake that was made, the most frequent first, equals in the order of their classes.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let cells = self.counts.iter().enumerate();
        let all =
            cells.map(|(cell, &count)| Mistake { label: cell / self.classes, predicted: cell % self.classes, count });
        let mut made: Vec<Mistake> =
            all.filter(|mistake| mistake.count > 0 && mistake.label != mistake.predicted).collect();
        // Stable.
        made.sort_by_key(|mistake| std::cmp::Reverse(mistake.count));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::tests::{decided, golden, golden_predictions};

    #[test]
    fn rows_are_true_classes_and_columns_predicted_ones() {
        let confusion = Confusion::of(&decided(3, &[(0, 0), (0, 0), (0, 2), (1, 0), (1, 2), (1, 2)]));
        let rows: Vec<Vec<u64>> = (0..3).map(|t| (0..3).map(|p| confusion.count(t, p)).collect()).collect();
        assert_eq!(rows, [[2, 0, 1], [1, 0, 2], [0, 0, 0]]);
        assert_eq!((confusion.support(0), confusion.support(1), confusion.support(2)), (3, 3, 0));
        assert_eq!((confusion.predicted(0), confusion.predicted(1), confusion.predicted(2)), (3, 0, 3));
        assert_eq!((confusion.samples(), confusion.right()), (6, 2));
        assert_eq!(confusion.share(1, 2), Some(2.0 / 3.0));
        assert_eq!(confusion.share(2, 0), None, "no sample of this class");
        let mistake = |label, predicted, count| Mistake { label, predicted, count };
        assert_eq!(confusion.mistakes(), [mistake(1, 2, 2), mistake(0, 2, 1), mistake(1, 0, 1)]);
    }

    #[test]
    fn scikit_learn_counts_the_same() {
        let confusion = Confusion::of(&golden_predictions());
        let golden = golden();
        for (label, row) in golden["confusion"].as_array().unwrap().iter().enumerate() {
            for (predicted, want) in row.as_array().unwrap().iter().enumerate() {
                assert_eq!(confusion.count(label, predicted), want.as_u64().unwrap(), "{label} as {predicted}");
            }
        }
    }

    #[test]
    fn a_diverged_network_says_the_first_class() {
        let confusion = Confusion::of(&Predictions::new(2, vec![f32::NAN; 6], vec![0, 1, 1]));
        assert_eq!((confusion.count(0, 0), confusion.count(1, 0), confusion.right()), (1, 2, 1));
    }

    #[test]
    fn nothing_was_seen() {
        let confusion = Confusion::of(&Predictions::new(2, vec![], vec![]));
        assert_eq!((confusion.samples(), confusion.mistakes()), (0, vec![]));
    }
}
