//! What the layers of a network answer to a batch, as plain numbers: how strong, how spread, and which units never fire.

use pulp::{Arch, NullaryFnOnce};
use tch::Tensor;

use crate::model::{Layer, Network, Shape, Tap, host_values};

/// The outputs of one layer for a batch of images.
#[derive(Debug)]
pub struct Activations<'a> {
    pub layer: &'a Layer,
    /// Values of one unit lie `units` apart: `N x H x W x C` of a convolution, whose units are its channels, or `N x K`.
    pub values: Vec<f32>,
    pub units: usize,
}

/// Numbers about a layer's outputs; what is not finite is counted and otherwise left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActivationStatistics {
    /// NaN where no value is finite.
    pub mean: f64,
    /// Standard deviation of all values, divided by their number.
    pub deviation: f64,
    /// Share of values that are 0, from 0 to 1.
    pub zeros: f64,
    /// Share of units that are 0 for every image and at every position, from 0 to 1.
    pub dead: f64,
    /// Values that are NaN or infinite.
    pub non_finite: u64,
}

/// The layers whose outputs are activations: those with a ReLU, and the logits.
pub fn activation_layers(network: &Network) -> impl Iterator<Item = &Layer> {
    let last = network.layers().len().saturating_sub(1);
    network
        .layers()
        .iter()
        .enumerate()
        .filter(move |(index, layer)| layer.kind.has_relu() || *index == last)
        .map(|(_, layer)| layer)
}

/// The outputs of every layer with a ReLU, after it, and the logits, for images `N x C x H x W`.
///
/// # Panics
/// When the shapes of the weights or images are not the network's: a bug in the caller.
pub fn activations<'a>(network: &'a Network, weights: &[Tensor], images_nchw: &Tensor) -> Vec<Activations<'a>> {
    let names: Vec<&str> = activation_layers(network).map(|layer| layer.name.as_str()).collect();
    let taps = tch::no_grad(|| network.taps(weights, images_nchw)).into_iter();
    let shown = taps.filter(|tap| names.contains(&tap.layer.name.as_str()));
    let activations = shown.map(|Tap { layer, output }| {
        let (values, units) = match layer.output {
            // Channels are next to each other in memory, too: nothing is sorted here.
            Shape::Image(shape) => (host_values(&output.permute([0, 2, 3, 1])), shape.channels),
            Shape::Vector(units) => (host_values(&output), units),
        };
        Activations { layer, values, units }
    });
    activations.collect()
}

impl Activations<'_> {
    pub fn statistics(&self) -> ActivationStatistics {
        let (values, units) = (self.values.as_slice(), self.units.max(1));
        let Sums { sums, fired } = Arch::new().dispatch(OfUnits { values, units });
        let mean = sums.iter().sum::<f64>() / values.len() as f64;
        let (mean, deviation, non_finite) = if mean.is_finite() {
            let squares: f64 = Arch::new().dispatch(SquaresOfUnits { values, units, mean }).iter().sum();
            (mean, (squares / values.len() as f64).sqrt(), 0)
        } else {
            let finite: Vec<f64> = values.iter().filter(|v| v.is_finite()).map(|&v| f64::from(v)).collect();
            let mean = finite.iter().sum::<f64>() / finite.len() as f64;
            let squares: f64 = finite.iter().map(|value| (value - mean).powi(2)).sum();
            (mean, (squares / finite.len() as f64).sqrt(), (values.len() - finite.len()) as u64)
        };
        let zeros = values.len() as u64 - fired.iter().copied().map(u64::from).sum::<u64>();
        ActivationStatistics {
            mean,
            deviation,
            zeros: zeros as f64 / values.len() as f64,
            dead: fired.iter().filter(|&&fired| fired == 0).count() as f64 / units as f64,
            non_finite,
        }
    }
}

/// Sums over rows of units. These side by side become lanes of whatever vectors the processor has; each unit's sum is in
/// the order of the rows on all of them.
struct OfUnits<'a> {
    values: &'a [f32],
    units: usize,
}

struct Sums {
    sums: Vec<f64>,
    fired: Vec<u32>,
}

impl NullaryFnOnce for OfUnits<'_> {
    type Output = Sums;

    #[inline(always)]
    fn call(self) -> Sums {
        let (mut sums, mut fired) = (vec![0.0_f64; self.units], vec![0_u32; self.units]);
        for row in self.values.chunks_exact(self.units) {
            for ((sum, fired), &value) in sums.iter_mut().zip(&mut fired).zip(row) {
                *sum += f64::from(value);
                // A NaN fires: it is not 0.
                *fired += u32::from(value != 0.0);
            }
        }
        Sums { sums, fired }
    }
}

/// Of the differences from a mean.
struct SquaresOfUnits<'a> {
    values: &'a [f32],
    units: usize,
    mean: f64,
}

