//! Pictures one after the other, as a GIF that plays for ever.

use std::collections::BTreeSet;

use crate::exit::{Classify, Exit};
use crate::picture::Picture;

/// Frames of one animation: TensorBoard keeps all of it in memory, and so does a browser.
pub const MAX_FRAMES: usize = 256;
/// Colours of one animation, by the format.
const COLOURS: usize = 256;
/// Pixels from which they are chosen where there are more.
const SAMPLES: usize = 1 << 14;
/// One of so many of them is learned from: that takes longest of a film, and a run waits for its films.
const SKIPPED: i32 = 4;
/// Bits of each channel by which a pixel then finds its colour; what is below does not show.
const BITS: u32 = 5;

/// Frames of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Animation {
    frames: Vec<Picture>,
    delay_ms: u16,
    rest_ms: u16,
}

/// Fault in the pictures of an animation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnimationError {
    #[error("animation: got {got} frames, want 1 to {MAX_FRAMES}")]
    Frames { got: usize },
    #[error(
        "animation: frame {index} has {width} x {height} pixels, want {want_width} x {want_height} as the first has, at most 65535 each"
    )]
    Size { index: usize, width: u32, height: u32, want_width: u32, want_height: u32 },
}

/// An animation that could not be written as GIF.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode an animation of {frames} frames as GIF: {source}")]
pub struct GifError {
    frames: usize,
    source: gif::EncodingError,
}

impl Classify for AnimationError {
    fn exit(&self) -> Exit {
        Exit::Software
    }
}

impl Animation {
    /// `delay_ms` is the time that a frame stands, in steps of 10 and at least 20: browsers slow down what is faster.
    pub fn new(frames: Vec<Picture>, delay_ms: u16) -> Result<Animation, AnimationError> {
        let (1..=MAX_FRAMES, Some(first)) = (frames.len(), frames.first()) else {
            return Err(AnimationError::Frames { got: frames.len() });
        };
        let (want_width, want_height) = (first.width(), first.height());
        for (index, frame) in frames.iter().enumerate() {
            let (width, height) = (frame.width(), frame.height());
            let fits = u16::try_from(width).is_ok() && u16::try_from(height).is_ok();
            if !fits || (width, height) != (want_width, want_height) {
                return Err(AnimationError::Size { index, width, height, want_width, want_height });
            }
        }
        Ok(Animation { frames, delay_ms, rest_ms: delay_ms })
    }

    /// The same with another time for the last frame.
    #[must_use]
    pub fn resting(self, rest_ms: u16) -> Animation {
        Animation { rest_ms, ..self }
    }

    pub fn frames(&self) -> &[Picture] {
        &self.frames
    }

    pub fn delay_ms(&self) -> u16 {
        self.delay_ms
    }

    /// The time that the last frame stands.
    pub fn rest_ms(&self) -> u16 {
        self.rest_ms
    }

    /// Width and height of every frame.
    pub fn size(&self) -> (u32, u32) {
        self.frames.first().map_or((1, 1), |first| (first.width(), first.height()))
    }

    /// A GIF file. Colours are exact as long as all frames together have at most 256, as drawings and maps mostly do; else
    /// they share the 256 that suit them best, so that nothing flickers. Equal frames give equal bytes.
    pub fn gif(&self) -> Result<Vec<u8>, GifError> {
        self.encode().map_err(|source| GifError { frames: self.frames.len(), source })
    }

    fn encode(&self) -> Result<Vec<u8>, gif::EncodingError> {
        let (width, height) = self.size();
        // `new` has checked that they fit.
        let [width, height] = [width, height].map(|side| u16::try_from(side).unwrap_or(u16::MAX));
        let mut palette = self.exact().unwrap_or_else(|| self.nearest());
        let mut bytes = Vec::new();
        let mut encoder = gif::Encoder::new(&mut bytes, width, height, &palette.rgb)?;
        encoder.set_repeat(gif::Repeat::Infinite)?;
        for (index, picture) in self.frames.iter().enumerate() {
            let is_last = index + 1 == self.frames.len();
            let pixels: Vec<u8> = picture.pixels().iter().map(|&pixel| (palette.index)(pixel)).collect();
            let mut frame = gif::Frame::from_indexed_pixels(width, height, pixels, None);
            frame.delay = (if is_last { self.rest_ms } else { self.delay_ms } / 10).max(2);
            encoder.write_frame(&frame)?;
        }
        drop(encoder);
        Ok(bytes)
    }

    /// All colours in ascending order, unless there are too many.
    fn exact(&self) -> Option<Palette> {
        let mut colours = BTreeSet::new();
        let mut last = None;
        for &pixel in self.frames.iter().flat_map(Picture::pixels) {
            // Most pixels are like their neighbour.
            if last != Some(pixel) && colours.insert(pixel) && colours.len() > COLOURS {
                return None;
            }
            last = Some(pixel);
        }
        let colours: Vec<[u8; 3]> = colours.into_iter().collect();
        let rgb = colours.as_flattened().to_vec();
        let index = move |pixel: [u8; 3]| u8::try_from(colours.binary_search(&pixel).unwrap_or(0)).unwrap_or(0);
        Some(Palette { rgb, index: Box::new(index) })
    }

