//! Threads that share the parts of a step. They decide who computes a part, never what comes out.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// A thread of the pool is gone, which only a panic in it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a training thread has stopped unexpectedly: this is a bug, and its message stands above")]
pub struct WorkerLost;

const LEAST_SHARE: usize = 1 << 13;

/// Threads, the calling one among them.
pub(super) struct Pool {
    /// None where the calling thread is the only one.
    others: Option<rayon::ThreadPool>,
}

impl Pool {
    /// `threads` of them, at least 1; those that are started have a name that begins with `name`.
    pub fn start(threads: usize, name: &'static str) -> std::io::Result<Pool> {
        single_threaded();
        if threads <= 1 {
            return Ok(Pool { others: None });
        }
        let others = rayon::ThreadPoolBuilder::new()
            .num_threads(threads - 1)
            .thread_name(move |number| format!("{name}-{}", number + 1))
            .start_handler(|_| single_threaded())
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Pool { others: Some(others) })
    }

    pub fn threads(&self) -> usize {
        self.others.as_ref().map_or(1, |others| others.current_num_threads() + 1)
    }

    /// Number of values for each thread if all share `len` of them. Few values are not worth waking another thread.
    pub fn share(&self, len: usize) -> usize {
        len.div_ceil(self.threads()).max(LEAST_SHARE)
    }

    /// Does `work` on every part, on as many threads as there are, and comes back when all is done.
    pub fn each<T: Send>(&self, parts: &mut [T], work: impl Fn(&mut T) + Sync) -> Result<(), WorkerLost> {
        let all = || match (&self.others, parts.split_first_mut()) {
            (_, None) => {}
            (Some(others), Some((own, parts))) if !parts.is_empty() => others.in_place_scope(|scope| {
                for part in parts {
                    let work = &work;
                    scope.spawn(move |_| work(part));
                }
                work(own);
            }),
            (_, Some((own, parts))) => {
                work(own);
                parts.iter_mut().for_each(work);
            }
        };
        catch_unwind(AssertUnwindSafe(all)).map_err(|_| WorkerLost)
    }
}

/// The setting is a thread's own. Two threads inside each of libtorch's operators would be slower than two parts side by
/// side, and would change the order of sums.
pub(super) fn single_threaded() {
    tch::set_num_threads(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::start(threads, "test").unwrap();
            assert_eq!(pool.threads(), threads);
            for count in [0, 1, 7] {
                let mut parts = vec![1; count];
                pool.each(&mut parts, |part| *part += 1).unwrap();
                assert_eq!(parts, vec![2; count]);
            }
        }
    }

    #[test]
    fn a_panic_is_told_and_nobody_waits_for_ever() {
        for threads in [1, 3] {
            let pool = Pool::start(threads, "test").unwrap();
            let lost = pool.each(&mut [0, 1, 2], |part| assert_ne!(*part, 2, "on purpose"));
            assert_eq!(lost, Err(WorkerLost));
            assert_eq!(pool.each(&mut [0, 1], |_| ()), Ok(()));
        }
    }
}
