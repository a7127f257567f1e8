//! Histograms in thirty buckets of equal width, by the rule of Keras and `tf.summary.histogram`.

/// Buckets in every histogram.
pub const BUCKETS: usize = 30;

/// Counts of a tensor's values by interval.
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

/// Values whose buckets are found, and then counted, at once: few enough for the fastest cache.
const BLOCK: usize = 1024;

impl Histogram {
    /// The histogram of the finite ones among `values`.
    ///
    /// One NaN or infinite edge would ruin TensorBoard's chart for all steps, so the others are left out and counted
    /// in [`Histogram::non_finite`].
    pub fn of(values: &[f32]) -> Histogram {
        Histogram::with(values, pulp::Arch::new())
    }

    /// The loops over the values hold neither branches nor calls, so the compiler makes vector instructions of them:
    /// for the processor that `arch` found, not only for the oldest that the program runs on.
    fn with(values: &[f32], arch: pulp::Arch) -> Histogram {
        let range = arch.dispatch(FindRange { values });
        let non_finite = range.low + range.high;
        let finite = values.len() as u64 - non_finite;
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
                let counts = arch.dispatch(Count { values, rule: Rule::new(&range, width) });
                for (bucket, count) in buckets.iter_mut().zip(counts) {
                    bucket.count = count as f64;
                }
                buckets[0].count -= range.low as f64;
                buckets[BUCKETS - 1].count -= range.high as f64;
            } else if let Some(last) = buckets.last_mut() {
                last.count = finite as f64;
            }
        }
        Histogram { buckets, non_finite }
    }

    /// In ascending order.
    pub fn buckets(&self) -> &[Bucket; BUCKETS] {
        &self.buckets
    }

    /// Number of values that were NaN or infinite.
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }
}

/// Smallest and largest of the finite values, and how many others there are.
struct Range {
    min: f32,
    max: f32,
    /// NaN and minus infinity: the rule puts them in the first bucket.
    low: u64,
    /// Infinity: the rule puts it in the last bucket.
    high: u64,
}

struct FindRange<'a> {
    values: &'a [f32],
}

impl pulp::NullaryFnOnce for FindRange<'_> {
    type Output = Range;

    #[inline(always)]
    fn call(self) -> Range {
        const FINITE: std::ops::RangeInclusive<i32> = key(f32::MIN)..=key(f32::MAX);
        const INFINITY: i32 = key(f32::INFINITY);
        let (mut min, mut max) = (i32::MAX, i32::MIN);
        for &value in self.values {
            let key = key(value);
            min = min.min(key);
            max = max.max(key);
        }
        let (mut low, mut high) = (0, 0);
        // Whatever is not finite lies at the ends of the order.
        if !(FINITE.contains(&min) && FINITE.contains(&max)) {
            (min, max) = (i32::MAX, i32::MIN);
            for block in self.values.chunks(BLOCK) {
                let (mut others, mut infinite) = (0u32, 0u32);
                for &value in block {
                    let key = key(value);
                    let finite = FINITE.contains(&key);
                    min = min.min(if finite { key } else { i32::MAX });
                    max = max.max(if finite { key } else { i32::MIN });
                    others = others.wrapping_add(u32::from(!finite));
                    infinite = infinite.wrapping_add(u32::from(key == INFINITY));
                }
                low += u64::from(others - infinite);
                high += u64::from(infinite);
            }
        }
        Range { min: value(min), max: value(max), low, high }
    }
}

/// An integer that orders like the float; smallest and largest of integers are found many at a time.
const fn key(value: f32) -> i32 {
    let bits = value.to_bits() as i32;
    bits ^ ((bits >> 31) & i32::MAX)
}

/// The float of a key. Of the two zeros, which are one edge, it is the positive one.
fn value(key: i32) -> f32 {
    f32::from_bits((key ^ ((key >> 31) & i32::MAX)) as u32) + 0.0
}

/// Bucket of a value: the whole part of `(value - min) / width` in doubles, and at most the last.
///
/// The division is the reference's: a multiplication by `1 / width` puts values on an edge in other buckets. But it is
/// slow, and far from the edges a multiplication of floats, twice as many at a time, tells as much.
struct Rule {
    min: f32,
    width: f64,
    /// `1 / width`; `None` if the values lie too far apart, or too close, for floats.
    scale: Option<f32>,
}

impl Rule {
    fn new(range: &Range, width: f64) -> Rule {
        let scale = (1.0 / width) as f32;
        let fits = scale.is_normal() && (range.max - range.min).is_finite();
        Rule { min: range.min, width, scale: fits.then_some(scale) }
    }

    /// Puts each value's bucket in `buckets`.
    #[inline(always)]
    fn divide(&self, values: &[f32], buckets: &mut [u8]) {
        /// Added to a double below 2^51, it leaves the nearest whole number in the last bits.
        const ROUND: f64 = (3u64 << 51) as f64;
        const LAST: f64 = (BUCKETS - 1) as f64;
        let min = f64::from(self.min);
        for (bucket, &value) in buckets.iter_mut().zip(values) {
            let place = (f64::from(value) - min) / self.width;
            // A NaN becomes 0.
            let place = if place > 0.0 { place } else { 0.0 };
            let place = if place < LAST { place } else { LAST };
            let nearest = (place + ROUND) - ROUND;
            let whole = if nearest > place { nearest - 1.0 } else { nearest };
            *bucket = (whole + ROUND).to_bits() as u8;
        }
    }

