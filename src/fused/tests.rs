//! Against libtorch: the same loss, hits and gradients, whatever the shapes.

use pulp::Arch;
use tch::{Device, Kind, Tensor};

use super::network::{Backward, BackwardToImages, Forward};
use super::{FusedNetwork, Workspace};
use crate::data::{Batch, Split};
use crate::engine::{CrossEntropy, Objective, Scores};
use crate::forward;
use crate::graph::{Graph, Op};
use crate::model::Architecture;
use crate::rng::{Purpose, Stream};
use crate::types::{ImageShape, Seed};
use crate::weights::{Weights, host_values};

/// Random weights, biases among them, and random images.
fn example(architecture: &Architecture, shape: ImageShape, samples: usize) -> (Graph, Weights, Split) {
    let network = architecture.build(shape, 4).unwrap();
    let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
    let mut stream = Stream::new(Seed(2), Purpose::Test, 0, 0);
    for view in parameters.views().iter().filter(|view| view.dim() == 1) {
        let values: Vec<f32> = (0..view.numel()).map(|_| stream.uniform(-0.1, 0.1)).collect();
        view.shallow_clone().copy_(&Tensor::from_slice(&values));
    }
    let pixels = (0..samples * shape.len()).map(|_| stream.below(256) as u8).collect();
    let labels = (0..samples).map(|_| stream.below(4) as u16).collect();
    (network, parameters, Split::new(shape, 4, pixels, labels).unwrap())
}

/// Scores, probabilities and cotangents of `scale` times the cross-entropy.
fn judged(logits: &[f32], labels: &[u16], scale: f64) -> (Scores, Vec<f32>, Vec<f32>) {
    let mut probabilities = Vec::new();
    let scores = CrossEntropy.judge(logits, labels, &mut probabilities);
    let mut cotangents = probabilities.clone();
    CrossEntropy.cotangents(labels, scale, &mut cotangents);
    (scores, probabilities, cotangents)
}

/// All kinds of vectors that this processor has, and no vectors at all.
pub(super) fn kinds_of_vectors() -> Vec<(&'static str, Arch)> {
    let mut kinds = vec![("none", Arch::Scalar), ("the widest", Arch::new())];
    #[cfg(target_arch = "x86_64")]
    kinds.extend(pulp::x86::V3::try_new().map(|avx2| ("AVX2", Arch::V3(avx2))));
    kinds
}

fn architectures() -> Vec<(Architecture, ImageShape)> {
    let architecture = |filters: &[usize], kernel_size, dense_units| {
        let conv_filters = filters.to_vec();
        Architecture { conv_filters, kernel_size, dense_units }
    };
    let shape = |height, width, channels| ImageShape { height, width, channels };
    vec![
        // The default, where the last row and column of the first pooling are not needed.
        (Architecture::default(), shape(28, 28, 1)),
        // No whole vector anywhere, colours, more columns than rows, rows that poolings drop.
        (architecture(&[3, 5, 7], 3, 9), shape(31, 40, 3)),
        (architecture(&[17], 5, 1), shape(11, 9, 4)),
        (architecture(&[8, 33], 1, 20), shape(9, 8, 2)),
        (architecture(&[6], 7, 5), shape(8, 20, 1)),
        (architecture(&[40, 18], 2, 130), shape(13, 14, 9)),
        // Taps beyond whole groups of them, for more filters than a vector has.
        (architecture(&[37], 5, 6), shape(12, 13, 1)),
        // Dense layers alone, which see channels before rows; the second with more columns than are worked on at once.
        (architecture(&[], 3, 12), shape(5, 6, 3)),
        (architecture(&[], 3, 13), shape(23, 12, 3)),
    ]
}

