//! Class activation maps as heat, alone and over their image; maps that are compared share a scale.

use std::borrow::Cow;

use super::card::{INK, PAPER};
use crate::explain::Content;
use crate::picture::Picture;
use crate::render::text::{Face, Style, width};
use crate::render::{self, Canvas, ColourMap, Map, Scale, Zoom};

/// From little, blue, to much, red.
pub const COLOURS: ColourMap = ColourMap::Turbo;
const ALPHA: f32 = 0.7;
/// Sizes of a remark, the largest that fits is taken.
const SIZES: [u8; 3] = [10, 9, 8];

/// The scale, from 0, of maps that are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heat {
    pub scale: Scale,
}

impl Heat {
    /// The scale ends at the largest value of the maps that are drawn.
    pub fn of<'a>(maps: impl IntoIterator<Item = &'a Map>) -> Heat {
        Heat { scale: Scale::from_zero(maps.into_iter().filter(|map| Content::of(map).is_drawn())) }
    }

    /// The map, `wide` x `high` pixels.
    pub fn alone(self, map: &Map, (wide, high): (u32, u32)) -> Picture {
        COLOURS.paint(&drawn(map).resized(high as usize, wide as usize), self.scale)
    }

    /// The map over its image, enlarged as the image is.
    pub fn over(self, map: &Map, input: &Picture, zoom: Zoom) -> Picture {
        let (wide, high) = (zoom.apply(input.width() as usize), zoom.apply(input.height() as usize));
        let mut enlarged = Canvas::new(wide, high, PAPER);
        enlarged.place((0, 0), input, zoom);
        let map = drawn(map).resized(high as usize, wide as usize);
        render::overlay(&enlarged.into_picture(), &map, COLOURS, self.scale, ALPHA)
    }
}

/// A map that singles out no place is drawn as one of zeros: in full colour it would point everywhere at once.
fn drawn(map: &Map) -> Cow<'_, Map> {
    let zeros = || Map::new(map.height(), map.width(), vec![0.0; map.values().len()]).ok();
    match Content::of(map).is_drawn() {
        true => Cow::Borrowed(map),
        false => zeros().map_or(Cow::Borrowed(map), Cow::Owned),
    }
}

/// A remark across the middle of a map's picture where its colours alone do not tell what it is, on one line or on two;
/// nothing where it does not fit.
pub fn remark(canvas: &mut Canvas, (x, y): (u32, u32), (wide, high): (u32, u32), content: Content) {
    let remark = match content {
        Content::Values => return,
        Content::Zero => "no evidence",
        Content::Uniform => "uniform",
        Content::NotFinite(_) => "not finite",
    };
    let styles = SIZES.map(|size| Style { face: Face::Bold, size, colour: INK });
    let layouts = [vec![remark], remark.split(' ').collect()];
    let pitch = |style: Style| u32::from(style.size) + 3;
    let fits = |lines: &[&str], style: Style| {
        lines.iter().all(|line| width(line, style) + 4 <= wide) && lines.len() as u32 * pitch(style) <= high
    };
    let all = layouts.iter().flat_map(|lines| styles.map(|style| (lines, style)));
    let Some((lines, style)) = all.into_iter().find(|(lines, style)| fits(lines, *style)) else { return };
    // Letters stand on their baseline and fill most of the line above it.
    let mut baseline = y + high.saturating_sub(lines.len() as u32 * pitch(style)) / 2 + pitch(style) - 3;
    for line in lines {
        canvas.text_edged(x + wide / 2, baseline, line, style, PAPER);
        baseline += pitch(style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[f32]) -> Map {
        Map::new(1, values.len(), values.to_vec()).unwrap()
    }

    fn input() -> Picture {
        Picture::painted(2, 1, |i| [[0; 3], [200; 3]][i])
    }

    #[test]
    fn maps_that_are_compared_share_a_scale() {
        let (strong, weak) = (map(&[0.0, 8.0]), map(&[0.0, 1.0]));
        let heat = Heat::of([&strong, &weak]);
        assert_eq!(heat, Heat { scale: Scale::new(0.0, 8.0) });
        assert_eq!(heat.alone(&strong, (2, 1)).pixels(), [COLOURS.at(0.0), COLOURS.at(1.0)]);
        assert_eq!(heat.alone(&weak, (2, 1)).pixels(), [COLOURS.at(0.0), COLOURS.at(0.125)]);
    }

    #[test]
    fn a_map_without_a_place_of_its_own_is_cold_and_moves_no_scale() {
        for flat in [map(&[0.0, 0.0]), map(&[7.0, 7.0]), map(&[7.0, 6.9])] {
            let heat = Heat::of([&flat, &map(&[0.0, 1.0])]);
            assert_eq!(heat.scale, Scale::new(0.0, 1.0), "{flat:?}");
            assert_eq!(heat.alone(&flat, (2, 1)).pixels(), [COLOURS.at(0.0); 2], "{flat:?}");
            assert_eq!(heat.over(&flat, &input(), Zoom::In(1)), input(), "{flat:?}");
        }
    }

    #[test]
    fn a_remark_stays_on_its_picture() {
        for content in [Content::Zero, Content::Uniform, Content::NotFinite(3)] {
            for (wide, high) in [(84, 84), (56, 56), (56, 30), (12, 90), (90, 4), (1, 1)] {
                let mut canvas = Canvas::new(wide + 40, high + 40, PAPER);
                remark(&mut canvas, (20, 20), (wide, high), content);
                let picture = canvas.into_picture();
                let inked = |x: u32, y: u32| picture.get(x, y).is_some_and(|pixel| pixel != PAPER);
                let all = (0..picture.height()).flat_map(|y| (0..picture.width()).map(move |x| (x, y)));
                let (inside, outside): (Vec<_>, Vec<_>) = all
                    .filter(|&(x, y)| inked(x, y))
                    .partition(|&(x, y)| (20..20 + wide).contains(&x) && (20..20 + high).contains(&y));
                assert!(outside.is_empty(), "{content:?} on {wide}x{high}: {outside:?}");
                assert_eq!(inside.is_empty(), wide < 56 || high < 10, "{content:?} on {wide}x{high}");
            }
        }
    }
}
