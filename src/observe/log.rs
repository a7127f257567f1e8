//! The event log as a run's findings see it: in the order of time, secured before a checkpoint, closed at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Record, scalar};
use crate::eventlog::{Entry, Sink, Tally, What};
use crate::train::Logger;
use crate::types::{Clock, Run, Step, WallTime};

/// Between two warnings that the log is not on the disk.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Log of observations: stamps them with the time and hands them to the event log.
pub struct Log {
    sink: Box<dyn Sink>,
    clock: Arc<dyn Clock>,
    latest: BTreeMap<Run, WallTime>,
    /// Time of the last warning that the log could not be synced.
    told: Option<Instant>,
}

/// A log that takes nothing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Entries that could not be written.
    pub lost_entries: u64,
    /// Bytes written of each kind.
    pub bytes: Tally,
}

impl Log {
    pub fn new(sink: impl Sink + 'static, clock: Arc<dyn Clock>) -> Log {
        Log { sink: Box::new(sink), clock, latest: BTreeMap::new(), told: None }
    }

    /// Share of observers in the time of the whole run, known after the last observation.
    pub fn push_share(&mut self, iterations: u64, share: f64) {
        let description = "Share of the time of all training steps and observers that observers took, 0 to 1: what \
                           watching cost this run, the last epoch's pictures included.";
        let value = scalar("time/observers_of_run", share, description.to_owned());
        self.write(Run::Steps, Step::new(iterations).unwrap_or(Step::MAX), What::Values(vec![value]));
    }

    /// Entries that could not be written so far.
    pub fn lost_entries(&self) -> u64 {
        self.sink.lost()
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> Tally {
        self.sink.tally()
    }

    /// Lets what was told be on its way to the disk. Whether it gets there, [`secure`](Log::secure) says.
    pub fn begin_to_secure(&mut self) {
        self.sink.begin_sync();
    }

    /// Brings all that was told to the disk, and says in the curves over `step`, the steps done, what was lost.
    pub fn secure(&mut self, step: Step) {
        let lost = self.lost_entries();
        if lost > 0 {
            let description = "Entries of the event log that could not be written in this process, as the disk was full or \
                               failed, or somebody removed what held them: points that are missing here and in other curves.";
            let value = scalar("event_log/lost_entries", lost as f64, description.to_owned());
            self.write(Run::Steps, step, What::Values(vec![value]));
        }
        if let Err(error) = self.sink.sync()
            && self.told.is_none_or(|at| at.elapsed() >= TELL_EVERY)
        {
            self.told = Some(Instant::now());
            tracing::warn!("{error}");
        }
    }

    /// Closes the log and says what became of it.
    pub fn close(mut self) -> Closed {
        // On disk before a result says that the run is finished: a power cut must not leave one without its curves.
        let synced = self.sink.sync();
        // Whatever came of that: only the close knows what is lost for good.
        if let Err(error) = self.sink.close().and(synced) {
            tracing::warn!("{error}");
        }
        Closed { lost_entries: self.sink.lost(), bytes: self.sink.tally() }
    }

    fn write(&mut self, run: Run, step: Step, what: What) {
        let wall_time = self.now(run);
        let entry = Entry { run, wall_time, step, what };
        // Training does not stop for its log. The sink counts what it loses and the end of the run reports it.
        if let Err(error) = self.sink.write(entry) {
            tracing::warn!("{error}");
        }
    }

    /// The time, or that of the run's last entry if the clock was set back since: TensorBoard's relative and wall-time
    /// axes would draw the curve backwards.
    fn now(&mut self, run: Run) -> WallTime {
        let now = self.clock.now();
        let latest = self.latest.entry(run).or_insert(now);
        if now > *latest {
            *latest = now;
        }
        *latest
    }
}

impl Logger for Log {
    type Record = Record;

    fn take(&mut self, said: Record) {
        for (run, step, what) in said {
            self.write(run, step, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::eventlog::{Memory, Value};
    use crate::types::Tag;

    /// Says what it is told to, last time first.
    struct Scripted(Mutex<Vec<f64>>);

    impl Clock for Scripted {
        fn now(&self) -> WallTime {
            WallTime::from_secs(self.0.lock().unwrap().pop().unwrap()).unwrap()
        }
    }

    #[test]
    fn times_of_a_run_do_not_go_back_when_the_clock_does() {
        let memory = Memory::default();
        let clock = Scripted(Mutex::new(vec![12.0, 8.0, 7.0, 9.0, 10.0]));
        let mut log = Log::new(memory.clone(), Arc::new(clock));
        for run in [Run::Train, Run::Train, Run::Steps, Run::Train, Run::Train] {
            let mut findings = Record::default();
            findings.push(run, Step::ZERO, vec![Value::scalar(Tag::of("loss"), 0.5)]);
            log.take(findings);
        }
        let times: Vec<f64> = memory.entries().iter().map(|entry| entry.wall_time.as_secs()).collect();
        assert_eq!(times, [10.0, 10.0, 7.0, 10.0, 12.0]);
    }
}
