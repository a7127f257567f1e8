//! Texts that describe the run: written once, at its start.

use super::Findings;
use crate::eventlog::Value;
use crate::model::summary;
use crate::train::{Moment, Observer};
use crate::types::{Run, Step, Tag};

/// A table for people: a row of headings, then rows of as many cells.
pub struct Table<const COLUMNS: usize> {
    pub headings: [&'static str; COLUMNS],
    pub rows: Vec<[String; COLUMNS]>,
}

/// The model's summary, the configuration and the environment.
pub struct Texts {
    pub configuration: Table<3>,
    pub environment: Table<2>,
}

impl Observer<Findings> for Texts {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Findings) {
        let model = format!("```\n{}```\n", summary(moment.network));
        let values = vec![
            Value::text(Tag::of("model/summary"), model)
                .described("Layers, output shapes, parameters and multiply-accumulates."),
            Value::text(Tag::of("run/config"), self.configuration.markdown())
                .described("The resolved configuration, and where each value came from."),
            Value::text(Tag::of("run/environment"), self.environment.markdown())
                .described("Versions, device and threads of this run."),
        ];
        out.push(Run::Train, Step::ZERO, values);
    }
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// Cells but those of the first column are code, so that nothing in them is taken for markup.
    fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = line(self.headings.map(str::to_owned).to_vec());
        text.push_str(&line(vec!["---".to_owned(); COLUMNS]));
        for row in &self.rows {
            let cells =
                row.iter().enumerate().map(|(column, cell)| if column == 0 { cell.clone() } else { code(cell) });
            text.push_str(&line(cells.collect()));
        }
        text
    }
}

fn code(cell: &str) -> String {
    let cell: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let cell = cell.replace('|', "\\|").replace('`', "'");
    if cell.is_empty() { cell } else { format!("`{cell}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_break_the_table() {
        let rows = vec![["logdir", "a|b`c\nd"].map(str::to_owned), ["none", ""].map(str::to_owned)];
        let want = "| setting | value |\n| --- | --- |\n| logdir | `a\\|b'c d` |\n| none |  |\n";
        assert_eq!(Table { headings: ["setting", "value"], rows }.markdown(), want);
    }
}
