//! Tests of all methods: reference values, and no side effects.

use tch::{Kind, Tensor};

use super::passes::Passes;
use super::smooth_grad::with_noise;
use super::*;
use crate::graph::{Graph, ParameterSpec};
use crate::model::Architecture;
use crate::types::Seed;

/// Weights that any language can compute: `sin(0.7 i^2 + p)` for value `i` of parameter `p`.
pub(super) fn formula_weights(network: &Graph) -> Vec<Tensor> {
    let value = |i: usize, p: usize| (0.7 * i as f64 * i as f64 + p as f64).sin() as f32;
    let tensor = |(p, spec): (usize, &ParameterSpec)| {
        Tensor::from_slice(&(0..spec.len()).map(|i| value(i, p)).collect::<Vec<f32>>()).view(spec.shape.as_slice())
    };
    network.parameters().iter().enumerate().map(tensor).collect()
}

pub(super) fn formula_images(count: usize, shape: ImageShape) -> Tensor {
    wave(count, shape, |i| 0.5 + 0.5 * (1.3 * i * i).sin())
}

fn wave(count: usize, shape: ImageShape, value: impl Fn(f64) -> f64) -> Tensor {
    let values: Vec<f32> = (0..count * shape.len()).map(|i| value(i as f64) as f32).collect();
    Tensor::from_slice(&values).view([-1, shape.channels as i64, shape.height as i64, shape.width as i64])
}

pub(super) fn small(channels: usize) -> (Graph, ImageShape) {
    let shape = ImageShape { height: 14, width: 12, channels };
    let architecture = Architecture { conv_filters: vec![4, 6], kernel_size: 3, dense_units: 8 };
    (architecture.build(shape, 10).unwrap(), shape)
}

/// Few steps where a test needs no exact values.
fn quick() -> Settings {
    Settings {
        integrated_gradients: IntegratedGradients { steps: 5, ..IntegratedGradients::default() },
        smooth_grad: SmoothGrad { samples: 4, ..SmoothGrad::default() },
        ..Settings::default()
    }
}

/// Written by tests/golden/make_explanations.py with pytorch-grad-cam 1.5.7 and Captum 0.9.0.
struct Golden(serde_json::Value);

impl Golden {
    fn read(channels: usize) -> Golden {
        let mut all: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/explanations.json")).unwrap();
        Golden(all[channels.to_string()].take())
    }

    fn check<'a>(&self, name: &str, got: impl IntoIterator<Item = &'a Map>) {
        let got: Vec<f32> = got.into_iter().flat_map(Map::values).copied().collect();
        self.check_values(name, &got);
    }

    /// Within 1e-5 of the largest value: sums in another order round differently.
    fn check_values(&self, name: &str, got: &[f32]) {
        let want: Vec<f64> = self.0[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(got.len(), want.len(), "{name}");
        let largest = want.iter().fold(0.0_f64, |largest, v| largest.max(v.abs()));
        assert!(largest > 1e-6, "{name}: golden values of zeros would prove nothing");
        for (i, (&got, want)) in got.iter().zip(&want).enumerate() {
            assert!((f64::from(got) - want).abs() <= 1e-5 * largest, "{name}: value {i}: got {got}, want {want}");
        }
    }
}

#[test]
fn layer_methods_are_pytorch_grad_cams_and_captums() {
    for colours in [1, 3] {
        let golden = Golden::read(colours);
        let (network, shape) = small(colours);
        let (weights, images) = (formula_weights(&network), formula_images(2, shape));
        for name in ["conv2d", "max_pooling2d", "conv2d_1"] {
            let node = network.layer(name).map(|layer| layer.value);
            let ask = |method| explain(method, &network, &weights, &images, node, &[7, 3], &Settings::default());
            for method in [Method::GradCam, Method::GradCamPlusPlus, Method::LayerCam, Method::ScoreCam] {
                golden.check(&format!("{method}/{name}"), ask(method).iter().map(|explanation| &explanation.map));
            }
            let guided = ask(Method::GuidedGradCam);
            golden
                .check(&format!("guided-gradcam/{name}"), guided.iter().flat_map(|explanation| &explanation.channels));
        }
    }
}

