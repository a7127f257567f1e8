//! The graph of a model, as TensorBoard's Graphs tab draws it.
//!
//! Slashes in names make nested scopes. [`Attr`]s are what a click on a node shows; output shapes are drawn on the
//! edges.

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use super::proto;
use super::proto::attr_value::{ListValue, Value as Wire};
use crate::exit::{Classify, Exit};

/// A graph whose node names are unique and whose edges lead somewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
}

/// One operation, or one tensor that is just there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    name: String,
    op: String,
    inputs: Vec<String>,
    device: String,
    attrs: BTreeMap<String, Attr>,
    outputs: Option<Vec<Shape>>,
}

/// Sizes of the dimensions, outermost first; `None` is a size that is not known, such as the batch's.
pub type Shape = Vec<Option<u32>>;

#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    Text(String),
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Type(DType),
}

/// The element types that this project has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    F32,
    I64,
}

/// Fault in the nodes of a graph.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    #[error("graph node `{name}`: got a name with {why}, want letters, digits and `_./-`, not starting with `/`")]
    Name { name: String, why: &'static str },
    #[error("graph node `{name}`: got two nodes of this name, want one")]
    Duplicate { name: String },
    #[error("graph node `{node}`: input `{input}` is not the output of any node")]
    Input { node: String, input: String },
    #[error("graph node `{node}`: attribute `{key}` has a quote or control character, which the browser cannot show")]
    Text { node: String, key: String },
}

impl Classify for GraphError {
    fn exit(&self) -> Exit {
        Exit::Software
    }
}

impl Node {
    /// A node called `name`, with its scopes before it (`cnn/conv2d/kernel`), that does `op` (`Conv2D`).
    pub fn new(name: impl Into<String>, op: impl Into<String>) -> Node {
        Node { name: name.into(), op: op.into(), ..Default::default() }
    }

    /// Takes what `source` gives: `name`, `name:2` for its output 2, `^name` for order only.
    #[must_use]
    pub fn input(mut self, source: impl Into<String>) -> Node {
        self.inputs.push(source.into());
        self
    }

    /// Sets the device, such as `/device:CPU:0`.
    #[must_use]
    pub fn device(mut self, device: impl Into<String>) -> Node {
        self.device = device.into();
        self
    }

    #[must_use]
    pub fn attr(mut self, key: impl Into<String>, value: Attr) -> Node {
        self.attrs.insert(key.into(), value);
        self
    }

    /// The shape of each output.
    #[must_use]
    pub fn outputs(mut self, shapes: impl IntoIterator<Item = Shape>) -> Node {
        self.outputs = Some(shapes.into_iter().collect());
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<(), GraphError> {
        let name_error = |why| Err(GraphError::Name { name: self.name.clone(), why });
        match self.name.chars().next() {
            None => return name_error("nothing in it"),
            Some('/' | '_' | '-') => return name_error("a wrong first character"),
            Some(_) => {}
        }
        if self.name.split('/').any(str::is_empty) {
            return name_error("an empty scope");
        }
        if !self.name.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c)) {
            return name_error("another character");
        }
        for (key, attr) in &self.attrs {
            if matches!(attr, Attr::Text(text) if text.chars().any(|c| c.is_control() || c == '"' || c == '\'')) {
                return Err(GraphError::Text { node: self.name.clone(), key: key.clone() });
            }
        }
        Ok(())
    }

    fn to_wire(&self) -> proto::NodeDef {
        let mut attr: BTreeMap<_, _> = self.attrs.iter().map(|(key, value)| (key.clone(), value.to_wire())).collect();
        if let Some(shapes) = &self.outputs {
            let shape = shapes.iter().map(|shape| shape_to_wire(shape)).collect();
            let list = Wire::List(ListValue { shape, ..Default::default() });
            attr.insert("_output_shapes".to_owned(), proto::AttrValue { value: Some(list) });
        }
        proto::NodeDef {
            name: self.name.clone(),
            op: self.op.clone(),
            input: self.inputs.clone(),
            device: self.device.clone(),
            attr,
        }
    }
}

impl Attr {
    fn to_wire(&self) -> proto::AttrValue {
        let value = match self {
            Attr::Text(text) => Wire::S(text.clone().into_bytes()),
            Attr::Int(int) => Wire::I(*int),
            Attr::Float(float) => Wire::F(*float),
            Attr::Ints(ints) => Wire::List(ListValue { i: ints.clone(), ..Default::default() }),
            Attr::Type(dtype) => Wire::Type(dtype.to_wire().into()),
        };
        proto::AttrValue { value: Some(value) }
    }
}

impl DType {
    fn to_wire(self) -> proto::DataType {
        match self {
            DType::F32 => proto::DataType::DtFloat,
            DType::I64 => proto::DataType::DtInt64,
        }
    }
}

