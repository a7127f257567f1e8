//! The table of knobs: every setting with its domain, default and help.

use std::str::FromStr;

use super::domain::{Domain, Interval, Values};
use super::knob::{Column, Knob, Later, NETWORK};
use super::paths::parse as path;
use super::values::{device, store, wanted};
use super::watching::Watching;
use super::{KeepBest, LogFormat, OnNan, OptimizerName, UpdateFreq, WarmStart, cadence};
use crate::data::{DEFAULT_DATA_DIR, DatasetName};
use crate::model::Precision;
use crate::run_name::Template;
use crate::types::Seed;

const RUN: &str = "Run";
const DATA: &str = "Data";
const TRAINING: &str = "Training";
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
        domain: Domain::of(Values::Path),
        column: Column::Never,
        set: |c, t, _| {
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
        domain: Domain::of(Values::Text),
        column: Column::Never,
        set: |c, t, _| {
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
        domain: Domain::whole(0, u64::MAX),
        column: Column::Shown(8),
        set: |c, t, d| store(&mut c.seed, d.parse_whole(t).map(Seed)),
    },
    Knob {
        key: "device",
        value_name: "DEVICE",
        default: "auto",
        help: "Where to compute: `auto`, `cpu`, `cuda` or `cuda:N`",
        heading: RUN,
        later: Later::Free,
        domain: Domain::of(Values::Text).or(&["auto", "cpu", "cuda"]),
        column: Column::IfDifferent,
        set: |c, t, _| store(&mut c.device, device(t)),
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
        domain: Domain::choice(&["f32", "bf16", "f16"]),
        column: Column::Shown(11),
        set: |c, t, d| store(&mut c.precision, d.pick(t, &Precision::ALL)),
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
        domain: Domain::whole(1, 1024).or(&["auto"]),
        column: Column::IfDifferent,
        set: |c, t, d| store(&mut c.threads, d.optional_whole(t)),
    },
    Knob {
        key: "dataset",
        value_name: "NAME",
        default: "mnist",
        help: "What to learn: `mnist`, `fashion-mnist` or `synthetic`\n\n`synthetic` draws shapes by itself and needs no \
               files.",
        heading: DATA,
        later: Later::Fixed,
        domain: Domain::choice(&["mnist", "fashion-mnist", "synthetic"]),
        column: Column::Shown(10),
        set: |c, t, _| {
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
        domain: Domain::of(Values::Path),
        column: Column::Never,
        set: |c, t, _| store(&mut c.data_dir, path(t)),
    },
    Knob {
        key: "limit-train",
        value_name: "N",
        default: "all",
        help: "Train on the first N images only: the quick check of an architecture",
        heading: DATA,
        later: Later::Fixed,
        domain: Domain::whole(1, u64::MAX).or(&["all"]),
        column: Column::Shown(12),
        set: |c, t, d| store(&mut c.limit_train, d.optional_whole(t)),
    },
    Knob {
        key: "limit-validation",
        value_name: "N",
        default: "all",
        help: "Validate on the first N images only",
        heading: DATA,
        later: Later::Fixed,
        domain: Domain::whole(1, u64::MAX).or(&["all"]),
        column: Column::Shown(13),
        set: |c, t, d| store(&mut c.limit_validation, d.optional_whole(t)),
    },
    Knob {
        key: "epochs",
        value_name: "N",
        default: "5",
        help: "Passes over the training images",
        heading: TRAINING,
        later: Later::Grows,
        domain: Domain::whole(1, 1_000_000),
        column: Column::Shown(7),
        set: |c, t, d| store(&mut c.epochs, d.parse_whole(t)),
    },
    Knob {
        key: "batch-size",
        value_name: "N",
        default: "64",
        help: "Images in a step; the last step of an epoch takes what is left",
        heading: TRAINING,
        later: Later::Fixed,
        domain: Domain::whole(1, 1 << 20),
        column: Column::Shown(1),
        set: |c, t, d| store(&mut c.batch_size, d.parse_whole(t)),
    },
    Knob {
        key: "optimizer",
        value_name: "NAME",
        default: "adam",
        help: "Update rule: `adam`, `adamw` or `sgd`",
        heading: TRAINING,
        later: Later::Fixed,
        domain: Domain::choice(&["adam", "adamw", "sgd"]),
        column: Column::Shown(2),
        set: |c, t, d| {
            store(&mut c.optimizer, d.pick(t, &[OptimizerName::Adam, OptimizerName::AdamW, OptimizerName::Sgd]))
        },
    },
    Knob {
        key: "learning-rate",
        value_name: "RATE",
        default: "1e-3",
        help: "Step size of the update rule, above 0 and at most 100",
        heading: TRAINING,
        later: Later::Fixed,
        domain: Domain::real(Interval { least: 0.0, includes_least: false, most: 100.0, includes_most: true }),
        column: Column::Shown(0),
        set: |c, t, d| store(&mut c.learning_rate, d.parse_real(t)),
    },
    Knob {
        key: "momentum",
        value_name: "M",
        default: "0",
        help: "Momentum of `--optimizer sgd`, from 0 up to but not including 1",
        heading: TRAINING,
        later: Later::Fixed,
        domain: Domain::real(Interval { least: 0.0, includes_least: true, most: 1.0, includes_most: false }),
        column: Column::Shown(6),
        set: |c, t, d| store(&mut c.momentum, d.parse_real(t)),
    },
    Knob {
        key: "weight-decay",
        value_name: "W",
        default: "auto",
        help: "Weight decay, from 0 to 10; `auto` is 0.01 for adamw and 0 for the others\n\nWith adamw it shrinks the \
               weights directly (decoupled); with adam and sgd it is an L2 penalty in the gradient.",
        heading: TRAINING,
        later: Later::Fixed,
        domain: Domain::real(Interval { least: 0.0, includes_least: true, most: 10.0, includes_most: true })
            .or(&["auto"]),
        column: Column::Shown(5),
        set: |c, t, d| store(&mut c.weight_decay, d.optional_real(t)),
    },
    Knob {
        key: "conv-filters",
        value_name: "N,...",
        default: "32,64",
        help: "Filters of each convolution, each followed by 2x2 max-pooling; `none` for no convolution",
        heading: NETWORK,
        later: Later::Fixed,
        domain: Domain::of(Values::Wholes { least: 1, most: 65_536, count: 64 }).or(&["none"]),
        column: Column::Shown(3),
        set: |c, t, d| store(&mut c.architecture.conv_filters, d.parse_wholes(t)),
    },
    Knob {
        key: "kernel-size",
        value_name: "N",
        default: "3",
        help: "Side of the convolutions' square kernels",
        heading: NETWORK,
        later: Later::Fixed,
        domain: Domain::whole(1, 64),
        column: Column::Shown(9),
        set: |c, t, d| store(&mut c.architecture.kernel_size, d.parse_whole(t)),
    },
    Knob {
        key: "dense-units",
        value_name: "N",
        default: "128",
        help: "Units of the hidden dense layer",
        heading: NETWORK,
        later: Later::Fixed,
        domain: Domain::whole(1, 65_536),
        column: Column::Shown(4),
        set: |c, t, d| store(&mut c.architecture.dense_units, d.parse_whole(t)),
    },
    Knob {
        key: "update-freq",
        value_name: "WHEN",
        default: "50",
        help: "When to write iteration scalars: `epoch`, `batch`, or every N steps",
        heading: WATCHING,
        later: Later::Fixed,
        domain: Domain::whole(1, 1 << 40).or(&["epoch", "batch"]),
        column: Column::IfDifferent,
        set: |c, t, d| {
            let wanted = |_| "`epoch`, `batch`, or a number of steps, at least 1".to_owned();
            let freq = match t {
                "epoch" => Ok(UpdateFreq::Epoch),
                "batch" => Ok(UpdateFreq::Steps(1)),
                _ => d.parse_whole(t).map(UpdateFreq::Steps).map_err(wanted),
            };
            store(&mut c.update_freq, freq)
        },
    },
    Knob {
        key: "histogram-freq",
        value_name: "N",
        default: "1",
        help: "Write histograms every N epochs; 0 for never",
        heading: WATCHING,
        later: Later::Fixed,
        domain: Domain::whole(0, 1_000_000),
        column: Column::IfDifferent,
        set: |c, t, d| store(&mut c.histogram_freq, d.parse_whole(t)),
    },
    Knob {
        key: "image-freq",
        value_name: "N",
        default: "1",
        help: "Write pictures every N epochs; 0 for never",
        heading: WATCHING,
        later: Later::Fixed,
        domain: Domain::whole(0, 1_000_000),
        column: Column::IfDifferent,
        set: |c, t, d| store(&mut c.image_freq, d.parse_whole(t)),
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
        domain: Domain::of(Values::Text).or(&["none", "default"]),
        column: Column::IfDifferent,
        set: |c, t, _| store(&mut c.observe, Watching::parse(t)),
    },
    Knob {
        key: "probes",
        value_name: "N",
        default: "10",
        help: "Validation images that pictures show again and again, spread over the classes\n\nGrad-CAM shows them all, \
               feature maps and explanations three of them.",
        heading: WATCHING,
        later: Later::Fixed,
        domain: Domain::whole(1, 100),
        column: Column::IfDifferent,
        set: |c, t, d| store(&mut c.probes, d.parse_whole(t)),
    },
    Knob {
        key: "probe-seed",
        value_name: "N",
        default: "0",
        help: "Which validation images are shown; the same ones for the same N, whatever --seed is",
        heading: WATCHING,
        later: Later::Fixed,
        domain: Domain::whole(0, u64::MAX),
        column: Column::IfDifferent,
        set: |c, t, d| store(&mut c.probe_seed, d.parse_whole(t).map(Seed)),
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
        domain: Domain::choice(&["stop", "skip", "rollback"]),
        column: Column::IfDifferent,
        set: |c, t, d| store(&mut c.on_nan, d.pick(t, &[OnNan::Stop, OnNan::Skip, OnNan::Rollback])),
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
        domain: Domain::of(Values::Text).or(&["off"]),
        column: Column::IfDifferent,
        set: |c, t, _| store(&mut c.checkpoint_every, t.parse().map_err(|()| cadence::WANTED.to_owned())),
    },
    Knob {
        key: "keep-last",
        value_name: "N",
        default: "2",
        help: "Checkpoints to keep, at least 1; older ones are removed",
        heading: KEEPING,
        later: Later::Free,
        domain: Domain::whole(1, 1_000_000),
        column: Column::IfDifferent,
        set: |c, t, d| store(&mut c.keep_last, d.parse_whole(t)),
    },
    Knob {
        key: "keep-best",
        value_name: "METRIC",
        default: "none",
        help: "Keep the best checkpoint as well, by `val_accuracy` or `val_loss`; or `none`\n\nOf those that were written \
               at the end of an epoch.",
        heading: KEEPING,
        later: Later::Free,
        domain: Domain::choice(&["none", "val_accuracy", "val_loss"]),
        column: Column::IfDifferent,
        set: |c, t, d| {
            store(
                &mut c.keep_best,
                d.pick(t, &[KeepBest::None, KeepBest::ValidationAccuracy, KeepBest::ValidationLoss]),
            )
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
        domain: Domain::of(Values::Path).or(&["none", "latest"]),
        column: Column::IfDifferent,
        set: |c, t, _| {
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
        domain: Domain::of(Values::Path),
        column: Column::Never,
        set: |c, t, _| {
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
        domain: Domain::of(Values::Path),
        column: Column::Never,
        set: |c, t, _| {
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
        domain: Domain::choice(&["true", "false", "1", "0"]),
        column: Column::Never,
        set: |c, t, d| store(&mut c.quiet, d.pick(t, &[true, false, true, false])),
    },
    Knob {
        key: "log-format",
        value_name: "FORMAT",
        default: "text",
        help: "Form of the messages on stderr: `text` or `json`",
        heading: CONSOLE,
        later: Later::Free,
        domain: Domain::choice(&["text", "json"]),
        column: Column::Never,
        set: |c, t, d| store(&mut c.log_format, d.pick(t, &[LogFormat::Text, LogFormat::Json])),
    },
];
