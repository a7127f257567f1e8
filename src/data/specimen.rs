//! One image that somebody asks about: pixels as the network wants them, its name, its class where that is known.

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma};

use super::change::Change;
use super::dataset::Split;
use super::doubt::Doubt;
use super::drawing::{self, Layout, Search, Sheet};
use super::figure::Shades;
use super::look::{Framing, Ground, Look};
use super::photo::Photo;
use crate::exit::{Classify, Exit};

/// The longer side, in pixels, of what a figure is looked for in.
const LOOKED_AT: u32 = 1024;

/// A smaller difference between the lightest and the darkest pixel is none.
const FLAT: u8 = 16;
/// A figure of strokes that is wider than this share of its height lies on its side: of MNIST's 1.3 % are wider.
const WIDEST: f32 = 1.4;
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
    /// Changes that made it an input image, in order.
    pub changes: Vec<Change>,
    /// Reasons to doubt that it shows what the picture does.
    pub doubts: Vec<Doubt>,
    /// Pixels that other ways to prepare the picture give: an answer that is right is right for nearly all of them.
    pub variants: Vec<Vec<u8>>,
}

/// Exchange of light and dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inversion {
    /// If the picture's ground is not the data set's.
    #[default]
    Auto,
    Always,
    Never,
}

/// Error in the preparation of a picture.
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
            doubts: Vec::new(),
            variants: Vec::new(),
        })
    }

    /// A person's picture, made to look like the images that the network has learned from.
    ///
    /// A picture of the data set's size and layout keeps its pixels, except for colours and ground.
    /// Strokes are looked for on their local ground, which is light or dark; an article's ground is what lies along the edge
    /// of the picture. A picture is inverted if its ground is dark and the data set's is light, or the other way round.
    pub fn of_photo(name: &str, photo: Photo, look: &Look, inversion: Inversion) -> Result<Specimen, SpecimenError> {
        let (image, changes, doubts) = photo.into_parts();
        let specimen =
            Specimen { name: name.to_owned(), pixels: Vec::new(), label: None, changes, doubts, variants: Vec::new() };
        match look.shape.channels {
            1 => Ok(specimen.of_shades(&image, look, inversion)),
            3 => Ok(specimen.of_colours(image, look, inversion)),
            channels => Err(SpecimenError::Channels { channels }),
        }
    }

    fn of_colours(mut self, image: DynamicImage, look: &Look, inversion: Inversion) -> Specimen {
        let rgb = image.into_rgb8();
        let shades = reduced(&DynamicImage::ImageRgb8(rgb.clone()).into_luma8());
        let from = ground(&shades, look.ground, inversion);
        let mut image = DynamicImage::ImageRgb8(rgb);
        if invert(from, look.ground, &mut self.changes) {
            image.invert();
        }
        self.pixels = whole(&image, look, &mut self.changes).into_rgb8().into_raw();
        self
    }

    fn of_shades(mut self, image: &DynamicImage, look: &Look, inversion: Inversion) -> Specimen {
        let grey = grey(image, &mut self.changes);
        if let Some(pixels) = as_it_is(&grey, look, inversion, &mut self.changes) {
            self.doubts.extend(is_blank(&pixels).then_some(Doubt::Blank));
            self.pixels = pixels;
            return self;
        }
        if let Framing::Balanced { side } = look.framing {
            return self.of_strokes(image, grey, side as f32, look, inversion);
        }
        let ground = ground(&grey, look.ground, inversion);
        self.pixels = drawn(grey, ground, look, &mut self.changes);
        let blank = self.changes.contains(&Change::Blank) || is_blank(&self.pixels);
        self.doubts.extend(blank.then_some(Doubt::Blank));
        self
    }

    /// A written figure in the data set's form.
    fn of_strokes(
        mut self,
        image: &DynamicImage,
        grey: GrayImage,
        side: f32,
        look: &Look,
        inversion: Inversion,
    ) -> Specimen {
        let seen = || drawing::ground(image).unwrap_or_else(|| ground(&grey, look.ground, inversion));
        let from = if inversion == Inversion::Auto { seen() } else { ground(&grey, look.ground, inversion) };
        let inverted = invert(from, look.ground, &mut self.changes);
        let mut sheet = Sheet::new(image, from);
        let Some(drawing) = sheet.drawing(&Search::default()) else {
            self.doubts.push(Doubt::Blank);
            self.changes.push(Change::Blank);
            let grey = if inverted { inverse(grey) } else { grey };
            self.pixels = whole(&DynamicImage::ImageLuma8(grey), look, &mut self.changes).into_luma8().into_raw();
            return self;
        };
        let (x, y, width, height) = drawing.frame;
        if drawing.lines > 0 {
            self.changes.push(Change::LinesRemoved { lines: drawing.lines });
        }
        self.changes.push(Change::Cut { x, y, width, height });
        let to = within((width, height), (side as u32, side as u32));
        self.changes.push(Change::Resized { from: (width, height), to });
        if drawing.is_thin() {
            self.changes.push(Change::Thickened);
        }
        if drawing.contrast < 0.98 {
            self.changes.push(Change::Brightened);
        }
        let size = (look.shape.width as u32, look.shape.height as u32);
        self.changes.push(Change::Balanced { to: size });
        if drawing.others > 0 {
            self.doubts.push(Doubt::Several { figures: drawing.others + 1 });
        }
        if drawing.is_cut_off {
            self.doubts.push(Doubt::CutOff);
        }
        if drawing.aspect() > WIDEST {
            self.doubts.push(Doubt::Sideways);
        }
        let bytes = |field: Vec<f32>| field.iter().map(|value| byte(*value, look.ground)).collect();
        self.pixels = bytes(drawing.laid_out(size, side, &Layout::default()));
        self.variants = Layout::others().iter().map(|layout| bytes(drawing.laid_out(size, side, layout))).collect();
        for search in Search::others(drawing.lines > 0) {
            // If another search finds nothing, its answer is that of an empty image.
            let found = sheet.drawing(&search).map(|drawing| drawing.laid_out(size, side, &Layout::default()));
            self.variants.push(bytes(found.unwrap_or_else(|| vec![0.0; look.shape.width * look.shape.height])));
        }
        self
    }
}

