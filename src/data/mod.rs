//! Bytes to images and labels: where data sets lie, how they are read, checked, fetched and drawn; then to batches.

pub mod batches;
mod bus_error;
pub mod change;
pub mod dataset;
pub mod doubt;
mod drawing;
pub mod fetch;
mod figure;
pub mod idx;
mod ink;
mod lines;
pub mod look;
mod mapping;
pub mod mirrors;
mod part;
mod parts;
pub mod photo;
pub mod pixels;
pub mod places;
pub mod source;
pub mod specimen;
pub mod synthetic;
mod truncated;

pub use self::batches::{Batch, images_nchw, order};
pub use self::change::Change;
pub use self::dataset::{Dataset, DatasetName, LoadError, Split, load};
pub use self::doubt::Doubt;
pub use self::look::Look;
pub use self::mapping::{Changed, Order};
pub use self::photo::{Photo, PhotoError};
pub use self::pixels::Pixels;
pub use self::source::DEFAULT_DATA_DIR;
pub use self::specimen::{Inversion, Specimen, SpecimenError};
