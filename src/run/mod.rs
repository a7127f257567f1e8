//! Assembly: a configuration becomes a data set, a network, observers and an event log, and is trained.

mod best;
mod error;
mod keeping;
mod notes;
mod observers;
mod place;
mod point;
mod profile;
mod standing;
mod state_files;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use tch::Device;

use crate::checkpoint::Store;
use crate::config::{Cadence, Config, DeviceChoice, Observed, OnNan, Resolved};
use crate::data::{self, Dataset, LoadError, Split};
use crate::eventlog::hparams::Status;
use crate::eventlog::{Background, Kind, Limits, LogDir, Origin, Tally};
use crate::exit::Classify;
use crate::model::{Network, Precision};
use crate::observe::Log;
use crate::operators;
use crate::records::{self, BestEpoch, Journal, RunResult, Textfile};
use crate::run_dir::{self, JOURNAL, RunDir, RunDirError};
use crate::run_name;
use crate::session::Session;
use crate::train::{self, Fit, FitError, OnNonFinite, Outcome, Progress};
use crate::types::{Clock, Run, Step, SystemClock, WallTime};
use crate::weights;

use keeping::{Keeping, Ledger};
use notes::{Notes, Noting};
use place::Footprint;
use point::{Point, ShowsStart};
use profile::Profile;

pub use error::RunError;
pub use place::{Place, place};
pub use profile::ProfileError;
pub use standing::{Already, StandingError};
pub use state_files::StateError;

/// Rollbacks of one run: what comes back after them will come back again.
const ROLLBACKS: u32 = 5;

/// Where a run begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Where the directory's newest checkpoint is, or at the beginning.
    #[default]
    Resume,
    /// At the beginning; what is in the directory is removed.
    Fresh,
    /// Where the newest checkpoint of the run in this directory is; from the second start on, as [`Start::Resume`].
    Fork(PathBuf),
}

/// Requests from outside to a run that is under way, raised by whoever handles signals.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// 0, until a signal of this number asks to end, with a checkpoint, after the step in hand.
    pub stop: Arc<AtomicUsize>,
    /// Asks for a checkpoint after the step in hand; lowered when it is seen.
    pub checkpoint: Arc<AtomicBool>,
}

/// How a command ended that asked for a trained network.
#[derive(Debug)]
pub enum Ended {
    Finished(Finished),
    /// It was there already.
    Already(Already),
}

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    pub outcome: Outcome,
    /// The best epoch, and the file with its weights.
    pub best: Option<BestEpoch>,
    pub logdir: PathBuf,
    /// Steps at which pictures were written.
    pub image_steps: u64,
    /// Entries of the event log that could not be written.
    pub lost_entries: u64,
    /// Bytes of the event log, by kind.
    pub log_bytes: Tally,
    /// Of all processes that worked at it, from the first look at the directory to the last byte.
    pub seconds: f64,
}

/// Trains as `resolved` says, in the directory `logdir` (see [`place`]), and heeds `requests` on the way.
pub fn run(
    logdir: &Path,
    resolved: &Resolved,
    start: &Start,
    progress: &mut dyn Progress,
    requests: &Requests,
) -> Result<Ended, RunError> {
    let started = Instant::now();
    // Training has threads of its own; OpenMP's, where they cannot be had, end the process without a word.
    tch::set_num_threads(1);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let textfile = resolved.config.metrics_textfile.as_deref();
    let profile = Profile::new(resolved.config.profile.as_deref(), logdir, textfile)?;
    let textfile = textfile.map(|path| Textfile::new(path, |dir| run_dir::makes(logdir, dir))).transpose()?;
    operators::watch(profile.trace());
    let notes = RefCell::new(Notes::new(resolved, textfile, Arc::clone(&clock)));
    let ended = run_in(logdir, resolved, start, progress, requests, &notes, &profile, &clock, started);
    profile.finish();
    let mut notes = notes.borrow_mut();
    match &ended {
        Ok(Ended::Finished(_)) => notes.end(records::Status::Finished, None, 0),
        Ok(Ended::Already(already)) => notes.already(already),
        // The figures are its owner's.
        Err(RunError::Dir(RunDirError::InUse { .. })) => {}
        Err(error @ RunError::Dir(RunDirError::Lost(lost))) => {
            if !lost.is_owned() {
                notes.leave();
            }
            notes.end(records::Status::Failed, Some(error.to_string()), error.exit().code());
        }
        Err(error @ RunError::Fit(FitError::Stopped { .. })) => {
            notes.end(records::Status::Stopped, None, error.exit().code());
        }
        Err(error) => {
            if let RunError::Fit(FitError::Diverged(diverged)) = error {
                notes.at(diverged.iterations, diverged.epoch);
            }
            notes.end(records::Status::Failed, Some(error.to_string()), error.exit().code());
        }
    }
    ended
}

