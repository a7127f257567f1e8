//! Conversion between a training state and the files of a checkpoint.

use tch::Tensor;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::tensors::{self, TensorsError};
use crate::graph::{Graph, ParameterSpec};
use crate::train::{Memories, MemoryError, Position, Snapshot, TrainState};
use crate::weights::{self, Weights, host_values};

/// Weights, under the names of PyTorch's `state_dict`.
const MODEL: &str = "model.safetensors";
/// Optimizer state: `exp_avg.conv2d.weight` and so on.
const OPTIMIZER: &str = "optimizer.safetensors";
/// Gradient of the last step and the weights before it, if observers have not seen that step yet.
const LAST_STEP: &str = "last_step.safetensors";
/// Weights of a warm start; only in checkpoints of the first epoch.
const INITIAL: &str = "initial.safetensors";
/// Weights after the best epoch, unless they are the current ones.
const BEST: &str = "best.safetensors";
/// State of observers.
const OBSERVERS: &str = "observers.bin";
const GRADIENT: &str = "gradient";
const PREVIOUS: &str = "previous";

/// Maximum bytes of observer state. Films are the largest part, with some megabytes each.
const MAX_MEMORIES: u64 = 1 << 30;

/// Names of a checkpoint's files, each with its maximum length in bytes for this network.
pub(super) fn lengths(network: &Graph) -> Vec<(&'static str, u64)> {
    let count: usize = network.parameters().iter().map(ParameterSpec::len).sum();
    let values = |buffers: u64| tensors::longest(buffers * count as u64);
    [(MODEL, 1), (OPTIMIZER, 2), (LAST_STEP, 2), (INITIAL, 1), (BEST, 1)]
        .map(|(name, buffers)| (name, values(buffers)))
        .into_iter()
        .chain([(OBSERVERS, MAX_MEMORIES)])
        .collect()
}

