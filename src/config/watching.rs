//! Table of observers with their triggers, and the changes to it by `--observe`.

use std::collections::BTreeMap;

use super::values::{nearest, wanted};
use super::{Config, UpdateFreq};
use crate::terminal::echoed;
use crate::trigger::Trigger;

/// Something that can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Observed {
    Texts,
    Graph,
    Layout,
    Scalars,
    Steps,
    Updates,
    Weights,
    Gradients,
    Activations,
    Inputs,
    Filters,
    FeatureMaps,
    GradCam,
    Explanations,
    Confusion,
    Classes,
    PrCurves,
    Calibration,
    Errors,
    ActivationMax,
    Projector,
    Pca,
    Tsne,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Observable {
    pub observed: Observed,
    /// Name in `--observe`.
    pub name: &'static str,
    /// One line.
    pub help: &'static str,
    usually: Usually,
    moments: Moments,
}

/// Default trigger.
#[derive(Clone, Copy, Debug)]
enum Usually {
    Start,
    EveryEpoch,
    HistogramFreq,
    ImageFreq,
    /// At the pictures' frequency, and at the end, when a film of them is made.
    Film,
    /// A quarter as often as other pictures, as they cost more than all of those, and at the end.
    Dear,
    /// After the first and the last epoch.
    Ends,
    UpdateFreq,
}

/// The moments at which there is something to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moments {
    /// Observations that never change.
    Start,
    /// Observations that need the evaluation after an epoch.
    Epochs,
    /// After epochs and after steps.
    Any,
}

const fn row(
    observed: Observed,
    name: &'static str,
    usually: Usually,
    moments: Moments,
    help: &'static str,
) -> Observable {
    Observable { observed, name, help, usually, moments }
}

/// Everything that can be watched, in the order in which observers are shown a moment.
pub const OBSERVERS: &[Observable] = &[
    row(Observed::Texts, "texts", Usually::Start, Moments::Start, "model summary, configuration, environment"),
    row(
        Observed::Layout,
        "layout",
        Usually::Start,
        Moments::Start,
        "the Custom Scalars tab: curves that belong together",
    ),
    row(Observed::Graph, "graph", Usually::Start, Moments::Start, "the run graph and the conceptual graph"),
    row(
        Observed::Scalars,
        "scalars",
        Usually::EveryEpoch,
        Moments::Epochs,
        "loss, accuracy, learning rate of an epoch",
    ),
    row(Observed::Steps, "steps", Usually::UpdateFreq, Moments::Any, "loss, accuracy, speed, time between epochs"),
    row(
        Observed::Updates,
        "updates",
        Usually::UpdateFreq,
        Moments::Any,
        "gradient norms and update-to-weight ratios, by layer",
    ),
    row(Observed::Weights, "weights", Usually::HistogramFreq, Moments::Any, "histograms of kernels and biases"),
    row(
        Observed::Gradients,
        "gradients",
        Usually::HistogramFreq,
        Moments::Any,
        "histograms of the last step's gradient by kernels and biases",
    ),
    row(
        Observed::Activations,
        "activations",
        Usually::HistogramFreq,
        Moments::Any,
        "histograms and statistics of what layers answer, dead units",
    ),
    row(Observed::Inputs, "inputs", Usually::ImageFreq, Moments::Start, "training images of each class"),
    row(Observed::Filters, "filters", Usually::ImageFreq, Moments::Any, "the first convolution's kernels as pictures"),
    row(Observed::FeatureMaps, "feature-maps", Usually::Film, Moments::Any, "what each layer answers, by channel"),
    row(Observed::GradCam, "gradcam", Usually::ImageFreq, Moments::Any, "Grad-CAM of the last convolution"),
    row(Observed::Explanations, "explanations", Usually::Dear, Moments::Any, "nine methods that say why, side by side"),
    row(Observed::Confusion, "confusion", Usually::ImageFreq, Moments::Epochs, "confusion matrices"),
    row(
        Observed::Classes,
        "classes",
        Usually::EveryEpoch,
        Moments::Epochs,
        "precision, recall and F1 of each class, and their means",
    ),
    row(Observed::PrCurves, "pr-curves", Usually::EveryEpoch, Moments::Epochs, "precision-recall curve of each class"),
    row(
        Observed::Calibration,
        "calibration",
        Usually::ImageFreq,
        Moments::Epochs,
        "reliability diagram, expected calibration error",
    ),
    row(Observed::Errors, "errors", Usually::ImageFreq, Moments::Epochs, "the most confident errors, with Grad-CAM"),
    row(
        Observed::ActivationMax,
        "activation-max",
        Usually::Dear,
        Moments::Any,
        "images that filters and classes answer most to",
    ),
    // First of those that share features, since it asks for most.
    row(
        Observed::Projector,
        "projector",
        Usually::Ends,
        Moments::Epochs,
        "features of 1,000 images, for the Projector",
    ),
    row(Observed::Pca, "pca", Usually::ImageFreq, Moments::Any, "features on their principal components"),
    row(Observed::Tsne, "tsne", Usually::Film, Moments::Any, "features laid out by t-SNE, and a film of it"),
];

