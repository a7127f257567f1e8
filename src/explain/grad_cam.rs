//! Grad-CAM, Grad-CAM++ and LayerCAM: a layer's channels, weighted by the gradient of a class's logit.
//!
//! All three are `relu(sum_k w_k * a_k)` over the channels `a_k` of a node's value, in general that of a ReLU, raw and not
//! normalised: 0 or more, all 0 if nothing supports the class. `g_k` is the gradient of the target class's logit by
//! `a_k`. They differ in the weight `w_k`, and agree with pytorch-grad-cam 1.5.7, whose `__call__` then stretches
//! each map to 0..1 and to the size of the image.

use tch::{Kind, Tensor};

use super::gradient::{MOST_IMAGES, node_gradients};
use super::planes;
use crate::graph::{Graph, NodeId, Shape};
use crate::render::Map;
use crate::types::ImageShape;

/// Rows and columns of `N x K x H x W`.
const SPACE: &[i64] = &[2, 3];
/// Added to the denominator of Grad-CAM++ as in pytorch-grad-cam; the paper's denominator can be 0.
const EPSILON: f64 = 1e-6;

/// Grad-CAM: for each image a map of the layer's height and width. The weight of a channel is the mean of `g_k`.
///
/// Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (ICCV 2017).
///
/// `images_nchw` is `N x C x H x W`, `node` any node, `targets` one class for each image. The result is
/// empty if the node's value has no maps.
///
/// # Panics
/// If `targets` is not one class of the network for each image, or the weights or images do not have the network's
/// shapes: a bug in the caller.
pub fn grad_cam(
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    node: NodeId,
    targets: &[usize],
) -> Vec<Map> {
    NodeGradients::of(network, weights, images_nchw, node, targets).map_or_else(Vec::new, |found| found.grad_cam())
}

/// [`grad_cam`] for two classes of each image with one forward pass: the maps for the first targets, then those for
/// the second. Arguments and panics as for [`grad_cam`].
pub fn grad_cam_pair(
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    node: NodeId,
    targets: [&[usize]; 2],
) -> [Vec<Map>; 2] {
    let found = NodeGradients::of_each(network, weights, images_nchw, node, targets);
    found.map_or_else(Default::default, |found| found.map(|found| found.grad_cam()))
}

/// Grad-CAM++: for each image a map of the layer's height and width. The weight of a channel is the sum over its
/// pixels of `alpha * relu(g)`, with `alpha = g^2 / (2 g^2 + g^3 * sum(a_k))`.
///
/// Chattopadhay et al., "Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks"
/// (WACV 2018), equations 10 to 19, for a score that is the exponential of the logit. `alpha` is 0 where `g` is, and
/// its denominator is 1e-6 larger, as in pytorch-grad-cam. Arguments and panics as for [`grad_cam`].
pub fn grad_cam_plus_plus(
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    node: NodeId,
    targets: &[usize],
) -> Vec<Map> {
    let found = NodeGradients::of(network, weights, images_nchw, node, targets);
    found.map_or_else(Vec::new, |found| found.grad_cam_plus_plus())
}

/// LayerCAM: for each image a map of the layer's height and width. Each pixel has a weight of its own, `relu(g)`.
///
/// Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization" (IEEE TIP 2021), equations
/// 5 and 6. Arguments and panics as for [`grad_cam`].
pub fn layer_cam(
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    node: NodeId,
    targets: &[usize],
) -> Vec<Map> {
    NodeGradients::of(network, weights, images_nchw, node, targets).map_or_else(Vec::new, |found| found.layer_cam())
}

/// Value of a node for some images, and its gradient: the input of all three methods.
pub(super) struct NodeGradients {
    shape: ImageShape,
    /// `N x K x H x W` each, one pair for each pass.
    pieces: Vec<(Tensor, Tensor)>,
}

impl NodeGradients {
    /// `None` if the node's value has no maps.
    pub fn of(
        network: &Graph,
        weights: &[Tensor],
        images_nchw: &Tensor,
        node: NodeId,
        targets: &[usize],
    ) -> Option<NodeGradients> {
        let [found] = NodeGradients::of_each(network, weights, images_nchw, node, [targets])?;
        Some(found)
    }

