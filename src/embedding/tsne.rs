//! t-SNE: layout on a plane that keeps the neighbours of high-dimensional points.
//!
//! Van der Maaten and Hinton, "Visualizing Data using t-SNE" (2008): the exact method, for at most a few thousand
//! points. Schedule and step size are those of scikit-learn; the start from principal components follows Kobak and
//! Berens, "The art of using t-SNE" (2019).

use pulp::bytemuck::cast_slice;
use pulp::{Arch, Simd, WithSimd};

use super::affinities::{Affinities, squared_distances};
use super::sums::total;
use super::{Layout, Points};

/// Steps with exaggerated attraction, in which clusters form.
const EXAGGERATED: usize = 250;
/// Steps after those, without exaggeration.
const SETTLING: usize = 250;
const EXAGGERATION: f32 = 12.0;
/// Steps with stronger attraction from an earlier layout of the same points. They bring points past others that now
/// lie in their way.
const LOOSENED: usize = 50;
const LOOSENING: f32 = 2.0;
/// Limit on the steps after those, which end once they gain too little.
const MOST_FOLLOWING: usize = 200;
/// Steps between two checks of the gain.
const STRETCH: usize = 25;
/// Smallest gain of one stretch that is worth another, in nats.
const LEAST_GAIN: f64 = 3e-3;
/// Smallest learning rate; otherwise `N / 48`.
const LEAST_RATE: f32 = 50.0;
/// The layout counts as settled below this norm of the gradient.
const LEAST_GRADIENT: f32 = 1e-7;
/// Spread of the starting layout.
const START_SPREAD: f64 = 1e-4;
/// Points whose forces on one point are computed at once, and parts of their sum. Divides the length of a row. One
/// vector of AVX-512, two of AVX2.
const SUMS: usize = 16;

