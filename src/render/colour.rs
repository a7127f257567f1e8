//! Colours for values: colour maps with a stated scale, unchanged images, heat over an image.

use std::sync::OnceLock;

use super::map::Map;
use crate::picture::Picture;
use crate::types::ImageShape;

/// Red, green, blue; sRGB.
pub type Rgb = [u8; 3];

/// The colour of infinities and NaN, which no colour map contains.
pub const NON_FINITE: Rgb = [255, 0, 255];

/// Colours for low to high values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColourMap {
    /// Black to white.
    Grey,
    /// Black through purple to pale yellow.
    Magma,
    /// Blue through green to red.
    Turbo,
    /// Blue through white to red: for signed values on a [`Scale::symmetric`].
    Diverging,
    /// Pale to dark red, never white: values above 0 are visible.
    Reds,
    /// Pale to middle blue: the less prominent map beside [`Reds`](ColourMap::Reds).
    Blues,
}

/// The values at the two ends of a colour map, `low <= high`, both finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    low: f32,
    high: f32,
}

impl Scale {
    /// Takes the ends in either order. Values that are not finite count as 0.
    pub fn new(a: f32, b: f32) -> Scale {
        let finite = |v: f32| if v.is_finite() { v } else { 0.0 };
        let (a, b) = (finite(a), finite(b));
        Scale { low: a.min(b), high: a.max(b) }
    }

    /// From 0, or the smallest value if it is below, to the largest value of some maps.
    pub fn from_zero<'a>(maps: impl IntoIterator<Item = &'a Map>) -> Scale {
        let (low, high) = Map::range(maps).unwrap_or_default();
        Scale::new(low.min(0.0), high.max(0.0))
    }

    /// From 0 to the quantile `share`, 0 to 1, of the positive values of some maps. With a few outliers as the end
    /// all other values would be dark.
    pub fn to_quantile<'a>(maps: impl IntoIterator<Item = &'a Map>, share: f64) -> Scale {
        let values = maps.into_iter().flat_map(|map| map.values().iter().copied());
        let mut positive: Vec<f32> = values.filter(|v| v.is_finite() && *v > 0.0).collect();
        let Some(last) = positive.len().checked_sub(1) else {
            return Scale::new(0.0, 0.0);
        };
        let index = (last as f64 * share.clamp(0.0, 1.0)).round() as usize;
        let (_, &mut high, _) = positive.select_nth_unstable_by(index.min(last), f32::total_cmp);
        Scale::new(0.0, high)
    }

    /// From minus to plus the largest magnitude of some maps.
    pub fn symmetric<'a>(maps: impl IntoIterator<Item = &'a Map>) -> Scale {
        let (low, high) = Map::range(maps).unwrap_or_default();
        let limit = high.max(-low);
        Scale::new(-limit, limit)
    }

    /// From minus to plus the quantile `share`, 0 to 1, of the magnitudes of a map's values other than 0.
    pub fn symmetric_to_quantile(map: &Map, share: f64) -> Scale {
        let magnitudes = Map::new(map.height(), map.width(), map.values().iter().map(|v| v.abs()).collect());
        let limit = Scale::to_quantile(&magnitudes, share).high;
        Scale::new(-limit, limit)
    }

    pub fn low(self) -> f32 {
        self.low
    }

    pub fn high(self) -> f32 {
        self.high
    }

    /// Position of a value, 0 to 1, in `f64` so that no difference overflows; 0 on an empty scale that starts at 0.
    fn place(self) -> impl Fn(f32) -> f64 {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        // A division, though slow: with the reciprocal the middle of a symmetric scale would not be exactly a half.
        let extent = if high > low { high - low } else { f64::INFINITY };
        move |value| ((f64::from(value) - low) / extent).clamp(0.0, 1.0)
    }
}

/// Entries in a colour table: more than a channel has values.
const TOLD_APART: usize = 1 << 12;
const LAST: f64 = (TOLD_APART - 1) as f64;

