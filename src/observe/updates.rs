//! How hard each step pulls at each layer: the gradient's norms, and how far the weights move.

use tch::{Kind, Tensor};

use super::{Findings, scalar};
use crate::eventlog::Value;
use crate::train::{Divergence, Memories, MemoryError, Moment, Observer};
use crate::types::{Run, Step};

const TOTAL: &str = "Euclidean norm of the gradient of the last step's mean loss, over all parameters; at least 0. It falls \
    as training settles. Sudden peaks come before divergence, 0 means that nothing is learned any more.";

/// Gradient norms and update-to-weight ratios of the last step, layer by layer, against the number of steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Updates {
    /// The step that was last reported: a step and the end of its epoch are two moments.
    reported: u64,
}

impl Observer<Findings> for Updates {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Findings) {
        if moment.iterations > self.reported {
            self.reported = moment.iterations;
            out.push(Run::Steps, Step::new(moment.iterations).unwrap_or(Step::MAX), values(moment));
        }
    }

    fn diverged(&mut self, moment: &Moment<'_>, _: &Divergence, out: &mut Findings) {
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
    let specs = parameters.specs();
    let gradients = parameters.views_of(moment.gradient);
    let step = tch::no_grad(|| parameters.flat() - moment.previous);
    let gradient_norms = norms(&gradients);
    let weight_norms = norms(parameters.views());
    let (steps, previous) = (norms(&parameters.views_of(&step)), norms(&parameters.views_of(moment.previous)));

    let total = length(&gradient_norms);
    let mut values = vec![scalar("gradient_norm", total, TOTAL.to_owned())];
    let layers = moment.network.layers().iter().filter(|layer| layer.parameter_count() > 0);
    values.extend(layers.map(|layer| {
        let own = specs.iter().zip(&gradient_norms).filter(|(spec, _)| spec.layer == layer.name);
        let own: Vec<f64> = own.map(|(_, &norm)| norm).collect();
        let description = format!(
            "Euclidean norm of the last step's gradient by kernel and bias of layer `{}`; at least 0. Layers should be \
             within a few orders of magnitude of each other: first layers far below the last ones mean that gradients \
             vanish on the way back, far above that they explode.",
            layer.name
        );
        scalar(format!("gradient_norm/{}", layer.name), length(&own), description)
    }));
    for ((spec, step), previous) in specs.iter().zip(steps).zip(previous) {
        // A bias starts at 0: what it is divided by says nothing. And a step that ends the run is not taken.
        if spec.role == "kernel" && previous != 0.0 && total.is_finite() {
            let description = format!(
                "Length of the last update of the kernel of layer `{}` divided by the length of the kernel before it; at \
                 least 0. About **0.001** is healthy. Far below, the layer hardly learns and the learning rate may be \
                 larger; above 0.01, training may be unstable. A logarithmic axis shows it best.",
                spec.layer
            );
            values.push(scalar(format!("update_ratio/{}", spec.layer), step / previous, description));
        }
    }
    for (what, tensors, norms) in
        [("gradients", &gradients[..], gradient_norms), ("weights", parameters.views(), weight_norms)]
    {
        let description =
            format!("How many of all {what} are NaN or infinite after the step. Anything but 0 is a fault.");
        values.push(scalar(format!("non_finite/{what}"), non_finite(tensors, &norms) as f64, description));
    }
    values
}

/// Euclidean norms, in double precision: of finite values they do not overflow.
fn norms(tensors: &[Tensor]) -> Vec<f64> {
    tch::no_grad(|| {
        let norms: Vec<Tensor> = tensors.iter().map(|tensor| tensor.norm_scalaropt_dtype(2, Kind::Double)).collect();
        let stacked = Tensor::stack(&norms, 0).to_device(tch::Device::Cpu);
        let mut out = vec![0.0; norms.len()];
        stacked.copy_data(&mut out, norms.len());
        out
    })
}

/// The norm of the whole, from those of its parts.
fn length(norms: &[f64]) -> f64 {
    norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt()
}

/// Counted only where the norm says that there is something to count.
fn non_finite(tensors: &[Tensor], norms: &[f64]) -> i64 {
    let suspects = tensors.iter().zip(norms).filter(|(_, norm)| !norm.is_finite());
    suspects.map(|(tensor, _)| tensor.isfinite().logical_not().sum(Kind::Int64).int64_value(&[])).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::rehearse;
    use crate::train::Watch;
    use crate::trigger::Trigger;

    #[test]
    fn a_step_is_reported_once_though_it_ends_an_epoch() {
        // Two epochs of three steps each.
        for (every_steps, steps) in [(2, &[2, 3, 4, 6][..]), (0, &[3, 6])] {
            let trigger = Trigger::every_steps(every_steps).or(Trigger::every_epochs(1));
            let (seen, _) = rehearse(vec![Watch::new(trigger, Box::new(Updates::default()), "test")]);
            assert!(seen.iter().all(|seen| seen.run == Run::Steps && seen.described));
            let tags = [
                "gradient_norm",
                "gradient_norm/conv2d",
                "gradient_norm/dense",
                "gradient_norm/dense_1",
                "update_ratio/conv2d",
                "update_ratio/dense",
                "update_ratio/dense_1",
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
    fn norms_are_of_double_precision_and_counts_of_what_is_no_number() {
        let tensors = [
            Tensor::from_slice(&[3.0_f32, 0.0, -4.0]),
            Tensor::from_slice(&[f32::MAX, f32::MAX]),
            Tensor::from_slice(&[f32::NAN, 1.0, f32::INFINITY]),
        ];
        let norms = norms(&tensors);
        assert_eq!(norms[0], 5.0);
        assert!(norms[1].is_finite() && !norms[2].is_finite());
        assert_eq!(non_finite(&tensors, &norms), 2);
        assert_eq!(length(&[3.0, 4.0]), 5.0);
    }
}