impl Graph {
    /// Checks names and edges. Nodes may be in any order, which is kept.
    pub fn new(nodes: Vec<Node>) -> Result<Graph, GraphError> {
        let mut outputs = HashMap::with_capacity(nodes.len());
        for node in &nodes {
            node.check()?;
            if outputs.insert(node.name.as_str(), node.outputs.as_ref().map(Vec::len)).is_some() {
                return Err(GraphError::Duplicate { name: node.name.clone() });
            }
        }
        for node in &nodes {
            for input in &node.inputs {
                let (name, index) = match input.strip_prefix('^') {
                    Some(name) => (name, Some(0)),
                    None => input.rsplit_once(':').map_or((input.as_str(), Some(0)), |(n, i)| (n, i.parse().ok())),
                };
                let known = match (outputs.get(name), index) {
                    (Some(Some(count)), Some(index)) => input.starts_with('^') || index < *count,
                    (Some(None), Some(_)) => true,
                    _ => false,
                };
                if !known || name == node.name {
                    return Err(GraphError::Input { node: node.name.clone(), input: input.clone() });
                }
            }
        }
        Ok(Graph { nodes })
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Bytes held, roughly.
    pub fn size(&self) -> usize {
        self.nodes.iter().map(|node| size_of::<Node>() + 64 * (1 + node.inputs.len() + node.attrs.len())).sum()
    }

    /// A serialized `GraphDef`.
    pub fn encode(&self) -> Vec<u8> {
        let node = self.nodes.iter().map(Node::to_wire).collect();
        // The version is what PyTorch writes; no reader looks at it.
        let versions = Some(proto::VersionDef { producer: 22, ..Default::default() });
        proto::GraphDef { node, versions }.encode_to_vec()
    }
}

pub(super) fn shape_to_wire(shape: &[Option<u32>]) -> proto::TensorShapeProto {
    let dim = shape
        .iter()
        .map(|size| proto::tensor_shape_proto::Dim { size: size.map_or(-1, i64::from), ..Default::default() })
        .collect();
    proto::TensorShapeProto { dim, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv() -> Vec<Node> {
        vec![
            Node::new("input", "Placeholder").outputs([vec![None, Some(28), Some(28), Some(1)]]),
            Node::new("cnn/conv2d/kernel", "VariableV2").attr("shape", Attr::Ints(vec![3, 3])),
            Node::new("cnn/conv2d/Conv2D", "Conv2D")
                .input("input")
                .input("cnn/conv2d/kernel:0")
                .input("^input")
                .device("/device:CPU:0")
                .attr("strides", Attr::Ints(vec![1, 1]))
                .attr("padding", Attr::Text("VALID".to_owned()))
                .attr("dtype", Attr::Type(DType::F32)),
        ]
    }

    fn error(nodes: Vec<Node>) -> String {
        Graph::new(nodes).unwrap_err().to_string()
    }

    #[test]
    fn encodes_what_was_built() {
        let bytes = Graph::new(conv()).unwrap().encode();
        let graph = proto::GraphDef::decode(bytes.as_slice()).unwrap();
        assert_eq!(graph.node[2].input, ["input", "cnn/conv2d/kernel:0", "^input"]);
        assert_eq!(graph.node[2].attr["padding"].value, Some(Wire::S(b"VALID".to_vec())));
        assert_eq!(graph.node[2].attr["dtype"].value, Some(Wire::Type(1)));
        let Some(Wire::List(list)) = &graph.node[0].attr["_output_shapes"].value else { panic!("{graph:?}") };
        let sizes: Vec<i64> = list.shape[0].dim.iter().map(|dim| dim.size).collect();
        assert_eq!(sizes, [-1, 28, 28, 1]);
    }

    #[test]
    fn equal_graphs_are_equal_bytes() {
        let turned = Node::new("n", "Op").attr("b", Attr::Int(1)).attr("a", Attr::Int(2));
        let node = Node::new("n", "Op").attr("a", Attr::Int(2)).attr("b", Attr::Int(1));
        assert_eq!(Graph::new(vec![node]).unwrap().encode(), Graph::new(vec![turned]).unwrap().encode());
    }

    #[test]
    fn what_is_no_graph_is_refused() {
        let mut twice = conv();
        twice.push(Node::new("input", "Placeholder"));
        assert_eq!(error(twice), "graph node `input`: got two nodes of this name, want one");
        for input in ["nowhere", "input:1", "input:x", "^nowhere", "n"] {
            let mut nodes = conv();
            nodes.push(Node::new("n", "Relu").input(input));
            assert_eq!(error(nodes), format!("graph node `n`: input `{input}` is not the output of any node"));
        }
        for name in ["", "/a", "a//b", "a/", "a b", "a'b", "-a"] {
            assert!(error(vec![Node::new(name, "Op")]).starts_with(&format!("graph node `{name}`: got a name with ")));
        }
        assert_eq!(
            error(vec![Node::new("n", "Op").attr("k", Attr::Text("a\"b".to_owned()))]),
            "graph node `n`: attribute `k` has a quote or control character, which the browser cannot show"
        );
    }
}