impl ColourMap {
    /// The colour at `place`, 0 to 1.
    pub fn at(self, place: f64) -> Rgb {
        self.table()[(place.clamp(0.0, 1.0) * LAST + 0.5) as usize]
    }

    /// Colours from one end to the other. Computed once: each is a spline through a dozen colours, too slow for every
    /// pixel.
    fn table(self) -> &'static [Rgb] {
        static TABLES: [OnceLock<Vec<Rgb>>; 6] = [const { OnceLock::new() }; 6];
        TABLES[self as usize].get_or_init(|| (0..TOLD_APART).map(|i| self.exactly_at(i as f64 / LAST)).collect())
    }

    fn exactly_at(self, place: f64) -> Rgb {
        let gradient = match self {
            ColourMap::Grey => return [(place.clamp(0.0, 1.0) * 255.0).round() as u8; 3],
            ColourMap::Magma => colorous::MAGMA,
            ColourMap::Turbo => colorous::TURBO,
            ColourMap::Reds => return colorous::REDS.eval_continuous(0.12 + 0.76 * place.clamp(0.0, 1.0)).into_array(),
            ColourMap::Blues => {
                return colorous::BLUES.eval_continuous(0.08 + 0.5 * place.clamp(0.0, 1.0)).into_array();
            }
            // The scheme runs from red to blue, but readers expect positive values in red.
            ColourMap::Diverging => return colorous::RED_BLUE.eval_continuous(1.0 - place).into_array(),
        };
        gradient.eval_continuous(place).into_array()
    }

    /// The colour of a value; [`NON_FINITE`] for infinities and NaN.
    pub fn colour(self, value: f32, scale: Scale) -> Rgb {
        self.colours(scale)(value)
    }

    /// [`colour`](ColourMap::colour) for many values.
    fn colours(self, scale: Scale) -> impl Fn(f32) -> Rgb {
        let shades = self.shades(scale);
        move |value| shades(value).map_or(NON_FINITE, |(_, colour)| colour)
    }

    /// Positions of values on the scale, 0 to 1, and their colours; `None` for infinities and NaN.
    fn shades(self, scale: Scale) -> impl Fn(f32) -> Option<(f64, Rgb)> {
        let (table, place) = (self.table(), scale.place());
        // On an empty diverging scale, as of weights that are all 0, the middle stands for 0.
        let middle = if self == ColourMap::Diverging && scale.low == scale.high { 0.5 } else { 0.0 };
        move |value| {
            value.is_finite().then(|| {
                let place = place(value);
                (place, table[((place + middle) * LAST + 0.5) as usize])
            })
        }
    }

    /// One pixel for each value.
    pub fn paint(self, map: &Map, scale: Scale) -> Picture {
        let colour = self.colours(scale);
        picture(map.width(), map.height(), |i| colour(map.values()[i]))
    }
}

/// Picture of an unchanged image, from `height x width x channels` bytes. One channel is grey, three are red, green
/// and blue; for other counts the first channel is shown. Missing bytes are black.
pub fn image(pixels_hwc: &[u8], shape: ImageShape) -> Picture {
    let channels = shape.channels.max(1);
    picture(shape.width, shape.height, |i| match pixels_hwc.get(i * channels..(i + 1) * channels) {
        Some(&[r, g, b]) => [r, g, b],
        Some(&[first, ..]) => [first; 3],
        _ => [0; 3],
    })
}

/// Picture of signed values of red, green and blue, `[r, g, b]` maps of one size: 0 is the middle grey, the ends of a
/// symmetric scale are black and full colour.
pub fn signed_image([r, g, b]: [&Map; 3], scale: Scale) -> Picture {
    let place = scale.place();
    picture(r.width(), r.height(), |i| {
        let values = [r, g, b].map(|map| map.values().get(i).copied().unwrap_or(0.0));
        if values.iter().all(|v| v.is_finite()) {
            values.map(|v| if scale.low == scale.high { 128 } else { (place(v) * 255.0).round() as u8 })
        } else {
            NON_FINITE
        }
    })
}

