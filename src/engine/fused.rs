//! The fused CPU kernels as an engine.

use std::sync::Arc;

use super::Engine;
use crate::data::Split;
use crate::fused::{FusedNetwork, Workspace};
use crate::graph::Graph;
use crate::trace::Spans;

/// A network of the fused kernels with buffers for its passes.
pub struct FusedEngine {
    network: Arc<FusedNetwork>,
    workspace: Workspace,
}

impl FusedEngine {
    /// `None` for graphs that the kernels do not know.
    pub fn of(graph: &Graph) -> Option<FusedEngine> {
        let network = Arc::new(FusedNetwork::of(graph)?);
        Some(FusedEngine { workspace: network.workspace(), network })
    }

    /// An engine for the same network, with buffers of its own.
    #[must_use]
    pub fn another(&self) -> FusedEngine {
        FusedEngine { network: Arc::clone(&self.network), workspace: self.network.workspace() }
    }
}

impl Engine for FusedEngine {
    fn load(&mut self, split: &Split, samples: &[u32]) {
        self.workspace.load(samples.iter().map(|&sample| split.image(sample as usize)));
    }

    fn forward(&mut self, parameters: &[f32]) {
        self.network.forward(parameters, &mut self.workspace);
    }

    fn evaluate(&mut self, parameters: &[f32]) {
        self.network.forward(parameters, &mut self.workspace);
    }

    fn logits(&self) -> &[f32] {
        self.workspace.outputs()
    }

    fn features(&self) -> &[f32] {
        self.workspace.features()
    }

    fn backward(&mut self, parameters: &[f32], cotangents_nk: &[f32]) {
        self.network.backward(parameters, cotangents_nk, &mut self.workspace);
    }

    fn gradient(&self) -> &[f32] {
        self.workspace.gradient()
    }

    fn spans(&mut self) -> &mut Spans {
        &mut self.workspace.spans
    }
}
