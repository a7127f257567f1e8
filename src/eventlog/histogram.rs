//! Histograms in thirty buckets of equal width, by the rule of Keras and `tf.summary.histogram`.

/// Buckets in every histogram.
pub const BUCKETS: usize = 30;

/// How many of a tensor's values lie where.
///
/// Buckets ascend and touch; each holds its left edge, the last one its right edge, too. If all values are equal, all
/// edges are that value and the last bucket holds the count; without values everything is zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    buckets: Box<[Bucket; BUCKETS]>,
    non_finite: u64,
}

/// The values from `left` to `right`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    pub left: f64,
    pub right: f64,
    pub count: f64,
}

impl Histogram {
    /// The histogram of the finite ones among `values`.
    ///
    /// One NaN or infinite edge would ruin TensorBoard's chart for all steps, so the others are left out and counted
    /// in [`Histogram::non_finite`].
    pub fn of(values: &[f32]) -> Histogram {
        let range = Range::of(values);
        let finite = values.len() as u64 - range.non_finite;
        let mut buckets = Box::new([Bucket::default(); BUCKETS]);
        if finite > 0 {
            let (min, max) = (f64::from(range.min), f64::from(range.max));
            let width = (max - min) / BUCKETS as f64;
            let mut left = min;
            for (i, bucket) in buckets.iter_mut().enumerate() {
                let right = if i + 1 == BUCKETS { max } else { min + width * (i + 1) as f64 };
                *bucket = Bucket { left, right, count: 0.0 };
                left = right;
            }
            if width > 0.0 {
                let counts = count(values, min, width, range.non_finite == 0);
                for (bucket, count) in buckets.iter_mut().zip(counts) {
                    bucket.count = count as f64;
                }
            } else if let Some(last) = buckets.last_mut() {
                last.count = finite as f64;
            }
        }
        Histogram { buckets, non_finite: range.non_finite }
    }

    /// In ascending order.
    pub fn buckets(&self) -> &[Bucket; BUCKETS] {
        &self.buckets
    }

    /// How many values were NaN or infinite.
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }
}

/// Smallest and largest of the finite values.
struct Range {
    min: f32,
    max: f32,
    non_finite: u64,
}

impl Range {
    fn of(values: &[f32]) -> Range {
        const LANES: usize = 8;
        // Independent lanes, and nothing that depends on the order: the compiler can use vector instructions.
        let (mut min, mut max, mut odd) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0u32; LANES]);
        let mut non_finite = 0;
        // A chunk is short enough that no counter of a lane overflows.
        for chunk in values.chunks(1 << 20) {
            let (rows, rest) = chunk.as_chunks::<LANES>();
            for row in rows {
                for lane in 0..LANES {
                    let value = row[lane];
                    let finite = value.is_finite();
                    min[lane] = if finite && value < min[lane] { value } else { min[lane] };
                    max[lane] = if finite && value > max[lane] { value } else { max[lane] };
                    odd[lane] += u32::from(!finite);
                }
            }
            for &value in rest {
                if value.is_finite() {
                    min[0] = min[0].min(value);
                    max[0] = max[0].max(value);
                } else {
                    odd[0] += 1;
                }
            }
            non_finite += odd.iter().map(|&n| u64::from(n)).sum::<u64>();
            odd = [0; LANES];
        }
        Range {
            min: min.into_iter().fold(f32::INFINITY, f32::min),
            max: max.into_iter().fold(f32::NEG_INFINITY, f32::max),
            non_finite,
        }
    }
}

