//! The backward pass of a block: from the gradient of what pooling left to those of weights, biases and the input.
//!
//! Each output came from one pixel of its window, and from a silent ReLU came nothing. So the gradient of the convolution's
//! own outputs is mostly zeros, and is kept as a list: for each filter, where it is not zero, and its value there.

use pulp::Simd;

use super::conv_block::ConvBlock;
use super::runs::{Term, add_runs, add_short_runs, scatter_run};

/// For each filter the outputs of one image that have a gradient: where their receptive fields begin, and the gradient.
#[derive(Default)]
pub(super) struct Active {
    /// As many for each filter as there are outputs after pooling; the first `counts` of them are in use.
    terms: Vec<Term>,
    counts: Vec<usize>,
}

/// What a backward pass adds to.
pub(super) struct Gradients<'a> {
    /// Laid out like the weights.
    pub weights: &'a mut [f32],
    pub bias: &'a mut [f32],
    /// Laid out like the input; none where nobody wants it.
    pub input: Option<&'a mut [f32]>,
}

impl ConvBlock {
    /// Lists the outputs of one image that have a gradient. `output` and `origin` are what the forward pass gave,
    /// `gradient` is that of `output`.
    pub fn find_active(&self, output: &[f32], origin: &[u32], gradient: &[f32], active: &mut Active) {
        let outputs = self.rows * self.cols;
        active.counts.clear();
        active.counts.resize(self.filters, 0);
        active.terms.resize(self.filters * outputs, (0, 0.0));
        // From the corner of a window to each of its pixels.
        let pixels: Vec<u32> = (0..self.window * self.window)
            .map(|number| (number / self.window * self.stride() + number % self.window * self.channels) as u32)
            .collect();
        let maps = output.chunks_exact(self.filters).zip(origin.chunks_exact(self.filters));
        for (place, ((output, origin), gradient)) in maps.zip(gradient.chunks_exact(self.filters)).enumerate() {
            let (row, col) = (place / self.cols, place % self.cols);
            let corner = (row * self.window * self.stride() + col * self.window * self.channels) as u32;
            let filters = active.terms.chunks_exact_mut(outputs).zip(&mut active.counts);
            for ((terms, count), ((&output, &origin), &gradient)) in
                filters.zip(output.iter().zip(origin).zip(gradient))
            {
                // Written in any case and kept if it counts: half of them do, and no processor guesses which.
                terms[*count] = (corner + pixels[origin as usize], gradient);
                *count += usize::from(gradient != 0.0 && !(self.relu && output <= 0.0));
            }
        }
    }

    /// Adds one image's share to the gradients.
    #[inline(always)]
    pub fn backward<S: Simd>(
        &self,
        simd: S,
        weights: &[f32],
        input: &[f32],
        active: &Active,
        gradients: &mut Gradients<'_>,
    ) {
        let (run, taps, stride) = (self.run(), self.taps(), self.stride());
        for (filter, (terms, &count)) in
            active.terms.chunks_exact(self.rows * self.cols).zip(&active.counts).enumerate()
        {
            let terms = &terms[..count];
            gradients.bias[filter] += terms.iter().map(|(_, gradient)| gradient).sum::<f32>();
            let totals = &mut gradients.weights[filter * taps..][..taps];
            match self.kernel {
                3 if run <= S::F32_LANES => add_short_runs::<S, 3>(simd, terms, input, stride, totals),
                5 if run <= S::F32_LANES => add_short_runs::<S, 5>(simd, terms, input, stride, totals),
                _ => {
                    for (row, totals) in totals.chunks_exact_mut(run).enumerate() {
                        add_runs(simd, terms, &input[row * stride..], totals);
                    }
                }
            }
            if let Some(input) = &mut gradients.input {
                let weights = &weights[filter * taps..][..taps];
                for (row, weights) in weights.chunks_exact(run).enumerate() {
                    scatter_run(simd, terms, weights, &mut input[row * stride..]);
                }
            }
        }
    }
}
