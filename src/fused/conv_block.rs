//! Convolution, bias, max-pooling and ReLU of one image in one sweep.
//!
//! Images are H x W x C, weights O x kh x kw x C: the taps of one kernel row and all channels under it are one run of
//! `kernel * channels` neighbours in both.

use pulp::Simd;

use super::aligned::Aligned;

/// Pixels whose sums are kept in registers at once, for two vectors of filters: 12 sums, 2 weights, 1 pixel; AVX2 has 16.
const PIXELS: usize = 6;

/// Shapes of one block. Of the image only what the wanted outputs depend on is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConvBlock {
    /// Pixels in a row of the input, its channels, and the side of a kernel.
    pub width: usize,
    pub channels: usize,
    pub kernel: usize,
    pub filters: usize,
    pub relu: bool,
    /// Side of the pooling's windows; 1 where nothing is pooled.
    pub window: usize,
    /// Outputs after pooling that are computed.
    pub rows: usize,
    pub cols: usize,
}

/// Weights in the order in which a forward pass reads them: for two vectors of filters after the other, each tap. Filters
/// that are not there are zero.
#[derive(Default)]
pub(super) struct Packed(Aligned<f32>);

impl ConvBlock {
    /// Values under one row of a kernel.
    pub fn run(&self) -> usize {
        self.kernel * self.channels
    }

    /// Values of one filter.
    pub fn taps(&self) -> usize {
        self.kernel * self.run()
    }

    /// Values in a row of the input.
    pub fn stride(&self) -> usize {
        self.width * self.channels
    }

    /// Values from the start of the input to the last that is read, in whole rows.
    pub fn input_len(&self) -> usize {
        (self.rows * self.window + self.kernel - 1) * self.stride()
    }

    pub fn output_len(&self) -> usize {
        self.rows * self.cols * self.filters
    }

    /// The outputs of one image and which pixel of its window each came from, both rows x cols x filters. Of equal pixels
    /// the first counts, and NaN counts as largest, as in libtorch.
    #[inline(always)]
    pub fn forward<S: Simd>(
        &self,
        simd: S,
        packed: &Packed,
        bias: &[f32],
        input: &[f32],
        output: &mut [f32],
        origin: &mut [u32],
    ) {
        let lanes = S::F32_LANES;
        let width = self.cols * self.window;
        let tile = width.div_ceil(width.div_ceil(PIXELS));
        let zeros = [simd.splat_f32s(0.0); 2];
        // The sums of one row of windows: short enough to stay in the nearest cache.
        let mut sums = vec![zeros; self.window * width];
        for (first, packed) in (0..self.filters).step_by(2 * lanes).zip(packed.0.chunks_exact(self.taps() * 2 * lanes))
        {
            let (weights, _) = S::as_simd_f32s(packed);
            let (weights, _) = weights.as_chunks::<2>();
            let bias = pair(simd, &bias[first..]);
            for row in 0..self.rows {
                for (y, sums) in sums.chunks_exact_mut(width).enumerate() {
                    let line = &input[(row * self.window + y) * self.stride()..];
                    for (x, sums) in (0..width).step_by(tile).zip(sums.chunks_mut(tile)) {
                        let corner = &line[x * self.channels..];
                        match sums.len() {
                            1 => self.convolve::<S, 1>(simd, weights, bias, corner, sums),
                            2 => self.convolve::<S, 2>(simd, weights, bias, corner, sums),
                            3 => self.convolve::<S, 3>(simd, weights, bias, corner, sums),
                            4 => self.convolve::<S, 4>(simd, weights, bias, corner, sums),
                            5 => self.convolve::<S, 5>(simd, weights, bias, corner, sums),
                            _ => self.convolve::<S, PIXELS>(simd, weights, bias, corner, sums),
                        }
                    }
                }
                let pooled = row * self.cols * self.filters..(row + 1) * self.cols * self.filters;
                let (output, origin) = (&mut output[pooled.clone()], &mut origin[pooled]);
                self.pool(simd, &sums, first, output, origin);
            }
        }
    }

