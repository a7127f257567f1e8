//! Layout of TensorBoard's Custom Scalars tab: scalars that share a chart.

use prost::Message;

use super::proto;
use super::proto::chart::Content as Wire;
use super::proto::margin_chart_content::Series;
use crate::types::Tag;

/// The tag under which TensorBoard looks for a layout; one for a log directory is enough, in any run.
pub const TAG: &str = "custom_scalars__config__";

/// Categories of charts, in the order in which they are shown. Those of all runs are merged by title.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub categories: Vec<Category>,
}

/// Charts under one heading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Category {
    pub title: String,
    pub charts: Vec<Chart>,
    /// Folded until somebody opens it.
    pub closed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    pub title: String,
    pub content: Content,
}

/// Series of a chart for each selected run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A line for each scalar whose tag one of these patterns matches.
    Lines(Vec<Pattern>),
    /// Lines within a band.
    Margins(Vec<Margin>),
}

/// A regular expression of Python, matched from the beginning of a tag on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// A line and the edges of its band: tags of scalars that have the same steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Margin {
    pub value: Tag,
    pub lower: Tag,
    pub upper: Tag,
}

impl Layout {
    pub fn new(categories: impl IntoIterator<Item = Category>) -> Layout {
        Layout { categories: categories.into_iter().collect() }
    }

    /// Bytes held, roughly.
    pub(super) fn size(&self) -> usize {
        self.encode().len()
    }

    /// A serialized `Layout`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let category = self.categories.iter().map(Category::to_wire).collect();
        proto::Layout { version: 0, category }.encode_to_vec()
    }
}

impl Category {
    pub fn new(title: impl Into<String>, charts: impl IntoIterator<Item = Chart>) -> Category {
        Category { title: title.into(), charts: charts.into_iter().collect(), closed: false }
    }

    #[must_use]
    pub fn closed(mut self) -> Category {
        self.closed = true;
        self
    }

    fn to_wire(&self) -> proto::Category {
        let chart = self.charts.iter().map(Chart::to_wire).collect();
        proto::Category { title: self.title.clone(), chart, closed: self.closed }
    }
}

impl Chart {
    pub fn lines(title: impl Into<String>, patterns: impl IntoIterator<Item = Pattern>) -> Chart {
        Chart { title: title.into(), content: Content::Lines(patterns.into_iter().collect()) }
    }

    pub fn margins(title: impl Into<String>, margins: impl IntoIterator<Item = Margin>) -> Chart {
        Chart { title: title.into(), content: Content::Margins(margins.into_iter().collect()) }
    }

    fn to_wire(&self) -> proto::Chart {
        let content = match &self.content {
            Content::Lines(patterns) => Wire::Multiline(proto::MultilineChartContent {
                tag: patterns.iter().map(|pattern| pattern.0.clone()).collect(),
            }),
            Content::Margins(margins) => {
                let series = margins.iter().map(|margin| Series {
                    value: margin.value.to_string(),
                    lower: margin.lower.to_string(),
                    upper: margin.upper.to_string(),
                });
                Wire::Margin(proto::MarginChartContent { series: series.collect() })
            }
        };
        proto::Chart { title: self.title.clone(), content: Some(content) }
    }
}

impl Pattern {
    /// This tag and no other.
    pub fn tag(tag: &str) -> Pattern {
        Pattern(format!("{}$", escaped(tag)))
    }

    /// Every tag that begins so.
    pub fn prefix(text: &str) -> Pattern {
        Pattern(escaped(text))
    }

    /// As it is: not checked, since TensorBoard's expressions are Python's.
    pub fn regex(text: impl Into<String>) -> Pattern {
        Pattern(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that matches itself.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_ascii_punctuation() && !"/_,:;=@%'\"!<>`".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_charts_of_both_kinds() {
        let margin = Margin { value: Tag::of("m/value"), lower: Tag::of("m/low"), upper: Tag::of("m/high") };
        let layout = Layout::new([
            Category::new("Loss", [Chart::lines("all", [Pattern::tag("epoch_loss"), Pattern::prefix("time/")])]),
            Category::new("Band", [Chart::margins("band", [margin])]).closed(),
        ]);
        let wire = proto::Layout::decode(layout.encode().as_slice()).unwrap();
        assert_eq!(
            wire.category.iter().map(|c| (c.title.as_str(), c.closed)).collect::<Vec<_>>(),
            [("Loss", false), ("Band", true)]
        );
        let Some(Wire::Multiline(lines)) = &wire.category[0].chart[0].content else { panic!("{wire:?}") };
        assert_eq!(lines.tag, ["epoch_loss$", "time/"]);
        let Some(Wire::Margin(margin)) = &wire.category[1].chart[0].content else { panic!("{wire:?}") };
        let series = &margin.series[0];
        assert_eq!([&series.value, &series.lower, &series.upper], ["m/value", "m/low", "m/high"]);
    }

    #[test]
    fn a_tag_is_matched_as_it_is_written() {
        assert_eq!(Pattern::tag("a.b/c-d (1)+").as_str(), r"a\.b/c\-d \(1\)\+$");
        assert_eq!(Pattern::regex("a|b").as_str(), "a|b");
    }
}
