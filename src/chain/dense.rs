//! A matrix product, a bias and perhaps a ReLU for a few samples, and its gradients.

use pulp::Simd;

use super::runs::{Term, add_runs};

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
        // Three units and four samples: twelve sums in registers. The weights of three units stay in the nearest cache while
        // all samples pass.
        for first in (0..self.units).step_by(3) {
            let count = inputs.len() / self.inputs;
            for sample in (0..count).step_by(4) {
                match (self.units - first, count - sample) {
                    (3.., 4..) => self.tile::<S, 3, 4>(simd, weights, bias, inputs, outputs, first, sample),
                    (3.., _) => {
                        for sample in sample..count {
                            self.tile::<S, 3, 1>(simd, weights, bias, inputs, outputs, first, sample);
                        }
                    }
                    (_, 4..) => {
                        for unit in first..self.units {
                            self.tile::<S, 1, 4>(simd, weights, bias, inputs, outputs, unit, sample);
                        }
                    }
                    _ => {
                        for unit in first..self.units {
                            for sample in sample..count {
                                self.tile::<S, 1, 1>(simd, weights, bias, inputs, outputs, unit, sample);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The outputs of `U` units from `unit` for `N` samples from `sample`.
    #[expect(clippy::too_many_arguments, reason = "a piece of `forward`, which has them all")]
    #[inline(always)]
    fn tile<S: Simd, const U: usize, const N: usize>(
        &self,
        simd: S,
        weights: &[f32],
        bias: &[f32],
        inputs: &[f32],
        outputs: &mut [f32],
        unit: usize,
        sample: usize,
    ) {
        let row = |values: &'_ [f32], number: usize| -> (usize, usize) {
            debug_assert!((number + 1) * self.inputs <= values.len());
            (number * self.inputs, (number + 1) * self.inputs)
        };
        let weights: [(&[S::f32s], &[f32]); U] = std::array::from_fn(|u| {
            let (from, to) = row(weights, unit + u);
            S::as_simd_f32s(&weights[from..to])
        });
        let inputs: [(&[S::f32s], &[f32]); N] = std::array::from_fn(|n| {
            let (from, to) = row(inputs, sample + n);
            S::as_simd_f32s(&inputs[from..to])
        });
        let vectors = self.inputs / S::F32_LANES;
        let (weights_left, inputs_left) = (weights.map(|(_, left)| left), inputs.map(|(_, left)| left));
        let weights = weights.map(|(all, _)| &all[..vectors]);
        let inputs = inputs.map(|(all, _)| &all[..vectors]);
        let mut sums = [[simd.splat_f32s(0.0); U]; N];
        for i in 0..vectors {
            for (inputs, sums) in inputs.iter().zip(&mut sums) {
                for (weights, sum) in weights.iter().zip(sums) {
                    *sum = simd.mul_add_e_f32s(inputs[i], weights[i], *sum);
                }
            }
        }
        for n in 0..N {
            for u in 0..U {
                let (left, right) = (simd.partial_load_f32s(inputs_left[n]), simd.partial_load_f32s(weights_left[u]));
                let sum = simd.reduce_sum_f32s(simd.mul_add_e_f32s(left, right, sums[n][u])) + bias[unit + u];
                // Not a maximum: NaN stays.
                let output = if self.relu && sum < 0.0 { 0.0 } else { sum };
                outputs[(sample + n) * self.units + unit + u] = output;
            }
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

    /// Adds the samples' shares to the gradients of weights and bias; `gradient`, samples x units, is that of the sums
    /// before the ReLU.
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
                add_runs(simd, &active.0[from..end], &inputs[start..], &mut weights[start..][..len]);
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
        inputs.fill(0.0);
        // As above; there are more units than samples, so fewer columns at a time.
        let columns = 6 * S::F32_LANES;
        for start in (0..self.inputs).step_by(columns) {
            let len = columns.min(self.inputs - start);
            let mut from = 0;
            for (inputs, &end) in inputs.chunks_exact_mut(self.inputs).zip(&ends) {
                add_runs(simd, &active.0[from..end], &weights[start..], &mut inputs[start..][..len]);
                from = end;
            }
        }
    }
}
