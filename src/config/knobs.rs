//! The table of knobs: the one place that knows what can be set, to what, and what it means.

use std::str::FromStr;

use super::paths::parse as path;
use super::values::{device, number, one_of, optional, real, store, wanted, widths};
use super::watching::Watching;
use super::{Config, KeepBest, LogFormat, OnNan, OptimizerName, UpdateFreq, WarmStart, cadence};
use crate::data::{DEFAULT_DATA_DIR, DatasetName};
use crate::model::Precision;
use crate::run_name::Template;
use crate::types::Seed;

/// One thing that can be set.
pub struct Knob {
    /// `learning-rate`: the flag without dashes, the key in a file, and `TRAINER_LEARNING_RATE`.
    pub key: &'static str,
    /// What stands for the value in the help text; empty for a switch.
    pub value_name: &'static str,
    /// As it would be typed; empty where there is none.
    pub default: &'static str,
    /// One line, then, perhaps, a paragraph.
    pub help: &'static str,
    /// The heading in the help text.
    pub heading: &'static str,
    /// Whether a run that goes on may have another value.
    pub later: Later,
    /// Parses a text into the configuration, or says what it wants.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

/// What becomes of a knob when a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// It is part of what the run is: another value is another run.
    Fixed,
    /// It may become larger.
    Grows,
    /// It may change: it decides where, how fast and how safely, not what comes out.
    Free,
}

impl Knob {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("TRAINER_{}", self.key.to_uppercase().replace('-', "_"))
    }

    pub fn is_switch(&self) -> bool {
        self.value_name.is_empty()
    }

    /// True if the value is a path, which may have any bytes.
    pub fn is_path(&self) -> bool {
        ["logdir", "data-dir", "warm-start", "metrics-textfile", "profile"].contains(&self.key)
    }

    pub fn find(key: &str) -> Option<&'static Knob> {
        KNOBS.iter().find(|knob| knob.key == key)
    }
}

const RUN: &str = "Run";
const DATA: &str = "Data";
const TRAINING: &str = "Training";
const NETWORK: &str = "Network";
const WATCHING: &str = "Watching";
const KEEPING: &str = "Keeping";
const CONSOLE: &str = "Console";

