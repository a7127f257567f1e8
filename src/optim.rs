//! Optimizers over one flat parameter buffer. Their state is ours, laid out like the parameters and on their device.
//!
//! Each update is the one of `torch.optim`, term by term, and is checked against its numbers. Element-wise work on one
//! buffer gives the same bits whatever the number of threads.

use std::ops::Range;

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

impl Rule {
    /// The same rule without weight decay.
    #[must_use]
    pub fn without_decay(self) -> Rule {
        match self {
            Rule::Adam { .. } => Rule::Adam { weight_decay: 0.0 },
            Rule::AdamW { .. } => Rule::AdamW { weight_decay: 0.0 },
            Rule::Sgd { momentum, .. } => Rule::Sgd { momentum, weight_decay: 0.0 },
        }
    }
}

/// A range of the flat buffer with settings of its own, as PyTorch's parameter groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub range: Range<usize>,
    /// True if the rule's weight decay applies.
    pub decays: bool,
}

/// An update rule with its state.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    /// In the order of their ranges, without overlaps.
    groups: Vec<Group>,
    /// Updates done.
    steps: u64,
    /// First moment (Adam) or velocity (SGD with momentum): laid out like the parameters.
    first: Option<Tensor>,
    /// Second moment (Adam).
    second: Option<Tensor>,
}

impl Optimizer {
    /// A rule before its first update, for parameters laid out like `flat`. All of them decay.
    pub fn new(rule: Rule, flat: &Tensor) -> Optimizer {
        Optimizer::of_groups(rule, flat, vec![Group { range: 0..flat.numel(), decays: true }])
    }

    /// As [`Optimizer::new`], for some groups. Ranges rise and do not overlap; values outside of them never change.
    pub fn of_groups(rule: Rule, flat: &Tensor, groups: Vec<Group>) -> Optimizer {
        let zeros = || Some(flat.zeros_like());
        let (first, second) = match rule {
            Rule::Adam { .. } | Rule::AdamW { .. } => (zeros(), zeros()),
            Rule::Sgd { momentum, .. } if momentum > 0.0 => (zeros(), None),
            Rule::Sgd { .. } => (None, None),
        };
        Optimizer { rule, groups, steps: 0, first, second }
    }

    /// Updates done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// State of the rule under PyTorch's names, each buffer laid out like the parameters.
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
        let corrections = corrections(self.steps);
        tch::no_grad(|| {
            for group in &self.groups {
                let own = |buffer: &Tensor| buffer.narrow(0, group.range.start as i64, group.range.len() as i64);
                let [first, second] = [&self.first, &self.second].map(|moment| moment.as_ref().map(own));
                let mut part = Part { flat: own(flat), gradient: own(gradient), first, second };
                part.update(group.rule(self.rule), corrections, learning_rate);
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
        let (mut flat, gradient) = (floats_mut(flat)?, floats(gradient)?);
        self.steps += 1;
        // A rule without a moment has empty pieces of it.
        let [mut first, mut second] =
            [&mut self.first, &mut self.second].map(|moment| moment.as_mut().and_then(floats_mut).unwrap_or_default());
        let (mut pieces, mut start) = (Vec::new(), 0);
        for group in &self.groups {
            let terms = Terms::of(group.rule(self.rule), self.steps, learning_rate);
            let (gap, count) = (group.range.start - start, group.range.len());
            start = group.range.end;
            let [flat, first, second] = [&mut flat, &mut first, &mut second].map(|rest| take(rest, gap, count));
            let [mut first, mut second] = [first, second].map(|moment| moment.chunks_mut(len));
            for (flat, gradient) in flat.chunks_mut(len).zip(gradient[group.range.clone()].chunks(len)) {
                let (first, second) = (first.next().unwrap_or_default(), second.next().unwrap_or_default());
                pieces.push(Piece { terms, flat, gradient, first, second });
            }
        }
        Some(pieces)
    }
}

/// The first `count` values after a gap, split off from the rest of a buffer; none of an empty one.
fn take<'a>(rest: &mut &'a mut [f32], gap: usize, count: usize) -> &'a mut [f32] {
    let all = std::mem::take(rest);
    let all = all.split_at_mut_checked(gap).map_or_else(Default::default, |(_, after)| after);
    let Some((own, after)) = all.split_at_mut_checked(count) else { return Default::default() };
    *rest = after;
    own
}

impl Group {
    fn rule(&self, rule: Rule) -> Rule {
        if self.decays { rule } else { rule.without_decay() }
    }
}

/// The buffers of one group, for an update by libtorch.
struct Part {
    flat: Tensor,
    gradient: Tensor,
    first: Option<Tensor>,
    second: Option<Tensor>,
}