    /// As `divide`, with `scale`; `false` if a value is so near an edge that its bucket is in doubt.
    #[inline(always)]
    fn estimate(&self, scale: f32, values: &[f32], buckets: &mut [u8]) -> bool {
        /// More than a place can be off: the difference, the scale and their product are each rounded by a part in
        /// 2^24 of a place of at most 30, and taking one half by 2^-20.
        const DOUBT: f32 = 1.0 / (1 << 16) as f32;
        /// As in `divide`.
        const ROUND: f32 = (3 << 22) as f32;
        // The outer edges are not in doubt: nothing lies beyond them. A NaN becomes the lower one.
        const FIRST: f32 = 2.0 * DOUBT - 0.5;
        const LAST: f32 = BUCKETS as f32 - 0.5 - 2.0 * DOUBT;
        let mut farthest = 0;
        for (bucket, &value) in buckets.iter_mut().zip(values) {
            // From the middle of a bucket, so that the nearest whole number is the bucket's.
            let place = (value - self.min) * scale - 0.5;
            let place = if place > FIRST { place } else { FIRST };
            let place = if place < LAST { place } else { LAST };
            let nearest = place + ROUND;
            // The bits of floats without a sign order like the floats.
            farthest = farthest.max((place - (nearest - ROUND)).abs().to_bits() as i32);
            *bucket = nearest.to_bits() as u8;
        }
        farthest < (0.5 - DOUBT).to_bits() as i32
    }
}

struct Count<'a> {
    values: &'a [f32],
    rule: Rule,
}

impl pulp::NullaryFnOnce for Count<'_> {
    type Output = [u64; BUCKETS];

    #[inline(always)]
    fn call(self) -> [u64; BUCKETS] {
        let mut counts = [0; BUCKETS];
        let mut buckets = [0; BLOCK];
        for block in self.values.chunks(BLOCK) {
            let buckets = &mut buckets[..block.len()];
            if !self.rule.scale.is_some_and(|scale| self.rule.estimate(scale, block, buckets)) {
                self.rule.divide(block, buckets);
            }
            tally(buckets, &mut counts);
        }
        counts
    }
}

/// Counts how often each bucket comes: for every bucket once through all of them, since comparing many at a time is
/// faster than adding to a counter that the one before has just changed.
#[inline(always)]
fn tally(buckets: &[u8], counts: &mut [u64; BUCKETS]) {
    const LANES: usize = 32;
    /// Fewer than a counter of one byte can hold.
    const ROWS: usize = 32;
    let (rows, _) = buckets.as_chunks::<LANES>();
    let (blocks, _) = rows.as_chunks::<ROWS>();
    for block in blocks {
        for (bucket, count) in counts.iter_mut().enumerate() {
            let mut hits = [0u8; LANES];
            for (lane, hits) in hits.iter_mut().enumerate() {
                for row in block {
                    *hits = hits.wrapping_add(u8::from(row[lane] == bucket as u8));
                }
            }
            *count += u64::from(hits.iter().fold(0u32, |sum, &hits| sum.wrapping_add(u32::from(hits))));
        }
    }
    for &bucket in &buckets[blocks.as_flattened().as_flattened().len()..] {
        counts[usize::from(bucket).min(BUCKETS - 1)] += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulp::NullaryFnOnce;

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

    /// Inputs that are hard on the shortcuts: many values, near or on edges, tiny, huge, equal, or not finite.
    fn nasty() -> impl Strategy<Value = Vec<f32>> {
        (0..9, any::<u32>(), 0..4 * BLOCK).prop_map(|(kind, seed, len)| {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 8
            };
            let unit = |bits: u32| bits as f32 / (1 << 24) as f32;
            let (scale, offset) = (unit(next()) * 1e3, unit(next()) - 0.5);
            let mut value = || match kind {
                0 => unit(next()) * scale + offset,
                1 => f32::from_bits((next() % 200) | (next() << 31)),
                2 => f32::from_bits((next() << 8) ^ next()),
                3 => (unit(next()) - 0.5) * 2.0 * f32::MAX,
                4 => offset,
                // On the edges of thirty buckets, and one float beside them.
                5 => f32::from_bits((1.0 + (next() % 31) as f32 / 30.0).to_bits() + next() % 3 - 1),
                6 => f32::from_bits((offset.abs() + 0.5).to_bits() + next() % 40),
                7 => [0.0, -0.0, scale, unit(next())][next() as usize % 4],
                _ => [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, unit(next()), offset][next() as usize % 5],
            };
            (0..len).map(|_| value()).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn shortcuts_do_not_change_the_rule(values in nasty()) {
            let fast = Histogram::of(&values);
            prop_assert_eq!(rows(&fast), reference(&values));
            prop_assert_eq!(fast.non_finite(), values.iter().filter(|value| !value.is_finite()).count() as u64);
            prop_assert_eq!(fast, Histogram::with(&values, pulp::Arch::Scalar));
        }
    }

    #[test]
    fn values_far_from_edges_are_not_divided() {
        let mut values: Vec<f32> = (0..BLOCK).map(|i| (i % BUCKETS) as f32 + 0.5).collect();
        (values[0], values[1]) = (0.0, BUCKETS as f32);
        let rule = Rule::new(&FindRange { values: &values }.call(), 1.0);
        let (mut estimated, mut divided) = ([0; BLOCK], [0; BLOCK]);
        assert!(rule.estimate(rule.scale.unwrap(), &values, &mut estimated));
        rule.divide(&values, &mut divided);
        assert_eq!(estimated, divided);
        // An edge is in doubt.
        assert!(!rule.estimate(rule.scale.unwrap(), &[15.0], &mut estimated));
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
