//! Texts that describe the run: written once, at its start.

use super::Findings;
use crate::eventlog::Value;
use crate::model::summary;
use crate::train::{Moment, Observer, Trigger};
use crate::types::{Run, Step, Tag};

/// Rows of a table, name and value.
pub type Rows = Vec<(String, String)>;

/// The model's summary, the configuration and the environment.
pub struct Texts {
    pub configuration: Rows,
    pub environment: Rows,
}

impl Observer<Findings> for Texts {
    fn trigger(&self) -> Trigger {
        Trigger::start()
    }

    fn observe(&mut self, moment: &Moment<'_>, out: &mut Findings) {
        let model = format!("```\n{}```\n", summary(moment.network));
        let values = vec![
            Value::text(Tag::of("model/summary"), model)
                .described("Layers, output shapes, parameters and multiply-accumulates."),
            Value::text(Tag::of("run/config"), table("setting", &self.configuration))
                .described("The resolved configuration, and where each value came from."),
            Value::text(Tag::of("run/environment"), table("what", &self.environment))
                .described("Versions, device and threads of this run."),
        ];
        out.push(Run::Train, Step::ZERO, values);
    }
}

/// A markdown table of two columns. Cells are code, so that nothing in them is taken for markup.
fn table(heading: &str, rows: &Rows) -> String {
    let mut text = format!("| {heading} | value |\n| --- | --- |\n");
    for (name, value) in rows {
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let value = value.replace('|', "\\|").replace('`', "'");
        let cell = if value.is_empty() { String::new() } else { format!("`{value}`") };
        text.push_str(&format!("| {name} | {cell} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_break_the_table() {
        let rows = vec![("logdir".to_owned(), "a|b`c\nd".to_owned()), ("none".to_owned(), String::new())];
        let want = "| setting | value |\n| --- | --- |\n| logdir | `a\\|b'c d` |\n| none |  |\n";
        assert_eq!(table("setting", &rows), want);
    }
}
