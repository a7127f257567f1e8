//! Sums of runs of neighbours, each with a factor: what most gradients of these passes.

use pulp::Simd;

/// Start of a run, and its factor.
pub(super) type Term = (u32, f32);

/// Vectors that a sum keeps in registers at once; there is one more for the factor, and AVX2 has 16.
const MOST: usize = 12;

/// Adds to `total` the sum, over the terms in their order, of factor times the `total.len()` values of `source` from where
/// the run begins.
///
/// # Panics
/// If a run does not lie in `source`: a bug in the caller.
#[inline(always)]
pub(super) fn add_runs<S: Simd>(simd: S, terms: &[Term], source: &[f32], total: &mut [f32]) {
    let mut start = 0;
    while start < total.len() {
        let (source, total) = (&source[start..], &mut total[start..]);
        start += match total.len() / S::F32_LANES {
            MOST.. => add_vectors::<S, MOST>(simd, terms, source, total),
            6.. => add_vectors::<S, 6>(simd, terms, source, total),
            4.. => add_vectors::<S, 4>(simd, terms, source, total),
            1.. => add_vectors::<S, 1>(simd, terms, source, total),
            0 => add_rest(simd, terms, source, total),
        };
    }
}

/// Adds to the run of `target` that each term names its factor times `run`.
///
/// # Panics
/// If a run does not lie in `target`: a bug in the caller.
#[inline(always)]
pub(super) fn scatter_run<S: Simd>(simd: S, terms: &[Term], run: &[f32], target: &mut [f32]) {
    let mut start = 0;
    while start < run.len() {
        let (run, target) = (&run[start..], &mut target[start..]);
        start += match run.len() / S::F32_LANES {
            MOST.. => scatter_vectors::<S, MOST>(simd, terms, run, target),
            6.. => scatter_vectors::<S, 6>(simd, terms, run, target),
            4.. => scatter_vectors::<S, 4>(simd, terms, run, target),
            1.. => scatter_vectors::<S, 1>(simd, terms, run, target),
            0 => match *run {
                [a] => scatter_few(terms, [a], target),
                [a, b] => scatter_few(terms, [a, b], target),
                [a, b, c] => scatter_few(terms, [a, b, c], target),
                [a, b, c, d] => scatter_few(terms, [a, b, c, d], target),
                [a, b, c, d, e] => scatter_few(terms, [a, b, c, d, e], target),
                _ => scatter_rest(simd, terms, run, target),
            },
        };
    }
}

/// The first `N` vectors of a total. Returns how many values that is.
#[inline(always)]
fn add_vectors<S: Simd, const N: usize>(simd: S, terms: &[Term], source: &[f32], total: &mut [f32]) -> usize {
    let len = N * S::F32_LANES;
    let (total, _) = S::as_mut_simd_f32s(&mut total[..len]);
    if let Some(total) = total.first_chunk_mut::<N>() {
        let mut sums = *total;
        for &(start, factor) in terms {
            let factor = simd.splat_f32s(factor);
            let (run, _) = S::as_simd_f32s(&source[start as usize..][..len]);
            for (sum, &values) in sums.iter_mut().zip(run) {
                *sum = simd.mul_add_e_f32s(factor, values, *sum);
            }
        }
        *total = sums;
    }
    len
}

#[inline(always)]
fn add_rest<S: Simd>(simd: S, terms: &[Term], source: &[f32], total: &mut [f32]) -> usize {
    let mut sum = simd.partial_load_f32s(total);
    for &(start, factor) in terms {
        let values = simd.partial_load_f32s(&source[start as usize..][..total.len()]);
        sum = simd.mul_add_e_f32s(simd.splat_f32s(factor), values, sum);
    }
    simd.partial_store_f32s(total, sum);
    total.len()
}

#[inline(always)]
fn scatter_vectors<S: Simd, const N: usize>(simd: S, terms: &[Term], run: &[f32], target: &mut [f32]) -> usize {
    let len = N * S::F32_LANES;
    let (run, _) = S::as_simd_f32s(&run[..len]);
    if let Some(&run) = run.first_chunk::<N>() {
        for &(start, factor) in terms {
            let factor = simd.splat_f32s(factor);
            let (sums, _) = S::as_mut_simd_f32s(&mut target[start as usize..][..len]);
            for (sum, values) in sums.iter_mut().zip(run) {
                *sum = simd.mul_add_e_f32s(factor, values, *sum);
            }
        }
    }
    len
}

/// A run as short as a kernel's row over one channel, for which part of a vector would take longer.
#[inline(always)]
fn scatter_few<const N: usize>(terms: &[Term], run: [f32; N], target: &mut [f32]) -> usize {
    for &(start, factor) in terms {
        let sums = &mut target[start as usize..][..N];
        for (sum, value) in sums.iter_mut().zip(run) {
            *sum += factor * value;
        }
    }
    N
}

#[inline(always)]
fn scatter_rest<S: Simd>(simd: S, terms: &[Term], run: &[f32], target: &mut [f32]) -> usize {
    let values = simd.partial_load_f32s(run);
    for &(start, factor) in terms {
        let sums = &mut target[start as usize..][..run.len()];
        let sum = simd.mul_add_e_f32s(simd.splat_f32s(factor), values, simd.partial_load_f32s(sums));
        simd.partial_store_f32s(sums, sum);
    }
    run.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fused::tests::kinds_of_vectors;
    use pulp::WithSimd;

    struct Add<'a>(&'a [Term], &'a [f32], &'a mut [f32]);
    impl WithSimd for Add<'_> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            add_runs(simd, self.0, self.1, self.2);
        }
    }

    struct Scatter<'a>(&'a [Term], &'a [f32], &'a mut [f32]);
    impl WithSimd for Scatter<'_> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            scatter_run(simd, self.0, self.1, self.2);
        }
    }

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + 11) % 64) as f32 - 32.0).collect()
    }

    /// Whole numbers: sums are exact in any order.
    const TERMS: [Term; 4] = [(3, 2.0), (0, -1.0), (20, 0.0), (7, 5.0)];

    #[test]
    fn every_length_is_summed_to_its_end() {
        let source = numbers(400);
        for len in [0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 96, 97, 171, 192, 300] {
            let before = numbers(len);
            let want: Vec<f32> = before
                .iter()
                .enumerate()
                .map(|(i, b)| b + TERMS.iter().map(|&(at, f)| f * source[at as usize + i]).sum::<f32>())
                .collect();
            for (vectors, arch) in kinds_of_vectors() {
                let mut got = before.clone();
                arch.dispatch(Add(&TERMS, &source, &mut got));
                assert_eq!(got, want, "{len}, vectors: {vectors}");
            }
        }
    }

    #[test]
    fn every_length_is_scattered_to_its_end() {
        for len in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 96, 97, 171, 192, 300] {
            let run = numbers(len);
            let mut want = numbers(400);
            for (at, factor) in TERMS {
                for (i, value) in run.iter().enumerate() {
                    want[at as usize + i] += factor * value;
                }
            }
            for (vectors, arch) in kinds_of_vectors() {
                let mut got = numbers(400);
                arch.dispatch(Scatter(&TERMS, &run, &mut got));
                assert_eq!(got, want, "{len}, vectors: {vectors}");
            }
        }
    }
}
