//! Score-CAM: a layer's channels, weighted by the class's logit for the image masked with each.

use tch::{Kind, Tensor};

use super::grad_cam::weighted_sum;
use super::gradient::MOST_IMAGES;
use super::passes::Passes;
use super::planes;
use crate::forward::Program;
use crate::graph::{Graph, NodeId, Shape};
use crate::render::Map;

/// Prevents a division by 0 for a channel without contrast.
const EPSILON: f64 = 1e-8;

/// For each image a map of the layer's height and width: `relu(sum_k w_k * a_k)` over the channels `a_k` of the layer's
/// output, 0 or more. The image is multiplied by each channel in turn, enlarged to the image's size and stretched to
/// 0..1; `w_k` is the softmax over the channels of the target's logits for these images. No gradient is taken; an image
/// costs a forward pass for each channel.
///
/// Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks" (CVPR Workshops
/// 2020), algorithm 1. The paper subtracts a baseline image's logit from each, which the softmax cancels. As in
/// pytorch-grad-cam 1.5.7 channels are enlarged with `align_corners=True`.
///
/// Arguments, panics and layers without maps as for [`grad_cam`](fn@super::grad_cam).
pub fn score_cam(
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    node: NodeId,
    targets: &[usize],
) -> Vec<Map> {
    let mut passes = Passes::new(network, weights);
    by_passes(&mut passes, network, weights, images_nchw, node, targets)
}

/// [`score_cam`] with the caller's passes.
pub(super) fn by_passes(
    passes: &mut Passes<'_>,
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    node: NodeId,
    targets: &[usize],
) -> Vec<Map> {
    let Shape::Image(shape) = network.node(node).shape else {
        return Vec::new();
    };
    let program = Program::new(network, &[node]);
    let maps = targets.iter().enumerate().flat_map(|(number, &target)| {
        let image_1chw = images_nchw.narrow(0, number as i64, 1);
        let cam_1hw = tch::no_grad(|| {
            let maps_1khw = program.run(weights, &image_1chw).take(node);
            of_image(passes, &maps_1khw, &image_1chw, target)
        });
        planes(&cam_1hw, shape.height, shape.width)
    });
    maps.collect()
}

fn of_image(passes: &mut Passes<'_>, maps_1khw: &Tensor, image_1chw: &Tensor, target: usize) -> Tensor {
    let (channels, size) = (maps_1khw.size()[1], &image_1chw.size()[2..]);
    let masks_k1hw = maps_1khw.upsample_bilinear2d(size, true, None, None).transpose(0, 1);
    let space = [2_i64, 3];
    let (low, high) = (masks_k1hw.amin(space.as_slice(), true), masks_k1hw.amax(space.as_slice(), true));
    let masks_k1hw = (masks_k1hw - &low) / (high - low + EPSILON);
    let logits: Vec<f32> = (0..channels)
        .step_by(MOST_IMAGES)
        .flat_map(|start| {
            let masks = masks_k1hw.narrow(0, start, (channels - start).min(MOST_IMAGES as i64));
            passes.target_logits(&(image_1chw * masks), target)
        })
        .collect();
    let logits_k = Tensor::from_slice(&logits).to_device(maps_1khw.device());
    weighted_sum(&logits_k.softmax(0, Kind::Float).view([1, channels, 1, 1]), maps_1khw)
}
