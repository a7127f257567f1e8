//! The feature space in observers: images and the Projector show the same points, for any network.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use trainer::data::{Dataset, Split};
use trainer::embedding::{self, silhouette};
use trainer::eventlog::{Embeddings, Memory, Summary, Value, What};
use trainer::graph::Graph;
use trainer::model::Architecture;
use trainer::observe::{FeatureMaps, FeatureSpace, Log, PcaPlane, Projector, Record, TsnePlane};
use trainer::train::{At, Logger, Metrics, Moment, Observer, Totals};
use trainer::types::{FixedClock, ImageShape, Seed, WallTime};
use trainer::weights::Weights;

struct Subject {
    dataset: Dataset,
    network: Graph,
    parameters: Weights,
    gradient: Tensor,
}

impl Subject {
    /// `count` validation images, each a stripe at a position given by its class, with some noise.
    fn new(count: usize, classes: usize, units: usize) -> Subject {
        let shape = ImageShape { height: 8, width: 8, channels: 1 };
        let split = |count: usize| {
            let labels: Vec<u16> = (0..count).map(|i| (i % classes) as u16).collect();
            let pixel = |i: usize, at: usize| {
                let stripe = if at / 8 == i % classes % 8 { 180 } else { 0 };
                stripe + (i * 31 + at * 17 + i * at) as u8 % 70
            };
            let pixels = (0..count).flat_map(|i| (0..64).map(move |at| pixel(i, at))).collect();
            Split::new(shape, classes, pixels, labels).unwrap()
        };
        let names = (0..classes).map(|class| format!("class of a long name {class}")).collect();
        let dataset =
            Dataset { name: "stripes".to_owned(), classes: names, train: split(classes), validation: split(count) };
        let architecture = Architecture { conv_filters: vec![4], kernel_size: 3, dense_units: units };
        let network = architecture.build(shape, classes).unwrap();
        let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
        Subject { dataset, network, parameters, gradient: Tensor::zeros([1], (Kind::Float, Device::Cpu)) }
    }

    fn filled(self, value: f64) -> Subject {
        let _ = self.parameters.flat().shallow_clone().fill_(value);
        self
    }

    fn moment(&self, epoch: u64, last: bool) -> Moment<'_> {
        let (train, validation, totals) = (Metrics::default(), Metrics::default(), Totals::default());
        Moment {
            at: At::Epoch { train, validation, totals },
            epoch,
            iterations: epoch + 1,
            learning_rate: 0.1,
            network: &self.network,
            parameters: &self.parameters,
            gradient: &self.gradient,
            previous: self.parameters.flat(),
            dataset: &self.dataset,
            predictions: None,
            skipped: false,
            last,
        }
    }

    /// Output of the observers after each of `epochs` epochs.
    fn watch(&self, mut observers: Vec<Box<dyn Observer<Record>>>, epochs: u64) -> (Vec<Value>, Vec<Arc<Embeddings>>) {
        let memory = Memory::default();
        let clock = Arc::new(FixedClock(WallTime::from_secs(1.0).unwrap()));
        let mut log = Log::new(memory.clone(), clock);
        for epoch in 0..epochs {
            for observer in &mut observers {
                let mut findings = Record::default();
                observer.observe(&self.moment(epoch, epoch + 1 == epochs), &mut findings);
                log.take(findings);
            }
        }
        let (mut values, mut snapshots) = (Vec::new(), Vec::new());
        for entry in memory.entries() {
            match entry.what {
                What::Values(seen) => values.extend(seen),
                What::Embeddings(embeddings) => snapshots.push(embeddings),
                other => panic!("{other:?}"),
            }
        }
        (values, snapshots)
    }

    fn watch_all(&self, epochs: u64) -> (Vec<Value>, Vec<Arc<Embeddings>>) {
        let space = FeatureSpace::new(Seed(0));
        let observers: Vec<Box<dyn Observer<Record>>> = vec![
            Box::new(Projector::new(space.clone())),
            Box::new(PcaPlane::new(space.clone())),
            Box::new(TsnePlane::new(space)),
        ];
        self.watch(observers, epochs)
    }
}

fn tags(values: &[Value]) -> Vec<&str> {
    values.iter().map(|value| value.tag.as_str()).collect()
}

fn scalar(values: &[Value], tag: &str) -> Option<f32> {
    values.iter().find(|value| value.tag.as_str() == tag).map(|value| match value.summary {
        Summary::Scalar(value) => value,
        ref other => panic!("{other:?}"),
    })
}

