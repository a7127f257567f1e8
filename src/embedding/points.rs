//! Points of a space, stored row by row.

/// `N` points of `D` dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Points {
    dims: usize,
    /// `N x D`.
    values: Vec<f32>,
}

impl Points {
    /// `values` are `N x dims`, row after row.
    ///
    /// # Panics
    /// If `dims` is 0 or `values` is not a multiple of it: a bug in the caller.
    pub fn new(dims: usize, values: Vec<f32>) -> Points {
        assert!(dims > 0 && values.len().is_multiple_of(dims), "whole points of at least one dimension");
        Points { dims, values }
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn dims(&self) -> usize {
        self.dims
    }

    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dims)
    }

    /// The first `count` points, or all if there are fewer.
    pub fn first(&self, count: usize) -> Points {
        let values = self.values.chunks_exact(self.dims).take(count).flatten().copied().collect();
        Points { dims: self.dims, values }
    }

    /// Positions of the points without infinities and NaN, and those points.
    pub fn finite(&self) -> (Vec<usize>, Points) {
        let (mut kept, mut values) = (Vec::new(), Vec::new());
        for (position, row) in self.rows().enumerate().filter(|(_, row)| row.iter().all(|v| v.is_finite())) {
            kept.push(position);
            values.extend_from_slice(row);
        }
        (kept, Points { dims: self.dims, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_are_not_finite_are_told_apart() {
        let points = Points::new(2, vec![1.0, 2.0, f32::NAN, 0.0, 3.0, 4.0, 0.0, f32::INFINITY]);
        let (kept, finite) = points.finite();
        assert_eq!((kept, finite), (vec![0, 2], Points::new(2, vec![1.0, 2.0, 3.0, 4.0])));
        assert_eq!(points.first(1), Points::new(2, vec![1.0, 2.0]));
        assert_eq!((points.first(9).len(), points.dims()), (4, 2));
    }
}
