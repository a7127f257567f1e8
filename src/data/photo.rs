//! A person's picture file, read within bounds: upright, opaque, 8 bits a channel, grey or RGB.

use std::fmt;
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage, Rgba, RgbaImage};

use super::change::Change;
use super::doubt::Doubt;
use super::look::Ground;
use super::truncated::{self, JpegEnd, MAX_PIXELS, Missing};
use crate::exit::{Classify, Exit};
use crate::files;

/// Longer files than this are not read.
const MAX_FILE: u64 = 64 << 20;
/// Maximum allocation of a decoder in bytes: the maximum number of pixels in the widest kind, 16-bit RGBA.
const MAX_DECODED: u64 = MAX_PIXELS * 8;
/// A picture of which more than this share of the rows is missing is refused.
const MISSING: u32 = 8;
/// The formats that are read.
const FORMATS: [ImageFormat; 3] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp];

/// A picture as it was meant to be seen.
#[derive(Clone, Debug)]
pub struct Photo {
    /// `ImageLuma8` or `ImageRgb8`, both sides at least 1.
    image: DynamicImage,
    changes: Vec<Change>,
    doubts: Vec<Doubt>,
}

/// A picture that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {fault}")]
pub struct PhotoError {
    /// The path as it was given, or `stdin`.
    pub name: String,
    pub fault: Fault,
}

/// Fault in a picture's file.
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
    pub(super) fn into_parts(self) -> (DynamicImage, Vec<Change>, Vec<Doubt>) {
        (self.image, self.changes, self.doubts)
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
    let (mut image, orientation, missing) = read(bytes, format)?;
    let (mut changes, mut doubts) = (Vec::new(), Vec::new());
    if missing > 0 {
        let of = image.height();
        if missing > of / MISSING {
            return Err(Fault::CutOff);
        }
        image = image.crop_imm(0, 0, image.width(), of - missing);
        doubts.push(Doubt::Truncated { rows: missing, of });
    }
    if orientation != Orientation::NoTransforms {
        image.apply_orientation(orientation);
        changes.push(Change::Turned);
    }
    if image.color().bytes_per_pixel() > image.color().channel_count() {
        changes.extend(stretch(&mut image).map(|bits| Change::Stretched { bits }));
        changes.push(Change::EightBit);
    }
    if image.color().has_alpha() {
        let (opaque, change) = flatten(image.into_rgba8());
        image = opaque;
        changes.extend(change);
    }
    let image = match image.color().channel_count() {
        1 => DynamicImage::ImageLuma8(image.into_luma8()),
        _ => DynamicImage::ImageRgb8(image.into_rgb8()),
    };
    Ok(Photo { image, changes, doubts })
}

/// A picture as its file has it, with the rows that are missing at its lower edge.
fn read(bytes: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation, u32), Fault> {
    let ended = match format {
        // The decoder fills what is missing with grey.
        ImageFormat::Jpeg if truncated::jpeg_end(bytes) != JpegEnd::Marker => {
            Some(truncated::jpeg(bytes).ok_or(Fault::CutOff)?)
        }
        ImageFormat::Png => truncated::png(bytes),
        _ => None,
    };
    let Some(ended) = ended else {
        let (image, orientation) = read_whole(bytes, format)?;
        return Ok((image, orientation, 0));
    };
    let (image, orientation) = read_whole(&ended.bytes, format)?;
    let missing = match ended.missing {
        Missing::Rows(rows) => rows,
        Missing::Differs(other) => {
            let (other, _) = read_whole(&other, format).map_err(|_| Fault::CutOff)?;
            let row = image.as_bytes().len() / image.height() as usize;
            let rows = image.as_bytes().chunks_exact(row).zip(other.as_bytes().chunks_exact(row));
            image.height() - rows.take_while(|(row, other)| row == other).count() as u32
        }
    };
    Ok((image, orientation, missing))
}

fn read_whole(bytes: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), Fault> {
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
    Ok((DynamicImage::from_decoder(decoder).map_err(fault)?, orientation))
}

