//! A person's picture file, read within bounds: upright, opaque, 8 bits a channel, grey or RGB.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage, Rgba, RgbaImage};

use super::change::Change;
use super::look::Ground;
use crate::exit::{Classify, Exit};

/// Longer files than this are not read.
const MAX_FILE: u64 = 64 << 20;
/// More pixels than this are not decoded: a camera's 64 megapixels just fit.
const MAX_PIXELS: u64 = 1 << 26;
/// What a decoder may allocate, in bytes: that many pixels of the widest kind, 16-bit RGBA.
const MAX_DECODED: u64 = MAX_PIXELS * 8;
/// The formats that are read.
const FORMATS: [ImageFormat; 3] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp];

/// A picture as it was meant to be seen.
#[derive(Clone, Debug)]
pub struct Photo {
    /// `ImageLuma8` or `ImageRgb8`, both sides at least 1.
    image: DynamicImage,
    changes: Vec<Change>,
}

/// A picture that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {fault}")]
pub struct PhotoError {
    /// The path as it was given, or `stdin`.
    pub name: String,
    pub fault: Fault,
}

/// What is wrong with a picture's file.
#[derive(Debug)]
pub enum Fault {
    Read(io::Error),
    Directory,
    Empty,
    TooLong {
        limit: u64,
    },
    /// No picture that is read here; the format that it is, if that is known.
    Format(Option<&'static str>),
    TooLarge {
        width: u32,
        height: u32,
    },
    CutOff,
    Damaged(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Read(source) => write!(f, "cannot read the picture: {source}"),
            Fault::Directory => f.write_str("is a directory, want a picture; name the files in it"),
            Fault::Empty => f.write_str("is empty, want a PNG, JPEG or BMP picture"),
            Fault::TooLong { limit } => {
                write!(f, "is longer than {} MiB, too long for a picture; make it smaller first", limit >> 20)
            }
            Fault::Format(Some(format)) => {
                write!(f, "is a {format} file, want a PNG, JPEG or BMP picture; convert it first")
            }
            Fault::Format(None) => f.write_str("is no PNG, JPEG or BMP picture"),
            Fault::TooLarge { width, height } => write!(
                f,
                "has {width}x{height} pixels, want at most {} million; make it smaller first",
                MAX_PIXELS / 1_000_000
            ),
            Fault::CutOff => f.write_str("is cut off before the end of the picture"),
            Fault::Damaged(reason) => write!(f, "is damaged: {reason}"),
        }
    }
}

impl Classify for PhotoError {
    fn exit(&self) -> Exit {
        match &self.fault {
            Fault::Read(source) => Exit::of_input(source),
            Fault::Directory => Exit::NoInput,
            _ => Exit::Data,
        }
    }
}

impl Photo {
    /// Reads a PNG, JPEG or BMP file, whatever its name ends in.
    pub fn open(path: &Path) -> Result<Photo, PhotoError> {
        let named = |fault| PhotoError { name: path.display().to_string(), fault };
        // Opening a directory works; only reading it fails.
        if path.is_dir() {
            return Err(named(Fault::Directory));
        }
        let file = File::open(path).map_err(|error| named(Fault::Read(error)))?;
        bounded(file, MAX_FILE).and_then(|bytes| decode(&bytes)).map_err(named)
    }

    /// Reads one picture from a stream, to its end.
    pub fn read(name: &str, reader: impl Read) -> Result<Photo, PhotoError> {
        bounded(reader, MAX_FILE)
            .and_then(|bytes| decode(&bytes))
            .map_err(|fault| PhotoError { name: name.to_owned(), fault })
    }

    /// `ImageLuma8` or `ImageRgb8`.
    pub(super) fn into_parts(self) -> (DynamicImage, Vec<Change>) {
        (self.image, self.changes)
    }
}

/// All of a file, which may be a pipe or a device: those have no length to look at first.
fn bounded(reader: impl Read, limit: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(Fault::Read)?;
    match bytes.len() as u64 {
        0 => Err(Fault::Empty),
        len if len > limit => Err(Fault::TooLong { limit }),
        _ => Ok(bytes),
    }
}

