//! Costs of a graph's nodes: the times and bytes by which TensorBoard's Graphs tab colours them.

use std::collections::HashSet;

use prost::Message;

use super::graph::{Shape, shape_to_wire};
use super::proto;
use crate::exit::{Classify, Exit};

/// The nodes of one graph as they ran once on one device, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    device: String,
    nodes: Vec<NodeCost>,
}

/// One execution of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeCost {
    /// Of the node in the graph; TensorBoard joins the two by it.
    pub name: String,
    /// Microseconds since some beginning, above 0: TensorBoard takes 0 for no time at all.
    pub start_micros: u64,
    /// Equal to the start for what takes memory and no time, such as a variable.
    pub end_micros: u64,
    pub bytes: u64,
    /// The shape of each output, `f32`.
    pub outputs: Vec<Shape>,
}

/// Fault in the costs of a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("profile: got device `{device}`, want a name that ends like `/device:CPU:0`")]
    Device { device: String },
    #[error("profile of `{name}`: got {start} to {end} us, want a start above 0 and an end not before it")]
    Times { name: String, start: u64, end: u64 },
    #[error("profile of `{name}`: starts at {start} us, before `{earlier}` ends; a group's time would be wrong")]
    Overlap { name: String, start: u64, earlier: String },
    #[error("profile of `{name}`: got two costs of this name, want one")]
    Duplicate { name: String },
}

impl Classify for ProfileError {
    fn exit(&self) -> Exit {
        Exit::Software
    }
}

impl Profile {
    /// Checks that TensorBoard will show the costs as they are meant. `nodes` are in the order in which they ran.
    pub fn new(device: impl Into<String>, nodes: Vec<NodeCost>) -> Result<Profile, ProfileError> {
        let device = device.into();
        if !is_device(&device) {
            return Err(ProfileError::Device { device });
        }
        let mut names = HashSet::with_capacity(nodes.len());
        let mut before: Option<&NodeCost> = None;
        for node in &nodes {
            let NodeCost { name, start_micros: start, end_micros: end, .. } = node;
            if *start == 0 || end < start || i64::try_from(*end).is_err() {
                return Err(ProfileError::Times { name: name.clone(), start: *start, end: *end });
            }
            if let Some(earlier) = before.filter(|earlier| earlier.end_micros > *start) {
                let earlier = earlier.name.clone();
                return Err(ProfileError::Overlap { name: name.clone(), start: *start, earlier });
            }
            if !names.insert(name.as_str()) {
                return Err(ProfileError::Duplicate { name: name.clone() });
            }
            before = Some(node);
        }
        Ok(Profile { device, nodes })
    }

    pub fn device(&self) -> &str {
        &self.device
    }

    pub fn nodes(&self) -> &[NodeCost] {
        &self.nodes
    }

    /// Bytes held, roughly.
    pub fn size(&self) -> usize {
        self.nodes.iter().map(|node| size_of::<NodeCost>() + node.name.len() + 64 * node.outputs.len()).sum()
    }

    /// A serialized `RunMetadata`.
    pub fn encode(&self) -> Vec<u8> {
        let node_stats = self.nodes.iter().map(|node| node.to_wire(&self.device)).collect();
        let device = proto::DeviceStepStats { device: self.device.clone(), node_stats };
        let step_stats = Some(proto::StepStats { dev_stats: vec![device] });
        proto::RunMetadata { step_stats }.encode_to_vec()
    }
}

impl NodeCost {
    fn to_wire(&self, device: &str) -> proto::NodeExecStats {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let micros = signed(self.end_micros - self.start_micros);
        let output = |(slot, shape): (usize, &Shape)| proto::NodeOutput {
            slot: i32::try_from(slot).unwrap_or(i32::MAX),
            tensor_description: Some(proto::TensorDescription {
                dtype: proto::DataType::DtFloat.into(),
                // The browser does not look whether there is one.
                shape: Some(shape_to_wire(shape)),
            }),
        };
        let memory = proto::AllocatorMemoryUsed { allocator_name: device.to_owned(), total_bytes: signed(self.bytes) };
        proto::NodeExecStats {
            node_name: self.name.clone(),
            all_start_micros: signed(self.start_micros),
            op_start_rel_micros: 0,
            op_end_rel_micros: micros,
            all_end_rel_micros: micros,
            memory: if self.bytes > 0 { vec![memory] } else { Vec::new() },
            output: self.outputs.iter().enumerate().map(output).collect(),
        }
    }
}

/// Ends in `device:TYPE:NUMBER`, as the browser wants it.
fn is_device(name: &str) -> bool {
    let mut parts = name.rsplit(':');
    let number = parts.next().is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let kind = parts.next().is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphabetic()));
    number && kind && parts.next().is_some_and(|part| part.ends_with("device"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(name: &str, start_micros: u64, end_micros: u64) -> NodeCost {
        let outputs = vec![vec![Some(64), Some(10)]];
        NodeCost { name: name.to_owned(), start_micros, end_micros, bytes: 2560, outputs }
    }

    #[test]
    fn encodes_times_from_the_start_of_each_node() {
        let profile = Profile::new("/device:CPU:0", vec![cost("a", 5, 12), cost("b/c", 12, 12)]).unwrap();
        let wire = proto::RunMetadata::decode(profile.encode().as_slice()).unwrap();
        let device = &wire.step_stats.unwrap().dev_stats[0];
        assert_eq!(device.device, "/device:CPU:0");
        let node = &device.node_stats[0];
        assert_eq!((node.node_name.as_str(), node.all_start_micros, node.all_end_rel_micros), ("a", 5, 7));
        assert_eq!(node.memory[0].total_bytes, 2560);
        let shape = node.output[0].tensor_description.as_ref().unwrap().shape.as_ref().unwrap();
        assert_eq!(shape.dim.iter().map(|dim| dim.size).collect::<Vec<_>>(), [64, 10]);
        assert_eq!(device.node_stats[1].all_end_rel_micros, 0);
    }

    #[test]
    fn what_tensorboard_would_show_wrongly_is_refused() {
        let error = |device: &str, nodes| Profile::new(device, nodes).unwrap_err().to_string();
        for device in ["", "CPU", "/device:CPU", "/device::0", "/device:CPU:x", "CPU:0"] {
            let want = format!("profile: got device `{device}`, want a name that ends like `/device:CPU:0`");
            assert_eq!(error(device, Vec::new()), want);
        }
        Profile::new("/job:localhost/replica:0/task:0/device:GPU:1", Vec::new()).unwrap();
        let cpu = "/device:CPU:0";
        assert_eq!(
            error(cpu, vec![cost("a", 0, 1)]),
            "profile of `a`: got 0 to 1 us, want a start above 0 and an end not before it"
        );
        assert!(error(cpu, vec![cost("a", 2, 1)]).contains("got 2 to 1 us"));
        assert_eq!(
            error(cpu, vec![cost("a", 1, 3), cost("b", 2, 4)]),
            "profile of `b`: starts at 2 us, before `a` ends; a group's time would be wrong"
        );
        assert_eq!(
            error(cpu, vec![cost("a", 1, 3), cost("a", 3, 4)]),
            "profile of `a`: got two costs of this name, want one"
        );
    }
}
