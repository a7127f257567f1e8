//! A directory held by its descriptor. What is opened in it is opened by a plain name and without following links, so that
//! neither a planted link nor a rename of the directory leads anywhere else.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::kind::{Foreign, Kind, Status};
use super::reading::{open_at, read_all, status_of};

/// Permissions of new files and directories, before the umask.
const FILE_MODE: u32 = 0o666;
const DIR_MODE: u32 = 0o777;

/// A directory that is open. Clones share the descriptor.
#[derive(Clone, Debug)]
pub struct Dir {
    file: Arc<File>,
    path: PathBuf,
    /// The one in which it was found; none of one that was opened by its path.
    above: Option<Arc<Dir>>,
}

/// What a directory lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: OsString,
    /// False for a symbolic link, whatever it points at.
    pub is_dir: bool,
}

impl Dir {
    /// Opens the directory that somebody named: links in the path are followed.
    pub fn open(path: &Path) -> Result<Dir> {
        let file = openat(CWD, path, flags(), Mode::empty())?;
        Ok(Dir { file: Arc::new(file.into()), path: path.to_owned(), above: None })
    }

    /// As [`open`](Dir::open), and makes it where there is none, with those above it.
    pub fn make(path: &Path) -> Result<Dir> {
        std::fs::create_dir_all(path)?;
        Dir::open(path)
    }

