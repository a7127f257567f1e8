//! Optimizers over one flat parameter buffer. Their state is ours, laid out like the parameters and on their device.
//!
//! Each update is the one of `torch.optim`, term by term, and is checked against its numbers. Element-wise work on one
//! buffer gives the same bits whatever the number of threads.

use pulp::Arch;
use tch::Tensor;

use crate::floats::{floats, floats_mut};

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

    /// The same update of a buffer on the CPU in one sweep: pieces of `len` parameters each, to be updated in any order by
    /// anybody. None on other devices, where nothing has happened yet.
    pub(crate) fn sweep<'a>(
        &'a mut self,
        flat: &'a mut Tensor,
        gradient: &'a Tensor,
        learning_rate: f64,
        len: usize,
    ) -> Option<Vec<Piece<'a>>> {
        let (flat, gradient) = (floats_mut(flat)?, floats(gradient)?);
        self.steps += 1;
        let terms = Terms::of(self.rule, self.steps, learning_rate);
        // A rule without a moment has pieces of it, too: empty ones.
        let [mut first, mut second] = [&mut self.first, &mut self.second]
            .map(|moment| moment.as_mut().and_then(floats_mut).unwrap_or_default().chunks_mut(len));
        let pieces = flat.chunks_mut(len).zip(gradient.chunks(len));
        Some(
            pieces
                .map(|(flat, gradient)| {
                    let (first, second) = (first.next().unwrap_or_default(), second.next().unwrap_or_default());
                    Piece { terms, flat, gradient, first, second }
                })
                .collect(),
        )
    }

    fn adam(&mut self, flat: &mut Tensor, gradient: &Tensor, learning_rate: f64) {
        let (Some(first), Some(second)) = (&mut self.first, &mut self.second) else { return };
        let (correction_1, correction_2) = corrections(self.steps);
        let _ = first.lerp_(gradient, 1.0 - BETA_1);
        let _ = second.g_mul_scalar_(BETA_2).g_add_(&(gradient * gradient * (1.0 - BETA_2)));
        let mut denominator = second.sqrt();
        let _ = denominator.g_div_scalar_(correction_2.sqrt()).g_add_scalar_(EPSILON);
        let _ = flat.addcdiv_(&(&*first * (-learning_rate / correction_1)), &denominator);
    }
}

/// Some parameters in a row, with all that their update needs.
pub(crate) struct Piece<'a> {
    terms: Terms,
    flat: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

/// A rule in the numbers of one update, rounded where libtorch rounds them.
#[derive(Clone, Copy)]
enum Terms {
    Adam { penalty: f32, shrink: f32, rate: f32, root_correction: f32 },
    Sgd { penalty: f32, momentum: f32, rate: f32 },
}

impl Terms {
    fn of(rule: Rule, steps: u64, learning_rate: f64) -> Terms {
        let (correction_1, correction_2) = corrections(steps);
        let (rate, root_correction) = ((-learning_rate / correction_1) as f32, (1.0 / correction_2.sqrt()) as f32);
        match rule {
            Rule::Adam { weight_decay } => {
                Terms::Adam { penalty: weight_decay as f32, shrink: 1.0, rate, root_correction }
            }
            Rule::AdamW { weight_decay } => {
                let shrink = (1.0 - learning_rate * weight_decay) as f32;
                Terms::Adam { penalty: 0.0, shrink, rate, root_correction }
            }
            Rule::Sgd { momentum, weight_decay } => {
                Terms::Sgd { penalty: weight_decay as f32, momentum: momentum as f32, rate: -learning_rate as f32 }
            }
        }
    }
}

impl Piece<'_> {
    /// Done once.
    pub fn update(&mut self) {
        Arch::new().dispatch(Sweep(self));
    }
}

/// The update of a piece with whatever vectors the processor has. A closure would not do: its call is compiled without them.
struct Sweep<'a, 'b>(&'a mut Piece<'b>);

impl pulp::NullaryFnOnce for Sweep<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Piece { terms, flat, gradient, first, second } = self.0;
        let parameters = flat.iter_mut().zip(*gradient);
        match *terms {
            Terms::Adam { penalty, shrink, rate, root_correction } => {
                let (decay_1, decay_2) = ((1.0 - BETA_1) as f32, (1.0 - BETA_2) as f32);
                let (beta_2, epsilon) = (BETA_2 as f32, EPSILON as f32);
                for (((flat, gradient), first), second) in parameters.zip(&mut **first).zip(&mut **second) {
                    *flat *= shrink;
                    let gradient = gradient + *flat * penalty;
                    *first += decay_1 * (gradient - *first);
                    *second = *second * beta_2 + gradient * gradient * decay_2;
                    *flat += *first * rate / (second.sqrt() * root_correction + epsilon);
                }
            }
            Terms::Sgd { penalty, momentum, rate } if momentum > 0.0 => {
                for ((flat, gradient), first) in parameters.zip(&mut **first) {
                    *first = *first * momentum + (gradient + *flat * penalty);
                    *flat += *first * rate;
                }
            }
            Terms::Sgd { penalty, rate, .. } => {
                for (flat, gradient) in parameters {
                    *flat += (gradient + *flat * penalty) * rate;
                }
            }
        }
    }
}

/// What the moments of Adam lack after so many steps from zero: the factors by which they are too small.
fn corrections(steps: u64) -> (f64, f64) {
    let t = i32::try_from(steps).unwrap_or(i32::MAX);
    (1.0 - BETA_1.powi(t), 1.0 - BETA_2.powi(t))
}

fn with_penalty(gradient: &Tensor, flat: &Tensor, weight_decay: f64) -> Tensor {
    if weight_decay > 0.0 { gradient + flat * weight_decay } else { gradient.shallow_clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `tests/golden/make_optim.py`.
    const GOLDEN: &str = include_str!("../tests/golden/optim.json");

    /// By libtorch's operations, or in sweeps of five parameters.
    fn after_six_steps(rule: Rule, scale: f64, sweeps: bool) -> Vec<f32> {
        let values = |f: &dyn Fn(f64) -> f64| -> Tensor {
            Tensor::from_slice(&(0..12).map(|i| f(f64::from(i)) as f32).collect::<Vec<f32>>())
        };
        let mut flat = values(&f64::sin);
        let mut optimizer = Optimizer::new(rule, &flat);
        for t in 1..=6 {
            let gradient = values(&|i| (i * f64::from(t)).cos() * scale);
            let before = gradient.copy();
            if sweeps {
                optimizer.sweep(&mut flat, &gradient, 0.01, 5).unwrap().iter_mut().for_each(Piece::update);
            } else {
                optimizer.update(&flat, &gradient, 0.01);
            }
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
            for sweeps in [false, true] {
                for (ours, torch) in after_six_steps(rule, scale, sweeps).iter().zip(&golden[name]) {
                    assert!((ours - torch).abs() <= 1e-6, "{name}, sweeps {sweeps}: {ours} and torch's {torch}");
                }
            }
        }
    }
}
