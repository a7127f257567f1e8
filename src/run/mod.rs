//! Training of a run: builds the data set, network, observers and event log from a configuration, and trains.

mod best;
mod error;
mod checkpointing;
mod recorder;
mod observers;
mod place;
mod prepare;
mod resume_point;
mod profile;
mod publish;
mod run_state;
mod state_files;
mod training;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use tch::Device;

use crate::config::{Config, DeviceChoice, Resolved};
use crate::data::{self, Dataset, LoadError, Split};
use crate::eventlog::Tally;
use crate::exit::Classify;
use crate::operators;
use crate::records::{self, BestEpoch, Textfile};
use crate::run_dir::{self, RunDirError};
use crate::train::{FitError, Outcome, Progress};
use crate::types::{Clock, SystemClock};

use prepare::{Command, Preparation};
use profile::Profile;
use recorder::{RecordedProgress, RunRecorder};
use training::Resumed;

pub use error::RunError;
pub use place::{Place, place};
pub use profile::ProfileError;
pub use run_state::{FinishedRun, RunStateError};
pub use state_files::StateError;

/// Starting point of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The directory's newest checkpoint, or step 0 without one.
    #[default]
    Resume,
    /// Step 0; an existing run in the directory is removed.
    Fresh,
    /// The newest checkpoint of the run in this directory; from the second start on, as [`Start::Resume`].
    Fork(PathBuf),
}

/// Requests to a run in training, set by signal handlers.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// Number of the signal that requests an end after the current step, with a checkpoint; 0 before.
    pub stop: Arc<AtomicUsize>,
    /// Requests a checkpoint after the current step; cleared when taken.
    pub checkpoint: Arc<AtomicBool>,
}

/// Result of a training command.
#[derive(Debug)]
pub enum Ended {
    Finished(Finished),
    /// The run was already finished.
    AlreadyFinished(FinishedRun),
}

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    pub outcome: Outcome,
    /// The best epoch and the file with its weights.
    pub best: Option<BestEpoch>,
    pub logdir: PathBuf,
    /// Steps at which images were written.
    pub image_steps: u64,
    /// Entries of the event log that could not be written.
    pub lost_entries: u64,
    /// Bytes of the event log, by kind.
    pub log_bytes: Tally,
    /// Run time of all processes of the run, from the first access to the directory to the last write.
    pub seconds: f64,
}

/// Trains with the configuration `resolved` in the directory `logdir` (see [`place()`]), and serves `requests`
/// meanwhile.
pub fn run(
    logdir: &Path,
    resolved: &Resolved,
    start: &Start,
    progress: &mut dyn Progress,
    requests: &Requests,
) -> Result<Ended, RunError> {
    let started = Instant::now();
    // Training has threads of its own. OpenMP ends the process without a message if it cannot create threads.
    tch::set_num_threads(1);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let textfile = resolved.config.metrics_textfile.as_deref();
    let profile = Profile::new(resolved.config.profile.as_deref(), logdir, textfile)?;
    let textfile = textfile.map(|path| Textfile::new(path, |dir| run_dir::makes(logdir, dir))).transpose()?;
    operators::watch(profile.trace());
    let recorder = RefCell::new(RunRecorder::new(resolved, textfile, Arc::clone(&clock)));
    let command = Command { logdir, resolved, start, started, recorder: &recorder, profile: &profile, clock: &clock };
    let ended = stages(command, progress, requests);
    profile.finish();
    let mut recorder = recorder.borrow_mut();
    match &ended {
        Ok(Ended::Finished(_)) => recorder.end(records::Status::Finished, None, 0),
        Ok(Ended::AlreadyFinished(already)) => recorder.already_finished(already),
        // The metrics file belongs to the process that uses the directory.
        Err(RunError::Dir(RunDirError::InUse { .. })) => {}
        Err(error @ RunError::Dir(RunDirError::Lost(lost))) => {
            if !lost.is_owned() {
                recorder.leave();
            }
            recorder.end(records::Status::Failed, Some(error.to_string()), error.exit().code());
        }
        Err(error @ RunError::Fit(FitError::Stopped { .. })) => {
            recorder.end(records::Status::Stopped, None, error.exit().code());
        }
        Err(error) => {
            if let RunError::Fit(FitError::Diverged(diverged)) = error {
                recorder.at(diverged.iterations, diverged.epoch);
            }
            recorder.end(records::Status::Failed, Some(error.to_string()), error.exit().code());
        }
    }
    ended
}

/// All stages of a run, each consuming the one before.
fn stages(command: Command<'_>, progress: &mut dyn Progress, requests: &Requests) -> Result<Ended, RunError> {
    let prepared = match command.prepare()? {
        Preparation::AlreadyFinished(finished) => return Ok(Ended::AlreadyFinished(finished)),
        Preparation::Ready(prepared) => prepared,
    };
    let mut progress = RecordedProgress { recorder: command.recorder, profile: command.profile, console: progress };
    let trained = Resumed::new(*prepared)?.train(&mut progress, requests)?;
    trained.publish().map(Ended::Finished)
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

/// The chosen device, if available.
pub fn device(choice: DeviceChoice) -> Result<Device, RunError> {
    let found = if tch::Cuda::is_available() { usize::try_from(tch::Cuda::device_count()).unwrap_or(0) } else { 0 };
    match choice {
        DeviceChoice::Auto if found > 0 => Ok(Device::Cuda(0)),
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Cuda(index) if index < found => Ok(Device::Cuda(index)),
        DeviceChoice::Cuda(index) => Err(RunError::NoCuda { index, found }),
    }
}

/// Threads available to the process, limited by CPU affinity and the container's CPU quota.
fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Kind of device, which determines the results to the bit.
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
