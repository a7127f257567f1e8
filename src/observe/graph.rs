//! The model as TensorBoard's Graphs tab draws it: the run's operations in scopes, and Keras's view of the layers.

use serde_json::json;

use super::Findings;
use crate::eventlog::graph::GraphError;
use crate::eventlog::{Attr, DType, Graph, Node, Value, What};
use crate::model::{Layer, LayerKind, Network, Shape};
use crate::optim::{self, Rule};
use crate::train::{Moment, Observer};
use crate::types::{Run, Step, Tag};

/// The run graph and the conceptual graph, written once.
pub struct Graphs {
    pub rule: Rule,
    /// The device's name as TensorFlow writes it, `/device:CPU:0`.
    pub device: String,
}

impl Observer<Findings> for Graphs {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Findings) {
        match run_graph(moment.network, self.rule, moment.learning_rate, &self.device) {
            Ok(graph) => out.write(Run::Train, Step::ZERO, What::Graph(graph)),
            Err(error) => tracing::warn!(%error, "the graph is left out"),
        }
        let keras = keras_json(moment.network).to_string();
        let description = "The layers as Keras shows them. The run's operations are under the tag Default.";
        out.push(Run::Train, Step::ZERO, vec![Value::keras_graph(Tag::of("keras"), keras).described(description)]);
    }
}

/// Operations of one training step: layers, loss, accuracy and update, each in a scope of its own.
fn run_graph(network: &Network, rule: Rule, learning_rate: f64, device: &str) -> Result<Graph, GraphError> {
    let mut builder = Builder { nodes: Vec::new(), device };
    let placeholder = |name: &str, dtype| Node::new(name, "Placeholder").attr("dtype", Attr::Type(dtype));
    let input = Shape::Image(network.input()).dims_nhwc();
    let images = builder.add(placeholder("images", DType::F32), &input);
    let labels = builder.add(placeholder("labels", DType::I64), &[-1]);
    let logits = network.layers().iter().fold(images, |input, layer| builder.layer(layer, &input));

    let entropy = Node::new("loss/cross_entropy", "SparseSoftmaxCrossEntropyWithLogits");
    let entropy = builder.add(entropy.input(&logits).input(&labels), &[-1]);
    let loss = builder.add(Node::new("loss/mean", "Mean").input(entropy), &[]);
    let class = builder.add(Node::new("accuracy/predicted_class", "ArgMax").input(&logits), &[-1]);
    let hit = builder.add(Node::new("accuracy/is_right", "Equal").input(class).input(&labels), &[-1]);
    builder.add(Node::new("accuracy/mean", "Mean").input(hit), &[]);

    let parameters = network.parameter_count() as i64;
    let gradient = builder.add(Node::new("optimizer/gradient", "Gradient").input(loss), &[parameters]);
    let update = match rule {
        Rule::Adam { weight_decay } => adam("Adam", weight_decay),
        Rule::AdamW { weight_decay } => adam("AdamW", weight_decay),
        Rule::Sgd { momentum, weight_decay } => Node::new("optimizer/SGD", "SGD")
            .attr("momentum", Attr::Float(momentum as f32))
            .attr("weight_decay", Attr::Float(weight_decay as f32)),
    };
    builder.add(update.input(gradient).attr("learning_rate", Attr::Float(learning_rate as f32)), &[parameters]);
    Graph::new(builder.nodes)
}

fn adam(op: &str, weight_decay: f64) -> Node {
    Node::new(format!("optimizer/{op}"), op)
        .attr("beta_1", Attr::Float(optim::BETA_1 as f32))
        .attr("beta_2", Attr::Float(optim::BETA_2 as f32))
        .attr("epsilon", Attr::Float(optim::EPSILON as f32))
        .attr("weight_decay", Attr::Float(weight_decay as f32))
}

struct Builder<'a> {
    nodes: Vec<Node>,
    device: &'a str,
}

