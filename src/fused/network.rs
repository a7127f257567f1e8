//! A whole network as blocks and dense layers, with its forward and backward passes.

use std::ops::Range;
use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};

use super::conv_block::{ConvBlock, Packed};
use super::conv_gradient::{Active, Gradients, Outputs};
use super::dense::Dense;
use super::workspace::{Scratch, Workspace};
use crate::graph::{Activation, Graph, Node, Op, Shape};
use crate::trace::Part;

/// Maximum number of samples in a workspace.
pub const MOST_SAMPLES: usize = 1024;

/// A graph that these kernels can execute: a chain of convolutions and dense layers.
#[derive(Clone, Debug)]
pub struct FusedNetwork {
    blocks: Vec<Weighted<ConvBlock>>,
    dense: Vec<Weighted<Dense>>,
    /// The name of the layer between them.
    flatten: Arc<str>,
    /// Values of an image, and what the dense layers see of it: H x W x C of the last maps.
    pixels: usize,
    features: Maps,
    /// Values that come out for an image.
    answers: usize,
    parameters: usize,
}

/// A part of the chain, and where its weights and its bias lie in the flat buffer.
#[derive(Clone, Debug)]
struct Weighted<T> {
    part: T,
    /// Those of its layers, with `+` between.
    name: Arc<str>,
    weights: Range<usize>,
    bias: Range<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Maps {
    places: usize,
    channels: usize,
}

impl FusedNetwork {
    /// `None` for a graph that is not a chain of convolutions, each with a ReLU and perhaps a pooling, and dense layers, or
    /// whose images are too large for the numbers used here. A chain that ends in a convolution, without a ReLU, gives its
    /// filters; any other gives its logits.
    pub fn of(graph: &Graph) -> Option<FusedNetwork> {
        let ranges = graph.parameter_ranges();
        let image = graph.input();
        let mut blocks: Vec<Weighted<ConvBlock>> = Vec::new();
        let mut dense: Vec<Weighted<Dense>> = Vec::new();
        let mut flatten: Arc<str> = "flatten".into();
        let mut maps = image;
        for (before, node) in graph.nodes().iter().zip(graph.nodes().iter().skip(1)) {
            if node.inputs != [before.id] {
                return None;
            }
            let weights = || -> Option<[Range<usize>; 2]> {
                let [weights, bias] = ranges.get(node.parameters.clone())? else { return None };
                Some([weights.clone(), bias.clone()])
            };
            match (node.op, node.shape) {
                (Op::Conv2d { filters, kernel }, Shape::Image(output)) if dense.is_empty() => {
                    let [weights, bias] = weights()?;
                    let (rows, cols) = (output.height, output.width);
                    let part = ConvBlock {
                        width: maps.width,
                        channels: maps.channels,
                        kernel,
                        filters,
                        relu: false,
                        window: 1,
                        rows,
                        cols,
                    };
                    blocks.push(Weighted { part, name: node.path.as_str().into(), weights, bias });
                    maps = output;
                }
                (Op::Activation(Activation::Relu), _) => match (before.op, dense.last_mut()) {
                    (Op::Conv2d { .. }, None) => blocks.last_mut()?.part.relu = true,
                    (Op::Linear { .. }, Some(layer)) => layer.part.relu = true,
                    _ => return None,
                },
                (Op::MaxPool2d { size }, Shape::Image(output)) if is_rectified(before) => {
                    let Weighted { part: block, name, .. } = blocks.last_mut()?;
                    (block.window, block.rows, block.cols) = (size, output.height, output.width);
                    *name = format!("{name}+{}", node.path).into();
                    maps = output;
                }
                (Op::Flatten, _) if dense.is_empty() => flatten = node.path.as_str().into(),
                (Op::Linear { units }, _) => {
                    let [weights, bias] = weights()?;
                    let inputs = before.shape.len();
                    let part = Dense { inputs, units, relu: false };
                    dense.push(Weighted { part, name: node.path.as_str().into(), weights, bias });
                }
                _ => return None,
            }
        }
        // Blocks without a ReLU, before dense layers or others, are untested.
        let (last, hidden) = blocks.split_last().map_or((None, &[][..]), |(last, hidden)| (Some(last), hidden));
        let ends_in_filters = dense.is_empty() && last.is_some_and(|last| last.part.window == 1);
        let is_known = hidden.iter().all(|block| block.part.relu)
            && last.is_none_or(|last| last.part.relu != ends_in_filters)
            && (ends_in_filters || !dense.is_empty());
        if !is_known {
            return None;
        }
        // From the last block to the first: nothing is computed that nothing depends on.
        for index in (1..blocks.len()).rev() {
            let after = &blocks[index].part;
            let [rows, cols] = [after.rows, after.cols].map(|wanted| wanted * after.window + after.kernel - 1);
            blocks[index].part.width = cols;
            let before = &mut blocks[index - 1].part;
            (before.rows, before.cols) = (rows, cols);
        }
        let small = |values: usize| u32::try_from(values).is_ok();
        let starts_fit = blocks.iter().all(|block| small(block.part.input_len()))
            && dense.iter().all(|layer| small(layer.part.inputs * layer.part.units.max(MOST_SAMPLES)));
        let features = Maps { places: maps.height * maps.width, channels: maps.channels };
        let network = FusedNetwork {
            answers: dense.last().map_or(features.len(), |last| last.part.units),
            blocks,
            dense,
            flatten,
            pixels: image.len(),
            features,
            parameters: graph.flat_len(),
        };
        starts_fit.then_some(network)
    }