    /// The sums of `N` pixels next to each other, the first at `corner`.
    #[inline(always)]
    fn convolve<S: Simd, const N: usize>(
        &self,
        simd: S,
        weights: &[[S::f32s; 2]],
        bias: [S::f32s; 2],
        corner: &[f32],
        sums: &mut [[S::f32s; 2]],
    ) {
        let run = self.run();
        let mut totals = [bias; N];
        for (row, weights) in weights.chunks_exact(run).enumerate() {
            let line = &corner[row * self.stride()..];
            let pixels: [&[f32]; N] = std::array::from_fn(|n| &line[n * self.channels..][..run]);
            for tap in 0..run {
                let [left, right] = weights[tap];
                for n in 0..N {
                    let pixel = simd.splat_f32s(pixels[n][tap]);
                    totals[n][0] = simd.mul_add_e_f32s(pixel, left, totals[n][0]);
                    totals[n][1] = simd.mul_add_e_f32s(pixel, right, totals[n][1]);
                }
            }
        }
        sums[..N].copy_from_slice(&totals);
    }

    /// The largest of each window of a row of windows, for two vectors of filters.
    #[inline(always)]
    fn pool<S: Simd>(&self, simd: S, sums: &[[S::f32s; 2]], first: usize, output: &mut [f32], origin: &mut [u32]) {
        let (lanes, zero) = (S::F32_LANES, simd.splat_f32s(0.0));
        let pixels = output.chunks_exact_mut(self.filters).zip(origin.chunks_exact_mut(self.filters));
        for (x, (output, origin)) in pixels.enumerate() {
            for (half, start) in [first, first + lanes].into_iter().enumerate() {
                let len = lanes.min(self.filters.saturating_sub(start));
                if len == 0 {
                    break;
                }
                let mut largest = sums[x * self.window][half];
                let mut which = simd.splat_u32s(0);
                let mut number = 0;
                for line in sums.chunks_exact(self.cols * self.window) {
                    for sum in &line[x * self.window..][..self.window] {
                        let is_nan = simd.not_m32s(simd.equal_f32s(sum[half], sum[half]));
                        let is_larger = simd.or_m32s(simd.greater_than_f32s(sum[half], largest), is_nan);
                        largest = simd.select_f32s(is_larger, sum[half], largest);
                        which = simd.select_u32s(is_larger, simd.splat_u32s(number), which);
                        number += 1;
                    }
                }
                if self.relu {
                    // Not a maximum: NaN stays.
                    largest = simd.select_f32s(simd.less_than_f32s(largest, zero), zero, largest);
                }
                let (output, origin) = (&mut output[start..][..len], &mut origin[start..][..len]);
                match (S::as_mut_simd_f32s(output).0, S::as_mut_simd_u32s(origin).0) {
                    // A whole vector is written faster than a part of one.
                    ([output, ..], [origin, ..]) => (*output, *origin) = (largest, which),
                    _ => {
                        simd.partial_store_f32s(output, largest);
                        simd.partial_store_u32s(origin, which);
                    }
                }
            }
        }
    }
}

impl Packed {
    /// `weights` is O x taps, with `taps` values a filter.
    #[inline(always)]
    pub fn pack<S: Simd>(&mut self, _simd: S, weights: &[f32], taps: usize) {
        let group = 2 * S::F32_LANES;
        let filters = weights.len() / taps;
        self.0.zeros(filters.div_ceil(group) * group * taps);
        for (weights, packed) in weights.chunks(group * taps).zip(self.0.chunks_exact_mut(group * taps)) {
            for (filter, weights) in weights.chunks_exact(taps).enumerate() {
                for (&weight, slot) in weights.iter().zip(packed[filter..].iter_mut().step_by(group)) {
                    *slot = weight;
                }
            }
        }
    }
}

/// Two vectors from the start of `values`, zeros where there are not so many.
#[inline(always)]
fn pair<S: Simd>(simd: S, values: &[f32]) -> [S::f32s; 2] {
    let lanes = S::F32_LANES;
    let (left, rest) = values.split_at(values.len().min(lanes));
    [simd.partial_load_f32s(left), simd.partial_load_f32s(&rest[..rest.len().min(lanes)])]
}
