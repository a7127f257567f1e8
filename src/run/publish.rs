//! Last stage of a run: weights, the end of its HParams session, and the result.

use super::checkpointing::RunCounters;
use super::prepare::Prepared;
use super::resume_point::ResumePoint;
use super::{Finished, RunError, best};
use crate::eventlog::Kind;
use crate::eventlog::hparams::Status;
use crate::records::{self, RunResult};
use crate::run_dir::RunDirError;
use crate::session::Session;
use crate::train::{FitError, Outcome};
use crate::types::{Step, WallTime};
use crate::weights;

/// A run after training, successful or not, before its last files are written.
pub(super) struct Trained<'a> {
    pub prepared: Prepared<'a>,
    pub point: ResumePoint,
    pub session: Session,
    pub result: Result<(Outcome, RunCounters), RunError>,
}

impl Trained<'_> {
    /// Writes weights, session end and, last, the result. An error of training is returned after the session end.
    pub fn publish(self) -> Result<Finished, RunError> {
        let Trained { prepared, point, mut session, result: trained } = self;
        let Prepared { command, dir, store, dataset, .. } = &prepared;
        let (config, clock) = (&command.resolved.config, command.clock);
        // A moved directory still receives the final files; then the error names it.
        let moved = match dir.check_held() {
            Err(lost) if !lost.is_owned() => return Err(RunDirError::from(lost).into()),
            held => held.map_err(RunDirError::from),
        };
        let trained = trained.and_then(|(outcome, counters)| {
            dataset.check()?; // not checked before if checkpoints are off
            let blake3 = weights::save_on(dir.disk(), &dir.weights(), &point.state.parameters)?;
            let best = best::save(dir, &point.state, &blake3)?;
            Ok((outcome, counters, blake3, best))
        });
        let last = |iterations| Step::new(iterations).unwrap_or(Step::MAX);
        match &trained {
            Ok((outcome, ..)) => session.end(dir, Status::Success, clock.now(), last(outcome.iterations)),
            Err(RunError::Fit(FitError::Stopped { .. })) => {}
            Err(RunError::Fit(FitError::Diverged(diverged))) => {
                session.end(dir, Status::Failure, clock.now(), last(diverged.iterations));
            }
            Err(_) => session.end(dir, Status::Failure, clock.now(), last(point.state.position.iterations)),
        }
        let (outcome, mut counters, weights_blake3, best) = trained?;
        counters.log_bytes.add(Kind::Hparams, session.bytes());
        let checkpoint = store.steps()?.last().map(|&step| store.path_of(step));
        let relative = checkpoint.as_ref().and_then(|path| path.strip_prefix(dir.path()).ok());
        let mut result = result(&outcome, &counters, relative.map(|path| path.display().to_string()), clock.now());
        result.weights_blake3 = Some(weights_blake3);
        result.best.clone_from(&best);
        result.write_on(dir.disk(), &dir.result())?;
        moved?;
        let image_steps = if config.image_freq == 0 { 0 } else { config.epochs.div_ceil(config.image_freq) };
        Ok(Finished {
            outcome,
            best,
            logdir: dir.path().to_owned(),
            image_steps,
            lost_entries: counters.lost_entries,
            log_bytes: counters.log_bytes,
            seconds: counters.seconds,
        })
    }
}

fn result(outcome: &Outcome, counters: &RunCounters, checkpoint: Option<String>, now: WallTime) -> RunResult {
    let last = &outcome.last;
    let log_bytes = counters.log_bytes.kinds().into_iter().map(|(kind, bytes)| (kind.name().to_owned(), bytes));
    RunResult {
        version: RunResult::VERSION,
        status: records::Status::Finished,
        epochs: last.epoch + 1,
        iterations: outcome.iterations,
        train_loss: last.train.loss,
        train_accuracy: last.train.accuracy,
        validation_loss: last.validation.loss,
        validation_accuracy: last.validation.accuracy,
        best_validation_accuracy: outcome.best_validation_accuracy,
        seconds: counters.seconds,
        observers_share: outcome.observers_share,
        lost_log_entries: counters.lost_entries,
        log_bytes: log_bytes.collect(),
        attempts: counters.attempts,
        step: outcome.iterations,
        skipped_steps: outcome.skipped,
        rollbacks: counters.rollbacks.into(),
        checkpoint,
        weights_blake3: None,
        best: None,
        started: counters.started,
        ended: Some(now.as_secs()),
    }
}
