//! A fixed piece of work for `scripts/instructions.py`, which counts the instructions of [`measured`].
//!
//! ```text
//! cargo bench --bench instructions -- CASE
//! ```
//! One JSON object: what the processor can do, on which the count depends. Input, clock and names are fixed.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;

use tch::Device;
use trainer::data::Split;
use trainer::eventlog::{EventFile, EventReader, Histogram, Origin, Value, event};
use trainer::model::Architecture;
use trainer::optim::Rule;
use trainer::picture::Picture;
use trainer::train::{Stepper, TrainState};
use trainer::types::{ImageShape, Seed, Step, Tag, WallTime};

const SCALARS: usize = 10_000;
const HISTOGRAMS: usize = 20;
const HISTOGRAM_VALUES: usize = 100_000;
const IMAGES: usize = 20;
/// Images of a training step: two shards, one after the other.
const BATCH: usize = 64;
const STEPS: usize = 3;

/// The one function whose instructions count, with all that it calls.
#[inline(never)]
fn measured(work: &mut dyn FnMut() -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    work()
}

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds a flag.
    let case = std::env::args().skip(1).find(|word| !word.starts_with("--")).ok_or("want the name of a case")?;
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let time = WallTime::from_secs(1_700_000_000.25).ok_or("a time")?;
    let step = |i: usize| Step::new(i as u64).ok_or("too many events");
    let tags: Vec<Tag> = (0..8).map(|i| Tag::of(format!("loss/layer_{i:03}"))).collect();
    let tag = |i: usize| tags[i % tags.len()].clone();
    let scratch = tempfile::tempdir()?;
    let mut file = EventFile::create(scratch.path(), &Origin::new("host", 1), 0, time, None)?;
    match case.as_str() {
        "scalars" => measured(&mut || {
            for i in 0..SCALARS {
                file.write_values(time, step(i)?, &[Value::scalar(tag(i), i as f32)])?;
            }
            Ok(file.flush()?)
        })?,
        "histograms" => {
            let values: Vec<f32> = (0..HISTOGRAM_VALUES).map(|_| (0..4).map(|_| noise() - 0.5).sum()).collect();
            measured(&mut || {
                for i in 0..HISTOGRAMS {
                    let histogram = Histogram::of(black_box(&values));
                    file.write_values(time, step(i)?, &[Value::histogram(tag(i), histogram)])?;
                }
                Ok(file.flush()?)
            })?;
        }
        "images" => {
            let mut picture = Picture::filled(64, 64, [0; 3]);
            for y in 0..64 {
                for x in 0..64 {
                    picture.set(x, y, [x as u8 * 3 + (noise() * 16.0) as u8, y as u8 * 3, (x + y) as u8]);
                }
            }
            measured(&mut || {
                for i in 0..IMAGES {
                    file.write_values(time, step(i)?, &[Value::images(tag(i), vec![picture.clone()])])?;
                }
                Ok(file.flush()?)
            })?;
        }
        "reader" => {
            let values: Vec<Value> = (0..SCALARS).map(|i| Value::scalar(tag(i), i as f32)).collect();
            let bytes = event::file(time, step(1)?, &values)?;
            measured(&mut || {
                for (_, event) in EventReader::new(bytes.as_slice()) {
                    black_box(event?);
                }
                Ok(())
            })?;
        }
        "step" => {
            let shape = ImageShape { height: 28, width: 28, channels: 1 };
            // Half of the pixels are black.
            let pixels = (0..BATCH * shape.len()).map(|_| (noise() * 510.0 - 255.0) as u8).collect();
            let split = Split::new(shape, 10, pixels, (0..BATCH).map(|i| (i % 10) as u16).collect())?;
            let network = Arc::new(Architecture::default().build(shape, 10)?);
            let mut state = TrainState::initialise(&network, Rule::Adam { weight_decay: 0.0 }, Seed(0), Device::Cpu);
            let mut stepper = Stepper::new(&network, &state, BATCH, 1)?;
            let batch: Vec<u32> = (0..BATCH as u32).collect();
            measured(&mut || {
                for _ in 0..STEPS {
                    stepper.step(&mut state, &split, &batch, 1e-3)?;
                }
                Ok(())
            })?;
        }
        _ => return Err(format!("no case {case}: want scalars, histograms, images, reader or step").into()),
    }
    println!("{}", serde_json::json!({ "case": case, "arch": std::env::consts::ARCH, "features": features() }));
    Ok(())
}

/// What the event log, its crates and the C library choose their code by.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let all = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("lzcnt", is_x86_feature_detected!("lzcnt")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    all.into_iter().filter(|(_, found)| *found).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    Vec::new()
}
