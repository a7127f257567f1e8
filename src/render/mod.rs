//! Pictures from plain arrays: colour maps, tiles, overlays, text, scales. Independent of tensors.
//!
//! A [`ColourMap`] and a [`Scale`] turn a [`Map`] into a [`Picture`](crate::picture::Picture). Pictures go onto a
//! [`Canvas`], enlarged by a [`Zoom`] and laid out by a [`Grid`]; the canvas also draws [`text`] and the scale.

mod canvas;
mod colour;
mod grid;
mod map;
pub mod scatter;
pub mod text;

pub use canvas::{Canvas, number};
pub use colour::{ColourMap, NON_FINITE, Rgb, Scale, blend, image, is_light, overlay, signed_image};
pub use grid::{Grid, Zoom};
pub use map::{Map, MapError};
