//! Layouts in which people have the files of a data set: directories, spellings, and what stands there instead of them.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::name::DatasetName;
use super::published::{File, Unreadable};

/// Directory of Debian's package `dataset-fashion-mnist`.
const DEBIAN_FASHION_MNIST: &str = "/usr/share/datasets/fashion-mnist";
/// Directories within one that is named for a data set, or named by `--data-dir`. An archive of Kaggle unpacks as the last.
const BELOW: [&str; 3] = ["", "raw", "archive"];
/// Entries of a directory that are looked at, at most.
const MOST_ENTRIES: usize = 10_000;
/// Other forms in which MNIST is published, by the end of their names.
const OTHER_FORMS: [(&str, &str); 8] = [
    (".npz", "a NumPy archive"),
    (".npy", "a NumPy array"),
    (".csv", "a table"),
    (".parquet", "a Parquet table"),
    (".pkl", "a pickle of Python"),
    (".pkl.gz", "a pickle of Python"),
    (".mat", "a file of MATLAB"),
    (".zip", "a packed archive"),
];

/// Something that stands where a file of a data set was looked for, and is none that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A directory with a file's name, without that file in it.
    Directory(PathBuf),
    DanglingLink(PathBuf),
    /// A pipe, a socket, a device.
    Special(PathBuf),
    /// A directory with the files of another data set, which have the same names.
    Another {
        dir: PathBuf,
        of: DatasetName,
    },
    /// The data set in a form that is not read.
    Form {
        path: PathBuf,
        what: &'static str,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Directory(path) => write!(f, "{} is a directory without that file in it", path.display()),
            Obstacle::DanglingLink(path) => write!(f, "{} is a link to nothing", path.display()),
            Obstacle::Special(path) => write!(f, "{} is not a regular file", path.display()),
            Obstacle::Another { dir, of } => write!(f, "{} holds the files of {of}", dir.display()),
            Obstacle::Form { path, what } => write!(f, "{} is {what}, which is not read", path.display()),
        }
    }
}

/// A data set's own directory, made where there is none.
pub(super) fn home(name: DatasetName, data_dir: &Path) -> PathBuf {
    data_dir.join(name.as_str())
}

/// The directories that may hold the files of a data set, in the order of the search: its own one, existing or not, then
/// what exists of the layouts of torchvision and Kaggle, `data_dir` itself, and Debian's.
pub(super) fn directories(name: DatasetName, data_dir: &Path) -> Vec<PathBuf> {
    let own = home(name, data_dir);
    let mut roots = vec![own.clone()];
    roots.extend(namesakes(name, data_dir));
    roots.push(data_dir.to_owned());
    let torchvision = match name {
        DatasetName::FashionMnist => "FashionMNIST/raw",
        DatasetName::Mnist | DatasetName::Synthetic => "MNIST/raw",
    };
    let mut directories = vec![own];
    for root in roots {
        let below = BELOW.into_iter().chain([torchvision]);
        // Joining an empty path would add a slash.
        let below = below.map(|dir| if dir.is_empty() { root.clone() } else { root.join(dir) });
        for dir in below {
            if dir.is_dir() && !directories.contains(&dir) {
                directories.push(dir);
            }
        }
    }
    if name == DatasetName::FashionMnist {
        directories.push(DEBIAN_FASHION_MNIST.into());
    }
    directories
}

/// Directories with the data set's name in another spelling: `MNIST`, `FashionMNIST`, `fashion_mnist`.
fn namesakes(name: DatasetName, data_dir: &Path) -> Vec<PathBuf> {
    let plain = |name: &str| name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    let wanted = plain(name.as_str());
    let found = names(data_dir).filter(|other| plain(other) == wanted);
    let mut found: Vec<PathBuf> = found.map(|name| data_dir.join(name)).collect();
    found.sort();
    found
}