/// True if dark text is easier to read on a colour than white text.
pub fn is_light([r, g, b]: Rgb) -> bool {
    // Threshold: luminance with the same contrast to black and white (WCAG 2.1), with a power of 2.2 for sRGB's
    // curve.
    let linear = |value: u8| (f32::from(value) / 255.0).powf(2.2);
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b) > 0.18
}

/// `weight` of 0 gives `under`, 1 gives `over`.
pub fn blend(under: Rgb, over: Rgb, weight: f32) -> Rgb {
    // The cast clamps to 0..=255; adding 0.5 rounds.
    let mix = |u: u8, o: u8| (f32::from(u) + (f32::from(o) - f32::from(u)) * weight + 0.5) as u8;
    [mix(under[0], over[0]), mix(under[1], over[1]), mix(under[2], over[2])]
}

/// Heat over the grey of an image of the same size. The weight of the heat grows with the square root of the value's
/// position on the scale, from 0 at the low end to `alpha` at the high end: weak heat is visible, and the image is
/// clear where there is none. Pixels of the image that the map lacks stay as they are.
pub fn overlay(image: &Picture, heat: &Map, colours: ColourMap, scale: Scale, alpha: f32) -> Picture {
    let mut out = image.clone();
    let shades = colours.shades(scale);
    for (y, values) in (0..).zip(heat.values().chunks_exact(heat.width())) {
        for (pixel, &value) in out.row_mut(y, 0..side(heat.width())).iter_mut().zip(values) {
            let shade = shades(value).map(|(place, colour)| (colour, (place as f32).sqrt() * alpha));
            let (colour, weight) = shade.unwrap_or((NON_FINITE, 1.0));
            *pixel = blend([luminance(*pixel); 3], colour, weight);
        }
    }
    out
}

/// Rec. 709 weights on sRGB values: good enough for the image under the heat.
fn luminance([r, g, b]: Rgb) -> u8 {
    (0.2126 * f32::from(r) + 0.7152 * f32::from(g) + 0.0722 * f32::from(b) + 0.5) as u8
}

