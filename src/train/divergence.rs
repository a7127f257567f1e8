//! Divergence: a loss that is not finite or absurd, and the first layer with non-finite values.

use std::fmt;

use tch::{Kind, Tensor};

use crate::forward::Program;
use crate::graph::{Graph, Layer, NodeId, Role};

/// Images that are sent through the network at a time: their activations stay small, whatever the batch is.
const PIECE: i64 = 32;

/// A run that cannot be saved: the loss left every bound.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "training diverged: the loss is {loss:.4e} after step {iterations} (epoch {}){}; use a smaller learning rate",
    epoch + 1,
    first(non_finite)
)]
pub struct Divergence {
    /// Mean cross-entropy of the samples since the last look, in nats.
    pub loss: f64,
    /// Optimizer steps done, the one that diverged included.
    pub iterations: u64,
    /// Counted from 0.
    pub epoch: u64,
    /// Optimizer steps done when the loss was last seen to be fine: what ruined it came later.
    pub fine_until: u64,
    /// Non-finite values in the order of their computation: the first ones infected the others. None
    /// where the loss is merely too large.
    pub non_finite: Vec<NonFinite>,
}

/// NaN or infinite values among those of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// Keras's name, `conv2d_1`.
    pub layer: String,
    pub what: Part,
    /// Number of non-finite values; at least 1.
    pub count: u64,
    /// Of how many.
    pub of: u64,
}

/// A set of values that a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Parameter(Role),
    /// Output for a batch of images, after the ReLU if there is one.
    Output,
    /// Of the loss by the parameter.
    Gradient(Role),
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = &self.layer;
        match self.what {
            Part::Parameter(role) => write!(f, "{layer}'s {role}"),
            Part::Output => write!(f, "the output of {layer}"),
            Part::Gradient(role) => write!(f, "the gradient of {layer}'s {role}"),
        }
    }
}

fn first(non_finite: &[NonFinite]) -> String {
    non_finite.first().map_or_else(String::new, |first| format!("; the first non-finite values are in {first}"))
}

/// Non-finite values of a forward pass over images `N x C x H x W`, in its order: for each layer with weights the kernel,
/// the bias, then the output.
///
/// # Panics
/// If the weights or images do not have the network's shapes: a bug in the caller.
pub(super) fn in_forward_pass(network: &Graph, weights: &[Tensor], images_nchw: &Tensor) -> Vec<NonFinite> {
    let mut outputs = vec![Count::default(); network.layers().len()];
    let keep: Vec<NodeId> = network.layers().iter().map(|layer| layer.value).collect();
    let program = Program::new(network, &keep);
    tch::no_grad(|| {
        for piece_nchw in images_nchw.split(PIECE, 0) {
            let values = program.run(weights, &piece_nchw);
            for (count, &id) in outputs.iter_mut().zip(&keep) {
                count.add(values.get(id));
            }
        }
    });
    let mut parameters = network.parameters().iter().zip(weights).peekable();
    let mut found = Vec::new();
    // Layers without weights pass on what they are given.
    for (layer, output) in network.layers().iter().zip(outputs).filter(|(layer, _)| layer.parameter_count > 0) {
        while let Some((spec, weight)) = parameters.next_if(|(spec, _)| spec.layer == layer.name) {
            found.extend(Count::of(weight).non_finite(layer, Part::Parameter(spec.role)));
        }
        found.extend(output.non_finite(layer, Part::Output));
    }
    found
}

/// Non-finite values of the gradient, one tensor a parameter, in the order of the backward pass: from the logits back.
pub(super) fn in_backward_pass(network: &Graph, gradients: &[Tensor]) -> Vec<NonFinite> {
    let parameters = network.parameters().iter().zip(gradients).rev();
    let found = parameters.filter_map(|(spec, gradient)| {
        let layer = network.layer(&spec.layer)?;
        Count::of(gradient).non_finite(layer, Part::Gradient(spec.role))
    });
    found.collect()
}

/// Of values that are NaN or infinite, among all.
#[derive(Clone, Copy, Default)]
struct Count {
    count: u64,
    of: u64,
}

impl Count {
    fn of(values: &Tensor) -> Count {
        let mut count = Count::default();
        count.add(values);
        count
    }

    fn add(&mut self, values: &Tensor) {
        self.of += values.numel() as u64;
        self.count += values.isfinite().logical_not().sum(Kind::Int64).int64_value(&[]) as u64;
    }

