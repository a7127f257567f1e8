//! A sink on a thread of its own, so that encoding and writing do not hold up training; what takes long to encode, pictures
//! and snapshots for the Projector, is encoded side by side on threads of their own. All files are written by the one thread.
//!
//! 1. Order is kept.
//! 2. What was written is flushed at least every second, without being asked.
//! 3. The queue is bounded by entries and by bytes. When it is full, `write` waits; nothing is dropped.
//! 4. An error is told by the next `write` (at most one a minute), `flush`, `sync` or `close`, and says how many
//!    entries were lost. The entry that such a `write` was given is in the queue all the same.
//!    If the thread has ended before it was told to, all that was queued is lost, and each `flush`, `sync` and the
//!    `close` say so.
//! 5. Dropping it closes it: all that is queued is written first.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rayon::iter::{IntoParallelRefIterator, IntoParallelRefMutIterator, ParallelIterator};

use super::event::What;
use super::sink::{Cause, Entry, Sink, SinkError};
use super::tally::Tally;

/// Time for which the thread lets entries gather. Waking it for each one would cost the training thread a system call, and
/// a processor.
const GATHER: Duration = Duration::from_millis(50);
/// Maximum number of gathered entries.
const GATHERED: usize = 4096;
/// Bytes of finished entries that are told at once: who waits for room need not wait for all that the thread has taken.
const TOLD: usize = 1 << 20;

/// Bytes of pictures that are put in files together, roughly: those of an epoch, so that threads end together, though a film
/// takes one of them long. What was logged before and after waits for them.
const ENCODED: usize = 32 << 20;
/// Threads that encode, if nobody says how many: they are not the only ones that have work.
const MOST_ENCODERS: usize = 4;

/// Hands entries to another sink, on another thread.
#[derive(Debug)]
pub struct Background {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    limits: Limits,
    told: Option<Instant>,
}

/// Limits of the queue.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries in the queue.
    pub entries: usize,
    /// Bytes of the entries in the queue and in work, roughly. One entry alone may be larger.
    pub bytes: usize,
    /// Between a write and its flush.
    pub flush_every: Duration,
    /// Between two errors that `write` tells.
    pub tell_every: Duration,
    /// Threads that encode pictures and snapshots, where there is work for two; with 1 it is the log's own.
    pub encoders: usize,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is work for the thread.
    work: Condvar,
    /// There is room, a barrier is passed, or the thread has ended.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The thread takes all at once, and leaves an empty queue that has been used before.
    items: VecDeque<Item>,
    bytes: usize,
    /// Entries that the thread has taken and not yet finished.
    in_work: u64,
    /// The thread sleeps until there are so many items; 0 while it is awake.
    wake_at: usize,
    /// Somebody waits, or is going to: do not let entries gather.
    urgent: bool,
    /// Number of threads that wait for progress. A notification is a system call, needed or not.
    waiting: usize,
    barriers_passed: u64,
    barriers_set: u64,
    ended: bool,
    /// It has ended without having been told to close.
    stopped: bool,
    error: Option<SinkError>,
    lost: u64,
    tally: Tally,
}

#[derive(Debug)]
enum Item {
    /// With its size.
    Entry(Entry, usize),
    Barrier(Barrier),
}

/// Request to the thread, served after all entries before it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Barrier {
    Flush,
    Sync,
    Close,
}

impl Default for Limits {
    fn default() -> Limits {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let encoders = thread::available_parallelism().map_or(1, usize::from).min(MOST_ENCODERS);
        Limits { entries: 1 << 14, bytes: 64 << 20, flush_every: second, tell_every: minute, encoders }
    }
}

impl Background {
    /// Starts the thread, which owns `sink` from then on.
    pub fn spawn(sink: impl Sink + Send + 'static, limits: Limits) -> Result<Background, SinkError> {
        let shared = Arc::new(Shared::default());
        let encoders = Encoders { threads: limits.encoders, pool: None };
        let worker =
            Worker { shared: Arc::clone(&shared), sink, flush_every: limits.flush_every, dirty: None, encoders };
        let thread = thread::Builder::new()
            .name("event-log".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| SinkError::new(0, Cause::Spawn(error)))?;
        Ok(Background { shared, thread: Some(thread), limits, told: None })
    }

