//! Training of one run to its end, with rollbacks after divergence.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use tch::Device;

use super::checkpointing::{self, RunCheckpointer, RunCounters};
use super::place::Footprint;
use super::profile::Profile;
use super::recorder::RunRecorder;
use super::resume_point::{self, ReplayedStart, ResumePoint};
use super::{Finished, Requests, RunError, Start, best, device_kind, device_text, observers};
use crate::checkpoint::Store;
use crate::config::{Cadence, Observed, OnNan, Resolved};
use crate::data::Dataset;
use crate::eventlog::hparams::Status;
use crate::eventlog::{Background, Kind, Limits, LogDir, Origin};
use crate::model::Network;
use crate::observe::Log;
use crate::records::{self, RunResult};
use crate::run_dir::{RunDir, RunDirError};
use crate::run_name;
use crate::session::Session;
use crate::train::{self, Fit, FitError, OnNonFinite, Outcome, Progress};
use crate::types::{Clock, Run, Step, WallTime};
use crate::weights;
/// Maximum rollbacks of a run: a divergence after that many would only recur.
const ROLLBACKS: u32 = 5;

/// Inputs of a run that stay the same across rollbacks.
pub(super) struct Job<'a> {
    pub resolved: &'a Resolved,
    pub dir: &'a RunDir,
    /// Directories created by this start, removed on an error before the configuration is written.
    pub footprint: &'a Footprint,
    pub store: &'a Store,
    pub dataset: &'a Dataset,
    pub network: &'a Arc<Network>,
    pub device: Device,
    pub threads: usize,
    pub started: Instant,
    pub recorder: &'a RefCell<RunRecorder>,
    pub profile: &'a Profile,
    pub clock: &'a Arc<dyn Clock>,
}

