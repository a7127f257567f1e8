//! What is looked at during a run, one observer a file: each borrows the run read-only and says what it saw as values
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
mod grad_cam;
mod graph;
mod histograms;
mod inputs;
mod layout_card;
mod pca;
mod layout;
mod pr_curves;
mod probe;
mod profile;
mod projector;
mod scalars;
mod texts;
mod tsne;
mod updates;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::eventlog::{Embeddings, Entry, Sink, Tally, Value, What};
use crate::picture::Picture;
use crate::types::{Clock, Run, Step, Tag, WallTime};

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
pub use pca::PcaPlane;
pub use pr_curves::PrCurves;
pub use probe::Probes;
pub use projector::Projector;
pub use scalars::{EpochScalars, StepScalars};
pub use texts::{Table, Texts};
pub use tsne::TsnePlane;
pub use updates::Updates;

/// Between two warnings that the log is not on the disk.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Where observers put what they saw: stamped with the time, handed to the event log.
pub struct Findings {
    sink: Box<dyn Sink>,
    clock: Arc<dyn Clock>,
    latest: BTreeMap<Run, WallTime>,
    /// When it was last told that the log could not be secured.
    told: Option<Instant>,
}

/// A log that takes nothing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Entries that could not be written.
    pub lost_entries: u64,
    /// Bytes written of each kind.
    pub bytes: Tally,
}

impl Findings {
    pub fn new(sink: impl Sink + 'static, clock: Arc<dyn Clock>) -> Findings {
        Findings { sink: Box::new(sink), clock, latest: BTreeMap::new(), told: None }
    }

    /// Values of one moment share one event.
    pub fn push(&mut self, run: Run, step: Step, values: Vec<Value>) {
        if !values.is_empty() {
            self.write(run, step, What::Values(values));
        }
    }

    /// A snapshot for the Projector, named by the step.
    pub fn push_embeddings(&mut self, step: Step, embeddings: Arc<Embeddings>) {
        self.write(Run::Train, step, What::Embeddings(embeddings));
    }

    /// How much of the whole run watching took: known when the last epoch has been looked at, and no sooner.
    pub fn push_share(&mut self, iterations: u64, share: f64) {
        let description = "Share of the time of all training steps and observers that observers took, 0 to 1: what \
                           watching cost this run, the last epoch's pictures included.";
        let value = scalar("time/observers_of_run", share, description.to_owned());
        self.push(Run::Steps, Step::new(iterations).unwrap_or(Step::MAX), vec![value]);
    }

    /// Entries that could not be written so far.
    pub fn lost_entries(&self) -> u64 {
        self.sink.lost()
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> Tally {
        self.sink.tally()
    }

    /// Brings all that was pushed to the disk, and says in the curves over `step`, the steps done, what was lost.
    pub fn secure(&mut self, step: Step) {
        let lost = self.lost_entries();
        if lost > 0 {
            let description = "Entries of the event log that could not be written in this process, as the disk was full or \
                               failed: points that are missing here and in other curves.";
            self.push(Run::Steps, step, vec![scalar("event_log/lost_entries", lost as f64, description.to_owned())]);
        }
        if let Err(error) = self.sink.sync()
            && self.told.is_none_or(|at| at.elapsed() >= TELL_EVERY)
        {
            self.told = Some(Instant::now());
            tracing::warn!("{error}");
        }
    }

    /// Closes the log and says what became of it.
    pub fn close(mut self) -> Closed {
        // On disk before a result says that the run is finished: a power cut must not leave one without its curves.
        let synced = self.sink.sync();
        // Whatever came of that: only the close knows what is lost for good.
        if let Err(error) = self.sink.close().and(synced) {
            tracing::warn!("{error}");
        }
        Closed { lost_entries: self.sink.lost(), bytes: self.sink.tally() }
    }

    fn write(&mut self, run: Run, step: Step, what: What) {
        let wall_time = self.now(run);
        let entry = Entry { run, wall_time, step, what };
        // Training does not stop for its log. The sink counts what it loses and the end of the run reports it.
        if let Err(error) = self.sink.write(entry) {
            tracing::warn!("{error}");
        }
    }

    /// The time, or that of the run's last entry if the clock was set back since: TensorBoard's relative and wall-time
    /// axes would draw the curve backwards.
    fn now(&mut self, run: Run) -> WallTime {
        let now = self.clock.now();
        let latest = self.latest.entry(run).or_insert(now);
        if now > *latest {
            *latest = now;
        }
        *latest
    }
}

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
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::data::{Dataset, Split};
    use crate::eventlog::{Memory, Summary};
    use crate::model::{Architecture, Network, Precision};
    use crate::optim::Rule;
    use crate::trace::Trace;
    use crate::train::{EpochReport, Fit, Forgetful, Metrics, OnNonFinite, Outcome, Progress, TrainState, Watch, fit};
    use crate::types::{FixedClock, ImageShape, Seed};

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

    /// What observers see of two epochs of three steps, of a network with one convolution.
    pub fn rehearse(mut watches: Vec<Watch<Findings>>) -> (Vec<Seen>, Outcome) {
        let shape = ImageShape { height: 6, width: 6, channels: 1 };
        let split = |count: usize| {
            // A class is a brightness.
            let labels: Vec<u8> = (0..count).map(|i| (i % 2) as u8).collect();
            let pixels = labels.iter().flat_map(|label| vec![label * 200; shape.len()]).collect();
            Split::new(shape, 2, pixels, labels).unwrap()
        };
        let classes = vec!["dark".to_owned(), "bright".to_owned()];
        let dataset = Dataset { name: "two".to_owned(), classes, train: split(50), validation: split(20) };
        let architecture = Architecture { conv_filters: vec![2], kernel_size: 3, dense_units: 4 };
        let network = Arc::new(Network::build(&architecture, shape, 2).unwrap());
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
        let mut findings = Findings::new(memory.clone(), Arc::new(clock));
        let outcome = fit(&how, &mut state, &mut watches, &mut findings, &mut Forgetful, &mut Silent).unwrap();
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

    /// Says what it is told to, last time first.
    struct Scripted(Mutex<Vec<f64>>);

    impl Clock for Scripted {
        fn now(&self) -> WallTime {
            WallTime::from_secs(self.0.lock().unwrap().pop().unwrap()).unwrap()
        }
    }

    #[test]
    fn times_of_a_run_do_not_go_back_when_the_clock_does() {
        let memory = Memory::default();
        let clock = Scripted(Mutex::new(vec![12.0, 8.0, 7.0, 9.0, 10.0]));
        let mut findings = Findings::new(memory.clone(), Arc::new(clock));
        for run in [Run::Train, Run::Train, Run::Steps, Run::Train, Run::Train] {
            findings.push(run, Step::ZERO, vec![Value::scalar(Tag::of("loss"), 0.5)]);
        }
        let times: Vec<f64> = memory.entries().iter().map(|entry| entry.wall_time.as_secs()).collect();
        assert_eq!(times, [10.0, 10.0, 7.0, 10.0, 12.0]);
    }
}
