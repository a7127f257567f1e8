//! Canvas for pictures composed of boxes, enlarged pictures, text and the scale of a colour map.

use std::ops::Range;

use super::colour::{ColourMap, Rgb, blend};
use super::grid::Zoom;
use super::text::{self, Style};
use crate::picture::Picture;

/// A picture to draw on. Anything outside it is clipped.
#[derive(Clone, Debug)]
pub struct Canvas {
    picture: Picture,
}

impl Canvas {
    pub fn new(width: u32, height: u32, background: Rgb) -> Canvas {
        Canvas { picture: Picture::filled(width, height, background) }
    }

    pub fn width(&self) -> u32 {
        self.picture.width()
    }

    pub fn height(&self) -> u32 {
        self.picture.height()
    }

    pub fn into_picture(self) -> Picture {
        self.picture
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, (x, y): (u32, u32), (width, height): (u32, u32), colour: Rgb) {
        for y in y..y.saturating_add(height).min(self.height()) {
            self.picture.row_mut(y, x..x.saturating_add(width)).fill(colour);
        }
    }

    /// Blends a colour into a pixel, `alpha` from 0 to 1.
    pub(super) fn cover(&mut self, x: i32, y: i32, colour: Rgb, alpha: f32) {
        if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
            && let Some(under) = self.picture.get(x, y)
        {
            self.picture.set(x, y, blend(under, colour, alpha));
        }
    }

    /// Draws a line of one pixel around a rectangle, just outside it.
    pub fn frame(&mut self, (x, y): (u32, u32), (width, height): (u32, u32), colour: Rgb) {
        let (left, top) = (x.saturating_sub(1), y.saturating_sub(1));
        let (right, bottom) = (x.saturating_add(width), y.saturating_add(height));
        let (across, down) = ((right - left).saturating_add(1), (bottom - top).saturating_add(1));
        self.fill((left, top), (across, 1), colour);
        self.fill((left, bottom), (across, 1), colour);
        self.fill((left, top), (1, down), colour);
        self.fill((right, top), (1, down), colour);
    }

    /// Draws a picture with its upper left corner at (`x`, `y`).
    pub fn place(&mut self, (x, y): (u32, u32), picture: &Picture, zoom: Zoom) {
        match zoom {
            Zoom::In(factor) => {
                let end = x.saturating_add(picture.width().saturating_mul(factor));
                for (row, pixels) in (0..).zip(picture.pixels().chunks_exact(picture.width() as usize)) {
                    let top = y.saturating_add(factor.saturating_mul(row));
                    if factor == 0 || top >= self.height() {
                        break;
                    }
                    let enlarged = self.picture.row_mut(top, x..end).chunks_mut(factor as usize);
                    enlarged.zip(pixels).for_each(|(pixels, &colour)| pixels.fill(colour));
                    for below in top + 1..top.saturating_add(factor).min(self.height()) {
                        self.picture.copy_row(top, below, x..end);
                    }
                }
            }
            Zoom::Out { from, to } => {
                let columns = zoom.apply(picture.width() as usize).min(picture.width());
                for row in 0..zoom.apply(picture.height() as usize).min(picture.height()) {
                    for column in 0..columns {
                        let mean = mean(picture, covered(column, from, to), covered(row, from, to));
                        self.picture.set(x.saturating_add(column), y.saturating_add(row), mean);
                    }
                }
            }
        }
    }

    /// Draws text that starts at `x`, and returns the position of its end.
    pub fn text(&mut self, x: u32, baseline: u32, text: &str, style: Style) -> u32 {
        text::draw(&mut self.picture, text, style, signed(x), signed(baseline));
        x.saturating_add(text::width(text, style))
    }

    /// Draws text that ends at `x`.
    pub fn text_right(&mut self, x: u32, baseline: u32, text: &str, style: Style) {
        let start = signed(x).saturating_sub(signed(text::width(text, style)));
        text::draw(&mut self.picture, text, style, start, signed(baseline));
    }

