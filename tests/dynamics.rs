//! Training dynamics: the metrics that observers compute for one step agree with PyTorch.

#![allow(clippy::unwrap_used, reason = "a test program: whatever fails, fails the test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Device, Tensor};

use trainer::data::{Batch, Dataset, Split};
use trainer::eventlog::{Memory, Summary, Value, What};
use trainer::explain;
use trainer::graph::{Graph, Role};
use trainer::model::Architecture;
use trainer::observe::{Activations, GradientHistograms, Log, Record, Updates};
use trainer::optim::Rule;
use trainer::train::{At, Logger, Moment, Observer, Stepper, Totals, TrainState};
use trainer::types::{FixedClock, ImageShape, Seed, WallTime};
use trainer::weights::Weights;

const SHAPE: ImageShape = ImageShape { height: 14, width: 12, channels: 3 };
const LEARNING_RATE: f64 = 0.01;

fn golden() -> BTreeMap<String, f64> {
    // Written by tests/golden/make_dynamics.py with PyTorch 2.13.
    serde_json::from_str(include_str!("golden/dynamics.json")).unwrap()
}

fn network() -> Arc<Graph> {
    let architecture = Architecture { conv_filters: vec![4, 6], kernel_size: 3, dense_units: 8 };
    Arc::new(architecture.build(SHAPE, 10).unwrap())
}

/// Weights by the formula of the script, with one dead channel and one dead unit.
fn state(network: &Graph) -> TrainState {
    let rule = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };
    let state = TrainState::initialise(network, rule, Seed(0), Device::Cpu);
    for (p, (spec, view)) in state.parameters.specs().iter().zip(state.parameters.views()).enumerate() {
        let value = |i: usize| (0.7 * i as f64 * i as f64 + p as f64).sin() as f32;
        let values: Vec<f32> = (0..spec.len()).map(value).collect();
        view.shallow_clone().copy_(&Tensor::from_slice(&values).view(spec.shape.as_slice()));
    }
    for (layer, unit) in [("conv2d", 1), ("dense", 2)] {
        let specs = state.parameters.specs();
        let bias = specs.iter().position(|spec| spec.layer == layer && spec.role == Role::Bias).unwrap();
        let _ = state.parameters.views()[bias].get(unit).fill_(-100.0);
    }
    state
}

fn images() -> Split {
    let pixel = |i: usize| (127.5 + 127.5 * (1.3 * i as f64 * i as f64).sin()) as u8;
    let pixels = (0..3 * SHAPE.len()).map(pixel).collect();
    Split::new(SHAPE, 10, pixels, vec![7, 0, 3]).unwrap()
}

fn dataset() -> Dataset {
    let split = || Split::new(SHAPE, 10, vec![100; 20 * SHAPE.len()], (0..20).map(|i| i % 10).collect()).unwrap();
    let classes = (0..10).map(|class| class.to_string()).collect();
    Dataset { name: "test".to_owned(), classes, train: split(), validation: split() }
}

fn observe(
    observer: &mut dyn Observer<Record>,
    network: &Graph,
    parameters: &Weights,
    gradient: &Tensor,
    previous: &Tensor,
) -> Vec<Value> {
    let dataset = dataset();
    let moment = Moment {
        at: At::Step(Totals::default()),
        epoch: 0,
        iterations: 1,
        learning_rate: LEARNING_RATE,
        network,
        parameters,
        gradient,
        previous,
        dataset: &dataset,
        predictions: None,
        skipped: false,
        last: false,
    };
    let memory = Memory::default();
    let clock = FixedClock(WallTime::from_secs(0.0).unwrap());
    let mut findings = Record::default();
    observer.observe(&moment, &mut findings);
    Log::new(memory.clone(), Arc::new(clock)).take(findings);
    let values = memory.entries().into_iter().flat_map(|entry| match entry.what {
        What::Values(values) => values,
        other => panic!("{other:?}"),
    });
    values.collect()
}

fn scalars(values: &[Value]) -> BTreeMap<String, f64> {
    let scalar = |value: &Value| match value.summary {
        Summary::Scalar(number) => Some((value.tag.to_string(), f64::from(number))),
        _ => None,
    };
    values.iter().filter_map(scalar).collect()
}

fn assert_close(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 2e-5 * want.abs().max(1e-4), "{what}: got {got}, want {want}");
}

