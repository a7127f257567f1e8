//! Observers, one a file: each borrows the run read-only and records its observation as values
//! for the event log.

mod activation_max;
mod animation;
mod activations;
mod calibration;
mod card;
mod class_tags;
mod classes;
mod confusion;
mod errors;
mod explanations;
mod feature_maps;
mod feature_space;
mod filters;
mod record;
mod grad_cam;
mod graph;
mod heat;
mod histograms;
mod inputs;
mod layout_card;
mod operations;
mod pca;
mod layout;
mod log;
mod pr_curves;
mod probe;
mod profile;
mod projector;
mod scalars;
mod texts;
mod tsne;
mod updates;

use crate::eventlog::Value;
use crate::picture::Picture;
use crate::types::{Step, Tag};

use animation::Frames;

pub use activation_max::ActivationMax;
pub use activations::Activations;
pub use calibration::Calibration;
pub use classes::Classes;
pub use confusion::Confusion;
pub use errors::Errors;
pub use explanations::{Explanations, Question, sheet, tile};
pub use feature_maps::FeatureMaps;
pub use feature_space::{FeatureSpace, Sample};
pub use filters::Filters;
pub use grad_cam::GradCam;
pub use graph::Graphs;
pub use histograms::{GradientHistograms, WeightHistograms};
pub use inputs::Inputs;
pub use layout::CustomScalars;
pub use log::{Closed, Log};
pub use pca::PcaPlane;
pub use pr_curves::PrCurves;
pub use probe::Probes;
pub use projector::Projector;
pub use record::Record;
pub use scalars::{EpochScalars, StepScalars};
pub use texts::{Table, Texts};
pub use tsne::TsnePlane;
pub use updates::Updates;

/// The film of the frames so far under a tag, if there is one.
fn film(tag: String, frames: &Frames, description: String) -> Option<Value> {
    match frames.film() {
        Ok(film) => film.map(|film| Value::animation(Tag::of(tag), film).described(description)),
        Err(error) => {
            tracing::warn!("{tag}: {error}");
            None
        }
    }
}

/// Keeps a picture for the film.
fn keep_frame(frames: &mut Frames, picture: &Picture) {
    if let Err(error) = frames.push(picture) {
        tracing::warn!("a film goes on without a picture: {error}");
    }
}

/// A point of a curve, with what it means in markdown.
fn scalar(tag: impl AsRef<str>, value: f64, description: String) -> Value {
    Value::scalar(Tag::of(tag), value as f32).described(description)
}

/// The step of a moment in a run whose steps are epochs.
fn epoch_step(epoch: u64) -> Step {
    Step::new(epoch).unwrap_or(Step::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::data::{Dataset, Split};
    use crate::eventlog::{Entry, Memory, Summary, What};
    use crate::model::{Architecture, Precision};
    use crate::optim::Rule;
    use crate::trace::Trace;
    use crate::train::{
        EpochReport, Fit, Metrics, NoCheckpoints, OnNonFinite, Outcome, Progress, ScheduledObserver, TrainState, fit,
    };
    use crate::types::{FixedClock, ImageShape, Run, Seed, WallTime};

    /// One value in a log.
    pub struct Seen {
        pub run: Run,
        pub step: u64,
        pub tag: String,
        pub described: bool,
        summary: Summary,
    }

    impl Seen {
        pub fn scalar(&self) -> f64 {
            match self.summary {
                Summary::Scalar(value) => value.into(),
                ref other => panic!("{} is no scalar: {other:?}", self.tag),
            }
        }
    }

    struct Silent;

    impl Progress for Silent {
        fn epoch_starts(&mut self, _: u64, _: usize) {}
        fn samples_done(&mut self, _: usize, _: Option<Metrics>) {}
        fn epoch_ends(&mut self, _: &EpochReport) {}
    }

    /// Records of observers over two epochs of three steps, of a network with one convolution.
    pub fn rehearse(mut watches: Vec<ScheduledObserver<Record>>) -> (Vec<Seen>, Outcome) {
        let shape = ImageShape { height: 6, width: 6, channels: 1 };
        let split = |count: usize| {
            // A class is a brightness.
            let labels: Vec<u16> = (0..count).map(|i| (i % 2) as u16).collect();
            let pixels = labels.iter().flat_map(|label| vec![*label as u8 * 200; shape.len()]).collect();
            Split::new(shape, 2, pixels, labels).unwrap()
        };
        let classes = vec!["dark".to_owned(), "bright".to_owned()];
        let dataset = Dataset { name: "two".to_owned(), classes, train: split(50), validation: split(20) };
        let architecture = Architecture { conv_filters: vec![2], kernel_size: 3, dense_units: 4 };
        let network = Arc::new(architecture.build(shape, 2).unwrap());
        let rule = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };
        let mut state = TrainState::initialise(&network, rule, Seed(1), tch::Device::Cpu);
        let how = Fit {
            network: &network,
            dataset: &dataset,
            device: tch::Device::Cpu,
            epochs: 2,
            batch_size: 20,
            learning_rate: 0.1,
            seed: Seed(1),
            threads: 1,
            precision: Precision::F32,
            on_non_finite: OnNonFinite::Stop,
            left_out: &BTreeSet::new(),
            stop: &AtomicUsize::new(0),
            trace: &Trace::default(),
        };
        let memory = Memory::default();
        let clock = FixedClock(WallTime::from_secs(1.0).unwrap());
        let mut log = Log::new(memory.clone(), Arc::new(clock));
        let outcome = fit(&how, &mut state, &mut watches, &mut log, &mut NoCheckpoints, &mut Silent).unwrap();
        let mut seen = Vec::new();
        for Entry { run, step, what, .. } in memory.entries() {
            let What::Values(values) = what else { panic!("{what:?}") };
            seen.extend(values.into_iter().map(|Value { tag, summary, description }| Seen {
                run,
                step: step.get(),
                tag: tag.to_string(),
                described: description.is_some(),
                summary,
            }));
        }
        (seen, outcome)
    }
}
