//! Construction of a graph, node by node, with every shape checked.

use super::node::{Node, NodeId};
use super::op::Op;
use super::parameter::ParameterSpec;
use super::path::Path;
use super::shape::{Shape, ShapeError};
use super::{Graph, Taps, layer};
use crate::types::ImageShape;

/// Limit of trained values: 1 GiB of weights, and several times that to train them.
const MAX_PARAMETERS: usize = 1 << 28;

/// A graph under construction. A node can only read nodes that exist, so the order of calls is topological.
#[derive(Clone, Debug)]
pub struct Builder {
    nodes: Vec<Node>,
    parameters: Vec<ParameterSpec>,
    parameter_count: usize,
}

impl Builder {
    /// Begins with the input, [`Builder::input`].
    pub fn new(input: ImageShape) -> Builder {
        let node = Node {
            id: NodeId::new(0),
            path: Path::new("input"),
            op: Op::Input,
            inputs: Vec::new(),
            shape: Shape::Image(input),
            parameters: 0..0,
        };
        Builder { nodes: vec![node], parameters: Vec::new(), parameter_count: 0 }
    }

    pub fn input(&self) -> NodeId {
        NodeId::new(0)
    }

    pub fn shape(&self, id: NodeId) -> Shape {
        self.nodes[id.index()].shape
    }

    /// Adds an operation on the value of `input`.
    ///
    /// # Errors
    /// If the operation does not fit the shape of its input, a width is 0 or absurd, or the parameters are too many.
    pub fn add(&mut self, path: Path, op: Op, input: NodeId) -> Result<NodeId, ShapeError> {
        let read = self.shape(input);
        let shape = op.output(path.as_str(), read)?;
        let specs = ParameterSpec::of_node(&path, op, read);
        self.parameter_count += specs.iter().map(ParameterSpec::len).sum::<usize>();
        if self.parameter_count > MAX_PARAMETERS {
            let field = "the number of parameters up to it";
            let (layer, got) = (path.as_str().to_owned(), self.parameter_count);
            return Err(ShapeError::TooLarge { layer, field, got, limit: MAX_PARAMETERS });
        }
        let first = self.parameters.len();
        self.parameters.extend(specs);
        let (id, parameters) = (NodeId::new(self.nodes.len()), first..self.parameters.len());
        self.nodes.push(Node { id, path, op, inputs: vec![input], shape, parameters });
        Ok(id)
    }

    /// The graph, with `logits` as its result. Features are the input of the layer of the logits.
    pub fn finish(self, logits: NodeId) -> Graph {
        let taps = Taps { logits, features: None, last_maps: None };
        let Builder { nodes, parameters, .. } = self;
        let mut graph = Graph { nodes, layers: Vec::new(), layer_of: Vec::new(), parameters, taps };
        layer::group(&mut graph);
        let last = graph.layer_of(logits).and_then(|layer| graph.node(layer.node).inputs.first().copied());
        let convolution = graph.layers.iter().rev().find(|layer| layer.op.is_convolution());
        let last_maps = convolution.map(|layer| layer.value);
        graph.taps = Taps { logits, features: last.filter(|id| id.index() > 0), last_maps };
        graph
    }
}
