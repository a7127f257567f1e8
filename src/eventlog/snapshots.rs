//! A run's snapshots for TensorBoard's Projector: the points of every epoch that was looked at, beside one configuration.
//!
//! ```text
//! plugins/org_tensorflow_tensorboard_projector/
//!   projector_config.pbtxt    leads to the points of all epochs
//!   epoch_0000/, epoch_0004/  points: vectors, labels, pictures
//! projector/epoch_0004/       an event file that says nothing, while the run is trained
//! ```
//!
//! The first is where TensorBoard looks for files of a run that it lists already; of more than 40 entries in its list none
//! is selected, so a snapshot should not be one. It looks when the list changes: hence the second, whose name
//! changes with each snapshot, and which goes at the end. A broken configuration hides the tab for all runs: points stand
//! whole before the configuration leads to them, and go when it does no longer.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::file::{CreateError, EventFile, MARK, Origin};
use super::projector::{self, Embeddings};
use crate::exit::{Classify, Exit};
use crate::files::{Dir, Kind};
use crate::picture::PngError;
use crate::types::{Step, WallTime};

/// The directories within a run's that hold its snapshots.
pub const DIRS: [&str; 2] = ["plugins", SIGNS];
/// The directory of all points within a run's.
pub const ROOT: &str = "plugins/org_tensorflow_tensorboard_projector";
/// Within the first of them.
const PLUGIN: &str = "org_tensorflow_tensorboard_projector";
/// Signs to TensorBoard that there is something new, and snapshots of earlier versions, each a run of its own.
const SIGNS: &str = "projector";
/// The sign that the run is trained, before the first snapshot.
const TRAINING: &str = "training";
/// The file that makes TensorBoard look at a run's points.
const CONFIG: &str = "projector_config.pbtxt";
/// Prefix of a directory of points; the epoch follows.
const PREFIX: &str = "epoch_";
/// A file that is not whole yet; `tfevents` must not be in the name.
const PARTIAL: &str = ".part";
/// Longer files are no configuration of ours.
const LONGEST: u64 = 1 << 20;

/// Error in writing a snapshot. Files before the failed one may exist; TensorBoard ignores them.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Png { path: PathBuf, source: PngError },
    #[error(transparent)]
    Create(#[from] CreateError),
}

/// Something among the snapshots that cannot be removed, or is not what this user may write.
#[derive(Debug)]
pub struct EntryError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl Classify for SnapshotError {
    fn exit(&self) -> Exit {
        match self {
            SnapshotError::Write { source, .. } => Exit::of_output(source),
            SnapshotError::Png { .. } => Exit::Software,
            SnapshotError::Create(error) => error.exit(),
        }
    }
}

/// The points of one epoch, on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Points {
    epoch: u64,
    /// Their place in a configuration, by paths from their directory.
    block: String,
}

/// Writes the points of an epoch, beside those of the epochs before it, and says how many bytes that took.
pub(super) fn write(
    logdir: &Dir,
    epoch: Step,
    embeddings: &Embeddings,
    origin: &Origin,
    now: WallTime,
) -> Result<u64, SnapshotError> {
    let made = |above: &Dir, name: &str| {
        above.own_dir(name).map_err(|source| SnapshotError::Write { path: above.path().join(name), source })
    };
    let root = made(&made(logdir, DIRS[0])?, PLUGIN)?;
    let dir = made(&root, &dir_name(epoch.get()))?;
    let mut bytes = embeddings.write(&dir)?;
    let before = root.open_file(CONFIG).and_then(|file| file.metadata()).map_or(0, |metadata| metadata.len());
    let config = config(&points(&root));
    let failed = |source| SnapshotError::Write { path: root.path().join(CONFIG), source };
    put(&root, CONFIG, config.as_bytes()).map_err(failed)?;
    bytes += (config.len() as u64).saturating_sub(before);
    if !files(logdir).iter().any(is_event_file) {
        // TensorBoard looks in directories that are runs.
        bytes += EventFile::create_in(logdir, origin, 0, now, None)?.written_bytes();
    }
    Ok(bytes)
}