impl NullaryFnOnce for SquaresOfUnits<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn call(self) -> Vec<f64> {
        let mut sums = vec![0.0_f64; self.units];
        for row in self.values.chunks_exact(self.units) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                let off = f64::from(value) - self.mean;
                *sum += off * off;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::types::ImageShape;

    const DOT: ImageShape = ImageShape { height: 2, width: 2, channels: 1 };

    /// Two 1x1 filters and a dense unit over a 2x2 image.
    fn dot(kernel: [f32; 2], bias: [f32; 2]) -> (Network, Vec<Tensor>) {
        let architecture = Architecture { conv_filters: vec![2], kernel_size: 1, dense_units: 1 };
        let weights = vec![
            Tensor::from_slice(&kernel).view([2, 1, 1, 1]),
            Tensor::from_slice(&bias),
            Tensor::from_slice(&[1.0_f32, -1.0]).view([1, 2]),
            Tensor::from_slice(&[0.0_f32]),
            Tensor::from_slice(&[1.0_f32, 2.0]).view([2, 1]),
            Tensor::from_slice(&[0.5_f32, 0.0]),
        ];
        (Network::build(&architecture, DOT, 2).unwrap(), weights)
    }

    fn images() -> Tensor {
        Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 0.0, 1.0, 1.0, 0.0]).view([2, 1, 2, 2])
    }

    #[test]
    fn layers_by_hand() {
        let (network, weights) = dot([1.0, -1.0], [-1.0, 2.0]);
        let seen = activations(&network, &weights, &images());
        let names: Vec<&str> = seen.iter().map(|seen| seen.layer.name.as_str()).collect();
        assert_eq!(names, ["conv2d", "dense", "dense_1"], "pooling and flattening only pass on");
        // Pixel after pixel, both channels of each: relu(x - 1), relu(2 - x).
        assert_eq!(seen[0].values, [0., 1., 1., 0., 2., 0., 3., 0., 0., 2., 0., 1., 0., 1., 0., 2.]);
        let numbers = seen[0].statistics();
        assert_eq!((numbers.mean, numbers.zeros), (13.0 / 16.0, 8.0 / 16.0));
        // Mean of squares (1 + 1 + 4 + 9 + 4 + 1 + 1 + 4) / 16.
        assert!((numbers.deviation - (25.0_f64 / 16.0 - (13.0_f64 / 16.0).powi(2)).sqrt()).abs() < 1e-12);
        assert_eq!((numbers.dead, numbers.non_finite), (0.0, 0));
        // Pooled (3, 1) and (0, 2): the dense unit answers 2 and 0, the logits (2.5, 4) and (0.5, 0).
        assert_eq!((&seen[1].values[..], &seen[2].values[..]), (&[2.0, 0.0][..], &[2.5, 4.0, 0.5, 0.0][..]));
        assert_eq!(seen[1].statistics().dead, 0.0, "one image wakes it");
    }

    #[test]
    fn a_bias_far_below_zero_kills_a_unit() {
        let (network, weights) = dot([1.0, 1.0], [-100.0, 0.0]);
        let seen = activations(&network, &weights, &images());
        assert_eq!(seen[0].statistics().dead, 0.5);
        assert_eq!(seen[1].statistics().dead, 1.0, "all that is left speaks against the dense unit");
        let (network, weights) = dot([1.0, 1.0], [-100.0, -100.0]);
        let numbers = activations(&network, &weights, &images())[0].statistics();
        let silence = ActivationStatistics { mean: 0.0, deviation: 0.0, zeros: 1.0, dead: 1.0, non_finite: 0 };
        assert_eq!(numbers, silence);
    }

    #[test]
    fn what_is_not_finite_is_left_out_and_counted() {
        let (network, _) = dot([0.0; 2], [0.0; 2]);
        let layer = &network.layers()[0];
        let numbers = |values: &[f32]| Activations { layer, values: values.to_vec(), units: 2 }.statistics();
        let some = numbers(&[1.0, f32::NAN, 3.0, f32::NAN, 0.0, f32::INFINITY]);
        assert_eq!((some.mean, some.zeros, some.dead, some.non_finite), (4.0 / 3.0, 1.0 / 6.0, 0.0, 3));
        assert!((some.deviation - (14.0_f64 / 9.0).sqrt()).abs() < 1e-12);
        let none = numbers(&[f32::NAN; 4]);
        assert!(none.mean.is_nan() && none.deviation.is_nan());
        assert_eq!(none.non_finite, 4);
        let large = numbers(&[f32::MAX, f32::MIN, f32::MAX, f32::MAX]);
        assert_eq!((large.mean, large.non_finite), (f64::from(f32::MAX) / 2.0, 0));
    }
}
