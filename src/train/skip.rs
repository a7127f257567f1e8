//! Steps that change nothing: when, why, and how many of them.

use std::fmt;

/// Steps that may be skipped in a row: weights that give nothing else do not come back.
pub const PATIENCE: u64 = 100;

/// Reaction to a step with a non-finite loss or gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNonFinite {
    /// Training ends: it has diverged.
    Stop,
    /// The step changes nothing, and training goes on with the next batch, up to [`PATIENCE`] times in a row.
    Skip,
}

/// Reason for a skipped step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    NotFinite,
    /// It is one of [`Fit::left_out`](super::Fit::left_out).
    LeftOut,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Skip::NotFinite => "its loss or gradient is not finite",
            Skip::LeftOut => "the run went back, to go on without it",
        })
    }
}
