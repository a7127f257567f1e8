//! Sums in parts: what vector instructions compute at once, and the same bits with vectors of any length.

use std::ops::AddAssign;

/// Values worked on at a time, and parts of a sum, so that the compiler makes vector instructions of the loop: several
/// vectors, as a sum in one alone would wait for each addition.
pub(super) const LANES: usize = 32;

/// The sum of all parts, of which there are a power of two: one half added to the other, again and again.
#[inline(always)]
pub(super) fn total<T: Copy + AddAssign, const N: usize>(mut parts: [T; N]) -> T {
    let mut half = N / 2;
    while half > 0 {
        for at in 0..half {
            let other = parts[at + half];
            parts[at] += other;
        }
        half /= 2;
    }
    parts[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out() {
        assert_eq!(total([7]), 7);
        assert_eq!(total(std::array::from_fn::<u64, LANES, _>(|i| 1 << i)), (1 << LANES) - 1);
    }
}
