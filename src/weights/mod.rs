//! Weights of a graph: trained parameters and statistics apart, each in one flat buffer, and their safetensors file.

mod file;
mod flat;

use std::ops::Range;

use tch::{Device, Tensor};

use crate::graph::parameter::ranges;
use crate::graph::{Graph, ParameterSpec, Role};
use crate::rng::{Purpose, Stream};
use crate::types::Seed;

pub use file::{WeightsError, decode, encode, load, save, save_on};
pub(crate) use file::{fill, values};
pub use flat::Flat;
pub(crate) use flat::host_values;

/// The weights of one graph on one device. The optimizer sees the trained parameters alone; files and checkpoints hold the
/// statistics too.
#[derive(Debug)]
pub struct Weights {
    trained: Flat,
    statistics: Flat,
    /// Views of both, in the order of the graph.
    views: Vec<Tensor>,
    specs: Vec<ParameterSpec>,
}

impl Weights {
    /// Glorot-uniform kernels (Glorot and Bengio 2010: limit `sqrt(6 / (fan_in + fan_out))`), zero biases and offsets,
    /// scales and variances of 1: Keras's defaults. A function of `seed` alone: neither device nor thread count changes a bit.
    pub fn initialise(graph: &Graph, seed: Seed, device: Device) -> Weights {
        Weights::of_specs(graph.parameters(), seed, device)
    }

    fn of_specs(specs: &[ParameterSpec], seed: Seed, device: Device) -> Weights {
        let ranges = ranges(specs);
        let [mut statistics, mut trained] = [false, true].map(|is_trained| {
            let own = specs.iter().zip(&ranges).filter(|(spec, _)| spec.role.is_trained() == is_trained);
            // As long as the last cache line of the last parameter.
            vec![0.0_f32; own.map(|(_, range)| range.end).max().unwrap_or(0).next_multiple_of(16)]
        });
        for (index, (spec, range)) in specs.iter().zip(&ranges).enumerate() {
            let buffer = if spec.role.is_trained() { &mut trained } else { &mut statistics };
            let values = &mut buffer[range.clone()];
            match spec.role {
                Role::Kernel => {
                    let limit = (6.0 / (spec.fan_in + spec.fan_out) as f64).sqrt() as f32;
                    let mut stream = Stream::new(seed, Purpose::Initialise, 0, index as u64);
                    values.iter_mut().for_each(|value| *value = stream.uniform(-limit, limit));
                }
                Role::Scale | Role::RunningVariance => values.fill(1.0),
                Role::Bias | Role::Offset | Role::RunningMean => {}
            }
        }
        let flat = |buffer: &[f32], is_trained: bool| {
            let own = specs.iter().filter(|spec| spec.role.is_trained() == is_trained);
            Flat::new(Tensor::from_slice(buffer).to_device(device), own.cloned().collect())
        };
        Weights::of(flat(&trained, true), flat(&statistics, false), specs.to_vec())
    }

    fn of(trained: Flat, statistics: Flat, specs: Vec<ParameterSpec>) -> Weights {
        let [mut of_trained, mut of_statistics] = [&trained, &statistics].map(|flat| flat.views().iter());
        let view = |spec: &ParameterSpec| {
            let views = if spec.role.is_trained() { &mut of_trained } else { &mut of_statistics };
            views.next().map(Tensor::shallow_clone)
        };
        let views = specs.iter().filter_map(view).collect();
        Weights { trained, statistics, views, specs }
    }

    /// Another handle of the same weights, for another thread to read.
    pub(crate) fn handle(&self) -> Weights {
        Weights::of(self.trained.handle(), self.statistics.handle(), self.specs.clone())
    }

    /// The same values in buffers of their own.
    #[must_use]
    pub fn copied(&self) -> Weights {
        Weights::of(self.trained.copied(), self.statistics.copied(), self.specs.clone())
    }

    /// Sets all values to those of weights of the same graph.
    pub(crate) fn copy_from(&self, other: &Weights) {
        tch::no_grad(|| {
            for (own, other) in [(&self.trained, &other.trained), (&self.statistics, &other.statistics)] {
                own.buffer().shallow_clone().copy_(other.buffer());
            }
        });
    }

    /// The parameters that the optimizer changes.
    pub fn trained(&self) -> &Flat {
        &self.trained
    }

    /// The parameters that moments of the data change.
    pub fn statistics(&self) -> &Flat {
        &self.statistics
    }

    /// Buffer of the trained parameters.
    pub fn flat(&self) -> &Tensor {
        self.trained.buffer()
    }

    pub(crate) fn flat_mut(&mut self) -> &mut Tensor {
        self.trained.buffer_mut()
    }

    /// One view for each [`ParameterSpec`], in the graph's order. None requires a gradient.
    pub fn views(&self) -> &[Tensor] {
        &self.views
    }

    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    pub fn device(&self) -> Device {
        self.flat().device()
    }

    /// Each parameter with its values on the host, in the order of its logical shape.
    pub fn host(&self) -> impl Iterator<Item = (&ParameterSpec, Vec<f32>)> {
        self.specs.iter().zip(&self.views).map(|(spec, view)| (spec, host_values(view)))
    }

