//! Proof that no crash, no disk error and no damage costs a checkpoint: on a simulated disk, exhaustively or by
//! seeds.
//!
//! Each test prints one line, `proof: <goal> <what>: <points> points, <failures> failures`, with
//! `--nocapture`. `TRAINER_TEST_SEEDS` sets the number of power cut seeds, 10,000 by default.

#![allow(clippy::print_stdout, reason = "the proof is one line for each test, which another program collects")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use trainer::checkpoint::manifest::{FileEntry, Manifest};
use trainer::checkpoint::{Best, Checkpoint, Draft, Found, Retention, Store, StoreError, tensors};
use trainer::durable::fs::{Entry, Fs};
use trainer::durable::sim::{Chance, Fault, SimFs};
use trainer::durable::{self, TEMPORARY};
use trainer::exit::{Classify, Exit};

const DIR: &str = "/run/checkpoints";
const RESULT: &str = "/run/result.json";

const EINTR: i32 = 4;
const EIO: i32 = 5;
const EACCES: i32 = 13;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

// Points that were tested, and their failures.

struct Proof {
    name: &'static str,
    points: u64,
    failures: Vec<String>,
}

impl Proof {
    fn of(name: &'static str) -> Proof {
        Proof { name, points: 0, failures: Vec::new() }
    }

    fn point(&mut self, place: impl Display, result: Result<(), String>) {
        self.points += 1;
        if let Err(failure) = result {
            self.failures.push(format!("{place}: {failure}"));
        }
    }

