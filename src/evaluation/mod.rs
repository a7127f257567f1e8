//! How good a classifier is, from what it says about labelled samples: plain numbers in, plain numbers out.

mod predictions;

pub use predictions::Predictions;
