//! The weights of a network: one flat buffer, each layer's kernel and bias a view of it.
//!
//! With one buffer, zeroing, the optimizer's update, norms and saving are one operation each.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::layer::{LayerKind, Shape};
use super::network::Network;
use crate::rng::{Purpose, Stream};
use crate::types::Seed;

/// Views start at multiples of this many floats, a cache line.
const ALIGNMENT: usize = 16;

/// One parameter tensor of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// The layer it belongs to.
    pub layer: String,
    /// Keras's word: `kernel` or `bias`.
    pub role: &'static str,
    /// PyTorch's shape: `O x I x H x W` for convolutions, `O x I` for dense layers, `O` for biases.
    pub shape: Vec<i64>,
    fan_in: usize,
    fan_out: usize,
}

impl ParameterSpec {
    pub(crate) fn of_layer(layer: &str, kind: LayerKind, input: Shape) -> Vec<ParameterSpec> {
        let (shape, fan_in, fan_out) = match (kind, input) {
            (LayerKind::Conv2d { filters, kernel }, Shape::Image(s)) => {
                let shape = vec![filters as i64, s.channels as i64, kernel as i64, kernel as i64];
                (shape, s.channels * kernel * kernel, filters * kernel * kernel)
            }
            (LayerKind::Dense { units, .. }, _) => (vec![units as i64, input.len() as i64], input.len(), units),
            _ => return Vec::new(),
        };
        let out = shape[0];
        let spec = |role, shape| ParameterSpec { layer: layer.to_owned(), role, shape, fan_in, fan_out };
        vec![spec("kernel", shape), spec("bias", vec![out])]
    }

    /// The name in TensorBoard, as Keras writes it: `conv2d/kernel`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.layer, self.role)
    }

    /// The name in a weights file, as PyTorch's `state_dict` has it: `conv2d.weight`.
    pub fn state_name(&self) -> String {
        let role = if self.role == "kernel" { "weight" } else { self.role };
        format!("{}.{role}", self.layer)
    }

    pub fn len(&self) -> usize {
        self.shape.iter().map(|&d| d as usize).product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Strides of the view: channels last for convolution kernels, which oneDNN runs faster on a CPU.
    fn strides(&self) -> Vec<i64> {
        match self.shape[..] {
            [_, i, h, w] => vec![i * h * w, 1, w * i, i],
            [_, i] => vec![i, 1],
            _ => vec![1],
        }
    }
}

/// The weights of one network on one device.
#[derive(Debug)]
pub struct Parameters {
    flat: Tensor,
    views: Vec<Tensor>,
    specs: Vec<ParameterSpec>,
}

impl Parameters {
    /// Glorot-uniform kernels (Glorot and Bengio 2010: limit `sqrt(6 / (fan_in + fan_out))`) and zero biases, Keras's
    /// defaults. A function of `seed` alone: neither device nor thread count changes a bit.
    pub fn initialise(network: &Network, seed: Seed, device: Device) -> Parameters {
        let specs = network.parameters();
        let mut host = vec![0.0_f32; flat_len(specs)];
        for (index, (spec, offset)) in specs.iter().zip(offsets(specs)).enumerate() {
            if spec.role == "kernel" {
                let limit = (6.0 / (spec.fan_in + spec.fan_out) as f64).sqrt() as f32;
                let mut stream = Stream::new(seed, Purpose::Initialise, 0, index as u64);
                for value in &mut host[offset..offset + spec.len()] {
                    *value = stream.uniform(-limit, limit);
                }
            }
        }
        let flat = Tensor::from_slice(&host).to_device(device);
        let views = views_of(&flat, specs);
        Parameters { flat, views, specs: specs.to_vec() }
    }

    /// Another handle of the same weights, for another thread to read.
    pub(crate) fn handle(&self) -> Parameters {
        let views = self.views.iter().map(Tensor::shallow_clone).collect();
        Parameters { flat: self.flat.shallow_clone(), views, specs: self.specs.clone() }
    }

    /// The same values in a buffer of their own.
    #[must_use]
    pub fn copied(&self) -> Parameters {
        let flat = self.flat.copy();
        let views = views_of(&flat, &self.specs);
        Parameters { flat, views, specs: self.specs.clone() }
    }

    /// The buffer behind all views: `f32`, one axis, views aligned, gaps always zero.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// The same, to be changed.
    pub(crate) fn flat_mut(&mut self) -> &mut Tensor {
        &mut self.flat
    }

    /// One view for each [`ParameterSpec`], in the network's order. None requires a gradient.
    pub fn views(&self) -> &[Tensor] {
        &self.views
    }

    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    pub fn device(&self) -> Device {
        self.flat.device()
    }

    /// Each parameter with its values on the host, in the order of its logical shape.
    pub fn host(&self) -> impl Iterator<Item = (&ParameterSpec, Vec<f32>)> {
        self.specs.iter().zip(&self.views).map(|(spec, view)| (spec, host_values(view)))
    }

    /// Leaves that share this buffer and require gradients, for one shard's backward pass.
    pub(crate) fn leaves(&self) -> Vec<Tensor> {
        self.views.iter().map(|view| view.detach().set_requires_grad(true)).collect()
    }

    /// Where the values of each parameter lie in [`Parameters::flat`], and in any buffer that is laid out like it.
    pub(crate) fn ranges(&self) -> Vec<Range<usize>> {
        ranges(&self.specs)
    }

    /// Views of another buffer that is laid out like this one, such as a gradient: one for each [`ParameterSpec`].
    pub fn views_of(&self, flat: &Tensor) -> Vec<Tensor> {
        views_of(flat, &self.specs)
    }
}

/// A tensor's values on the host, in the order of its logical shape, whatever its strides and device.
pub(crate) fn host_values(tensor: &Tensor) -> Vec<f32> {
    let dense = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut out = vec![0.0; dense.numel()];
    dense.copy_data(&mut out, dense.numel());
    out
}

fn padded(len: usize) -> usize {
    len.div_ceil(ALIGNMENT) * ALIGNMENT
}

/// Values of a flat buffer, gaps among them.
pub(super) fn flat_len(specs: &[ParameterSpec]) -> usize {
    specs.iter().map(|spec| padded(spec.len())).sum()
}

fn offsets(specs: &[ParameterSpec]) -> impl Iterator<Item = usize> + '_ {
    specs.iter().scan(0, |next, spec| {
        let offset = *next;
        *next += padded(spec.len());
        Some(offset)
    })
}

/// Where each parameter lies in a flat buffer.
pub(super) fn ranges(specs: &[ParameterSpec]) -> Vec<Range<usize>> {
    specs.iter().zip(offsets(specs)).map(|(spec, offset)| offset..offset + spec.len()).collect()
}

fn views_of(flat: &Tensor, specs: &[ParameterSpec]) -> Vec<Tensor> {
    let view = |(spec, offset): (&ParameterSpec, usize)| flat.as_strided(&spec.shape, spec.strides(), offset as i64);
    specs.iter().zip(offsets(specs)).map(view).collect()
}
