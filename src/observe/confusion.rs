//! The confusion matrix of the validation images, as pictures.

use super::card::{self, BODY, GREEN, GREY, INK, LINE, LINES, MARGIN, NOTE, PAPER, RIGHT, WIDTH};
use super::{Record, epoch_step};
use crate::evaluation;
use crate::eventlog::Value;
use crate::graph::grouped;
use crate::picture::Picture;
use crate::render::text::{Face, Style, fitted, width};
use crate::render::{Canvas, ColourMap, Rgb, Scale, blend, is_light};
use crate::train::{Moment, Observer};
use crate::types::{Run, Tag};

/// Start of the names of the true classes, to the right of the axis title.
const NAMES: u32 = MARGIN + 15;
/// Pixels of a class's name, at most.
const NAME: u32 = 78;
/// Pixels of a cell's side, at most: two classes need not fill the card.
const CELL: u32 = 90;
/// Mistakes listed below the matrix, at most.
const LISTED: usize = 5;
const LIST_LINE: u32 = 18;
const WRONG: ColourMap = ColourMap::Reds;
const DIAGONAL: ColourMap = ColourMap::Blues;
/// A cell in which there is nothing.
const EMPTY: Rgb = [245, 246, 247];
const SMALL: Style = Style { face: Face::Regular, size: 9, colour: GREY };

/// The confusion matrix of the validation images, under `errors/confusion` and, as shares of the true class, under
/// `errors/confusion_normalised`.
#[derive(Clone, Copy, Debug)]
pub struct Confusion;

impl Observer<Record> for Confusion {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let Some(predictions) = moment.predictions else { return };
        let confusion = evaluation::Confusion::of(predictions);
        let pictures = [
            (Shown::Counts, "errors/confusion", "Cells are counts of images."),
            (
                Shown::Shares,
                "errors/confusion_normalised",
                "Cells are percentages of the true class: rows add up to 100, the diagonal is the recall.",
            ),
        ];
        let values = pictures.map(|(shown, tag, what)| {
            let matrix = Matrix { confusion: &confusion, classes: &moment.dataset.classes, shown };
            Value::images(Tag::of(tag), vec![matrix.picture(moment.epoch)]).described(format!(
                "Confusion matrix of the validation images: true classes in rows, predicted ones in columns. {what} \
                 Misclassified images are red, on a colour scale of their own, so that correct predictions on the \
                 diagonal, blue, do not hide them; the most frequent confusions are listed below. Where cells are too \
                 small for names, classes are numbered from 0."
            ))
        });
        out.push(Run::Validation, epoch_step(moment.epoch), values.into());
    }
}

/// Content of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Counts,
    Shares,
}

struct Matrix<'a> {
    confusion: &'a evaluation::Confusion,
    classes: &'a [String],
    shown: Shown,
}

/// Position of the matrix.
struct Layout {
    /// The upper left corner of the first cell, in pixels.
    corner: (u32, u32),
    /// From cell to cell.
    pitch: (u32, u32),
    /// Between cells.
    gap: u32,
    /// Style of the class names, and true if those of columns run upwards; without names, every so many
    /// classes have their number.
    names: Option<(Style, bool)>,
}

