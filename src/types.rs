//! Values that cannot be wrong: each is checked once, where it enters, and carried as proof from there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The position of a data point in its series: an epoch or an iteration, by the run directory it is in.
///
/// At most 2^53 - 1, since TensorBoard's front end holds steps in JavaScript numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(u64);

impl Step {
    pub const ZERO: Step = Step(0);
    pub const MAX: Step = Step((1 << 53) - 1);

    /// `None` above [`Step::MAX`].
    pub fn new(step: u64) -> Option<Step> {
        (step <= Step::MAX.0).then_some(Step(step))
    }

    pub fn get(self) -> u64 {
        self.0
    }

    /// As the wire has it.
    pub fn as_i64(self) -> i64 {
        self.0 as i64
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Seconds since the Unix epoch: finite and not negative.
///
/// A NaN would make TensorBoard's default loader give up the rest of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct WallTime(f64);

impl WallTime {
    /// `None` for a time before 1970, an infinity or NaN.
    pub fn from_secs(secs: f64) -> Option<WallTime> {
        (secs.is_finite() && secs >= 0.0).then_some(WallTime(secs))
    }

    pub fn as_secs(self) -> f64 {
        self.0
    }
}

/// Source of wall time. An argument everywhere, so that equal input can give equal bytes.
pub trait Clock: Send + Sync {
    fn now(&self) -> WallTime;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> WallTime {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        // A clock set before 1970 is a broken clock; the epoch itself is as good an answer as any.
        WallTime((now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9).max(0.0))
    }
}

/// A clock that stands still, for tests and for reproducible files.
#[derive(Clone, Copy, Debug)]
pub struct FixedClock(pub WallTime);

impl Clock for FixedClock {
    fn now(&self) -> WallTime {
        self.0
    }
}

/// The name of a series within a run; TensorBoard groups tags by what stands before the first `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

/// Fault in the text of a tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    #[error("a tag must not be empty")]
    Empty,
    #[error("tag `{0}` starts with `/`: TensorBoard would show a group without a name")]
    LeadingSlash(String),
}

impl Tag {
    pub fn new(text: impl Into<String>) -> Result<Tag, TagError> {
        let text = text.into();
        match text.chars().next() {
            None => Err(TagError::Empty),
            Some('/') => Err(TagError::LeadingSlash(text)),
            Some(_) => Ok(Tag(text.into())),
        }
    }

    /// A tag that is written in the source.
    ///
    /// # Panics
    /// If the text is not a tag; for literals and layer names only.
    pub fn of(text: impl AsRef<str>) -> Tag {
        match Tag::new(text.as_ref()) {
            Ok(tag) => tag,
            Err(error) => panic!("a tag in the source is wrong: {error}"),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One of a training run's series of points, with a directory of its own. TensorBoard calls each a run, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Run {
    /// Steps are epochs; training metrics, weights, pictures, the graph.
    Train,
    /// Steps are epochs; metrics on the validation set.
    Validation,
    /// Steps are iterations of the optimizer. In the training run's own directory, which TensorBoard lists in any case.
    Steps,
}

impl Run {
    pub const ALL: [Run; 3] = [Run::Train, Run::Validation, Run::Steps];

    /// The directory's name below the training run's; empty for that one itself.
    pub fn dir(self) -> &'static str {
        match self {
            Run::Train => "train",
            Run::Validation => "validation",
            Run::Steps => "",
        }
    }

    /// The directory of a training run in `root`.
    pub fn within(self, root: &Path) -> PathBuf {
        if self.dir().is_empty() { root.to_owned() } else { root.join(self.dir()) }
    }
}

/// Origin of all randomness in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seed(pub u64);

/// Brightness of a pixel's byte, from 0 to 1.
pub fn unit(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

/// Extent of one image: `height` x `width` x `channels`, each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageShape {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl ImageShape {
    /// Values in one image.
    pub fn len(self) -> usize {
        self.height * self.width * self.channels
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// A probability, 0 to 1, as people read it: in percent with one decimal, where none below 1 reads as certain and none above
/// 0 as impossible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f32);

impl Percent {
    /// With so many decimals.
    pub fn rounded(self, decimals: usize) -> String {
        let percent = f64::from(self.0) * 100.0;
        let unit = 0.1_f64.powi(decimals.min(9) as i32);
        match percent {
            p if p > 0.0 && p < unit / 2.0 => format!("<{unit:.decimals$} %"),
            p if p >= 100.0 - unit / 2.0 && p < 100.0 => format!(">{:.decimals$} %", 100.0 - unit),
            p => format!("{p:.decimals$} %"),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.rounded(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_probability_reads_as_certain_or_impossible_that_is_not() {
        let percent = |probability: f32| Percent(probability).to_string();
        assert_eq!([0.0, 1e-38, 0.00049, 0.00051].map(percent), ["0.0 %", "<0.1 %", "<0.1 %", "0.1 %"]);
        assert_eq!([0.998, 0.99949, 0.99951, 1.0].map(percent), ["99.8 %", "99.9 %", ">99.9 %", "100.0 %"]);
        assert_eq!(percent(1.0_f32.next_down()), ">99.9 %");
        assert_eq!(format!("[{:>8}]", Percent(0.5)), "[  50.0 %]");
        assert_eq!(percent(f32::NAN), "NaN %");
        let whole = |probability: f32| Percent(probability).rounded(0);
        assert_eq!([0.0, 0.004, 0.006, 0.994, 0.996, 1.0].map(whole), ["0 %", "<1 %", "1 %", "99 %", ">99 %", "100 %"]);
    }

    #[test]
    fn a_step_fits_a_javascript_number() {
        assert_eq!(Step::new((1 << 53) - 1), Some(Step::MAX));
        assert_eq!(Step::new(1 << 53), None);
    }

    #[test]
    fn wall_time_is_finite_and_not_negative() {
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert_eq!(WallTime::from_secs(wrong), None);
        }
        assert_eq!(WallTime::from_secs(1.5).map(WallTime::as_secs), Some(1.5));
    }

    #[test]
    fn a_tag_has_a_group() {
        assert_eq!(Tag::new(""), Err(TagError::Empty));
        assert_eq!(
            Tag::new("/a").unwrap_err().to_string(),
            "tag `/a` starts with `/`: TensorBoard would show a group without a name"
        );
        assert_eq!(Tag::of("conv2d/kernel/histogram").as_str(), "conv2d/kernel/histogram");
    }
}
