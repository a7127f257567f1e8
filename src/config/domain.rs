//! Domain of a knob as data: the words and values that it accepts, and the error text that follows from them.

use super::values::{nearest, wanted};

/// Accepted texts of a knob: one of some words, or a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Domain {
    /// Words with a meaning of their own, such as `auto`; for a choice, all accepted texts.
    pub words: &'static [&'static str],
    pub values: Values,
}

/// Values besides the words of a domain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values {
    /// None: the words are all there is.
    None,
    /// Whole numbers, both ends included; [`u64::MAX`] means no upper limit.
    Whole { least: u64, most: u64 },
    /// Finite numbers in an interval.
    Real(Interval),
    /// Whole numbers with commas between, up to `count` of them.
    Wholes { least: u64, most: u64, count: usize },
    /// A path, which may have any bytes.
    Path,
    /// A text with a grammar of its own, which the knob's help describes.
    Text,
}

/// Interval of numbers; each end is included or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub least: f64,
    pub includes_least: bool,
    pub most: f64,
    pub includes_most: bool,
}

impl Interval {
    fn contains(&self, value: f64) -> bool {
        let is_above = value > self.least || self.includes_least && value == self.least;
        let is_below = value < self.most || self.includes_most && value == self.most;
        is_above && is_below
    }

    fn want(&self) -> String {
        let Interval { least, most, .. } = self;
        match (self.includes_least, self.includes_most) {
            (true, true) => format!("a number from {least} to {most}"),
            (true, false) => format!("a number from {least} up to but not including {most}"),
            (false, true) => format!("a number above {least} and at most {most}"),
            (false, false) => format!("a number above {least} and below {most}"),
        }
    }
}

impl Domain {
    pub const fn choice(words: &'static [&'static str]) -> Domain {
        Domain { words, values: Values::None }
    }

    pub const fn whole(least: u64, most: u64) -> Domain {
        Domain { words: &[], values: Values::Whole { least, most } }
    }

    pub const fn real(interval: Interval) -> Domain {
        Domain { words: &[], values: Values::Real(interval) }
    }

    pub const fn of(values: Values) -> Domain {
        Domain { words: &[], values }
    }

    /// The same values, or one of these words.
    pub const fn or(self, words: &'static [&'static str]) -> Domain {
        Domain { words, ..self }
    }

    /// True if the values are single numbers.
    pub fn is_number(&self) -> bool {
        matches!(self.values, Values::Whole { .. } | Values::Real(_))
    }

    pub fn is_path(&self) -> bool {
        self.values == Values::Path
    }

    /// Accepted texts, for an error message.
    pub fn want(&self) -> String {
        let values = match self.values {
            Values::None => return wanted(self.words, None),
            Values::Whole { least, most: u64::MAX } => format!("a whole number, at least {least}"),
            Values::Whole { least, most } => format!("a whole number from {least} to {most}"),
            Values::Real(interval) => interval.want(),
            Values::Wholes { least, most, count } => {
                format!("up to {count} whole numbers from {least} to {most} with commas between, such as `32,64`")
            }
            Values::Path => "a path".to_owned(),
            Values::Text => "a text".to_owned(),
        };
        if self.words.is_empty() { values } else { format!("{} or {values}", wanted(self.words, None)) }
    }

    /// The value of `choices` at the place of `text` among the words.
    pub(super) fn pick<T: Copy>(&self, text: &str, choices: &[T]) -> Result<T, String> {
        let found = self.words.iter().position(|word| *word == text);
        let near = || nearest(text, self.words.iter().copied());
        found.and_then(|at| choices.get(at)).copied().ok_or_else(|| wanted(self.words, near()))
    }

    /// A whole number; `None` for one of the words.
    pub(super) fn optional_whole<T: TryFrom<u64>>(&self, text: &str) -> Result<Option<T>, String> {
        let Values::Whole { least, most } = self.values else { return Err(self.want()) };
        if self.words.contains(&text) {
            return Ok(None);
        }
        let value = text.parse::<u64>().ok().filter(|value| (least..=most).contains(value));
        value.and_then(|value| T::try_from(value).ok()).map(Some).ok_or_else(|| self.want())
    }

    /// A whole number, where the domain has no words.
    pub(super) fn parse_whole<T: TryFrom<u64>>(&self, text: &str) -> Result<T, String> {
        self.optional_whole(text)?.ok_or_else(|| self.want())
    }

    /// A number; `None` for one of the words.
    pub(super) fn optional_real(&self, text: &str) -> Result<Option<f64>, String> {
        let Values::Real(interval) = self.values else { return Err(self.want()) };
        if self.words.contains(&text) {
            return Ok(None);
        }
        let value = text.parse::<f64>().ok().filter(|value| value.is_finite() && interval.contains(*value));
        value.map(Some).ok_or_else(|| self.want())
    }

    /// A number, where the domain has no words.
    pub(super) fn parse_real(&self, text: &str) -> Result<f64, String> {
        self.optional_real(text)?.ok_or_else(|| self.want())
    }

    /// Whole numbers; empty for one of the words.
    pub(super) fn parse_wholes(&self, text: &str) -> Result<Vec<usize>, String> {
        let Values::Wholes { least, most, count } = self.values else { return Err(self.want()) };
        if self.words.contains(&text) {
            return Ok(Vec::new());
        }
        let each = Domain::whole(least, most);
        let parsed: Result<Vec<usize>, String> = text.split(',').map(|part| each.parse_whole(part.trim())).collect();
        parsed.ok().filter(|values| values.len() <= count).ok_or_else(|| self.want())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KNOBS, Knob, Layers};

    #[test]
    fn every_default_and_every_word_is_accepted() {
        for knob in KNOBS {
            let default = [knob.default].into_iter().filter(|text| !text.is_empty());
            for text in knob.domain.words.iter().copied().chain(default) {
                let mut layers = Layers::new();
                layers.command_line(knob, text.to_owned());
                let error = layers.resolve().err().map(|error| error.to_string());
                // Some knobs need another one beside them.
                assert!(
                    !error.as_ref().is_some_and(|error| error.contains(", want ")),
                    "{} {text}: {error:?}",
                    knob.key
                );
            }
        }
    }

    #[test]
    fn both_ends_of_a_range_are_accepted_and_their_neighbours_refused() {
        let accepts = |knob: &'static Knob, text: String| {
            let mut layers = Layers::new();
            layers.command_line(knob, text);
            !matches!(layers.resolve(), Err(error) if error.to_string().contains(", want "))
        };
        for knob in KNOBS {
            let Values::Whole { least, most } = knob.domain.values else { continue };
            assert!(accepts(knob, least.to_string()) && accepts(knob, most.to_string()), "{}", knob.key);
            assert!(least == 0 || !accepts(knob, (least - 1).to_string()), "{}", knob.key);
            assert!(most == u64::MAX || !accepts(knob, (most + 1).to_string()), "{}", knob.key);
        }
    }

    #[test]
    fn texts_of_intervals_name_both_ends() {
        let want = |includes_least, includes_most| {
            Domain::real(Interval { least: 0.0, includes_least, most: 1.0, includes_most }).want()
        };
        assert_eq!(want(true, true), "a number from 0 to 1");
        assert_eq!(want(true, false), "a number from 0 up to but not including 1");
        assert_eq!(want(false, true), "a number above 0 and at most 1");
        assert_eq!(want(false, false), "a number above 0 and below 1");
    }
}
