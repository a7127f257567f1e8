//! Images with labels, as bytes, in a training and a validation split.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::data::idx::{self, IdxError};
use crate::data::mapping::{Changed, Order};
use crate::data::pixels::Pixels;
use crate::data::source::{self, LocateError};
use crate::data::synthetic;
use crate::exit::{Classify, Exit};
use crate::types::{ImageShape, Seed};

/// A data set that the program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DatasetName {
    /// Handwritten digits, 28x28x1, 60,000 and 10,000 images.
    Mnist,
    /// Zalando's articles, in MNIST's form.
    FashionMnist,
    /// Shapes drawn by the program; needs no files.
    Synthetic,
}

/// A text that names no data set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown dataset `{text}`; known are {}{}", known(), suggestion(self.near()))]
pub struct UnknownDataset {
    pub text: String,
}

impl Dataset {
    /// The checksum of every pixel and label, in hexadecimal digits: what two data sets of one name may differ in.
    pub fn blake3(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for split in [&self.train, &self.validation] {
            split.announce(Order::Rising);
            hasher.update(&(split.len() as u64).to_le_bytes());
            hasher.update(split.pixels());
            hasher.update(split.labels());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Whether the data are still what they were when they were loaded. Those that are in memory are; those that are left
    /// in their files may have been written to, and what was learned since is then of no use.
    pub fn check(&self) -> Result<(), Changed> {
        self.train.pixels.check()?;
        self.validation.pixels.check()
    }
}

/// Images of one shape with their labels.
///
/// Pixels are bytes in the layout N x H x W x C, so an image is one contiguous slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    shape: ImageShape,
    pixels: Pixels,
    labels: Vec<u8>,
}

/// Why pixels and labels are no split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("there are no images")]
    Empty,
    #[error("an image of {0} has no pixels")]
    NoPixels(ImageShape),
    #[error("got {got} images, want at most 4294967295")]
    TooMany { got: usize },
    #[error("got {got} bytes of pixels, want {images} images of {shape}")]
    PixelCount { got: usize, images: usize, shape: ImageShape },
    #[error("image {index} has label {label}, outside the {classes} classes (0 to {})", classes.saturating_sub(1))]
    Label { index: usize, label: u8, classes: usize },
}

/// What a network learns from, and what it is tested on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pub name: String,
    /// By label.
    pub classes: Vec<String>,
    pub train: Split,
    pub validation: Split,
}

/// Why a data set cannot be used.
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

impl DatasetName {
    pub const ALL: [DatasetName; 3] = [DatasetName::Mnist, DatasetName::FashionMnist, DatasetName::Synthetic];

    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            DatasetName::Mnist => "mnist",
            DatasetName::FashionMnist => "fashion-mnist",
            DatasetName::Synthetic => "synthetic",
        }
    }

    /// The names of the classes, by label.
    pub fn classes(self) -> [&'static str; 10] {
        match self {
            DatasetName::Mnist => ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            DatasetName::FashionMnist => [
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ],
            DatasetName::Synthetic => synthetic::CLASSES,
        }
    }

    /// Height, width and channels of each image.
    pub fn shape(self) -> ImageShape {
        ImageShape { height: 28, width: 28, channels: 1 }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DatasetName {
    type Err = UnknownDataset;

    fn from_str(text: &str) -> Result<DatasetName, UnknownDataset> {
        DatasetName::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| UnknownDataset { text: text.to_owned() })
    }
}

impl UnknownDataset {
    /// The data set that was probably meant, when one name is near enough.
    pub fn near(&self) -> Option<DatasetName> {
        let typed = self.text.to_lowercase().replace(['_', ' '], "-");
        DatasetName::ALL
            .into_iter()
            .map(|name| (strsim::jaro_winkler(&typed, name.as_str()), name))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness > 0.75)
            .map(|(_, name)| name)
    }
}

impl Classify for UnknownDataset {
    fn exit(&self) -> Exit {
        Exit::Config
    }
}

impl Split {
    /// `pixels` holds one image of `shape` for each label, and every label is below `classes`.
    pub fn new(shape: ImageShape, classes: usize, pixels: Vec<u8>, labels: Vec<u8>) -> Result<Split, SplitError> {
        Split::of(shape, classes, pixels.into(), labels)
    }

    /// As [`Split::new`], wherever the pixels are.
    pub fn of(shape: ImageShape, classes: usize, pixels: Pixels, labels: Vec<u8>) -> Result<Split, SplitError> {
        if shape.is_empty() {
            return Err(SplitError::NoPixels(shape));
        }
        if labels.is_empty() {
            return Err(SplitError::Empty);
        }
        // The order of an epoch is a permutation in u32.
        if u32::try_from(labels.len()).is_err() {
            return Err(SplitError::TooMany { got: labels.len() });
        }
        if labels.len().checked_mul(shape.len()) != Some(pixels.len()) {
            return Err(SplitError::PixelCount { got: pixels.len(), images: labels.len(), shape });
        }
        if let Some((index, label)) = labels.iter().enumerate().find(|(_, label)| usize::from(**label) >= classes) {
            return Err(SplitError::Label { index, label: *label, classes });
        }
        Ok(Split { shape, pixels, labels })
    }

