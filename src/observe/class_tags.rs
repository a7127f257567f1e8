//! Tags of series of which every class has one.

use std::collections::BTreeSet;

use super::card;
use crate::types::Tag;

/// Classes that have series of their own, at most: the first ones, so that the series are the same at every epoch and
/// in every run, and can be compared. More would hide each other.
pub const SERIES: usize = 20;

/// `<group>/<class>` for each of the first [`SERIES`] of `count` classes.
///
/// Names of classes are free, tags are not: a `/` would open another group, so it becomes `_`, as
/// do control characters (`T-shirt/top` is `T-shirt_top`). Names that are empty or no longer differ get the class's
/// number.
pub fn class_tags(group: &str, classes: &[String], count: usize) -> Vec<Tag> {
    let mut taken = BTreeSet::new();
    let tag = |class: usize| {
        let name = card::class_name(classes, class);
        let mut name: String = name.trim().chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
        if name.is_empty() {
            name = format!("_{class}");
        }
        // Another class may be called what this one is called now.
        while !taken.insert(name.clone()) {
            name += &format!("_{class}");
        }
        Tag::of(format!("{group}/{name}"))
    };
    (0..count.min(SERIES)).map(tag).collect()
}

/// Addition to a description if not every class has a series.
pub fn note(count: usize) -> String {
    if count > SERIES { format!(" The first {SERIES} of {count} classes have a curve.") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(classes: &[&str]) -> Vec<String> {
        let classes: Vec<String> = classes.iter().map(|&name| name.to_owned()).collect();
        class_tags("pr_curve", &classes, classes.len()).iter().map(Tag::to_string).collect()
    }

    #[test]
    fn names_become_one_part_of_a_tag() {
        assert_eq!(
            tags(&["T-shirt/top", "Ankle boot", "/", " a\tb\n", "größe"]),
            ["pr_curve/T-shirt_top", "pr_curve/Ankle boot", "pr_curve/_", "pr_curve/a_b", "pr_curve/größe"]
        );
    }

    #[test]
    fn every_class_has_a_tag_of_its_own() {
        assert_eq!(
            tags(&["a/b", "a_b", "", " ", "a_b_1"]),
            ["pr_curve/a_b", "pr_curve/a_b_1", "pr_curve/_2", "pr_curve/_3", "pr_curve/a_b_1_4"]
        );
        assert_eq!(class_tags("g", &[], 3).iter().map(Tag::as_str).collect::<Vec<_>>(), ["g/0", "g/1", "g/2"]);
    }

    #[test]
    fn many_classes_have_the_series_of_the_first() {
        assert_eq!(class_tags("g", &[], 100).len(), SERIES);
        assert_eq!(note(20), "");
        assert_eq!(note(100), " The first 20 of 100 classes have a curve.");
    }
}
