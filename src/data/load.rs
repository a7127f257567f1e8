//! Loading of a data set by its name.

use std::path::{Path, PathBuf};

use super::dataset::{Dataset, Split, SplitError};
use super::idx::{self, IdxError};
use super::name::DatasetName;
use super::source::{self, LocateError};
use super::synthetic;
use crate::exit::{Classify, Exit};
use crate::types::{ImageShape, Seed};

/// Error in loading a data set.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Locate(#[from] LocateError),
    #[error("{error}; {}", advice(*name, data_dir))]
    Idx { name: DatasetName, data_dir: PathBuf, error: IdxError },
    #[error(
        "{} and {} do not belong together: got {labels} labels, want one for each of {images} images; {}",
        images_path.display(), labels_path.display(), advice(*name, data_dir)
    )]
    CountMismatch {
        name: DatasetName,
        data_dir: PathBuf,
        images_path: PathBuf,
        labels_path: PathBuf,
        images: usize,
        labels: usize,
    },
    #[error("{}: images are {height}x{width}, want {want} for {name}; {}", path.display(), advice(*name, data_dir))]
    ImageSize { name: DatasetName, data_dir: PathBuf, path: PathBuf, height: usize, width: usize, want: ImageShape },
    #[error("{}: {error}; {}", path.display(), advice(*name, data_dir))]
    Split { name: DatasetName, data_dir: PathBuf, path: PathBuf, error: SplitError },
}

impl Classify for LoadError {
    fn exit(&self) -> Exit {
        match self {
            LoadError::Locate(error) => error.exit(),
            LoadError::Idx { error, .. } => error.exit(),
            LoadError::CountMismatch { .. } | LoadError::ImageSize { .. } | LoadError::Split { .. } => Exit::Data,
        }
    }
}

/// Reads a data set from `<data_dir>/<name>` or where the system installs it; draws the synthetic one from the seed.
pub fn load(name: DatasetName, data_dir: &Path, seed: Seed) -> Result<Dataset, LoadError> {
    if name == DatasetName::Synthetic {
        return Ok(synthetic::dataset(seed));
    }
    let files = source::locate(name, data_dir)?;
    Ok(Dataset {
        name: name.to_string(),
        classes: name.classes().iter().map(|&class| class.to_owned()).collect(),
        train: read_split(name, data_dir, &files.train_images, &files.train_labels)?,
        validation: read_split(name, data_dir, &files.validation_images, &files.validation_labels)?,
    })
}

fn read_split(name: DatasetName, data_dir: &Path, images_path: &Path, labels_path: &Path) -> Result<Split, LoadError> {
    let shape = name.shape();
    let data_dir = data_dir.to_owned();
    let idx = |error| LoadError::Idx { name, data_dir: data_dir.clone(), error };
    // Labels first: they are small, and a mix-up is found before the images take their memory.
    let labels: Vec<u16> = idx::read_labels(labels_path).map_err(idx)?.into_iter().map(u16::from).collect();
    let images = idx::read_images(images_path).map_err(idx)?;
    if (images.height, images.width) != (shape.height, shape.width) {
        let (path, height, width) = (images_path.to_owned(), images.height, images.width);
        return Err(LoadError::ImageSize { name, data_dir, path, height, width, want: shape });
    }
    if images.count != labels.len() {
        return Err(LoadError::CountMismatch {
            name,
            data_dir,
            images_path: images_path.to_owned(),
            labels_path: labels_path.to_owned(),
            images: images.count,
            labels: labels.len(),
        });
    }
    Split::of(shape, name.classes().len(), images.pixels, labels).map_err(|error| LoadError::Split {
        name,
        data_dir,
        path: labels_path.to_owned(),
        error,
    })
}

