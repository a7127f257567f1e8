//! The training loop: state, step, evaluation, and the moments at which observers may look.

mod divergence;
mod fit;
mod observer;
mod state;
mod stepper;
mod worker;

pub use divergence::{Divergence, NonFinite, Part};
pub use fit::{EpochReport, Fit, FitError, Outcome, Progress, fit};
pub use observer::{At, Metrics, Moment, Observer, PhaseSeconds, Totals, Watch};
pub use state::TrainState;
pub use stepper::{StepOutput, Stepper};
pub use worker::WorkerLost;