/// The pixels of a picture that is laid out as the data set's images are.
fn as_it_is(grey: &GrayImage, look: &Look, inversion: Inversion, changes: &mut Vec<Change>) -> Option<Vec<u8>> {
    if grey.dimensions() != (look.shape.width as u32, look.shape.height as u32) {
        return None;
    }
    let other = look.ground.other();
    let grounds = match (look.framing, inversion) {
        (Framing::Balanced { .. }, Inversion::Auto) => vec![look.ground, other],
        _ => vec![ground(grey, look.ground, inversion)],
    };
    grounds.into_iter().find_map(|from| {
        let image = if from == look.ground { grey.clone() } else { inverse(grey.clone()) };
        let is_drawn = look.framing == Framing::Whole || !is_blank(image.as_raw());
        (is_drawn && look.is_met_by(image.as_raw())).then(|| {
            invert(from, look.ground, changes);
            image.into_raw()
        })
    })
}

/// True if all pixels are about equally light.
fn is_blank(pixels: &[u8]) -> bool {
    let (least, most) = pixels.iter().fold((u8::MAX, 0), |(least, most), &byte| (byte.min(least), byte.max(most)));
    most.saturating_sub(least) < FLAT
}

fn inverse(mut grey: GrayImage) -> GrayImage {
    grey.iter_mut().for_each(|value| *value = 255 - *value);
    grey
}

/// A share of full contrast as light on the data set's ground.
fn byte(value: f32, ground: Ground) -> u8 {
    let byte = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    if ground == Ground::Dark { byte } else { 255 - byte }
}

/// Brightness alone; that colours are lost is said where there are any.
fn grey(image: &DynamicImage, changes: &mut Vec<Change>) -> GrayImage {
    if let DynamicImage::ImageRgb8(rgb) = image
        && rgb.pixels().any(|pixel| pixel.0[0] != pixel.0[1] || pixel.0[1] != pixel.0[2])
    {
        changes.push(Change::Grey);
    }
    image.to_luma8()
}

/// The ground of a picture, or the one that somebody says it has.
fn ground(grey: &GrayImage, wanted: Ground, inversion: Inversion) -> Ground {
    match inversion {
        Inversion::Auto => shades(&reduced(grey)).ground().unwrap_or(wanted),
        Inversion::Always => wanted.other(),
        Inversion::Never => wanted,
    }
}

fn invert(from: Ground, to: Ground, changes: &mut Vec<Change>) -> bool {
    if from != to {
        changes.push(Change::Inverted { from, to });
    }
    from != to
}

