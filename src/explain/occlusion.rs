//! Occlusion sensitivity: how far the logit falls when a window of the image is covered.

use tch::Tensor;

use super::gradient::MOST_IMAGES;
use super::passes::{Outcome, Passes};
use crate::model::{Network, host_values};
use crate::render::Map;
use crate::types::ImageShape;

/// How [`occlusion`] covers an image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Occlusion {
    /// Pixels of the window's side; `None`, the default, is a quarter of the image's shorter side. At least 1 and at
    /// most that side; others count as the nearest of them.
    pub window: Option<usize>,
    /// Pixels from a window to the next; `None`, the default, is a quarter of the window, rounded up. At least 1 and at
    /// most the window, so that every pixel is covered; others count as the nearest of them.
    pub stride: Option<usize>,
    /// The value of every covered pixel; 0, the default, is black.
    pub baseline: f32,
}

impl Occlusion {
    /// Pixels of the window's side and from one to the next, on images of this shape.
    pub fn window_and_stride(&self, shape: ImageShape) -> (usize, usize) {
        let shorter = shape.height.min(shape.width);
        let window = self.window.unwrap_or(shorter / 4).clamp(1, shorter.max(1));
        (window, self.stride.unwrap_or(window.div_ceil(4)).clamp(1, window))
    }
}

/// For each image a map of its height and width: the logit of its target less that of the image with a window covered,
/// the mean over the windows that cover a pixel. Signed: positive where covering makes the class less likely. A window
/// covers all channels; one that would stand out at the right or below is cut off. No gradient is taken; an image
/// costs a forward pass for each window that changes it, at most some 150 with the defaults.
///
/// Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), section 4.2, with the logit
/// in place of the probability, which a confident network hardly lets fall. The numbers are those of Captum 0.9's
/// `Occlusion` with windows over all channels.
///
/// `images_nchw` is `N x C x H x W`, `targets` one class for each image.
///
/// # Panics
/// When the targets are not one for each image or no classes of the network, or the shapes of the weights or images are
/// not the network's: a bug in the caller.
pub fn occlusion(
    network: &Network,
    weights: &[Tensor],
    images_nchw: &Tensor,
    targets: &[usize],
    settings: &Occlusion,
) -> Vec<Map> {
    by_passes(&mut Passes::new(network, weights, Outcome::Logits), network.input(), images_nchw, targets, settings)
}

/// [`occlusion`] by passes of the caller's.
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

/// Rows and columns that are covered at once.
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
    // A window over what is of the baseline's colour already leaves the logit as it is: half of a digit's are.
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
    // Of a network that has no finite answer nothing can be said there, either.
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
        // Out of range: the nearest that is in it.
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
        // A bright spot in a black image, of which the map has to be that of every window.
        let mut pixels = vec![0.0_f32; shape.len()];
        pixels[5 * shape.width + 4] = 1.0;
        let image = Tensor::from_slice(&pixels).view([1, 1, shape.height as i64, shape.width as i64]);
        let settings = Occlusion { window: Some(3), stride: Some(1), baseline: 0.0 };
        let map = &occlusion(&network, &weights, &image, &[7], &settings)[0];
        let logit = |image: &Tensor| host_values(&network.forward(&weights, image))[7];
        let fall = logit(&image) - logit(&image.zeros_like());
        assert!(fall.abs() > 1e-3);
        for (at, &value) in map.values().iter().enumerate() {
            let (row, column) = (at / shape.width, at % shape.width);
            // Places of a window of three that covers both this pixel and the bright one, among all that cover this one.
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
