//! A chain of layers: built from an architecture and an input shape, run forward, observed after every layer.

use std::ops::Range;

use tch::Tensor;

use super::layer::{Layer, LayerKind, Shape, ShapeError, output_shape};
use super::parameters::{self, ParameterSpec};
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
/// 1 GiB of weights, and several times that to train them.
const MAX_PARAMETERS: usize = 1 << 28;

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

/// One call of a forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    pub layer: &'a Layer,
    /// Whether it is a ReLU after what the layer computes, or that itself.
    pub relu: bool,
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
            network.layers.push(Layer { name: name.clone(), kind, input: shape, output, kernel_index });
            let got = network.parameter_count();
            if got > MAX_PARAMETERS {
                let field = "the number of parameters up to it";
                return Err(ShapeError::TooLarge { layer: name, field, got, limit: MAX_PARAMETERS });
            }
            shape = output;
        }
        Ok(network)
    }

    /// The layers up to a convolution, which keeps so many filters, for other images. The weights are those of this
    /// network but for the last kernel and bias. None where number `layer` is no convolution, or the images are too small.
    pub fn up_to_filters(&self, layer: usize, filters: usize, input: ImageShape) -> Option<Network> {
        let (last, before) = self.layers.get(..layer.checked_add(1)?)?.split_last()?;
        let LayerKind::Conv2d { kernel, .. } = last.kind else {
            return None;
        };
        let kinds = before.iter().map(|layer| layer.kind).chain([LayerKind::Conv2d { filters, kernel }]);
        Network::chain(&kinds.collect::<Vec<_>>(), input).ok()
    }

    pub fn input(&self) -> ImageShape {
        self.input
    }

    /// Classes that the logits tell apart.
    pub fn classes(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.output.len())
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

    /// Where each of [`Network::parameters`] lies in a flat buffer, in the order of its strides: channels last.
    pub fn parameter_ranges(&self) -> Vec<Range<usize>> {
        parameters::ranges(&self.parameters)
    }

    /// Values of a flat buffer, with the gaps between parameters.
    pub fn flat_len(&self) -> usize {
        parameters::flat_len(&self.parameters)
    }

    pub fn macs(&self) -> usize {
        self.layers.iter().map(Layer::macs).sum()
    }

    /// Logits `N x K` of a batch of images `N x C x H x W`.
    ///
    /// # Panics
    /// When the shapes of the weights or images are not the network's: a bug in the caller.
    pub fn forward(&self, weights: &[Tensor], images_nchw: &Tensor) -> Tensor {
        run(&self.operations(), weights, images_nchw)
    }

    /// What [`Network::forward`] does, in its order. A ReLU before a pooling stands after it, and so belongs to the
    /// pooling's layer: ReLU and maximum commute, and pooling first gives the same numbers for a quarter of the work.
    pub fn operations(&self) -> Vec<Operation<'_>> {
        operations(&self.layers)
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

    /// The output of layer number `layer` for a batch of images; that of the last layer when there are not so many.
    pub fn forward_to(&self, layer: usize, weights: &[Tensor], images_nchw: &Tensor) -> Tensor {
        run(&operations(&self.layers[..self.layers.len().min(layer.saturating_add(1))]), weights, images_nchw)
    }

    /// The output of layer number `layer` for its own input, before its ReLU if it has one: where a pass that treats
    /// ReLUs in its own way cuts the network.
    ///
    /// # Panics
    /// When there is no such layer, or the shapes of the weights or the input are not the network's: a bug in the caller.
    pub fn before_relu(&self, layer: usize, weights: &[Tensor], input: &Tensor) -> Tensor {
        affine(&self.layers[layer], weights, input)
    }

    /// Logits from the output of layer number `layer`.
    pub fn forward_from(&self, layer: usize, weights: &[Tensor], output: &Tensor) -> Tensor {
        self.layers.iter().skip(layer + 1).fold(output.shallow_clone(), |x, layer| apply(layer, weights, &x))
    }
}

impl Operation<'_> {
    /// The output for `x`, the output of the operation before.
    pub fn apply(&self, weights: &[Tensor], x: &Tensor) -> Tensor {
        if self.relu { x.relu() } else { affine(self.layer, weights, x) }
    }

    /// Indices of kernel and bias in the network's parameters; none where there are none.
    pub fn weights(&self) -> Option<[usize; 2]> {
        self.layer.kernel_index.filter(|_| !self.relu).map(|kernel| [kernel, kernel + 1])
    }
}