    fn end(self) {
        println!("proof: {}: {} points, {} failures", self.name, self.points, self.failures.len());
        let first: Vec<&String> = self.failures.iter().take(5).collect();
        assert!(self.failures.is_empty(), "{}: {} failures, such as {first:#?}", self.name, self.failures.len());
        assert!(self.points > 0, "{}: nothing was tried", self.name);
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// A checkpoint that differs from every other draft: all its bytes follow from `id`.
fn draft(step: u64, id: u64) -> Draft {
    let mut chance = Chance(id);
    let mut bytes = |len: u64| (0..len).map(|_| chance.draw() as u8).collect::<Vec<u8>>();
    let files = vec![("model.safetensors", bytes(600 + id % 700)), ("observers.bin", bytes(id % 90))];
    let facts = json!({"id": id, "val_accuracy": (id % 7) as f64 / 7.0}).as_object().unwrap().clone();
    Draft { step, facts, files }
}

fn is(checkpoint: &Checkpoint, draft: &Draft) -> bool {
    let same = |(name, content): &(&str, Vec<u8>)| checkpoint.file(name) == Some(content.as_slice());
    checkpoint.step == draft.step && checkpoint.facts == draft.facts && draft.files.iter().all(same)
}

fn disk() -> SimFs {
    let disk = SimFs::default();
    disk.put(Path::new("/run/config.toml"), b"epochs = 5\n").unwrap();
    disk
}

fn temporaries(disk: &SimFs) -> Vec<PathBuf> {
    let is_temporary = |name: &OsStr| name.to_string_lossy().starts_with(TEMPORARY);
    let names = |path: &Path| path.components().any(|part| is_temporary(part.as_os_str()));
    disk.files().into_keys().filter(|path| path.starts_with(DIR) && names(path)).collect()
}

fn keep(last: usize) -> Retention {
    Retention { last, best: None }
}

// A run that is killed, and the successes reported to it.

/// Everything that processes tried to save, in order, and the index of the last item reported as durable.
#[derive(Default)]
struct Ledger {
    drafts: Vec<Draft>,
    saved: Option<usize>,
    results: Vec<Vec<u8>>,
    written: Option<usize>,
}

impl Ledger {
    /// Life of a process from its start to its end or death.
    fn live<F: Fs + Clone>(&mut self, fs: &F, chance: &mut Chance, saves: u64) {
        let store = Store::on(fs.clone(), DIR);
        // A process that cannot sweep or read stops here.
        if store.sweep().is_err() {
            return;
        }
        let Ok(Found { checkpoint, .. }) = store.newest() else { return };
        let mut step = checkpoint.map_or(0, |checkpoint| checkpoint.step);
        for _ in 0..saves {
            // A step is saved twice if a run is stopped right after a resume.
            step += chance.below(3);
            let draft = draft(step, self.drafts.len() as u64 + 1);
            self.drafts.push(draft.clone());
            let waits = vec![Duration::ZERO; chance.below(2) as usize];
            if store
                .save_patiently(draft.step, &draft.files, || Ok(draft.facts.clone()), &waits, || (), || true)
                .is_ok()
            {
                self.saved = Some(self.drafts.len() - 1);
            }
            self.results.push(format!("{} {}", "result ".repeat(200), self.results.len()).into_bytes());
            if durable::write_on(fs, Path::new(RESULT), &self.results[self.results.len() - 1]).is_ok() {
                self.written = Some(self.results.len() - 1);
            }
            if chance.below(2) == 0 {
                let best = (chance.below(2) == 0).then(|| Best::Larger("val_accuracy".to_owned()));
                let _ = store.retain(&Retention { last: 1 + chance.below(2) as usize, best });
            }
        }
    }

    /// Checks that the disk returns the last item reported as durable, or a newer one.
    fn check(&self, disk: &SimFs) -> Result<(), String> {
        let found = Store::on(disk.clone(), DIR).newest().map_err(|error| error.to_string())?;
        match (&found.checkpoint, self.saved) {
            (None, None) => {}
            (None, Some(_)) => return Err(format!("no checkpoint is left: {:?}", found.rejected)),
            (Some(checkpoint), saved) => {
                let which = self.drafts.iter().rposition(|draft| is(checkpoint, draft));
                let which = which.ok_or_else(|| format!("a mixture at step {}", checkpoint.step))?;
                ensure(saved.is_none_or(|saved| which >= saved), || format!("{which} is older than {saved:?}"))?;
            }
        }
        let result = disk.files().remove(Path::new(RESULT));
        match (result, self.written) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err("no result is left".to_owned()),
            (Some(result), written) => {
                let which = self.results.iter().rposition(|known| *known == result);
                let which = which.ok_or_else(|| "a torn result".to_owned())?;
                ensure(written.is_none_or(|written| which >= written), || format!("result {which}, not {written:?}"))
            }
        }
    }
}

/// Lives of one run, each ended by a kill, most also by a power cut, on the file system made by `wrap`.
fn cut_power<F: Fs + Clone>(proof: &mut Proof, seeds: u64, wrap: impl Fn(SimFs) -> F) {
    for seed in 0..seeds {
        let mut chance = Chance(seed);
        let (mut disk, mut ledger) = (disk(), Ledger::default());
        for life in 0..3 {
            let call = 1 + chance.below(150);
            disk.fail(
                call,
                match chance.below(8) {
                    0 => Fault::Errno(EIO),
                    1 => Fault::Lasting(ENOSPC),
                    _ => Fault::Kill,
                },
            );
            ledger.live(&wrap(disk.clone()), &mut chance, 4);
            disk.revive();
            if life == 2 || chance.below(4) > 0 {
                disk = disk.power_cut(chance.draw());
            }
            let checked = ledger.check(&disk);
            let failed = checked.is_err();
            proof.point(format!("seed {seed}, life {life}, call {call}"), checked);
            if failed {
                break;
            }
        }
    }
}

#[test]
fn r4_power_loss() {
    let seeds = std::env::var("TRAINER_TEST_SEEDS").map_or(10_000, |seeds| seeds.parse().unwrap());
    let mut proof = Proof::of("R4 power loss");
    cut_power(&mut proof, seeds, |disk| disk);
    proof.end();
}

// Test of the check above: it must detect a file system that omits a file sync, a directory sync or the rename.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Omission {
    FileSync,
    DirSync,
    /// Replaces a rename by a second write in place, synced.
    Rename,
    Nothing,
}

#[derive(Clone)]
struct Careless {
    disk: SimFs,
    omits: Omission,
}

impl Careless {
    /// Renames a file, or a directory of files, by copying.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        if let Ok(entries) = self.disk.list(from) {
            self.disk.create_dir(to)?;
            for entry in entries {
                self.copy(&from.join(&entry.name), &to.join(&entry.name))?;
            }
            self.disk.sync_dir(to)?;
            return self.disk.remove_dir(from);
        }
        let content = self.disk.read(from, u64::MAX)?;
        let _ = self.disk.remove_file(to);
        durable::fs::write_new(&self.disk, to, &content)?;
        self.disk.remove_file(from)
    }
}

