//! Parameters in one flat buffer, each a view of it.
//!
//! With one buffer, zeroing, the optimizer's update, norms and saving are one operation each.

use tch::{Device, Kind, Tensor};

use crate::graph::ParameterSpec;
use crate::graph::parameter::ranges;

/// A buffer of `f32` values, or several with the same layout, and what lies where.
#[derive(Debug)]
pub struct Flat {
    buffer: Tensor,
    views: Vec<Tensor>,
    specs: Vec<ParameterSpec>,
}

impl Flat {
    /// `specs` are all trained, or all statistics.
    pub(super) fn new(buffer: Tensor, specs: Vec<ParameterSpec>) -> Flat {
        let views = views_of(&buffer, &specs);
        Flat { buffer, views, specs }
    }

    /// Another handle of the same values.
    pub(super) fn handle(&self) -> Flat {
        let views = self.views.iter().map(Tensor::shallow_clone).collect();
        Flat { buffer: self.buffer.shallow_clone(), views, specs: self.specs.clone() }
    }

    /// The same values in a buffer of its own.
    pub(super) fn copied(&self) -> Flat {
        Flat::new(self.buffer.copy(), self.specs.clone())
    }

    /// `f32`, one axis, views aligned, gaps always zero.
    pub fn buffer(&self) -> &Tensor {
        &self.buffer
    }

    pub(crate) fn buffer_mut(&mut self) -> &mut Tensor {
        &mut self.buffer
    }

    pub fn views(&self) -> &[Tensor] {
        &self.views
    }

    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// Views of another buffer with this layout, such as a gradient.
    pub fn views_of(&self, buffer: &Tensor) -> Vec<Tensor> {
        views_of(buffer, &self.specs)
    }
}

/// Values of a tensor on the host, in the order of its logical shape, whatever its strides and device.
pub(crate) fn host_values(tensor: &Tensor) -> Vec<f32> {
    let dense = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut out = vec![0.0; dense.numel()];
    dense.copy_data(&mut out, dense.numel());
    out
}

fn views_of(buffer: &Tensor, specs: &[ParameterSpec]) -> Vec<Tensor> {
    let view = |(spec, range): (&ParameterSpec, std::ops::Range<usize>)| {
        buffer.as_strided(&spec.shape, spec.strides(), range.start as i64)
    };
    specs.iter().zip(ranges(specs)).map(view).collect()
}
