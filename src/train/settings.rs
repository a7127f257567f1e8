//! Inputs and settings of a training loop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tch::Device;

use super::skip::OnNonFinite;
use crate::data::Dataset;
use crate::graph::Graph;
use crate::model::Precision;
use crate::trace::Trace;
use crate::types::Seed;

/// Network, data and settings of [`fit`](super::fit()).
pub struct Fit<'a> {
    pub network: &'a Arc<Graph>,
    pub dataset: &'a Dataset,
    pub device: Device,
    pub epochs: u64,
    pub batch_size: usize,
    pub learning_rate: f64,
    pub seed: Seed,
    pub threads: usize,
    /// Number format of the passes of a step.
    pub precision: Precision,
    pub on_non_finite: OnNonFinite,
    /// Steps, counted from 1, that are left out, as they are known to ruin the weights: each counts as one that was
    /// skipped.
    pub left_out: &'a BTreeSet<u64>,
    /// 0, until a signal of this number asks to stop after the step that is running.
    pub stop: &'a AtomicUsize,
    /// Is told what took how long.
    pub trace: &'a Trace,
}
