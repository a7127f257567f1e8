//! The misclassified validation images of the highest confidence, with Grad-CAM.

use super::card::{self, BODY, GREEN, GREY, INK, LINES, MARGIN, NOTE, RED, RIGHT, STRONG};
use super::heat::{self, Heat};
use super::{Record, epoch_step};
use crate::data::images_nchw;
use crate::evaluation::{self, Predictions};
use crate::eventlog::Value;
use crate::explain::{self, Content};
use crate::graph::grouped;
use crate::picture::Picture;
use crate::render::text::{Face, Style, fitted, width};
use crate::render::{self, Canvas, Map, Rgb, Zoom};
use crate::train::{Moment, Observer};
use crate::types::{Percent, Run, Tag};

/// Errors shown at most: each costs a row of 64 pixels, and two explanations.
const SHOWN: usize = 8;
/// Pixels of the longer side of an image, at most: three of them and the words fit a card.
const TILE: u32 = 64;
const GAP: u32 = 5;
/// Behind the words for a predicted class and for a true one.
const WRONG_BAR: Rgb = [246, 199, 195];
const TRUE_BAR: Rgb = [168, 218, 181];
const BAR_HEIGHT: u32 = 16;
const SMALL: Style = Style { face: Face::Regular, size: 9, colour: GREY };

/// A row for each of the most confident errors among the validation images, under `errors/most_confident`: the image, and
/// Grad-CAM of the last convolution for the predicted and for the true class over it.
#[derive(Clone, Copy, Debug)]
pub struct Errors;

impl Observer<Record> for Errors {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let Some(predictions) = moment.predictions else { return };
        let errors = evaluation::Errors::of(predictions, SHOWN);
        let picture = Gallery::new(moment, predictions, &errors).picture(moment.epoch);
        let value = Value::images(Tag::of("errors/most_confident"), vec![picture]).described(
            "Misclassified validation images, those of the highest confidence first: label errors, outliers, or classes \
             that the network does not separate. From left to right the image, and Grad-CAM (Selvaraju et al. 2017) of \
             the last convolution for the predicted and for the true class over it, from blue, low, to red, high, both \
             on one scale; a map without evidence, or with the same everywhere, has no colours and says so. A network \
             without convolutions has the image alone. Bars show the probability; the number is the image's index in \
             the validation set, from 0.",
        );
        out.push(Run::Validation, epoch_step(moment.epoch), vec![value]);
    }
}

struct Gallery<'a> {
    moment: &'a Moment<'a>,
    predictions: &'a Predictions,
    errors: &'a evaluation::Errors,
    /// For each error a map for the predicted class and one for the true class; none without convolutions.
    maps: Vec<[Map; 2]>,
}

