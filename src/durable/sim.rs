//! In-memory file system that fails on demand and loses power: the model against which crash tests prove durability.
//!
//! It keeps two states. The live state is visible to programs. The durable state is on the platter: of a file the
//! content at its last sync, of a directory the names at its last sync. A killed process leaves the live state. A
//! power cut ([`SimFs::power_cut`]) leaves the durable state and a random part, chosen by a seed, of the unsynced
//! changes: changed names survive or not, in any subset; content survives, is gone, or is torn and garbled in sectors
//! of 512 bytes. A failed sync loses the content for good, as on Linux: the next one reports success and writes
//! nothing.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Error, ErrorKind, Result};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::fs::{Entry, Fs};

/// Bytes that a disk writes atomically.
const SECTOR: usize = 512;

/// Injected fault of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This call fails with this error number.
    Errno(i32),
    /// This call, and every later one that adds or renames something, fails with this error number.
    Lasting(i32),
    /// A write takes half of its bytes; another call succeeds.
    Short,
    /// The process dies here: a write has taken half of its bytes, another call has no effect, and later calls fail.
    Kill,
}

/// In-memory file system. Each call of an [`Fs`] method counts as one. Clones share one disk.
#[derive(Clone, Debug, Default)]
pub struct SimFs(Arc<Mutex<World>>);

/// A file that is open for writing.
#[derive(Debug)]
pub struct SimFile(usize);

#[derive(Clone, Debug)]
struct World {
    /// Indexed by inode number. The first is the root directory; none is ever removed.
    nodes: Vec<Node>,
    calls: u64,
    fault: Option<(u64, Fault)>,
}

#[derive(Clone, Debug)]
enum Node {
    File { live: Vec<u8>, durable: Vec<u8>, lost: bool },
    Dir { live: Names, durable: Names, unsynced: Vec<Change> },
}

type Names = BTreeMap<OsString, usize>;

/// An unsynced change of a directory.
#[derive(Clone, Debug)]
enum Change {
    Add(OsString, usize),
    Remove(OsString, usize),
    Rename(OsString, usize),
}

/// Kind of a call: reads, removes, or adds something. It decides which faults apply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Look,
    Take,
    Give,
}

impl Default for World {
    fn default() -> World {
        World { nodes: vec![Node::empty_dir()], calls: 0, fault: None }
    }
}

impl SimFs {
    /// Independent copy of the disk with both states, without faults.
    pub fn copy(&self) -> SimFs {
        let mut world = self.world().clone();
        world.fault = None;
        SimFs::of(world)
    }

    /// Number of calls so far.
    pub fn calls(&self) -> u64 {
        self.world().calls
    }

    /// Injects `fault` into the `call`-th call from now; 1 is the next.
    pub fn fail(&self, call: u64, fault: Fault) {
        let mut world = self.world();
        world.fault = Some((world.calls + call, fault));
    }

    /// Removes the fault. After a kill, later calls belong to a new process.
    pub fn revive(&self) {
        self.world().fault = None;
    }

    /// The disk after a power cut now, as the next process finds it.
    pub fn power_cut(&self, seed: u64) -> SimFs {
        let mut chance = Chance(seed);
        let mut world = self.world().clone();
        world.fault = None;
        for node in &mut world.nodes {
            match node {
                Node::File { live, durable, lost } => {
                    if live != durable {
                        *durable = chance.torn(durable, if *lost { durable } else { live });
                        live.clone_from(durable);
                    }
                    *lost = false;
                }
                Node::Dir { live, durable, unsynced } => {
                    let (mode, until) = (chance.index(4), chance.index(unsynced.len() + 1));
                    for (i, change) in std::mem::take(unsynced).into_iter().enumerate() {
                        let survives = match mode {
                            0 => false,
                            1 => true,
                            2 => i < until,
                            _ => chance.index(2) == 0,
                        };
                        if survives {
                            change.apply(durable);
                        }
                    }
                    live.clone_from(durable);
                }
            }
        }
        SimFs::of(world)
    }

