//! What is looked at during a run, one observer a file: each borrows the run read-only and says what it saw as values
//! for the event log.

mod card;
mod feature_maps;
mod filters;
mod grad_cam;
mod graph;
mod histograms;
mod inputs;
mod probe;
mod scalars;
mod texts;

use std::sync::Arc;

use crate::eventlog::{Entry, Sink, Value, What};
use crate::types::{Clock, Run, Step};

pub use feature_maps::FeatureMaps;
pub use filters::Filters;
pub use grad_cam::GradCam;
pub use graph::Graphs;
pub use histograms::WeightHistograms;
pub use inputs::Inputs;
pub use probe::Probes;
pub use scalars::{EpochScalars, StepScalars};
pub use texts::{Table, Texts};

/// Where observers put what they saw: stamped with the time, handed to the event log.
pub struct Findings {
    sink: Box<dyn Sink>,
    clock: Arc<dyn Clock>,
}

impl Findings {
    pub fn new(sink: impl Sink + 'static, clock: Arc<dyn Clock>) -> Findings {
        Findings { sink: Box::new(sink), clock }
    }

    /// Values of one moment share one event.
    pub fn push(&mut self, run: Run, step: Step, values: Vec<Value>) {
        if !values.is_empty() {
            self.write(run, step, What::Values(values));
        }
    }

    /// Closes the log and says how many entries it has lost.
    pub fn close(mut self) -> u64 {
        // On disk before a result says that the run is finished: a power cut must not leave one without its curves.
        if let Err(error) = self.sink.sync().and_then(|()| self.sink.close()) {
            tracing::warn!("{error}");
        }
        self.sink.lost()
    }

    fn write(&mut self, run: Run, step: Step, what: What) {
        let entry = Entry { run, wall_time: self.clock.now(), step, what };
        // Training does not stop for its log. The sink counts what it loses and the end of the run reports it.
        if let Err(error) = self.sink.write(entry) {
            tracing::warn!("{error}");
        }
    }
}

/// The step of a moment in a run whose steps are epochs.
fn epoch_step(epoch: u64) -> Step {
    Step::new(epoch).unwrap_or(Step::MAX)
}
