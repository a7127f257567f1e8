//! Logits of target classes, and their gradient by the output of a layer.

use tch::{Kind, Tensor};

use crate::model::Network;

/// Maximum number of images in one pass. Bounds the memory of every method.
pub(super) const MOST_IMAGES: usize = 128;

/// Pieces of a batch, each with its targets and small enough for one pass.
pub(super) fn pieces<'a>(images_nchw: &Tensor, targets: &'a [usize]) -> impl Iterator<Item = (Tensor, &'a [usize])> {
    targets.chunks(MOST_IMAGES).enumerate().map(move |(number, targets)| {
        (images_nchw.narrow(0, (number * MOST_IMAGES) as i64, targets.len() as i64), targets)
    })
}

/// Logit of each image's target: `N`.
fn target_logits(logits_nk: &Tensor, targets: &[usize]) -> Tensor {
    let targets: Vec<i64> = targets.iter().map(|&target| target as i64).collect();
    let targets_n1 = Tensor::from_slice(&targets).to_device(logits_nk.device()).unsqueeze(1);
    logits_nk.gather(1, &targets_n1, false).squeeze_dim(1)
}

/// Output of layer number `layer`, and for each list of targets the gradient of each image's target logit by that
/// output. One forward pass serves all lists.
pub(super) fn layer_gradients(
    network: &Network,
    weights: &[Tensor],
    images_nchw: &Tensor,
    layer: usize,
    targets: &[&[usize]],
) -> (Tensor, Vec<Tensor>) {
    let maps_nchw = leaf(&tch::no_grad(|| network.forward_to(layer, weights, images_nchw)));
    let gradients_nchw = tch::with_grad(|| {
        let logits_nk = network.forward_from(layer, weights, &maps_nchw);
        // An image's logits depend on that image alone, so one backward pass serves the whole batch.
        let gradient = |targets: &&[usize]| {
            let sum = target_logits(&logits_nk, targets).sum(Kind::Float);
            Tensor::run_backward(&[sum], &[&maps_nchw], true, false).swap_remove(0)
        };
        targets.iter().map(gradient).collect()
    });
    (maps_nchw.detach(), gradients_nchw)
}

/// The same values as a leaf of a new graph.
pub(super) fn leaf(tensor: &Tensor) -> Tensor {
    tensor.detach().set_requires_grad(true)
}

/// Gradient of the sum of `values` by a leaf of their graph.
pub(super) fn of_sum(values: &Tensor, leaf: &Tensor) -> Tensor {
    // Not `backward`: it would set `.grad` in every leaf.
    let mut gradients = Tensor::run_backward(&[values.sum(Kind::Float)], &[leaf], false, false);
    gradients.swap_remove(0)
}
