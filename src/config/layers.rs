//! Merging: the command line over the environment over a file over the defaults, with the origin of each value kept.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::knob::{Knob, Later};
use super::knobs::KNOBS;
use super::paths::{settled, text_of as text_of_path};
use super::values::nearest;
use super::{Config, ConfigError};
use crate::files;
use crate::terminal::{Side, echoed, padded};

/// Longer files are no configuration.
const MAX_FILE: u64 = 1 << 20;

/// A longer line does not move the comments of the others.
const WIDEST: usize = 80;

/// Prefix of the environment variables.
const PREFIX: &str = "TRAINER_";
const RUN_NAME: &str = "TRAINER_RUN_NAME";

/// Source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File(PathBuf),
    /// The variable's name.
    Environment(String),
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Environment(variable) => write!(f, "environment variable {variable}"),
            Source::CommandLine => f.write_str("command line"),
        }
    }
}

/// Values as texts, each layer over the one before.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, (String, Source)>,
    warnings: Vec<String>,
}

impl Layers {
    /// The defaults alone.
    pub fn new() -> Layers {
        let values = KNOBS.iter().map(|knob| (knob.key, (knob.default.to_owned(), Source::Default))).collect();
        Layers { values, warnings: Vec::new() }
    }

    /// Lays a TOML file over what is there. Keys are flags without dashes; `_` may stand for `-`.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        files::open_input(path).map_err(read)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(ConfigError::TooLong { path: path.to_owned(), limit: MAX_FILE });
        }
        let text = utf8(&bytes).map_err(|found| ConfigError::Encoding { path: path.to_owned(), found })?;
        let table: toml::Table =
            text.parse().map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        let mut seen = BTreeMap::new();
        for (key, value) in table {
            let plain = key.replace('_', "-");
            let Some(knob) = Knob::find(&plain) else {
                let near = nearest(&plain, KNOBS.iter().map(|knob| knob.key));
                let near = near.and_then(Knob::find).map(|knob| knob.key);
                return Err(ConfigError::UnknownKey { path: path.to_owned(), key, near });
            };
            if let Some(again) = seen.insert(knob.key, key.clone()) {
                return Err(ConfigError::Twice { path: path.to_owned(), key, again });
            }
            let text = text_of(&value).map_err(|got| ConfigError::Kind { path: path.to_owned(), key, got })?;
            self.put(knob, text, Source::File(path.to_owned()));
        }
        Ok(())
    }

    /// Lays `TRAINER_*` variables over what is there.
    ///
    /// An empty one is as good as none, but for the name of the run, which would then be the directory of all runs. The end
    /// of a line that secrets and files leave behind a value is no part of it. An unknown one is only warned about: Kubernetes sets `TRAINER_PORT` and the like where a service has our name.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, OsString)>) -> Result<(), ConfigError> {
        let is_meant = |name: &str, value: &OsString| !value.is_empty() || name == RUN_NAME;
        let ours = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
        let trimmed = ours.map(|(name, value)| (name, without_line_end(value)));
        let mut variables: Vec<_> = trimmed.filter(|(name, value)| is_meant(name, value)).collect();
        variables.sort();
        for (name, value) in variables {
            match KNOBS.iter().find(|knob| knob.variable() == name) {
                Some(knob) => {
                    let origin = Source::Environment(name);
                    let text = match value.into_string() {
                        Err(path) if knob.is_path() => text_of_path(Path::new(&path)),
                        text => text.map_err(|value| ConfigError::Value {
                            key: knob.key,
                            origin: origin.clone(),
                            got: value.to_string_lossy().into_owned(),
                            want: "UTF-8".to_owned(),
                        })?,
                    };
                    if text.is_empty() {
                        return Err(ConfigError::EmptyRunName { variable: knob.variable() });
                    }
                    self.put(knob, text, origin);
                }
                None => {
                    let key = name.trim_start_matches(PREFIX).to_lowercase().replace('_', "-");
                    let hint = nearest(&key, KNOBS.iter().map(|knob| knob.key)).and_then(Knob::find);
                    let hint = hint.map_or_else(String::new, |knob| format!("; did you mean {}?", knob.variable()));
                    let name = echoed(&name);
                    self.warnings
                        .push(format!("environment variable {name} is no setting of trainer and is ignored{hint}"));
                }
            }
        }
        Ok(())
    }

    /// Lays one flag over what is there.
    pub fn command_line(&mut self, knob: &'static Knob, value: String) {
        self.put(knob, value, Source::CommandLine);
    }

    /// Parses and checks every value.
    pub fn resolve(self) -> Result<Resolved, ConfigError> {
        let mut config = Config::blank();
        for knob in KNOBS {
            if let Some((text, origin)) = self.values.get(knob.key) {
                knob.parse(&mut config, text).map_err(|want| ConfigError::Value {
                    key: knob.key,
                    origin: origin.clone(),
                    got: text.clone(),
                    want,
                })?;
            }
        }
        let mut warnings = self.warnings;
        warnings.extend(config.warnings());
        Ok(Resolved { config, values: self.values, warnings })
    }

    fn put(&mut self, knob: &'static Knob, text: String, source: Source) {
        let text = if knob.is_path() { settled(text) } else { text };
        self.values.insert(knob.key, (text, source));
    }
}

