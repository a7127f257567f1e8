//! Principal component analysis: projection to the plane with the largest variance.
//!
//! Subspace iteration with Rayleigh-Ritz projection (Saad, "Numerical Methods for Large Eigenvalue Problems", 2011,
//! chapter 5), on the data themselves, without a `D x D` matrix.

use pulp::{Arch, NullaryFnOnce};

use super::sums::{LANES, total};
use super::{Layout, Points};

/// Vectors in the iteration, more than the two wanted. Convergence depends on the drop of the variance from the
/// wanted components to the first one outside the block, and image classes leave about this many strong directions.
const BLOCK: usize = 12;
/// Far above the ten or so iterations in which features converge.
const MOST_ITERATIONS: usize = 500;
/// Largest error of a component, relative to its variance.
const TOLERANCE: f64 = 1e-9;

/// The first two principal components.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    /// Coordinates of the points, relative to their mean.
    pub layout: Layout,
    /// Share of the variance along each axis, 0 to 1; 0 if nothing varies.
    pub explained: [f64; 2],
}

impl Pca {
    /// Flips each axis for which that brings the layout nearer to an earlier one of the same points. The sign of a
    /// component means nothing, and plots over time should be comparable.
    #[must_use]
    pub fn towards(mut self, earlier: &Layout) -> Pca {
        for axis in 0..2 {
            let pairs = self.layout.iter().zip(earlier);
            let product: f64 = pairs.map(|(a, b)| f64::from(a[axis]) * f64::from(b[axis])).sum();
            if product < 0.0 {
                self.layout.iter_mut().for_each(|place| place[axis] = -place[axis]);
            }
        }
        self
    }
}

/// PCA of finite points. As in scikit-learn, the sign of an axis makes its largest weight positive.
pub fn pca(points: &Points) -> Pca {
    let centred = centred(points);
    let total_variance: f64 = centred.iter().flatten().map(|v| v * v).sum();
    let mut layout = vec![[0.0; 2]; points.len()];
    let mut explained = [0.0; 2];
    for (axis, (variance, mut direction)) in components(&centred, points.dims(), total_variance).into_iter().enumerate()
    {
        let largest = direction.iter().fold(0.0_f64, |most, &v| if v.abs() > most.abs() { v } else { most });
        if largest < 0.0 {
            direction.iter_mut().for_each(|v| *v = -*v);
        }
        explained[axis] = variance / total_variance;
        for (place, row) in layout.iter_mut().zip(&centred) {
            place[axis] = dot(row, &direction) as f32;
        }
    }
    Pca { layout, explained }
}

fn centred(points: &Points) -> Vec<Vec<f64>> {
    let mut mean = vec![0.0; points.dims()];
    for row in points.rows() {
        mean.iter_mut().zip(row).for_each(|(mean, &v)| *mean += f64::from(v) / points.len() as f64);
    }
    points.rows().map(|row| row.iter().zip(&mean).map(|(&v, mean)| f64::from(v) - mean).collect()).collect()
}

/// At most two eigenvalues and eigenvectors of `rows^T rows`, the largest first; none if nothing varies.
fn components(rows: &[Vec<f64>], dims: usize, total_variance: f64) -> Vec<(f64, Vec<f64>)> {
    // Rounding of the mean leaves about 1e-16 of each value.
    if total_variance <= f64::MIN_POSITIVE {
        return Vec::new();
    }
    let block = BLOCK.min(dims);
    // Sines of different frequencies: any linearly independent start will do.
    let start = (0..block).map(|j| (0..dims).map(|i| libm::sin((i + 1) as f64 * (j + 1) as f64)).collect());
    let mut basis: Vec<Vec<f64>> = orthonormal(start.collect());
    for iteration in 1.. {
        let images = Arch::new().dispatch(Images { rows, basis: &basis });
        let projected = basis.iter().map(|a| images.iter().map(|b| dot(a, b)).collect()).collect();
        let ritz = eigen(projected);
        let mixed = |from: &[Vec<f64>], weights: &[f64]| {
            let mut sum = vec![0.0; dims];
            for (vector, weight) in from.iter().zip(weights) {
                sum.iter_mut().zip(vector).for_each(|(sum, v)| *sum += weight * v);
            }
            sum
        };
        let wanted = &ritz[..ritz.len().min(2)];
        let settled = wanted.iter().all(|(value, weights)| {
            let (vector, image) = (mixed(&basis, weights), mixed(&images, weights));
            let off = image.iter().zip(&vector).map(|(image, v)| (image - value * v).powi(2)).sum::<f64>().sqrt();
            off <= TOLERANCE * value.max(TOLERANCE * total_variance)
        });
        if settled || iteration == MOST_ITERATIONS {
            return wanted.iter().map(|(value, weights)| (value.max(0.0), mixed(&basis, weights))).collect();
        }
        basis = orthonormal(ritz.iter().map(|(_, weights)| mixed(&images, weights)).collect());
    }
    Vec::new()
}

/// `rows^T rows direction` for each direction of a basis. The bits are the same on every processor, whatever the
/// length of its vectors: sums always have [`LANES`] parts, and no multiplication and addition are fused.
struct Images<'a> {
    rows: &'a [Vec<f64>],
    basis: &'a [Vec<f64>],
}

impl NullaryFnOnce for Images<'_> {
    type Output = Vec<Vec<f64>>;

    #[inline(always)]
    fn call(self) -> Vec<Vec<f64>> {
        let mut sums: Vec<Vec<f64>> = self.basis.iter().map(|direction| vec![0.0; direction.len()]).collect();
        for row in self.rows {
            for (sum, direction) in sums.iter_mut().zip(self.basis) {
                let along = dot(row, direction);
                for (sum, v) in sum.iter_mut().zip(row) {
                    *sum += along * v;
                }
            }
        }
        sums
    }
}