/// Value of `--observe`: a base, and triggers of single observers on top of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watching {
    none: bool,
    triggers: BTreeMap<Observed, Trigger>,
}

impl Watching {
    /// `default`, `none`, or either followed by `NAME=WHEN` items, all with commas between.
    ///
    /// # Errors
    /// With what was wanted instead.
    pub(super) fn parse(text: &str) -> Result<Watching, String> {
        let mut watching = Watching::default();
        for (index, item) in items(text).into_iter().enumerate() {
            match item.split_once('=') {
                None if index == 0 && item == "none" => watching.none = true,
                None if index == 0 && item == "default" => {}
                None => {
                    let row = OBSERVERS.iter().find(|row| row.name == item);
                    return Err(row.map_or_else(|| want(item), Observable::want));
                }
                Some((name, when)) => {
                    let row = OBSERVERS.iter().find(|row| row.name == name).ok_or_else(|| want(name))?;
                    let trigger = when.parse().ok().filter(|trigger| row.can_be(trigger)).ok_or_else(|| row.want())?;
                    if watching.triggers.insert(row.observed, trigger).is_some() {
                        return Err(format!("`{name}` once"));
                    }
                }
            }
        }
        Ok(watching)
    }
}

impl Config {
    /// Trigger of `observed`.
    pub fn trigger(&self, observed: Observed) -> Trigger {
        if let Some(trigger) = self.observe.triggers.get(&observed) {
            return trigger.clone();
        }
        match OBSERVERS.iter().find(|row| row.observed == observed) {
            Some(row) if !self.observe.none => row.usual(self),
            _ => Trigger::never(),
        }
    }
}

impl Config {
    /// Observers with a trigger of their own that no epoch of the run meets.
    pub(super) fn blind(&self) -> Vec<&'static str> {
        // Epochs at regular distances begin with the first; those that are named may all come too late.
        let late = |trigger: &Trigger| {
            let between = trigger.fires_at_start() || trigger.counts_steps();
            !trigger.is_never() && !between && !trigger.fires_within(self.epochs)
        };
        let named = OBSERVERS.iter().filter(|row| self.observe.triggers.get(&row.observed).is_some_and(late));
        named.map(|row| row.name).collect()
    }
}

impl Observable {
    /// The default as it would be typed, for the help text.
    pub fn default(&self) -> &'static str {
        match self.usually {
            Usually::Start => "start",
            Usually::EveryEpoch => "every:1epoch",
            Usually::HistogramFreq => "--histogram-freq",
            Usually::ImageFreq if self.moments == Moments::Start => "start",
            Usually::ImageFreq => "--image-freq",
            Usually::Dear => "4 x --image-freq, last",
            Usually::Film => "--image-freq, last",
            Usually::Ends => "at:0,last",
            Usually::UpdateFreq => "--update-freq",
        }
    }

    fn usual(&self, config: &Config) -> Trigger {
        match self.usually {
            Usually::Start => Trigger::start(),
            Usually::EveryEpoch => Trigger::every_epochs(1),
            Usually::HistogramFreq => Trigger::every_epochs(config.histogram_freq),
            Usually::ImageFreq | Usually::Dear | Usually::Film | Usually::Ends if config.image_freq == 0 => {
                Trigger::never()
            }
            Usually::ImageFreq if self.moments == Moments::Start => Trigger::start(),
            Usually::ImageFreq => Trigger::every_epochs(config.image_freq),
            Usually::Dear => {
                Trigger::every_epochs(config.image_freq.saturating_mul(4)).or(Trigger::at_epochs(Vec::new(), true))
            }
            Usually::Film => Trigger::every_epochs(config.image_freq).or(Trigger::at_epochs(Vec::new(), true)),
            Usually::Ends => Trigger::at_epochs(vec![0], true),
            // The end of an epoch closes a window, or short runs would have no curves.
            Usually::UpdateFreq => match config.update_freq {
                UpdateFreq::Epoch => Trigger::every_epochs(1),
                UpdateFreq::Steps(n) => Trigger::every_steps(n).or(Trigger::every_epochs(1)),
            },
        }
    }

    fn can_be(&self, trigger: &Trigger) -> bool {
        match self.moments {
            Moments::Start => trigger.is_never() || *trigger == Trigger::start(),
            Moments::Epochs => !trigger.fires_at_start() && !trigger.counts_steps(),
            Moments::Any => !trigger.fires_at_start(),
        }
    }

    fn want(&self) -> String {
        let when = match self.moments {
            Moments::Start => "`off` or `start`",
            Moments::Epochs => "`off`, `every:Nepochs`, or `at:N,...,last` with epochs from 0",
            Moments::Any => "`off`, `every:Nepochs`, `every:Nsteps`, or `at:N,...,last` with epochs from 0",
        };
        format!("{}=WHEN with {when}", self.name)
    }
}

