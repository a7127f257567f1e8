//! Appearance of a data set's images: shape, ground, and placement of the object.

use super::name::DatasetName;
use crate::types::ImageShape;

/// Ground around the object of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Light on dark: a black ground, as in MNIST.
    Dark,
    /// Dark on light: ink on paper.
    Light,
}

impl Ground {
    pub fn other(self) -> Ground {
        match self {
            Ground::Dark => Ground::Light,
            Ground::Light => Ground::Dark,
        }
    }
}

/// Placement of the object by the makers of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Anywhere and at any size: the image is taken as a whole.
    Whole,
    /// Cut out, its longer side made `side` pixels, its centre of mass put in the middle, its strokes at full contrast.
    ///
    /// With 20 of 28 pixels it is what was done to MNIST's digits (LeCun, Cortes and Burges, "The MNIST database").
    Balanced { side: usize },
    /// Cut out, its longer side made `side` pixels, and put in the middle, with its own shades.
    ///
    /// With 28 of 28 pixels it is what was done to Fashion-MNIST's articles (Xiao, Rasul and Vollgraf 2017, figure 1).
    Fitted { side: usize },
}

/// Appearance that a network expects of an image, learned from its data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub shape: ImageShape,
    pub ground: Ground,
    pub framing: Framing,
}

/// Light above this is part of a figure, below it noise.
const NOISE: u8 = 25;

impl Look {
    /// True if a grey image of its size is laid out as the data set's are, so that it is taken as it is.
    ///
    /// All 70,000 images of MNIST are, and all of Fashion-MNIST.
    pub fn is_met_by(&self, pixels: &[u8]) -> bool {
        let side = match self.framing {
            Framing::Whole => return true,
            Framing::Balanced { side } | Framing::Fitted { side } => side,
        };
        let light = |byte: u8| if self.ground == Ground::Dark { byte } else { 255 - byte };
        let least = if matches!(self.framing, Framing::Fitted { .. }) { 0 } else { NOISE };
        let (width, height) = (self.shape.width, self.shape.height);
        let (mut left, mut top, mut right, mut bottom) = (width, height, 0, 0);
        let (mut mass, mut x_sum, mut y_sum) = (0.0, 0.0, 0.0);
        for (i, &byte) in pixels.iter().enumerate() {
            let (x, y, value) = (i % width, i / width, light(byte));
            if value > least {
                (left, top) = (left.min(x), top.min(y));
                (right, bottom) = (right.max(x + 1), bottom.max(y + 1));
            }
            mass += f64::from(value);
            x_sum += f64::from(value) * (x as f64 + 0.5);
            y_sum += f64::from(value) * (y as f64 + 0.5);
        }
        if left >= right {
            return false;
        }
        let longer = (right - left).max(bottom - top);
        let is_near = |at: f64, len: usize, most: f64| (at - len as f64 / 2.0).abs() <= most;
        match self.framing {
            Framing::Whole => true,
            // The makers rounded to whole pixels.
            Framing::Balanced { .. } => {
                (side.saturating_sub(2)..=side).contains(&longer)
                    && is_near(x_sum / mass, width, 1.6)
                    && is_near(y_sum / mass, height, 1.6)
            }
            Framing::Fitted { .. } => {
                longer + 2 >= side
                    && is_near((left + right) as f64 / 2.0, width, 3.0)
                    && is_near((top + bottom) as f64 / 2.0, height, 3.0)
            }
        }
    }
}

impl DatasetName {
    /// Appearance of its images.
    pub fn look(self) -> Look {
        let framing = match self {
            DatasetName::Mnist => Framing::Balanced { side: 20 },
            DatasetName::FashionMnist => Framing::Fitted { side: 28 },
            DatasetName::Synthetic => Framing::Whole,
        };
        Look { shape: self.shape(), ground: Ground::Dark, framing }
    }
}
