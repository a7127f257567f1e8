//! Buffers for vector instructions.

use std::ops::{Deref, DerefMut};

use aligned_vec::{AVec, ConstAlign};

/// Values of which the first begins a cache line, and so does each row of 16 floats. In a buffer that the allocator put
/// elsewhere, half of AVX2's vectors and all of AVX-512's would straddle two lines, and a step take longer by chance.
///
/// Between uses it keeps its room and what is in it, so that another length costs nothing.
pub(super) struct Aligned<T> {
    room: AVec<T, ConstAlign<64>>,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// So many values. Those beyond the length before are what earlier uses left there, zero at first.
    pub fn resize(&mut self, len: usize) {
        if len > self.room.len() {
            self.room.resize(len, T::default());
        }
        self.len = len;
    }

    /// So many zeros.
    pub fn zeros(&mut self, len: usize) {
        self.resize(len);
        self.fill(T::default());
    }

    /// These values and no others.
    pub fn copy_from(&mut self, values: &[T]) {
        self.resize(values.len());
        self.copy_from_slice(values);
    }
}

impl<T> Default for Aligned<T> {
    fn default() -> Aligned<T> {
        // The alignment is part of the type.
        Aligned { room: AVec::new(0), len: 0 }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &Self::Target {
        &self.room[..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.room[..self.len]
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
            values.copy_from(&(0..len).map(|number| number as f32).collect::<Vec<_>>());
            values.resize(3 * len);
            assert_eq!(values.as_ptr() as usize % 64, 0, "{len}");
            assert_eq!((values[len - 1], values[len], values.len()), (len as f32 - 1.0, 0.0, 3 * len));
            kept.push(values);
        }
    }

    #[test]
    fn zeros_are_zeros_whatever_was_there() {
        let mut values = Aligned::default();
        values.copy_from(&[1_u32; 40]);
        values.resize(3);
        values.zeros(30);
        assert_eq!(*values, [0; 30]);
        values.copy_from(&[5, 6]);
        assert_eq!(*values, [5, 6]);
    }
}
