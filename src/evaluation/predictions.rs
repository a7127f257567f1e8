//! Class probabilities of each sample of a labelled set.

/// Class probabilities and true classes of `N` samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    classes: usize,
    /// `N x K`.
    probabilities: Vec<f32>,
    labels: Vec<u16>,
    /// `N x D`; empty where they are not known.
    features: Vec<f32>,
}

impl Predictions {
    /// `probabilities` are `N x K`, row after row, for the `N` labels.
    ///
    /// # Panics
    /// If there are not `labels x classes` probabilities, or no classes: a bug in the caller.
    pub fn new(classes: usize, probabilities: Vec<f32>, labels: Vec<u16>) -> Predictions {
        assert!(
            classes > 0 && probabilities.len() == labels.len() * classes,
            "one row of probabilities for each label"
        );
        Predictions { classes, probabilities, labels, features: Vec::new() }
    }

    /// Adds what the classifier decided from: `features` are `N x D`, row after row.
    ///
    /// # Panics
    /// If their number is not a multiple of the number of samples: a bug in the caller.
    #[must_use]
    pub fn with_features(self, features: Vec<f32>) -> Predictions {
        assert!(features.len().is_multiple_of(self.len().max(1)), "one row of features for each label");
        Predictions { features, ..self }
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The true class of a sample.
    pub fn label(&self, sample: usize) -> usize {
        usize::from(self.labels[sample])
    }

    /// One for each class.
    pub fn probabilities(&self, sample: usize) -> &[f32] {
        &self.probabilities[sample * self.classes..][..self.classes]
    }

    /// Inputs of the last layer for the sample, if they were kept.
    pub fn features(&self, sample: usize) -> Option<&[f32]> {
        let dims = self.features.len() / self.len().max(1);
        (dims > 0).then(|| &self.features[sample * dims..][..dims])
    }

    /// The most probable class, the first of equals. Of a network that has diverged, whose probabilities are NaN, 0.
    pub fn predicted(&self, sample: usize) -> usize {
        most_probable(self.probabilities(sample))
    }

    /// The probability of the predicted class.
    pub fn confidence(&self, sample: usize) -> f32 {
        self.probabilities(sample)[self.predicted(sample)]
    }

    pub fn is_right(&self, sample: usize) -> bool {
        self.predicted(sample) == self.label(sample)
    }
}

/// The class of the largest probability, the first of equals; 0 where all are NaN, or there are none.
pub fn most_probable(probabilities: &[f32]) -> usize {
    (1..probabilities.len())
        .fold(0, |best, class| if probabilities[class] > probabilities[best] { class } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_class_is_predicted() {
        let probabilities = vec![0.2, 0.7, 0.1, 0.4, 0.4, 0.2, f32::NAN, f32::NAN, f32::NAN];
        let predictions = Predictions::new(3, probabilities, vec![1, 1, 2]);
        let predicted: Vec<usize> = (0..3).map(|sample| predictions.predicted(sample)).collect();
        assert_eq!(predicted, [1, 0, 0]);
        assert_eq!((predictions.confidence(0), predictions.is_right(0), predictions.is_right(1)), (0.7, true, false));
        assert_eq!(predictions.label(2), 2);
        assert_eq!(predictions.features(1), None);
        let predictions = predictions.with_features(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(predictions.features(1), Some(&[2.0, 3.0][..]));
    }
}