    /// One for each list of targets, all for the same images.
    fn of_each<const N: usize>(
        network: &Graph,
        weights: &[Tensor],
        images_nchw: &Tensor,
        node: NodeId,
        targets: [&[usize]; N],
    ) -> Option<[NodeGradients; N]> {
        let Shape::Image(shape) = network.node(node).shape else {
            return None;
        };
        let images = images_nchw.size()[0] as usize;
        assert!(targets.iter().all(|targets| targets.len() == images), "a target for each image");
        let mut found = targets.map(|_| NodeGradients { shape, pieces: Vec::new() });
        for start in (0..images).step_by(MOST_IMAGES) {
            let own = start..images.min(start + MOST_IMAGES);
            let piece_nchw = images_nchw.narrow(0, start as i64, own.len() as i64);
            let targets = targets.map(|targets| &targets[own.clone()]);
            let (maps_nkhw, gradients_nkhw) = node_gradients(network, weights, &piece_nchw, node, &targets);
            for (found, gradient_nkhw) in found.iter_mut().zip(gradients_nkhw) {
                found.pieces.push((maps_nkhw.shallow_clone(), gradient_nkhw));
            }
        }
        Some(found)
    }

    /// See [`fn@grad_cam`].
    pub fn grad_cam(&self) -> Vec<Map> {
        self.each(|_, gradient_nkhw| gradient_nkhw.mean_dim(SPACE, true, Kind::Float))
    }

    /// See [`fn@grad_cam_plus_plus`].
    pub fn grad_cam_plus_plus(&self) -> Vec<Map> {
        self.each(|maps_nkhw, gradient_nkhw| {
            let square = gradient_nkhw * gradient_nkhw;
            let cube = &square * gradient_nkhw;
            let activity_nk11 = maps_nkhw.sum_dim_intlist(SPACE, true, Kind::Float);
            // The epsilon makes this 0, not NaN, where the gradient is 0.
            let alpha = &square / (&square * 2.0 + activity_nk11 * cube + EPSILON);
            (alpha * gradient_nkhw.relu()).sum_dim_intlist(SPACE, true, Kind::Float)
        })
    }

    /// See [`fn@layer_cam`].
    pub fn layer_cam(&self) -> Vec<Map> {
        self.each(|_, gradient_nkhw| gradient_nkhw.relu())
    }

    /// `relu(sum_k w_k * a_k)`, with weights computed from a layer's output and its gradient.
    fn each(&self, channel_weights: impl Fn(&Tensor, &Tensor) -> Tensor) -> Vec<Map> {
        let maps = self.pieces.iter().flat_map(|(maps_nkhw, gradient_nkhw)| {
            let cam_nhw = tch::no_grad(|| weighted_sum(&channel_weights(maps_nkhw, gradient_nkhw), maps_nkhw));
            planes(&cam_nhw, self.shape.height, self.shape.width)
        });
        maps.collect()
    }
}

