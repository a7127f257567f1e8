//! Guided backpropagation, alone and multiplied by Grad-CAM: gradients that pass each ReLU only if they are positive.

use tch::Tensor;

use super::channels;
use super::grad_cam::grad_cam;
use super::gradient::{leaf, of_sum, pieces};
use crate::model::Network;
use crate::render::{Map, MapError};
use crate::types::ImageShape;

/// For each image, one map per channel: the gradient of its target's logit by its pixels. On the way back each ReLU
/// passes only positive gradients, and only where it was active in the forward pass. Signed, because the way back
/// ends with the first convolution, after the last ReLU.
///
/// Springenberg et al., "Striving for Simplicity: The All Convolutional Net" (ICLR Workshop 2015), section 3.4. The
/// numbers are those of Captum 0.9's `GuidedBackprop`.
///
/// `images_nchw` is `N x C x H x W`, `targets` one class for each image.
///
/// # Panics
/// If `targets` is not one class of the network for each image, or the weights or images do not have the network's
/// shapes: a bug in the caller.
pub fn guided_backprop(
    network: &Network,
    weights: &[Tensor],
    images_nchw: &Tensor,
    targets: &[usize],
) -> Vec<Vec<Map>> {
    let attributions = pieces(images_nchw, targets).flat_map(|(images_nchw, targets)| {
        let gradient_nchw = tch::with_grad(|| gated_gradient(network, weights, &images_nchw, targets));
        channels(&gradient_nchw, network.input())
    });
    attributions.collect()
}

/// For each image, one map per channel: [`guided_backprop`] times [`grad_cam`] at a layer. The Grad-CAM map is
/// first enlarged bilinearly to the image's size. Signed. Empty if the layer's output has no maps.
///
/// Selvaraju et al. 2017, section 3.2. The numbers are those of Captum 0.9's `GuidedGradCam` with
/// `interpolate_mode="bilinear"`, as in the paper; Captum's default takes the nearest pixel. Arguments and panics as
/// for [`grad_cam`].
pub fn guided_grad_cam(
    network: &Network,
    weights: &[Tensor],
    images_nchw: &Tensor,
    layer: usize,
    targets: &[usize],
) -> Vec<Vec<Map>> {
    let cams = grad_cam(network, weights, images_nchw, layer, targets);
    if cams.is_empty() {
        return Vec::new();
    }
    products(&guided_backprop(network, weights, images_nchw, targets), &cams, network.input())
}

/// Each image's gradients times its Grad-CAM.
pub(super) fn products(gradients: &[Vec<Map>], cams: &[Map], shape: ImageShape) -> Vec<Vec<Map>> {
    let each = gradients.iter().zip(cams).map(|(channels, cam)| {
        let cam = cam.resized(shape.height, shape.width);
        channels.iter().flat_map(|channel| product(channel, &cam)).collect()
    });
    each.collect()
}

/// Gradient of the targets' logits by the images. The network is cut at each ReLU, to change the gradient between two
/// pieces.
fn gated_gradient(network: &Network, weights: &[Tensor], images_nchw: &Tensor, targets: &[usize]) -> Tensor {
    // Leaf at the start of each piece, and its output before the ReLU.
    let mut cuts: Vec<(Tensor, Tensor)> = Vec::new();
    let mut start = leaf(images_nchw);
    let mut x = start.shallow_clone();
    for (index, layer) in network.layers().iter().enumerate() {
        x = network.before_relu(index, weights, &x);
        if layer.kind.has_relu() {
            let active = leaf(&x.relu());
            cuts.push((std::mem::replace(&mut start, active), x));
            x = start.shallow_clone();
        }
    }
    let mut gradient = one_hot(&x, targets);
    gradient = of_sum(&(x * gradient), &start);
    while let Some((earlier, before_relu)) = cuts.pop() {
        gradient = gradient.relu().masked_fill(&start.le(0.0), 0.0);
        // The gradient of a sum weighted by the gradient so far: a vector-Jacobian product.
        gradient = of_sum(&(before_relu * gradient), &earlier);
        start = earlier;
    }
    gradient
}

/// `N x K`, as the logits: 1 at each row's target, else 0.
fn one_hot(logits_nk: &Tensor, targets: &[usize]) -> Tensor {
    let targets: Vec<i64> = targets.iter().map(|&target| target as i64).collect();
    let targets_n1 = Tensor::from_slice(&targets).to_device(logits_nk.device()).unsqueeze(1);
    logits_nk.detach().zeros_like().scatter_value(1, &targets_n1, 1.0)
}

/// Pixelwise product of maps of one size.
fn product(a: &Map, b: &Map) -> Result<Map, MapError> {
    Map::new(a.height(), a.width(), a.values().iter().zip(b.values()).map(|(a, b)| a * b).collect())
}
