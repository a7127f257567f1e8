//! `trainer predict`: what a trained network sees in pictures.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::pictures::{self, text, wrong};
use super::{Failure, flags, option, print};
use crate::data::{Change, Specimen};
use crate::exit::Exit;
use crate::telemetry::Console;
use crate::terminal::columns;

/// More classes than this are no classes of ours.
const MOST: usize = 65_536;

pub(super) fn command() -> Command {
    let files = Arg::new("file")
        .value_name("FILE")
        .required(true)
        .action(ArgAction::Append)
        .help("PNG, JPEG or BMP pictures of any size; `-` for standard input");
    Command::new("predict")
        .about("Ask a trained network what pictures show")
        .long_about(
            "Ask a trained network what pictures show.\n\nA picture of any size and colour is made to look like the \
             images that the network has learned from, and what was done to it is said on stderr. A picture that cannot \
             be used does not stop the others; the exit code is that of the first one.\n\nWith --format json each \
             picture is one line with one object: `file`, `class`, `class_index`, `probability`, `probabilities` (of \
             every class by name, in the order of the data set) and `prepared` (a list of what was done to the \
             picture).",
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
    let files = matches.get_many::<String>("file").into_iter().flatten();
    let (specimens, failures) = pictures::read(files, &saved.look(), inversion);
    let images: Vec<&[u8]> = specimens.iter().map(|specimen| specimen.pixels.as_slice()).collect();
    let rows: Vec<Prediction<'_>> = specimens
        .iter()
        .zip(saved.probabilities(&images))
        .map(|(specimen, probabilities)| Prediction::new(specimen, probabilities))
        .collect::<Result<_, _>>()?;
    if !rows.is_empty() {
        let lines: Vec<String> = match json {
            true => rows.iter().map(|row| row.json(&saved.classes).to_string()).collect(),
            false => table(&rows, &saved.classes, top),
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
}

impl<'a> Prediction<'a> {
    fn new(specimen: &'a Specimen, probabilities: Vec<f32>) -> Result<Prediction<'a>, Failure> {
        if !probabilities.iter().all(|p| p.is_finite()) {
            let name = &specimen.name;
            return Err(Failure::new(
                Exit::Data,
                format!("{name}: the network's answer is not finite: it has diverged"),
            ));
        }
        let mut ranked: Vec<usize> = (0..probabilities.len()).collect();
        // Stable, so that equal ones keep the order of their classes.
        ranked.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        Ok(Prediction { specimen, probabilities, ranked })
    }

    fn json(&self, classes: &[String]) -> serde_json::Value {
        let best = self.ranked.first().copied().unwrap_or_default();
        let by_name: serde_json::Map<String, serde_json::Value> =
            classes.iter().cloned().zip(self.probabilities.iter().map(|&p| p.into())).collect();
        serde_json::json!({
            "file": self.specimen.name,
            "class": classes.get(best),
            "class_index": best,
            "probability": self.probabilities.get(best),
            "probabilities": by_name,
            "prepared": self.specimen.changes.iter().map(Change::to_string).collect::<Vec<_>>(),
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
        let percent = |class: usize| percent(row.probabilities[class]);
        // A name may hold anything; a row is a line.
        let mut cells = vec![row.specimen.name.replace(char::is_control, "\u{fffd}")];
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

/// `99.8 %`; what is little is not called nothing.
fn percent(probability: f32) -> String {
    if probability > 0.0 && probability < 0.0005 {
        "<0.1 %".to_owned()
    } else {
        format!("{:.1} %", probability * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specimen(name: &str, changes: Vec<Change>) -> Specimen {
        Specimen { name: name.to_owned(), pixels: vec![0], label: None, changes }
    }

    fn classes() -> Vec<String> {
        ["a", "horizontal bars", "c"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_table_is_read_at_a_glance() {
        let (one, two) = (specimen("three.png", vec![]), specimen("a much longer name\n.png", vec![]));
        let rows = [
            Prediction::new(&one, vec![0.001, 0.998, 0.001]).unwrap(),
            Prediction::new(&two, vec![0.25, 0.25, 0.5]).unwrap(),
        ];
        assert_eq!(
            table(&rows, &classes(), 2),
            [
                "file                     class            probability  runner-up",
                "three.png                horizontal bars       99.8 %  a 0.1 %",
                "a much longer name\u{fffd}.png  c                     50.0 %  a 25.0 %",
            ]
        );
        assert_eq!(table(&rows, &classes(), 1)[1], "three.png                horizontal bars       99.8 %");
        assert!(table(&rows, &classes(), 99)[0].ends_with("runner-up  3rd"));
    }

    #[test]
    fn little_is_not_nothing() {
        assert_eq!(
            [0.0, 1e-9, 0.00049, 0.0005, 0.9996].map(percent),
            ["0.0 %", "<0.1 %", "<0.1 %", "0.1 %", "100.0 %"]
        );
    }

    #[test]
    fn keys_are_stable() {
        let one = specimen("three.png", vec![Change::Grey, Change::EightBit]);
        let row = Prediction::new(&one, vec![0.25, 0.5, 0.25]).unwrap();
        assert_eq!(
            row.json(&classes()).to_string(),
            r#"{"file":"three.png","class":"horizontal bars","class_index":1,"probability":0.5,"probabilities":{"a":0.25,"horizontal bars":0.5,"c":0.25},"prepared":["colours turned to grey","reduced from 16 to 8 bits a channel"]}"#
        );
    }

    #[test]
    fn an_answer_that_is_none_is_refused() {
        let one = specimen("three.png", vec![]);
        let failure = Prediction::new(&one, vec![f32::NAN; 3]).err().unwrap();
        assert_eq!((failure.exit, failure.message.starts_with("three.png: ")), (Exit::Data, true));
    }
}