/// The items of a list; numbers and `last` after a comma belong to the `at:` before it.
fn items(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut start = 0;
    for (comma, _) in text.match_indices(',').chain([(text.len(), "")]) {
        let rest = text.get(comma + 1..).unwrap_or_default();
        let next = rest.split(',').next().unwrap_or_default();
        let goes_on = comma < text.len() && (next == "last" || next.bytes().all(|b| b.is_ascii_digit()));
        if !(goes_on && text[start..comma].contains("=at:")) {
            items.push(text[start..comma].trim());
            start = (comma + 1).min(text.len());
        }
    }
    items
}

fn want(name: &str) -> String {
    let names: Vec<&str> = OBSERVERS.iter().map(|row| row.name).collect();
    let near = nearest(name, names.iter().copied());
    let (names, name) = (wanted(&names, near), echoed(name));
    format!("`default`, `none`, or items NAME=WHEN with commas between, NAME where `{name}` stands being {names}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config { observe: Watching::parse(text).unwrap(), image_freq: 2, histogram_freq: 1, ..Config::blank() }
    }

    fn epochs(trigger: &Trigger) -> Vec<u64> {
        (0..6).filter(|&epoch| trigger.fires_after_epoch(epoch, 6)).collect()
    }

    #[test]
    fn defaults_come_from_the_frequencies() {
        let config = config("default");
        assert_eq!(epochs(&config.trigger(Observed::GradCam)), [0, 2, 4]);
        assert_eq!(epochs(&config.trigger(Observed::Weights)), [0, 1, 2, 3, 4, 5]);
        assert_eq!(epochs(&config.trigger(Observed::Tsne)), [0, 2, 4, 5], "a film needs its end");
        assert_eq!(epochs(&config.trigger(Observed::Explanations)), [0, 5], "what costs most, a quarter as often");
        assert_eq!(epochs(&config.trigger(Observed::Projector)), [0, 5]);
        assert!(config.trigger(Observed::Inputs).fires_at_start());
        let blind = Config { image_freq: 0, ..config };
        assert!(blind.trigger(Observed::GradCam).is_never() && blind.trigger(Observed::Inputs).is_never());
    }

    #[test]
    fn single_observers_are_switched_over_the_base() {
        let config = config("none,gradcam=at:0,4,last,filters=every:3epochs,weights=every:50steps");
        assert_eq!(epochs(&config.trigger(Observed::GradCam)), [0, 4, 5]);
        assert_eq!(epochs(&config.trigger(Observed::Filters)), [0, 3]);
        assert!(config.trigger(Observed::Weights).fires_after_step(100));
        assert!(config.trigger(Observed::Scalars).is_never());
        let config = self::config("gradcam=off");
        assert!(config.trigger(Observed::GradCam).is_never());
        assert_eq!(epochs(&config.trigger(Observed::Filters)), [0, 2, 4]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_can() {
        let error = |text: &str| Watching::parse(text).unwrap_err();
        assert!(error("gradcm=every:1epoch").ends_with("did you mean `gradcam`?"), "{}", error("gradcm=every:1epoch"));
        assert!(error("gradcam").starts_with("gradcam=WHEN with `off`"), "a name without a time");
        assert!(error("filters=off,grad=off").contains("where `grad` stands"), "{}", error("filters=off,grad=off"));
        assert!(error("gradcam=off,none").starts_with("`default`"), "a base comes first");
        assert_eq!(error("texts=every:1epoch"), "texts=WHEN with `off` or `start`");
        assert_eq!(
            error("scalars=every:5steps"),
            "scalars=WHEN with `off`, `every:Nepochs`, or `at:N,...,last` with epochs from 0"
        );
        assert!(error("gradcam=start").starts_with("gradcam=WHEN with `off`"));
        assert!(error("gradcam=").starts_with("gradcam=WHEN with `off`"));
        assert_eq!(error("gradcam=off,gradcam=off"), "`gradcam` once");
        for text in ["", ",", "none,", "gradcam=off,,filters=off", "gradcam=off,4"] {
            assert!(Watching::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_trigger_that_comes_too_late_is_noticed() {
        let blind = |text: &str| Config { epochs: 2, ..config(text) }.blind();
        assert_eq!(blind("gradcam=at:2,9,filters=at:1,weights=at:last"), ["gradcam"]);
        assert!(blind("none,gradcam=every:20steps,tsne=every:7epochs,pca=off").is_empty());
        // Asked epoch by epoch this would take hours.
        let many: Vec<String> = (1_000_000..1_100_000_u64).map(|epoch| epoch.to_string()).collect();
        let config = Config { epochs: 1_000_000, ..config(&format!("gradcam=at:{}", many.join(","))) };
        assert_eq!(config.blind(), ["gradcam"]);
    }

    #[test]
    fn every_observer_has_one_row() {
        let mut names: Vec<&str> = OBSERVERS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OBSERVERS.len());
    }
}
