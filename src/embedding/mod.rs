//! Points of many dimensions on a plane: plain numbers in, plain numbers out, no chance, no threads.

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

/// A place on the plane for each point.
pub type Layout = Vec<[f32; 2]>;
