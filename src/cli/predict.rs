//! `trainer predict`: what a trained network sees in pictures.

use std::iter;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::pictures::{self, text, wrong};
use super::{Failure, flags, option, print};
use crate::data::{Change, Doubt, Specimen};
use crate::saved::{Answer, Origin};
use crate::telemetry::Console;
use crate::terminal::{columns, printable, safe_json};
use crate::types::Percent;

/// More classes than this are no classes of ours.
const MOST: usize = 65_536;

pub(super) fn command() -> Command {
    let files = Arg::new("file")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .required(true)
        .action(ArgAction::Append)
        .help("PNG, JPEG or BMP pictures of any size; `-` for standard input");
    Command::new("predict")
        .about("Ask a trained network what pictures show")
        .long_about(
            "Ask a trained network what pictures show.\n\nA picture of any size and colour is made to look like the \
             images that the network has learned from, and what was done to it is said on stderr. An answer that is to be \
             doubted has a warning: several figures, one that is cut off or on its side, or an answer that changes when \
             the picture is prepared a little differently. A picture that cannot be used does not stop the others; the exit code is that of the first one.\n\nWith --format json each \
             picture is one line with one object: `file`, `class`, `class_index`, `probability`, `probabilities` (of \
             every class by name, in the order of the data set), `doubts` (a list of reasons to doubt the answer, mostly \
             empty), `prepared` (a list of what was done to the picture), `weights` (the file with the weights that \
             answer) and `epoch` (after which they were). Bytes of a name that are not UTF-8 are written as `\\xff`.",
        )
        .args(pictures::flags())
        .arg(option("format", "FORMAT", "Form of what is printed: `table` or `json` [default: table]"))
        .arg(option("top", "N", "Most probable classes in a row of the table [default: 2]"))
        .args(flags::flags_of(&["device", "quiet", "log-format"]))
        .arg(files)
}

pub(super) fn predict(matches: &ArgMatches) -> Result<(), Failure> {
    let json = match text(matches, "format").unwrap_or("table") {
        "table" => false,
        "json" => true,
        other => return Err(wrong("format", other, "`table` or `json`")),
    };
    let top = match text(matches, "top") {
        None => 2,
        Some(text) => match text.parse() {
            Ok(top) if (1..=MOST).contains(&top) => top,
            _ => return Err(wrong("top", text, &format!("a whole number from 1 to {MOST}"))),
        },
    };
    let inversion = pictures::inversion(matches)?;
    let resolved = flags::resolve(matches)?;
    Console::start(resolved.config.quiet, resolved.config.log_format);
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    let saved = pictures::saved_run(matches, &resolved.config)?;
    let files = matches.get_many::<PathBuf>("file").into_iter().flatten();
    let (specimens, mut failures) = pictures::read(files, &saved.look(), inversion);
    let mut rows = Vec::new();
    for (specimen, answer) in specimens.iter().zip(saved.answers(&specimens)) {
        match answer {
            Ok(answer) => rows.push(Prediction::new(specimen, answer)),
            Err(error) => failures.push(error.into()),
        }
    }
    rows.iter().for_each(|row| pictures::doubted(&row.specimen.name, &row.doubts));
    if !rows.is_empty() {
        let lines: Vec<String> = match json {
            true => rows.iter().map(|row| safe_json(&row.json(&saved.classes, &saved.origin).to_string())).collect(),
            false => {
                iter::once(format!("weights: {}", saved.origin)).chain(table(&rows, &saved.classes, top)).collect()
            }
        };
        print(&lines.join("\n"))?;
    }
    pictures::report(failures)
}

/// What the network says about one picture.
struct Prediction<'a> {
    specimen: &'a Specimen,
    /// By class.
    probabilities: Vec<f32>,
    /// Classes, the most probable first.
    ranked: Vec<usize>,
    doubts: Vec<Doubt>,
}

