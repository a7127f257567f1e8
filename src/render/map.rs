//! A two-dimensional array of numbers, such as one channel of a feature map.

use crate::exit::{Classify, Exit};

/// `height` x `width` values, rows from the top, both sides at least 1. Values may be infinite or NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

/// Error for a number of values that does not match the size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a map of {height}x{width} has {got} values: want height x width of them, and at least one")]
pub struct MapError {
    height: usize,
    width: usize,
    got: usize,
}

impl Classify for MapError {
    fn exit(&self) -> Exit {
        Exit::Software
    }
}

impl Map {
    /// # Errors
    /// If a side is 0 or there are not `height * width` values.
    pub fn new(height: usize, width: usize, values: Vec<f32>) -> Result<Map, MapError> {
        let want = height.checked_mul(width).filter(|&n| n > 0);
        if want != Some(values.len()) {
            return Err(MapError { height, width, got: values.len() });
        }
        Ok(Map { height, width, values })
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows from the top, `width` values each.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The smallest and the largest finite value of some maps; `None` when there is no finite value.
    pub fn range<'a>(maps: impl IntoIterator<Item = &'a Map>) -> Option<(f32, f32)> {
        let finite = maps.into_iter().flat_map(|map| &map.values).copied().filter(|v| v.is_finite());
        finite.fold(None, |range, v| match range {
            None => Some((v, v)),
            Some((low, high)) => Some((v.min(low), v.max(high))),
        })
    }

    /// Number of infinite or NaN values.
    pub fn non_finite(&self) -> usize {
        self.values.iter().filter(|v| !v.is_finite()).count()
    }

    /// The map at another size, by bilinear interpolation between pixel centres, edges repeated. When enlarging, the
    /// same as PyTorch's `interpolate(mode="bilinear", align_corners=False)`. Sides of 0 become 1.
    pub fn resized(&self, height: usize, width: usize) -> Map {
        let (height, width) = (height.max(1), width.max(1));
        let rows = taps(self.height, height);
        let columns = taps(self.width, width);
        let mut values = Vec::with_capacity(height * width);
        let mut between = Vec::with_capacity(self.width);
        for &(top, bottom, down) in &rows {
            let [top, bottom] = [top, bottom].map(|row| &self.values[row * self.width..][..self.width]);
            between.clear();
            between.extend(top.iter().zip(bottom).map(|(&top, &bottom)| mix(top, bottom, down)));
            values.extend(columns.iter().map(|&(left, right, along)| mix(between[left], between[right], along)));
        }
        Map { height, width, values }
    }
}

/// `a` at weight 0, `b` at weight 1. The other value is then ignored, even if it is NaN.
fn mix(a: f32, b: f32, weight: f32) -> f32 {
    match weight {
        0.0 => a,
        1.0 => b,
        w => a + (b - a) * w,
    }
}

/// For each of `to` pixels its two neighbours among `from` pixels, and its position between them.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let step = from as f32 / to as f32;
    let last = from - 1;
    (0..to)
        .map(|i| {
            let centre = ((i as f32 + 0.5) * step - 0.5).clamp(0.0, last as f32);
            let lower = centre as usize;
            (lower, (lower + 1).min(last), centre - lower as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_checked() {
        assert!(Map::new(2, 3, vec![0.0; 6]).is_ok());
        assert_eq!(
            Map::new(2, 3, vec![0.0; 5]).unwrap_err().to_string(),
            "a map of 2x3 has 5 values: want height x width of them, and at least one"
        );
        assert!(Map::new(0, 3, vec![]).is_err());
        assert!(Map::new(usize::MAX, 2, vec![0.0; 2]).is_err());
    }

    #[test]
    fn the_range_leaves_out_what_is_not_finite() {
        let map = Map::new(1, 5, vec![f32::NAN, 2.0, -1.0, f32::INFINITY, f32::NEG_INFINITY]).unwrap();
        assert_eq!(Map::range([&map]), Some((-1.0, 2.0)));
        assert_eq!(map.non_finite(), 3);
        let nothing = Map::new(1, 1, vec![f32::NAN]).unwrap();
        assert_eq!(Map::range([&nothing]), None);
        assert_eq!(Map::range([&nothing, &map]), Some((-1.0, 2.0)));
        assert_eq!(Map::range([]), None);
    }

    #[test]
    fn resizing_gives_pytorchs_numbers() {
        // torch.nn.functional.interpolate(torch.tensor([[[[0., 1.], [2., 4.]]]]), size=(4, 4), mode="bilinear")
        let map = Map::new(2, 2, vec![0.0, 1.0, 2.0, 4.0]).unwrap();
        #[rustfmt::skip]
        let want = [
            0.0, 0.25, 0.75, 1.0,
            0.5, 0.8125, 1.4375, 1.75,
            1.5, 1.9375, 2.8125, 3.25,
            2.0, 2.5, 3.5, 4.0,
        ];
        assert_eq!(map.resized(4, 4).values(), want);
        assert_eq!(map.resized(2, 2), map);
        assert_eq!(map.resized(0, 0).values(), [1.75]);
    }

    #[test]
    fn a_pixel_of_nan_does_not_spread_to_where_it_has_no_weight() {
        let map = Map::new(1, 3, vec![1.0, f32::NAN, 3.0]).unwrap();
        let values = map.resized(1, 3).values().to_vec();
        assert_eq!((values[0], values[2]), (1.0, 3.0));
        assert!(values[1].is_nan());
        // Of the four rows made from two, the first and the last depend on one row alone.
        let map = Map::new(2, 1, vec![1.0, f32::NAN]).unwrap();
        let values = map.resized(4, 1).values().to_vec();
        assert_eq!(values[0], 1.0);
        assert!(values[1..].iter().all(|value| value.is_nan()));
    }
}
