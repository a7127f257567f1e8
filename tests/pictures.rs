//! The images of a run: their selection, no effect of drawing on training, and a gallery for people.

#![allow(clippy::unwrap_used, reason = "a test program: whatever fails, fails the test")]

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use trainer::data::{self, Dataset, DatasetName, Split};
use trainer::evaluation::Predictions;
use trainer::eventlog::{Memory, Summary, Value, What};
use trainer::explain::{Method, Settings, explain};
use trainer::forward;
use trainer::graph::Graph;
use trainer::model::Architecture;
use trainer::observe::{
    ActivationMax, Calibration, Confusion, Errors, Explanations, FeatureMaps, Filters, GradCam, Inputs, Log, Probes,
    Question, Record, sheet,
};
use trainer::picture::Picture;
use trainer::render;
use trainer::train::{At, Logger, Metrics, Moment, Observer, Totals};
use trainer::types::{FixedClock, ImageShape, Run, Seed, WallTime};
use trainer::weights::Weights;

/// Images that reveal their origin: brighter with the label and with the column.
fn dataset(shape: ImageShape, classes: usize, count: usize) -> Dataset {
    let split = |count: usize| {
        let labels: Vec<u16> = (0..count).map(|i| (i % classes) as u16).collect();
        let pixel = |i: usize, at: usize| ((i % classes) * 20 + at / shape.channels % shape.width * 8) as u8;
        let pixels = (0..count).flat_map(|i| (0..shape.len()).map(move |at| pixel(i, at))).collect();
        Split::new(shape, classes, pixels, labels).unwrap()
    };
    Dataset {
        name: "test".to_owned(),
        classes: (0..classes).map(|class| format!("class number {class}")).collect(),
        train: split(count),
        validation: split(count),
    }
}

fn network(filters: &[usize], kernel_size: usize, dataset: &Dataset) -> Graph {
    let architecture = Architecture { conv_filters: filters.to_vec(), kernel_size, dense_units: 8 };
    architecture.build(dataset.train.shape(), dataset.classes.len()).unwrap()
}

/// Predictions for every validation image.
fn predict(network: &Graph, parameters: &Weights, split: &Split) -> Predictions {
    let piece = |start: usize| {
        let count = 500.min(split.len() - start);
        let pixels = &split.pixels()[start * split.shape().len()..(start + count) * split.shape().len()];
        let images_nchw = data::images_nchw(pixels, count, split.shape(), Device::Cpu);
        let logits_nk = tch::no_grad(|| forward::logits(network, parameters.views(), &images_nchw));
        Vec::<f32>::try_from(logits_nk.softmax(-1, Kind::Float).flatten(0, -1)).unwrap()
    };
    let probabilities: Vec<f32> = (0..split.len()).step_by(500).flat_map(piece).collect();
    Predictions::new(probabilities.len() / split.len(), probabilities, split.labels().to_vec())
}

/// Images that the image observers log at one moment.
fn observe(network: &Graph, parameters: &Weights, dataset: &Dataset, epoch: u64) -> Vec<(u64, Value)> {
    let predictions = predict(network, parameters, &dataset.validation);
    let mut observers: Vec<Box<dyn Observer<Record>>> = vec![
        Box::new(Inputs),
        Box::new(Filters),
        Box::new(FeatureMaps::new(3, Seed(0))),
        Box::new(GradCam::new(10, Seed(0))),
        Box::new(Explanations::new(4, Seed(0))),
        Box::new(ActivationMax::new(Seed(0))),
    ];
    observers.extend(of_predictions());
    observe_with(observers, network, parameters, dataset, epoch, &predictions)
}

fn of_predictions() -> Vec<Box<dyn Observer<Record>>> {
    vec![Box::new(Confusion), Box::new(Calibration), Box::new(Errors)]
}

