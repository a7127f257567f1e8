//! Optimizers over one flat parameter buffer. Their state is ours, laid out like the parameters and on their device.
//!
//! Each update is the one of `torch.optim`, term by term, and is checked against its numbers. Element-wise work on one
//! buffer gives the same bits whatever the number of threads.

use tch::Tensor;

/// Keras's default; PyTorch's is 1e-8. Added to the root of the second moment.
pub const EPSILON: f64 = 1e-7;
pub const BETA_1: f64 = 0.9;
pub const BETA_2: f64 = 0.999;

/// An update rule with its hyperparameters, all finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Kingma and Ba 2015; `weight_decay` is an L2 penalty, added to the gradient.
    Adam { weight_decay: f64 },
    /// Loshchilov and Hutter 2019; `weight_decay` shrinks the weights directly, scaled by the learning rate.
    AdamW { weight_decay: f64 },
    /// `velocity = momentum * velocity + gradient`, as PyTorch has it (no dampening, not Nesterov); L2 penalty.
    Sgd { momentum: f64, weight_decay: f64 },
}

/// An update rule and what it remembers.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    /// Updates done.
    steps: u64,
    /// First moment (Adam) or velocity (SGD with momentum): laid out like the parameters.
    first: Option<Tensor>,
    /// Second moment (Adam).
    second: Option<Tensor>,
}

impl Optimizer {
    /// A rule that has done no update yet, for parameters laid out like `flat`.
    pub fn new(rule: Rule, flat: &Tensor) -> Optimizer {
        let zeros = || Some(flat.zeros_like());
        let (first, second) = match rule {
            Rule::Adam { .. } | Rule::AdamW { .. } => (zeros(), zeros()),
            Rule::Sgd { momentum, .. } if momentum > 0.0 => (zeros(), None),
            Rule::Sgd { .. } => (None, None),
        };
        Optimizer { rule, steps: 0, first, second }
    }

    /// Updates done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What the rule remembers, under PyTorch's names; each laid out like the parameters.
    pub fn buffers(&self) -> Vec<(&'static str, &Tensor)> {
        let names: &[&'static str] = match self.rule {
            Rule::Adam { .. } | Rule::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
            Rule::Sgd { .. } => &["momentum_buffer"],
        };
        names.iter().copied().zip(self.first.iter().chain(&self.second)).collect()
    }

    /// Goes on after `steps` updates; [`Optimizer::buffers`] are to be filled with what they held then.
    pub fn go_on_after(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// Updates `flat` in place. `gradient` is laid out like it and is left as it was.
    pub fn update(&mut self, flat: &Tensor, gradient: &Tensor, learning_rate: f64) {
        self.steps += 1;
        let mut flat = flat.shallow_clone();
        tch::no_grad(|| match self.rule {
            Rule::Adam { weight_decay } => {
                let gradient = with_penalty(gradient, &flat, weight_decay);
                self.adam(&mut flat, &gradient, learning_rate);
            }
            Rule::AdamW { weight_decay } => {
                if weight_decay > 0.0 {
                    let _ = flat.g_mul_scalar_(1.0 - learning_rate * weight_decay);
                }
                self.adam(&mut flat, gradient, learning_rate);
            }
            Rule::Sgd { momentum, weight_decay } => {
                let gradient = with_penalty(gradient, &flat, weight_decay);
                let direction = match &mut self.first {
                    Some(velocity) => velocity.g_mul_scalar_(momentum).g_add_(&gradient),
                    None => gradient,
                };
                let _ = flat.g_add_(&(direction * -learning_rate));
            }
        });
    }

    fn adam(&mut self, flat: &mut Tensor, gradient: &Tensor, learning_rate: f64) {
        let (Some(first), Some(second)) = (&mut self.first, &mut self.second) else { return };
        let t = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (correction_1, correction_2) = (1.0 - BETA_1.powi(t), 1.0 - BETA_2.powi(t));
        let _ = first.lerp_(gradient, 1.0 - BETA_1);
        let _ = second.g_mul_scalar_(BETA_2).g_add_(&(gradient * gradient * (1.0 - BETA_2)));
        let mut denominator = second.sqrt();
        let _ = denominator.g_div_scalar_(correction_2.sqrt()).g_add_scalar_(EPSILON);
        let _ = flat.addcdiv_(&(&*first * (-learning_rate / correction_1)), &denominator);
    }
}

fn with_penalty(gradient: &Tensor, flat: &Tensor, weight_decay: f64) -> Tensor {
    if weight_decay > 0.0 { gradient + flat * weight_decay } else { gradient.shallow_clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `tests/golden/make_optim.py`.
    const GOLDEN: &str = include_str!("../tests/golden/optim.json");

    fn after_six_steps(rule: Rule, scale: f64) -> Vec<f32> {
        let values = |f: &dyn Fn(f64) -> f64| -> Tensor {
            Tensor::from_slice(&(0..12).map(|i| f(f64::from(i)) as f32).collect::<Vec<f32>>())
        };
        let flat = values(&f64::sin);
        let mut optimizer = Optimizer::new(rule, &flat);
        for t in 1..=6 {
            let gradient = values(&|i| (i * f64::from(t)).cos() * scale);
            let before = gradient.copy();
            optimizer.update(&flat, &gradient, 0.01);
            assert_eq!(gradient, before, "the gradient is left as it was");
        }
        Vec::try_from(&flat).unwrap()
    }

    #[test]
    fn updates_are_torch_optims() {
        let golden: std::collections::BTreeMap<String, Vec<f32>> = serde_json::from_str(GOLDEN).unwrap();
        let rules = [
            ("adam", Rule::Adam { weight_decay: 0.0 }),
            ("adam, gradients of 1e-7", Rule::Adam { weight_decay: 0.0 }),
            ("adam, weight decay 0.1", Rule::Adam { weight_decay: 0.1 }),
            ("adamw, weight decay 0.1", Rule::AdamW { weight_decay: 0.1 }),
            ("sgd", Rule::Sgd { momentum: 0.0, weight_decay: 0.0 }),
            ("sgd, momentum 0.9", Rule::Sgd { momentum: 0.9, weight_decay: 0.0 }),
            ("sgd, momentum 0.9, weight decay 0.1", Rule::Sgd { momentum: 0.9, weight_decay: 0.1 }),
        ];
        assert_eq!(golden.len(), rules.len());
        for (name, rule) in rules {
            // Gradients as small as epsilon are where its value, and where it is added, show.
            let scale = if name.ends_with("1e-7") { 1e-7 } else { 1.0 };
            for (ours, torch) in after_six_steps(rule, scale).iter().zip(&golden[name]) {
                assert!((ours - torch).abs() <= 1e-6, "{name}: {ours} and torch's {torch}");
            }
        }
    }
}