fn advice(name: DatasetName, data_dir: &Path) -> String {
    let command = |what| source::command(what, name, data_dir);
    format!("see which files are sound with `{}`, replace the others with `{}`", command("verify"), command("fetch"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::idx::{encode, gzip};
    use crate::data::published::MNIST_FILES;

    /// A data directory with a small MNIST in it: 3 training and 2 validation images.
    fn mnist() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("mnist")).unwrap();
        for (stem, bytes) in [
            ("train-images-idx3-ubyte", encode(&[3, 28, 28], &[7; 3 * 784])),
            ("train-labels-idx1-ubyte", encode(&[3], &[9, 0, 4])),
            ("t10k-images-idx3-ubyte", encode(&[2, 28, 28], &[8; 2 * 784])),
            ("t10k-labels-idx1-ubyte", encode(&[2], &[1, 2])),
        ] {
            std::fs::write(dir.path().join("mnist").join(stem), bytes).unwrap();
        }
        dir
    }

    fn write(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) {
        std::fs::write(dir.path().join("mnist").join(name), bytes).unwrap();
    }

    fn refusal(dir: &tempfile::TempDir) -> (String, Exit) {
        let error = load(DatasetName::Mnist, dir.path(), Seed(0)).unwrap_err();
        let text = error.to_string().replace(&format!("{}/", dir.path().display()), "");
        (text.replace(&dir.path().display().to_string(), "elsewhere"), error.exit())
    }

    #[test]
    fn mnist_is_read_in_any_spelling() {
        let dir = mnist();
        let want = load(DatasetName::Mnist, dir.path(), Seed(0)).unwrap();
        assert_eq!((want.name.as_str(), want.classes.len()), ("mnist", 10));
        assert_eq!((want.train.len(), want.validation.len()), (3, 2));
        assert_eq!((want.train.labels(), want.validation.image(1)[783]), (&[9, 0, 4][..], 8));

        let mnist = dir.path().join("mnist");
        for file in &MNIST_FILES {
            let bytes = std::fs::read(mnist.join(file.stem)).unwrap();
            std::fs::remove_file(mnist.join(file.stem)).unwrap();
            write(&dir, &format!("{}.gz", file.stem.replace("-idx", ".idx")), &gzip(&bytes));
        }
        assert_eq!(load(DatasetName::Mnist, dir.path(), Seed(0)).unwrap(), want);
    }

    #[test]
    fn files_that_do_not_fit_together_are_refused() {
        let advice = "; see which files are sound with `trainer data verify mnist --data-dir elsewhere`, replace the others \
                      with `trainer data fetch mnist --data-dir elsewhere`";
        let cases: [(&str, Vec<u8>, &str); 5] = [
            (
                "train-images-idx3-ubyte",
                encode(&[3], &[1, 2, 3]),
                "mnist/train-images-idx3-ubyte: wrong number of dimensions for images: got 1, want 3; this looks like \
                 a label file",
            ),
            (
                "t10k-labels-idx1-ubyte",
                encode(&[3], &[1, 2, 3]),
                "mnist/t10k-images-idx3-ubyte and mnist/t10k-labels-idx1-ubyte do not belong together: got 3 labels, \
                 want one for each of 2 images",
            ),
            (
                "train-labels-idx1-ubyte",
                encode(&[3], &[1, 10, 3]),
                "mnist/train-labels-idx1-ubyte: image 1 has label 10, outside the 10 classes (0 to 9)",
            ),
            (
                "t10k-images-idx3-ubyte",
                encode(&[2, 32, 32], &[0; 2048]),
                "mnist/t10k-images-idx3-ubyte: images are 32x32, want 28x28x1 for mnist",
            ),
            (
                "train-images-idx3-ubyte",
                encode(&[3, 28, 28], &[0; 3 * 784 - 1]),
                "mnist/train-images-idx3-ubyte: cut off: got 2351 bytes of values, want 2352 for 3x28x28",
            ),
        ];
        for (name, bytes, want) in cases {
            let dir = mnist();
            write(&dir, name, &bytes);
            assert_eq!(refusal(&dir), (format!("{want}{advice}"), Exit::Data));
        }
    }

    #[test]
    fn the_drawn_set_needs_no_directory() {
        let dataset = load(DatasetName::Synthetic, Path::new("/nonexistent"), Seed(0)).unwrap();
        assert_eq!(dataset.classes, DatasetName::Synthetic.classes());
    }
}