fn observe_with(
    observers: Vec<Box<dyn Observer<Record>>>,
    network: &Graph,
    parameters: &Weights,
    dataset: &Dataset,
    epoch: u64,
    predictions: &Predictions,
) -> Vec<(u64, Value)> {
    let gradient = Tensor::zeros([1], (Kind::Float, Device::Cpu));
    let (train, validation, totals) = (Metrics::default(), Metrics::default(), Totals::default());
    let at = At::Epoch { train, validation, totals };
    let (iterations, learning_rate) = (1, 0.1);
    let (gradient, previous) = (&gradient, parameters.flat());
    let (predictions, last) = (Some(predictions), false);
    let moment = Moment {
        at,
        epoch,
        iterations,
        learning_rate,
        network,
        parameters,
        gradient,
        previous,
        dataset,
        predictions,
        skipped: false,
        last,
    };
    let memory = Memory::default();
    let clock = Arc::new(FixedClock(WallTime::from_secs(1.0).unwrap()));
    let mut log = Log::new(memory.clone(), clock);
    for mut observer in observers {
        let mut findings = Record::default();
        observer.observe(&moment, &mut findings);
        log.take(findings);
    }
    let values = memory.entries().into_iter().flat_map(|entry| {
        let step = entry.step.get();
        match entry.what {
            What::Values(values) => values.into_iter().map(move |value| (entry.run, step, value)),
            other => panic!("not a value: {other:?}"),
        }
    });
    let pictures = values.filter(|(_, _, value)| matches!(value.summary, Summary::Images(_)));
    let groups = ["errors/", "reliability/"];
    pictures
        .map(|(run, step, value)| {
            let of_predictions = groups.iter().any(|group| value.tag.as_str().starts_with(group));
            assert_eq!(run, if of_predictions { Run::Validation } else { Run::Train }, "{}", value.tag);
            (step, value)
        })
        .collect()
}

fn pictures(value: &Value) -> &[Picture] {
    match &value.summary {
        Summary::Images(pictures) => pictures,
        other => panic!("{}: not pictures: {other:?}", value.tag),
    }
}

fn bits(parameters: &Weights) -> Vec<u32> {
    parameters.host().flat_map(|(_, values)| values).map(f32::to_bits).collect()
}

#[test]
fn every_layer_has_its_pictures() {
    let dataset = dataset(ImageShape { height: 28, width: 28, channels: 1 }, 10, 40);
    let network = network(&[4, 6], 3, &dataset);
    let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
    let values = observe(&network, &parameters, &dataset, 7);
    let found: Vec<(&str, u64, usize)> =
        values.iter().map(|(step, value)| (value.tag.as_str(), *step, pictures(value).len())).collect();
    let want = [
        ("inputs/image", 0, 1),
        ("layers/filters/conv2d", 7, 1),
        ("layers/feature_maps/conv2d", 7, 3),
        ("layers/feature_maps/max_pooling2d", 7, 3),
        ("layers/feature_maps/conv2d_1", 7, 3),
        ("layers/feature_maps/max_pooling2d_1", 7, 3),
        ("grad_cam/conv2d_1", 7, 10),
        ("explanations/conv2d_1", 7, 4),
        ("layers/activation_max/conv2d", 7, 1),
        ("layers/activation_max/conv2d_1", 7, 1),
        ("layers/activation_max/classes", 7, 1),
        ("errors/confusion", 7, 1),
        ("errors/confusion_normalised", 7, 1),
        ("reliability/diagram", 7, 1),
        ("errors/most_confident", 7, 1),
    ];
    assert_eq!(found, want);
    assert!(values.iter().all(|(_, value)| value.description.is_some()));
}

#[test]
fn explanations_on_the_way_are_those_that_are_asked_for_later() {
    let dataset = dataset(ImageShape { height: 28, width: 28, channels: 1 }, 10, 40);
    let network = network(&[4, 6], 3, &dataset);
    let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
    let predictions = predict(&network, &parameters, &dataset.validation);
    let observer: Vec<Box<dyn Observer<Record>>> = vec![Box::new(Explanations::new(3, Seed(0)))];
    let values = observe_with(observer, &network, &parameters, &dataset, 7, &predictions);
    let probes = Probes::choose(&dataset, 3, Seed(0));
    let images_nchw = probes.images_nchw(Device::Cpu);
    for (number, (&index, shown)) in probes.indices().iter().zip(pictures(&values[0].1)).enumerate() {
        let image_1chw = images_nchw.narrow(0, number as i64, 1);
        let target = predictions.predicted(index);
        let ask = |method| {
            let settings = Settings::default();
            explain(method, &network, parameters.views(), &image_1chw, None, &[target], &settings).remove(0)
        };
        let question = Question {
            classes: &dataset.classes,
            target,
            probability: predictions.probabilities(index)[target],
            label: Some(predictions.label(index)),
            when: "after epoch 8".to_owned(),
        };
        let input = render::image(dataset.validation.image(index), dataset.validation.shape());
        let want = sheet(&question, &input, &Method::ALL.map(ask));
        let off = shown.pixels().iter().zip(want.pixels()).filter(|(a, b)| (0..3).any(|i| a[i].abs_diff(b[i]) > 8));
        // A difference in the last bit may change a shade.
        assert!(off.count() < 20, "image {index}");
    }
}