/// Looks whether what has the name of a snapshot or of a part of one is a directory, or a file, of this user. Gives the
/// directories to which snapshots are added.
pub fn check(logdir: &Dir) -> Result<Vec<PathBuf>, EntryError> {
    let mut dirs = Vec::new();
    if let Some(plugins) = own(logdir, DIRS[0])?
        && let Some(root) = own(&plugins, PLUGIN)?
    {
        own_files(&root, &[CONFIG])?;
        for name in named(&root)?.iter().filter(|name| epoch_of(name).is_some()) {
            if let Some(dir) = own(&root, name)? {
                own_files(&dir, &projector::FILES)?;
            }
        }
        dirs.push(root.path().to_owned());
    }
    if let Some(signs) = own(logdir, SIGNS)? {
        for name in named(&signs)?.iter().filter(|name| *name == TRAINING || epoch_of(name).is_some()) {
            own(&signs, name)?;
        }
    }
    Ok(dirs)
}

/// A directory of this user, if anything has that name.
fn own(above: &Dir, name: &str) -> Result<Option<Dir>, EntryError> {
    let found = above.has_own_dir(name).and_then(|is_there| is_there.then(|| above.dir(name)).transpose());
    found.map_err(|source| EntryError { path: above.path().join(name), source })
}

fn own_files(dir: &Dir, names: &[&str]) -> Result<(), EntryError> {
    names.iter().try_for_each(|name| {
        let found = dir.has_own_file(name).map(drop);
        found.map_err(|source| EntryError { path: dir.path().join(name), source })
    })
}

/// Names of whatever kind.
fn named(dir: &Dir) -> Result<Vec<String>, EntryError> {
    let entries = dir.list().map_err(|source| EntryError { path: dir.path().to_owned(), source })?;
    Ok(entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect())
}

/// Lets a TensorBoard that runs see that there is something new: the points of `epoch`, or, without, a run that is trained.
pub(super) fn show(logdir: &Dir, epoch: Option<Step>, origin: &Origin, now: WallTime) -> Result<(), CreateError> {
    let name = epoch.map_or_else(|| TRAINING.to_owned(), |epoch| dir_name(epoch.get()));
    let dir = logdir.own_dir(SIGNS).and_then(|signs| signs.own_dir(&name));
    let dir = dir.map_err(|source| CreateError::Directory { dir: logdir.path().join(SIGNS).join(&name), source })?;
    if !files(&dir).iter().any(is_event_file) {
        EventFile::create_in(&dir, origin, 0, now, None)?;
    }
    remove_signs(logdir, Some(&name));
    Ok(())
}

/// Takes back every sign: the run is not trained any more.
pub(super) fn hide(logdir: &Dir) {
    remove_signs(logdir, None);
}

/// Removes the points of this epoch and of those after it. What somebody else put among them stays.
pub fn void(logdir: &Dir, from: Step) -> Result<(), EntryError> {
    let from = from.get();
    if let Ok(plugins) = logdir.dir(DIRS[0]) {
        if let Ok(root) = plugins.dir(PLUGIN) {
            void_points(&root, from)?;
            // Those that hold something else stay.
            let _ = plugins.remove_dir(PLUGIN);
        }
        let _ = logdir.remove_dir(DIRS[0]);
    }
    remove_signs(logdir, None);
    if let Ok(signs) = logdir.dir(SIGNS) {
        for epoch in epochs(&signs).into_iter().filter(|&epoch| epoch >= from) {
            remove_files(&signs, &dir_name(epoch))?;
        }
        let _ = logdir.remove_dir(SIGNS);
    }
    Ok(())
}

