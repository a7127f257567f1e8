//! Softmax cross-entropy of one sample: `-ln softmax(logits)[label]`, in nats.

/// Fills in the probabilities and returns the loss. Not finite where the logits are not.
pub(super) fn cross_entropy(logits: &[f32], label: usize, probabilities: &mut [f32]) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(f64::from(logit)));
    let powers = |logit: &f32| (f64::from(*logit) - largest).exp();
    let sum: f64 = logits.iter().map(powers).sum();
    for (probability, logit) in probabilities.iter_mut().zip(logits) {
        *probability = (powers(logit) / sum) as f32;
    }
    sum.ln() + largest - f64::from(logits[label])
}

/// Turns probabilities into the gradient of `scale` times the loss with respect to the logits.
pub(super) fn gradient(label: usize, scale: f64, probabilities: &mut [f32]) {
    for (class, probability) in probabilities.iter_mut().enumerate() {
        let target = if class == label { 1.0 } else { 0.0 };
        *probability = ((f64::from(*probability) - target) * scale) as f32;
    }
}

/// The class with the largest logit, the first of several; NaN counts as largest, as in libtorch.
pub(super) fn guess(logits: &[f32]) -> usize {
    let larger = |a: f32, b: f32| a > b || (a.is_nan() && !b.is_nan());
    (1..logits.len()).fold(0, |best, class| if larger(logits[class], logits[best]) { class } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_logits_it_is_the_logarithm_of_their_number() {
        let mut probabilities = [0.0; 4];
        let loss = cross_entropy(&[100.0; 4], 2, &mut probabilities);
        assert!((loss - 4.0_f64.ln()).abs() < 1e-12, "{loss}");
        assert_eq!(probabilities, [0.25; 4]);
        gradient(2, 2.0, &mut probabilities);
        assert_eq!(probabilities, [0.5, 0.5, -1.5, 0.5]);
    }

    #[test]
    fn large_logits_do_not_overflow_and_nan_does_not_vanish() {
        let mut probabilities = [0.0; 2];
        assert_eq!(cross_entropy(&[1e38, -1e38], 0, &mut probabilities), 0.0);
        assert!(cross_entropy(&[f32::INFINITY, 0.0], 0, &mut probabilities).is_nan());
        assert!(cross_entropy(&[0.0, f32::NAN], 0, &mut probabilities).is_nan());
        assert!(cross_entropy(&[f32::NAN, 0.0], 1, &mut probabilities).is_nan());
    }

    #[test]
    fn the_guess_is_the_first_of_the_largest() {
        assert_eq!(guess(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(guess(&[1.0, f32::NAN, 3.0, f32::NAN]), 1);
        assert_eq!(guess(&[-1.0]), 0);
    }
}