    /// A split whose parts fit by construction.
    pub(in crate::data) fn drawn(shape: ImageShape, pixels: Vec<u8>, labels: Vec<u8>) -> Split {
        debug_assert_eq!(pixels.len(), labels.len() * shape.len());
        Split { shape, pixels: pixels.into(), labels }
    }

    /// Images in the split, at most `u32::MAX`.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Only true of a split that was limited to nothing.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// The bytes of one image, H x W x C.
    ///
    /// # Panics
    /// When `i` is not below [`Split::len`], as indexing does.
    pub fn image(&self, i: usize) -> &[u8] {
        &self.pixels[i * self.shape.len()..][..self.shape.len()]
    }

    /// The class of one image.
    ///
    /// # Panics
    /// When `i` is not below [`Split::len`], as indexing does.
    pub fn label(&self, i: usize) -> u8 {
        self.labels[i]
    }

    /// All images, N x H x W x C.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The first `n` images, or all when there are fewer; the memory of the rest is given back.
    pub fn limited(mut self, n: usize) -> Split {
        if n < self.len() {
            self.labels.truncate(n);
            self.labels.shrink_to_fit();
            self.pixels.truncate(n * self.shape.len());
        }
        self
    }

    /// Says in which order images will be looked at. It matters for speed alone, and only where they are not in memory.
    pub fn announce(&self, order: Order) {
        self.pixels.announce(order);
    }

    /// Says that these images are looked at soon, so that they may come from the disk meanwhile.
    pub fn will_need(&self, indices: &[u32]) {
        let len = self.shape.len();
        self.pixels.will_need(indices.iter().map(|&index| index as usize * len..(index as usize + 1) * len));
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
        classes: name.classes().map(str::to_owned).to_vec(),
        train: read_split(name, data_dir, &files.train_images, &files.train_labels)?,
        validation: read_split(name, data_dir, &files.validation_images, &files.validation_labels)?,
    })
}

fn read_split(name: DatasetName, data_dir: &Path, images_path: &Path, labels_path: &Path) -> Result<Split, LoadError> {
    let shape = name.shape();
    let data_dir = data_dir.to_owned();
    let idx = |error| LoadError::Idx { name, data_dir: data_dir.clone(), error };
    // Labels first: they are small, and a mix-up is found before the images take their memory.
    let labels = idx::read_labels(labels_path).map_err(idx)?;
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

fn known() -> String {
    DatasetName::ALL.map(|name| format!("`{name}`")).join(", ")
}

fn suggestion(near: Option<DatasetName>) -> String {
    near.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::idx::{encode, gzip};
    use crate::data::source::MNIST_FILES;

    const TINY: ImageShape = ImageShape { height: 2, width: 1, channels: 1 };

    #[test]
    fn names_read_back_as_they_are_shown() {
        for name in DatasetName::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }

    #[test]
    fn a_typo_is_answered_with_what_was_meant() {
        let refuse = |text: &str| text.parse::<DatasetName>().unwrap_err().to_string();
        let known = "known are `mnist`, `fashion-mnist`, `synthetic`";
        assert_eq!(refuse("minst"), format!("unknown dataset `minst`; {known}; did you mean `mnist`?"));
        assert_eq!(refuse("MNIST"), format!("unknown dataset `MNIST`; {known}; did you mean `mnist`?"));
        assert_eq!(
            refuse("fashion_mnist"),
            format!("unknown dataset `fashion_mnist`; {known}; did you mean `fashion-mnist`?")
        );
        assert_eq!(refuse("sintetic"), format!("unknown dataset `sintetic`; {known}; did you mean `synthetic`?"));
        assert_eq!(refuse("cifar10"), format!("unknown dataset `cifar10`; {known}"));
        assert_eq!(refuse(""), format!("unknown dataset ``; {known}"));
    }

    #[test]
    fn a_split_gives_what_went_in() {
        let split = Split::new(TINY, 3, vec![1, 2, 3, 4, 5, 6], vec![0, 2, 1]).unwrap();
        assert_eq!((split.len(), split.shape()), (3, TINY));
        assert_eq!((split.image(1), split.label(1)), (&[3, 4][..], 2));
        let two = split.clone().limited(2);
        assert_eq!((two.pixels(), two.labels()), (&[1, 2, 3, 4][..], &[0, 2][..]));
        assert_eq!(split.clone().limited(9), split);
        assert!(split.limited(0).is_empty());
    }

    #[test]
    fn a_split_refuses_what_does_not_fit() {
        let refuse = |shape, pixels: usize, labels: &[u8]| {
            Split::new(shape, 3, vec![0; pixels], labels.to_vec()).unwrap_err().to_string()
        };
        assert_eq!(refuse(TINY, 0, &[]), "there are no images");
        assert_eq!(refuse(TINY, 3, &[0, 1]), "got 3 bytes of pixels, want 2 images of 2x1x1");
        assert_eq!(refuse(TINY, 6, &[0, 1, 3]), "image 2 has label 3, outside the 3 classes (0 to 2)");
        assert_eq!(refuse(ImageShape { height: 0, ..TINY }, 0, &[0]), "an image of 0x1x1 has no pixels");
    }

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