#[test]
fn loss_hits_and_gradients_are_libtorchs() {
    for (architecture, shape) in architectures() {
        let samples = 7;
        let (network, parameters, split) = example(&architecture, shape, samples);
        let indices: Vec<u32> = (0..samples as u32).collect();
        let batch = Batch::gather(&split, &indices, Device::Cpu);
        let leaves = parameters.leaves();
        let logits = forward::logits(&network, &leaves, &batch.images_nchw);
        let loss = logits.cross_entropy_loss::<Tensor>(&batch.labels_n, None, tch::Reduction::Sum, -100, 0.0);
        let want = Tensor::run_backward(&[&loss * 0.3], &leaves, false, false);
        let hits = logits.argmax(-1, false).eq_tensor(&batch.labels_n).sum(Kind::Int64).int64_value(&[]);

        let fused = FusedNetwork::of(&network).unwrap();
        let mut workspace = fused.workspace();
        let flat: Vec<f32> = Vec::try_from(parameters.flat()).unwrap();
        let labels: Vec<u16> = (0..samples).map(|i| split.label(i)).collect();
        for (vectors, arch) in kinds_of_vectors() {
            workspace.load((0..samples).map(|i| split.image(i)));
            arch.dispatch(Forward { network: &fused, parameters: &flat, workspace: &mut workspace });
            let (scores, probabilities, cotangents) = judged(workspace.outputs(), &labels, 0.3);
            let cotangents = cotangents.as_slice();
            arch.dispatch(Backward { network: &fused, parameters: &flat, cotangents, workspace: &mut workspace });
            let what = format!("{architecture:?} on {shape}, vectors: {vectors}");
            assert!((scores.loss_sum - loss.double_value(&[])).abs() < 1e-4 * scores.loss_sum, "{what}");
            assert_eq!(scores.correct as i64, hits, "{what}");
            let probabilities = Tensor::from_slice(&probabilities).view_as(&logits);
            let off = (probabilities - logits.softmax(-1, Kind::Float)).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{what}: {off}");
            let gradient = Tensor::from_slice(workspace.gradient());
            for ((spec, got), want) in parameters.specs().iter().zip(parameters.views_of(&gradient)).zip(&want) {
                let largest = want.abs().max().double_value(&[]);
                let off = (got - want).abs().max().double_value(&[]);
                assert!(off <= 2e-5 * largest.max(1e-3), "{what}, {}: {off} of {largest}", spec.path());
            }
        }
    }
}

