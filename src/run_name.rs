//! Names of runs below a log directory, and the templates that make one from the time and the settings.
//!
//! A name is one plain path component: it cannot leave the directory that it is joined to, hide, or look like a flag.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::exit::{Classify, Exit};
use crate::types::WallTime;

/// Longest name, in bytes. Half of what file systems take, so that a name can be given a prefix.
const LONGEST_NAME: usize = 128;
/// Longest template, in bytes.
const LONGEST_TEMPLATE: usize = 1024;
/// As much of a wrong name as a message shows, in characters.
const SHOWN: usize = 48;

/// Runs of one name and number after it.
const CLAIMS: u32 = 10_000;

/// Fields that are made from the time, in UTC.
const TIMES: [&str; 3] = ["date", "time", "datetime"];
/// Fields whose values are asked for: the machine's name, and every setting that is neither a path nor a matter of the
/// console.
const SETTINGS: [&str; 21] = [
    "host",
    "seed",
    "dataset",
    "optimizer",
    "learning-rate",
    "momentum",
    "weight-decay",
    "epochs",
    "batch-size",
    "conv-filters",
    "kernel-size",
    "dense-units",
    "limit-train",
    "limit-validation",
    "device",
    "precision",
    "threads",
    "histogram-freq",
    "image-freq",
    "update-freq",
    "probes",
];

/// The name of a run: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`, without `..` and not ending in a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunName(String);

/// Why a text is no name of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunNameError {
    #[error("a run name must not be empty")]
    Empty,
    #[error("run name `{name}` has {length} bytes, want at most {LONGEST_NAME}")]
    TooLong { name: String, length: usize },
    #[error("run name `{name}` begins with `{found}`, want a letter from A to Z or a digit")]
    Start { name: String, found: String },
    #[error("run name `{name}` holds `{found}`, want letters from A to Z, digits, `.`, `_` and `-`")]
    Character { name: String, found: String },
    #[error("run name `{name}` holds `..`, which means the directory above; want single dots")]
    DoubleDot { name: String },
    #[error("run name `{name}` ends in a dot, want another character there")]
    Dot { name: String },
}

/// Why a run of this name cannot lie in a log directory.
#[derive(Debug, thiserror::Error)]
pub enum WithinError {
    #[error(
        "log directory {}: {} is a symbolic link to {}; a run is a directory of its own: choose another --run-name",
        logdir.display(), link.display(), target.display()
    )]
    Link { logdir: PathBuf, link: PathBuf, target: PathBuf },
    #[error("log directory {}: there are {CLAIMS} runs {name}, {name}-2 and so on; choose another --run-name", logdir.display())]
    Taken { logdir: PathBuf, name: String },
    #[error("log directory {}: cannot look at or make {}: {source}", logdir.display(), path.display())]
    Look { logdir: PathBuf, path: PathBuf, source: std::io::Error },
}

/// `{date}-{time}`: text and fields that together make the name of a run.
///
/// Fields of time are in UTC, whatever the machine's time zone, so that names sort as the runs began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// One of [`TIMES`] or [`SETTINGS`].
    Field(&'static str),
}

/// Why a text is no template, or a template gives no name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TemplateError {
    #[error("run name template `{template}` has {length} bytes, want at most {LONGEST_TEMPLATE}")]
    TooLong { template: String, length: usize },
    #[error("run name template `{template}`: there is no field `{{{field}}}`{}", near.map_or_else(
        || format!("; fields are {}", fields()), |near| format!("; did you mean `{{{near}}}`?")
    ))]
    UnknownField { template: String, field: String, near: Option<&'static str> },
    #[error("run name template `{template}`: a `{{` has no `}}` after it; a brace itself is written twice")]
    Unclosed { template: String },
    #[error("run name template `{template}`: a `}}` has no `{{` before it; a brace itself is written twice")]
    Unopened { template: String },
    #[error("run name template `{template}`: there is no value for `{{{field}}}`")]
    NoValue { template: String, field: &'static str },
    #[error(
        "run name template `{template}`: the clock says {secs} seconds after 1970, which is no date before the year 10000"
    )]
    Clock { template: String, secs: f64 },
    #[error("run name template `{template}`: {source}")]
    Name { template: String, source: RunNameError },
}

impl Classify for RunNameError {
    fn exit(&self) -> Exit {
        Exit::Config
    }
}

impl Classify for TemplateError {
    fn exit(&self) -> Exit {
        Exit::Config
    }
}

