//! The training loop: state, step, evaluation, and the moments at which observers may look.

mod divergence;
mod fit;
mod keeper;
mod memories;
mod observer;
mod skip;
mod state;
mod stepper;
mod sums;
mod worker;

pub use divergence::{Divergence, NonFinite, Part};
pub use fit::{Fit, FitError, Outcome, Progress, fit, show_start};
pub use keeper::{Forgetful, Keeper, Snapshot};
pub use memories::{Memories, MemoryError};
pub use observer::{At, Metrics, Moment, Observer, PhaseSeconds, Totals, Watch};
pub use skip::{OnNonFinite, Skip};
pub use state::{EpochReport, Position, TrainState};
pub use stepper::{StepOutput, Stepper};
pub use worker::WorkerLost;