#[test]
fn looking_changes_nothing_and_sees_the_same_again() {
    let dataset = dataset(ImageShape { height: 12, width: 12, channels: 3 }, 4, 12);
    let network = network(&[3, 5], 3, &dataset);
    let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
    let before = bits(&parameters);
    let first = observe(&network, &parameters, &dataset, 0);
    assert_eq!(bits(&parameters), before);
    assert!(parameters.views().iter().all(|view| !view.requires_grad() && !view.grad().defined()));
    assert_eq!(observe(&network, &parameters, &dataset, 0), first);
}

#[test]
fn pictures_fit_the_images_tab_whatever_the_network() {
    let cases = [
        (ImageShape { height: 28, width: 28, channels: 1 }, 10, vec![32, 64], 3),
        (ImageShape { height: 96, width: 96, channels: 3 }, 100, vec![8, 70], 5),
        (ImageShape { height: 250, width: 40, channels: 3 }, 2, vec![70], 7),
        (ImageShape { height: 5, width: 9, channels: 2 }, 3, vec![1], 1),
        (ImageShape { height: 2, width: 2, channels: 1 }, 1, vec![1], 1),
        (ImageShape { height: 2, width: 2, channels: 1 }, 2, vec![], 1),
    ];
    for (shape, classes, filters, kernel) in cases {
        let dataset = dataset(shape, classes, classes);
        let network = network(&filters, kernel, &dataset);
        let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
        for (_, value) in observe(&network, &parameters, &dataset, 123_456) {
            let pictures = pictures(&value);
            let (first, tag) = (&pictures[0], &value.tag);
            for picture in pictures {
                assert_eq!(picture.width(), 348, "{tag} of {shape}");
                // TensorBoard shows the height of the first image for all.
                assert_eq!(picture.height(), first.height(), "{tag} of {shape}");
                assert!(picture.height() <= 1024, "{tag} of {shape} is {} pixels high", picture.height());
                let bytes = picture.png().unwrap().len();
                // Optimal inputs of untrained filters are noise, which compresses worst, most of all in colour.
                let limit = if tag.as_str().starts_with("layers/activation_max/") { 300_000 } else { 150_000 };
                assert!(bytes < limit, "{tag} of {shape} takes {bytes} bytes");
            }
        }
    }
}

#[test]
fn a_diverged_network_is_drawn() {
    let dataset = dataset(ImageShape { height: 12, width: 12, channels: 1 }, 4, 8);
    let network = network(&[3], 3, &dataset);
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
        let _ = parameters.flat().shallow_clone().fill_(wrong);
        let values = observe(&network, &parameters, &dataset, 0);
        let (_, filters) = values.iter().find(|(_, value)| value.tag.as_str() == "layers/filters/conv2d").unwrap();
        let magenta = pictures(filters)[0].pixels().iter().filter(|&&pixel| pixel == [255, 0, 255]).count();
        assert!(magenta > 1000, "values that are not finite stand out");
    }
}

/// Predictions with human-like errors: more between neighbouring classes, and not only at low confidence.
fn made_up(classes: usize, samples: usize) -> Predictions {
    let mut probabilities = Vec::new();
    let mut labels = Vec::new();
    for sample in 0..samples {
        let label = sample % classes;
        // A pseudorandom number.
        let chance = (sample as f64 * 12.9898).sin().abs() * 43758.5453 % 1.0;
        let predicted = match chance {
            c if c < 0.03 => (label + 1) % classes,
            c if c < 0.05 => (label * 7 + 3) % classes,
            _ => label,
        };
        let sure = 0.35 + 0.65 * (1.0 - (sample as f64 * 78.233).sin().abs().powi(6));
        let rest = (1.0 - sure) / (classes.max(2) - 1) as f64;
        probabilities.extend((0..classes).map(|class| if class == predicted { sure as f32 } else { rest as f32 }));
        labels.push(label as u16);
    }
    Predictions::new(classes, probabilities, labels)
}

