//! Integrated gradients: the contribution of each pixel to the change of the logit from a baseline to the image.

use std::f64::consts::PI;

use tch::{Kind, Tensor};

use super::gradient::MOST_IMAGES;
use super::passes::Passes;
use super::planes;
use crate::graph::Graph;
use crate::render::Map;
use crate::types::ImageShape;
use crate::weights::host_values;

/// Parameters of [`integrated_gradients`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IntegratedGradients {
    /// Value of every pixel of the baseline, the image without information; 0 is black.
    pub baseline: f32,
    /// Points of the Gauss-Legendre quadrature between baseline and image, clamped to between 1 and 1000.
    pub steps: usize,
}

impl Default for IntegratedGradients {
    /// Black, and Captum's 50 steps.
    fn default() -> IntegratedGradients {
        IntegratedGradients { baseline: 0.0, steps: 50 }
    }
}

/// Integrated gradients of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Integral {
    /// One map per channel, signed, in units of the logit.
    pub channels: Vec<Map>,
    /// Sum of the attributions less the change of the logit from baseline to image. An exact integral would have a
    /// gap of 0: the smaller it is, the more the map can be trusted.
    pub completeness_gap: f32,
}

/// For each image `(x - b) * integral over a in 0..1 of the gradient of the target's logit at b + a (x - b)`, with the
/// baseline `b`. An image costs a forward and a backward pass for each step.
///
/// Sundararajan et al., "Axiomatic Attribution for Deep Networks" (ICML 2017), equation 1. The numbers are those of
/// Captum 0.9's `IntegratedGradients`, the gap is its convergence delta.
///
/// `images_nchw` is `N x C x H x W`, `targets` one class for each image.
///
/// # Panics
/// If `targets` is not one class of the network for each image, or the weights or images do not have the network's
/// shapes: a bug in the caller.
pub fn integrated_gradients(
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    targets: &[usize],
    settings: &IntegratedGradients,
) -> Vec<Integral> {
    by_passes(&mut Passes::new(network, weights), network.input(), images_nchw, targets, settings)
}

/// [`integrated_gradients`] with the caller's passes.
pub(super) fn by_passes(
    passes: &mut Passes<'_>,
    shape: ImageShape,
    images_nchw: &Tensor,
    targets: &[usize],
    settings: &IntegratedGradients,
) -> Vec<Integral> {
    let points = gauss_legendre(settings.steps.clamp(1, 1000));
    let each = targets.iter().enumerate().map(|(number, &target)| {
        let image_1chw = images_nchw.narrow(0, number as i64, 1).detach();
        let baseline_1chw = image_1chw.full_like(f64::from(settings.baseline));
        let way_1chw = &image_1chw - &baseline_1chw;
        let mut mean_chw = image_1chw.zeros_like().squeeze_dim(0);
        for points in points.chunks(MOST_IMAGES) {
            let column =
                |values: Vec<f32>| Tensor::from_slice(&values).to_device(image_1chw.device()).view([-1, 1, 1, 1]);
            let along_s111 = column(points.iter().map(|point| point.at as f32).collect());
            let weight_s111 = column(points.iter().map(|point| point.weight as f32).collect());
            let path_schw = &baseline_1chw + along_s111 * &way_1chw;
            let gradient_schw = passes.target_gradient(&path_schw, target);
            mean_chw += (gradient_schw * weight_s111).sum_dim_intlist([0_i64].as_slice(), false, Kind::Float);
        }
        let attribution_1chw = way_1chw * mean_chw.unsqueeze(0);
        let ends_2chw = Tensor::cat(&[&image_1chw, &baseline_1chw], 0);
        let logits = passes.target_logits(&ends_2chw, target);
        let sum: f64 = host_values(&attribution_1chw).iter().map(|&v| f64::from(v)).sum();
        let change = f64::from(logits[0]) - f64::from(logits[1]);
        Integral {
            channels: planes(&attribution_1chw, shape.height, shape.width),
            completeness_gap: (sum - change) as f32,
        }
    });
    each.collect()
}

/// A point of a quadrature over 0..1.
struct Point {
    at: f64,
    weight: f64,
}

/// The points, in ascending order, and weights that integrate polynomials below degree `2 n` exactly.
fn gauss_legendre(n: usize) -> Vec<Point> {
    let mut points: Vec<Point> = (0..n)
        .map(|i| {
            // Tricomi's initial guess, close enough that Newton's method finds this zero and no other.
            let mut x = (PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            let mut slope = legendre(n, x).1;
            for _ in 0..100 {
                let (value, new_slope) = legendre(n, x);
                slope = new_slope;
                let step = value / slope;
                x -= step;
                if step.abs() < 1e-15 {
                    break;
                }
            }
            // From -1..1 to 0..1.
            Point { at: (x + 1.0) / 2.0, weight: 1.0 / ((1.0 - x * x) * slope * slope) }
        })
        .collect();
    points.reverse();
    points
}

/// Value and slope of the Legendre polynomial of degree `n` at `x` within -1..1.
fn legendre(n: usize, x: f64) -> (f64, f64) {
    let (mut before, mut value) = (1.0, x);
    for k in 2..=n {
        let k = k as f64;
        (before, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * before) / k);
    }
    (value, n as f64 * (x * value - before) / (x * x - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quadrature_is_exact_for_polynomials_and_numpys() {
        for n in [1, 2, 3, 10, 50, 200] {
            let points = gauss_legendre(n);
            assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at), "{n}");
            for power in 0..(2 * n).min(60) as i32 {
                let sum: f64 = points.iter().map(|point| point.weight * point.at.powi(power)).sum();
                assert!((sum * f64::from(power + 1) - 1.0).abs() < 1e-12, "{n} points, power {power}: {sum}");
            }
        }
        // 0.5 * (1 + numpy.polynomial.legendre.leggauss(50)[0][:2]) and half of its weights, numpy 2.4.6.
        let points = gauss_legendre(50);
        let got = [points[0].at, points[1].at, points[0].weight, points[1].weight];
        let want = [0.0005667977899644905, 0.002984015283954644, 0.0014543112765789633, 0.003379899597872283];
        want.iter().zip(got).for_each(|(want, got)| assert!((want - got).abs() < 1e-14, "{got} {want}"));
    }
}