    /// Draws text with its middle at `x`.
    pub fn text_centred(&mut self, x: u32, baseline: u32, text: &str, style: Style) {
        let start = signed(x).saturating_sub(signed(text::width(text, style)) / 2);
        text::draw(&mut self.picture, text, style, start, signed(baseline));
    }

    /// Draws text with its middle at `x` and an outline in another colour, readable on any background.
    pub fn text_edged(&mut self, x: u32, baseline: u32, text: &str, style: Style, edge: Rgb) {
        let start = signed(x).saturating_sub(signed(text::width(text, style)) / 2);
        let under = Style { colour: edge, ..style };
        for (dx, dy) in
            (-2..=2).flat_map(|dx| (-2..=2).map(move |dy| (dx, dy))).filter(|(dx, dy)| dx * dx + dy * dy < 6)
        {
            text::draw(&mut self.picture, text, under, start.saturating_add(dx), signed(baseline).saturating_add(dy));
        }
        text::draw(&mut self.picture, text, style, start, signed(baseline));
    }

    /// Draws text from the bottom to the top. It starts at `y`, and its baseline is the vertical at `baseline`.
    pub fn text_up(&mut self, baseline: u32, y: u32, text: &str, style: Style) {
        text::draw_up(&mut self.picture, text, style, signed(baseline), signed(y));
    }

    /// Draws the colours of a map from low, at the left, to high.
    pub fn bar(&mut self, (x, y): (u32, u32), (width, height): (u32, u32), colours: ColourMap) {
        for column in 0..width {
            let place = f64::from(column) / f64::from(width.max(2) - 1);
            self.fill((x.saturating_add(column), y), (1, height), colours.at(place));
        }
    }

    /// Draws the colours of a map from low, at the bottom, to high.
    pub fn bar_upright(&mut self, (x, y): (u32, u32), (width, height): (u32, u32), colours: ColourMap) {
        for row in 0..height {
            let place = 1.0 - f64::from(row) / f64::from(height.max(2) - 1);
            self.fill((x, y.saturating_add(row)), (width, 1), colours.at(place));
        }
    }
}

/// Formats a number with two or three significant digits, at most seven characters with the sign.
pub fn number(value: f32) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => value.to_string(),
        0.0 => "0".to_owned(),
        _ if !(0.001..1e5).contains(&size) => format!("{value:.1e}"),
        _ => {
            let before = size.log10().floor() as i32;
            format!("{value:.*}", (2 - before).clamp(0, 4) as usize)
        }
    }
}

/// Source pixels of pixel number `index` when `from` pixels become `to`; at least one.
fn covered(index: u32, from: u32, to: u32) -> Range<u32> {
    let at = |index: u64| (index * u64::from(from)).checked_div(u64::from(to)).unwrap_or(0);
    let (start, end) = (at(u64::from(index)), at(u64::from(index) + 1));
    let pixel = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
    pixel(start)..pixel(end.max(start + 1))
}

/// Mean colour of a rectangle, clipped at the picture's edge.
fn mean(picture: &Picture, columns: Range<u32>, rows: Range<u32>) -> Rgb {
    let mut sum = [0_u64; 3];
    let mut count = 0;
    for y in rows.start..rows.end.min(picture.height()) {
        for x in columns.start..columns.end.min(picture.width()) {
            if let Some(pixel) = picture.get(x, y) {
                count += 1;
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += u64::from(value);
                }
            }
        }
    }
    sum.map(|sum| (sum + count / 2).checked_div(count).unwrap_or(0) as u8)
}