    /// Puts a barrier behind everything queued so far, for the thread to pass without letting more gather.
    fn set(&self, queue: &mut Queue, barrier: Barrier) {
        queue.barriers_set += 1;
        queue.items.push_back(Item::Barrier(barrier));
        queue.urgent = true;
        self.shared.work.notify_one();
    }

    /// Waits until everything queued so far is through, and tells what went wrong until then.
    fn pass(&mut self, barrier: Barrier) -> Result<(), SinkError> {
        let mut queue = self.shared.lock();
        if !queue.ended {
            self.set(&mut queue, barrier);
            let mine = queue.barriers_set;
            while queue.barriers_passed < mine && !queue.ended {
                queue = self.shared.wait(queue);
            }
        }
        if queue.stopped {
            queue.lose(0, Cause::Stopped);
        }
        self.told = None;
        queue.error.take().map_or(Ok(()), Err)
    }
}

impl Sink for Background {
    fn write(&mut self, entry: Entry) -> Result<(), SinkError> {
        let size = entry.size();
        let mut queue = self.shared.lock();
        while !queue.ended && !queue.has_room(size, &self.limits) {
            queue.urgent = true;
            self.shared.work.notify_one();
            queue = self.shared.wait(queue);
        }
        if queue.ended {
            let cause = if queue.stopped { Cause::Stopped } else { Cause::Closed };
            queue.lose(1, cause);
        } else {
            queue.bytes += size;
            queue.items.push_back(Item::Entry(entry, size));
            if queue.wake_at > 0 && queue.items.len() >= queue.wake_at {
                queue.wake_at = 0;
                self.shared.work.notify_one();
            }
        }
        if queue.error.is_some() && self.told.is_none_or(|at| at.elapsed() >= self.limits.tell_every) {
            self.told = Some(Instant::now());
            return queue.error.take().map_or(Ok(()), Err);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.pass(Barrier::Flush)
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        self.pass(Barrier::Sync)
    }

    fn begin_sync(&mut self) {
        let mut queue = self.shared.lock();
        if !queue.ended {
            self.set(&mut queue, Barrier::Sync);
        }
    }

    fn close(&mut self) -> Result<(), SinkError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let result = self.pass(Barrier::Close);
        // A panic there shows as `Stopped` here.
        let _ = thread.join();
        result
    }

    fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    fn tally(&self) -> Tally {
        self.shared.lock().tally
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!("{error}");
        }
    }
}