/// `relu(sum_k w_k * a_k)`: `N x H x W`.
pub(super) fn weighted_sum(weights_nk: &Tensor, maps_nkhw: &Tensor) -> Tensor {
    (weights_nk * maps_nkhw).sum_dim_intlist([1_i64].as_slice(), false, Kind::Float).relu()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::tests::{formula_images, formula_weights, small};
    use crate::forward;
    use crate::model::Architecture;
    use crate::weights::host_values;

    #[test]
    fn a_network_by_hand() {
        // conv 1x1 (weight 1), pool 2x2, dense (weight 2), logits (3, -1): the gradient of the first logit is 6 at
        // the maximum and 0 elsewhere, so its mean over the four pixels is 1.5; that of the second is negative.
        let architecture = Architecture { conv_filters: vec![1], kernel_size: 1, dense_units: 1 };
        let network = architecture.build(ImageShape { height: 2, width: 2, channels: 1 }, 2).unwrap();
        let weights = [
            Tensor::from_slice(&[1.0_f32]).view([1, 1, 1, 1]),
            Tensor::from_slice(&[0.0_f32]),
            Tensor::from_slice(&[2.0_f32]).view([1, 1]),
            Tensor::from_slice(&[0.0_f32]),
            Tensor::from_slice(&[3.0_f32, -1.0]).view([2, 1]),
            Tensor::from_slice(&[0.0_f32, 0.0]),
        ];
        let images = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]).view([2, 1, 2, 2]);
        let node = network.layer("conv2d").unwrap().value;
        let maps = grad_cam(&network, &weights, &images, node, &[0, 1]);
        assert_eq!(maps[0].values(), [1.5, 3.0, 4.5, 6.0]);
        assert_eq!(maps[1].values(), [0.0; 4], "nothing speaks for the second class");
    }

    #[test]
    fn pytorch_gets_the_same_maps() {
        // Written by tests/golden/make_grad_cam.py with PyTorch 2.13.
        let golden: serde_json::Value = serde_json::from_str(include_str!("../../tests/golden/grad_cam.json")).unwrap();
        let (network, shape) = small(3);
        let (weights, images) = (formula_weights(&network), formula_images(3, shape));
        for name in ["conv2d", "max_pooling2d", "conv2d_1"] {
            let node = network.layer(name).unwrap().value;
            let maps = grad_cam(&network, &weights, &images, node, &[7, 0, 3]);
            let got: Vec<f64> = maps.iter().flat_map(Map::values).map(|&v| f64::from(v)).collect();
            let want: Vec<f64> = golden[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            assert_eq!(got.len(), want.len(), "{name}");
            assert!(want.iter().any(|&v| v > 0.1), "{name}: a golden map of zeros would prove nothing");
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{name}: value {i}: got {got}, want {want}");
            }
        }
    }

    #[test]
    fn channel_weights_are_what_finite_differences_say() {
        let (network, shape) = small(3);
        let (weights, images) = (formula_weights(&network), formula_images(1, shape));
        let node = network.layer("conv2d_1").unwrap().value;
        let target = 3;
        let maps = forward::value(&network, node, &weights, &images);
        let logit = |maps: &Tensor| {
            host_values(&forward::replaced(&network, node, &weights, &images, |_| maps.shallow_clone()))[target]
        };
        let (_, channels, height, width) = maps.size4().unwrap();
        // Raising all pixels of a channel by h changes the logit by h times the sum of its gradient.
        let h = 1e-2;
        let mut cam = vec![0.0_f32; (height * width) as usize];
        for channel in 0..channels {
            let mut bump = vec![0.0_f32; (channels * height * width) as usize];
            let plane = (height * width) as usize;
            bump[channel as usize * plane..][..plane].fill(h);
            let bump = Tensor::from_slice(&bump).view([1, channels, height, width]);
            let slope = (logit(&(&maps + &bump)) - logit(&(&maps - &bump))) / (2.0 * h);
            let values = host_values(&maps.select(1, channel));
            for (cam, value) in cam.iter_mut().zip(values) {
                *cam += slope / plane as f32 * value;
            }
        }
        let got = &grad_cam(&network, &weights, &images, node, &[target])[0];
        for (got, want) in got.values().iter().zip(cam) {
            assert!((got - want.max(0.0)).abs() < 2e-3 * want.abs().max(1.0), "got {got}, want {want}");
        }
    }

    #[test]
    fn two_classes_at_once_are_each_of_them_alone() {
        let (network, shape) = small(3);
        // More images than go through the network at once.
        let (weights, images) = (formula_weights(&network), formula_images(MOST_IMAGES + 2, shape));
        let targets = [3, 5].map(|by| (0..MOST_IMAGES + 2).map(|i| i * by % 10).collect::<Vec<usize>>());
        let node = network.layer("conv2d_1").unwrap().value;
        let pair = grad_cam_pair(&network, &weights, &images, node, [&targets[0], &targets[1]]);
        for (targets, maps) in targets.iter().zip(&pair) {
            assert_eq!(*maps, grad_cam(&network, &weights, &images, node, targets));
        }
        assert_ne!(pair[0], pair[1]);
        let vector = network.layer("flatten").unwrap().value;
        assert_eq!(grad_cam_pair(&network, &weights, &images, vector, [&targets[0], &targets[1]]), [vec![], vec![]]);
    }

    #[test]
    fn a_node_without_maps_gives_none() {
        let (network, shape) = small(3);
        let (weights, images) = (formula_weights(&network), formula_images(1, shape));
        for layer in ["flatten", "dense", "dense_1"] {
            let node = network.layer(layer).unwrap().value;
            assert!(grad_cam(&network, &weights, &images, node, &[0]).is_empty(), "{layer}");
        }
    }
}
