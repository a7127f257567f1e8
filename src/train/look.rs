//! Looks at a run: which observers see a moment of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::fit::Fit;
use super::observer::{At, Moment, Watch};
use super::state::{Position, TrainState};
use crate::evaluation::Predictions;
use crate::trace::Part;

/// What a moment is made of.
pub(super) struct View<'a> {
    pub fit: &'a Fit<'a>,
    pub state: &'a TrainState,
    pub predictions: Option<&'a Predictions>,
    pub at: At,
}

impl View<'_> {
    pub fn moment(&self) -> Moment<'_> {
        let View { fit, state, .. } = *self;
        let Position { iterations, epoch, .. } = state.position;
        Moment {
            at: self.at,
            epoch,
            iterations,
            learning_rate: fit.learning_rate,
            network: fit.network,
            parameters: &state.parameters,
            gradient: &state.gradient,
            previous: &state.previous,
            dataset: fit.dataset,
            predictions: self.predictions,
            last: matches!(self.at, At::Epoch { .. }) && epoch + 1 >= fit.epochs,
        }
    }
}

/// Shows one moment to every observer that wants it. False when `stop` was raised before all had seen it.
pub(super) fn look<Out>(view: &View<'_>, watches: &mut [Watch<Out>], out: &mut Out, stop: &AtomicUsize) -> bool {
    let moment = view.moment();
    let mut spans = view.fit.trace.spans();
    for Watch { trigger, observer, name } in watches {
        let fires = match view.at {
            At::Start => trigger.fires_at_start(),
            At::Step(_) => trigger.fires_after_step(moment.iterations),
            At::Epoch { .. } => trigger.fires_after_epoch(moment.epoch, view.fit.epochs),
        };
        if !fires {
            continue;
        }
        if stop.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let started = spans.start();
        observer.observe(&moment, out);
        spans.end(started, Part::Observer, *name);
    }
    true
}
