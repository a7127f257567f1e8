//! Samples on their way through a chain, and what its passes leave.

use super::aligned::Aligned;
use super::conv_block::Packed;
use super::conv_gradient::Active;
use super::dense;
use crate::trace::Spans;

/// Samples, all that a pass through them computes, and the gradient that it leaves. Grows to the largest number of samples
/// it has seen.
pub struct Workspace {
    /// N x H x W x C; those of a data set in \[0, 1\].
    pub(super) images: Aligned<f32>,
    pub(super) labels: Vec<u8>,
    pub(super) maps: Vec<BlockOutput>,
    /// N x C x places: flattened as PyTorch does.
    pub(super) features: Aligned<f32>,
    /// N x units of each dense layer, the logits last.
    pub(super) outputs: Vec<Aligned<f32>>,
    /// N x classes.
    pub(super) probabilities: Aligned<f32>,
    /// Laid out like the parameters.
    pub(super) gradient: Aligned<f32>,
    /// N x H x W x C.
    pub(super) image_gradient: Aligned<f32>,
    pub(super) scratch: Scratch,
    /// When each layer was computed, if somebody wants to know.
    pub spans: Spans,
}

/// N x rows x cols x filters of one block.
#[derive(Default)]
pub(super) struct BlockOutput {
    pub(super) output: Aligned<f32>,
    /// Which pixel of its window each came from.
    pub(super) origin: Aligned<u32>,
}

/// What no pass leaves for another, but for what depends on shapes alone.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) packed: Vec<Packed>,
    /// One for each block.
    pub(super) active: Vec<Active>,
    pub(super) active_dense: dense::Active,
    /// Gradients of what lies between two dense layers, of all samples.
    pub(super) above: Aligned<f32>,
    pub(super) below: Aligned<f32>,
    /// Gradients of what lies between two blocks, of one image.
    pub(super) output: Aligned<f32>,
    pub(super) input: Aligned<f32>,
}

impl Workspace {
    /// For as many blocks as there are lists of what is active, and so many dense layers.
    pub(super) fn new(active: Vec<Active>, dense: usize) -> Workspace {
        Workspace {
            images: Aligned::default(),
            labels: Vec::new(),
            maps: active.iter().map(|_| BlockOutput::default()).collect(),
            features: Aligned::default(),
            outputs: (0..dense).map(|_| Aligned::default()).collect(),
            probabilities: Aligned::default(),
            gradient: Aligned::default(),
            image_gradient: Aligned::default(),
            scratch: Scratch { active, ..Scratch::default() },
            spans: Spans::default(),
        }
    }

    /// Takes in images, H x W x C bytes each, with their labels.
    pub fn load<'a>(&mut self, samples: impl Iterator<Item = (&'a [u8], u8)>) {
        self.images.resize(0);
        self.labels.clear();
        for (image, label) in samples {
            let before = self.images.len();
            self.images.resize(before + image.len());
            self.images[before..].iter_mut().zip(image).for_each(|(value, &byte)| *value = f32::from(byte) / 255.0);
            self.labels.push(label);
        }
    }

    /// Takes in images without labels, N x H x W x C values.
    pub fn load_images(&mut self, images_nhwc: &[f32]) {
        self.images.copy_from(images_nhwc);
        self.labels.clear();
    }

    /// What came out of the last forward pass, N x [`Chain::answers`](super::Chain::answers).
    pub fn answers(&self) -> &[f32] {
        self.outputs.last().unwrap_or(&self.features)
    }

    /// What the last forward pass thinks of each sample, N x classes.
    pub fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    /// What the last forward pass left of each sample for the last layer to decide from, N x [`Chain::hidden_units`](super::Chain::hidden_units).
    pub fn features(&self) -> &[f32] {
        self.outputs.len().checked_sub(2).map_or(&[], |hidden| &self.outputs[hidden])
    }

    /// What the last backward pass left, laid out like the parameters; gaps are zero.
    pub fn gradient(&self) -> &[f32] {
        &self.gradient
    }

    /// What the last pass back to the images left, N x H x W x C.
    pub fn image_gradient(&self) -> &[f32] {
        &self.image_gradient
    }
}
