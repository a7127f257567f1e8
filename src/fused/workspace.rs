//! Buffers of the fused passes: images, intermediate values, gradients.

use super::aligned::Aligned;
use super::conv_block::Packed;
use super::conv_gradient::Active;
use super::dense;
use crate::trace::Spans;
use crate::types::unit;

/// Images, the values of their passes, and gradients. Grows to the largest number of images so far.
pub struct Workspace {
    /// N x H x W x C; those of a data set in \[0, 1\].
    pub(super) images: Aligned<f32>,
    pub(super) maps: Vec<BlockOutput>,
    /// N x C x places: flattened as PyTorch does.
    pub(super) features: Aligned<f32>,
    /// N x units of each dense layer, the logits last.
    pub(super) outputs: Vec<Aligned<f32>>,
    /// Laid out like the parameters.
    pub(super) gradient: Aligned<f32>,
    /// N x H x W x C.
    pub(super) image_gradient: Aligned<f32>,
    pub(super) scratch: Scratch,
    /// Times of the layers, for a trace.
    pub spans: Spans,
}

/// N x rows x cols x filters of one block.
#[derive(Default)]
pub(super) struct BlockOutput {
    pub(super) output: Aligned<f32>,
    /// Index of each value's pixel in its window.
    pub(super) origin: Aligned<u32>,
}

/// Scratch buffers. Nothing carries over between passes except data that depends only on shapes.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) packed: Vec<Packed>,
    /// One for each block.
    pub(super) active: Vec<Active>,
    pub(super) active_dense: dense::Active,
    /// Gradients of the values between two dense layers, all samples.
    pub(super) above: Aligned<f32>,
    pub(super) below: Aligned<f32>,
    /// Gradients of the values between two blocks, one image.
    pub(super) output: Aligned<f32>,
    pub(super) input: Aligned<f32>,
}

impl Workspace {
    /// For as many blocks as lists of active outputs, and this number of dense layers.
    pub(super) fn new(active: Vec<Active>, dense: usize) -> Workspace {
        Workspace {
            images: Aligned::default(),
            maps: active.iter().map(|_| BlockOutput::default()).collect(),
            features: Aligned::default(),
            outputs: (0..dense).map(|_| Aligned::default()).collect(),
            gradient: Aligned::default(),
            image_gradient: Aligned::default(),
            scratch: Scratch { active, ..Scratch::default() },
            spans: Spans::default(),
        }
    }

    /// Loads images, H x W x C bytes each.
    pub fn load<'a>(&mut self, images: impl Iterator<Item = &'a [u8]>) {
        self.images.resize(0);
        for image in images {
            let before = self.images.len();
            self.images.resize(before + image.len());
            self.images[before..].iter_mut().zip(image).for_each(|(value, &byte)| *value = unit(byte));
        }
    }

    /// Loads images, N x H x W x C values.
    pub fn load_images(&mut self, images_nhwc: &[f32]) {
        self.images.copy_from(images_nhwc);
    }

    /// Outputs of the last forward pass, N x [`FusedNetwork::answers`](super::FusedNetwork::answers).
    pub fn outputs(&self) -> &[f32] {
        self.outputs.last().unwrap_or(&self.features)
    }

    /// Features of the last forward pass, the inputs of the layer of the logits: N x
    /// [`FusedNetwork::hidden_units`](super::FusedNetwork::hidden_units).
    pub fn features(&self) -> &[f32] {
        self.outputs.len().checked_sub(2).map_or(&[], |hidden| &self.outputs[hidden])
    }

    /// Gradient of the last backward pass, laid out like the parameters; gaps are zero.
    pub fn gradient(&self) -> &[f32] {
        &self.gradient
    }

    /// Gradient of the last backward pass to the images, N x H x W x C.
    pub fn image_gradient(&self) -> &[f32] {
        &self.image_gradient
    }
}
