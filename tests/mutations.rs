//! Readers of external bytes, each with 100,000 inputs that are nearly valid: none panics, accepts input that does
//! not survive a round trip, or takes much memory for little input.
//!
//! A failure reports its point and writes the input to a file; points are the same in every run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program: whatever fails, fails the test"
)]

#[path = "mutations/memory.rs"]
mod memory;
#[path = "mutations/mutator.rs"]
mod mutator;
#[path = "mutations/subjects.rs"]
mod subjects;

use std::io::{Cursor, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use trainer::checkpoint::manifest::{FileEntry, Manifest};
use trainer::config::{KNOBS, Knob, Layers};
use trainer::eventlog::event;
use trainer::eventlog::record::{self, RecordReader, TooLong};
use trainer::eventlog::{Histogram, Value};
use trainer::model::Architecture;
use trainer::picture::Picture;
use trainer::types::{ImageShape, Seed, Step, Tag, WallTime};
use trainer::weights;
use trainer::weights::Weights;

use self::memory::Peak;
use self::mutator::Mutator;

/// Number of points, unless the variable `MUTATIONS` sets it.
const POINTS: u64 = 100_000;
/// Maximum memory for an input of at most 16 KiB, in bytes.
const MEMORY: usize = 64 << 20;
/// Maximum number of failures reported one by one.
const TOLD: u64 = 10;

/// Passes the output of `make` to `judge`, point after point, and prints the result.
fn prove(
    what: &str,
    memory: usize,
    mut make: impl FnMut(&mut Mutator) -> Vec<u8>,
    mut judge: impl FnMut(&[u8]) -> bool,
) {
    let points = std::env::var("MUTATIONS").map_or(POINTS, |points| points.parse().expect("MUTATIONS is a number"));
    let subject = what.bytes().fold(0, |number: u64, byte| number.wrapping_mul(31).wrapping_add(byte.into()));
    let (mut accepted, mut failures, mut most) = (0, 0, 0);
    for point in 0..points {
        let input = make(&mut Mutator::new(subject, point));
        let peak = Peak::start();
        // The panic's own message and location go to stderr.
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&input)));
        let taken = peak.taken();
        most = most.max(taken);
        accepted += u64::from(matches!(judged, Ok(true)));
        if judged.is_ok() && taken <= memory {
            continue;
        }
        failures += 1;
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{point}", what.replace(' ', "-")));
        std::fs::write(&path, &input).unwrap();
        eprintln!("{what}: point {point} fails, {taken} bytes of memory; its input is in {}", path.display());
        if failures >= TOLD {
            break;
        }
    }
    println!("proof: X {what}: {points} points, {failures} failures");
    println!("  {what}: {accepted} accepted, at most {} KiB of memory for one", most >> 10);
    assert_eq!(failures, 0, "{what}");
    // Otherwise the edits are too many or too few to test both outcomes.
    let few = points / 1000;
    assert!(accepted > few && points - accepted > few, "{what}: {accepted} of {points} accepted");
}

