//! Buffers for vector instructions.

use std::ops::{Deref, DerefMut};

use aligned_vec::{AVec, ConstAlign};

/// Values of which the first begins a cache line, and so does each row of 16 floats. In a buffer that the allocator put
/// elsewhere, half of AVX2's vectors and all of AVX-512's would straddle two lines, and a step take longer by chance.
pub(super) struct Aligned<T>(AVec<T, ConstAlign<64>>);

impl<T> Default for Aligned<T> {
    fn default() -> Aligned<T> {
        // The alignment is part of the type.
        Aligned(AVec::new(0))
    }
}

impl<T> Deref for Aligned<T> {
    type Target = AVec<T, ConstAlign<64>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_with_a_cache_line_whatever_its_length() {
        let mut kept = Vec::new();
        for len in 1..200 {
            let mut values = Aligned::default();
            (0..len).for_each(|number| values.push(number as f32));
            values.resize(3 * len, 1.0);
            assert_eq!(values.as_ptr() as usize % 64, 0, "{len}");
            assert_eq!((values[len - 1], values[len], values.len()), (len as f32 - 1.0, 1.0, 3 * len));
            kept.push(values);
        }
    }
}
