//! The networks, and only the networks: layers with names and shapes, parameters in one flat buffer, forward passes.

mod layer;
mod network;
mod parameters;
mod precision;
mod summary;

pub use layer::{Layer, LayerKind, Shape, ShapeError};
pub use network::{Architecture, Network, Operation, Tap};
pub(crate) use parameters::host_values;
pub use parameters::{ParameterSpec, Parameters};
pub use precision::Precision;
pub(crate) use summary::grouped;
pub use summary::summary;
