//! Activations of each layer for a fixed batch of validation images: distribution and dead units.

use tch::Tensor;

use super::histograms::histogram;
use super::probe::Probes;
use super::{Record, scalar};
use crate::eventlog::Value;
use crate::explain::{self, ActivationStatistics, ActivationSums};
use crate::graph::{Graph, Layer, Shape};
use crate::train::{Moment, Observer};
use crate::types::Seed;

/// Images of the batch: enough that a unit which is silent for all of them is no accident.
const IMAGES: usize = 64;
/// Values of all layers together, at most; a network of large maps is shown fewer images. 32 MiB.
const MOST_VALUES: usize = 1 << 23;
/// Values that are computed and read at a time: they fit into a processor's cache of the second level, and the memory of
/// one time serves the next.
const VALUES_AT_ONCE: usize = 5 << 16;

/// Histograms and statistics of every layer with a ReLU, after it, and of the logits. Zeros are not in the histograms.
#[derive(Debug)]
pub struct Activations {
    probe_seed: Seed,
    /// The batch, once it has been chosen.
    images_nchw: Option<Tensor>,
}

impl Activations {
    /// For validation images that `probe_seed` chooses, spread over the classes.
    pub fn new(probe_seed: Seed) -> Activations {
        Activations { probe_seed, images_nchw: None }
    }
}

impl Observer<Record> for Activations {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let images_nchw = self.images_nchw.get_or_insert_with(|| {
            let probes = Probes::choose(moment.dataset, images_for(moment.network), self.probe_seed);
            probes.images_nchw(moment.parameters.device())
        });
        let (run, step) = moment.place();
        out.push(run, step, values(moment, images_nchw));
    }
}

fn images_for(network: &Graph) -> usize {
    (MOST_VALUES / values_of_image(network)).clamp(1, IMAGES)
}

fn values_of_image(network: &Graph) -> usize {
    network.layers().iter().map(|layer| layer.output.len()).sum::<usize>().max(1)
}

/// Outputs of one layer for all images so far.
struct Seen<'a> {
    layer: &'a Layer,
    sums: ActivationSums,
    /// Values of the histogram. Most outputs of a ReLU are 0: a peak that hides everything else. Its
    /// height is a curve.
    shown: Vec<f32>,
}

/// Every layer that is an activation, for so many images at a time that their values stay in the cache.
fn see<'a>(network: &'a Graph, weights: &[Tensor], images_nchw: &Tensor, images: usize) -> Vec<Seen<'a>> {
    let mut all: Vec<Seen<'_>> = explain::activation_layers(network)
        .map(|layer| {
            // Room for all of them: what is left over is never touched.
            let shown = Vec::with_capacity(images * layer.output.len());
            Seen { layer, sums: ActivationSums::default(), shown }
        })
        .collect();
    let times = (images * values_of_image(network)).div_ceil(VALUES_AT_ONCE);
    for images_nchw in images_nchw.split(images.div_ceil(times) as i64, 0) {
        for (seen, now) in all.iter_mut().zip(explain::activations(network, weights, &images_nchw)) {
            seen.sums.add(&now);
            if seen.layer.has_relu() {
                push_without_zeros(&mut seen.shown, &now.values);
            } else {
                seen.shown.extend(now.values);
            }
        }
    }
    all
}

