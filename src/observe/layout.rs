//! The Custom Scalars tab: curves that belong together in one chart.

use super::Findings;
use crate::eventlog::Value;
use crate::eventlog::layout::{Category, Chart, Layout, Margin, Pattern};
use crate::explain;
use crate::model::{Layer, Network};
use crate::train::{Moment, Observer};
use crate::types::{Run, Step, Tag};

/// The layout, written once.
#[derive(Clone, Copy, Debug, Default)]
pub struct CustomScalars;

impl Observer<Findings> for CustomScalars {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Findings) {
        let value = Value::layout(layout(moment.network)).described("Charts of curves that belong together.");
        out.push(Run::Train, Step::ZERO, vec![value]);
    }
}

/// Charts show nothing of observers that are switched off, and the others are as they would be.
fn layout(network: &Network) -> Layout {
    let tag = Pattern::tag;
    let band = |layer: &Layer| {
        let tag = |what: &str| Tag::of(format!("layers/{what}/{}", layer.name));
        let margin =
            Margin { value: tag("activation_mean"), lower: tag("activation_low"), upper: tag("activation_high") };
        Chart::margins(format!("activations of {}: mean ± deviation", layer.name), [margin])
    };
    Layout::new([
        Category::new(
            "Learning",
            [
                Chart::lines("loss, train and validation", [tag("epoch_loss")]),
                Chart::lines("accuracy, train and validation", [tag("epoch_accuracy")]),
                Chart::lines("loss against steps", [tag("batch_loss"), tag("evaluation_loss_vs_iterations")]),
                Chart::lines("precision, recall, F1: means over the classes", [Pattern::prefix("macro_average/")]),
                Chart::lines("F1 of each class", [Pattern::prefix("per_class/f1/")]),
                Chart::lines("calibration error", [tag("reliability/ece")]),
            ],
        ),
        Category::new(
            "Gradients and updates",
            [
                Chart::lines(
                    "gradient norm, of all and of each layer",
                    [tag("gradient_norm"), Pattern::prefix("layers/gradient_norm/")],
                ),
                Chart::lines("size of an update as a share of the weights", [Pattern::prefix("layers/update_ratio/")]),
                Chart::lines("values that are not finite", [Pattern::prefix("non_finite/")]),
            ],
        ),
        Category::new(
            "Activations",
            [
                Chart::lines("share of dead units", [Pattern::prefix("layers/dead_units/")]),
                Chart::lines("share of zeros", [Pattern::prefix("layers/activation_zeros/")]),
            ]
            .into_iter()
            .chain(explain::activation_layers(network).map(band)),
        ),
        Category::new(
            "Speed",
            [
                Chart::lines("training images a second", [tag("images_per_second")]),
                Chart::lines("where the time goes", [Pattern::prefix("time/")]),
            ],
        ),
    ])
}
