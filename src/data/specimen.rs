//! One image that somebody asks about: pixels as the network wants them, its name, its class where that is known.

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma};

use super::change::Change;
use super::dataset::Split;
use super::figure::Shades;
use super::look::{Framing, Ground, Look};
use super::photo::Photo;
use crate::exit::{Classify, Exit};

/// The longer side, in pixels, of what a figure is looked for in.
const LOOKED_AT: u32 = 1024;

/// Strokes are about equally dark; what is fainter than this share of them is a shadow.
const FAINTEST_STROKE: f32 = 1.0 / 3.0;
/// An article has light and dark parts.
const FAINTEST_SHADE: f32 = 0.1;

/// An image with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Specimen {
    /// A path as it was given, or `validation 7`.
    pub name: String,
    /// `H x W x C`.
    pub pixels: Vec<u8>,
    /// The true class, where it is known.
    pub label: Option<usize>,
    /// What was done to make it what the network wants, in that order.
    pub changes: Vec<Change>,
}

/// Whether light and dark are exchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inversion {
    /// Where the picture's ground is not the data set's.
    #[default]
    Auto,
    Always,
    Never,
}

/// Why there is no specimen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecimenError {
    #[error("the network looks at images of {channels} channels, and pictures have 1 or 3")]
    Channels { channels: usize },
    #[error("validation image {index} is not there: there are {len}, 0 to {}", len.saturating_sub(1))]
    Index { index: usize, len: usize },
}

impl Classify for SpecimenError {
    fn exit(&self) -> Exit {
        match self {
            SpecimenError::Channels { .. } => Exit::Data,
            SpecimenError::Index { .. } => Exit::Usage,
        }
    }
}

impl Specimen {
    /// An image of a validation split, as it is.
    pub fn of_split(split: &Split, index: usize) -> Result<Specimen, SpecimenError> {
        if index >= split.len() {
            return Err(SpecimenError::Index { index, len: split.len() });
        }
        Ok(Specimen {
            name: format!("validation {index}"),
            pixels: split.image(index).to_vec(),
            label: Some(usize::from(split.label(index))),
            changes: Vec::new(),
        })
    }

    /// A person's picture, made to look like the images that the network has learned from.
    ///
    /// A picture of the right size is taken as it is but for its colours and its ground. The ground is what lies along
    /// the edge; a picture is inverted when more of it is darker than its ground than is lighter, and the data set is
    /// light on dark, or the other way round.
    pub fn of_photo(name: &str, photo: Photo, look: &Look, inversion: Inversion) -> Result<Specimen, SpecimenError> {
        let (image, mut changes) = photo.into_parts();
        let pixels = match look.shape.channels {
            1 => {
                let grey = grey(image, &mut changes);
                let ground = ground(&grey, look.ground, inversion);
                drawn(grey, ground, look, &mut changes)
            }
            3 => {
                let rgb = image.into_rgb8();
                let shades = reduced(&DynamicImage::ImageRgb8(rgb.clone()).into_luma8());
                let from = ground(&shades, look.ground, inversion);
                let mut image = DynamicImage::ImageRgb8(rgb);
                if invert(from, look.ground, &mut changes) {
                    image.invert();
                }
                whole(&image, look, &mut changes).into_rgb8().into_raw()
            }
            channels => return Err(SpecimenError::Channels { channels }),
        };
        Ok(Specimen { name: name.to_owned(), pixels, label: None, changes })
    }
}

/// Brightness alone; that colours are lost is said where there are any.
fn grey(image: DynamicImage, changes: &mut Vec<Change>) -> GrayImage {
    if let DynamicImage::ImageRgb8(rgb) = &image
        && rgb.pixels().any(|pixel| pixel.0[0] != pixel.0[1] || pixel.0[1] != pixel.0[2])
    {
        changes.push(Change::Grey);
    }
    image.into_luma8()
}

/// The ground of a picture, or the one that somebody says it has.
fn ground(grey: &GrayImage, wanted: Ground, inversion: Inversion) -> Ground {
    let other = match wanted {
        Ground::Dark => Ground::Light,
        Ground::Light => Ground::Dark,
    };
    match inversion {
        Inversion::Auto => shades(&reduced(grey)).ground().unwrap_or(wanted),
        Inversion::Always => other,
        Inversion::Never => wanted,
    }
}

fn invert(from: Ground, to: Ground, changes: &mut Vec<Change>) -> bool {
    if from != to {
        changes.push(Change::Inverted { from, to });
    }
    from != to
}

