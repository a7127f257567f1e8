//! Activation statistics of a network's layers for a batch: mean, spread, zeros and dead units.

use pulp::{Arch, NullaryFnOnce};
use tch::Tensor;

use crate::forward::Program;
use crate::graph::{Graph, Layer, NodeId, Shape};
use crate::weights::host_values;

/// The outputs of one layer for a batch of images.
#[derive(Debug)]
pub struct Activations<'a> {
    pub layer: &'a Layer,
    /// `N x H x W x C` of a convolution, whose units are its channels, or `N x K`. Values of one unit lie `units`
    /// apart.
    pub values: Vec<f32>,
    pub units: usize,
}

/// Statistics of a layer's outputs. Values that are not finite are counted and otherwise ignored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActivationStatistics {
    /// NaN if no value is finite.
    pub mean: f64,
    /// Standard deviation of all values, with their number as the divisor.
    pub deviation: f64,
    /// Share of values that are 0, from 0 to 1.
    pub zeros: f64,
    /// Share of units that are 0 for every image and at every position, from 0 to 1.
    pub dead: f64,
    /// Values that are NaN or infinite.
    pub non_finite: u64,
}

/// The layers whose outputs are activations: those with a ReLU, and the logits.
pub fn activation_layers(network: &Graph) -> impl Iterator<Item = &Layer> {
    let logits = network.taps().logits;
    network.layers().iter().filter(move |layer| layer.has_relu() || layer.value == logits)
}

/// The outputs of every layer with a ReLU, after it, and the logits, for images `N x C x H x W`.
///
/// # Panics
/// If the weights or images do not have the network's shapes: a bug in the caller.
pub fn activations<'a>(network: &'a Graph, weights: &[Tensor], images_nchw: &Tensor) -> Vec<Activations<'a>> {
    let keep: Vec<NodeId> = activation_layers(network).map(|layer| layer.value).collect();
    let found = tch::no_grad(|| Program::new(network, &keep).run(weights, images_nchw));
    let activations = activation_layers(network).map(|layer| {
        let output = found.get(layer.value);
        let (values, units) = match layer.output {
            // Channels are adjacent in memory too: this permutation copies in order.
            Shape::Image(shape) => (host_values(&output.permute([0, 2, 3, 1])), shape.channels),
            Shape::Vector(units) => (host_values(output), units),
        };
        Activations { layer, values, units }
    });
    activations.collect()
}

impl Activations<'_> {
    pub fn statistics(&self) -> ActivationStatistics {
        let mut sums = ActivationSums::default();
        sums.add(self);
        sums.statistics()
    }
}

/// Running sums for the statistics of one layer. Added batch by batch, so that each batch is read while it is in the
/// cache. Means and squares are merged as in Chan, Golub and LeVeque 1979, which loses no digits to a large mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActivationSums {
    values: u64,
    /// Mean of the finite values.
    mean: f64,
    /// Sum of the squared deviations of the finite values from their mean.
    squares: f64,
    non_finite: u64,
    /// Number of values other than 0, for each unit.
    fired: Vec<u64>,
}

impl ActivationSums {
    /// Adds another batch of the same layer.
    pub fn add(&mut self, batch: &Activations<'_>) {
        let (values, units) = (batch.values.as_slice(), batch.units.max(1));
        let Sums { sums, fired } = Arch::new().dispatch(OfUnits { values, units });
        let mean = sums.iter().sum::<f64>() / values.len() as f64;
        let (finite, mean, squares) = if mean.is_finite() {
            let squares = Arch::new().dispatch(SquaresOfUnits { values, units, mean }).iter().sum::<f64>();
            (values.len(), mean, squares)
        } else {
            let finite: Vec<f64> = values.iter().filter(|v| v.is_finite()).map(|&v| f64::from(v)).collect();
            let mean = finite.iter().sum::<f64>() / finite.len() as f64;
            (finite.len(), mean, finite.iter().map(|value| (value - mean).powi(2)).sum())
        };
        if finite > 0 {
            let (before, now) = ((self.values - self.non_finite) as f64, finite as f64);
            let (off, share) = (mean - self.mean, now / (before + now));
            self.mean += off * share;
            self.squares += squares + off * off * before * share;
        }
        self.values += values.len() as u64;
        self.non_finite += (values.len() - finite) as u64;
        self.fired.resize(units, 0);
        self.fired.iter_mut().zip(fired).for_each(|(sum, fired)| *sum += u64::from(fired));
    }

