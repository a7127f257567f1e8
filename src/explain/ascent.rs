//! Gradient ascent on images, with regularisers.

use crate::render::Map;
use crate::rng::{Purpose, Stream};
use crate::types::{ImageShape, Seed};

/// Half the range of the starting noise: enough to break symmetry, too little to be visible afterwards.
const NOISE: f32 = 0.05;
/// The total variation is quadratic for differences well below this, so that it has a gradient everywhere.
const TV_SOFTNESS: f32 = 0.1;

/// Parameters of a gradient ascent. Each step is
/// `x = blurred(x + rate * (g / rms(g) - tv * grad TV(x) - l2 * (x - start)))`, clamped to 0..=1, where `g` is the
/// gradient of the target at the randomly shifted image. The rate and the share of the blur fall linearly to 0 over
/// the steps, so that large forms come first and edges last. The last `bare` steps follow the gradient of the
/// unshifted image and nothing else: they hardly change the visible image, and raise the target most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ascent {
    pub steps: usize,
    /// Root mean square of the pixels' change by the gradient in the first step, in units of the data's range.
    pub rate: f32,
    /// Brightness, 0 to 1, of the starting image, to which a little noise is added. `l2` pulls towards it.
    pub start: f32,
    /// Maximum shift of the image in each direction before a gradient is taken, in pixels. The shift is cyclic.
    pub jitter: usize,
    /// Share of the blurred image, 0 to 1, in the result of the first step. The blur is Gaussian with a standard
    /// deviation of 0.7 pixels.
    pub blur: f32,
    /// Weight of the total variation, the sum of differences between neighbours, relative to the target.
    pub tv: f32,
    /// Weight of the squared distance from the start, relative to the target.
    pub l2: f32,
    /// Number of final steps without shift, blur and penalties.
    pub bare: usize,
    /// Seed of the noise and the shifts.
    pub seed: Seed,
}

impl Default for Ascent {
    /// Sixteen long steps: thirty of half the length find the same forms on MNIST and take twice the time.
    fn default() -> Ascent {
        Ascent { steps: 16, rate: 0.2, start: 0.5, jitter: 1, blur: 0.3, tv: 0.2, l2: 0.2, bare: 0, seed: Seed(0) }
    }
}

/// Images of one shape: `N x H x W x C`, values 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Images {
    pub shape: ImageShape,
    pub values: Vec<f32>,
}

impl Images {
    /// One map per channel, for each image.
    pub(super) fn maps(&self) -> impl Iterator<Item = Vec<Map>> {
        let ImageShape { height, width, channels } = self.shape;
        let plane = move |image: &[f32], channel: usize| {
            Map::new(height, width, image[channel..].iter().step_by(channels).copied().collect()).ok()
        };
        let images = self.values.chunks_exact(self.shape.len().max(1));
        images.map(move |image| (0..channels).filter_map(|channel| plane(image, channel)).collect())
    }
}

impl Ascent {
    /// Grey noise, the same for each of `count` images.
    pub(super) fn start(&self, shape: ImageShape, count: usize) -> Images {
        let mut noise = Stream::new(self.seed, Purpose::ActivationMax, 0, 0);
        let pixel = |_| (self.start + noise.uniform(-NOISE, NOISE)).clamp(0.0, 1.0);
        let planes: Vec<f32> = (0..shape.len()).map(pixel).collect();
        let plane = shape.height * shape.width;
        let image: Vec<f32> =
            (0..shape.len()).map(|at| planes[at % shape.channels * plane + at / shape.channels]).collect();
        Images { shape, values: image.repeat(count) }
    }