fn check_widths(name: &str, kind: LayerKind) -> Result<(), ShapeError> {
    let fields: &[(&'static str, usize, usize)] = match kind {
        LayerKind::Conv2d { filters, kernel } => {
            &[("filters", filters, MAX_WIDTH), ("kernel size", kernel, MAX_KERNEL)]
        }
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

/// What a pass through some layers in a row does.
fn operations(layers: &[Layer]) -> Vec<Operation<'_>> {
    let mut operations = Vec::with_capacity(2 * layers.len());
    let mut relu_waits = false;
    for (layer, next) in layers.iter().zip(layers.iter().skip(1).map(Some).chain([None])) {
        operations.push(Operation { layer, relu: false });
        relu_waits |= layer.kind.has_relu();
        let pooled_next = matches!(next, Some(Layer { kind: LayerKind::MaxPool2d { .. }, .. }));
        if relu_waits && !(layer.kind.has_relu() && pooled_next) {
            operations.push(Operation { layer, relu: true });
            relu_waits = false;
        }
    }
    operations
}

fn run(operations: &[Operation<'_>], weights: &[Tensor], input: &Tensor) -> Tensor {
    operations.iter().fold(input.shallow_clone(), |x, operation| operation.apply(weights, &x))
}

fn apply(layer: &Layer, weights: &[Tensor], x: &Tensor) -> Tensor {
    let y = affine(layer, weights, x);
    if layer.kind.has_relu() { y.relu() } else { y }
}

/// The layer without its ReLU.
fn affine(layer: &Layer, weights: &[Tensor], x: &Tensor) -> Tensor {
    match (layer.kind, layer.kernel_index) {
        (LayerKind::Conv2d { .. }, Some(k)) => x.conv2d(&weights[k], Some(&weights[k + 1]), [1, 1], [0, 0], [1, 1], 1),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Parameters;
    use crate::types::Seed;
    use tch::{Device, Kind};

    const MNIST: ImageShape = ImageShape { height: 28, width: 28, channels: 1 };

    fn random_images(count: i64, shape: ImageShape) -> Tensor {
        let mut stream = crate::rng::Stream::new(Seed(3), crate::rng::Purpose::Test, 0, 0);
        let [h, w, c] = [shape.height, shape.width, shape.channels].map(|d| d as i64);
        let values: Vec<f32> = (0..count * h * w * c).map(|_| stream.uniform(0.0, 1.0)).collect();
        Tensor::from_slice(&values).as_strided([count, c, h, w], [h * w * c, 1, w * c, c], 0)
    }

    #[test]
    fn names_and_shapes_are_keras() {
        let network = Network::build(&Architecture::default(), MNIST, 10).unwrap();
        let layers: Vec<String> =
            network.layers().iter().map(|l| format!("{} {} -> {}", l.name, l.input, l.output)).collect();
        assert_eq!(
            layers,
            [
                "conv2d 28x28x1 -> 26x26x32",
                "max_pooling2d 26x26x32 -> 13x13x32",
                "conv2d_1 13x13x32 -> 11x11x64",
                "max_pooling2d_1 11x11x64 -> 5x5x64",
                "flatten 5x5x64 -> 1600",
                "dense 1600 -> 128",
                "dense_1 128 -> 10",
            ]
        );
        assert_eq!(network.parameter_count(), 225_034);
        assert_eq!(network.position("conv2d_1"), Some(2));
    }

    #[test]
    fn pooling_before_relu_and_taps_give_the_same_bits() {
        let network = Network::build(&Architecture::default(), MNIST, 10).unwrap();
        let parameters = Parameters::initialise(&network, Seed(1), Device::Cpu);
        let images = random_images(3, MNIST);
        let order: Vec<String> = network
            .operations()
            .iter()
            .map(|op| format!("{}{}", op.layer.name, if op.relu { "+" } else { "" }))
            .collect();
        let pooled = ["conv2d", "max_pooling2d", "max_pooling2d+", "conv2d_1", "max_pooling2d_1", "max_pooling2d_1+"];
        assert_eq!(order, [&pooled[..], &["flatten", "dense", "dense+", "dense_1"]].concat());
        let logits = network.forward(parameters.views(), &images);
        let taps = network.taps(parameters.views(), &images);
        assert_eq!(taps.len(), network.layers().len());
        assert_eq!(taps[6].output, logits);
        for (index, tap) in taps.iter().enumerate() {
            assert_eq!(tap.output.numel(), 3 * tap.layer.output.len(), "{}", tap.layer.name);
            assert_eq!(network.forward_to(index, parameters.views(), &images), tap.output);
            assert_eq!(network.forward_from(index, parameters.views(), &tap.output), logits);
        }
    }

    #[test]
    fn activations_stay_channels_last() {
        let network = Network::build(&Architecture::default(), MNIST, 10).unwrap();
        let parameters = Parameters::initialise(&network, Seed(1), Device::Cpu);
        for tap in &network.taps(parameters.views(), &random_images(2, MNIST))[..4] {
            let [_, c, h, w] = tap.output.size()[..] else { panic!("four axes") };
            assert_eq!(tap.output.stride(), [h * w * c, 1, w * c, c], "{}", tap.layer.name);
        }
        let kernel = &parameters.views()[2];
        assert_eq!((kernel.size(), kernel.stride()), (vec![64, 32, 3, 3], vec![288, 1, 96, 32]));
    }

    /// PyTorch's own numbers for weights and images that both sides compute from a formula:
    /// `tests/golden/make_network.py`.
    #[test]
    fn logits_are_pytorchs() {
        let golden: Vec<Vec<f64>> = serde_json::from_str(include_str!("../../tests/golden/network.json")).unwrap();
        let input = ImageShape { height: 12, width: 10, channels: 3 };
        let architecture = Architecture { conv_filters: vec![4, 6], kernel_size: 3, dense_units: 8 };
        let network = Network::build(&architecture, input, 5).unwrap();
        let parameters = Parameters::initialise(&network, Seed(0), Device::Cpu);
        let wave = |shape: &[i64], scale: f64| {
            let count: i64 = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|i| ((i as f64).sin() * scale) as f32).collect();
            Tensor::from_slice(&values).view(shape)
        };
        for (view, spec) in parameters.views().iter().zip(parameters.specs()) {
            view.shallow_clone().copy_(&wave(&spec.shape, 0.3));
        }
        let images = wave(&[2, 3, 12, 10], 1.0).abs().to_kind(Kind::Float);
        let logits = network.forward(parameters.views(), &images);
        for (n, row) in golden.iter().enumerate() {
            for (k, want) in row.iter().enumerate() {
                let got = logits.double_value(&[n as i64, k as i64]);
                assert!((got - want).abs() < 1e-5, "image {n}, class {k}: {got} and PyTorch's {want}");
            }
        }
    }

    #[test]
    fn an_architecture_that_does_not_fit_is_refused() {
        let architecture = Architecture { conv_filters: vec![8, 8, 8, 8], ..Architecture::default() };
        let error = Network::build(&architecture, MNIST, 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "layer `conv2d_3` does not fit its input: got 1x1x8, want an image of at least 3x3 for its 3x3 kernel; use \
             fewer or smaller convolutions, or larger images"
        );
        let architecture = Architecture { dense_units: 0, ..Architecture::default() };
        let error = Network::build(&architecture, MNIST, 10).unwrap_err();
        assert_eq!(error.to_string(), "layer `dense` has units 0: want at least 1");
    }

    #[test]
    fn a_network_that_no_memory_holds_is_refused() {
        let wide = Architecture { conv_filters: vec![65_536], kernel_size: 64, dense_units: 65_536 };
        for (input, parameters) in [
            (ImageShape { height: 64, width: 64, channels: 1 }, 268_500_992_usize),
            (ImageShape { height: 16_384, width: 16_384, channels: 16_384 }, 4_398_046_576_640),
        ] {
            let error = Network::build(&wide, input, 10).unwrap_err();
            let want = format!(
                "layer `conv2d` is too large: the number of parameters up to it is {parameters}, want at most 268435456"
            );
            assert_eq!(error.to_string(), want);
        }
    }

    #[test]
    fn initialisation_is_glorot_uniform_and_zero() {
        let network = Network::build(&Architecture::default(), MNIST, 10).unwrap();
        let parameters = Parameters::initialise(&network, Seed(1), Device::Cpu);
        // fan in and fan out of each kernel
        let fans = [(9, 288), (288, 576), (1600, 128), (128, 10)];
        let kernels = parameters.host().filter(|(spec, _)| spec.role == "kernel");
        for ((spec, values), (fan_in, fan_out)) in kernels.zip(fans) {
            let limit = (6.0 / f64::from(fan_in + fan_out)).sqrt();
            let largest = values.iter().fold(0.0_f64, |most, v| most.max(f64::from(v.abs())));
            assert!(largest <= limit && largest > 0.95 * limit, "{}: {largest} of {limit}", spec.path());
            let variance = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64;
            assert!((variance / (limit * limit / 3.0) - 1.0).abs() < 0.25, "{}: {variance}", spec.path());
        }
        assert!(parameters.host().filter(|(spec, _)| spec.role == "bias").all(|(_, v)| v.iter().all(|v| *v == 0.0)));
        assert_eq!(*parameters.flat(), *Parameters::initialise(&network, Seed(1), Device::Cpu).flat());
        assert_ne!(*parameters.flat(), *Parameters::initialise(&network, Seed(2), Device::Cpu).flat());
    }
}
