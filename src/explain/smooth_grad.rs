//! SmoothGrad: the gradient by the pixels, averaged over noisy copies of the image.

use tch::{Kind, Tensor};

use super::gradient::MOST_IMAGES;
use super::passes::Passes;
use super::planes;
use crate::graph::Graph;
use crate::render::Map;
use crate::rng::{Purpose, Stream};
use crate::types::{ImageShape, Seed};

/// Parameters of [`smooth_grad`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SmoothGrad {
    /// Number of noisy copies of each image, clamped to between 1 and 1000.
    pub samples: usize,
    /// The standard deviation of the noise as a share of the image's range, from its darkest to its brightest value.
    /// At 0 the result is the plain gradient.
    pub noise: f32,
    pub seed: Seed,
}

impl Default for SmoothGrad {
    /// The paper's 50 samples, and the middle of the 10 % to 20 % that it recommends.
    fn default() -> SmoothGrad {
        SmoothGrad { samples: 50, noise: 0.15, seed: Seed(0) }
    }
}

/// For each image, one map per channel: the gradient of the target's logit, averaged over noisy copies. Signed. An
/// image costs a forward and a backward pass for each sample.
///
/// Smilkov et al., "SmoothGrad: removing noise by adding noise" (2017). The numbers are those of Captum 0.9's
/// `NoiseTunnel(Saliency(model))` with `abs=False`, for the same noise. Every image gets the same noise, scaled by
/// its own deviation: its map does not depend on the rest of the batch, and equal calls give equal maps.
///
/// `images_nchw` is `N x C x H x W`, `targets` one class for each image.
///
/// # Panics
/// If `targets` is not one class of the network for each image, or the weights or images do not have the network's
/// shapes: a bug in the caller.
pub fn smooth_grad(
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    targets: &[usize],
    settings: &SmoothGrad,
) -> Vec<Vec<Map>> {
    by_passes(&mut Passes::new(network, weights), network.input(), images_nchw, targets, settings)
}

/// [`smooth_grad`] with the caller's passes.
pub(super) fn by_passes(
    passes: &mut Passes<'_>,
    shape: ImageShape,
    images_nchw: &Tensor,
    targets: &[usize],
    settings: &SmoothGrad,
) -> Vec<Vec<Map>> {
    let noise_schw = standard_noise(settings.seed, settings.samples, shape).to_device(images_nchw.device());
    with_noise(passes, shape, images_nchw, targets, &noise_schw, settings.noise)
}

/// Noise of [`smooth_grad`] before scaling, from the standard normal distribution: `S x C x H x W` on the CPU.
pub fn standard_noise(seed: Seed, samples: usize, shape: ImageShape) -> Tensor {
    let samples = samples.clamp(1, 1000);
    let mut values = Vec::with_capacity(samples * shape.len());
    for sample in 0..samples {
        let mut stream = Stream::new(seed, Purpose::SmoothGrad, 0, sample as u64);
        let pairs = (0..shape.len().div_ceil(2)).map(|_| stream.normal_pair());
        values.extend(pairs.flat_map(|(a, b)| [a, b]).take(shape.len()));
    }
    Tensor::from_slice(&values).view([-1, shape.channels as i64, shape.height as i64, shape.width as i64])
}

/// [`smooth_grad`] with the caller's noise.
pub(super) fn with_noise(
    passes: &mut Passes<'_>,
    shape: ImageShape,
    images_nchw: &Tensor,
    targets: &[usize],
    noise_schw: &Tensor,
    level: f32,
) -> Vec<Vec<Map>> {
    let samples = noise_schw.size()[0];
    let each = targets.iter().enumerate().map(|(number, &target)| {
        let image_1chw = images_nchw.narrow(0, number as i64, 1).detach();
        let deviation = (image_1chw.max() - image_1chw.min()) * f64::from(level);
        let mut sum_chw = image_1chw.zeros_like().squeeze_dim(0);
        for start in (0..samples).step_by(MOST_IMAGES) {
            let noise_schw = noise_schw.narrow(0, start, (samples - start).min(MOST_IMAGES as i64));
            let noisy_schw = &image_1chw + noise_schw * &deviation;
            let gradient_schw = passes.target_gradient(&noisy_schw, target);
            sum_chw += gradient_schw.sum_dim_intlist([0_i64].as_slice(), false, Kind::Float);
        }
        planes(&(sum_chw / samples as f64), shape.height, shape.width)
    });
    each.collect()
}