/// Starting layout.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// A rough layout, the principal components: shrunk to almost a point, then unfolded.
    Rough(&'a Layout),
    /// A t-SNE layout of the same points a moment earlier. The new one stays close, so that the eye can follow.
    Earlier(&'a Layout),
}

/// Layout of finite points. If no two differ, all are in the middle. The bits are the same on every machine:
/// exponentials and logarithms come from the crate `libm` or from sums and products of our own.
///
/// # Panics
/// If the start has another number of points: a bug in the caller.
pub fn tsne(points: &Points, start: Start<'_>) -> Layout {
    let count = points.len();
    let squared = squared_distances(points);
    if squared.iter().all(|&distance| distance == 0.0) {
        return vec![[0.0; 2]; count];
    }
    let mut descent = Descent::new(Affinities::new(&squared, count));
    match start {
        Start::Rough(layout) => {
            descent.start(&shrunk(layout));
            descent.run(EXAGGERATED, EXAGGERATION, 0.5);
            descent.run(SETTLING, 1.0, 0.8);
        }
        Start::Earlier(layout) => {
            descent.start(layout);
            descent.run(LOOSENED, LOOSENING, 0.8);
            let mut steps = 0;
            while steps < MOST_FOLLOWING && descent.run(STRETCH, 1.0, 0.8) > LEAST_GAIN {
                steps += STRETCH;
            }
        }
    }
    descent.layout()
}

/// The layout with a standard deviation of [`START_SPREAD`] along the first axis. An offset of a hundredth of that is
/// added, in a different direction for each point: points in one place, or on one line, would feel no force out of it
/// and stay for ever.
fn shrunk(layout: &Layout) -> Layout {
    const GOLDEN_ANGLE: f64 = 2.399_963_229_728_653;
    let squares: f64 = layout.iter().map(|place| f64::from(place[0]).powi(2)).sum();
    let spread = (squares / layout.len() as f64).sqrt();
    let scale = if spread > 0.0 { START_SPREAD / spread } else { 0.0 };
    let place = |(index, place): (usize, &[f32; 2])| {
        let angle = index as f64 * GOLDEN_ANGLE;
        let moved = |at: f32, by: f64| (f64::from(at) * scale + 0.01 * START_SPREAD * by) as f32;
        [moved(place[0], libm::cos(angle)), moved(place[1], libm::sin(angle))]
    };
    layout.iter().enumerate().map(place).collect()
}

/// Gradient descent with momentum and a gain for each coordinate.
struct Descent {
    affinities: Affinities,
    /// Coordinates, one axis after the other, padded with zeros to whole lanes.
    places: [Vec<f32>; 2],
    steps: [Vec<f32>; 2],
    gains: [Vec<f32>; 2],
    gradient: [Vec<f32>; 2],
    forces: Forces,
}

impl Descent {
    fn new(affinities: Affinities) -> Descent {
        let axes = |value: f32| [vec![value; affinities.stride], vec![value; affinities.stride]];
        let forces = Forces { counts: vec![0.0; affinities.stride], pull: axes(0.0), push: axes(0.0), near: 0.0 };
        Descent { places: axes(0.0), steps: axes(0.0), gains: axes(1.0), gradient: axes(0.0), forces, affinities }
    }

    fn start(&mut self, layout: &Layout) {
        assert_eq!(layout.len(), self.affinities.count, "a start for every point");
        for (axis, places) in self.places.iter_mut().enumerate() {
            places.iter_mut().zip(layout).for_each(|(at, place)| *at = place[axis]);
        }
    }

    fn layout(&self) -> Layout {
        (0..self.affinities.count).map(|i| [self.places[0][i], self.places[1][i]]).collect()
    }

    /// Runs the steps and returns the decrease of the divergence, estimated from the slopes.
    fn run(&mut self, steps: usize, exaggeration: f32, momentum: f32) -> f64 {
        let mut fallen = 0.0;
        let rate = (self.affinities.count as f32 / (4.0 * EXAGGERATION)).max(LEAST_RATE);
        for _ in 0..steps {
            self.find_gradient(exaggeration);
            let squares: f32 = self.gradient.iter().flatten().map(|g| g * g).sum();
            if squares.sqrt() < LEAST_GRADIENT {
                break;
            }
            for axis in 0..2 {
                let slopes = self.gradient[axis].iter();
                let state = self.steps[axis].iter_mut().zip(&mut self.gains[axis]);
                for ((place, &slope), (step, gain)) in self.places[axis].iter_mut().zip(slopes).zip(state) {
                    *gain = if *step * slope < 0.0 { *gain + 0.2 } else { (*gain * 0.8).max(0.01) };
                    *step = momentum * *step - rate * *gain * slope;
                    *place += *step;
                    fallen -= f64::from(*step * slope);
                }
                // The forces of a pair cancel except for rounding, so the mean would drift only a little.
                let count = self.affinities.count;
                let mean = self.places[axis][..count].iter().sum::<f32>() / count as f32;
                self.places[axis][..count].iter_mut().for_each(|place| *place -= mean);
            }
        }
        fallen
    }

    fn find_gradient(&mut self, exaggeration: f32) {
        Arch::new().dispatch(FindGradient { descent: self, exaggeration });
    }
}

/// Gradient of the Kullback-Leibler divergence, `4 sum_j (p_ij - q_ij) w_ij (y_i - y_j)`, where
/// `w_ij = 1 / (1 + |y_i - y_j|^2)` and `q_ij` is its share in the sum over all pairs. The bits are the same on every
/// processor, whatever the length of its vectors: forces of earlier points are added one after the other, those of
/// later points in [`SUMS`] parts, and no multiplication and addition are fused.
struct FindGradient<'a> {
    descent: &'a mut Descent,
    exaggeration: f32,
}

/// Forces between all points. Each pair is visited once, since its two forces are opposite.
struct Forces {
    /// Mask of the pairs: 1 for the points after the current one, 0 for itself, for those before it and for the
    /// padding.
    counts: Vec<f32>,
    /// `sum_j p_ij w_ij (y_i - y_j)` and `sum_j w_ij w_ij (y_i - y_j)`, one axis after the other.
    pull: [Vec<f32>; 2],
    push: [Vec<f32>; 2],
    /// Sum of `w_ij` over all pairs.
    near: f64,
}