    /// A place for passes through this network.
    pub fn workspace(&self) -> Workspace {
        let active = self.blocks.iter().map(|block| Active::of(&block.part)).collect();
        Workspace::new(active, self.dense.len())
    }

    /// Values that come out for an image: its logits; of a chain that ends in a convolution those of one filter after the other.
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// Units of the last hidden layer; 0 in a network of a single dense layer.
    pub fn hidden_units(&self) -> usize {
        self.dense.len().checked_sub(2).map_or(0, |hidden| self.dense[hidden].part.units)
    }

    /// Outputs of the images in the workspace: [`Workspace::outputs`]. `parameters` is the flat buffer.
    ///
    /// # Panics
    /// If buffer or images are not this network's, or there are more than [`MOST_SAMPLES`]: a bug in the caller.
    pub fn forward(&self, parameters: &[f32], workspace: &mut Workspace) {
        Arch::new().dispatch(Forward { network: self, parameters, workspace });
    }

    /// Gradient by the parameters of the sum of `cotangents` times the outputs, N x [`FusedNetwork::answers`], of the last
    /// forward pass with the same parameters: [`Workspace::gradient`].
    ///
    /// # Panics
    /// If there was no such pass, or there is not a cotangent for each output: a bug in the caller.
    pub fn backward(&self, parameters: &[f32], cotangents: &[f32], workspace: &mut Workspace) {
        Arch::new().dispatch(Backward { network: self, parameters, cotangents, workspace });
    }