fn void_points(root: &Dir, from: u64) -> Result<(), EntryError> {
    let left: Vec<Points> = points(root).into_iter().filter(|points| points.epoch < from).collect();
    if left.is_empty() {
        remove_ours(root)?;
    } else {
        // Before anything that it leads to is gone.
        let config = config(&left);
        if read(root, CONFIG).as_ref() != Some(&config) {
            put(root, CONFIG, config.as_bytes())
                .map_err(|source| EntryError { path: root.path().join(CONFIG), source })?;
        }
    }
    for epoch in epochs(root).into_iter().filter(|&epoch| epoch >= from) {
        remove_files(root, &dir_name(epoch))?;
    }
    Ok(())
}

/// Name, epoch and bytes of each set of points that the run directory `dir` leads to; none where there is no
/// configuration of our kind.
pub(super) fn listed(dir: &Dir) -> Vec<(String, u64, u64)> {
    let size = |dir: &Dir| -> u64 {
        let sizes = files(dir).into_iter().filter(|name| !is_event_file(name)).map(|name| {
            let file = dir.open_file(name).and_then(|file| file.metadata());
            file.map_or(0, |metadata| metadata.len())
        });
        sizes.sum()
    };
    let root = dir.dir(DIRS[0]).and_then(|plugins| plugins.dir(PLUGIN));
    let points = root.as_ref().map(points).unwrap_or_default();
    let (Ok(root), false) = (root, points.is_empty()) else {
        // Of an earlier version, with the points of one epoch beside the configuration.
        let text = read(dir, CONFIG).unwrap_or_default();
        return field(&text, "tensor_name").map(|name| (name.to_owned(), 0, size(dir))).into_iter().collect();
    };
    let named = |points: &Points| {
        let name = field(&points.block, "tensor_name")?;
        Some((name.to_owned(), points.epoch, root.dir(dir_name(points.epoch)).map_or(0, |dir| size(&dir))))
    };
    points.iter().filter_map(named).collect()
}

impl Points {
    /// Those of an epoch in the directory of all, if they are whole.
    fn read(root: &Dir, epoch: u64) -> Option<Points> {
        let dir = root.dir(dir_name(epoch)).ok()?;
        let block = read(&dir, projector::BLOCK)?;
        let is_block = block.starts_with("embeddings {\n") && block.ends_with("\n}\n");
        let leads = ["tensor_path", "metadata_path", "image_path"].map(|key| field(&block, key));
        let is_file = |name: &str| matches!(dir.kind(name), Ok(Some(Kind::File)));
        let is_whole = leads.into_iter().flatten().all(is_file);
        (is_block && is_whole).then_some(Points { epoch, block })
    }

    /// Their part of the configuration in the directory above. The Projector sorts points by name and opens the first:
    /// the names of the newest begin so that they are. And TensorBoard knows points that it has read by their name, so
    /// each epoch's have another.
    fn placed(&self, is_newest: bool) -> String {
        let (dir, newest) = (dir_name(self.epoch), if is_newest { "at_" } else { "" });
        let line = |line: &str| {
            let text = line.split_once(": \"").and_then(|(key, rest)| Some((key, rest.strip_suffix('"')?)));
            match text {
                Some((key, name)) if key.trim() == "tensor_name" => format!("{key}: \"{name}/{newest}{dir}\"\n"),
                Some((key, path)) if key.ends_with("_path") => format!("{key}: \"{dir}/{path}\"\n"),
                _ => format!("{line}\n"),
            }
        };
        self.block.lines().map(line).collect()
    }
}

/// The configuration that leads to all of `points`, the newest first.
fn config(points: &[Points]) -> String {
    let newest = points.last().map(|points| points.epoch);
    points.iter().rev().map(|points| points.placed(Some(points.epoch) == newest)).collect()
}

