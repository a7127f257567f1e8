//! The checkpoints of one run: published whole, read only when every byte is right, pruned without ever losing the last.
//!
//! A checkpoint is written into a temporary directory, file by file, each synced; the manifest comes last; then the
//! directory is synced, renamed, and its parent synced. What is removed is first renamed, so that a name never stands
//! for half a checkpoint. The caller owns the run's directory: nobody else writes here.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use serde_json::{Map, Value};

use super::manifest::{self, FileEntry, Manifest, ManifestError};
use crate::durable::fs::{absent, again, remove_all, write_new};
use crate::durable::{Disk, Fs, TEMPORARY, make_temporary};
use crate::exit::{Classify, Exit};

const PREFIX: &str = "ckpt-";
const DIGITS: usize = 12;
/// Ends the name of a checkpoint while another of its step takes its place.
const OLD: &str = ".old";
/// The largest step that its name can hold.
const MAX_STEP: u64 = 999_999_999_999;

/// Why checkpoints could not be written, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "cannot write checkpoint {}: {source}; the checkpoints before it are intact; free space or repair the disk, and \
         run the same command again", path.display()
    )]
    Write { path: PathBuf, source: Error },
    #[error("cannot read checkpoint {}: {source}; let this user read it, and run the same command again", path.display())]
    Read { path: PathBuf, source: Error },
    #[error("cannot remove checkpoint {}: {source}; let this user write there, or remove it by hand", path.display())]
    Remove { path: PathBuf, source: Error },
    #[error("checkpoint {}: {source}; run the program that wrote it, or start over with --fresh", path.display())]
    Version { path: PathBuf, source: ManifestError },
    #[error("checkpoint of step {step} cannot be stored: {reason}")]
    Draft { step: u64, reason: String },
}

impl Classify for StoreError {
    fn exit(&self) -> Exit {
        match self {
            StoreError::Write { source, .. } | StoreError::Read { source, .. } | StoreError::Remove { source, .. } => {
                if source.kind() == ErrorKind::PermissionDenied {
                    Exit::NoPermission
                } else {
                    Exit::Io
                }
            }
            StoreError::Version { .. } => Exit::Config,
            StoreError::Draft { .. } => Exit::Software,
        }
    }
}

/// A checkpoint to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    pub step: u64,
    /// Numbers under a key are what [`Best`] compares.
    pub facts: Map<String, Value>,
    /// Names are plain: letters, digits, `.`, `_`, `-`.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

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

/// A directory that has the name of a checkpoint and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub path: PathBuf,
    /// One line: which file, what was found, what was expected.
    pub reason: String,
}

/// The newest checkpoint that can be believed, and those above it that cannot, newest first.
///
/// No checkpoint and something rejected is not the same as an empty store: there was a run, and it is lost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub checkpoint: Option<Checkpoint>,
    pub rejected: Vec<Rejected>,
}

/// What [`Store::retain`] keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many; 0 is taken as 1.
    pub last: usize,
    pub best: Option<Best>,
}

/// Which checkpoint is the best one: by the number among its facts under this key. Without such a number it is not
/// considered; of equals the newest is the best.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Best {
    Larger(String),
    Smaller(String),
}

/// The directory of a run's checkpoints.
#[derive(Debug)]
pub struct Store<F: Fs = Disk> {
    fs: F,
    dir: PathBuf,
}

/// A name in the store that looks like a checkpoint's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    step: u64,
    replaced: bool,
    path: PathBuf,
    is_dir: bool,
}

/// Why a checkpoint was not read.
enum Refusal {
    /// It is damaged: look for another.
    Damaged(String),
    /// It may well be good: do not go on without it.
    Failed(StoreError),
}

impl Store {
    /// `dir` need not exist; the first save creates it, but not its parent.
    pub fn new(dir: impl Into<PathBuf>) -> Store {
        Store::on(Disk, dir)
    }
}

impl<F: Fs> Store<F> {
    pub fn on(fs: F, dir: impl Into<PathBuf>) -> Store<F> {
        Store { fs, dir: dir.into() }
    }