/// Error in a checkpoint that does not fit this training.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{file} is missing")]
    Missing { file: &'static str },
    #[error("{file}: {source}")]
    Tensors { file: &'static str, source: TensorsError },
    #[error(transparent)]
    Memories(#[from] MemoryError),
    #[error("the manifest's `{key}` cannot be read: {source}")]
    Fact { key: &'static str, source: serde_json::Error },
}

/// Encodes a snapshot as files. `initial` holds the weights at the start of training, if the seed does not determine
/// them.
pub(super) fn files(
    snapshot: &Snapshot<'_>,
    initial: Option<&Weights>,
) -> Result<Vec<(&'static str, Vec<u8>)>, StateError> {
    let TrainState { parameters, optimizer, gradient, previous, best, position } = snapshot.state;
    let encoded = |file, buffers: &[(&str, &Tensor)]| {
        encode(parameters, buffers).map(|bytes| (file, bytes)).map_err(|source| StateError::Tensors { file, source })
    };
    let weights = |file, weights: &Weights| {
        weights::encode(weights).map(|bytes| (file, bytes)).map_err(|source| StateError::Tensors { file, source })
    };
    let mut files = vec![weights(MODEL, parameters)?, encoded(OPTIMIZER, &optimizer.buffers())?];
    if position.unseen {
        files.push(encoded(LAST_STEP, &[(GRADIENT, gradient), (PREVIOUS, previous)])?);
    }
    if let Some(initial) = initial.filter(|_| position.epoch == 0) {
        files.push(weights(INITIAL, initial)?);
    }
    if let Some(best) = best.as_ref().filter(|_| !position.is_best()) {
        files.push(weights(BEST, best)?);
    }
    files.push((OBSERVERS, snapshot.memories.to_bytes()));
    Ok(files)
}

/// Loads a checkpoint into `state`, of the same network, and returns the observers' state. Without `same_rule` the
/// optimizer state stays as it is.
pub(super) fn restore(
    checkpoint: &Checkpoint,
    position: Position,
    optimizer_steps: u64,
    same_rule: bool,
    state: &mut TrainState,
) -> Result<Memories, StateError> {
    let TrainState { parameters, optimizer, gradient, previous, .. } = &*state;
    // All is read before anything is changed.
    let model = weights_of(checkpoint, MODEL, parameters)?;
    let names: Vec<&str> = optimizer.buffers().iter().map(|(name, _)| *name).collect();
    let moments = if same_rule { decode(checkpoint, OPTIMIZER, parameters, &names)? } else { Vec::new() };
    let last_step =
        if position.unseen { decode(checkpoint, LAST_STEP, parameters, &[GRADIENT, PREVIOUS])? } else { Vec::new() };
    let best = match position.best {
        Some(_) if !position.is_best() => weights_of(checkpoint, BEST, parameters)?,
        _ => Vec::new(),
    };
    let bytes = checkpoint.file(OBSERVERS).ok_or(StateError::Missing { file: OBSERVERS })?;
    let memories = Memories::from_bytes(bytes)?;

    weights::fill(parameters, &model);
    fill(parameters, optimizer.buffers().into_iter().map(|(_, buffer)| buffer), &moments);
    fill(parameters, [gradient, previous], &last_step);
    let kept = position.best.map(|_| parameters.copied());
    if let Some(kept) = &kept {
        weights::fill(kept, &best);
    }
    state.best = kept;
    if same_rule {
        state.optimizer.go_on_after(optimizer_steps);
    }
    state.position = position;
    Ok(memories)
}

/// Loads the weights at the start of training into `parameters`; false if the checkpoint has none.
pub(super) fn restore_initial(checkpoint: &Checkpoint, parameters: &Weights) -> Result<bool, StateError> {
    if checkpoint.file(INITIAL).is_none() {
        return Ok(false);
    }
    weights::fill(parameters, &weights_of(checkpoint, INITIAL, parameters)?);
    Ok(true)
}

/// The values of all weights in a file of them.
fn weights_of(checkpoint: &Checkpoint, file: &'static str, like: &Weights) -> Result<Vec<Vec<f32>>, StateError> {
    let bytes = checkpoint.file(file).ok_or(StateError::Missing { file })?;
    weights::values(bytes, like).map_err(|source| StateError::Tensors { file, source })
}

/// Buffers with the layout of the trained parameters, each with a prefix of its own.
fn encode(parameters: &Weights, buffers: &[(&str, &Tensor)]) -> Result<Vec<u8>, TensorsError> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for (prefix, buffer) in buffers {
        for (spec, view) in parameters.trained().specs().iter().zip(parameters.views_of(buffer)) {
            tensors.push((name(prefix, spec), shape(spec), host_values(&view)));
        }
    }
    let views: Vec<(String, Vec<usize>, &[f32])> =
        tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_slice())).collect();
    tensors::encode(&views)
}

/// The values of every view of every buffer, in the order of [`encode`].
fn decode(
    checkpoint: &Checkpoint,
    file: &'static str,
    parameters: &Weights,
    prefixes: &[&str],
) -> Result<Vec<Vec<f32>>, StateError> {
    let bytes = checkpoint.file(file).ok_or(StateError::Missing { file })?;
    let specs = parameters.trained().specs();
    let want: Vec<(String, Vec<usize>)> =
        prefixes.iter().flat_map(|prefix| specs.iter().map(|spec| (name(prefix, spec), shape(spec)))).collect();
    tensors::decode(bytes, &want).map_err(|source| StateError::Tensors { file, source })
}

/// Copies `values` into the views of the buffers, in order; nothing if `values` is empty.
fn fill<'a>(parameters: &Weights, buffers: impl IntoIterator<Item = &'a Tensor>, values: &[Vec<f32>]) {
    let views = buffers.into_iter().flat_map(|buffer| parameters.views_of(buffer));
    let specs = parameters.trained().specs().iter().cycle();
    tch::no_grad(|| {
        for ((mut view, spec), values) in views.zip(specs).zip(values) {
            view.copy_(&Tensor::from_slice(values).view(&spec.shape[..]));
        }
    });
}

fn name(prefix: &str, spec: &ParameterSpec) -> String {
    format!("{prefix}.{}", spec.state_name())
}

fn shape(spec: &ParameterSpec) -> Vec<usize> {
    spec.shape.iter().map(|&d| d as usize).collect()
}
