//! Gradients and evaluations on the CPU: shards of a batch go through a [`Chain`], each on one thread.

use std::ops::Range;
use std::time::Instant;

use tch::Device;

use super::observer::PhaseSeconds;
use super::pool::{Pool, WorkerLost};
use super::stepper::Evaluated;
use crate::chain::{Chain, Reply, Workspace};
use crate::data::Split;
use crate::model::{Network, Precision};
use crate::trace::{Part, Trace};

/// Samples in a shard. A constant: it is part of the result.
pub(super) const SHARD: usize = 32;

/// What is kept of the last hidden layer of an evaluation, at most: 16 MiB.
const MOST_FEATURES: usize = 1 << 22;

/// The passes that train a network on `device` in `precision`, where they are these and not libtorch's.
pub(super) fn fused_passes(network: &Network, device: Device, precision: Precision) -> Option<Chain> {
    if device == Device::Cpu && precision == Precision::F32 { Chain::of(network) } else { None }
}

/// A network, and a place for each thread to work in.
pub(super) struct ChainPass {
    chain: Chain,
    places: Vec<Place>,
    trace: Trace,
}

struct Place {
    workspace: Workspace,
    reply: Reply,
    seconds: PhaseSeconds,
}

/// What the batch of a gradient came to.
pub(super) struct Passed {
    pub reply: Reply,
    /// The calling thread's share stands for all; what it waits for the others counts as backward.
    pub seconds: PhaseSeconds,
}

impl ChainPass {
    pub fn new(chain: Chain, threads: usize) -> ChainPass {
        let place =
            |_| Place { workspace: chain.workspace(), reply: Reply::default(), seconds: PhaseSeconds::default() };
        ChainPass { places: (0..threads).map(place).collect(), chain, trace: Trace::default() }
    }

    /// Says to `trace` what it does from now on.
    pub fn trace(&mut self, trace: &Trace) {
        self.trace = trace.clone();
        for place in &mut self.places {
            place.workspace.spans = trace.spans();
        }
    }

    /// Threads that find something to do in a batch.
    pub fn useful_threads(batch_size: usize, threads: usize) -> usize {
        threads.min(batch_size.div_ceil(SHARD)).max(1)
    }

    /// Sets `gradient` to that of the mean loss of the samples at `indices`. Shards are added in their order, so it is the
    /// same for any number of threads.
    pub fn gradient(
        &mut self,
        pool: &Pool,
        parameters: &[f32],
        split: &Split,
        indices: &[u32],
        gradient: &mut [f32],
    ) -> Result<Passed, WorkerLost> {
        let ChainPass { chain, places, trace } = self;
        let scale = 1.0 / indices.len() as f64;
        let mut passed = Passed { reply: Reply::default(), seconds: PhaseSeconds::default() };
        let mut shards = indices.chunks(SHARD).peekable();
        let mut is_first = true;
        while shards.peek().is_some() {
            let started = Instant::now();
            let mut wave: Vec<(&mut Place, &[u32])> = places.iter_mut().zip(shards.by_ref()).collect();
            pool.each(&mut wave, |(place, indices)| {
                place.part("shard", |place| {
                    place.forward(chain, parameters, split, indices.iter().map(|&index| index as usize));
                    place.backward(chain, parameters, scale);
                });
            })?;
            let places: Vec<&Place> = wave.iter().map(|(place, _)| &**place).collect();
            add_up(pool, trace, &places, gradient, is_first)?;
            is_first = false;
            for place in &places {
                passed.reply.loss_sum += place.reply.loss_sum;
                passed.reply.correct += place.reply.correct;
            }
            if let Some(own) = places.first() {
                passed.seconds = passed.seconds.plus(&own.seconds);
                let all = started.elapsed().as_secs_f64();
                passed.seconds.backward += all - (own.seconds.data + own.seconds.forward + own.seconds.backward);
            }
        }
        Ok(passed)
    }