/// Removes the signs but `but`: directories with nothing of ours but event files.
fn remove_signs(logdir: &Dir, but: Option<&str>) {
    let Ok(signs) = logdir.dir(SIGNS) else { return };
    let names = epochs(&signs).into_iter().map(dir_name).chain([TRAINING.to_owned()]);
    for name in names.filter(|name| but != Some(name)) {
        let is_sign = signs.dir(&name).is_ok_and(|dir| matches!(dir.kind(CONFIG), Ok(None)));
        if is_sign {
            // One that stays is an entry more in TensorBoard's list.
            let _ = remove_files(&signs, &name);
        }
    }
    let _ = logdir.remove_dir(SIGNS);
}

/// Removes our files in a directory, and the directory if nothing else is in it.
fn remove_files(above: &Dir, name: &str) -> Result<(), EntryError> {
    if let Ok(dir) = above.dir(name) {
        remove_ours(&dir)?;
    }
    let _ = above.remove_dir(name);
    Ok(())
}

/// Removes our files in a directory. The configuration goes first: one that leads nowhere would hide the tab.
fn remove_ours(dir: &Dir) -> Result<(), EntryError> {
    let is_ours = |file: &OsString| {
        let name = file.to_string_lossy();
        let whole = name.strip_prefix('.').and_then(|name| name.strip_suffix(PARTIAL)).unwrap_or(&name);
        projector::FILES.contains(&whole) || whole == CONFIG || is_event_file(file)
    };
    let mut found: Vec<OsString> = files(dir).into_iter().filter(is_ours).collect();
    found.sort_by_key(|name| name != CONFIG);
    for name in found {
        match dir.remove_file(&name) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(EntryError { path: dir.path().join(name), source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The points in a directory that are whole, the newest last.
fn points(root: &Dir) -> Vec<Points> {
    epochs(root).into_iter().filter_map(|epoch| Points::read(root, epoch)).collect()
}

/// Epochs for which directories within `dir` are named, the newest last.
fn epochs(dir: &Dir) -> Vec<u64> {
    let entries = dir.list().unwrap_or_default();
    let dirs = entries.into_iter().filter(|entry| entry.is_dir);
    let mut found: Vec<u64> = dirs.filter_map(|entry| epoch_of(entry.name.to_str()?)).collect();
    found.sort_unstable();
    found
}

fn dir_name(epoch: u64) -> String {
    format!("{PREFIX}{epoch:04}")
}

fn epoch_of(name: &str) -> Option<u64> {
    let epoch = name.strip_prefix(PREFIX)?.parse().ok()?;
    (name == dir_name(epoch)).then_some(epoch)
}

/// The text of a field of a configuration.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": \"")?.strip_suffix('"'))
}

fn read(dir: &Dir, name: &str) -> Option<String> {
    String::from_utf8(dir.read(name, LONGEST).ok()?).ok()
}

fn is_event_file(name: &OsString) -> bool {
    name.to_string_lossy().contains(MARK)
}

/// Names in a directory that are none of directories, in their order.
fn files(dir: &Dir) -> Vec<OsString> {
    let entries = dir.list().unwrap_or_default();
    let mut names: Vec<OsString> = entries.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name).collect();
    names.sort();
    names
}

/// Writes a file that stands there whole or not at all, also after a power cut.
pub(super) fn put(dir: &Dir, name: &str, content: &[u8]) -> io::Result<()> {
    let partial = format!(".{name}{PARTIAL}");
    let mut file = match dir.create(&partial) {
        // Leftovers of a killed process, or of somebody else, are not written to.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            dir.remove_file(&partial)?;
            dir.create(&partial)?
        }
        file => file?,
    };
    let written = file.write_all(content).and_then(|()| file.sync_data());
    written.and_then(|()| dir.rename(&partial, name)).inspect_err(|_| {
        // Ours, and of no use; if it cannot be removed the first error is still the one to tell.
        let _ = dir.remove_file(&partial);
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn held(path: &Path) -> Dir {
        Dir::open(path).unwrap()
    }

    fn root(logdir: &Path) -> PathBuf {
        logdir.join(DIRS[0]).join(PLUGIN)
    }

    fn void(logdir: &Path, from: Step) -> Result<(), EntryError> {
        super::void(&held(logdir), from)
    }

    fn hide(logdir: &Path) {
        super::hide(&held(logdir));
    }

    fn listed(logdir: &Path) -> Vec<(String, u64, u64)> {
        super::listed(&held(logdir))
    }

    fn embeddings(value: f32) -> Embeddings {
        let labels = [["a"], ["b"]].map(|row| row.map(str::to_owned).to_vec()).to_vec();
        Embeddings::new("dense", 2, vec![value; 4]).unwrap().labelled(["class"], labels).unwrap()
    }

    fn write_epoch(logdir: &Path, epoch: u64) -> Result<u64, SnapshotError> {
        // As a run has one before its first snapshot.
        fs::write(logdir.join("a.tfevents.b"), "").unwrap();
        let now = WallTime::from_secs(1.0).unwrap();
        let written =
            write(&held(logdir), Step::new(epoch).unwrap(), &embeddings(epoch as f32), &Origin::new("host", 1), now);
        fs::remove_file(logdir.join("a.tfevents.b")).unwrap();
        written
    }

    #[test]
    fn a_directory_with_points_is_a_run() {
        let dir = tempfile::tempdir().unwrap();
        let now = WallTime::from_secs(1.0).unwrap();
        for epoch in [0, 1] {
            write(&held(dir.path()), Step::new(epoch).unwrap(), &embeddings(0.0), &Origin::new("host", 1), now)
                .unwrap();
        }
        assert_eq!(files(&held(dir.path())), ["events.out.tfevents.0000000001.host.1.0.v2"]);
    }

    fn show_epoch(logdir: &Path, epoch: Option<u64>) {
        let epoch = epoch.map(|epoch| Step::new(epoch).unwrap());
        show(&held(logdir), epoch, &Origin::new("host", 1), WallTime::from_secs(1.0).unwrap()).unwrap();
    }

    /// Every file below a directory.
    fn tree(dir: &Path) -> Vec<String> {
        let text = |name: OsString| name.into_string().unwrap();
        let mut found: Vec<String> = files(&held(dir)).into_iter().map(text).collect();
        let mut below: Vec<_> = held(dir).list().unwrap().into_iter().filter(|entry| entry.is_dir).collect();
        below.sort_by(|a, b| a.name.cmp(&b.name));
        for below in below {
            let name = text(below.name);
            found.extend(tree(&dir.join(&name)).iter().map(|file| format!("{name}/{file}")));
        }
        found
    }

    /// TensorBoard's check of the configuration: every path in it has to exist. Returns the names.
    fn checked(logdir: &Path) -> String {
        let config = fs::read_to_string(root(logdir).join(CONFIG)).unwrap();
        for line in config.lines().filter(|line| line.contains("_path")) {
            let path = line.split('"').nth(1).unwrap();
            assert!(root(logdir).join(path).is_file(), "{line} in {config}");
        }
        let names: Vec<&str> = config.lines().filter(|line| line.contains("tensor_name")).map(str::trim).collect();
        names.join(", ").replace("tensor_name: ", "")
    }

    #[test]
    fn the_newest_snapshot_stands_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = write_epoch(dir.path(), 0).unwrap();
        assert_eq!(checked(dir.path()), r#""dense/at_epoch_0000""#);
        let second = write_epoch(dir.path(), 4).unwrap();
        assert_eq!(checked(dir.path()), r#""dense/at_epoch_0004", "dense/epoch_0000""#);
        let root = root(dir.path());
        let mut want = vec![CONFIG.to_owned()];
        for epoch in ["epoch_0000", "epoch_0004"] {
            want.extend(["embedding.pbtxt", "metadata.tsv", "tensors.tsv"].map(|file| format!("{epoch}/{file}")));
        }
        assert_eq!(tree(&root), want);
        let sizes: u64 = want.iter().map(|file| fs::metadata(root.join(file)).unwrap().len()).sum();
        assert_eq!(first + second, sizes);
        let points = |epoch: &str| fs::read_to_string(root.join(epoch).join("tensors.tsv")).unwrap();
        assert_eq!([points("epoch_0000"), points("epoch_0004")], ["0\t0\n0\t0\n", "4\t4\n4\t4\n"]);
        let listed = listed(dir.path());
        assert_eq!(
            listed.iter().map(|(name, epoch, _)| (name.as_str(), *epoch)).collect::<Vec<_>>(),
            [("dense", 0), ("dense", 4)]
        );
        // Once more, over what is there.
        write_epoch(dir.path(), 4).unwrap();
        assert_eq!(checked(dir.path()), r#""dense/at_epoch_0004", "dense/epoch_0000""#);
    }

    #[test]
    fn the_list_of_runs_changes_with_each_snapshot_and_has_none_of_them_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let event_file = "events.out.tfevents.0000000001.host.1.0.v2";
        for (epoch, want) in
            [(None, "training"), (Some(0), "epoch_0000"), (Some(4), "epoch_0004"), (Some(4), "epoch_0004")]
        {
            show_epoch(dir.path(), epoch);
            assert_eq!(tree(dir.path()), [format!("projector/{want}/{event_file}")]);
        }
        hide(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_void_goes() {
        for (from, want) in [
            (0, None),
            (1, Some(r#""dense/at_epoch_0000""#)),
            (3, Some(r#""dense/at_epoch_0002", "dense/epoch_0000""#)),
            (5, Some(r#""dense/at_epoch_0004", "dense/epoch_0002", "dense/epoch_0000""#)),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for epoch in [0, 2, 4] {
                write_epoch(dir.path(), epoch).unwrap();
                show_epoch(dir.path(), Some(epoch));
            }
            void(dir.path(), Step::new(from).unwrap()).unwrap();
            match want {
                Some(want) => assert_eq!(checked(dir.path()), want),
                None => assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0),
            }
            assert!(!dir.path().join(SIGNS).exists());
            write_epoch(dir.path(), 6).unwrap();
            assert!(checked(dir.path()).starts_with(r#""dense/at_epoch_0006""#));
        }
    }

    #[test]
    fn a_process_that_dies_on_the_way_leaves_what_can_be_read_and_gone_on_from() {
        // After some files, after the points, and after a part of what is void was removed.
        type Death = fn(&Path);
        let deaths: [Death; 3] = [
            |dir| fs::write(dir.join("tensors.tsv"), "4\t").unwrap(),
            |dir| {
                embeddings(4.0).write(&held(dir)).unwrap();
            },
            |dir| {
                embeddings(4.0).write(&held(dir)).unwrap();
                fs::remove_file(dir.join("tensors.tsv")).unwrap();
            },
        ];
        for death in deaths {
            let dir = tempfile::tempdir().unwrap();
            for epoch in [0, 2] {
                write_epoch(dir.path(), epoch).unwrap();
            }
            let unfinished = root(dir.path()).join("epoch_0004");
            fs::create_dir(&unfinished).unwrap();
            death(&unfinished);
            let left = r#""dense/at_epoch_0002", "dense/epoch_0000""#;
            assert_eq!(checked(dir.path()), left);
            void(dir.path(), Step::new(3).unwrap()).unwrap();
            assert_eq!(checked(dir.path()), left);
            assert!(!unfinished.exists());
            write_epoch(dir.path(), 4).unwrap();
            assert_eq!(checked(dir.path()), r#""dense/at_epoch_0004", "dense/epoch_0002", "dense/epoch_0000""#);
        }
    }

    #[test]
    fn runs_of_an_earlier_version_stay_until_they_are_void() {
        let dir = tempfile::tempdir().unwrap();
        let old = |epoch: u64| dir.path().join(SIGNS).join(dir_name(epoch));
        for epoch in [0, 2] {
            fs::create_dir_all(old(epoch)).unwrap();
            for name in ["tensors.tsv", "events.out.tfevents.1.h.1.0.v2"] {
                fs::write(old(epoch).join(name), "x").unwrap();
            }
            fs::write(old(epoch).join(CONFIG), "embeddings {\n  tensor_name: \"dense\"\n}\n").unwrap();
        }
        assert_eq!(listed(&old(0))[0].0, "dense");
        void(dir.path(), Step::new(1).unwrap()).unwrap();
        write_epoch(dir.path(), 2).unwrap();
        show_epoch(dir.path(), Some(2));
        hide(dir.path());
        assert!(old(0).join(CONFIG).exists() && !old(2).exists());
        void(dir.path(), Step::ZERO).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_somebody_else_put_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        write_epoch(dir.path(), 0).unwrap();
        show_epoch(dir.path(), Some(0));
        let mut foreign = [
            "plugins/org_tensorflow_tensorboard_projector/epoch_0000/mine",
            "plugins/org_tensorflow_tensorboard_projector/epoch_12/tensors.tsv",
            "plugins/profile/x",
            "projector/epoch_0000/notes.txt",
            "projector/mine/events.out.tfevents.1.h",
            "projector/readme",
        ];
        for foreign in foreign {
            let path = dir.path().join(foreign);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::write(root(dir.path()).join("epoch_0000/.sprite.png.part"), "half").unwrap();
        void(dir.path(), Step::ZERO).unwrap();
        let mut left = tree(dir.path());
        left.sort();
        foreign.sort_unstable();
        assert_eq!(left, foreign);
    }

    #[test]
    fn what_is_in_the_way_is_named_before_and_while_it_is_written_to() {
        type Plant = fn(&Path);
        let plants: [(Plant, &str); 3] = [
            (|at| std::os::unix::fs::symlink("/", at).unwrap(), "a symbolic link"),
            (|at| fs::write(at, "mine").unwrap(), "a regular file"),
            (
                |at| {
                    let mode = rustix::fs::Mode::from_raw_mode(0o600);
                    rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, mode, 0).unwrap();
                },
                "a named pipe",
            ),
        ];
        for ((plant, what), name) in plants.into_iter().flat_map(|plant| {
            [DIRS[0], ROOT, "plugins/org_tensorflow_tensorboard_projector/epoch_0001"].map(|name| (plant, name))
        }) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            plant(&path);
            let is = format!("it is {what}, want a directory; move it away");
            let error = check(&held(dir.path())).unwrap_err();
            assert_eq!((&error.path, error.source.to_string()), (&path, is.clone()));
            let error = write_epoch(dir.path(), 1).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot write {}: {is}", path.display()));
        }
        for (name, dirs) in
            [("projector/epoch_0001", 0), ("projector/training", 0), (CONFIG, 1), ("epoch_0000/tensors.tsv", 1)]
        {
            let dir = tempfile::tempdir().unwrap();
            let above = if dirs > 0 { root(dir.path()) } else { dir.path().to_owned() };
            write_epoch(dir.path(), 0).unwrap();
            show_epoch(dir.path(), None);
            assert_eq!(check(&held(dir.path())).unwrap(), [root(dir.path())]);
            let path = above.join(name);
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&path);
            std::os::unix::fs::symlink("/", &path).unwrap();
            assert_eq!(check(&held(dir.path())).unwrap_err().path, path);
        }
    }

    #[test]
    fn a_failure_leaves_no_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let in_the_way = root(dir.path()).join("epoch_0000/metadata.tsv");
        fs::create_dir_all(in_the_way.join("in the way")).unwrap();
        let error = write_epoch(dir.path(), 0).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot write {}", in_the_way.display())), "{error}");
        assert_eq!(tree(&root(dir.path())), ["epoch_0000/tensors.tsv"]);
    }
}
