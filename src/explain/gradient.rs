//! Logits of target classes, and their gradient by the value of a node.

use tch::{Kind, Tensor};

use crate::forward;
use crate::graph::{Graph, NodeId};

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

/// Value of a node, and for each list of targets the gradient of each image's target logit by that value. One forward
/// pass serves all lists.
pub(super) fn node_gradients(
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    node: NodeId,
    targets: &[&[usize]],
) -> (Tensor, Vec<Tensor>) {
    tch::with_grad(|| {
        let forward::Cut { leaf, logits_nk } = forward::cut(network, node, weights, images_nchw);
        // An image's logits depend on that image alone, so one backward pass serves the whole batch.
        let gradient = |targets: &&[usize]| {
            let sum = target_logits(&logits_nk, targets).sum(Kind::Float);
            Tensor::run_backward(&[sum], &[&leaf], true, false).swap_remove(0)
        };
        let gradients = targets.iter().map(gradient).collect();
        (leaf.detach(), gradients)
    })
}