/// A grey picture in the data set's form.
fn drawn(mut grey: GrayImage, from: Ground, look: &Look, changes: &mut Vec<Change>) -> Vec<u8> {
    let size = (look.shape.width as u32, look.shape.height as u32);
    let cut = match look.framing {
        _ if grey.dimensions() == size => None,
        Framing::Whole => None,
        Framing::Balanced { side } => Some((side, FAINTEST_STROKE)),
        Framing::Fitted { side } => Some((side, FAINTEST_SHADE)),
    };
    let inverted = invert(from, look.ground, changes);
    if let Some((side, faintest)) = cut {
        let small = reduced(&grey);
        if let Some(figure) = shades(&small).figure(from, faintest) {
            let (x, y, width, height) = figure.frame;
            let relief = relief(small.dimensions(), &figure.relief);
            let cut = imageops::crop_imm(&relief, x as u32, y as u32, width as u32, height as u32).to_image();
            // In pixels of the picture, not of its reduction.
            let scale = f64::from(grey.width()) / f64::from(small.width());
            let [x, y, width, height] = [x, y, width, height].map(|length| (length as f64 * scale).round() as u32);
            changes.push(Change::Cut { x, y, width, height });
            return placed(&cut, (width, height), side as u32, look, changes);
        }
        changes.push(Change::Blank);
    }
    if inverted {
        grey.iter_mut().for_each(|value| *value = 255 - *value);
    }
    whole(&DynamicImage::ImageLuma8(grey), look, changes).into_luma8().into_raw()
}

type Relief = ImageBuffer<Luma<f32>, Vec<f32>>;

/// What was cut out, its longer side `side` pixels, on the data set's ground.
fn placed(cut: &Relief, from: (u32, u32), side: u32, look: &Look, changes: &mut Vec<Change>) -> Vec<u8> {
    let (width, height) = (look.shape.width as u32, look.shape.height as u32);
    let (w, h) = within(cut.dimensions(), (side.min(width), side.min(height)));
    let mut small = imageops::resize(cut, w, h, FilterType::Triangle);
    changes.push(Change::Resized { from, to: (w, h) });
    let (x, y) = if let Framing::Balanced { .. } = look.framing {
        let peak = small.iter().copied().fold(0.0, f32::max);
        if peak > 0.0 && peak < 1.0 {
            small.iter_mut().for_each(|value| *value /= peak);
            changes.push(Change::Brightened);
        }
        changes.push(Change::Balanced { to: (width, height) });
        let (mass_x, mass_y) = centre_of_mass(&small);
        let corner = |len: u32, part: u32, mass: f64| {
            (f64::from(len) / 2.0 - mass).round().clamp(0.0, f64::from(len - part)) as u32
        };
        (corner(width, w, mass_x), corner(height, h, mass_y))
    } else {
        if (w, h) != (width, height) {
            changes.push(Change::Padded { to: (width, height) });
        }
        ((width - w) / 2, (height - h) / 2)
    };
    let mut field: Relief = ImageBuffer::new(width, height);
    imageops::replace(&mut field, &small, i64::from(x), i64::from(y));
    let byte = |value: &f32| {
        let byte = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        if look.ground == Ground::Dark { byte } else { 255 - byte }
    };
    field.iter().map(byte).collect()
}

/// In pixels from the upper left corner; the middle where there is no mass.
fn centre_of_mass(image: &Relief) -> (f64, f64) {
    let (mut mass, mut x, mut y) = (0.0, 0.0, 0.0);
    for (column, row, pixel) in image.enumerate_pixels() {
        let value = f64::from(pixel.0[0]);
        mass += value;
        x += value * (f64::from(column) + 0.5);
        y += value * (f64::from(row) + 0.5);
    }
    if mass > 0.0 { (x / mass, y / mass) } else { (f64::from(image.width()) / 2.0, f64::from(image.height()) / 2.0) }
}

/// All of a picture, its sides in proportion, with the brightness of its edge where it does not reach.
fn whole(image: &DynamicImage, look: &Look, changes: &mut Vec<Change>) -> DynamicImage {
    let size = (look.shape.width as u32, look.shape.height as u32);
    let from = (image.width(), image.height());
    if from == size {
        return image.clone();
    }
    let (w, h) = within(from, size);
    let small = image.resize_exact(w, h, FilterType::Triangle);
    changes.push(Change::Resized { from, to: (w, h) });
    if (w, h) == size {
        return small;
    }
    changes.push(Change::Padded { to: size });
    let edge = (shades(&small.to_luma8()).edge() * 255.0).round() as u8;
    let (x, y) = (i64::from(size.0 - w) / 2, i64::from(size.1 - h) / 2);
    match small {
        DynamicImage::ImageLuma8(small) => {
            let mut field = GrayImage::from_pixel(size.0, size.1, Luma([edge]));
            imageops::replace(&mut field, &small, x, y);
            DynamicImage::ImageLuma8(field)
        }
        small => {
            let mut field = image::RgbImage::from_pixel(size.0, size.1, image::Rgb([edge; 3]));
            imageops::replace(&mut field, &small.into_rgb8(), x, y);
            DynamicImage::ImageRgb8(field)
        }
    }
}

