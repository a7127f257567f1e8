//! A backward pass node by node, with a rule that changes gradients on their way.

use tch::Tensor;

use super::operation;
use super::{gradients_of_sum, leaf};
use crate::graph::{Graph, Node};

/// A forward pass with each operation recorded by itself.
pub struct Tape<'g> {
    graph: &'g Graph,
    /// Leaves for the inputs of each node, and its value as a function of them.
    records: Vec<(Vec<Tensor>, Tensor)>,
}

impl<'g> Tape<'g> {
    /// # Panics
    /// If the weights or images do not have the graph's shapes: a bug in the caller.
    pub fn record(graph: &'g Graph, weights: &[Tensor], images_nchw: &Tensor) -> Tape<'g> {
        let mut records: Vec<(Vec<Tensor>, Tensor)> = Vec::with_capacity(graph.nodes().len());
        tch::with_grad(|| {
            for node in graph.nodes() {
                let leaves: Vec<Tensor> = node.inputs.iter().map(|input| leaf(&records[input.index()].1)).collect();
                let inputs = if leaves.is_empty() { vec![images_nchw] } else { leaves.iter().collect() };
                let value = operation::apply(node.op, &weights[node.parameters.clone()], &inputs);
                records.push((leaves, value));
            }
        });
        Tape { graph, records }
    }

    /// Logits `N x K`.
    pub fn logits(&self) -> Tensor {
        self.records[self.graph.taps().logits.index()].1.detach()
    }

    /// Gradient of the sum of `cotangent_nk` times the logits by the images. At each node, from the last to the first, `rule`
    /// gets the gradient by the node's value and returns the one that goes on from there. Where several nodes read a value,
    /// their gradients are added.
    pub fn backward(&self, cotangent_nk: &Tensor, rule: impl Fn(&Node, Tensor) -> Tensor) -> Tensor {
        let mut gradients: Vec<Option<Tensor>> = self.records.iter().map(|_| None).collect();
        gradients[self.graph.taps().logits.index()] = Some(cotangent_nk.shallow_clone());
        for node in self.graph.nodes().iter().skip(1).rev() {
            let Some(gradient) = gradients[node.id.index()].take() else { continue };
            let gradient = rule(node, gradient);
            let (leaves, value) = &self.records[node.id.index()];
            // A vector-Jacobian product: the gradient of a sum weighted by the gradient so far.
            let weighted = tch::with_grad(|| value * gradient);
            let parts = gradients_of_sum(&weighted, &leaves.iter().collect::<Vec<_>>());
            for (input, part) in node.inputs.iter().zip(parts) {
                let sum = &mut gradients[input.index()];
                *sum = Some(match sum.take() {
                    Some(earlier) => earlier + part,
                    None => part,
                });
            }
        }
        gradients[0].take().unwrap_or_else(|| self.records[0].1.zeros_like())
    }
}
