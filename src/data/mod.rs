//! Bytes to images and labels: where data sets lie, how they are read, checked, fetched and drawn; then to batches.

pub mod batches;
pub mod dataset;
pub mod fetch;
pub mod idx;
pub mod source;
pub mod synthetic;

pub use self::batches::{Batch, images_nchw, order};
pub use self::dataset::{Dataset, DatasetName, LoadError, Split, load};
pub use self::source::DEFAULT_DATA_DIR;