    /// Writes a file to both states, and creates its directories.
    pub fn put(&self, path: &Path, content: &[u8]) -> Result<()> {
        let mut world = self.world();
        let mut at = 0;
        let names: Vec<OsString> = names(path).map(OsStr::to_owned).collect();
        for (i, name) in names.iter().enumerate() {
            let found = world.names(at)?.get(name).copied();
            at = match found {
                Some(node) => node,
                None if i + 1 < names.len() => world.add(at, name.clone(), Node::empty_dir())?,
                None => world.add(at, name.clone(), Node::empty_file())?,
            };
            world.sync_all_names();
        }
        match &mut world.nodes[at] {
            Node::Dir { .. } => Err(Errno::ISDIR.into()),
            Node::File { live, durable, .. } => {
                *live = content.to_vec();
                *durable = content.to_vec();
                Ok(())
            }
        }
    }

    /// Every file of the live state, with its content.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let world = self.world();
        let mut files = BTreeMap::new();
        let mut todo = vec![(PathBuf::from("/"), 0)];
        while let Some((path, node)) = todo.pop() {
            match &world.nodes[node] {
                Node::File { live, .. } => _ = files.insert(path, live.clone()),
                Node::Dir { live, .. } => todo.extend(live.iter().map(|(name, node)| (path.join(name), *node))),
            }
        }
        files
    }

    fn of(world: World) -> SimFs {
        SimFs(Arc::new(Mutex::new(world)))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call. Returns the locked world, and the fault that the call itself has to apply, if any.
    fn call(&self, kind: Kind) -> Result<(MutexGuard<'_, World>, Option<Fault>)> {
        let mut world = self.world();
        world.calls += 1;
        let Some((at, fault)) = world.fault else { return Ok((world, None)) };
        let hit = world.calls == at;
        match fault {
            Fault::Errno(errno) if hit => Err(Error::from_raw_os_error(errno)),
            Fault::Lasting(errno) if world.calls >= at && kind == Kind::Give => Err(Error::from_raw_os_error(errno)),
            Fault::Kill if world.calls > at => Err(Error::other("killed")),
            _ => Ok((world, hit.then_some(fault))),
        }
    }

    /// Counts a call that is atomic: a kill leaves no part of it.
    fn whole_call(&self, kind: Kind) -> Result<MutexGuard<'_, World>> {
        match self.call(kind)? {
            (_, Some(Fault::Kill)) => Err(Error::other("killed")),
            (world, _) => Ok(world),
        }
    }
}

impl Fs for SimFs {
    type File = SimFile;

    fn create_dir(&self, path: &Path) -> Result<()> {
        let mut world = self.whole_call(Kind::Give)?;
        let (dir, name) = world.parent(path)?;
        world.add(dir, name, Node::empty_dir()).map(|_| ())
    }

    fn create(&self, path: &Path) -> Result<SimFile> {
        let mut world = self.whole_call(Kind::Give)?;
        let (dir, name) = world.parent(path)?;
        world.add(dir, name, Node::empty_file()).map(SimFile)
    }

    fn write(&self, file: &mut SimFile, bytes: &[u8]) -> Result<usize> {
        let (mut world, fault) = self.call(Kind::Give)?;
        let taken = if fault.is_some() { bytes.len().div_ceil(2) } else { bytes.len() };
        if let Node::File { live, .. } = &mut world.nodes[file.0] {
            live.extend(&bytes[..taken]);
        }
        if fault == Some(Fault::Kill) { Err(Error::other("killed")) } else { Ok(taken) }
    }

