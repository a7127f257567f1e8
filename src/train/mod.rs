//! The training loop: state, step, evaluation, and the moments at which observers may look.

mod device_pass;
mod divergence;
mod evaluated;
mod fit;
mod checkpointer;
mod layer_times;
mod look;
mod memories;
mod observer;
mod pool;
mod sharded_pass;
mod settings;
mod skip;
mod state;
mod stepper;
mod sums;

pub use checkpointer::{Checkpointer, NoCheckpoints, Snapshot};
pub use divergence::{Divergence, NonFinite, Part};
pub use fit::{FitError, Outcome, Progress, fit, show_start};
pub use layer_times::{LayerTimes, OperationTime, PassTime};
pub use memories::{Memories, MemoryError};
pub use observer::{At, Logger, Metrics, Moment, Observer, PhaseSeconds, ScheduledObserver, Totals};
pub use pool::WorkerLost;
pub use settings::Fit;
pub use skip::{OnNonFinite, Skip};
pub use state::{EpochReport, Position, TrainState};
pub use stepper::{StepOutput, Stepper};
