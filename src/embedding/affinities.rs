//! Neighbour probabilities of points, the input of t-SNE.
//!
//! The bits are the same on every processor, whatever the length of its vectors: sums always have [`LANES`] parts,
//! and no multiplication and addition are fused.

use pulp::{Arch, NullaryFnOnce};

use super::Points;
use super::sums::{LANES, total};

/// Approximate number of neighbours of a point; fewer if there are few points.
const PERPLEXITY: f64 = 30.0;
/// Step limit of the search for a bandwidth, and its tolerance in the logarithm of the perplexity.
const SEARCH_STEPS: usize = 100;
const SEARCH_TOLERANCE: f64 = 1e-5;
/// Smaller affinities become 0. They exert no noticeable force, but arithmetic near the lower end of `f32` takes a
/// hundred times as long.
const LEAST_AFFINITY: f64 = 1e-20;
/// Squared distance of a point that is no neighbour at any bandwidth.
const FAR: f64 = 1e100;

/// Joint probabilities of pairs of points to be neighbours; their sum is 1.
pub(super) struct Affinities {
    pub count: usize,
    /// Length of a row, padded with zeros to whole lanes.
    pub stride: usize,
    /// `N x stride`, symmetric, 0 on the diagonal.
    pub joint: Vec<f32>,
}

impl Affinities {
    /// From the [`squared_distances`] of `count` points.
    pub fn new(squared: &[f32], count: usize) -> Affinities {
        // A perplexity above a third of the points would make all of them neighbours of all.
        let perplexity = PERPLEXITY.min(count.saturating_sub(1) as f64 / 3.0).max(1.0);
        let conditional = Arch::new().dispatch(Conditional { squared, count, perplexity });
        let stride = count.next_multiple_of(LANES);
        let mut joint = vec![0.0; count * stride];
        for i in 0..count {
            for j in 0..count {
                let both = conditional[i * count + j] + conditional[j * count + i];
                let share = both / (2 * count) as f64;
                joint[i * stride + j] = if share < LEAST_AFFINITY { 0.0 } else { share as f32 };
            }
        }
        Affinities { count, stride, joint }
    }
}

/// `N x N`, of points scaled to at most 1. No square overflows, and t-SNE does not change: bandwidths scale along.
pub(super) fn squared_distances(points: &Points) -> Vec<f32> {
    let largest = points.rows().flatten().fold(0.0_f32, |most, v| most.max(v.abs()));
    let scale = if largest > 0.0 { f64::from(largest).recip() } else { 0.0 };
    // Padded to whole lanes with zeros, which add nothing to a distance.
    let stride = points.dims().next_multiple_of(LANES);
    let mut values = vec![0.0; points.len() * stride];
    for (values, row) in values.chunks_exact_mut(stride.max(1)).zip(points.rows()) {
        values.iter_mut().zip(row).for_each(|(value, &v)| *value = (f64::from(v) * scale) as f32);
    }
    Arch::new().dispatch(SquaredDistances { values: &values, stride, count: points.len() })
}

struct SquaredDistances<'a> {
    /// `N x stride`, whole lanes.
    values: &'a [f32],
    stride: usize,
    count: usize,
}

impl NullaryFnOnce for SquaredDistances<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn call(self) -> Vec<f32> {
        let SquaredDistances { values, stride, count } = self;
        let mut squared = vec![0.0; count * count];
        for i in 0..count {
            let (a, _) = values[i * stride..(i + 1) * stride].as_chunks::<LANES>();
            for j in 0..i {
                let (b, _) = values[j * stride..(j + 1) * stride].as_chunks::<LANES>();
                let mut sums = [0.0_f32; LANES];
                for (a, b) in a.iter().zip(b) {
                    for lane in 0..LANES {
                        sums[lane] += (a[lane] - b[lane]) * (a[lane] - b[lane]);
                    }
                }
                let distance = total(sums);
                (squared[i * count + j], squared[j * count + i]) = (distance, distance);
            }
        }
        squared
    }
}

/// `N x N`: the probability that a point picks another as its neighbour, under a Gaussian whose width gives the
/// distribution the perplexity `perplexity`.
pub(super) struct Conditional<'a> {
    pub squared: &'a [f32],
    pub count: usize,
    pub perplexity: f64,
}

