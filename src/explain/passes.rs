//! Forward and backward passes of one network with fixed weights, for methods that need hundreds of them.

use tch::Tensor;

use crate::forward::{self, gradients_of_sum, leaf};
use crate::fused::{FusedNetwork, Workspace};
use crate::graph::Graph;
use crate::types::ImageShape;
use crate::weights::host_values;

/// Outputs for images, and gradients by their pixels: logits, or the filters of a [`Part`](crate::graph::Part)
/// (`filters x H x W`). On the CPU a [`FusedNetwork`] computes them, in a fraction of
/// libtorch's time; libtorch does on other devices, and for networks that [`FusedNetwork`] does not support.
pub(super) struct Passes<'a> {
    network: &'a Graph,
    weights: &'a [Tensor],
    quick: Option<Quick>,
}

struct Quick {
    fused: FusedNetwork,
    parameters: Vec<f32>,
    workspace: Workspace,
}

impl<'a> Passes<'a> {
    /// # Panics
    /// If the weights do not have the network's shapes: a bug in the caller.
    pub fn new(network: &'a Graph, weights: &'a [Tensor]) -> Passes<'a> {
        Passes { network, weights, quick: Quick::new(network, weights) }
    }

    /// Outputs for images `N x H x W x C`, one image after the other.
    ///
    /// # Panics
    /// If these are not whole images of the network, or more than one pass takes: a bug in the caller.
    pub fn answers(&mut self, images_nhwc: &[f32]) -> Vec<f32> {
        match &mut self.quick {
            Some(quick) => quick.answers(images_nhwc).to_vec(),
            None => tch::no_grad(|| host_values(&self.by_libtorch(&self.images_nchw(images_nhwc)))),
        }
    }

    /// Gradient of a weighted sum of the outputs by the images: `N x H x W x C`. `factors` receives the outputs and
    /// returns a weight for each.
    ///
    /// # Panics
    /// As for [`Passes::answers`], and if `factors` does not return one weight for each output: a bug in the caller.
    pub fn image_gradient(&mut self, images_nhwc: &[f32], factors: impl FnOnce(&[f32]) -> Vec<f32>) -> Vec<f32> {
        if let Some(quick) = &mut self.quick {
            let factors = factors(quick.answers(images_nhwc));
            let Quick { fused, parameters, workspace } = quick;
            fused.backward_to_images(parameters, &factors, workspace);
            return workspace.image_gradient().to_vec();
        }
        let images_nchw = leaf(&self.images_nchw(images_nhwc));
        let gradient_nchw = tch::with_grad(|| {
            let answers = self.by_libtorch(&images_nchw);
            let factors = Tensor::from_slice(&factors(&host_values(&answers))).to_device(answers.device());
            gradients_of_sum(&(&answers * factors.view_as(&answers)), &[&images_nchw]).swap_remove(0)
        });
        channels_last(&gradient_nchw)
    }

    /// Logit of a class for each of the images `N x C x H x W`.
    ///
    /// # Panics
    /// As for [`Passes::answers`], and if there is no such class: a bug in the caller.
    pub fn target_logits(&mut self, images_nchw: &Tensor, target: usize) -> Vec<f32> {
        let classes = self.network.classes();
        self.answers(&self.images_nhwc(images_nchw)).chunks_exact(classes.max(1)).map(|row| row[target]).collect()
    }

    /// Gradient of each image's logit of a class by that image, `N x C x H x W` on the device of the images.
    ///
    /// # Panics
    /// As for [`Passes::target_logits`].
    pub fn target_gradient(&mut self, images_nchw: &Tensor, target: usize) -> Tensor {
        let classes = self.network.classes();
        let of_target = |logits: &[f32]| one_hot(logits.len(), classes, std::iter::repeat(target));
        let gradient_nhwc = self.image_gradient(&self.images_nhwc(images_nchw), of_target);
        self.images_nchw(&gradient_nhwc).to_device(images_nchw.device())
    }

    fn images_nhwc(&self, images_nchw: &Tensor) -> Vec<f32> {
        let ImageShape { height, width, channels } = self.network.input();
        assert_eq!(
            images_nchw.size()[1..],
            [channels, height, width].map(|side| side as i64),
            "images of this network"
        );
        channels_last(images_nchw)
    }

    fn images_nchw(&self, images_nhwc: &[f32]) -> Tensor {
        let input = self.network.input();
        let [h, w, c] = [input.height, input.width, input.channels].map(|side| side as i64);
        let device = self.weights.first().map_or(tch::Device::Cpu, Tensor::device);
        Tensor::from_slice(images_nhwc).view([-1, h, w, c]).permute([0, 3, 1, 2]).to_device(device)
    }

    fn by_libtorch(&self, images_nchw: &Tensor) -> Tensor {
        forward::logits(self.network, self.weights, images_nchw)
    }
}

