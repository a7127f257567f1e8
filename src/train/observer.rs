//! Observers of a run, with their schedules: they borrow read-only, so watching cannot change the run.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::divergence::Divergence;
use super::memories::{Memories, MemoryError};
use crate::data::Dataset;
use crate::evaluation::Predictions;
use crate::graph::Graph;
use crate::trigger::Trigger;
use crate::types::{Run, Step};
use crate::weights::Weights;

/// Mean loss and accuracy over a set of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Share of samples whose largest logit is the label's, 0 to 1.
    pub accuracy: f64,
}

impl Metrics {
    /// Means from sums; of no samples, zeros.
    pub fn of(loss_sum: f64, correct: u64, samples: u64) -> Metrics {
        match samples {
            0 => Metrics::default(),
            n => Metrics { loss: loss_sum / n as f64, accuracy: correct as f64 / n as f64 },
        }
    }
}

/// Seconds of training steps by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseSeconds {
    /// Assembling batches.
    pub data: f64,
    pub forward: f64,
    pub backward: f64,
    pub optimizer: f64,
    pub observers: f64,
    /// All of it, by the clock on the wall.
    pub total: f64,
}

impl PhaseSeconds {
    fn zip(&self, other: &PhaseSeconds, f: impl Fn(f64, f64) -> f64) -> PhaseSeconds {
        PhaseSeconds {
            data: f(self.data, other.data),
            forward: f(self.forward, other.forward),
            backward: f(self.backward, other.backward),
            optimizer: f(self.optimizer, other.optimizer),
            observers: f(self.observers, other.observers),
            total: f(self.total, other.total),
        }
    }

    pub fn plus(&self, other: &PhaseSeconds) -> PhaseSeconds {
        self.zip(other, |a, b| a + b)
    }

    /// Share of all the time that observers took, 0 to 1.
    pub fn observers_share(&self) -> f64 {
        if self.total > 0.0 { self.observers / self.total } else { 0.0 }
    }

    pub fn since(&self, earlier: &PhaseSeconds) -> PhaseSeconds {
        self.zip(earlier, |a, b| a - b)
    }
}

/// Running sums over the training steps since the start. What happened between two moments is their difference, so
/// observers with different triggers do not disturb each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Sum of the samples' cross-entropies, each with the weights of its own step.
    pub loss_sum: f64,
    /// Samples classified right.
    pub correct: u64,
    pub samples: u64,
    pub seconds: PhaseSeconds,
}

impl Totals {
    /// Difference to `earlier`.
    pub fn since(&self, earlier: &Totals) -> Totals {
        Totals {
            loss_sum: self.loss_sum - earlier.loss_sum,
            correct: self.correct - earlier.correct,
            samples: self.samples - earlier.samples,
            seconds: self.seconds.since(&earlier.seconds),
        }
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::of(self.loss_sum, self.correct, self.samples)
    }
}

/// Kind of a moment.
#[derive(Clone, Copy, Debug)]
pub enum At {
    /// Before the first step.
    Start,
    /// After a step; the sums so far.
    Step(Totals),
    /// After an epoch and its evaluation; `train` is of this epoch, `totals` of all so far.
    Epoch { train: Metrics, validation: Metrics, totals: Totals },
}

/// A moment in a run, with a read-only view of its state.
pub struct Moment<'a> {
    pub at: At,
    /// Epochs count from 0, as in Keras: the epoch that is running, or that has just ended.
    pub epoch: u64,
    /// Optimizer steps done so far.
    pub iterations: u64,
    pub learning_rate: f64,
    pub network: &'a Graph,
    pub parameters: &'a Weights,
    /// Gradient of the last step's mean loss, flat, laid out like the parameters; zeros at the start.
    pub gradient: &'a Tensor,
    /// The parameters before the last step, flat; at the start those that are. After a step on the way through an epoch
    /// they are older where no observer of the run [compares](Observer::compares).
    pub previous: &'a Tensor,
    pub dataset: &'a Dataset,
    /// Predictions for every validation image, in their order, if they have just been evaluated: after
    /// an epoch.
    pub predictions: Option<&'a Predictions>,
    /// True if the last step was skipped: `gradient` and `previous` are then those of an earlier one.
    pub skipped: bool,
    /// True after the last epoch of the run.
    pub last: bool,
}

impl Moment<'_> {
    /// Run and step of an observation: after a step among the curves over iterations, else among those over epochs.
    /// A run directory has one unit of steps.
    pub fn place(&self) -> (Run, Step) {
        match self.at {
            At::Step(_) => (Run::Steps, Step::new(self.iterations).unwrap_or(Step::MAX)),
            At::Start | At::Epoch { .. } => (Run::Train, Step::new(self.epoch).unwrap_or(Step::MAX)),
        }
    }
}

/// An observer, when it is shown the run, and what it is called.
pub struct ScheduledObserver<Record> {
    pub trigger: Trigger,
    pub observer: Box<dyn Observer<Record>>,
    pub name: &'static str,
    /// Duration of its last observation: decides only the order of the next ones.
    pub(super) took: Option<Duration>,
}

impl<Record> ScheduledObserver<Record> {
    pub fn new(trigger: Trigger, observer: Box<dyn Observer<Record>>, name: &'static str) -> ScheduledObserver<Record> {
        ScheduledObserver { trigger, observer, name, took: None }
    }
}

/// Destination of the observers' records.
pub trait Logger {
    /// Record of one observer at one moment.
    type Record: Default + Send;

    /// Takes it, in the order of the observers.
    fn take(&mut self, said: Self::Record);
}

/// Looks at a run and says what it saw; knows neither files nor formats. Several look at once, each on a thread: what
/// they share, they share behind a lock.
///
/// The contract that keeps watching free of side effects: no `backward` (it would touch `.grad`; use
/// `Tensor::run_backward`), no in-place operation on anything borrowed, no random numbers but from a
/// [`crate::rng::Stream`].
pub trait Observer<Record>: Send {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record);

    /// True if it reads [`Moment::previous`]: without such an observer nobody copies the weights before a step that is
    /// looked at. It does not by default.
    fn compares(&self) -> bool {
        false
    }

    /// Training has diverged and ends after this moment, whatever the trigger says: the last words. Nothing by default.
    fn diverged(&mut self, _moment: &Moment<'_>, _divergence: &Divergence, _out: &mut Record) {}

    /// Puts down what later moments depend on, so that a run that goes on in another process looks as if it had never
    /// stopped. Nothing by default.
    fn remember(&self, _memories: &mut Memories) {}

    /// Takes up again what was put down.
    fn recall(&mut self, _memories: &Memories) -> Result<(), MemoryError> {
        Ok(())
    }
}