    /// Colours near those of pixels from everywhere.
    fn nearest(&self) -> Palette {
        let pixels_of_one = self.frames.first().map_or(1, |first| first.pixels().len());
        let total = pixels_of_one * self.frames.len();
        // Odd, so that it does not fall on the same columns of every row.
        let stride = (total / SAMPLES) | 1;
        let sample = |number: usize| {
            let at = number * stride % total;
            let [r, g, b] = self.frames[at / pixels_of_one].pixels()[at % pixels_of_one];
            [r, g, b, 255]
        };
        let samples: Vec<u8> = (0..SAMPLES).flat_map(sample).collect();
        let quantised = color_quant::NeuQuant::new(SKIPPED, COLOURS, &samples);
        let rgb = quantised.color_map_rgb();
        let mut known: Vec<Option<u8>> = vec![None; 1 << (3 * BITS)];
        let index = move |pixel: [u8; 3]| {
            let cell = pixel.iter().fold(0, |cell, &value| cell << BITS | usize::from(value >> (8 - BITS)));
            *known[cell].get_or_insert_with(|| {
                // The middle of the cell, whoever comes first.
                let [r, g, b] = pixel.map(|value| value >> (8 - BITS) << (8 - BITS) | 1 << (7 - BITS));
                u8::try_from(quantised.index_of(&[r, g, b, 255])).unwrap_or(0)
            })
        };
        Palette { rgb, index: Box::new(index) }
    }
}

/// Colours, and which of them a pixel gets.
struct Palette {
    rgb: Vec<u8>,
    index: Box<dyn FnMut([u8; 3]) -> u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bright column that moves, over 251 grey ones; `colours` paints more than a palette holds.
    fn frame(at: u32, colours: bool) -> Picture {
        let mut picture = Picture::filled(251, 7, [0; 3]);
        for y in 0..7 {
            for x in 0..251 {
                let shade = x as u8;
                let other = if colours { (y * 30) as u8 } else { shade };
                picture.set(x, y, if x == at { [255, 0, 0] } else { [shade, shade, other] });
            }
        }
        picture
    }

    /// Frames as RGB, with their delays in hundredths of a second.
    fn decode(bytes: &[u8]) -> Vec<(Vec<[u8; 3]>, u16)> {
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes).unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            let pixels = frame.buffer.chunks_exact(4).map(|rgba| [rgba[0], rgba[1], rgba[2]]).collect();
            frames.push((pixels, frame.delay));
        }
        frames
    }

    #[test]
    fn few_colours_come_back_exactly() {
        let animation = Animation::new(vec![frame(3, false), frame(9, false)], 250).unwrap();
        let bytes = animation.gif().unwrap();
        assert!(bytes.starts_with(b"GIF89a") && bytes.windows(11).any(|window| window == b"NETSCAPE2.0"));
        assert_eq!(bytes, animation.gif().unwrap());
        let want = |delays: [u16; 2]| -> Vec<_> {
            animation.frames().iter().map(|frame| frame.pixels().to_vec()).zip(delays).collect()
        };
        assert_eq!(decode(&bytes), want([25, 25]));
        assert_eq!(decode(&animation.clone().resting(1400).gif().unwrap()), want([25, 140]), "the last one longer");
    }

    #[test]
    fn many_colours_come_back_nearly() {
        let animation = Animation::new(vec![frame(3, true)], 0).unwrap();
        assert!(animation.exact().is_none());
        let bytes = animation.gif().unwrap();
        assert_eq!(bytes, animation.gif().unwrap());
        let (pixels, delay) = &decode(&bytes)[0];
        assert_eq!(*delay, 2);
        let distance = |a: &[u8; 3], b: &[u8; 3]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let sum: u64 = pixels.iter().zip(animation.frames()[0].pixels()).map(|(a, b)| u64::from(distance(a, b))).sum();
        assert!(sum as f64 / (pixels.len() as f64) < 12.0, "{sum} over {} pixels", pixels.len());
    }

    #[test]
    fn what_is_no_animation_is_refused() {
        let error = |frames| Animation::new(frames, 100).unwrap_err().to_string();
        assert_eq!(error(Vec::new()), "animation: got 0 frames, want 1 to 256");
        let dot = || Picture::filled(1, 1, [0; 3]);
        assert_eq!(error(vec![dot(); MAX_FRAMES + 1]), "animation: got 257 frames, want 1 to 256");
        assert_eq!(
            error(vec![dot(), Picture::filled(2, 1, [0; 3])]),
            "animation: frame 1 has 2 x 1 pixels, want 1 x 1 as the first has, at most 65535 each"
        );
        assert!(error(vec![Picture::filled(65_536, 1, [0; 3])]).contains("65536 x 1 pixels"));
    }
}