/// Path of a temporary input file, in memory if possible: a disk takes milliseconds for each.
fn scratch() -> (tempfile::TempDir, PathBuf) {
    let memory = std::path::Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let path = dir.path().join("input");
    (dir, path)
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// Event files of this program and of three other writers.
fn event_files() -> Vec<Vec<u8>> {
    let values = [
        Value::scalar(Tag::of("loss"), 0.5),
        Value::histogram(Tag::of("kernel/histogram"), Histogram::of(&[1.0, 2.0])),
        Value::images(Tag::of("image"), vec![Picture::filled(2, 2, [1, 2, 3])]),
        Value::text(Tag::of("text"), "hello"),
    ];
    let ours = event::file(WallTime::from_secs(1.5).unwrap(), Step::new(7).unwrap(), &values).unwrap();
    vec![ours, golden("tensorboard_rs.tfevents"), golden("tensorflow.tfevents")]
}

fn payloads(file: &[u8]) -> Vec<Vec<u8>> {
    let (mut reader, mut all) = (RecordReader::new(file), Vec::new());
    while let Some((_, payload)) = reader.read().unwrap() {
        all.push(payload.to_vec());
    }
    all
}

fn framed(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for payload in payloads {
        record::append(&mut file, |buffer| {
            buffer.extend_from_slice(payload);
            Ok::<(), TooLong>(())
        })
        .unwrap();
    }
    file
}

#[test]
fn event_files_as_bytes() {
    let (_dir, scratch) = scratch();
    let files = event_files();
    let known: Vec<Vec<u8>> = files.iter().flat_map(|file| payloads(file)).collect();
    prove(
        "event file parser",
        MEMORY,
        |mutator| mutator.bytes(&files),
        |bytes| {
            // A record with a valid checksum is one that was written.
            let mut reader = RecordReader::new(bytes);
            loop {
                match reader.read() {
                    Ok(Some((_, payload))) => {
                        assert!(payload.is_empty() || known.iter().any(|one| one == payload), "damage was not seen");
                    }
                    Ok(None) => break,
                    Err(_) => {}
                }
            }
            subjects::event_file(bytes, &scratch)
        },
    );
}

#[test]
fn event_files_whose_checksums_are_right() {
    let (_dir, scratch) = scratch();
    let known: Vec<Vec<u8>> = event_files().iter().flat_map(|file| payloads(file)).collect();
    let make = |mutator: &mut Mutator| {
        let payloads: Vec<Vec<u8>> = (0..=mutator.below(4)).map(|_| mutator.bytes(&known)).collect();
        framed(&payloads)
    };
    prove("event parser", MEMORY, make, |bytes| subjects::event_file(bytes, &scratch));
}

#[test]
fn idx_files() {
    let (_dir, scratch) = scratch();
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4][..], &[7; 24]].concat();
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 5][..], &[1, 2, 3, 4, 5]].concat();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let plain = vec![images, labels];
    let packed: Vec<Vec<u8>> = plain.iter().map(|file| gzip(file)).collect();
    let make = |mutator: &mut Mutator| match mutator.below(3) {
        0 => mutator.bytes(&packed),
        1 => gzip(&mutator.bytes(&plain)),
        _ => mutator.bytes(&plain),
    };
    prove("IDX parser", MEMORY, make, |bytes| subjects::idx(bytes, &scratch));
}

/// Words for settings, valid and invalid.
const WORDS: &[&str] = &[
    "0",
    "1",
    "-1",
    "1e3",
    "1e999",
    "nan",
    "inf",
    "-0",
    "0x10",
    "1_000",
    "18446744073709551616",
    "999999999999999999999999",
    "auto",
    "all",
    "none",
    "off",
    "start",
    "last",
    "default",
    "epoch",
    "epochs",
    "steps",
    "minutes",
    "every:",
    "at:",
    "=",
    ",",
    ":",
    ".",
    " ",
    "\"",
    "'",
    "'''",
    "\"\"\"",
    "[",
    "]",
    "{",
    "}",
    "#",
    "\n",
    "\t",
    "\\",
    "\\u0000",
    "true",
    "false",
    "cuda:",
    "gradcam",
    "tsne",
    "weights",
    "/",
    "..",
    "learning-rate",
    "observe",
    "\u{e9}",
    "\u{1f600}",
    "1979-05-27",
];

