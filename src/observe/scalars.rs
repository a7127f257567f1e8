//! Curves: loss, accuracy and learning rate of each epoch, and of the steps on the way.

use std::sync::Arc;

use tch::Device;

use super::{Record, epoch_step, scalar};
use crate::eventlog::Value;
use crate::train::{At, Divergence, Memories, MemoryError, Metrics, Moment, Observer, Totals};
use crate::types::{Run, Step, Tag};

const LOSS: &str = "Mean cross-entropy, in nats. Guessing among 10 classes gives 2.303.";
const ACCURACY: &str = "Share of images whose most probable class is the right one, 0 to 1.";

/// Keras's epoch tags in `train` and `validation`, and the best validation accuracy so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct EpochScalars {
    best: f64,
}

impl Observer<Record> for EpochScalars {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let At::Epoch { train, validation, .. } = moment.at else { return };
        let step = epoch_step(moment.epoch);
        let mut values = metrics(["epoch_loss", "epoch_accuracy"], train, "over the epoch, as the weights changed");
        let rate = "Learning rate of the optimizer in this epoch.";
        values.push(scalar("epoch_learning_rate", moment.learning_rate, rate.to_owned()));
        out.push(Run::Train, step, values);
        let mut values =
            metrics(["epoch_loss", "epoch_accuracy"], validation, "on the validation images, after the epoch");
        self.best = self.best.max(validation.accuracy);
        let best = "The largest validation accuracy up to this epoch: what tables of runs show.";
        values.push(scalar("best/val_accuracy", self.best, best.to_owned()));
        out.push(Run::Validation, step, values);
    }

    fn remember(&self, memories: &mut Memories) {
        memories.put("scalars", &self.best);
    }

    fn recall(&mut self, memories: &Memories) -> Result<(), MemoryError> {
        self.best = memories.get("scalars")?.unwrap_or_default();
        Ok(())
    }
}

/// Loss, accuracy and speed between epochs, against the number of optimizer steps, in the run's own directory.
#[derive(Clone, Debug)]
pub struct StepScalars {
    earlier: Totals,
    /// Tags and descriptions, made once: a point may be told after every step.
    loss_and_accuracy: [Curve; 2],
    rate: Curve,
    shares: [Curve; 5],
}

/// Properties shared by all points of a curve.
#[derive(Clone, Debug)]
struct Curve {
    tag: Tag,
    description: Arc<str>,
}

impl Curve {
    fn new(tag: &str, description: impl Into<Arc<str>>) -> Curve {
        Curve { tag: Tag::of(tag), description: description.into() }
    }

    fn at(&self, value: f64) -> Value {
        Value::scalar(self.tag.clone(), value as f32).described(Arc::clone(&self.description))
    }
}

impl Default for StepScalars {
    fn default() -> StepScalars {
        let over = "Taken over the steps since the last point.";
        let share = |(tag, what)| {
            Curve::new(tag, format!("Share of training time spent {what}, 0 to 1, since the last point."))
        };
        let shares = [
            ("time/data", "assembling batches"),
            ("time/forward", "in the forward pass"),
            ("time/backward", "in the backward pass"),
            ("time/optimizer", "summing gradients and updating weights"),
            ("time/observers", "looking at the run: histograms, pictures and these curves"),
        ];
        StepScalars {
            earlier: Totals::default(),
            loss_and_accuracy: [
                Curve::new("batch_loss", format!("{LOSS} Mean over the steps since the last point.")),
                Curve::new("batch_accuracy", format!("{ACCURACY} {over}")),
            ],
            rate: Curve::new(
                "images_per_second",
                "Training images a second since the last point, by the clock on the wall.",
            ),
            shares: shares.map(share),
        }
    }
}

impl StepScalars {
    /// Everything since the last report.
    fn report(&mut self, moment: &Moment<'_>, totals: Totals) -> Vec<Value> {
        let since = totals.since(&self.earlier);
        self.earlier = totals;
        let (Metrics { loss, accuracy }, seconds) = (since.metrics(), since.seconds);
        let [losses, accuracies] = &self.loss_and_accuracy;
        let mut values = Vec::with_capacity(8);
        values.extend([losses.at(loss), accuracies.at(accuracy)]);
        if seconds.total > 0.0 {
            values.push(self.rate.at(since.samples as f64 / seconds.total));
            // On CUDA the calls return before the work is done, and shares of their time would mislead.
            let on_cpu = moment.parameters.device() == Device::Cpu;
            let parts = [seconds.data, seconds.forward, seconds.backward, seconds.optimizer, seconds.observers];
            let shares = self.shares.iter().zip(parts).filter(|_| on_cpu);
            values.extend(shares.map(|(curve, part)| curve.at(part / seconds.total)));
        }
        values
    }
}

impl Observer<Record> for StepScalars {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
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
                // The end of an epoch closes a window, or short runs would have no curves.
                if totals.samples > self.earlier.samples {
                    values.extend(self.report(moment, totals));
                }
                out.push(Run::Steps, step, values);
            }
        }
    }

    /// The end of the curve: one that ends in NaN says more than one that just ends.
    fn diverged(&mut self, moment: &Moment<'_>, _: &Divergence, out: &mut Record) {
        if matches!(moment.at, At::Step(totals) if totals.samples > self.earlier.samples) {
            self.observe(moment, out);
        }
    }

    fn remember(&self, memories: &mut Memories) {
        memories.put("steps", &self.earlier);
    }

    fn recall(&mut self, memories: &Memories) -> Result<(), MemoryError> {
        self.earlier = memories.get("steps")?.unwrap_or_default();
        Ok(())
    }
}