/// Every knob, in the order of the help text.
pub const KNOBS: &[Knob] = &[
    Knob {
        key: "logdir",
        value_name: "DIR",
        default: "",
        help: "Directory of the run: event files, weights, configuration\n\nTensorBoard shows it when started on this \
               directory or on one above it. Missing parents are created, but not below `/` itself, where a missing \
               directory is most often a mount that is not there.",
        heading: RUN,
        later: Later::Free,
        set: |c, t| {
            c.logdir = if t.is_empty() { None } else { Some(path(t)?) };
            Ok(())
        },
    },
    Knob {
        key: "run-name",
        value_name: "TEMPLATE",
        default: "",
        help: "Name of the run, a directory below --logdir, such as `{date}-{time}`\n\nFields are {date}, {time} and \
               {datetime} in UTC, {host}, and settings such as {seed} or {learning-rate}; braces themselves are written \
               twice. A name with {time} or {datetime} in it is a new run in every start, with `-2` after it where another start \
               of the same second has the name; one with {date} is a new run every day. A name without them is the same in \
               every start, which then goes on with the same run: in Kubernetes the job's name is a good one.",
        heading: RUN,
        later: Later::Free,
        set: |c, t| {
            c.run_name = match t {
                "" => None,
                _ => Some(Template::parse(t).map_err(|error| error.want())?),
            };
            Ok(())
        },
    },
    Knob {
        key: "seed",
        value_name: "N",
        default: "0",
        help: "What all chance in the run is derived from: initial weights, the order of images",
        heading: RUN,
        later: Later::Fixed,
        set: |c, t| store(&mut c.seed, number::<u64>(t, 0, u64::MAX).map(Seed)),
    },
    Knob {
        key: "device",
        value_name: "DEVICE",
        default: "auto",
        help: "Where to compute: `auto`, `cpu`, `cuda` or `cuda:N`",
        heading: RUN,
        later: Later::Free,
        set: |c, t| store(&mut c.device, device(t)),
    },
    Knob {
        key: "precision",
        value_name: "NUMBERS",
        default: "f32",
        help: "Numbers that layers compute in while they train on CUDA: `f32`, `bf16` or `f16`\n\nWeights, gradients, losses \
               and the optimizer stay f32, and so do evaluation, pictures and whatever is asked of the network later. With \
               f16 the loss is multiplied by 1024 before the backward pass; a gradient that is too large for f16 all the \
               same is not finite, and --on-nan says what then: `skip` leaves the step out. The CPU has f32 alone.",
        heading: RUN,
        later: Later::Fixed,
        set: |c, t| {
            store(&mut c.precision, one_of(t, &Precision::ALL.map(|precision| (precision.as_str(), precision))))
        },
    },
    Knob {
        key: "threads",
        value_name: "N",
        default: "auto",
        help: "Threads that train on the CPU; `auto` is all the process may use\n\nThe number changes the speed and \
               nothing else: weights are equal to the last bit. A thread takes 32 images at a time, so more than \
               batch-size / 32 threads are of no use.",
        heading: RUN,
        later: Later::Free,
        set: |c, t| store(&mut c.threads, optional(t, "auto", |t| number(t, 1, 1024))),
    },
    Knob {
        key: "dataset",
        value_name: "NAME",
        default: "mnist",
        help: "What to learn: `mnist`, `fashion-mnist` or `synthetic`\n\n`synthetic` draws shapes by itself and needs no \
               files.",
        heading: DATA,
        later: Later::Fixed,
        set: |c, t| {
            store(
                &mut c.dataset,
                DatasetName::from_str(t).map_err(|unknown| {
                    wanted(&DatasetName::ALL.map(DatasetName::as_str), unknown.near().map(DatasetName::as_str))
                }),
            )
        },
    },
    Knob {
        key: "data-dir",
        value_name: "DIR",
        default: DEFAULT_DATA_DIR,
        help: "Where data sets lie, each in a directory of its name\n\nThe layouts of torchvision (MNIST/raw) and of Kaggle's \
               archives are read, too, and so is a directory that holds the files themselves.",
        heading: DATA,
        later: Later::Free,
        set: |c, t| store(&mut c.data_dir, path(t)),
    },
    Knob {
        key: "limit-train",
        value_name: "N",
        default: "all",
        help: "Train on the first N images only: the quick check of an architecture",
        heading: DATA,
        later: Later::Fixed,
        set: |c, t| store(&mut c.limit_train, optional(t, "all", |t| number(t, 1, u64::MAX))),
    },
    Knob {
        key: "limit-validation",
        value_name: "N",
        default: "all",
        help: "Validate on the first N images only",
        heading: DATA,
        later: Later::Fixed,
        set: |c, t| store(&mut c.limit_validation, optional(t, "all", |t| number(t, 1, u64::MAX))),
    },
    Knob {
        key: "epochs",
        value_name: "N",
        default: "5",
        help: "Passes over the training images",
        heading: TRAINING,
        later: Later::Grows,
        set: |c, t| store(&mut c.epochs, number(t, 1, 1_000_000)),
    },
    Knob {
        key: "batch-size",
        value_name: "N",
        default: "64",
        help: "Images in a step; the last step of an epoch takes what is left",
        heading: TRAINING,
        later: Later::Fixed,
        set: |c, t| store(&mut c.batch_size, number(t, 1, 1 << 20)),
    },
    Knob {
        key: "optimizer",
        value_name: "NAME",
        default: "adam",
        help: "Update rule: `adam`, `adamw` or `sgd`",
        heading: TRAINING,
        later: Later::Fixed,
        set: |c, t| {
            let named = [("adam", OptimizerName::Adam), ("adamw", OptimizerName::AdamW), ("sgd", OptimizerName::Sgd)];
            store(&mut c.optimizer, one_of(t, &named))
        },
    },
    Knob {
        key: "learning-rate",
        value_name: "RATE",
        default: "1e-3",
        help: "Step size of the update rule, above 0 and at most 100",
        heading: TRAINING,
        later: Later::Fixed,
        set: |c, t| store(&mut c.learning_rate, real(t, |v| v > 0.0 && v <= 100.0, "a number above 0 and at most 100")),
    },
    Knob {
        key: "momentum",
        value_name: "M",
        default: "0",
        help: "Momentum of `--optimizer sgd`, from 0 up to but not including 1",
        heading: TRAINING,
        later: Later::Fixed,
        set: |c, t| {
            store(&mut c.momentum, real(t, |v| (0.0..1.0).contains(&v), "a number from 0 up to but not including 1"))
        },
    },
    Knob {
        key: "weight-decay",
        value_name: "W",
        default: "auto",
        help: "Weight decay, from 0 to 10; `auto` is 0.01 for adamw and 0 for the others\n\nWith adamw it shrinks the \
               weights directly (decoupled); with adam and sgd it is an L2 penalty in the gradient.",
        heading: TRAINING,
        later: Later::Fixed,
        set: |c, t| {
            let parsed = optional(t, "auto", |t| real(t, |v| (0.0..=10.0).contains(&v), "a number from 0 to 10"));
            store(&mut c.weight_decay, parsed)
        },
    },
    Knob {
        key: "conv-filters",
        value_name: "N,...",
        default: "32,64",
        help: "Filters of each convolution, each followed by 2x2 max-pooling; `none` for no convolution",
        heading: NETWORK,
        later: Later::Fixed,
        set: |c, t| store(&mut c.architecture.conv_filters, widths(t)),
    },
    Knob {
        key: "kernel-size",
        value_name: "N",
        default: "3",
        help: "Side of the convolutions' square kernels",
        heading: NETWORK,
        later: Later::Fixed,
        set: |c, t| store(&mut c.architecture.kernel_size, number(t, 1, 64)),
    },
    Knob {
        key: "dense-units",
        value_name: "N",
        default: "128",
        help: "Units of the hidden dense layer",
        heading: NETWORK,
        later: Later::Fixed,
        set: |c, t| store(&mut c.architecture.dense_units, number(t, 1, 65_536)),
    },
    Knob {
        key: "update-freq",
        value_name: "WHEN",
        default: "50",
        help: "When to write iteration scalars: `epoch`, `batch`, or every N steps",
        heading: WATCHING,
        later: Later::Fixed,
        set: |c, t| {
            store(
                &mut c.update_freq,
                match t {
                    "epoch" => Ok(UpdateFreq::Epoch),
                    "batch" => Ok(UpdateFreq::Steps(1)),
                    _ => number(t, 1, 1 << 40)
                        .map(UpdateFreq::Steps)
                        .map_err(|_| "`epoch`, `batch`, or a number of steps, at least 1".to_owned()),
                },
            )
        },
    },
    Knob {
        key: "histogram-freq",
        value_name: "N",
        default: "1",
        help: "Write histograms every N epochs; 0 for never",
        heading: WATCHING,
        later: Later::Fixed,
        set: |c, t| store(&mut c.histogram_freq, number(t, 0, 1_000_000)),
    },
    Knob {
        key: "image-freq",
        value_name: "N",
        default: "1",
        help: "Write pictures every N epochs; 0 for never",
        heading: WATCHING,
        later: Later::Fixed,
        set: |c, t| store(&mut c.image_freq, number(t, 0, 1_000_000)),
    },
    Knob {
        key: "observe",
        value_name: "NAME=WHEN,...",
        default: "default",
        help: "What to look at, and when: `none`, `default`, or NAME=WHEN over either\n\nWHEN is `off`, `start`, \
               `every:Nepochs`, `every:Nsteps` or `at:N,...,last`; epochs count from 0, as in TensorBoard. `--observe \
               gradcam=every:2epochs,filters=off` changes two, `--observe none,gradcam=at:0,last` leaves one.",
        heading: WATCHING,
        later: Later::Fixed,
        set: |c, t| store(&mut c.observe, Watching::parse(t)),
    },
    Knob {
        key: "probes",
        value_name: "N",
        default: "10",
        help: "Validation images that pictures show again and again, spread over the classes\n\nGrad-CAM shows them all, \
               feature maps and explanations three of them.",
        heading: WATCHING,
        later: Later::Fixed,
        set: |c, t| store(&mut c.probes, number(t, 1, 100)),
    },
    Knob {
        key: "probe-seed",
        value_name: "N",
        default: "0",
        help: "Which validation images are shown; the same ones for the same N, whatever --seed is",
        heading: WATCHING,
        later: Later::Fixed,
        set: |c, t| store(&mut c.probe_seed, number::<u64>(t, 0, u64::MAX).map(Seed)),
    },
    Knob {
        key: "on-nan",
        value_name: "WHAT",
        default: "stop",
        help: "When the loss or a gradient is not finite: `stop`, `skip` or `rollback`\n\n`stop` ends the run and names the \
               first layer that broke. `skip` leaves the weights as they were and goes on with the next batch, up to 100 \
               times in a row. `rollback` goes back to the newest checkpoint and leaves out the batches since the loss was \
               last fine, up to 5 times.",
        heading: KEEPING,
        later: Later::Free,
        set: |c, t| {
            let named = [("stop", OnNan::Stop), ("skip", OnNan::Skip), ("rollback", OnNan::Rollback)];
            store(&mut c.on_nan, one_of(t, &named))
        },
    },
    Knob {
        key: "checkpoint-every",
        value_name: "WHEN",
        default: "1epoch",
        help: "When to write a checkpoint: `Nepochs`, `Nsteps`, `Nminutes` or `off`\n\nThe same command goes on from the \
               newest one, to the bit. SIGINT, SIGTERM, SIGUSR1, SIGUSR2 and SIGXCPU write one, too, and so does the end of the run, and with \
               --keep-best the end of every epoch; `off` writes none at all.",
        heading: KEEPING,
        later: Later::Free,
        set: |c, t| store(&mut c.checkpoint_every, t.parse().map_err(|()| cadence::WANTED.to_owned())),
    },
    Knob {
        key: "keep-last",
        value_name: "N",
        default: "2",
        help: "Checkpoints to keep, at least 1; older ones are removed",
        heading: KEEPING,
        later: Later::Free,
        set: |c, t| store(&mut c.keep_last, number(t, 1, 1_000_000)),
    },
    Knob {
        key: "keep-best",
        value_name: "METRIC",
        default: "none",
        help: "Keep the best checkpoint as well, by `val_accuracy` or `val_loss`; or `none`\n\nOf those that were written \
               at the end of an epoch.",
        heading: KEEPING,
        later: Later::Free,
        set: |c, t| {
            let named = [
                ("none", KeepBest::None),
                ("val_accuracy", KeepBest::ValidationAccuracy),
                ("val_loss", KeepBest::ValidationLoss),
            ];
            store(&mut c.keep_best, one_of(t, &named))
        },
    },
    Knob {
        key: "warm-start",
        value_name: "RUN",
        default: "none",
        help: "Begin with the weights of another run: its directory, or `latest`; or `none`\n\n`latest` is the newest \
               finished run with the same network and data set, in the directory that this one lies in or below it, of which \
               the weights are whole; where there is none, the run begins from scratch. Only weights are taken, those of its last epoch: optimizer, epochs and curves begin anew.",
        heading: RUN,
        later: Later::Free,
        set: |c, t| {
            c.warm_start = match t {
                "none" => WarmStart::None,
                "latest" => WarmStart::Latest,
                _ => WarmStart::Run(path(t)?),
            };
            Ok(())
        },
    },
    Knob {
        key: "metrics-textfile",
        value_name: "FILE",
        default: "",
        help: "Write figures of the run for Prometheus: a file for node_exporter's textfile collector\n\nIts name must end in \
               `.prom`. A run that fails leaves the time of the last success as it was.",
        heading: RUN,
        later: Later::Free,
        set: |c, t| {
            c.metrics_textfile = match t {
                "" => None,
                _ if t.ends_with(".prom") => Some(path(t)?),
                _ => return Err("a file whose name ends in .prom".to_owned()),
            };
            Ok(())
        },
    },
    Knob {
        key: "profile",
        value_name: "FILE",
        default: "",
        help: "Write where the time of a few steps went: a trace for Perfetto and chrome://tracing\n\nOf 20 steps after 20 \
               others, and of the end of the first epoch that this process trains: every phase, layer and observer, and \
               the operators of libtorch within them, on the thread that did it. A run of fewer than 40 steps has fewer before \
               them. On CUDA each part is waited for while it is recorded, an operator is not. The weights are the same with it and without.",
        heading: RUN,
        later: Later::Free,
        set: |c, t| {
            c.profile = if t.is_empty() { None } else { Some(path(t)?) };
            Ok(())
        },
    },
    Knob {
        key: "quiet",
        value_name: "",
        default: "false",
        help: "Say nothing but warnings and errors",
        heading: CONSOLE,
        later: Later::Free,
        set: |c, t| store(&mut c.quiet, one_of(t, &[("true", true), ("false", false), ("1", true), ("0", false)])),
    },
    Knob {
        key: "log-format",
        value_name: "FORMAT",
        default: "text",
        help: "Form of the messages on stderr: `text` or `json`",
        heading: CONSOLE,
        later: Later::Free,
        set: |c, t| store(&mut c.log_format, one_of(t, &[("text", LogFormat::Text), ("json", LogFormat::Json)])),
    },
];
