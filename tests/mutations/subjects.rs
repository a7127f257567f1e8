//! Properties of every reader of external bytes, for any input.
//!
//! Each function passes its input to one reader and panics if a property fails: the reader does not panic, every
//! error has a message, and accepted input survives a round trip. It returns true if the input was accepted. `fuzz/`
//! calls the same functions.

use std::fs;
use std::path::{Component, Path};
use std::str::FromStr;

use trainer::checkpoint::manifest::Manifest;
use trainer::checkpoint::tensors;
use trainer::config::{ConfigError, Knob, Layers, OBSERVERS, Resolved};
use trainer::data::{Photo, idx};
use trainer::eventlog::inspect::Report;
use trainer::eventlog::reader::EventReader;
use trainer::eventlog::{Format, Table};
use trainer::exit::{Classify, Exit};
use trainer::run_name::{RunName, Template};
use trainer::trigger::Trigger;
use trainer::types::WallTime;

/// The reader of event files, and `trainer inspect` on the same bytes.
pub fn event_file(bytes: &[u8], scratch: &Path) -> bool {
    let len = bytes.len() as u64;
    let mut reader = EventReader::new(bytes);
    let (mut whole, mut damaged, mut cut, mut next) = (0, 0, 0, 0);
    for (offset, event) in &mut reader {
        assert!((next..len).contains(&offset), "record at {offset}, after {next} and within {len}");
        next = offset + 1;
        match event {
            Ok(_) => whole += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty() && error.offset() == offset);
                assert_eq!(error.exit(), Exit::Data, "{error}");
                if error.is_truncation() { cut += 1 } else { damaged += 1 }
            }
        }
    }
    assert!(reader.offset() <= len && cut <= 1);

    fs::write(scratch, bytes).unwrap();
    let report = Report::of(scratch).unwrap();
    let [run] = &report.runs[..] else { panic!("one file is one run") };
    let file = &run.files[0];
    assert_eq!((file.bytes, file.records, file.truncated_at.is_some()), (len, whole, cut == 1));
    // An image can be damaged inside an undamaged record.
    assert!(file.damage_count >= damaged && report.is_damaged() == (file.damage_count > 0));
    let points: u64 = run.tags.iter().map(|tag| tag.count).sum();
    assert!(run.tags.iter().all(|tag| tag.count > 0 && tag.min_step <= tag.max_step) && points <= len);
    let text = report.to_string();
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "a terminal gets no control character: {text:?}");
    let json = serde_json::to_string(&report).unwrap();
    let mut table = Table::new(Vec::new(), Format::Jsonl);
    let exported = Report::export(scratch, &mut table).unwrap();
    assert_eq!(serde_json::to_string(&exported).unwrap(), json);
    let (rows, count, _) = table.finish().unwrap();
    let rows = String::from_utf8(rows).unwrap();
    let shown: u64 = run.tags.iter().filter(|tag| tag.plugin == "scalars").map(|tag| tag.shown).sum();
    assert!(rows.lines().count() as u64 == count && count <= shown, "{count} rows of {shown} points");
    assert!(rows.lines().all(|row| serde_json::from_str::<serde_json::Value>(row).is_ok_and(|row| row.is_object())));
    cut + damaged == 0
}

/// The reader of IDX files, as images and as labels.
pub fn idx(bytes: &[u8], scratch: &Path) -> bool {
    fs::write(scratch, bytes).unwrap();
    let images = idx::read_images(scratch);
    let labels = idx::read_labels(scratch);
    match &images {
        Ok(images) => {
            let (count, height, width) = (images.count, images.height, images.width);
            assert!(count * height * width > 0 && images.pixels.len() == count * height * width);
            let mut back = vec![0, 0, 8, 3];
            back.extend([count, height, width].iter().flat_map(|side| (*side as u32).to_be_bytes()));
            back.extend(&images.pixels[..]);
            assert!(bytes.starts_with(&[0x1f, 0x8b]) || back == bytes, "accepted, and not the same");
        }
        Err(error) => refused(error),
    }
    match &labels {
        Ok(labels) => assert!(images.is_err() && !labels.is_empty(), "both at once"),
        Err(error) => refused(error),
    }
    images.is_ok() || labels.is_ok()
}

/// The reader of configuration files.
pub fn config(bytes: &[u8], scratch: &Path) -> bool {
    fs::write(scratch, bytes).unwrap();
    let mut layers = Layers::new();
    match layers.file(scratch).and_then(|()| layers.resolve()) {
        Ok(resolved) => {
            comes_back(&resolved, scratch);
            true
        }
        Err(error) => {
            refused(&error);
            false
        }
    }
}

