//! Features of images: the input of the layer of the logits.

use tch::{Kind, Tensor};

use crate::embedding::Points;
use crate::forward::Program;
use crate::graph::{Graph, Layer};
use crate::weights::host_values;

/// Images per pass, few enough that the maps of a first convolution stay within a processor's cache.
const CHUNK: usize = 50;

/// Features of some images, and the last layer's class probabilities for them.
#[derive(Clone, Debug)]
pub struct Features<'a> {
    /// Source of the features: the last hidden layer.
    pub layer: &'a Layer,
    /// `N x D`, after the ReLU.
    pub points: Points,
    /// `N x K`, class probabilities.
    pub probabilities: Vec<f32>,
}

/// Features of images `N x C x H x W`; `None` for a network whose logits read the image itself, or for no images.
///
/// # Panics
/// If the weights or images do not have the network's shapes: a bug in the caller.
pub fn features<'a>(network: &'a Graph, weights: &[Tensor], images_nchw: &Tensor) -> Option<Features<'a>> {
    let layer = network.features()?;
    let logits = network.taps().logits;
    let count = images_nchw.size().first().map_or(0, |&n| n as usize);
    if count == 0 || layer.output.is_empty() {
        return None;
    }
    let program = Program::new(network, &[layer.value, logits]);
    let (mut values, mut probabilities) = (Vec::new(), Vec::new());
    for start in (0..count).step_by(CHUNK) {
        tch::no_grad(|| {
            let chunk_nchw = images_nchw.narrow(0, start as i64, CHUNK.min(count - start) as i64);
            let found = program.run(weights, &chunk_nchw);
            values.extend(host_values(found.get(layer.value)));
            probabilities.extend(host_values(&found.get(logits).softmax(-1, Kind::Float)));
        });
    }
    Some(Features { layer, points: Points::new(layer.output.len(), values), probabilities })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::types::{ImageShape, Seed};
    use crate::weights::Weights;
    use tch::Device;

    #[test]
    fn they_are_the_last_hidden_layers_outputs_and_chunks_do_not_show() {
        let shape = ImageShape { height: 6, width: 5, channels: 2 };
        let architecture = Architecture { conv_filters: vec![3], kernel_size: 3, dense_units: 7 };
        let network = architecture.build(shape, 4).unwrap();
        let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
        let count = 2 * CHUNK + 3;
        let pixels: Vec<f32> = (0..count * shape.len()).map(|i| (0.7 * (i * i % 9973) as f32).sin().abs()).collect();
        let images = Tensor::from_slice(&pixels).view([count as i64, 2, 6, 5]);
        let got = features(&network, parameters.views(), &images).unwrap();
        assert_eq!((got.layer.name.as_str(), got.points.len(), got.points.dims()), ("dense", count, 7));
        let dense = network.layer("dense").unwrap().value;
        let want = host_values(&crate::forward::value(&network, dense, parameters.views(), &images));
        for (got, want) in got.points.rows().flatten().zip(&want) {
            assert!((got - want).abs() < 1e-5 && *got >= 0.0, "{got} {want}");
        }
        assert_eq!(got.probabilities.len(), count * 4);
        assert!(got.probabilities.chunks(4).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
        assert!(features(&network, parameters.views(), &images.narrow(0, 0, 0)).is_none());
    }
}