    /// As [`FusedNetwork::backward`], by the images: [`Workspace::image_gradient`].
    pub fn backward_to_images(&self, parameters: &[f32], cotangents: &[f32], workspace: &mut Workspace) {
        Arch::new().dispatch(BackwardToImages { network: self, parameters, cotangents, workspace });
    }
}

pub(super) struct Forward<'a> {
    pub network: &'a FusedNetwork,
    pub parameters: &'a [f32],
    pub workspace: &'a mut Workspace,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { network, parameters, workspace } = self;
        let Workspace { images, maps, features, outputs, scratch, spans, .. } = workspace;
        let samples = images.len() / network.pixels;
        assert!(
            images.len().is_multiple_of(network.pixels),
            "{} values are no images of {}",
            images.len(),
            network.pixels
        );
        assert!(samples <= MOST_SAMPLES, "{samples} samples");
        scratch.packed.resize_with(network.blocks.len(), Packed::default);
        for ((block, packed), maps) in network.blocks.iter().zip(&mut scratch.packed).zip(maps.iter_mut()) {
            packed.pack(simd, &parameters[block.weights.clone()], block.part.taps());
            maps.output.resize(samples * block.part.output_len());
            maps.origin.resize(samples * block.part.output_len());
        }
        features.resize(samples * network.features.len());
        // One image through all blocks, then the next: what one block leaves is still near when the next one reads it.
        for (sample, (image, features)) in
            images.chunks_exact(network.pixels).zip(features.chunks_exact_mut(network.features.len())).enumerate()
        {
            let mut input = image;
            for ((block, packed), maps) in network.blocks.iter().zip(&scratch.packed).zip(maps.iter_mut()) {
                let len = block.part.output_len();
                let own = sample * len..(sample + 1) * len;
                let bias = &parameters[block.bias.clone()];
                let (output, origin) = (&mut maps.output[own.clone()], &mut maps.origin[own]);
                let started = spans.start_layer();
                block.part.forward(simd, packed, bias, input, output, origin);
                spans.end_of(started, Part::Forward, &block.name, ("image", sample));
                input = output;
            }
            let started = spans.start_layer();
            network.features.flatten(input, features);
            spans.end_of(started, Part::Forward, &network.flatten, ("image", sample));
        }
        let mut inputs: &[f32] = features;
        for (layer, outputs) in network.dense.iter().zip(outputs) {
            outputs.resize(samples * layer.part.units);
            let (weights, bias) = (&parameters[layer.weights.clone()], &parameters[layer.bias.clone()]);
            let started = spans.start_layer();
            layer.part.forward(simd, weights, bias, inputs, outputs);
            spans.end(started, Part::Forward, &layer.name);
            inputs = outputs;
        }
    }
}

pub(super) struct Backward<'a> {
    pub network: &'a FusedNetwork,
    pub parameters: &'a [f32],
    pub cotangents: &'a [f32],
    pub workspace: &'a mut Workspace,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward { network, parameters, cotangents, workspace } = self;
        let Workspace { images, maps, features, outputs, gradient, scratch, spans, .. } = workspace;
        let samples = images.len() / network.pixels;
        assert_eq!(cotangents.len(), samples * network.answers, "a cotangent for each output");
        // Blocks add to their gradients, dense layers set theirs, nobody touches the gaps.
        gradient.resize(network.parameters);
        for block in &network.blocks {
            gradient[block.weights.clone()].fill(0.0);
            gradient[block.bias.clone()].fill(0.0);
        }

        scratch.above.copy_from(cotangents);
        for (index, layer) in network.dense.iter().enumerate().rev() {
            let started = spans.start_layer();
            let Scratch { active_dense: active, above, below, .. } = scratch;
            layer.part.through_relu(&outputs[index], above);
            let inputs = if index == 0 { &*features } else { &outputs[index - 1] };
            layer.part.backward_weights(simd, inputs, above, active, parts(gradient, &layer.weights, &layer.bias));
            if index > 0 || !network.blocks.is_empty() {
                below.resize(samples * layer.part.inputs);
                layer.part.backward_inputs(simd, &parameters[layer.weights.clone()], above, active, below);
                std::mem::swap(above, below);
            }
            spans.end(started, Part::Backward, &layer.name);
        }

        if network.blocks.is_empty() {
            return;
        }
        let Scratch { active, above, output: above_maps, input: below_maps, .. } = scratch;
        for (sample, features) in above.chunks_exact(network.features.len()).enumerate() {
            let started = spans.start_layer();
            above_maps.resize(features.len());
            network.features.unflatten(features, above_maps);
            spans.end_of(started, Part::Backward, &network.flatten, ("image", sample));
            for (index, (block, active)) in network.blocks.iter().zip(&mut *active).enumerate().rev() {
                let started = spans.start_layer();
                let own = |values: usize| sample * values..(sample + 1) * values;
                let outputs = own(block.part.output_len());
                let (values, origin) = (&maps[index].output[outputs.clone()], &maps[index].origin[outputs]);
                let outputs = Outputs { values, origin, gradient: above_maps };
                let (weights, bias) = parts(gradient, &block.weights, &block.bias);
                let kernel = &parameters[block.weights.clone()];
                if index == 0 {
                    let mut gradients = Gradients { weights, bias, input: None };
                    block.part.backward(simd, kernel, &images[own(network.pixels)], outputs, active, &mut gradients);
                } else {
                    let input = &maps[index - 1].output[own(block.part.input_len())];
                    below_maps.zeros(input.len());
                    let mut gradients = Gradients { weights, bias, input: Some(below_maps) };
                    block.part.backward(simd, kernel, input, outputs, active, &mut gradients);
                    std::mem::swap(above_maps, below_maps);
                }
                spans.end_of(started, Part::Backward, &block.name, ("image", sample));
            }
        }
    }
}

