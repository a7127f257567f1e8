//! The checkpoints of one run: published whole, read only when every byte is right, pruned without ever losing the last.
//!
//! A checkpoint is written into a temporary directory, file by file, each synced; the manifest comes last; then the
//! directory is synced, renamed, and its parent synced. What is removed is first renamed, so that a name never stands
//! for half a checkpoint. The caller owns the run's directory: nobody else writes here.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::candidate::{Candidate, Checkpoint, Health, MAX_STEP, Refusal};
use super::error::StoreError;
use super::manifest::{self, FileEntry, Manifest};
use crate::durable::fs::{absent, again, remove_all, write_new};
use crate::durable::{Disk, Fs, TEMPORARY, make_temporary};

/// A checkpoint to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    pub step: u64,
    /// Numbers under a key are what [`Best`] compares.
    pub facts: Map<String, Value>,
    /// Names are plain: letters, digits, `.`, `_`, `-`.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// A directory that has the name of a checkpoint and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub path: PathBuf,
    /// One line: which file, what was found, what was expected.
    pub reason: String,
    /// The disk did not give it back this time: it may be good.
    pub is_unreadable: bool,
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
    lengths: Vec<(&'static str, u64)>,
}

impl Store {
    /// `dir` need not exist; the first save creates it, but not its parent.
    pub fn new(dir: impl Into<PathBuf>) -> Store {
        Store::on(Disk::default(), dir)
    }
}

impl<F: Fs> Store<F> {
    pub fn on(fs: F, dir: impl Into<PathBuf>) -> Store<F> {
        Store { fs, dir: dir.into(), lengths: Vec::new() }
    }

