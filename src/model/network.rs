//! A chain of layers: built from an architecture and an input shape, run forward, observed after every layer.

use tch::Tensor;

use super::layer::{Layer, LayerKind, Shape, ShapeError, output_shape};
use super::parameters::ParameterSpec;
use crate::types::ImageShape;

/// The knobs of the convolutional classifier: for each entry of `conv_filters` a convolution and a 2x2 max-pooling,
/// then a hidden dense layer and the logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architecture {
    pub conv_filters: Vec<usize>,
    pub kernel_size: usize,
    pub dense_units: usize,
}

impl Default for Architecture {
    /// The network of Keras's and PyTorch's MNIST tutorials: 225,034 parameters on 28x28x1 and 10 classes.
    fn default() -> Self {
        Architecture { conv_filters: vec![32, 64], kernel_size: 3, dense_units: 128 }
    }
}

/// Wider layers than this are a slip of the finger, and would overflow counts of parameters.
const MAX_WIDTH: usize = 65_536;
const MAX_KERNEL: usize = 64;

/// A feed-forward network. It owns no weights: every pass takes them as an argument.
#[derive(Clone, Debug)]
pub struct Network {
    input: ImageShape,
    layers: Vec<Layer>,
    parameters: Vec<ParameterSpec>,
}

/// The output of one layer for a batch: `N x C x H x W` with channels-last strides, or `N x K`.
pub struct Tap<'a> {
    pub layer: &'a Layer,
    pub output: Tensor,
}

impl Network {
    /// # Errors
    /// When a layer does not fit the shape before it, or a width is 0 or absurd.
    pub fn build(architecture: &Architecture, input: ImageShape, classes: usize) -> Result<Network, ShapeError> {
        let mut kinds = Vec::new();
        for &filters in &architecture.conv_filters {
            kinds.push(LayerKind::Conv2d { filters, kernel: architecture.kernel_size });
            kinds.push(LayerKind::MaxPool2d { size: 2 });
        }
        kinds.push(LayerKind::Flatten);
        kinds.push(LayerKind::Dense { units: architecture.dense_units, relu: true });
        kinds.push(LayerKind::Dense { units: classes, relu: false });
        Network::chain(&kinds, input)
    }

    fn chain(kinds: &[LayerKind], input: ImageShape) -> Result<Network, ShapeError> {
        let mut network = Network { input, layers: Vec::new(), parameters: Vec::new() };
        let mut shape = Shape::Image(input);
        for &kind in kinds {
            let earlier = network.layers.iter().filter(|l| l.kind.base_name() == kind.base_name()).count();
            let name = match earlier {
                0 => kind.base_name().to_owned(),
                n => format!("{}_{n}", kind.base_name()),
            };
            check_widths(&name, kind)?;
            let output = output_shape(&name, kind, shape)?;
            let kernel_index = match kind {
                LayerKind::Conv2d { .. } | LayerKind::Dense { .. } => Some(network.parameters.len()),
                LayerKind::MaxPool2d { .. } | LayerKind::Flatten => None,
            };
            network.parameters.extend(ParameterSpec::of_layer(&name, kind, shape));
            network.layers.push(Layer { name, kind, input: shape, output, kernel_index });
            shape = output;
        }
        Ok(network)
    }

    pub fn input(&self) -> ImageShape {
        self.input
    }

    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The index of a layer by its name.
    pub fn position(&self, layer: &str) -> Option<usize> {
        self.layers.iter().position(|l| l.name == layer)
    }

    /// Kernel and bias of each layer that has them, in the order every `weights` argument has.
    pub fn parameters(&self) -> &[ParameterSpec] {
        &self.parameters
    }

    pub fn parameter_count(&self) -> usize {
        self.layers.iter().map(Layer::parameter_count).sum()
    }

    pub fn macs(&self) -> usize {
        self.layers.iter().map(Layer::macs).sum()
    }

    /// Logits `N x K` of a batch of images `N x C x H x W`.
    ///
    /// # Panics
    /// When the shapes of the weights or images are not the network's: a bug in the caller.
    pub fn forward(&self, weights: &[Tensor], images_nchw: &Tensor) -> Tensor {
        let mut x = images_nchw.shallow_clone();
        let mut layers = self.layers.iter().peekable();
        while let Some(layer) = layers.next() {
            // ReLU and maximum commute, so pooling first gives the same numbers for a quarter of the work.
            if let (true, Some(Layer { kind: LayerKind::MaxPool2d { size }, .. })) = (layer.kind.has_relu(), layers.peek()) {
                x = max_pool(&affine(layer, weights, &x), *size).relu();
                layers.next();
            } else {
                x = apply(layer, weights, &x);
            }
        }
        x
    }

    /// The output of every layer, the logits last; the same numbers as [`Network::forward`] computes.
    pub fn taps(&self, weights: &[Tensor], images_nchw: &Tensor) -> Vec<Tap<'_>> {
        let mut x = images_nchw.shallow_clone();
        self.layers
            .iter()
            .map(|layer| {
                x = apply(layer, weights, &x);
                Tap { layer, output: x.shallow_clone() }
            })
            .collect()
    }

    /// The output of layer number `layer` for a batch of images.
    pub fn forward_to(&self, layer: usize, weights: &[Tensor], images_nchw: &Tensor) -> Tensor {
        self.layers.iter().take(layer + 1).fold(images_nchw.shallow_clone(), |x, layer| apply(layer, weights, &x))
    }

    /// Logits from the output of layer number `layer`.
    pub fn forward_from(&self, layer: usize, weights: &[Tensor], output: &Tensor) -> Tensor {
        self.layers.iter().skip(layer + 1).fold(output.shallow_clone(), |x, layer| apply(layer, weights, &x))
    }
}

fn check_widths(name: &str, kind: LayerKind) -> Result<(), ShapeError> {
    let fields: &[(&'static str, usize, usize)] = match kind {
        LayerKind::Conv2d { filters, kernel } => &[("filters", filters, MAX_WIDTH), ("kernel size", kernel, MAX_KERNEL)],
        LayerKind::MaxPool2d { size } => &[("window", size, MAX_KERNEL)],
        LayerKind::Dense { units, .. } => &[("units", units, MAX_WIDTH)],
        LayerKind::Flatten => &[],
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

fn apply(layer: &Layer, weights: &[Tensor], x: &Tensor) -> Tensor {
    let y = affine(layer, weights, x);
    if layer.kind.has_relu() { y.relu() } else { y }
}

/// The layer without its ReLU.
fn affine(layer: &Layer, weights: &[Tensor], x: &Tensor) -> Tensor {
    match (layer.kind, layer.kernel_index) {
        (LayerKind::Conv2d { .. }, Some(k)) => {
            x.conv2d(&weights[k], Some(&weights[k + 1]), [1, 1], [0, 0], [1, 1], 1)
        }
        (LayerKind::Dense { .. }, Some(k)) => x.linear(&weights[k], Some(&weights[k + 1])),
        (LayerKind::MaxPool2d { size }, _) => max_pool(x, size),
        (LayerKind::Flatten, _) => x.flatten(1, -1),
        (LayerKind::Conv2d { .. } | LayerKind::Dense { .. }, None) => {
            unreachable!("`chain` gives every layer with weights an index")
        }
    }
}

fn max_pool(x: &Tensor, size: usize) -> Tensor {
    let size = size as i64;
    x.max_pool2d([size, size], [size, size], [0, 0], [1, 1], false)
}
