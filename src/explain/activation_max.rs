//! Activation maximisation: the image that a filter or a class answers most to, found by gradient ascent on the input.
//!
//! Erhan et al., "Visualizing Higher-Layer Features of a Deep Network" (2009); Simonyan et al., "Deep Inside Convolutional
//! Networks" (2013), for the logits of classes; Olah et al., "Feature Visualization" (2017), for jitter, blur and total
//! variation.

use tch::{Device, Kind, Tensor};

use crate::model::{LayerKind, Network, host_values};
use crate::render::Map;
use crate::rng::{Purpose, Stream};
use crate::types::{ImageShape, Seed};

/// Half the range of the noise from which an ascent starts: enough to break symmetry, too little to be seen afterwards.
const NOISE: f32 = 0.05;
/// Differences between neighbours well below this count with their square in the total variation, so that it has a
/// gradient everywhere.
const TV_SOFTNESS: f64 = 0.1;
/// How much an answer below 0, which the ReLU cuts off, counts: without it a silent filter would have no gradient.
const LEAK: f64 = 0.1;
/// An image for a filter is this many times as wide as what one of its answers sees: room for a texture.
const FIELDS: usize = 2;
/// ... and at least this wide, in pixels.
const LEAST_SIDE: usize = 12;

/// What to look for: many targets of one kind are one batch.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Channels of the convolution with index `layer`: the mean over all places of the answer before the ReLU, where one
    /// below 0 counts a tenth.
    Channels { layer: usize, channels: &'a [usize] },
    /// Logits.
    Classes(&'a [usize]),
}

/// How an ascent goes. Each step is
/// `x = blurred(x + rate * (g / rms(g) - tv * grad TV(x) - l2 * (x - start)))`, cut to 0 to 1, where `g` is the gradient
/// of the target at the image shifted by chance; the rate and the share of the blur fall linearly to 0 over the steps, so
/// that it begins with the large forms and ends with edges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ascent {
    pub steps: usize,
    /// How far a pixel moves at first, on the root mean square over an image, in units of the data's range.
    pub rate: f64,
    /// The brightness, 0 to 1, from which the ascent starts, with a little noise, and to which `l2` pulls.
    pub start: f32,
    /// Pixels by which the image is shifted in each direction, at most, before a gradient is taken. What leaves at one
    /// edge enters at the other.
    pub jitter: usize,
    /// The share, 0 to 1, that a Gaussian blur with a standard deviation of 0.7 pixels has of the image after the first
    /// step.
    pub blur: f64,
    /// Weight of the total variation, the sum of differences between neighbours, against the target.
    pub tv: f64,
    /// Weight of the squared distance from the start against the target.
    pub l2: f64,
    /// Of the noise and the shifts.
    pub seed: Seed,
}

impl Default for Ascent {
    /// Sixteen long steps: thirty of half the length find the same forms on MNIST and take twice the time.
    fn default() -> Ascent {
        Ascent { steps: 16, rate: 0.2, start: 0.5, jitter: 1, blur: 0.3, tv: 0.2, l2: 0.2, seed: Seed(0) }
    }
}

/// The image that was found for a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimum {
    /// One map for each channel of the network's input, values 0 to 1. For a filter it is only as large as it takes to
    /// show what the filter looks for, which is in general smaller than the network's input.
    pub image: Vec<Map>,
    /// What the target answers to the image: the mean of a channel after its ReLU, 0 for a filter that stays silent; the
    /// logit of a class. NaN or infinite where weights are not finite; the image is then the blurred noise it began with.
    pub activation: f32,
    /// Of the class, 0 to 1.
    pub probability: Option<f32>,
}

/// For each channel or class the image it answers most to. The same for the same weights and settings, whenever it is
/// called. A layer that is no convolution gives none.
///
/// # Panics
/// When there is no such channel or class, or the shapes of the weights are not the network's: a bug in the caller.
pub fn maximise(network: &Network, weights: &[Tensor], target: Target<'_>, settings: &Ascent) -> Vec<Optimum> {
    // Leaves that want gradients would have them computed.
    let weights: Vec<Tensor> = weights.iter().map(Tensor::detach).collect();
    let Some(objective) = Objective::new(network, &weights, target) else {
        return Vec::new();
    };
    tch::no_grad(|| {
        let start_nchw = objective.start(settings);
        let images_nchw = ascend(&objective, &start_nchw, settings);
        objective.optima(&images_nchw)
    })
}