fn metrics([loss, accuracy]: [&str; 2], metrics: Metrics, over: &str) -> Vec<Value> {
    vec![
        scalar(loss, metrics.loss, format!("{LOSS} Mean {over}.")),
        scalar(accuracy, metrics.accuracy, format!("{ACCURACY} Taken {over}.")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::{Seen, rehearse};
    use crate::train::ScheduledObserver;
    use crate::trigger::Trigger;

    fn tags(seen: &[Seen], run: Run) -> Vec<(u64, String)> {
        seen.iter().filter(|seen| seen.run == run).map(|seen| (seen.step, seen.tag.clone())).collect()
    }

    fn value(seen: &[Seen], run: Run, step: u64, tag: &str) -> f64 {
        let found = seen.iter().find(|seen| (seen.run, seen.step, seen.tag.as_str()) == (run, step, tag));
        found.unwrap_or_else(|| panic!("no {tag} at {step} of {run:?}")).scalar()
    }

    #[test]
    fn epochs_have_keras_tags_and_the_numbers_of_the_outcome() {
        let (seen, outcome) =
            rehearse(vec![ScheduledObserver::new(Trigger::every_epochs(1), Box::new(EpochScalars::default()), "test")]);
        let want = |names: &[&str]| -> Vec<(u64, String)> {
            [0, 1].iter().flat_map(|&step| names.iter().map(move |name| (step, (*name).to_owned()))).collect()
        };
        assert_eq!(tags(&seen, Run::Train), want(&["epoch_loss", "epoch_accuracy", "epoch_learning_rate"]));
        assert_eq!(tags(&seen, Run::Validation), want(&["epoch_loss", "epoch_accuracy", "best/val_accuracy"]));
        assert!(tags(&seen, Run::Steps).is_empty());
        let last = outcome.last;
        for (run, tag, number) in [
            (Run::Train, "epoch_loss", last.train.loss),
            (Run::Train, "epoch_accuracy", last.train.accuracy),
            (Run::Train, "epoch_learning_rate", 0.1),
            (Run::Validation, "epoch_loss", last.validation.loss),
            (Run::Validation, "epoch_accuracy", last.validation.accuracy),
            (Run::Validation, "best/val_accuracy", outcome.best_validation_accuracy),
        ] {
            assert_eq!(value(&seen, run, 1, tag), f64::from(number as f32), "{tag} of {run:?}");
        }
        assert!(seen.iter().all(|seen| seen.described), "every curve says what it is");
    }

    #[test]
    fn steps_are_written_when_asked_for() {
        // Two epochs of three steps each.
        for (every_steps, steps) in [(2, vec![2, 3, 4, 6]), (4, vec![3, 4, 6]), (0, vec![3, 6])] {
            let trigger = Trigger::every_steps(every_steps).or(Trigger::every_epochs(1));
            let (seen, outcome) =
                rehearse(vec![ScheduledObserver::new(trigger, Box::new(StepScalars::default()), "test")]);
            assert!(seen.iter().all(|seen| seen.run == Run::Steps));
            let at =
                |tag: &str| -> Vec<u64> { seen.iter().filter(|seen| seen.tag == tag).map(|seen| seen.step).collect() };
            for tag in ["batch_loss", "batch_accuracy", "images_per_second", "time/forward"] {
                assert_eq!(at(tag), steps, "{tag} with {every_steps}");
            }
            for tag in ["evaluation_loss_vs_iterations", "evaluation_accuracy_vs_iterations"] {
                assert_eq!(at(tag), [3, 6], "{tag} with {every_steps}");
            }
            let loss = value(&seen, Run::Steps, 6, "evaluation_loss_vs_iterations");
            assert_eq!(loss, f64::from(outcome.last.validation.loss as f32));
            for &step in &steps {
                let shares = ["data", "forward", "backward", "optimizer", "observers"];
                let sum: f64 = shares.iter().map(|part| value(&seen, Run::Steps, step, &format!("time/{part}"))).sum();
                assert!(sum > 0.0 && sum <= 1.001, "shares of time add up to {sum}");
            }
        }
    }

    #[test]
    fn a_point_is_of_the_steps_since_the_one_before() {
        let (seen, outcome) = rehearse(vec![
            ScheduledObserver::new(Trigger::every_epochs(1), Box::new(EpochScalars::default()), "test"),
            ScheduledObserver::new(Trigger::every_epochs(1), Box::new(StepScalars::default()), "test"),
        ]);
        for (step, epoch) in [(3, 0), (6, 1)] {
            let (batch, whole) =
                (value(&seen, Run::Steps, step, "batch_loss"), value(&seen, Run::Train, epoch, "epoch_loss"));
            assert!((batch - whole).abs() < 1e-6, "{batch} is not {whole}");
        }
        assert_eq!(outcome.iterations, 6);
    }
}
