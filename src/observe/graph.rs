//! The model as TensorBoard's Graphs tab draws it: the run's operations in scopes, and Keras's view of the layers.

use serde_json::json;

use super::operations::{
    CROSS_ENTROPY, LOSS_GRADIENT, Operation, forward_node, gradient_node, operations, variable_node, weight_shapes,
};
use super::{Record, profile};
use crate::eventlog::graph::{self, GraphError};
use crate::eventlog::{Attr, DType, Graph as RunGraph, Node, Value, What};
use crate::graph::{Activation, Graph, Op, Role, Shape};
use crate::model::Precision;
use crate::optim::{self, Rule};
use crate::train::{LayerTimes, Moment, Observer, OperationTime};
use crate::types::{Run, Step, Tag};

/// The run graph with what its nodes cost, and the conceptual graph, written once.
pub struct Graphs {
    pub rule: Rule,
    /// The device's name as TensorFlow writes it, `/device:CPU:0`.
    pub device: String,
    /// Of a step: what its operations cost depends on them.
    pub batch_size: usize,
    pub precision: Precision,
}

impl Observer<Record> for Graphs {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let (network, split) = (moment.network, &moment.dataset.train);
        let times = LayerTimes::measure(network, moment.parameters, split, self.batch_size, self.precision);
        match run_graph(network, self.rule, moment.learning_rate, &self.device, Some(&times)) {
            Ok(graph) => out.add(Run::Train, Step::ZERO, What::Graph(graph)),
            Err(error) => tracing::warn!(%error, "the graph is left out"),
        }
        let tag = Tag::of("profile/one_batch");
        match profile::profile(network, &times, &self.device) {
            Ok(profile) => out.add(Run::Train, Step::ZERO, What::Profile { tag, profile }),
            Err(error) => tracing::warn!(%error, "the profile of the graph is left out"),
        }
        let keras = keras_json(network).to_string();
        let description = "The layers as Keras shows them. The run's operations are under the tag Default.";
        out.push(Run::Train, Step::ZERO, vec![Value::keras_graph(Tag::of("keras"), keras).described(description)]);
    }
}

