//! Curves: loss, accuracy and learning rate of each epoch, and of the steps on the way.

use tch::Device;

use super::{Findings, epoch_step};
use crate::eventlog::Value;
use crate::optim;
use crate::train::{At, Metrics, Moment, Observer, Totals, Trigger};
use crate::types::{Run, Step, Tag};

const LOSS: &str = "Mean cross-entropy, in nats. Guessing among 10 classes gives 2.303.";
const ACCURACY: &str = "Share of images whose most probable class is the right one, 0 to 1.";

/// Keras's epoch tags in `train` and `validation`.
pub struct EpochScalars;

impl Observer<Findings> for EpochScalars {
    fn trigger(&self) -> Trigger {
        Trigger::every_epochs(1)
    }

    fn observe(&mut self, moment: &Moment<'_>, out: &mut Findings) {
        let At::Epoch { train, validation, .. } = moment.at else { return };
        let step = epoch_step(moment.epoch);
        let mut values = metrics(["epoch_loss", "epoch_accuracy"], train, "over the epoch, as the weights changed");
        let rate = "Learning rate of the optimizer in this epoch.";
        values.push(scalar("epoch_learning_rate", moment.learning_rate, rate.to_owned()));
        out.push(Run::Train, step, values);
        let values = metrics(["epoch_loss", "epoch_accuracy"], validation, "on the validation images, after the epoch");
        out.push(Run::Validation, step, values);
    }
}

/// What happens between epochs, against the number of optimizer steps, in `steps`.
pub struct StepScalars {
    every_steps: Option<u64>,
    earlier: Totals,
}

impl StepScalars {
    /// Every so many steps; `None` for the end of each epoch.
    pub fn new(every_steps: Option<u64>) -> StepScalars {
        StepScalars { every_steps, earlier: Totals::default() }
    }

    /// Everything since the last report.
    fn report(&mut self, moment: &Moment<'_>, totals: Totals) -> Vec<Value> {
        let since = totals.since(&self.earlier);
        self.earlier = totals;
        let mut values =
            metrics(["batch_loss", "batch_accuracy"], since.metrics(), "over the steps since the last point");
        let norm = "Euclidean norm of the gradient of the last step's mean loss, over all parameters.";
        values.push(scalar("gradient_norm", optim::norm(moment.gradient), norm.to_owned()));
        let seconds = since.seconds;
        if seconds.total > 0.0 {
            let rate = "Training images a second since the last point, by the clock on the wall.";
            values.push(scalar("images_per_second", since.samples as f64 / seconds.total, rate.to_owned()));
            // On CUDA the calls return before the work is done, and shares of their time would mislead.
            let on_cpu = moment.parameters.device() == Device::Cpu;
            let shares = [
                ("time/data", seconds.data, "assembling batches"),
                ("time/forward", seconds.forward, "in the forward pass"),
                ("time/backward", seconds.backward, "in the backward pass"),
                ("time/optimizer", seconds.optimizer, "summing gradients and updating weights"),
                ("time/observers", seconds.observers, "looking at the run: histograms, pictures and these curves"),
            ];
            for (tag, part, what) in shares.into_iter().filter(|_| on_cpu) {
                let description = format!("Share of training time spent {what}, 0 to 1, since the last point.");
                values.push(scalar(tag, part / seconds.total, description));
            }
        }
        values
    }
}

impl Observer<Findings> for StepScalars {
    fn trigger(&self) -> Trigger {
        let steps = Trigger::every_steps(self.every_steps.unwrap_or(0));
        Trigger { every_steps: steps.every_steps, ..Trigger::every_epochs(1) }
    }

    fn observe(&mut self, moment: &Moment<'_>, out: &mut Findings) {
        let step = Step::new(moment.iterations).unwrap_or(Step::MAX);
        match moment.at {
            At::Start => {}
            At::Step(totals) => {
                let values = self.report(moment, totals);
                out.push(Run::Steps, step, values);
            }
            At::Epoch { validation, totals, .. } => {
                let mut values = metrics(
                    ["evaluation_loss_vs_iterations", "evaluation_accuracy_vs_iterations"],
                    validation,
                    "on the validation images, against optimizer steps",
                );
                if self.every_steps.is_none() {
                    values.extend(self.report(moment, totals));
                }
                out.push(Run::Steps, step, values);
            }
        }
    }
}

fn metrics([loss, accuracy]: [&str; 2], metrics: Metrics, over: &str) -> Vec<Value> {
    vec![
        scalar(loss, metrics.loss, format!("{LOSS} Mean {over}.")),
        scalar(accuracy, metrics.accuracy, format!("{ACCURACY} Taken {over}.")),
    ]
}

fn scalar(tag: &str, value: f64, description: String) -> Value {
    Value::scalar(Tag::of(tag), value as f32).described(description)
}
