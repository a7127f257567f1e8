//! All that training changes: weights, optimizer state, and how far it has come.

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::observer::{Metrics, Totals};
use crate::model::{Network, Parameters};
use crate::optim::{Optimizer, Rule};
use crate::types::Seed;

/// Weights, the optimizer's memory, the last step, and the position. With the same data and settings, training goes on
/// from an equal state in the same way, bit for bit on the CPU.
#[derive(Debug)]
pub struct TrainState {
    pub parameters: Parameters,
    pub optimizer: Optimizer,
    /// Gradient of the last step's mean loss, laid out like the parameters; zeros at the start.
    pub gradient: Tensor,
    /// The parameters before the last step for which somebody asked for them, laid out like them.
    pub previous: Tensor,
    pub position: Position,
}

/// How far training has come: what is no tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Optimizer steps done, those that were skipped among them.
    pub iterations: u64,
    /// The epoch that is running, from 0; after the last one, their number.
    pub epoch: u64,
    /// Samples of that epoch that are done.
    pub samples: u64,
    /// Sums over all steps so far.
    pub totals: Totals,
    /// Those sums when the epoch began.
    pub epoch_began: Totals,
    /// Those sums when the loss was last looked at.
    pub checked: Totals,
    /// Steps done by then.
    pub checked_iterations: u64,
    pub best_validation_accuracy: f64,
    /// Steps that changed nothing, as their loss or gradient was not finite.
    pub skipped: u64,
    /// How many of them came last, one after the other.
    pub skipped_in_a_row: u64,
    /// The epoch that ended last.
    pub last: Option<EpochReport>,
    /// The last step of an epoch is done, and nobody has looked at it yet: neither observers nor the evaluation.
    pub unseen: bool,
}

/// One finished epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Counted from 0.
    pub epoch: u64,
    /// Optimizer steps done by its end.
    pub iterations: u64,
    pub train: Metrics,
    pub validation: Metrics,
    /// Training and evaluation together, in the process that ended it.
    pub seconds: f64,
    /// Of the training steps, by the clock on the wall: data, steps and what observers do between them, without
    /// evaluation and what is looked at after the epoch.
    pub images_per_second: f64,
    /// Trained on by its end, in all epochs.
    #[serde(default)]
    pub samples: u64,
}

impl TrainState {
    pub fn initialise(network: &Network, rule: Rule, seed: Seed, device: Device) -> TrainState {
        TrainState::of(Parameters::initialise(network, seed, device), rule)
    }

    /// Weights that no step has changed yet.
    pub fn of(parameters: Parameters, rule: Rule) -> TrainState {
        let optimizer = Optimizer::new(rule, parameters.flat());
        let gradient = parameters.flat().zeros_like();
        let previous = parameters.flat().copy();
        TrainState { parameters, optimizer, gradient, previous, position: Position::default() }
    }
}