impl WithSimd for FindGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let FindGradient { descent: Descent { affinities, places, gradient, forces, .. }, exaggeration } = self;
        forces.clear(affinities.count);
        for i in 0..affinities.count {
            // A point is not its own neighbour, and its pairs with later points are added once.
            forces.counts[i] = 0.0;
            match SUMS / S::F32_LANES {
                1 => forces.add_pairs::<S, 1>(simd, affinities, places, i),
                2 => forces.add_pairs::<S, 2>(simd, affinities, places, i),
                4 => forces.add_pairs::<S, 4>(simd, affinities, places, i),
                _ => forces.add_pairs::<S, SUMS>(simd, affinities, places, i),
            }
        }
        let share = forces.near.max(f64::from(f32::MIN_POSITIVE)).recip() as f32;
        for ((gradient, pull), push) in gradient.iter_mut().zip(&forces.pull).zip(&forces.push) {
            for ((slope, &pull), &push) in gradient.iter_mut().zip(pull).zip(push) {
                *slope = 4.0 * (exaggeration * pull - share * push);
            }
        }
    }
}

impl Forces {
    fn clear(&mut self, count: usize) {
        self.counts[..count].fill(1.0);
        self.pull.iter_mut().chain(&mut self.push).for_each(|axis| axis.fill(0.0));
        self.near = 0.0;
    }

    /// Adds the forces between the point `i` and the ones after it. `N` vectors hold [`SUMS`] values.
    #[inline(always)]
    fn add_pairs<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        affinities: &Affinities,
        places: &[Vec<f32>; 2],
        i: usize,
    ) {
        let Forces { counts, pull, push, near: total } = self;
        // Starts at the vectors that contain the point itself.
        let after = i / SUMS * SUMS..affinities.stride;
        let (x, y) = (simd.splat_f32s(places[0][i]), simd.splat_f32s(places[1][i]));
        let (xs, ys) = (vectors::<S, N>(&places[0][after.clone()]), vectors::<S, N>(&places[1][after.clone()]));
        let joint = vectors::<S, N>(&affinities.joint[i * affinities.stride..][after.clone()]);
        let counts = vectors::<S, N>(&counts[after.clone()]);
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        let mut sums = [[zero; N]; 5];
        let ([pull_x, pull_y], [push_x, push_y]) = (&mut *pull, &mut *push);
        let others = vectors_mut::<S, N>(&mut pull_x[after.clone()])
            .iter_mut()
            .zip(vectors_mut::<S, N>(&mut pull_y[after.clone()]))
            .zip(vectors_mut::<S, N>(&mut push_x[after.clone()]))
            .zip(vectors_mut::<S, N>(&mut push_y[after]));
        let pairs = xs.iter().zip(ys).zip(counts).zip(joint);
        for ((((xs, ys), counts), joint), (((pull_x, pull_y), push_x), push_y)) in pairs.zip(others) {
            for n in 0..N {
                let (dx, dy) = (simd.sub_f32s(x, xs[n]), simd.sub_f32s(y, ys[n]));
                let squared = simd.add_f32s(simd.mul_f32s(dx, dx), simd.mul_f32s(dy, dy));
                let near = simd.div_f32s(counts[n], simd.add_f32s(one, squared));
                let (near_x, near_y) = (simd.mul_f32s(near, dx), simd.mul_f32s(near, dy));
                let of_pair = [
                    simd.mul_f32s(joint[n], near_x),
                    simd.mul_f32s(joint[n], near_y),
                    simd.mul_f32s(near, near_x),
                    simd.mul_f32s(near, near_y),
                    near,
                ];
                for (sum, &force) in sums.iter_mut().zip(&of_pair) {
                    sum[n] = simd.add_f32s(sum[n], force);
                }
                let others = [&mut pull_x[n], &mut pull_y[n], &mut push_x[n], &mut push_y[n]];
                for (other, &force) in others.into_iter().zip(&of_pair) {
                    *other = simd.sub_f32s(*other, force);
                }
            }
        }
        let [own_pull_x, own_pull_y, own_push_x, own_push_y, near] = sums.map(|sum| add_up::<S>(&sum));
        pull[0][i] += own_pull_x;
        pull[1][i] += own_pull_y;
        push[0][i] += own_push_x;
        push[1][i] += own_push_y;
        *total += 2.0 * f64::from(near);
    }
}

#[inline(always)]
fn vectors<S: Simd, const N: usize>(values: &[f32]) -> &[[S::f32s; N]] {
    S::as_simd_f32s(values).0.as_chunks().0
}

#[inline(always)]
fn vectors_mut<S: Simd, const N: usize>(values: &mut [f32]) -> &mut [[S::f32s; N]] {
    S::as_mut_simd_f32s(values).0.as_chunks_mut().0
}