impl Builder<'_> {
    /// Adds a node with one output and gives its name back; -1 is a size that is not known.
    fn add(&mut self, node: Node, output: &[i64]) -> String {
        let name = node.name().to_owned();
        let shape = output.iter().map(|&size| u32::try_from(size).ok()).collect();
        self.nodes.push(node.outputs([shape]).device(self.device));
        name
    }

    /// The operations of one layer, in a scope of its name; gives the name of the last one.
    fn layer(&mut self, layer: &Layer, input: &str) -> String {
        let scope = &layer.name;
        let output = layer.output.dims_nhwc();
        let count = Attr::Int(layer.parameter_count() as i64);
        let macs = Attr::Int(layer.macs() as i64);
        let windowed = |node: Node, size: usize| {
            let size = size as i64;
            node.attr("padding", Attr::Text("VALID".to_owned()))
                .attr("data_format", Attr::Text("NHWC".to_owned()))
                .attr("window", Attr::Ints(vec![size, size]))
        };
        let (op, kernel_shape) = match (layer.kind, layer.input) {
            (LayerKind::MaxPool2d { size }, _) => {
                let node = windowed(Node::new(format!("{scope}/MaxPool"), "MaxPool"), size).input(input);
                let stride = size as i64;
                return self.add(node.attr("strides", Attr::Ints(vec![stride, stride])), &output);
            }
            (LayerKind::Flatten, _) => {
                return self.add(Node::new(format!("{scope}/Reshape"), "Reshape").input(input), &output);
            }
            (LayerKind::Conv2d { filters, kernel }, Shape::Image(image)) => {
                let node = windowed(Node::new(format!("{scope}/Conv2D"), "Conv2D"), kernel);
                let node = node.attr("strides", Attr::Ints(vec![1, 1])).attr("filters", Attr::Int(filters as i64));
                (node, [kernel, kernel, image.channels, filters].map(|d| d as i64).to_vec())
            }
            (LayerKind::Conv2d { filters: units, .. } | LayerKind::Dense { units, .. }, _) => {
                let node = Node::new(format!("{scope}/MatMul"), "MatMul").attr("units", Attr::Int(units as i64));
                (node, vec![layer.input.len() as i64, units as i64])
            }
        };
        let bias_shape = kernel_shape[kernel_shape.len() - 1..].to_vec();
        let variable =
            |role: &str| Node::new(format!("{scope}/{role}"), "Variable").attr("dtype", Attr::Type(DType::F32));
        let kernel = self.add(variable("kernel"), &kernel_shape);
        let bias = self.add(variable("bias"), &bias_shape);
        let node = op.input(input).input(kernel).attr("parameters", count).attr("multiply_accumulates", macs);
        let product = self.add(node, &output);
        let sum = self.add(Node::new(format!("{scope}/BiasAdd"), "BiasAdd").input(product).input(bias), &output);
        if layer.kind.has_relu() {
            self.add(Node::new(format!("{scope}/Relu"), "Relu").input(sum), &output)
        } else {
            sum
        }
    }
}

/// The model as Keras 3's `model.to_json()` writes a `Sequential`, as far as TensorBoard reads it.
fn keras_json(network: &Network) -> serde_json::Value {
    let batch = |shape: Shape| -> Vec<Option<i64>> {
        shape.dims_nhwc().into_iter().map(|size| (size >= 0).then_some(size)).collect()
    };
    let mut layers = vec![json!({
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": batch(Shape::Image(network.input())), "dtype": "float32", "name": "input_layer"},
    })];
    for layer in network.layers() {
        let mut config = json!({"name": layer.name, "trainable": true, "dtype": "float32"});
        let more = match layer.kind {
            LayerKind::Conv2d { filters, kernel } => json!({
                "filters": filters, "kernel_size": [kernel, kernel], "strides": [1, 1], "padding": "valid",
                "data_format": "channels_last", "activation": "relu", "use_bias": true,
            }),
            LayerKind::MaxPool2d { size } => json!({
                "pool_size": [size, size], "strides": [size, size], "padding": "valid", "data_format": "channels_last",
            }),
            LayerKind::Flatten => json!({"data_format": "channels_last"}),
            LayerKind::Dense { units, relu } => {
                json!({"units": units, "activation": if relu { "relu" } else { "linear" }, "use_bias": true})
            }
        };
        if let (Some(config), serde_json::Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
        layers.push(json!({
            "module": "keras.layers",
            "class_name": layer.kind.class(),
            "config": config,
            "build_config": {"input_shape": batch(layer.input)},
        }));
    }
    json!({
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "sequential", "trainable": true, "dtype": "float32", "layers": layers},
        "keras_version": "3.0.0",
        "backend": "torch",
    })
}