/// A file of the data set in `dir`, plain before gzipped, with whatever capitals, or within a directory of its name.
pub(super) fn find(dir: &Path, file: &File) -> Result<Option<PathBuf>, Unreadable> {
    let entries = entries(dir, file);
    if let Some(path) = first_regular(&entries)? {
        return Ok(Some(path));
    }
    for folder in &entries {
        if folder.is_dir()
            && let Some(path) = first_regular(&self::entries(folder, file))?
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The name for a file that is put into `dir`: one that no directory stands in the way of, and that [`find`] finds first.
pub(super) fn vacant(dir: &Path, file: &File) -> PathBuf {
    let [plain, dotted, ..] = spellings(file).map(|name| dir.join(name));
    if plain.is_dir() && !dotted.is_dir() { dotted } else { plain }
}

/// Entry of `dir` in the way of a file that was not found there.
pub(super) fn obstacle(dir: &Path, file: &File) -> Option<Obstacle> {
    entries(dir, file).into_iter().find_map(|path| {
        let found = path.symlink_metadata().ok()?;
        if path.is_dir() {
            Some(Obstacle::Directory(path))
        } else if found.is_symlink() && !path.exists() {
            Some(Obstacle::DanglingLink(path))
        } else {
            Some(Obstacle::Special(path))
        }
    })
}

/// A file in `dir` that looks like the data set in a form that is not read.
pub(super) fn other_form(dir: &Path) -> Option<Obstacle> {
    let form = |name: &String| {
        let name = name.to_lowercase();
        let looks_like = ["mnist", "train", "test"].iter().any(|word| name.contains(word));
        OTHER_FORMS.iter().find(|(end, _)| looks_like && name.ends_with(end)).map(|(_, what)| *what)
    };
    let (name, what) = names(dir).filter_map(|name| form(&name).map(|what| (name, what))).min()?;
    Some(Obstacle::Form { path: dir.join(name), what })
}

/// The names that a published file goes by, in the order of preference.
fn spellings(file: &File) -> [String; 4] {
    let (plain, dotted) = (file.stem.to_owned(), file.stem.replace("-idx", ".idx"));
    let (plain_gz, dotted_gz) = (format!("{plain}.gz"), format!("{dotted}.gz"));
    [plain, dotted, plain_gz, dotted_gz]
}

/// Entries of `dir` under the names of a file, of any kind: first as spelled, then with other capitals.
fn entries(dir: &Path, file: &File) -> Vec<PathBuf> {
    let spellings = spellings(file);
    let alike: BTreeSet<(usize, String)> = names(dir)
        .filter_map(|name| {
            let rank = spellings.iter().position(|known| known.eq_ignore_ascii_case(&name))?;
            (spellings[rank] != name).then_some((rank, name))
        })
        .collect();
    let alike = alike.into_iter().map(|(_, name)| name);
    // A directory that cannot be listed may still be searched.
    spellings.iter().cloned().chain(alike).map(|name| dir.join(name)).collect()
}

fn first_regular(paths: &[PathBuf]) -> Result<Option<PathBuf>, Unreadable> {
    for path in paths {
        match std::fs::metadata(path) {
            Ok(found) if found.is_file() => return Ok(Some(path.clone())),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Unreadable { path: path.clone(), error }),
        }
    }
    Ok(None)
}

/// The names in a directory, none where it cannot be listed.
fn names(dir: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().take(MOST_ENTRIES).flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::published::MNIST_FILES;
    use std::fs;

    const IMAGES: &File = &MNIST_FILES[0];

    fn make(root: &Path, paths: &[&str]) {
        for path in paths {
            let path = root.join(path);
            if path.to_string_lossy().ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, b"x").unwrap();
            }
        }
    }

    fn found(paths: &[&str]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), paths);
        let found = find(dir.path(), IMAGES).unwrap()?;
        Some(found.strip_prefix(dir.path()).unwrap().display().to_string())
    }

    #[test]
    fn a_file_is_found_in_every_spelling_beside_and_within_directories_of_its_name() {
        for (paths, want) in [
            (&["train-images-idx3-ubyte"][..], Some("train-images-idx3-ubyte")),
            (&["train-images.idx3-ubyte"], Some("train-images.idx3-ubyte")),
            (&["train-images-idx3-ubyte.gz"], Some("train-images-idx3-ubyte.gz")),
            (&["train-images.idx3-ubyte.gz"], Some("train-images.idx3-ubyte.gz")),
            (&["TRAIN-IMAGES-IDX3-UBYTE.GZ"], Some("TRAIN-IMAGES-IDX3-UBYTE.GZ")),
            (&["Train-Images.idx3-ubyte", "train-images-idx3-ubyte.gz"], Some("train-images-idx3-ubyte.gz")),
            // As Kaggle's archive unpacks.
            (
                &["train-images-idx3-ubyte/train-images-idx3-ubyte", "train-images.idx3-ubyte"],
                Some("train-images.idx3-ubyte"),
            ),
            (
                &["train-images-idx3-ubyte/train-images-idx3-ubyte"],
                Some("train-images-idx3-ubyte/train-images-idx3-ubyte"),
            ),
            (&["train-images-idx3-ubyte/", "train-images-idx3-ubyte.gz"], Some("train-images-idx3-ubyte.gz")),
            (
                &["train-images-idx3-ubyte.gz/train-images.idx3-ubyte"],
                Some("train-images-idx3-ubyte.gz/train-images.idx3-ubyte"),
            ),
            (&["train-images-idx3-ubyte/"], None),
            (&["train-images-idx3-ubyte/t10k-images-idx3-ubyte"], None),
            (&["t10k-images-idx3-ubyte", "train-labels-idx1-ubyte"], None),
        ] {
            assert_eq!(found(paths).as_deref(), want, "{paths:?}");
        }
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(IMAGES.stem);
        assert_eq!(obstacle(dir.path(), IMAGES), None);
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert_eq!(obstacle(dir.path(), IMAGES), Some(Obstacle::DanglingLink(path.clone())));
        fs::remove_file(&path).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(obstacle(dir.path(), IMAGES), Some(Obstacle::Special(path.clone())));
        assert_eq!(find(dir.path(), IMAGES).unwrap(), None, "a socket is not read");
        drop(socket);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(obstacle(dir.path(), IMAGES), Some(Obstacle::Directory(path.clone())));
        assert_eq!(vacant(dir.path(), IMAGES), dir.path().join("train-images.idx3-ubyte"));
        // A link to a file is a file.
        fs::remove_dir(&path).unwrap();
        make(dir.path(), &["elsewhere"]);
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert_eq!(find(dir.path(), IMAGES).unwrap(), Some(path));
    }

    #[test]
    fn other_forms_are_named() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), &["notes.csv", "mnist.md"]);
        assert_eq!(other_form(dir.path()), None);
        make(dir.path(), &["mnist.npz"]);
        assert_eq!(
            other_form(dir.path()).unwrap().to_string().replace(&format!("{}/", dir.path().display()), ""),
            "mnist.npz is a NumPy archive, which is not read"
        );
    }

    #[test]
    fn the_layouts_of_other_programs_are_searched() {
        let dir = tempfile::tempdir().unwrap();
        let search = |name, data_dir: &str| {
            let directories = directories(name, &dir.path().join(data_dir));
            let below = |path: PathBuf| Some(path.strip_prefix(dir.path()).ok()?.display().to_string());
            directories.into_iter().filter_map(below).collect::<Vec<_>>()
        };
        assert_eq!(search(DatasetName::Mnist, "data"), ["data/mnist"]);
        make(dir.path(), &["data/MNIST/raw/", "data/FashionMNIST/raw/", "data/mnist/archive/"]);
        assert_eq!(
            search(DatasetName::Mnist, "data"),
            ["data/mnist", "data/mnist/archive", "data/MNIST", "data/MNIST/raw", "data"]
        );
        assert_eq!(
            search(DatasetName::FashionMnist, "data"),
            ["data/fashion-mnist", "data/FashionMNIST", "data/FashionMNIST/raw", "data"]
        );
        // By the directory of the files, and by that above it.
        assert_eq!(search(DatasetName::Mnist, "data/MNIST/raw"), ["data/MNIST/raw/mnist", "data/MNIST/raw"]);
        assert_eq!(search(DatasetName::Mnist, "data/MNIST"), ["data/MNIST/mnist", "data/MNIST", "data/MNIST/raw"]);
    }
}
