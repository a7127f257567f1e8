//! All that training changes: weights, optimizer state, and how far it has come.

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::observer::{Metrics, Totals};
use crate::graph::Graph;
use crate::optim::{Group, Optimizer, Rule};
use crate::types::Seed;
use crate::weights::Weights;

/// Weights, the optimizer's memory, the last step, and the position. With the same data and settings, training goes on
/// from an equal state in the same way, bit for bit on the CPU.
#[derive(Debug)]
pub struct TrainState {
    pub parameters: Weights,
    pub optimizer: Optimizer,
    /// Gradient of the last step's mean loss, laid out like the parameters; zeros at the start.
    pub gradient: Tensor,
    /// The parameters before the last step for which somebody asked for them, laid out like them.
    pub previous: Tensor,
    /// The weights after [`Position::best`].
    pub best: Option<Weights>,
    pub position: Position,
}

/// Progress of training: all of the state that is no tensor.
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
    /// The best epoch (see [`EpochReport::is_better_than`]). None before the first one ends, and where an older program
    /// kept no weights of it.
    #[serde(default)]
    pub best: Option<EpochReport>,
    /// Steps that changed nothing, as their loss or gradient was not finite.
    pub skipped: u64,
    /// Number of skipped steps since the last applied one.
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
    pub fn initialise(network: &Graph, rule: Rule, seed: Seed, device: Device) -> TrainState {
        TrainState::of(Weights::initialise(network, seed, device), rule)
    }

    /// Weights before the first step. All of them decay.
    pub fn of(parameters: Weights, rule: Rule) -> TrainState {
        let optimizer = Optimizer::new(rule, parameters.flat());
        TrainState::with(parameters, optimizer)
    }

    /// As [`TrainState::of`], but weight decay leaves out biases and the parameters of normalisations.
    pub fn with_decay_on_kernels(parameters: Weights, rule: Rule) -> TrainState {
        let trained = parameters.trained().specs().iter().zip(parameters.ranges());
        let groups = trained.map(|(spec, range)| Group { range, decays: spec.role.decays() }).collect();
        let optimizer = Optimizer::of_groups(rule, parameters.flat(), groups);
        TrainState::with(parameters, optimizer)
    }

    fn with(parameters: Weights, optimizer: Optimizer) -> TrainState {
        let gradient = parameters.flat().zeros_like();
        let previous = parameters.flat().copy();
        TrainState { parameters, optimizer, gradient, previous, best: None, position: Position::default() }
    }

    /// Notes the epoch that has just been evaluated, and keeps a copy of its weights if it is the best one so far.
    pub(super) fn note_epoch(&mut self, report: EpochReport) {
        let position = &mut self.position;
        let is_best = match &position.best {
            Some(best) => report.is_better_than(best),
            // Of the best epoch of an older program the accuracy is all that is left.
            None => position.last.is_none() || report.validation.accuracy > position.best_validation_accuracy,
        };
        if is_best {
            position.best = Some(report);
            self.best = Some(self.parameters.copied());
        }
        position.best_validation_accuracy = position.best_validation_accuracy.max(report.validation.accuracy);
        position.last = Some(report);
    }
}

impl EpochReport {
    /// By accuracy on the validation set; of equal ones the smaller loss is better, of equal losses the earlier epoch.
    pub fn is_better_than(&self, earlier: &EpochReport) -> bool {
        let (accuracy, before) = (self.validation.accuracy, earlier.validation.accuracy);
        accuracy > before || (accuracy == before && self.validation.loss < earlier.validation.loss)
    }
}

impl Position {
    /// True if the weights here are those after the best epoch.
    pub fn is_best(&self) -> bool {
        self.best.is_some_and(|best| best.iterations == self.iterations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::types::ImageShape;

    fn report(epoch: u64, accuracy: f64, loss: f64) -> EpochReport {
        let validation = Metrics { loss, accuracy };
        EpochReport {
            epoch,
            iterations: 10 * (epoch + 1),
            train: Metrics::default(),
            validation,
            seconds: 0.0,
            images_per_second: 0.0,
            samples: 0,
        }
    }

    fn state() -> TrainState {
        let architecture = Architecture { conv_filters: vec![2], kernel_size: 3, dense_units: 3 };
        let input = ImageShape { height: 6, width: 6, channels: 1 };
        let network = architecture.build(input, 4).unwrap();
        TrainState::initialise(&network, Rule::Adam { weight_decay: 0.0 }, Seed(1), Device::Cpu)
    }

    /// Ends an epoch after changing the weights to their epoch's number.
    fn end(state: &mut TrainState, report: EpochReport) {
        let _ = tch::no_grad(|| state.parameters.flat_mut().fill_(report.epoch as f64));
        state.position.iterations = report.iterations;
        state.note_epoch(report);
    }

    fn best(state: &TrainState) -> Option<(u64, f64)> {
        Some((state.position.best?.epoch, state.best.as_ref()?.flat().double_value(&[0])))
    }

    #[test]
    fn decay_on_kernels_leaves_biases_alone() {
        let decay = Rule::AdamW { weight_decay: 0.5 };
        let mut state = TrainState::with_decay_on_kernels(state().parameters, decay);
        let _ = tch::no_grad(|| state.parameters.flat_mut().fill_(1.0));
        let TrainState { parameters, optimizer, gradient, .. } = &mut state;
        optimizer.update(parameters.flat(), gradient, 0.1);
        for (spec, values) in parameters.host() {
            let want = if spec.role.decays() { 0.95 } else { 1.0 };
            assert!(values.iter().all(|&value| value == want), "{}: {values:?}", spec.path());
        }
    }

    #[test]
    fn the_best_epoch_has_the_highest_accuracy_then_the_smallest_loss_and_is_the_first_of_equals() {
        let mut state = state();
        for (accuracy, loss, want) in
            [(0.0, 9.0, 0), (0.5, 2.0, 1), (0.4, 0.1, 1), (0.5, 2.5, 1), (0.5, 2.0, 1), (0.5, 1.5, 5), (0.6, 9.0, 6)]
        {
            let epoch = state.position.last.map_or(0, |last| last.epoch + 1);
            end(&mut state, report(epoch, accuracy, loss));
            assert_eq!(best(&state), Some((want, want as f64)), "after epoch {epoch}");
            assert_eq!(state.position.is_best(), want == epoch);
        }
        assert_eq!(state.position.best_validation_accuracy, 0.6);
        state.position.iterations += 1;
        assert!(!state.position.is_best(), "a step later");
    }

    #[test]
    fn of_a_state_of_an_older_program_only_a_better_epoch_is_known() {
        let mut state = state();
        end(&mut state, report(0, 0.5, 1.0));
        let mut old = serde_json::to_value(state.position).unwrap();
        assert!(old.as_object_mut().unwrap().remove("best").is_some());
        state.position = serde_json::from_value(old).unwrap();
        state.best = None;
        end(&mut state, report(1, 0.5, 0.5));
        assert_eq!(best(&state), None);
        end(&mut state, report(2, 0.6, 0.5));
        assert_eq!(best(&state), Some((2, 2.0)));
    }
}