impl NullaryFnOnce for Conditional<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn call(self) -> Vec<f64> {
        let Conditional { squared, count, perplexity } = self;
        let wanted = libm::log(perplexity);
        let mut all = vec![0.0; count * count];
        // The precision found for one point is a good initial guess for the next.
        let mut guess = 1.0_f64;
        let mut distances = vec![[FAR; LANES]; count.div_ceil(LANES)];
        let mut weights = vec![[0.0; LANES]; count.div_ceil(LANES)];
        for (i, (row, squared)) in all.chunks_exact_mut(count).zip(squared.chunks_exact(count)).enumerate() {
            let nearest = squared.iter().enumerate().filter(|&(j, _)| j != i).map(|(_, &d)| d);
            let nearest = nearest.fold(f32::INFINITY, f32::min);
            for (distance, &squared) in distances.as_flattened_mut().iter_mut().zip(squared) {
                // Relative to the nearest, so that no bandwidth makes all weights 0.
                *distance = f64::from(squared - nearest);
            }
            distances.as_flattened_mut()[i] = FAR;
            let (mut low, mut high) = (0.0_f64, f64::INFINITY);
            let mut precision = guess;
            // The next guess if the search fails: equal points, for example, have no such bandwidth and get the
            // closest one.
            guess = 1.0;
            for _ in 0..SEARCH_STEPS {
                let (mut sums, mut firsts, mut seconds) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
                for (weights, distances) in weights.iter_mut().zip(&distances) {
                    for lane in 0..LANES {
                        let distance = distances[lane];
                        let weight = decay(precision * distance);
                        weights[lane] = weight;
                        sums[lane] += weight;
                        firsts[lane] += weight * distance;
                        seconds[lane] += weight * distance * distance;
                    }
                }
                let (sum, first, second) = (total(sums), total(firsts), total(seconds));
                let (mean, square) = (first / sum, second / sum);
                let off = libm::log(sum) + precision * mean - wanted;
                if off.abs() <= SEARCH_TOLERANCE {
                    guess = precision;
                    break;
                }
                if off > 0.0 {
                    low = precision;
                } else {
                    high = precision;
                }
                // Newton's step for the logarithm of the precision, with which the entropy falls; else halve or
                // double.
                let slope = precision * precision * (square - mean * mean);
                let newton = precision * libm::exp((off / slope).clamp(-2.0, 2.0));
                let halfway = if high.is_finite() { f64::midpoint(low, high) } else { 2.0 * precision };
                precision = if newton > low && newton < high { newton } else { halfway };
            }
            let weights = &weights.as_flattened()[..count];
            let sum: f64 = weights.iter().sum();
            if sum > 0.0 {
                row.iter_mut().zip(weights).for_each(|(share, weight)| *share = weight / sum);
            }
        }
        all
    }
}

/// `exp(-x)` to 14 digits, for `x` from 0; 0 from 700 on. Unlike a call of `libm`, its steps can be vectorised by the
/// compiler, and they round the same on every processor.
#[inline(always)]
fn decay(x: f64) -> f64 {
    /// 1.5 * 2^52. Adding it rounds to a whole number, held in the last bits of the sum.
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let shifted = WHOLE - x.min(700.0) * std::f64::consts::LOG2_E;
    let whole = shifted - WHOLE;
    // At most half of ln 2 in magnitude.
    let rest = -x.min(700.0) - whole * LN_2_HIGH - whole * LN_2_LOW;
    // Taylor series; the next term would be 6e-15.
    let mut sum = 1.0 / 39_916_800.0;
    for factor in [3_628_800.0, 362_880.0, 40_320.0, 5_040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        sum = sum * rest + 1.0 / factor;
    }
    let exponent = shifted.to_bits().wrapping_sub(WHOLE.to_bits()).wrapping_add(1023) << 52;
    if x >= 700.0 { 0.0 } else { sum * f64::from_bits(exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::tsne::tests::golden;

    #[test]
    fn bandwidths_are_scikit_learns() {
        let golden = golden();
        let count = golden.points.len();
        let squared = squared_distances(&golden.points);
        let got = Conditional { squared: &squared, count, perplexity: golden.perplexity }.call();
        for (i, want) in golden.conditional.iter().enumerate() {
            for (j, (got, want)) in got[i * count..].iter().zip(want).enumerate() {
                assert!((got - want).abs() < 2e-5, "{i}, {j}: {got} and scikit-learn's {want}");
            }
        }
        for row in got.chunks_exact(count) {
            let entropy: f64 = row.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
            assert!((entropy.exp() - golden.perplexity).abs() < 1e-3, "{}", entropy.exp());
        }
    }

    #[test]
    fn they_are_the_same_bits_with_any_vectors() {
        let golden = golden();
        let (count, dims) = (golden.points.len(), golden.points.dims());
        let stride = dims.next_multiple_of(LANES);
        let mut values = vec![0.0; count * stride];
        for (values, row) in values.chunks_exact_mut(stride).zip(golden.points.rows()) {
            values[..dims].copy_from_slice(row);
        }
        let found = |arch: Arch| {
            let squared = arch.dispatch(SquaredDistances { values: &values, stride, count });
            let conditional = arch.dispatch(Conditional { squared: &squared, count, perplexity: golden.perplexity });
            let bits = conditional.into_iter().map(f64::to_bits).collect::<Vec<_>>();
            (squared.into_iter().map(f32::to_bits).collect::<Vec<_>>(), bits)
        };
        let want = found(Arch::Scalar);
        assert!(found(Arch::new()) == want);
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            assert!(found(Arch::V3(avx2)) == want);
        }
    }

    #[test]
    fn decay_is_the_exponential() {
        assert_eq!((decay(0.0), decay(700.0), decay(f64::INFINITY), decay(FAR)), (1.0, 0.0, 0.0, 0.0));
        for i in 0..70_000 {
            let x = f64::from(i) * 0.01 * (1.0 + f64::EPSILON * f64::from(i % 7));
            let (got, want) = (decay(x), libm::exp(-x));
            assert!(((got - want) / want).abs() < 1e-13, "{x}: {got} and {want}");
        }
    }
}