    /// Writes a checkpoint and returns its size in bytes. Afterwards a power cut cannot take it away.
    ///
    /// One of the same step that is there already is replaced, whatever it holds: it steps aside to another name, under
    /// which [`newest`](Store::newest) finds it, too, until the new one is durable. There is no moment without a good one.
    pub fn save(&self, draft: &Draft) -> Result<u64, StoreError> {
        let path = self.path_of(draft.step);
        let manifest = encode(draft)?;
        let failed = |source| StoreError::Write { path: path.clone(), source };
        let named = self.list().map_err(failed)?;
        if named.is_empty() {
            self.create().map_err(failed)?;
        }
        let (temporary, ()) =
            make_temporary(&self.dir, |temporary| again(|| self.fs.create_dir(temporary))).map_err(failed)?;
        let published = self.fill(&temporary, draft, &manifest).map_err(failed).and_then(|()| {
            let replaced = self.make_way(draft.step, &named)?;
            again(|| self.fs.rename_new(&temporary, &path)).map_err(failed)?;
            Ok(replaced)
        });
        if published.is_err() {
            // What cannot be removed now is swept when the next process starts.
            let _ = remove_all(&self.fs, &temporary, true);
        }
        let replaced = published?;
        again(|| self.fs.sync_dir(&self.dir)).map_err(failed)?;
        if let Some(replaced) = replaced {
            // The new one is durable: what is left of the old one does no harm, and the next sweep removes it.
            self.discard(&[&replaced]).unwrap_or_else(|error| tracing::warn!("{error}"));
        }
        Ok(manifest.len() as u64 + draft.files.iter().map(|(_, content)| content.len() as u64).sum::<u64>())
    }

    /// Saves, and after a failure starts afresh after each of `waits`. Each failure is logged, but the last is returned.
    pub fn save_patiently(&self, draft: &Draft, waits: &[Duration]) -> Result<u64, StoreError> {
        for wait in waits {
            let cause = match self.save(draft) {
                Err(StoreError::Write { path, source }) => {
                    format!("cannot write checkpoint {}: {source}", path.display())
                }
                Err(error @ (StoreError::Read { .. } | StoreError::Remove { .. })) => error.to_string(),
                result => return result,
            };
            tracing::warn!("{cause}; trying again in {:.1} s", wait.as_secs_f64());
            std::thread::sleep(*wait);
        }
        self.save(draft)
    }

    /// The checkpoint of the highest step whose every byte is right, in memory.
    ///
    /// One that is damaged or incomplete is passed over. One that cannot be read for another reason, such as a missing
    /// permission, or that a later version wrote, is an error: it may be good, and who goes on without it loses work.
    /// Files that the manifest does not name are ignored.
    pub fn newest(&self) -> Result<Found, StoreError> {
        let mut rejected = Vec::new();
        for named in self.named()? {
            match self.read(&named) {
                Ok(checkpoint) => return Ok(Found { checkpoint: Some(checkpoint), rejected }),
                Err(Refusal::Damaged(reason)) => rejected.push(Rejected { path: named.path, reason }),
                Err(Refusal::Failed(error)) => return Err(error),
            }
        }
        Ok(Found { checkpoint: None, rejected })
    }

    /// Removes what is not to be kept, after what is kept has been checked to the last byte and is durable. Damaged ones
    /// above the newest good one stay; without a good one nothing is removed.
    pub fn retain(&self, retention: &Retention) -> Result<(), StoreError> {
        let named = self.named()?;
        let mut keep: Vec<&Named> = Vec::new();
        for candidate in &named {
            let is_new = keep.last().is_none_or(|kept| kept.step != candidate.step);
            if keep.len() < retention.last.max(1) && is_new && self.is_good(candidate)? {
                keep.push(candidate);
            }
        }
        let Some(newest) = keep.first().map(|kept| kept.step) else { return Ok(()) };
        if let Some(best) = &retention.best {
            let mut ranked = self.ranked(&named, best)?;
            while let Some(candidate) = ranked.pop() {
                if keep.contains(&candidate) || self.is_good(candidate)? {
                    keep.push(candidate);
                    break;
                }
            }
        }
        let is_gone = |candidate: &&Named| candidate.step <= newest && !keep.contains(candidate);
        let gone: Vec<&Named> = named.iter().filter(is_gone).collect();
        self.discard_from_durable(&gone)
    }