fn signed(place: u32) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Rgb = [255; 3];
    const INK: Rgb = [0; 3];

    fn two_by_one() -> Picture {
        let mut picture = Picture::filled(2, 1, [10; 3]);
        picture.set(1, 0, [20; 3]);
        picture
    }

    #[test]
    fn enlarging_repeats_pixels() {
        let mut canvas = Canvas::new(6, 3, WHITE);
        canvas.place((1, 1), &two_by_one(), Zoom::In(2));
        let rows: Vec<Vec<u8>> =
            canvas.into_picture().pixels().chunks(6).map(|row| row.iter().map(|p| p[0]).collect()).collect();
        assert_eq!(rows, [[255; 6], [255, 10, 10, 20, 20, 255], [255, 10, 10, 20, 20, 255]]);
    }

    #[test]
    fn an_enlarged_picture_ends_at_the_edge_and_one_of_no_size_is_nothing() {
        let mut canvas = Canvas::new(4, 2, WHITE);
        canvas.place((0, 0), &two_by_one(), Zoom::In(3));
        canvas.place((0, 0), &two_by_one(), Zoom::In(0));
        canvas.place((4, 0), &two_by_one(), Zoom::In(u32::MAX));
        let rows: Vec<Vec<u8>> =
            canvas.into_picture().pixels().chunks(4).map(|row| row.iter().map(|p| p[0]).collect()).collect();
        assert_eq!(rows, [[10, 10, 10, 20]; 2]);
    }

    #[test]
    fn reducing_takes_means() {
        let mut canvas = Canvas::new(1, 1, WHITE);
        canvas.place((0, 0), &two_by_one(), Zoom::Out { from: 2, to: 1 });
        assert_eq!(canvas.into_picture().get(0, 0), Some([15; 3]));
    }

    #[test]
    fn everything_is_clipped() {
        let mut canvas = Canvas::new(4, 4, WHITE);
        let far = (u32::MAX, u32::MAX);
        let style = Style { face: text::Face::Bold, size: 11, colour: INK };
        for corner in [far, (3, 3)] {
            canvas.fill(corner, far, INK);
            canvas.frame(corner, (9, 9), INK);
            canvas.place(corner, &two_by_one(), Zoom::In(3));
            canvas.place(corner, &two_by_one(), Zoom::In(u32::MAX));
            canvas.place(corner, &two_by_one(), Zoom::Out { from: 2, to: 1 });
            canvas.bar(corner, (5, 5), ColourMap::Grey);
            canvas.bar_upright(corner, (5, 5), ColourMap::Grey);
            canvas.text(corner.0, corner.1, "text", style);
            canvas.text_right(corner.0, corner.1, "text", style);
            canvas.text_centred(corner.0, corner.1, "text", style);
            canvas.text_edged(corner.0, corner.1, "text", style, INK);
            canvas.text_up(corner.0, corner.1, "text", style);
            if corner == far {
                assert_eq!(canvas.picture, Picture::filled(4, 4, WHITE));
            }
        }
    }

    #[test]
    fn a_frame_lies_outside_its_box() {
        let mut canvas = Canvas::new(4, 4, WHITE);
        canvas.frame((1, 1), (2, 2), INK);
        let picture = canvas.into_picture();
        let inner = [(1, 1), (2, 1), (1, 2), (2, 2)];
        for (x, y) in (0..4).flat_map(|y| (0..4).map(move |x| (x, y))) {
            assert_eq!(picture.get(x, y) == Some(WHITE), inner.contains(&(x, y)), "{x}, {y}");
        }
    }

    #[test]
    fn a_bar_runs_from_low_to_high() {
        let mut canvas = Canvas::new(5, 5, WHITE);
        canvas.bar((0, 0), (5, 1), ColourMap::Grey);
        canvas.bar_upright((0, 1), (1, 4), ColourMap::Grey);
        let picture = canvas.into_picture();
        assert_eq!((picture.get(0, 0), picture.get(4, 0)), (Some([0; 3]), Some([255; 3])));
        assert_eq!((picture.get(0, 1), picture.get(0, 4)), (Some([255; 3]), Some([0; 3])));
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (1.0, "1.00"),
            (-0.25, "-0.250"),
            (12.34, "12.3"),
            (123.4, "123"),
            (0.012345, "0.0123"),
            (0.00302, "0.0030"),
            (0.00042, "4.2e-4"),
            (1e-9, "1.0e-9"),
            (3e38, "3.0e38"),
            (f32::NAN, "NaN"),
            (f32::NEG_INFINITY, "-inf"),
        ];
        for (value, want) in cases {
            assert_eq!(number(value), want);
        }
    }
}
