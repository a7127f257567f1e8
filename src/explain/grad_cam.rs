//! Grad-CAM: where in an image a layer found what speaks for a class.
//!
//! Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (ICCV 2017).

use tch::{Kind, Tensor};

use super::planes;
use crate::model::{Network, Shape};
use crate::render::Map;

/// For each image a map of the layer's height and width: `relu(sum_k weight_k * channel_k)`, where a channel's weight is
/// the mean over its pixels of the gradient of the target class's logit. Raw values, not normalised; all 0 where nothing
/// speaks for the class.
///
/// `images_nchw` is `N x C x H x W`, `layer` the index of a layer, `targets` one class for each image. A layer whose output
/// has no maps gives none.
///
/// # Panics
/// When the targets are not one for each image or no classes of the network, or the shapes of the weights or images are
/// not the network's: a bug in the caller.
pub fn grad_cam(
    network: &Network,
    weights: &[Tensor],
    images_nchw: &Tensor,
    layer: usize,
    targets: &[usize],
) -> Vec<Map> {
    let Some(Shape::Image(shape)) = network.layers().get(layer).map(|layer| layer.output) else {
        return Vec::new();
    };
    let maps_nchw = tch::no_grad(|| network.forward_to(layer, weights, images_nchw)).detach().set_requires_grad(true);
    let gradient_nchw = tch::with_grad(|| {
        let logits_nk = network.forward_from(layer, weights, &maps_nchw);
        let targets: Vec<i64> = targets.iter().map(|&target| target as i64).collect();
        let targets_n1 = Tensor::from_slice(&targets).to_device(logits_nk.device()).unsqueeze(1);
        // An image's logits depend on that image alone, so one backward pass serves the whole batch.
        let score = logits_nk.gather(1, &targets_n1, false).sum(Kind::Float);
        // Not `backward`: it would leave gradients behind in every leaf.
        Tensor::run_backward(&[score], &[&maps_nchw], false, false)
    });
    let cam_nhw = tch::no_grad(|| {
        let weight_nc11 = gradient_nchw[0].mean_dim([2_i64, 3].as_slice(), true, Kind::Float);
        (weight_nc11 * &maps_nchw).sum_dim_intlist([1_i64].as_slice(), false, Kind::Float).relu()
    });
    planes(&cam_nhw, shape.height, shape.width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::model::host_values;
    use crate::types::ImageShape;

    /// Weights that any language can compute: `sin(0.7 i^2 + p)` for value `i` of parameter `p`.
    fn formula_weights(network: &Network) -> Vec<Tensor> {
        let value = |i: usize, p: usize| (0.7 * i as f64 * i as f64 + p as f64).sin() as f32;
        let tensor = |(p, spec): (usize, &crate::model::ParameterSpec)| {
            Tensor::from_slice(&(0..spec.len()).map(|i| value(i, p)).collect::<Vec<f32>>()).view(spec.shape.as_slice())
        };
        network.parameters().iter().enumerate().map(tensor).collect()
    }

    fn formula_images(count: usize, shape: ImageShape) -> Tensor {
        let pixels: Vec<f32> =
            (0..count * shape.len()).map(|i| (0.5 + 0.5 * (1.3 * i as f64 * i as f64).sin()) as f32).collect();
        Tensor::from_slice(&pixels).view([count as i64, shape.channels as i64, shape.height as i64, shape.width as i64])
    }

    fn small() -> (Network, ImageShape) {
        let shape = ImageShape { height: 14, width: 12, channels: 3 };
        let architecture = Architecture { conv_filters: vec![4, 6], kernel_size: 3, dense_units: 8 };
        (Network::build(&architecture, shape, 10).unwrap(), shape)
    }

    #[test]
    fn a_network_by_hand() {
        // conv 1x1 (weight 1), pool 2x2, dense (weight 2), logits (3, -1): the gradient of the first logit is 6 where the
        // maximum is and 0 elsewhere, so its mean over the four pixels is 1.5; that of the second is negative.
        let architecture = Architecture { conv_filters: vec![1], kernel_size: 1, dense_units: 1 };
        let network = Network::build(&architecture, ImageShape { height: 2, width: 2, channels: 1 }, 2).unwrap();
        let weights = [
            Tensor::from_slice(&[1.0_f32]).view([1, 1, 1, 1]),
            Tensor::from_slice(&[0.0_f32]),
            Tensor::from_slice(&[2.0_f32]).view([1, 1]),
            Tensor::from_slice(&[0.0_f32]),
            Tensor::from_slice(&[3.0_f32, -1.0]).view([2, 1]),
            Tensor::from_slice(&[0.0_f32, 0.0]),
        ];
        let images = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]).view([2, 1, 2, 2]);
        let maps = grad_cam(&network, &weights, &images, 0, &[0, 1]);
        assert_eq!(maps[0].values(), [1.5, 3.0, 4.5, 6.0]);
        assert_eq!(maps[1].values(), [0.0; 4], "nothing speaks for the second class");
    }

    #[test]
    fn pytorch_gets_the_same_maps() {
        // Written by tests/golden/make_grad_cam.py with PyTorch 2.13.
        let golden: serde_json::Value = serde_json::from_str(include_str!("../../tests/golden/grad_cam.json")).unwrap();
        let (network, shape) = small();
        let (weights, images) = (formula_weights(&network), formula_images(3, shape));
        for name in ["conv2d", "max_pooling2d", "conv2d_1"] {
            let layer = network.position(name).unwrap();
            let maps = grad_cam(&network, &weights, &images, layer, &[7, 0, 3]);
            let got: Vec<f64> = maps.iter().flat_map(Map::values).map(|&v| f64::from(v)).collect();
            let want: Vec<f64> = golden[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            assert_eq!(got.len(), want.len(), "{name}");
            assert!(want.iter().any(|&v| v > 0.1), "{name}: a golden map of zeros would prove nothing");
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{name}: value {i}: got {got}, want {want}");
            }
        }
    }

    #[test]
    fn channel_weights_are_what_finite_differences_say() {
        let (network, shape) = small();
        let (weights, images) = (formula_weights(&network), formula_images(1, shape));
        let layer = network.position("conv2d_1").unwrap();
        let target = 3;
        let maps = network.forward_to(layer, &weights, &images);
        let logit = |maps: &Tensor| host_values(&network.forward_from(layer, &weights, maps))[target];
        let (_, channels, height, width) = maps.size4().unwrap();
        // Raising all pixels of a channel by h changes the logit by h times the sum of its gradient.
        let h = 1e-2;
        let mut cam = vec![0.0_f32; (height * width) as usize];
        for channel in 0..channels {
            let mut bump = vec![0.0_f32; (channels * height * width) as usize];
            let plane = (height * width) as usize;
            bump[channel as usize * plane..][..plane].fill(h);
            let bump = Tensor::from_slice(&bump).view([1, channels, height, width]);
            let slope = (logit(&(&maps + &bump)) - logit(&(&maps - &bump))) / (2.0 * h);
            let values = host_values(&maps.select(1, channel));
            for (cam, value) in cam.iter_mut().zip(values) {
                *cam += slope / plane as f32 * value;
            }
        }
        let got = &grad_cam(&network, &weights, &images, layer, &[target])[0];
        for (got, want) in got.values().iter().zip(cam) {
            assert!((got - want.max(0.0)).abs() < 2e-3 * want.abs().max(1.0), "got {got}, want {want}");
        }
    }

    #[test]
    fn a_layer_without_maps_gives_none() {
        let (network, shape) = small();
        let (weights, images) = (formula_weights(&network), formula_images(1, shape));
        assert!(grad_cam(&network, &weights, &images, network.position("dense").unwrap(), &[0]).is_empty());
        assert!(grad_cam(&network, &weights, &images, 99, &[0]).is_empty());
    }

    #[test]
    fn nothing_is_left_behind() {
        let (network, shape) = small();
        let images = formula_images(2, shape);
        let weights: Vec<Tensor> =
            formula_weights(&network).iter().map(|w| w.detach().set_requires_grad(true)).collect();
        let before: Vec<Vec<f32>> = weights.iter().map(host_values).collect();
        let first = grad_cam(&network, &weights, &images, 0, &[1, 2]);
        assert!(weights.iter().all(|w| !w.grad().defined()), "a leaf got a gradient");
        assert_eq!(weights.iter().map(host_values).collect::<Vec<_>>(), before);
        // Whether the caller computes gradients or not makes no difference.
        assert_eq!(tch::no_grad(|| grad_cam(&network, &weights, &images, 0, &[1, 2])), first);
    }
}
