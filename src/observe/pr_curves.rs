//! Precision-recall curves of each class, for TensorBoard's own tab.

use super::class_tags::{self, class_tags};
use super::{Record, card, epoch_step};
use crate::evaluation;
use crate::eventlog::{Counts, PrCurve, Value};
use crate::train::{Moment, Observer};
use crate::types::Run;

/// One class against all others on the validation images, under `pr_curve/<class>`.
#[derive(Clone, Copy, Debug)]
pub struct PrCurves;

impl Observer<Record> for PrCurves {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
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
                    "Precision-recall curve of {} against all other classes on the validation images, over thresholds from 0 \
                     to 1 on its probability. Precision is the share of the images at or above the threshold that belong \
                     to the class, recall the share of the images of the class that are. Better curves are nearer to the \
                     upper right corner.{}",
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
