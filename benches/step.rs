//! Training steps a second, without data loading from disk, logging or evaluation: the fused kernels and libtorch,
//! sharded over the same threads, and libtorch on whole batches, on one thread.
//!
//! ```text
//! cargo bench --bench step -- --rounds 5 --steps 200 --threads 2 --batch-size 64 [--subject NAME]
//! ```
//! Subjects take turns in each round, so that what the machine does besides hits all of them. One JSON object a line:
//! `{"subject": .., "images_per_second": [one a round], "seconds_per_step": {phase: median over rounds}}`. The images are
//! the synthetic data set's, the network is the default one, and a few hundred steps are done before the clock starts: a
//! network that has learned something has more silent units than one that has not.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use tch::Device;
use trainer::data::{order, synthetic};
use trainer::model::{Architecture, Precision};
use trainer::optim::Rule;
use trainer::train::{PhaseSeconds, Stepper, TrainState};
use trainer::types::Seed;

type Outcome<T> = Result<T, Box<dyn Error>>;

const WARM_UP: usize = 300;
const LEARNING_RATE: f64 = 1e-3;

struct Options {
    rounds: usize,
    steps: usize,
    threads: usize,
    batch_size: usize,
    /// All if none is named.
    subject: Option<String>,
}

struct Subject {
    name: &'static str,
    stepper: Stepper,
    state: TrainState,
    rates: Vec<f64>,
    seconds: Vec<PhaseSeconds>,
}

fn main() -> Outcome<()> {
    let options = options()?;
    let dataset = synthetic::dataset(Seed(0));
    let split = &dataset.train;
    let network = Arc::new(Architecture::default().build(split.shape(), dataset.classes.len())?);
    let state = || TrainState::initialise(&network, Rule::Adam { weight_decay: 0.0 }, Seed(0), Device::Cpu);
    let mut subjects = Vec::new();
    for name in ["fused", "libtorch", "whole batches"] {
        if options.subject.as_ref().is_none_or(|wanted| wanted == name) {
            let state = state();
            let stepper = match name {
                "fused" => Stepper::new(&network, &state, options.batch_size, options.threads)?,
                "libtorch" => Stepper::by_libtorch(&network, &state, options.batch_size, options.threads)?,
                _ => Stepper::in_whole_batches(&network, &state, Precision::default())?,
            };
            subjects.push(Subject { name, stepper, state, rates: Vec::new(), seconds: Vec::new() });
        }
    }
    let mut batches = (0..).flat_map(|epoch| {
        let order = order(Seed(0), epoch, split.len());
        order.chunks_exact(options.batch_size).map(<[u32]>::to_vec).collect::<Vec<_>>()
    });
    for subject in &mut subjects {
        for batch in batches.by_ref().take(WARM_UP) {
            subject.stepper.step(&mut subject.state, split, &batch, LEARNING_RATE)?;
        }
    }
    for _ in 0..options.rounds {
        for Subject { stepper, state, rates, seconds, .. } in &mut subjects {
            let batches: Vec<Vec<u32>> = batches.by_ref().take(options.steps).collect();
            let mut phases = PhaseSeconds::default();
            let started = Instant::now();
            for batch in &batches {
                phases = phases.plus(&stepper.step(state, split, batch, LEARNING_RATE)?.seconds);
            }
            rates.push((options.steps * options.batch_size) as f64 / started.elapsed().as_secs_f64());
            seconds.push(phases);
        }
    }
    for Subject { name, rates, seconds, .. } in &subjects {
        let median = |phase: fn(&PhaseSeconds) -> f64| {
            let mut values: Vec<f64> = seconds.iter().map(|s| phase(s) / options.steps as f64).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let line = serde_json::json!({
            "subject": name,
            "images_per_second": rates,
            "seconds_per_step": {
                "data": median(|s| s.data),
                "forward": median(|s| s.forward),
                "backward": median(|s| s.backward),
                "optimizer": median(|s| s.optimizer),
            },
        });
        println!("{line}");
    }
    Ok(())
}

fn options() -> Outcome<Options> {
    let mut options = Options { rounds: 5, steps: 200, threads: 2, batch_size: 64, subject: None };
    // Cargo's own argument among them.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} wants a value"))?;
        let number = || value.parse::<usize>().ok().filter(|&n| n > 0).ok_or_else(|| format!("{flag}: got {value}"));
        match flag.as_str() {
            "--rounds" => options.rounds = number()?,
            "--steps" => options.steps = number()?,
            "--threads" => options.threads = number()?,
            "--batch-size" => options.batch_size = number()?,
            "--subject" => options.subject = Some(value),
            _ => return Err(format!("unknown argument {flag}").into()),
        }
    }
    Ok(options)
}
