//! Every knob of a run: defaults, file, environment and command line merged into one checked `Config`.
//!
//! One table, [`KNOBS`], holds name, default, meaning and parser of each; flags, `TRAINER_*` variables, keys of the
//! file and `trainer config` are all made from it.

mod cadence;
mod domain;
mod knob;
mod knobs;
mod layers;
mod paths;
mod values;
mod watching;

use std::path::PathBuf;

use crate::data::DatasetName;
use crate::exit::{Classify, Exit};
use crate::model::{Architecture, Precision};
use crate::optim::Rule;
use crate::run_name::Template;
use crate::terminal::{echoed, echoed_lines};
use crate::types::Seed;

pub use cadence::Cadence;
pub use domain::{Domain, Interval, Values};
pub use knob::{Column, Knob, Later};
pub use knobs::KNOBS;
pub use layers::{Difference, Layers, Resolved, Source, without_line_end};
pub use paths::{path_of, text_of};
pub use watching::{OBSERVERS, Observable, Observed, Watching};

/// Schedule of iteration scalars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateFreq {
    /// At the end of each epoch.
    Epoch,
    /// Every that many steps, at least 1.
    Steps(u64),
}

/// Requested device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA where there is one, otherwise the CPU.
    Auto,
    Cpu,
    Cuda(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptimizerName {
    Adam,
    AdamW,
    Sgd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Reaction to a loss or gradient that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNan {
    Stop,
    Skip,
    Rollback,
}

/// The metric by which a checkpoint is the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepBest {
    None,
    ValidationAccuracy,
    ValidationLoss,
}

/// Source of a run's initial weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WarmStart {
    /// Its own, drawn from the seed.
    None,
    /// Those of the newest finished run beside it.
    Latest,
    Run(PathBuf),
}

/// A run, described completely; every value is in its range.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub logdir: Option<PathBuf>,
    /// Names the run, a directory below `logdir`.
    pub run_name: Option<Template>,
    pub dataset: DatasetName,
    pub data_dir: PathBuf,
    pub epochs: u64,
    pub batch_size: usize,
    pub optimizer: OptimizerName,
    pub learning_rate: f64,
    pub momentum: f64,
    /// `None`: the optimizer's usual value.
    pub weight_decay: Option<f64>,
    pub seed: Seed,
    pub limit_train: Option<usize>,
    pub limit_validation: Option<usize>,
    pub architecture: Architecture,
    /// Epochs between histograms; 0: never.
    pub histogram_freq: u64,
    /// Epochs between pictures; 0: never.
    pub image_freq: u64,
    pub update_freq: UpdateFreq,
    pub observe: Watching,
    /// Validation images that observers look at again and again.
    pub probes: usize,
    /// Seed of their selection.
    pub probe_seed: Seed,
    pub device: DeviceChoice,
    pub precision: Precision,
    /// `None`: as many as the machine lets the process use.
    pub threads: Option<usize>,
    pub on_nan: OnNan,
    pub checkpoint_every: Cadence,
    /// Checkpoints kept, at least 1.
    pub keep_last: usize,
    pub keep_best: KeepBest,
    pub warm_start: WarmStart,
    /// Figures for Prometheus.
    pub metrics_textfile: Option<PathBuf>,
    /// File for a trace of a few steps.
    pub profile: Option<PathBuf>,
    pub quiet: bool,
    pub log_format: LogFormat,
}

impl Config {
    /// Start of parsing; every field is then set from its knob.
    pub(super) fn blank() -> Config {
        Config {
            logdir: None,
            run_name: None,
            dataset: DatasetName::Mnist,
            data_dir: PathBuf::new(),
            epochs: 1,
            batch_size: 1,
            optimizer: OptimizerName::Adam,
            learning_rate: 1.0,
            momentum: 0.0,
            weight_decay: None,
            seed: Seed(0),
            limit_train: None,
            limit_validation: None,
            architecture: Architecture::default(),
            histogram_freq: 0,
            image_freq: 0,
            update_freq: UpdateFreq::Epoch,
            observe: Watching::default(),
            probes: 1,
            probe_seed: Seed(0),
            device: DeviceChoice::Auto,
            precision: Precision::F32,
            threads: None,
            on_nan: OnNan::Stop,
            checkpoint_every: Cadence::Off,
            keep_last: 1,
            keep_best: KeepBest::None,
            warm_start: WarmStart::None,
            metrics_textfile: None,
            profile: None,
            quiet: false,
            log_format: LogFormat::Text,
        }
    }

    /// The update rule that the optimizer's knobs describe.
    pub fn rule(&self) -> Rule {
        match self.optimizer {
            OptimizerName::Adam => Rule::Adam { weight_decay: self.weight_decay.unwrap_or(0.0) },
            // PyTorch's default.
            OptimizerName::AdamW => Rule::AdamW { weight_decay: self.weight_decay.unwrap_or(0.01) },
            OptimizerName::Sgd => Rule::Sgd { momentum: self.momentum, weight_decay: self.weight_decay.unwrap_or(0.0) },
        }
    }

    /// Knobs that are set and have no effect together with the others, as sentences.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.momentum > 0.0 && self.optimizer != OptimizerName::Sgd {
            warnings.push(format!("momentum {} has no effect: only `--optimizer sgd` has a momentum", self.momentum));
        }
        for name in self.blind() {
            warnings.push(format!("observe {name}: none of its epochs comes in a run of {} epochs", self.epochs));
        }
        warnings
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{key} from {origin}: got `{}`, want {want}", echoed(got))]
    Value { key: &'static str, origin: Source, got: String, want: String },
    #[error("{variable} is empty; set a run name or unset the variable")]
    EmptyRunName { variable: String },
    #[error("unknown key `{}` in {}{}", echoed(key), path.display(), suggestion(near, |near| format!("did you mean `{near}`?")))]
    UnknownKey { path: PathBuf, key: String, near: Option<&'static str> },
    #[error("key `{}` in {}: got {got}, want a number, a string, a boolean or a list of numbers", echoed(key), path.display())]
    Kind { path: PathBuf, key: String, got: &'static str },
    #[error("keys `{}` and `{}` in {} are the same; leave one", echoed(key), echoed(again), path.display())]
    Twice { path: PathBuf, key: String, again: String },
    #[error("cannot read configuration file {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration file {} is {found}; save it as UTF-8", path.display())]
    Encoding { path: PathBuf, found: String },
    #[error("configuration file {} is longer than {limit} bytes", path.display())]
    TooLong { path: PathBuf, limit: u64 },
    #[error("configuration file {} is not TOML: {}", path.display(), echoed_lines(&source.to_string()))]
    Syntax { path: PathBuf, source: Box<toml::de::Error> },
}

impl Classify for ConfigError {
    fn exit(&self) -> Exit {
        match self {
            ConfigError::Value { origin: Source::CommandLine, .. } => Exit::Usage,
            ConfigError::Read { source, .. } => Exit::of_input(source),
            _ => Exit::Config,
        }
    }
}

/// `; hint` where there is a near word, otherwise nothing.
fn suggestion(near: &Option<&'static str>, hint: impl Fn(&str) -> String) -> String {
    near.map_or_else(String::new, |near| format!("; {}", hint(near)))
}
