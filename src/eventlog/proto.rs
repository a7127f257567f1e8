//! TensorBoard's messages, generated from `proto/`.
#![allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/tensorboard.rs"));
