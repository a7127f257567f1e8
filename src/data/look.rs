//! How the images of a data set look: their shape, their ground, and how what they show is placed.

use super::DatasetName;
use crate::types::ImageShape;

/// What surrounds the thing that an image shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Light on dark: a black ground, as in MNIST.
    Dark,
    /// Dark on light: ink on paper.
    Light,
}

/// How the makers of a data set placed what an image shows.
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

/// What a network that learned from a data set expects of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub shape: ImageShape,
    pub ground: Ground,
    pub framing: Framing,
}

impl DatasetName {
    /// How its images look.
    pub fn look(self) -> Look {
        let framing = match self {
            DatasetName::Mnist => Framing::Balanced { side: 20 },
            DatasetName::FashionMnist => Framing::Fitted { side: 28 },
            DatasetName::Synthetic => Framing::Whole,
        };
        Look { shape: self.shape(), ground: Ground::Dark, framing }
    }
}