/// The largest size of these proportions within another, at least one pixel each way.
fn within((width, height): (u32, u32), (most_width, most_height): (u32, u32)) -> (u32, u32) {
    let scale = (f64::from(most_width) / f64::from(width)).min(f64::from(most_height) / f64::from(height));
    let side = |len: u32, most: u32| ((f64::from(len) * scale).round() as u32).clamp(1, most);
    (side(width, most_width), side(height, most_height))
}

/// Small enough to look for a figure in.
fn reduced(grey: &GrayImage) -> GrayImage {
    let (width, height) = grey.dimensions();
    if width.max(height) <= LOOKED_AT {
        return grey.clone();
    }
    let (w, h) = within((width, height), (LOOKED_AT, LOOKED_AT));
    imageops::thumbnail(grey, w, h)
}

fn shades(grey: &GrayImage) -> Shades {
    Shades::new(grey.width() as usize, grey.height() as usize, grey.as_raw())
}

fn relief((width, height): (u32, u32), values: &[f32]) -> Relief {
    ImageBuffer::from_fn(width, height, |x, y| Luma([values[y as usize * width as usize + x as usize]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DatasetName, synthetic};
    use crate::types::{ImageShape, Seed};
    use image::RgbImage;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn photo(image: &DynamicImage) -> Photo {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        Photo::read("x.png", &bytes.get_ref()[..]).unwrap()
    }

    fn of(image: &DynamicImage, look: &Look) -> Specimen {
        Specimen::of_photo("x.png", photo(image), look, Inversion::Auto).unwrap()
    }

    fn grey(width: u32, height: u32, shade: impl Fn(u32, u32) -> u8) -> DynamicImage {
        DynamicImage::ImageLuma8(GrayImage::from_fn(width, height, |x, y| Luma([shade(x, y)])))
    }

    /// A thick upright stroke of `ink` on `paper`, somewhere.
    fn stroke(width: u32, height: u32, ink: u8, paper: u8) -> DynamicImage {
        let (left, top) = (width / 5, height / 4);
        let inside = move |x, y| (left..left + width / 10).contains(&x) && (top..top + height / 3).contains(&y);
        grey(width, height, move |x, y| if inside(x, y) { ink } else { paper })
    }

    #[test]
    fn an_image_of_the_right_size_is_taken_to_the_bit() {
        let validation = synthetic::dataset(Seed(3)).validation;
        for name in DatasetName::ALL {
            let look = name.look();
            for i in 0..200 {
                let pixels = validation.image(i).to_vec();
                let image = GrayImage::from_raw(28, 28, pixels.clone()).unwrap();
                let same = of(&DynamicImage::ImageLuma8(image.clone()), &look);
                assert_eq!((same.pixels, same.changes), (pixels.clone(), vec![]), "{name} {i}");
                let mut inverted = DynamicImage::ImageRgb8(DynamicImage::ImageLuma8(image).into_rgb8());
                inverted.invert();
                let back = of(&inverted, &look);
                let change = Change::Inverted { from: Ground::Light, to: Ground::Dark };
                assert_eq!((back.pixels, back.changes), (pixels, vec![change]), "{name} {i}");
            }
        }
    }

    #[test]
    fn strokes_become_light_and_stand_in_the_middle() {
        let look = DatasetName::Mnist.look();
        let specimen = of(&stroke(240, 180, 60, 200), &look);
        assert_eq!(
            specimen.changes,
            [
                Change::Inverted { from: Ground::Light, to: Ground::Dark },
                Change::Cut { x: 48, y: 45, width: 24, height: 60 },
                Change::Resized { from: (24, 60), to: (8, 20) },
                Change::Brightened,
                Change::Balanced { to: (28, 28) },
            ]
        );
        let at = |x: usize, y: usize| specimen.pixels[y * 28 + x];
        assert_eq!(
            [at(13, 13), at(13, 5), at(13, 22), at(5, 13), at(20, 13), at(13, 2), at(0, 0)],
            [255, 255, 255, 0, 0, 0, 0]
        );
        // Light on dark, ten times as large: the same image.
        let light = of(&stroke(2400, 1800, 190, 20), &look);
        let far = light.pixels.iter().zip(&specimen.pixels).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(far < Some(30), "{far:?}");
        assert!(!light.changes.contains(&Change::Inverted { from: Ground::Light, to: Ground::Dark }));
    }

    #[test]
    fn articles_keep_their_shades() {
        let look = DatasetName::FashionMnist.look();
        let article = grey(200, 300, |x, y| match (x, y) {
            (50..100, 60..240) => 30,
            (100..150, 60..240) => 180,
            _ => 255,
        });
        let specimen = of(&article, &look);
        assert_eq!(specimen.changes[1], Change::Cut { x: 50, y: 60, width: 100, height: 180 });
        assert_eq!(specimen.changes.last(), Some(&Change::Padded { to: (28, 28) }));
        let at = |x: usize| specimen.pixels[14 * 28 + x];
        assert_eq!([at(0), at(8), at(19), at(27)], [0, 225, 75, 0]);
    }

    #[test]
    fn a_whole_picture_keeps_its_proportions() {
        let look = DatasetName::Synthetic.look();
        let specimen = of(&grey(560, 280, |x, _| if (200..360).contains(&x) { 250 } else { 40 }), &look);
        assert_eq!(
            specimen.changes,
            [Change::Resized { from: (560, 280), to: (28, 14) }, Change::Padded { to: (28, 28) }]
        );
        let at = |x: usize, y: usize| specimen.pixels[y * 28 + x];
        assert_eq!([at(0, 0), at(14, 0), at(14, 14), at(3, 14)], [40, 40, 250, 40]);
    }

    #[test]
    fn a_word_is_stronger_than_what_is_seen() {
        let look = DatasetName::Synthetic.look();
        let image = stroke(28, 28, 0, 255);
        let with = |inversion| Specimen::of_photo("x", photo(&image), &look, inversion).unwrap().pixels[0];
        assert_eq!([Inversion::Auto, Inversion::Always, Inversion::Never].map(with), [0, 0, 255]);
    }

    #[test]
    fn a_blank_sheet_is_said_to_be_one() {
        let specimen = of(&grey(100, 50, |_, _| 0), &DatasetName::Mnist.look());
        assert_eq!(specimen.changes[0], Change::Blank);
        assert_eq!(specimen.pixels, [0; 784]);
    }

    #[test]
    fn colours_stay_for_a_network_that_sees_them() {
        let shape = ImageShape { height: 4, width: 6, channels: 3 };
        let look = Look { shape, ground: Ground::Dark, framing: Framing::Whole };
        let image =
            RgbImage::from_fn(6, 4, |x, y| image::Rgb(if x == 2 && y == 1 { [255, 100, 0] } else { [5, 0, 9] }));
        let specimen = of(&DynamicImage::ImageRgb8(image.clone()), &look);
        assert_eq!((specimen.pixels, specimen.changes), (image.into_raw(), vec![]));
        let large = of(&grey(12, 12, |_, _| 7), &look);
        assert_eq!(large.pixels, [7; 72]);
        let four = Look { shape: ImageShape { channels: 4, ..shape }, ..look };
        let error = Specimen::of_photo("x", photo(&grey(1, 1, |_, _| 0)), &four, Inversion::Auto).unwrap_err();
        assert_eq!(error.to_string(), "the network looks at images of 4 channels, and pictures have 1 or 3");
    }

    #[test]
    fn an_image_of_the_split_has_its_class() {
        let validation = synthetic::dataset(Seed(0)).validation.limited(3);
        let specimen = Specimen::of_split(&validation, 2).unwrap();
        assert_eq!((specimen.name.as_str(), specimen.label), ("validation 2", Some(usize::from(validation.label(2)))));
        let error = Specimen::of_split(&validation, 3).unwrap_err();
        assert_eq!(error.to_string(), "validation image 3 is not there: there are 3, 0 to 2");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_picture_becomes_an_image(width in 1..60_u32, height in 1..60_u32, seed in any::<u32>(), depth in 0..3_u32) {
            let noise = |x: u32, y: u32| (seed ^ (x / (depth + 1)).wrapping_mul(0x9e37_79b9) ^ (y / (depth + 1)).wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35) >> 24;
            let image = grey(width, height, |x, y| noise(x, y) as u8);
            for name in DatasetName::ALL {
                for inversion in [Inversion::Auto, Inversion::Always, Inversion::Never] {
                    let specimen = Specimen::of_photo("x", photo(&image), &name.look(), inversion).unwrap();
                    prop_assert_eq!(specimen.pixels.len(), 784);
                }
            }
        }
    }
}