#[test]
fn configuration_files() {
    let (_dir, scratch) = scratch();
    let defaults = Layers::new().resolve().unwrap().to_toml();
    let examples = [
        &defaults[..],
        "epochs = 3\nlearning_rate = 1e-3\nconv-filters = [8, 16]\n",
        "observe = \"none,gradcam=every:2epochs,tsne=at:0,4,last\"\nquiet = true\n",
        "logdir = 'a b'\ndata-dir = \"\\u00e9\"\nlimit-train = \"all\" # x\nseed = 18446744073709551615\n",
        "",
    ];
    let make = |mutator: &mut Mutator| match mutator.below(4) {
        0 => mutator.bytes(&examples.map(|text| text.as_bytes().to_vec())),
        _ => mutator.text(&examples, WORDS).into_bytes(),
    };
    prove("config parser", MEMORY, make, |bytes| subjects::config(bytes, &scratch));
}

#[test]
fn every_setting() {
    let (_dir, scratch) = scratch();
    let defaults: Vec<&str> = KNOBS.iter().map(|knob| knob.default).chain(WORDS.iter().copied()).collect();
    let make = |mutator: &mut Mutator| {
        let number = mutator.below(KNOBS.len());
        // Half of the texts start from the setting's own default.
        let text = match mutator.below(2) {
            0 => mutator.text(&[KNOBS[number].default], WORDS),
            _ => mutator.text(&defaults, WORDS),
        };
        [&[number as u8], text.as_bytes()].concat()
    };
    prove("knob parsers", MEMORY, make, |bytes| {
        let text = std::str::from_utf8(&bytes[1..]).unwrap();
        subjects::knob(&KNOBS[usize::from(bytes[0])], text, &scratch)
    });
}

#[test]
fn what_is_watched() {
    let (_dir, scratch) = scratch();
    let observe = Knob::find("observe").unwrap();
    let examples = [
        "default",
        "none",
        "none,gradcam=at:0,4,last,filters=every:3epochs,weights=every:50steps",
        "texts=start,scalars=off,tsne=at:last",
        "default,explanations=every:1epoch",
    ];
    let make = |mutator: &mut Mutator| mutator.text(&examples, WORDS).into_bytes();
    prove("observe parser", MEMORY, make, |bytes| {
        subjects::knob(observe, std::str::from_utf8(bytes).unwrap(), &scratch)
    });
}

#[test]
fn triggers() {
    let examples = ["off", "start", "every:2epochs", "every:50steps", "at:0,4,last", "at:last", "every:1epoch"];
    let make = |mutator: &mut Mutator| mutator.text(&examples, WORDS).into_bytes();
    prove("trigger parser", MEMORY, make, |bytes| subjects::trigger(std::str::from_utf8(bytes).unwrap()));
}

#[test]
fn names_of_runs() {
    let examples =
        ["fit", "trainer-29123456", "2026-01-02", "{date}-{time}", "{host}_{seed}", "lr{learning-rate}", "{{x}}"];
    let words =
        ["..", ".", "/", "\\", "{", "}", "{{", "}}", "{seed}", "{datetime}", "%2e", "\0", "-", "\u{202e}", "NUL", " "];
    let make = |mutator: &mut Mutator| mutator.text(&examples, &words).into_bytes();
    prove("run name parser", MEMORY, make, |bytes| subjects::run_name(std::str::from_utf8(bytes).unwrap()));
}

/// Limit of the decoder itself, since an image of few bytes may be large.
const PICTURE_MEMORY: usize = 2 * (8 << 26);

#[test]
fn pictures() {
    use image::{DynamicImage, ImageFormat, RgbImage, RgbaImage};

    let opaque = RgbImage::from_fn(6, 5, |x, y| image::Rgb([(x * 40) as u8, (y * 50) as u8, 90]));
    let glass = RgbaImage::from_fn(5, 6, |x, y| image::Rgba([(x * 40) as u8, (y * 40) as u8, 90, (x * y * 8) as u8]));
    let opaque = DynamicImage::ImageRgb8(opaque);
    let images = [
        opaque.clone(),
        DynamicImage::ImageRgba8(glass),
        opaque.grayscale(),
        DynamicImage::ImageRgb16(opaque.to_rgb16()),
    ];
    let encoded = |image: &DynamicImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let pngs: Vec<Vec<u8>> = images.iter().map(|image| encoded(image, ImageFormat::Png)).collect();
    let others = [ImageFormat::Jpeg, ImageFormat::Bmp];
    let files: Vec<Vec<u8>> =
        others.iter().map(|&format| encoded(&opaque, format)).chain(pngs.iter().cloned()).collect();
    let make = |mutator: &mut Mutator| match mutator.below(2) {
        0 => mutator.bytes(&files),
        _ => with_checksums(mutator.bytes(&pngs)),
    };
    prove("picture decoder", PICTURE_MEMORY, make, subjects::photo);
}

