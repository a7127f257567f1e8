//! A network as plain data: operations, their connections, shapes and parameters. No tensor, no weights.
//!
//! Everything that reads a network reads this: forward passes, the fused kernels, explanations, the summary, TensorBoard's
//! graphs. An architecture (`model`) builds a [`Graph`] with a [`Builder`]; a [`Plan`] is an order to execute it in.

mod builder;
mod layer;
mod node;
mod op;
pub(crate) mod parameter;
mod part;
mod path;
mod plan;
mod shape;
mod summary;

use std::ops::Range;

use crate::types::ImageShape;

pub use builder::Builder;
pub use layer::Layer;
pub use node::{Node, NodeId};
pub use op::{Activation, Op};
pub use parameter::{ParameterSpec, Role};
pub use part::Part;
pub use path::Path;
pub use plan::{Plan, Step};
pub use shape::{Shape, ShapeError};
pub(crate) use summary::grouped;
pub use summary::summary;

/// A directed acyclic graph of operations. Node ids are topological: the inputs of a node have smaller ids than the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    layers: Vec<Layer>,
    /// Index of each node's layer; the input belongs to none.
    layer_of: Vec<Option<usize>>,
    parameters: Vec<ParameterSpec>,
    taps: Taps,
}

/// Nodes with a meaning for whoever reads the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taps {
    /// One value for each class, or the last value of a [`Part`].
    pub logits: NodeId,
    /// Input of the layer of the logits: the features of an image. `None` if that is the image itself.
    pub features: Option<NodeId>,
    /// Output of the last convolution, after its activation: the default of the class activation maps.
    pub last_maps: Option<NodeId>,
}

impl Graph {
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// # Panics
    /// If the id is of another, larger graph: a bug in the caller.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub fn taps(&self) -> Taps {
        self.taps
    }

    /// Height, width and channels of the images.
    pub fn input(&self) -> ImageShape {
        match self.nodes.first().map(|node| node.shape) {
            Some(Shape::Image(shape)) => shape,
            Some(Shape::Vector(_)) | None => unreachable!("a builder begins with an image"),
        }
    }

    /// Number of classes, which is the number of logits.
    pub fn classes(&self) -> usize {
        self.node(self.taps.logits).shape.len()
    }

    /// The layers in the order of their nodes. The input is not a layer.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer called `name`.
    pub fn layer(&self, name: &str) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.name == name)
    }

    /// The layer of a node; `None` for the input.
    pub fn layer_of(&self, id: NodeId) -> Option<&Layer> {
        self.layers.get((*self.layer_of.get(id.index())?)?)
    }

    /// The layer that computes the features.
    pub fn features(&self) -> Option<&Layer> {
        self.layer_of(self.taps.features?)
    }

    /// All parameters, in the order of their nodes. Every `weights` argument has this order.
    pub fn parameters(&self) -> &[ParameterSpec] {
        &self.parameters
    }

    /// Number of trained values.
    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().filter(|spec| spec.role.is_trained()).map(ParameterSpec::len).sum()
    }

    /// Range of each of [`Graph::parameters`] in the flat buffer of trained parameters, or in that of statistics. Values are
    /// in the order of their strides: channels last.
    pub fn parameter_ranges(&self) -> Vec<Range<usize>> {
        parameter::ranges(&self.parameters)
    }

    /// Length of the flat buffer of trained parameters, gaps between them included.
    pub fn flat_len(&self) -> usize {
        parameter::flat_len(&self.parameters)
    }

    /// Multiply-accumulates of a forward pass for one image.
    pub fn macs(&self) -> usize {
        self.layers.iter().map(|layer| layer.macs).sum()
    }

    /// Ids of the nodes that read the value of `id`.
    pub fn readers(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().filter(move |node| node.inputs.contains(&id)).map(|node| node.id)
    }
}
