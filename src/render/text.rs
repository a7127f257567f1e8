//! Anti-aliased text in DejaVu Sans, measured before it is drawn, clipped at the picture's edges.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};

use super::colour::{Rgb, blend};
use crate::picture::Picture;

/// A face of DejaVu Sans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Face {
    Regular,
    Bold,
}

/// Appearance of text. The size is the em square's, in pixels; at 11 and 15 the heights of letters are whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub face: Face,
    pub size: u8,
    pub colour: Rgb,
}

/// Glyph positions are rounded to this fraction of a pixel, so that the cache stays small.
const SUBPIXELS: i32 = 4;

/// Coverage of pixels by a glyph, relative to the pixel of its origin.
struct Coverage {
    left: i32,
    top: i32,
    width: usize,
    alpha: Vec<f32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    face: Face,
    size: u8,
    glyph: u16,
    subpixel: i32,
}

thread_local! {
    /// Cache of [`rasterise`], a pure function: rasterising a glyph takes longer than drawing it.
    static COVERAGE: RefCell<HashMap<Key, Rc<Coverage>>> = RefCell::default();
}

/// Maximum number of cached glyphs. The printable ASCII characters in every style in use are about 2,000.
const CACHE_LIMIT: usize = 8192;

/// Pixels from the start of the text to the start of the next.
pub fn width(text: &str, style: Style) -> u32 {
    let mut end = 0.0;
    walk(text, style, |_, after| end = after);
    end.ceil() as u32
}

/// The text if it fits `max` pixels, else as much of its start as fits with an ellipsis.
pub fn fitted(text: &str, style: Style, max: u32) -> Cow<'_, str> {
    if width(text, style) <= max {
        return Cow::Borrowed(text);
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.pop().is_some() {
        let shorter = format!("{}…", kept.iter().collect::<String>().trim_end());
        if width(&shorter, style) <= max {
            return Cow::Owned(shorter);
        }
    }
    Cow::Borrowed("")
}

/// Draws the text with its origin at (`x`, `baseline`).
pub(super) fn draw(picture: &mut Picture, text: &str, style: Style, x: i32, baseline: i32) {
    plot(picture, text, style, |along, down| (x.saturating_add(along), baseline.saturating_add(down)));
}

/// Draws the text from the bottom to the top, with its origin at (`baseline`, `y`).
pub(super) fn draw_up(picture: &mut Picture, text: &str, style: Style, baseline: i32, y: i32) {
    // The pixel that starts at the origin becomes the one that ends there.
    plot(picture, text, style, |along, down| {
        (baseline.saturating_add(down), y.saturating_sub(along).saturating_sub(1))
    });
}

/// `place` maps a pixel `along` and `down` from the origin to its position in the picture.
fn plot(picture: &mut Picture, text: &str, style: Style, place: impl Fn(i32, i32) -> (i32, i32)) {
    walk(text, style, |(glyph, at), _| {
        let steps = (at * SUBPIXELS as f32).round() as i32;
        let key = Key { face: style.face, size: style.size, glyph: glyph.0, subpixel: steps.rem_euclid(SUBPIXELS) };
        let coverage = coverage(key);
        let left = steps.div_euclid(SUBPIXELS).saturating_add(coverage.left);
        for (down, row) in (0..).zip(coverage.alpha.chunks_exact(coverage.width)) {
            // Half of a letter's box is empty.
            for (along, &alpha) in (0..).zip(row).filter(|&(_, &alpha)| alpha > 0.0) {
                let (x, y) = place(left.saturating_add(along), coverage.top.saturating_add(down));
                if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
                    && let Some(under) = picture.get(x, y)
                {
                    picture.set(x, y, blend(under, style.colour, alpha));
                }
            }
        }
    });
}

/// Calls `visit` with each glyph and its position, and the position after it, both in pixels from the start.
fn walk(text: &str, style: Style, mut visit: impl FnMut((ab_glyph::GlyphId, f32), f32)) {
    let font = font(style.face).as_scaled(scale(style.face, style.size));
    let mut at = 0.0;
    let mut previous = None;
    for character in text.chars() {
        let glyph = font.glyph_id(character);
        at += previous.map_or(0.0, |previous| font.kern(previous, glyph));
        let after = at + font.h_advance(glyph);
        visit((glyph, at), after);
        at = after;
        previous = Some(glyph);
    }
}

fn coverage(key: Key) -> Rc<Coverage> {
    COVERAGE.with_borrow_mut(|cache| {
        if cache.len() >= CACHE_LIMIT {
            cache.clear();
        }
        Rc::clone(cache.entry(key).or_insert_with(|| Rc::new(rasterise(key))))
    })
}