fn side(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn picture(width: usize, height: usize, colour: impl Fn(usize) -> Rgb) -> Picture {
    Picture::painted(side(width), side(height), colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[f32]) -> Map {
        Map::new(1, values.len(), values.to_vec()).unwrap()
    }

    #[test]
    fn grey_is_linear_and_clamped() {
        let scale = Scale::new(2.0, 0.0);
        let painted = ColourMap::Grey.paint(&map(&[-1.0, 0.0, 1.0, 2.0, 3.0]), scale);
        assert_eq!(painted.pixels(), [[0; 3], [0; 3], [128; 3], [255; 3], [255; 3]]);
    }

    #[test]
    fn the_signed_map_has_its_middle_at_zero() {
        let weights = map(&[-2.0, 0.0, 1.0]);
        let scale = Scale::symmetric([&weights]);
        assert_eq!((scale.low(), scale.high()), (-2.0, 2.0));
        let [negative, zero, positive] = weights.values() else { unreachable!() };
        let [r, _, b] = ColourMap::Diverging.colour(*negative, scale);
        assert!(b > r, "negative is blue");
        let [r, _, b] = ColourMap::Diverging.colour(*positive, scale);
        assert!(r > b, "positive is red");
        assert!(ColourMap::Diverging.colour(*zero, scale).iter().all(|&c| c > 235), "zero is nearly white");
        let nothing = Scale::symmetric([&map(&[0.0, 0.0])]);
        assert_eq!(ColourMap::Diverging.colour(0.0, nothing), ColourMap::Diverging.at(0.5));
    }

    #[test]
    fn non_finite_values_have_their_own_colour_and_do_not_move_the_scale() {
        let values = map(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0]);
        let scale = Scale::from_zero([&values]);
        assert_eq!((scale.low(), scale.high()), (0.0, 1.0));
        for colours in [
            ColourMap::Grey,
            ColourMap::Magma,
            ColourMap::Turbo,
            ColourMap::Diverging,
            ColourMap::Reds,
            ColourMap::Blues,
        ] {
            assert_eq!(colours.paint(&values, scale).pixels()[..3], [NON_FINITE; 3]);
            for place in 0..=100 {
                let distance: u32 = colours
                    .at(f64::from(place) / 100.0)
                    .iter()
                    .zip(NON_FINITE)
                    .map(|(a, b)| u32::from(a.abs_diff(b)))
                    .sum();
                assert!(distance > 100, "{colours:?} comes near the colour of NaN at {place} %");
            }
        }
    }

    #[test]
    fn a_quantile_leaves_out_what_stands_out() {
        let values = map(&[-5.0, 0.0, 0.0, 3.0, 1.0, f32::NAN, 2.0, 100.0, 4.0]);
        let ends = |share| Scale::to_quantile([&values], share).high();
        assert_eq!((ends(0.0), ends(0.5), ends(0.75), ends(1.0)), (1.0, 3.0, 4.0, 100.0), "of 1, 2, 3, 4, 100");
        assert_eq!(Scale::to_quantile([&map(&[0.0, -1.0])], 0.5), Scale::new(0.0, 0.0));
    }

    #[test]
    fn signed_colours_are_grey_at_zero() {
        let (r, g, b) = (map(&[1.0, 0.0, 0.0]), map(&[-1.0, 0.0, f32::NAN]), map(&[0.0, 0.0, 0.0]));
        let shown = signed_image([&r, &g, &b], Scale::symmetric([&r, &g, &b]));
        assert_eq!(shown.pixels(), [[255, 0, 128], [128; 3], NON_FINITE]);
        // 49 times the reciprocal of 98 is less than a half.
        let uneven = map(&[49.0, 0.0]);
        assert_eq!(signed_image([&uneven; 3], Scale::symmetric([&uneven])).pixels()[1], [128; 3]);
        let nothing = map(&[0.0]);
        assert_eq!(signed_image([&nothing; 3], Scale::symmetric([&nothing])).pixels(), [[128; 3]]);
    }

    #[test]
    fn a_huge_scale_does_not_overflow() {
        let values = map(&[f32::MIN, 0.0, f32::MAX]);
        let painted = ColourMap::Grey.paint(&values, Scale::symmetric([&values]));
        assert_eq!(painted.pixels(), [[0; 3], [128; 3], [255; 3]]);
        assert_eq!(Scale::new(f32::NAN, f32::INFINITY), Scale::new(0.0, 0.0));
    }

    #[test]
    fn an_image_is_shown_as_it_is() {
        let shape = |channels| ImageShape { height: 1, width: 2, channels };
        assert_eq!(image(&[1, 2], shape(1)).pixels(), [[1; 3], [2; 3]]);
        assert_eq!(image(&[1, 2, 3, 4, 5, 6], shape(3)).pixels(), [[1, 2, 3], [4, 5, 6]]);
        assert_eq!(image(&[1, 2, 3, 4], shape(2)).pixels(), [[1; 3], [3; 3]]);
        assert_eq!(image(&[1], shape(1)).pixels(), [[1; 3], [0; 3]]);
    }

    #[test]
    fn an_overlay_shows_heat_where_there_is_heat() {
        let under = image(&[200; 4], ImageShape { height: 1, width: 4, channels: 1 });
        let heat = map(&[0.0, 1.0, 4.0, f32::NAN]);
        let over = overlay(&under, &heat, ColourMap::Grey, Scale::new(0.0, 4.0), 0.5);
        // A value of 1 of 4 has grey 64 and a weight of sqrt(1/4) / 2.
        assert_eq!(over.pixels(), [[200; 3], [166; 3], [228; 3], NON_FINITE]);
    }
}
