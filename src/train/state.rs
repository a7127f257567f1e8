//! All that training changes: weights and optimizer state.

use tch::{Device, Tensor};

use crate::model::{Network, Parameters};
use crate::optim::{Optimizer, Rule};
use crate::types::Seed;

/// Weights, the last gradient, the optimizer's memory and the number of steps done.
#[derive(Debug)]
pub struct TrainState {
    pub parameters: Parameters,
    pub optimizer: Optimizer,
    /// Gradient of the last step's mean loss, laid out like the parameters.
    pub gradient: Tensor,
    pub iterations: u64,
}

impl TrainState {
    pub fn initialise(network: &Network, rule: Rule, seed: Seed, device: Device) -> TrainState {
        let parameters = Parameters::initialise(network, seed, device);
        let optimizer = Optimizer::new(rule, parameters.flat());
        let gradient = parameters.flat().zeros_like();
        TrainState { parameters, optimizer, gradient, iterations: 0 }
    }
}
