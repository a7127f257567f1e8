//! The only source of chance: seed x purpose x epoch x index name independent streams.
//!
//! Nothing is drawn from a generator that somebody else has drawn from before, so a run that is resumed, watched or cut
//! into more threads sees the same values, and there is no generator state to save.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::types::Seed;

/// What chance is used for. The numbers are part of every result ever trained: add to them, never change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights; the index counts parameters.
    Initialise = 1,
    /// The order of training images in an epoch.
    Order = 2,
    /// A drawn image; the epoch is the split's number, the index the image's.
    Synthetic = 3,
    /// The classes of drawn images; the epoch is the split's number, the index counts blocks of one image per class.
    SyntheticClasses = 4,
    /// Which validation images are shown again and again.
    Probes = 5,
    /// The noise of SmoothGrad; the index counts samples.
    SmoothGrad = 6,
    /// The start and the shifts of activation maximisation; the index tells them apart.
    ActivationMax = 7,
    /// Tests of other modules.
    Test = 1000,
}

/// An endless series of draws, equal for equal names on every machine.
///
/// The name is the key of a ChaCha8 generator as it stands (seed, purpose, epoch, index, little endian, 28 of 32 bytes),
/// so two names never share a stream by accident.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    pub fn new(seed: Seed, purpose: Purpose, epoch: u64, index: u64) -> Stream {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.0.to_le_bytes());
        key[8..12].copy_from_slice(&(purpose as u32).to_le_bytes());
        key[12..20].copy_from_slice(&epoch.to_le_bytes());
        key[20..28].copy_from_slice(&index.to_le_bytes());
        Stream(ChaCha8Rng::from_seed(key))
    }

    /// Any value is as likely as any other.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// An unbiased value below `n`; 0 when `n` is 0.
    ///
    /// Lemire, "Fast Random Integer Generation in an Interval" (2019): the high half of a product, redrawn in the rare
    /// case that would favour some values.
    pub fn below(&mut self, n: u64) -> u64 {
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let unfair = n.wrapping_neg() % n;
            while (product as u64) < unfair {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// A value in `lo..hi`, one of 2^24 that are evenly spaced; `lo` when the range is empty.
    pub fn uniform(&mut self, lo: f32, hi: f32) -> f32 {
        let unit = (self.next_u64() >> 40) as f32 / (1 << 24) as f32;
        let value = lo + (hi - lo) * unit;
        // Rounding may reach the end that does not belong to the range.
        if value < hi { value } else { hi.next_down().max(lo) }
    }

    /// Two independent values of the standard normal distribution (Box and Muller 1958), at most 8.6 from 0.
    ///
    /// The crate `libm` computes logarithm, sine and cosine from additions and multiplications alone, so that every machine
    /// gets the same bits; the C library's would differ in the last one.
    pub fn normal_pair(&mut self) -> (f32, f32) {
        let mut unit = || (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        // In (0, 1], where the logarithm is finite.
        let radius = (-2.0 * libm::log(1.0 - unit())).sqrt();
        let angle = std::f64::consts::TAU * unit();
        ((radius * libm::cos(angle)) as f32, (radius * libm::sin(angle)) as f32)
    }

    /// The numbers below `n` in an order of which each is equally likely (Fisher and Yates).
    ///
    /// # Panics
    /// When `n` is above 2^32; a `Split` never holds that many images.
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        assert!(n as u64 <= 1 << 32, "a permutation of {n} values does not fit u32");
        let mut order: Vec<u32> = (0..n as u64).map(|i| i as u32).collect();
        for last in (1..n).rev() {
            let chosen = self.below(last as u64 + 1) as usize;
            order.swap(last, chosen);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn stream(index: u64) -> Stream {
        Stream::new(Seed(7), Purpose::Test, 0, index)
    }

    #[test]
    fn draws_are_the_same_for_ever() {
        // From an independent ChaCha8 (RFC 8439's quarter round, 8 rounds, 64-bit counter from 0, nonce 0) written in
        // Python, with key = struct.pack("<QIQQ4x", seed, purpose, epoch, index).
        let mut draws = Stream::new(Seed(0), Purpose::Initialise, 0, 0);
        assert_eq!([draws.next_u64(), draws.next_u64()], [0x3feb_e7d0_52d7_6565, 0x519d_89fd_b939_a805]);
        let mut draws = Stream::new(Seed(0x0123_4567_89ab_cdef), Purpose::Order, 3, 1 << 40);
        assert_eq!([draws.next_u64(), draws.next_u64()], [0x67ec_f5b8_488a_e4e3, 0x6165_4f38_2c48_3f11]);
        for _ in 2..100 {
            draws.next_u64();
        }
        assert_eq!(draws.next_u64(), 0x6a7b_3354_c7fd_cacd);
    }

    #[test]
    fn derived_draws_are_the_same_for_ever() {
        // From the same Python program.
        assert_eq!(stream(0).permutation(10), [9, 2, 5, 4, 1, 0, 7, 8, 3, 6]);
        let mut draws = stream(1);
        assert_eq!([(); 4].map(|()| draws.below(1000)), [420, 887, 215, 230]);
        let mut draws = stream(2);
        assert_eq!([draws.uniform(-1.0, 1.0), draws.uniform(-1.0, 1.0)], [-0.483_906_5, -0.966_158_15]);
    }

    #[test]
    fn every_part_of_the_name_matters() {
        let first = |seed, purpose, epoch, index| Stream::new(Seed(seed), purpose, epoch, index).next_u64();
        let draws = [
            first(1, Purpose::Order, 1, 1),
            first(2, Purpose::Order, 1, 1),
            first(1, Purpose::Synthetic, 1, 1),
            first(1, Purpose::Order, 2, 1),
            first(1, Purpose::Order, 1, 2),
            first(1 << 63, Purpose::Order, 1, 1),
            first(1, Purpose::Order, 1 << 63, 1),
            first(1, Purpose::Order, 1, 1 << 63),
        ];
        assert_eq!(draws.iter().collect::<HashSet<_>>().len(), draws.len());
    }

    #[test]
    fn purposes_keep_their_numbers() {
        let numbers = [
            (Purpose::Initialise, 1),
            (Purpose::Order, 2),
            (Purpose::Synthetic, 3),
            (Purpose::SyntheticClasses, 4),
            (Purpose::SmoothGrad, 6),
            (Purpose::ActivationMax, 7),
            (Purpose::Test, 1000),
        ];
        for (purpose, number) in numbers {
            assert_eq!(purpose as u32, number, "{purpose:?}");
        }
    }

    #[test]
    fn below_is_even_and_stays_below() {
        let mut draws = stream(3);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[draws.below(7) as usize] += 1;
        }
        // Standard deviation of a count is 93; a modulo or an off-by-one would be thousands away.
        assert!(counts.iter().all(|n| n.abs_diff(10_000) < 500), "{counts:?}");
        assert_eq!((draws.below(0), draws.below(1)), (0, 0));
        // Here a plain product would give even values twice as often as odd ones.
        let n = (1 << 63) + (1 << 62);
        let mut lower_third = 0;
        for _ in 0..30_000 {
            let value = draws.below(n);
            assert!(value < n);
            lower_third += u32::from(value < n / 3);
        }
        assert!(lower_third.abs_diff(10_000) < 500, "{lower_third}");
    }

    #[test]
    fn uniform_fills_its_range() {
        let mut draws = stream(4);
        let values: Vec<f32> = (0..20_000).map(|_| draws.uniform(-0.5, 1.5)).collect();
        assert!(values.iter().all(|v| (-0.5..1.5).contains(v)));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        assert!(low < -0.49 && high > 1.49, "{low} {high}");
        // One step of f32 apart: half of the draws would round up to the end.
        let next = 1.0f32.next_up();
        assert!((0..100).all(|_| draws.uniform(1.0, next) == 1.0));
        assert_eq!(draws.uniform(2.0, 2.0), 2.0);
    }

    #[test]
    fn normal_values_have_the_moments_of_the_distribution() {
        let mut draws = stream(7);
        let values: Vec<f64> =
            (0..20_000).map(|_| draws.normal_pair()).flat_map(|(a, b)| [f64::from(a), f64::from(b)]).collect();
        let mean = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f64>() / values.len() as f64;
        // Standard deviations of these means: 0.005, 0.007, 0.02, 0.05.
        let [first, second, third, fourth] = [1, 2, 3, 4].map(mean);
        assert!(first.abs() < 0.025 && (second - 1.0).abs() < 0.035, "{first} {second}");
        assert!(third.abs() < 0.1 && (fourth - 3.0).abs() < 0.25, "{third} {fourth}");
        let products = values.chunks(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / 20_000.0;
        assert!(products.abs() < 0.035, "the two are independent: {products}");
    }

    #[test]
    fn a_permutation_has_each_number_once_and_any_order() {
        let mut order = stream(5).permutation(1000);
        assert_ne!(order[..4], [0, 1, 2, 3]);
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(i, n)| i == *n as usize));
        assert_eq!(stream(5).permutation(0), Vec::<u32>::new());
        assert_eq!(stream(5).permutation(1), [0]);

        let mut draws = stream(6);
        let mut seen = std::collections::HashMap::new();
        for _ in 0..24_000 {
            *seen.entry(draws.permutation(4)).or_insert(0u32) += 1;
        }
        assert_eq!(seen.len(), 24);
        assert!(seen.values().all(|n| n.abs_diff(1000) < 200), "{seen:?}");
    }
}
