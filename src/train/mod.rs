//! The training loop: state, step, evaluation, and the moments at which observers may look.

mod observer;

pub use observer::{At, Metrics, Moment, Observer, PhaseSeconds, StepReport, Trigger};