    /// Believes no checkpoint of which a file of such a name is said to have more bytes, and reads none of it.
    #[must_use]
    pub fn bounded(mut self, lengths: Vec<(&'static str, u64)>) -> Store<F> {
        self.lengths = lengths;
        self
    }

    /// Writes a checkpoint and returns its size in bytes. Afterwards a power cut cannot take it away.
    ///
    /// One of the same step that is there already is replaced, whatever it holds: it steps aside to another name, under
    /// which [`newest`](Store::newest) finds it, too, until the new one is durable. There is no moment without a good one.
    /// Those of higher steps are then removed: the run went back, and they are of a future that did not come.
    pub fn save(&self, draft: &Draft) -> Result<u64, StoreError> {
        self.publish(draft.step, &draft.files, &mut || Ok(draft.facts.clone()))
    }

    /// As [`save`](Store::save), and after a failure afresh after each of `waits`. Each failure is logged and told to
    /// `failed`, but the last is returned. A further attempt needs a word of `is_wanted` after the wait: much may have
    /// happened meanwhile.
    ///
    /// `facts` is called once, when the files are on the disk for the first time: what has to be there before the
    /// checkpoint is published can be on its way meanwhile, and is waited for then. It may say why there are none.
    pub fn save_patiently(
        &self,
        step: u64,
        files: &[(&'static str, Vec<u8>)],
        facts: impl FnOnce() -> Result<Map<String, Value>, String>,
        waits: &[Duration],
        mut failed: impl FnMut(),
        is_wanted: impl Fn() -> bool,
    ) -> Result<u64, StoreError> {
        let (mut facts, mut known) = (Some(facts), Ok(Map::new()));
        let mut facts = || {
            if let Some(facts) = facts.take() {
                known = facts();
            }
            known.clone()
        };
        for wait in waits {
            let result = self.publish(step, files, &mut facts);
            let cause = match &result {
                // Without the advice: it is followed here.
                Err(StoreError::Write { path, source }) => {
                    format!("cannot write checkpoint {}: {source}", path.display())
                }
                Err(error @ (StoreError::Read { .. } | StoreError::Remove { .. })) => error.to_string(),
                _ => return result,
            };
            tracing::warn!("{cause}; trying again in {:.1} s", wait.as_secs_f64());
            failed();
            std::thread::sleep(*wait);
            if !is_wanted() {
                return result;
            }
        }
        self.publish(step, files, &mut facts)
    }

    /// `facts` are asked for when the files are on the disk.
    fn publish(
        &self,
        step: u64,
        files: &[(&'static str, Vec<u8>)],
        facts: &mut dyn FnMut() -> Result<Map<String, Value>, String>,
    ) -> Result<u64, StoreError> {
        let path = self.path_of(step);
        let refused = |reason: String| StoreError::Draft { step, reason };
        if step > MAX_STEP {
            return Err(refused(format!("want a step of at most {MAX_STEP}")));
        }
        let entries: Vec<FileEntry> = files.iter().map(|(name, content)| FileEntry::of(name, content)).collect();
        let manifest =
            |facts| Manifest::new(step, facts, entries.clone()).encode().map_err(|error| refused(error.to_string()));
        // Names are refused before anything is written under them.
        manifest(Map::new())?;
        let failed = |source| StoreError::Write { path: path.clone(), source };
        let all = Candidate::all(&self.fs, &self.dir).map_err(failed)?;
        if all.is_empty() {
            self.create().map_err(failed)?;
        }
        let make = |temporary: &Path| again(|| self.fs.create_dir(temporary));
        let (temporary, ()) = make_temporary(&self.dir, make).map_err(failed)?;
        let published = (|| {
            for (name, content) in files {
                write_new(&self.fs, &temporary.join(name), content).map_err(failed)?;
            }
            let manifest = manifest(facts().map_err(refused)?)?;
            write_new(&self.fs, &temporary.join(manifest::NAME), &manifest).map_err(failed)?;
            again(|| self.fs.sync_dir(&temporary)).map_err(failed)?;
            let replaced = self.make_way(step, &all)?;
            again(|| self.fs.rename_new(&temporary, &path)).map_err(failed)?;
            Ok((replaced, manifest.len()))
        })();
        if published.is_err() {
            // What cannot be removed now is swept when the next process starts.
            let _ = remove_all(&self.fs, &temporary, true);
        }
        let (replaced, manifest_bytes) = published?;
        again(|| self.fs.sync_dir(&self.dir)).map_err(failed)?;
        let future = all.iter().filter(|candidate| candidate.step > step);
        self.discard(replaced.iter().chain(future))?;
        Ok(manifest_bytes as u64 + files.iter().map(|(_, content)| content.len() as u64).sum::<u64>())
    }

    /// The checkpoint of the highest step whose every byte is right, in memory.
    ///
    /// One that is damaged or incomplete, or on a bad sector, is passed over. One that cannot be read for another reason,
    /// such as a missing permission, or that a later version wrote, is an error: it may be good, and who goes on without it
    /// loses work. Files that the manifest does not name are ignored.
    pub fn newest(&self) -> Result<Found, StoreError> {
        let mut rejected = Vec::new();
        for candidate in self.all()? {
            match candidate.read(&self.fs, &self.lengths) {
                Ok(checkpoint) => return Ok(Found { checkpoint: Some(checkpoint), rejected }),
                Err(Refusal::Damaged(reason)) => {
                    rejected.push(Rejected { path: candidate.path, reason, is_unreadable: false });
                }
                Err(Refusal::Unreadable(reason)) => {
                    rejected.push(Rejected { path: candidate.path, reason, is_unreadable: true });
                }
                Err(Refusal::Failed(error)) => return Err(error),
            }
        }
        Ok(Found { checkpoint: None, rejected })
    }

    /// Removes what is not to be kept, after what is kept has been checked to the last byte and is durable. What the disk
    /// does not give back, and what is damaged above the newest good one, stays; without a good one nothing is removed.
    pub fn retain(&self, retention: &Retention) -> Result<(), StoreError> {
        let all = self.all()?;
        let (mut keep, mut good) = (Vec::new(), Vec::new());
        for candidate in &all {
            if good.len() == retention.last.max(1) {
                break;
            }
            // Of one step one is enough.
            let health = if good.last() == Some(&candidate.step) {
                Health::Damaged
            } else {
                candidate.health(&self.fs, &self.lengths)?
            };
            if health == Health::Good {
                good.push(candidate.step);
            }
            if health != Health::Damaged {
                keep.push(candidate);
            }
        }
        let Some(newest) = good.first() else { return Ok(()) };
        for candidate in self.ranked(&all, retention.best.as_ref(), &mut keep)? {
            if keep.contains(&candidate) && good.contains(&candidate.step) {
                break;
            }
            let health = candidate.health(&self.fs, &self.lengths)?;
            if health != Health::Damaged {
                keep.push(candidate);
            }
            if health == Health::Good {
                break;
            }
        }
        self.discard_from_durable(all.iter().filter(|other| other.step <= *newest && !keep.contains(other)))
    }

    /// Tidies up after killed processes: removes what they left half written or half removed, and ends replacements that
    /// they began.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let all = self.all()?;
        for old in all.iter().filter(|candidate| candidate.is_old) {
            // Without a good one in its place it is found under the name it has; the next save of its step clears it up.
            let place = all.iter().find(|other| other.step == old.step && !other.is_old);
            if place.is_some_and(|place| matches!(place.health(&self.fs, &self.lengths), Ok(Health::Good))) {
                self.discard_from_durable([old])?;
            }
        }
        self.remove_temporaries()
    }

    /// Removes every checkpoint, the oldest first: a process that is killed here leaves the newest ones.
    pub fn clear(&self) -> Result<(), StoreError> {
        self.discard(self.all()?.iter().rev())?;
        self.remove_temporaries()
    }

    /// The steps of what looks like a checkpoint by its name, ascending. Nothing is opened.
    pub fn steps(&self) -> Result<Vec<u64>, StoreError> {
        let mut steps: Vec<u64> = self.all()?.iter().rev().map(|candidate| candidate.step).collect();
        steps.dedup();
        Ok(steps)
    }

    /// What the newest checkpoint says of which the manifest can be read. Its files are not looked at.
    pub fn newest_facts(&self) -> Result<Option<Map<String, Value>>, StoreError> {
        for candidate in self.all()? {
            match candidate.manifest(&self.fs) {
                Ok(manifest) => return Ok(Some(manifest.facts)),
                Err(Refusal::Damaged(_) | Refusal::Unreadable(_)) => {}
                Err(Refusal::Failed(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Removes the checkpoints of all steps after `step`, the newest first: what they hold was ruined after it.
    pub fn discard_after(&self, step: u64) -> Result<(), StoreError> {
        self.discard(self.all()?.iter().filter(|candidate| candidate.step > step))
    }

    /// Whether anything looks like a checkpoint by its name.
    pub fn holds(&self) -> Result<bool, StoreError> {
        Ok(!self.all()?.is_empty())
    }

    /// Where the checkpoint of a step is published.
    pub fn path_of(&self, step: u64) -> PathBuf {
        Candidate::path_of(&self.dir, step)
    }

    fn all(&self) -> Result<Vec<Candidate>, StoreError> {
        Candidate::all(&self.fs, &self.dir).map_err(|source| StoreError::Read { path: self.dir.clone(), source })
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

    /// Frees the name of a step. Returns what has to go once the new checkpoint is durable.
    fn make_way(&self, step: u64, all: &[Candidate]) -> Result<Option<Candidate>, StoreError> {
        let find = |is_old| all.iter().find(|candidate| candidate.step == step && candidate.is_old == is_old);
        let Some(current) = find(false) else { return Ok(find(true).cloned()) };
        if let Some(old) = find(true) {
            // There is one name to step aside to: the better one gets it, or has it.
            let old_is_better = match current.health(&self.fs, &self.lengths)? {
                Health::Good => false,
                Health::Damaged => true,
                Health::Unreadable => old.health(&self.fs, &self.lengths)? == Health::Good,
            };
            if old_is_better {
                self.discard([current])?;
                return Ok(Some(old.clone()));
            }
            self.discard_from_durable([old])?;
        }
        let old = current.aside();
        again(|| self.fs.rename_new(&current.path, &old.path))
            .and_then(|()| again(|| self.fs.sync_dir(&self.dir)))
            .map_err(|source| StoreError::Write { path: current.path.clone(), source })?;
        Ok(Some(old))
    }

    /// Removes, once what stays has its names for good: a process that was killed may have left one without.
    fn discard_from_durable<'a>(&self, gone: impl IntoIterator<Item = &'a Candidate>) -> Result<(), StoreError> {
        let gone: Vec<&Candidate> = gone.into_iter().collect();
        if !gone.is_empty() {
            again(|| self.fs.sync_dir(&self.dir))
                .map_err(|source| StoreError::Write { path: self.dir.clone(), source })?;
        }
        self.discard(gone)
    }

    /// Takes the names away, all of them for good, and then the content.
    fn discard<'a>(&self, gone: impl IntoIterator<Item = &'a Candidate>) -> Result<(), StoreError> {
        let failed = |path: &Path, source| StoreError::Remove { path: path.to_owned(), source };
        let mut removed = Vec::new();
        for candidate in gone {
            let rename = |temporary: &Path| again(|| self.fs.rename_new(&candidate.path, temporary));
            let renamed = make_temporary(&self.dir, rename).map_err(|source| failed(&candidate.path, source))?;
            removed.push((renamed.0, candidate.is_dir));
        }
        if !removed.is_empty() {
            again(|| self.fs.sync_dir(&self.dir)).map_err(|source| failed(&self.dir, source))?;
        }
        for (temporary, is_dir) in removed {
            remove_all(&self.fs, &temporary, is_dir).map_err(|source| failed(&temporary, source))?;
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

    /// Those that have the number, the best first; only manifests are read. What the disk does not give back is kept.
    fn ranked<'a>(
        &self,
        all: &'a [Candidate],
        best: Option<&Best>,
        keep: &mut Vec<&'a Candidate>,
    ) -> Result<Vec<&'a Candidate>, StoreError> {
        let (key, sign) = match best {
            None => return Ok(Vec::new()),
            Some(Best::Larger(key)) => (key, -1.0),
            Some(Best::Smaller(key)) => (key, 1.0),
        };
        let mut ranked = Vec::new();
        for candidate in all {
            match candidate.manifest(&self.fs) {
                Ok(manifest) => {
                    let value = manifest.facts.get(key).and_then(Value::as_f64);
                    ranked.extend(value.map(|value| (sign * value, candidate)));
                }
                Err(Refusal::Damaged(_)) => {}
                Err(Refusal::Unreadable(_)) => keep.push(candidate),
                Err(Refusal::Failed(error)) => return Err(error),
            }
        }
        ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Ok(ranked.into_iter().map(|(_, candidate)| candidate).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::sim::{Fault, SimFs};
    use crate::exit::{Classify, Exit};
    use serde_json::json;

    const DIR: &str = "/run/checkpoints";

    fn draft(step: u64, accuracy: Option<f64>) -> Draft {
        let mut facts = Map::from_iter([("epoch".to_owned(), json!(step / 10))]);
        facts.extend(accuracy.map(|accuracy| ("val_accuracy".to_owned(), json!(accuracy))));
        Draft { step, facts, files: vec![("model.safetensors", vec![step as u8; 700]), ("observers.bin", Vec::new())] }
    }

    /// A disk with checkpoints of these steps and accuracies.
    fn store(drafts: &[(u64, Option<f64>)]) -> (SimFs, Store<SimFs>) {
        let fs = SimFs::default();
        fs.put(Path::new("/run/config.toml"), b"").unwrap();
        let store = Store::on(fs.clone(), DIR);
        for (step, accuracy) in drafts {
            store.save(&draft(*step, *accuracy)).unwrap();
        }
        (fs, store)
    }

    fn damage(fs: &SimFs, store: &Store<SimFs>, step: u64) {
        fs.put(&store.path_of(step).join("model.safetensors"), &[0; 700]).unwrap();
    }

    #[test]
    fn a_checkpoint_comes_back_from_a_real_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("checkpoints"));
        assert_eq!(store.newest().unwrap(), Found::default());
        assert!(!store.holds().unwrap());
        let draft = draft(4690, Some(0.1 + 0.2));
        let bytes = store.save(&draft).unwrap();
        store.save(&draft).unwrap();
        let checkpoint = store.newest().unwrap().checkpoint.unwrap();
        assert_eq!(checkpoint.path, dir.path().join("checkpoints/ckpt-000000004690"));
        assert_eq!((checkpoint.step, &checkpoint.facts), (4690, &draft.facts));
        assert_eq!(checkpoint.program, env!("CARGO_PKG_VERSION"));
        assert_eq!(checkpoint.file("model.safetensors"), Some(&[82; 700][..]));
        assert_eq!(checkpoint.file("observers.bin"), Some(&[][..]));
        assert_eq!(checkpoint.file("manifest.json"), None);
        let files = std::fs::read_dir(&checkpoint.path).unwrap();
        assert_eq!(files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>(), bytes);
        assert_eq!(std::fs::read_dir(dir.path().join("checkpoints")).unwrap().count(), 1);
        store.clear().unwrap();
        assert!(!store.holds().unwrap());
    }

    #[test]
    fn retention_keeps_the_newest_and_the_best() {
        let drafts = [(10, Some(0.5)), (20, Some(0.9)), (30, None), (40, Some(0.9)), (50, Some(0.7)), (60, Some(0.6))];
        let accuracy = || "val_accuracy".to_owned();
        let cases = [
            (1, None, vec![60]),
            (0, None, vec![60]),
            (2, None, vec![50, 60]),
            (9, None, vec![10, 20, 30, 40, 50, 60]),
            (1, Some(Best::Larger(accuracy())), vec![40, 60]),
            (2, Some(Best::Smaller(accuracy())), vec![10, 50, 60]),
            (1, Some(Best::Larger("epoch".to_owned())), vec![60]),
            (1, Some(Best::Larger("another".to_owned())), vec![60]),
        ];
        for (last, best, left) in cases {
            let (_, store) = store(&drafts);
            let retention = Retention { last, best };
            store.retain(&retention).unwrap();
            assert_eq!(store.steps().unwrap(), left, "{retention:?}");
        }
    }

    #[test]
    fn what_is_damaged_counts_for_nothing() {
        let (fs, store) = store(&[(10, Some(0.5)), (20, Some(0.9)), (30, Some(0.8)), (40, Some(0.7))]);
        damage(&fs, &store, 20);
        damage(&fs, &store, 40);
        let found = store.newest().unwrap();
        assert_eq!(found.checkpoint.unwrap().step, 30);
        assert_eq!(found.rejected.len(), 1);
        assert_eq!(found.rejected[0].path, store.path_of(40));
        let reason = &found.rejected[0].reason;
        assert!(reason.starts_with("model.safetensors: damaged: got BLAKE3 "), "{reason}");
        store.retain(&Retention { last: 1, best: Some(Best::Larger("val_accuracy".to_owned())) }).unwrap();
        assert_eq!(store.steps().unwrap(), [30, 40], "the best one that is good is 30; 40 may still be looked at");
        store.save(&draft(35, None)).unwrap();
        assert_eq!(store.steps().unwrap(), [30, 35], "the run went back: 40 is of a future that did not come");
    }

    #[test]
    fn nothing_is_pruned_without_a_good_one_and_what_the_disk_does_not_give_back_stays() {
        let (fs, store) = store(&[(10, None), (20, None)]);
        fs.fail(3, Fault::Errno(5)); // the list, the newest manifest, its first file
        store.retain(&Retention { last: 1, best: None }).unwrap();
        assert_eq!(store.steps().unwrap(), [10, 20]);
        damage(&fs, &store, 10);
        damage(&fs, &store, 20);
        store.retain(&Retention { last: 1, best: None }).unwrap();
        assert_eq!(store.steps().unwrap(), [10, 20]);
        let found = store.newest().unwrap();
        assert_eq!((found.checkpoint, found.rejected.len()), (None, 2));
    }

    #[test]
    fn a_file_that_is_longer_than_it_can_be_is_not_read() {
        let (fs, store) = store(&[(10, None), (20, None)]);
        let store = store.bounded(vec![("model.safetensors", 699)]);
        fs.fail(3, Fault::Errno(13)); // the list, the newest manifest, and then the other manifest: no file
        assert!(store.newest().is_err());
        let found = store.newest().unwrap();
        assert_eq!((found.checkpoint, found.rejected.len()), (None, 2));
        let reason = &found.rejected[0].reason;
        assert_eq!(reason, "model.safetensors: the manifest says 700 bytes, and of this network it has at most 699");
        assert!(store.bounded(vec![("model.safetensors", 700)]).newest().unwrap().checkpoint.is_some());
    }

    #[test]
    fn a_checkpoint_that_may_be_good_is_not_passed_over() {
        let (fs, store) = store(&[(10, None), (20, None)]);
        fs.fail(2, Fault::Errno(13));
        let error = store.newest().unwrap_err();
        let want = "cannot read checkpoint /run/checkpoints/ckpt-000000000020/manifest.json: Permission denied (os error \
                    13); let this user read it, and run the same command again";
        assert_eq!(error.to_string(), want);
        assert_eq!(error.exit(), Exit::NoPermission);

        let path = store.path_of(20).join(manifest::NAME);
        let text = String::from_utf8(fs.read(&path, u64::MAX).unwrap()).unwrap();
        let text = text.replace("\"format\": 1", "\"format\": 2").replace(env!("CARGO_PKG_VERSION"), "7.8.9");
        let text = text.split_inclusive('\n').rev().skip(2).collect::<Vec<_>>().into_iter().rev().collect::<String>();
        let seal = blake3::hash(text.as_bytes()).to_hex();
        fs.put(&path, format!("{text}  \"blake3\": \"{seal}\"\n}}\n").as_bytes()).unwrap();
        let error = store.newest().unwrap_err();
        let want = format!(
            "checkpoint /run/checkpoints/ckpt-000000000020: format version 2, written by trainer 7.8.9; this is trainer {}, \
             which reads version 1; run the program that wrote it, or start over with --fresh",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(error.to_string(), want);
        assert_eq!(error.exit(), Exit::Config);
    }

    #[test]
    fn saving_is_tried_again_as_often_as_it_is_told() {
        let (fs, store) = store(&[(10, None)]);
        let save = |step, waits: &[Duration]| {
            let Draft { step, facts, files } = draft(step, None);
            store.save_patiently(step, &files, || Ok(facts), waits, || (), || true)
        };
        fs.fail(3, Fault::Errno(28));
        let error = save(20, &[]).unwrap_err();
        let want = "cannot write checkpoint /run/checkpoints/ckpt-000000000020: No space left on device (os error 28); the \
                    checkpoints before it are intact; free space or repair the disk, and run the same command again";
        assert_eq!(error.to_string(), want);
        assert_eq!(error.exit(), Exit::Io);
        fs.fail(3, Fault::Errno(28));
        save(20, &[Duration::ZERO]).unwrap();
        fs.fail(3, Fault::Lasting(28));
        save(30, &[Duration::ZERO; 3]).unwrap_err();
        fs.revive();
        fs.fail(3, Fault::Errno(28));
        let Draft { step, facts, files } = draft(30, None);
        store.save_patiently(step, &files, || Ok(facts), &[Duration::ZERO; 3], || (), || false).unwrap_err();
        assert_eq!(store.steps().unwrap(), [10, 20]);
        assert_eq!(store.newest().unwrap().checkpoint.unwrap().step, 20);
    }

    #[test]
    fn facts_are_asked_for_once_and_after_the_files() {
        let (fs, store) = store(&[(10, None)]);
        let Draft { step, facts, files } = draft(20, None);
        let seen = std::cell::RefCell::new(Vec::new());
        let ask = || {
            let written = fs.files().into_iter().filter(|(path, _)| path.to_string_lossy().contains(TEMPORARY));
            seen.borrow_mut().push(written.map(|(_, content)| content.len()).collect::<Vec<_>>());
            assert_eq!(store.steps().unwrap(), [10], "nothing is published yet");
            // The manifest, which is next, cannot be written the first time.
            fs.fail(0, Fault::Errno(28));
            Ok(facts.clone())
        };
        store.save_patiently(step, &files, ask, &[Duration::ZERO], || (), || true).unwrap();
        assert_eq!(*seen.borrow(), [[700, 0]]);
        assert_eq!(store.newest().unwrap().checkpoint.unwrap().facts, facts);

        let error = store.save_patiently(30, &files, || Err("no facts".to_owned()), &[Duration::ZERO], || (), || true);
        assert_eq!(error.unwrap_err().to_string(), "checkpoint of step 30 cannot be stored: no facts");
        assert_eq!(store.steps().unwrap(), [10, 20]);
        assert!(fs.files().keys().all(|path| !path.to_string_lossy().contains(TEMPORARY)));
    }

    #[test]
    fn a_replacement_that_was_not_ended_is_ended() {
        let (fs, store) = store(&[(10, None), (20, None)]);
        let old = store.all().unwrap()[0].aside();
        fs.rename(&store.path_of(20), &old.path).unwrap();
        store.sweep().unwrap();
        assert_eq!(store.newest().unwrap().checkpoint.unwrap().path, old.path, "the only one of its step stays");
        store.save(&draft(20, None)).unwrap();
        let path = store.path_of(20);
        assert_eq!(store.newest().unwrap().checkpoint.unwrap().path, path);
        assert!(fs.read(&old.path.join(manifest::NAME), u64::MAX).is_err());

        for name in ["model.safetensors", "observers.bin", manifest::NAME] {
            fs.put(&old.path.join(name), &fs.read(&path.join(name), u64::MAX).unwrap()).unwrap();
        }
        damage(&fs, &store, 20);
        store.sweep().unwrap();
        assert_eq!(store.newest().unwrap().checkpoint.unwrap().path, old.path, "what took its place is damaged");
        store.save(&draft(20, None)).unwrap();
        assert_eq!(store.newest().unwrap(), Found { checkpoint: store.newest().unwrap().checkpoint, rejected: vec![] });
        assert_eq!(store.all().unwrap().len(), 2);
    }

    #[test]
    fn files_of_others_are_left_alone_and_ignored() {
        let (fs, store) = store(&[(10, None)]);
        fs.put(&store.path_of(10).join("notes.txt"), b"mine").unwrap();
        fs.put(Path::new("/run/checkpoints/ckpt-best/notes.txt"), b"mine").unwrap();
        fs.put(Path::new("/run/checkpoints/.tmp-1-0/model.safetensors"), b"half").unwrap();
        assert_eq!(store.newest().unwrap().checkpoint.unwrap().step, 10);
        store.sweep().unwrap();
        store.retain(&Retention { last: 1, best: None }).unwrap();
        store.clear().unwrap();
        let left: Vec<PathBuf> = fs.files().into_keys().collect();
        assert_eq!(left, [Path::new("/run/checkpoints/ckpt-best/notes.txt"), Path::new("/run/config.toml")]);
    }

    #[test]
    fn drafts_that_could_not_be_read_back_are_refused() {
        let (_, store) = store(&[]);
        let mut deep = json!(0);
        for _ in 0..200 {
            deep = json!([deep]);
        }
        let with = |files| Draft { step: 1, facts: Map::new(), files };
        let facts = |value| Draft { step: 1, facts: Map::from_iter([("key".to_owned(), value)]), files: vec![] };
        let cases = [
            Draft { step: 1_000_000_000_000, ..Draft::default() },
            with(vec![("../model", vec![])]),
            with(vec![("manifest.json", vec![])]),
            with(vec![("a", vec![]), ("a", vec![])]),
            facts(deep),
            facts(json!("long ".repeat(300_000))),
        ];
        for draft in cases {
            let error = store.save(&draft).unwrap_err();
            assert!(error.to_string().starts_with("checkpoint of step 1"), "{error}");
            assert_eq!(error.exit(), Exit::Software);
        }
        assert!(!store.holds().unwrap());
    }
}
