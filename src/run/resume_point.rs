//! Starting point of a training process: the training state, the observers' state and the counters up to it.

use std::collections::BTreeMap;
use std::path::Path;

use super::checkpointing::{CheckpointMetadata, DatasetIdentity, RunCounters};
use super::prepare::Prepared;
use super::run_state::{self, RunStateError};
use super::{RunError, Start, device_kind, state_files};
use crate::catalogue;
use crate::checkpoint::{Checkpoint, Store};
use crate::config::{Knob, WarmStart};
use crate::exit::{Classify, Exit};
use crate::run_dir::{self, CHECKPOINTS};
use crate::saved::SavedRun;
use crate::train::{Memories, TrainState};
use crate::weights::Weights;

/// State from which training continues.
pub(super) struct ResumePoint {
    pub state: TrainState,
    pub memories: Memories,
    pub counters: RunCounters,
    pub dataset: DatasetIdentity,
    /// The weights of a warm start, which the seed does not determine.
    pub initial: Option<Weights>,
    pub replayed_start: ReplayedStart,
}

/// Initial state to pass to observers before training continues. At step 0 the training loop passes it itself.
pub(super) enum ReplayedStart {
    No,
    /// The state itself: a fork's log begins with it.
    AsIs,
    /// The state before the first step. A resume in the first epoch discards logged points from epoch 0 on, and with
    /// them the initial ones.
    Of(Box<TrainState>),
}

/// Starting point of `prepared`: the newest checkpoint in its directory, that of the forked run, or step 0.
pub(super) fn of(prepared: &Prepared<'_>) -> Result<ResumePoint, RunError> {
    let dataset = DatasetIdentity { name: prepared.dataset.name.clone(), blake3: prepared.dataset.blake3() };
    // Errors are found before anything of the old run is removed.
    if *prepared.command.start == Start::Fresh {
        return beginning(prepared, dataset);
    }
    run_state::compare_classes(prepared.dir.path(), &prepared.dataset)?;
    if let Some(checkpoint) = run_state::newest(&prepared.store, &prepared.dir.checkpoints())? {
        return resumed(prepared, &checkpoint, dataset);
    }
    match prepared.command.start {
        Start::Fork(from) => forked(prepared, from, dataset),
        _ => {
            if prepared.dir.has_events() {
                tracing::warn!(
                    "{} holds an unfinished run without a checkpoint; training starts over, and its curves replace the \
                     old ones",
                    prepared.dir.path().display()
                );
            }
            beginning(prepared, dataset)
        }
    }
}

/// Starting point of `prepared` before step `first`, after the steps from `first` on have diverged.
pub(super) fn before(prepared: &Prepared<'_>, first: u64, dataset: DatasetIdentity) -> Result<ResumePoint, RunError> {
    prepared.store.discard_after(first.saturating_sub(1))?;
    match run_state::newest(&prepared.store, &prepared.dir.checkpoints())? {
        Some(checkpoint) => resumed(prepared, &checkpoint, dataset),
        None => beginning(prepared, dataset),
    }
}

fn resumed(
    prepared: &Prepared<'_>,
    checkpoint: &Checkpoint,
    dataset: DatasetIdentity,
) -> Result<ResumePoint, RunError> {
    let unusable = |source| RunError::State { path: checkpoint.path.clone(), source };
    let metadata = CheckpointMetadata::of(checkpoint).map_err(unusable)?;
    run_state::compare(&metadata, prepared.command.resolved, &dataset, prepared.dir.path())?;
    if metadata.device != device_kind(prepared.device) {
        tracing::warn!(
            "going on with device {}, after {}: bits may differ",
            device_kind(prepared.device),
            metadata.device
        );
    }
    let mut state = fresh_state(prepared);
    let has_initial = state_files::restore_initial(checkpoint, &state.parameters).map_err(unusable)?;
    let initial = has_initial.then(|| state.parameters.copied());
    let replayed_start = if metadata.position.epoch == 0 {
        let parameters = Weights::initialise(&prepared.network, prepared.command.resolved.config.seed, prepared.device);
        parameters.copy_from(&state.parameters);
        ReplayedStart::Of(Box::new(TrainState::of(parameters, prepared.command.resolved.config.rule())))
    } else {
        ReplayedStart::No
    };
    let restored = state_files::restore(checkpoint, metadata.position, metadata.optimizer_steps, true, &mut state);
    let memories = restored.map_err(unusable)?;
    let counters = RunCounters { attempts: metadata.counters.attempts + 1, ..metadata.counters };
    Ok(ResumePoint { state, memories, counters, dataset, initial, replayed_start })
}

