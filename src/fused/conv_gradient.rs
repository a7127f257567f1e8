//! The backward pass of a block: from the gradient of what pooling left to those of weights, biases and the input.
//!
//! Each output came from one pixel of its window, and from a silent ReLU came nothing. So the gradient of the convolution's
//! own outputs is mostly zeros. Where a filter has many weights only what is not zero is visited, from a list for each
//! filter of where that is. Where it has few, such a list takes longer than what it saves: all is visited, and zeros are
//! multiplied as libtorch does, which makes NaN of an infinite input.

use pulp::Simd;
use pulp::bytemuck::cast_slice;

use super::conv_block::ConvBlock;
use super::runs::{Term, add_runs, scatter_run};

/// Products of a filter at one output, in vectors, up to which all is visited: beyond about this many the list is quicker,
/// with AVX2 as with AVX-512.
const FEW: usize = 16;

/// Weights of a filter whose sums are kept in registers at once. With a vector of gradients and a pixel that is 11 registers,
/// and AVX2 has 16.
const TAPS: usize = 9;

/// Values of one image from the forward pass, and the gradient of its outputs: rows x cols x filters each.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    pub values: &'a [f32],
    pub origin: &'a [u32],
    pub gradient: &'a [f32],
}

/// Outputs of one image that have a gradient.
pub(super) struct Active {
    /// Start of each pixel's receptive field in the image, window after window.
    fields: Vec<u32>,
    /// For each filter where receptive fields begin, and the gradients: room for as many as there are windows, of which the
    /// first `counts` are in use.
    terms: Vec<Term>,
    counts: Vec<usize>,
}

/// Accumulators of a backward pass.
pub(super) struct Gradients<'a> {
    /// Laid out like the weights.
    pub weights: &'a mut [f32],
    pub bias: &'a mut [f32],
    /// Laid out like the input; none where nobody wants it.
    pub input: Option<&'a mut [f32]>,
}

impl ConvBlock {
    /// Adds one image's share to the gradients. `active` was made for this block.
    #[inline(always)]
    pub fn backward<S: Simd>(
        &self,
        simd: S,
        weights: &[f32],
        input: &[f32],
        outputs: Outputs<'_>,
        active: &mut Active,
        gradients: &mut Gradients<'_>,
    ) {
        let few = self.window * self.window * self.taps() <= FEW * S::F32_LANES;
        if !few || gradients.input.is_some() {
            active.find(self, outputs);
        }
        if few {
            self.visit_all(simd, input, outputs, &active.fields, gradients);
        } else {
            self.visit_active(simd, input, active, gradients);
        }
        if let Some(input) = &mut gradients.input {
            self.scatter(simd, weights, active, input);
        }
    }

    /// Adds one image's share to the gradient of the input alone. `active` was made for this block.
    #[inline(always)]
    pub fn backward_input<S: Simd>(
        &self,
        simd: S,
        weights: &[f32],
        outputs: Outputs<'_>,
        active: &mut Active,
        input: &mut [f32],
    ) {
        active.find(self, outputs);
        self.scatter(simd, weights, active, input);
    }

    /// Adds to the gradient of the input, for one filter after the other, what is in its list.
    #[inline(always)]
    fn scatter<S: Simd>(&self, simd: S, weights: &[f32], active: &Active, input: &mut [f32]) {
        for (weights, terms) in weights.chunks_exact(self.taps()).zip(active.of_filters()) {
            for (row, weights) in weights.chunks_exact(self.run()).enumerate() {
                scatter_run(simd, terms, weights, &mut input[row * self.stride()..]);
            }
        }
    }

    /// Adds to the gradients of weights and bias, for one filter after the other, what is in its list.
    #[inline(always)]
    fn visit_active<S: Simd>(&self, simd: S, input: &[f32], active: &Active, gradients: &mut Gradients<'_>) {
        let filters = gradients.weights.chunks_exact_mut(self.taps()).zip(&mut *gradients.bias);
        for ((weights, bias), terms) in filters.zip(active.of_filters()) {
            *bias += terms.iter().map(|(_, gradient)| gradient).sum::<f32>();
            for (row, weights) in weights.chunks_exact_mut(self.run()).enumerate() {
                add_runs(simd, terms, &input[row * self.stride()..], weights);
            }
        }
    }

    /// Adds to the gradients of weights and bias what each pixel of each window has, be it zero.
    #[inline(always)]
    fn visit_all<S: Simd>(
        &self,
        simd: S,
        input: &[f32],
        outputs: Outputs<'_>,
        fields: &[u32],
        gradients: &mut Gradients<'_>,
    ) {
        let lanes = S::F32_LANES;
        let mut first = 0;
        while first < self.filters {
            // AVX-512 has registers for the sums of two vectors.
            first += if S::REGISTER_COUNT >= 32 && self.filters - first >= 2 * lanes {
                self.visit_vectors::<S, 2>(simd, input, outputs, fields, first, gradients)
            } else {
                self.visit_vectors::<S, 1>(simd, input, outputs, fields, first, gradients)
            };
        }
    }

