//! Writes a log directory that holds something of every kind, for TensorBoard to show and for the tests to read.
//!
//! ```sh
//! cargo run --release --example plugins -- logs/plugins
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use trainer::eventlog::{
    Animation, Category, Chart, Counts, Embeddings, Entry, Graph, Layout, LogDir, Margin, Node, NodeCost, Origin,
    Pattern, PrCurve, Profile, Shape, Sink, Sprite, Value, What,
};
use trainer::picture::Picture;
use trainer::types::{Run, Step, Tag, WallTime};

/// Steps of everything that is written more than once.
const STEPS: u64 = 3;
const THRESHOLDS: u64 = 201;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: plugins DIR")?);
    let mut log = Log { dir: LogDir::new(root.join("all"), Origin::new("host", 1)) };
    for step in 0..STEPS {
        log.values(step, vec![Value::pr_curve(Tag::of("pr_curve/three"), curve(step)?), scalar("loss", step, 0.0)])?;
        log.values(step, vec![scalar("band/low", step, -0.1), scalar("band/high", step, 0.1)])?;
    }
    log.values(0, vec![Value::layout(layout())])?;
    let frames = (0..8).map(|at| Picture::filled(6, 4, [30 * at, 0, 255 - 30 * at])).collect();
    log.values(0, vec![Value::animation(Tag::of("animation"), Animation::new(frames, 120)?)])?;
    let (graph, profile) = graph()?;
    log.write(0, What::Graph(graph))?;
    log.write(0, What::Profile { tag: Tag::of("profile/one_step"), profile })?;
    for step in 0..2 {
        log.write(step, What::Embeddings(Arc::new(embeddings(step)?)))?;
    }
    log.dir.close()?;
    Ok(())
}

struct Log {
    dir: LogDir,
}

impl Log {
    fn values(&mut self, step: u64, values: Vec<Value>) -> Result<(), Box<dyn Error>> {
        self.write(step, What::Values(values))
    }

    fn write(&mut self, step: u64, what: What) -> Result<(), Box<dyn Error>> {
        let wall_time = WallTime::from_secs(1_700_000_000.0).ok_or("a time after 1970")?;
        let step = Step::new(step).ok_or("a small step")?;
        Ok(self.dir.write(Entry { run: Run::Train, wall_time, step, what })?)
    }
}

fn scalar(tag: &str, step: u64, offset: f32) -> Value {
    Value::scalar(Tag::of(tag), 1.0 / (step + 1) as f32 + offset)
}

/// A classifier that gets better with every step, on 400 images of the class and 3600 others.
fn curve(step: u64) -> Result<PrCurve, Box<dyn Error>> {
    let mut counts = Counts::default();
    for threshold in 0..THRESHOLDS {
        let cut =
            |count: u64, sharpness: u64| count - count * threshold.pow(2) / (THRESHOLDS * (THRESHOLDS + sharpness));
        let found = cut(400, 200 * step);
        let wrong = 3600 * (THRESHOLDS - 1 - threshold) / (THRESHOLDS * (step + 1));
        counts.true_positives.push(found);
        counts.false_negatives.push(400 - found);
        counts.false_positives.push(wrong);
        counts.true_negatives.push(3600 - wrong);
    }
    Ok(PrCurve::of_counts(&counts)?)
}

/// A graph of two nodes in a scope, and what they cost.
fn graph() -> Result<(Graph, Profile), Box<dyn Error>> {
    let shape: Shape = vec![Some(64), Some(10)];
    let node = |name: &str, op: &str| Node::new(name, op).outputs([shape.clone()]).device("/device:CPU:0");
    let nodes = vec![node("dense/MatMul", "MatMul"), node("dense/Relu", "Relu").input("dense/MatMul")];
    let cost = |name: &str, start_micros, end_micros| {
        let outputs = vec![shape.clone()];
        NodeCost { name: name.to_owned(), start_micros, end_micros, bytes: 2560, outputs }
    };
    let costs = vec![cost("dense/MatMul", 1, 9), cost("dense/Relu", 9, 12)];
    Ok((Graph::new(nodes)?, Profile::new("/device:CPU:0", costs)?))
}

/// Points on a circle, each with a name, a class and a picture of its own colour.
fn embeddings(step: u64) -> Result<Embeddings, Box<dyn Error>> {
    let angle = |point: u8| f32::from(point) / 7.0 * std::f32::consts::TAU + step as f32;
    let vectors = (0..7).flat_map(|point| [angle(point).sin(), angle(point).cos(), 0.0]).collect();
    let rows = (0..7).map(|point| vec![format!("point\t{point}"), (point % 2).to_string()]).collect();
    let cells: Vec<Picture> = (0..7).map(|point| Picture::filled(5, 4, [40 * point, 0, 0])).collect();
    Ok(Embeddings::new("circle", 3, vectors)?.labelled(["name", "class"], rows)?.pictured(Sprite::of(&cells))?)
}

fn layout() -> Layout {
    let margin = Margin { value: Tag::of("loss"), lower: Tag::of("band/low"), upper: Tag::of("band/high") };
    Layout::new([
        Category::new(
            "Lines",
            [Chart::lines("exact", [Pattern::tag("loss")]), Chart::lines("band", [Pattern::prefix("band/")])],
        ),
        Category::new("Bands", [Chart::margins("loss", [margin])]).closed(),
    ])
}