fn decode(bytes: &[u8]) -> Result<Photo, Fault> {
    let format = image::guess_format(bytes).ok();
    let Some(format) = format.filter(|format| FORMATS.contains(format)) else {
        return Err(Fault::Format(foreign(bytes, format)));
    };
    // The decoder fills what is missing with grey.
    if format == ImageFormat::Jpeg && !has_end_of_image(bytes) {
        return Err(Fault::CutOff);
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(fault)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Fault::TooLarge { width, height });
    }
    if width == 0 || height == 0 {
        return Err(Fault::Damaged(format!("it has {width}x{height} pixels")));
    }
    // A picture whose EXIF part is damaged is still a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(fault)?;

    let mut changes = Vec::new();
    if orientation != Orientation::NoTransforms {
        image.apply_orientation(orientation);
        changes.push(Change::Turned);
    }
    if image.color().bytes_per_pixel() > image.color().channel_count() {
        changes.push(Change::EightBit);
    }
    if image.color().has_alpha() {
        let (opaque, ground) = flatten(image.into_rgba8());
        image = opaque;
        changes.extend(ground.map(Change::Flattened));
    }
    let image = match image.color().channel_count() {
        1 => DynamicImage::ImageLuma8(image.into_luma8()),
        _ => DynamicImage::ImageRgb8(image.into_rgb8()),
    };
    Ok(Photo { image, changes })
}

/// What the picture shows on a ground that sets it off, if any of it is transparent.
fn flatten(image: RgbaImage) -> (DynamicImage, Option<Ground>) {
    if image.pixels().all(|pixel| pixel.0[3] == 255) {
        return (DynamicImage::ImageRgb8(DynamicImage::ImageRgba8(image).into_rgb8()), None);
    }
    let (mut shade, mut cover) = (0.0, 0.0);
    for Rgba([r, g, b, alpha]) in image.pixels() {
        let alpha = f64::from(*alpha);
        shade += alpha * (0.2126 * f64::from(*r) + 0.7152 * f64::from(*g) + 0.0722 * f64::from(*b));
        cover += alpha;
    }
    // Paper, where nothing is drawn at all.
    let ground = if cover > 0.0 && shade / cover > 127.5 { Ground::Dark } else { Ground::Light };
    let under = if ground == Ground::Light { 255.0 } else { 0.0 };
    let mut opaque = RgbImage::new(image.width(), image.height());
    for (to, Rgba([r, g, b, alpha])) in opaque.pixels_mut().zip(image.pixels()) {
        let cover = f32::from(*alpha) / 255.0;
        to.0 = [*r, *g, *b].map(|value| (f32::from(value) * cover + under * (1.0 - cover)).round() as u8);
    }
    (DynamicImage::ImageRgb8(opaque), Some(ground))
}

fn fault(error: ImageError) -> Fault {
    match error {
        ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => Fault::CutOff,
        error => Fault::Damaged(error.to_string()),
    }
}

/// The name of a format that people have pictures in and that is not read.
fn foreign(bytes: &[u8], guess: Option<ImageFormat>) -> Option<&'static str> {
    match guess {
        Some(ImageFormat::Gif) => Some("GIF"),
        Some(ImageFormat::WebP) => Some("WebP"),
        Some(ImageFormat::Tiff) => Some("TIFF"),
        Some(ImageFormat::Avif) => Some("AVIF"),
        Some(ImageFormat::Pnm) => Some("PNM"),
        _ if bytes.get(4..8) == Some(b"ftyp") => Some("HEIC"),
        _ if bytes.starts_with(b"%PDF") => Some("PDF"),
        _ if bytes.starts_with(b"<svg") || bytes.starts_with(b"<?xml") => Some("SVG or XML"),
        _ => None,
    }
}

/// Whether a JPEG file goes on to its marker EOI (ITU-T T.81, annex B): segments have a length, and within the data of a
/// scan `FF` is followed by `00` or a restart marker.
fn has_end_of_image(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        while bytes.get(at).is_some_and(|byte| *byte != 0xff) {
            at += 1;
        }
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(0xff), Some(0xd9)) => return true,
            // Stuffing, a marker without a segment, or a byte of fill.
            (Some(0xff), Some(0x00 | 0x01 | 0xd0..=0xd8)) => at += 2,
            (Some(0xff), Some(0xff)) => at += 1,
            (Some(0xff), Some(_)) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
            _ => return false,
        }
    }
}
