//! Layouts of high-dimensional points on a plane: plain numbers in, plain numbers out. Deterministic, no
//! threads.

mod affinities;
mod pca;
mod points;
mod silhouette;
mod sums;
mod tsne;

pub use pca::{Pca, pca};
pub use points::Points;
pub use silhouette::silhouette;
pub use tsne::{Start, tsne};

/// Coordinates on the plane, for each point.
pub type Layout = Vec<[f32; 2]>;
