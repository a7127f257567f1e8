//! One optimizer step, and one evaluation.

use std::sync::Arc;
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::observer::{Metrics, PhaseSeconds};
use super::state::TrainState;
use super::worker::{Pool, WorkerLost};
use crate::data::{Batch, Split};
use crate::model::Network;

/// Samples in a shard on the CPU. A constant: it is part of the result.
const SHARD: usize = 32;
/// Samples in a piece of an evaluation: large enough to be fast, small enough to keep activations in few megabytes.
const EVALUATION_PIECE: usize = 128;

/// What a step measured, still on the device: reading a value waits for it.
pub struct StepOutput {
    /// Sum of the samples' cross-entropies before the update, `f64`.
    pub loss_sum: Tensor,
    /// Samples classified right before the update, `i64`.
    pub correct: Tensor,
    pub samples: usize,
    pub seconds: PhaseSeconds,
}

/// Runs steps and evaluations of one network on one device.
pub struct Stepper {
    pool: Pool,
    shard: usize,
}

impl Stepper {
    /// For batches of up to `batch_size` samples. `threads` matters on the CPU alone, and there only for speed.
    pub fn new(network: &Arc<Network>, state: &TrainState, batch_size: usize, threads: usize) -> std::io::Result<Stepper> {
        let (shard, threads) = match state.parameters.device() {
            Device::Cpu => (SHARD, threads),
            _ => (batch_size.max(1), 1),
        };
        let pool = Pool::start(network, &state.parameters, batch_size.div_ceil(shard), threads)?;
        Ok(Stepper { pool, shard })
    }

    /// Gradient of the batch's mean loss, then one update of the optimizer.
    pub fn step(&mut self, state: &mut TrainState, batch: &Batch, learning_rate: f64) -> Result<StepOutput, WorkerLost> {
        let started = Instant::now();
        let samples = batch.len();
        let shards = batch.split(self.shard);
        let used = shards.len();
        let outputs = self.pool.train(shards, 1.0 / samples as f64)?;
        let forward = outputs.iter().step_by(self.pool.threads()).map(|shard| shard.forward_seconds).sum::<f64>();
        let computed = started.elapsed().as_secs_f64();

        tch::no_grad(|| {
            state.gradient.copy_(&self.pool.gradients()[0]);
            for gradient in &self.pool.gradients()[1..used] {
                let _ = state.gradient.g_add_(gradient);
            }
        });
        state.optimizer.update(state.parameters.flat(), &state.gradient, learning_rate);
        state.iterations += 1;

        let total = started.elapsed().as_secs_f64();
        let seconds = PhaseSeconds {
            forward,
            backward: computed - forward,
            optimizer: total - computed,
            total,
            ..PhaseSeconds::default()
        };
        let (loss_sum, correct) = sums(outputs.into_iter().map(|shard| (shard.loss_sum, shard.correct)));
        Ok(StepOutput { loss_sum, correct, samples, seconds })
    }

    /// Mean loss and accuracy of the current weights on a whole split.
    pub fn evaluate(&mut self, split: &Split, device: Device) -> Result<Metrics, WorkerLost> {
        let indices: Vec<u32> = (0..split.len() as u32).collect();
        let mut outputs = Vec::new();
        // A wave of pieces at a time: the images of a whole split as floats would be the largest thing in memory.
        for wave in indices.chunks(EVALUATION_PIECE * self.pool.threads()) {
            let pieces = wave.chunks(EVALUATION_PIECE).map(|piece| Batch::gather(split, piece, device)).collect();
            outputs.extend(self.pool.evaluate(pieces)?);
        }
        let (loss_sum, correct) = sums(outputs.into_iter().map(|piece| (piece.loss_sum, piece.correct)));
        Ok(Metrics::of(loss_sum.double_value(&[]), correct.int64_value(&[]) as u64, split.len() as u64))
    }
}

/// Sums in the order given, whoever computed the parts.
fn sums(parts: impl Iterator<Item = (Tensor, Tensor)>) -> (Tensor, Tensor) {
    parts
        .reduce(|(loss, correct), (more_loss, more_correct)| (loss + more_loss, correct + more_correct))
        .unwrap_or_else(|| (Tensor::from(0.0_f64), Tensor::from(0_i64).to_kind(Kind::Int64)))
}
