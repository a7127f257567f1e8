//! Search for runs in a log directory.

use std::io;
use std::path::{Path, PathBuf};

use super::TRASH;
use super::run::{Run, State};
use crate::exit::{Classify, Exit};
use crate::run_dir;

/// Maximum depth of the search below the log directory.
const DEEPEST: usize = 8;
/// Maximum directory entries read in total.
const MOST_ENTRIES: usize = 200_000;

/// The runs at or below a directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// Sorted by last activity, the most recent first.
    pub runs: Vec<Run>,
    /// Remains of killed removals.
    pub trash: Vec<PathBuf>,
    /// Directories that could not be read.
    pub unread: Vec<Unread>,
    /// True if the search hit a limit.
    pub is_cut: bool,
}

/// A directory that could not be read.
#[derive(Debug)]
pub struct Unread {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Error from listing runs.
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

/// Finds the runs at or below `logdir`. Below it, the search does not follow links, and skips names that begin with a
/// dot and the directories that a run itself creates.
///
/// # Errors
/// If `logdir` itself is not a readable directory. Errors below it are part of the listing.
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
            // The listing shows it as a damaged run.
            Err(_) if is_run => continue,
            // Removed since its name was read.
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                listing.unread.push(Unread { path: dir, source });
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                // A run's own entries contain no other runs; those may lie beside them.
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

/// The finished runs with weights at or below `logdir` that `accept` accepts, the youngest first: candidates for a
/// warm start. The weights are not read.
pub fn good(logdir: &Path, accept: &dyn Fn(&Run) -> bool) -> Vec<Run> {
    let mut runs = list(logdir).map(|listing| listing.runs).unwrap_or_default();
    runs.retain(|run| run.state == State::Finished && run.has_weights && accept(run));
    runs
}

fn is_trash(name: &str) -> bool {
    let Some((pid, rest)) = name.strip_prefix(TRASH).and_then(|rest| rest.split_once('-')) else { return false };
    !rest.is_empty() && pid.parse::<u32>().is_ok()
}
