//! Trains convolutional networks on libtorch and streams what they learn to stock TensorBoard.
//!
//! Modules stand in the order in which data flows: a data set becomes batches, batches become steps of a network's
//! weights, observers look at moments of that, and what they see becomes event files.

// jemalloc takes the place of the C library's `malloc`, for libtorch as well. It keeps freed memory for some ten seconds, so
// that each step finds its pages mapped, and then gives it back. The sanitizer of a fuzz target has an allocator of its own.
#[cfg(not(fuzzing))]
use tikv_jemalloc_sys as _;

pub mod types;
pub mod exit;
pub mod files;
pub mod terminal;
pub mod trace;
mod operators;
pub mod rng;
pub mod trigger;
pub mod durable;
pub mod checkpoint;
pub mod config;
pub mod data;
mod floats;
pub mod graph;
pub mod weights;
pub mod forward;
pub mod model;
pub mod fused;
pub mod engine;
pub mod optim;
pub mod evaluation;
pub mod embedding;
pub mod train;
pub mod picture;
pub mod render;
pub mod explain;
pub mod eventlog;
pub mod observe;
pub mod records;
pub mod run_dir;
pub mod run_name;
pub mod nesting;
pub mod session;
pub mod saved;
pub mod catalogue;
pub mod inquiry;
pub mod run;
pub mod telemetry;
pub mod cli;
