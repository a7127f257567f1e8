//! Assembly: a configuration becomes a data set, a network, observers and an event log, and is trained.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tch::Device;

use crate::allocator::keep_freed_memory;
use crate::config::{Config, DeviceChoice, Resolved, UpdateFreq};
use crate::data::{self, Dataset, LoadError, Split};
use crate::eventlog::{Background, Limits, LogDir, Origin, SinkError};
use crate::exit::{Classify, Exit};
use crate::model::{Network, ShapeError};
use crate::observe::{
    EpochScalars, FeatureMaps, Filters, Findings, GradCam, Graphs, Inputs, StepScalars, Table, Texts, WeightHistograms,
};
use crate::run_dir::{self, RunDir, RunDirError};
use crate::train::{self, Fit, FitError, Observer, Outcome, Progress, TrainState};
use crate::types::{Clock, SystemClock};
use crate::weights::{self, WeightsError};

/// Images whose feature maps are shown, each of another class; a layer has one picture for each.
const FEATURE_MAP_PROBES: usize = 3;
/// Images whose Grad-CAM is shown; TensorBoard shows ten pictures of a tag.
const GRAD_CAM_PROBES: usize = 10;

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    pub outcome: Outcome,
    pub logdir: PathBuf,
    /// Steps at which pictures were written.
    pub image_steps: u64,
    /// Entries of the event log that could not be written.
    pub lost_entries: u64,
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
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let log = Background::spawn(LogDir::new(dir.path(), Origin::here()), Limits::default())?;
    let mut findings = Findings::new(log, clock);
    let mut observers = observers(resolved, device, threads);
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
    let fitted = train::fit(&fit, &mut state, &mut observers, &mut findings, progress);
    drop(observers);
    // The log is closed whether training went to its end or not: what was seen so far is worth keeping.
    let lost_entries = findings.close();
    let outcome = fitted?;

    weights::save(&dir.weights(), &state.parameters)?;
    let seconds = started.elapsed().as_secs_f64();
    dir.write_result(&result_json(&outcome, seconds, lost_entries))?;
    let image_steps = if config.image_freq == 0 { 0 } else { config.epochs.div_ceil(config.image_freq) };
    Ok(Finished { outcome, logdir: logdir.to_owned(), image_steps, lost_entries, seconds })
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

fn observers(resolved: &Resolved, device: Device, threads: usize) -> Vec<Box<dyn Observer<Findings>>> {
    let config = &resolved.config;
    let every_steps = match config.update_freq {
        UpdateFreq::Epoch => None,
        UpdateFreq::Steps(n) => Some(n),
    };
    let configuration = Table {
        headings: ["setting", "value", "from"],
        rows: resolved
            .values()
            .map(|(knob, text, source)| [knob.key.to_owned(), text.to_owned(), source.to_string()])
            .collect(),
    };
    let mut observers: Vec<Box<dyn Observer<Findings>>> = vec![
        Box::new(Texts { configuration, environment: environment(device, threads) }),
        Box::new(Graphs { rule: config.rule(), device: tensorflow_device(device) }),
        Box::new(EpochScalars),
        Box::new(StepScalars::new(every_steps)),
        Box::new(WeightHistograms::new(config.histogram_freq)),
    ];
    if config.image_freq > 0 {
        observers.push(Box::new(Inputs));
        observers.push(Box::new(Filters::new(config.image_freq)));
        observers.push(Box::new(FeatureMaps::new(config.image_freq, FEATURE_MAP_PROBES)));
        observers.push(Box::new(GradCam::new(config.image_freq, GRAD_CAM_PROBES)));
    }
    observers
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

fn tensorflow_device(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("/device:GPU:{index}"),
        _ => "/device:CPU:0".to_owned(),
    }
}

/// What somebody needs to know to run this again.
fn environment(device: Device, threads: usize) -> Table<2> {
    let rows = [
        ("trainer", format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("TRAINER_REVISION"))),
        ("libtorch", env!("TRAINER_LIBTORCH_VERSION").to_owned()),
        ("device", device_text(device, threads).trim_start_matches("on ").to_owned()),
        ("processor", processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
        ("operating system", std::env::consts::OS.to_owned()),
        ("host", gethostname::gethostname().to_string_lossy().into_owned()),
        ("process", std::process::id().to_string()),
    ];
    let rows = rows.into_iter().map(|(name, value)| [name.to_owned(), value]).collect();
    Table { headings: ["what", "value"], rows }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/cpuinfo")).ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

fn result_json(outcome: &Outcome, seconds: f64, lost_entries: u64) -> serde_json::Value {
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
        "lost_log_entries": lost_entries,
    })
}