#[test]
fn image_methods_are_captums() {
    for colours in [1, 3] {
        let golden = Golden::read(colours);
        let (network, shape) = small(colours);
        let (weights, images) = (formula_weights(&network), formula_images(2, shape));
        let ask = |method, settings: Settings| explain(method, &network, &weights, &images, None, &[7, 3], &settings);

        let guided = ask(Method::GuidedBackprop, Settings::default());
        golden.check("guided-backprop", guided.iter().flat_map(|explanation| &explanation.channels));

        for (baseline, name) in [(0.0, "integrated-gradients/0.0"), (0.25, "integrated-gradients/0.25")] {
            let integrated_gradients = IntegratedGradients { baseline, ..IntegratedGradients::default() };
            let integrals = ask(Method::IntegratedGradients, Settings { integrated_gradients, ..Settings::default() });
            golden.check(name, integrals.iter().flat_map(|explanation| &explanation.channels));
            let gaps: Vec<f32> = integrals.iter().map(|explanation| explanation.completeness_gap.unwrap()).collect();
            for (got, want) in gaps.iter().zip(golden.0[&format!("{name}/gap")].as_array().unwrap()) {
                // The difference of sums around 1: its rounding error differs between processors.
                assert!((f64::from(*got) - want.as_f64().unwrap()).abs() < 5e-5, "{name}: {got} and {want}");
            }
        }

        let still = SmoothGrad { noise: 0.0, samples: 3, ..SmoothGrad::default() };
        let gradients = ask(Method::SmoothGrad, Settings { smooth_grad: still, ..Settings::default() });
        golden.check("saliency", gradients.iter().flat_map(|explanation| &explanation.channels));
        let noise = wave(6, shape, |i| 2.0 * (0.9 * i * i + 1.0).sin());
        let mut passes = Passes::new(&network, &weights);
        let smooth = with_noise(&mut passes, shape, &images, &[7, 3], &noise, 0.2);
        golden.check("smoothgrad", smooth.iter().flatten());

        for (window, stride, baseline) in [(3, 2, "0.0"), (5, 3, "0.5"), (12, 1, "0.0")] {
            let occlusion =
                Occlusion { window: Some(window), stride: Some(stride), baseline: baseline.parse().unwrap() };
            let occluded = ask(Method::Occlusion, Settings { occlusion, ..Settings::default() });
            let name = format!("occlusion/{window}/{stride}/{baseline}");
            golden.check(&name, occluded.iter().map(|explanation| &explanation.map));
        }
    }
}

#[test]
fn nothing_is_left_behind_and_equal_calls_give_equal_bits() {
    let (network, shape) = small(3);
    let weights: Vec<Tensor> =
        formula_weights(&network).iter().map(|weight| weight.detach().set_requires_grad(true)).collect();
    // An existing gradient must stay as it is.
    weights[0].square().sum(Kind::Float).backward();
    let images = formula_images(2, shape).set_requires_grad(true);
    let bits = |tensors: &[&Tensor]| -> Vec<u32> {
        tensors.iter().flat_map(|tensor| host_values(tensor)).map(f32::to_bits).collect()
    };
    let everything = || bits(&weights.iter().chain([&images, &weights[0].grad()]).collect::<Vec<_>>());
    let before = everything();
    for method in Method::ALL {
        let ask = || explain(method, &network, &weights, &images, network.taps().last_maps, &[1, 2], &quick());
        let first = ask();
        assert_eq!(first.len(), 2, "{method}");
        for explanation in &first {
            assert_eq!(explanation.content(), Content::Values, "{method}");
            assert_eq!((explanation.method, explanation.signed), (method, method.is_signed()));
            let negative = explanation.map.values().iter().any(|&value| value < 0.0);
            assert_eq!(negative, explanation.signed, "{method}");
            assert_eq!(explanation.completeness_gap.is_some(), method == Method::IntegratedGradients, "{method}");
        }
        assert_eq!(ask(), first, "{method}: the second call");
        assert_eq!(tch::no_grad(ask), first, "{method}: whether the caller computes gradients makes no difference");
        assert_eq!(everything(), before, "{method} changed a weight, an image or a gradient");
        assert!(weights[1..].iter().all(|weight| !weight.grad().defined()), "{method}: a leaf got a gradient");
        assert!(!images.grad().defined(), "{method}: the images got a gradient");
    }
}

#[test]
fn what_is_said_of_an_image_depends_on_it_alone() {
    let (network, shape) = small(1);
    // More images than go through the network at once.
    let count = gradient::MOST_IMAGES + 3;
    let (weights, images) = (formula_weights(&network), formula_images(count, shape));
    let targets: Vec<usize> = (0..count).map(|i| i % 10).collect();
    for method in Method::ALL {
        let all = explain(method, &network, &weights, &images, network.taps().last_maps, &targets, &quick());
        assert_eq!(all.len(), count, "{method}");
        for number in [0, 1, count - 2] {
            let image = images.narrow(0, number as i64, 1);
            let alone = explain(
                method,
                &network,
                &weights,
                &image,
                network.taps().last_maps,
                &targets[number..=number],
                &quick(),
            );
            for (alone, all) in alone[0].map.values().iter().zip(all[number].map.values()) {
                assert!((alone - all).abs() <= 1e-5 * alone.abs().max(1.0), "{method}: {alone} and {all}");
            }
        }
    }
}

#[test]
fn strides_do_not_matter() {
    let (network, shape) = small(3);
    let (weights, images) = (formula_weights(&network), formula_images(2, shape));
    let channels_last = images.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
    for method in Method::ALL {
        let ask =
            |images: &Tensor| explain(method, &network, &weights, images, network.taps().last_maps, &[1, 2], &quick());
        for (a, b) in ask(&images).iter().zip(&ask(&channels_last)) {
            for (a, b) in a.map.values().iter().zip(b.map.values()) {
                assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{method}: {a} and {b}");
            }
        }
    }
}

