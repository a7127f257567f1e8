//! A raster of 8-bit pixels, and its PNG form.
//!
//! Pictures cross from the training thread to the event log as plain pixels; they are encoded behind its queue.

mod deflate;

use std::ops::Range;

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
#[error("cannot encode a picture of {width} x {height} pixels as PNG: got {bytes} bytes, want at most {MOST_BYTES}")]
pub struct PngError {
    width: u32,
    height: u32,
    bytes: u64,
}

/// A chunk of a PNG file holds less than 2^31 bytes, and noise takes more compressed than it does as it is.
const MOST_BYTES: u64 = 1 << 30;

impl Picture {
    /// A picture of one colour; sides of 0 become 1.
    pub fn filled(width: u32, height: u32, colour: [u8; 3]) -> Picture {
        let (width, height) = (width.max(1), height.max(1));
        Picture { width, height, rgb: vec![colour; width as usize * height as usize] }
    }

    /// A picture of which pixel number `i`, row by row from the top, has a colour of its own; black where a side of 0
    /// became 1.
    pub fn painted(width: u32, height: u32, colour: impl FnMut(usize) -> [u8; 3]) -> Picture {
        if width == 0 || height == 0 {
            return Picture::filled(width, height, [0; 3]);
        }
        Picture { width, height, rgb: (0..width as usize * height as usize).map(colour).collect() }
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

    /// Part of a row, without what lies outside the picture.
    pub fn row_mut(&mut self, y: u32, columns: Range<u32>) -> &mut [[u8; 3]] {
        let len = columns.end.min(self.width).saturating_sub(columns.start) as usize;
        match self.index(columns.start, y) {
            Some(start) => &mut self.rgb[start..start + len],
            None => &mut [],
        }
    }

    /// Copies part of a row to the same place of another, without what lies outside the picture.
    pub fn copy_row(&mut self, from: u32, to: u32, columns: Range<u32>) {
        let len = columns.end.min(self.width).saturating_sub(columns.start) as usize;
        if let (Some(from), Some(to)) = (self.index(columns.start, from), self.index(columns.start, to)) {
            self.rgb.copy_within(from..from + len, to);
        }
    }

    /// The picture as a PNG file, 8 bits a channel; grey pictures are stored as one channel.
    pub fn png(&self) -> Result<Vec<u8>, PngError> {
        let Picture { width, height, rgb } = self;
        let bytes = u64::from(*height) * (u64::from(*width) * 3 + 1);
        if bytes > MOST_BYTES {
            return Err(PngError { width: *width, height: *height, bytes });
        }
        let grey = rgb.iter().all(|[r, g, b]| r == g && g == b);
        let filtered = if grey {
            let pixels: Vec<u8> = rgb.iter().map(|p| p[0]).collect();
            Filter::<1> { pixels: &pixels, width: *width }.apply()
        } else {
            Filter::<3> { pixels: rgb.as_flattened(), width: *width }.apply()
        };
        let mut header = [0; 13];
        header[..4].copy_from_slice(&width.to_be_bytes());
        header[4..8].copy_from_slice(&height.to_be_bytes());
        // 8 bits, a grey or a colour picture, and the only methods that there are.
        (header[8], header[9]) = (8, if grey { 0 } else { 2 });
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        put_chunk(&mut png, *b"IHDR", &header);
        put_chunk(&mut png, *b"IDAT", &deflate::compress(&filtered));
        put_chunk(&mut png, *b"IEND", &[]);
        Ok(png)
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

/// Pixels of `N` bytes, row by row, as PNG's Paeth filter has them: what is left when each byte is foretold by those on
/// its left, above, and above on the left. Other filters are sometimes a little better, and to find out takes longer
/// than to compress.
struct Filter<'a, const N: usize> {
    pixels: &'a [u8],
    width: u32,
}

impl<const N: usize> Filter<'_, N> {
    /// With the vector instructions of this processor: the loop over a row holds nothing that forbids them.
    fn apply(self) -> Vec<u8> {
        pulp::Arch::new().dispatch(self)
    }
}

impl<const N: usize> pulp::NullaryFnOnce for Filter<'_, N> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn call(self) -> Vec<u8> {
        const PAETH: u8 = 4;
        let len = self.width as usize * N;
        let mut filtered = vec![0; self.pixels.len() + self.pixels.len() / len];
        let mut above: &[u8] = &vec![0; len];
        for (out, row) in filtered.chunks_exact_mut(len + 1).zip(self.pixels.chunks_exact(len)) {
            out[0] = PAETH;
            let (first, rest) = out[1..].split_at_mut(N);
            // On the left of the first pixel is nothing.
            for (out, (x, b)) in first.iter_mut().zip(row.iter().zip(above)) {
                *out = x.wrapping_sub(*b);
            }
            let known = row[N..].iter().zip(&above[N..]).zip(row.iter().zip(above));
            for (out, ((x, b), (a, c))) in rest.iter_mut().zip(known) {
                *out = x.wrapping_sub(paeth(*a, *b, *c));
            }
            above = row;
        }
        filtered
    }
}

/// Of the bytes on the left, above, and above on the left the one that is nearest to left + above - above left.
#[inline(always)]
fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let (a, b, c) = (i16::from(left), i16::from(above), i16::from(corner));
    let (from_a, from_b) = (b.wrapping_sub(c), a.wrapping_sub(c));
    let from_c = from_a.wrapping_add(from_b).wrapping_abs();
    let (from_a, from_b) = (from_a.wrapping_abs(), from_b.wrapping_abs());
    let nearest = if from_b <= from_c { b } else { c };
    let nearest = if from_a <= from_b && from_a <= from_c { a } else { nearest };
    nearest as u8
}

fn put_chunk(png: &mut Vec<u8>, name: [u8; 4], content: &[u8]) {
    png.reserve(content.len() + 12);
    png.extend_from_slice(&(content.len() as u32).to_be_bytes());
    let start = png.len();
    png.extend_from_slice(&name);
    png.extend_from_slice(content);
    let crc = crc32fast::hash(&png[start..]);
    png.extend_from_slice(&crc.to_be_bytes());
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
    fn pictures_of_every_shape_come_back() {
        for (width, height) in [(1, 1), (1, 9), (2, 5), (5, 1), (7, 3), (64, 64), (101, 33)] {
            let mut picture = Picture::filled(width, height, [0; 3]);
            for y in 0..height {
                for x in 0..width {
                    let noise = (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761).to_le_bytes();
                    picture.set(x, y, [noise[3], (x * 3) as u8, (y * 5) as u8 ^ (noise[2] & 1)]);
                }
            }
            assert_eq!(Picture::from_png(&picture.png().unwrap()).unwrap(), picture, "{width} x {height}");
        }
    }

    #[test]
    fn the_filter_foretells_as_the_format_says() {
        // 10 + 20 - 12 = 18 is nearest to 20, 10 + 20 - 19 = 11 to 10; of equals left comes first, then above.
        for (left, above, corner, want) in
            [(10, 20, 12, 20), (10, 20, 19, 10), (5, 5, 9, 5), (1, 3, 2, 2), (3, 1, 1, 3), (255, 0, 255, 0)]
        {
            assert_eq!(paeth(left, above, corner), want, "{left} {above} {corner}");
        }
    }

    #[test]
    fn a_grey_picture_is_stored_as_one_channel() {
        let png = Picture::filled(4, 4, [7, 7, 7]).png().unwrap();
        assert_eq!(image::load_from_memory(&png).unwrap().color(), image::ColorType::L8);
    }
}