#[expect(clippy::too_many_arguments, reason = "what `run` has set up, taken apart once")]
fn run_in(
    logdir: &Path,
    resolved: &Resolved,
    start: &Start,
    progress: &mut dyn Progress,
    requests: &Requests,
    notes: &RefCell<Notes>,
    profile: &Profile,
    clock: &Arc<dyn Clock>,
    started: Instant,
) -> Result<Ended, RunError> {
    let config = &resolved.config;
    // Before data is read: whoever asks for what is there, or for what cannot be, is told at once.
    if let Err(error) = run_dir::check(logdir) {
        // What is finished can be said of a run where nothing can be written, too.
        let is_read_only = matches!(error, RunDirError::NotWritable { .. }) && *start != Start::Fresh;
        let finished = if is_read_only { standing::finished(logdir, resolved).ok().flatten() } else { None };
        return finished.map(Ended::Already).ok_or(error.into());
    }
    Journal::check(&logdir.join(JOURNAL))?;
    if *start != Start::Fresh
        && let Some(already) = standing::finished(logdir, resolved)?
    {
        // The process that finished it may have been killed before it said so, or have failed after it was true.
        if notes::lacks_end(&logdir.join(JOURNAL))
            && let Ok(dir) = RunDir::open(logdir)
        {
            notes.borrow_mut().end_of_another(dir.held(), &already);
        }
        return Ok(Ended::Already(already));
    }
    let device = device(config.device)?;
    if device == Device::Cpu && config.precision != Precision::F32 {
        return Err(RunError::Precision { precision: config.precision });
    }
    let threads = config.threads.unwrap_or_else(available_threads);
    let dataset = dataset(config)?;
    let network = Arc::new(Network::build(&config.architecture, dataset.train.shape(), dataset.classes.len())?);

    let footprint = Footprint::before(logdir);
    let dir = RunDir::open(logdir)?;
    profile.hold(dir.held());
    let store = Store::on(dir.disk().clone(), dir.checkpoints()).bounded(state_files::lengths(&network));
    if *start != Start::Fresh
        && let Some(already) = standing::finished(logdir, resolved)?
    {
        return Ok(Ended::Already(already)); // another process has finished it since the first look
    }
    store.sweep()?;
    let job = Job {
        resolved,
        dir: &dir,
        footprint: &footprint,
        store: &store,
        dataset: &dataset,
        network: &network,
        device,
        threads,
        started,
        notes,
        profile,
        clock,
    };
    job.train(start, &mut Noting { notes, profile, console: progress }, requests).map(Ended::Finished)
}

/// All that does not change while a run is trained, rolled back and trained again.
struct Job<'a> {
    resolved: &'a Resolved,
    dir: &'a RunDir,
    /// What this start has made, until the run has its configuration.
    footprint: &'a Footprint,
    store: &'a Store,
    dataset: &'a Dataset,
    network: &'a Arc<Network>,
    device: Device,
    threads: usize,
    started: Instant,
    notes: &'a RefCell<Notes>,
    profile: &'a Profile,
    clock: &'a Arc<dyn Clock>,
}