/// Finite values in each bucket.
fn count(values: &[f32], min: f64, width: f64, all_finite: bool) -> [u64; BUCKETS] {
    const LANES: usize = 4;
    // Neighbours often fall in one bucket, and a counter just written is slow to read again: each lane has its own.
    let mut counts = [[0u64; BUCKETS]; LANES];
    // The division is the reference's; a multiplication by 1 / width puts values on an edge in other buckets.
    let bucket = |value: f32| (((f64::from(value) - min) / width) as usize).min(BUCKETS - 1);
    if all_finite {
        let (rows, rest) = values.as_chunks::<LANES>();
        for row in rows {
            for lane in 0..LANES {
                counts[lane][bucket(row[lane])] += 1;
            }
        }
        for &value in rest {
            counts[0][bucket(value)] += 1;
        }
    } else {
        for &value in values.iter().filter(|value| value.is_finite()) {
            counts[0][bucket(value)] += 1;
        }
    }
    let mut total = [0; BUCKETS];
    for lane in counts {
        for (sum, count) in total.iter_mut().zip(lane) {
            *sum += count;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule, word for word.
    fn reference(values: &[f32]) -> Vec<(f64, f64, f64)> {
        let values: Vec<f64> = values.iter().filter(|v| v.is_finite()).map(|&v| f64::from(v)).collect();
        if values.is_empty() {
            return vec![(0.0, 0.0, 0.0); 30];
        }
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if min == max {
            let mut rows = vec![(min, min, 0.0); 30];
            rows[29].2 = values.len() as f64;
            return rows;
        }
        let width = (max - min) / 30.0;
        let edge = |i: usize| if i == 30 { max } else { min + width * i as f64 };
        let mut rows: Vec<_> = (0..30).map(|i| (edge(i), edge(i + 1), 0.0)).collect();
        for value in values {
            rows[(((value - min) / width).floor() as usize).min(29)].2 += 1.0;
        }
        rows
    }

    fn rows(histogram: &Histogram) -> Vec<(f64, f64, f64)> {
        histogram.buckets().iter().map(|b| (b.left, b.right, b.count)).collect()
    }

    #[test]
    fn no_values_and_equal_values() {
        assert_eq!(rows(&Histogram::of(&[])), vec![(0.0, 0.0, 0.0); 30]);
        let equal = Histogram::of(&[2.5; 7]);
        assert_eq!(rows(&equal)[..29], vec![(2.5, 2.5, 0.0); 29]);
        assert_eq!(rows(&equal)[29], (2.5, 2.5, 7.0));
    }

    #[test]
    fn edges_belong_to_the_bucket_on_their_right_and_the_last_edge_to_the_last_bucket() {
        let values: Vec<f32> = (0..=30).map(|i| i as f32).collect();
        let histogram = Histogram::of(&values);
        assert_eq!(rows(&histogram)[0], (0.0, 1.0, 1.0));
        assert_eq!(rows(&histogram)[29], (29.0, 30.0, 2.0));
    }

    #[test]
    fn what_is_not_finite_is_left_out_and_counted() {
        let histogram = Histogram::of(&[f32::NAN, 1.0, f32::INFINITY, 2.0, f32::NEG_INFINITY]);
        assert_eq!(histogram.non_finite(), 3);
        assert_eq!(rows(&histogram), reference(&[1.0, 2.0]));
        let nothing = Histogram::of(&[f32::NAN; 9]);
        assert_eq!((rows(&nothing), nothing.non_finite()), (vec![(0.0, 0.0, 0.0); 30], 9));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let histogram = Histogram::of(&[f32::MIN, f32::MAX, 0.0, f32::MIN_POSITIVE]);
        assert_eq!(rows(&histogram), reference(&[f32::MIN, f32::MAX, 0.0, f32::MIN_POSITIVE]));
        let tiny = [0.0, f32::from_bits(1), f32::from_bits(2)];
        assert_eq!(rows(&Histogram::of(&tiny)), reference(&tiny));
    }

    proptest! {
        #[test]
        fn is_the_reference_rule(values in prop::collection::vec(any::<f32>(), 0..300)) {
            prop_assert_eq!(rows(&Histogram::of(&values)), reference(&values));
        }

        #[test]
        fn is_the_reference_rule_on_grids(values in prop::collection::vec(-40i8..40, 0..300)) {
            let values: Vec<f32> = values.into_iter().map(|v| f32::from(v) * 0.1).collect();
            prop_assert_eq!(rows(&Histogram::of(&values)), reference(&values));
        }
    }
}
