//! Precision, recall and F1 of each class as curves, their means, and a table of all classes.

use super::class_tags::{self, class_tags};
use super::texts::Table;
use super::{Record, card, epoch_step, scalar};
use crate::evaluation::{ClassScore, Confusion, Scores};
use crate::eventlog::Value;
use crate::graph::grouped;
use crate::train::{Moment, Observer};
use crate::types::{Run, Tag};

/// A score of the three: its name, how it is read from a class, what it says.
type Score = (&'static str, fn(&ClassScore) -> f64, &'static str);

const SCORES: [Score; 3] = [
    ("F1", |score| score.f1, "harmonic mean of precision and recall"),
    ("precision", |score| score.precision, "of the images predicted as the class, the share that belong to it"),
    ("recall", |score| score.recall, "of the images of the class, the share predicted as it"),
];

/// Of the validation images: `per_class/f1/<class>`, `per_class/precision/<class>`, `per_class/recall/<class>`, their means over
/// the classes under `macro_average/`, and all of it as a table under `per_class/scores`.
#[derive(Clone, Copy, Debug)]
pub struct Classes;

impl Observer<Record> for Classes {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let Some(predictions) = moment.predictions else { return };
        let confusion = Confusion::of(predictions);
        let scores = Scores::of(&confusion);
        let (classes, count) = (&moment.dataset.classes, confusion.classes());
        let mut values = Vec::new();
        for (name, of, what) in SCORES {
            let tag_name = name.to_lowercase();
            let description = format!(
                "Macro average of the {name} ({what}), 0 to 1, over the classes of the validation images: a rare class \
                 counts as much as a frequent one. A class without images and without predictions does not count."
            );
            values.push(scalar(format!("macro_average/{tag_name}"), of(&scores.mean), description));
            for (tag, score) in
                class_tags(&format!("per_class/{tag_name}"), classes, count).into_iter().zip(&scores.classes)
            {
                let description = format!(
                    "{name} of one class on the validation images, 0 to 1: {what}; 0 where there are none.{}",
                    class_tags::note(count)
                );
                values.push(scalar(tag.as_str(), of(score), description));
            }
        }
        let table = Value::text(Tag::of("per_class/scores"), table(&confusion, &scores, classes)).described(
            "Precision, recall and F1 of every class on the validation images, its number of images, and its most \
             frequent confusion. The lowest scores are marked.",
        );
        values.push(table);
        out.push(Run::Validation, epoch_step(moment.epoch), values);
    }
}

fn table(confusion: &Confusion, scores: &Scores, classes: &[String]) -> String {
    // Only classes that have images: of the others every score is 0.
    let lowest = SCORES.map(|(name, of, _)| {
        let scores = scores.classes.iter().filter(|score| score.support > 0).map(of);
        (name, of, scores.reduce(f64::min).filter(|&lowest| lowest < 1.0))
    });
    let mistakes = confusion.mistakes();
    let row = |(class, score): (usize, &ClassScore)| {
        let marks = lowest.iter().filter(|(_, of, lowest)| score.support > 0 && Some(of(score)) == *lowest);
        let marks: Vec<&str> = marks.map(|(name, ..)| *name).collect();
        let mark = if marks.is_empty() { String::new() } else { format!("**lowest {}**", marks.join(", ")) };
        let taken = mistakes.iter().find(|mistake| mistake.label == class).map(|mistake| {
            format!(
                "{} ({})",
                card::class_name(classes, mistake.predicted),
                card::counted(mistake.count as usize, "image")
            )
        });
        let [f1, precision, recall] = SCORES.map(|(_, of, _)| format!("{:.4}", of(score)));
        let support = grouped(score.support as usize);
        [mark, card::class_name(classes, class), precision, recall, f1, support, taken.unwrap_or_default()]
    };
    let headings = ["", "class", "precision", "recall", "F1", "images", "most often misclassified as"];
    Table { headings, rows: scores.classes.iter().enumerate().map(row).collect() }.markdown()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Predictions;

    #[test]
    fn the_table_marks_what_is_lowest() {
        let row = |predicted: usize| (0..4).map(move |class| f32::from(u8::from(class == predicted)));
        let samples = [(0, 0), (0, 0), (1, 0), (1, 1), (2, 2)];
        let probabilities = samples.iter().flat_map(|&(_, predicted)| row(predicted)).collect();
        let predictions = Predictions::new(4, probabilities, samples.iter().map(|&(label, _)| label).collect());
        let confusion = Confusion::of(&predictions);
        let classes = ["cat", "a|b", "dog", "none"].map(str::to_owned);
        let want = "|  | class | precision | recall | F1 | images | most often misclassified as |\n\
                    | --- | --- | --- | --- | --- | --- | --- |\n\
                    | **lowest precision** | `cat` | `0.6667` | `1.0000` | `0.8000` | `2` |  |\n\
                    | **lowest F1, recall** | `a|b` | `1.0000` | `0.5000` | `0.6667` | `2` | `cat (1 image)` |\n\
                    |  | `dog` | `1.0000` | `1.0000` | `1.0000` | `1` |  |\n\
                    |  | `none` | `0.0000` | `0.0000` | `0.0000` | `0` |  |\n";
        assert_eq!(table(&confusion, &Scores::of(&confusion), &classes), want);
    }
}