/// Weights of `logits` logits in rows of `classes`: 1 for the target of each row, else 0.
pub(super) fn one_hot(logits: usize, classes: usize, targets: impl Iterator<Item = usize>) -> Vec<f32> {
    let mut factors = vec![0.0; logits];
    factors.chunks_exact_mut(classes.max(1)).zip(targets).for_each(|(row, target)| row[target] = 1.0);
    factors
}

/// Values of images or kernels `N x C x H x W`, with the channels of a pixel adjacent.
fn channels_last(tensor_nchw: &Tensor) -> Vec<f32> {
    host_values(&tensor_nchw.permute([0, 2, 3, 1]))
}

impl Quick {
    fn new(network: &Graph, weights: &[Tensor]) -> Option<Quick> {
        if weights.iter().any(|weight| weight.device() != tch::Device::Cpu) {
            return None;
        }
        let fused = FusedNetwork::of(network)?;
        let mut parameters = vec![0.0; network.flat_len()];
        for (index, (range, spec)) in network.parameter_ranges().into_iter().zip(network.parameters()).enumerate() {
            let weight = &weights[index];
            assert_eq!(weight.size(), spec.shape, "{}", spec.path());
            let values = if weight.dim() == 4 { channels_last(weight) } else { host_values(weight) };
            parameters[range].copy_from_slice(&values);
        }
        let workspace = fused.workspace();
        Some(Quick { fused, parameters, workspace })
    }

    fn answers(&mut self, images_nhwc: &[f32]) -> &[f32] {
        self.workspace.load_images(images_nhwc);
        self.fused.forward(&self.parameters, &mut self.workspace);
        self.workspace.outputs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::tests::{formula_images, formula_weights, small};

    #[test]
    fn libtorch_leaves_nothing_behind_and_knows_classes_too() {
        let (network, shape) = small(3);
        let weights: Vec<Tensor> =
            formula_weights(&network).into_iter().map(|weight| weight.set_requires_grad(true)).collect();
        let images = formula_images(2, shape);
        let mut passes = Passes::new(&network, &weights);
        let own = (passes.target_logits(&images, 7), host_values(&passes.target_gradient(&images, 7)));
        passes.quick = None;
        let libtorchs = (passes.target_logits(&images, 7), passes.target_gradient(&images, 7));
        assert_eq!((libtorchs.0.len(), libtorchs.1.size()), (2, images.size()));
        assert!(!libtorchs.1.requires_grad() && weights.iter().all(|weight| !weight.grad().defined()));
        let off = |own: &[f32], libtorchs: &[f32]| {
            own.iter().zip(libtorchs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()))
        };
        assert!(off(&own.0, &libtorchs.0) < 1e-4 && off(&own.1, &host_values(&libtorchs.1)) < 1e-4);
    }

    #[test]
    #[should_panic(expected = "images of this network")]
    fn other_images_are_refused() {
        let (network, shape) = small(1);
        let turned = formula_images(1, shape).transpose(2, 3);
        Passes::new(&network, &formula_weights(&network)).target_logits(&turned, 0);
    }

    #[test]
    fn libtorch_says_the_same() {
        for colours in [1, 3] {
            let (network, shape) = small(colours);
            let weights = formula_weights(&network);
            let images = channels_last(&formula_images(3, shape));
            let up_to = |layer: &str, filters: usize| {
                network.up_to_filters(network.layer(layer).unwrap().node, filters, shape).unwrap().graph
            };
            for (outcome, network) in [
                ("logits", network.clone()),
                ("first filters", up_to("conv2d", 4)),
                ("second filters", up_to("conv2d_1", 6)),
            ] {
                let mut passes = Passes::new(&network, &weights);
                let ask = |passes: &mut Passes<'_>| {
                    let factors = |answers: &[f32]| answers.iter().map(|answer| 0.1 + answer.sin()).collect();
                    [passes.answers(&images), passes.image_gradient(&images, factors)]
                };
                assert!(passes.quick.is_some(), "{outcome}");
                let own = ask(&mut passes);
                passes.quick = None;
                for (own, libtorchs) in own.into_iter().zip(ask(&mut passes)) {
                    assert_eq!(own.len(), libtorchs.len(), "{outcome}");
                    let largest = libtorchs.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                    assert!(largest > 0.01, "{outcome}: zeros would prove nothing");
                    for (own, libtorchs) in own.iter().zip(&libtorchs) {
                        assert!((own - libtorchs).abs() <= 2e-5 * largest, "{outcome}: {own} and {libtorchs}");
                    }
                }
            }
        }
    }
}
