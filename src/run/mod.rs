//! Assembly: a configuration becomes a data set, a network, observers and an event log, and is trained.

mod observers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tch::Device;

use crate::allocator::keep_freed_memory;
use crate::config::{Config, DeviceChoice, Observed, Resolved};
use crate::data::{self, Dataset, LoadError, Split};
use crate::eventlog::hparams::Status;
use crate::eventlog::{Background, Kind, Limits, LogDir, Origin, SinkError, Tally};
use crate::exit::{Classify, Exit};
use crate::model::{Network, ShapeError};
use crate::observe::{Closed, Findings};
use crate::run_dir::{self, RunDir, RunDirError};
use crate::session::Session;
use crate::train::{self, Fit, FitError, Outcome, Progress, TrainState};
use crate::types::{Clock, SystemClock};
use crate::weights::{self, WeightsError};

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    pub outcome: Outcome,
    pub logdir: PathBuf,
    /// Steps at which pictures were written.
    pub image_steps: u64,
    /// Entries of the event log that could not be written.
    pub lost_entries: u64,
    /// Bytes of the event log, by kind.
    pub log_bytes: Tally,
    /// From the first look at the directory to the last byte.
    pub seconds: f64,
}

/// Why a run did not finish.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("no log directory is given: say where the run goes with --logdir, such as --logdir logs/fit")]
    NoLogdir,
    #[error(transparent)]
    Dir(#[from] RunDirError),
    #[error(transparent)]
    Data(#[from] LoadError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error("device cuda:{index} is not there: libtorch sees {found} CUDA devices; use --device cpu or --device auto")]
    NoCuda { index: usize, found: usize },
    #[error(transparent)]
    Log(#[from] SinkError),
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl Classify for RunError {
    fn exit(&self) -> Exit {
        match self {
            RunError::NoLogdir => Exit::Usage,
            RunError::Dir(error) => error.exit(),
            RunError::Data(error) => error.exit(),
            RunError::Shape(error) => error.exit(),
            RunError::NoCuda { .. } => Exit::Unavailable,
            RunError::Log(error) => error.exit(),
            RunError::Fit(error) => error.exit(),
            RunError::Weights(error) => error.exit(),
        }
    }
}

/// Trains as `resolved` says. `stop` is 0 until a signal of that number asks to end after the step that is running.
pub fn run(
    resolved: &Resolved,
    fresh: bool,
    progress: &mut dyn Progress,
    stop: &AtomicUsize,
) -> Result<Finished, RunError> {
    let started = std::time::Instant::now();
    let config = &resolved.config;
    let logdir = config.logdir.as_deref().ok_or(RunError::NoLogdir)?;
    run_dir::check(logdir, fresh)?;
    let device = device(config.device)?;
    let threads = config.threads.unwrap_or_else(available_threads);
    keep_freed_memory();

    let dataset = dataset(config)?;
    let network = Arc::new(Network::build(&config.architecture, dataset.train.shape(), dataset.classes.len())?);
    let dir = RunDir::open(logdir, fresh)?;
    if dir.has_events() {
        tracing::warn!(
            "{} holds an unfinished run; training starts over, and its curves replace the old ones",
            logdir.display()
        );
    }
    dir.write_config(&resolved.to_toml())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut session = Session::begin(&dir, resolved, clock.now());
    tracing::info!(
        "training {} on {}: {} images, {} parameters, {}, logs in {}",
        device_text(device, threads),
        dataset.name,
        dataset.train.len(),
        network.parameter_count(),
        if config.epochs == 1 { "1 epoch".to_owned() } else { format!("{} epochs", config.epochs) },
        logdir.display()
    );

    let mut state = TrainState::initialise(&network, config.rule(), config.seed, device);
    let log = Background::spawn(LogDir::new(dir.path(), Origin::here()), Limits::default())?;
    let mut findings = Findings::new(log, Arc::clone(&clock));
    let mut watches = observers::watches(resolved, device, threads);
    let fit = Fit {
        network: &network,
        dataset: &dataset,
        device,
        epochs: config.epochs,
        batch_size: config.batch_size,
        learning_rate: config.learning_rate,
        seed: config.seed,
        threads,
        stop,
    };
    let fitted = train::fit(&fit, &mut state, &mut watches, &mut findings, progress);
    drop(watches);
    if let Ok(outcome) = &fitted
        && !config.trigger(Observed::Steps).is_never()
    {
        findings.push_share(outcome);
    }
    // The log is closed whether training went to its end or not: what was seen so far is worth keeping.
    let mut log = findings.close();
    let trained = fitted.map_err(RunError::from).and_then(|outcome| {
        weights::save(&dir.weights(), &state.parameters)?;
        Ok(outcome)
    });
    match &trained {
        Ok(_) => session.end(Status::Success, clock.now()),
        Err(RunError::Fit(FitError::Stopped { .. })) => {}
        Err(_) => session.end(Status::Failure, clock.now()),
    }
    let outcome = trained?;
    log.bytes.add(Kind::Hparams, session.bytes());
    let seconds = started.elapsed().as_secs_f64();
    dir.write_result(&result_json(&outcome, seconds, &log))?;
    let image_steps = if config.image_freq == 0 { 0 } else { config.epochs.div_ceil(config.image_freq) };
    Ok(Finished {
        outcome,
        logdir: logdir.to_owned(),
        image_steps,
        lost_entries: log.lost_entries,
        log_bytes: log.bytes,
        seconds,
    })
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

fn device_text(device: Device, threads: usize) -> String {
    match device {
        Device::Cpu if threads == 1 => "on the CPU with 1 thread".to_owned(),
        Device::Cpu => format!("on the CPU with {threads} threads"),
        Device::Cuda(index) => format!("on CUDA device {index}"),
        other => format!("on {other:?}"),
    }
}

fn result_json(outcome: &Outcome, seconds: f64, log: &Closed) -> serde_json::Value {
    let bytes = |(kind, bytes): (Kind, u64)| (kind.name().to_owned(), bytes.into());
    let log_bytes: serde_json::Map<_, _> = log.bytes.kinds().into_iter().map(bytes).collect();
    let last = &outcome.last;
    serde_json::json!({
        "version": 1,
        "status": "finished",
        "epochs": last.epoch + 1,
        "iterations": outcome.iterations,
        "train_loss": last.train.loss,
        "train_accuracy": last.train.accuracy,
        "validation_loss": last.validation.loss,
        "validation_accuracy": last.validation.accuracy,
        "best_validation_accuracy": outcome.best_validation_accuracy,
        "seconds": seconds,
        "observers_share": outcome.observers_share,
        "lost_log_entries": log.lost_entries,
        "log_bytes": log_bytes,
    })
}