#[test]
fn answers_and_what_they_owe_to_pixels_are_libtorchs() {
    for (architecture, shape) in architectures() {
        let samples = 7;
        let (network, parameters, split) = example(&architecture, shape, samples);
        let indices: Vec<u32> = (0..samples as u32).collect();
        let images_nchw = Batch::gather(&split, &indices, Device::Cpu).images_nchw.set_requires_grad(true);
        let images_nhwc = host_values(&images_nchw.permute([0, 2, 3, 1]));
        let flat: Vec<f32> = Vec::try_from(parameters.flat()).unwrap();
        // The logits, and what each convolution answers.
        let mut subjects =
            vec![(FusedNetwork::of(&network).unwrap(), forward::logits(&network, parameters.views(), &images_nchw))];
        for layer in network.layers() {
            let Op::Conv2d { filters, .. } = layer.op else { continue };
            let part = network.up_to_filters(layer.node, filters, shape).unwrap();
            let answers = forward::value(&network, layer.node, parameters.views(), &images_nchw);
            subjects.push((FusedNetwork::of(&part.graph).unwrap(), answers));
        }
        let mut stream = Stream::new(Seed(3), Purpose::Test, 0, 0);
        for (fused, answers) in subjects {
            let cotangents: Vec<f32> = (0..answers.numel()).map(|_| stream.uniform(-1.0, 1.0)).collect();
            let sum = (&answers * Tensor::from_slice(&cotangents).view_as(&answers)).sum(Kind::Float);
            let want = Tensor::run_backward(&[sum], &[&images_nchw], false, false).remove(0);
            let want_nhwc = host_values(&want.permute([0, 2, 3, 1]));
            for (vectors, arch) in kinds_of_vectors() {
                let mut workspace = fused.workspace();
                workspace.load_images(&images_nhwc);
                arch.dispatch(Forward { network: &fused, parameters: &flat, workspace: &mut workspace });
                arch.dispatch(BackwardToImages {
                    network: &fused,
                    parameters: &flat,
                    cotangents: &cotangents,
                    workspace: &mut workspace,
                });
                let what = format!("{architecture:?} on {shape}, vectors: {vectors}");
                let pairs = [(workspace.outputs(), &host_values(&answers)), (workspace.image_gradient(), &want_nhwc)];
                for (got, want) in pairs {
                    assert_eq!(got.len(), want.len(), "{what}");
                    let largest = want.iter().fold(1e-3_f32, |most, value| most.max(value.abs()));
                    for (got, want) in got.iter().zip(want) {
                        assert!((got - want).abs() <= 2e-5 * largest, "{what}: {got} and {want} of {largest}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_sample_says_the_same_in_any_company() {
    let rest = Architecture { conv_filters: Vec::new(), kernel_size: 3, dense_units: 13 };
    for (architecture, [height, width, channels]) in [(Architecture::default(), [28, 28, 1]), (rest, [23, 12, 3])] {
        let (network, parameters, split) = example(&architecture, ImageShape { height, width, channels }, 9);
        let fused = FusedNetwork::of(&network).unwrap();
        let flat: Vec<f32> = Vec::try_from(parameters.flat()).unwrap();
        let mut workspace = fused.workspace();
        for (vectors, arch) in kinds_of_vectors() {
            let mut outputs = |samples: &[usize]| {
                workspace.load(samples.iter().map(|&i| split.image(i)));
                arch.dispatch(Forward { network: &fused, parameters: &flat, workspace: &mut workspace });
                workspace.outputs().to_vec()
            };
            let all = outputs(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
            let what = format!("{architecture:?}, vectors: {vectors}");
            assert_eq!(outputs(&[8]), all[32..], "a row depends on its image alone, {what}");
            assert_eq!(outputs(&[3, 8, 0]), [&all[12..16], &all[32..], &all[..4]].concat(), "{what}");
            assert!(outputs(&[]).is_empty(), "{what}");
        }
    }
}

/// Its buffers keep what they held, so what a pass adds to must have been emptied.
#[test]
fn a_workspace_forgets_the_samples_before() {
    for (architecture, shape) in architectures() {
        let (network, parameters, split) = example(&architecture, shape, 6);
        let fused = FusedNetwork::of(&network).unwrap();
        let flat: Vec<f32> = Vec::try_from(parameters.flat()).unwrap();
        let passes = |samples: std::ops::Range<usize>, workspace: &mut Workspace| {
            workspace.load(samples.map(|i| split.image(i)));
            fused.forward(&flat, workspace);
            let cotangents = vec![0.25; workspace.outputs().len()];
            fused.backward(&flat, &cotangents, workspace);
            fused.backward_to_images(&flat, &cotangents, workspace);
            let all = [workspace.outputs(), workspace.gradient(), workspace.image_gradient()].concat();
            all.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let mut used = fused.workspace();
        for samples in [0..6, 4..5, 1..4, 0..6] {
            let want = passes(samples.clone(), &mut fused.workspace());
            assert_eq!(passes(samples.clone(), &mut used), want, "{architecture:?} on {shape}, {samples:?}");
        }
    }
}

/// NaN in one tap is in all pixels, in one pixel it is in one window: neither pooling nor ReLU may lose it.
#[test]
fn nan_is_not_lost() {
    let shape = ImageShape { height: 6, width: 6, channels: 1 };
    let architecture = Architecture { conv_filters: vec![1], kernel_size: 3, dense_units: 1 };
    let (network, parameters, _) = example(&architecture, shape, 1);
    let fused = FusedNetwork::of(&network).unwrap();
    let mut flat: Vec<f32> = Vec::try_from(parameters.flat()).unwrap();
    let kernel = network.parameter_ranges()[0].clone();
    // Infinity times zero in one of the four pixels of a window, at each of its places.
    flat[kernel.clone()].fill(0.0);
    for place in 0..4 {
        flat[kernel.start + 4] = f32::INFINITY;
        let mut image = [255; 36];
        image[(1 + place / 2) * 6 + 1 + place % 2] = 0;
        for (vectors, arch) in kinds_of_vectors() {
            let mut workspace = fused.workspace();
            workspace.load([&image[..]].into_iter());
            arch.dispatch(Forward { network: &fused, parameters: &flat, workspace: &mut workspace });
            let (scores, _, cotangents) = judged(workspace.outputs(), &[0], 1.0);
            assert!(scores.loss_sum.is_nan(), "{place}, vectors: {vectors}");
            let cotangents = cotangents.as_slice();
            arch.dispatch(Backward { network: &fused, parameters: &flat, cotangents, workspace: &mut workspace });
            let gradient = &workspace.gradient()[kernel.clone()];
            assert!(gradient.iter().any(|value| value.is_nan()), "{place}, vectors: {vectors}: {gradient:?}");
        }
    }
}
