//! Event files in and below a directory, by run, whatever else lies there.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::eventlog::file::MARK;
use crate::exit::Exit;
use crate::files;
use crate::terminal::path_text;

/// Directories that are looked into; links that lead to each other make any number of paths.
const MOST_DIRECTORIES: usize = 1_000_000;

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub path: String,
    pub reason: String,
    #[serde(skip)]
    pub exit: Exit,
}

impl LeftOut {
    pub(super) fn new(path: &Path, error: &io::Error) -> LeftOut {
        LeftOut { path: path_text(path), reason: error.to_string(), exit: Exit::of_input(error) }
    }
}

/// Event files by run, and what could not be looked at.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Paths relative to the directory of the search, in the order of their bytes; `.` is that one itself.
    pub runs: BTreeMap<OsString, Vec<PathBuf>>,
    pub left_out: Vec<LeftOut>,
    directories: usize,
}

/// Searches `dir` and what lies below it. Links are followed, as TensorBoard does, but not in circles. An error is about
/// `dir` itself.
pub(super) fn search(dir: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    found.directory(dir, OsStr::new("."), &mut HashSet::new())?;
    found.runs.values_mut().for_each(|files| files.sort());
    Ok(found)
}

impl Found {
    /// One event file, whatever its name.
    pub fn file(path: &Path) -> io::Result<Found> {
        open(path)?;
        Ok(Found { runs: [(OsString::from("."), vec![path.to_owned()])].into(), ..Found::default() })
    }

    fn directory(&mut self, dir: &Path, run: &OsStr, above: &mut HashSet<PathBuf>) -> io::Result<()> {
        let real = dir.canonicalize()?;
        if above.contains(&real) {
            return Ok(());
        }
        let entries = fs::read_dir(dir)?;
        self.directories += 1;
        if self.directories > MOST_DIRECTORIES {
            if self.directories == MOST_DIRECTORIES + 1 {
                let reason = format!("more than {MOST_DIRECTORIES} directories; name one further down");
                self.left_out.push(LeftOut { path: path_text(dir), reason, exit: Exit::NoInput });
            }
            return Ok(());
        }
        above.insert(real.clone());
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry, run, above),
                Err(error) => self.left_out.push(LeftOut::new(dir, &error)),
            }
        }
        above.remove(&real);
        Ok(())
    }

    fn entry(&mut self, entry: &fs::DirEntry, run: &OsStr, above: &mut HashSet<PathBuf>) {
        let (path, name) = (entry.path(), entry.file_name());
        let is_marked = is_marked(&name);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_nothing(&error) => return,
            Err(error) => {
                // A plain file under another name is of no interest, readable or not.
                if is_marked || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                    self.left_out.push(LeftOut::new(&path, &error));
                }
                return;
            }
        };
        if metadata.is_dir() {
            let below = if run == "." {
                name
            } else {
                let mut below = run.to_owned();
                below.push("/");
                below.push(name);
                below
            };
            match self.directory(&path, &below, above) {
                Ok(()) => {}
                Err(error) if is_nothing(&error) => {}
                Err(error) => self.left_out.push(LeftOut::new(&path, &error)),
            }
        } else if is_marked && metadata.is_file() {
            self.runs.entry(run.to_owned()).or_default().push(path);
        } else if is_marked && let Err(error) = open(&path) {
            self.left_out.push(LeftOut::new(&path, &error));
        }
    }
}

fn is_marked(name: &OsStr) -> bool {
    name.as_encoded_bytes().windows(MARK.len()).any(|part| part == MARK.as_bytes())
}

/// Something that has gone since it was listed, and a link that leads nowhere or to itself, is nothing to read.
pub(super) fn is_nothing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// Opens a file for reading, and tells its length.
pub(in crate::eventlog) fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = files::open_input(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}
