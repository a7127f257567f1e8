//! The feature vectors of a sample of validation images: what observers of the feature space share.

use std::sync::{Arc, Mutex, PoisonError};

use super::probe::Probes;
use crate::embedding::Points;
use crate::evaluation::Predictions;
use crate::explain;
use crate::train::Moment;
use crate::types::Seed;

/// Images that go through the network at once: samples of whole pieces, so that what is found does not depend on how many
/// images are asked for first.
const PIECE: usize = 50;

/// Computes the features of a moment once for all observers that ask: a pass of hundreds of images costs what many
/// pictures do. Copies share what they know.
#[derive(Clone, Debug)]
pub struct FeatureSpace {
    seed: Seed,
    latest: Arc<Mutex<Option<Latest>>>,
}

#[derive(Debug)]
struct Latest {
    /// Epoch and iterations: between two moments with the same ones, parameters do not change.
    when: (u64, u64),
    /// Images asked for; the sample has fewer if there are no more.
    asked: usize,
    sample: Arc<Sample>,
}

/// Images with their features, and what the network says about them. A smaller sample is the beginning of a larger one.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The layer whose output the features are.
    pub layer: String,
    pub points: Points,
    pub predictions: Predictions,
    pub images: Probes,
}

impl FeatureSpace {
    /// `seed` says which images; they are spread evenly over the classes.
    pub fn new(seed: Seed) -> FeatureSpace {
        FeatureSpace { seed, latest: Arc::default() }
    }

    /// The features of `count` images, or of all there are; none for a network without a hidden layer.
    pub fn sample(&self, moment: &Moment<'_>, count: usize) -> Option<Arc<Sample>> {
        let when = (moment.epoch, moment.iterations);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match latest.as_ref() {
            Some(known) if known.when == when && known.asked == count => return Some(Arc::clone(&known.sample)),
            Some(known) if known.when == when && known.asked > count => {
                return Some(Arc::new(known.sample.first(count)));
            }
            _ => {}
        }
        let sample = Arc::new(sample(moment, count, self.seed)?);
        *latest = Some(Latest { when, asked: count, sample: Arc::clone(&sample) });
        Some(sample)
    }
}

impl Sample {
    fn first(&self, count: usize) -> Sample {
        let images = self.images.first(count);
        let probabilities = (0..images.len()).flat_map(|i| self.predictions.probabilities(i)).copied().collect();
        let predictions = Predictions::new(self.predictions.classes(), probabilities, labels(&images));
        Sample { layer: self.layer.clone(), points: self.points.first(count), predictions, images }
    }
}

fn sample(moment: &Moment<'_>, count: usize, seed: Seed) -> Option<Sample> {
    let layer = moment.network.features()?.name.clone();
    let images = Probes::interleaved(moment.dataset, count.next_multiple_of(PIECE), seed);
    let classes = moment.network.classes();
    if let Some((points, probabilities)) = moment.predictions.and_then(|predictions| known(predictions, &images)) {
        let predictions = Predictions::new(classes, probabilities, labels(&images));
        return Some(Sample { layer, points, predictions, images }.first(count));
    }
    let images_nchw = images.images_nchw(moment.parameters.device());
    let features = explain::features(moment.network, moment.parameters.views(), &images_nchw)?;
    let predictions = Predictions::new(classes, features.probabilities, labels(&images));
    Some(Sample { layer, points: features.points, predictions, images }.first(count))
}

/// Features and probabilities, where the evaluation has kept them.
fn known(predictions: &Predictions, images: &Probes) -> Option<(Points, Vec<f32>)> {
    let dims = predictions.features(*images.indices().first()?)?.len();
    let features = images.indices().iter().filter_map(|&image| predictions.features(image)).flatten().copied();
    let probabilities = images.indices().iter().flat_map(|&image| predictions.probabilities(image)).copied();
    Some((Points::new(dims, features.collect()), probabilities.collect()))
}

fn labels(images: &Probes) -> Vec<u16> {
    // They were bytes in the split.
    images.labels().iter().map(|&label| label as u16).collect()
}