impl Job<'_> {
    pub fn train(&self, start: &Start, progress: &mut dyn Progress, requests: &Requests) -> Result<Finished, RunError> {
        let Job { resolved, dir, store, recorder, clock, .. } = *self;
        let config = &resolved.config;
        let began = clock.now();
        let mut point = resume_point::of(self, start).inspect_err(|_| self.footprint.erase())?;
        if *start == Start::Fresh {
            store.clear()?;
            dir.clear()?;
        }
        let seconds_before = point.counters.seconds;
        dir.write_config(&resolved.placed(dir.path()).to_toml())?;
        point.counters.attempts = recorder.borrow_mut().open(dir.held(), point.counters.attempts)?;
        let started = *point.counters.started.get_or_insert(began.as_secs());
        recorder.borrow_mut().start(&point.state.position, point.counters.rollbacks, resolved);
        let mut session = Session::begin(dir, resolved, WallTime::from_secs(started).unwrap_or(began));
        self.announce(&point);
        let mut went_back_before = None;
        let trained = loop {
            let (trained, counters) = self.attempt(&mut point, progress, requests)?;
            // A lost directory takes precedence over any other error: nothing is written to one that replaced it.
            if let (Err(_), Err(lost)) = (&trained, dir.check_held()) {
                return Err(RunDirError::from(lost).into());
            }
            let diverged = match trained {
                Err(FitError::Diverged(diverged))
                    if config.on_nan == OnNan::Rollback && counters.rollbacks < ROLLBACKS =>
                {
                    diverged
                }
                trained => break trained.map(|outcome| (outcome, counters)).map_err(RunError::from),
            };
            // The step that revealed the divergence is always skipped.
            let mut first = diverged.fine_until.min(diverged.iterations.saturating_sub(1)) + 1;
            // A loss belongs to the weights before its step. If the same step was twice the last one with a good
            // loss, its own update is bad and is skipped, too.
            if went_back_before == Some(first) {
                first = first.saturating_sub(1).max(1);
            }
            went_back_before = Some(first);
            let mut left_out = counters.left_out;
            left_out.extend(first..=diverged.iterations);
            point = resume_point::before(self, first, point.dataset)?;
            let counted = RunCounters {
                attempts: counters.attempts,
                rollbacks: counters.rollbacks + 1,
                left_out,
                ..point.counters
            };
            // This process counts its time once, at its end.
            point.counters = RunCounters { started: counters.started, seconds: seconds_before, ..counted };
            recorder.borrow_mut().rollback(diverged.iterations, point.state.position.iterations);
            tracing::warn!(
                "{diverged}; back to step {}, and on without steps {first} to {}",
                point.state.position.iterations,
                diverged.iterations
            );
        };
        // A moved directory still receives the final files; then the error names it.
        let moved = match dir.check_held() {
            Err(lost) if !lost.is_owned() => return Err(RunDirError::from(lost).into()),
            held => held.map_err(RunDirError::from),
        };
        let trained = trained.and_then(|(outcome, counters)| {
            self.dataset.check()?; // not checked before if checkpoints are off
            let blake3 = weights::save_on(dir.disk(), &dir.weights(), &point.state.parameters)?;
            let best = best::save(dir, &point.state, &blake3)?;
            Ok((outcome, counters, blake3, best))
        });
        let last = |iterations| Step::new(iterations).unwrap_or(Step::MAX);
        match &trained {
            Ok((outcome, ..)) => session.end(Status::Success, clock.now(), last(outcome.iterations)),
            Err(RunError::Fit(FitError::Stopped { .. })) => {}
            Err(RunError::Fit(FitError::Diverged(diverged))) => {
                session.end(Status::Failure, clock.now(), last(diverged.iterations));
            }
            Err(_) => session.end(Status::Failure, clock.now(), last(point.state.position.iterations)),
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

    /// Trains from `point` to the end, a stop or an error, and returns the counters at that time.
    fn attempt(
        &self,
        point: &mut ResumePoint,
        progress: &mut dyn Progress,
        requests: &Requests,
    ) -> Result<(Result<Outcome, FitError>, RunCounters), RunError> {
        let Job { resolved, dir, store, dataset, network, device, threads, recorder, profile, clock, .. } = *self;
        let config = &resolved.config;
        let position = point.state.position;
        let epoch = Step::new(position.epoch).unwrap_or(Step::MAX);
        dir.go_on_at(epoch)?;
        // If observers have not seen the last step, it is logged again.
        let next = if position.unseen { position.iterations } else { position.iterations + 1 };
        let files = LogDir::within(dir.held().clone(), Origin::here())
            .starting_at(Run::Train, epoch)
            .starting_at(Run::Validation, epoch)
            // Never 0: the HParams settings in the same directory have step 0 and would be discarded, too.
            .starting_at(Run::Steps, Step::new(next).unwrap_or(Step::MAX))
            .placing(Run::Steps, dir.dir_of(Run::Steps));
        let files = if config.trigger(Observed::Projector).is_never() { files } else { files.showing_snapshots() };
        let limits = Limits::default();
        let limits = Limits { encoders: limits.encoders.min(threads), ..limits };
        let mut log = Log::new(Background::spawn(files, limits)?, Arc::clone(clock));
        let mut scheduled = observers::scheduled(resolved, device, threads);
        let fit = Fit {
            network,
            dataset,
            device,
            epochs: config.epochs,
            batch_size: config.batch_size,
            learning_rate: config.learning_rate,
            seed: config.seed,
            threads,
            precision: config.precision,
            on_non_finite: if config.on_nan == OnNan::Skip { OnNonFinite::Skip } else { OnNonFinite::Stop },
            left_out: &point.counters.left_out,
            stop: &requests.stop,
            trace: profile.trace(),
        };
        match &point.replayed_start {
            ReplayedStart::No => {}
            ReplayedStart::AsIs => train::show_start(&fit, &point.state, &mut scheduled, &mut log),
            ReplayedStart::Of(beginning) => train::show_start(&fit, beginning, &mut scheduled, &mut log),
        }
        for watch in &mut scheduled {
            let recalled = watch.observer.recall(&point.memories);
            recalled.map_err(|source| RunError::State { path: dir.checkpoints(), source: source.into() })?;
        }
        let shows_share = !config.trigger(Observed::Steps).is_never();
        let mut checkpointing = RunCheckpointer {
            dir,
            store,
            shows_share,
            cadence: config.checkpoint_every,
            retention: checkpointing::retention(config),
            epochs: config.epochs,
            settings: resolved.fixed(),
            dataset: point.dataset.clone(),
            learned: dataset,
            device: device_kind(device),
            counters: point.counters.clone(),
            started: self.started,
            initial: point.initial.as_ref(),
            latest: Instant::now(),
            dir_checked: Instant::now(),
            recorder,
            requested: &requests.checkpoint,
            answers: false,
        };
        let trained = train::fit(&fit, &mut point.state, &mut scheduled, &mut log, &mut checkpointing, progress);
        drop(scheduled);
        if let Ok(outcome) = &trained
            && shows_share
            && config.checkpoint_every == Cadence::Off
        {
            log.push_share(outcome.iterations, outcome.observers_share);
        }
        let mut counters = point.counters.clone();
        counters.seconds += self.started.elapsed().as_secs_f64();
        // The log is closed in every case: points up to a failure are worth checkpointing.
        let closed = log.close();
        recorder.borrow_mut().lost_entries(closed.lost_entries);
        counters.lost_entries += closed.lost_entries;
        counters.log_bytes.merge(&closed.bytes);
        Ok((trained, counters))
    }

    fn announce(&self, point: &ResumePoint) {
        let Job { resolved, dir, dataset, network, device, threads, .. } = *self;
        let config = &resolved.config;
        if let Some(mark) = run_name::unshown(dir.path()) {
            tracing::warn!(
                "log directory {:?}: TensorBoard 2.21 shows no pictures of a run with {mark} in its path; choose another \
                 --logdir or --run-name",
                dir.path()
            );
        }
        let epochs = if config.epochs == 1 { "1 epoch".to_owned() } else { format!("{} epochs", config.epochs) };
        let (on, logdir) = (device_text(device, threads), dir.path().display());
        let position = point.state.position;
        if position.iterations > 0 {
            tracing::info!(
                "going on {on} after step {} (epoch {}) of {epochs}, logs in {logdir}",
                position.iterations,
                position.epoch + 1,
            );
        } else {
            tracing::info!(
                "training {on} on {}: {} images, {} parameters, {epochs}, logs in {logdir}",
                dataset.name,
                dataset.train.len(),
                network.parameter_count(),
            );
        }
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
