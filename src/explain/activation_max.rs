//! Activation maximisation: the image with the strongest response of a filter or a class, found by gradient ascent.
//!
//! Erhan et al., "Visualizing Higher-Layer Features of a Deep Network" (2009); Simonyan et al., "Deep Inside
//! Convolutional Networks" (2013), for the logits of classes; Olah et al., "Feature Visualization" (2017), for
//! jitter, blur and total variation.

use std::ops::Range;

use tch::Tensor;

use super::ascent::{Ascent, Images};
use super::passes::{Passes, one_hot};
use crate::graph::{Graph, NodeId, Op, Part};
use crate::render::Map;
use crate::types::ImageShape;

/// Weight of responses below 0, which the ReLU cuts off. Without it a silent filter would have no gradient.
const LEAK: f32 = 0.1;
/// Side of a filter's image as a multiple of the filter's receptive field: room for a texture.
const FIELDS: usize = 2;
/// Smallest side of a filter's image, in pixels.
const LEAST_SIDE: usize = 12;

/// Targets to maximise. Many targets of one kind are one batch.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Channels of a convolution. Maximises the mean response before the activation over all places, where responses
    /// below 0 count a tenth.
    Channels { convolution: NodeId, channels: &'a [usize] },
    /// Logits.
    Classes(&'a [usize]),
}

/// The image found for a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimum {
    /// One map for each channel of the network's input, values 0 to 1. For a filter it is only as large as needed to
    /// show the filter's pattern, in general smaller than the network's input.
    pub image: Vec<Map>,
    /// Response of the target to the image: the mean of a channel after its ReLU, 0 for a filter that stays silent;
    /// the logit of a class. NaN or infinite if weights are not finite. The ascent then ignores those weights, and
    /// the image is in general the blurred starting noise.
    pub activation: f32,
    /// Softmax probability of the class, 0 to 1; `None` for a channel.
    pub probability: Option<f32>,
}

/// The image with the strongest response, for each channel or class. Deterministic for the same weights and settings.
/// Empty if the node is not a convolution.
///
/// # Panics
/// If a channel or class does not exist, there are more than 1024 of them, or the weights do not have the network's
/// shapes: a bug in the caller.
pub fn maximise(network: &Graph, weights: &[Tensor], target: Target<'_>, settings: &Ascent) -> Vec<Optimum> {
    maximise_from(network, weights, target, settings, |shape, count| settings.start(shape, count))
}

/// [`maximise`] with a function for the starting images, given their shape and number.
fn maximise_from(
    network: &Graph,
    weights: &[Tensor],
    target: Target<'_>,
    settings: &Ascent,
    start: impl FnOnce(ImageShape, usize) -> Images,
) -> Vec<Optimum> {
    // Detached: libtorch would compute gradients for leaves that require them.
    let weights: Vec<Tensor> = weights.iter().map(Tensor::detach).collect();
    match target {
        Target::Channels { convolution, channels } => {
            of_channels(network, &weights, convolution, channels, settings, start)
        }
        Target::Classes(classes) => of_classes(network, &weights, classes, settings, start),
    }
}

