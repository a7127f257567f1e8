//! Precision against recall of each class, for TensorBoard's own tab.

use super::class_tags::{self, class_tags};
use super::{Findings, card, epoch_step};
use crate::evaluation;
use crate::eventlog::{Counts, PrCurve, Value};
use crate::train::{Moment, Observer};
use crate::types::Run;

/// One class against all others on the validation images, under `pr_curve/<class>`.
#[derive(Clone, Copy, Debug)]
pub struct PrCurves;

impl Observer<Findings> for PrCurves {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Findings) {
        let Some(predictions) = moment.predictions else { return };
        let (classes, count) = (&moment.dataset.classes, predictions.classes());
        let curves = evaluation::PrCurve::of(predictions, evaluation::PrCurve::THRESHOLDS);
        let mut values = Vec::new();
        for (class, (tag, curve)) in class_tags("pr_curve", classes, count).into_iter().zip(&curves).enumerate() {
            let counts = Counts {
                true_positives: curve.true_positives().to_vec(),
                false_positives: curve.false_positives().to_vec(),
                true_negatives: curve.true_negatives(),
                false_negatives: curve.false_negatives(),
            };
            match PrCurve::of_counts(&counts) {
                Ok(curve) => values.push(Value::pr_curve(tag, curve).described(format!(
                    "{} against all other classes on the validation images. Where the network takes an image for the \
                     class only if its probability is at least a threshold: which share of those belong to it \
                     (precision), and which share of its images they are (recall), for thresholds from 0 to 1. The \
                     nearer to the upper right corner, the better.{}",
                    card::class_name(classes, class),
                    class_tags::note(count)
                ))),
                // More images than a single-precision count can tell apart.
                Err(error) => tracing::warn!("{tag}: {error}"),
            }
        }
        out.push(Run::Validation, epoch_step(moment.epoch), values);
    }
}
