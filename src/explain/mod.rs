//! What a network sees in an image: tensors of one batch in, plain arrays out.
//!
//! Nothing here touches a parameter, a `.grad` or a random number.

mod activation_max;
mod feature_maps;
mod grad_cam;

use tch::Tensor;

use crate::model::host_values;
use crate::render::Map;

pub use activation_max::{Optimum, Settings, Target, maximise};
pub use feature_maps::{FeatureMaps, feature_maps};
pub use grad_cam::grad_cam;

/// The planes of a tensor whose last two axes are `height` x `width`, the rest in order.
fn planes(tensor: &Tensor, height: usize, width: usize) -> Vec<Map> {
    let values = host_values(tensor);
    // `height` and `width` come from the layer's shape, which is checked when the network is built: nothing is lost.
    values.chunks_exact((height * width).max(1)).flat_map(|plane| Map::new(height, width, plane.to_vec())).collect()
}
