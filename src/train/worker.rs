//! Threads that run one shard of a batch at a time, each shard always in the same way.
//!
//! A batch is cut into shards of a fixed size. Each shard's forward and backward pass runs on one thread inside
//! libtorch and leaves its gradient in the worker's buffer, so the number of threads decides who computes a shard and
//! never what comes out. The calling thread is a worker too; with one thread there is no other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use tch::{Kind, Reduction, Tensor};

use crate::data::Batch;
use crate::model::{Network, Parameters};

/// A thread of the pool is gone, which only a panic in it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a training thread has stopped unexpectedly: this is a bug, and its message stands above")]
pub struct WorkerLost;

/// What a shard gives back. Sums, not means, since the last shard may be short.
pub(super) struct ShardOutput {
    /// Sum of cross-entropies, `f64`, no axes.
    pub loss_sum: Tensor,
    /// Number of samples classified right, `i64`, no axes.
    pub correct: Tensor,
    /// `N x K`, of an evaluation.
    pub probabilities_nk: Option<Tensor>,
    pub forward_seconds: f64,
}

#[derive(Clone, Copy)]
enum Task {
    /// Forward and backward; the gradient of `sum of losses * scale` goes to the worker's buffer.
    Train { scale: f64 },
    /// Forward alone.
    Evaluate,
}

struct Job {
    index: usize,
    task: Task,
    batch: Batch,
}

struct Done {
    index: usize,
    /// `None` after a panic: others may still be at work, and whoever collects must not wait for ever.
    output: Option<ShardOutput>,
}

/// Workers and their gradients.
pub(super) struct Pool {
    local: Worker,
    remote: Vec<Remote>,
    done: Receiver<Done>,
    /// For each worker, the flat buffer that its backward pass writes.
    gradients: Vec<Tensor>,
}