    /// The images after all steps. `gradient` returns the gradient of the target, for values laid out like these.
    pub(super) fn climb(&self, start: Images, mut gradient: impl FnMut(&[f32]) -> Vec<f32>) -> Images {
        let mut shifts = Stream::new(self.seed, Purpose::ActivationMax, 0, 1);
        let mut shift = || shifts.below(2 * self.jitter as u64 + 1) as i64 - self.jitter as i64;
        let Images { shape, values: mut images } = start;
        let row = shape.width * shape.channels;
        for step in 0..self.steps {
            let remaining = 1.0 - step as f32 / self.steps as f32;
            let is_bare = step + self.bare >= self.steps;
            let held = if is_bare { Ascent { tv: 0.0, l2: 0.0, blur: 0.0, ..*self } } else { *self };
            let shift = if is_bare { [0; 2] } else { [shift(), shift()] };
            let mut gradient = rolled(&gradient(&rolled(&images, shape, shift)), shape, shift.map(|by| -by));
            for (image, slopes) in images.chunks_exact_mut(shape.len()).zip(gradient.chunks_exact_mut(shape.len())) {
                normalise(slopes);
                add_variation_gradient(image, row, shape.channels, -held.tv, slopes);
                for (pixel, slope) in image.iter_mut().zip(slopes) {
                    *pixel += (*slope - (*pixel - self.start) * held.l2) * self.rate * remaining;
                }
                blur(image, row, shape.channels, held.blur * remaining);
                // `clamp` panics if a limit is NaN: neither is. No pixel is NaN either.
                image.iter_mut().for_each(|pixel| *pixel = pixel.clamp(0.0, 1.0));
            }
        }
        Images { shape, values: images }
    }
}

/// Each image shifted down and to the right, cyclically.
fn rolled(images: &[f32], shape: ImageShape, shift: [i64; 2]) -> Vec<f32> {
    let row = shape.width * shape.channels;
    let within = |shift: i64, side: usize| shift.rem_euclid(side.max(1) as i64) as usize;
    let (down, right) = (within(shift[0], shape.height), within(shift[1], shape.width) * shape.channels);
    let mut moved = Vec::with_capacity(images.len());
    for image in images.chunks_exact(shape.len()) {
        let (above, below) = image.split_at(image.len() - down * row);
        for row in below.chunks_exact(row).chain(above.chunks_exact(row)) {
            let (left, entering) = row.split_at(row.len() - right);
            moved.extend_from_slice(entering);
            moved.extend_from_slice(left);
        }
    }
    moved
}

/// Scales an image's gradient to a root mean square of 1. Values that are not finite become 0; a gradient of 0 stays.
fn normalise(gradient: &mut [f32]) {
    gradient.iter_mut().filter(|slope| !slope.is_finite()).for_each(|slope| *slope = 0.0);
    let largest = gradient.iter().fold(f32::MIN_POSITIVE, |most, slope| most.max(slope.abs()));
    // First by the largest magnitude, whose square may overflow.
    gradient.iter_mut().for_each(|slope| *slope /= largest);
    let mean_square = gradient.iter().map(|slope| slope * slope).sum::<f32>() / gradient.len() as f32;
    let scale = (mean_square + f32::EPSILON).sqrt();
    gradient.iter_mut().for_each(|slope| *slope /= scale);
}

/// Adds `factor` times the gradient of the sum over neighbours of `sqrt(difference^2 + TV_SOFTNESS^2)`. A pixel's
/// right neighbour is `channels` values later, the one below it `row` values.
fn add_variation_gradient(image: &[f32], row: usize, channels: usize, factor: f32, slopes: &mut [f32]) {
    let slope = |here: f32, there: f32| {
        let difference = there - here;
        factor * difference / (difference * difference + TV_SOFTNESS * TV_SOFTNESS).sqrt()
    };
    for (pixels, slopes) in image.chunks_exact(row).zip(slopes.chunks_exact_mut(row)) {
        for at in channels..row {
            let slope = slope(pixels[at - channels], pixels[at]);
            slopes[at] += slope;
            slopes[at - channels] -= slope;
        }
    }
    for at in row..image.len() {
        let slope = slope(image[at - row], image[at]);
        slopes[at] += slope;
        slopes[at - row] -= slope;
    }
}

/// Mixes in the blurred image with weight `share`. The kernel has the weights 1, 2, 1 in both directions, as a
/// Gaussian with a variance of 0.5; pixels beyond an edge repeat the edge.
fn blur(image: &mut [f32], row: usize, channels: usize, share: f32) {
    let mean = |before: f32, own: f32, after: f32| (before + own * 2.0 + after) * 0.25;
    let mut across = Vec::with_capacity(image.len());
    for pixels in image.chunks_exact(row) {
        across.extend((0..row).map(|at| {
            let before = at.checked_sub(channels).unwrap_or(at);
            let after = if at + channels < row { at + channels } else { at };
            mean(pixels[before], pixels[at], pixels[after])
        }));
    }
    for (at, pixel) in image.iter_mut().enumerate() {
        let before = at.checked_sub(row).unwrap_or(at);
        let after = if at + row < across.len() { at + row } else { at };
        *pixel = *pixel * (1.0 - share) + mean(across[before], across[at], across[after]) * share;
    }
}
