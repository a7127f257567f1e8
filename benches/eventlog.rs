//! Events a second, from the call to a closed file: this project's event log and the crate `tensorboard-rs`; and read
//! back.
//!
//! ```text
//! cargo bench --bench eventlog -- --rounds 5 --scalars 1000000 --histograms 100 --large-histograms 10 --images 500 --reader 1000000 [--subject NAME] [--begin-with N] [--dir DIR]
//! ```
//! Subjects take turns in each round, the first one after the other, or from number N on, so that what the machine does besides hits all of them. One JSON object a line:
//! `{"workload": .., "subject": .., "events": .., "events_per_second": [one a round], "bytes": ..}`.
//!
//! `trainer` writes to a file itself, in series of which the tags are made beforehand; `trainer-background` hands over a
//! tag with each event, as a run does.
//!
//! `bytes-with-checksums` is the limit: the same records, encoded beforehand, framed with their two checksums and
//! written. It makes no event, and asks no clock for the time.
//!
//! | workload | one event is |
//! | --- | --- |
//! | `scalars` | one scalar under one of eight tags of 14 characters |
//! | `histograms` | 100,000 normal-like floats, put in buckets and written |
//! | `large-histograms` | 10 million of them |
//! | `images` | one RGB image of 64 x 64 pixels, encoded as PNG and written |
//! | `reader` | one event of the file of `scalars`, read, checked and decoded |
//!
//! `tensorboard-rs` has no histogram of values, only of finished buckets; the benchmark puts its values in the same
//! thirty buckets, in the plainest way.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use trainer::eventlog::record::{self, RecordReader, TooLong};
use trainer::eventlog::{
    Background, Entry, EventFile, EventReader, Histogram, Limits, LogDir, Origin, Sink, Summary, Value, What,
};
use trainer::picture::Picture;
use trainer::types::{Clock, Run, Step, SystemClock, Tag};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Bytes gathered before they are written, as an event file does.
const BUFFER: usize = 64 << 10;
/// Series in turn.
const TAGS: usize = 8;

const SUBJECTS: [Subject; 4] = [Subject::Direct, Subject::Background, Subject::Bytes, Subject::TensorboardRs];

#[derive(Clone, Copy, PartialEq)]
enum Subject {
    Direct,
    Background,
    Bytes,
    TensorboardRs,
}

#[derive(Clone, Copy, PartialEq)]
enum Workload {
    Scalars,
    Histograms,
    LargeHistograms,
    Images,
    Reader,
}

struct Options {
    rounds: usize,
    scalars: usize,
    histograms: usize,
    large_histograms: usize,
    images: usize,
    /// Scalars in the file that is read.
    reader: usize,
    dir: Option<PathBuf>,
    /// The subject that comes first in the first round, by its number.
    begin_with: usize,
    /// All if none is named.
    subject: Option<String>,
}

/// What is logged, made before the clock starts.
struct Input {
    tags: [String; TAGS],
    values: Vec<f32>,
    many_values: Vec<f32>,
    pictures: Vec<Picture>,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Subject::Direct => "trainer",
            Subject::Background => "trainer-background",
            Subject::Bytes => "bytes-with-checksums",
            Subject::TensorboardRs => "tensorboard-rs",
        }
    }
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Workload::Scalars => "scalars",
            Workload::Histograms => "histograms",
            Workload::LargeHistograms => "large-histograms",
            Workload::Images => "images",
            Workload::Reader => "reader",
        }
    }
}