    /// Evaluates all samples of `split`, until `stop` says so: then there is nothing.
    pub fn evaluate(
        &mut self,
        pool: &Pool,
        parameters: &[f32],
        split: &Split,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Evaluated>, WorkerLost> {
        let ChainPass { chain, places, .. } = self;
        let mut evaluated = Evaluated::default();
        evaluated.probabilities_nk.reserve_exact(split.len() * chain.answers());
        // Observers look at some of them, and would have to compute those again.
        let values = split.len().saturating_mul(chain.hidden_units());
        let keeps_features = values <= MOST_FEATURES;
        evaluated.features_nd.reserve_exact(if keeps_features { values } else { 0 });
        let pieces: Vec<Range<usize>> =
            (0..split.len()).step_by(SHARD).map(|start| start..(start + SHARD).min(split.len())).collect();
        for wave in pieces.chunks(places.len()) {
            if stop() {
                return Ok(None);
            }
            let mut wave: Vec<(&mut Place, Range<usize>)> = places.iter_mut().zip(wave.iter().cloned()).collect();
            pool.each(&mut wave, |(place, samples)| {
                // Of a whole split, each layer of each image would be more than anybody can look at.
                place.workspace.spans.set_coarse(true);
                place.part("piece", |place| place.forward(chain, parameters, split, samples.clone()));
                place.workspace.spans.set_coarse(false);
            })?;
            for (place, _) in &wave {
                evaluated.loss_sum += place.reply.loss_sum;
                evaluated.correct += place.reply.correct;
                evaluated.probabilities_nk.extend(place.workspace.probabilities());
                evaluated.features_nd.extend(if keeps_features { place.workspace.features() } else { &[] });
            }
        }
        Ok(Some(evaluated))
    }
}

impl Place {
    /// Does `work` and records it as a whole.
    fn part(&mut self, name: &'static str, work: impl FnOnce(&mut Place)) {
        let started = self.workspace.spans.start();
        work(self);
        let spans = &mut self.workspace.spans;
        spans.end(started, Part::Phase, name);
        spans.flush();
    }

    fn forward(&mut self, chain: &Chain, parameters: &[f32], split: &Split, samples: impl Iterator<Item = usize>) {
        let started = Instant::now();
        let loading = self.workspace.spans.start();
        self.workspace.load(samples.map(|index| (split.image(index), split.label(index))));
        self.workspace.spans.end(loading, Part::Phase, "data");
        let data = started.elapsed().as_secs_f64();
        let passing = self.workspace.spans.start();
        self.reply = chain.forward(parameters, &mut self.workspace);
        self.workspace.spans.end(passing, Part::Phase, "forward");
        let forward = started.elapsed().as_secs_f64() - data;
        self.seconds = PhaseSeconds { data, forward, ..PhaseSeconds::default() };
    }

    fn backward(&mut self, chain: &Chain, parameters: &[f32], scale: f64) {
        let started = Instant::now();
        let passing = self.workspace.spans.start();
        chain.backward(parameters, scale, &mut self.workspace);
        self.workspace.spans.end(passing, Part::Phase, "backward");
        self.seconds.backward = started.elapsed().as_secs_f64();
    }
}

/// Adds what the places hold to `total`, which counts as zero if `is_first`: each thread some of the floats, in the order
/// of the places.
fn add_up(pool: &Pool, trace: &Trace, places: &[&Place], total: &mut [f32], is_first: bool) -> Result<(), WorkerLost> {
    let piece = pool.share(total.len());
    let mut pieces: Vec<(usize, &mut [f32])> = total.chunks_mut(piece).enumerate().collect();
    pool.each(&mut pieces, |(number, total)| {
        let mut spans = trace.spans();
        let started = spans.start();
        let own = *number * piece..*number * piece + total.len();
        for (index, place) in places.iter().enumerate() {
            let gradient = &place.workspace.gradient()[own.clone()];
            if index == 0 && is_first {
                total.copy_from_slice(gradient);
            } else {
                for (total, value) in total.iter_mut().zip(gradient) {
                    *total += value;
                }
            }
        }
        spans.end(started, Part::Phase, "add gradients");
    })
}