/// Operations of one training step: layers, loss, accuracy, gradients and update, each in a scope of its own. One that
/// `times` find within another says so in its attribute `computed_with`.
pub(super) fn run_graph(
    network: &Graph,
    rule: Rule,
    learning_rate: f64,
    device: &str,
    times: Option<&LayerTimes>,
) -> Result<RunGraph, GraphError> {
    let mut builder = Builder { nodes: Vec::new(), device };
    let placeholder = |name: &str, dtype| Node::new(name, "Placeholder").attr("dtype", Attr::Type(dtype));
    let input = Shape::Image(network.input()).dims_nhwc();
    let images = builder.add(placeholder("images", DType::F32), &input);
    let labels = builder.add(placeholder("labels", DType::I64), &[-1]);
    let operations = operations(network);
    let mut outputs = vec![images; operations.len() + 1];
    for (index, operation) in operations.iter().enumerate() {
        outputs[index + 1] = builder.operation(operation, &outputs[operation.reads]);
    }
    let logits = outputs.swap_remove(operations.len());

    let entropy = Node::new(CROSS_ENTROPY, "SparseSoftmaxCrossEntropyWithLogits");
    let entropy = builder.add(entropy.input(&logits).input(&labels), &[-1]);
    let loss = builder.add(Node::new("loss/mean", "Mean").input(entropy), &[]);
    let class = builder.add(Node::new("accuracy/predicted_class", "ArgMax").input(&logits), &[-1]);
    let hit = builder.add(Node::new("accuracy/is_right", "Equal").input(class).input(&labels), &[-1]);
    builder.add(Node::new("accuracy/mean", "Mean").input(hit), &[]);

    let parameters = network.parameter_count() as i64;
    let mut gradient = Node::new("optimizer/gradient", "Concat");
    for part in builder.gradients(&operations, &loss) {
        gradient = gradient.input(part);
    }
    let gradient = builder.add(gradient, &[parameters]);
    let update = match rule {
        Rule::Adam { weight_decay } => adam("Adam", weight_decay),
        Rule::AdamW { weight_decay } => adam("AdamW", weight_decay),
        Rule::Sgd { momentum, weight_decay } => Node::new("optimizer/SGD", "SGD")
            .attr("momentum", Attr::Float(momentum as f32))
            .attr("weight_decay", Attr::Float(weight_decay as f32)),
    };
    builder.add(update.input(gradient).attr("learning_rate", Attr::Float(learning_rate as f32)), &[parameters]);
    builder.mark_sweeps(&operations, times.map_or(&[], |times| &times.operations));
    RunGraph::new(builder.nodes)
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
    /// Says of each operation that is computed within another which one that is.
    fn mark_sweeps(&mut self, operations: &[Operation<'_>], times: &[OperationTime]) {
        for (operation, time) in operations.iter().zip(times) {
            let OperationTime::Within(leader) = time else { continue };
            let Some(leader) = operations.get(*leader) else { continue };
            for (name, with) in [forward_node, gradient_node].map(|node| (node(operation).0, node(leader).0)) {
                for node in self.nodes.iter_mut().filter(|node| node.name() == name) {
                    *node = std::mem::take(node).attr("computed_with", Attr::Text(with.clone()));
                }
            }
        }
    }

    /// The backward pass, in a scope of its own: what the loss says about the output of each operation, from the last one
    /// to the first that has weights. Gives the gradients of the weights back.
    fn gradients(&mut self, operations: &[Operation<'_>], loss: &str) -> Vec<String> {
        let logits = operations.last().map_or_else(Vec::new, |last| last.output.dims_nhwc());
        let mut upstream = self.add(Node::new(LOSS_GRADIENT, "CrossEntropyGrad").input(loss), &logits);
        let mut parts = Vec::new();
        let Some(first) = operations.iter().position(Operation::has_weights) else { return parts };
        for (index, operation) in operations.iter().enumerate().skip(first).rev() {
            let (name, op) = gradient_node(operation);
            let node = Node::new(&name, op).input(upstream).device(self.device);
            let mut outputs = Vec::new();
            if index > first {
                outputs.push(operation.input.dims_nhwc());
            }
            let mut node = node;
            if operation.has_weights() {
                let (kernel, bias) = weight_shapes(operation.layer);
                parts.extend((outputs.len()..).take(2).map(|output| format!("{name}:{output}")));
                outputs.extend([kernel, bias]);
                // As many for the gradient of the kernel as forward, and again for that of the input.
                let macs = operation.layer.macs as i64 * if index > first { 2 } else { 1 };
                node = node.attr("multiply_accumulates", Attr::Int(macs));
            }
            self.nodes.push(node.outputs(outputs.iter().map(|dims| shape(dims))));
            upstream = name;
        }
        parts
    }

    /// Adds a node with one output and gives its name back; -1 is a size that is not known.
    fn add(&mut self, node: Node, output: &[i64]) -> String {
        let name = node.name().to_owned();
        self.nodes.push(node.outputs([shape(output)]).device(self.device));
        name
    }

    /// One operation, in the scope of its layer; gives the name of the node that has its output.
    fn operation(&mut self, operation: &Operation<'_>, input: &str) -> String {
        let layer = operation.layer;
        let output = operation.output.dims_nhwc();
        let (name, op) = forward_node(operation);
        let node = Node::new(name, op).input(input);
        let windowed = |node: Node, size: usize| {
            let size = size as i64;
            node.attr("padding", Attr::Text("VALID".to_owned()))
                .attr("data_format", Attr::Text("NHWC".to_owned()))
                .attr("window", Attr::Ints(vec![size, size]))
        };
        let node = match operation.op {
            Op::MaxPool2d { size } => {
                let stride = size as i64;
                return self.add(windowed(node, size).attr("strides", Attr::Ints(vec![stride, stride])), &output);
            }
            Op::Input | Op::Flatten | Op::Activation(_) => return self.add(node, &output),
            Op::Conv2d { filters, kernel } => {
                let node = windowed(node, kernel).attr("strides", Attr::Ints(vec![1, 1]));
                node.attr("filters", Attr::Int(filters as i64))
            }
            Op::Linear { units } => node.attr("units", Attr::Int(units as i64)),
        };
        let (kernel_shape, bias_shape) = weight_shapes(layer);
        let variable = |role| Node::new(variable_node(layer, role), "Variable").attr("dtype", Attr::Type(DType::F32));
        let kernel = self.add(variable(Role::Kernel), &kernel_shape);
        let bias = self.add(variable(Role::Bias), &bias_shape);
        let node = node
            .input(kernel)
            .attr("parameters", Attr::Int(layer.parameter_count as i64))
            .attr("multiply_accumulates", Attr::Int(layer.macs as i64));
        let product = self.add(node, &output);
        self.add(Node::new(format!("{}/BiasAdd", layer.name), "BiasAdd").input(product).input(bias), &output)
    }
}

/// -1 is a size that is not known.
fn shape(dims: &[i64]) -> graph::Shape {
    dims.iter().map(|&size| u32::try_from(size).ok()).collect()
}

/// The model as Keras 3's `model.to_json()` writes a `Sequential`, as far as TensorBoard reads it.
fn keras_json(network: &Graph) -> serde_json::Value {
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
        let activation = layer.activation.map_or("linear", Activation::name);
        let more = match layer.op {
            Op::Conv2d { filters, kernel } => json!({
                "filters": filters, "kernel_size": [kernel, kernel], "strides": [1, 1], "padding": "valid",
                "data_format": "channels_last", "activation": activation, "use_bias": true,
            }),
            Op::MaxPool2d { size } => json!({
                "pool_size": [size, size], "strides": [size, size], "padding": "valid", "data_format": "channels_last",
            }),
            Op::Flatten => json!({"data_format": "channels_last"}),
            Op::Input | Op::Activation(_) => json!({"activation": activation}),
            Op::Linear { units } => json!({"units": units, "activation": activation, "use_bias": true}),
        };
        if let (Some(config), serde_json::Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
        layers.push(json!({
            "module": "keras.layers",
            "class_name": layer.op.class(),
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
