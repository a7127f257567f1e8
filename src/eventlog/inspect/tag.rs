//! One series of a run: points, steps and sizes under one name.

use serde::Serialize;

use crate::eventlog::export::Point;
use crate::eventlog::plugin;
use crate::eventlog::proto::summary::Value;
use crate::eventlog::proto::summary::value::Value as Wire;
use crate::eventlog::shown::Steps;

/// One series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tag {
    /// The run's own graph has none; it is `__run_graph__`, as within TensorBoard.
    pub name: String,
    /// Plugin that displays it: `scalars`, `histograms`, `images`, `text`, `graphs`, ...; empty if none does.
    pub plugin: String,
    /// Storage form.
    pub form: Form,
    pub count: u64,
    /// Points that both of TensorBoard's loaders show, if they keep all points: no later point of the same or an earlier
    /// step, and no later session, takes them back.
    pub shown: u64,
    /// Points whose step was not behind those of all points shown before.
    pub out_of_order: u64,
    /// Scalars that are NaN.
    pub nan: u64,
    /// Scalars that are infinite.
    pub infinite: u64,
    /// Of the point that comes first.
    pub first_step: i64,
    /// Of the point that comes last.
    pub last_step: i64,
    pub min_step: i64,
    pub max_step: i64,
    /// Bytes of the values, without what they share with others of their event.
    pub bytes: u64,
}

/// The field of the message that holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    Tensor,
    SimpleValue,
    Image,
    Histo,
    Audio,
    /// A value that holds nothing but its metadata.
    None,
    GraphDef,
    MetaGraphDef,
    RunMetadata,
    /// Files beside the event file, not events.
    Files,
}

/// A tag, and those of its points that are shown.
#[derive(Debug)]
pub(super) struct Series {
    pub tag: Tag,
    steps: Steps,
    /// Empty unless points are kept, and of no tag but those of scalars.
    pub points: Vec<Point>,
}

/// One value of a tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub step: i64,
    pub bytes: u64,
    /// A scalar.
    pub number: Option<f64>,
    /// TensorBoard gets to see it.
    pub is_read: bool,
    /// Its place among the points of the tag, if points are kept.
    pub point: Option<Point>,
}

impl Series {
    pub fn new(name: &str, plugin: &str, form: Form, first_step: i64) -> Series {
        let tag = Tag {
            name: name.to_owned(),
            plugin: plugin.to_owned(),
            form,
            count: 0,
            shown: 0,
            out_of_order: 0,
            nan: 0,
            infinite: 0,
            first_step,
            last_step: first_step,
            min_step: first_step,
            max_step: first_step,
            bytes: 0,
        };
        Series { tag, steps: Steps::default(), points: Vec::new() }
    }

    pub fn add(&mut self, sample: Sample) {
        let Sample { step, bytes, number, is_read, point } = sample;
        let tag = &mut self.tag;
        tag.count += 1;
        tag.last_step = step;
        tag.min_step = tag.min_step.min(step);
        tag.max_step = tag.max_step.max(step);
        tag.bytes = tag.bytes.saturating_add(bytes);
        let is_scalar = tag.plugin == plugin::SCALARS;
        if let Some(number) = number.filter(|_| is_scalar) {
            tag.nan += u64::from(number.is_nan());
            tag.infinite += u64::from(number.is_infinite());
        }
        if !is_read {
            return;
        }
        tag.out_of_order += u64::from(self.steps.last().is_some_and(|last| step <= last));
        self.take_back(step);
        self.steps.offer(step);
        self.points.extend(point.filter(|_| is_scalar));
    }

    /// Takes back all points from `step` on.
    pub fn take_back(&mut self, step: i64) {
        self.steps.take_back(step);
        let kept = self.points.iter().rposition(|point| point.step < step).map_or(0, |last| last + 1);
        self.points.truncate(kept);
    }

    /// The tag, when all its points have come.
    pub fn finished(mut self) -> Tag {
        self.tag.shown = self.steps.count();
        self.tag
    }
}

/// The plugin that shows a value, and the form in which it is stored. Old forms have one each, whatever their metadata
/// says: both loaders convert them.
pub(super) fn kind(value: &Value) -> (&str, Form) {
    let named = value.metadata.as_ref().and_then(|metadata| metadata.plugin_data.as_ref());
    let named = named.map_or("", |data| data.plugin_name.as_str());
    match &value.value {
        Some(Wire::SimpleValue(_)) => (plugin::SCALARS, Form::SimpleValue),
        Some(Wire::Image(_)) => (plugin::IMAGES, Form::Image),
        Some(Wire::Histo(_)) => (plugin::HISTOGRAMS, Form::Histo),
        Some(Wire::Audio(_)) => (plugin::AUDIO, Form::Audio),
        Some(Wire::Tensor(_)) => (named, Form::Tensor),
        None => (named, Form::None),
    }
}
