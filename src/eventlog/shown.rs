//! The points of a run that TensorBoard shows: those that no later point and no later session takes back.
//!
//! TensorBoard has two loaders with a rule each. The data server, its default, drops all points of a tag from a step on
//! as soon as another point of that step comes. The loader in Python drops all points of a run from a step on when a
//! session starts there (`SessionLog START`), but for the first session. A point counts as shown if it is left by both,
//! so what a killed process wrote behind its last checkpoint is not, and the latest session wins. (The Python loader's
//! rule for files without `file_version` drops nothing that the data server keeps.)
//!
//! Behind a record with the right checksums whose payload is no event both read no more of the file. The data server goes on
//! with the other files, and so does this; the loader in Python ends for all runs with a `DecodeError`, and what it has not
//! read by then depends on their order. A field of a wire type that is not its own is such a payload to the data server, and
//! unknown and passed over to the loader in Python: TensorBoard's default, the data server, is followed.

use super::proto::Event;
use super::proto::event::What;
use super::proto::session_log::SessionStatus;

/// The version of event files whose sessions say where they start.
const SESSIONS: f64 = 2.0;

/// Sessions that the event files of one run have started so far.
#[derive(Debug, Default)]
pub struct Sessions {
    version: Option<f64>,
    has_started: bool,
}

impl Sessions {
    /// The step from which `event` takes back the earlier points of all tags, if it does.
    pub fn restart(&mut self, event: &Event) -> Option<i64> {
        match &event.what {
            Some(What::FileVersion(version)) => {
                let number = version.rsplit("brain.Event:").next().unwrap_or_default();
                self.version = Some(number.trim().parse().unwrap_or(-1.0));
                None
            }
            Some(What::SessionLog(log)) if log.status() == SessionStatus::Start && self.version >= Some(SESSIONS) => {
                let has_started = std::mem::replace(&mut self.has_started, true);
                has_started.then_some(event.step)
            }
            _ => None,
        }
    }
}

/// TensorBoard's treatment of an event, by its wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    Read,
    /// The data server leaves out the event.
    LeftOut,
    /// The data server reads nothing more of the file.
    LastOfFile,
}

impl Reception {
    pub fn of(wall_time: f64) -> Reception {
        match wall_time {
            time if time.is_nan() => Reception::LastOfFile,
            time if time.is_infinite() => Reception::LeftOut,
            _ => Reception::Read,
        }
    }
}

/// Steps of a tag that are shown, in ascending order. Equal distances are kept as one stretch, so a series of a million
/// points takes a few bytes.
#[derive(Debug, Default)]
pub struct Steps {
    stretches: Vec<Stretch>,
}

#[derive(Debug)]
struct Stretch {
    first: i64,
    /// Zero as long as there is one step.
    distance: i128,
    count: u64,
}

impl Steps {
    /// A point of this step comes, is shown from now on, and takes back those of the same and of later steps.
    pub fn offer(&mut self, step: i64) {
        self.take_back(step);
        if let Some(last) = self.stretches.last_mut() {
            let distance = i128::from(step) - i128::from(last.first);
            if last.count == 1 {
                (last.distance, last.count) = (distance, 2);
                return;
            }
            if distance == last.distance * i128::from(last.count) {
                last.count += 1;
                return;
            }
        }
        self.stretches.push(Stretch { first: step, distance: 0, count: 1 });
    }

    /// Drops all steps from `step` on.
    pub fn take_back(&mut self, step: i64) {
        while let Some(last) = self.stretches.last_mut() {
            if last.first < step {
                if last.count > 1 {
                    let before = (i128::from(step) - 1 - i128::from(last.first)) / last.distance + 1;
                    last.count = last.count.min(u64::try_from(before).unwrap_or(u64::MAX));
                }
                return;
            }
            self.stretches.pop();
        }
    }

    /// The largest step.
    pub fn last(&self) -> Option<i64> {
        let last = self.stretches.last()?;
        let step = i128::from(last.first) + last.distance * i128::from(last.count - 1);
        i64::try_from(step).ok()
    }

    pub fn count(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::eventlog::proto::SessionLog;

    fn shown(steps: &[i64]) -> u64 {
        let mut all = Steps::default();
        steps.iter().for_each(|&step| all.offer(step));
        all.count()
    }

    #[test]
    fn a_point_takes_back_those_that_are_not_before_it() {
        assert_eq!(shown(&[0, 10, 20, 15, 30]), 4);
        assert_eq!(shown(&[0, 0, 0]), 1);
        assert_eq!(shown(&[5, 4, 3]), 1);
        assert_eq!(shown(&[i64::MIN, 0, i64::MAX, i64::MAX]), 3);
        assert_eq!(shown(&[]), 0);
    }

    #[test]
    fn a_long_series_takes_little_memory() {
        let mut all = Steps::default();
        (0..100_000).for_each(|step| all.offer(10 * step));
        all.take_back(500_001);
        assert_eq!((all.count(), all.stretches.len()), (50_001, 1));
    }

    proptest! {
        /// As a list of single steps would have it.
        #[test]
        fn stretches_are_steps(moves in prop::collection::vec((any::<bool>(), -20i64..20), 0..60)) {
            let (mut all, mut plain) = (Steps::default(), Vec::new());
            for (is_point, step) in moves {
                plain.retain(|&earlier| earlier < step);
                if is_point {
                    all.offer(step);
                    plain.push(step);
                } else {
                    all.take_back(step);
                }
                prop_assert_eq!((all.count(), all.last()), (plain.len() as u64, plain.last().copied()));
            }
        }
    }

    fn event(step: i64, what: What) -> Event {
        Event { step, what: Some(what), ..Event::default() }
    }

    fn start(step: i64) -> Event {
        event(step, What::SessionLog(SessionLog { status: SessionStatus::Start.into(), ..SessionLog::default() }))
    }

    fn version(text: &str) -> Event {
        event(0, What::FileVersion(text.to_owned()))
    }

    #[test]
    fn every_session_but_the_first_takes_back() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.restart(&version("brain.Event:2")), None);
        assert_eq!(sessions.restart(&start(3)), None);
        assert_eq!(sessions.restart(&version("brain.Event:2")), None);
        assert_eq!(sessions.restart(&start(5)), Some(5));
        assert_eq!(sessions.restart(&start(0)), Some(0));
        let stop = SessionLog { status: SessionStatus::Stop.into(), ..SessionLog::default() };
        assert_eq!(sessions.restart(&event(0, What::SessionLog(stop))), None);
    }

    #[test]
    fn files_without_sessions_have_none() {
        for text in ["brain.Event:1", "1", "x", ""] {
            let mut sessions = Sessions::default();
            sessions.restart(&version(text));
            assert_eq!((sessions.restart(&start(3)), sessions.restart(&start(3))), (None, None), "{text}");
        }
        let mut sessions = Sessions::default();
        assert_eq!((sessions.restart(&start(3)), sessions.restart(&start(3))), (None, None));
        // Only what comes after the version counts.
        sessions.restart(&version("brain.Event:2"));
        assert_eq!((sessions.restart(&start(4)), sessions.restart(&start(5))), (None, Some(5)));
    }

    #[test]
    fn a_wall_time_that_is_no_number_ends_the_file() {
        assert_eq!(Reception::of(1.5), Reception::Read);
        assert_eq!(Reception::of(f64::NEG_INFINITY), Reception::LeftOut);
        assert_eq!(Reception::of(f64::NAN), Reception::LastOfFile);
    }
}
