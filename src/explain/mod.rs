//! What a network sees in an image: tensors of one batch in, plain arrays out.
//!
//! Nothing here touches a parameter, a `.grad` or a random number.

mod feature_maps;
mod grad_cam;

use tch::{Device, Kind, Tensor};

use crate::render::Map;

pub use feature_maps::{FeatureMaps, feature_maps};
pub use grad_cam::grad_cam;

/// A tensor's values on the host, in the order of its logical shape.
fn host_values(tensor: &Tensor) -> Vec<f32> {
    let dense = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut values = vec![0.0; dense.numel()];
    dense.copy_data(&mut values, dense.numel());
    values
}

/// The planes of a tensor whose last two axes are `height` x `width`, the rest in order.
fn planes(tensor: &Tensor, height: usize, width: usize) -> Vec<Map> {
    let values = host_values(tensor);
    // `height` and `width` come from the layer's shape, which is checked when the network is built: nothing is lost.
    values.chunks_exact((height * width).max(1)).flat_map(|plane| Map::new(height, width, plane.to_vec())).collect()
}
