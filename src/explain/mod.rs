//! Explanations of a network's predictions: tensors of one batch in, plain arrays out.
//!
//! [`explain`] runs any [`Method`]; each method has a function of its own as well. Nothing here changes a parameter,
//! a `.grad` or the state of a random number generator, and no method passes more than 128 images through the network
//! at once.

mod activation_max;
mod activations;
mod ascent;
mod explanation;
mod feature_maps;
mod features;
mod grad_cam;
mod gradient;
mod guided;
mod integrated_gradients;
mod method;
mod occlusion;
mod passes;
mod score_cam;
mod smooth_grad;

use tch::Tensor;

use crate::render::Map;
use crate::types::ImageShape;
use crate::weights::host_values;

pub use activation_max::{Optimum, Target, maximise};
pub use activations::{ActivationStatistics, ActivationSums, Activations, activation_layers, activations};
pub use ascent::Ascent;
pub use explanation::{Content, Explainer, Explanation, Settings, explain};
pub use feature_maps::{FeatureMaps, feature_maps};
pub use features::{Features, features};
pub use grad_cam::{grad_cam, grad_cam_pair, grad_cam_plus_plus, layer_cam};
pub use guided::{guided_backprop, guided_grad_cam};
pub use integrated_gradients::{Integral, IntegratedGradients, integrated_gradients};
pub use method::{Method, UnknownMethod};
pub use occlusion::{Occlusion, occlusion};
pub use score_cam::score_cam;
pub use smooth_grad::{SmoothGrad, smooth_grad, standard_noise};

/// Planes of a tensor whose last two axes are `height` x `width`, in the order of the leading axes.
fn planes(tensor: &Tensor, height: usize, width: usize) -> Vec<Map> {
    let values = host_values(tensor);
    // `height` and `width` come from the layer's shape, which is checked when the network is built: no plane is
    // dropped.
    values.chunks_exact((height * width).max(1)).flat_map(|plane| Map::new(height, width, plane.to_vec())).collect()
}

/// The planes of each image of `N x C x H x W`.
fn channels(images_nchw: &Tensor, shape: ImageShape) -> Vec<Vec<Map>> {
    let planes = planes(images_nchw, shape.height, shape.width);
    planes.chunks(shape.channels.max(1)).map(<[Map]>::to_vec).collect()
}

#[cfg(test)]
mod tests;
