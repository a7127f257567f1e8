//! One layer: what it computes, from which shape to which.

use std::fmt;

use crate::exit::{Classify, Exit};
use crate::types::ImageShape;

/// What a layer computes. Convolutions are unpadded with stride 1, as Keras's `Conv2D` is by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// Cross-correlation with `filters` square kernels, a bias, then ReLU.
    Conv2d { filters: usize, kernel: usize },
    /// Maximum over `size` x `size` windows that do not overlap; rows and columns left over are dropped.
    MaxPool2d { size: usize },
    /// C x H x W to one axis, in that order, as PyTorch's `Flatten` does.
    Flatten,
    /// A matrix product and a bias, then ReLU if `relu`.
    Dense { units: usize, relu: bool },
}

impl LayerKind {
    /// Keras's class for this layer.
    pub fn class(self) -> &'static str {
        match self {
            LayerKind::Conv2d { .. } => "Conv2D",
            LayerKind::MaxPool2d { .. } => "MaxPooling2D",
            LayerKind::Flatten => "Flatten",
            LayerKind::Dense { .. } => "Dense",
        }
    }

    /// Keras's name for the first layer of this kind; the next ones get `_1`, `_2`, ...
    pub(crate) fn base_name(self) -> &'static str {
        match self {
            LayerKind::Conv2d { .. } => "conv2d",
            LayerKind::MaxPool2d { .. } => "max_pooling2d",
            LayerKind::Flatten => "flatten",
            LayerKind::Dense { .. } => "dense",
        }
    }

    /// Whether the layer ends in a ReLU.
    pub fn has_relu(self) -> bool {
        matches!(self, LayerKind::Conv2d { .. } | LayerKind::Dense { relu: true, .. })
    }
}

/// The shape of one sample between two layers, without the batch axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Feature maps.
    Image(ImageShape),
    /// A vector.
    Vector(usize),
}

impl Shape {
    /// Values in one sample.
    pub fn len(self) -> usize {
        match self {
            Shape::Image(image) => image.len(),
            Shape::Vector(units) => units,
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Keras's notation with the batch axis left open: `[-1, height, width, channels]` or `[-1, units]`.
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

/// One layer of a network, with its shapes worked out.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Keras's name: `conv2d`, `conv2d_1`, ...
    pub name: String,
    pub kind: LayerKind,
    pub input: Shape,
    pub output: Shape,
    /// Index of the kernel among the network's parameters; the bias follows it.
    pub(crate) kernel_index: Option<usize>,
}

impl Layer {
    /// Weights and biases.
    pub fn parameter_count(&self) -> usize {
        match self.kind {
            LayerKind::Conv2d { filters, kernel } => filters * kernel * kernel * self.input_channels() + filters,
            LayerKind::Dense { units, .. } => units * self.input.len() + units,
            LayerKind::MaxPool2d { .. } | LayerKind::Flatten => 0,
        }
    }

    /// Multiply-accumulate operations of the forward pass for one sample.
    pub fn macs(&self) -> usize {
        match self.kind {
            LayerKind::Conv2d { kernel, .. } => self.output.len() * kernel * kernel * self.input_channels(),
            LayerKind::Dense { units, .. } => units * self.input.len(),
            LayerKind::MaxPool2d { .. } | LayerKind::Flatten => 0,
        }
    }

    pub(crate) fn input_channels(&self) -> usize {
        match self.input {
            Shape::Image(image) => image.channels,
            Shape::Vector(_) => 0,
        }
    }
}

/// A layer that cannot follow the one before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("layer `{layer}` does not fit its input: got {got}, want {want}; use fewer or smaller convolutions, or larger images")]
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

/// The shape after a layer of this kind, or why it cannot stand there.
pub(crate) fn output_shape(name: &str, kind: LayerKind, input: Shape) -> Result<Shape, ShapeError> {
    let refuse = |want: String| ShapeError::Input { layer: name.to_owned(), got: input, want };
    let windowed = |size: usize, what: &str| match input {
        Shape::Image(s) if s.height >= size && s.width >= size => Ok(s),
        _ => Err(refuse(format!("an image of at least {size}x{size} for its {size}x{size} {what}"))),
    };
    match kind {
        LayerKind::Conv2d { filters, kernel } => {
            let s = windowed(kernel, "kernel")?;
            Ok(Shape::Image(ImageShape { height: s.height - kernel + 1, width: s.width - kernel + 1, channels: filters }))
        }
        LayerKind::MaxPool2d { size } => {
            let s = windowed(size, "window")?;
            Ok(Shape::Image(ImageShape { height: s.height / size, width: s.width / size, channels: s.channels }))
        }
        LayerKind::Flatten => Ok(Shape::Vector(input.len())),
        LayerKind::Dense { units, .. } => match input {
            Shape::Vector(_) => Ok(Shape::Vector(units)),
            Shape::Image(_) => Err(refuse("a vector".to_owned())),
        },
    }
}
