//! Gradients and evaluations on the CPU: each shard of a batch goes through an engine on one thread.

use std::sync::Arc;
use std::time::Instant;

use super::evaluated::Evaluated;
use super::observer::PhaseSeconds;
use super::pool::{Pool, WorkerLost};
use crate::data::Split;
use crate::engine::{Alone, CrossEntropy, Engine, Objective, Reduce, SHARD, Scores, TreeSum};
use crate::graph::Graph;
use crate::trace::{Part, Trace};

/// Maximum number of feature values that an evaluation keeps: 16 MiB.
const MOST_FEATURES: usize = 1 << 22;

/// An engine for each thread, the objective between forward and backward, and the sum over the shards.
pub(super) struct ShardedPass {
    workers: Vec<Worker>,
    objective: Arc<dyn Objective>,
    sum: TreeSum,
    reduce: Box<dyn Reduce>,
    classes: usize,
    /// Number of features of an image.
    features: usize,
    trace: Trace,
}

struct Worker {
    engine: Box<dyn Engine>,
    labels: Vec<u16>,
    /// Class probabilities, then cotangents of the logits.
    probabilities: Vec<f32>,
    scores: Scores,
    seconds: PhaseSeconds,
}

/// Result of a batch, besides its gradient.
pub(super) struct Passed {
    pub scores: Scores,
    /// Phases of the calling thread. Its waiting for the others counts as backward.
    pub seconds: PhaseSeconds,
}

impl ShardedPass {
    /// With an engine of this graph for each thread.
    pub fn new(graph: &Graph, engines: Vec<Box<dyn Engine>>) -> ShardedPass {
        let worker = |engine| Worker {
            engine,
            labels: Vec::new(),
            probabilities: Vec::new(),
            scores: Scores::default(),
            seconds: PhaseSeconds::default(),
        };
        ShardedPass {
            workers: engines.into_iter().map(worker).collect(),
            objective: Arc::new(CrossEntropy),
            sum: TreeSum::default(),
            reduce: Box::new(Alone),
            classes: graph.classes(),
            features: graph.features().map_or(0, |layer| layer.output.len()),
            trace: Trace::default(),
        }
    }

    /// Records to `trace` from now on.
    pub fn trace(&mut self, trace: &Trace) {
        self.trace = trace.clone();
        for worker in &mut self.workers {
            *worker.engine.spans() = trace.spans();
        }
    }

    /// Threads that find something to do in a batch.
    pub fn useful_threads(batch_size: usize, threads: usize) -> usize {
        threads.min(batch_size.div_ceil(SHARD)).max(1)
    }

    /// Sets `gradient` to that of the mean loss of the samples at `indices`. It is the same for any number of threads.
    pub fn gradient(
        &mut self,
        pool: &Pool,
        parameters: &[f32],
        split: &Split,
        indices: &[u32],
        gradient: &mut [f32],
    ) -> Result<Passed, WorkerLost> {
        let ShardedPass { workers, objective, sum, reduce, trace, .. } = self;
        let scale = 1.0 / indices.len() as f64;
        let len = pool.share(gradient.len());
        let mut seconds = PhaseSeconds::default();
        let shards: Vec<&[u32]> = indices.chunks(SHARD).collect();
        sum.begin();
        for shards in shards.chunks(workers.len()) {
            let started = Instant::now();
            let mut wave: Vec<(&mut Worker, &[u32])> = workers.iter_mut().zip(shards.iter().copied()).collect();
            pool.each(&mut wave, |(worker, samples)| {
                worker.recorded("shard", |worker| {
                    worker.forward(&**objective, parameters, split, samples);
                    worker.backward(&**objective, parameters, scale);
                });
            })?;
            let wave: Vec<&Worker> = wave.into_iter().map(|(worker, _)| &*worker).collect();
            let gradients: Vec<&[f32]> = wave.iter().map(|worker| worker.engine.gradient()).collect();
            let scores: Vec<Scores> = wave.iter().map(|worker| worker.scores).collect();
            let (mut pieces, work) = sum.push(&gradients, &scores, gradient, len).split();
            pool.each(&mut pieces, |piece| adding(trace, || work(piece)))?;
            if let Some(own) = wave.first() {
                seconds = seconds.plus(&own.seconds);
                let all = started.elapsed().as_secs_f64();
                seconds.backward += all - (own.seconds.data + own.seconds.forward + own.seconds.backward);
            }
        }
        let (additions, mut scores) = sum.finish(gradient, len);
        if !additions.is_empty() {
            let (mut pieces, work) = additions.split();
            pool.each(&mut pieces, |piece| adding(trace, || work(piece)))?;
        }
        reduce.sum(gradient, &mut scores);
        Ok(Passed { scores, seconds })
    }