pub(super) struct BackwardToImages<'a> {
    pub network: &'a FusedNetwork,
    pub parameters: &'a [f32],
    pub cotangents: &'a [f32],
    pub workspace: &'a mut Workspace,
}

impl WithSimd for BackwardToImages<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let BackwardToImages { network, parameters, cotangents, workspace } = self;
        let Workspace { images, maps, outputs, image_gradient, scratch, .. } = workspace;
        let samples = images.len() / network.pixels;
        assert_eq!(cotangents.len(), samples * network.answers, "a cotangent for each output");
        scratch.above.copy_from(cotangents);
        let Scratch { active_dense, active, above, below, output: above_maps, input: below_maps, .. } = scratch;
        for (layer, outputs) in network.dense.iter().zip(&*outputs).rev() {
            layer.part.through_relu(outputs, above);
            below.resize(samples * layer.part.inputs);
            layer.part.backward_inputs(simd, &parameters[layer.weights.clone()], above, active_dense, below);
            std::mem::swap(above, below);
        }
        image_gradient.resize(images.len());
        let images = image_gradient.chunks_exact_mut(network.pixels);
        for (sample, (features, image)) in above.chunks_exact(network.features.len()).zip(images).enumerate() {
            above_maps.resize(features.len());
            network.features.unflatten(features, above_maps);
            for (index, (block, active)) in network.blocks.iter().zip(&mut *active).enumerate().rev() {
                let own = sample * block.part.output_len()..(sample + 1) * block.part.output_len();
                let (values, origin) = (&maps[index].output[own.clone()], &maps[index].origin[own]);
                let outputs = Outputs { values, origin, gradient: above_maps };
                below_maps.zeros(if index == 0 { network.pixels } else { block.part.input_len() });
                block.part.backward_input(simd, &parameters[block.weights.clone()], outputs, active, below_maps);
                std::mem::swap(above_maps, below_maps);
            }
            image.copy_from_slice(above_maps);
        }
    }
}

/// True for the ReLU of a block: a pooling follows nothing else.
fn is_rectified(node: &Node) -> bool {
    node.op == Op::Activation(Activation::Relu)
}

/// Weights and bias of one layer in a flat buffer, where the bias stands after the weights.
fn parts<'a>(flat: &'a mut [f32], weights: &Range<usize>, bias: &Range<usize>) -> (&'a mut [f32], &'a mut [f32]) {
    let (before, after) = flat.split_at_mut(bias.start);
    (&mut before[weights.clone()], &mut after[..bias.len()])
}

impl Maps {
    fn len(self) -> usize {
        self.places * self.channels
    }

    /// Places x channels to channels x places.
    fn flatten(self, maps: &[f32], features: &mut [f32]) {
        for (channel, features) in features.chunks_exact_mut(self.places).enumerate() {
            let own = maps[channel..].iter().step_by(self.channels);
            features.iter_mut().zip(own).for_each(|(feature, &value)| *feature = value);
        }
    }

    /// The way back.
    fn unflatten(self, features: &[f32], maps: &mut [f32]) {
        for (channel, features) in features.chunks_exact(self.places).enumerate() {
            let own = maps[channel..].iter_mut().step_by(self.channels);
            own.zip(features).for_each(|(value, &feature)| *value = feature);
        }
    }
}