    /// Tidies up after killed processes: removes what they left half written or half removed, and ends replacements that
    /// they began.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let named = self.named()?;
        for old in named.iter().filter(|named| named.replaced) {
            // Without a good one in its place it is found under the name it has; the next save of its step clears it up.
            let place = named.iter().find(|other| other.step == old.step && !other.replaced);
            if place.is_some_and(|place| matches!(self.is_good(place), Ok(true))) {
                self.discard_from_durable(&[old])?;
            }
        }
        self.remove_temporaries()
    }

    /// Removes every checkpoint, the oldest first: a process that is killed here leaves the newest ones.
    pub fn clear(&self) -> Result<(), StoreError> {
        let named = self.named()?;
        self.discard(&named.iter().rev().collect::<Vec<_>>())?;
        self.remove_temporaries()
    }

    /// The steps of what looks like a checkpoint by its name, ascending. Nothing is opened.
    pub fn steps(&self) -> Result<Vec<u64>, StoreError> {
        let mut steps: Vec<u64> = self.named()?.iter().map(|named| named.step).collect();
        steps.dedup();
        steps.reverse();
        Ok(steps)
    }

    /// Whether anything looks like a checkpoint by its name.
    pub fn holds(&self) -> Result<bool, StoreError> {
        Ok(!self.named()?.is_empty())
    }

    /// Where the checkpoint of a step is published.
    pub fn path_of(&self, step: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{step:0DIGITS$}"))
    }

    /// What looks like a checkpoint by its name, the newest first, and of one step the current one first.
    fn list(&self) -> Result<Vec<Named>, Error> {
        let entries = again(|| self.fs.list(&self.dir)).or_else(absent(Vec::new()))?;
        let mut named: Vec<Named> = entries
            .into_iter()
            .filter_map(|entry| {
                let (step, replaced) = parse(entry.name.to_str()?)?;
                Some(Named { step, replaced, path: self.dir.join(&entry.name), is_dir: entry.is_dir })
            })
            .collect();
        named.sort_by_key(|named| (std::cmp::Reverse(named.step), named.replaced));
        Ok(named)
    }

    fn named(&self) -> Result<Vec<Named>, StoreError> {
        self.list().map_err(|source| StoreError::Read { path: self.dir.clone(), source })
    }

    /// Makes the directory durable, also one whose maker was killed before it could do so: then it holds no checkpoint.
    fn create(&self) -> Result<(), Error> {
        match again(|| self.fs.create_dir(&self.dir)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let parent = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        again(|| self.fs.sync_dir(parent.unwrap_or(Path::new("."))))
    }

    fn fill(&self, dir: &Path, draft: &Draft, manifest: &[u8]) -> Result<(), Error> {
        for (name, content) in &draft.files {
            write_new(&self.fs, &dir.join(name), content)?;
        }
        write_new(&self.fs, &dir.join(manifest::NAME), manifest)?;
        again(|| self.fs.sync_dir(dir))
    }

    /// Frees the name of a step. Returns what has to go once the new checkpoint is durable.
    fn make_way(&self, step: u64, named: &[Named]) -> Result<Option<Named>, StoreError> {
        let find = |replaced| named.iter().find(|named| named.step == step && named.replaced == replaced);
        let (current, aside) = match (find(false), find(true)) {
            (None, aside) => return Ok(aside.cloned()),
            (Some(current), aside) => (current, aside),
        };
        if let Some(aside) = aside {
            if !self.is_good(current)? {
                self.discard(&[current])?;
                return Ok(Some(aside.clone()));
            }
            self.discard_from_durable(&[aside])?;
        }
        let mut path = current.path.clone().into_os_string();
        path.push(OLD);
        let aside = Named { replaced: true, path: path.into(), ..current.clone() };
        again(|| self.fs.rename_new(&current.path, &aside.path))
            .and_then(|()| again(|| self.fs.sync_dir(&self.dir)))
            .map_err(|source| StoreError::Write { path: current.path.clone(), source })?;
        Ok(Some(aside))
    }

    /// Removes, once what stays has its names for good: a process that was killed may have left one without.
    fn discard_from_durable(&self, gone: &[&Named]) -> Result<(), StoreError> {
        if !gone.is_empty() {
            again(|| self.fs.sync_dir(&self.dir))
                .map_err(|source| StoreError::Write { path: self.dir.clone(), source })?;
        }
        self.discard(gone)
    }

    /// Takes the names away, all of them for good, and then the content.
    fn discard(&self, gone: &[&Named]) -> Result<(), StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Remove { path, source }
        };
        let mut removed = Vec::new();
        for named in gone {
            let (temporary, ()) =
                make_temporary(&self.dir, |temporary| again(|| self.fs.rename_new(&named.path, temporary)))
                    .map_err(failed(&named.path))?;
            removed.push((temporary, named.is_dir));
        }
        if !removed.is_empty() {
            again(|| self.fs.sync_dir(&self.dir)).map_err(failed(&self.dir))?;
        }
        for (temporary, is_dir) in removed {
            remove_all(&self.fs, &temporary, is_dir).map_err(failed(&temporary))?;
        }
        Ok(())
    }

    fn remove_temporaries(&self) -> Result<(), StoreError> {
        let entries = again(|| self.fs.list(&self.dir))
            .or_else(absent(Vec::new()))
            .map_err(|source| StoreError::Read { path: self.dir.clone(), source })?;
        for entry in entries.iter().filter(|entry| entry.name.to_string_lossy().starts_with(TEMPORARY)) {
            let path = self.dir.join(&entry.name);
            remove_all(&self.fs, &path, entry.is_dir).map_err(|source| StoreError::Remove { path, source })?;
        }
        Ok(())
    }

    /// Those that have the number, the best last; only manifests are read.
    fn ranked<'a>(&self, named: &'a [Named], best: &Best) -> Result<Vec<&'a Named>, StoreError> {
        let (key, sign) = match best {
            Best::Larger(key) => (key, 1.0),
            Best::Smaller(key) => (key, -1.0),
        };
        let mut ranked = Vec::new();
        for candidate in named.iter().rev() {
            match self.manifest(candidate) {
                Ok(manifest) => {
                    let value = manifest.facts.get(key).and_then(Value::as_f64);
                    ranked.extend(value.map(|value| (sign * value, candidate)));
                }
                Err(Refusal::Damaged(_)) => {}
                Err(Refusal::Failed(error)) => return Err(error),
            }
        }
        ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Ok(ranked.into_iter().map(|(_, candidate)| candidate).collect())
    }

    fn read(&self, named: &Named) -> Result<Checkpoint, Refusal> {
        let mut files = Vec::new();
        let manifest = self.examine(named, |name, content| files.push((name.to_owned(), content)))?;
        let Manifest { step, facts, program, .. } = manifest;
        Ok(Checkpoint { path: named.path.clone(), step, facts, program, files })
    }

    fn is_good(&self, named: &Named) -> Result<bool, StoreError> {
        match self.examine(named, |_, _| ()) {
            Ok(_) => Ok(true),
            Err(Refusal::Damaged(_)) => Ok(false),
            Err(Refusal::Failed(error)) => Err(error),
        }
    }

    /// Reads every file and compares it with the manifest, one at a time.
    fn examine(&self, named: &Named, mut each: impl FnMut(&str, Vec<u8>)) -> Result<Manifest, Refusal> {
        let manifest = self.manifest(named)?;
        for file in &manifest.files {
            let content = self.read_file(named, &file.name, file.bytes)?;
            file.check(&content).map_err(Refusal::Damaged)?;
            each(&file.name, content);
        }
        Ok(manifest)
    }

    fn manifest(&self, named: &Named) -> Result<Manifest, Refusal> {
        let bytes = self.read_file(named, manifest::NAME, manifest::MAX_LEN)?;
        let manifest = Manifest::decode(&bytes).map_err(|error| match error {
            version @ ManifestError::Version { .. } => {
                Refusal::Failed(StoreError::Version { path: named.path.clone(), source: version })
            }
            error => Refusal::Damaged(format!("{}: {error}", manifest::NAME)),
        })?;
        if manifest.step != named.step {
            let got = manifest.step;
            return Err(Refusal::Damaged(format!(
                "{}: got step {got}, its directory says {}",
                manifest::NAME,
                named.step
            )));
        }
        Ok(manifest)
    }

    fn read_file(&self, named: &Named, name: &str, limit: u64) -> Result<Vec<u8>, Refusal> {
        let path = named.path.join(name);
        again(|| self.fs.read(&path, limit)).map_err(|source| match source.kind() {
            ErrorKind::FileTooLarge => Refusal::Damaged(format!("{name}: longer than {limit} bytes")),
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
                Refusal::Damaged(format!("{name}: {source}"))
            }
            // The disk cannot give it back, now or ever.
            _ if source.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                Refusal::Damaged(format!("{name}: {source}"))
            }
            _ => Refusal::Failed(StoreError::Read { path, source }),
        })
    }
}

fn encode(draft: &Draft) -> Result<Vec<u8>, StoreError> {
    let refused = |reason: String| StoreError::Draft { step: draft.step, reason };
    if draft.step > MAX_STEP {
        return Err(refused(format!("want a step of at most {MAX_STEP}")));
    }
    let files = draft.files.iter().map(|(name, content)| FileEntry::of(name, content)).collect();
    Manifest::new(draft.step, draft.facts.clone(), files).encode().map_err(|error| refused(error.to_string()))
}

/// The step in the name of a checkpoint, and whether it has stepped aside for another.
fn parse(name: &str) -> Option<(u64, bool)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (digits, replaced) = rest.strip_suffix(OLD).map_or((rest, false), |digits| (digits, true));
    let plain = digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
    if plain { Some((digits.parse().ok()?, replaced)) } else { None }
}
