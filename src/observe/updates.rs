//! Gradient norms and update-to-weight ratios of each layer.

use std::borrow::Cow;

use tch::Tensor;

use super::{Record, scalar};
use crate::eventlog::Value;
use crate::floats::floats;
use crate::graph::Role;
use crate::train::{Divergence, Memories, MemoryError, Moment, Observer};
use crate::types::{Run, Step};
use crate::weights::host_values;

const TOTAL: &str = "Euclidean norm of the gradient of the last step's mean loss, over all parameters; at least 0. It falls \
    as training settles. Sudden peaks come before divergence, 0 means that nothing is learned any more.";

/// Gradient norms and update-to-weight ratios of the last step, layer by layer, against the number of steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Updates {
    /// The step that was last reported: a step and the end of its epoch are two moments.
    reported: u64,
}

impl Observer<Record> for Updates {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        // A step that was left out has moved nothing.
        if moment.iterations > self.reported && !moment.skipped {
            self.reported = moment.iterations;
            out.push(Run::Steps, Step::new(moment.iterations).unwrap_or(Step::MAX), values(moment));
        }
    }

    fn compares(&self) -> bool {
        true
    }

    fn diverged(&mut self, moment: &Moment<'_>, _: &Divergence, out: &mut Record) {
        self.observe(moment, out);
    }

    fn remember(&self, memories: &mut Memories) {
        memories.put("updates", &self.reported);
    }

    fn recall(&mut self, memories: &Memories) -> Result<(), MemoryError> {
        self.reported = memories.get("updates")?.unwrap_or_default();
        Ok(())
    }
}

fn values(moment: &Moment<'_>) -> Vec<Value> {
    let parameters = moment.parameters;
    let [gradient, weights, previous] = [moment.gradient, parameters.flat(), moment.previous].map(host);
    let changes = || parameters.trained().specs().iter().zip(parameters.ranges());
    let norms: Vec<Norms> =
        changes().map(|(_, at)| Norms::of(&gradient[at.clone()], &weights[at.clone()], &previous[at])).collect();

    let total = length(norms.iter().map(|norms| norms.gradient));
    let mut values = vec![scalar("gradient_norm", total, TOTAL.to_owned())];
    let layers = moment.network.layers().iter().filter(|layer| layer.parameter_count > 0);
    values.extend(layers.map(|layer| {
        let own = changes().zip(&norms).filter(|((spec, _), _)| spec.layer == layer.name);
        let description = format!(
            "Euclidean norm of the last step's gradient by kernel and bias of layer `{}`; at least 0. Layers should be \
             within a few orders of magnitude of each other: first layers far below the last ones mean that gradients \
             vanish on the way back, far above that they explode.",
            layer.name
        );
        scalar(
            format!("layers/gradient_norm/{}", layer.name),
            length(own.map(|(_, norms)| norms.gradient)),
            description,
        )
    }));
    for ((spec, _), norms) in changes().zip(&norms) {
        // A bias starts at 0: what it is divided by says nothing. And a step that ends the run is not taken.
        if spec.role == Role::Kernel && norms.previous != 0.0 && total.is_finite() {
            let description = format!(
                "Length of the last update of the kernel of layer `{}` divided by the length of the kernel before it; at \
                 least 0. About **0.001** is healthy. Far below, the layer hardly learns and the learning rate may be \
                 larger; above 0.01, training may be unstable. A logarithmic axis shows it best.",
                spec.layer
            );
            values.push(scalar(
                format!("layers/update_ratio/{}", spec.layer),
                norms.step / norms.previous,
                description,
            ));
        }
    }
    // Counted only where a norm says that there is something to count.
    let count = |all: &[f32], norm: fn(&Norms) -> f64| -> usize {
        let suspects = changes().zip(&norms).filter(|(_, norms)| !norm(norms).is_finite());
        suspects.map(|((_, at), _)| all[at].iter().filter(|value| !value.is_finite()).count()).sum()
    };
    for (what, count) in
        [("gradients", count(&gradient, |norms| norms.gradient)), ("weights", count(&weights, |norms| norms.weights))]
    {
        let description =
            format!("How many of all {what} are NaN or infinite after the step. Anything but 0 is a fault.");
        values.push(scalar(format!("non_finite/{what}"), count as f64, description));
    }
    values
}

/// The values of a flat buffer, copied from where they cannot be read in place.
fn host(flat: &Tensor) -> Cow<'_, [f32]> {
    floats(flat).map_or_else(|| Cow::Owned(host_values(flat)), Cow::Borrowed)
}

/// Euclidean norms of one parameter, in double precision: of finite values they do not overflow.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Norms {
    gradient: f64,
    weights: f64,
    /// Of the weights before the step.
    previous: f64,
    /// Of the difference between the two.
    step: f64,
}

impl Norms {
    /// In one sweep, with whatever vectors the processor has: libtorch takes a sweep and a copy for each.
    fn of(gradient: &[f32], weights: &[f32], previous: &[f32]) -> Norms {
        let squares = pulp::Arch::new().dispatch(SumsOfSquares { gradient, weights, previous });
        let [gradient, weights, previous, step] = squares.map(f64::sqrt);
        Norms { gradient, weights, previous, step }
    }
}