impl Options {
    fn parse() -> Outcome<Options> {
        let mut options = Options {
            rounds: 5,
            scalars: 1_000_000,
            histograms: 100,
            large_histograms: 10,
            images: 500,
            reader: 1_000_000,
            dir: None,
            begin_with: 0,
            subject: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            // Cargo adds it.
            if flag == "--bench" {
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{flag} wants a value"))?;
            match flag.as_str() {
                "--rounds" => options.rounds = value.parse()?,
                "--scalars" => options.scalars = value.parse()?,
                "--histograms" => options.histograms = value.parse()?,
                "--large-histograms" => options.large_histograms = value.parse()?,
                "--images" => options.images = value.parse()?,
                "--reader" => options.reader = value.parse()?,
                "--subject" => options.subject = Some(value),
                "--begin-with" => options.begin_with = value.parse()?,
                "--dir" => options.dir = Some(value.into()),
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(options)
    }
}

impl Input {
    fn new(has_many: bool) -> Input {
        let tags = std::array::from_fn(|i| format!("loss/layer_{i:03}"));
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let mut values = |count| (0..count).map(|_| (0..4).map(|_| next() - 0.5).sum()).collect();
        let (values, many_values) = (values(100_000), values(if has_many { 10_000_000 } else { 0 }));
        let pictures = (0..16)
            .map(|_| {
                let mut picture = Picture::filled(64, 64, [0; 3]);
                for y in 0..64 {
                    for x in 0..64 {
                        // Smooth with some noise, like a feature map in colours.
                        let noise = (next() * 16.0) as u8;
                        picture.set(x, y, [x as u8 * 3 + noise, y as u8 * 3, (x + y) as u8]);
                    }
                }
                picture
            })
            .collect();
        Input { tags, values, many_values, pictures }
    }

    /// What a histogram is made of.
    fn numbers(&self, workload: Workload) -> &[f32] {
        if workload == Workload::LargeHistograms { &self.many_values } else { &self.values }
    }

    fn summary(&self, workload: Workload, i: usize) -> Summary {
        match workload {
            Workload::Scalars | Workload::Reader => Summary::Scalar(i as f32),
            Workload::Histograms | Workload::LargeHistograms => {
                Summary::Histogram(Histogram::of(black_box(self.numbers(workload))))
            }
            Workload::Images => Summary::Images(vec![self.pictures[i % self.pictures.len()].clone()]),
        }
    }
}

/// Logs `events` events below `dir` and returns how many seconds that took.
fn run(subject: Subject, workload: Workload, events: usize, input: &Input, dir: &Path) -> Outcome<f64> {
    let tags = input.tags.each_ref().map(Tag::of);
    let clock = SystemClock;
    let step = |i: usize| Step::new(i as u64).ok_or("too many events");
    let (payloads, ends) = match subject {
        Subject::Bytes => payloads(workload, events, input, dir)?,
        _ => Default::default(),
    };
    let begin = Instant::now();
    match subject {
        Subject::Direct => {
            let mut file = EventFile::create(dir, &Origin::here(), 0, clock.now(), Some(Step::ZERO))?;
            let mut values = tags.map(|tag| Value::scalar(tag, 0.0));
            for i in 0..events {
                // A series keeps its tag; each point says something else.
                let value = &mut values[i % TAGS];
                value.summary = input.summary(workload, i);
                file.write_values(clock.now(), step(i)?, std::slice::from_ref(value))?;
            }
            file.close()?;
        }
        Subject::Bytes => {
            let mut file = File::create(dir.join("records"))?;
            let mut buffer = Vec::with_capacity(2 * BUFFER);
            let mut begin = 0;
            for end in ends {
                record::append(&mut buffer, |buffer| {
                    buffer.extend_from_slice(&payloads[begin..end]);
                    Ok::<(), TooLong>(())
                })?;
                begin = end;
                if buffer.len() >= BUFFER {
                    file.write_all(&buffer)?;
                    buffer.clear();
                }
            }
            file.write_all(&buffer)?;
        }
        Subject::Background => {
            let logdir = LogDir::new(dir, Origin::here());
            let mut log = Background::spawn(logdir, Limits::default())?;
            for i in 0..events {
                let (tag, summary) = (tags[i % TAGS].clone(), input.summary(workload, i));
                let what = What::Value(Value { tag, summary, description: None });
                log.write(Entry { run: Run::Steps, wall_time: clock.now(), step: step(i)?, what })?;
            }
            log.close()?;
        }
        Subject::TensorboardRs => {
            let mut writer = tensorboard_rs::summary_writer::SummaryWriter::new(dir);
            for i in 0..events {
                let tag = &input.tags[i % TAGS];
                match workload {
                    Workload::Scalars | Workload::Reader => writer.add_scalar(tag, i as f32, i),
                    Workload::Histograms | Workload::LargeHistograms => {
                        add_histogram(&mut writer, tag, black_box(input.numbers(workload)), i);
                    }
                    Workload::Images => {
                        let picture = &input.pictures[i % input.pictures.len()];
                        // It says planes, width and height, and takes pixels, height and width.
                        let pixels = picture.pixels().as_flattened();
                        writer.add_image(tag, pixels, &[3, 64, 64], i);
                    }
                }
            }
            // Its destructor joins the thread that writes.
            drop(writer);
        }
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// The contents of the records that [`Subject::Direct`] writes, one after another, and where each ends.
fn payloads(workload: Workload, events: usize, input: &Input, dir: &Path) -> Outcome<(Vec<u8>, Vec<usize>)> {
    run(Subject::Direct, workload, events, input, dir)?;
    let path = only_file(dir)?;
    let file = std::fs::read(&path)?;
    std::fs::remove_file(&path)?;
    let (mut reader, mut bytes, mut ends) = (RecordReader::new(file.as_slice()), Vec::new(), Vec::new());
    while let Some((_, payload)) = reader.read()? {
        bytes.extend_from_slice(payload);
        ends.push(bytes.len());
    }
    Ok((bytes, ends))
}

fn only_file(dir: &Path) -> Outcome<PathBuf> {
    Ok(std::fs::read_dir(dir)?.next().ok_or("no event file")??.path())
}

/// Reads a file of scalars and returns how many seconds that took.
fn read(events: usize, input: &Input, dir: &Path) -> Outcome<f64> {
    run(Subject::Direct, Workload::Reader, events, input, dir)?;
    let path = only_file(dir)?;
    let begin = Instant::now();
    let mut count = 0;
    for (_, event) in EventReader::new(File::open(&path)?) {
        black_box(event?);
        count += 1;
    }
    let seconds = begin.elapsed().as_secs_f64();
    // A file begins with its version, and a start.
    if count == events + 2 { Ok(seconds) } else { Err(format!("{count} events were read of {events}").into()) }
}

fn add_histogram(writer: &mut tensorboard_rs::summary_writer::SummaryWriter, tag: &str, values: &[f32], step: usize) {
    let (mut min, mut max, mut sum, mut squares) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0.0);
    for value in values.iter().map(|&value| f64::from(value)) {
        min = value.min(min);
        max = value.max(max);
        sum += value;
        squares += value * value;
    }
    let width = (max - min) / 30.0;
    let mut counts = [0.0; 30];
    for value in values.iter().map(|&value| f64::from(value)) {
        counts[(((value - min) / width) as usize).min(29)] += 1.0;
    }
    let limits: Vec<f64> = (1..=30).map(|i| min + width * f64::from(i)).collect();
    writer.add_histogram_raw(tag, min, max, values.len() as f64, sum, squares, &limits, &counts, step);
}

/// Bytes of all files below `dir`.
fn size(dir: &Path) -> std::io::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        total += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(total)
}

fn main() -> Outcome<()> {
    let options = Options::parse()?;
    let scratch = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let input = Input::new(options.large_histograms > 0);
    let Options { scalars, histograms, large_histograms, images, reader, .. } = options;
    let workloads = [
        (Workload::Scalars, scalars),
        (Workload::Histograms, histograms),
        (Workload::LargeHistograms, large_histograms),
        (Workload::Images, images),
        (Workload::Reader, reader),
    ];
    for (workload, events) in workloads {
        if events == 0 {
            continue;
        }
        let mut rates = SUBJECTS.map(|_| Vec::new());
        let mut bytes = SUBJECTS.map(|_| 0);
        for round in 0..options.rounds {
            for turn in 0..SUBJECTS.len() {
                let subject = (turn + round + options.begin_with) % SUBJECTS.len();
                if options.subject.as_deref().is_some_and(|only| only != SUBJECTS[subject].name()) {
                    continue;
                }
                let dir = scratch.path().join(format!("{}-{round}-{subject}", workload.name()));
                let seconds = match (workload, SUBJECTS[subject]) {
                    (Workload::Reader, Subject::Direct) => read(events, &input, &dir)?,
                    // Nobody else reads.
                    (Workload::Reader, _) => continue,
                    (_, subject) => run(subject, workload, events, &input, &dir)?,
                };
                rates[subject].push((events as f64 / seconds).round());
                bytes[subject] = size(&dir)?;
                std::fs::remove_dir_all(&dir)?;
            }
        }
        for ((subject, rates), bytes) in SUBJECTS.iter().zip(rates).zip(bytes) {
            if rates.is_empty() {
                continue;
            }
            let line = serde_json::json!({
                "workload": workload.name(), "subject": subject.name(), "events": events, "events_per_second": rates,
                "bytes": bytes,
            });
            println!("{line}");
        }
    }
    Ok(())
}