impl Classify for WithinError {
    fn exit(&self) -> Exit {
        match self {
            WithinError::Link { .. } | WithinError::Taken { .. } => Exit::CantCreate,
            WithinError::Look { source, .. } => Exit::of_output(source),
        }
    }
}

impl RunName {
    pub fn new(name: impl Into<String>) -> Result<RunName, RunNameError> {
        let name = name.into();
        let (Some(first), length) = (name.chars().next(), name.len()) else { return Err(RunNameError::Empty) };
        let known = shown(&name);
        if length > LONGEST_NAME {
            return Err(RunNameError::TooLong { name: known, length });
        }
        if let Some(found) = name.chars().find(|c| !fits(*c)) {
            return Err(RunNameError::Character { name: known, found: found.escape_debug().to_string() });
        }
        if !first.is_ascii_alphanumeric() {
            return Err(RunNameError::Start { name: known, found: first.to_string() });
        }
        if name.contains("..") {
            return Err(RunNameError::DoubleDot { name: known });
        }
        if name.ends_with('.') {
            return Err(RunNameError::Dot { name: known });
        }
        Ok(RunName(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The run's directory below `logdir`, neither of which has to exist.
    ///
    /// What stands there is not followed when it is a symbolic link: refused, wherever it leads. `logdir` itself may be
    /// one, as it is the person's own word. The look is made once: somebody who may write into `logdir` can put a link
    /// there a moment later, as they can change everything else in it. It guards against what is already there, not
    /// against an enemy with write access.
    pub fn within(&self, logdir: &Path) -> Result<PathBuf, WithinError> {
        let path = logdir.join(&self.0);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let target = path.read_link().unwrap_or_default();
                Err(WithinError::Link { logdir: logdir.to_owned(), link: path, target })
            }
            // A file, also one on the way, is found when the directory is checked.
            Ok(_) => Ok(path),
            Err(source) => match source.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Ok(path),
                _ => Err(WithinError::Look { logdir: logdir.to_owned(), path, source }),
            },
        }
    }
}

impl RunName {
    /// Makes a directory of this name in `logdir`, which has to be there, with a number after it where the name is taken:
    /// `night`, `night-2`, `night-3`. Of all who ask at once each gets another one.
    pub fn claim(&self, logdir: &Path) -> Result<PathBuf, WithinError> {
        for number in 1..=CLAIMS {
            let path = match number {
                1 => logdir.join(&self.0),
                _ => logdir.join(format!("{}-{number}", self.0)),
            };
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(WithinError::Look { logdir: logdir.to_owned(), path, source }),
            }
        }
        Err(WithinError::Taken { logdir: logdir.to_owned(), name: self.0.clone() })
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RunName {
    type Err = RunNameError;

    fn from_str(text: &str) -> Result<RunName, RunNameError> {
        RunName::new(text)
    }
}

impl Template {
    /// Text with fields in braces; `{{` and `}}` are the braces themselves, which no name may hold. `_` may stand for `-`
    /// in the name of a field.
    ///
    /// Whatever the values of the fields, an accepted template has no character outside of them that does not fit.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let template = || shown(text);
        if text.len() > LONGEST_TEMPLATE {
            return Err(TemplateError::TooLong { template: template(), length: text.len() });
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(TemplateError::Unopened { template: template() });
            }
            let Some((field, after)) = rest.split_once('}') else {
                return Err(TemplateError::Unclosed { template: template() });
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            let field = known_field(field).map_err(|near| TemplateError::UnknownField {
                template: template(),
                field: shown(field),
                near,
            })?;
            pieces.push(Piece::Field(field));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        let parsed = Template { text: text.to_owned(), pieces };
        // With the shortest values: what is wrong with this name is wrong with every other.
        parsed.name_of(|_| Ok("0".to_owned()))?;
        Ok(parsed)
    }

    /// The name at `now`, with what `lookup` says to the other fields: `host`, and settings by the names of their flags.
    /// Characters of a value that do not fit a name become `_`.
    pub fn name(&self, now: WallTime, lookup: &dyn Fn(&str) -> Option<String>) -> Result<RunName, TemplateError> {
        self.name_of(|field| {
            let value = if TIMES.contains(&field) { self.time(field, now)? } else { self.setting(field, lookup)? };
            Ok(fitted(&value))
        })
    }