    /// Statistics of all batches; a share or mean of no values is NaN.
    pub fn statistics(&self) -> ActivationStatistics {
        let finite = self.values - self.non_finite;
        let mean = if finite > 0 { self.mean } else { f64::NAN };
        ActivationStatistics {
            mean,
            deviation: (self.squares / finite as f64).sqrt(),
            zeros: (self.values - self.fired.iter().sum::<u64>()) as f64 / self.values as f64,
            dead: self.fired.iter().filter(|&&fired| fired == 0).count() as f64 / self.fired.len() as f64,
            non_finite: self.non_finite,
        }
    }
}

/// Sums over rows of units. Adjacent units become lanes of the processor's vectors, whatever their length. Each
/// unit's sum is in the order of the rows on every processor.
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
                // A NaN counts as firing: it is not 0.
                *fired += u32::from(value != 0.0);
            }
        }
        Sums { sums, fired }
    }
}

/// Sum of the squared deviations from `mean`, for each unit.
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
    fn dot(kernel: [f32; 2], bias: [f32; 2]) -> (Graph, Vec<Tensor>) {
        let architecture = Architecture { conv_filters: vec![2], kernel_size: 1, dense_units: 1 };
        let weights = vec![
            Tensor::from_slice(&kernel).view([2, 1, 1, 1]),
            Tensor::from_slice(&bias),
            Tensor::from_slice(&[1.0_f32, -1.0]).view([1, 2]),
            Tensor::from_slice(&[0.0_f32]),
            Tensor::from_slice(&[1.0_f32, 2.0]).view([2, 1]),
            Tensor::from_slice(&[0.5_f32, 0.0]),
        ];
        (architecture.build(DOT, 2).unwrap(), weights)
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
        // Pooled (3, 1) and (0, 2): the dense unit outputs 2 and 0, the logits are (2.5, 4) and (0.5, 0).
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

    #[test]
    fn batches_add_up_to_all_at_once() {
        let (network, _) = dot([0.0; 2], [0.0; 2]);
        let layer = &network.layers()[0];
        let batch = |values: &[f32]| Activations { layer, values: values.to_vec(), units: 2 };
        let all: [f32; 12] =
            [1000.5, 0.0, 1000.25, 0.0, f32::NAN, 0.0, f32::INFINITY, f32::NAN, 999.0, 0.0, 998.75, -3.0];
        for parts in [&[12][..], &[4, 8], &[2, 4, 6], &[6, 2, 4], &[4, 4, 4], &[2; 6]] {
            let (mut sums, mut rest) = (ActivationSums::default(), &all[..]);
            for &part in parts {
                let (now, later) = rest.split_at(part);
                sums.add(&batch(now));
                rest = later;
            }
            let (got, want) = (sums.statistics(), batch(&all).statistics());
            assert!((got.mean - want.mean).abs() < 1e-12 * want.mean, "{parts:?}");
            assert!((got.deviation - want.deviation).abs() < 1e-12 * want.deviation, "{parts:?}");
            assert_eq!((got.zeros, got.dead, got.non_finite), (want.zeros, want.dead, want.non_finite), "{parts:?}");
        }
        let nothing = ActivationSums::default().statistics();
        assert!(nothing.mean.is_nan() && nothing.deviation.is_nan() && nothing.zeros.is_nan() && nothing.dead.is_nan());
    }
}