/// A checked configuration that remembers where each value came from.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub config: Config,
    pub warnings: Vec<String>,
    values: BTreeMap<&'static str, (String, Source)>,
}

/// A setting that a run cannot have changed and still be the same run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub what: String,
    pub was: String,
    pub now: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: was {}, now {}", self.what, echoed(&self.was), echoed(&self.now))
    }
}

impl Resolved {
    /// Settings that must not change during the run, as typed.
    pub fn fixed(&self) -> BTreeMap<String, String> {
        let fixed = self.values().filter(|(knob, ..)| knob.later == Later::Fixed);
        fixed.map(|(knob, text, _)| (knob.key.to_owned(), text.to_owned())).collect()
    }

    /// Differences from a run with the values `earlier`, by key. A missing key had its default:
    /// it is newer than that run. `1e-3` and `0.001` are the same.
    pub fn differences(&self, earlier: &BTreeMap<String, String>) -> Vec<Difference> {
        let differs = |(knob, now, _): (&'static Knob, &str, &Source)| {
            let was = earlier.get(knob.key).map_or(knob.default, String::as_str);
            (knob.later == Later::Fixed && !same(knob, was, now)).then(|| Difference {
                what: knob.key.to_owned(),
                was: was.to_owned(),
                now: now.to_owned(),
            })
        };
        self.values().filter_map(differs).collect()
    }

    /// The same for a run whose directory is known: `logdir`, and no template for its name. This is what goes on with it.
    #[must_use]
    pub fn placed(&self, logdir: &Path) -> Resolved {
        let mut placed = self.clone();
        if placed.config.run_name.take().is_some() {
            placed.config.logdir = Some(logdir.to_owned());
            for (key, text) in [("logdir", text_of_path(logdir)), ("run-name", String::new())] {
                if let Some((value, _)) = placed.values.get_mut(key) {
                    *value = text;
                }
            }
        }
        placed
    }

    /// Knob, value as typed and origin, in the order of [`KNOBS`].
    pub fn values(&self) -> impl Iterator<Item = (&'static Knob, &str, &Source)> {
        KNOBS.iter().filter_map(|knob| self.values.get(knob.key).map(|(text, source)| (knob, text.as_str(), source)))
    }

    /// A TOML file that gives the same configuration again, with the origin of each value as a comment.
    pub fn to_toml(&self) -> String {
        let lines: Vec<(String, &Source)> = self
            .values()
            .filter(|(_, text, _)| !text.is_empty())
            .map(|(knob, text, source)| (format!("{} = {}", knob.key, toml_value(knob, text)), source))
            .collect();
        let width =
            lines.iter().map(|(line, _)| line.chars().count()).filter(|&width| width <= WIDEST).max().unwrap_or(0);
        let comment = |source: &Source| source.to_string().replace(char::is_control, " ");
        let line = |(line, source): &(String, &Source)| {
            format!("{}  # {}\n", padded(line, width, Side::Left), comment(source))
        };
        lines.iter().map(line).collect()
    }
}

