//! Schedule of an observer: at the start, after some steps, after some epochs.

use std::num::NonZeroU64;
use std::str::FromStr;

/// A set of moments in a run. Epochs count from 0, as the steps in TensorBoard do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trigger {
    start: bool,
    every_steps: Option<NonZeroU64>,
    every_epochs: Option<NonZeroU64>,
    at_epochs: Vec<u64>,
    last_epoch: bool,
}

impl Trigger {
    pub fn never() -> Trigger {
        Trigger::default()
    }

    /// Before the first step.
    pub fn start() -> Trigger {
        Trigger { start: true, ..Trigger::default() }
    }

    /// After every `n`-th step; never when `n` is 0.
    pub fn every_steps(n: u64) -> Trigger {
        Trigger { every_steps: NonZeroU64::new(n), ..Trigger::default() }
    }

    /// After epochs number 0, `n`, 2`n`, ...; never when `n` is 0.
    pub fn every_epochs(n: u64) -> Trigger {
        Trigger { every_epochs: NonZeroU64::new(n), ..Trigger::default() }
    }

    /// After each of these epochs, and after the last one of the run if `last`.
    pub fn at_epochs(epochs: Vec<u64>, last: bool) -> Trigger {
        Trigger { at_epochs: epochs, last_epoch: last, ..Trigger::default() }
    }

    /// At the moments of both.
    #[must_use]
    pub fn or(mut self, other: Trigger) -> Trigger {
        self.start |= other.start;
        self.every_steps = self.every_steps.or(other.every_steps);
        self.every_epochs = self.every_epochs.or(other.every_epochs);
        self.at_epochs.extend(other.at_epochs);
        self.last_epoch |= other.last_epoch;
        self
    }

    pub fn is_never(&self) -> bool {
        *self == Trigger::never()
    }

    /// Whether it names steps, between epochs.
    pub fn counts_steps(&self) -> bool {
        self.every_steps.is_some()
    }

    pub fn fires_at_start(&self) -> bool {
        self.start
    }

    /// `iterations` counts the step that has just been done, so it is 1 after the first.
    pub fn fires_after_step(&self, iterations: u64) -> bool {
        self.every_steps.is_some_and(|n| iterations.is_multiple_of(n.get()))
    }

    /// Whether it fires after any epoch of a run that has `epochs` in all.
    pub fn fires_within(&self, epochs: u64) -> bool {
        let named = self.at_epochs.iter().any(|&epoch| epoch < epochs);
        named || epochs > 0 && (self.every_epochs.is_some() || self.last_epoch)
    }

    /// `epochs` is how many the run has in all.
    pub fn fires_after_epoch(&self, epoch: u64, epochs: u64) -> bool {
        self.every_epochs.is_some_and(|n| epoch.is_multiple_of(n.get()))
            || self.at_epochs.contains(&epoch)
            || self.last_epoch && epoch + 1 >= epochs
    }
}

/// What a text must be to be a trigger.
pub const WANTED: &str = "`off`, `start`, `every:Nepochs`, `every:Nsteps`, or `at:N,...,last` with epochs from 0";

impl FromStr for Trigger {
    type Err = ();

    /// `off`, `start`, `every:2epochs`, `every:50steps`, `at:0,4,last`.
    fn from_str(text: &str) -> Result<Trigger, ()> {
        if let Some(rest) = text.strip_prefix("every:") {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (count, unit) = rest.split_at(digits);
            let count = count.parse::<NonZeroU64>().map_err(|_| ())?;
            return match unit {
                "epoch" | "epochs" => Ok(Trigger::every_epochs(count.get())),
                "step" | "steps" => Ok(Trigger::every_steps(count.get())),
                _ => Err(()),
            };
        }
        if let Some(rest) = text.strip_prefix("at:") {
            let mut trigger = Trigger::default();
            for epoch in rest.split(',') {
                match epoch {
                    "last" => trigger.last_epoch = true,
                    number => trigger.at_epochs.push(number.parse().map_err(|_| ())?),
                }
            }
            return Ok(trigger);
        }
        match text {
            "off" => Ok(Trigger::never()),
            "start" => Ok(Trigger::start()),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(text: &str) -> Vec<u64> {
        let trigger: Trigger = text.parse().unwrap();
        (0..6).filter(|&epoch| trigger.fires_after_epoch(epoch, 6)).collect()
    }

    #[test]
    fn a_text_names_moments() {
        assert_eq!(epochs("every:1epoch"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(epochs("every:2epochs"), [0, 2, 4]);
        assert_eq!(epochs("at:0,4"), [0, 4]);
        assert_eq!(epochs("at:1,last"), [1, 5]);
        assert_eq!(epochs("at:last"), [5]);
        assert!(epochs("every:50steps").is_empty() && epochs("off").is_empty() && epochs("start").is_empty());
        let steps: Trigger = "every:50steps".parse().unwrap();
        assert!(steps.fires_after_step(100) && !steps.fires_after_step(49) && steps.counts_steps());
        assert!("start".parse::<Trigger>().unwrap().fires_at_start());
        assert!("off".parse::<Trigger>().unwrap().is_never());
    }

    #[test]
    fn what_fires_within_a_run_fires_after_one_of_its_epochs() {
        for text in ["off", "start", "every:3steps", "every:7epochs", "at:last", "at:2", "at:5,3", "at:9,0"] {
            let trigger: Trigger = text.parse().unwrap();
            for epochs in 0..12 {
                let any = (0..epochs).any(|epoch| trigger.fires_after_epoch(epoch, epochs));
                assert_eq!(trigger.fires_within(epochs), any, "{text} in {epochs} epochs");
            }
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "every:",
            "every:0epochs",
            "every:2",
            "every:-1steps",
            "every:1.5epochs",
            "at:",
            "at:x",
            "at:1,",
            "at:99999999999999999999",
            "always",
            "Every:1epoch",
            "every: 1epoch",
        ] {
            assert_eq!(text.parse::<Trigger>(), Err(()), "{text}");
        }
    }

    #[test]
    fn two_triggers_fire_at_the_moments_of_both() {
        let both = Trigger::every_epochs(3).or(Trigger::every_steps(10)).or(Trigger::start());
        assert!(both.fires_at_start() && both.fires_after_step(10) && both.fires_after_epoch(3, 9));
        assert!(!both.fires_after_step(3) && !both.fires_after_epoch(4, 9));
        assert!(!Trigger::every_epochs(0).fires_after_epoch(0, 1), "0 is never");
    }
}
