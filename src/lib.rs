//! Trains convolutional networks on libtorch and streams what they learn to stock TensorBoard.

pub mod data;
pub mod exit;
pub mod picture;
pub mod rng;
pub mod types;
