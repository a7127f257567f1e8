//! The training loop: state, step, evaluation, and the moments at which observers may look.

mod device_pass;
mod divergence;
mod fit;
mod keeper;
mod layer_times;
mod look;
mod memories;
mod observer;
mod pool;
mod sharded_pass;
mod skip;
mod state;
mod stepper;
mod sums;

pub use divergence::{Divergence, NonFinite, Part};
pub use fit::{Fit, FitError, Outcome, Progress, fit, show_start};
pub use keeper::{Forgetful, Keeper, Snapshot};
pub use layer_times::{LayerTimes, OperationTime, PassTime};
pub use memories::{Memories, MemoryError};
pub use observer::{At, Metrics, Moment, Observer, Outlet, PhaseSeconds, Totals, Watch};
pub use pool::WorkerLost;
pub use skip::{OnNonFinite, Skip};
pub use state::{EpochReport, Position, TrainState};
pub use stepper::{StepOutput, Stepper};
