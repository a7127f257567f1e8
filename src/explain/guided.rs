//! Guided backpropagation, alone and multiplied by Grad-CAM: gradients that pass each ReLU only if they are positive.

use tch::Tensor;

use super::channels;
use super::grad_cam::grad_cam;
use super::gradient::pieces;
use crate::forward::Tape;
use crate::graph::{Activation, Graph, Node, NodeId, Op};
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
pub fn guided_backprop(network: &Graph, weights: &[Tensor], images_nchw: &Tensor, targets: &[usize]) -> Vec<Vec<Map>> {
    let attributions = pieces(images_nchw, targets).flat_map(|(images_nchw, targets)| {
        let gradient_nchw = gated_gradient(network, weights, &images_nchw, targets);
        channels(&gradient_nchw, network.input())
    });
    attributions.collect()
}

/// For each image, one map per channel: [`guided_backprop`] times [`grad_cam`] at a node. The Grad-CAM map is
/// first enlarged bilinearly to the image's size. Signed. Empty if the node's value has no maps.
///
/// Selvaraju et al. 2017, section 3.2. The numbers are those of Captum 0.9's `GuidedGradCam` with
/// `interpolate_mode="bilinear"`, as in the paper; Captum's default takes the nearest pixel. Arguments and panics as
/// for [`grad_cam`].
pub fn guided_grad_cam(
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    node: NodeId,
    targets: &[usize],
) -> Vec<Vec<Map>> {
    let cams = grad_cam(network, weights, images_nchw, node, targets);
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

/// Gradient of the targets' logits by the images. At each ReLU negative gradients become 0.
fn gated_gradient(network: &Graph, weights: &[Tensor], images_nchw: &Tensor, targets: &[usize]) -> Tensor {
    let tape = Tape::record(network, weights, images_nchw);
    let gate = |node: &Node, gradient: Tensor| match node.op {
        Op::Activation(Activation::Relu) => gradient.relu(),
        _ => gradient,
    };
    tape.backward(&one_hot(&tape.logits(), targets), gate)
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
