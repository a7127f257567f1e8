//! Looks at a run: which observers see a moment of it, and on which thread.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tch::Tensor;

use super::observer::{At, Logger, Moment, ScheduledObserver};
use super::pool::{Pool, WorkerLost};
use super::settings::Fit;
use super::state::{Position, TrainState};
use crate::evaluation::Predictions;
use crate::trace::{Part, Trace};
use crate::weights::Weights;

/// Observers that look side by side, at most: never are more of them slow at once, and each takes memory of its own.
const MOST_LOOKERS: usize = 4;
/// A look that took less is not worth waking another thread for.
const A_MOMENT: Duration = Duration::from_millis(2);

/// Sources of a moment.
pub(super) struct View<'a> {
    pub fit: &'a Fit<'a>,
    pub state: &'a TrainState,
    pub predictions: Option<&'a Predictions>,
    pub at: At,
}

/// Sources of a moment on one thread: handles of a tensor must not be shared between threads, but each may have its
/// own of the same values.
struct Glance<'a> {
    fit: &'a Fit<'a>,
    position: Position,
    parameters: Weights,
    gradient: Tensor,
    previous: Tensor,
    predictions: Option<&'a Predictions>,
    at: At,
}

impl<'a> View<'a> {
    pub fn moment(&self) -> Moment<'_> {
        let TrainState { parameters, gradient, previous, position, .. } = self.state;
        moment(self.fit, position, [gradient, previous], parameters, self.predictions, self.at)
    }

    fn glance(&self) -> Glance<'a> {
        let View { fit, state, predictions, at } = *self;
        Glance {
            fit,
            position: state.position,
            parameters: state.parameters.handle(),
            gradient: state.gradient.shallow_clone(),
            previous: state.previous.shallow_clone(),
            predictions,
            at,
        }
    }
}

impl Glance<'_> {
    fn moment(&self) -> Moment<'_> {
        let tensors = [&self.gradient, &self.previous];
        moment(self.fit, &self.position, tensors, &self.parameters, self.predictions, self.at)
    }
}

fn moment<'a>(
    fit: &'a Fit<'a>,
    &Position { iterations, epoch, skipped_in_a_row, .. }: &Position,
    [gradient, previous]: [&'a Tensor; 2],
    parameters: &'a Weights,
    predictions: Option<&'a Predictions>,
    at: At,
) -> Moment<'a> {
    Moment {
        at,
        epoch,
        iterations,
        learning_rate: fit.learning_rate,
        network: fit.network,
        parameters,
        gradient,
        previous,
        dataset: fit.dataset,
        predictions,
        skipped: skipped_in_a_row > 0,
        last: matches!(at, At::Epoch { .. }) && epoch + 1 >= fit.epochs,
    }
}

/// An observer whose trigger fires, and what it says.
struct Turn<'a, Record> {
    watch: &'a mut ScheduledObserver<Record>,
    said: Option<Record>,
}

impl<Record: Default> Turn<'_, Record> {
    fn look(&mut self, moment: &Moment<'_>, trace: &Trace) {
        let mut spans = trace.spans();
        let (span, started) = (spans.start(), Instant::now());
        let mut said = Record::default();
        self.watch.observer.observe(moment, &mut said);
        self.watch.took = Some(started.elapsed());
        self.said = Some(said);
        spans.end(span, Part::Observer, self.watch.name);
    }

    fn is_quick(&self) -> bool {
        self.watch.took.is_some_and(|took| took < A_MOMENT)
    }
}

/// The observers whose turn it is, in their order.
fn turns<'a, Record>(
    moment: &Moment<'_>,
    epochs: u64,
    watches: &'a mut [ScheduledObserver<Record>],
) -> Vec<Turn<'a, Record>> {
    let fires = |watch: &&mut ScheduledObserver<Record>| match moment.at {
        At::Start => watch.trigger.fires_at_start(),
        At::Step(_) => watch.trigger.fires_after_step(moment.iterations),
        At::Epoch { .. } => watch.trigger.fires_after_epoch(moment.epoch, epochs),
    };
    watches.iter_mut().filter(fires).map(|watch| Turn { watch, said: None }).collect()
}

/// Threads that all these observers can use.
pub(super) fn lookers<Record>(watches: &[ScheduledObserver<Record>]) -> usize {
    watches.len().clamp(1, MOST_LOOKERS)
}

/// Shows one moment to every observer that wants it, one after the other.
pub(super) fn look_alone<Log: Logger>(view: &View<'_>, watches: &mut [ScheduledObserver<Log::Record>], log: &mut Log) {
    let moment = view.moment();
    one_by_one(&moment, view, turns(&moment, view.fit.epochs, watches), log);
}

fn one_by_one<Log: Logger>(moment: &Moment<'_>, view: &View<'_>, turns: Vec<Turn<'_, Log::Record>>, log: &mut Log) {
    for mut turn in turns {
        turn.look(moment, view.fit.trace);
        turn.said.take().into_iter().for_each(|said| log.take(said));
    }
}

/// Shows one moment to every observer that wants it, on as many threads as there are; the log gets what they say in
/// their order, whoever was first. False when `stop` was raised before all had seen it.
pub(super) fn look<Log: Logger>(
    view: &View<'_>,
    watches: &mut [ScheduledObserver<Log::Record>],
    log: &mut Log,
    stop: &AtomicUsize,
    pool: &Pool,
) -> Result<bool, WorkerLost> {
    let moment = view.moment();
    let mut turns = turns(&moment, view.fit.epochs, watches);
    if turns.iter().all(Turn::is_quick) {
        // Between steps every microsecond counts: threads that wait for the next one fall asleep.
        one_by_one(&moment, view, turns, log);
        return Ok(true);
    }
    let threads = turns.iter().filter(|turn| !turn.is_quick()).count().clamp(1, pool.threads());
    // From the end of the table: what takes long stands there, where nobody has looked yet.
    let mut queue: Vec<&mut Turn<'_, Log::Record>> = turns.iter_mut().rev().collect();
    // Quick observers, most curves, come first: a stop skips the slow ones. Of those the slowest comes first, so that
    // threads end together.
    queue.sort_by_key(|turn| (!turn.is_quick(), turn.watch.took.map(Reverse)));
    let queue = Mutex::new(queue.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let mut glances: Vec<Glance<'_>> = (0..threads).map(|_| view.glance()).collect();
    pool.each(&mut glances, |glance| {
        let moment = glance.moment();
        while stop.load(Ordering::Relaxed) == 0
            && let Some(turn) = next()
        {
            turn.look(&moment, glance.fit.trace);
        }
    })?;
    let all = turns.iter().all(|turn| turn.said.is_some());
    turns.into_iter().filter_map(|turn| turn.said).for_each(|said| log.take(said));
    Ok(all)
}