/// A grey picture in the data set's form: its article with its own shades, or all of it.
fn drawn(grey: GrayImage, from: Ground, look: &Look, changes: &mut Vec<Change>) -> Vec<u8> {
    let inverted = invert(from, look.ground, changes);
    if let Framing::Fitted { side } = look.framing {
        let small = reduced(&grey);
        if let Some(figure) = shades(&small).figure(from, FAINTEST_SHADE) {
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
    let grey = if inverted { inverse(grey) } else { grey };
    whole(&DynamicImage::ImageLuma8(grey), look, changes).into_luma8().into_raw()
}

type Relief = ImageBuffer<Luma<f32>, Vec<f32>>;

/// The cutout, its longer side scaled to `side` pixels, on the data set's ground.
fn placed(cut: &Relief, from: (u32, u32), side: u32, look: &Look, changes: &mut Vec<Change>) -> Vec<u8> {
    let (width, height) = (look.shape.width as u32, look.shape.height as u32);
    let (w, h) = within(cut.dimensions(), (side.min(width), side.min(height)));
    let small = imageops::resize(cut, w, h, FilterType::Triangle);
    changes.push(Change::Resized { from, to: (w, h) });
    if (w, h) != (width, height) {
        changes.push(Change::Padded { to: (width, height) });
    }
    let mut field: Relief = ImageBuffer::new(width, height);
    imageops::replace(&mut field, &small, i64::from((width - w) / 2), i64::from((height - h) / 2));
    field.iter().map(|value| byte(*value, look.ground)).collect()
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

    /// Of two shades.
    fn article() -> DynamicImage {
        grey(200, 300, |x, y| match (x, y) {
            (50..100, 60..240) => 30,
            (100..150, 60..240) => 180,
            _ => 255,
        })
    }

    /// Its own pixels, and those of its inverse, with what was done to that.
    fn twice(pixels: &[u8], look: &Look) -> (Specimen, Specimen) {
        let image = DynamicImage::ImageLuma8(GrayImage::from_raw(28, 28, pixels.to_vec()).unwrap());
        let mut inverted = DynamicImage::ImageRgb8(image.to_rgb8());
        inverted.invert();
        (of(&image, look), of(&inverted, look))
    }

    #[test]
    fn an_image_that_looks_like_the_data_set_is_taken_to_the_bit() {
        let look = DatasetName::Synthetic.look();
        let validation = synthetic::dataset(Seed(3)).validation;
        let drawn = (0..200).map(|i| (look, validation.image(i).to_vec()));
        // A second layout changes nothing.
        let laid_out = [DatasetName::Mnist, DatasetName::FashionMnist].into_iter().flat_map(|name| {
            let pictures = [stroke(240, 180, 60, 200), stroke(90, 300, 250, 0), article()];
            pictures.map(|picture| (name.look(), of(&picture, &name.look()).pixels))
        });
        for (look, pixels) in drawn.chain(laid_out) {
            let (same, back) = twice(&pixels, &look);
            assert_eq!((same.pixels, same.changes), (pixels.clone(), vec![]), "{look:?}");
            let change = Change::Inverted { from: Ground::Light, to: Ground::Dark };
            assert_eq!((back.pixels, back.changes), (pixels, vec![change]), "{look:?}");
        }
    }

    #[test]
    fn a_drawing_of_the_right_size_is_laid_out_as_at_any_other_size() {
        let look = DatasetName::Mnist.look();
        // An angle: its foot points to the right.
        let angle = |side: u32, left: u32, top: u32, height: u32| {
            let pen = height / 4;
            grey(side, side, move |x, y| {
                let upright = (left..left + pen).contains(&x) && (top..top + height).contains(&y);
                let foot =
                    (left..left + height * 3 / 4).contains(&x) && (top + height - pen..top + height).contains(&y);
                if upright || foot { 0 } else { 255 }
            })
        };
        let want = of(&angle(280, 70, 50, 160), &look).pixels;
        for (side, left, top, height) in
            [(28, 1, 0, 28), (28, 1, 1, 12), (28, 14, 15, 12), (28, 9, 2, 16), (56, 3, 3, 24)]
        {
            let specimen = of(&angle(side, left, top, height), &look);
            assert!(specimen.changes.iter().any(|change| matches!(change, Change::Cut { .. })), "{height} of {side}");
            assert!(specimen.doubts.is_empty(), "{height} of {side}: {:?}", specimen.doubts);
            let far = specimen.pixels.iter().zip(&want).filter(|(a, b)| a.abs_diff(**b) > 128).count();
            assert!(far <= 60, "{height} of {side}: {far} pixels are others");
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
        assert!(far < Some(80), "{far:?}");
        assert!(!light.changes.contains(&Change::Inverted { from: Ground::Light, to: Ground::Dark }));
    }

    /// A hook, which is no letter and no line: a bar with an arc below it, 0 to 1 in height and width.
    fn hook(x: f32, y: f32) -> bool {
        let (dx, dy) = (x - 0.45, y - 0.65);
        let radius = (dx * dx + dy * dy).sqrt();
        let arc = (0.25..0.37).contains(&radius) && dx > -0.15;
        arc || ((0.2..0.32).contains(&x) && y < 0.45 && y > 0.0) || ((0.2..0.8).contains(&x) && (0.0..0.1).contains(&y))
    }

    /// The hook in a picture of 300 x 400, on whatever ground.
    fn written(ground: impl Fn(u32, u32) -> u8) -> DynamicImage {
        grey(300, 400, move |x, y| {
            let is_ink = hook((x as f32 - 60.0) / 180.0, (y as f32 - 110.0) / 180.0);
            if is_ink { ground(x, y) / 4 } else { ground(x, y) }
        })
    }

    #[test]
    fn what_surrounds_a_figure_is_left_out() {
        let look = DatasetName::Mnist.look();
        let plain = of(&written(|_, _| 220), &look);
        assert!(plain.doubts.is_empty(), "{:?}", plain.doubts);
        let turned = |x: u32, y: u32| (x as f32 + 0.1 * y as f32, y as f32 - 0.1 * x as f32);
        type Shade<'a> = &'a dyn Fn(u32, u32) -> u8;
        let grounds: [(&str, Shade<'_>); 7] = [
            ("table", &|x, y| {
                let (u, v) = turned(x, y);
                if (50.0..290.0).contains(&u) && (40.0..330.0).contains(&v) { 220 } else { 50 }
            }),
            ("scanner's border", &|x, y| if x < 20 || !(9..=375).contains(&y) { 12 } else { 220 }),
            ("ruled", &|x, y| if (turned(x, y).1 as i32).rem_euclid(60) < 3 { 90 } else { 220 }),
            ("squared", &|x, y| if x % 37 < 2 || y % 37 < 2 { 120 } else { 220 }),
            ("box", &|x, y| {
                let inside = |edge: u32| (30 + edge..270 - edge).contains(&x) && (80 + edge..330 - edge).contains(&y);
                if inside(0) && !inside(5) { 60 } else { 220 }
            }),
            ("shadow", &|x, y| if x + y / 2 > 260 { 110 } else { 220 }),
            ("light that falls off", &|x, y| (230 - x / 4 - y / 6) as u8),
        ];
        for (name, ground) in grounds {
            let specimen = of(&written(ground), &look);
            let far = specimen.pixels.iter().zip(&plain.pixels).filter(|(a, b)| a.abs_diff(**b) > 128).count();
            assert!(far <= 45, "{name}: {far} pixels are others");
            assert!(specimen.doubts.is_empty(), "{name}: {:?}", specimen.doubts);
        }
    }

    #[test]
    fn figures_that_are_not_one_whole_upright_figure_are_doubted() {
        let look = DatasetName::Mnist.look();
        let at = |x: u32, y: u32, left: f32, side: f32| hook((x as f32 - left) / side, (y as f32 - 30.0) / side);
        let number = grey(400, 120, |x, y| {
            if at(x, y, 10.0, 60.0) || at(x, y, 90.0, 60.0) || at(x, y, 170.0, 60.0) { 30 } else { 230 }
        });
        assert_eq!(of(&number, &look).doubts, [Doubt::Several { figures: 3 }]);
        let lying =
            grey(
                400,
                200,
                |x, y| if hook(1.0 - (y as f32 - 60.0) / 60.0, (x as f32 - 100.0) / 120.0) { 30 } else { 230 },
            );
        assert_eq!(of(&lying, &look).doubts, [Doubt::Sideways]);
        let cut =
            grey(200, 200, |x, y| if hook((x as f32 + 50.0) / 150.0, (y as f32 - 20.0) / 150.0) { 30 } else { 230 });
        assert!(of(&cut, &look).doubts.contains(&Doubt::CutOff));
    }

    #[test]
    fn articles_keep_their_shades() {
        let look = DatasetName::FashionMnist.look();
        let specimen = of(&article(), &look);
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
        for (width, height, shade) in [(100, 50, 0), (28, 28, 0), (28, 28, 255), (300, 300, 200)] {
            for name in [DatasetName::Mnist, DatasetName::FashionMnist] {
                let specimen = of(&grey(width, height, |_, _| shade), &name.look());
                assert_eq!((&specimen.changes[0], &specimen.doubts[..]), (&Change::Blank, &[Doubt::Blank][..]));
                assert_eq!(specimen.pixels, [shade; 784]);
            }
        }
        // Noise is nothing, too.
        let noise = |x: u32, y: u32| {
            180 + (x.wrapping_mul(0x9e37_79b9) ^ y.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35).rotate_left(9)
                as u8
                % 12
        };
        assert_eq!(of(&grey(300, 200, noise), &DatasetName::Mnist.look()).doubts, [Doubt::Blank]);
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