/// A batch of targets, ready to be evaluated again and again.
struct Objective<'a> {
    network: &'a Network,
    weights: &'a [Tensor],
    /// Of the images.
    shape: ImageShape,
    count: usize,
    goal: Goal,
}

enum Goal {
    /// The kernel `N x I x k x k` and the bias `N` of each image's own channel, over the output of the layer before;
    /// `finite` has zeros for kernels that hold anything else.
    Channels {
        layer: usize,
        kernels: Tensor,
        finite: Tensor,
        biases: Tensor,
    },
    Classes {
        targets_n1: Tensor,
    },
}

impl<'a> Objective<'a> {
    /// `None` for what is no convolution.
    fn new(network: &'a Network, weights: &'a [Tensor], target: Target<'_>) -> Option<Objective<'a>> {
        let device = weights.first().map_or(Device::Cpu, Tensor::device);
        let indices = |numbers: &[usize]| {
            Tensor::from_slice(&numbers.iter().map(|&n| n as i64).collect::<Vec<_>>()).to_device(device)
        };
        let (shape, count, goal) = match target {
            Target::Channels { layer, channels } => {
                let found = network.layers().get(layer)?;
                let (LayerKind::Conv2d { .. }, Some(index)) = (found.kind, found.kernel_index) else {
                    return None;
                };
                let chosen = indices(channels);
                let [kernels, biases] = [index, index + 1].map(|of| weights[of].index_select(0, &chosen));
                let is_finite = kernels.isfinite().all_dims([1_i64, 2, 3].as_slice(), true);
                let finite = kernels.where_self(&is_finite, &kernels.zeros_like());
                let goal = Goal::Channels { layer, kernels, finite, biases };
                (canvas(network, layer), channels.len(), goal)
            }
            Target::Classes(classes) => {
                (network.input(), classes.len(), Goal::Classes { targets_n1: indices(classes).unsqueeze(1) })
            }
        };
        (count > 0).then_some(Objective { network, weights, shape, count, goal })
    }

    /// Grey noise `N x C x H x W`, the same for every target.
    fn start(&self, settings: &Ascent) -> Tensor {
        let mut noise = Stream::new(settings.seed, Purpose::ActivationMax, 0, 0);
        let pixel = |_| (settings.start + noise.uniform(-NOISE, NOISE)).clamp(0.0, 1.0);
        let pixels: Vec<f32> = (0..self.shape.len()).map(pixel).collect();
        let [c, h, w] = [self.shape.channels, self.shape.height, self.shape.width].map(|side| side as i64);
        let device = self.weights.first().map_or(Device::Cpu, Tensor::device);
        Tensor::from_slice(&pixels).to_device(device).view([1, c, h, w]).repeat([self.count as i64, 1, 1, 1])
    }

    /// What is maximised, one value for each image.
    fn score_n(&self, images_nchw: &Tensor) -> Tensor {
        match &self.goal {
            Goal::Channels { layer, finite, biases, .. } => {
                // No other channel's: one pass is differentiated for all, and 0 times NaN is NaN.
                let answers_np = self.answers_np(*layer, finite, biases, images_nchw);
                let leaky_np = answers_np.relu() * (1.0 - LEAK) + answers_np * LEAK;
                leaky_np.mean_dim([1_i64].as_slice(), false, Kind::Float)
            }
            Goal::Classes { targets_n1 } => {
                self.network.forward(self.weights, images_nchw).gather(1, targets_n1, false).squeeze_dim(1)
            }
        }
    }

    /// What each image's own channel answers at each place, before the ReLU.
    fn answers_np(&self, layer: usize, kernels: &Tensor, biases: &Tensor, images_nchw: &Tensor) -> Tensor {
        // Layers behind the target are not computed, nor are channels that nobody asked for. One convolution with those of
        // all images, of which each needs its own alone, is still faster than a product for each image.
        let below_nchw = match layer.checked_sub(1) {
            Some(below) => self.network.forward_to(below, self.weights, images_nchw),
            None => images_nchw.shallow_clone(),
        };
        let answers_nnhw = below_nchw.conv2d(kernels, Some(biases), [1, 1], [0, 0], [1, 1], 1);
        answers_nnhw.diagonal(0, 0, 1).flatten(0, 1).transpose(0, 1)
    }

    fn gradient_nchw(&self, images_nchw: &Tensor) -> Tensor {
        tch::with_grad(|| {
            let images_nchw = images_nchw.detach().set_requires_grad(true);
            // An image's score depends on that image alone, so one backward pass serves the whole batch.
            let score = self.score_n(&images_nchw).sum(Kind::Float);
            // Not `backward`: it would leave gradients behind in every leaf.
            Tensor::run_backward(&[score], &[&images_nchw], false, false).remove(0)
        })
    }

    fn optima(&self, images_nchw: &Tensor) -> Vec<Optimum> {
        let (activations, probabilities) = match &self.goal {
            Goal::Channels { layer, kernels, biases, .. } => {
                let answers_np = self.answers_np(*layer, kernels, biases, images_nchw).relu();
                (answers_np.mean_dim([1_i64].as_slice(), false, Kind::Float), None)
            }
            Goal::Classes { targets_n1 } => {
                let logits_nk = self.network.forward(self.weights, images_nchw);
                let probabilities_nk = logits_nk.softmax(-1, Kind::Float);
                (
                    logits_nk.gather(1, targets_n1, false),
                    Some(host_values(&probabilities_nk.gather(1, targets_n1, false))),
                )
            }
        };
        let maps = super::planes(images_nchw, self.shape.height, self.shape.width);
        let images = maps.chunks(self.shape.channels.max(1)).map(<[Map]>::to_vec);
        let optimum = |(index, (image, activation)): (usize, (Vec<Map>, f32))| {
            let probability = probabilities.as_ref().and_then(|values| values.get(index).copied());
            Optimum { image, activation, probability }
        };
        images.zip(host_values(&activations)).enumerate().map(optimum).collect()
    }
}

fn ascend(objective: &Objective<'_>, start_nchw: &Tensor, settings: &Ascent) -> Tensor {
    let mut shifts = Stream::new(settings.seed, Purpose::ActivationMax, 0, 1);
    let mut shift = || shifts.below(2 * settings.jitter as u64 + 1) as i64 - settings.jitter as i64;
    let mut images_nchw = start_nchw.shallow_clone();
    for step in 0..settings.steps {
        let remaining = 1.0 - step as f64 / settings.steps as f64;
        let (down, right) = (shift(), shift());
        let shifted_nchw = images_nchw.roll([down, right], [2, 3]);
        let gradient_nchw = objective.gradient_nchw(&shifted_nchw).roll([-down, -right], [2, 3]);
        let pull_nchw = (&images_nchw - f64::from(settings.start)) * settings.l2;
        let direction_nchw = normalised(&gradient_nchw) - variation_gradient(&images_nchw) * settings.tv - pull_nchw;
        let moved_nchw = images_nchw + direction_nchw * (settings.rate * remaining);
        let share = settings.blur * remaining;
        images_nchw = (&moved_nchw * (1.0 - share) + blurred(&moved_nchw) * share).clamp(0.0, 1.0);
    }
    images_nchw
}

/// Each image's gradient with a root mean square of 1; 0 where there is none, or where it is not finite.
fn normalised(gradient_nchw: &Tensor) -> Tensor {
    let gradient_nchw = gradient_nchw.nan_to_num(0.0, 0.0, 0.0);
    let largest_n111 = gradient_nchw.abs().amax([1_i64, 2, 3].as_slice(), true).clamp_min(f64::from(f32::MIN_POSITIVE));
    // First by the largest, whose square may overflow.
    let scaled_nchw = gradient_nchw / largest_n111;
    let mean_square_n111 = scaled_nchw.square().mean_dim([1_i64, 2, 3].as_slice(), true, Kind::Float);
    scaled_nchw / (mean_square_n111 + f64::from(f32::EPSILON)).sqrt()
}

/// Of the sum over neighbours of `sqrt(difference^2 + TV_SOFTNESS^2)`.
fn variation_gradient(images_nchw: &Tensor) -> Tensor {
    let along = |axis: i64, before: [i64; 4], after: [i64; 4]| {
        let last = images_nchw.size()[axis as usize] - 1;
        let difference = images_nchw.narrow(axis, 1, last) - images_nchw.narrow(axis, 0, last);
        let slope = &difference / (difference.square() + TV_SOFTNESS * TV_SOFTNESS).sqrt();
        slope.constant_pad_nd(before) - slope.constant_pad_nd(after)
    };
    along(3, [1, 0, 0, 0], [0, 1, 0, 0]) + along(2, [0, 0, 1, 0], [0, 0, 0, 1])
}

/// By the weights 1, 2, 1 in both directions, a Gaussian's with a variance of 0.5; edges held.
fn blurred(images_nchw: &Tensor) -> Tensor {
    let along = |padded: &Tensor, axis: i64| {
        let inner = padded.size()[axis as usize] - 2;
        let part = |from: i64| padded.narrow(axis, from, inner);
        (part(0) + part(1) * 2.0 + part(2)) * 0.25
    };
    along(&along(&images_nchw.replication_pad2d([1, 1, 1, 1]), 3), 2)
}

/// The size of an image for a filter of a convolution: such that the layer's answers use every pixel.
fn canvas(network: &Network, layer: usize) -> ImageShape {
    let (field, stride) = receptive_field(network, layer);
    let side = |whole: usize| {
        let wanted = (FIELDS * field).max(LEAST_SIDE).min(whole).saturating_sub(field);
        let most = whole.saturating_sub(field) / stride;
        field + wanted.div_ceil(stride).min(most) * stride
    };
    let input = network.input();
    ImageShape { height: side(input.height), width: side(input.width), channels: input.channels }
}

/// How many pixels of the input an answer of a layer sees in each direction, and by how many pixels its neighbour sees
/// further.
fn receptive_field(network: &Network, layer: usize) -> (usize, usize) {
    network.layers().iter().take(layer + 1).fold((1, 1), |(field, stride), layer| match layer.kind {
        LayerKind::Conv2d { kernel, .. } => (field + (kernel - 1) * stride, stride),
        LayerKind::MaxPool2d { size } => (field + (size - 1) * stride, stride * size),
        LayerKind::Flatten | LayerKind::Dense { .. } => (field, stride),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, ParameterSpec};

    fn built(filters: &[usize], kernel_size: usize, shape: ImageShape, classes: usize) -> Network {
        let architecture = Architecture { conv_filters: filters.to_vec(), kernel_size, dense_units: 8 };
        Network::build(&architecture, shape, classes).unwrap()
    }

    fn small() -> Network {
        built(&[4, 6], 3, ImageShape { height: 14, width: 12, channels: 3 }, 10)
    }

    /// Weights that any language can compute: `sin(0.7 i^2 + p)` for value `i` of parameter `p`.
    fn formula_weights(network: &Network) -> Vec<Tensor> {
        let value = |i: usize, p: usize| (0.7 * i as f64 * i as f64 + p as f64).sin() as f32;
        let tensor = |(p, spec): (usize, &ParameterSpec)| {
            Tensor::from_slice(&(0..spec.len()).map(|i| value(i, p)).collect::<Vec<f32>>()).view(spec.shape.as_slice())
        };
        network.parameters().iter().enumerate().map(tensor).collect()
    }

    /// One convolution with these kernels over one channel, biases 0; what follows does not matter.
    fn with_kernels(kernels: &[&[f32]], side: usize) -> (Network, Vec<Tensor>) {
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
        let optima = maximise(&network, &weights, Target::Channels { layer: 0, channels: &[0, 1] }, &Ascent::default());
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
        let target = Target::Channels { layer: 0, channels: &[0, 1, 2, 3] };
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
        for (layer, count) in [(0, 4), (2, 6)] {
            let channels: Vec<usize> = (0..count).collect();
            let target = Target::Channels { layer, channels: &channels };
            let objective = Objective::new(&network, &weights, target).unwrap();
            let start = objective.start(&settings);
            let before = host_values(&objective.score_n(&start));
            let after = host_values(&objective.score_n(&ascend(&objective, &start, &settings)));
            let mut draws = Stream::new(Seed(0), Purpose::Test, 0, 0);
            let pixels: Vec<f32> = (0..300 * objective.shape.len()).map(|_| draws.uniform(0.0, 1.0)).collect();
            let [_, c, h, w] = start.size()[..] else { panic!("four axes") };
            let random = Tensor::from_slice(&pixels).view([300, c, h, w]);
            for channel in channels {
                assert!(after[channel] > before[channel], "layer {layer}, channel {channel}");
                let target = Target::Channels { layer, channels: &[channel; 300] };
                let scores = host_values(&Objective::new(&network, &weights, target).unwrap().score_n(&random));
                let below = scores.iter().filter(|&&score| score < after[channel]).count();
                assert!(below > 297, "layer {layer}, channel {channel}: above {below} of 300");
            }
        }
    }

    #[test]
    fn regularisers_do_what_they_are_for() {
        let network = small();
        let weights = formula_weights(&network);
        let bare = Ascent { jitter: 0, blur: 0.0, tv: 0.0, l2: 0.0, ..Ascent::default() };
        let found = |settings: Ascent| {
            let optima = maximise(&network, &weights, Target::Channels { layer: 2, channels: &[0, 1, 4] }, &settings);
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

    /// Bars that lie, bars that stand, and a spot, each somewhere.
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
            let loss = network.forward(&leaves, &images).cross_entropy_for_logits(&labels);
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
            let logits = host_values(&network.forward(&leaves, &image));
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
            ("conv2d", Target::Channels { layer: 0, channels: &[0, 2, 3] }),
            ("conv2d_1", Target::Channels { layer: 2, channels: &[1, 5] }),
            ("classes", Target::Classes(&[7, 0, 3])),
        ];
        for (name, target) in targets {
            let objective = Objective::new(&network, &weights, target).unwrap();
            let pixels: Vec<f32> =
                (0..objective.shape.len()).map(|i| (0.4 + 0.05 * (1.3 * i as f64 * i as f64).sin()) as f32).collect();
            let [c, h, w] = [3, objective.shape.height as i64, objective.shape.width as i64];
            let start = Tensor::from_slice(&pixels).view([1, c, h, w]).repeat([objective.count as i64, 1, 1, 1]);
            let found = ascend(&objective, &start, &settings);
            let activations: Vec<f32> = objective.optima(&found).iter().map(|optimum| optimum.activation).collect();
            for (what, got) in [("images", host_values(&found)), ("activations", activations)] {
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
        let sides = |filters: &[usize], kernel: usize, side: usize, layer: usize| {
            let network = built(filters, kernel, ImageShape { height: side, width: side + 1, channels: 1 }, 2);
            let shape = canvas(&network, layer);
            (shape.height, shape.width)
        };
        assert_eq!(sides(&[32, 64], 3, 28, 0), (12, 12));
        assert_eq!(sides(&[32, 64], 3, 28, 2), (16, 16));
        // 3, 8, 18 pixels are seen, in steps of 1, 2, 4.
        assert_eq!(sides(&[1, 1, 1], 3, 96, 4), (38, 38));
        assert_eq!(sides(&[1, 1, 1], 3, 33, 4), (30, 34));
        assert_eq!(sides(&[1], 1, 2, 0), (2, 3));
    }

    #[test]
    fn what_is_not_finite_is_said_and_harms_no_other() {
        let kernel = [0.5; 9];
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (network, mut weights) = with_kernels(&[&[wrong; 9], &kernel], 3);
            let target = Target::Channels { layer: 0, channels: &[0, 1] };
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
        for layer in [1, 4, 5, 99] {
            let target = Target::Channels { layer, channels: &[0] };
            assert!(maximise(&network, &weights, target, &Ascent::default()).is_empty(), "layer {layer}");
        }
        assert!(maximise(&network, &weights, Target::Classes(&[]), &Ascent::default()).is_empty());
    }

    #[test]
    fn nothing_is_left_behind() {
        let network = small();
        let weights: Vec<Tensor> =
            formula_weights(&network).iter().map(|w| w.detach().set_requires_grad(true)).collect();
        let before: Vec<Vec<f32>> = weights.iter().map(host_values).collect();
        for target in [Target::Channels { layer: 2, channels: &[3, 1] }, Target::Classes(&[4])] {
            let find = || maximise(&network, &weights, target, &Ascent::default());
            let first = find();
            assert!(weights.iter().all(|w| !w.grad().defined()), "a leaf got a gradient");
            assert_eq!(weights.iter().map(host_values).collect::<Vec<_>>(), before);
            // Whether the caller computes gradients or not makes no difference.
            assert_eq!(tch::no_grad(find), first);
        }
    }
}
