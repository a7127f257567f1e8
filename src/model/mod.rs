//! The networks, and only the networks: architectures that build graphs.

mod architecture;
mod precision;

pub use architecture::Architecture;
pub use precision::Precision;