/// Parts of a sum.
const LANES: usize = 8;

/// Of the three, and of the difference of the last two. Laid out in lanes, so that they are the same on every processor.
/// Dispatched as a structure: a closure's call would be compiled without this processor's vectors.
struct SumsOfSquares<'a> {
    gradient: &'a [f32],
    weights: &'a [f32],
    previous: &'a [f32],
}

impl pulp::NullaryFnOnce for SumsOfSquares<'_> {
    type Output = [f64; 4];

    #[inline(always)]
    fn call(self) -> [f64; 4] {
        let SumsOfSquares { gradient, weights, previous } = self;
        let (mut of_gradient, mut of_weights) = ([0.0; LANES], [0.0; LANES]);
        let (mut of_previous, mut of_step) = ([0.0; LANES], [0.0; LANES]);
        let ((gradients, gradient), (all_weights, weights), (all_previous, previous)) =
            (gradient.as_chunks::<LANES>(), weights.as_chunks::<LANES>(), previous.as_chunks::<LANES>());
        for ((gradient, weights), previous) in gradients.iter().zip(all_weights).zip(all_previous) {
            let [gradient, weights, previous] = [gradient, weights, previous].map(|values| values.map(f64::from));
            // One loop for each sum: of a loop over all of them no vectors would come.
            (0..LANES).for_each(|lane| of_gradient[lane] += gradient[lane] * gradient[lane]);
            (0..LANES).for_each(|lane| of_weights[lane] += weights[lane] * weights[lane]);
            (0..LANES).for_each(|lane| of_previous[lane] += previous[lane] * previous[lane]);
            (0..LANES).for_each(|lane| of_step[lane] += (weights[lane] - previous[lane]).powi(2));
        }
        for (lane, ((gradient, weight), previous)) in gradient.iter().zip(weights).zip(previous).enumerate() {
            let [gradient, weight, previous] = [gradient, weight, previous].map(|&value| f64::from(value));
            of_gradient[lane] += gradient * gradient;
            of_weights[lane] += weight * weight;
            of_previous[lane] += previous * previous;
            of_step[lane] += (weight - previous).powi(2);
        }
        [of_gradient, of_weights, of_previous, of_step].map(|lanes: [f64; LANES]| lanes.iter().sum())
    }
}

/// The norm of the whole, from those of its parts.
fn length(norms: impl Iterator<Item = f64>) -> f64 {
    norms.map(|norm| norm * norm).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::rehearse;
    use crate::train::ScheduledObserver;
    use crate::trigger::Trigger;

    #[test]
    fn a_step_is_reported_once_though_it_ends_an_epoch() {
        // Two epochs of three steps each.
        for (every_steps, steps) in [(2, &[2, 3, 4, 6][..]), (0, &[3, 6])] {
            let trigger = Trigger::every_steps(every_steps).or(Trigger::every_epochs(1));
            let (seen, _) = rehearse(vec![ScheduledObserver::new(trigger, Box::new(Updates::default()), "test")]);
            assert!(seen.iter().all(|seen| seen.run == Run::Steps && seen.described));
            let tags = [
                "gradient_norm",
                "layers/gradient_norm/conv2d",
                "layers/gradient_norm/dense",
                "layers/gradient_norm/dense_1",
                "layers/update_ratio/conv2d",
                "layers/update_ratio/dense",
                "layers/update_ratio/dense_1",
                "non_finite/gradients",
                "non_finite/weights",
            ];
            let got: Vec<_> = seen.iter().map(|seen| (seen.step, seen.tag.as_str())).collect();
            let want: Vec<_> = steps.iter().flat_map(|&step| tags.map(|tag| (step, tag))).collect();
            assert_eq!(got, want);
            for seen in &seen {
                let is_count = seen.tag.starts_with("non_finite");
                assert!(if is_count { seen.scalar() == 0.0 } else { seen.scalar() > 0.0 }, "{}", seen.tag);
            }
        }
    }

    #[test]
    fn norms_are_of_double_precision_and_of_every_value() {
        let norms = Norms::of(&[3.0, 0.0, -4.0], &[f32::MAX, f32::MAX, 0.0], &[f32::MAX, 0.0, 0.0]);
        assert_eq!((norms.gradient, norms.previous, norms.step), (5.0, f64::from(f32::MAX), f64::from(f32::MAX)));
        assert!(norms.weights.is_finite());
        assert!(!Norms::of(&[1.0, f32::NAN], &[0.0; 2], &[0.0; 2]).gradient.is_finite());
        for count in [1, 7, 8, 9, 31, 32] {
            let norms = Norms::of(&vec![2.0; count], &vec![5.0; count], &vec![4.0; count]);
            let want = [2.0, 5.0, 4.0, 1.0].map(|value: f64| (value * value * count as f64).sqrt());
            assert_eq!([norms.gradient, norms.weights, norms.previous, norms.step], want, "{count}");
        }
        assert_eq!(length([3.0, 4.0].into_iter()), 5.0);
    }
}