fn of_channels(
    network: &Graph,
    weights: &[Tensor],
    convolution: NodeId,
    channels: &[usize],
    settings: &Ascent,
    start: impl FnOnce(ImageShape, usize) -> Images,
) -> Vec<Optimum> {
    let count = channels.len();
    // Only the layers up to the target and only the requested channels are computed. Each image needs one of these
    // channels and gets all, so that all images are one batch.
    let part = network.up_to_filters(convolution, count, canvas(network, convolution));
    let (Some(Part { graph: part, parameters }), false) = (part, channels.is_empty()) else {
        return Vec::new();
    };
    let below: Vec<&Tensor> = parameters.iter().map(|&index| &weights[index]).collect();
    let (below, own) = below.split_at(below.len() - part.node(part.taps().logits).parameters.len());
    let chosen: Vec<i64> = channels.iter().map(|&channel| channel as i64).collect();
    let chosen = Tensor::from_slice(&chosen).to_device(own[0].device());
    let own: Vec<Tensor> = own.iter().map(|parameter| parameter.index_select(0, &chosen)).collect();
    let (kernels, biases) = (&own[0], &own[1..]);
    // During the ascent kernels that are not finite become 0: for libtorch 0 times NaN is NaN, which would spoil the
    // others.
    let is_finite = kernels.isfinite().all_dims([1_i64, 2, 3].as_slice(), true);
    let finite = kernels.where_self(&is_finite, &kernels.zeros_like());
    let with = |kernels: &Tensor| -> Vec<Tensor> {
        below.iter().copied().chain([kernels]).chain(biases).map(Tensor::shallow_clone).collect()
    };

    let weights = with(&finite);
    let mut passes = Passes::new(&part, &weights);
    let found = settings.climb(start(part.input(), count), |images| {
        passes.image_gradient(images, |answers| {
            let mut factors = vec![0.0; answers.len()];
            let places = places(answers, count);
            for own in own_places(places, count) {
                for (factor, &answer) in factors[own.clone()].iter_mut().zip(&answers[own]) {
                    *factor = if answer > 0.0 { 1.0 } else { LEAK } / places as f32;
                }
            }
            factors
        })
    });

    drop(passes);
    let weights = with(kernels);
    let answers = Passes::new(&part, &weights).answers(&found.values);
    let places = places(&answers, count);
    let activation = |own: Range<usize>| {
        // Not `max`: NaN stays.
        let active = |&answer: &f32| if answer < 0.0 { 0.0 } else { answer };
        answers[own].iter().map(active).sum::<f32>() / places as f32
    };
    let activations = own_places(places, count).map(activation);
    found.maps().zip(activations).map(|(image, activation)| Optimum { image, activation, probability: None }).collect()
}

/// Number of places at which each of `count` filters responds to each of as many images.
fn places(answers: &[f32], count: usize) -> usize {
    answers.len() / (count * count).max(1)
}

/// Range of each image's own filter among the responses of all filters to all images.
fn own_places(places: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).map(move |image| (image * count + image) * places..(image * count + image + 1) * places)
}

fn of_classes(
    network: &Graph,
    weights: &[Tensor],
    classes: &[usize],
    settings: &Ascent,
    start: impl FnOnce(ImageShape, usize) -> Images,
) -> Vec<Optimum> {
    let count = network.classes();
    if classes.is_empty() {
        return Vec::new();
    }
    let mut passes = Passes::new(network, weights);
    let found = settings.climb(start(network.input(), classes.len()), |images| {
        passes.image_gradient(images, |logits| one_hot(logits.len(), count, classes.iter().copied()))
    });
    let logits = passes.answers(&found.values);
    let optimum = |((image, logits), &class): ((Vec<Map>, &[f32]), &usize)| {
        let activation = logits[class];
        let powers = logits.iter().map(|&logit| (f64::from(logit) - f64::from(activation)).exp());
        Optimum { image, activation, probability: Some(powers.sum::<f64>().recip() as f32) }
    };
    found.maps().zip(logits.chunks_exact(count)).zip(classes).map(optimum).collect()
}

/// Size of an image for a filter of a convolution, chosen so that its outputs use every pixel.
fn canvas(network: &Graph, node: NodeId) -> ImageShape {
    let (field, stride) = receptive_field(network, node);
    let side = |whole: usize| {
        let wanted = (FIELDS * field).max(LEAST_SIDE).min(whole).saturating_sub(field);
        let most = whole.saturating_sub(field) / stride;
        field + wanted.div_ceil(stride).min(most) * stride
    };
    let input = network.input();
    ImageShape { height: side(input.height), width: side(input.width), channels: input.channels }
}