struct Remote {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Pool {
    /// `threads` workers, at least 1.
    pub fn start(network: &Arc<Network>, parameters: &Parameters, threads: usize) -> std::io::Result<Pool> {
        let threads = threads.max(1);
        let workers: Vec<Worker> = (0..threads).map(|_| Worker::new(network, parameters)).collect();
        let gradients = workers.iter().map(|worker| worker.gradient.shallow_clone()).collect();
        // At most one job is under way for each worker, so nobody waits to hand over.
        let (finish, done) = sync_channel(threads);
        let mut workers = workers.into_iter();
        let local = workers.next().unwrap_or_else(|| Worker::new(network, parameters));
        let mut remote = Vec::new();
        for (number, mut worker) in workers.enumerate() {
            let (jobs, todo) = sync_channel::<Job>(1);
            let finish = finish.clone();
            let work = move || {
                single_threaded();
                for job in todo {
                    let perform = AssertUnwindSafe(|| worker.perform(&job.task, &job.batch));
                    let done = Done { index: job.index, output: catch_unwind(perform).ok() };
                    if finish.send(done).is_err() {
                        break;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("train-{}", number + 1)).spawn(work)?;
            remote.push(Remote { jobs: Some(jobs), thread: Some(thread) });
        }
        single_threaded();
        Ok(Pool { local, remote, done, gradients })
    }

    /// One forward and backward pass of up to [`Pool::threads`] shards. The gradient of shard `i` is then number `i` of
    /// [`Pool::gradients`].
    pub fn train(&mut self, shards: Vec<Batch>, scale: f64) -> Result<Vec<ShardOutput>, WorkerLost> {
        self.run(shards, &Task::Train { scale })
    }

    /// One forward pass without gradients of up to [`Pool::threads`] pieces.
    pub fn evaluate(&mut self, pieces: Vec<Batch>) -> Result<Vec<ShardOutput>, WorkerLost> {
        self.run(pieces, &Task::Evaluate)
    }

    pub fn gradients(&self) -> &[Tensor] {
        &self.gradients
    }

    pub fn threads(&self) -> usize {
        self.remote.len() + 1
    }

    /// Gives each worker one batch, the first to the calling thread, and collects in order.
    fn run(&mut self, batches: Vec<Batch>, task: &Task) -> Result<Vec<ShardOutput>, WorkerLost> {
        debug_assert!(batches.len() <= self.threads());
        let mut outputs: Vec<Option<ShardOutput>> = batches.iter().map(|_| None).collect();
        let mut batches = batches.into_iter().enumerate();
        let own = batches.next();
        let mut pending = 0;
        for ((index, batch), remote) in batches.zip(&self.remote) {
            let jobs = remote.jobs.as_ref().ok_or(WorkerLost)?;
            jobs.send(Job { index, task: *task, batch }).map_err(|_| WorkerLost)?;
            pending += 1;
        }
        if let Some((index, batch)) = own {
            outputs[index] = Some(self.local.perform(task, &batch));
        }
        for _ in 0..pending {
            let done = self.done.recv().map_err(|_| WorkerLost)?;
            outputs[done.index] = done.output;
        }
        outputs.into_iter().map(|output| output.ok_or(WorkerLost)).collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for remote in &mut self.remote {
            remote.jobs = None; // ends the thread's loop
            if let Some(thread) = remote.thread.take() {
                let _ = thread.join(); // a panic there has been reported where its output was missed
            }
        }
    }
}

/// The setting is a thread's own. Two threads inside each operator would be slower than two shards side by side, and
/// would change the order of sums.
fn single_threaded() {
    tch::set_num_threads(1);
}

struct Worker {
    network: Arc<Network>,
    /// The weights, shared with everybody, for passes without gradients.
    weights: Vec<Tensor>,
    /// The weights again, as leaves of this worker's backward passes.
    leaves: Vec<Tensor>,
    /// Where those passes leave their gradient.
    gradient: Tensor,
}

impl Worker {
    fn new(network: &Arc<Network>, parameters: &Parameters) -> Worker {
        let leaves = parameters.leaves();
        let gradient = parameters.flat().zeros_like();
        let views = parameters.views_of(&gradient);
        // The first backward pass makes `.grad`; from then on passes add to it in place, so pointing it into the flat
        // buffer once is enough.
        let shape = network.input();
        let [c, h, w] = [shape.channels, shape.height, shape.width].map(|d| d as i64);
        let blank = Tensor::zeros([1, c, h, w], (Kind::Float, parameters.device()));
        network.forward(&leaves, &blank).sum(Kind::Float).backward();
        for (leaf, view) in leaves.iter().zip(&views) {
            leaf.grad().set_data(view);
        }
        let weights = parameters.views().iter().map(Tensor::shallow_clone).collect();
        Worker { network: network.clone(), weights, leaves, gradient }
    }

    fn perform(&mut self, task: &Task, batch: &Batch) -> ShardOutput {
        let started = Instant::now();
        match *task {
            Task::Train { scale } => {
                let _ = self.gradient.zero_();
                let logits_nk = self.network.forward(&self.leaves, &batch.images_nchw);
                let loss = loss_sum(&logits_nk, &batch.labels_n);
                let forward_seconds = started.elapsed().as_secs_f64();
                (&loss * scale).backward();
                output(&logits_nk.detach(), &loss.detach(), &batch.labels_n, forward_seconds)
            }
            Task::Evaluate => tch::no_grad(|| {
                let logits_nk = self.network.forward(&self.weights, &batch.images_nchw);
                let loss = loss_sum(&logits_nk, &batch.labels_n);
                let probabilities_nk = Some(logits_nk.softmax(-1, Kind::Float));
                let output = output(&logits_nk, &loss, &batch.labels_n, started.elapsed().as_secs_f64());
                ShardOutput { probabilities_nk, ..output }
            }),
        }
    }
}

fn loss_sum(logits_nk: &Tensor, labels_n: &Tensor) -> Tensor {
    logits_nk.cross_entropy_loss::<Tensor>(labels_n, None, Reduction::Sum, -100, 0.0)
}

fn output(logits_nk: &Tensor, loss: &Tensor, labels_n: &Tensor, forward_seconds: f64) -> ShardOutput {
    ShardOutput {
        loss_sum: loss.to_kind(Kind::Double),
        correct: logits_nk.argmax(-1, false).eq_tensor(labels_n).sum(Kind::Int64),
        probabilities_nk: None,
        forward_seconds,
    }
}
