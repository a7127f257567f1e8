//! The feature vectors of a sample of validation images: what observers of the feature space share.

use std::cell::RefCell;
use std::rc::Rc;

use super::probe::Probes;
use crate::embedding::Points;
use crate::evaluation::Predictions;
use crate::explain;
use crate::train::Moment;
use crate::types::Seed;

/// Computes the features of a moment once for all observers that ask: a pass of hundreds of images costs what many
/// pictures do. Copies share what they know.
#[derive(Clone, Debug)]
pub struct FeatureSpace {
    seed: Seed,
    latest: Rc<RefCell<Option<Latest>>>,
}

#[derive(Debug)]
struct Latest {
    /// Epoch and iterations: between two moments with the same ones, parameters do not change.
    when: (u64, u64),
    /// Images asked for; the sample has fewer if there are no more.
    asked: usize,
    sample: Rc<Sample>,
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
        FeatureSpace { seed, latest: Rc::default() }
    }

    /// The features of `count` images, or of all there are; none for a network without a hidden layer.
    pub fn sample(&self, moment: &Moment<'_>, count: usize) -> Option<Rc<Sample>> {
        let when = (moment.epoch, moment.iterations);
        let mut latest = self.latest.borrow_mut();
        match latest.as_ref() {
            Some(known) if known.when == when && known.asked == count => return Some(Rc::clone(&known.sample)),
            Some(known) if known.when == when && known.asked > count => {
                return Some(Rc::new(known.sample.first(count)));
            }
            _ => {}
        }
        let sample = Rc::new(sample(moment, count, self.seed)?);
        *latest = Some(Latest { when, asked: count, sample: Rc::clone(&sample) });
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
    let images = Probes::interleaved(moment.dataset, count, seed);
    let images_nchw = images.images_nchw(moment.parameters.device());
    let features = explain::features(moment.network, moment.parameters.views(), &images_nchw)?;
    let predictions = Predictions::new(moment.network.classes(), features.probabilities, labels(&images));
    Some(Sample { layer: features.layer.name.clone(), points: features.points, predictions, images })
}

fn labels(images: &Probes) -> Vec<u8> {
    // They were bytes in the split.
    images.labels().iter().map(|&label| label as u8).collect()
}
