//! TensorBoard's file format: what is said, how it is put in bytes, where it goes, and how it is read back.
//!
//! Knows no tensor: what comes in are plain host arrays. Reading order, each file built on those before:
//! checksum, record, summary, event, file, sink.
//!
//! ```no_run
//! use trainer::eventlog::{Background, Entry, Limits, LogDir, Origin, Sink, Value, What};
//! use trainer::types::{Clock, Run, Step, SystemClock, Tag};
//!
//! let clock = SystemClock;
//! let logdir = LogDir::new("logs/fit", Origin::here());
//! let mut log = Background::spawn(logdir, Limits::default())?;
//! let what = What::Values(vec![Value::scalar(Tag::of("epoch_loss"), 0.25)]);
//! log.write(Entry { run: Run::Train, wall_time: clock.now(), step: Step::ZERO, what })?;
//! log.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod abridged;
pub mod animation;
pub mod background;
pub mod crc;
pub mod event;
pub mod export;
pub mod file;
pub mod graph;
pub mod histogram;
pub mod hparams;
pub mod inspect;
pub mod layout;
pub mod logdir;
mod plugin;
pub mod png;
pub mod pr_curve;
pub mod profile;
pub mod projector;
pub mod proto;
pub mod reader;
pub mod record;
pub mod scalar;
pub mod shown;
pub mod sink;
pub mod snapshots;
pub mod summary;
pub mod sweep;
pub mod tally;

pub use animation::{Animation, AnimationError};
pub use background::{Background, Limits};
pub use event::What;
pub use export::{Format, Table};
pub use file::{EventFile, Origin};
pub use graph::{Attr, DType, Graph, Node, Shape};
pub use histogram::Histogram;
pub use inspect::Report;
pub use layout::{Category, Chart, Layout, Margin, Pattern};
pub use logdir::LogDir;
pub use pr_curve::{Counts, PrCurve};
pub use profile::{NodeCost, Profile};
pub use projector::{Embeddings, EmbeddingsError, Sprite};
pub use reader::EventReader;
pub use sink::{Entry, Memory, Sink, SinkError};
pub use summary::{Summary, Value};
pub use tally::{Kind, Tally};
