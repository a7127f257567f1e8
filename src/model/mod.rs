//! The networks, and only the networks: architectures that build graphs.

mod architecture;
mod precision;

pub use architecture::Architecture;
pub use precision::Precision;

pub use crate::graph::Graph as Network;
pub(crate) use crate::graph::grouped;
pub use crate::graph::{Layer, Op, ParameterSpec, Role, Shape, ShapeError, summary};
pub use crate::weights::Weights as Parameters;
pub(crate) use crate::weights::host_values;
