//! An order to execute a graph in.

use super::node::NodeId;
use super::op::{Activation, Op};
use super::shape::Shape;
use super::{Graph, Node};

/// The operations of a forward pass that gives the values of some nodes. Nothing is executed that these do not need, and a
/// value is dropped after its last reader.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    steps: Vec<Step>,
    slots: usize,
}

/// One operation. Values lie in slots, numbered like nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Node that defines the operation and its parameters.
    pub node: NodeId,
    /// Index of the layer in whose scope the operation appears.
    pub layer: usize,
    /// Slots that it reads.
    pub inputs: Vec<NodeId>,
    /// Slot that it writes.
    pub output: NodeId,
    /// Shape that it reads first.
    pub input_shape: Shape,
    pub output_shape: Shape,
    /// Slots that nobody reads afterwards.
    pub drops: Vec<NodeId>,
}

impl Plan {
    /// A plan for the values of `keep`.
    ///
    /// A ReLU whose only reader is a max-pooling is executed after it, unless its own value is kept: the two commute, and the
    /// pooled maps have a quarter of the values.
    pub fn new(graph: &Graph, keep: &[NodeId]) -> Plan {
        let mut needed = vec![false; graph.nodes.len()];
        keep.iter().for_each(|id| needed[id.index()] = true);
        for node in graph.nodes.iter().rev() {
            if needed[node.id.index()] {
                node.inputs.iter().for_each(|input| needed[input.index()] = true);
            }
        }
        let mut steps: Vec<Step> = Vec::new();
        for node in graph.nodes.iter().filter(|node| needed[node.id.index()] && !node.inputs.is_empty()) {
            let step = Step::of(graph, node);
            match steps.pop() {
                Some(earlier) if commutes(graph, &earlier, node, keep, &needed) => steps.extend(earlier.after(&step)),
                earlier => steps.extend(earlier.into_iter().chain([step])),
            }
        }
        let mut alive = vec![false; graph.nodes.len()];
        keep.iter().for_each(|id| alive[id.index()] = true);
        for step in steps.iter_mut().rev() {
            for &input in &step.inputs {
                if !std::mem::replace(&mut alive[input.index()], true) {
                    step.drops.push(input);
                }
            }
        }
        Plan { steps, slots: graph.nodes.len() }
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Number of slots, one for each node of the graph.
    pub fn slots(&self) -> usize {
        self.slots
    }
}

impl Step {
    fn of(graph: &Graph, node: &Node) -> Step {
        let shape_of = |id: &NodeId| graph.nodes[id.index()].shape;
        Step {
            node: node.id,
            layer: graph.layer_of[node.id.index()].unwrap_or(0),
            inputs: node.inputs.clone(),
            output: node.id,
            input_shape: node.inputs.first().map_or(node.shape, shape_of),
            output_shape: node.shape,
            drops: Vec::new(),
        }
    }

    /// Name of the operation in a trace: that of its layer, `conv2d_1`, or `conv2d_1/relu` for its activation.
    pub fn name(&self, graph: &Graph) -> String {
        let layer = graph.layers.get(self.layer).map_or("input", |layer| &layer.name);
        match graph.node(self.node).op {
            Op::Activation(activation) => format!("{layer}/{}", activation.name()),
            _ => layer.to_owned(),
        }
    }

    /// This activation and `pooling`, the other way round. The slot of the activation then holds the pooled maps.
    fn after(self, pooling: &Step) -> [Step; 2] {
        let (middle, end) = (self.output, pooling.output);
        let first = Step { inputs: self.inputs, input_shape: self.input_shape, output: middle, ..pooling.clone() };
        let shape = pooling.output_shape;
        let last = Step {
            node: self.node,
            layer: pooling.layer,
            inputs: vec![middle],
            output: end,
            input_shape: shape,
            output_shape: shape,
            drops: Vec::new(),
        };
        [first, last]
    }
}

/// True if `step` is a ReLU that only `pooling` reads.
fn commutes(graph: &Graph, step: &Step, pooling: &Node, keep: &[NodeId], needed: &[bool]) -> bool {
    let is_relu = matches!(graph.node(step.node).op, Op::Activation(Activation::Relu));
    let is_pooled = matches!(pooling.op, Op::MaxPool2d { .. }) && pooling.inputs == [step.node];
    let readers = || graph.readers(step.node).filter(|reader| needed[reader.index()]).count();
    step.output == step.node && is_relu && is_pooled && !keep.contains(&step.node) && readers() == 1
}
