//! A raster of 8-bit pixels, and its PNG form.
//!
//! Pictures cross from the training thread to the event log as plain pixels; the log's own thread encodes them.

use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};

/// An RGB raster, rows from the top, `width` x `height` pixels, both at least 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<[u8; 3]>,
}

/// Bytes that are no picture.
#[derive(Debug, thiserror::Error)]
#[error("cannot decode a picture: {0}")]
pub struct DecodeError(#[from] image::ImageError);

/// A picture that could not be written as PNG.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a picture of {width} x {height} pixels as PNG: {source}")]
pub struct PngError {
    width: u32,
    height: u32,
    source: image::ImageError,
}

impl Picture {
    /// A picture of one colour; sides of 0 become 1.
    pub fn filled(width: u32, height: u32, colour: [u8; 3]) -> Picture {
        let (width, height) = (width.max(1), height.max(1));
        Picture { width, height, rgb: vec![colour; width as usize * height as usize] }
    }

    pub fn width(&self) -> u32 {
        self.width
    }

    pub fn height(&self) -> u32 {
        self.height
    }

    /// Rows from the top, `width` pixels each.
    pub fn pixels(&self) -> &[[u8; 3]] {
        &self.rgb
    }

    pub fn get(&self, x: u32, y: u32) -> Option<[u8; 3]> {
        self.index(x, y).map(|i| self.rgb[i])
    }

    /// Sets one pixel; outside the picture nothing happens, so drawing clips.
    pub fn set(&mut self, x: u32, y: u32, colour: [u8; 3]) {
        if let Some(i) = self.index(x, y) {
            self.rgb[i] = colour;
        }
    }

    /// The picture as a PNG file, 8 bits a channel; grey pictures are stored as one channel.
    pub fn png(&self) -> Result<Vec<u8>, PngError> {
        let grey = self.rgb.iter().all(|[r, g, b]| r == g && g == b);
        let mut out = Vec::new();
        // A sheet of feature maps of 832 x 416 pixels takes 1.4 ms and 98 kB; the default level takes 44 ms and 68 kB,
        // and the thread that encodes shares its cores with training.
        let encoder = PngEncoder::new_with_quality(&mut out, CompressionType::Fast, FilterType::Paeth);
        let written = if grey {
            let bytes: Vec<u8> = self.rgb.iter().map(|p| p[0]).collect();
            encoder.write_image(&bytes, self.width, self.height, image::ExtendedColorType::L8)
        } else {
            encoder.write_image(self.rgb.as_flattened(), self.width, self.height, image::ExtendedColorType::Rgb8)
        };
        written.map_err(|source| PngError { width: self.width, height: self.height, source })?;
        Ok(out)
    }

    /// The picture in a PNG file, its bytes trusted as far as memory goes: they are our own.
    pub fn from_png(png: &[u8]) -> Result<Picture, DecodeError> {
        let image = image::load_from_memory_with_format(png, image::ImageFormat::Png)?.to_rgb8();
        let (width, height) = image.dimensions();
        let (rgb, _) = image.as_raw().as_chunks::<3>();
        Ok(Picture { width, height, rgb: rgb.to_vec() })
    }

    fn index(&self, x: u32, y: u32) -> Option<usize> {
        (x < self.width && y < self.height).then(|| y as usize * self.width as usize + x as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_gives_the_pixels_back() {
        let mut picture = Picture::filled(3, 2, [0, 0, 0]);
        picture.set(2, 1, [10, 20, 30]);
        picture.set(3, 1, [255, 255, 255]);
        let png = picture.png().unwrap();
        let back = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(back.dimensions(), (3, 2));
        assert_eq!(back.as_raw(), picture.pixels().as_flattened());
        assert_eq!(Picture::from_png(&png).unwrap(), picture);
        assert!(Picture::from_png(&png[..png.len() / 2]).is_err());
    }

    #[test]
    fn a_grey_picture_is_stored_as_one_channel() {
        let png = Picture::filled(4, 4, [7, 7, 7]).png().unwrap();
        assert_eq!(image::load_from_memory(&png).unwrap().color(), image::ColorType::L8);
    }
}