impl Shared {
    // A panic while the lock is held cannot leave the queue half changed, so poison means nothing.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        queue.waiting += 1;
        let mut queue = self.progress.wait(queue).unwrap_or_else(PoisonError::into_inner);
        queue.waiting -= 1;
        queue
    }

    fn tell(&self, queue: MutexGuard<'_, Queue>) {
        let waiting = queue.waiting;
        drop(queue);
        if waiting > 0 {
            self.progress.notify_all();
        }
    }

    /// Exchanges the items for the empty `batch` as soon as there are some; it stays empty if nothing came until
    /// `until`.
    fn take(&self, batch: &mut VecDeque<Item>, until: Option<Instant>) {
        let mut queue = self.lock();
        let mut gathered = false;
        loop {
            let timeout = if queue.items.is_empty() {
                queue.wake_at = 1;
                match until.map(|until| until.saturating_duration_since(Instant::now())) {
                    Some(Duration::ZERO) => break,
                    timeout => timeout,
                }
            } else if queue.items.len() < GATHERED && !queue.urgent && !gathered {
                queue.wake_at = GATHERED;
                gathered = true;
                Some(GATHER)
            } else {
                break;
            };
            queue = match timeout {
                Some(timeout) => self.work.wait_timeout(queue, timeout).unwrap_or_else(PoisonError::into_inner).0,
                None => self.work.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
        queue.wake_at = 0;
        queue.urgent = false;
        std::mem::swap(&mut queue.items, batch);
        // All barriers that are not passed yet are in the batch.
        queue.in_work = batch.len() as u64 - (queue.barriers_set - queue.barriers_passed);
        self.tell(queue);
    }
}

impl Queue {
    fn has_room(&self, size: usize, limits: &Limits) -> bool {
        self.items.len() < limits.entries.max(1) && (self.bytes == 0 || self.bytes + size <= limits.bytes)
    }

    fn lose(&mut self, entries: u64, cause: Cause) {
        self.lost += entries;
        SinkError::add(&mut self.error, SinkError::new(entries, cause));
    }

    /// Nobody will write what is queued or in work any more.
    fn stop(&mut self) {
        let queued = self.items.drain(..).filter(|item| matches!(item, Item::Entry(..))).count() as u64;
        let lost = queued + std::mem::take(&mut self.in_work);
        self.bytes = 0;
        self.stopped = true;
        self.lose(lost, Cause::Stopped);
    }
}

/// The thread's side.
struct Worker<S> {
    shared: Arc<Shared>,
    sink: S,
    flush_every: Duration,
    /// Time of the first write that is not flushed yet.
    dirty: Option<Instant>,
    encoders: Encoders,
}

/// Threads that encode. They are started when there is work for two.
struct Encoders {
    threads: usize,
    pool: Option<rayon::ThreadPool>,
}

impl Encoders {
    /// Encodes what takes long of the first items, if that is worth more than one thread, and says how many items those are;
    /// what is left is up to the sink.
    fn encode(&mut self, items: &mut VecDeque<Item>) -> usize {
        if self.threads < 2 {
            return items.len();
        }
        let (mut seen, mut jobs, mut bytes) = (0, 0, 0);
        let (mut values, mut snapshots) = (Vec::new(), Vec::new());
        for item in items {
            if bytes >= ENCODED {
                break;
            }
            seen += 1;
            let Item::Entry(entry, _) = item else { continue };
            if let What::Embeddings(embeddings) = &entry.what {
                // Two texts, and perhaps a picture.
                jobs += 2;
                bytes += embeddings.size();
                snapshots.push(Arc::clone(embeddings));
            }
            for value in entry.what.values_mut().iter_mut().filter(|value| value.pictures() > 0) {
                jobs += value.pictures();
                bytes += value.size();
                values.push(value);
            }
        }
        if jobs < 2 {
            return seen;
        }
        if let Some(pool) = self.pool() {
            let snapshots = || snapshots.par_iter().for_each(|embeddings| embeddings.make());
            let values = || values.par_iter_mut().for_each(|value| value.encode_pictures());
            pool.install(|| rayon::join(snapshots, values));
        }
        seen
    }

    /// None where no thread can be had: the log's own does it all.
    fn pool(&mut self) -> Option<&rayon::ThreadPool> {
        if self.pool.is_none() {
            let name = |number| format!("encode-{}", number + 1);
            self.pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).thread_name(name).build().ok();
        }
        self.pool.as_ref()
    }
}

/// Work finished since the last report.
#[derive(Default)]
struct Done {
    entries: u64,
    bytes: usize,
}

impl<S: Sink> Worker<S> {
    fn run(mut self) {
        /// Lets the other side go on, also after a panic.
        struct End {
            shared: Arc<Shared>,
            closed: bool,
        }
        impl Drop for End {
            fn drop(&mut self) {
                let mut queue = self.shared.lock();
                if !self.closed {
                    queue.stop();
                }
                queue.ended = true;
                drop(queue);
                self.shared.progress.notify_all();
            }
        }
        let mut end = End { shared: Arc::clone(&self.shared), closed: false };

        let mut batch = VecDeque::new();
        loop {
            self.shared.take(&mut batch, self.dirty.map(|since| since + self.flush_every));
            let mut done = Done::default();
            let mut errors = None;
            let mut encoded = 0;
            loop {
                if encoded == 0 {
                    encoded = self.encoders.encode(&mut batch);
                }
                let Some(item) = batch.pop_front() else { break };
                encoded -= 1;
                match item {
                    Item::Entry(entry, size) => {
                        done.entries += 1;
                        done.bytes += size;
                        self.dirty.get_or_insert_with(Instant::now);
                        if let Err(error) = self.sink.write(entry) {
                            SinkError::add(&mut errors, error);
                        }
                        if done.bytes >= TOLD {
                            self.report(&std::mem::take(&mut done), errors.take(), false);
                        }
                    }
                    Item::Barrier(barrier) => {
                        let result = match barrier {
                            Barrier::Flush => self.sink.flush(),
                            Barrier::Sync => self.sink.sync(),
                            Barrier::Close => self.sink.close(),
                        };
                        self.flushed(result, &mut errors);
                        self.report(&std::mem::take(&mut done), errors.take(), true);
                        if barrier == Barrier::Close {
                            end.closed = true;
                            return;
                        }
                    }
                }
            }
            if self.dirty.is_some_and(|since| since.elapsed() >= self.flush_every) {
                let result = self.sink.flush();
                self.flushed(result, &mut errors);
            }
            self.report(&done, errors, false);
        }
    }