fn values(moment: &Moment<'_>, images_nchw: &Tensor) -> Vec<Value> {
    let images = images_nchw.size().first().map_or(0, |&images| images as usize);
    if images == 0 {
        return Vec::new();
    }
    let mut values = Vec::new();
    let mut non_finite = 0;
    for Seen { layer, sums, shown } in see(moment.network, moment.parameters.views(), images_nchw, images) {
        let name = &layer.name;
        let numbers = sums.statistics();
        let rectified = layer.has_relu();
        let what = if rectified { "after its ReLU" } else { "the logits" };
        let whose = format!("the activations of layer `{name}`");
        let description = format!(
            "The {} values that layer `{name}` gives for {images} validation images, the same each time, {what}. {}",
            shown.len(),
            if rectified {
                format!(
                    "Zeros are left out: `layers/activation_zeros/{name}` is their share. A distribution that shrinks towards 0 \
                     from layer to layer loses the signal; one that grows without end explodes."
                )
            } else {
                "The wider they are, the surer the network is of its answers, right or wrong.".to_owned()
            }
        );
        let tags = [format!("{name}/activation"), format!("{name}/activation_non_finite")];
        values.extend(histogram(tags, &shown, description, &whose));
        values.extend(moments(name, what, images, &numbers));
        if rectified {
            let units = if matches!(layer.output, Shape::Image(_)) { "channels" } else { "units" };
            values.extend(silence(name, units, images, &numbers));
        }
        non_finite += numbers.non_finite;
    }
    let description = "How many activations are NaN or infinite, in all layers. Anything but 0 is a fault.";
    values.push(scalar("non_finite/activations", non_finite as f64, description.to_owned()));
    values
}

fn push_without_zeros(shown: &mut Vec<f32>, values: &[f32]) {
    const AT_ONCE: usize = 512;
    for values in values.chunks(AT_ONCE) {
        let (mut some, mut kept) = ([0.0; AT_ONCE], 0);
        for &value in values {
            // Put down in any case and kept if it counts: no processor guesses which do.
            some[kept % AT_ONCE] = value;
            kept += usize::from(value != 0.0);
        }
        shown.extend_from_slice(&some[..kept]);
    }
}

/// Mean and deviation, and the band between their difference and their sum.
fn moments(name: &str, what: &str, images: usize, numbers: &ActivationStatistics) -> [Value; 4] {
    let &ActivationStatistics { mean, deviation, .. } = numbers;
    let of = format!("of the activations of layer `{name}`, {what}, over {images} validation images");
    let read = "It settles as training does; a lasting drift says that the layer's scale runs away.";
    [
        ("activation_mean", mean, format!("Mean {of}. {read}")),
        (
            "activation_deviation",
            deviation,
            format!("Standard deviation {of}; at least 0. Near 0 the layer says the same whatever it is shown."),
        ),
        (
            "activation_low",
            mean - deviation,
            format!("Mean less one standard deviation {of}: the lower edge of a band."),
        ),
        (
            "activation_high",
            mean + deviation,
            format!("Mean and one standard deviation {of}: the upper edge of a band."),
        ),
    ]
    .map(|(tag, value, description)| scalar(format!("layers/{tag}/{name}"), value, description))
}