    /// As above, for `N` vectors of filters from the one called `first`, of which only the last may have too few. Returns how
    /// many filters that is.
    #[inline(always)]
    fn visit_vectors<S: Simd, const N: usize>(
        &self,
        simd: S,
        input: &[f32],
        outputs: Outputs<'_>,
        fields: &[u32],
        first: usize,
        gradients: &mut Gradients<'_>,
    ) -> usize {
        let (lanes, taps, zero) = (S::F32_LANES, self.taps(), simd.splat_f32s(0.0));
        let len = (N * lanes).min(self.filters - first);
        let mut totals = [zero; N];
        for start in (0..taps).step_by(TAPS) {
            // Beyond the last tap the last one is summed in vain.
            let mut places = [0; TAPS];
            for (place, tap) in places.iter_mut().zip(start..) {
                let tap = tap.min(taps - 1);
                *place = tap / self.run() * self.stride() + tap % self.run();
            }
            let mut sums = [[zero; N]; TAPS];
            for (window, fields) in fields.chunks_exact(self.window * self.window).enumerate() {
                let mut gradient = [zero; N];
                let mut origin = [simd.splat_u32s(0); N];
                for n in 0..N {
                    let place = window * self.filters + first + n * lanes;
                    let own = place..place + lanes.min(len - n * lanes);
                    gradient[n] = load(simd, &outputs.gradient[own.clone()]);
                    origin[n] = load_u32s(simd, &outputs.origin[own.clone()]);
                    if self.relu {
                        let is_silent = simd.less_than_or_equal_f32s(load(simd, &outputs.values[own]), zero);
                        gradient[n] = simd.select_f32s(is_silent, zero, gradient[n]);
                    }
                    if start == 0 {
                        totals[n] = simd.add_f32s(totals[n], gradient[n]);
                    }
                }
                for (pixel, &field) in fields.iter().enumerate() {
                    let mut own = [zero; N];
                    for n in 0..N {
                        let is_origin = simd.equal_u32s(origin[n], simd.splat_u32s(pixel as u32));
                        own[n] = simd.select_f32s(is_origin, gradient[n], zero);
                    }
                    let input = &input[field as usize..];
                    for tap in 0..TAPS {
                        let value = simd.splat_f32s(input[places[tap]]);
                        for n in 0..N {
                            sums[tap][n] = simd.mul_add_e_f32s(value, own[n], sums[tap][n]);
                        }
                    }
                }
            }
            for (tap, sum) in (start..taps).zip(&sums) {
                let filters = gradients.weights[first * taps + tap..].iter_mut().step_by(taps);
                filters.zip(&cast_slice(sum)[..len]).for_each(|(weight, sum): (_, &f32)| *weight += sum);
            }
        }
        gradients.bias[first..][..len]
            .iter_mut()
            .zip(cast_slice(&totals))
            .for_each(|(bias, sum): (_, &f32)| *bias += sum);
        len
    }
}

#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
    match S::as_simd_f32s(values).0 {
        // A whole vector is read faster than a part of one.
        [values, ..] => *values,
        [] => simd.partial_load_f32s(values),
    }
}

#[inline(always)]
fn load_u32s<S: Simd>(simd: S, values: &[u32]) -> S::u32s {
    match S::as_simd_u32s(values).0 {
        [values, ..] => *values,
        [] => simd.partial_load_u32s(values),
    }
}

impl Active {
    pub fn of(block: &ConvBlock) -> Active {
        let ConvBlock { window, rows, cols, .. } = *block;
        let mut fields = Vec::with_capacity(rows * cols * window * window);
        for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row * window, col * window))) {
            for (y, x) in (0..window).flat_map(|y| (0..window).map(move |x| (y, x))) {
                fields.push(((row + y) * block.stride() + (col + x) * block.channels) as u32);
            }
        }
        Active { fields, terms: Vec::new(), counts: Vec::new() }
    }

    fn find(&mut self, block: &ConvBlock, outputs: Outputs<'_>) {
        let (filters, pixels, windows) = (block.filters, block.window * block.window, block.rows * block.cols);
        self.counts.clear();
        self.counts.resize(filters, 0);
        self.terms.resize(filters * windows, (0, 0.0));
        for (window, fields) in self.fields.chunks_exact(pixels).enumerate() {
            let own = window * filters..(window + 1) * filters;
            let (values, origin) = (&outputs.values[own.clone()], &outputs.origin[own.clone()]);
            let lists = self.terms.chunks_exact_mut(windows).zip(&mut self.counts);
            for ((terms, count), ((&value, &origin), &gradient)) in
                lists.zip(values.iter().zip(origin).zip(&outputs.gradient[own]))
            {
                // Written in any case and kept if it counts: half of them do, and no processor guesses which.
                terms[*count] = (fields[origin as usize], gradient);
                *count += usize::from(gradient != 0.0 && !(block.relu && value <= 0.0));
            }
        }
    }

    fn of_filters(&self) -> impl Iterator<Item = &[Term]> {
        let windows = self.terms.len() / self.counts.len().max(1);
        self.terms.chunks_exact(windows.max(1)).zip(&self.counts).map(|(terms, &count)| &terms[..count])
    }
}
