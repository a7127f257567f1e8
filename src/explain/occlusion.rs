//! Occlusion sensitivity: the decrease of the logit when a window of the image is covered.

use tch::Tensor;

use super::gradient::MOST_IMAGES;
use super::passes::Passes;
use crate::graph::Graph;
use crate::render::Map;
use crate::types::ImageShape;
use crate::weights::host_values;

/// Parameters of [`occlusion`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Occlusion {
    /// Side of the window in pixels; `None`, the default, is a quarter of the image's shorter side. Clamped to
    /// between 1 and that side.
    pub window: Option<usize>,
    /// Pixels from one window to the next; `None`, the default, is a quarter of the window, rounded up. Clamped to
    /// between 1 and the window, so that every pixel is covered.
    pub stride: Option<usize>,
    /// The value of every covered pixel; 0, the default, is black.
    pub baseline: f32,
}

impl Occlusion {
    /// Side and stride of the window in pixels, for images of this shape.
    pub fn window_and_stride(&self, shape: ImageShape) -> (usize, usize) {
        let shorter = shape.height.min(shape.width);
        let window = self.window.unwrap_or(shorter / 4).clamp(1, shorter.max(1));
        (window, self.stride.unwrap_or(window.div_ceil(4)).clamp(1, window))
    }
}

/// For each image a map of its height and width: the decrease of the target's logit when a window is covered,
/// averaged over the windows that cover a pixel. Signed: positive where covering makes the class less likely. A
/// window covers all channels and is clipped at the right and lower edges. No gradient is taken; an image costs a
/// forward pass for each window that changes it, at most about 150 with the defaults.
///
/// Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), section 4.2, with the logit
/// in place of the probability, which hardly falls if the network is confident. The numbers are those of Captum 0.9's
/// `Occlusion` with windows over all channels.
///
/// `images_nchw` is `N x C x H x W`, `targets` one class for each image.
///
/// # Panics
/// If `targets` is not one class of the network for each image, or the weights or images do not have the network's
/// shapes: a bug in the caller.
pub fn occlusion(
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    targets: &[usize],
    settings: &Occlusion,
) -> Vec<Map> {
    by_passes(&mut Passes::new(network, weights), network.input(), images_nchw, targets, settings)
}

/// [`occlusion`] with the caller's passes.
pub(super) fn by_passes(
    passes: &mut Passes<'_>,
    shape: ImageShape,
    images_nchw: &Tensor,
    targets: &[usize],
    settings: &Occlusion,
) -> Vec<Map> {
    let windows = windows(shape, settings);
    let each = targets.iter().enumerate().flat_map(|(number, &target)| {
        let image_1chw = images_nchw.narrow(0, number as i64, 1);
        of_image(passes, shape, &image_1chw, target, &windows, settings.baseline)
    });
    each.collect()
}

