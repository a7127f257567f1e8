//! A person's picture file, read within bounds: upright, opaque, 8 bits a channel, grey or RGB.

use std::fmt;
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage, Rgba, RgbaImage};

use super::change::Change;
use super::look::Ground;
use crate::exit::{Classify, Exit};
use crate::files;

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
        let file = files::open_input(path).map_err(|error| match error.kind() {
            io::ErrorKind::IsADirectory => named(Fault::Directory),
            _ => named(Fault::Read(error)),
        })?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageEncoder};
    use proptest::prelude::*;

    /// Wide and high, each pixel of another colour.
    fn colours(width: u32, height: u32) -> DynamicImage {
        let pixel = |x: u32, y: u32| image::Rgb([(x * 60) as u8, (y * 60) as u8, 90]);
        DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, pixel))
    }

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn fault_of(bytes: &[u8]) -> String {
        let error = Photo::read("x", bytes).unwrap_err();
        assert_eq!(error.exit(), Exit::Data);
        error.to_string()
    }

    #[test]
    fn three_formats_are_read_whatever_they_are_called() {
        for format in FORMATS {
            let (image, changes) = Photo::read("x", &encoded(&colours(4, 3), format)[..]).unwrap().into_parts();
            assert_eq!((image.width(), image.height(), image.color()), (4, 3, image::ColorType::Rgb8));
            assert!(changes.is_empty());
            if format != ImageFormat::Jpeg {
                assert_eq!(image, colours(4, 3));
            }
        }
    }

    #[test]
    fn sixteen_bits_become_eight() {
        let mut bytes = Vec::new();
        let values: Vec<u8> = [0_u16, 0x8000, 0xffff, 0x1234].iter().flat_map(|value| value.to_ne_bytes()).collect();
        let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        encoder.write_image(&values, 2, 2, ExtendedColorType::L16).unwrap();
        let (image, changes) = Photo::read("x", &bytes[..]).unwrap().into_parts();
        assert_eq!(image.as_luma8().unwrap().as_raw(), &[0, 128, 255, 0x12]);
        assert_eq!(changes, [Change::EightBit]);
    }

    #[test]
    fn what_is_transparent_shows_a_ground_that_sets_off_the_rest() {
        let with = |ink: u8| {
            let image = RgbaImage::from_fn(3, 1, |x, _| Rgba([ink, ink, ink, [0, 128, 255][x as usize]]));
            let (image, changes) = Photo::read("x", &encoded(&DynamicImage::ImageRgba8(image), ImageFormat::Png)[..])
                .unwrap()
                .into_parts();
            (image.into_luma8().into_raw(), changes)
        };
        assert_eq!(with(10), (vec![255, 132, 10], vec![Change::Flattened(Ground::Light)]));
        assert_eq!(with(240), (vec![0, 120, 240], vec![Change::Flattened(Ground::Dark)]));
        let opaque = encoded(&DynamicImage::ImageRgba8(colours(2, 2).into_rgba8()), ImageFormat::Png);
        let (image, changes) = Photo::read("x", &opaque[..]).unwrap().into_parts();
        assert_eq!((image, changes), (colours(2, 2), vec![]));
    }

    #[test]
    fn a_picture_stands_as_the_camera_was_held() {
        let jpeg = encoded(&colours(4, 3), ImageFormat::Jpeg);
        // EXIF with one entry: orientation (0x0112), a short, 6: turn it by 90 degrees to the right.
        let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut turned = jpeg[..2].to_vec();
        turned.extend([0xff, 0xe1]);
        turned.extend((exif.len() as u16 + 2).to_be_bytes());
        turned.extend_from_slice(exif);
        turned.extend_from_slice(&jpeg[2..]);
        let (image, changes) = Photo::read("x", &turned[..]).unwrap().into_parts();
        assert_eq!((image.width(), image.height()), (3, 4));
        assert_eq!(changes, [Change::Turned]);
        assert_eq!(image, decode(&jpeg).unwrap().into_parts().0.rotate90());
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        assert_eq!(fault_of(b""), "x: is empty, want a PNG, JPEG or BMP picture");
        assert_eq!(fault_of(b"hello"), "x: is no PNG, JPEG or BMP picture");
        let foreign = [
            (&b"GIF89a"[..], "GIF"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
            (b"%PDF-1.7", "PDF"),
        ];
        for (bytes, name) in foreign {
            let want = format!("x: is a {name} file, want a PNG, JPEG or BMP picture; convert it first");
            assert_eq!(fault_of(bytes), want);
        }
        let error = Photo::open(Path::new("/no/such.png")).unwrap_err();
        assert_eq!(error.to_string(), "/no/such.png: cannot read the picture: No such file or directory (os error 2)");
        assert_eq!(error.exit(), Exit::NoInput);
        let error = Photo::open(Path::new("/")).unwrap_err();
        assert_eq!(error.to_string(), "/: is a directory, want a picture; name the files in it");
        assert_eq!(error.exit(), Exit::NoInput);
        assert!(matches!(bounded(io::repeat(7), 1000), Err(Fault::TooLong { limit: 1000 })));
    }

    #[test]
    fn a_picture_that_is_cut_off_anywhere_is_refused() {
        for format in FORMATS {
            let whole = encoded(&colours(40, 30), format);
            for len in (1..whole.len()).step_by(7).chain([whole.len() - 1]) {
                // The last twelve bytes of a PNG file hold no pixels, and some decoders do not ask for them.
                let spared = format == ImageFormat::Png && len + 16 > whole.len();
                assert!(spared || Photo::read("x", &whole[..len]).is_err(), "{format:?}: {len} of {}", whole.len());
            }
        }
    }

    #[test]
    fn a_small_file_does_not_become_a_large_picture() {
        // The size stands in bytes 16 to 23 of a PNG file, with its checksum behind the chunk.
        let mut bytes = encoded(&colours(4, 3), ImageFormat::Png);
        for side in [60_000_u32, 0x7fff_ffff] {
            bytes[16..20].copy_from_slice(&side.to_be_bytes());
            bytes[20..24].copy_from_slice(&side.to_be_bytes());
            let sum = crc32fast::hash(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&sum.to_be_bytes());
            let said = fault_of(&bytes);
            assert!(said.contains("make it smaller first") || said.contains("limit"), "{said}");
        }
        let mut bytes = encoded(&colours(4, 3), ImageFormat::Bmp);
        bytes[18..26].copy_from_slice(&[0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0]);
        assert_eq!(fault_of(&bytes), "x: has 65535x65535 pixels, want at most 67 million; make it smaller first");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), start in 0..4_usize) {
            let start: &[u8] = [&b""[..], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff", b"BM"][start];
            bytes.splice(0..0, start.iter().copied());
            let _ = Photo::read("x", &bytes[..]);
        }

        #[test]
        fn damaged_pictures_do_not_panic(format in 0..3_usize, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = encoded(&colours(17, 9), FORMATS[format]);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = Photo::read("x", &bytes[..]);
        }
    }
}
