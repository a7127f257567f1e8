//! The feature space on the plane on which it varies most.

use super::feature_space::FeatureSpace;
use super::layout_card::LayoutCard;
use super::{Record, card};
use crate::embedding::{self, Layout, silhouette};
use crate::eventlog::Value;
use crate::train::{Memories, MemoryError, Moment, Observer};
use crate::types::Tag;

/// Images laid out. More hide each other on a card.
pub(super) const POINTS: usize = 400;

/// The name of what is remembered.
const MEMORY: &str = "pca";

/// Principal components of the last hidden layer, under `features/pca`, and how well they tell classes apart.
#[derive(Clone, Debug)]
pub struct PcaPlane {
    space: FeatureSpace,
    /// The last layout and the points it was of, so that axes do not change sign between pictures.
    earlier: Option<(Vec<usize>, Layout)>,
}

impl PcaPlane {
    pub fn new(space: FeatureSpace) -> PcaPlane {
        PcaPlane { space, earlier: None }
    }
}

impl Observer<Record> for PcaPlane {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let Some(sample) = self.space.sample(moment, POINTS) else { return };
        let (kept, points) = sample.points.finite();
        let mut pca = embedding::pca(&points);
        if let Some((_, earlier)) = self.earlier.as_ref().filter(|(of, _)| *of == kept) {
            pca = pca.towards(earlier);
        }
        let classes: Vec<usize> = kept.iter().map(|&image| sample.predictions.label(image)).collect();
        let silhouette = silhouette(&pca.layout, &classes);
        let [across, up] = pca.explained.map(|share| format!("{:.1} %", 100.0 * share));
        let picture = LayoutCard {
            title: &format!("PCA of {}", sample.layer),
            when: &card::moment(moment.epoch),
            note: &format!("of the variance: {across} across, {up} up"),
            sample: &sample,
            classes: &moment.dataset.classes,
            kept: &kept,
            places: &pca.layout,
            silhouette,
        }
        .picture();
        let image = Value::images(Tag::of("features/pca"), vec![picture]).described(format!(
            "The outputs of `{}`, from which the last layer decides, for {} spread over the classes, on the plane on which \
             they differ most (principal component analysis). A point is an image, its colour the true class, a ring a \
             wrong answer. The plane is a straight view of the space: distances that it shows are there, but classes that \
             overlap here may lie apart in a direction that it does not show; it shows the stated share of the variance. \
             Axes keep their direction from picture to picture. The silhouette (Rousseeuw 1987) is 1 where classes lie \
             far apart on the plane, 0 where they overlap.",
            sample.layer,
            card::counted(sample.points.len(), "validation image"),
        ));
        let score = silhouette.map(|score| {
            Value::scalar(Tag::of("features/silhouette_pca"), score as f32).described(
                "How well classes lie apart on the plane of `features/pca`: the mean silhouette (Rousseeuw 1987), from \
                 -1 over 0, overlapping, to 1, far apart.",
            )
        });
        let (run, step) = moment.place();
        out.push(run, step, [image].into_iter().chain(score).collect());
        self.earlier = Some((kept, pca.layout));
    }

    fn remember(&self, memories: &mut Memories) {
        memories.put(MEMORY, &self.earlier);
    }

    fn recall(&mut self, memories: &Memories) -> Result<(), MemoryError> {
        self.earlier = memories.get(MEMORY)?.unwrap_or_default();
        Ok(())
    }
}