impl Fs for Careless {
    type File = <SimFs as Fs>::File;

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Self::File> {
        self.disk.create(path)
    }

    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write(file, bytes)
    }

    fn sync(&self, file: &Self::File) -> io::Result<()> {
        if self.omits == Omission::FileSync { Ok(()) } else { self.disk.sync(file) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.omits == Omission::DirSync { Ok(()) } else { self.disk.sync_dir(dir) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.omits == Omission::Rename { self.copy(from, to) } else { self.disk.rename(from, to) }
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.omits == Omission::Rename { self.copy(from, to) } else { self.disk.rename_new(from, to) }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.disk.read(path, limit)
    }
}

#[test]
fn r4_the_check_of_power_loss_finds_who_forgets_to_sync_or_to_rename() {
    let failures = |omits| {
        let mut proof = Proof::of("careless");
        cut_power(&mut proof, 300, |disk| Careless { disk, omits });
        proof.failures
    };
    assert_eq!(failures(Omission::Nothing), [""; 0]);
    for omits in [Omission::FileSync, Omission::DirSync, Omission::Rename] {
        let found = failures(omits);
        println!("proof: R4 test of the test, without {omits:?}: {} found", found.len());
        assert!(found.len() > 10, "{omits:?}: {found:?}");
    }
}

// Kills at every call.

#[test]
fn r2_kill_at_every_call() {
    let mut proof = Proof::of("R2 kill at every call");
    for call in 1.. {
        let (disk, mut ledger) = (disk(), Ledger::default());
        disk.fail(call, Fault::Kill);
        // This seed saves some steps twice, and keeps the last one or two.
        ledger.live(&disk, &mut Chance(3), 6);
        let clean = disk.calls() < call;
        disk.revive();
        proof.point(format!("call {call}"), after_kill(&ledger, &disk.copy()));
        for seed in 0..8 {
            proof.point(format!("call {call}, power cut {seed}"), after_kill(&ledger, &disk.power_cut(seed)));
        }
        if clean {
            break;
        }
    }
    proof.end();
}

/// The next process finds the durable data, sweeps, and continues.
fn after_kill(ledger: &Ledger, disk: &SimFs) -> Result<(), String> {
    ledger.check(disk)?;
    let store = Store::on(disk.clone(), DIR);
    store.sweep().map_err(|error| error.to_string())?;
    ledger.check(disk)?;
    ensure(temporaries(disk).is_empty(), || format!("left: {:?}", temporaries(disk)))?;
    let next = draft(1000, 1000);
    store.save(&next).map_err(|error| error.to_string())?;
    store.retain(&keep(1)).map_err(|error| error.to_string())?;
    let found = store.newest().map_err(|error| error.to_string())?;
    ensure(found.checkpoint.is_some_and(|checkpoint| is(&checkpoint, &next)), || "the next save is lost".to_owned())?;
    ensure(store.steps().is_ok_and(|steps| steps == [1000]), || format!("{:?}", store.steps()))
}

#[test]
fn r2_kill_at_every_call_of_a_fresh_start() {
    let mut proof = Proof::of("R2 kill while all checkpoints are removed");
    let before = disk();
    let drafts: Vec<Draft> = (1..=3).map(|step| draft(step, step)).collect();
    for draft in &drafts {
        Store::on(before.clone(), DIR).save(draft).unwrap();
    }
    for call in 1.. {
        let disk = before.copy();
        disk.fail(call, Fault::Kill);
        let cleared = Store::on(disk.clone(), DIR).clear();
        disk.revive();
        let newest = |disk: &SimFs| Store::on(disk.clone(), DIR).newest().unwrap();
        let live = newest(&disk).checkpoint;
        let whole = live.as_ref().is_none_or(|checkpoint| is(checkpoint, &drafts[2]));
        proof.point(format!("call {call}"), ensure(whole, || "an older one is left".to_owned()));
        for seed in 0..16 {
            let cut = newest(&disk.power_cut(seed)).checkpoint;
            let whole = cut.as_ref().is_none_or(|checkpoint| drafts.iter().any(|draft| is(checkpoint, draft)));
            let gone = cleared.is_err() || cut.is_none();
            proof.point(format!("call {call}, power cut {seed}"), ensure(whole && gone, || format!("{cut:?}")));
        }
        Store::on(disk.clone(), DIR).clear().unwrap();
        assert!(temporaries(&disk).is_empty());
        if cleared.is_ok() {
            assert!(live.is_none());
            break;
        }
    }
    proof.end();
}

// Errors at every call.

#[test]
fn r3_errors_at_every_call() {
    type Action = fn(&Store<SimFs>) -> Result<(), StoreError>;
    let actions: [(&str, Action); 6] = [
        ("first save", |store| store.save(&draft(9, 9)).map(drop)),
        ("save", |store| store.save(&draft(9, 9)).map(drop)),
        ("save of the same step", |store| store.save(&draft(5, 9)).map(drop)),
        ("retain", |store| store.retain(&Retention { last: 1, best: Some(Best::Smaller("id".to_owned())) })),
        ("sweep", Store::sweep),
        ("newest", |store| store.newest().map(drop)),
    ];
    let numbers = [ENOSPC, EIO, EDQUOT, EROFS, EINTR, EACCES];
    let mut faults: Vec<Fault> = numbers.map(Fault::Errno).to_vec();
    faults.extend([Fault::Short, Fault::Lasting(ENOSPC), Fault::Lasting(EROFS)]);
    let mut proof = Proof::of("R3 errors at every call");
    for (name, action) in actions {
        let before = disk();
        if name != "first save" {
            let store = Store::on(before.clone(), DIR);
            for (step, id) in [(1, 1), (3, 2), (5, 3)] {
                store.save(&draft(step, id)).unwrap();
            }
            before.put(&Path::new(DIR).join(format!("{TEMPORARY}1-1/model.safetensors")), b"half").unwrap();
        }
        for fault in &faults {
            for call in 1.. {
                let disk = before.copy();
                let calls = disk.calls();
                disk.fail(call, *fault);
                let result = action(&Store::on(disk.clone(), DIR));
                let clean = disk.calls() - calls < call;
                disk.revive();
                proof.point(
                    format!("{name}, {fault:?} at call {call}"),
                    after_error(&before, &disk, name, *fault, &result, action),
                );
                if clean {
                    break;
                }
            }
        }
    }
    proof.end();
}

fn after_error(
    before: &SimFs,
    disk: &SimFs,
    name: &str,
    fault: Fault,
    result: &Result<(), StoreError>,
    action: impl Fn(&Store<SimFs>) -> Result<(), StoreError>,
) -> Result<(), String> {
    let store = Store::on(disk.clone(), DIR);
    let newest = || store.newest().map(|found| found.checkpoint).map_err(|error| error.to_string());
    if let Err(error) = result {
        let text = error.to_string();
        ensure(text.contains(DIR), || format!("no path in: {text}"))?;
        let (Fault::Errno(number) | Fault::Lasting(number)) = fault else {
            return Err(format!("{text}: a short write is to be continued"));
        };
        ensure(number != EINTR, || format!("{text}: an interrupted call is to be made again"))?;
        ensure(text.contains(&format!("(os error {number})")), || format!("no error number in: {text}"))?;
        let want = if number == EACCES { Exit::NoPermission } else { Exit::Io };
        ensure(error.exit() == want, || format!("{text}: {:?}", error.exit()))?;
    }
    // Existing files are unchanged, except for those that the action replaces or removes.
    let after = disk.files();
    let published =
        |path: &Path| !path.components().any(|part| part.as_os_str().to_string_lossy().starts_with(TEMPORARY));
    for (path, content) in before.files().into_iter().filter(|(path, _)| published(path)) {
        let may_go = match name {
            "save of the same step" => path.starts_with(store.path_of(5)),
            "retain" => path.starts_with(store.path_of(3)),
            _ => false,
        };
        ensure(may_go || after.get(&path) == Some(&content), || format!("{} is not what it was", path.display()))?;
    }
    let found = newest()?;
    let (old, new) = (draft(5, 3), draft(9, 9));
    let new = if name.ends_with("same step") { Draft { step: 5, ..new } } else { new };
    let is_known = match &found {
        None => name == "first save" && result.is_err(),
        Some(checkpoint) => {
            (is(checkpoint, &old) && (result.is_err() || !name.contains("save"))) || is(checkpoint, &new)
        }
    };
    ensure(is_known, || format!("after {result:?} got {found:?}"))?;
    // The same action again, on a disk without faults.
    action(&store).and_then(|()| store.sweep()).map_err(|error| error.to_string())?;
    ensure(temporaries(disk).is_empty(), || format!("left: {:?}", temporaries(disk)))?;
    let want = if name.contains("save") { &new } else { &old };
    ensure(newest()?.is_some_and(|checkpoint| is(&checkpoint, want)), || "it does not work later, either".to_owned())
}

// Damage.

/// Two good checkpoints, and the files of the newer one.
fn two_checkpoints() -> (SimFs, Draft, BTreeMap<PathBuf, Vec<u8>>) {
    let (disk, older) = (disk(), draft(3, 1));
    let store = Store::on(disk.clone(), DIR);
    store.save(&older).unwrap();
    store.save(&draft(5, 1311)).unwrap();
    let files: BTreeMap<_, _> =
        disk.files().into_iter().filter(|(path, _)| path.starts_with(store.path_of(5))).collect();
    assert_eq!(files.len(), 3);
    (disk, older, files)
}

/// The damage of the newer one is detected, and the older one used.
fn falls_back(disk: &SimFs, older: &Draft) -> Result<(), String> {
    let Found { checkpoint, rejected } =
        Store::on(disk.clone(), DIR).newest().map_err(|error| format!("no fall-back: {error}"))?;
    let step = checkpoint.as_ref().map(|checkpoint| checkpoint.step);
    ensure(checkpoint.is_some_and(|checkpoint| is(&checkpoint, older)), || format!("loaded step {step:?}"))?;
    ensure(rejected.len() == 1, || format!("rejected: {rejected:?}"))
}

#[test]
fn r5_every_truncation_and_every_flipped_bit() {
    let (disk, older, files) = two_checkpoints();
    let mut proof = Proof::of("R5 truncations and flipped bits");
    let mut try_with = |path: &Path, place: String, content: &[u8]| {
        disk.put(path, content).unwrap();
        proof.point(format!("{}: {place}", path.display()), falls_back(&disk, &older));
    };
    for (path, content) in &files {
        for len in 0..content.len() {
            try_with(path, format!("{len} bytes"), &content[..len]);
        }
        let mut damaged = content.clone();
        for bit in 0..8 * content.len() {
            damaged[bit / 8] ^= 1 << (bit % 8);
            try_with(path, format!("bit {bit}"), &damaged);
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        for more in ["\0", "\n", " ", "}", "abcd"] {
            try_with(path, format!("with {more:?}"), &[content.as_slice(), more.as_bytes()].concat());
        }
        disk.put(path, content).unwrap();
    }
    proof.end();
    assert_eq!(Store::on(disk, DIR).newest().unwrap().checkpoint.unwrap().step, 5);
}

#[test]
fn r5_edits_of_many_bytes_missing_and_exchanged_files() {
    let (before, older, files) = two_checkpoints();
    let paths: Vec<&PathBuf> = files.keys().collect();
    let mut proof = Proof::of("R5 edits, missing and exchanged files");
    for seed in 0..2000 {
        let mut chance = Chance(seed);
        let disk = before.copy();
        let path = paths[chance.below(3) as usize];
        let mut content = files[path].clone();
        for _ in 0..1 + chance.below(20) {
            let at = chance.below(content.len() as u64) as usize;
            match chance.below(4) {
                0 => content[at] = chance.draw() as u8,
                1 => content.reverse(),
                2 => _ = content.remove(at),
                _ => content.insert(at, chance.draw() as u8),
            }
        }
        if content != files[path] {
            disk.put(path, &content).unwrap();
            proof.point(format!("seed {seed}"), falls_back(&disk, &older));
        }
    }
    for (i, path) in paths.iter().enumerate() {
        let disk = before.copy();
        disk.remove_file(path).unwrap();
        proof.point(format!("without {}", path.display()), falls_back(&disk, &older));
        let disk = before.copy();
        disk.put(path, &files[paths[(i + 1) % 3]]).unwrap();
        proof.point(format!("another file as {}", path.display()), falls_back(&disk, &older));
    }
    // A whole checkpoint under the name of a later step.
    let disk = before.copy();
    let store = Store::on(disk.clone(), DIR);
    disk.rename(&store.path_of(5), &Path::new(DIR).join("ckpt-000000000006")).unwrap();
    proof.point("a checkpoint under the name of another step", falls_back(&disk, &older));
    proof.end();
}

// Arbitrary bytes.

/// Random changes of bytes and of numbers, some to values that overflow.
fn mutated(bytes: &[u8], chance: &mut Chance) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "18446744073709551615",
        "4611686018427387904",
        "-1",
        "1e999",
        "0",
        "null",
        "{}",
        "[",
        "\"\"",
        "\\u0000",
        "9999999",
        "{\"a\":1,\"a\":1}",
    ];
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + chance.below(4) {
        let at = chance.below(bytes.len() as u64 + 1) as usize;
        let end = (at + chance.below(12) as usize).min(bytes.len());
        match chance.below(5) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            2 => _ = bytes.drain(at..end),
            3 => {
                let copied = bytes[at..end].to_vec();
                let to = chance.below(bytes.len() as u64 + 1) as usize;
                _ = bytes.splice(to..to, copied);
            }
            _ => {
                // Replaces a number, if there is one.
                let is_digit = |i: &usize| bytes.get(*i).is_some_and(u8::is_ascii_digit);
                let from = (at..bytes.len()).find(is_digit).unwrap_or(at);
                let to = (from..bytes.len()).find(|i| !is_digit(i)).unwrap_or(from);
                _ = bytes.splice(from..to, WORDS[chance.below(12) as usize].bytes());
            }
        }
    }
    bytes
}