/// Sum of all values, in the same order for vectors of any length.
#[inline(always)]
fn add_up<S: Simd>(vectors: &[S::f32s]) -> f32 {
    let mut parts = [0.0; SUMS];
    parts.copy_from_slice(cast_slice(vectors));
    total(parts)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::embedding::{pca, silhouette};

    /// scikit-learn's results for a set of points, from `tests/golden/make_embedding.py`.
    pub struct Golden {
        pub points: Points,
        pub labels: Vec<usize>,
        pub pca: Layout,
        pub explained: Vec<f64>,
        pub silhouette: f64,
        pub perplexity: f64,
        pub conditional: Vec<Vec<f64>>,
        pub tsne: Layout,
        pub divergences: Vec<f64>,
        pub silhouette_tsne: f64,
    }

    pub fn golden() -> Golden {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/embedding.json")).unwrap();
        let rows = |name: &str| -> Vec<Vec<f64>> { serde_json::from_value(golden[name].clone()).unwrap() };
        let layout = |name: &str| -> Layout { rows(name).iter().map(|row| [row[0] as f32, row[1] as f32]).collect() };
        let number = |name: &str| golden[name].as_f64().unwrap();
        let points = rows("points");
        Golden {
            points: Points::new(points[0].len(), points.iter().flatten().map(|&v| v as f32).collect()),
            labels: serde_json::from_value(golden["labels"].clone()).unwrap(),
            pca: layout("pca"),
            explained: serde_json::from_value(golden["explained"].clone()).unwrap(),
            silhouette: number("silhouette_pca"),
            perplexity: number("perplexity"),
            conditional: rows("conditional"),
            tsne: layout("tsne"),
            divergences: serde_json::from_value(golden["divergences"].clone()).unwrap(),
            silhouette_tsne: number("silhouette_tsne"),
        }
    }

    /// `sum_ij p_ij ln(p_ij / q_ij)`, in nats.
    fn divergence(affinities: &Affinities, layout: &Layout) -> f64 {
        let count = layout.len();
        let near = |i: usize, j: usize| {
            let [dx, dy] = [0, 1].map(|axis| f64::from(layout[i][axis]) - f64::from(layout[j][axis]));
            (1.0 + dx * dx + dy * dy).recip()
        };
        let pairs = || (0..count).flat_map(|i| (0..count).filter(move |&j| j != i).map(move |j| (i, j)));
        let total: f64 = pairs().map(|(i, j)| near(i, j)).sum();
        let term = |(i, j): (usize, usize)| {
            let p = f64::from(affinities.joint[i * affinities.stride + j]).max(1e-16);
            p * (p / (near(i, j) / total)).ln()
        };
        pairs().map(term).sum()
    }

    #[test]
    fn the_layout_is_as_good_as_scikit_learns() {
        let golden = golden();
        let affinities = Affinities::new(&squared_distances(&golden.points), golden.points.len());
        let (theirs, reported) = (divergence(&affinities, &golden.tsne), golden.divergences[0]);
        assert!((theirs - reported).abs() < 1e-3, "{theirs} and scikit-learn's own {reported}");
        let layout = tsne(&golden.points, Start::Rough(&pca(&golden.points).layout));
        let ours = divergence(&affinities, &layout);
        let worst = golden.divergences.iter().fold(0.0_f64, |most, &v| most.max(v));
        assert!(ours < 1.05 * worst, "{ours} and scikit-learn's {:?}", golden.divergences);
        let apart = silhouette(&layout, &golden.labels).unwrap();
        assert!(apart > golden.silhouette_tsne - 0.05, "{apart} and scikit-learn's {}", golden.silhouette_tsne);
    }

    #[test]
    fn a_layout_follows_points_that_move_far() {
        let golden = golden();
        let (count, dims) = (golden.points.len(), golden.points.dims());
        let affinities = Affinities::new(&squared_distances(&golden.points), count);
        let worst = golden.divergences.iter().fold(0.0_f64, |most, &v| most.max(v));
        for noise in [4.0, 16.0, 24.0, 40.0] {
            // Stand-in for the same points early in training: pixels are 0 to 16.
            let blurred = |(i, v): (usize, &f32)| v + noise * (0.7 * (i * i) as f64).sin() as f32;
            let before = Points::new(dims, golden.points.rows().flatten().enumerate().map(blurred).collect());
            let earlier = tsne(&before, Start::Rough(&pca(&before).layout));
            let ours = divergence(&affinities, &tsne(&golden.points, Start::Earlier(&earlier)));
            assert!(ours < 1.05 * worst, "noise {noise}: {ours} and scikit-learn's {:?}", golden.divergences);
        }
    }

    #[test]
    fn the_gradient_is_what_finite_differences_say() {
        // More than `SUMS`, and not a multiple of it.
        const COUNT: usize = 40;
        let values = (0..3 * COUNT).map(|i| (1.7 * (i * i) as f64).sin() as f32);
        let points = Points::new(3, values.collect());
        let mut descent = Descent::new(Affinities::new(&squared_distances(&points), COUNT));
        let layout: Layout = (0..COUNT).map(|i| [(0.9 * (i * i) as f32).sin(), (1.3 * (i * i) as f32).cos()]).collect();
        descent.start(&layout);
        descent.find_gradient(1.0);
        let first = descent.gradient.clone();
        descent.find_gradient(1.0);
        assert_eq!(descent.gradient, first, "nothing is left of the step before");
        for (i, axis) in [(0, 0), (3, 1), (15, 0), (16, 1), (31, 0), (32, 1), (39, 0)] {
            let at = |by: f32| {
                let mut moved = layout.clone();
                moved[i][axis] += by;
                divergence(&descent.affinities, &moved)
            };
            let want = (at(1e-3) - at(-1e-3)) / 2e-3;
            let got = f64::from(descent.gradient[axis][i]);
            assert!((got - want).abs() < 1e-4, "point {i}, axis {axis}: {got}, want {want}");
        }
    }

    #[test]
    fn forces_are_the_same_bits_with_any_vectors() {
        let golden = golden();
        let squared = squared_distances(&golden.points);
        let start = pca(&golden.points).layout;
        let gradient = |arch: Arch| {
            let mut descent = Descent::new(Affinities::new(&squared, golden.points.len()));
            descent.start(&start);
            arch.dispatch(FindGradient { descent: &mut descent, exaggeration: 1.0 });
            descent.gradient.map(|axis| axis.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        let want = gradient(Arch::Scalar);
        assert_eq!(gradient(Arch::new()), want);
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            assert_eq!(gradient(Arch::V3(avx2)), want);
        }
    }

    #[test]
    fn the_same_points_give_the_same_layout_and_an_earlier_one_is_followed() {
        let golden = golden();
        let start = pca(&golden.points).layout;
        let first = tsne(&golden.points, Start::Rough(&start));
        assert_eq!(tsne(&golden.points, Start::Rough(&start)), first);
        let moved =
            Points::new(golden.points.dims(), golden.points.rows().flatten().map(|v| v * 1.01 + 0.01).collect());
        let next = tsne(&moved, Start::Earlier(&first));
        let extent = first.iter().flatten().fold(0.0_f32, |most, v| most.max(v.abs()));
        let far = |(a, b): (&[f32; 2], &[f32; 2])| (a[0] - b[0]).hypot(a[1] - b[1]);
        let mean = first.iter().zip(&next).map(far).sum::<f32>() / first.len() as f32;
        assert!(mean < 0.2 * extent, "points moved by {mean} of {extent}");
    }

    #[test]
    fn few_points_equal_points_and_points_on_a_line_have_a_layout() {
        let line = |count: usize| (0..count).map(|i| i as f32).collect::<Vec<f32>>();
        let mut cases: Vec<Vec<f32>> = (0..12).map(line).collect();
        cases.extend([
            vec![0.0; 40],
            vec![7.5; 3],
            [vec![0.0; 20], vec![1.0; 20]].concat(),
            vec![f32::MAX, f32::MIN, 0.0],
        ]);
        for values in cases {
            let points = Points::new(1, values.clone());
            let start = pca(&points).layout;
            let layout = tsne(&points, Start::Rough(&start));
            assert_eq!(layout.len(), values.len());
            assert!(layout.iter().flatten().all(|v| v.is_finite()), "{values:?}: {layout:?}");
            let next = tsne(&points, Start::Earlier(&layout));
            assert!(next.iter().flatten().all(|v| v.is_finite()), "{values:?}: {next:?}");
        }
    }
}