/// Gram-Schmidt, applied twice, since once leaves rounding errors. Linearly dependent vectors are dropped.
fn orthonormal(vectors: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(vectors.len());
    for mut vector in vectors {
        let before = dot(&vector, &vector).sqrt();
        for _ in 0..2 {
            for earlier in &basis {
                let along = dot(&vector, earlier);
                vector.iter_mut().zip(earlier).for_each(|(v, e)| *v -= along * e);
            }
        }
        let length = dot(&vector, &vector).sqrt();
        if length > 1e-12 * before {
            vector.iter_mut().for_each(|v| *v /= length);
            basis.push(vector);
        }
    }
    basis
}

/// Eigenvalues, the largest first, and eigenvectors of a small symmetric matrix, by cyclic Jacobi rotations (Golub and
/// Van Loan, "Matrix Computations", section 8.5).
fn eigen(mut a: Vec<Vec<f64>>) -> Vec<(f64, Vec<f64>)> {
    let size = a.len();
    let mut vectors: Vec<Vec<f64>> =
        (0..size).map(|i| (0..size).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    // Convergence is quadratic: six or seven sweeps are enough.
    for _ in 0..30 {
        for p in 0..size {
            for q in p + 1..size {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let cosine = (tangent * tangent + 1.0).sqrt().recip();
                let sine = tangent * cosine;
                for row in &mut a {
                    (row[p], row[q]) = (cosine * row[p] - sine * row[q], sine * row[p] + cosine * row[q]);
                }
                for k in 0..size {
                    (a[p][k], a[q][k]) = (cosine * a[p][k] - sine * a[q][k], sine * a[p][k] + cosine * a[q][k]);
                    (vectors[p][k], vectors[q][k]) =
                        (cosine * vectors[p][k] - sine * vectors[q][k], sine * vectors[p][k] + cosine * vectors[q][k]);
                }
                // Only rounding error or an underflow remains.
                (a[p][q], a[q][p]) = (0.0, 0.0);
            }
        }
    }
    let mut pairs: Vec<(f64, Vec<f64>)> =
        vectors.into_iter().enumerate().map(|(i, vector)| (a[i][i], vector)).collect();
    pairs.sort_by(|x, y| y.0.total_cmp(&x.0));
    pairs
}

#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    total(sums) + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::tsne::tests::golden;

    #[test]
    fn scikit_learn_gets_the_same_components() {
        let golden = golden();
        let got = pca(&golden.points);
        for (got, want) in got.explained.iter().zip(&golden.explained) {
            assert!((got - want).abs() < 1e-9, "explained: {got} and scikit-learn's {want}");
        }
        for (index, (got, want)) in got.layout.iter().zip(&golden.pca).enumerate() {
            for axis in 0..2 {
                assert!((got[axis] - want[axis]).abs() < 1e-5, "point {index}: {got:?} and scikit-learn's {want:?}");
            }
        }
    }

    #[test]
    fn images_are_the_same_bits_with_any_vectors() {
        let rows = centred(&golden().points);
        let images = |arch: Arch| {
            let images = arch.dispatch(Images { rows: &rows, basis: &rows[..3] });
            images.into_iter().flatten().map(f64::to_bits).collect::<Vec<_>>()
        };
        let want = images(Arch::Scalar);
        assert_eq!(images(Arch::new()), want);
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            assert_eq!(images(Arch::V3(avx2)), want);
        }
    }

    #[test]
    fn a_line_has_one_component() {
        let points = Points::new(3, (0..5).flat_map(|i| [i as f32, 2.0 * i as f32, 7.0]).collect());
        let pca = pca(&points);
        assert!((pca.explained[0] - 1.0).abs() < 1e-12 && pca.explained[1].abs() < 1e-12, "{:?}", pca.explained);
        for (i, place) in pca.layout.iter().enumerate() {
            assert!((place[0] - (i as f32 - 2.0) * 5.0_f32.sqrt()).abs() < 1e-5 && place[1].abs() < 1e-5, "{place:?}");
        }
    }

    #[test]
    fn points_that_do_not_differ_lie_in_one_place() {
        for (dims, count) in [(1, 1), (3, 1), (4, 7), (2, 0)] {
            let pca = pca(&Points::new(dims, vec![0.3; dims * count]));
            assert_eq!(pca.layout.len(), count);
            assert!(pca.layout.iter().flatten().all(|v| v.abs() < 1e-6), "{:?}", pca.layout);
            assert!(pca.explained.iter().all(|share| (0.0..=1.0).contains(share)), "{:?}", pca.explained);
        }
    }

    #[test]
    fn axes_are_turned_towards_an_earlier_layout() {
        let pca = Pca { layout: vec![[1.0, 2.0], [-1.0, -2.0]], explained: [0.5, 0.5] };
        assert_eq!(pca.towards(&vec![[-3.0, 1.0], [3.0, -1.0]]).layout, [[-1.0, 2.0], [1.0, -2.0]]);
    }

    #[test]
    fn large_and_small_values_are_no_trouble() {
        for scale in [1e-30_f32, 1e30] {
            let points = Points::new(2, [1.0, 0.0, -1.0, 0.0, 0.0, 0.5, 0.0, -0.5].map(|v| v * scale).to_vec());
            let pca = pca(&points);
            assert!((pca.explained[0] - 0.8).abs() < 1e-6, "{:?}", pca.explained);
        }
    }
}
