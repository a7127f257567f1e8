//! The feature space itself, to be turned around in TensorBoard's Projector.

use std::sync::Arc;

use super::Record;
use super::card;
use super::feature_space::{FeatureSpace, Sample};
use crate::eventlog::{Embeddings, EmbeddingsError, Sprite};
use crate::picture::Picture;
use crate::render::{self, Canvas, Rgb, Zoom, scatter};
use crate::train::{Moment, Observer};

/// Images in a snapshot, at most.
const POINTS: usize = 1000;
/// Numbers in a snapshot, at most: some 7 MB of text. Wide layers are shown with fewer images.
const NUMBERS: usize = 1_000_000;
/// Pixels of the longer side of a point's picture, at most.
const CELL: u32 = 32;

/// Snapshots of the last hidden layer's outputs, with classes, answers, and the images.
#[derive(Clone, Debug)]
pub struct Projector {
    space: FeatureSpace,
}

impl Projector {
    pub fn new(space: FeatureSpace) -> Projector {
        Projector { space }
    }
}

impl Observer<Record> for Projector {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let hidden = moment.network.features();
        let width = hidden.map_or(1, |layer| layer.output.len().max(1));
        let Some(sample) = self.space.sample(moment, POINTS.min(NUMBERS / width).max(1)) else { return };
        match embeddings(&sample, &moment.dataset.classes) {
            Ok(embeddings) => out.push_embeddings(moment.place().1, Arc::new(embeddings)),
            Err(error) => tracing::warn!("nothing for the Projector after epoch {}: {error}", moment.epoch + 1),
        }
    }
}

fn embeddings(sample: &Sample, classes: &[String]) -> Result<Embeddings, EmbeddingsError> {
    let (kept, points) = sample.points.finite();
    let (predictions, images) = (&sample.predictions, &sample.images);
    let row = |&image: &usize| {
        let (label, predicted) = (predictions.label(image), predictions.predicted(image));
        let [class, answer] = [label, predicted].map(|class| card::class_name(classes, class));
        let shown = if class == answer { class.clone() } else { format!("{class} predicted as {answer}") };
        vec![
            shown,
            class,
            answer,
            if label == predicted { "right" } else { "wrong" }.to_owned(),
            format!("{:.3}", predictions.confidence(image)),
            images.indices()[image].to_string(),
        ]
    };
    let pixels: Vec<&[u8]> = images.images().collect();
    let tile = |&image: &usize| {
        let (_, colour) = scatter::class_mark(predictions.label(image));
        cell(&tinted(&render::image(pixels[image], images.shape()), colour))
    };
    let cells: Vec<Picture> = kept.iter().map(tile).collect();
    Embeddings::new(sample.layer.clone(), points.dims(), points.rows().flatten().copied().collect())?
        // The Projector labels points by the first column that has texts: names of classes may be numbers.
        .labelled(["label", "class", "predicted", "answer", "confidence", "index"], kept.iter().map(row).collect())?
        .pictured(Sprite::of(&cells))
}

/// A picture whose dark parts have the colour of its class. The Projector opens without a colour map and cannot be told
/// otherwise, but shows pictures as they are; whatever it is asked to colour them by later is seen in the bright parts.
fn tinted(image: &Picture, colour: Rgb) -> Picture {
    let screen = |value: u8, tint: u8| 255 - (u16::from(255 - value) * u16::from(255 - tint) / 255) as u8;
    Picture::painted(image.width(), image.height(), |index| {
        let pixel = image.pixels().get(index).copied().unwrap_or(card::PAPER);
        std::array::from_fn(|channel| screen(pixel[channel], colour[channel]))
    })
}

fn cell(image: &Picture) -> Picture {
    if image.width().max(image.height()) <= CELL {
        return image.clone();
    }
    let zoom = Zoom::fitting(image.height() as usize, image.width() as usize, CELL);
    let side = |pixels: u32| zoom.apply(pixels as usize).max(1);
    let mut canvas = Canvas::new(side(image.width()), side(image.height()), card::PAPER);
    canvas.place((0, 0), image, zoom);
    canvas.into_picture()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dark_parts_have_the_colour_of_the_class_and_bright_ones_stay() {
        let image = Picture::painted(3, 1, |index| [0, 255, 128][index..=index].repeat(3).try_into().unwrap());
        let tinted = tinted(&image, [200, 0, 100]);
        assert_eq!(tinted.pixels(), [[200, 0, 100], [255; 3], [228, 128, 178]]);
    }
}
