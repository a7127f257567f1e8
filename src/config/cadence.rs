//! Intervals in epochs, steps or minutes.

use std::num::NonZeroU64;
use std::str::FromStr;

/// A rhythm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cadence {
    Off,
    Epochs(NonZeroU64),
    Steps(NonZeroU64),
    Minutes(NonZeroU64),
}

/// Accepted texts of a cadence.
pub const WANTED: &str = "`off`, `Nepochs`, `Nsteps` or `Nminutes` with N at least 1, such as `1epoch` or `200steps`";

/// Longer ones are as good as `off`.
const MOST: u64 = 1 << 40;

impl FromStr for Cadence {
    type Err = ();

    /// `off`, `1epoch`, `200steps`, `10minutes`; also with a space between.
    fn from_str(text: &str) -> Result<Cadence, ()> {
        if text == "off" {
            return Ok(Cadence::Off);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(())?;
        let (count, unit) = text.split_at(digits);
        let count: NonZeroU64 = count.parse().map_err(|_| ())?;
        if count.get() > MOST {
            return Err(());
        }
        match unit.trim_start() {
            "epoch" | "epochs" => Ok(Cadence::Epochs(count)),
            "step" | "steps" => Ok(Cadence::Steps(count)),
            "minute" | "minutes" | "min" => Ok(Cadence::Minutes(count)),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_a_rhythm() {
        let count = |n| NonZeroU64::new(n).unwrap();
        assert_eq!("off".parse(), Ok(Cadence::Off));
        assert_eq!("1epoch".parse(), Ok(Cadence::Epochs(count(1))));
        assert_eq!("2 epochs".parse(), Ok(Cadence::Epochs(count(2))));
        assert_eq!("200steps".parse(), Ok(Cadence::Steps(count(200))));
        assert_eq!("5min".parse(), Ok(Cadence::Minutes(count(5))));
        for text in
            ["", "0steps", "5", "epoch", "-1steps", "1.5minutes", "5hours", "99999999999999999999steps", "5epoch s"]
        {
            assert_eq!(text.parse::<Cadence>(), Err(()), "{text}");
        }
    }
}
