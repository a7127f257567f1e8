//! Texts that describe the run, written once, at its start; and tables for people.

use super::{Record, epoch_step};
use crate::eventlog::Value;
use crate::graph::summary;
use crate::train::{Divergence, Moment, Observer};
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

impl Observer<Record> for Texts {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
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

    fn diverged(&mut self, moment: &Moment<'_>, divergence: &Divergence, out: &mut Record) {
        let text = Value::text(Tag::of("run/non_finite"), last_words(divergence))
            .described("Why training ended before its time, and which values were NaN or infinite then.");
        out.push(Run::Train, epoch_step(moment.epoch), vec![text]);
    }
}

fn last_words(divergence: &Divergence) -> String {
    let found = &divergence.non_finite;
    let explanation = if found.is_empty() {
        "All weights, activations and gradients are finite, but the loss is too large to come back from."
    } else {
        "NaN or infinite values, in the order in which the step computed them: the first is where to look, the others \
         follow from it."
    };
    let rows = found.iter().map(|found| [found.to_string(), found.count.to_string(), found.of.to_string()]).collect();
    let table = Table { headings: ["where", "not finite", "of"], rows };
    let table = if found.is_empty() { String::new() } else { format!("\n{}", table.markdown()) };
    format!("**{}**\n\n{explanation}\n{table}", divergence.to_string().replacen("training", "Training", 1))
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// Cells but those of the first column are code, so that nothing in them is taken for markup.
    pub(super) fn markdown(&self) -> String {
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

/// TensorBoard's Markdown splits no cell at a `|` that is code, and would show a backslash before it.
fn code(cell: &str) -> String {
    let cell: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let cell = cell.replace('`', "'");
    if cell.is_empty() { cell } else { format!("`{cell}`") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{NonFinite, Part};

    #[test]
    fn the_last_words_say_where_it_began() {
        let first = NonFinite { layer: "conv2d".to_owned(), what: Part::Output, count: 3, of: 40 };
        let mut divergence =
            Divergence { loss: f64::NAN, iterations: 7, epoch: 1, fine_until: 6, non_finite: vec![first] };
        assert_eq!(
            last_words(&divergence),
            "**Training diverged: the loss is NaN after step 7 (epoch 2); the first non-finite values are in the output of \
             conv2d; use a smaller learning rate**\n\nNaN or infinite values, in the order in which the step computed \
             them: the first is where to look, the others follow from it.\n\n| where | not finite | of |\n| --- | --- | --- \
             |\n| the output of conv2d | `3` | `40` |\n"
        );
        divergence.non_finite.clear();
        assert!(last_words(&divergence).ends_with("too large to come back from.\n"));
    }

    #[test]
    fn a_cell_cannot_break_the_table() {
        let rows = vec![["logdir", "a|b`c\nd"].map(str::to_owned), ["none", ""].map(str::to_owned)];
        let want = "| setting | value |\n| --- | --- |\n| logdir | `a|b'c d` |\n| none |  |\n";
        assert_eq!(Table { headings: ["setting", "value"], rows }.markdown(), want);
    }
}