impl Part {
    fn update(&mut self, rule: Rule, corrections: (f64, f64), learning_rate: f64) {
        match rule {
            Rule::Adam { weight_decay } => {
                self.gradient = with_penalty(&self.gradient, &self.flat, weight_decay);
                self.adam(corrections, learning_rate);
            }
            Rule::AdamW { weight_decay } => {
                if weight_decay > 0.0 {
                    let _ = self.flat.g_mul_scalar_(1.0 - learning_rate * weight_decay);
                }
                self.adam(corrections, learning_rate);
            }
            Rule::Sgd { momentum, weight_decay } => {
                let gradient = with_penalty(&self.gradient, &self.flat, weight_decay);
                let direction = match &mut self.first {
                    Some(velocity) => velocity.g_mul_scalar_(momentum).g_add_(&gradient),
                    None => gradient,
                };
                let _ = self.flat.g_add_(&(direction * -learning_rate));
            }
        }
    }

    fn adam(&mut self, (correction_1, correction_2): (f64, f64), learning_rate: f64) {
        let Part { flat, gradient, first: Some(first), second: Some(second) } = self else { return };
        let _ = first.lerp_(gradient, 1.0 - BETA_1);
        let _ = second.g_mul_scalar_(BETA_2).g_add_(&(&*gradient * &*gradient * (1.0 - BETA_2)));
        let mut denominator = second.sqrt();
        let _ = denominator.g_div_scalar_(correction_2.sqrt()).g_add_scalar_(EPSILON);
        let _ = flat.addcdiv_(&(&*first * (-learning_rate / correction_1)), &denominator);
    }
}

/// A run of parameters with the buffers of their update.
pub(crate) struct Piece<'a> {
    terms: Terms,
    flat: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

/// Constants of one update, rounded as in libtorch.
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
    /// Updates the parameters. Called once.
    pub fn update(&mut self) {
        Arch::new().dispatch(Sweep(self));
    }
}

/// Update of a piece with the longest vectors of the processor. A closure would be compiled without them.
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

/// Adam's bias corrections after some steps: factors by which the moments are too small.
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

    /// By libtorch's operations, or in sweeps of five parameters. Of the groups, those at `bare` do not decay.
    fn after_six_steps(rule: Rule, scale: f64, sweeps: bool, bare: &[Range<usize>]) -> Vec<f32> {
        let values = |f: &dyn Fn(f64) -> f64| -> Tensor {
            Tensor::from_slice(&(0..12).map(|i| f(f64::from(i)) as f32).collect::<Vec<f32>>())
        };
        let mut flat = values(&f64::sin);
        let mut groups: Vec<Group> = bare.iter().map(|range| Group { range: range.clone(), decays: false }).collect();
        let starts: Vec<usize> = [0].into_iter().chain(bare.iter().map(|range| range.end)).collect();
        let ends = bare.iter().map(|range| range.start).chain([12]);
        groups.extend(starts.into_iter().zip(ends).map(|(start, end)| Group { range: start..end, decays: true }));
        groups.sort_by_key(|group| group.range.start);
        let mut optimizer = Optimizer::of_groups(rule, &flat, groups);
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
                for (ours, torch) in after_six_steps(rule, scale, sweeps, &[]).iter().zip(&golden[name]) {
                    assert!((ours - torch).abs() <= 1e-6, "{name}, sweeps {sweeps}: {ours} and torch's {torch}");
                }
            }
        }
    }

    /// No value depends on another, so torch.optim gives a parameter of a group without decay what it gives it alone.
    #[test]
    fn groups_without_decay_are_updated_as_if_there_were_none() {
        let golden: std::collections::BTreeMap<String, Vec<f32>> = serde_json::from_str(GOLDEN).unwrap();
        let decay = 0.1;
        for (with, without, rule) in [
            ("adam, weight decay 0.1", "adam", Rule::Adam { weight_decay: decay }),
            ("adamw, weight decay 0.1", "adam", Rule::AdamW { weight_decay: decay }),
            (
                "sgd, momentum 0.9, weight decay 0.1",
                "sgd, momentum 0.9",
                Rule::Sgd { momentum: 0.9, weight_decay: decay },
            ),
        ] {
            let bare = [2..4, 9..10];
            for sweeps in [false, true] {
                let ours = after_six_steps(rule, 1.0, sweeps, &bare);
                for (index, ours) in ours.iter().enumerate() {
                    let name = if bare.iter().any(|range| range.contains(&index)) { without } else { with };
                    let torch = golden[name][index];
                    assert!((ours - torch).abs() <= 1e-6, "{name}, sweeps {sweeps}, {index}: {ours}, torch's {torch}");
                }
            }
        }
    }

    #[test]
    fn what_no_group_holds_never_changes() {
        for sweeps in [false, true] {
            let (mut flat, gradient) = (Tensor::from_slice(&[1.0_f32; 6]), Tensor::from_slice(&[1.0_f32; 6]));
            let groups = [1..2, 4..5].map(|range| Group { range, decays: true }).to_vec();
            let mut optimizer = Optimizer::of_groups(Rule::Adam { weight_decay: 0.0 }, &flat, groups);
            match sweeps {
                true => optimizer.sweep(&mut flat, &gradient, 0.5, 5).unwrap().iter_mut().for_each(Piece::update),
                false => optimizer.update(&flat, &gradient, 0.5),
            }
            let values = Vec::<f32>::try_from(&flat).unwrap();
            let changed: Vec<bool> = values.iter().map(|&value| value != 1.0).collect();
            assert_eq!(changed, [false, true, false, false, true, false], "{values:?}");
        }
    }
}