/// Receptive field of a node and its stride, both in pixels of the input; of several paths to the input the largest counts.
fn receptive_field(network: &Graph, node: NodeId) -> (usize, usize) {
    let mut fields: Vec<(usize, usize)> = Vec::with_capacity(node.index() + 1);
    for node in &network.nodes()[..=node.index()] {
        let (field, stride) = node.inputs.iter().map(|input| fields[input.index()]).max().unwrap_or((1, 1));
        fields.push(match node.op {
            Op::Conv2d { kernel, .. } => (field + (kernel - 1) * stride, stride),
            Op::MaxPool2d { size } => (field + (size - 1) * stride, stride * size),
            Op::Input | Op::Activation(_) | Op::Flatten | Op::Linear { .. } => (field, stride),
        });
    }
    fields[node.index()]
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::forward;
    use crate::graph::ParameterSpec;
    use crate::model::Architecture;
    use crate::rng::{Purpose, Stream};
    use crate::types::Seed;
    use crate::weights::host_values;

    fn built(filters: &[usize], kernel_size: usize, shape: ImageShape, classes: usize) -> Graph {
        let architecture = Architecture { conv_filters: filters.to_vec(), kernel_size, dense_units: 8 };
        architecture.build(shape, classes).unwrap()
    }

    fn conv(network: &Graph, layer: &str) -> NodeId {
        network.layer(layer).unwrap().node
    }

    fn small() -> Graph {
        built(&[4, 6], 3, ImageShape { height: 14, width: 12, channels: 3 }, 10)
    }

    /// Weights that any language can compute: `sin(0.7 i^2 + p)` for value `i` of parameter `p`.
    fn formula_weights(network: &Graph) -> Vec<Tensor> {
        let value = |i: usize, p: usize| (0.7 * i as f64 * i as f64 + p as f64).sin() as f32;
        let tensor = |(p, spec): (usize, &ParameterSpec)| {
            Tensor::from_slice(&(0..spec.len()).map(|i| value(i, p)).collect::<Vec<f32>>()).view(spec.shape.as_slice())
        };
        network.parameters().iter().enumerate().map(tensor).collect()
    }

    /// One convolution with these kernels over one channel, biases 0; later layers do not matter.
    fn with_kernels(kernels: &[&[f32]], side: usize) -> (Graph, Vec<Tensor>) {
        let network = built(&[kernels.len()], side, ImageShape { height: 28, width: 28, channels: 1 }, 2);
        let mut weights = formula_weights(&network);
        let shape = [kernels.len() as i64, 1, side as i64, side as i64];
        weights[0] = Tensor::from_slice(&kernels.concat()).view(shape);
        weights[1] = Tensor::zeros([kernels.len() as i64], (Kind::Float, Device::Cpu));
        (network, weights)
    }

    fn mean(values: &[f32]) -> f32 {
        values.iter().sum::<f32>() / values.len() as f32
    }

    fn correlation(a: &[f32], b: &[f32]) -> f32 {
        let centred = |values: &[f32]| values.iter().map(|v| v - mean(values)).collect::<Vec<f32>>();
        let (a, b) = (centred(a), centred(b));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
    }

    fn variation(map: &Map) -> f32 {
        let (values, width) = (map.values(), map.width());
        let across = values.chunks(width).flat_map(|row| row.windows(2).map(|pair| (pair[1] - pair[0]).abs()));
        let down = values.iter().zip(&values[width..]).map(|(a, b)| (a - b).abs());
        across.chain(down).sum()
    }

    #[test]
    fn the_optimum_of_a_kernel_of_one_weight_is_black_or_white() {
        let (network, weights) = with_kernels(&[&[2.0], &[-1.0]], 1);
        let optima = maximise(
            &network,
            &weights,
            Target::Channels { convolution: conv(&network, "conv2d"), channels: &[0, 1] },
            &Ascent::default(),
        );
        assert!(optima[0].image[0].values().iter().all(|&v| v > 0.99), "{:?}", optima[0].image);
        assert!((optima[0].activation - 2.0).abs() < 0.02);
        assert!(
            optima[1].image[0].values().iter().all(|&v| v < 0.01),
            "no gradient passes the ReLU of a silent filter"
        );
        assert_eq!((optima[1].activation, optima[1].probability), (0.0, None));
    }

    #[test]
    fn the_optimum_of_an_edge_is_that_edge() {
        let kernels: [&[f32]; 4] = [
            &[-1.0, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0],
            &[1.0, 2.0, 1.0, 0.0, 0.0, 0.0, -1.0, -2.0, -1.0],
            &[0.0, 1.0, 2.0, -1.0, 0.0, 1.0, -2.0, -1.0, 0.0],
            &[-1.0, 2.0, -1.0, -1.0, 2.0, -1.0, -1.0, 2.0, -1.0],
        ];
        let (network, weights) = with_kernels(&kernels, 3);
        let target = Target::Channels { convolution: conv(&network, "conv2d"), channels: &[0, 1, 2, 3] };
        for (optimum, kernel) in maximise(&network, &weights, target, &Ascent::default()).iter().zip(kernels) {
            let map = &optimum.image[0];
            assert_eq!((map.height(), map.width()), (12, 12));
            let window = |y: usize, x: usize| -> Vec<f32> {
                (0..9).map(|i| map.values()[(y + i / 3) * map.width() + x + i % 3]).collect()
            };
            let places = (0..100).map(|i| correlation(&window(i / 10, i % 10), kernel));
            let best = places.fold(-1.0, f32::max);
            assert!(best > 0.9, "{kernel:?}: {best}");
        }
    }

    #[test]
    fn the_found_image_beats_the_start_and_chance() {
        let network = small();
        let weights = formula_weights(&network);
        let settings = Ascent::default();
        for (layer, count) in [("conv2d", 4), ("conv2d_1", 6)] {
            let node = conv(&network, layer);
            let channels: Vec<usize> = (0..count).collect();
            let start = settings.start(canvas(&network, node), 1).maps().next().unwrap();
            let found =
                maximise(&network, &weights, Target::Channels { convolution: node, channels: &channels }, &settings);
            let mut draws = Stream::new(Seed(0), Purpose::Test, 0, 0);
            let mut random = || -> Vec<Map> {
                let mut noise = |map: &Map| map.values().iter().map(|_| draws.uniform(0.0, 1.0)).collect();
                start.iter().map(|map| Map::new(map.height(), map.width(), noise(map)).unwrap()).collect()
            };
            let random: Vec<Vec<Map>> = (0..300).map(|_| random()).collect();
            for channel in channels {
                let score = |image: &[Map]| score(&network, &weights, node, channel, image);
                let after = score(&found[channel].image);
                assert!(after > score(&start), "layer {layer}, channel {channel}");
                let below = random.iter().filter(|image| score(image) < after).count();
                assert!(below > 297, "layer {layer}, channel {channel}: above {below} of 300");
            }
        }
    }

    /// The maximised quantity, computed by libtorch.
    fn score(network: &Graph, weights: &[Tensor], node: NodeId, channel: usize, image: &[Map]) -> f32 {
        let planes: Vec<f32> = image.iter().flat_map(Map::values).copied().collect();
        let size = [1, image.len() as i64, image[0].height() as i64, image[0].width() as i64];
        let image_1chw = Tensor::from_slice(&planes).view(size);
        let answers = forward::value(network, node, weights, &image_1chw).select(1, channel as i64);
        let leaky = host_values(&answers).into_iter().map(|answer| if answer > 0.0 { answer } else { 0.1 * answer });
        leaky.sum::<f32>() / answers.numel() as f32
    }

    #[test]
    fn regularisers_do_what_they_are_for() {
        let network = small();
        let weights = formula_weights(&network);
        let bare = Ascent { jitter: 0, blur: 0.0, tv: 0.0, l2: 0.0, ..Ascent::default() };
        let found = |settings: Ascent| {
            let optima = maximise(
                &network,
                &weights,
                Target::Channels { convolution: conv(&network, "conv2d_1"), channels: &[0, 1, 4] },
                &settings,
            );
            optima.into_iter().flat_map(|optimum| optimum.image).collect::<Vec<Map>>()
        };
        let roughness = |maps: &[Map]| maps.iter().map(variation).sum::<f32>();
        let distance = |maps: &[Map]| maps.iter().flat_map(Map::values).map(|v| (v - 0.5) * (v - 0.5)).sum::<f32>();
        let plain = found(bare);
        assert!(roughness(&found(Ascent { tv: 0.4, ..bare })) < 0.8 * roughness(&plain));
        assert!(roughness(&found(Ascent { blur: 0.6, ..bare })) < 0.8 * roughness(&plain));
        assert!(distance(&found(Ascent { l2: 2.0, ..bare })) < 0.8 * distance(&plain));
        let shifted = found(Ascent { jitter: 1, ..bare });
        assert_ne!(shifted, plain);
        assert_ne!(found(Ascent { jitter: 1, seed: Seed(1), ..bare }), shifted);
    }

    /// Horizontal bars, vertical bars and spots, at random positions.
    fn bars(count: usize) -> (Tensor, Tensor) {
        let mut draws = Stream::new(Seed(0), Purpose::Test, 0, 1);
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for index in 0..count {
            let (row, column, class) = (2 + draws.below(8) as usize, 2 + draws.below(8) as usize, index % 3);
            for at in 0..144_usize {
                let (down, along) = ((at / 12).abs_diff(row), (at % 12).abs_diff(column));
                let on = [down < 1 && along < 5, along < 1 && down < 5, down < 2 && along < 2][class];
                pixels.push(f32::from(u8::from(on)) * 0.8 + draws.uniform(0.0, 0.2));
            }
            labels.push(class as i64);
        }
        (Tensor::from_slice(&pixels).view([count as i64, 1, 12, 12]), Tensor::from_slice(&labels))
    }

    #[test]
    fn a_trained_network_takes_the_image_of_a_class_for_that_class() {
        let network = built(&[6], 3, ImageShape { height: 12, width: 12, channels: 1 }, 3);
        let leaves: Vec<Tensor> =
            formula_weights(&network).into_iter().map(|w| (w * 0.3).detach().set_requires_grad(true)).collect();
        let (images, labels) = bars(96);
        for _ in 0..150 {
            let loss = forward::logits(&network, &leaves, &images).cross_entropy_for_logits(&labels);
            let gradients = Tensor::run_backward(&[loss], &leaves, false, false);
            tch::no_grad(|| {
                for (leaf, gradient) in leaves.iter().zip(gradients) {
                    let _ = leaf.shallow_clone().f_sub_(&(gradient * 0.2)).unwrap();
                }
            });
        }
        let optima = maximise(&network, &leaves, Target::Classes(&[0, 1, 2]), &Ascent::default());
        for (class, optimum) in optima.iter().enumerate() {
            assert!(optimum.probability.unwrap() > 0.9, "class {class}: {:?}", optimum.probability);
            let image = Tensor::from_slice(optimum.image[0].values()).view([1, 1, 12, 12]);
            let logits = host_values(&forward::logits(&network, &leaves, &image));
            assert!((logits[class] - optimum.activation).abs() < 1e-4);
            assert!(logits.iter().enumerate().all(|(other, &logit)| other == class || logit < logits[class]));
        }
    }

    #[test]
    fn pytorch_finds_the_same_images() {
        // Written by tests/golden/make_activation_max.py with PyTorch 2.13.
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/activation_max.json")).unwrap();
        let network = small();
        let weights = formula_weights(&network);
        let settings = Ascent { steps: 4, start: 0.4, jitter: 0, ..Ascent::default() };
        let targets = [
            ("conv2d", Target::Channels { convolution: conv(&network, "conv2d"), channels: &[0, 2, 3] }),
            ("conv2d_1", Target::Channels { convolution: conv(&network, "conv2d_1"), channels: &[1, 5] }),
            ("classes", Target::Classes(&[7, 0, 3])),
        ];
        for (name, target) in targets {
            let start = |shape: ImageShape, count: usize| {
                // A formula by channel, row and column.
                let plane = shape.height * shape.width;
                let at = |i: usize| i % shape.channels * plane + i / shape.channels;
                let pixel = |i: usize| (0.4 + 0.05 * (1.3 * (at(i) as f64).powi(2)).sin()) as f32;
                Images { shape, values: (0..shape.len()).map(pixel).collect::<Vec<f32>>().repeat(count) }
            };
            let optima = maximise_from(&network, &weights, target, &settings, start);
            let images = optima.iter().flat_map(|optimum| &optimum.image).flat_map(Map::values).copied().collect();
            let activations: Vec<f32> = optima.iter().map(|optimum| optimum.activation).collect();
            for (what, got) in [("images", images), ("activations", activations)] {
                let want: Vec<f64> =
                    golden[name][what].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
                assert_eq!(got.len(), want.len(), "{name}: {what}");
                for (i, (got, want)) in got.into_iter().map(f64::from).zip(want).enumerate() {
                    let close = (got - want).abs() <= 1e-4 * want.abs().max(1.0);
                    assert!(close, "{name}: {what}: value {i}: got {got}, want {want}");
                }
            }
        }
    }

    #[test]
    fn an_image_is_as_large_as_what_its_filter_sees_needs() {
        let sides = |filters: &[usize], kernel: usize, side: usize, layer: &str| {
            let network = built(filters, kernel, ImageShape { height: side, width: side + 1, channels: 1 }, 2);
            let shape = canvas(&network, conv(&network, layer));
            (shape.height, shape.width)
        };
        assert_eq!(sides(&[32, 64], 3, 28, "conv2d"), (12, 12));
        assert_eq!(sides(&[32, 64], 3, 28, "conv2d_1"), (16, 16));
        // Receptive fields of 3, 8, 18 pixels with strides of 1, 2, 4.
        assert_eq!(sides(&[1, 1, 1], 3, 96, "conv2d_2"), (38, 38));
        assert_eq!(sides(&[1, 1, 1], 3, 33, "conv2d_2"), (30, 34));
        assert_eq!(sides(&[1], 1, 2, "conv2d"), (2, 3));
    }

    #[test]
    fn what_is_not_finite_is_said_and_harms_no_other() {
        let kernel = [0.5; 9];
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (network, mut weights) = with_kernels(&[&[wrong; 9], &kernel], 3);
            let target = Target::Channels { convolution: conv(&network, "conv2d"), channels: &[0, 1] };
            let optima = maximise(&network, &weights, target, &Ascent::default());
            assert!(optima.iter().all(|optimum| optimum.image[0].non_finite() == 0));
            assert!(
                !optima[0].activation.is_finite() || optima[0].activation == 0.0,
                "{wrong}: {}",
                optima[0].activation
            );
            let (_, sound) = with_kernels(&[&kernel, &kernel], 3);
            assert_eq!(optima[1], maximise(&network, &sound, target, &Ascent::default())[1]);
            weights[2] = weights[2].full_like(f64::from(wrong));
            let classes = maximise(&network, &weights, Target::Classes(&[0, 1]), &Ascent::default());
            assert!(classes.iter().all(|class| !class.activation.is_finite() && class.image[0].non_finite() == 0));
        }
    }

    #[test]
    fn what_is_no_convolution_has_no_image() {
        let network = small();
        let weights = formula_weights(&network);
        for layer in ["max_pooling2d", "flatten", "dense"] {
            let target = Target::Channels { convolution: conv(&network, layer), channels: &[0] };
            assert!(maximise(&network, &weights, target, &Ascent::default()).is_empty(), "{layer}");
        }
        assert!(maximise(&network, &weights, Target::Classes(&[]), &Ascent::default()).is_empty());
    }

    #[test]
    fn nothing_is_left_behind() {
        let network = small();
        let weights: Vec<Tensor> =
            formula_weights(&network).iter().map(|w| w.detach().set_requires_grad(true)).collect();
        let before: Vec<Vec<f32>> = weights.iter().map(host_values).collect();
        for target in
            [Target::Channels { convolution: conv(&network, "conv2d_1"), channels: &[3, 1] }, Target::Classes(&[4])]
        {
            let find = || maximise(&network, &weights, target, &Ascent::default());
            let first = find();
            assert!(weights.iter().all(|w| !w.grad().defined()), "a leaf got a gradient");
            assert_eq!(weights.iter().map(host_values).collect::<Vec<_>>(), before);
            // The caller's gradient mode makes no difference.
            assert_eq!(tch::no_grad(find), first);
        }
    }
}
