//! Bytes to batches: the order of an epoch, and tensors of a few samples.

use tch::{Device, Kind, Tensor};

use super::dataset::Split;
use crate::rng::{Purpose, Stream};
use crate::types::{ImageShape, Seed, unit};

/// A few samples on a device.
pub struct Batch {
    /// `N x C x H x W`, `f32` in \[0, 1\], channels-last strides.
    pub images_nchw: Tensor,
    /// `N`, `i64`, each below the number of classes.
    pub labels_n: Tensor,
}

impl Batch {
    /// The samples of `split` at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not below `split.len()`: a bug in the caller.
    pub fn gather(split: &Split, indices: &[u32], device: Device) -> Batch {
        if device.is_cuda() {
            return Batch::sent(split, indices, device);
        }
        let shape = split.shape();
        let mut values = Vec::with_capacity(indices.len() * shape.len());
        let mut labels = Vec::with_capacity(indices.len());
        for &index in indices {
            let index = index as usize;
            values.extend(split.image(index).iter().map(|&byte| unit(byte)));
            labels.push(i64::from(split.label(index)));
        }
        let images_nchw = channels_last(&Tensor::from_slice(&values), indices.len(), shape).to_device(device);
        Batch { images_nchw, labels_n: Tensor::from_slice(&labels).to_device(device) }
    }

    /// The same samples to the bit, where a copy costs more than arithmetic: bytes cross over, a quarter of what floats would
    /// be, and the device makes numbers of them.
    fn sent(split: &Split, indices: &[u32], device: Device) -> Batch {
        let shape = split.shape();
        let mut pixels = Vec::with_capacity(indices.len() * shape.len());
        let mut labels = Vec::with_capacity(indices.len());
        for &index in indices {
            pixels.extend_from_slice(split.image(index as usize));
            labels.push(i64::from(split.label(index as usize)));
        }
        // A tensor, since by a plain number CUDA does not divide: it multiplies by what is nearly its inverse.
        let white = Tensor::full([1], 255.0, (Kind::Float, device));
        let values = send(&Tensor::from_slice(&pixels), device).to_kind(Kind::Float) / white;
        let labels_n = send(&Tensor::from_slice(&labels), device);
        Batch { images_nchw: channels_last(&values, indices.len(), shape), labels_n }
    }

    pub fn len(&self) -> usize {
        self.labels_n.numel()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The order in which an epoch visits `len` samples: a permutation that is a function of `seed` and `epoch` alone.
pub fn order(seed: Seed, epoch: u64, len: usize) -> Vec<u32> {
    Stream::new(seed, Purpose::Order, epoch, 0).permutation(len)
}

/// Images of `shape` from bytes, rows from the top and channels together: `N x C x H x W`, `f32` in \[0, 1\].
pub fn images_nchw(pixels: &[u8], count: usize, shape: ImageShape, device: Device) -> Tensor {
    let values: Vec<f32> = pixels.iter().map(|&byte| unit(byte)).collect();
    channels_last(&Tensor::from_slice(&values), count, shape).to_device(device)
}

/// A tensor on a device, or on its way to it: CUDA reads pinned memory by itself while this thread goes on, and libtorch keeps
/// the memory until then.
fn send(here: &Tensor, device: Device) -> Tensor {
    // Not `pin_memory`, which prints that it is not to be told the device, and is told it by tch.
    let pinned = if device.is_cuda() { here.internal_pin_memory(device) } else { here.shallow_clone() };
    pinned.to_device_(device, here.kind(), true, false)
}

/// A view of values in N, H, W, C order. With one channel, `permute` and `contiguous` would call these strides equal to
/// NCHW's and convolutions would take the slow path, so they are set outright.
fn channels_last(values: &Tensor, count: usize, shape: ImageShape) -> Tensor {
    debug_assert_eq!(values.kind(), Kind::Float);
    let [n, h, w, c] = [count, shape.height, shape.width, shape.channels].map(|d| d as i64);
    values.as_strided([n, c, h, w], [h * w * c, 1, w * c, c], 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(count: usize, shape: ImageShape) -> Split {
        let pixels = (0..count * shape.len()).map(|i| (i % 251) as u8).collect();
        let labels = (0..count).map(|i| (i % 10) as u16).collect();
        Split::new(shape, 10, pixels, labels).unwrap()
    }

    #[test]
    fn a_batch_is_channels_last_in_the_unit_interval() {
        for channels in [1, 3] {
            let shape = ImageShape { height: 4, width: 5, channels };
            let split = split(6, shape);
            let batch = Batch::gather(&split, &[5, 0], Device::Cpu);
            let (h, w, c) = (4, 5, channels as i64);
            assert_eq!(batch.images_nchw.size(), [2, c, h, w]);
            assert_eq!(batch.images_nchw.stride(), [h * w * c, 1, w * c, c]);
            let first = batch.images_nchw.double_value(&[0, c - 1, 1, 2]);
            let byte = split.image(5)[(5 + 2) * channels + channels - 1];
            assert_eq!(first as f32, f32::from(byte) / 255.0);
            assert_eq!(batch.labels_n.int64_value(&[0]), 5);
        }
    }

    #[test]
    fn what_is_sent_as_bytes_is_the_same_to_the_bit() {
        for channels in [1, 3] {
            // Every byte there is.
            let shape = ImageShape { height: 16, width: 16, channels };
            let pixels = (0..3 * shape.len()).map(|i| (i % 256) as u8).collect();
            let split = Split::new(shape, 10, pixels, vec![9, 0, 4]).unwrap();
            let want = Batch::gather(&split, &[2, 0], Device::Cpu);
            let mut devices = vec![Device::Cpu];
            devices.extend(tch::Cuda::is_available().then_some(Device::Cuda(0)));
            for device in devices {
                let sent = Batch::sent(&split, &[2, 0], device);
                assert_eq!(sent.images_nchw.stride(), want.images_nchw.stride());
                assert_eq!(sent.images_nchw.to_device(Device::Cpu), want.images_nchw, "{device:?}");
                assert_eq!(sent.labels_n.to_device(Device::Cpu), want.labels_n);
                assert_eq!(sent.labels_n.kind(), Kind::Int64);
            }
        }
    }

    #[test]
    fn order_depends_on_seed_and_epoch_alone() {
        let (a, b) = (order(Seed(1), 0, 100), order(Seed(1), 0, 100));
        assert_eq!(a, b);
        assert_ne!(a, order(Seed(1), 1, 100));
        assert_ne!(a, order(Seed(2), 0, 100));
        let mut sorted = a;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<u32>>());
    }
}