#[test]
fn r5_mutated_manifests() {
    let mut proof = Proof::of("R5 mutated manifests");
    let Draft { step, facts, files } = draft(7, 700);
    let entries = files.iter().map(|(name, content)| FileEntry::of(name, content)).collect();
    let manifest = Manifest::new(step, facts, entries).encode().unwrap();
    let seal = manifest.len() - "  \"blake3\": \"\"\n}\n".len() - 64;
    for seed in 0..100_000 {
        let mut chance = Chance(seed);
        // Half of them get a valid checksum and reach the parser.
        let bytes = if seed % 2 == 0 {
            mutated(&manifest, &mut chance)
        } else {
            let text = mutated(&manifest[..seal], &mut chance);
            let digest = blake3::hash(&text).to_hex();
            [text.as_slice(), b"  \"blake3\": \"", digest.as_bytes(), b"\"\n}\n"].concat()
        };
        let result = match Manifest::decode(&bytes) {
            Err(error) => ensure(!error.to_string().is_empty(), || "an error without words".to_owned()),
            Ok(decoded) => {
                ensure(decoded.encode().is_ok_and(|back| back == bytes), || "two ways to write it".to_owned())
            }
        };
        proof.point(format!("seed {seed}"), result);
    }
    proof.end();
}

#[test]
fn r5_mutated_tensors() {
    let mut proof = Proof::of("R5 mutated tensors");
    let names = ["conv2d.weight", "conv2d.bias", "dense.weight", "empty"];
    let shapes = [vec![2, 1, 3, 3], vec![2], vec![3, 4], vec![0, 5]];
    let want: Vec<(String, Vec<usize>)> = names.map(str::to_owned).into_iter().zip(shapes).collect();
    let values: Vec<Vec<f32>> = want.iter().map(|(_, shape)| vec![0.5; shape.iter().product()]).collect();
    let tensors: Vec<_> = want.iter().zip(&values).map(|((n, s), v)| (n.clone(), s.clone(), v.as_slice())).collect();
    let file = tensors::encode(&tensors).unwrap();
    let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    for seed in 0..100_000 {
        let mut chance = Chance(seed);
        // Most have a length that fits the header and reach the parser.
        let bytes = if seed % 4 == 0 {
            mutated(&file, &mut chance)
        } else {
            let text = mutated(&file[8..header], &mut chance);
            [&(text.len() as u64).to_le_bytes(), text.as_slice(), &file[header..]].concat()
        };
        let result = match tensors::decode(&bytes, &want) {
            Err(error) => ensure(!error.to_string().is_empty(), || "an error without words".to_owned()),
            Ok(decoded) => ensure(decoded.iter().zip(&values).all(|(got, want)| got.len() == want.len()), || {
                "tensors of another size".to_owned()
            }),
        };
        proof.point(format!("seed {seed}"), result);
    }
    proof.end();
}