    /// True if each start has a name of its own: the time of day is in it.
    pub fn is_of_one_start(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Field("time" | "datetime")))
    }

    /// True if the name is another one at another time.
    pub fn tells_time(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Field(field) if TIMES.contains(field)))
    }

    fn name_of(&self, value: impl Fn(&'static str) -> Result<String, TemplateError>) -> Result<RunName, TemplateError> {
        let mut name = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Field(field) => name.push_str(&value(field)?),
            }
        }
        RunName::new(name).map_err(|source| TemplateError::Name { template: shown(&self.text), source })
    }

    fn time(&self, field: &str, now: WallTime) -> Result<String, TemplateError> {
        let secs = now.as_secs();
        // The cast saturates, and what is then no date is an error.
        let utc = time::OffsetDateTime::from_unix_timestamp(secs as i64)
            .map_err(|_| TemplateError::Clock { template: shown(&self.text), secs })?;
        let (year, month, day) = (utc.year(), u8::from(utc.month()), utc.day());
        let (hour, minute, second) = utc.to_hms();
        Ok(match field {
            "date" => format!("{year:04}-{month:02}-{day:02}"),
            "time" => format!("{hour:02}-{minute:02}-{second:02}"),
            _ => format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}"),
        })
    }

    fn setting(&self, field: &'static str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, TemplateError> {
        let value = lookup(field).filter(|value| !value.is_empty());
        value.ok_or_else(|| TemplateError::NoValue { template: shown(&self.text), field })
    }
}

/// As it was typed.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TemplateError {
    /// What a template should be, for a message that has already told what it is.
    pub fn want(&self) -> String {
        match self {
            TemplateError::UnknownField { field, near, .. } => match near {
                Some(near) => format!("a field that there is instead of `{{{field}}}`; did you mean `{{{near}}}`?"),
                None => format!("a field that there is instead of `{{{field}}}`: {}", fields()),
            },
            TemplateError::Unclosed { .. } | TemplateError::Unopened { .. } => {
                "a `}` for every `{`, such as `{date}-{time}`".to_owned()
            }
            _ => format!(
                "a name of at most {LONGEST_NAME} letters from A to Z, digits, `.`, `_` and `-`, which begins with a \
                 letter or a digit, without `..`, with fields in it, such as `{{date}}-{{time}}`"
            ),
        }
    }
}

/// The character in a run's path for which TensorBoard 2.21 shows none of its pictures: it asks for them by the path, and
/// does not escape it.
pub fn unshown(path: &Path) -> Option<&'static str> {
    let marks = [('"', "a quotation mark"), ('\\', "a backslash"), ('\n', "a line break")];
    let path = path.to_string_lossy();
    marks.into_iter().find(|(mark, _)| path.contains(*mark)).map(|(_, name)| name)
}

fn fits(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// A value with `_` for each character that does not fit, and for a dot after a dot.
fn fitted(value: &str) -> String {
    let mut last = ' ';
    let fit = |c: char| {
        last = if fits(c) && !(c == '.' && last == '.') { c } else { '_' };
        last
    };
    value.chars().map(fit).collect()
}

/// As much of a text as a message can hold, with nothing in it that a terminal would obey.
fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(SHOWN).flat_map(char::escape_debug).collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

fn all_fields() -> impl Iterator<Item = &'static str> {
    TIMES.into_iter().chain(SETTINGS)
}

/// The field of that name, or the one that is most like it.
fn known_field(text: &str) -> Result<&'static str, Option<&'static str>> {
    let plain = text.replace('_', "-");
    if let Some(field) = all_fields().find(|field| *field == plain) {
        return Ok(field);
    }
    let near = all_fields()
        .map(|field| (strsim::jaro_winkler(&plain, field), field))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    Err(near.map(|(_, field)| field))
}

