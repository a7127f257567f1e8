//! The feature space on a plane that keeps neighbours together.

use super::animation::Frames;
use super::feature_space::FeatureSpace;
use super::layout_card::LayoutCard;
use super::pca::POINTS;
use super::{Record, card, film, keep_frame};
use crate::embedding::{self, Layout, Start, silhouette};
use crate::eventlog::Value;
use crate::train::{Memories, MemoryError, Moment, Observer};
use crate::types::Tag;

/// The name of what is remembered.
const MEMORY: &str = "tsne";

/// t-SNE of the last hidden layer, under `features/tsne`, and how well it tells classes apart. Each layout starts from
/// the one before, so that clusters can be followed.
#[derive(Clone, Debug)]
pub struct TsnePlane {
    space: FeatureSpace,
    /// The last layout, and the points it was of.
    earlier: Option<(Vec<usize>, Layout)>,
    frames: Frames,
}

impl TsnePlane {
    pub fn new(space: FeatureSpace) -> TsnePlane {
        TsnePlane { space, earlier: None, frames: Frames::default() }
    }
}

impl Observer<Record> for TsnePlane {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let Some(sample) = self.space.sample(moment, POINTS) else { return };
        let (kept, points) = sample.points.finite();
        let layout = match self.earlier.as_ref().filter(|(of, _)| *of == kept) {
            Some((_, earlier)) => embedding::tsne(&points, Start::Earlier(earlier)),
            None => embedding::tsne(&points, Start::Rough(&embedding::pca(&points).layout)),
        };
        let classes: Vec<usize> = kept.iter().map(|&image| sample.predictions.label(image)).collect();
        let silhouette = silhouette(&layout, &classes);
        let picture = LayoutCard {
            title: &format!("t-SNE of {}", sample.layer),
            when: &card::moment(moment.epoch),
            note: "neighbours are alike; distances between clusters say little",
            sample: &sample,
            classes: &moment.dataset.classes,
            kept: &kept,
            places: &layout,
            silhouette,
        }
        .picture();
        keep_frame(&mut self.frames, &picture);
        let image = Value::images(Tag::of("features/tsne"), vec![picture]).described(format!(
            "The outputs of `{}`, from which the last layer decides, for {} spread over the classes, laid out by t-SNE \
             (van der Maaten and Hinton 2008, perplexity 30) so that images with similar features are neighbours. A \
             point is an image, its colour the true class, a ring a wrong answer.\n\n\
             **How to read it.** That points are neighbours means something: their features are alike. A point inside a \
             cluster of another class is one that the network takes for that class. Distances between clusters, the sizes \
             and the forms of clusters, and the axes mean next to nothing. Each layout starts from the one before: step \
             through the epochs to see clusters part. The silhouette (Rousseeuw 1987) is 1 where classes lie far apart \
             on the plane, 0 where they overlap.",
            sample.layer,
            card::counted(sample.points.len(), "validation image"),
        ));
        let score = silhouette.map(|score| {
            Value::scalar(Tag::of("features/silhouette_tsne"), score as f32).described(
                "How well classes lie apart on the plane of `features/tsne`: the mean silhouette (Rousseeuw 1987), from \
                 -1 over 0, overlapping, to 1, far apart.",
            )
        });
        let film = || {
            let text =
                "The pictures of `features/tsne`, one after the other: how clusters part while the network learns.";
            film("features/tsne/animation".to_owned(), &self.frames, text.to_owned())
        };
        let film = if moment.last { film() } else { None };
        let (run, step) = moment.place();
        out.push(run, step, [image].into_iter().chain(film).chain(score).collect());
        self.earlier = Some((kept, layout));
    }

    fn remember(&self, memories: &mut Memories) {
        memories.put(MEMORY, &(&self.earlier, &self.frames));
    }

    fn recall(&mut self, memories: &Memories) -> Result<(), MemoryError> {
        if let Some((earlier, frames)) = memories.get(MEMORY)? {
            (self.earlier, self.frames) = (earlier, frames);
        }
        Ok(())
    }
}