    fn flushed(&mut self, result: Result<(), SinkError>, errors: &mut Option<SinkError>) {
        self.dirty = None;
        if let Err(error) = result {
            SinkError::add(errors, error);
            // It may work the next time, and nobody else will ask.
            self.dirty = Some(Instant::now());
        }
    }

    fn report(&self, done: &Done, errors: Option<SinkError>, passed: bool) {
        let mut queue = self.shared.lock();
        queue.bytes = queue.bytes.saturating_sub(done.bytes);
        queue.in_work = queue.in_work.saturating_sub(done.entries);
        queue.barriers_passed += u64::from(passed);
        queue.lost = self.sink.lost();
        queue.tally = self.sink.tally();
        if let Some(error) = errors {
            SinkError::add(&mut queue.error, error);
        }
        self.shared.tell(queue);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a gate in a test needs neither a bound nor a name")]
mod tests {
    use super::*;
    use crate::eventlog::animation::Animation;
    use crate::eventlog::event::What;
    use crate::eventlog::sink::Memory;
    use crate::eventlog::summary::Value;
    use crate::picture::Picture;
    use crate::types::{Run, Step, Tag, WallTime};

    fn entry(step: u64) -> Entry {
        Entry {
            run: Run::Steps,
            wall_time: WallTime::from_secs(1.0).unwrap(),
            step: Step::new(step).unwrap(),
            what: What::Values(vec![Value::scalar(Tag::of("loss"), 0.5)]),
        }
    }

    fn steps(memory: &Memory) -> Vec<u64> {
        memory.entries().iter().map(|entry| entry.step.get()).collect()
    }

    /// A sink that waits for a permit before each write, and does what it is told.
    struct Scripted {
        memory: Memory,
        flushes: Arc<Mutex<u64>>,
        gate: Option<std::sync::mpsc::Receiver<()>>,
        fail_at: Option<u64>,
        panic_at: Option<u64>,
        /// True if the first flush fails.
        clogged: bool,
        lost: u64,
    }

    impl Scripted {
        fn new(memory: &Memory) -> Scripted {
            let flushes = Arc::default();
            Scripted {
                memory: memory.clone(),
                flushes,
                gate: None,
                fail_at: None,
                panic_at: None,
                clogged: false,
                lost: 0,
            }
        }
    }

    impl Sink for Scripted {
        fn write(&mut self, entry: Entry) -> Result<(), SinkError> {
            if let Some(gate) = &self.gate {
                let _ = gate.recv();
            }
            assert_ne!(self.panic_at, Some(entry.step.get()), "as told");
            if self.fail_at == Some(entry.step.get()) {
                self.lost += 1;
                return Err(SinkError::new(1, Cause::Full { dir: "train".into(), bytes: 9 }));
            }
            self.memory.write(entry)
        }

        fn flush(&mut self) -> Result<(), SinkError> {
            *self.flushes.lock().unwrap() += 1;
            let clogged = std::mem::take(&mut self.clogged);
            if clogged { Err(SinkError::new(0, Cause::Full { dir: "train".into(), bytes: 9 })) } else { Ok(()) }
        }

        fn sync(&mut self) -> Result<(), SinkError> {
            self.flush()
        }

        fn close(&mut self) -> Result<(), SinkError> {
            self.flush()
        }

        fn lost(&self) -> u64 {
            self.lost
        }
    }

    #[test]
    fn order_is_kept_and_flush_waits_for_all() {
        let memory = Memory::default();
        let mut log = Background::spawn(memory.clone(), Limits::default()).unwrap();
        for step in 0..10_000 {
            log.write(entry(step)).unwrap();
        }
        log.flush().unwrap();
        assert_eq!(steps(&memory), (0..10_000).collect::<Vec<_>>());
        log.write(entry(10_000)).unwrap();
        log.close().unwrap();
        assert_eq!(steps(&memory).len(), 10_001);
        assert_eq!(log.write(entry(0)).unwrap_err().to_string(), "event log: 1 entry is lost: the log is closed");
    }

    fn wait_for(flushes: &Mutex<u64>, count: u64) {
        let began = Instant::now();
        while *flushes.lock().unwrap() < count {
            assert!(began.elapsed() < Duration::from_secs(10), "nothing was flushed");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_sync_that_was_begun_is_done_though_nobody_waits_for_it() {
        let memory = Memory::default();
        let scripted = Scripted::new(&memory);
        let flushes = Arc::clone(&scripted.flushes);
        // No flush of its own comes between.
        let limits = Limits { flush_every: Duration::from_secs(3600), ..Limits::default() };
        // As a run holds it.
        let mut log: Box<dyn Sink> = Box::new(Background::spawn(scripted, limits).unwrap());
        log.write(entry(1)).unwrap();
        log.begin_sync();
        wait_for(&flushes, 1);
        assert_eq!(steps(&memory), [1]);
        log.write(entry(2)).unwrap();
        log.sync().unwrap();
        assert_eq!((steps(&memory), *flushes.lock().unwrap()), (vec![1, 2], 2));
        log.begin_sync();
        log.close().unwrap();
        log.begin_sync();
    }

    #[test]
    fn an_error_of_a_sync_that_was_begun_is_told_by_the_next() {
        let memory = Memory::default();
        let sink = Scripted { clogged: true, ..Scripted::new(&memory) };
        let flushes = Arc::clone(&sink.flushes);
        let limits = Limits { flush_every: Duration::from_secs(3600), ..Limits::default() };
        let mut log = Background::spawn(sink, limits).unwrap();
        log.write(entry(1)).unwrap();
        log.begin_sync();
        wait_for(&flushes, 1);
        // Its own flush is the second one, which does not fail.
        let error = log.sync().unwrap_err();
        assert!(matches!(error.cause, Cause::Full { .. }), "{error}");
        log.sync().unwrap();
    }

    #[test]
    fn pictures_are_files_when_they_come_out_whoever_made_them() {
        let picture = |shade: u8| Picture::filled(5, 3, [shade, 0, 9]);
        let pictures = |shade: u8| Value::images(Tag::of("i"), vec![picture(shade), picture(shade + 1)]);
        let film = Value::animation(Tag::of("f"), Animation::new(vec![picture(1), picture(200)], 100).unwrap());
        let what = |step: u64| match step % 3 {
            0 => What::Value(pictures(step as u8)),
            1 => What::Values(vec![Value::scalar(Tag::of("loss"), 0.5), film.clone(), pictures(9)]),
            _ => What::Value(Value::scalar(Tag::of("loss"), step as f32)),
        };
        for encoders in [1, 3] {
            let memory = Memory::default();
            let limits = Limits { encoders, ..Limits::default() };
            let mut log = Background::spawn(memory.clone(), limits).unwrap();
            for step in 0..60 {
                log.write(Entry { what: what(step), ..entry(step) }).unwrap();
            }
            log.close().unwrap();
            assert_eq!(steps(&memory), (0..60).collect::<Vec<_>>());
            for mut entry in memory.entries() {
                let mut want = what(entry.step.get());
                let values = entry.what.values_mut().iter().zip(want.values_mut());
                for (value, want) in values {
                    assert_eq!(value.pictures() == 0, encoders > 1 || want.pictures() == 0);
                    assert_eq!(value.to_wire().unwrap(), want.to_wire().unwrap());
                }
            }
        }
    }

    #[test]
    fn dropping_writes_what_is_queued() {
        let memory = Memory::default();
        let mut log = Background::spawn(memory.clone(), Limits::default()).unwrap();
        log.write(entry(1)).unwrap();
        drop(log);
        assert_eq!(steps(&memory), [1]);
    }

    #[test]
    fn a_full_queue_makes_the_writer_wait() {
        let memory = Memory::default();
        for limits in [
            Limits { entries: 4, ..Limits::default() },
            Limits { bytes: 4 * entry(0).size(), ..Limits::default() },
            Limits { bytes: 0, ..Limits::default() },
        ] {
            let before = steps(&memory).len();
            let (permit, gate) = std::sync::mpsc::channel();
            let sink = Scripted { gate: Some(gate), ..Scripted::new(&memory) };
            let mut log = Background::spawn(sink, limits).unwrap();
            let writer = thread::spawn(move || {
                for step in 0..100 {
                    log.write(entry(step)).unwrap();
                }
                log.close().unwrap();
            });
            thread::sleep(Duration::from_millis(20));
            assert!(!writer.is_finished());
            for _ in 0..100 {
                permit.send(()).unwrap();
            }
            writer.join().unwrap();
            assert_eq!(steps(&memory)[before..], (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_was_written_is_flushed_unasked() {
        let memory = Memory::default();
        let sink = Scripted::new(&memory);
        let flushes = Arc::clone(&sink.flushes);
        let limits = Limits { flush_every: Duration::from_millis(20), ..Limits::default() };
        let mut log = Background::spawn(sink, limits).unwrap();
        log.write(entry(1)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while *flushes.lock().unwrap() == 0 {
            assert!(Instant::now() < deadline, "not flushed");
            thread::sleep(Duration::from_millis(5));
        }
        // Nothing new: nothing to flush.
        thread::sleep(Duration::from_millis(60));
        assert_eq!(*flushes.lock().unwrap(), 1);
    }

    #[test]
    fn an_error_is_told_once_and_writing_goes_on() {
        let memory = Memory::default();
        let mut log =
            Background::spawn(Scripted { fail_at: Some(1), ..Scripted::new(&memory) }, Limits::default()).unwrap();
        log.write(entry(0)).unwrap();
        log.write(entry(1)).unwrap();
        let error = log.flush().unwrap_err().to_string();
        assert_eq!(
            error,
            "event log: 1 entry is lost: train cannot be written, and the events that wait take 9 bytes already"
        );
        log.write(entry(2)).unwrap();
        log.close().unwrap();
        assert_eq!((steps(&memory), log.lost()), (vec![0, 2], 1));
    }

    /// A log whose sink panics at the second of two entries, as soon as two permits are sent.
    fn panicking() -> (Background, std::sync::mpsc::Sender<()>) {
        let (permit, gate) = std::sync::mpsc::channel();
        let sink = Scripted { panic_at: Some(1), gate: Some(gate), ..Scripted::new(&Memory::default()) };
        let mut log = Background::spawn(sink, Limits::default()).unwrap();
        log.write(entry(0)).unwrap();
        log.write(entry(1)).unwrap();
        (log, permit)
    }

    fn permit_two(permit: &std::sync::mpsc::Sender<()>) {
        permit.send(()).unwrap();
        permit.send(()).unwrap();
    }

    fn wait_for_the_end(log: &Background) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !log.shared.lock().ended {
            assert!(Instant::now() < deadline, "the thread goes on");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Guarantees after the first error, whichever call returned it.
    fn is_dead(mut log: Background, first: &SinkError) {
        assert!(first.to_string().ends_with(" lost: the thread that writes the log has ended too early"), "{first}");
        // The number of entries in work depends on the moment; each unwritten one is counted at least once.
        assert!((1..=2).contains(&first.lost), "{first}");
        assert_eq!(log.lost(), first.lost);
        for _ in 0..5 {
            assert_eq!(
                log.flush().unwrap_err().to_string(),
                "event log: the thread that writes the log has ended too early"
            );
        }
        // At most one of many writes tells; what the others lose is told by the close.
        let told: Vec<u64> = (2..12).filter_map(|step| log.write(entry(step)).err()).map(|error| error.lost).collect();
        assert_eq!(told, [1]);
        assert_eq!(log.close().unwrap_err().lost, 9);
        assert_eq!(log.lost(), first.lost + 10);
    }

    #[test]
    fn a_sink_that_panics_while_somebody_waits_is_told() {
        let (mut log, permit) = panicking();
        let later = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            permit_two(&permit);
        });
        let first = log.flush().unwrap_err();
        later.join().unwrap();
        is_dead(log, &first);
    }

    #[test]
    fn a_sink_that_panicked_before_anybody_asked_is_told() {
        for barrier in [Barrier::Flush, Barrier::Sync] {
            let (mut log, permit) = panicking();
            permit_two(&permit);
            wait_for_the_end(&log);
            assert!(log.lost() > 0);
            let first = log.pass(barrier).unwrap_err();
            is_dead(log, &first);
        }
        let (mut log, permit) = panicking();
        permit_two(&permit);
        wait_for_the_end(&log);
        let error = log.close().unwrap_err();
        assert_eq!(log.lost(), error.lost);
        assert!((1..=2).contains(&error.lost), "{error}");
    }
}
