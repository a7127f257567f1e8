//! Result of an evaluation.

/// Sums over a split, and values in the order of its samples.
#[derive(Default)]
pub(super) struct Evaluated {
    pub loss_sum: f64,
    pub correct: u64,
    /// Samples x classes.
    pub probabilities_nk: Vec<f32>,
    /// Samples x units of the last hidden layer; empty where nobody kept them.
    pub features_nd: Vec<f32>,
}
