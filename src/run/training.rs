//! Second and third stage of a run: the state from which it continues, and training to its end, with rollbacks after
//! divergence.

use std::sync::Arc;
use std::time::Instant;

use super::checkpointing::{self, RunCheckpointer, RunCounters};
use super::prepare::{Command, Prepared};
use super::publish::Trained;
use super::resume_point::{self, ReplayedStart, ResumePoint};
use super::{Requests, RunError, Start, device_kind, device_text, observers};
use crate::config::{Cadence, Observed, OnNan};
use crate::data::Description;
use crate::durable;
use crate::eventlog::{Background, Limits, LogDir, Origin};
use crate::observe::Log;
use crate::run_dir::{DATASET, RunDirError};
use crate::run_name;
use crate::session::Session;
use crate::train::{self, Divergence, Fit, FitError, OnNonFinite, Outcome, Progress};
use crate::types::{Run, Step, WallTime};

/// Maximum rollbacks of a run: a divergence after that many would only recur.
const ROLLBACKS: u32 = 5;

/// A prepared run with the state from which training continues, recorded as started.
pub(super) struct Resumed<'a> {
    prepared: Prepared<'a>,
    point: ResumePoint,
    session: Session,
    /// Run time of earlier processes.
    seconds_before: f64,
}

impl<'a> Resumed<'a> {
    /// Finds the resume point and records the start; the directories that this start created are removed if there is
    /// none.
    pub fn new(prepared: Prepared<'a>) -> Result<Resumed<'a>, RunError> {
        let Prepared { command, dir, store, .. } = &prepared;
        let Command { resolved, start, recorder, clock, .. } = *command;
        let began = clock.now();
        let mut point = resume_point::of(&prepared).inspect_err(|_| prepared.footprint.erase())?;
        if *start == Start::Fresh {
            store.clear()?;
            dir.clear()?;
        }
        let seconds_before = point.counters.seconds;
        dir.write_config(&resolved.placed(dir.path()).to_toml())?;
        dir.write_dataset(&prepared.described(&point)?)?;
        point.counters.attempts = recorder.borrow_mut().open(dir.held(), point.counters.attempts)?;
        let started = *point.counters.started.get_or_insert(began.as_secs());
        recorder.borrow_mut().start(&point.state.position, point.counters.rollbacks, resolved);
        let session = Session::begin(dir, resolved, WallTime::from_secs(started).unwrap_or(began));
        prepared.announce(&point);
        Ok(Resumed { prepared, point, session, seconds_before })
    }

    /// Trains to the end, a stop or an error, which is part of the result: the run's last files depend on it. Fails only
    /// if nothing may be written any more, or no resume point remains.
    pub fn train(mut self, progress: &mut dyn Progress, requests: &Requests) -> Result<Trained<'a>, RunError> {
        let Command { resolved, .. } = self.prepared.command;
        let mut last_rollback = None;
        let result = loop {
            let (trained, counters) = self.prepared.attempt(&mut self.point, progress, requests)?;
            // A lost directory takes precedence over any other error: nothing is written to one that replaced it.
            if let (Err(_), Err(lost)) = (&trained, self.prepared.dir.check_held()) {
                return Err(RunDirError::from(lost).into());
            }
            match trained {
                Err(FitError::Diverged(diverged))
                    if resolved.config.on_nan == OnNan::Rollback && counters.rollbacks < ROLLBACKS =>
                {
                    self = self.roll_back(&diverged, counters, &mut last_rollback)?;
                }
                trained => break trained.map(|outcome| (outcome, counters)).map_err(RunError::from),
            }
        };
        let Resumed { prepared, point, session, .. } = self;
        Ok(Trained { prepared, point, session, result })
    }

    /// Returns to the newest checkpoint before the divergence and excludes the steps since. `last` is the first step
    /// that the previous rollback excluded.
    fn roll_back(
        mut self,
        diverged: &Divergence,
        counters: RunCounters,
        last: &mut Option<u64>,
    ) -> Result<Resumed<'a>, RunError> {
        // The step that revealed the divergence is always skipped.
        let mut first = diverged.fine_until.min(diverged.iterations.saturating_sub(1)) + 1;
        // A loss belongs to the weights before its step. If the same step was twice the last one with a good loss, its
        // own update is bad and is skipped, too.
        if *last == Some(first) {
            first = first.saturating_sub(1).max(1);
        }
        *last = Some(first);
        let mut left_out = counters.left_out;
        left_out.extend(first..=diverged.iterations);
        let mut point = resume_point::before(&self.prepared, first, self.point.dataset)?;
        let counted =
            RunCounters { attempts: counters.attempts, rollbacks: counters.rollbacks + 1, left_out, ..point.counters };
        // This process counts its time once, at its end.
        point.counters = RunCounters { started: counters.started, seconds: self.seconds_before, ..counted };
        let iterations = point.state.position.iterations;
        self.prepared.command.recorder.borrow_mut().rollback(diverged.iterations, iterations);
        tracing::warn!(
            "{diverged}; back to step {iterations}, and on without steps {first} to {}",
            diverged.iterations
        );
        self.point = point;
        Ok(self)
    }
}

impl Prepared<'_> {
    /// Contents of the description of the data.
    fn described(&self, point: &ResumePoint) -> Result<Vec<u8>, RunError> {
        let json = Description::of(&self.dataset, point.dataset.blake3.clone()).to_json();
        json.map_err(|error| {
            let path = self.dir.path().join(DATASET);
            RunDirError::from(durable::WriteError { path, source: error.into() }).into()
        })
    }

    /// Trains from `point` to the end, a stop or an error, and returns the counters at that time.
    fn attempt(
        &self,
        point: &mut ResumePoint,
        progress: &mut dyn Progress,
        requests: &Requests,
    ) -> Result<(Result<Outcome, FitError>, RunCounters), RunError> {
        let Prepared { command, dir, store, dataset, network, .. } = self;
        let Prepared { device, threads, .. } = *self;
        let Command { resolved, started, recorder, profile, clock, .. } = *command;
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
            started,
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
        counters.seconds += started.elapsed().as_secs_f64();
        // The log is closed in every case: points up to a failure are worth keeping.
        let closed = log.close();
        recorder.borrow_mut().lost_entries(closed.lost_entries);
        counters.lost_entries += closed.lost_entries;
        counters.log_bytes.merge(&closed.bytes);
        Ok((trained, counters))
    }

    fn announce(&self, point: &ResumePoint) {
        let Prepared { command, dir, dataset, network, .. } = self;
        let Prepared { device, threads, .. } = *self;
        let config = &command.resolved.config;
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
