//! One operation of a graph with its connections.

use std::ops::Range;

use super::op::Op;
use super::path::Path;
use super::shape::Shape;

/// Position of a node in [`Graph::nodes`](super::Graph::nodes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub id: NodeId,
    pub path: Path,
    pub op: Op,
    /// Nodes whose values this one reads, in the order of the operation's arguments.
    pub inputs: Vec<NodeId>,
    /// Shape of the value for one image.
    pub shape: Shape,
    /// Range in [`Graph::parameters`](super::Graph::parameters).
    pub parameters: Range<usize>,
}

impl NodeId {
    pub(super) fn new(index: usize) -> NodeId {
        NodeId(u32::try_from(index).unwrap_or(u32::MAX))
    }

    pub fn index(self) -> usize {
        self.0 as usize
    }
}
