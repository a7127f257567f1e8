//! Faithfulness of explanations: regions that Grad-CAM highlights matter to the class, and trained weights matter to
//! the maps.
//!
//! `scripts/explanations.py` does the same and more with MNIST; the last test here computes its maps.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tch::{Device, Kind, Tensor};

use trainer::data::{Batch, Split, order, synthetic};
use trainer::explain::{self, Explanation, Method, Settings, explain};
use trainer::forward;
use trainer::graph::{Graph, NodeId};
use trainer::model::Architecture;
use trainer::optim::Rule;
use trainer::render::Map;
use trainer::rng::{Purpose, Stream};
use trainer::train::{Stepper, TrainState};
use trainer::types::{ImageShape, Seed};
use trainer::weights;
use trainer::weights::Weights;

const IMAGES: usize = 200;
/// Minimum margin between two drops in the probability of the class: from covering the fifth of the pixels that
/// Grad-CAM ranks highest, and from covering a random fifth. Seeds 1 to 5 give 0.17 to 0.25.
const LEAST_MARGIN: f64 = 0.1;
/// Maximum mean rank correlation between maps of trained and of random weights; seeds 1 to 5 give 0.15 to 0.20.
const LARGEST_CORRELATION: f64 = 0.5;

/// A small network trained on drawn shapes, and shapes that it has not seen.
fn trained() -> (Arc<Graph>, Weights, Split) {
    let dataset = synthetic::dataset(Seed(0));
    let architecture = Architecture { conv_filters: vec![8, 16], kernel_size: 3, dense_units: 32 };
    let network = Arc::new(architecture.build(dataset.train.shape(), dataset.classes.len()).unwrap());
    let mut state = TrainState::initialise(&network, Rule::Adam { weight_decay: 0.0 }, Seed(1), Device::Cpu);
    let mut stepper = Stepper::new(&network, &state, 32, 1).unwrap();
    for epoch in 0..4 {
        for indices in order(Seed(1), epoch, 3000).chunks(32) {
            stepper.step(&mut state, &dataset.train, indices, 3e-3).unwrap();
        }
    }
    let evaluation = stepper.evaluate(&state, &dataset.validation, &AtomicUsize::new(0)).unwrap();
    let (metrics, _) = evaluation.unwrap();
    assert!(metrics.accuracy > 0.8, "the network has learned nothing to explain: accuracy {}", metrics.accuracy);
    (network, state.parameters, dataset.validation)
}

/// The most probable class of each image and its probability.
fn predicted(network: &Graph, weights: &[Tensor], images_nchw: &Tensor) -> (Vec<usize>, Tensor) {
    let probabilities_nk = tch::no_grad(|| forward::logits(network, weights, images_nchw).softmax(-1, Kind::Float));
    let (most_n, classes_n) = probabilities_nk.max_dim(1, false);
    let classes: Vec<i64> = Vec::try_from(&classes_n).unwrap();
    (classes.into_iter().map(|class| class as usize).collect(), most_n)
}

/// Mean drop in the probability of the target when the given pixels of each image get the median, its background
/// colour: black would be a shape of its own.
fn fall(network: &Graph, weights: &[Tensor], images_nchw: &Tensor, targets: &[usize], pixels: &[Vec<usize>]) -> f64 {
    let probability = |images_nchw: &Tensor| {
        let probabilities_nk = tch::no_grad(|| forward::logits(network, weights, images_nchw).softmax(-1, Kind::Float));
        let targets: Vec<i64> = targets.iter().map(|&target| target as i64).collect();
        let of_targets = probabilities_nk.gather(1, &Tensor::from_slice(&targets).unsqueeze(1), false);
        of_targets.mean(Kind::Double).double_value(&[])
    };
    let mut covered: Vec<f32> = Vec::try_from(images_nchw.contiguous().flatten(0, -1)).unwrap();
    let size = covered.len() / pixels.len();
    for (image, pixels) in covered.chunks_exact_mut(size).zip(pixels) {
        let background = image[ranking(image)[size / 2]];
        pixels.iter().for_each(|&pixel| image[pixel] = background);
    }
    let covered_nchw = Tensor::from_slice(&covered).view(images_nchw.size().as_slice());
    probability(images_nchw) - probability(&covered_nchw)
}