fn silence(name: &str, units: &str, images: usize, numbers: &ActivationStatistics) -> [Value; 2] {
    let dead = format!(
        "Share of the {units} of layer `{name}` that are 0 after the ReLU for each of {images} validation images, at every \
         position; 0 to 1. Such {units} say nothing and learn nothing. A few are usual; a share that jumps up and stays \
         there is the mark of a learning rate that is too large."
    );
    let zeros = format!(
        "Share of the activations of layer `{name}` that are 0 after the ReLU, over {images} validation images; 0 to 1. \
         Half or more is usual; near 1 little gets through."
    );
    [("dead_units", numbers.dead, dead), ("activation_zeros", numbers.zeros, zeros)]
        .map(|(tag, value, description)| scalar(format!("layers/{tag}/{name}"), value, description))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::observe::tests::rehearse;
    use crate::train::ScheduledObserver;
    use crate::trigger::Trigger;
    use crate::types::{ImageShape, Run};
    use crate::weights::Weights;

    #[test]
    fn only_zeros_are_left_out() {
        let mut left = vec![0.0];
        push_without_zeros(&mut left, &[0.0, 2.0, -0.0, f32::NAN, 0.0, f32::INFINITY, -1.0]);
        push_without_zeros(&mut left, &[0.0; 3]);
        push_without_zeros(&mut left, &[]);
        push_without_zeros(&mut left, &[3.0, 0.0]);
        assert!(left[2].is_nan());
        assert_eq!((left.len(), &left[..2], &left[3..]), (6, &[0.0, 2.0][..], &[f32::INFINITY, -1.0, 3.0][..]));
    }

    #[test]
    fn some_images_at_a_time_show_what_all_at_once_do() {
        let input = ImageShape { height: 28, width: 28, channels: 1 };
        let network = Architecture::default().build(input, 10).unwrap();
        let parameters = Weights::initialise(&network, Seed(0), tch::Device::Cpu);
        let images = 13;
        let pixels: Vec<f32> = (0..images * 28 * 28).map(|i| (i as f32).sin().abs()).collect();
        let images_nchw = Tensor::from_slice(&pixels).view([images, 1, 28, 28]);
        let all = explain::activations(&network, parameters.views(), &images_nchw);
        let seen = see(&network, parameters.views(), &images_nchw, images as usize);
        assert!(images as usize * values_of_image(&network) > VALUES_AT_ONCE, "several times");
        assert_eq!(seen.len(), all.len());
        for (seen, all) in seen.iter().zip(&all) {
            assert_eq!(seen.layer.name, all.layer.name);
            let (got, want) = (seen.sums.statistics(), all.statistics());
            assert!((got.mean - want.mean).abs() < 1e-6 && (got.deviation - want.deviation).abs() < 1e-6);
            // A convolution of fewer images may round otherwise, so that something next to nothing is a zero.
            assert!(
                (got.zeros - want.zeros).abs() < 1e-3 && (got.dead, got.non_finite) == (want.dead, want.non_finite)
            );
            let shown = all.values.iter().filter(|&&value| !all.layer.has_relu() || value != 0.0);
            let [got, want] =
                [seen.shown.iter().map(|&v| f64::from(v)).sum(), shown.map(|&v| f64::from(v)).sum::<f64>()];
            assert!((got - want).abs() < 1e-6 * all.values.len() as f64, "{got} of {want}");
            assert!(seen.layer.has_relu() || seen.shown.len() == all.values.len());
        }
    }

    #[test]
    fn every_layer_is_described_after_an_epoch() {
        let (seen, _) = rehearse(vec![ScheduledObserver::new(
            Trigger::every_epochs(1),
            Box::new(Activations::new(Seed(0))),
            "test",
        )]);
        let scalars = ["activation_mean", "activation_deviation", "activation_low", "activation_high"];
        let of_layer = |name: &str, relu: bool| -> Vec<String> {
            let mut tags = vec![format!("{name}/activation")];
            tags.extend(scalars.map(|tag| format!("layers/{tag}/{name}")));
            tags.extend(
                ["dead_units", "activation_zeros"].iter().filter(|_| relu).map(|tag| format!("layers/{tag}/{name}")),
            );
            tags
        };
        let mut want = [of_layer("conv2d", true), of_layer("dense", true), of_layer("dense_1", false)].concat();
        want.push("non_finite/activations".to_owned());
        for epoch in 0..2_u64 {
            let now: Vec<_> = seen.iter().filter(|seen| seen.step == epoch).collect();
            assert_eq!(now.iter().map(|seen| seen.tag.as_str()).collect::<Vec<_>>(), want);
            assert!(now.iter().all(|seen| seen.run == Run::Train && seen.described));
            let value = |tag: &str| now.iter().find(|seen| seen.tag == tag).unwrap().scalar();
            let band = value("layers/activation_high/conv2d") - value("layers/activation_low/conv2d");
            assert!((band - 2.0 * value("layers/activation_deviation/conv2d")).abs() < 1e-6 && band > 0.0);
        }
    }

    #[test]
    fn large_maps_get_fewer_images() {
        let images = |side: usize| {
            let input = ImageShape { height: side, width: side, channels: 1 };
            images_for(&Architecture::default().build(input, 10).unwrap())
        };
        assert_eq!(images(28), IMAGES);
        assert_eq!(images(224), 2);
        assert_eq!(images(500), 1);
    }
}