fn fields() -> String {
    all_fields().map(|field| format!("{{{field}}}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KNOBS;

    fn at(secs: f64) -> WallTime {
        WallTime::from_secs(secs).unwrap()
    }

    fn settings(field: &str) -> Option<String> {
        let value = match field {
            "seed" => "7",
            "learning-rate" => "1e-3",
            "conv-filters" => "32,64",
            "host" => "node-1.cluster",
            "device" => "cuda:0",
            "dataset" => "../Ünï/..",
            "optimizer" => "",
            "threads" => "-1",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn name(template: &str) -> String {
        Template::parse(template).unwrap().name(at(1_795_527_131.9), &settings).unwrap().to_string()
    }

    #[test]
    fn time_is_utc() {
        assert_eq!(name("{date}-{time}"), "2026-11-24-13-32-11");
        assert_eq!(name("{datetime}"), "20261124-133211");
        let date = |secs| Template::parse("{date}_{time}").unwrap().name(at(secs), &settings).map(|name| name.0);
        assert_eq!(date(0.0).unwrap(), "1970-01-01_00-00-00");
        assert_eq!(date(951_782_400.0).unwrap(), "2000-02-29_00-00-00");
        assert_eq!(date(253_402_300_799.0).unwrap(), "9999-12-31_23-59-59");
        for late in [253_402_300_800.0, 1e18, f64::MAX] {
            let error = date(late).unwrap_err();
            assert!(error.to_string().contains("which is no date before the year 10000"), "{error}");
        }
    }

    #[test]
    fn values_are_made_to_fit() {
        assert_eq!(name("mnist-s{seed}_lr{learning-rate}"), "mnist-s7_lr1e-3");
        assert_eq!(name("{learning_rate}"), "1e-3");
        assert_eq!(name("f{conv-filters}"), "f32_64");
        assert_eq!(name("{host}"), "node-1.cluster");
        assert_eq!(name("{device}"), "cuda_0");
        assert_eq!(name("d{dataset}x"), "d.___n__._x");
    }

    #[test]
    fn a_value_that_makes_no_name_is_an_error() {
        let error =
            |template: &str| Template::parse(template).unwrap().name(at(0.0), &settings).unwrap_err().to_string();
        assert_eq!(error("{momentum}"), "run name template `{momentum}`: there is no value for `{momentum}`");
        assert_eq!(error("{optimizer}"), "run name template `{optimizer}`: there is no value for `{optimizer}`");
        assert_eq!(
            error("{threads}"),
            "run name template `{threads}`: run name `-1` begins with `-`, want a letter from A to Z or a digit"
        );
        assert!(error("a.{dataset}").contains("holds `..`"));
        let long = "{host}".repeat(10);
        assert!(error(&long).contains("has 140 bytes, want at most 128"), "{}", error(&long));
    }

    #[test]
    fn a_wrong_template_says_what_is_wrong() {
        for (template, want) in [
            ("", "run name template ``: a run name must not be empty"),
            ("{dat}", "run name template `{dat}`: there is no field `{dat}`; did you mean `{date}`?"),
            (
                "{learning-rat}",
                "run name template `{learning-rat}`: there is no field `{learning-rat}`; did you mean `{learning-rate}`?",
            ),
            ("{date", "run name template `{date`: a `{` has no `}` after it; a brace itself is written twice"),
            ("date}", "run name template `date}`: a `}` has no `{` before it; a brace itself is written twice"),
            (
                "a{{b",
                "run name template `a{{b`: run name `a{b` holds `{`, want letters from A to Z, digits, `.`, `_` and `-`",
            ),
            (
                "a}}b",
                "run name template `a}}b`: run name `a}b` holds `}`, want letters from A to Z, digits, `.`, `_` and `-`",
            ),
            (
                "../{date}",
                "run name template `../{date}`: run name `../0` holds `/`, want letters from A to Z, digits, `.`, `_` and `-`",
            ),
            (
                "-{date}",
                "run name template `-{date}`: run name `-0` begins with `-`, want a letter from A to Z or a digit",
            ),
            ("{date}.", "run name template `{date}.`: run name `0.` ends in a dot, want another character there"),
        ] {
            assert_eq!(Template::parse(template).unwrap_err().to_string(), want);
        }
        let error = Template::parse("{}").unwrap_err();
        assert!(
            error.to_string().contains("there is no field `{}`; fields are {date} {time} {datetime} {host} "),
            "{error}"
        );
        assert_eq!(error.exit(), Exit::Config);
        assert_eq!(
            Template::parse("{dat}").unwrap_err().want(),
            "a field that there is instead of `{dat}`; did you mean `{date}`?"
        );
        let long = "{date}".repeat(1000);
        let error = Template::parse(&long).unwrap_err().to_string();
        assert!(error.contains("has 6000 bytes, want at most 1024") && error.len() < 200, "{error}");
    }

    #[test]
    fn a_template_is_printed_as_it_was_typed() {
        assert_eq!(Template::parse("{date}-{learning_rate}").unwrap().to_string(), "{date}-{learning_rate}");
    }

    #[test]
    fn fields_are_settings() {
        for field in SETTINGS {
            assert!(field == "host" || KNOBS.iter().any(|knob| knob.key == field), "{field} is no setting");
        }
    }

    #[test]
    fn names_are_one_plain_component() {
        for name in ["a", "0", "A-b_c.d", "CON", "2026-11-24-13-32-11", &"x".repeat(128)] {
            assert_eq!(RunName::new(name).unwrap().as_str(), name);
        }
        for (name, want) in [
            ("a/b", "run name `a/b` holds `/`, want letters from A to Z, digits, `.`, `_` and `-`"),
            (
                "a\u{202e}b",
                "run name `a\\u{202e}b` holds `\\u{202e}`, want letters from A to Z, digits, `.`, `_` and `-`",
            ),
            ("a\0", "run name `a\\0` holds `\\0`, want letters from A to Z, digits, `.`, `_` and `-`"),
            (".", "run name `.` begins with `.`, want a letter from A to Z or a digit"),
            ("a..b", "run name `a..b` holds `..`, which means the directory above; want single dots"),
        ] {
            assert_eq!(RunName::new(name).unwrap_err().to_string(), want);
        }
        let error = RunName::new("é".repeat(4096)).unwrap_err().to_string();
        assert!(error.contains("has 8192 bytes") && error.len() < 200, "{error}");
    }

    #[test]
    fn a_link_is_refused_wherever_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let (logdir, outside) = (dir.path().join("logs"), dir.path().join("outside"));
        for path in [&logdir.join("real"), &outside] {
            std::fs::create_dir_all(path).unwrap();
        }
        for (link, target) in [("out", "../outside"), ("up", ".."), ("none", "nowhere"), ("in", "real")] {
            std::os::unix::fs::symlink(target, logdir.join(link)).unwrap();
            let error = RunName::new(link).unwrap().within(&logdir).unwrap_err();
            let said = format!("{} is a symbolic link to {target}; ", logdir.join(link).display());
            assert!(error.to_string().contains(&said), "{error}");
            assert_eq!(error.exit(), Exit::CantCreate);
        }
        for name in ["real", "new"] {
            assert_eq!(RunName::new(name).unwrap().within(&logdir).unwrap(), logdir.join(name));
        }
        assert_eq!(RunName::new("a").unwrap().within(&dir.path().join("b/c")).unwrap(), dir.path().join("b/c/a"));
    }

    #[test]
    fn a_claimed_directory_is_new_and_empty() {
        let dir = tempfile::tempdir().unwrap();
        let logdir = dir.path();
        let name = RunName::new("night").unwrap();
        std::fs::write(logdir.join("night-3"), "mine").unwrap();
        std::os::unix::fs::symlink("nowhere", logdir.join("night-4")).unwrap();
        let claimed: Vec<PathBuf> = (0..4).map(|_| name.claim(logdir).unwrap()).collect();
        assert_eq!(claimed, ["night", "night-2", "night-5", "night-6"].map(|name| logdir.join(name)));
        let longest = RunName::new("x".repeat(LONGEST_NAME)).unwrap();
        longest.claim(logdir).unwrap();
        assert_eq!(longest.claim(logdir).unwrap(), logdir.join(format!("{longest}-2")));
        let error = name.claim(&logdir.join("none")).unwrap_err();
        assert!(matches!(error, WithinError::Look { .. }), "{error}");
    }

    #[test]
    fn one_of_many_claims_each_directory() {
        let dir = tempfile::tempdir().unwrap();
        let name = RunName::new("night").unwrap();
        let claim = || name.claim(dir.path()).unwrap();
        let claimed: std::collections::BTreeSet<PathBuf> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(claimed.len(), 8);
    }

    #[test]
    fn a_name_with_the_time_of_day_is_of_one_start() {
        let tells = |text: &str| {
            let template = Template::parse(text).unwrap();
            (template.is_of_one_start(), template.tells_time())
        };
        for text in ["{time}", "{date}-{time}", "a{datetime}"] {
            assert_eq!(tells(text), (true, true), "{text}");
        }
        assert_eq!(tells("{date}"), (false, true));
        for text in ["night", "{seed}-{host}", "time"] {
            assert_eq!(tells(text), (false, false), "{text}");
        }
    }

    #[test]
    fn paths_are_told_whose_pictures_tensorboard_does_not_show() {
        for (path, want) in [
            ("logs/a\"b", Some("a quotation mark")),
            ("logs/a\\b/fit", Some("a backslash")),
            ("logs/a\nb", Some("a line break")),
            ("logs/lr=1e-3, größe 'x' #1%&", None),
        ] {
            assert_eq!(unshown(Path::new(path)), want, "{path}");
        }
    }
}