impl Job<'_> {
    fn train(&self, start: &Start, progress: &mut dyn Progress, requests: &Requests) -> Result<Finished, RunError> {
        let Job { resolved, dir, store, notes, clock, .. } = *self;
        let config = &resolved.config;
        let began = clock.now();
        let mut point = point::of(self, start).inspect_err(|_| self.footprint.erase())?;
        if *start == Start::Fresh {
            store.clear()?;
            dir.clear()?;
        }
        let seconds_before = point.ledger.seconds;
        dir.write_config(&resolved.placed(dir.path()).to_toml())?;
        point.ledger.attempts = notes.borrow_mut().open(dir.held(), point.ledger.attempts)?;
        let started = *point.ledger.started.get_or_insert(began.as_secs());
        notes.borrow_mut().start(&point.state.position, point.ledger.rollbacks, resolved);
        let mut session = Session::begin(dir, resolved, WallTime::from_secs(started).unwrap_or(began));
        self.announce(&point);
        let mut went_back_before = None;
        let trained = loop {
            let (trained, ledger) = self.attempt(&mut point, progress, requests)?;
            // Whatever it was that failed: where the directory is gone nothing of it is told in another one.
            if let (Err(_), Err(lost)) = (&trained, dir.check_held()) {
                return Err(RunDirError::from(lost).into());
            }
            let diverged = match trained {
                Err(FitError::Diverged(diverged))
                    if config.on_nan == OnNan::Rollback && ledger.rollbacks < ROLLBACKS =>
                {
                    diverged
                }
                trained => break trained.map(|outcome| (outcome, ledger)).map_err(RunError::from),
            };
            // The step that shows it is left out in any case.
            let mut first = diverged.fine_until.min(diverged.iterations.saturating_sub(1)) + 1;
            // A loss is of the weights before its step: where the last fine one was so twice, what came of its step is not.
            if went_back_before == Some(first) {
                first = first.saturating_sub(1).max(1);
            }
            went_back_before = Some(first);
            let mut left_out = ledger.left_out;
            left_out.extend(first..=diverged.iterations);
            point = point::before(self, first, point.dataset)?;
            let counted =
                Ledger { attempts: ledger.attempts, rollbacks: ledger.rollbacks + 1, left_out, ..point.ledger };
            // This process counts its time once, at its end.
            point.ledger = Ledger { started: ledger.started, seconds: seconds_before, ..counted };
            notes.borrow_mut().rollback(diverged.iterations, point.state.position.iterations);
            tracing::warn!(
                "{diverged}; back to step {}, and on without steps {first} to {}",
                point.state.position.iterations,
                diverged.iterations
            );
        };
        // One that was moved takes what is left, and is then named in the error.
        let moved = match dir.check_held() {
            Err(lost) if !lost.is_owned() => return Err(RunDirError::from(lost).into()),
            held => held.map_err(RunDirError::from),
        };
        let trained = trained.and_then(|(outcome, ledger)| {
            self.dataset.check()?; // without checkpoints nobody has asked
            let blake3 = weights::save_on(dir.disk(), &dir.weights(), &point.state.parameters)?;
            let best = best::save(dir, &point.state, &blake3)?;
            Ok((outcome, ledger, blake3, best))
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
        let (outcome, mut ledger, weights_blake3, best) = trained?;
        ledger.log_bytes.add(Kind::Hparams, session.bytes());
        let checkpoint = store.steps()?.last().map(|&step| store.path_of(step));
        let relative = checkpoint.as_ref().and_then(|path| path.strip_prefix(dir.path()).ok());
        let mut result = result(&outcome, &ledger, relative.map(|path| path.display().to_string()), clock.now());
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
            lost_entries: ledger.lost_entries,
            log_bytes: ledger.log_bytes,
            seconds: ledger.seconds,
        })
    }

    /// Trains from `point` as far as it goes, and says what has been counted by then.
    fn attempt(
        &self,
        point: &mut Point,
        progress: &mut dyn Progress,
        requests: &Requests,
    ) -> Result<(Result<Outcome, FitError>, Ledger), RunError> {
        let Job { resolved, dir, store, dataset, network, device, threads, notes, profile, clock, .. } = *self;
        let config = &resolved.config;
        let position = point.state.position;
        let epoch = Step::new(position.epoch).unwrap_or(Step::MAX);
        dir.go_on_at(epoch)?;
        // A state that nobody has looked at shows its last step again.
        let next = if position.unseen { position.iterations } else { position.iterations + 1 };
        let files = LogDir::within(dir.held().clone(), Origin::here())
            .starting_at(Run::Train, epoch)
            .starting_at(Run::Validation, epoch)
            // Never 0, at which HParams's settings stand in the same directory: they would be void, too.
            .starting_at(Run::Steps, Step::new(next).unwrap_or(Step::MAX))
            .placing(Run::Steps, dir.dir_of(Run::Steps));
        let files = if config.trigger(Observed::Projector).is_never() { files } else { files.showing_snapshots() };
        let limits = Limits::default();
        let limits = Limits { encoders: limits.encoders.min(threads), ..limits };
        let mut log = Log::new(Background::spawn(files, limits)?, Arc::clone(clock));
        let mut watches = observers::watches(resolved, device, threads);
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
            left_out: &point.ledger.left_out,
            stop: &requests.stop,
            trace: profile.trace(),
        };
        match &point.shows_start {
            ShowsStart::No => {}
            ShowsStart::AsIs => train::show_start(&fit, &point.state, &mut watches, &mut log),
            ShowsStart::Of(beginning) => train::show_start(&fit, beginning, &mut watches, &mut log),
        }
        for watch in &mut watches {
            let recalled = watch.observer.recall(&point.memories);
            recalled.map_err(|source| RunError::State { path: dir.checkpoints(), source: source.into() })?;
        }
        let shows_share = !config.trigger(Observed::Steps).is_never();
        let mut keeping = Keeping {
            dir,
            store,
            shows_share,
            cadence: config.checkpoint_every,
            retention: keeping::retention(config),
            epochs: config.epochs,
            settings: resolved.fixed(),
            dataset: point.dataset.clone(),
            learned: dataset,
            device: device_kind(device),
            ledger: point.ledger.clone(),
            started: self.started,
            initial: point.initial.as_ref(),
            latest: Instant::now(),
            looked: Instant::now(),
            notes,
            requested: &requests.checkpoint,
            answers: false,
        };
        let trained = train::fit(&fit, &mut point.state, &mut watches, &mut log, &mut keeping, progress);
        drop(watches);
        if let Ok(outcome) = &trained
            && shows_share
            && config.checkpoint_every == Cadence::Off
        {
            log.push_share(outcome.iterations, outcome.observers_share);
        }
        let mut ledger = point.ledger.clone();
        ledger.seconds += self.started.elapsed().as_secs_f64();
        // The log is closed whether training went to its end or not: what was seen so far is worth keeping.
        let closed = log.close();
        notes.borrow_mut().lost_entries(closed.lost_entries);
        ledger.lost_entries += closed.lost_entries;
        ledger.log_bytes.merge(&closed.bytes);
        Ok((trained, ledger))
    }

    fn announce(&self, point: &Point) {
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

/// The data set that `config` names, cut to its limits.
pub fn dataset(config: &Config) -> Result<Dataset, LoadError> {
    let mut dataset = data::load(config.dataset, &config.data_dir, config.seed)?;
    dataset.train = limited(dataset.train, config.limit_train, "training");
    dataset.validation = limited(dataset.validation, config.limit_validation, "validation");
    Ok(dataset)
}

fn limited(split: Split, limit: Option<usize>, what: &str) -> Split {
    let Some(limit) = limit else { return split };
    if limit > split.len() {
        tracing::warn!("the {what} set has only {} images, fewer than the limit of {limit}", split.len());
    }
    split.limited(limit)
}

/// The device that is meant, if it is there.
pub fn device(choice: DeviceChoice) -> Result<Device, RunError> {
    let found = if tch::Cuda::is_available() { usize::try_from(tch::Cuda::device_count()).unwrap_or(0) } else { 0 };
    match choice {
        DeviceChoice::Auto if found > 0 => Ok(Device::Cuda(0)),
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Cuda(index) if index < found => Ok(Device::Cuda(index)),
        DeviceChoice::Cuda(index) => Err(RunError::NoCuda { index, found }),
    }
}

/// What the process may use: affinity and the container's CPU quota count.
fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What decides the bits.
fn device_kind(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(_) => "cuda".to_owned(),
        other => format!("{other:?}"),
    }
}

fn device_text(device: Device, threads: usize) -> String {
    match device {
        Device::Cpu if threads == 1 => "on the CPU with 1 thread".to_owned(),
        Device::Cpu => format!("on the CPU with {threads} threads"),
        Device::Cuda(index) => format!("on CUDA device {index}"),
        other => format!("on {other:?}"),
    }
}

fn result(outcome: &Outcome, ledger: &Ledger, checkpoint: Option<String>, now: WallTime) -> RunResult {
    let last = &outcome.last;
    let log_bytes = ledger.log_bytes.kinds().into_iter().map(|(kind, bytes)| (kind.name().to_owned(), bytes));
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
        seconds: ledger.seconds,
        observers_share: outcome.observers_share,
        lost_log_entries: ledger.lost_entries,
        log_bytes: log_bytes.collect(),
        attempts: ledger.attempts,
        step: outcome.iterations,
        skipped_steps: outcome.skipped,
        rollbacks: ledger.rollbacks.into(),
        checkpoint,
        weights_blake3: None,
        best: None,
        started: ledger.started,
        ended: Some(now.as_secs()),
    }
}
