//! The convolutional classifier of the tutorials.

use crate::graph::{Activation, Builder, Graph, NodeId, Op, Path, ShapeError};
use crate::types::ImageShape;

/// Hyperparameters of the classifier: a convolution and a 2x2 max-pooling for each entry of `conv_filters`, then a hidden
/// dense layer and the logits. Names are Keras's.
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

impl Architecture {
    /// The classifier for images of a shape.
    ///
    /// # Errors
    /// If a layer does not fit the shape before it, or a width is 0 or absurd.
    pub fn build(&self, input: ImageShape, classes: usize) -> Result<Graph, ShapeError> {
        let mut chain = Chain::new(input);
        for &filters in &self.conv_filters {
            chain.add("conv2d", Op::Conv2d { filters, kernel: self.kernel_size })?;
            chain.rectify()?;
            chain.add("max_pooling2d", Op::MaxPool2d { size: 2 })?;
        }
        chain.add("flatten", Op::Flatten)?;
        chain.add("dense", Op::Linear { units: self.dense_units })?;
        chain.rectify()?;
        chain.add("dense", Op::Linear { units: classes })?;
        Ok(chain.builder.finish(chain.end))
    }
}

/// Operations one after the other, with Keras's names: `conv2d`, `conv2d_1`, ...
struct Chain {
    builder: Builder,
    end: NodeId,
    path: Path,
    names: Vec<&'static str>,
}

impl Chain {
    fn new(input: ImageShape) -> Chain {
        let builder = Builder::new(input);
        Chain { end: builder.input(), builder, path: Path::new("input"), names: Vec::new() }
    }

    fn add(&mut self, name: &'static str, op: Op) -> Result<(), ShapeError> {
        self.path = Path::new(match self.names.iter().filter(|&&earlier| earlier == name).count() {
            0 => name.to_owned(),
            earlier => format!("{name}_{earlier}"),
        });
        self.names.push(name);
        self.end = self.builder.add(self.path.clone(), op, self.end)?;
        Ok(())
    }

    /// A ReLU as a part of the layer before it.
    fn rectify(&mut self) -> Result<(), ShapeError> {
        let activation = Activation::Relu;
        self.end = self.builder.add(self.path.child(activation.name()), Op::Activation(activation), self.end)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MNIST: ImageShape = ImageShape { height: 28, width: 28, channels: 1 };

    #[test]
    fn names_and_shapes_are_keras() {
        let network = Architecture::default().build(MNIST, 10).unwrap();
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
        assert_eq!(network.layer("conv2d_1").unwrap().value, network.taps().last_maps.unwrap());
        assert_eq!(network.features().unwrap().name, "dense");
    }

    #[test]
    fn an_architecture_that_does_not_fit_is_refused() {
        let architecture = Architecture { conv_filters: vec![8, 8, 8, 8], ..Architecture::default() };
        let error = architecture.build(MNIST, 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "layer `conv2d_3` does not fit its input: got 1x1x8, want an image of at least 3x3 for its 3x3 kernel; use \
             fewer or smaller convolutions, or larger images"
        );
        let architecture = Architecture { dense_units: 0, ..Architecture::default() };
        let error = architecture.build(MNIST, 10).unwrap_err();
        assert_eq!(error.to_string(), "layer `dense` has units 0: want at least 1");
    }

    #[test]
    fn a_network_that_no_memory_holds_is_refused() {
        let wide = Architecture { conv_filters: vec![65_536], kernel_size: 64, dense_units: 65_536 };
        for (input, parameters) in [
            (ImageShape { height: 64, width: 64, channels: 1 }, 268_500_992_usize),
            (ImageShape { height: 16_384, width: 16_384, channels: 16_384 }, 4_398_046_576_640),
        ] {
            let error = wide.build(input, 10).unwrap_err();
            let want = format!(
                "layer `conv2d` is too large: the number of parameters up to it is {parameters}, want at most 268435456"
            );
            assert_eq!(error.to_string(), want);
        }
    }
}
