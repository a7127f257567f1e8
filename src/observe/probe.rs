//! The validation images that observers look at again and again, so that pictures of different epochs compare.

use tch::{Device, Tensor};

use crate::data::{Dataset, Split, images_nchw};
use crate::types::ImageShape;

/// A few images of different classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    shape: ImageShape,
    indices: Vec<usize>,
    labels: Vec<usize>,
    pixels: Vec<u8>,
}

impl Probes {
    /// The first validation image of each of `count` classes, spread evenly over all that occur. The same images at
    /// every epoch, whatever the seed.
    pub fn choose(dataset: &Dataset, count: usize) -> Probes {
        let split = &dataset.validation;
        let firsts = first_of_each_class(split, dataset.classes.len());
        let count = count.min(firsts.len());
        let mut probes = Probes { shape: split.shape(), indices: vec![], labels: vec![], pixels: vec![] };
        for i in 0..count {
            let index = firsts[i * firsts.len() / count];
            probes.indices.push(index);
            probes.labels.push(usize::from(split.label(index)));
            probes.pixels.extend_from_slice(split.image(index));
        }
        probes
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

/// Positions by class; classes that do not occur are left out.
fn first_of_each_class(split: &Split, classes: usize) -> Vec<usize> {
    let mut firsts = vec![None; classes];
    let mut missing = classes;
    for index in 0..split.len() {
        if missing == 0 {
            break;
        }
        if let Some(first @ None) = firsts.get_mut(usize::from(split.label(index))) {
            *first = Some(index);
            missing -= 1;
        }
    }
    firsts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(labels: &[u8]) -> Dataset {
        let shape = ImageShape { height: 1, width: 2, channels: 3 };
        let split = |labels: &[u8]| {
            let pixels = (0..labels.len() * shape.len()).map(|i| i as u8).collect();
            Split::new(shape, 4, pixels, labels.to_vec()).unwrap()
        };
        let classes = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        Dataset { name: "test".to_owned(), classes, train: split(&[0]), validation: split(labels) }
    }

    #[test]
    fn the_first_image_of_each_class_is_chosen() {
        let dataset = dataset(&[2, 2, 0, 3, 0, 1]);
        let probes = Probes::choose(&dataset, 10);
        assert_eq!((probes.labels(), probes.indices()), (&[0, 1, 2, 3][..], &[2, 5, 0, 3][..]));
        assert_eq!(probes.images().nth(1).unwrap(), [30, 31, 32, 33, 34, 35]);
        assert_eq!(Probes::choose(&dataset, 2).labels(), [0, 2], "spread over the classes");
        assert!(Probes::choose(&dataset, 0).is_empty());
    }

    #[test]
    fn classes_without_an_image_are_left_out() {
        assert_eq!(Probes::choose(&dataset(&[3, 1]), 10).labels(), [1, 3]);
    }

    #[test]
    fn the_tensor_is_channels_last_and_between_0_and_1() {
        let probes = Probes::choose(&dataset(&[0, 1]), 2);
        let images = probes.images_nchw(Device::Cpu);
        assert_eq!((images.size(), images.stride()), (vec![2, 3, 1, 2], vec![6, 1, 6, 3]));
        assert_eq!(images.double_value(&[1, 2, 0, 1]), f64::from(11.0_f32 / 255.0), "image 1, blue, second pixel");
    }
}