#[test]
fn maps_have_the_size_of_what_they_look_at() {
    for colours in [1, 3] {
        let (network, shape) = small(colours);
        let (weights, images) = (formula_weights(&network), formula_images(1, shape));
        for method in Method::ALL {
            let ask = |node| explain(method, &network, &weights, &images, node, &[4], &quick());
            let value = |layer: &str| network.layer(layer).map(|layer| layer.value);
            let found = ask(value("conv2d_1"));
            let size = (found[0].map.height(), found[0].map.width());
            assert_eq!(size, if method.needs_layer() && !method.is_signed() { (4, 3) } else { (14, 12) }, "{method}");
            assert_eq!(found, ask(None), "{method}: the last convolution is the default");
            if !found[0].channels.is_empty() {
                assert_eq!(found[0].channels.len(), colours, "{method}");
                for (i, &value) in found[0].map.values().iter().enumerate() {
                    assert_eq!(
                        value,
                        found[0].channels.iter().map(|channel| channel.values()[i]).sum::<f32>(),
                        "{method}"
                    );
                }
            }
            // No vector has maps.
            for layer in ["flatten", "dense", "dense_1"] {
                assert_eq!(ask(value(layer)).len(), usize::from(!method.needs_layer()), "{method}");
            }
            let none = explain(method, &network, &weights, &images.narrow(0, 0, 0), None, &[], &quick());
            assert!(none.is_empty(), "{method}: of no image");
        }
    }
}

#[test]
fn maps_of_zeros_and_of_nan_are_results() {
    let (network, shape) = small(1);
    let images = formula_images(1, shape);
    for (value, want) in [(0.0, true), (f64::NAN, false)] {
        let weights: Vec<Tensor> = formula_weights(&network).iter().map(|weight| weight.full_like(value)).collect();
        for method in Method::ALL {
            let found = explain(method, &network, &weights, &images, None, &[4], &quick());
            let content = found[0].content();
            if want {
                assert_eq!(content, Content::Zero, "{method}");
                assert!(found[0].normalised(14, 12).values().iter().all(|&value| value == 0.0), "{method}");
            } else {
                assert!(matches!(content, Content::NotFinite(count) if count > 0), "{method}: {content:?}");
                assert!(found[0].normalised(14, 12).non_finite() > 0, "{method}");
            }
        }
    }
}

#[test]
fn integrated_gradients_add_up() {
    let (network, shape) = small(3);
    let (weights, images) = (formula_weights(&network), formula_images(2, shape));
    let gaps = |steps| {
        let settings = IntegratedGradients { steps, ..IntegratedGradients::default() };
        let integrals = integrated_gradients(&network, &weights, &images, &[7, 3], &settings);
        integrals.iter().map(|integral| integral.completeness_gap.abs()).fold(0.0, f32::max)
    };
    let logits = crate::forward::logits(&network, &weights, &images)
        - crate::forward::logits(&network, &weights, &images.zeros_like());
    let change = logits.abs().max().double_value(&[]);
    let fine = f64::from(gaps(1000));
    assert!(fine < 0.01 * change, "{fine} of {change}");
    assert!(gaps(2) > gaps(1000), "two steps are too few");
    // Values out of range are clamped.
    assert_eq!(gaps(0).to_bits(), gaps(1).to_bits());
}

#[test]
fn noise_is_normal_and_grows_with_the_image_and_the_seed_decides() {
    let (network, shape) = small(1);
    let (weights, images) = (formula_weights(&network), formula_images(1, shape));
    let smooth = |settings: SmoothGrad| smooth_grad(&network, &weights, &images, &[2], &settings);
    let usual = SmoothGrad::default();
    assert_eq!(smooth(usual), smooth(usual));
    assert_ne!(smooth(usual), smooth(SmoothGrad { seed: Seed(1), ..usual }));
    assert_ne!(smooth(usual), smooth(SmoothGrad { noise: 0.0, ..usual }));
    let noise = standard_noise(Seed(3), 60, shape);
    assert_eq!(noise.size(), [60, 1, 14, 12]);
    assert!(noise.mean(Kind::Float).double_value(&[]).abs() < 0.05);
    assert!((noise.std(true).double_value(&[]) - 1.0).abs() < 0.05);
    // A sample does not depend on the number of samples.
    assert_eq!(standard_noise(Seed(3), 2, shape), noise.narrow(0, 0, 2));
}

#[test]
fn normalised_maps_fill_their_range() {
    let explanation = |values: Vec<f32>, signed| Explanation {
        method: Method::GradCam,
        map: Map::new(1, values.len(), values).unwrap(),
        channels: Vec::new(),
        signed,
        completeness_gap: None,
    };
    assert_eq!(explanation(vec![1.0, 2.0, 5.0], false).normalised(1, 3).values(), [0.0, 0.25, 1.0]);
    assert_eq!(explanation(vec![1.0, -4.0, 2.0], true).normalised(1, 3).values(), [0.25, -1.0, 0.5]);
    assert_eq!(explanation(vec![3.0, 3.0], false).normalised(1, 2).values(), [0.0, 0.0]);
    let values = explanation(vec![0.0, f32::NAN, 2.0], false).normalised(1, 3).values().to_vec();
    assert!(values[0] == 0.0 && values[1].is_nan() && values[2] == 1.0);
}
