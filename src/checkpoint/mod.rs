//! Checkpoints: directories of files that are there whole or not at all, and that are checked before they are believed.
//!
//! ```text
//! checkpoints/
//!   ckpt-000000004690/       the state after 4,690 steps
//!     model.safetensors      files of the program, any number
//!     manifest.json          each file's length and BLAKE3, facts, and a BLAKE3 of the manifest itself
//!   ckpt-000000004690.old/   while a checkpoint of the same step is replaced, and then never for long
//!   .tmp-<pid>-<n>/          not yet whole, or no longer; swept when a run starts
//! ```

mod candidate;
mod error;
pub mod manifest;
pub mod store;
pub mod tensors;

pub use candidate::{Checkpoint, is_name, step_of};
pub use error::StoreError;
pub use store::{Best, Draft, Found, Rejected, Retention, Store};
