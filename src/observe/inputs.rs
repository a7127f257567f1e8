//! The training images with their classes, as the network gets them.

use super::Record;
use super::card::{self, BODY, LINE, LINES, MARGIN, NOTE, RIGHT};
use crate::data::Dataset;
use crate::eventlog::Value;
use crate::picture::Picture;
use crate::render::text::{fitted, width};
use crate::render::{self, Zoom};
use crate::train::{Moment, Observer};
use crate::types::{Run, Step, Tag};

/// Classes shown at most.
const CLASSES: usize = 10;
/// Pixels of the longer side of an image, at most.
const TILE: u32 = 64;
const GAP: u32 = 2;
/// Pixels of a class's name, at most.
const NAME: u32 = 90;

/// Once, at the start: a row of training images for each class, under `inputs/image`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs;

impl Observer<Record> for Inputs {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        out.push(Run::Train, Step::ZERO, vec![value(moment.dataset)]);
    }
}

fn value(dataset: &Dataset) -> Value {
    Value::images(Tag::of("inputs/image"), vec![contact_sheet(dataset)])
        .described("Training images as the network gets them: the first few of each class, in the data set's order.")
}

fn contact_sheet(dataset: &Dataset) -> Picture {
    let split = &dataset.train;
    let shape = split.shape();
    let zoom = Zoom::fitting(shape.height, shape.width, TILE);
    let (tile_width, tile_height) = (zoom.apply(shape.width), zoom.apply(shape.height));

    let shown = dataset.classes.len().min(CLASSES);
    let widest = dataset.classes.iter().take(shown).map(|name| width(name, BODY)).max().unwrap_or(0);
    let left = MARGIN + widest.min(NAME) + MARGIN;
    let columns = ((RIGHT - left + GAP) / (tile_width + GAP)).max(1);
    // Remaining width is spread over the gaps between columns, so that they end with the title.
    let gap = ((RIGHT - left).saturating_sub(columns * tile_width) / columns.saturating_sub(1).max(1)).clamp(GAP, 8);
    let columns = columns as usize;
    let rows = rows_by_class(split.labels(), shown, columns);

    let top = LINES[1] + 10;
    let height = top + shown as u32 * (tile_height + GAP) + MARGIN - GAP;
    let mut canvas = card::card(height, MARGIN, "Training images", &dataset.name);
    let mut note = format!("{} of {shape}", card::counted(split.len(), "image"));
    if shown < dataset.classes.len() {
        note += &format!(", the first {shown} of {} classes", dataset.classes.len());
    }
    card::line(&mut canvas, MARGIN, LINES[1], RIGHT, &note, NOTE);

    for (row, (indices, name)) in rows.iter().zip(&dataset.classes).enumerate() {
        let y = top + row as u32 * (tile_height + GAP);
        let baseline = y + tile_height / 2 + 4;
        canvas.text_right(left - MARGIN, baseline, &fitted(name, BODY, NAME), BODY);
        for (column, &index) in indices.iter().enumerate() {
            let x = left + column as u32 * (tile_width + gap);
            canvas.place((x, y), &render::image(split.image(index), shape), zoom);
        }
        if indices.is_empty() {
            canvas.fill((left, y + tile_height / 2), (tile_width, 1), LINE);
        }
    }
    canvas.into_picture()
}

/// The first `columns` positions of each class.
fn rows_by_class(labels: &[u16], classes: usize, columns: usize) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); classes];
    let mut missing = classes * columns;
    for (index, &label) in labels.iter().enumerate() {
        if missing == 0 {
            break;
        }
        if let Some(row) = rows.get_mut(usize::from(label)).filter(|row| row.len() < columns) {
            row.push(index);
            missing -= 1;
        }
    }
    rows
}