    /// Views in the graph's order for one shard's backward pass. Those of trained parameters are leaves that require gradients.
    pub(crate) fn leaves(&self) -> Vec<Tensor> {
        let leaf = |(spec, view): (&ParameterSpec, &Tensor)| view.detach().set_requires_grad(spec.role.is_trained());
        self.specs.iter().zip(&self.views).map(leaf).collect()
    }

    /// Range of each trained parameter in [`Weights::flat`], and in any buffer with its layout.
    pub(crate) fn ranges(&self) -> Vec<Range<usize>> {
        ranges(self.trained.specs())
    }

    /// Views of another buffer with the layout of the trained parameters, such as a gradient: one for each of them.
    pub fn views_of(&self, flat: &Tensor) -> Vec<Tensor> {
        self.trained.views_of(flat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::types::ImageShape;

    const MNIST: ImageShape = ImageShape { height: 28, width: 28, channels: 1 };

    #[test]
    fn initialisation_is_glorot_uniform_and_zero() {
        let network = Architecture::default().build(MNIST, 10).unwrap();
        let weights = Weights::initialise(&network, Seed(1), Device::Cpu);
        // fan in and fan out of each kernel
        let fans = [(9, 288), (288, 576), (1600, 128), (128, 10)];
        let kernels = weights.host().filter(|(spec, _)| spec.role == Role::Kernel);
        for ((spec, values), (fan_in, fan_out)) in kernels.zip(fans) {
            let limit = (6.0 / f64::from(fan_in + fan_out)).sqrt();
            let largest = values.iter().fold(0.0_f64, |most, v| most.max(f64::from(v.abs())));
            assert!(largest <= limit && largest > 0.95 * limit, "{}: {largest} of {limit}", spec.path());
            let variance = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64;
            assert!((variance / (limit * limit / 3.0) - 1.0).abs() < 0.25, "{}: {variance}", spec.path());
        }
        assert!(weights.host().filter(|(spec, _)| spec.role == Role::Bias).all(|(_, v)| v.iter().all(|v| *v == 0.0)));
        assert_eq!(*weights.flat(), *Weights::initialise(&network, Seed(1), Device::Cpu).flat());
        assert_ne!(*weights.flat(), *Weights::initialise(&network, Seed(2), Device::Cpu).flat());
        assert_eq!(weights.flat().numel(), network.flat_len());
    }

    /// A convolution without a bias and its batch normalisation.
    fn normalised() -> Vec<ParameterSpec> {
        let spec = |layer: &str, role, shape: &[i64]| ParameterSpec {
            layer: layer.to_owned(),
            role,
            shape: shape.to_vec(),
            fan_in: 9,
            fan_out: 45,
        };
        let of_channels = |role| spec("bn", role, &[5]);
        let mut specs = vec![spec("conv", Role::Kernel, &[5, 1, 3, 3])];
        specs.extend([Role::Scale, Role::Offset, Role::RunningMean, Role::RunningVariance].map(of_channels));
        specs.push(spec("fc", Role::Bias, &[2]));
        specs
    }

    #[test]
    fn statistics_are_kept_apart_from_what_is_trained() {
        let weights = Weights::of_specs(&normalised(), Seed(1), Device::Cpu);
        // Lengths of 45, 5, 5 and 2 values, and of twice 5, in cache lines of 16.
        assert_eq!((weights.flat().numel(), weights.statistics().buffer().numel()), (48 + 16 + 16 + 16, 32));
        let names: Vec<String> = weights.specs().iter().map(ParameterSpec::state_name).collect();
        let want = ["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "fc.bias"];
        assert_eq!(names, want);
        let sums: Vec<f64> =
            weights.views()[1..].iter().map(|view| view.sum(tch::Kind::Double).double_value(&[])).collect();
        assert_eq!(sums, [5.0, 0.0, 0.0, 5.0, 0.0]);
        // A step changes no statistic, and a copy has both.
        let copy = weights.copied();
        let _ = tch::no_grad(|| copy.flat().shallow_clone().fill_(7.0));
        assert_eq!(copy.views()[4], weights.views()[4]);
        let _ = tch::no_grad(|| copy.statistics().buffer().shallow_clone().fill_(9.0));
        assert_eq!(copy.views()[3].double_value(&[0]), 9.0);
        assert_eq!(weights.views()[3].double_value(&[0]), 0.0);
        let needs: Vec<bool> = weights.leaves().iter().map(Tensor::requires_grad).collect();
        assert_eq!(needs, [true, true, true, false, false, true]);
        assert_eq!(weights.views_of(weights.flat()).len(), 4);
        assert_eq!(weights.ranges().len(), 4);
    }

    #[test]
    fn a_file_of_weights_holds_the_statistics() {
        let [one, other] = [1, 2].map(|seed| Weights::of_specs(&normalised(), Seed(seed), Device::Cpu));
        let _ = tch::no_grad(|| one.statistics().buffer().shallow_clone().fill_(0.25));
        decode(&encode(&one).unwrap(), &other).unwrap();
        for (a, b) in one.views().iter().zip(other.views()) {
            assert_eq!(a, b);
        }
    }
}
