//! Trains convolutional networks on libtorch and streams what they learn to stock TensorBoard.

pub mod eventlog;
pub mod exit;
pub mod picture;
pub mod types;
