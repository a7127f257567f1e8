//! Speed of the parts of the event log and of the observers, each by itself: `cargo bench --bench parts [-- PART]`.
//!
//! `make bench` compares the whole with others; this says where its time goes.

#![allow(clippy::unwrap_used, reason = "a benchmark may fail in the shortest way")]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Even numbers from 0 to 1, without a pattern.
fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..len).map(|_| next()).collect()
}

mod eventlog {
    use trainer::eventlog::crc::MaskedCrc;
    use trainer::eventlog::record::{self, RecordReader, TooLong};
    use trainer::eventlog::{EventReader, Histogram, Value, event};
    use trainer::picture::Picture;
    use trainer::types::{Step, Tag, WallTime};

    use super::{Bencher, BytesCount, ItemsCount, black_box, noise};

    const SCALARS: usize = 10_000;

    fn scalars() -> Vec<Value> {
        let tags: Vec<Tag> = (0..8).map(|i| Tag::of(format!("loss/layer_{i:03}"))).collect();
        (0..SCALARS).map(|i| Value::scalar(tags[i % tags.len()].clone(), i as f32)).collect()
    }

    /// A file with an event for each scalar.
    fn encode(values: &[Value]) -> Vec<u8> {
        let time = WallTime::from_secs(1_700_000_000.25).unwrap();
        event::file(time, Step::new(300_000).unwrap(), values).unwrap()
    }

    /// As smooth as a feature map, and as noisy as an activation that is maximal.
    fn picture(side: u32) -> Picture {
        let mut picture = Picture::filled(side, side, [0; 3]);
        for (i, noise) in noise((side * side) as usize).into_iter().enumerate() {
            let (x, y) = (i as u32 % side, i as u32 / side);
            picture.set(x, y, [(x * 3 % 240) as u8 + (noise * 16.0) as u8, (y * 3) as u8, (x + y) as u8]);
        }
        picture
    }

    #[divan::bench(args = [8, 64, 1 << 20])]
    fn crc(bencher: Bencher<'_, '_>, len: usize) {
        let bytes = vec![7u8; len];
        bencher.counter(BytesCount::new(len)).bench(|| MaskedCrc::of(black_box(&bytes)));
    }

    #[divan::bench(args = [64, 1 << 20])]
    fn record(bencher: Bencher<'_, '_>, len: usize) {
        let payload = vec![7u8; len];
        let mut buffer = Vec::new();
        bencher.counter(BytesCount::new(len)).bench_local(|| {
            buffer.clear();
            record::append(&mut buffer, |buffer| {
                buffer.extend_from_slice(black_box(&payload));
                Ok::<(), TooLong>(())
            })
        });
    }

    #[divan::bench]
    fn encode_scalars(bencher: Bencher<'_, '_>) {
        let values = scalars();
        bencher.counter(ItemsCount::new(SCALARS)).bench(|| encode(black_box(&values)));
    }

    #[divan::bench(args = [1000, 100_000, 10_000_000])]
    fn histogram(bencher: Bencher<'_, '_>, len: usize) {
        let values = noise(len);
        bencher.counter(ItemsCount::new(len)).bench(|| Histogram::of(black_box(&values)));
    }

    /// Every value is on an edge, where a bucket takes a division.
    #[divan::bench(args = [100_000])]
    fn histogram_of_edges(bencher: Bencher<'_, '_>, len: usize) {
        let values: Vec<f32> = noise(len).into_iter().map(|value| (value * 30.0).round()).collect();
        bencher.counter(ItemsCount::new(len)).bench(|| Histogram::of(black_box(&values)));
    }

    #[divan::bench(args = [64, 512])]
    fn png(bencher: Bencher<'_, '_>, side: u32) {
        let picture = picture(side);
        bencher.counter(BytesCount::new(picture.pixels().len() * 3)).bench(|| black_box(&picture).png());
    }

    #[divan::bench]
    fn read_records(bencher: Bencher<'_, '_>) {
        let file = encode(&scalars());
        bencher.counter(ItemsCount::new(SCALARS)).bench(|| {
            let mut reader = RecordReader::new(black_box(file.as_slice()));
            while reader.read().unwrap().is_some() {}
        });
    }

    #[divan::bench]
    fn read_events(bencher: Bencher<'_, '_>) {
        let file = encode(&scalars());
        bencher.counter(ItemsCount::new(SCALARS)).bench(|| EventReader::new(black_box(file.as_slice())).count());
    }
}

/// What observers do after an epoch, of the network that is the default.
mod watching {
    use tch::{Device, Tensor};
    use trainer::embedding::{self, Points, Start};
    use trainer::explain::{self, Ascent, Method, Settings, Target};
    use trainer::graph::Graph;
    use trainer::model::Architecture;
    use trainer::types::{ImageShape, Seed};
    use trainer::weights::Weights;

    use super::{Bencher, noise};

    const SHAPE: ImageShape = ImageShape { height: 28, width: 28, channels: 1 };
    /// Images that every method explains.
    const PROBES: usize = 3;
    /// Points of a layout, and features of each.
    const POINTS: usize = 400;
    const FEATURES: usize = 128;

    fn subject(count: usize) -> (Graph, Weights, Tensor) {
        // As in a run, where threads are for other observers.
        tch::set_num_threads(1);
        let network = Architecture::default().build(SHAPE, 10).unwrap();
        let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
        let images = Tensor::from_slice(&noise(count * SHAPE.len())).view([count as i64, 1, 28, 28]);
        (network, parameters, images)
    }

    #[divan::bench(args = Method::ALL)]
    fn explanation(bencher: Bencher<'_, '_>, method: Method) {
        let (network, parameters, images) = subject(PROBES);
        let (weights, settings) = (parameters.views(), Settings::default());
        bencher.bench_local(|| explain::explain(method, &network, weights, &images, None, &[0, 1, 2], &settings));
    }

    #[divan::bench(args = ["conv2d", "conv2d_1", "classes"])]
    fn activation_max(bencher: Bencher<'_, '_>, what: &str) {
        let (network, parameters, _) = subject(1);
        let channels: Vec<usize> = (0..if what == "conv2d" { 32 } else { 36 }).collect();
        let target = match network.layer(what) {
            Some(layer) => Target::Channels { convolution: layer.node, channels: &channels },
            None => Target::Classes(&channels[..10]),
        };
        bencher.bench_local(|| explain::maximise(&network, parameters.views(), target, &Ascent::default()));
    }

    #[divan::bench]
    fn features(bencher: Bencher<'_, '_>) {
        let (network, parameters, images) = subject(POINTS);
        bencher.bench_local(|| explain::features(&network, parameters.views(), &images));
    }

    /// Points around ten centres.
    fn points() -> Points {
        let (centres, around) = (noise(10 * FEATURES), noise(POINTS * FEATURES));
        let near = |(i, v): (usize, f32)| v + 2.0 * centres[(i / FEATURES % 10) * FEATURES + i % FEATURES];
        Points::new(FEATURES, around.into_iter().enumerate().map(near).collect())
    }

    #[divan::bench(args = ["first", "next"])]
    fn tsne(bencher: Bencher<'_, '_>, layout: &str) {
        let points = points();
        let rough = embedding::pca(&points).layout;
        let start = if layout == "first" { Start::Rough(&rough) } else { Start::Earlier(&rough) };
        bencher.bench_local(|| embedding::tsne(&points, start));
    }

    #[divan::bench]
    fn pca(bencher: Bencher<'_, '_>) {
        let points = points();
        bencher.bench_local(|| embedding::pca(&points));
    }
}
