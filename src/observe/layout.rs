//! The Custom Scalars tab: curves that belong together in one chart.

use super::Record;
use crate::eventlog::Value;
use crate::eventlog::layout::{Category, Chart, Layout, Margin, Pattern};
use crate::explain;
use crate::graph::{Graph, Layer};
use crate::train::{Moment, Observer};
use crate::types::{Run, Step, Tag};

/// The layout, written once.
#[derive(Clone, Copy, Debug, Default)]
pub struct CustomScalars;

impl Observer<Record> for CustomScalars {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let value = Value::layout(layout(moment.network)).described("Charts of curves that belong together.");
        out.push(Run::Train, Step::ZERO, vec![value]);
    }
}

/// Charts show nothing of observers that are switched off, and the others are as they would be.
fn layout(network: &Graph) -> Layout {
    let tag = Pattern::tag;
    let band = |layer: &Layer| {
        let tag = |what: &str| Tag::of(format!("layers/{what}/{}", layer.name));
        let margin =
            Margin { value: tag("activation_mean"), lower: tag("activation_low"), upper: tag("activation_high") };
        Chart::margins(format!("activations of {}: mean ± standard deviation", layer.name), [margin])
    };
    // TensorBoard 2.21 shows charts with margins in reverse order.
    let bands: Vec<Chart> = explain::activation_layers(network).map(band).collect();
    Layout::new([
        Category::new(
            "Learning",
            [
                Chart::lines("loss, train and validation", [tag("epoch_loss")]),
                Chart::lines("accuracy, train and validation", [tag("epoch_accuracy")]),
                Chart::lines("loss per iteration", [tag("batch_loss"), tag("evaluation_loss_vs_iterations")]),
                Chart::lines("precision, recall, F1: macro averages", [Pattern::prefix("macro_average/")]),
                Chart::lines("F1 per class", [Pattern::prefix("per_class/f1/")]),
                Chart::lines("expected calibration error", [tag("reliability/ece")]),
            ],
        ),
        Category::new(
            "Gradients and updates",
            [
                Chart::lines(
                    "gradient norm, total and per layer",
                    [tag("gradient_norm"), Pattern::prefix("layers/gradient_norm/")],
                ),
                Chart::lines("update-to-weight ratio per layer", [Pattern::prefix("layers/update_ratio/")]),
                Chart::lines("non-finite values", [Pattern::prefix("non_finite/")]),
            ],
        ),
        Category::new(
            "Activations",
            [
                Chart::lines("dead units per layer, share", [Pattern::prefix("layers/dead_units/")]),
                Chart::lines("zero activations per layer, share", [Pattern::prefix("layers/activation_zeros/")]),
            ]
            .into_iter()
            .chain(bands.into_iter().rev()),
        ),
        Category::new(
            "Speed",
            [
                Chart::lines("training images per second", [tag("images_per_second")]),
                Chart::lines("time per phase, share", [Pattern::prefix("time/")]),
            ],
        ),
    ])
}
