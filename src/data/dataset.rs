//! Images with labels, as bytes, in a training and a validation split.

use super::mapping::{Changed, Order};
use super::pixels::Pixels;
use crate::types::ImageShape;

impl Dataset {
    /// BLAKE3 of every pixel and label, in hexadecimal digits: data sets of one name may differ.
    pub fn blake3(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for split in [&self.train, &self.validation] {
            split.announce(Order::Rising);
            hasher.update(&(split.len() as u64).to_le_bytes());
            hasher.update(split.pixels());
            // One byte a label, where that is enough: the checksum of data sets of up to 256 classes in older runs.
            match split.labels.iter().map(|&label| u8::try_from(label)).collect::<Result<Vec<u8>, _>>() {
                Ok(bytes) => hasher.update(&bytes),
                Err(_) => {
                    hasher.update(&split.labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<u8>>())
                }
            };
        }
        hasher.finalize().to_hex().to_string()
    }

    /// An error if mapped files have changed since they were loaded; whatever was learned since is then of no use. Data in
    /// memory cannot change.
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
    labels: Vec<u16>,
}

/// Pixels and labels that do not fit together.
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
    Label { index: usize, label: u16, classes: usize },
}

/// Images to learn from and images to validate on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pub name: String,
    /// By label.
    pub classes: Vec<String>,
    pub train: Split,
    pub validation: Split,
}

impl Split {
    /// `pixels` holds one image of `shape` for each label, and every label is below `classes`.
    pub fn new(shape: ImageShape, classes: usize, pixels: Vec<u8>, labels: Vec<u16>) -> Result<Split, SplitError> {
        Split::of(shape, classes, pixels.into(), labels)
    }

    /// As [`Split::new`], wherever the pixels are.
    pub fn of(shape: ImageShape, classes: usize, pixels: Pixels, labels: Vec<u16>) -> Result<Split, SplitError> {
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
    pub(in crate::data) fn drawn(shape: ImageShape, pixels: Vec<u8>, labels: Vec<u16>) -> Split {
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
    /// If `i` is not below [`Split::len`], as indexing does.
    pub fn image(&self, i: usize) -> &[u8] {
        &self.pixels[i * self.shape.len()..][..self.shape.len()]
    }

    /// The class of one image.
    ///
    /// # Panics
    /// If `i` is not below [`Split::len`], as indexing does.
    pub fn label(&self, i: usize) -> u16 {
        self.labels[i]
    }

    /// All images, N x H x W x C.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    pub fn labels(&self) -> &[u16] {
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

    /// Announces the order of the next accesses. Affects only the speed of mapped files.
    pub fn announce(&self, order: Order) {
        self.pixels.announce(order);
    }

    /// Prefetches images of a mapped file.
    pub fn will_need(&self, indices: &[u32]) {
        let len = self.shape.len();
        self.pixels.will_need(indices.iter().map(|&index| index as usize * len..(index as usize + 1) * len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: ImageShape = ImageShape { height: 2, width: 1, channels: 1 };

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
        let refuse = |shape, pixels: usize, labels: &[u16]| {
            Split::new(shape, 3, vec![0; pixels], labels.to_vec()).unwrap_err().to_string()
        };
        assert_eq!(refuse(TINY, 0, &[]), "there are no images");
        assert_eq!(refuse(TINY, 3, &[0, 1]), "got 3 bytes of pixels, want 2 images of 2x1x1");
        assert_eq!(refuse(TINY, 6, &[0, 1, 3]), "image 2 has label 3, outside the 3 classes (0 to 2)");
        assert_eq!(refuse(ImageShape { height: 0, ..TINY }, 0, &[0]), "an image of 0x1x1 has no pixels");
    }

    #[test]
    fn labels_of_many_classes_are_part_of_the_checksum() {
        let dataset = |labels: [u16; 2]| {
            let split = Split::new(TINY, 1000, vec![1, 2, 3, 4], labels.to_vec()).unwrap();
            Dataset { name: String::new(), classes: Vec::new(), train: split.clone(), validation: split }.blake3()
        };
        // Equal in their lower bytes.
        assert_ne!(dataset([256, 1]), dataset([0, 257]));
        assert_ne!(dataset([0, 1]), dataset([256, 1]));
    }
}
