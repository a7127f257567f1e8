//! First stage of a run: checks everything that can be checked before training, and opens the run's directory.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tch::Device;

use super::place::Footprint;
use super::profile::Profile;
use super::recorder::{self, RunRecorder};
use super::run_state::{self, FinishedRun};
use super::{RunError, Start, available_threads, dataset, device, state_files};
use crate::checkpoint::Store;
use crate::config::Resolved;
use crate::data::Dataset;
use crate::graph::Graph;
use crate::model::Precision;
use crate::records::Journal;
use crate::run_dir::{self, JOURNAL, RunDir, RunDirError};
use crate::types::Clock;

/// A training command, before any check.
#[derive(Clone, Copy)]
pub(super) struct Command<'a> {
    pub logdir: &'a Path,
    pub resolved: &'a Resolved,
    pub start: &'a Start,
    /// Start of this process.
    pub started: Instant,
    pub recorder: &'a RefCell<RunRecorder>,
    pub profile: &'a Profile,
    pub clock: &'a Arc<dyn Clock>,
}

/// Outcome of the checks.
pub(super) enum Preparation<'a> {
    /// There is nothing to train.
    AlreadyFinished(FinishedRun),
    Ready(Box<Prepared<'a>>),
}

/// A run that can be trained: its directory is locked, its inputs are loaded. They stay the same across rollbacks.
pub(super) struct Prepared<'a> {
    pub command: Command<'a>,
    pub store: Store,
    pub dir: RunDir,
    /// Directories created by this start, removed on an error before the configuration is written.
    pub footprint: Footprint,
    pub network: Arc<Graph>,
    pub dataset: Dataset,
    pub device: Device,
    pub threads: usize,
}

impl<'a> Command<'a> {
    pub fn prepare(self) -> Result<Preparation<'a>, RunError> {
        let Command { logdir, resolved, start, .. } = self;
        let config = &resolved.config;
        // Checked before data is read: a finished run or an unusable directory is reported at once.
        if let Err(error) = run_dir::check(logdir) {
            // A finished run can be reported from a read-only directory, too.
            let is_read_only = matches!(error, RunDirError::NotWritable { .. }) && *start != Start::Fresh;
            let finished = if is_read_only { run_state::finished(logdir, resolved).ok().flatten() } else { None };
            return finished.map(Preparation::AlreadyFinished).ok_or(error.into());
        }
        Journal::check(&logdir.join(JOURNAL))?;
        if *start != Start::Fresh
            && let Some(finished) = run_state::finished(logdir, resolved)?
        {
            self.record_missing_end(&finished);
            return Ok(Preparation::AlreadyFinished(finished));
        }
        let device = device(config.device)?;
        if device == Device::Cpu && config.precision != Precision::F32 {
            return Err(RunError::Precision { precision: config.precision });
        }
        let threads = config.threads.unwrap_or_else(available_threads);
        let dataset = dataset(config)?;
        let network = Arc::new(config.architecture.build(dataset.train.shape(), dataset.classes.len())?);

        let footprint = Footprint::before(logdir);
        let dir = RunDir::open(logdir)?;
        self.profile.hold(dir.held());
        let store = Store::on(dir.disk().clone(), dir.checkpoints()).bounded(state_files::lengths(&network));
        // Another process may have finished the run since the first check.
        if *start != Start::Fresh
            && let Some(finished) = run_state::finished(logdir, resolved)?
        {
            return Ok(Preparation::AlreadyFinished(finished));
        }
        store.sweep()?;
        let prepared = Prepared { command: self, store, dir, footprint, network, dataset, device, threads };
        Ok(Preparation::Ready(Box::new(prepared)))
    }

    /// The process that finished the run may have been killed before it wrote the end, or have failed after the result.
    fn record_missing_end(&self, finished: &FinishedRun) {
        if recorder::lacks_end(&self.logdir.join(JOURNAL))
            && let Ok(dir) = RunDir::open(self.logdir)
        {
            self.recorder.borrow_mut().end_of_another(dir.held(), finished);
        }
    }
}
