//! Sums in a fixed number of parts: vectorised, with the same bits for vectors of any length.

use std::ops::AddAssign;

/// Values processed at a time, and parts of a sum, so that the compiler vectorises the loop. They span several
/// vectors: in one vector each addition would wait for the last.
pub(super) const LANES: usize = 32;

/// Sum of all parts, whose number is a power of two: one half is added to the other, again and again.
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