impl<'a> Gallery<'a> {
    fn new(moment: &'a Moment<'a>, predictions: &'a Predictions, errors: &'a evaluation::Errors) -> Gallery<'a> {
        let maps = maps(moment, predictions, &errors.ranked);
        Gallery { moment, predictions, errors, maps }
    }

    fn picture(&self, epoch: u64) -> Picture {
        let shape = self.moment.dataset.validation.shape();
        let zoom = Zoom::fitting(shape.height, shape.width, TILE);
        let (wide, high) = (zoom.apply(shape.width), zoom.apply(shape.height));
        let pitch = high.max(3 * BAR_HEIGHT + 2) + 2 * GAP;
        let top = LINES[2] + 8;
        let rows = self.errors.ranked.len() as u32;
        let height = if rows == 0 { 120 } else { top + rows * pitch };
        let mut canvas = card::card(height, MARGIN, "Most confident errors", &card::moment(epoch));
        let mut note = format!("{} of {} misclassified", grouped(self.errors.count), self.images());
        if self.errors.not_finite > 0 {
            note += &format!("; not finite: {}", self.errors.not_finite);
        }
        card::line(&mut canvas, MARGIN, LINES[1], RIGHT, &note, NOTE);
        if rows == 0 {
            self.nothing(&mut canvas);
            return canvas.into_picture();
        }
        let words = self.columns(&mut canvas, wide);
        for (row, &sample) in self.errors.ranked.iter().enumerate() {
            let y = top + row as u32 * pitch;
            let input = render::image(self.moment.dataset.validation.image(sample), shape);
            card::framed(&mut canvas, (MARGIN, y), &input, zoom);
            let maps = self.maps.get(row);
            let heat = Heat::of(maps.into_iter().flatten());
            for (column, map) in (1..).zip(maps.into_iter().flatten()) {
                let corner = (MARGIN + column * (wide + GAP), y);
                card::framed(&mut canvas, corner, &heat.over(map, &input, zoom), Zoom::In(1));
                heat::remark(&mut canvas, corner, (wide, high), Content::of(map));
            }
            self.words(&mut canvas, (words, y + high.saturating_sub(3 * BAR_HEIGHT) / 2), sample);
        }
        canvas.into_picture()
    }

    fn images(&self) -> String {
        card::counted(self.predictions.len(), "image")
    }

    /// Writes what stands in the columns and says where the words start.
    fn columns(&self, canvas: &mut Canvas, wide: u32) -> u32 {
        let headings: &[&str] = if self.maps.is_empty() { &["image"] } else { &["image", "predicted", "true"] };
        let mut x = MARGIN;
        for heading in headings {
            canvas.text_centred(x + wide / 2, LINES[2], &fitted(heading, SMALL, wide + GAP), SMALL);
            x += wide + GAP;
        }
        x + GAP
    }

    /// Prediction, label and number of the image.
    fn words(&self, canvas: &mut Canvas, (x, y): (u32, u32), sample: usize) {
        let (predicted, label) = (self.predictions.predicted(sample), self.predictions.label(sample));
        let lines = [(predicted, "✗", WRONG_BAR, STRONG), (label, "true", TRUE_BAR, BODY)];
        for (line, (class, role, colour, style)) in lines.into_iter().enumerate() {
            let y = y + line as u32 * (BAR_HEIGHT + 1);
            let probability = self.predictions.probabilities(sample).get(class).copied().unwrap_or(0.0);
            let share = if probability.is_finite() { probability.clamp(0.0, 1.0) } else { 0.0 };
            let length = ((RIGHT - x) as f32 * share).round().max(1.0) as u32;
            canvas.fill((x, y), (length, BAR_HEIGHT - 1), colour);
            let percent = Percent(probability).to_string();
            canvas.text_right(RIGHT - 2, y + 12, &percent, BODY);
            let name = card::class_name(&self.moment.dataset.classes, class);
            let end = RIGHT - 2 - width(&percent, BODY) - GAP;
            card::line(canvas, x + 3, y + 12, end, &format!("{role} {name}"), style);
        }
        canvas.text(x + 3, y + 2 * (BAR_HEIGHT + 1) + 11, &format!("image {}", grouped(sample)), SMALL);
    }

    /// In the place of the rows.
    fn nothing(&self, canvas: &mut Canvas) {
        let (text, below, colour) = match (self.errors.not_finite, self.predictions.is_empty()) {
            (1.., _) => ("✗ nothing can be said", "the network's probabilities are not finite".to_owned(), RED),
            (0, true) => ("no images", "there is nothing to get wrong".to_owned(), INK),
            (0, false) => ("✓ no errors", format!("all of {} predicted correctly", self.images()), GREEN),
        };
        let middle = card::WIDTH / 2;
        canvas.text_centred(middle, 78, text, Style { face: Face::Bold, size: 15, colour });
        canvas.text_centred(middle, 97, &below, NOTE);
    }
}

/// Grad-CAM of the last convolution, for the predicted class and for the true one.
fn maps(moment: &Moment<'_>, predictions: &Predictions, samples: &[usize]) -> Vec<[Map; 2]> {
    let (network, split) = (moment.network, &moment.dataset.validation);
    let Some(node) = network.taps().last_maps.filter(|_| !samples.is_empty()) else {
        return Vec::new();
    };
    let pixels: Vec<u8> = samples.iter().flat_map(|&sample| split.image(sample)).copied().collect();
    let images_nchw = images_nchw(&pixels, samples.len(), split.shape(), moment.parameters.device());
    let classes = |class: fn(&Predictions, usize) -> usize| -> Vec<usize> {
        samples.iter().map(|&sample| class(predictions, sample)).collect()
    };
    let targets = [classes(Predictions::predicted), classes(Predictions::label)];
    let targets = [targets[0].as_slice(), targets[1].as_slice()];
    let [predicted, label] = explain::grad_cam_pair(network, moment.parameters.views(), &images_nchw, node, targets);
    predicted.into_iter().zip(label).map(|(predicted, label)| [predicted, label]).collect()
}