/// The parser of one setting, as typed.
pub fn knob(knob: &'static Knob, text: &str, scratch: &Path) -> bool {
    let mut layers = Layers::new();
    layers.command_line(knob, text.to_owned());
    match layers.resolve() {
        Ok(resolved) => {
            comes_back(&resolved, scratch);
            true
        }
        Err(error) => {
            let named = matches!(&error, ConfigError::Value { key, got, .. } if *key == knob.key && got == text);
            assert!(named, "not about {} and `{text}`: {error}", knob.key);
            refused(&error);
            false
        }
    }
}

/// Accepted settings survive a round trip.
fn comes_back(resolved: &Resolved, scratch: &Path) {
    for observer in OBSERVERS {
        fires(&resolved.config.trigger(observer.observed));
    }
    let toml = resolved.to_toml();
    fs::write(scratch, &toml).unwrap();
    let mut layers = Layers::new();
    let again = layers.file(scratch).and_then(|()| layers.resolve());
    let again = again.unwrap_or_else(|error| panic!("its own file is refused: {error}\n{toml}"));
    assert!(again.config == resolved.config, "its own file says something else:\n{toml}");
}

/// The parser of triggers.
pub fn trigger(text: &str) -> bool {
    let Ok(trigger) = Trigger::from_str(text) else { return false };
    fires(&trigger);
    assert!(!trigger.is_never() || text == "off", "`{text}` is never");
    true
}

fn fires(trigger: &Trigger) {
    for n in [0, 1, 2, 1_000_000, 1 << 40] {
        let _ = (trigger.fires_after_step(n), trigger.fires_after_epoch(n, n + 1));
    }
}

/// The decoder of input images.
pub fn photo(bytes: &[u8]) -> bool {
    match Photo::read("x", bytes) {
        Ok(_) => true,
        Err(error) => {
            refused(&error);
            false
        }
    }
}

/// The reader of a checkpoint's list of files.
pub fn manifest(bytes: &[u8]) -> bool {
    match Manifest::decode(bytes) {
        Ok(manifest) => {
            assert_eq!(manifest.encode().unwrap(), bytes, "accepted, and not the same");
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// The reader of safetensors files.
pub fn tensors(bytes: &[u8], want: &[(String, Vec<usize>)]) -> bool {
    match tensors::decode(bytes, want) {
        Ok(values) => {
            assert_eq!(values.len(), want.len());
            for (values, (_, shape)) in values.iter().zip(want) {
                assert_eq!(values.len(), shape.iter().product::<usize>());
            }
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// The parsers of a run's name and of a name template; every template field gets the same text as its value.
pub fn run_name(text: &str) -> bool {
    let name = RunName::new(text);
    match &name {
        Ok(name) => is_one_component(name, Some(text)),
        Err(error) => refused(error),
    }
    let now = WallTime::from_secs(1.7e9).unwrap();
    match Template::parse(text) {
        Ok(template) => {
            let again = Template::parse(&template.to_string()).unwrap();
            for value in ["7", text, "../..", ""] {
                let named = template.name(now, &|_| Some(value.to_owned()));
                assert_eq!(named, again.name(now, &|_| Some(value.to_owned())), "its own text says something else");
                match &named {
                    Ok(name) => is_one_component(name, None),
                    Err(error) => refused(error),
                }
            }
            true
        }
        Err(error) => {
            refused(&error);
            assert!(name.is_err(), "a name is a template without fields");
            false
        }
    }
}

/// A name joined to a directory stays below it, is not hidden, and is no flag.
fn is_one_component(name: &RunName, want: Option<&str>) {
    let text = name.as_str();
    assert!(want.is_none_or(|want| want == text));
    let components: Vec<Component<'_>> = Path::new(text).components().collect();
    assert_eq!(components, [Component::Normal(text.as_ref())]);
    assert!(text.len() <= 128 && text.starts_with(|c: char| c.is_ascii_alphanumeric()), "{text}");
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
}

/// An error has a message, and its exit code blames the input, not the machine or the program.
fn refused(error: &impl Classify) {
    assert!(!error.to_string().is_empty());
    assert!(matches!(error.exit(), Exit::Data | Exit::Config | Exit::Usage), "{:?}: {error}", error.exit());
}
