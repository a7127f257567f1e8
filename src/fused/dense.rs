//! A matrix product, a bias and perhaps a ReLU for a few samples, and its gradients.

use pulp::Simd;

use super::runs::{Term, add_runs};

/// Units whose sums with a few samples are kept in registers at once: of two samples that is 12 sums, and AVX2 has 16
/// registers, of four 24, and AVX-512 has 32.
const UNITS: usize = 6;

/// Shapes of one layer. Weights are units x inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dense {
    pub inputs: usize,
    pub units: usize,
    pub relu: bool,
}

/// Gradients of outputs that are not zero, listed for one unit or one sample after the other.
#[derive(Default)]
pub(super) struct Active(Vec<Term>);

impl Dense {
    /// `outputs`, samples x units, of `inputs`, samples x inputs.
    #[inline(always)]
    pub fn forward<S: Simd>(&self, simd: S, weights: &[f32], bias: &[f32], inputs: &[f32], outputs: &mut [f32]) {
        if outputs.is_empty() {
            return;
        }
        for outputs in outputs.chunks_exact_mut(self.units) {
            outputs.copy_from_slice(bias);
        }
        // Some columns of some units stay in the nearest cache while all samples pass.
        let columns = 48 * S::F32_LANES;
        for start in (0..self.inputs).step_by(columns) {
            let len = columns.min(self.inputs - start);
            let mut unit = 0;
            while unit < self.units {
                let weights = &weights[unit * self.inputs + start..];
                unit += match self.units - unit {
                    UNITS.. => self.add_units::<S, UNITS>(simd, weights, &inputs[start..], len, &mut outputs[unit..]),
                    _ => self.add_units::<S, 1>(simd, weights, &inputs[start..], len, &mut outputs[unit..]),
                };
            }
        }
        if self.relu {
            // Not a maximum: NaN stays.
            outputs.iter_mut().filter(|output| **output < 0.0).for_each(|output| *output = 0.0);
        }
    }

    /// Adds the products of `len` columns to the outputs of all samples for the first `U` units. All three begin where the
    /// first of their numbers is. Returns `U`.
    #[inline(always)]
    fn add_units<S: Simd, const U: usize>(
        &self,
        simd: S,
        weights: &[f32],
        inputs: &[f32],
        len: usize,
        outputs: &mut [f32],
    ) -> usize {
        let samples = outputs.len().div_ceil(self.units);
        let mut sample = 0;
        while sample < samples {
            let inputs = &inputs[sample * self.inputs..];
            let outputs = &mut outputs[sample * self.units..];
            sample += match samples - sample {
                4.. if S::REGISTER_COUNT >= 32 => self.add_tile::<S, U, 4>(simd, weights, inputs, len, outputs),
                2.. => self.add_tile::<S, U, 2>(simd, weights, inputs, len, outputs),
                _ => self.add_tile::<S, U, 1>(simd, weights, inputs, len, outputs),
            };
        }
        U
    }

