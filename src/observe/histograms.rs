//! Distributions of the weights, with Keras's tags.

use super::Findings;
use crate::eventlog::{Histogram, Value};
use crate::model::ParameterSpec;
use crate::train::{Moment, Observer};
use crate::types::Tag;

/// A histogram of every kernel and bias after an epoch.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightHistograms;

impl Observer<Findings> for WeightHistograms {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Findings) {
        let values = moment.parameters.host().flat_map(|(spec, values)| values_of(spec, &values)).collect();
        let (run, step) = moment.place();
        out.push(run, step, values);
    }
}

/// The histogram, and the number of values that are not in it, should there be any.
fn values_of(spec: &ParameterSpec, values: &[f32]) -> Vec<Value> {
    let (path, whose) = (spec.path(), format!("the {} of layer `{}`", spec.role, spec.layer));
    let histogram = Histogram::of(values);
    let non_finite = histogram.non_finite();
    let description = format!("The {} values of {whose}.", values.len());
    let mut shown = vec![Value::histogram(Tag::of(format!("{path}/histogram")), histogram).described(description)];
    if non_finite > 0 {
        let description = format!("How many values of {whose} are NaN or infinite, and so not in the histogram.");
        shown.push(Value::scalar(Tag::of(format!("{path}/non_finite")), non_finite as f32).described(description));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventlog::Summary;
    use crate::model::{Architecture, Network};
    use crate::observe::tests::rehearse;
    use crate::train::Watch;
    use crate::trigger::Trigger;
    use crate::types::{ImageShape, Run};

    #[test]
    fn every_parameter_has_a_histogram_after_each_epoch_that_is_due() {
        let tags = ["conv2d/kernel", "conv2d/bias", "dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"];
        for (every_epochs, epochs) in [(1, &[0, 1][..]), (2, &[0]), (0, &[])] {
            let (seen, _) = rehearse(vec![Watch::new(Trigger::every_epochs(every_epochs), WeightHistograms)]);
            let got: Vec<_> = seen.iter().map(|seen| (seen.run, seen.step, seen.tag.clone())).collect();
            let want: Vec<_> = epochs
                .iter()
                .flat_map(|&epoch| tags.map(|tag| (Run::Train, epoch, format!("{tag}/histogram"))))
                .collect();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn values_that_are_no_numbers_are_counted_beside_the_histogram() {
        let architecture = Architecture { conv_filters: vec![], kernel_size: 3, dense_units: 2 };
        let input = ImageShape { height: 1, width: 2, channels: 1 };
        let network = Network::build(&architecture, input, 2).unwrap();
        let spec = &network.parameters()[0];
        let tags = |values: &[f32]| -> Vec<String> {
            values_of(spec, values).iter().map(|value| value.tag.to_string()).collect()
        };
        assert_eq!(tags(&[1.0, 2.0, 3.0, 4.0]), ["dense/kernel/histogram"]);
        let ruined = [1.0, f32::NAN, f32::INFINITY, 4.0];
        assert_eq!(tags(&ruined), ["dense/kernel/histogram", "dense/kernel/non_finite"]);
        let shown = values_of(spec, &ruined);
        assert_eq!(shown[1].summary, Summary::Scalar(2.0));
        let description = shown[1].description.as_deref().unwrap();
        assert!(description.starts_with("How many values of the kernel of layer `dense` are NaN"), "{description}");
    }
}
