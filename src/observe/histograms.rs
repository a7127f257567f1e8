//! Distributions of the weights, with Keras's tags.

use super::{Findings, epoch_step};
use crate::eventlog::{Histogram, Value};
use crate::train::{Moment, Observer, Trigger};
use crate::types::{Run, Tag};

/// A histogram of every kernel and bias after an epoch.
pub struct WeightHistograms {
    every_epochs: u64,
}

impl WeightHistograms {
    /// Every `every_epochs` epochs; 0 for never.
    pub fn new(every_epochs: u64) -> WeightHistograms {
        WeightHistograms { every_epochs }
    }
}

impl Observer<Findings> for WeightHistograms {
    fn trigger(&self) -> Trigger {
        Trigger::every_epochs(self.every_epochs)
    }

    fn observe(&mut self, moment: &Moment<'_>, out: &mut Findings) {
        let values = moment.parameters.host().map(|(spec, values)| {
            let description = format!("The {} values of the {} of layer `{}`.", values.len(), spec.role, spec.layer);
            Value::histogram(Tag::of(format!("{}/histogram", spec.path())), Histogram::of(&values)).described(description)
        });
        out.push(Run::Train, epoch_step(moment.epoch), values.collect());
    }
}