/// Makes full use of 16 bits where a camera or a scanner left the highest ones empty; the bits that it used.
fn stretch(image: &mut DynamicImage) -> Option<u32> {
    let colours = usize::from(image.color().channel_count()) - usize::from(image.color().has_alpha());
    let channels = usize::from(image.color().channel_count());
    let values: &mut [u16] = match image {
        DynamicImage::ImageLuma16(image) => image,
        DynamicImage::ImageLumaA16(image) => image,
        DynamicImage::ImageRgb16(image) => image,
        DynamicImage::ImageRgba16(image) => image,
        _ => return None,
    };
    let most =
        values.chunks_exact(channels).flat_map(|pixel| &pixel[..colours]).copied().max().filter(|most| *most > 0)?;
    let bits = [8, 10, 12, 14].into_iter().find(|bits| u32::from(most) < 1 << bits)?;
    let full = (1_u32 << bits) - 1;
    for value in values.chunks_exact_mut(channels).flat_map(|pixel| &mut pixel[..colours]) {
        *value = ((u32::from(*value) * 65_535 + full / 2) / full) as u16;
    }
    Some(bits)
}

/// The picture on a ground of contrast, if any of it is transparent.
fn flatten(image: RgbaImage) -> (DynamicImage, Option<Change>) {
    let opaque = |image| DynamicImage::ImageRgb8(DynamicImage::ImageRgba8(image).into_rgb8());
    if image.pixels().all(|pixel| pixel.0[3] == 255) {
        return (opaque(image), None);
    }
    // Writers of BMP files leave the channel empty that readers may take for alpha.
    let first = image.get_pixel(0, 0).0;
    if image.pixels().all(|pixel| pixel.0[3] == 0) && image.pixels().any(|pixel| pixel.0 != first) {
        return (opaque(image), Some(Change::Opaque));
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
    (DynamicImage::ImageRgb8(opaque), Some(Change::Flattened(ground)))
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
            let (image, changes, _) = Photo::read("x", &encoded(&colours(4, 3), format)[..]).unwrap().into_parts();
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
        let (image, changes, _) = Photo::read("x", &bytes[..]).unwrap().into_parts();
        assert_eq!(image.as_luma8().unwrap().as_raw(), &[0, 128, 255, 0x12]);
        assert_eq!(changes, [Change::EightBit]);
    }

    #[test]
    fn what_is_transparent_shows_a_ground_that_sets_off_the_rest() {
        let with = |ink: u8| {
            let image = RgbaImage::from_fn(3, 1, |x, _| Rgba([ink, ink, ink, [0, 128, 255][x as usize]]));
            let (image, changes, _) =
                Photo::read("x", &encoded(&DynamicImage::ImageRgba8(image), ImageFormat::Png)[..])
                    .unwrap()
                    .into_parts();
            (image.into_luma8().into_raw(), changes)
        };
        assert_eq!(with(10), (vec![255, 132, 10], vec![Change::Flattened(Ground::Light)]));
        assert_eq!(with(240), (vec![0, 120, 240], vec![Change::Flattened(Ground::Dark)]));
        let opaque = encoded(&DynamicImage::ImageRgba8(colours(2, 2).into_rgba8()), ImageFormat::Png);
        let (image, changes, _) = Photo::read("x", &opaque[..]).unwrap().into_parts();
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
        let (image, changes, _) = Photo::read("x", &turned[..]).unwrap().into_parts();
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

    fn doubts_of(bytes: &[u8]) -> Result<Vec<Doubt>, PhotoError> {
        Photo::read("x", bytes).map(|photo| photo.doubts)
    }

    #[test]
    fn a_picture_that_is_cut_off_is_refused_unless_little_of_it_is_missing() {
        for format in FORMATS {
            let whole = encoded(&colours(40, 64), format);
            let mut read = 0;
            for len in (1..whole.len()).step_by(7).chain([whole.len() - 1]) {
                match doubts_of(&whole[..len]).as_deref() {
                    Err(_) | Ok([]) => {}
                    Ok([Doubt::Truncated { rows: 1..=8, of: 64 }]) => read += 1,
                    Ok(other) => panic!("{format:?}, {len} of {}: {other:?}", whole.len()),
                }
            }
            assert_eq!(read > 0, format != ImageFormat::Bmp, "{format:?}: {read}");
        }
    }

    #[test]
    fn a_picture_without_the_end_of_its_file_is_whole() {
        let jpeg = encoded(&colours(40, 30), ImageFormat::Jpeg);
        let without = Photo::read("x", &jpeg[..jpeg.len() - 2]).unwrap();
        assert_eq!((&without.image, without.doubts.len()), (&decode(&jpeg).unwrap().image, 0));
        for image in [colours(40, 30), DynamicImage::ImageLumaA8(colours(3, 200).into_luma_alpha8())] {
            let png = encoded(&image, ImageFormat::Png);
            // IEND, and with it the checksum of the pixels' chunk, and of the pixels.
            for cut in [1, 12, 14, 16, 18, 20] {
                let without = Photo::read("x", &png[..png.len() - cut]).unwrap();
                assert_eq!((&without.image, without.doubts.len()), (&decode(&png).unwrap().image, 0), "{cut}");
            }
        }
    }

    #[test]
    fn rows_that_are_there_are_the_right_ones() {
        let value = |n: u32| n.wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b).rotate_left(7) as u8;
        let noise = |x: u32, y: u32| image::Rgb([0, 1, 2].map(|channel| value(x + 64 * y + 10_240 * channel)));
        let image = DynamicImage::ImageRgb8(RgbImage::from_fn(64, 160, noise));
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let whole = encoded(&image, format);
            let cut = Photo::read("x", &whole[..whole.len() * 19 / 20]).unwrap();
            let [Doubt::Truncated { rows, of: 160 }] = cut.doubts[..] else { panic!("{format:?}: {:?}", cut.doubts) };
            assert!((1..=20).contains(&rows), "{format:?}: {rows}");
            let want = decode(&whole).unwrap().image.crop_imm(0, 0, 64, 160 - rows);
            assert_eq!(cut.image, want, "{format:?}");
        }
    }

    #[test]
    fn bits_that_are_not_used_are_no_darkness() {
        for bits in [8, 10, 12, 14_u32] {
            let full = (1_u16 << bits) - 1;
            let image = image::ImageBuffer::from_raw(3, 1, vec![0_u16, full / 2, full]).unwrap();
            let png = encoded(&DynamicImage::ImageLuma16(image), ImageFormat::Png);
            let (image, changes, _) = Photo::read("x", &png[..]).unwrap().into_parts();
            assert_eq!(changes, [Change::Stretched { bits }, Change::EightBit]);
            assert_eq!(image.as_luma8().unwrap().as_raw(), &[0, 127, 255], "{bits}");
        }
        // Alpha has a range of its own.
        let image = image::ImageBuffer::from_raw(2, 1, vec![4095_u16, 65_535, 0, 65_535]).unwrap();
        let png = encoded(&DynamicImage::ImageLumaA16(image), ImageFormat::Png);
        let (image, changes, _) = Photo::read("x", &png[..]).unwrap().into_parts();
        assert_eq!((image.into_luma8().into_raw(), changes.len()), (vec![255, 0], 2));
    }

    #[test]
    fn what_is_transparent_everywhere_is_opaque() {
        let image = RgbaImage::from_fn(3, 1, |x, _| Rgba([[10, 200, 90][x as usize], 0, 0, 0]));
        for format in [ImageFormat::Png, ImageFormat::Bmp] {
            let bytes = encoded(&DynamicImage::ImageRgba8(image.clone()), format);
            let (image, changes, _) = Photo::read("x", &bytes[..]).unwrap().into_parts();
            assert_eq!(changes, [Change::Opaque], "{format:?}");
            assert_eq!(image.into_rgb8().into_raw(), [10, 0, 0, 200, 0, 0, 90, 0, 0], "{format:?}");
        }
        // Unless nothing is drawn there either.
        let empty = encoded(&DynamicImage::ImageRgba8(RgbaImage::new(3, 1)), ImageFormat::Png);
        assert_eq!(Photo::read("x", &empty[..]).unwrap().into_parts().1, [Change::Flattened(Ground::Light)]);
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