    /// The directory that a path to a file leads to, and the file's name in it.
    pub fn above(path: &Path) -> Result<(Dir, OsString)> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok((Dir::open(parent.unwrap_or(Path::new(".")))?, name))
    }

    /// The path that it was opened by. Something else may stand there by now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in this one.
    pub fn dir(&self, name: impl AsRef<OsStr>) -> Result<Dir> {
        let name = name.as_ref();
        let file = openat(&self.file, name, flags() | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Dir { file: Arc::new(file.into()), path: self.path.join(name), above: Some(Arc::new(self.clone())) })
    }

    /// A directory in this one that belongs to this user; it is made where there is none.
    pub fn own_dir(&self, name: impl AsRef<OsStr>) -> Result<Dir> {
        let name = name.as_ref();
        if !self.has_own_dir(name)? {
            match self.make_dir(name) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => _ = self.has_own_dir(name)?,
                made => made?,
            }
        }
        self.dir(name)
    }

    /// The directory at a path that begins with this one's: what lies there wherever this one is by now, and through no link.
    pub fn dir_at(&self, path: &Path) -> Result<Dir> {
        self.below(path, |dir, name| dir.dir(name))
    }

    /// As [`dir_at`](Dir::dir_at), where every directory on the way belongs to this user and is made where there is none.
    pub fn own_dir_at(&self, path: &Path) -> Result<Dir> {
        self.below(path, |dir, name| dir.own_dir(name))
    }

    fn below(&self, path: &Path, step: impl Fn(&Dir, &OsStr) -> Result<Dir>) -> Result<Dir> {
        let below = path.strip_prefix(&self.path).map_err(|_| ErrorKind::InvalidInput)?;
        below.components().try_fold(self.clone(), |dir, part| match part {
            Component::Normal(name) => step(&dir, name),
            _ => Err(ErrorKind::InvalidInput.into()),
        })
    }

    /// True if a directory of this user has that name. What else has it is an error.
    pub fn has_own_dir(&self, name: impl AsRef<OsStr>) -> Result<bool> {
        self.has_own(name.as_ref(), Kind::Directory)
    }

    /// True if a regular file of this user has that name. What else has it is an error.
    pub fn has_own_file(&self, name: impl AsRef<OsStr>) -> Result<bool> {
        self.has_own(name.as_ref(), Kind::File)
    }

    /// Kind of what has that name.
    pub fn kind(&self, name: impl AsRef<OsStr>) -> Result<Option<Kind>> {
        Ok(self.status(name.as_ref())?.map(|status| status.kind))
    }

    /// True if `file` is what has that name.
    pub fn is_file_at(&self, file: &File, name: impl AsRef<OsStr>) -> Result<bool> {
        Ok(self.status(name.as_ref())?.map(|status| status.id) == Some(status_of(file)?.id))
    }

    /// True if the same directory stands at `path`; none if nothing does.
    pub fn is_at(&self, path: &Path) -> Result<Option<bool>> {
        let there = match statat(CWD, path, AtFlags::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            there => Status::from(there?),
        };
        Ok(Some(there.id == status_of(&self.file)?.id))
    }

    /// True if it is where it was found, and so are all above it up to the one that was opened by its path.
    pub fn is_in_place(&self) -> Result<bool> {
        let (Some(above), Some(name)) = (&self.above, self.path.file_name()) else { return Ok(true) };
        Ok(above.is_file_at(&self.file, name)? && above.is_in_place()?)
    }

    /// The name of the file that `path` leads to, if that is in this directory.
    pub fn name_in(&self, path: &Path) -> Option<OsString> {
        let (dir, name) = Dir::above(path).ok()?;
        let is_this = status_of(&dir.file).ok()?.id == status_of(&self.file).ok()?.id;
        is_this.then_some(name)
    }

    /// Where it is now, as far as the system tells; none once it is deleted.
    pub fn place_now(&self) -> Option<PathBuf> {
        place_of(&self.file, &self.path)
    }

    /// Present path of a file that was opened at `path` and is no longer there; none if it has no known name.
    pub fn place_of(file: &File, path: &Path) -> Option<PathBuf> {
        place_of(file, path).filter(|place| place != path)
    }

    /// A new file. Fails with [`ErrorKind::AlreadyExists`] on whatever has that name, a link that leads nowhere included.
    pub fn create(&self, name: impl AsRef<OsStr>) -> Result<File> {
        let how = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.file, name.as_ref(), how, Mode::from_raw_mode(FILE_MODE))?.into())
    }

    /// Opens a file to read and write it in its place: a regular one of this user, whatever the number of its names.
    pub fn open_own(&self, name: impl AsRef<OsStr>) -> Result<File> {
        let name = name.as_ref();
        // Before the file is opened: opening alone does something to some devices.
        if !self.has_own_file(name)? {
            return Err(ErrorKind::NotFound.into());
        }
        let how = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&self.file, name, how, Mode::empty())?);
        self.check(status_of(&file)?, Kind::File)?;
        Ok(file)
    }

    /// Hard links to a file that is open.
    pub fn names_of(file: &File) -> Result<u64> {
        Ok(status_of(file)?.names)
    }

    /// Opens a regular file for reading; a link to one is followed.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> Result<File> {
        open_at(&self.file, name.as_ref())
    }

    /// All of a regular file; see [`read`](super::read).
    pub fn read(&self, name: impl AsRef<OsStr>, limit: u64) -> Result<Vec<u8>> {
        read_all(self.open_file(name)?, limit)
    }

    /// Fails with [`ErrorKind::AlreadyExists`] on whatever has that name.
    pub fn make_dir(&self, name: impl AsRef<OsStr>) -> Result<()> {
        Ok(mkdirat(&self.file, name.as_ref(), Mode::from_raw_mode(DIR_MODE))?)
    }

    /// Puts a file in the place of another one, which has to be a regular file of this user.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<()> {
        self.has_own_file(to.as_ref())?;
        Ok(renameat(&self.file, from.as_ref(), &self.file, to.as_ref())?)
    }

    /// As [`rename`](Dir::rename), but fails with [`ErrorKind::AlreadyExists`] if something has the name `to`.
    pub fn rename_new(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<()> {
        self.rename_new_by(rename_no_replace, from.as_ref(), to.as_ref())
    }

    /// A file or a link.
    pub fn remove_file(&self, name: impl AsRef<OsStr>) -> Result<()> {
        Ok(unlinkat(&self.file, name.as_ref(), AtFlags::empty())?)
    }

    /// An empty directory.
    pub fn remove_dir(&self, name: impl AsRef<OsStr>) -> Result<()> {
        Ok(unlinkat(&self.file, name.as_ref(), AtFlags::REMOVEDIR)?)
    }

    /// In any order.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.file)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                // Not every file system says it here.
                rustix::fs::FileType::Unknown => self.kind(&name)?,
                kind => Some(kind.into()),
            };
            entries.push(Entry { name, is_dir: kind == Some(Kind::Directory) });
        }
        Ok(entries)
    }

    /// Waits until the names in it are on the disk.
    pub fn sync(&self) -> Result<()> {
        match self.file.sync_all() {
            // Some network and container file systems have no such call for directories; there is nothing to wait for.
            Err(error) if is_unknown(&error) => Ok(()),
            result => result,
        }
    }

    /// A descriptor of its own, for a lock that ends with it.
    pub fn reopened(&self) -> Result<File> {
        Ok(openat(&self.file, c".", flags(), Mode::empty())?.into())
    }

    fn has_own(&self, name: &OsStr, want: Kind) -> Result<bool> {
        match self.status(name)? {
            None => Ok(false),
            Some(status) => self.check(status, want).map(|()| true),
        }
    }

    fn check(&self, status: Status, want: Kind) -> Result<()> {
        let Status { kind: found, owner, .. } = status;
        if found != want {
            return Err(Foreign::Kind { found, want }.into());
        }
        let user = rustix::process::geteuid().as_raw();
        if owner != user && self.owner_of_new() != Some(owner) {
            return Err(Foreign::Owner { owner, user }.into());
        }
        Ok(())
    }

    fn status(&self, name: &OsStr) -> Result<Option<Status>> {
        match statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            found => Ok(Some(found?.into())),
        }
    }

    /// Who owns what this process makes here: on some network file systems and mounts somebody else than its user. Asked
    /// only about an entry of another owner.
    fn owner_of_new(&self) -> Option<u32> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".tmp-{}-owner-{n}", std::process::id());
        let file = self.create(&name).ok()?;
        let owner = status_of(&file).map(|status| status.owner);
        let _ = self.remove_file(&name);
        owner.ok()
    }

    /// Where the file system cannot refuse by itself, looks first: the owner of a run's directory is alone in it.
    fn rename_new_by(&self, no_replace: NoReplace, from: &OsStr, to: &OsStr) -> Result<()> {
        match no_replace(self, from, to) {
            Err(error) if is_unknown(&error) => match self.status(to)? {
                Some(_) => Err(ErrorKind::AlreadyExists.into()),
                None => Ok(renameat(&self.file, from, &self.file, to)?),
            },
            result => result,
        }
    }
}

