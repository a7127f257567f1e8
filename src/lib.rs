//! Trains convolutional networks on libtorch and streams what they learn to stock TensorBoard.
//!
//! Modules stand in the order in which data flows: a data set becomes batches, batches become steps of a network's
//! weights, observers look at moments of that, and what they see becomes event files.

pub mod allocator;
pub mod cli;
pub mod config;
pub mod data;
pub mod durable;
pub mod eventlog;
pub mod exit;
pub mod model;
pub mod observe;
pub mod optim;
pub mod picture;
pub mod rng;
pub mod run;
pub mod run_dir;
pub mod telemetry;
pub mod train;
pub mod types;
pub mod weights;