fn rasterise(key: Key) -> Coverage {
    let glyph = Glyph {
        id: ab_glyph::GlyphId(key.glyph),
        scale: scale(key.face, key.size),
        position: point(key.subpixel as f32 / SUBPIXELS as f32, 0.0),
    };
    let Some(outline) = font(key.face).outline_glyph(glyph) else {
        return Coverage { left: 0, top: 0, width: 1, alpha: Vec::new() };
    };
    let bounds = outline.px_bounds();
    let (width, height) = (bounds.width() as usize, bounds.height() as usize);
    let mut alpha = vec![0.0; width * height];
    outline.draw(|x, y, covered| {
        if let Some(pixel) = alpha.get_mut(y as usize * width + x as usize) {
            *pixel = covered.clamp(0.0, 1.0);
        }
    });
    Coverage { left: bounds.min.x as i32, top: bounds.min.y as i32, width: width.max(1), alpha }
}

/// ab_glyph's scale is the height from ascent to descent, that of [`Style`] the em square.
fn scale(face: Face, size: u8) -> PxScale {
    let font = font(face);
    let em = font.units_per_em().unwrap_or(2048.0);
    PxScale::from(f32::from(size) * font.height_unscaled() / em)
}

fn font(face: Face) -> &'static FontRef<'static> {
    static REGULAR: LazyLock<FontRef<'static>> = LazyLock::new(|| load(dejavu::sans::regular()));
    static BOLD: LazyLock<FontRef<'static>> = LazyLock::new(|| load(dejavu::sans::bold()));
    match face {
        Face::Regular => &REGULAR,
        Face::Bold => &BOLD,
    }
}

fn load(bytes: &'static [u8]) -> FontRef<'static> {
    match FontRef::try_from_slice(bytes) {
        Ok(font) => font,
        Err(error) => unreachable!("DejaVu Sans is compiled in, and a test reads it: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style { face: Face::Regular, size: 11, colour: [0; 3] };

    fn drawn(text: &str, style: Style, x: i32, baseline: i32) -> Picture {
        let mut picture = Picture::filled(60, 20, [255; 3]);
        draw(&mut picture, text, style, x, baseline);
        picture
    }

    fn ink(picture: &Picture) -> Vec<(u32, u32)> {
        let at = |i: usize| (i as u32 % picture.width(), i as u32 / picture.width());
        let dark = picture.pixels().iter().enumerate().filter(|(_, p)| p[0] < 128);
        dark.map(|(i, _)| at(i)).collect()
    }

    #[test]
    fn both_faces_can_be_read_and_differ() {
        let bold = Style { face: Face::Bold, ..STYLE };
        assert!(width("conv2d", bold) > width("conv2d", STYLE));
        assert!(ink(&drawn("conv2d", bold, 2, 14)).len() > ink(&drawn("conv2d", STYLE, 2, 14)).len());
    }

    #[test]
    fn a_capital_stands_on_its_baseline_with_crisp_edges() {
        let rows: Vec<u32> = ink(&drawn("H", STYLE, 5, 14)).iter().map(|&(_, y)| y).collect();
        assert_eq!((rows.iter().min(), rows.iter().max()), (Some(&6), Some(&13)), "8 pixels above the baseline");
    }

    #[test]
    fn width_is_where_the_ink_ends() {
        for text in ["7", "Ankle boot", "conv2d_1", "99.8 %"] {
            let wide = width(text, STYLE);
            let last = ink(&drawn(text, STYLE, 0, 14)).iter().map(|&(x, _)| x).max().unwrap();
            assert!(last < wide.min(60) && last + 4 > wide.min(60), "{text}: {last} of {wide}");
        }
        assert_eq!(width("", STYLE), 0);
    }

    #[test]
    fn text_upwards_is_text_turned_to_the_left() {
        let across = drawn("fj7", STYLE, 5, 14);
        let mut up = Picture::filled(20, 60, [255; 3]);
        draw_up(&mut up, "fj7", STYLE, 14, 60 - 5);
        for (x, y) in (0..60).flat_map(|x| (0..20).map(move |y| (x, y))) {
            assert_eq!(up.get(y, 59 - x), across.get(x, y), "{x}, {y}");
        }
    }

    #[test]
    fn text_is_clipped_on_every_side() {
        for (x, baseline) in [(-20, 14), (50, 14), (2, 3), (2, 25), (i32::MAX, i32::MAX), (i32::MIN, i32::MIN)] {
            drawn("clipped at the edge", STYLE, x, baseline);
            draw_up(&mut Picture::filled(60, 20, [255; 3]), "clipped at the edge", STYLE, x, baseline);
        }
    }

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis() {
        assert_eq!(fitted("Ankle boot", STYLE, 200), "Ankle boot");
        let short = fitted("Ankle boot", STYLE, 40);
        assert!(short.ends_with('…') && short.len() < "Ankle boot".len(), "{short}");
        assert!(width(&short, STYLE) <= 40);
        assert_eq!(fitted("Ankle boot", STYLE, 3), "");
    }
}
