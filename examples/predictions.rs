//! Writes what observers say of predictions that a formula makes, so that another language can make them, too, and judge.
//!
//! ```sh
//! cargo run --release --example predictions -- logs/predictions
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use trainer::data::{Dataset, Split};
use trainer::evaluation::Predictions;
use trainer::eventlog::{LogDir, Origin};
use trainer::model::Architecture;
use trainer::observe::{Calibration, Classes, Confusion, Errors, Log, PrCurves, Record};
use trainer::train::{At, Logger, Metrics, Moment, Observer, Totals};
use trainer::types::{FixedClock, ImageShape, Seed, WallTime};
use trainer::weights::Weights;

const EPOCHS: u32 = 2;
const SAMPLES: u32 = 500;
const CLASSES: [&str; 6] = ["T-shirt/top", "Ankle boot", "a|b", "größe", "no image", "never"];
const SHAPE: ImageShape = ImageShape { height: 4, width: 4, channels: 1 };

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: predictions DIR")?);
    let clock = FixedClock(WallTime::from_secs(1_700_000_000.0).ok_or("a time after 1970")?);
    let mut log = Log::new(LogDir::new(root.join("formula"), Origin::new("host", 1)), Arc::new(clock));
    for epoch in 0..EPOCHS {
        let mut findings = Record::default();
        observe(epoch, &mut findings)?;
        log.take(findings);
    }
    match log.close().lost_entries {
        0 => Ok(()),
        lost => Err(format!("{lost} entries are lost").into()),
    }
}

fn observe(epoch: u32, findings: &mut Record) -> Result<(), Box<dyn Error>> {
    let (probabilities, labels) = formula(epoch);
    let split = Split::new(SHAPE, CLASSES.len(), vec![100; labels.len() * SHAPE.len()], labels.clone())?;
    let classes = CLASSES.map(str::to_owned).to_vec();
    let dataset = Dataset { name: "formula".to_owned(), classes, train: split.clone(), validation: split };
    let architecture = Architecture { conv_filters: vec![1], kernel_size: 1, dense_units: 1 };
    let network = architecture.build(SHAPE, CLASSES.len())?;
    let parameters = Weights::initialise(&network, Seed(0), Device::Cpu);
    let predictions = Predictions::new(CLASSES.len(), probabilities, labels);
    let moment = Moment {
        at: At::Epoch { train: Metrics::default(), validation: Metrics::default(), totals: Totals::default() },
        epoch: epoch.into(),
        iterations: 1,
        learning_rate: 0.1,
        network: &network,
        parameters: &parameters,
        gradient: &Tensor::zeros([1], (Kind::Float, Device::Cpu)),
        previous: parameters.flat(),
        dataset: &dataset,
        predictions: Some(&predictions),
        skipped: false,
        last: false,
    };
    let observers: [Box<dyn Observer<Record>>; 5] =
        [Box::new(Confusion), Box::new(Classes), Box::new(PrCurves), Box::new(Calibration), Box::new(Errors)];
    for mut observer in observers {
        observer.observe(&moment, findings);
    }
    Ok(())
}

/// Probabilities, row by row, and labels: quotients of whole numbers that are exact in single precision.
fn formula(epoch: u32) -> (Vec<f32>, Vec<u16>) {
    let mut probabilities = Vec::new();
    let mut labels = Vec::new();
    for n in 0..SAMPLES {
        let guess = (n * n + n / 3) % 5;
        let weights = (0..6).map(|class| match class {
            5 => 1,
            _ => {
                let bonus = if class == guess { 400 + 200 * epoch } else { 0 };
                (n * 7919 + class * 104_729 + n * n * 31) % 700 + 1 + bonus
            }
        });
        let squares: Vec<u32> = weights.map(|weight| weight * weight).collect();
        let sum: u32 = squares.iter().sum();
        probabilities.extend(squares.iter().map(|&square| square as f32 / sum as f32));
        labels.push((guess % 4) as u16);
    }
    (probabilities, labels)
}
