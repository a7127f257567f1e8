//! Objectives: the loss of a batch, its scores, and its gradient by the logits.

use std::fmt::Debug;

use tch::{Kind, Reduction, Tensor};

/// Sums over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// Sum of the losses, in nats.
    pub loss_sum: f64,
    /// Samples whose label has the largest logit.
    pub correct: u64,
}

impl Scores {
    pub fn add(&mut self, other: Scores) {
        self.loss_sum += other.loss_sum;
        self.correct += other.correct;
    }
}

/// A loss of logits `N x K` and labels. Samples are independent of each other: the loss of a batch is the sum of its
/// samples' losses, so each shard is judged by itself. (A contrastive loss would couple the shards of a batch.)
pub trait Objective: Debug + Send + Sync {
    /// Scores of some samples. `probabilities_nk` receives their class probabilities. Not finite where logits are not.
    fn judge(&self, logits_nk: &[f32], labels: &[u16], probabilities_nk: &mut Vec<f32>) -> Scores;

    /// Turns the probabilities of [`Objective::judge`] into the gradient of `scale` times the sum of the losses by the logits.
    fn cotangents(&self, labels: &[u16], scale: f64, probabilities_nk: &mut [f32]);

    /// Sum of the losses, recorded for libtorch's automatic differentiation.
    fn loss_sum(&self, logits_nk: &Tensor, labels_n: &Tensor) -> Tensor;

    /// Number of samples whose label has the largest logit, `i64`.
    fn correct(&self, logits_nk: &Tensor, labels_n: &Tensor) -> Tensor;
}

/// Softmax cross-entropy: `-ln softmax(logits)[label]`, in nats.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy;

impl Objective for CrossEntropy {
    fn judge(&self, logits_nk: &[f32], labels: &[u16], probabilities_nk: &mut Vec<f32>) -> Scores {
        let classes = logits_nk.len() / labels.len().max(1);
        probabilities_nk.resize(logits_nk.len(), 0.0);
        let mut scores = Scores::default();
        let rows = logits_nk.chunks_exact(classes.max(1)).zip(probabilities_nk.chunks_exact_mut(classes.max(1)));
        for ((logits, probabilities), &label) in rows.zip(labels) {
            let label = usize::from(label);
            scores.loss_sum += entropy(logits, label, probabilities);
            scores.correct += u64::from(guess(logits) == label);
        }
        scores
    }

    fn cotangents(&self, labels: &[u16], scale: f64, probabilities_nk: &mut [f32]) {
        let classes = probabilities_nk.len() / labels.len().max(1);
        for (probabilities, &label) in probabilities_nk.chunks_exact_mut(classes.max(1)).zip(labels) {
            cotangent(usize::from(label), scale, probabilities);
        }
    }

    fn loss_sum(&self, logits_nk: &Tensor, labels_n: &Tensor) -> Tensor {
        logits_nk.cross_entropy_loss::<Tensor>(labels_n, None, Reduction::Sum, -100, 0.0)
    }

    fn correct(&self, logits_nk: &Tensor, labels_n: &Tensor) -> Tensor {
        logits_nk.argmax(-1, false).eq_tensor(labels_n).sum(Kind::Int64)
    }
}

/// Loss of one sample, with its probabilities.
fn entropy(logits: &[f32], label: usize, probabilities: &mut [f32]) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(f64::from(logit)));
    let powers = |logit: &f32| (f64::from(*logit) - largest).exp();
    let sum: f64 = logits.iter().map(powers).sum();
    for (probability, logit) in probabilities.iter_mut().zip(logits) {
        *probability = (powers(logit) / sum) as f32;
    }
    sum.ln() + largest - f64::from(logits[label])
}

/// Turns probabilities into the gradient of `scale` times the loss by the logits.
fn cotangent(label: usize, scale: f64, probabilities: &mut [f32]) {
    for (class, probability) in probabilities.iter_mut().enumerate() {
        let target = if class == label { 1.0 } else { 0.0 };
        *probability = ((f64::from(*probability) - target) * scale) as f32;
    }
}

/// The class with the largest logit, the first of several; NaN counts as largest, as in libtorch.
fn guess(logits: &[f32]) -> usize {
    let larger = |a: f32, b: f32| a > b || (a.is_nan() && !b.is_nan());
    (1..logits.len()).fold(0, |best, class| if larger(logits[class], logits[best]) { class } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_logits_it_is_the_logarithm_of_their_number() {
        let mut probabilities = [0.0; 4];
        let loss = entropy(&[100.0; 4], 2, &mut probabilities);
        assert!((loss - 4.0_f64.ln()).abs() < 1e-12, "{loss}");
        assert_eq!(probabilities, [0.25; 4]);
        cotangent(2, 2.0, &mut probabilities);
        assert_eq!(probabilities, [0.5, 0.5, -1.5, 0.5]);
    }

    #[test]
    fn large_logits_do_not_overflow_and_nan_does_not_vanish() {
        let mut probabilities = [0.0; 2];
        assert_eq!(entropy(&[1e38, -1e38], 0, &mut probabilities), 0.0);
        assert!(entropy(&[f32::INFINITY, 0.0], 0, &mut probabilities).is_nan());
        assert!(entropy(&[0.0, f32::NAN], 0, &mut probabilities).is_nan());
        assert!(entropy(&[f32::NAN, 0.0], 1, &mut probabilities).is_nan());
    }

    #[test]
    fn the_guess_is_the_first_of_the_largest() {
        assert_eq!(guess(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(guess(&[1.0, f32::NAN, 3.0, f32::NAN]), 1);
        assert_eq!(guess(&[-1.0]), 0);
    }
}
