//! Strokes against their local ground: a morphological closing gives the ground, and strokes are what it fills.
//!
//! The closing fills whatever is narrower than its window and darker than its surroundings (the black-hat transform).
//! Tables, a scanner's lid and shadows are wider than that: they stay in the ground, with sharp edges.

use std::collections::VecDeque;

use image::{DynamicImage, ImageBuffer, Luma, imageops};

use super::figure::Shades;
use super::look::Ground;

/// Values of 0 to 1, rows from the top.
pub(super) type Plane = ImageBuffer<Luma<f32>, Vec<f32>>;

/// A ground that is darker than this share of the lightest one counts as this light: noise on a dark table is no stroke.
const DARKEST: f32 = 0.3;
/// Noise reaches this many standard deviations.
const NOISE: f32 = 4.0;
/// A smaller relief than this is none.
const LEAST: f32 = 0.035;

/// In smaller pictures every pixel counts.
const COARSE: u32 = 100;

/// Strokes of one polarity.
pub(super) struct Ink {
    /// The share of its ground's light that a pixel is missing.
    pub relief: Plane,
    /// The light of the ground, negative if the ground is dark.
    pub ground: Plane,
    /// Relief that noise does not reach.
    pub floor: f32,
}

impl Ink {
    /// Strokes on `ground`, narrower than the share `window` of the picture's shorter side.
    pub fn of(image: &DynamicImage, ground: Ground, window: f32) -> Ink {
        let shorter = image.width().min(image.height()) as f32;
        let radius = ((shorter * window / 2.0).round() as usize).max(1);
        let light = light(image);
        let layers: Vec<(Plane, Plane)> =
            channels(image, ground, light.as_ref()).iter().map(|channel| layer(channel, radius)).collect();
        // The channel in which the pen stands out: red ink does not in red light.
        let mut relief = layers[0].0.clone();
        for (other, _) in &layers[1..] {
            relief.iter_mut().zip(other.iter()).for_each(|(most, value)| *most = most.max(*value));
        }
        let mut mean = layers[0].1.clone();
        for (i, value) in mean.iter_mut().enumerate() {
            *value = layers.iter().map(|(_, ground)| ground.as_raw()[i]).sum::<f32>() / layers.len() as f32;
        }
        let offset = median(relief.iter().copied());
        relief.iter_mut().for_each(|value| *value = (*value - offset).max(0.0));
        // Values below the median are noise alone.
        let deviation = 1.4826 * median(relief.iter().copied().filter(|value| *value > 0.0 && *value < 0.15));
        Ink { relief, ground: mean, floor: (NOISE * deviation.min(0.05)).max(LEAST) }
    }
}

/// The ground and the relief on it of one channel.
fn layer(channel: &Plane, radius: usize) -> (Plane, Plane) {
    let soft = smoothed(channel);
    // A small picture may be a drawing that fills it: it is taken to lie on more of its ground.
    let outside = (soft.width().min(soft.height()) < COARSE).then(|| quantile(soft.iter().copied(), 0.75));
    let ground = closed(&soft, radius, outside);
    let brightest = quantile(ground.iter().copied(), 0.95).max(0.05);
    let mut relief = soft;
    for (value, ground) in relief.iter_mut().zip(ground.iter()) {
        *value = ((ground - *value) / ground.max(DARKEST * brightest)).clamp(0.0, 1.0);
    }
    (relief, ground)
}

/// Illumination of a picture, 1 at its brightest, if all of it is one ground.
fn light(image: &DynamicImage) -> Option<Plane> {
    let grey = image.to_luma8();
    let shades = Shades::new(grey.width() as usize, grey.height() as usize, grey.as_raw());
    let light = shades.light()?;
    ImageBuffer::from_raw(image.width(), image.height(), light)
}

/// Light of each channel, reversed if the ground is dark, so that strokes are darker than it.
fn channels(image: &DynamicImage, ground: Ground, light: Option<&Plane>) -> Vec<Plane> {
    let plane = |pixel: &dyn Fn(u32, u32) -> u8| {
        ImageBuffer::from_fn(image.width(), image.height(), |x, y| {
            let fall = light.map_or(1.0, |light| light.get_pixel(x, y).0[0]);
            let value = (f32::from(pixel(x, y)) / 255.0 / fall).min(1.0);
            Luma([if ground == Ground::Light { value } else { 1.0 - value }])
        })
    };
    match image {
        DynamicImage::ImageRgb8(rgb) => (0..3).map(|channel| plane(&|x, y| rgb.get_pixel(x, y).0[channel])).collect(),
        other => {
            let grey = other.to_luma8();
            vec![plane(&|x, y| grey.get_pixel(x, y).0[0])]
        }
    }
}

/// The mean of each pixel and its neighbours, nearer ones counted twice, without what single pixels of noise add.
fn smoothed(plane: &Plane) -> Plane {
    if plane.width().min(plane.height()) < COARSE {
        return plane.clone();
    }
    let across = |plane: &Plane| {
        let width = plane.width() as usize;
        let mut soft = plane.clone();
        for (from, to) in plane.chunks_exact(width).zip(soft.chunks_exact_mut(width)) {
            for x in 0..width {
                to[x] = 0.25 * from[x.saturating_sub(1)] + 0.5 * from[x] + 0.25 * from[(x + 1).min(width - 1)];
            }
        }
        soft
    };
    imageops::rotate270(&across(&imageops::rotate90(&across(plane))))
}

