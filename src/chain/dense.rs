//! A matrix product, a bias and perhaps a ReLU for a few samples, and its gradients.

use std::ops::Range;

use pulp::Simd;

use super::runs::{Term, add_runs};

/// Units and samples whose sums are kept in registers at once: 12 sums, and AVX2 has 16.
const UNITS: usize = 6;
const SAMPLES: usize = 2;

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
        for outputs in outputs.chunks_exact_mut(self.units) {
            outputs.copy_from_slice(bias);
        }
        let samples = inputs.len() / self.inputs;
        // Some columns of some units stay in the nearest cache while all samples pass.
        let columns = 48 * S::F32_LANES;
        for start in (0..self.inputs).step_by(columns) {
            let columns = start..(start + columns).min(self.inputs);
            let row = |values: &'_ [f32], number: usize| -> Range<usize> {
                debug_assert!((number + 1) * self.inputs <= values.len());
                number * self.inputs + columns.start..number * self.inputs + columns.end
            };
            let add = |outputs: &mut [f32], sample: usize, unit: usize, sum: f32| {
                outputs[sample * self.units + unit] += sum;
            };
            let mut unit = 0;
            while unit < self.units {
                let many = self.units - unit >= UNITS;
                let mut sample = 0;
                while many && samples - sample >= SAMPLES {
                    let sums = products::<S, UNITS, SAMPLES>(
                        simd,
                        std::array::from_fn(|u| &weights[row(weights, unit + u)]),
                        std::array::from_fn(|n| &inputs[row(inputs, sample + n)]),
                    );
                    for (n, sums) in sums.iter().enumerate() {
                        sums.iter().enumerate().for_each(|(u, &sum)| add(outputs, sample + n, unit + u, sum));
                    }
                    sample += SAMPLES;
                }
                for sample in sample..samples {
                    for unit in unit..unit + if many { UNITS } else { 1 } {
                        let (weights, inputs) = (&weights[row(weights, unit)], &inputs[row(inputs, sample)]);
                        let [[sum]] = products::<S, 1, 1>(simd, [weights], [inputs]);
                        add(outputs, sample, unit, sum);
                    }
                }
                unit += if many { UNITS } else { 1 };
            }
        }
        if self.relu {
            // Not a maximum: NaN stays.
            outputs.iter_mut().filter(|output| **output < 0.0).for_each(|output| *output = 0.0);
        }
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

/// The sum of products of each row of weights with each row of inputs.
#[inline(always)]
fn products<S: Simd, const U: usize, const N: usize>(
    simd: S,
    weights: [&[f32]; U],
    inputs: [&[f32]; N],
) -> [[f32; U]; N] {
    let (weights, inputs) = (weights.map(S::as_simd_f32s), inputs.map(S::as_simd_f32s));
    let vectors = inputs[0].0.len();
    let (whole_weights, whole_inputs) = (weights.map(|row| &row.0[..vectors]), inputs.map(|row| &row.0[..vectors]));
    let mut sums = [[simd.splat_f32s(0.0); U]; N];
    for i in 0..vectors {
        for (inputs, sums) in whole_inputs.iter().zip(&mut sums) {
            for (weights, sum) in whole_weights.iter().zip(sums) {
                *sum = simd.mul_add_e_f32s(inputs[i], weights[i], *sum);
            }
        }
    }
    let rest = |row: &[f32]| simd.partial_load_f32s(row);
    std::array::from_fn(|n| {
        std::array::from_fn(|u| {
            let (inputs, weights) = (rest(inputs[n].1), rest(weights[u].1));
            simd.reduce_sum_f32s(simd.mul_add_e_f32s(inputs, weights, sums[n][u]))
        })
    })
}