fn forked(prepared: &Prepared<'_>, from: &Path, dataset: DatasetIdentity) -> Result<ResumePoint, RunError> {
    let config = &prepared.command.resolved.config;
    let is_itself = match (from.canonicalize(), prepared.dir.path().canonicalize()) {
        (Ok(from), Ok(own)) => from == own,
        _ => false,
    };
    if is_itself {
        return Err(RunStateError::ForkOfItself { path: from.to_owned() }.into());
    }
    let checkpoints = from.join(CHECKPOINTS);
    let store = Store::new(&checkpoints);
    if let Some(settings) = run_state::sealed_settings(&store)? {
        refuse_other_layers(prepared, from, &settings)?;
    }
    let newest = run_state::newest(&store.bounded(state_files::lengths(&prepared.network)), &checkpoints)?;
    let checkpoint = newest.ok_or_else(|| RunStateError::NothingToFork { path: from.to_owned() })?;
    let unusable = |source| RunError::State { path: checkpoint.path.clone(), source };
    let metadata = CheckpointMetadata::of(&checkpoint).map_err(unusable)?;
    let differences = prepared.command.resolved.differences(&metadata.settings);
    let changed = |keys: &[&str]| differences.iter().any(|difference| keys.contains(&difference.what.as_str()));
    refuse_other_layers(prepared, from, &metadata.settings)?;
    let mut position = metadata.position;
    let mut state = fresh_state(prepared);
    if metadata.dataset != dataset || changed(&["limit-validation"]) {
        // The best values belong to other images.
        position.best_validation_accuracy = 0.0;
        position.best = None;
    }
    // Another optimizer has other state. With other images or another order, a position within an epoch is
    // meaningless.
    let same_rule = !changed(&["optimizer"]);
    let same_order = metadata.dataset == dataset && !changed(&["seed", "batch-size", "limit-train"]);
    if !same_order {
        position.samples = 0;
        position.unseen = false;
    }
    let memories = state_files::restore(&checkpoint, position, metadata.optimizer_steps, same_rule, &mut state)
        .map_err(unusable)?;
    for difference in &differences {
        tracing::info!("forked with another setting: {difference}");
    }
    if config.epochs <= position.epoch {
        let (done, wanted) = (position.epoch, config.epochs);
        return Err(RunStateError::NothingLeft { path: from.to_owned(), done, wanted }.into());
    }
    let counters = RunCounters { attempts: 1, ..RunCounters::default() };
    Ok(ResumePoint { state, memories, counters, dataset, initial: None, replayed_start: ReplayedStart::AsIs })
}

/// Checked before the files are read: those of another network may have any length.
fn refuse_other_layers(
    prepared: &Prepared<'_>,
    from: &Path,
    settings: &BTreeMap<String, String>,
) -> Result<(), RunStateError> {
    let mut differences = prepared.command.resolved.differences(settings);
    differences.retain(|difference| Knob::find(&difference.what).is_some_and(Knob::is_of_network));
    if differences.is_empty() {
        Ok(())
    } else {
        Err(RunStateError::ForkOfAnother { path: from.to_owned(), differences })
    }
}

fn beginning(prepared: &Prepared<'_>, dataset: DatasetIdentity) -> Result<ResumePoint, RunError> {
    let state = fresh_state(prepared);
    let initial = warm_start(prepared, &state)?;
    let counters = RunCounters { attempts: 1, ..RunCounters::default() };
    Ok(ResumePoint {
        state,
        memories: Memories::default(),
        counters,
        dataset,
        initial,
        replayed_start: ReplayedStart::No,
    })
}

fn fresh_state(prepared: &Prepared<'_>) -> TrainState {
    let config = &prepared.command.resolved.config;
    TrainState::initialise(&prepared.network, config.rule(), config.seed, prepared.device)
}

/// Copies the weights of another run into `state` if the configuration asks for it, logs that run and returns the
/// weights.
fn warm_start(prepared: &Prepared<'_>, state: &TrainState) -> Result<Option<Weights>, RunError> {
    let config = &prepared.command.resolved.config;
    let saved = match &config.warm_start {
        WarmStart::None => return Ok(None),
        WarmStart::Latest => {
            let beside = run_dir::parent(prepared.dir.path()).unwrap_or(prepared.dir.path());
            let fits = |run: &catalogue::Run| !run.is_in(prepared.dir.path()) && run.has_network_of(config);
            let saved = catalogue::good(beside, &fits).into_iter().find_map(|run| {
                let opened = open(&run.path, prepared, state);
                opened.map_err(|error| tracing::warn!("{error}; an older run is looked for")).ok()
            });
            let Some(saved) = saved else {
                tracing::info!("beginning from scratch: {} holds no good run of this network", beside.display());
                return Ok(None);
            };
            saved
        }
        WarmStart::Run(dir) => open(dir, prepared, state)?,
    };
    state.parameters.copy_from(&saved.parameters);
    let mut previous = state.previous.shallow_clone();
    tch::no_grad(|| previous.copy_(saved.parameters.flat()));
    tracing::info!("beginning with the weights of {}", saved.dir.display());
    Ok(Some(state.parameters.copied()))
}

/// Loads the network of the run in `dir`; an error if its layers differ from those of `state`.
fn open(dir: &Path, prepared: &Prepared<'_>, state: &TrainState) -> Result<SavedRun, RunStateError> {
    let refused = |exit: Exit, reason: String| RunStateError::WarmStart { path: dir.to_owned(), exit, reason };
    let saved = SavedRun::open(dir, prepared.device).map_err(|error| refused(error.exit(), error.to_string()))?;
    if saved.parameters.specs() != state.parameters.specs() {
        return Err(refused(Exit::Data, "its network has other layers".to_owned()));
    }
    Ok(saved)
}