/// A file's text, without the mark that some editors begin UTF-8 with. `Err` with what the bytes are instead.
fn utf8(bytes: &[u8]) -> Result<&str, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // Settings are ASCII for the most part: what has zeros between its letters has two or four bytes for each.
    let zeros = |from: usize, step: usize| bytes.iter().skip(from).step_by(step).filter(|byte| **byte == 0).count();
    let wide = |from: usize, step: usize| bytes.len() >= 2 * step && 2 * zeros(from, step) > bytes.len() / step;
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Err("UTF-32".to_owned()),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err("UTF-16".to_owned()),
        _ if wide(1, 4) && wide(2, 4) => return Err("UTF-32".to_owned()),
        _ if wide(0, 2) || wide(1, 2) => return Err("UTF-16".to_owned()),
        _ => {}
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let (before, rest) = bytes.split_at(error.valid_up_to());
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let byte = rest.first().copied().unwrap_or_default();
        format!("another encoding, such as Latin-1: byte 0x{byte:02x} in line {line} is no UTF-8")
    })
}

/// A value without the end of the line that it was read from.
pub fn without_line_end(value: OsString) -> OsString {
    let mut bytes = value.into_vec();
    while let Some(b'\n' | b'\r') = bytes.last() {
        bytes.pop();
    }
    OsString::from_vec(bytes)
}

/// True if two texts set a knob to the same value.
fn same(knob: &Knob, one: &str, other: &str) -> bool {
    let (mut a, mut b) = (Config::blank(), Config::blank());
    one == other || (knob.parse(&mut a, one).is_ok() && knob.parse(&mut b, other).is_ok() && a == b)
}

/// A number or boolean bare, anything else quoted; quoted too if TOML would make something else of it, as it would of a
/// directory called `1e3`.
fn toml_value(knob: &Knob, text: &str) -> String {
    let parsed = text.parse::<toml::Value>();
    let bare = match &parsed {
        Ok(value @ (toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_))) => {
            let (mut typed, mut read_back) = (Config::blank(), Config::blank());
            knob.parse(&mut typed, text).is_ok()
                && text_of(value).is_ok_and(|text| knob.parse(&mut read_back, &text).is_ok())
                && typed == read_back
        }
        _ => false,
    };
    if bare { text.to_owned() } else { toml::Value::String(text.to_owned()).to_string() }
}