    /// Makes a decision that all processes take alike.
    pub fn any(&mut self, own: bool) -> bool {
        self.reduce.any(own)
    }

    /// Evaluates all samples of `split`; `None` if `stop` says so meanwhile.
    pub fn evaluate(
        &mut self,
        pool: &Pool,
        parameters: &[f32],
        split: &Split,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Evaluated>, WorkerLost> {
        let mut evaluated = Evaluated::default();
        evaluated.probabilities_nk.reserve_exact(split.len() * self.classes);
        // Observers look at some of them, and would have to compute those again.
        let values = split.len().saturating_mul(self.features);
        let keeps_features = values <= MOST_FEATURES;
        evaluated.features_nd.reserve_exact(if keeps_features { values } else { 0 });
        let ShardedPass { workers, objective, .. } = self;
        let samples: Vec<u32> = (0..split.len() as u32).collect();
        let shards: Vec<&[u32]> = samples.chunks(SHARD).collect();
        for shards in shards.chunks(workers.len()) {
            if stop() {
                return Ok(None);
            }
            let mut wave: Vec<(&mut Worker, &[u32])> = workers.iter_mut().zip(shards.iter().copied()).collect();
            pool.each(&mut wave, |(worker, samples)| {
                // Of a whole split, each layer of each image would be more than anybody can look at.
                worker.engine.spans().set_coarse(true);
                worker.recorded("piece", |worker| worker.evaluate(&**objective, parameters, split, samples));
                worker.engine.spans().set_coarse(false);
            })?;
            for (worker, _) in wave {
                evaluated.loss_sum += worker.scores.loss_sum;
                evaluated.correct += worker.scores.correct;
                evaluated.probabilities_nk.extend(&worker.probabilities);
                evaluated.features_nd.extend(if keeps_features { worker.engine.features() } else { &[] });
            }
        }
        Ok(Some(evaluated))
    }
}

/// Adds gradients, and records it.
fn adding(trace: &Trace, work: impl FnOnce()) {
    let mut spans = trace.spans();
    let started = spans.start();
    work();
    spans.end(started, Part::Phase, "add gradients");
}

impl Worker {
    /// Does `work`, recorded as a whole.
    fn recorded(&mut self, name: &'static str, work: impl FnOnce(&mut Worker)) {
        let started = self.engine.spans().start();
        work(self);
        let spans = self.engine.spans();
        spans.end(started, Part::Phase, name);
        spans.flush();
    }

    fn load(&mut self, split: &Split, samples: &[u32]) {
        let loading = self.engine.spans().start();
        self.engine.load(split, samples);
        self.labels.clear();
        self.labels.extend(samples.iter().map(|&sample| split.label(sample as usize)));
        self.engine.spans().end(loading, Part::Phase, "data");
    }

    /// Scores and probabilities of some samples.
    fn forward(&mut self, objective: &dyn Objective, parameters: &[f32], split: &Split, samples: &[u32]) {
        let started = Instant::now();
        self.load(split, samples);
        let data = started.elapsed().as_secs_f64();
        let passing = self.engine.spans().start();
        self.engine.forward(parameters);
        let judging = self.engine.spans().start_layer();
        self.scores = objective.judge(self.engine.logits(), &self.labels, &mut self.probabilities);
        self.engine.spans().end(judging, Part::Forward, "loss");
        self.engine.spans().end(passing, Part::Phase, "forward");
        let forward = started.elapsed().as_secs_f64() - data;
        self.seconds = PhaseSeconds { data, forward, ..PhaseSeconds::default() };
    }

    /// Gradient of `scale` times the loss sum of the last forward pass.
    fn backward(&mut self, objective: &dyn Objective, parameters: &[f32], scale: f64) {
        let started = Instant::now();
        let passing = self.engine.spans().start();
        let judging = self.engine.spans().start_layer();
        objective.cotangents(&self.labels, scale, &mut self.probabilities);
        self.engine.spans().end(judging, Part::Backward, "loss");
        self.engine.backward(parameters, &self.probabilities);
        self.engine.spans().end(passing, Part::Phase, "backward");
        self.seconds.backward = started.elapsed().as_secs_f64();
    }

    /// As [`Worker::forward`], without a way back.
    fn evaluate(&mut self, objective: &dyn Objective, parameters: &[f32], split: &Split, samples: &[u32]) {
        self.load(split, samples);
        let passing = self.engine.spans().start();
        self.engine.evaluate(parameters);
        self.scores = objective.judge(self.engine.logits(), &self.labels, &mut self.probabilities);
        self.engine.spans().end(passing, Part::Phase, "forward");
    }
}
