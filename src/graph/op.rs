//! The operations that a node can have, with their shape arithmetic.

use super::shape::{Shape, ShapeError};
use crate::types::ImageShape;

/// Limit of widths; larger ones are typing errors and would overflow parameter counts.
const MAX_WIDTH: usize = 65_536;
const MAX_KERNEL: usize = 64;

/// An operation. Convolutions have stride 1 and no padding, as Keras's `Conv2D` by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The batch of images, in \[0, 1\].
    Input,
    /// Cross-correlation with `filters` square kernels, and a bias.
    Conv2d {
        filters: usize,
        kernel: usize,
    },
    /// Maximum over `size` x `size` windows without overlap; remaining rows and columns are dropped.
    MaxPool2d {
        size: usize,
    },
    Activation(Activation),
    /// `C x H x W` to one axis, in that order, as PyTorch's `Flatten`.
    Flatten,
    /// A matrix product and a bias.
    Linear {
        units: usize,
    },
}

/// An elementwise nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Relu,
}

impl Activation {
    /// Name in paths and in Keras's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
        }
    }
}

impl Op {
    /// Keras's class.
    pub fn class(self) -> &'static str {
        match self {
            Op::Input => "Input",
            Op::Conv2d { .. } => "Conv2D",
            Op::MaxPool2d { .. } => "MaxPooling2D",
            Op::Activation(_) => "Activation",
            Op::Flatten => "Flatten",
            Op::Linear { .. } => "Dense",
        }
    }

    pub fn is_convolution(self) -> bool {
        matches!(self, Op::Conv2d { .. })
    }

    /// Multiply-accumulates for one image.
    pub(super) fn macs(self, input: Shape, output: Shape) -> usize {
        match self {
            Op::Conv2d { kernel, .. } => output.len() * kernel * kernel * input.channels(),
            Op::Linear { units } => units * input.len(),
            Op::Input | Op::MaxPool2d { .. } | Op::Activation(_) | Op::Flatten => 0,
        }
    }

    /// Shape of the result for an input of a shape.
    ///
    /// # Errors
    /// If the operation does not fit the input, or a width is 0 or absurd. `name` is the node's.
    pub(super) fn output(self, name: &str, input: Shape) -> Result<Shape, ShapeError> {
        self.check_widths(name)?;
        let mismatch = |want: String| ShapeError::Input { layer: name.to_owned(), got: input, want };
        let windowed = |size: usize, what: &str| match input {
            Shape::Image(s) if s.height >= size && s.width >= size => Ok(s),
            _ => Err(mismatch(format!("an image of at least {size}x{size} for its {size}x{size} {what}"))),
        };
        match self {
            Op::Conv2d { filters, kernel } => {
                let s = windowed(kernel, "kernel")?;
                let (height, width) = (s.height - kernel + 1, s.width - kernel + 1);
                Ok(Shape::Image(ImageShape { height, width, channels: filters }))
            }
            Op::MaxPool2d { size } => {
                let s = windowed(size, "window")?;
                Ok(Shape::Image(ImageShape { height: s.height / size, width: s.width / size, channels: s.channels }))
            }
            Op::Input | Op::Activation(_) => Ok(input),
            Op::Flatten => Ok(Shape::Vector(input.len())),
            Op::Linear { units } => match input {
                Shape::Vector(_) => Ok(Shape::Vector(units)),
                Shape::Image(_) => Err(mismatch("a vector".to_owned())),
            },
        }
    }

    fn check_widths(self, name: &str) -> Result<(), ShapeError> {
        let fields: &[(&'static str, usize, usize)] = match self {
            Op::Conv2d { filters, kernel } => &[("filters", filters, MAX_WIDTH), ("kernel size", kernel, MAX_KERNEL)],
            Op::MaxPool2d { size } => &[("window", size, MAX_KERNEL)],
            Op::Linear { units } => &[("units", units, MAX_WIDTH)],
            Op::Input | Op::Activation(_) | Op::Flatten => &[],
        };
        for &(field, got, limit) in fields {
            let layer = name.to_owned();
            if got == 0 {
                return Err(ShapeError::Zero { layer, field });
            }
            if got > limit {
                return Err(ShapeError::TooLarge { layer, field, got, limit });
            }
        }
        Ok(())
    }
}
