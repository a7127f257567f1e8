//! The validation images that observers look at again and again, so that pictures of different epochs compare.

use std::ops::Range;

use tch::{Device, Tensor};

use crate::data::{Dataset, Split, images_nchw};
use crate::rng::{Purpose, Stream};
use crate::types::{ImageShape, Seed};

/// A few images of different classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    shape: ImageShape,
    indices: Vec<usize>,
    labels: Vec<usize>,
    pixels: Vec<u8>,
}

impl Probes {
    /// A validation image of each of `count` classes, spread evenly over all that occur; more than one of a class where
    /// there are fewer classes. Which images, `seed` decides alone: the same ones at every epoch, and in every run over
    /// these data.
    pub fn choose(dataset: &Dataset, count: usize, seed: Seed) -> Probes {
        let split = &dataset.validation;
        Probes::gather(split, spread(&by_class(split, dataset.classes.len(), seed), count))
    }

    /// Up to `count` validation images, one of each class in turn, so that fewer of them are the first of more.
    pub fn interleaved(dataset: &Dataset, count: usize, seed: Seed) -> Probes {
        let split = &dataset.validation;
        let by_class = by_class(split, dataset.classes.len(), seed);
        let deepest = by_class.iter().map(Vec::len).max().unwrap_or(0);
        let rounds = (0..deepest).flat_map(|round| by_class.iter().filter_map(move |class| class.get(round)));
        Probes::gather(split, rounds.take(count).copied())
    }

    fn gather(split: &Split, indices: impl IntoIterator<Item = usize>) -> Probes {
        let mut probes = Probes { shape: split.shape(), indices: vec![], labels: vec![], pixels: vec![] };
        for index in indices {
            probes.indices.push(index);
            probes.labels.push(usize::from(split.label(index)));
            probes.pixels.extend_from_slice(split.image(index));
        }
        probes
    }

    /// The first `count` of them, or all.
    pub fn first(&self, count: usize) -> Probes {
        self.range(0..count)
    }

    /// Those at these positions, as far as there are any.
    pub fn range(&self, range: Range<usize>) -> Probes {
        let (start, end) = (range.start.min(self.len()), range.end.min(self.len()));
        Probes {
            shape: self.shape,
            indices: self.indices[start..end].to_vec(),
            labels: self.labels[start..end].to_vec(),
            pixels: self.pixels[start * self.shape.len()..end * self.shape.len()].to_vec(),
        }
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Positions in the validation split.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The bytes of each image, `H x W x C`.
    pub fn images(&self) -> impl Iterator<Item = &[u8]> {
        self.pixels.chunks_exact(self.shape.len().max(1))
    }

    /// `N x C x H x W`, 0 to 1, channels last in memory.
    pub fn images_nchw(&self, device: Device) -> Tensor {
        images_nchw(&self.pixels, self.len(), self.shape, device)
    }
}

/// Positions by class, those of a class in an order of chance; classes that do not occur are left out.
fn by_class(split: &Split, classes: usize, seed: Seed) -> Vec<Vec<usize>> {
    let mut by_class = vec![Vec::new(); classes];
    for index in Stream::new(seed, Purpose::Probes, 0, 0).permutation(split.len()) {
        let index = index as usize;
        if let Some(class) = by_class.get_mut(usize::from(split.label(index))) {
            class.push(index);
        }
    }
    by_class.retain(|class| !class.is_empty());
    by_class
}

/// `count` positions, or all there are, as many from each class as can be, in the order of the classes.
fn spread(by_class: &[Vec<usize>], count: usize) -> Vec<usize> {
    let classes = by_class.len();
    let mut chosen: Vec<(usize, usize)> = Vec::new();
    for round in 0.. {
        let wanted = count - chosen.len();
        let left: Vec<usize> = (0..classes).filter(|&class| by_class[class].len() > round).collect();
        if wanted == 0 || left.is_empty() {
            break;
        }
        let taken = wanted.min(left.len());
        chosen.extend((0..taken).map(|i| left[i * left.len() / taken]).map(|class| (class, by_class[class][round])));
    }
    chosen.sort_by_key(|&(class, _)| class);
    chosen.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(labels: &[u16]) -> Dataset {
        let shape = ImageShape { height: 1, width: 2, channels: 3 };
        let split = |labels: &[u16]| {
            let pixels = (0..labels.len() * shape.len()).map(|i| i as u8).collect();
            Split::new(shape, 4, pixels, labels.to_vec()).unwrap()
        };
        let classes = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        Dataset { name: "test".to_owned(), classes, train: split(&[0]), validation: split(labels) }
    }

    #[test]
    fn an_image_of_each_class_is_chosen_and_the_seed_says_which() {
        let labels: Vec<u16> = (0..40).map(|i| i % 4).collect();
        let dataset = dataset(&labels);
        let probes = Probes::choose(&dataset, 4, Seed(1));
        assert_eq!(probes.labels(), [0, 1, 2, 3]);
        for (&index, (image, &label)) in probes.indices().iter().zip(probes.images().zip(probes.labels())) {
            assert_eq!(usize::from(labels[index]), label);
            assert_eq!(image[0], (index * 6) as u8);
        }
        assert_eq!(Probes::choose(&dataset, 4, Seed(1)), probes);
        assert_ne!(Probes::choose(&dataset, 4, Seed(2)), probes);
        assert_eq!(Probes::choose(&dataset, 2, Seed(1)).labels(), [0, 2], "spread over the classes");
        assert_eq!(
            Probes::choose(&dataset, 6, Seed(1)).labels(),
            [0, 0, 1, 2, 2, 3],
            "again from the classes' beginning"
        );
        assert!(Probes::choose(&dataset, 0, Seed(1)).is_empty());
    }

    #[test]
    fn classes_without_an_image_are_left_out() {
        assert_eq!(Probes::choose(&dataset(&[3, 1]), 10, Seed(0)).labels(), [1, 3]);
    }

    #[test]
    fn a_sample_takes_one_of_each_class_in_turn() {
        let dataset = dataset(&[0, 0, 0, 0, 1, 1, 3]);
        let sample = Probes::interleaved(&dataset, 100, Seed(1));
        assert_eq!(sample.labels(), [0, 1, 3, 0, 1, 0, 0]);
        assert_eq!(Probes::interleaved(&dataset, 4, Seed(1)), sample.first(4));
        assert_eq!(sample.first(3), Probes::choose(&dataset, 3, Seed(1)), "the probes of other pictures");
        assert_eq!(sample.first(99), sample);
    }

    #[test]
    fn the_tensor_is_channels_last_and_between_0_and_1() {
        let probes = Probes::choose(&dataset(&[0, 1]), 2, Seed(0));
        let images = probes.images_nchw(Device::Cpu);
        assert_eq!((images.size(), images.stride()), (vec![2, 3, 1, 2], vec![6, 1, 6, 3]));
        assert_eq!(images.double_value(&[1, 2, 0, 1]), f64::from(11.0_f32 / 255.0), "image 1, blue, second pixel");
    }
}