/// Morphological closing: everything dark that is narrower than `2 radius + 1` is filled. Beyond the edge of the picture,
/// all is as light as `outside`, or as the nearest pixels.
fn closed(plane: &Plane, radius: usize, outside: Option<f32>) -> Plane {
    let reach = |plane: &Plane, better: fn(f32, f32) -> bool, outside: Option<f32>| {
        let across = rows(plane, radius, better, outside);
        imageops::rotate270(&rows(&imageops::rotate90(&across), radius, better, outside))
    };
    reach(&reach(plane, |a, b| a >= b, outside), |a, b| a <= b, None)
}

/// The best value within `radius` of each pixel of its row.
fn rows(plane: &Plane, radius: usize, better: fn(f32, f32) -> bool, outside: Option<f32>) -> Plane {
    let width = plane.width() as usize;
    let mut found = plane.clone();
    let mut best: VecDeque<usize> = VecDeque::new();
    for (from, to) in plane.chunks_exact(width).zip(found.chunks_exact_mut(width)) {
        best.clear();
        for next in 0..width + radius {
            if next < width {
                while best.back().is_some_and(|&last| better(from[next], from[last])) {
                    best.pop_back();
                }
                best.push_back(next);
            }
            if next >= radius {
                let at = next - radius;
                while best.front().is_some_and(|&first| first + radius < at) {
                    best.pop_front();
                }
                to[at] = best.front().map_or(from[at], |&first| from[first]);
                if let Some(outside) = outside
                    && (at < radius || at + radius >= width)
                    && better(outside, to[at])
                {
                    to[at] = outside;
                }
            }
        }
    }
    found
}

fn median(values: impl Iterator<Item = f32>) -> f32 {
    quantile(values, 0.5)
}

/// 0 for no values.
pub(super) fn quantile(values: impl Iterator<Item = f32>, share: f32) -> f32 {
    let mut values: Vec<f32> = values.collect();
    if values.is_empty() {
        return 0.0;
    }
    let rank = ((values.len() - 1) as f32 * share) as usize;
    *values.select_nth_unstable_by(rank, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::GrayImage;

    fn ink(shade: impl Fn(u32, u32) -> u8, ground: Ground) -> Ink {
        let image = DynamicImage::ImageLuma8(GrayImage::from_fn(160, 120, |x, y| Luma([shade(x, y)])));
        Ink::of(&image, ground, 0.3)
    }

    fn stroke(x: u32, y: u32) -> bool {
        (70..80).contains(&x) && (30..90).contains(&y)
    }

    #[test]
    fn strokes_stand_out_from_paper_and_a_table_does_not() {
        let sheet = |x: u32, y: u32| if (20..150).contains(&x) && y < 105 { 200 } else { 40 };
        let found = ink(|x, y| if stroke(x, y) { 50 } else { sheet(x, y) }, Ground::Light);
        let at = |x, y| found.relief.get_pixel(x, y).0[0];
        assert!((at(75, 60) - 0.75).abs() < 0.02, "{}", at(75, 60));
        assert!([(50, 60), (120, 90), (22, 50), (140, 95)].iter().all(|&(x, y)| at(x, y) < 0.1));
        // Far from the paper, the table is its own ground.
        assert!(at(5, 60) < 0.1);
    }

    #[test]
    fn light_strokes_stand_out_from_a_board() {
        let found = ink(|x, y| if stroke(x, y) { 220 } else { 30 }, Ground::Dark);
        assert!(found.relief.get_pixel(75, 60).0[0] > 0.7 && found.relief.get_pixel(50, 60).0[0] < 0.05);
    }

    #[test]
    fn a_pen_stands_out_in_the_channel_that_shows_it() {
        let image =
            image::RgbImage::from_fn(160, 120, |x, y| image::Rgb(if stroke(x, y) { [240, 230, 40] } else { [240; 3] }));
        let found = Ink::of(&DynamicImage::ImageRgb8(image), Ground::Light, 0.3);
        assert!(found.relief.get_pixel(75, 60).0[0] > 0.8);
    }

    #[test]
    fn the_best_of_a_window_is_that_of_a_search() {
        let values: Plane = ImageBuffer::from_fn(23, 2, |x, y| Luma([((x * 7 + y * 5) % 11) as f32]));
        for radius in [1, 3, 30] {
            let found = rows(&values, radius, |a, b| a >= b, None);
            for (x, y, pixel) in found.enumerate_pixels() {
                let near = x.saturating_sub(radius as u32)..=(x + radius as u32).min(22);
                let want = near.map(|x| values.get_pixel(x, y).0[0]).fold(0.0, f32::max);
                assert_eq!(pixel.0[0], want, "{x}, {y} within {radius}");
            }
        }
    }
}
