//! Outputs of every convolution and pooling layer for a batch of images.

use tch::Tensor;

use super::planes;
use crate::forward::Program;
use crate::graph::{Graph, Layer, NodeId, Shape};
use crate::render::Map;

/// The outputs of one layer.
#[derive(Debug)]
pub struct FeatureMaps<'a> {
    pub layer: &'a Layer,
    /// One map per channel, for each image.
    pub images: Vec<Vec<Map>>,
}

/// The output of every layer that has maps, for images `N x C x H x W`.
///
/// # Panics
/// If the weights or images do not have the network's shapes: a bug in the caller.
pub fn feature_maps<'a>(network: &'a Graph, weights: &[Tensor], images_nchw: &Tensor) -> Vec<FeatureMaps<'a>> {
    let with_maps = || {
        network.layers().iter().filter_map(|layer| match layer.output {
            Shape::Image(shape) => Some((layer, shape)),
            Shape::Vector(_) => None,
        })
    };
    let keep: Vec<NodeId> = with_maps().map(|(layer, _)| layer.value).collect();
    let values = tch::no_grad(|| Program::new(network, &keep).run(weights, images_nchw));
    let maps = with_maps().map(|(layer, shape)| {
        let maps = planes(values.get(layer.value), shape.height, shape.width);
        let images = maps.chunks(shape.channels.max(1)).map(<[Map]>::to_vec).collect();
        FeatureMaps { layer, images }
    });
    maps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::types::ImageShape;

    #[test]
    fn a_layer_by_hand() {
        // One 1x1 kernel per channel, 2 and -1, biases 0 and 10; then 2x2 max-pooling.
        let architecture = Architecture { conv_filters: vec![2], kernel_size: 1, dense_units: 1 };
        let network = architecture.build(ImageShape { height: 2, width: 2, channels: 1 }, 2).unwrap();
        let weights = [
            Tensor::from_slice(&[2.0_f32, -1.0]).view([2, 1, 1, 1]),
            Tensor::from_slice(&[0.0_f32, 10.0]),
            Tensor::from_slice(&[1.0_f32, 1.0]).view([1, 2]),
            Tensor::from_slice(&[0.0_f32]),
            Tensor::from_slice(&[1.0_f32, 1.0]).view([2, 1]),
            Tensor::from_slice(&[0.0_f32, 0.0]),
        ];
        let images = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, -1.0, 20.0, 0.0, 0.0]).view([2, 1, 2, 2]);
        let maps = feature_maps(&network, &weights, &images);
        let names: Vec<&str> = maps.iter().map(|m| m.layer.name.as_str()).collect();
        assert_eq!(names, ["conv2d", "max_pooling2d"]);
        let values = |layer: usize, image: usize, channel: usize| maps[layer].images[image][channel].values().to_vec();
        assert_eq!(values(0, 0, 0), [2.0, 4.0, 6.0, 8.0]);
        assert_eq!(values(0, 0, 1), [9.0, 8.0, 7.0, 6.0]);
        assert_eq!(values(0, 1, 0), [0.0, 40.0, 0.0, 0.0], "after the ReLU");
        assert_eq!(values(0, 1, 1), [11.0, 0.0, 10.0, 10.0]);
        assert_eq!((values(1, 0, 0), values(1, 1, 1)), (vec![8.0], vec![11.0]));
    }
}