/// A PNG file with corrected chunk checksums, as far as there are chunks.
fn with_checksums(mut png: Vec<u8>) -> Vec<u8> {
    let mut at = 8;
    while let Some(len) = png.get(at..at + 4) {
        let len = u32::from_be_bytes(len.try_into().unwrap()) as usize;
        let Some(chunk) = png.get(at + 4..at + 8 + len) else { break };
        let crc = crc32fast::hash(chunk).to_be_bytes();
        let Some(place) = png.get_mut(at + 8 + len..at + 12 + len) else { break };
        place.copy_from_slice(&crc);
        at += 12 + len;
    }
    png
}

#[test]
fn weights_of_a_network() {
    let (_dir, scratch) = scratch();
    let parameters = |seed| {
        let architecture = Architecture { conv_filters: vec![2], kernel_size: 2, dense_units: 3 };
        let input = ImageShape { height: 6, width: 6, channels: 1 };
        Weights::initialise(&architecture.build(input, 2).unwrap(), Seed(seed), tch::Device::Cpu)
    };
    let values = |parameters: &Weights| -> Vec<u32> {
        parameters.host().flat_map(|(_, values)| values).map(f32::to_bits).collect()
    };
    let files: Vec<Vec<u8>> = (0..3).map(|seed| weights::encode(&parameters(seed)).unwrap()).collect();
    let (header, data): (Vec<_>, Vec<_>) = files.iter().map(|file| parts(file)).unzip();
    let make = |mutator: &mut Mutator| {
        if mutator.below(2) == 0 {
            return mutator.bytes(&files);
        }
        let header = mutator.bytes(&header);
        let data: &Vec<u8> = mutator.pick(&data);
        [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
    };
    let target = parameters(9);
    let shape = |side: &[i64]| side.iter().map(|&side| side as usize).collect();
    let want: Vec<(String, Vec<usize>)> =
        target.specs().iter().map(|spec| (spec.state_name(), shape(&spec.shape))).collect();
    prove("weights parser", MEMORY, make, |bytes| {
        std::fs::write(&scratch, bytes).unwrap();
        let before = values(&target);
        let loaded = weights::load(&scratch, &target, None);
        assert_eq!(loaded.is_ok(), subjects::tensors(bytes, &want), "the reader below it thinks otherwise");
        match loaded {
            Ok(()) => {
                let again = weights::encode(&target).unwrap();
                assert_eq!(parts(&again).1.len(), parts(bytes).1.len(), "accepted, and not the same");
                true
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(values(&target), before, "refused, and half of it taken");
                false
            }
        }
    });
}

#[test]
fn manifests_of_checkpoints() {
    let manifest = |step| {
        let files = vec![FileEntry::of("model.safetensors", b"abc"), FileEntry::of("observers.bin", b"")];
        let facts = serde_json::json!({"epoch": 3, "config": {"seed": 7}}).as_object().cloned().unwrap();
        Manifest::new(step, facts, files).encode().unwrap()
    };
    let examples = [manifest(0), manifest(4690), manifest(u64::MAX)];
    prove("manifest parser", MEMORY, |mutator| mutator.bytes(&examples), subjects::manifest);
}

/// The header of a safetensors file, and the rest.
fn parts(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    (file[8..8 + len].to_vec(), file[8 + len..].to_vec())
}