/// Positions of the values in descending order; equal ones keep their order.
fn ranking(values: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

/// Spearman's rank correlation; equal values share their mean rank. 0 for a constant.
fn rank_correlation(a: &[f32], b: &[f32]) -> f64 {
    let ranks = |values: &[f32]| {
        let order = ranking(values);
        let mut ranks = vec![0.0; values.len()];
        let mut start = 0;
        for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
            let mean = start as f64 + (group.len() - 1) as f64 / 2.0;
            group.iter().for_each(|&at| ranks[at] = mean - (values.len() - 1) as f64 / 2.0);
            start += group.len();
        }
        ranks
    };
    let (a, b) = (ranks(a), ranks(b));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    if scale > 0.0 { product(&a, &b) / scale } else { 0.0 }
}

#[test]
fn ranks_are_compared_as_scipy_does() {
    // scipy.stats.spearmanr([1, 2, 2, 5, 3], [3, 1, 4, 9, 2])
    assert!(
        (rank_correlation(&[1.0, 2.0, 2.0, 5.0, 3.0], &[3.0, 1.0, 4.0, 9.0, 2.0]) - 0.359_092_423_229_804).abs()
            < 1e-12
    );
    assert_eq!(rank_correlation(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -1.0);
    assert_eq!(rank_correlation(&[1.0, 1.0], &[3.0, 2.0]), 0.0);
}

#[test]
fn what_grad_cam_points_at_matters_and_trained_weights_matter_to_it() {
    let (network, parameters, validation) = trained();
    let indices: Vec<u32> = (0..IMAGES as u32).collect();
    let images_nchw = Batch::gather(&validation, &indices, Device::Cpu).images_nchw;
    let (targets, _) = predicted(&network, parameters.views(), &images_nchw);
    let cams = |weights: &[Tensor]| -> Vec<Map> {
        let found = explain(Method::GradCam, &network, weights, &images_nchw, None, &targets, &Settings::default());
        found.iter().map(|explanation| explanation.normalised(28, 28)).collect()
    };
    let maps = cams(parameters.views());

    let fifth = 28 * 28 / 5;
    let pointed_at: Vec<Vec<usize>> = maps.iter().map(|map| ranking(map.values())[..fifth].to_vec()).collect();
    let random: Vec<Vec<usize>> = (0..IMAGES)
        .map(|image| Stream::new(Seed(0), Purpose::Test, 0, image as u64).permutation(28 * 28))
        .map(|order| order[..fifth].iter().map(|&pixel| pixel as usize).collect())
        .collect();
    let fall_of = |pixels: &[Vec<usize>]| fall(&network, parameters.views(), &images_nchw, &targets, pixels);
    let margin = fall_of(&pointed_at) - fall_of(&random);
    assert!(margin > LEAST_MARGIN, "the fifth that Grad-CAM ranks highest costs {margin} more than a random fifth");

    // Adebayo et al., "Sanity Checks for Saliency Maps" (2018): maps that do not depend on the weights explain only
    // the image.
    let untrained = Weights::initialise(&network, Seed(99), Device::Cpu);
    let others = cams(untrained.views());
    let correlations = maps.iter().zip(&others).map(|(a, b)| rank_correlation(a.values(), b.values()));
    let mean = correlations.sum::<f64>() / IMAGES as f64;
    assert!(mean.abs() < LARGEST_CORRELATION, "maps of random weights are the same: rank correlation {mean}");
}

/// Not a test: computes maps for
/// `scripts/explanations.py`, which passes paths of inputs and outputs in `EXPLANATIONS`.
#[test]
#[ignore = "computes maps for scripts/explanations.py"]
fn maps_for_the_script() {
    let dir = PathBuf::from(std::env::var_os("EXPLANATIONS").expect("EXPLANATIONS names a directory"));
    let bytes = std::fs::read(dir.join("inputs.safetensors")).unwrap();
    let inputs = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let data = inputs.tensor(name).unwrap().data().chunks_exact(4);
        data.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let shape: Vec<usize> = inputs.tensor("images").unwrap().shape().to_vec();
    let images_nchw =
        Tensor::from_slice(&floats("images")).view(shape.iter().map(|&d| d as i64).collect::<Vec<_>>().as_slice());
    let targets: Vec<usize> = floats("targets").iter().map(|&target| target as usize).collect();
    let input = ImageShape { channels: shape[1], height: shape[2], width: shape[3] };
    let methods: Vec<Method> = std::env::var("METHODS").unwrap().split(',').map(|name| name.parse().unwrap()).collect();

    let path = dir.join("model.safetensors");
    let (architecture, classes) = architecture(&std::fs::read(&path).unwrap());
    let network = architecture.build(input, classes).unwrap();
    let parameters = Weights::initialise(&network, Seed(0), Device::Cpu);
    weights::load(&path, &parameters, None).unwrap();

    let mut outputs = Outputs::default();
    let convolutions = network.layers().iter().filter(|layer| layer.op.is_convolution());
    let convolutions: Vec<(Option<NodeId>, &str)> =
        convolutions.map(|layer| (Some(layer.value), layer.name.as_str())).collect();
    for method in methods {
        let nodes = if method.needs_layer() { convolutions.clone() } else { vec![(None, "input")] };
        for (node, name) in nodes {
            let found =
                explain(method, &network, parameters.views(), &images_nchw, node, &targets, &Settings::default());
            let normalised = found.iter().map(|explanation| explanation.normalised(input.height, input.width));
            outputs.maps(&format!("{method}/{name}"), &normalised.collect::<Vec<_>>());
            outputs.maps(&format!("{method}/{name}/raw"), &raw(&found));
            if method == Method::IntegratedGradients {
                let gaps: Vec<f32> = found.iter().filter_map(|explanation| explanation.completeness_gap).collect();
                outputs.put(&format!("{method}/gap"), vec![gaps.len()], &gaps);
            }
        }
    }
    let settings = Settings::default().smooth_grad;
    let noise: Vec<f32> =
        Vec::try_from(explain::standard_noise(settings.seed, settings.samples, input).flatten(0, -1)).unwrap();
    outputs.put("noise", vec![settings.samples, input.channels, input.height, input.width], &noise);
    outputs.write(&dir.join("outputs.safetensors"));
}

fn raw(found: &[Explanation]) -> Vec<Map> {
    found.iter().map(|explanation| explanation.map.clone()).collect()
}

/// Architecture of the network in a weights file, and its number of classes.
fn architecture(bytes: &[u8]) -> (Architecture, usize) {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let shape = |name: String| file.tensor(&name).ok().map(|tensor| tensor.shape().to_vec());
    let name = |base: &str, number: usize| match number {
        0 => format!("{base}.weight"),
        n => format!("{base}_{n}.weight"),
    };
    let convolutions: Vec<Vec<usize>> = (0..).map_while(|number| shape(name("conv2d", number))).collect();
    let architecture = Architecture {
        conv_filters: convolutions.iter().map(|shape| shape[0]).collect(),
        kernel_size: convolutions[0][2],
        dense_units: shape(name("dense", 0)).unwrap()[0],
    };
    (architecture, shape(name("dense", 1)).unwrap()[0])
}

/// Named arrays to be written to a file.
#[derive(Default)]
struct Outputs(Vec<(String, Vec<usize>, Vec<u8>)>);

impl Outputs {
    fn put(&mut self, name: &str, shape: Vec<usize>, values: &[f32]) {
        self.0.push((name.to_owned(), shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()));
    }

    fn maps(&mut self, name: &str, maps: &[Map]) {
        let values: Vec<f32> = maps.iter().flat_map(Map::values).copied().collect();
        self.put(name, vec![maps.len(), maps[0].height(), maps[0].width()], &values);
    }

    fn write(&self, path: &std::path::Path) {
        let views = self
            .0
            .iter()
            .map(|(name, shape, bytes)| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        let views: HashMap<String, TensorView<'_>> = views.collect();
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }
}