#[test]
fn any_number_of_classes_and_errors_is_drawn() {
    let shape = ImageShape { height: 4, width: 4, channels: 1 };
    for classes in [1, 2, 3, 10, 20, 26, 27, 60, 100, 256] {
        let mut dataset = dataset(shape, classes, classes * 4);
        dataset.classes[0] = "a name that is longer than anybody would want it to be".to_owned();
        let network = network(&[1], 1, &dataset);
        let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
        let right = |sample: usize| (0..classes).map(move |class| f32::from(u8::from(class == sample % classes)));
        let labels = dataset.validation.labels().to_vec();
        for predictions in [
            made_up(classes, classes * 4),
            Predictions::new(classes, (0..labels.len()).flat_map(right).collect(), labels.clone()),
            Predictions::new(classes, vec![f32::NAN; labels.len() * classes], labels),
            Predictions::new(classes, vec![], vec![]),
        ] {
            for (_, value) in observe_with(of_predictions(), &network, &parameters, &dataset, 0, &predictions) {
                let picture = &pictures(&value)[0];
                assert_eq!(picture.width(), 348, "{} of {classes} classes", value.tag);
                assert!(picture.height() <= 1024, "{} of {classes}: {} high", value.tag, picture.height());
                assert!(picture.png().unwrap().len() < 150_000, "{} of {classes}", value.tag);
            }
        }
    }
}

/// A few hundred steps of stochastic gradient descent with momentum: enough for meaningful pictures.
fn train(network: &Graph, parameters: &Weights, split: &Split, steps: usize) {
    let leaves: Vec<Tensor> = parameters.views().iter().map(|view| view.detach().set_requires_grad(true)).collect();
    let mut momenta: Vec<Tensor> = leaves.iter().map(Tensor::zeros_like).collect();
    let batch = 64.min(split.len());
    for step in 0..steps {
        let start = step * batch % (split.len() - batch + 1);
        let pixels = &split.pixels()[start * split.shape().len()..(start + batch) * split.shape().len()];
        let images_nchw = data::images_nchw(pixels, batch, split.shape(), Device::Cpu);
        let labels: Vec<i64> = split.labels()[start..start + batch].iter().map(|&label| i64::from(label)).collect();
        let loss =
            forward::logits(network, &leaves, &images_nchw).cross_entropy_for_logits(&Tensor::from_slice(&labels));
        let gradients = Tensor::run_backward(&[loss], &leaves, false, false);
        tch::no_grad(|| {
            for ((leaf, gradient), momentum) in leaves.iter().zip(&gradients).zip(&mut momenta) {
                *momentum = &*momentum * 0.9 + gradient;
                let _ = leaf.shallow_clone().f_sub_(&(&*momentum * 0.03)).unwrap();
            }
        });
    }
}

/// Trains for a moment on the available data sets and writes every image to
/// `target/gallery`, for people to inspect: `cargo test --release --test pictures -- --ignored --nocapture`.
#[test]
#[ignore = "draws for people, checks nothing"]
fn gallery() {
    // As in the program's training: threads inside such small operators only wait for each other.
    tch::set_num_threads(1);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = root.join("target/gallery");
    std::fs::create_dir_all(&dir).unwrap();
    for name in DatasetName::ALL {
        let Ok(dataset) = data::load(name, &root.join("data"), Seed(0)) else {
            println!("no data for {name}");
            continue;
        };
        let network = Architecture::default().build(dataset.train.shape(), 10).unwrap();
        let parameters = Weights::initialise(&network, Seed(0), Device::Cpu);
        for (epoch, steps) in [(0, 20), (1, 300)] {
            train(&network, &parameters, &dataset.train, steps);
            let start = std::time::Instant::now();
            let values = observe(&network, &parameters, &dataset, epoch);
            println!("{name}, epoch {epoch}: drawn in {:?}", start.elapsed());
            save(&dir, &format!("{name}.{epoch}"), &values);
        }
    }
    let fashion: Vec<String> = DatasetName::FashionMnist.classes().iter().map(|&class| class.to_owned()).collect();
    for (classes, samples) in [(2, 400), (10, 10_000), (26, 5_200), (100, 10_000), (256, 20_000)] {
        let mut dataset = dataset(ImageShape { height: 28, width: 28, channels: 1 }, classes, samples);
        if classes == fashion.len() {
            dataset.classes = fashion.clone();
        }
        let network = network(&[4], 3, &dataset);
        let parameters = Weights::initialise(&network, Seed(0), Device::Cpu);
        let predictions = made_up(classes, samples);
        let values = observe_with(of_predictions(), &network, &parameters, &dataset, 0, &predictions);
        save(&dir, &format!("made-up-{classes}"), &values);
    }
}

fn save(dir: &Path, prefix: &str, values: &[(u64, Value)]) {
    for (_, value) in values {
        for (index, picture) in pictures(value).iter().enumerate() {
            let tag = value.tag.as_str().replace('/', ".");
            std::fs::write(dir.join(format!("{prefix}.{tag}.{index}.png")), picture.png().unwrap()).unwrap();
        }
    }
}
