//! Event files written by other programs, read by our reader. `tests/golden/` documents the origin of each.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use trainer::eventlog::inspect::{EventFile, Form, Report};
use trainer::eventlog::proto::event::What;
use trainer::eventlog::proto::summary::value::Value as Wire;
use trainer::eventlog::{EventReader, Histogram};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Tag, plugin, form, points, first and last step.
type Row = (&'static str, &'static str, Form, u64, i64, i64);

/// Inspects an undamaged file and compares its content.
fn assert_holds(name: &str, want: &[Row]) -> EventFile {
    let mut report = Report::of(&golden(name)).unwrap();
    assert!(!report.is_damaged(), "{report}");
    assert_eq!(report.runs.len(), 1, "{report}");
    let mut run = report.runs.remove(0);
    let got: Vec<_> = run
        .tags
        .iter()
        .map(|tag| (tag.name.as_str(), tag.plugin.as_str(), tag.form, tag.count, tag.first_step, tag.last_step))
        .collect();
    assert_eq!(got, want);
    let file = run.files.remove(0);
    assert_eq!((file.version.as_deref(), file.truncated_at), (Some("brain.Event:2"), None));
    file
}

#[test]
fn tensorflow() {
    let file = assert_holds(
        "tensorflow.tfevents",
        &[
            ("__run_graph__", "graphs", Form::GraphDef, 1, 0, 0),
            ("dense/kernel/histogram", "histograms", Form::Tensor, 3, 0, 2),
            ("epoch_loss", "scalars", Form::Tensor, 5, 0, 4),
            ("notes", "text", Form::Tensor, 1, 0, 0),
            ("picture", "images", Form::Tensor, 1, 3, 3),
            ("tone", "audio", Form::Tensor, 1, 0, 0),
        ],
    );
    assert_eq!((file.records, file.writer.as_deref()), (13, Some("tensorflow.core.util.events_writer")));
}

#[test]
fn torch() {
    let file = assert_holds(
        "torch.tfevents",
        &[
            ("Loss/new", "scalars", Form::Tensor, 5, 0, 40),
            ("Loss/train", "scalars", Form::SimpleValue, 5, 0, 40),
            ("__run_graph__", "graphs", Form::GraphDef, 1, 0, 0),
            ("notes/text_summary", "text", Form::Tensor, 1, 3, 3),
            ("picture", "images", Form::Image, 1, 2, 2),
            ("step1", "graph_run_metadata", Form::RunMetadata, 1, 0, 0),
            ("weight", "histograms", Form::Histo, 1, 1, 1),
        ],
    );
    assert_eq!((file.records, file.starts), (18, vec![0]));
}

#[test]
fn tensorboardx() {
    let file = assert_holds(
        "tensorboardx.tfevents",
        &[
            ("loss/train", "scalars", Form::SimpleValue, 5, 0, 4),
            ("notes/text_summary", "text", Form::Tensor, 1, 3, 3),
            ("picture", "images", Form::Image, 1, 2, 2),
            ("weight", "histograms", Form::Histo, 1, 1, 1),
        ],
    );
    assert_eq!(file.records, 9);
}

#[test]
fn tensorboard_rs() {
    let file = assert_holds(
        "tensorboard_rs.tfevents",
        &[
            ("loss", "scalars", Form::SimpleValue, 5, 0, 4),
            ("picture", "images", Form::Image, 1, 2, 2),
            ("weight", "histograms", Form::Histo, 1, 1, 1),
        ],
    );
    assert_eq!(file.records, 8);
}

/// Every byte of a file is covered by its checksums.
#[test]
fn every_changed_byte_is_noticed() {
    for name in ["tensorflow.tfevents", "tensorboard_rs.tfevents"] {
        let mut bytes = std::fs::read(golden(name)).unwrap();
        for i in 0..bytes.len() {
            bytes[i] ^= 1 << (i % 8);
            let damaged = EventReader::new(bytes.as_slice())
                .filter_map(|(_, event)| event.err())
                .any(|error| !error.is_truncation());
            assert!(damaged, "{name}: byte {i}");
            bytes[i] ^= 1 << (i % 8);
        }
    }
}

/// Writes `tests/golden/tensorboard_rs.tfevents`:
/// `GOLDEN_DIR=/tmp/golden cargo test --release --test golden -- --ignored`
#[test]
#[ignore = "writes a golden file"]
fn make_tensorboard_rs() {
    let dir = std::env::var("GOLDEN_DIR").unwrap();
    let mut writer = tensorboard_rs::summary_writer::SummaryWriter::new(&dir);
    for step in 0..5 {
        writer.add_scalar("loss", 1.0 / (step + 1) as f32, step);
    }
    writer.add_histogram_raw("weight", 0.0, 2.0, 3.0, 3.0, 5.0, &[1.0, 2.0], &[1.0, 2.0], 1);
    writer.add_image("picture", &[7; 3 * 4 * 6], &[3, 4, 6], 2);
}

/// The numbers of `make_tensorflow.py`.
fn values() -> Vec<f32> {
    (0..1000i64).map(|i| (i * i * 7919 % 10007) as f32 / 10007.0 - 0.25).collect()
}

#[test]
fn a_histogram_is_tensorflows_to_the_last_bit() {
    let file = BufReader::new(File::open(golden("tensorflow.tfevents")).unwrap());
    let mut theirs = BTreeMap::new();
    for (_, event) in EventReader::new(file) {
        let event = event.unwrap();
        let Some(What::Summary(summary)) = event.what else { continue };
        for value in summary.value {
            if let (Some(Wire::Tensor(tensor)), "dense/kernel/histogram") = (value.value, value.tag.as_str()) {
                let rows: Vec<f64> = tensor
                    .tensor_content
                    .chunks_exact(8)
                    .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
                    .collect();
                theirs.insert(event.step, rows);
            }
        }
    }
    let ours = |values: &[f32]| -> Vec<f64> {
        Histogram::of(values).buckets().iter().flat_map(|b| [b.left, b.right, b.count]).collect()
    };
    assert_eq!(ours(&values()), theirs[&0]);
    assert_eq!(ours(&[2.5; 7]), theirs[&1]);
    assert_eq!(ours(&[]), theirs[&2]);
}