    /// As above, for the first `N` samples. Returns `N`.
    #[inline(always)]
    fn add_tile<S: Simd, const U: usize, const N: usize>(
        &self,
        simd: S,
        weights: &[f32],
        inputs: &[f32],
        len: usize,
        outputs: &mut [f32],
    ) -> usize {
        // In plain loops: a closure is not inlined here, and each sum would go through memory.
        let mut unit_vectors: [&[S::f32s]; U] = [&[]; U];
        let mut sample_vectors: [&[S::f32s]; N] = [&[]; N];
        let vectors = len / S::F32_LANES;
        for unit in 0..U {
            unit_vectors[unit] = &S::as_simd_f32s(&weights[unit * self.inputs..][..len]).0[..vectors];
        }
        for sample in 0..N {
            sample_vectors[sample] = &S::as_simd_f32s(&inputs[sample * self.inputs..][..len]).0[..vectors];
        }
        let mut sums = [[simd.splat_f32s(0.0); U]; N];
        for i in 0..vectors {
            for sample in 0..N {
                for unit in 0..U {
                    let (input, weight) = (sample_vectors[sample][i], unit_vectors[unit][i]);
                    sums[sample][unit] = simd.mul_add_e_f32s(input, weight, sums[sample][unit]);
                }
            }
        }
        let rest = vectors * S::F32_LANES..len;
        for sample in 0..N {
            for unit in 0..U {
                let mut sum = sums[sample][unit];
                if !rest.is_empty() {
                    let input = simd.partial_load_f32s(&inputs[sample * self.inputs..][rest.clone()]);
                    let weight = simd.partial_load_f32s(&weights[unit * self.inputs..][rest.clone()]);
                    sum = simd.mul_add_e_f32s(input, weight, sum);
                }
                outputs[sample * self.units + unit] += simd.reduce_sum_f32s(sum);
            }
        }
        N
    }

    /// Sets the gradient to zero where the ReLU was silent, if there is one.
    pub fn through_relu(&self, outputs: &[f32], gradient: &mut [f32]) {
        if self.relu {
            for (gradient, &output) in gradient.iter_mut().zip(outputs) {
                if output <= 0.0 {
                    *gradient = 0.0;
                }
            }
        }
    }

    /// Sets the gradients of weights and bias. `gradient`, samples x units, is that of the sums before the ReLU.
    #[inline(always)]
    pub fn backward_weights<S: Simd>(
        &self,
        simd: S,
        inputs: &[f32],
        gradient: &[f32],
        active: &mut Active,
        (weights, bias): (&mut [f32], &mut [f32]),
    ) {
        let mut ends = vec![0; self.units];
        active.0.clear();
        bias.fill(0.0);
        for (unit, (end, bias)) in ends.iter_mut().zip(bias).enumerate() {
            for (sample, gradient) in gradient.chunks_exact(self.units).enumerate() {
                let gradient = gradient[unit];
                *bias += gradient;
                if gradient != 0.0 {
                    active.0.push(((sample * self.inputs) as u32, gradient));
                }
            }
            *end = active.0.len();
        }
        // Some columns of all units after the other: what the samples have there stays in the nearest cache.
        let columns = 12 * S::F32_LANES;
        for start in (0..self.inputs).step_by(columns) {
            let len = columns.min(self.inputs - start);
            let mut from = 0;
            for (weights, &end) in weights.chunks_exact_mut(self.inputs).zip(&ends) {
                let weights = &mut weights[start..][..len];
                weights.fill(0.0);
                add_runs(simd, &active.0[from..end], &inputs[start..], weights);
                from = end;
            }
        }
    }

    /// The gradient of the inputs, samples x inputs.
    #[inline(always)]
    pub fn backward_inputs<S: Simd>(
        &self,
        simd: S,
        weights: &[f32],
        gradient: &[f32],
        active: &mut Active,
        inputs: &mut [f32],
    ) {
        let mut ends = Vec::with_capacity(inputs.len() / self.inputs);
        active.0.clear();
        for gradient in gradient.chunks_exact(self.units) {
            for (unit, &gradient) in gradient.iter().enumerate() {
                if gradient != 0.0 {
                    active.0.push(((unit * self.inputs) as u32, gradient));
                }
            }
            ends.push(active.0.len());
        }
        // As above; there are more units than samples, so fewer columns at a time.
        let columns = 6 * S::F32_LANES;
        for start in (0..self.inputs).step_by(columns) {
            let len = columns.min(self.inputs - start);
            let mut from = 0;
            for (inputs, &end) in inputs.chunks_exact_mut(self.inputs).zip(&ends) {
                let inputs = &mut inputs[start..][..len];
                inputs.fill(0.0);
                add_runs(simd, &active.0[from..end], &weights[start..], inputs);
                from = end;
            }
        }
    }
}