impl Matrix<'_> {
    fn picture(&self, epoch: u64) -> Picture {
        let layout = self.layout();
        let mistakes = self.mistakes();
        let (_, bottom) = layout.cell(self.confusion.classes(), 0);
        let list = bottom + 12;
        let lines = mistakes.len().clamp(1, LISTED) as u32;
        let title = match self.shown {
            Shown::Counts => "Confusion matrix",
            Shown::Shares => "Confusion matrix, % of class",
        };
        let mut canvas = card::card(list + lines * LIST_LINE + MARGIN, MARGIN, title, &card::moment(epoch));
        let (samples, wrong) =
            (self.confusion.samples(), self.confusion.samples().saturating_sub(self.confusion.right()));
        let share = if samples > 0 { wrong as f64 / samples as f64 * 100.0 } else { 0.0 };
        let note = format!(
            "{} of {} misclassified ({share:.2} %)",
            grouped(wrong as usize),
            card::counted(samples as usize, "image")
        );
        card::line(&mut canvas, MARGIN, LINES[1], RIGHT, &note, NOTE);

        let cells = self.cells();
        let largest = |diagonal: bool| {
            let some = cells.iter().filter(|cell| (cell.label == cell.predicted) == diagonal);
            Scale::new(0.0, some.map(|cell| cell.value).fold(0.0, f32::max))
        };
        let (wrong, right) = (largest(false), largest(true));
        self.legend(&mut canvas, wrong, right);
        self.axes(&mut canvas, &layout);
        self.draw_cells(&mut canvas, &layout, &cells, wrong, right);
        self.list(&mut canvas, list, &mistakes);
        canvas.into_picture()
    }

    fn layout(&self) -> Layout {
        let count = u32::try_from(self.confusion.classes()).unwrap_or(u32::MAX).max(1);
        let top = LINES[2] + 22;
        let styles = [10, 9].map(|size| Style { face: Face::Regular, size, colour: INK });
        for style in styles {
            let widest = self.names().map(|name| width(&name, style)).max().unwrap_or(0).min(NAME);
            let left = NAMES + widest + 5;
            let across = ((RIGHT - left) / count).min(CELL);
            if across >= u32::from(style.size) + 2 {
                // Lower than wide, but not below what two lines of names need.
                let down = across.min((200 / count).max(24));
                let up = widest + 4 > across;
                let header = if up { widest + 4 } else { 14 };
                return Layout {
                    corner: (left, top + header),
                    pitch: (across, down),
                    gap: 1,
                    names: Some((style, up)),
                };
            }
        }
        let left = NAMES + width(&count.to_string(), SMALL) + 5;
        let side = ((RIGHT - left) / count).max(1);
        Layout { corner: (left, top + 14), pitch: (side, side), gap: u32::from(side >= 6), names: None }
    }

    fn names(&self) -> impl Iterator<Item = String> {
        (0..self.confusion.classes()).map(|class| card::class_name(self.classes, class))
    }

    fn cells(&self) -> Vec<Cell> {
        let classes = self.confusion.classes();
        let each = (0..classes).flat_map(|label| (0..classes).map(move |predicted| (label, predicted)));
        each.map(|(label, predicted)| {
            let value = match self.shown {
                Shown::Counts => self.confusion.count(label, predicted) as f32,
                Shown::Shares => self.confusion.share(label, predicted).unwrap_or(0.0) as f32 * 100.0,
            };
            Cell { label, predicted, value }
        })
        .collect()
    }

    fn text(&self, value: f32) -> String {
        match self.shown {
            Shown::Counts => format!("{value:.0}"),
            Shown::Shares => percentage(value.into()),
        }
    }

    /// Meaning of a scale, and its ends.
    fn legend(&self, canvas: &mut Canvas, wrong: Scale, right: Scale) {
        const SIZE: (u32, u32) = (48, 8);
        let end = |scale: Scale| match self.shown {
            Shown::Counts => grouped(scale.high() as usize),
            Shown::Shares => format!("{} %", percentage(scale.high().into())),
        };
        let mut x = MARGIN;
        for (name, colours, scale) in [("wrong 0", WRONG, wrong), ("right 0", DIAGONAL, right)] {
            x = canvas.text(x, LINES[2], name, NOTE) + 5;
            let corner = (x, LINES[2] - SIZE.1);
            canvas.frame(corner, SIZE, LINE);
            canvas.bar(corner, SIZE, colours);
            x = canvas.text(x + SIZE.0 + 5, LINES[2], &end(scale), NOTE) + 14;
        }
    }

    fn axes(&self, canvas: &mut Canvas, layout: &Layout) {
        let classes = self.confusion.classes();
        let (left, top) = layout.corner;
        let (right, bottom) = layout.cell(classes, classes);
        canvas.text_centred((left + right) / 2, LINES[2] + 17, "predicted class", NOTE);
        let heading = width("true class", NOTE);
        canvas.text_up(MARGIN + 9, ((top + bottom + heading) / 2).min(bottom.max(top + heading)), "true class", NOTE);
        let step = tick_step(classes);
        for (class, name) in self.names().enumerate() {
            let (x, y) = layout.cell(class, class);
            let (middle, centre) = (x + layout.pitch.0 / 2, y + layout.pitch.1 / 2);
            match layout.names {
                Some((style, up)) => {
                    let name = fitted(&name, style, NAME);
                    let half = u32::from(style.size) * 3 / 8;
                    canvas.text_right(left - 4, centre + half, &name, style);
                    if up {
                        canvas.text_up(middle + half, top - 3, &name, style);
                    } else {
                        canvas.text_centred(middle, top - 4, &name, style);
                    }
                }
                None if class % step == 0 => {
                    canvas.text_right(left - 5, centre + 3, &class.to_string(), SMALL);
                    canvas.fill((left - 3, centre), (2, 1), GREY);
                    canvas.text_centred(middle, top - 5, &class.to_string(), SMALL);
                    canvas.fill((middle, top - 3), (1, 2), GREY);
                }
                None => {}
            }
        }
    }

    fn draw_cells(&self, canvas: &mut Canvas, layout: &Layout, cells: &[Cell], wrong: Scale, right: Scale) {
        let (wide, high) = (layout.pitch.0 - layout.gap, layout.pitch.1 - layout.gap);
        let style = |diagonal: bool| {
            let fits = |style: &Style| {
                let some = cells.iter().filter(|cell| (cell.label == cell.predicted) == diagonal);
                u32::from(style.size) <= high
                    && some.map(|cell| width(&self.text(cell.value), *style)).max() < Some(wide.saturating_sub(1))
            };
            let face = if diagonal { Face::Regular } else { Face::Bold };
            [11, 10, 9, 8].map(|size| Style { face, size, colour: INK }).into_iter().find(fits)
        };
        let styles = [style(false), style(true)];
        for cell in cells {
            let (x, y) = layout.cell(cell.label, cell.predicted);
            let diagonal = cell.label == cell.predicted;
            let background = match (cell.value > 0.0, diagonal) {
                (false, _) => EMPTY,
                (true, true) => DIAGONAL.colour(cell.value, right),
                (true, false) => WRONG.colour(cell.value, wrong),
            };
            canvas.fill((x, y), (wide, high), background);
            if let Some(style) = styles[usize::from(diagonal)].filter(|_| cell.value > 0.0) {
                let colour = if is_light(background) { INK } else { PAPER };
                let baseline = y + high / 2 + (u32::from(style.size) * 3 / 8);
                let text = self.text(cell.value);
                canvas.text_centred(x + wide / 2 + 1, baseline, &text, Style { colour, ..style });
            }
        }
    }

    /// The mistakes, the ones first that have the largest cells.
    fn mistakes(&self) -> Vec<evaluation::Mistake> {
        let mut mistakes = self.confusion.mistakes();
        if self.shown == Shown::Shares {
            // Stable, so that equal shares stay in the order of their counts.
            mistakes.sort_by(|a, b| self.share(b).total_cmp(&self.share(a)));
        }
        mistakes
    }

    fn share(&self, mistake: &evaluation::Mistake) -> f64 {
        self.confusion.share(mistake.label, mistake.predicted).unwrap_or(0.0)
    }

    /// Each over a bar as long as its share of the longest.
    fn list(&self, canvas: &mut Canvas, y: u32, mistakes: &[evaluation::Mistake]) {
        let across = WIDTH - 2 * MARGIN;
        let Some(longest) = mistakes.first() else {
            let text = if self.confusion.samples() == 0 { "no images" } else { "✓ no misclassified image" };
            canvas.text(MARGIN, y + 12, text, Style { colour: GREEN, ..BODY });
            return;
        };
        for (index, mistake) in mistakes.iter().take(LISTED).enumerate() {
            let y = y + index as u32 * LIST_LINE;
            let part = match self.shown {
                Shown::Counts => mistake.count as f64 / longest.count.max(1) as f64,
                Shown::Shares => self.share(mistake) / self.share(longest).max(f64::MIN_POSITIVE),
            };
            let length = (f64::from(across) * part).round().max(1.0) as u32;
            canvas.fill((MARGIN, y), (length, LIST_LINE - 2), blend(PAPER, WRONG.at(0.4), 0.35));
            let support = self.confusion.support(mistake.label);
            let amount = match self.shown {
                Shown::Counts => format!("{} of {}", grouped(mistake.count as usize), grouped(support as usize)),
                Shown::Shares => format!("{} %", percentage(self.share(mistake) * 100.0)),
            };
            canvas.text_right(RIGHT - 4, y + 12, &amount, BODY);
            let end = RIGHT - 4 - width(&amount, BODY) - MARGIN;
            let name = |class| card::class_name(self.classes, class);
            let text = format!("{} predicted as {}", name(mistake.label), name(mistake.predicted));
            card::line(canvas, MARGIN + 4, y + 12, end, &text, BODY);
        }
    }
}

struct Cell {
    label: usize,
    predicted: usize,
    value: f32,
}

impl Layout {
    /// The upper left corner of a cell, in pixels.
    fn cell(&self, label: usize, predicted: usize) -> (u32, u32) {
        (self.corner.0 + predicted as u32 * self.pitch.0, self.corner.1 + label as u32 * self.pitch.1)
    }
}

/// One digit behind the point, and no small share that reads as none.
fn percentage(percent: f64) -> String {
    match percent {
        p if p > 0.0 && p < 0.05 => "<0.1".to_owned(),
        p if p > 99.95 => format!("{p:.0}"),
        p => format!("{p:.1}"),
    }
}

/// Between classes whose number stands at an axis: at most some ten.
fn tick_step(classes: usize) -> usize {
    [1, 2, 5, 10, 20, 50, 100].into_iter().find(|step| classes / step <= 12).unwrap_or(1000)
}
