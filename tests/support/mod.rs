//! A sandbox for the program: a directory of its own, none of the caller's `TRAINER_*` variables, all output
//! captured.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod hand_made;
pub mod listed;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longer than any test takes on the slowest machine; a program that runs longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Working directory of the program, removed with its contents on drop.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

/// Output and exit status of the program.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A running program, killed on drop.
pub struct Running {
    child: Child,
}

/// A directory entry with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    File(Vec<u8>),
    Directory,
    Link(PathBuf),
    Other,
}

impl Sandbox {
    pub fn new() -> Sandbox {
        Sandbox { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and the directories above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn create_dir(&self, name: &str) {
        std::fs::create_dir_all(self.path(name)).unwrap();
    }

    pub fn link(&self, name: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.path(name)).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Command `what` in this directory, without the variables that the program reads.
    pub fn command(&self, what: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(what);
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TRAINER_") {
                command.env_remove(name);
            }
        }
        command
    }

    pub fn trainer<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.command(program());
        command.args(arguments);
        command
    }

    /// Runs the program with arguments split at spaces.
    pub fn run(&self, arguments: &str) -> Outcome {
        finish(&mut self.trainer(arguments.split_whitespace()))
    }

    /// Everything in the directory.
    pub fn tree(&self) -> BTreeMap<PathBuf, Entry> {
        let mut found = BTreeMap::new();
        collect(self.dir.path(), self.dir.path(), &mut found);
        found
    }
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, Entry>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let what = if kind.is_symlink() {
            Entry::Link(path.read_link().unwrap())
        } else if kind.is_dir() {
            collect(root, &path, found);
            Entry::Directory
        } else if kind.is_file() {
            Entry::File(std::fs::read(&path).unwrap())
        } else {
            Entry::Other
        };
        found.insert(path.strip_prefix(root).unwrap().to_owned(), what);
    }
}

impl Outcome {
    /// The exit code, or 128 plus the signal number, as in a shell.
    pub fn code(&self) -> i32 {
        self.status.code().or(self.status.signal().map(|signal| 128 + signal)).unwrap()
    }

    pub fn succeeded(self) -> Outcome {
        assert_eq!(self.code(), 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// True if stderr or stdout contains `text`.
    pub fn says(&self, text: &str) -> bool {
        self.stderr.contains(text) || self.stdout.contains(text)
    }
}

/// The program under test.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_trainer")
}

/// Runs a command to its end, and captures its output unless it is redirected.
pub fn finish(command: &mut Command) -> Outcome {
    start(command.stdout(Stdio::piped()).stderr(Stdio::piped())).finish()
}

pub fn start(command: &mut Command) -> Running {
    Running { child: command.spawn().unwrap() }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for a condition.
    pub fn wait_until(&mut self, what: &str, condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(self.is_running(), "the program ended before {what}");
            assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "kill -{name}");
    }

    pub fn finish(mut self) -> Outcome {
        // Both pipes are read in parallel, since a full one would block the program.
        let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
            std::thread::Builder::new().spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    pipe.read_to_end(&mut bytes).unwrap();
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let stdout = read(self.child.stdout.take().map(|pipe| Box::new(pipe) as _)).unwrap();
        let stderr = read(self.child.stderr.take().map(|pipe| Box::new(pipe) as _)).unwrap();
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if started.elapsed() > PATIENCE => panic!("the program hangs"),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        Outcome { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Permission bits do not bind root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Prints the reason for a skipped test.
pub fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// An IDX file of bytes.
pub fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, u8::try_from(dimensions.len()).unwrap()];
    bytes.extend(dimensions.iter().flat_map(|dimension| dimension.to_be_bytes()));
    bytes.extend_from_slice(values);
    bytes
}

pub const TRAIN_IMAGES: &str = "data/mnist/train-images-idx3-ubyte";
pub const TRAIN_LABELS: &str = "data/mnist/train-labels-idx1-ubyte";
pub const TEST_IMAGES: &str = "data/mnist/t10k-images-idx3-ubyte";
pub const TEST_LABELS: &str = "data/mnist/t10k-labels-idx1-ubyte";

/// Images of one brightness each, in MNIST files.
pub fn small_mnist(sandbox: &Sandbox, train: u8, test: u8) {
    for (images, labels, count) in [(TRAIN_IMAGES, TRAIN_LABELS, train), (TEST_IMAGES, TEST_LABELS, test)] {
        let pixels: Vec<u8> = (0..count).flat_map(|i| vec![i.wrapping_mul(25); 28 * 28]).collect();
        sandbox.write(images, idx(&[count.into(), 28, 28], &pixels));
        sandbox.write(labels, idx(&[count.into()], &(0..count).map(|i| i % 10).collect::<Vec<_>>()));
    }
}

/// Prints a proof line to stderr, which is shown without a flag.
pub fn proof(text: &str) {
    let _ = writeln!(std::io::stderr(), "proof: {text}");
}