    fn sync(&self, file: &SimFile) -> Result<()> {
        let called = self.whole_call(Kind::Give).map(drop);
        let mut world = self.world();
        if let Node::File { live, durable, lost } = &mut world.nodes[file.0] {
            match &called {
                Ok(()) if !*lost => durable.clone_from(live),
                Err(error) if error.raw_os_error().is_some() && error.kind() != ErrorKind::Interrupted => *lost = true,
                _ => {}
            }
        }
        called
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut world = self.whole_call(Kind::Give)?;
        let node = world.find(dir)?;
        match &mut world.nodes[node] {
            Node::File { .. } => Err(Errno::NOTDIR.into()),
            Node::Dir { live, durable, unsynced } => {
                unsynced.clear();
                durable.clone_from(live);
                Ok(())
            }
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.whole_call(Kind::Give)?.rename(from, to, true)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<()> {
        self.whole_call(Kind::Give)?.rename(from, to, false)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        let mut world = self.whole_call(Kind::Take)?;
        let node = world.find(path)?;
        if matches!(world.nodes[node], Node::Dir { .. }) {
            return Err(Errno::ISDIR.into());
        }
        world.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        let mut world = self.whole_call(Kind::Take)?;
        let node = world.find(path)?;
        if !world.names(node)?.is_empty() {
            return Err(Errno::NOTEMPTY.into());
        }
        world.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>> {
        let world = self.whole_call(Kind::Look)?;
        let names = world.names(world.find(dir)?)?.iter();
        Ok(names
            .map(|(name, node)| Entry { name: name.clone(), is_dir: matches!(world.nodes[*node], Node::Dir { .. }) })
            .collect())
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let world = self.whole_call(Kind::Look)?;
        match &world.nodes[world.find(path)?] {
            Node::Dir { .. } => Err(Errno::ISDIR.into()),
            Node::File { live, .. } if live.len() as u64 > limit => Err(ErrorKind::FileTooLarge.into()),
            Node::File { live, .. } => Ok(live.clone()),
        }
    }
}

impl World {
    fn find(&self, path: &Path) -> Result<usize> {
        names(path).try_fold(0, |node, name| self.names(node)?.get(name).copied().ok_or_else(|| Errno::NOENT.into()))
    }

    fn names(&self, node: usize) -> Result<&Names> {
        match &self.nodes[node] {
            Node::File { .. } => Err(Errno::NOTDIR.into()),
            Node::Dir { live, .. } => Ok(live),
        }
    }

    fn parent(&self, path: &Path) -> Result<(usize, OsString)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        Ok((self.find(path.parent().unwrap_or(Path::new("/")))?, name.to_owned()))
    }

    fn change(&mut self, dir: usize, change: Change) {
        if let Node::Dir { live, unsynced, .. } = &mut self.nodes[dir] {
            change.clone().apply(live);
            unsynced.push(change);
        }
    }

    fn add(&mut self, dir: usize, name: OsString, node: Node) -> Result<usize> {
        if self.names(dir)?.contains_key(&name) {
            return Err(Errno::EXIST.into());
        }
        self.nodes.push(node);
        let new = self.nodes.len() - 1;
        self.change(dir, Change::Add(name, new));
        Ok(new)
    }

    fn remove(&mut self, path: &Path) -> Result<()> {
        let (node, (dir, name)) = (self.find(path)?, self.parent(path)?);
        self.change(dir, Change::Remove(name, node));
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path, replace: bool) -> Result<()> {
        let (node, (old_dir, _), (dir, name)) = (self.find(from)?, self.parent(from)?, self.parent(to)?);
        if dir != old_dir {
            return Err(Errno::XDEV.into());
        }
        match self.names(dir)?.get(&name) {
            Some(_) if !replace => return Err(Errno::EXIST.into()),
            Some(&at) if matches!(self.nodes[at], Node::Dir { .. }) => return Err(Errno::ISDIR.into()),
            _ => {}
        }
        self.change(dir, Change::Rename(name, node));
        Ok(())
    }

    fn sync_all_names(&mut self) {
        for node in &mut self.nodes {
            if let Node::Dir { live, durable, unsynced } = node {
                unsynced.clear();
                durable.clone_from(live);
            }
        }
    }
}

impl Node {
    fn empty_dir() -> Node {
        Node::Dir { live: Names::new(), durable: Names::new(), unsynced: Vec::new() }
    }

    fn empty_file() -> Node {
        Node::File { live: Vec::new(), durable: Vec::new(), lost: false }
    }
}

impl Change {
    /// Applies the change to `names`, in which earlier changes may be missing.
    fn apply(self, names: &mut Names) {
        match self {
            Change::Add(name, node) => _ = names.insert(name, node),
            Change::Remove(name, node) => {
                if names.get(&name) == Some(&node) {
                    names.remove(&name);
                }
            }
            Change::Rename(to, node) => {
                names.retain(|_, at| *at != node);
                names.insert(to, node);
            }
        }
    }
}

/// SplitMix64 generator: all randomness is a function of the seed.
pub struct Chance(pub u64);

impl Chance {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }

    fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    /// Content on the disk after a power cut during a change of a file from `old` to `new`.
    fn torn(&mut self, old: &[u8], new: &[u8]) -> Vec<u8> {
        let longest = old.len().max(new.len());
        match self.index(4) {
            0 => return old.to_vec(),
            1 => return new.to_vec(),
            _ => {}
        }
        let len = [old.len(), new.len(), self.index(longest / SECTOR + 1) * SECTOR][self.index(3)];
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            let sector = out.len()..(out.len() + SECTOR).min(len);
            let source = [old, new, new, &[]][self.index(4)];
            let garbage = self.index(2) == 0;
            for i in sector {
                let noise = if garbage { self.draw() as u8 } else { 0 };
                out.push(source.get(i).copied().unwrap_or(noise));
            }
        }
        out
    }
}

fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(fs: &SimFs, path: &str, content: &[u8], sync: bool) {
        let mut file = fs.create(Path::new(path)).unwrap();
        fs.write(&mut file, content).unwrap();
        if sync {
            fs.sync(&file).unwrap();
        }
    }

    fn after_cuts(fs: &SimFs) -> Vec<BTreeMap<PathBuf, Vec<u8>>> {
        (0..64).map(|seed| fs.power_cut(seed).files()).collect()
    }

    #[test]
    fn what_is_synced_survives_and_nothing_else_is_sure() {
        let fs = SimFs::default();
        let path = PathBuf::from("/a");
        file(&fs, "/a", &[7; 2000], true);
        let cuts = after_cuts(&fs);
        assert!(cuts.iter().any(BTreeMap::is_empty), "a name without a sync of its directory can be gone");
        assert!(cuts.iter().all(|files| files.get(&path).is_none_or(|content| content == &[7; 2000])));
        fs.sync_dir(Path::new("/")).unwrap();
        assert!(after_cuts(&fs).iter().all(|files| files[&path] == [7; 2000]));

        file(&fs, "/b", &[9; 2000], false);
        fs.rename(Path::new("/b"), Path::new("/a")).unwrap();
        let cuts = after_cuts(&fs);
        assert!(cuts.iter().any(|files| files[&path] == [7; 2000]), "the old file");
        assert!(cuts.iter().any(|files| files[&path] == [9; 2000]), "the new one");
        assert!(cuts.iter().any(|files| files[&path].is_empty()), "a name without content");
        assert!(
            cuts.iter().any(|files| files[&path].len() > 512 && files[&path][..512] != files[&path][512..]),
            "torn"
        );
    }

    #[test]
    fn content_is_lost_for_good_when_its_sync_fails() {
        let fs = SimFs::default();
        let mut a = fs.create(Path::new("/a")).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        fs.write(&mut a, &[7; 100]).unwrap();
        fs.fail(1, Fault::Errno(5));
        assert_eq!(fs.sync(&a).unwrap_err().raw_os_error(), Some(5));
        fs.sync(&a).unwrap();
        assert_eq!(fs.files()[Path::new("/a")], [7; 100]);
        assert!(after_cuts(&fs).iter().all(|files| files[Path::new("/a")].is_empty()));
    }

    #[test]
    fn a_killed_process_leaves_what_it_did_and_does_no_more() {
        let fs = SimFs::default();
        fs.fail(2, Fault::Kill);
        let mut a = fs.create(Path::new("/a")).unwrap();
        fs.write(&mut a, &[7; 100]).unwrap_err();
        fs.remove_file(Path::new("/a")).unwrap_err();
        assert_eq!(fs.files()[Path::new("/a")], [7; 50]);
        fs.revive();
        fs.remove_file(Path::new("/a")).unwrap();
        assert_eq!(fs.calls(), 4);
    }
}