#[test]
fn pictures_and_the_projector_show_the_same_points() {
    let subject = Subject::new(700, 7, 16);
    let (values, snapshots) = subject.watch_all(1);
    let [snapshot] = &snapshots[..] else { panic!("{} snapshots", snapshots.len()) };
    assert_eq!((snapshot.name(), snapshot.points(), snapshot.dimensions()), ("dense", 700, 16));
    // The data behind the images, recomputed for their own number of samples.
    let sample = FeatureSpace::new(Seed(0)).sample(&subject.moment(0, true), 400).unwrap();
    assert_eq!(sample.points.len(), 400);
    for (point, (row, vector)) in sample.points.rows().zip(snapshot.vectors()).enumerate() {
        assert_eq!(row, vector, "point {point}");
        let cells = &snapshot.rows()[point];
        let (label, predicted) = (sample.predictions.label(point), sample.predictions.predicted(point));
        let name = |class: usize| subject.dataset.classes[class].clone();
        let answer = if label == predicted { "right" } else { "wrong" };
        let shown =
            if label == predicted { name(label) } else { format!("{} predicted as {}", name(label), name(predicted)) };
        assert_eq!(cells[..4], [shown, name(label), name(predicted), answer.to_owned()], "point {point}");
        let index: usize = cells[5].parse().unwrap();
        assert_eq!(usize::from(subject.dataset.validation.label(index)), label, "point {point}");
    }
    // The scores are those of layouts of these vectors.
    let points = embedding::Points::new(16, snapshot.vectors().take(400).flatten().copied().collect());
    let labels: Vec<usize> = (0..400).map(|point| sample.predictions.label(point)).collect();
    let plane = embedding::pca(&points).layout;
    let spread = embedding::tsne(&points, embedding::Start::Rough(&plane));
    for (tag, layout) in [("features/silhouette_pca", plane), ("features/silhouette_tsne", spread)] {
        assert_eq!(scalar(&values, tag), silhouette(&layout, &labels).map(|score| score as f32), "{tag}");
    }
}

#[test]
fn every_epoch_has_its_pictures_and_the_last_one_a_film() {
    let subject = Subject::new(60, 5, 8);
    let (values, snapshots) = subject.watch_all(2);
    let each = ["features/pca", "features/silhouette_pca", "features/tsne", "features/silhouette_tsne"];
    assert_eq!(tags(&values), [&each[..], &each[..3], &["features/tsne/animation"], &each[3..]].concat());
    assert!(values.iter().all(|value| value.description.is_some()));
    assert_eq!(snapshots.len(), 2);
    assert_eq!(subject.watch_all(2).0, values, "the same points give the same pictures");

    let (values, _) = subject.watch(vec![Box::new(FeatureMaps::new(2, Seed(0)))], 2);
    let film = values.iter().find(|value| value.tag.as_str() == "layers/feature_maps/conv2d/animation");
    assert!(matches!(&film.unwrap().summary, Summary::Animation(film) if film.frames().len() >= 2));
}

#[test]
fn pictures_are_drawn_whatever_the_features() {
    let cases = [
        ("few images", Subject::new(20, 4, 8), 20, true),
        ("two images", Subject::new(2, 2, 8), 2, false),
        ("one image", Subject::new(1, 1, 8), 1, false),
        ("one class", Subject::new(30, 1, 8), 30, false),
        ("more classes than colours", Subject::new(500, 120, 8), 500, true),
        ("one unit", Subject::new(40, 4, 1), 0, true),
        ("all features equal", Subject::new(40, 4, 8).filled(0.0), 40, true),
        ("a network that has diverged", Subject::new(40, 4, 8).filled(f64::NAN), 0, false),
        ("features near the largest number", Subject::new(40, 4, 8).filled(1e18), 40, true),
    ];
    for (name, subject, points, scored) in cases {
        let (values, snapshots) = subject.watch_all(2);
        let images: Vec<_> = values
            .iter()
            .filter_map(|value| match &value.summary {
                Summary::Images(pictures) => Some(&pictures[0]),
                _ => None,
            })
            .collect();
        assert_eq!(images.len(), 4, "{name}");
        for image in &images {
            assert_eq!(image.width(), 348, "{name}");
            assert_eq!(image.height(), images[0].height(), "{name}");
            assert!(image.height() < 600 && image.png().unwrap().len() < 150_000, "{name}");
        }
        for tag in ["features/silhouette_pca", "features/silhouette_tsne"] {
            let score = scalar(&values, tag);
            assert_eq!(score.is_some(), scored, "{name}: {tag} is {score:?}");
            assert!(score.is_none_or(|score| (-1.0..=1.0).contains(&score)), "{name}: {score:?}");
        }
        let shown: Vec<usize> = snapshots.iter().map(|snapshot| snapshot.points()).collect();
        assert_eq!(shown, if points > 0 { vec![points; 2] } else { Vec::new() }, "{name}");
    }
}
