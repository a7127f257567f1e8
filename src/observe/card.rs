//! The common look of all pictures: white cards as wide as TensorBoard shows them, with a title and a scale.
//!
//! The Images tab shows every picture 348 pixels wide and scales others without smoothing, which tears text apart. Cards
//! have that width, so that what is drawn is what is seen.

use crate::graph::grouped;
use crate::picture::Picture;
use crate::render::text::{Face, Style, fitted};
use crate::render::{Canvas, ColourMap, NON_FINITE, Rgb, Scale, Zoom, number};

/// Of every card, in pixels.
pub const WIDTH: u32 = 348;
/// Left free at the edges.
pub const MARGIN: u32 = 8;
/// Start of the right margin.
pub const RIGHT: u32 = WIDTH - MARGIN;

pub const PAPER: Rgb = [255, 255, 255];
pub const INK: Rgb = [32, 33, 36];
pub const GREY: Rgb = [95, 99, 104];
pub const LINE: Rgb = [218, 220, 224];
pub const RED: Rgb = [197, 34, 31];
pub const GREEN: Rgb = [19, 115, 51];

pub const TITLE: Style = Style { face: Face::Bold, size: 15, colour: INK };
pub const STRONG: Style = Style { face: Face::Bold, size: 11, colour: INK };
pub const BODY: Style = Style { face: Face::Regular, size: 11, colour: INK };
pub const NOTE: Style = Style { face: Face::Regular, size: 11, colour: GREY };

/// The baselines of the title and of the lines below it.
pub const LINES: [u32; 3] = [21, 39, 55];

/// Epoch of a picture. The console counts epochs from 1; the step in TensorBoard, as in Keras, from 0.
pub fn moment(epoch: u64) -> String {
    format!("after epoch {}", epoch + 1)
}

/// An empty card with its title, and on the same line, at the right, when the picture was taken.
pub fn card(height: u32, left: u32, title: &str, when: &str) -> Canvas {
    let mut canvas = Canvas::new(WIDTH, height, PAPER);
    let end = RIGHT.saturating_sub(crate::render::text::width(when, NOTE) + MARGIN);
    canvas.text(left, LINES[0], &fitted(title, TITLE, end.saturating_sub(left)), TITLE);
    canvas.text_right(RIGHT, LINES[0], when, NOTE);
    canvas
}

/// A line of text that ends, with an ellipsis if need be, at `end`. Returns where it ends.
pub fn line(canvas: &mut Canvas, left: u32, baseline: u32, end: u32, text: &str, style: Style) -> u32 {
    canvas.text(left, baseline, &fitted(text, style, end.saturating_sub(left)), style)
}

/// Meaning of the colours of a card.
#[derive(Clone, Copy, Debug)]
pub struct Legend {
    pub colours: ColourMap,
    pub scale: Scale,
    /// The largest value, where the scale ends below it.
    pub beyond: Option<f32>,
    /// Values that are infinite or NaN.
    pub non_finite: usize,
}

impl Legend {
    /// A horizontal scale with its two ends, and the colour of NaN where there are any. `baseline` is the text's.
    pub fn draw(&self, canvas: &mut Canvas, left: u32, baseline: u32) {
        const SIZE: (u32, u32) = (72, 8);
        let x = canvas.text(left, baseline, &number(self.scale.low()), NOTE) + 5;
        let corner = (x, baseline.saturating_sub(SIZE.1));
        canvas.frame(corner, SIZE, LINE);
        canvas.bar(corner, SIZE, self.colours);
        let high = number(self.scale.high());
        let high = match self.beyond {
            Some(max) if self.non_finite == 0 => format!("{high} (max {})", number(max)),
            _ => high,
        };
        let x = canvas.text(x + SIZE.0 + 5, baseline, &high, NOTE) + 12;
        if self.non_finite > 0 {
            canvas.fill((x, corner.1), (SIZE.1, SIZE.1), NON_FINITE);
            line(canvas, x + SIZE.1 + 4, baseline, RIGHT, &format!("not finite: {}", self.non_finite), NOTE);
        }
    }
}

/// A picture with a thin line around it.
pub fn framed(canvas: &mut Canvas, corner: (u32, u32), picture: &Picture, zoom: Zoom) {
    canvas.place(corner, picture, zoom);
    let side = |pixels: u32| zoom.apply(pixels as usize);
    canvas.frame(corner, (side(picture.width()), side(picture.height())), LINE);
}

/// `1 filter`, `2 filters`, `60,000 images`.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{} {noun}s", grouped(count)) }
}

/// `64 channels`, or `64 of 512 channels` when not all are shown.
pub fn shown_of(shown: usize, count: usize, noun: &str) -> String {
    if shown < count { format!("{shown} of {}", counted(count, noun)) } else { counted(count, noun) }
}

/// A class's name, or its number if it has none.
pub fn class_name(classes: &[String], class: usize) -> String {
    classes.get(class).cloned().unwrap_or_else(|| class.to_string())
}