/// The text that would be typed for a TOML value, or the name of its type where there is none.
fn text_of(value: &toml::Value) -> Result<String, &'static str> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        toml::Value::Array(items) => {
            let texts = items.iter().map(|item| match item {
                toml::Value::Integer(number) => Ok(number.to_string()),
                _ => Err("a list that holds something else"),
            });
            Ok(texts.collect::<Result<Vec<String>, _>>()?.join(","))
        }
        toml::Value::Datetime(_) => Err("a date"),
        toml::Value::Table(_) => Err("a table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{Classify, Exit};

    fn knob(key: &str) -> &'static Knob {
        Knob::find(key).unwrap()
    }

    fn variable(name: &str, value: &str) -> (String, OsString) {
        (name.to_owned(), value.into())
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn a_file_in_another_encoding_is_told_by_it() {
        let text = "# \u{e9}t\u{e9}\nepochs = 2\n";
        let wide = |little: bool, mark: bool| -> Vec<u8> {
            let mark = mark.then_some(0xfeff);
            let units = mark.into_iter().chain(text.encode_utf16());
            units.flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
        };
        let widest = |mark: &str| format!("{mark}{text}").chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
        let line_two = [b"epochs = 2\n# ", &latin[2..]].concat();
        let told = |bytes: &[u8]| {
            let (_dir, path) = file("");
            std::fs::write(&path, bytes).unwrap();
            let error = Layers::new().file(&path).unwrap_err();
            assert_eq!(error.exit(), Exit::Config);
            let text = error.to_string();
            let told = text.strip_prefix(&format!("configuration file {} is ", path.display()));
            told.and_then(|told| told.strip_suffix("; save it as UTF-8")).unwrap_or(&text).to_owned()
        };
        for (little, mark) in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(told(&wide(little, mark)), "UTF-16");
        }
        for mark in ["", "\u{feff}"] {
            let bytes: Vec<u8> = widest(mark);
            assert_eq!(told(&bytes), "UTF-32");
        }
        assert_eq!(told(&latin), "another encoding, such as Latin-1: byte 0xe9 in line 1 is no UTF-8");
        assert_eq!(told(&line_two), "another encoding, such as Latin-1: byte 0xe9 in line 2 is no UTF-8");
        // The mark of UTF-8 is none of the text.
        for good in [text.to_owned(), format!("\u{feff}{text}")] {
            let (_dir, path) = file(&good);
            let mut layers = Layers::new();
            layers.file(&path).unwrap();
            assert_eq!(layers.resolve().unwrap().config.epochs, 2);
        }
    }

    #[test]
    fn the_defaults_are_the_main_job() {
        let config = Layers::new().resolve().unwrap().config;
        assert_eq!((config.epochs, config.batch_size, config.learning_rate), (5, 64, 1e-3));
        assert_eq!(config.architecture, crate::model::Architecture::default());
        assert_eq!(config.rule(), crate::optim::Rule::Adam { weight_decay: 0.0 });
    }

    #[test]
    fn command_line_beats_environment_beats_file_beats_default() {
        let (_dir, path) = file("epochs = 2\nbatch_size = 2\nseed = 2\n");
        let mut layers = Layers::new();
        layers.file(&path).unwrap();
        layers.environment([variable("TRAINER_BATCH_SIZE", "3"), variable("TRAINER_SEED", "3")]).unwrap();
        layers.command_line(knob("seed"), "4".to_owned());
        let resolved = layers.resolve().unwrap();
        let config = &resolved.config;
        assert_eq!((config.epochs, config.batch_size, config.seed.0, config.learning_rate), (2, 3, 4, 1e-3));
        let origins: Vec<String> = ["epochs", "batch-size", "seed", "learning-rate"]
            .iter()
            .map(|key| resolved.values().find(|(knob, ..)| knob.key == *key).unwrap().2.to_string())
            .collect();
        let from_file = format!("file {}", path.display());
        assert_eq!(origins, [&from_file, "environment variable TRAINER_BATCH_SIZE", "command line", "default"]);
    }

    #[test]
    fn the_printed_configuration_can_be_read_back() {
        let (_dir, path) =
            file("conv-filters = [8, 16]\nlearning-rate = 0.01\nlogdir = \"a \\\"b\\\"\"\nquiet = true\n");
        let mut layers = Layers::new();
        layers.file(&path).unwrap();
        let first = layers.resolve().unwrap();
        assert_eq!(first.config.architecture.conv_filters, [8, 16]);
        let (_dir, again) = file(&first.to_toml());
        let mut layers = Layers::new();
        layers.file(&again).unwrap();
        assert_eq!(layers.resolve().unwrap().config, first.config);
    }

    #[test]
    fn odd_paths_survive_the_printed_configuration() {
        for logdir in ["1e3", "0x10", "1.0", "true", "inf", "2026-01-01", "a\nb", "a # b", "'\"'", "\u{7f}"] {
            let mut layers = Layers::new();
            layers.command_line(knob("logdir"), logdir.to_owned());
            let first = layers.resolve().unwrap();
            let (_dir, again) = file(&first.to_toml());
            let mut layers = Layers::new();
            layers.file(&again).unwrap();
            assert_eq!(layers.resolve().unwrap().config, first.config, "{}", first.to_toml());
        }
        let (dir, path) = file("epochs = 3\n");
        let odd = dir.path().join("a\nb = 1.toml");
        std::fs::rename(path, &odd).unwrap();
        let mut layers = Layers::new();
        layers.file(&odd).unwrap();
        let text = layers.resolve().unwrap().to_toml();
        assert!(text.parse::<toml::Table>().is_ok(), "{text}");
    }

    #[test]
    fn one_key_in_two_spellings_is_an_error() {
        let (_dir, path) = file("batch_size = 2\nbatch-size = 3\n");
        let error = Layers::new().file(&path).unwrap_err();
        let (plain, other) = ("`batch-size`", "`batch_size`");
        assert!(error.to_string().contains(plain) && error.to_string().contains(other), "{error}");
        assert_eq!(error.exit(), Exit::Config);
    }

    #[test]
    fn a_file_without_end_is_not_read_to_it() {
        let error = Layers::new().file(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read configuration file /dev/zero: it is a device, want a regular file");
    }

    #[test]
    fn an_unknown_key_is_an_error_with_a_suggestion() {
        let (_dir, path) = file("learning-rat = 1\n");
        let error = Layers::new().file(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("unknown key `learning-rat` in {}; did you mean `learning-rate`?", path.display())
        );
        assert_eq!(error.exit(), Exit::Config);
    }

    #[test]
    fn an_unknown_variable_is_ignored_with_a_warning() {
        let mut layers = Layers::new();
        layers.environment([variable("TRAINER_PORT", "tcp://10.0.0.1:80"), variable("HOME", "/")]).unwrap();
        let warnings = layers.resolve().unwrap().warnings;
        assert_eq!(warnings, ["environment variable TRAINER_PORT is no setting of trainer and is ignored"]);
        let mut layers = Layers::new();
        layers.environment([variable("TRAINER_LERNING_RATE", "1")]).unwrap();
        let warning = "environment variable TRAINER_LERNING_RATE is no setting of trainer and is ignored; did you mean \
                       TRAINER_LEARNING_RATE?";
        assert_eq!(layers.resolve().unwrap().warnings, [warning]);
    }

    #[test]
    fn a_run_that_has_its_place_needs_no_template() {
        let mut layers = Layers::new();
        layers.command_line(knob("logdir"), "logs".to_owned());
        assert_eq!(layers.clone().resolve().unwrap().placed(Path::new("logs")).to_toml().lines().count(), {
            layers.clone().resolve().unwrap().to_toml().lines().count()
        });
        layers.command_line(knob("run-name"), "{date}".to_owned());
        let placed = layers.resolve().unwrap().placed(Path::new("logs/today"));
        let (_dir, path) = file(&placed.to_toml());
        let mut again = Layers::new();
        again.file(&path).unwrap();
        let config = again.resolve().unwrap().config;
        assert_eq!((config.logdir, config.run_name), (Some(PathBuf::from("logs/today")), None));
        assert_eq!((placed.config.logdir, placed.config.run_name), (Some(PathBuf::from("logs/today")), None));
    }

    #[test]
    fn the_end_of_a_line_is_no_part_of_a_variable() {
        let mut layers = Layers::new();
        let variables = [("TRAINER_EPOCHS", "3\n"), ("TRAINER_LOGDIR", "logs/a\r\n"), ("TRAINER_SEED", "\n")];
        layers.environment(variables.map(|(name, value)| variable(name, value))).unwrap();
        let resolved = layers.resolve().unwrap();
        assert_eq!((resolved.config.epochs, resolved.config.logdir), (3, Some(PathBuf::from("logs/a"))));
        assert!(resolved.values.iter().all(|(_, (text, _))| !text.contains('\n')));
        let error = Layers::new().environment([variable("TRAINER_RUN_NAME", "\n")]).unwrap_err();
        assert_eq!(error.to_string(), "TRAINER_RUN_NAME is empty; set a run name or unset the variable");
        let mut layers = Layers::new();
        layers.command_line(knob("epochs"), "3\n4".to_owned());
        let error = layers.resolve().unwrap_err().to_string();
        assert_eq!(error, r"epochs from command line: got `3\n4`, want a whole number from 1 to 1000000");
    }

    #[test]
    fn a_path_of_any_bytes_survives_the_printed_configuration() {
        let odd = PathBuf::from(OsString::from_vec(b"/logs/a\xff b".to_vec()));
        let mut layers = Layers::new();
        layers.environment([("TRAINER_LOGDIR".to_owned(), odd.clone().into_os_string())]).unwrap();
        let first = layers.resolve().unwrap();
        assert_eq!(first.config.logdir.as_ref(), Some(&odd));
        assert!(first.to_toml().contains("logdir = \"file:///logs/a%FF%20b\""), "{}", first.to_toml());
        let (_dir, path) = file(&first.to_toml());
        let mut again = Layers::new();
        again.file(&path).unwrap();
        let again = again.resolve().unwrap();
        assert_eq!(again.config, first.config);
        assert_eq!(again.placed(&odd).config.logdir, Some(odd));
        for knob in KNOBS.iter().filter(|knob| !knob.is_path()) {
            let odd = OsString::from_vec(vec![0xff]);
            let mut layers = Layers::new();
            let error = layers.environment([(knob.variable(), odd)]).unwrap_err();
            assert!(error.to_string().ends_with("want UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_home_is_written_down_as_the_path_that_it_is() {
        let home = std::env::var("HOME").unwrap();
        let mut layers = Layers::new();
        layers.command_line(knob("logdir"), "~/logs".to_owned());
        layers.command_line(knob("data-dir"), "file:///data".to_owned());
        let text = layers.resolve().unwrap().to_toml();
        assert!(text.contains(&format!("logdir = \"{home}/logs\"")) && text.contains("data-dir = \"/data\""), "{text}");
    }

    #[test]
    fn a_long_value_is_cut_where_it_is_repeated() {
        let long = "x".repeat(1 << 20);
        let text = |error: ConfigError| error.to_string();
        for key in ["epochs", "observe", "logdir", "run-name", "optimizer", "dataset", "conv-filters"] {
            let mut layers = Layers::new();
            layers.command_line(knob(key), long.clone());
            let error = text(layers.resolve().unwrap_err());
            assert!(error.len() < 2000 && !error.contains('\n'), "{key}: {}", error.len());
        }
        for toml in [format!("{long} = 1"), format!("a = {long}"), format!("[{long}]\n"), format!("a = \"{long}")] {
            let (_dir, path) = file(&toml[..toml.len().min(900_000)]);
            let error = text(Layers::new().file(&path).unwrap_err());
            assert!(error.len() < 2000, "{}", error.len());
        }
        let mut layers = Layers::new();
        layers.environment([variable(&format!("TRAINER_{long}"), "1")]).unwrap();
        assert!(layers.resolve().unwrap().warnings[0].len() < 1000);
    }

    #[test]
    fn a_setting_of_any_length_is_printed() {
        let epochs: Vec<String> = (0..20_000).map(|epoch| epoch.to_string()).collect();
        let long = format!("none,weights=at:{}", epochs.join(","));
        assert!(long.len() > 65_536);
        let mut layers = Layers::new();
        layers.command_line(knob("observe"), long);
        let first = layers.resolve().unwrap();
        let (_dir, path) = file(&first.to_toml());
        let mut again = Layers::new();
        again.file(&path).unwrap();
        assert_eq!(again.resolve().unwrap().config, first.config);
    }

    #[test]
    fn an_empty_variable_is_as_good_as_none() {
        for knob in KNOBS {
            let mut layers = Layers::new();
            let laid = layers.environment([variable(&knob.variable(), "")]);
            if knob.key == "run-name" {
                let error = laid.unwrap_err().to_string();
                assert_eq!(error, "TRAINER_RUN_NAME is empty; set a run name or unset the variable");
                continue;
            }
            laid.unwrap();
            let resolved = layers.resolve().unwrap();
            assert!(resolved.values().all(|(_, _, source)| *source == Source::Default), "{}", knob.key);
        }
    }

    #[test]
    fn every_wrong_value_names_its_key_and_origin() {
        let wrong = [
            ("epochs", "0"),
            ("epochs", "-1"),
            ("epochs", "five"),
            ("batch-size", "0"),
            ("batch-size", "99999999999999999999"),
            ("learning-rate", "0"),
            ("learning-rate", "-1e-3"),
            ("learning-rate", "NaN"),
            ("learning-rate", "inf"),
            ("learning-rate", "1e30"),
            ("momentum", "1"),
            ("weight-decay", "-1"),
            ("limit-train", "0"),
            ("threads", "0"),
            ("device", "cuda:x"),
            ("device", "gpu"),
            ("update-freq", "0"),
            ("conv-filters", "32,0"),
            ("conv-filters", ""),
            ("kernel-size", "0"),
            ("optimizer", "adma"),
            ("dataset", "minst"),
            ("seed", "-1"),
            ("log-format", "xml"),
            ("data-dir", ""),
        ];
        for (key, value) in wrong {
            let mut layers = Layers::new();
            layers.command_line(knob(key), value.to_owned());
            let error = layers.resolve().unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("{key} from command line: got `{value}`, want ")),
                "{error}"
            );
            assert_eq!(error.exit(), Exit::Usage);
        }
        let mut layers = Layers::new();
        layers.environment([variable("TRAINER_OPTIMIZER", "adma")]).unwrap();
        let error = layers.resolve().unwrap_err();
        assert_eq!(
            error.to_string(),
            "optimizer from environment variable TRAINER_OPTIMIZER: got `adma`, want `adam`, `adamw` or `sgd`; did you \
             mean `adam`?"
        );
        assert_eq!(error.exit(), Exit::Config);
    }
}
