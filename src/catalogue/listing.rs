//! The walk through a log directory that finds its runs.

use std::io;
use std::path::{Path, PathBuf};

use super::TRASH;
use super::run::{Run, State};
use crate::exit::{Classify, Exit};
use crate::run_dir;

/// Directories below the log directory that are looked into.
const DEEPEST: usize = 8;
/// Entries of directories that are looked at in all.
const MOST_ENTRIES: usize = 200_000;

/// The runs at or below a directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// The one that was active last is the first.
    pub runs: Vec<Run>,
    /// What a removal left that was killed.
    pub trash: Vec<PathBuf>,
    /// Directories that could not be looked into.
    pub unread: Vec<Unread>,
    /// There is more than was looked at.
    pub is_cut: bool,
}

/// A directory that could not be looked into.
#[derive(Debug)]
pub struct Unread {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the runs in {}: {source}; want a directory with runs in it, such as logs", path.display())]
pub struct ListError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl Classify for ListError {
    fn exit(&self) -> Exit {
        Exit::of_input(&self.source)
    }
}

/// Finds the runs at or below `logdir`. Below it, links are not followed, names that begin with a dot are passed over,
/// and nothing is looked for in what a run keeps in its directory.
///
/// # Errors
/// When `logdir` itself is no directory that can be read. What is wrong below it is told in the list.
pub fn list(logdir: &Path) -> Result<Listing, ListError> {
    let mut listing = Listing::default();
    let mut left = MOST_ENTRIES;
    let mut dirs = vec![(logdir.to_owned(), 0)];
    while let Some((dir, depth)) = dirs.pop() {
        let is_run = run_dir::is_run(&dir);
        if is_run {
            listing.runs.push(Run::read(&dir));
        }
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(source) if depth == 0 => return Err(ListError { path: dir, source }),
            // A damaged run is told of as such.
            Err(_) if is_run => continue,
            // Gone since its name was read.
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                listing.unread.push(Unread { path: dir, source });
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                // Nothing is looked for in what a run keeps; others may lie beside that.
                Ok(entry) if is_run && run_dir::is_own(&entry.file_name()) => continue,
                Ok(entry) => entry,
                Err(source) => {
                    listing.unread.push(Unread { path: dir.clone(), source });
                    break;
                }
            };
            if left == 0 {
                listing.is_cut = true;
                break;
            }
            left -= 1;
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            if is_trash(&name.to_string_lossy()) {
                listing.trash.push(entry.path());
            } else if !name.as_encoded_bytes().starts_with(b".") {
                match depth < DEEPEST {
                    true => dirs.push((entry.path(), depth + 1)),
                    false => listing.is_cut = true,
                }
            }
        }
    }
    listing.runs.sort_by(|a, b| b.active.as_secs().total_cmp(&a.active.as_secs()).then_with(|| a.path.cmp(&b.path)));
    listing.trash.sort();
    listing.unread.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(listing)
}

/// The runs at or below `logdir` that are finished, have weights, and are accepted, the youngest first: what new training
/// may begin with. The weights are not read.
pub fn good(logdir: &Path, accept: &dyn Fn(&Run) -> bool) -> Vec<Run> {
    let mut runs = list(logdir).map(|listing| listing.runs).unwrap_or_default();
    runs.retain(|run| run.state == State::Finished && run.has_weights && accept(run));
    runs
}

fn is_trash(name: &str) -> bool {
    let Some((pid, rest)) = name.strip_prefix(TRASH).and_then(|rest| rest.split_once('-')) else { return false };
    !rest.is_empty() && pid.parse::<u32>().is_ok()
}