/// The path of what is open, which is the `known` one where the system does not tell; none once it is deleted.
fn place_of(file: &File, known: &Path) -> Option<PathBuf> {
    if status_of(file).ok()?.names == 0 {
        return None;
    }
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(file);
    match std::fs::read_link(format!("/proc/self/fd/{descriptor}")) {
        Ok(place) if place.as_os_str().as_bytes().ends_with(b" (deleted)") => None,
        Ok(place) => Some(place),
        Err(_) => Some(known.to_owned()),
    }
}

type NoReplace = fn(&Dir, &OsStr, &OsStr) -> Result<()>;

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// The call is not known to this system, or not to this file system.
fn is_unknown(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

#[cfg(target_os = "linux")]
fn rename_no_replace(dir: &Dir, from: &OsStr, to: &OsStr) -> Result<()> {
    use rustix::fs::{RenameFlags, renameat_with};
    Ok(renameat_with(&dir.file, from, &dir.file, to, RenameFlags::NOREPLACE)?)
}

#[cfg(not(target_os = "linux"))]
fn rename_no_replace(_: &Dir, _: &OsStr, _: &OsStr) -> Result<()> {
    Err(ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn held() -> (tempfile::TempDir, Dir) {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        (place, dir)
    }

    fn unknown(_: &Dir, _: &OsStr, _: &OsStr) -> Result<()> {
        Err(Error::from_raw_os_error(22))
    }

    #[test]
    fn a_name_that_is_taken_is_not_taken_over_whether_or_not_the_file_system_can_refuse() {
        for no_replace in [rename_no_replace as NoReplace, unknown] {
            let (place, dir) = held();
            dir.make_dir("a").unwrap();
            std::fs::write(place.path().join("b"), "kept").unwrap();
            let rename = |to: &str| dir.rename_new_by(no_replace, OsStr::new("a"), OsStr::new(to));
            assert_eq!(rename("b").unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(dir.read("b", 4).unwrap(), b"kept");
            rename("c").unwrap();
            assert!(place.path().join("c").is_dir() && !place.path().join("a").exists());
        }
    }

    #[test]
    fn no_link_is_followed_into_what_is_written() {
        let (place, dir) = held();
        let target = place.path().join("target");
        std::fs::write(&target, "mine").unwrap();
        std::fs::create_dir(place.path().join("elsewhere")).unwrap();
        for (link, to) in [("link", "target"), ("nowhere", "none"), ("dir", "elsewhere")] {
            std::os::unix::fs::symlink(to, place.path().join(link)).unwrap();
        }
        let text = |result: Result<()>| result.unwrap_err().to_string();
        let is_link = "it is a symbolic link, want a regular file; move it away";
        assert_eq!(text(dir.open_own("link").map(drop)), is_link);
        assert_eq!(text(dir.open_own("nowhere").map(drop)), is_link);
        for name in ["link", "nowhere"] {
            assert_eq!(dir.create(name).unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        dir.create("new").unwrap().write_all(b"new").unwrap();
        assert_eq!(text(dir.rename("new", "link")), is_link);
        assert_eq!(text(dir.own_dir("dir").map(drop)), "it is a symbolic link, want a directory; move it away");
        assert!(dir.dir("dir").is_err());
        assert_eq!(text(dir.own_dir("target").map(drop)), "it is a regular file, want a directory; move it away");
        assert_eq!(std::fs::read(&target).unwrap(), b"mine");
        dir.rename("new", "target").unwrap();
        assert_eq!(dir.read("link", 3).unwrap(), b"new", "for reading a link is followed");
        dir.own_dir("made").unwrap().create("a").unwrap();
        assert!(dir.has_own_dir("made").unwrap() && place.path().join("made/a").is_file());
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        // A directory that only its owner writes to, and of which somebody else owns an entry.
        let proc = Dir::open(Path::new("/proc")).unwrap();
        let user = rustix::process::geteuid().as_raw();
        let found = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/1/status").unwrap());
        let (place, dir) = held();
        let status = Status { kind: Kind::File, owner: user + 1, names: 1, id: (0, 0) };
        let error = dir.check(status, Kind::File).unwrap_err().to_string();
        let want = format!("it belongs to user {}, and this process runs as user {user}; ", user + 1);
        assert!(error.starts_with(&want), "{error}");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "nothing is left");
        dir.check(Status { owner: user, ..status }, Kind::File).unwrap();
        assert_eq!(proc.dir("1").unwrap().has_own_file("status").is_ok(), found == user);
    }

    #[test]
    fn it_stays_the_same_directory_wherever_it_is_moved() {
        let (place, _) = held();
        let at = |name: &str| place.path().join(name);
        std::fs::create_dir(at("a")).unwrap();
        let dir = Dir::open(&at("a")).unwrap();
        assert_eq!(dir.is_at(&at("a")).unwrap(), Some(true));
        std::fs::rename(at("a"), at("b")).unwrap();
        assert_eq!((dir.is_at(&at("a")).unwrap(), dir.is_at(&at("b")).unwrap()), (None, Some(true)));
        std::fs::create_dir(at("a")).unwrap();
        assert_eq!(dir.is_at(&at("a")).unwrap(), Some(false));
        dir.create("file").unwrap();
        assert!(at("b/file").exists());
        assert_eq!((dir.name_in(&at("b/new")), dir.name_in(&at("a/new"))), (Some("new".into()), None));
        assert_eq!(dir.place_now(), Some(at("b").canonicalize().unwrap()));
        std::fs::remove_dir_all(at("b")).unwrap();
        assert_eq!(dir.place_now(), None);
        assert!(dir.create("file").is_err());
    }

    #[test]
    fn what_was_found_in_a_directory_is_missed_there() {
        let (place, held) = held();
        let (real, at) = (place.path().canonicalize().unwrap(), |name: &str| place.path().join(name));
        std::fs::create_dir_all(at("a/b")).unwrap();
        let (a, b) = (held.dir("a").unwrap(), held.dir("a").unwrap().dir("b").unwrap());
        let file = b.create("file").unwrap();
        let are_in_place = || [&held, &a, &b].map(|dir| dir.is_in_place().unwrap());
        assert_eq!(are_in_place(), [true, true, true]);
        std::fs::rename(at("a"), at("c")).unwrap();
        assert_eq!(are_in_place(), [true, false, false]);
        assert_eq!(Dir::place_of(&file, &at("a/b/file")), Some(real.join("c/b/file")));
        std::os::unix::fs::symlink("c", at("a")).unwrap();
        assert_eq!(are_in_place(), [true, false, false], "a link is another way there");
        std::fs::remove_file(at("a")).unwrap();
        std::fs::create_dir(at("a")).unwrap();
        assert_eq!(are_in_place(), [true, false, false]);
        std::fs::remove_dir_all(at("c")).unwrap();
        assert_eq!((are_in_place(), Dir::place_of(&file, &at("a/b/file"))), ([true, false, false], None));
    }

    #[test]
    fn what_a_directory_lists_is_told_apart() {
        let (place, dir) = held();
        dir.make_dir("dir").unwrap();
        dir.create("file").unwrap();
        std::os::unix::fs::symlink("dir", place.path().join("link")).unwrap();
        let mut found = dir.list().unwrap();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = found.iter().map(|entry| (entry.name.to_str().unwrap(), entry.is_dir)).collect();
        assert_eq!(names, [("dir", true), ("file", false), ("link", false)]);
        assert_eq!(dir.list().unwrap().len(), 3, "from the beginning each time");
    }
}
