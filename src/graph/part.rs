//! The part of a graph that a node depends on, for other images and fewer filters.

use super::builder::Builder;
use super::node::NodeId;
use super::op::Op;
use super::{Graph, Node};
use crate::types::ImageShape;

/// A graph of its own that ends in a convolution, before its activation.
#[derive(Clone, Debug)]
pub struct Part {
    pub graph: Graph,
    /// Index in the whole graph of each parameter of the part. The convolution's own are the last.
    pub parameters: Vec<usize>,
}

impl Graph {
    /// The nodes up to a convolution, reduced to `filters` filters, for images of another size. `None` if the node is not a
    /// convolution or the images are too small.
    pub fn up_to_filters(&self, convolution: NodeId, filters: usize, input: ImageShape) -> Option<Part> {
        let Op::Conv2d { kernel, .. } = self.nodes.get(convolution.index())?.op else {
            return None;
        };
        let mut builder = Builder::new(input);
        let mut parameters = Vec::new();
        let mut copies: Vec<Option<NodeId>> = vec![None; self.nodes.len()];
        copies[0] = Some(builder.input());
        let ancestors = self.ancestors(convolution);
        for node in self.nodes.iter().skip(1).filter(|node| ancestors[node.id.index()]) {
            let op = if node.id == convolution { Op::Conv2d { filters, kernel } } else { node.op };
            let input = copies[node.inputs.first()?.index()]?;
            copies[node.id.index()] = Some(builder.add(node.path.clone(), op, input).ok()?);
            parameters.extend(node.parameters.clone());
        }
        let end = copies[convolution.index()]?;
        Some(Part { graph: builder.finish(end), parameters })
    }

    /// True for each node that the value of `id` depends on, itself included.
    fn ancestors(&self, id: NodeId) -> Vec<bool> {
        let mut found = vec![false; self.nodes.len()];
        found[id.index()] = true;
        for Node { id, inputs, .. } in self.nodes.iter().rev() {
            if found[id.index()] {
                inputs.iter().for_each(|input| found[input.index()] = true);
            }
        }
        found
    }
}
