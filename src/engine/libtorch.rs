//! libtorch's automatic differentiation as an engine: any graph, one shard on one thread.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::Engine;
use crate::data::{Batch, Split};
use crate::floats::floats;
use crate::forward::Program;
use crate::graph::{Graph, NodeId, Step};
use crate::trace::{Part, Spans};
use crate::weights::{Weights, host_values};

/// Leaves of backward passes over the storage of the weights, and the buffer of their gradient.
pub struct LibtorchEngine {
    training: Program,
    /// Gives the features too.
    evaluation: Program,
    logits: NodeId,
    features: Option<NodeId>,
    /// Name of each step of the training program.
    names: Vec<Arc<str>>,
    leaves: Vec<Tensor>,
    gradient: Tensor,
    images_nchw: Tensor,
    /// Logits of the last forward pass, with their autograd graph.
    recorded: Option<Tensor>,
    logits_nk: Vec<f32>,
    features_nd: Vec<f32>,
    spans: Spans,
}

impl LibtorchEngine {
    /// # Panics
    /// If the weights are not the graph's or not on the CPU: a bug in the caller.
    pub fn new(graph: &Graph, weights: &Weights) -> LibtorchEngine {
        let leaves = weights.leaves();
        let gradient = weights.flat().zeros_like();
        point_gradients(graph, &leaves, &weights.views_of(&gradient));
        let taps = graph.taps();
        let training = Program::new(graph, &[taps.logits]);
        let keep: Vec<NodeId> = taps.features.into_iter().chain([taps.logits]).collect();
        let names = training.plan().steps().iter().map(|step: &Step| step.name(graph).into()).collect();
        LibtorchEngine {
            training,
            evaluation: Program::new(graph, &keep),
            logits: taps.logits,
            features: taps.features,
            names,
            leaves,
            gradient,
            images_nchw: Tensor::zeros([0], (Kind::Float, Device::Cpu)),
            recorded: None,
            logits_nk: Vec::new(),
            features_nd: Vec::new(),
            spans: Spans::default(),
        }
    }
}

/// Makes each leaf's `.grad` a view of a flat gradient: backward passes then add to that in place.
pub(crate) fn point_gradients(graph: &Graph, leaves: &[Tensor], views: &[Tensor]) {
    let shape = graph.input();
    let [c, h, w] = [shape.channels, shape.height, shape.width].map(|d| d as i64);
    let device = leaves.first().map_or(Device::Cpu, Tensor::device);
    let blank = Tensor::zeros([1, c, h, w], (Kind::Float, device));
    // The first backward pass makes `.grad`.
    tch::with_grad(|| crate::forward::logits(graph, leaves, &blank).sum(Kind::Float).backward());
    for (leaf, view) in leaves.iter().filter(|leaf| leaf.requires_grad()).zip(views) {
        leaf.grad().set_data(view);
    }
}

impl Engine for LibtorchEngine {
    fn load(&mut self, split: &Split, samples: &[u32]) {
        self.images_nchw = Batch::gather(split, samples, Device::Cpu).images_nchw;
    }

    fn forward(&mut self, _: &[f32]) {
        let LibtorchEngine { training, names, leaves, images_nchw, spans, .. } = self;
        let mut values = tch::with_grad(|| {
            training.run_watched(leaves, images_nchw, |step, work| {
                let started = spans.start_layer();
                let value = work();
                spans.end(started, Part::Forward, &names[step]);
                value
            })
        });
        let logits_nk = values.take(self.logits);
        self.logits_nk = host_values(&logits_nk);
        self.recorded = Some(logits_nk);
    }

    fn evaluate(&mut self, _: &[f32]) {
        let values = tch::no_grad(|| self.evaluation.run(&self.leaves, &self.images_nchw));
        self.logits_nk = host_values(values.get(self.logits));
        self.features_nd = self.features.map_or_else(Vec::new, |features| host_values(values.get(features)));
    }

    fn logits(&self) -> &[f32] {
        &self.logits_nk
    }

    fn features(&self) -> &[f32] {
        &self.features_nd
    }

    fn backward(&mut self, _: &[f32], cotangents_nk: &[f32]) {
        let _ = self.gradient.zero_();
        if let Some(logits_nk) = self.recorded.take() {
            let cotangents_nk = Tensor::from_slice(cotangents_nk).view_as(&logits_nk);
            tch::with_grad(|| (logits_nk * cotangents_nk).sum(Kind::Float).backward());
        }
    }

    fn gradient(&self) -> &[f32] {
        floats(&self.gradient).unwrap_or_default()
    }

    fn spans(&mut self) -> &mut Spans {
        &mut self.spans
    }
}