#[test]
fn pytorch_gets_the_same_norms_and_ratios() {
    let (network, images) = (network(), images());
    let mut state = state(&network);
    let previous = state.parameters.flat().copy();
    let _ = Stepper::new(&network, &state, 3, 1).unwrap().step(&mut state, &images, &[0, 1, 2], LEARNING_RATE).unwrap();
    let values = observe(&mut Updates::default(), &network, &state.parameters, &state.gradient, &previous);
    let got = scalars(&values);
    let want: Vec<_> = golden().into_iter().filter(|(tag, _)| !tag.contains('/') || tag.contains("norm/")).collect();
    assert_eq!(want.len(), 5);
    for (tag, want) in want {
        assert_close(&tag, got[&tag], want);
    }
    for (tag, want) in golden().iter().filter(|(tag, _)| tag.starts_with("layers/update_ratio/")) {
        assert_close(tag, got[tag], *want);
        // For plain SGD the ratio is the learning rate times |gradient| / |weights|, up to `f32` precision.
        let layer = tag.trim_start_matches("layers/update_ratio/");
        let kernel = network.parameters().iter().position(|spec| spec.layer == layer).unwrap();
        let norm = |flat: &Tensor| state.parameters.views_of(flat)[kernel].norm().double_value(&[]);
        let ratio = LEARNING_RATE * norm(&state.gradient) / norm(&previous);
        assert!((got[tag] - ratio).abs() < 1e-4 * ratio, "{tag}: {} is not {ratio}", got[tag]);
    }
    assert_eq!((got["non_finite/gradients"], got["non_finite/weights"]), (0.0, 0.0));
}

#[test]
fn pytorch_gets_the_same_activations() {
    let (network, golden) = (network(), golden());
    let state = state(&network);
    let seen = explain::activations(
        &network,
        state.parameters.views(),
        &Batch::gather(&images(), &[0, 1, 2], Device::Cpu).images_nchw,
    );
    assert_eq!(seen.len(), 4);
    for seen in seen {
        let (name, numbers) = (&seen.layer.name, seen.statistics());
        let mut got = vec![("activation_mean", numbers.mean), ("activation_deviation", numbers.deviation)];
        got.push(("activation_low", numbers.mean - numbers.deviation));
        got.push(("activation_high", numbers.mean + numbers.deviation));
        if name != "dense_1" {
            got.extend([("activation_zeros", numbers.zeros), ("dead_units", numbers.dead)]);
        }
        for (what, got) in got {
            let tag = format!("layers/{what}/{name}");
            assert_close(&tag, got, golden[&tag]);
        }
    }
    assert!(
        golden["layers/dead_units/conv2d"] >= 0.25 && golden["layers/dead_units/dense"] >= 0.125,
        "or this proves little"
    );
}

#[test]
fn what_is_not_finite_is_counted_and_stays_out_of_the_histograms() {
    let network = network();
    let state = state(&network);
    let _ = state.gradient.get(0).fill_(f64::NAN);
    let _ = state.parameters.views()[0].get(0).fill_(f64::INFINITY);
    let flat = state.parameters.flat();
    let updates = scalars(&observe(&mut Updates::default(), &network, &state.parameters, &state.gradient, flat));
    assert_eq!((updates["non_finite/gradients"], updates["non_finite/weights"]), (1.0, 27.0));
    assert!(updates["gradient_norm"].is_nan() && updates["layers/gradient_norm/conv2d"].is_nan());
    assert_eq!(updates["layers/gradient_norm/dense"], 0.0);
    assert!(!updates.contains_key("layers/update_ratio/dense"), "a ruined step has no ratio");

    let count = |values: &[Value], tag: &str| {
        let value = values.iter().find(|value| value.tag.as_str() == tag).unwrap();
        let Summary::Histogram(histogram) = &value.summary else { panic!("{value:?}") };
        histogram.buckets().iter().map(|bucket| bucket.count).sum::<f64>()
    };
    let gradients = observe(&mut GradientHistograms, &network, &state.parameters, &state.gradient, flat);
    assert_eq!(count(&gradients, "conv2d/kernel/gradient"), 107.0);
    assert_eq!(scalars(&gradients)["conv2d/kernel/gradient_non_finite"], 1.0);

    let activations = observe(&mut Activations::new(Seed(0)), &network, &state.parameters, &state.gradient, flat);
    let numbers = scalars(&activations);
    // One of four channels in 20 images, and everything computed from it; zeros are not in the histogram.
    let channel = 12.0 * 10.0 * 20.0;
    assert_eq!(numbers["conv2d/activation_non_finite"], channel);
    let shown = 4.0 * channel * (1.0 - numbers["layers/activation_zeros/conv2d"]) - channel;
    assert!((count(&activations, "conv2d/activation") - shown).abs() < 0.5 && shown > 0.0);
    assert!(numbers["layers/activation_mean/conv2d"].is_finite() && numbers["layers/activation_mean/dense_1"].is_nan());
    assert!(numbers["non_finite/activations"] > numbers["conv2d/activation_non_finite"]);
}
