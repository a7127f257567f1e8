//! Layers: nodes as Keras groups them.

use super::Graph;
use super::node::NodeId;
use super::op::{Activation, Op};
use super::parameter::ParameterSpec;
use super::shape::Shape;

/// An operation together with the nodes below its path, such as its activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Path of its first node: `conv2d`, `conv2d_1`, ...
    pub name: String,
    /// Operation of the first node.
    pub op: Op,
    pub activation: Option<Activation>,
    /// First node.
    pub node: NodeId,
    /// Last node, whose value is the output of the layer.
    pub value: NodeId,
    /// Shape that the first node reads.
    pub input: Shape,
    pub output: Shape,
    /// Number of parameters.
    pub parameter_count: usize,
    /// Multiply-accumulates for one image.
    pub macs: usize,
}

impl Layer {
    /// True if the layer ends in a ReLU.
    pub fn has_relu(&self) -> bool {
        self.activation == Some(Activation::Relu)
    }
}

/// Groups the nodes of a graph. A node whose path is below that of the layer before it belongs to that layer.
pub(super) fn group(graph: &mut Graph) {
    let Graph { nodes, layers, layer_of, parameters, .. } = graph;
    for node in nodes.iter() {
        let Some(&first) = node.inputs.first() else {
            layer_of.push(None);
            continue;
        };
        let own = &parameters[node.parameters.clone()];
        let count: usize = own.iter().map(ParameterSpec::len).sum();
        let macs = node.op.macs(nodes[first.index()].shape, node.shape);
        match layers.last_mut() {
            Some(layer) if node.path.is_below(&nodes[layer.node.index()].path) => {
                if let Op::Activation(activation) = node.op {
                    layer.activation = Some(activation);
                }
                (layer.value, layer.output) = (node.id, node.shape);
                layer.parameter_count += count;
                layer.macs += macs;
            }
            _ => layers.push(Layer {
                name: node.path.as_str().to_owned(),
                op: node.op,
                activation: None,
                node: node.id,
                value: node.id,
                input: nodes[first.index()].shape,
                output: node.shape,
                parameter_count: count,
                macs,
            }),
        }
        layer_of.push(layers.len().checked_sub(1));
    }
}
