//! Plain arrays to pictures: colour maps, tiles, overlays, text, scales. Knows no tensor.
//!
//! A [`Map`] becomes a [`Picture`](crate::picture::Picture) through a [`ColourMap`] and a [`Scale`]; pictures are put on a
//! [`Canvas`], enlarged by a [`Zoom`] and laid out by a [`Grid`]; the canvas writes [`text`] and draws the scale.

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