/// Rows and columns covered by one window.
struct Window {
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

/// All windows, from the top left, row by row.
fn windows(shape: ImageShape, settings: &Occlusion) -> Vec<Window> {
    let (window, stride) = settings.window_and_stride(shape);
    let starts = |side: usize| {
        let last = (side - window).div_ceil(stride);
        (0..=last).map(move |i| i * stride..(i * stride + window).min(side))
    };
    let row =
        |rows: std::ops::Range<usize>| starts(shape.width).map(move |columns| Window { rows: rows.clone(), columns });
    starts(shape.height).flat_map(row).collect()
}

fn of_image(
    passes: &mut Passes<'_>,
    shape: ImageShape,
    image_1chw: &Tensor,
    target: usize,
    windows: &[Window],
    baseline: f32,
) -> Option<Map> {
    let ImageShape { height, width, channels } = shape;
    let image = host_values(image_1chw);
    let whole = passes.target_logits(image_1chw, target).first().copied()?;
    let (mut sums, mut counts) = (vec![0.0_f64; height * width], vec![0_u32; height * width]);
    // A window whose pixels all equal the baseline leaves the logit unchanged: half of the windows of a digit.
    let changes = |window: &&Window| {
        image.chunks_exact(height * width).any(|plane| {
            window.rows.clone().any(|row| plane[row * width..][window.columns.clone()].iter().any(|&v| v != baseline))
        })
    };
    let (changing, idle): (Vec<&Window>, Vec<&Window>) = windows.iter().partition(changes);
    let mut add = |window: &Window, fall: f64| {
        for row in window.rows.clone() {
            for at in window.columns.clone().map(|column| row * width + column) {
                sums[at] += fall;
                counts[at] += 1;
            }
        }
    };
    // A logit that is not finite makes these windows NaN as well.
    let fall = if whole.is_finite() { 0.0 } else { f64::NAN };
    idle.into_iter().for_each(|window| add(window, fall));
    for windows in changing.chunks(MOST_IMAGES) {
        let mut covered = image.repeat(windows.len());
        for (image, window) in covered.chunks_exact_mut(image.len()).zip(windows) {
            for plane in image.chunks_exact_mut(height * width) {
                for row in window.rows.clone() {
                    plane[row * width..][window.columns.clone()].fill(baseline);
                }
            }
        }
        let size = [windows.len(), channels, height, width].map(|side| side as i64);
        let covered_nchw = Tensor::from_slice(&covered).view(size);
        for (window, logit) in windows.iter().zip(passes.target_logits(&covered_nchw, target)) {
            add(window, f64::from(whole - logit));
        }
    }
    let means = sums.iter().zip(&counts).map(|(sum, &count)| (sum / f64::from(count.max(1))) as f32).collect();
    Map::new(height, width, means).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::tests::{formula_weights, small};

    #[test]
    fn windows_cover_every_pixel_and_are_cut_off_at_the_edge() {
        let shape = ImageShape { height: 10, width: 7, channels: 3 };
        let cover = |window, stride| {
            let windows = windows(shape, &Occlusion { window, stride, baseline: 0.0 });
            let mut counts = vec![0; 70];
            for window in &windows {
                assert!(window.rows.end <= 10 && window.columns.end <= 7);
                for row in window.rows.clone() {
                    window.columns.clone().for_each(|column| counts[row * 7 + column] += 1);
                }
            }
            assert!(counts.iter().all(|&count| count > 0), "{window:?} {stride:?}: {counts:?}");
            windows.len()
        };
        assert_eq!(cover(Some(3), Some(2)), 5 * 3);
        assert_eq!(cover(Some(4), Some(4)), 3 * 2);
        assert_eq!(cover(Some(7), Some(1)), 4);
        // Out of range: clamped.
        assert_eq!(cover(Some(0), Some(0)), 70);
        assert_eq!(cover(Some(usize::MAX), Some(usize::MAX)), 2);
        assert_eq!(cover(None, None), 70);
        let mnist = ImageShape { height: 28, width: 28, channels: 1 };
        assert_eq!(windows(mnist, &Occlusion::default()).len(), 144);
    }

    #[test]
    fn windows_that_change_nothing_are_passed_over_and_count() {
        let (network, shape) = small(1);
        let weights = formula_weights(&network);
        // A bright spot in a black image. Its map has to be the one computed from every window.
        let mut pixels = vec![0.0_f32; shape.len()];
        pixels[5 * shape.width + 4] = 1.0;
        let image = Tensor::from_slice(&pixels).view([1, 1, shape.height as i64, shape.width as i64]);
        let settings = Occlusion { window: Some(3), stride: Some(1), baseline: 0.0 };
        let map = &occlusion(&network, &weights, &image, &[7], &settings)[0];
        let logit = |image: &Tensor| host_values(&crate::forward::logits(&network, &weights, image))[7];
        let fall = logit(&image) - logit(&image.zeros_like());
        assert!(fall.abs() > 1e-3);
        for (at, &value) in map.values().iter().enumerate() {
            let (row, column) = (at / shape.width, at % shape.width);
            // Number of positions of a window of three that covers both this pixel and the bright one, and of all
            // that cover this one.
            let along = |place: usize, bright: usize, side: usize| {
                let covers = |start: usize, at: usize| (start..start + 3).contains(&at);
                let starts = || (0..=side - 3).filter(move |&start| covers(start, place));
                (starts().filter(|&start| covers(start, bright)).count(), starts().count())
            };
            let ((rows, all_rows), (columns, all_columns)) =
                (along(row, 5, shape.height), along(column, 4, shape.width));
            let want = fall * (rows * columns) as f32 / (all_rows * all_columns) as f32;
            assert!((value - want).abs() < 1e-4 * fall.abs(), "{row}, {column}: {value}, want {want}");
            assert!(rows * columns > 0 || value == 0.0);
        }
    }
}
