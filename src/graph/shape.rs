//! Shapes of values between nodes, and errors in them.

use std::fmt;

use crate::exit::{Classify, Exit};
use crate::types::ImageShape;

/// Shape of a node's value for one image, without the batch axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Feature maps.
    Image(ImageShape),
    Vector(usize),
}

impl Shape {
    /// Values for one image.
    pub fn len(self) -> usize {
        match self {
            Shape::Image(image) => image.len(),
            Shape::Vector(units) => units,
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Channels of feature maps; 0 for a vector.
    pub fn channels(self) -> usize {
        match self {
            Shape::Image(image) => image.channels,
            Shape::Vector(_) => 0,
        }
    }

    /// Keras's notation, batch axis unknown: `[-1, height, width, channels]` or `[-1, units]`.
    pub fn dims_nhwc(self) -> Vec<i64> {
        match self {
            Shape::Image(s) => vec![-1, s.height as i64, s.width as i64, s.channels as i64],
            Shape::Vector(units) => vec![-1, units as i64],
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Image(image) => image.fmt(f),
            Shape::Vector(units) => units.fmt(f),
        }
    }
}

/// An operation that does not fit its input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error(
        "layer `{layer}` does not fit its input: got {got}, want {want}; use fewer or smaller convolutions, or larger images"
    )]
    Input { layer: String, got: Shape, want: String },
    #[error("layer `{layer}` has {field} 0: want at least 1")]
    Zero { layer: String, field: &'static str },
    #[error("layer `{layer}` is too large: {field} is {got}, want at most {limit}")]
    TooLarge { layer: String, field: &'static str, got: usize, limit: usize },
}

impl Classify for ShapeError {
    fn exit(&self) -> Exit {
        Exit::Config
    }
}