    fn non_finite(self, layer: &Layer, what: Part) -> Option<NonFinite> {
        let Count { count, of } = self;
        (count > 0).then(|| NonFinite { layer: layer.name.clone(), what, count, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::types::{ImageShape, Seed};
    use crate::weights::Weights;
    use tch::Device;

    const SHAPE: ImageShape = ImageShape { height: 10, width: 10, channels: 1 };

    fn network() -> Graph {
        let architecture = Architecture { conv_filters: vec![2, 3], kernel_size: 3, dense_units: 4 };
        architecture.build(SHAPE, 2).unwrap()
    }

    /// The parameters with one value replaced.
    fn planted(network: &Graph, parameter: usize, value: f64) -> Vec<Tensor> {
        let parameters = Weights::initialise(network, Seed(1), Device::Cpu);
        let weights: Vec<Tensor> = parameters.views().iter().map(Tensor::contiguous).collect();
        let _ = weights[parameter].view(-1).get(0).fill_(value);
        weights
    }

    fn ones(count: i64) -> Tensor {
        Tensor::ones([count, 1, 10, 10], (Kind::Float, Device::Cpu))
    }

    fn texts(found: &[NonFinite]) -> Vec<String> {
        found.iter().map(|found| format!("{found}: {} of {}", found.count, found.of)).collect()
    }

    #[test]
    fn a_sound_network_has_nothing_to_find() {
        let network = network();
        let weights = planted(&network, 0, 0.5);
        assert_eq!(in_forward_pass(&network, &weights, &ones(3)), []);
        assert_eq!(in_backward_pass(&network, &weights), []);
    }

    #[test]
    fn a_planted_nan_is_found_first_and_its_infection_after_it() {
        let network = network();
        // Parameter 3 is the second convolution's bias: one of three channels, of 2x2 pixels, in 40 images.
        let found = in_forward_pass(&network, &planted(&network, 3, f64::NAN), &ones(40));
        let want = [
            "conv2d_1's bias: 1 of 3",
            "the output of conv2d_1: 160 of 480",
            "the output of dense: 160 of 160",
            "the output of dense_1: 80 of 80",
        ];
        assert_eq!(texts(&found), want);
    }

    #[test]
    fn an_output_overflows_though_its_weights_are_finite() {
        let network = network();
        let weights = planted(&network, 1, 1e38);
        let weights: Vec<Tensor> = weights.iter().map(|weight| weight.abs() * 100.0).collect();
        let found = in_forward_pass(&network, &weights, &ones(1));
        assert_eq!(found[0].to_string(), "conv2d's bias", "1e40 is no f32");
        let weights = planted(&network, 1, 1e38);
        let weights: Vec<Tensor> = weights.iter().map(Tensor::abs).map(|weight| weight.clamp_min(5.0)).collect();
        let found = in_forward_pass(&network, &weights, &ones(1));
        assert_eq!(found[0].to_string(), "the output of conv2d_1");
    }

    #[test]
    fn gradients_are_searched_from_the_logits_back() {
        let network = network();
        let mut gradients = planted(&network, 2, f64::INFINITY);
        assert_eq!(texts(&in_backward_pass(&network, &gradients)), ["the gradient of conv2d_1's kernel: 1 of 54"]);
        gradients[4] = &gradients[4] * f64::NAN;
        let found = in_backward_pass(&network, &gradients);
        assert_eq!(
            texts(&found),
            ["the gradient of dense's kernel: 12 of 12", "the gradient of conv2d_1's kernel: 1 of 54"]
        );
    }

    #[test]
    fn the_message_names_the_first() {
        let network = network();
        let mut divergence = Divergence {
            loss: f64::NAN,
            iterations: 120,
            fine_until: 119,
            epoch: 0,
            non_finite: in_backward_pass(&network, &planted(&network, 2, f64::NAN)),
        };
        assert_eq!(
            divergence.to_string(),
            "training diverged: the loss is NaN after step 120 (epoch 1); the first non-finite values are in the gradient \
             of conv2d_1's kernel; use a smaller learning rate"
        );
        divergence.non_finite.clear();
        divergence.loss = 2e6;
        assert_eq!(
            divergence.to_string(),
            "training diverged: the loss is 2.0000e6 after step 120 (epoch 1); use a smaller learning rate"
        );
    }
}