impl<'a> Prediction<'a> {
    fn new(specimen: &'a Specimen, answer: Answer) -> Prediction<'a> {
        let Answer { probabilities, doubts } = answer;
        let mut ranked: Vec<usize> = (0..probabilities.len()).collect();
        // Stable, so that equal ones keep the order of their classes.
        ranked.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        Prediction { specimen, probabilities, ranked, doubts }
    }

    fn json(&self, classes: &[String], origin: &Origin) -> serde_json::Value {
        let best = self.ranked.first().copied().unwrap_or_default();
        let by_name: serde_json::Map<String, serde_json::Value> =
            classes.iter().cloned().zip(self.probabilities.iter().map(|&p| p.into())).collect();
        serde_json::json!({
            "file": self.specimen.name,
            "class": classes.get(best),
            "class_index": best,
            "probability": self.probabilities.get(best),
            "probabilities": by_name,
            "doubts": self.doubts.iter().map(Doubt::to_string).collect::<Vec<_>>(),
            "prepared": self.specimen.changes.iter().map(Change::to_string).collect::<Vec<_>>(),
            "weights": origin.file,
            "epoch": origin.epoch,
        })
    }
}

/// A heading and a line for each picture.
fn table(rows: &[Prediction<'_>], classes: &[String], top: usize) -> Vec<String> {
    let ranks = top.min(classes.len());
    let mut heading = vec!["file".to_owned(), "class".to_owned(), "probability".to_owned()];
    heading.extend((2..=ranks).map(|rank| match rank {
        2 => "runner-up".to_owned(),
        3 => "3rd".to_owned(),
        rank => format!("{rank}th"),
    }));
    let mut lines = vec![heading];
    for row in rows {
        let percent = |class: usize| Percent(row.probabilities[class]);
        let mut cells = vec![printable(&row.specimen.name)];
        for (rank, &class) in row.ranked.iter().take(ranks).enumerate() {
            match rank {
                0 => cells.extend([classes[class].clone(), format!("{:>11}", percent(class))]),
                _ => cells.push(format!("{} {}", classes[class], percent(class))),
            }
        }
        lines.push(cells);
    }
    columns(&lines, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specimen(name: &str, changes: Vec<Change>) -> Specimen {
        Specimen { name: name.to_owned(), pixels: vec![0], label: None, changes, doubts: vec![], variants: vec![] }
    }

    fn answer(probabilities: Vec<f32>) -> Answer {
        Answer { probabilities, doubts: vec![] }
    }

    fn classes() -> Vec<String> {
        ["a", "horizontal bars", "c"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_table_is_read_at_a_glance() {
        let (one, two) = (specimen("three.png", vec![]), specimen("a much longer name\n.png", vec![]));
        let rows = [
            Prediction::new(&one, answer(vec![0.001, 0.998, 0.001])),
            Prediction::new(&two, answer(vec![0.25, 0.25, 0.5])),
        ];
        assert_eq!(
            table(&rows, &classes(), 2),
            [
                "file                      class            probability  runner-up",
                "three.png                 horizontal bars       99.8 %  a 0.1 %",
                "a much longer name\\n.png  c                     50.0 %  a 25.0 %",
            ]
        );
        assert_eq!(table(&rows, &classes(), 1)[1], "three.png                 horizontal bars       99.8 %");
        assert!(table(&rows, &classes(), 99)[0].ends_with("runner-up  3rd"));
    }

    #[test]
    fn keys_are_stable() {
        let one = specimen("three.png", vec![Change::Grey, Change::EightBit]);
        let answer = Answer { probabilities: vec![0.25, 0.5, 0.25], doubts: vec![Doubt::CutOff] };
        let row = Prediction::new(&one, answer);
        let origin = Origin {
            file: "best.safetensors".to_owned(),
            epoch: Some(4),
            epochs: Some(5),
            validation_accuracy: Some(0.992),
        };
        assert_eq!(origin.to_string(), "best.safetensors, epoch 4 of 5, validation accuracy 99.20 %");
        assert_eq!(
            row.json(&classes(), &origin).to_string(),
            r#"{"file":"three.png","class":"horizontal bars","class_index":1,"probability":0.5,"probabilities":{"a":0.25,"horizontal bars":0.5,"c":0.25},"doubts":["the figure runs out of the picture"],"prepared":["colours turned to grey","reduced from 16 to 8 bits a channel"],"weights":"best.safetensors","epoch":4}"#
        );
    }
}
