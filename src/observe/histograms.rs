//! Distributions of the weights, with Keras's tags, and of their gradients.

use super::Record;
use crate::eventlog::{Histogram, Value};
use crate::graph::ParameterSpec;
use crate::train::{Moment, Observer};
use crate::types::Tag;
use crate::weights::host_values;

/// A histogram of every kernel and bias, under `<layer>/<kernel or bias>/histogram`.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightHistograms;

/// A histogram of the last step's gradient by every kernel and bias, under `<layer>/<kernel or bias>/gradient`.
#[derive(Clone, Copy, Debug, Default)]
pub struct GradientHistograms;

impl Observer<Record> for WeightHistograms {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let values = moment.parameters.host().flat_map(|(spec, values)| weights(spec, &values)).collect();
        let (run, step) = moment.place();
        out.push(run, step, values);
    }
}

impl Observer<Record> for GradientHistograms {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let views = moment.parameters.views_of(moment.gradient);
        let gradients = moment.parameters.specs().iter().zip(&views);
        let values = gradients.flat_map(|(spec, gradient)| gradient_of(spec, &host_values(gradient))).collect();
        let (run, step) = moment.place();
        out.push(run, step, values);
    }
}

fn weights(spec: &ParameterSpec, values: &[f32]) -> Vec<Value> {
    let path = spec.path();
    let whose = format!("the {} of layer `{}`", spec.role, spec.layer);
    let description = format!("The {} values of {whose}.", values.len());
    histogram([format!("{path}/histogram"), format!("{path}/non_finite")], values, description, &whose)
}

fn gradient_of(spec: &ParameterSpec, values: &[f32]) -> Vec<Value> {
    let path = spec.path();
    let whose = format!("the gradient by the {} of layer `{}`", spec.role, spec.layer);
    let description = format!(
        "The {} values of {whose}: of the mean loss of the last step. Healthy gradients lie around 0, about as wide in all \
         layers, and narrow slowly as training settles. *All at 0*: nothing reaches this layer. *Wider every time*: they \
         explode; use a smaller learning rate.",
        values.len()
    );
    histogram([format!("{path}/gradient"), format!("{path}/gradient_non_finite")], values, description, &whose)
}

/// The histogram, and the number of values that are not in it, should there be any.
pub(super) fn histogram(tags: [String; 2], values: &[f32], description: String, whose: &str) -> Vec<Value> {
    let [tag, non_finite_tag] = tags;
    let histogram = Histogram::of(values);
    let non_finite = histogram.non_finite();
    let mut shown = vec![Value::histogram(Tag::of(tag), histogram).described(description)];
    if non_finite > 0 {
        let description = format!("How many values of {whose} are NaN or infinite, and so not in the histogram.");
        shown.push(Value::scalar(Tag::of(non_finite_tag), non_finite as f32).described(description));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventlog::Summary;
    use crate::model::Architecture;
    use crate::observe::tests::rehearse;
    use crate::train::ScheduledObserver;
    use crate::trigger::Trigger;
    use crate::types::{ImageShape, Run};

    #[test]
    fn every_parameter_has_a_histogram_after_each_epoch_that_is_due() {
        let tags = ["conv2d/kernel", "conv2d/bias", "dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"];
        for (every_epochs, epochs) in [(1, &[0, 1][..]), (2, &[0]), (0, &[])] {
            let (seen, _) = rehearse(vec![ScheduledObserver::new(
                Trigger::every_epochs(every_epochs),
                Box::new(WeightHistograms),
                "test",
            )]);
            let got: Vec<_> = seen.iter().map(|seen| (seen.run, seen.step, seen.tag.clone())).collect();
            let want: Vec<_> = epochs
                .iter()
                .flat_map(|&epoch| tags.map(|tag| (Run::Train, epoch, format!("{tag}/histogram"))))
                .collect();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn the_last_steps_gradient_has_the_weights_places() {
        let trigger = Trigger::every_epochs(1).or(Trigger::every_steps(2));
        let (seen, _) = rehearse(vec![ScheduledObserver::new(trigger, Box::new(GradientHistograms), "test")]);
        let at: Vec<_> = seen
            .iter()
            .filter(|seen| seen.tag == "conv2d/kernel/gradient" && seen.described)
            .map(|seen| (seen.run, seen.step))
            .collect();
        let steps = [(Run::Steps, 2), (Run::Train, 0), (Run::Steps, 4), (Run::Steps, 6), (Run::Train, 1)];
        assert_eq!(at, steps);
        assert_eq!(seen.len(), 5 * 6, "one for each parameter");
    }

    #[test]
    fn values_that_are_no_numbers_are_counted_beside_the_histogram() {
        let architecture = Architecture { conv_filters: vec![], kernel_size: 3, dense_units: 2 };
        let input = ImageShape { height: 1, width: 2, channels: 1 };
        let network = architecture.build(input, 2).unwrap();
        let spec = &network.parameters()[0];
        let tags = |values: &[f32]| -> Vec<String> {
            weights(spec, values).iter().map(|value| value.tag.to_string()).collect()
        };
        assert_eq!(tags(&[1.0, 2.0, 3.0, 4.0]), ["dense/kernel/histogram"]);
        let ruined = [1.0, f32::NAN, f32::INFINITY, 4.0];
        assert_eq!(tags(&ruined), ["dense/kernel/histogram", "dense/kernel/non_finite"]);
        let shown = weights(spec, &ruined);
        assert_eq!(shown[1].summary, Summary::Scalar(2.0));
        let gradient: Vec<String> = gradient_of(spec, &ruined).iter().map(|value| value.tag.to_string()).collect();
        assert_eq!(gradient, ["dense/kernel/gradient", "dense/kernel/gradient_non_finite"]);
        let description = shown[1].description.as_deref().unwrap();
        assert!(description.starts_with("How many values of the kernel of layer `dense` are NaN"), "{description}");
    }
}
