//! A directory that has the name of a checkpoint, and what reading it to the last byte says.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde_json::{Map, Value};

use super::error::StoreError;
use super::manifest::{self, FileEntry, Manifest, ManifestError};
use crate::durable::Fs;
use crate::durable::fs::{absent, again};

const PREFIX: &str = "ckpt-";
const DIGITS: usize = 12;
/// Ends the name of a checkpoint while another of its step takes its place.
const OLD: &str = ".old";
/// The largest step that a name can hold.
pub(super) const MAX_STEP: u64 = 999_999_999_999;

/// A checkpoint of which every byte is as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub path: PathBuf,
    pub step: u64,
    pub facts: Map<String, Value>,
    /// Version of the program that wrote it.
    pub program: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Checkpoint {
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, content)| content.as_slice())
    }
}

/// A name that looks like a checkpoint's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub step: u64,
    /// It has stepped aside for another of its step.
    pub is_old: bool,
    pub path: PathBuf,
    pub is_dir: bool,
}

/// Why a checkpoint was not read.
pub(super) enum Refusal {
    /// It is damaged: look for another.
    Damaged(String),
    /// The disk does not give it back, perhaps never again: look for another, but do not remove it.
    Unreadable(String),
    /// It may well be good: do not go on without it.
    Failed(StoreError),
}

/// What a look at every byte of a checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    Damaged,
    Unreadable,
}

impl Candidate {
    /// All in `dir`: the newest first, and of one step the old one last. None if there is no `dir`.
    pub fn all<F: Fs>(fs: &F, dir: &Path) -> Result<Vec<Candidate>, Error> {
        let entries = again(|| fs.list(dir)).or_else(absent(Vec::new()))?;
        let mut all: Vec<Candidate> = entries
            .into_iter()
            .filter_map(|entry| {
                let (step, is_old) = parse(entry.name.to_str()?)?;
                Some(Candidate { step, is_old, path: dir.join(&entry.name), is_dir: entry.is_dir })
            })
            .collect();
        all.sort_by_key(|candidate| (Reverse(candidate.step), candidate.is_old));
        Ok(all)
    }

    /// Where the checkpoint of a step is published.
    pub fn path_of(dir: &Path, step: u64) -> PathBuf {
        dir.join(format!("{PREFIX}{step:0DIGITS$}"))
    }

    /// Under the name that it has once it has stepped aside.
    pub fn aside(&self) -> Candidate {
        let mut path = self.path.clone().into_os_string();
        path.push(OLD);
        Candidate { is_old: true, path: path.into(), ..self.clone() }
    }

    pub fn read<F: Fs>(&self, fs: &F, lengths: &[(&str, u64)]) -> Result<Checkpoint, Refusal> {
        let mut files = Vec::new();
        let manifest = self.examine(fs, lengths, |name, content| files.push((name.to_owned(), content)))?;
        let Manifest { step, facts, program, .. } = manifest;
        Ok(Checkpoint { path: self.path.clone(), step, facts, program, files })
    }

    pub fn health<F: Fs>(&self, fs: &F, lengths: &[(&str, u64)]) -> Result<Health, StoreError> {
        match self.examine(fs, lengths, |_, _| ()) {
            Ok(_) => Ok(Health::Good),
            Err(Refusal::Damaged(_)) => Ok(Health::Damaged),
            Err(Refusal::Unreadable(_)) => Ok(Health::Unreadable),
            Err(Refusal::Failed(error)) => Err(error),
        }
    }

    /// The manifest alone.
    pub fn manifest<F: Fs>(&self, fs: &F) -> Result<Manifest, Refusal> {
        let bytes = self.file(fs, manifest::NAME, manifest::MAX_LEN)?;
        let manifest = Manifest::decode(&bytes).map_err(|error| match error {
            version @ ManifestError::Version { .. } => {
                Refusal::Failed(StoreError::Version { path: self.path.clone(), source: version })
            }
            error => Refusal::Damaged(format!("{}: {error}", manifest::NAME)),
        })?;
        if manifest.step == self.step {
            return Ok(manifest);
        }
        let (got, want) = (manifest.step, self.step);
        Err(Refusal::Damaged(format!("{}: got step {got}, its directory says {want}", manifest::NAME)))
    }

    /// Reads one file after another and compares it with the manifest; none where one would be longer than `lengths` say
    /// of its name.
    fn examine<F: Fs>(
        &self,
        fs: &F,
        lengths: &[(&str, u64)],
        mut each: impl FnMut(&str, Vec<u8>),
    ) -> Result<Manifest, Refusal> {
        let manifest = self.manifest(fs)?;
        for file in &manifest.files {
            let most = lengths.iter().find(|(name, _)| *name == file.name).map(|(_, most)| *most);
            if let Some(most) = most.filter(|most| file.bytes > *most) {
                let FileEntry { name, bytes, .. } = file;
                let reason =
                    format!("{name}: the manifest says {bytes} bytes, and of this network it has at most {most}");
                return Err(Refusal::Damaged(reason));
            }
        }
        for file in &manifest.files {
            let content = self.file(fs, &file.name, file.bytes)?;
            file.check(&content).map_err(Refusal::Damaged)?;
            each(&file.name, content);
        }
        Ok(manifest)
    }

    fn file<F: Fs>(&self, fs: &F, name: &str, limit: u64) -> Result<Vec<u8>, Refusal> {
        let path = self.path.join(name);
        again(|| fs.read(&path, limit)).map_err(|source| match source.kind() {
            ErrorKind::FileTooLarge => Refusal::Damaged(format!("{name}: longer than {limit} bytes")),
            // Something else than a file: a pipe, a device, a directory, nothing.
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::InvalidInput => {
                Refusal::Damaged(format!("{name}: {source}"))
            }
            _ if source.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                Refusal::Unreadable(format!("{name}: {source}"))
            }
            _ => Refusal::Failed(StoreError::Read { path, source }),
        })
    }
}

/// True for the name of a checkpoint, also of one that is being replaced.
pub fn is_name(name: &OsStr) -> bool {
    name.to_str().and_then(parse).is_some()
}

/// The step in the name of a checkpoint, also of one that is being replaced.
pub fn step_of(name: &str) -> Option<u64> {
    parse(name).map(|(step, _)| step)
}

/// The step in a checkpoint's name; true if another checkpoint of the step replaces it.
fn parse(name: &str) -> Option<(u64, bool)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (digits, is_old) = rest.strip_suffix(OLD).map_or((rest, false), |digits| (digits, true));
    let plain = digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
    if plain { Some((digits.parse().ok()?, is_old)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_other_names() {
        assert_eq!(parse("ckpt-000000004690"), Some((4690, false)));
        assert_eq!(parse("ckpt-999999999999.old"), Some((MAX_STEP, true)));
        for other in ["ckpt-4690", "ckpt-0000000046900", "ckpt-00000000469x", "ckpt-+00000004690", "000000004690"] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(Candidate::path_of(Path::new("a"), 7), Path::new("a/ckpt-000000000007"));
    }
}
