//! Figure and ground: which of the two is the lighter, and where the figure is.
//!
//! The ground is what lies along the edge of a picture. Paper that is photographed is not equally light everywhere, so
//! the ground is a surface of second degree, fitted to what lies along the edge and then to all that is near it.

use std::collections::VecDeque;

use super::look::Ground;
use crate::types::unit;

/// The edge of a picture is this part of its shorter side wide, or one pixel.
const EDGE: usize = 16;
/// At most this many pixels take part in a fit.
const FITTED: usize = 1 << 14;
const ROUNDS: usize = 4;
/// A smaller difference in brightness than this is none, whatever the noise; brightness is from 0 to 1.
const LEAST: f32 = 0.06;
/// Noise reaches this many standard deviations.
const NOISE: f32 = 4.0;
/// To tell figure from ground, less is enough: noise adds as much on one side as on the other.
const SPREAD: f32 = 1.5;
/// One side is the figure's when it has this share more of what stands out than the other.
const CLEAR: f64 = 0.2;
/// A part with less than this share of the largest one's pixels is a speck.
const SPECK: usize = 20;

/// A picture in shades of grey, 0 to 1, rows from the top, both sides at least 1.
pub(super) struct Shades {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

/// Pixels with contrast to the ground.
pub(super) struct Figure {
    /// Of each pixel of the picture, how far it stands out, from 0, ground, to 1, as far as a picture can show it.
    pub relief: Vec<f32>,
    /// `x`, `y`, `width` and `height` of what stands out.
    pub frame: (usize, usize, usize, usize),
}

impl Shades {
    /// # Panics
    /// If the number of bytes is not `width * height`, or 0: a bug in the caller.
    pub fn new(width: usize, height: usize, bytes: &[u8]) -> Shades {
        assert!(width * height == bytes.len() && !bytes.is_empty(), "{width}x{height} pixels in {} bytes", bytes.len());
        Shades { width, height, values: bytes.iter().map(|&byte| unit(byte)).collect() }
    }

    /// The ground that the picture has: the one that more stands out from, in the other direction. Nothing for a
    /// picture that shows nothing.
    pub fn ground(&self) -> Option<Ground> {
        let surface = self.surface_of_edge();
        let (mut darker, mut lighter) = (0.0_f64, 0.0_f64);
        let floor = surface.floor(SPREAD);
        for above in self.above(&surface) {
            lighter += f64::from((above - floor).max(0.0));
            darker += f64::from((-above - floor).max(0.0));
        }
        let clear = CLEAR * (darker + lighter);
        if darker - lighter > clear {
            Some(Ground::Light)
        } else if lighter - darker > clear {
            Some(Ground::Dark)
        } else {
            None
        }
    }

    /// The light that falls on each pixel, 1 where there is most, if the picture has one ground.
    pub fn light(&self) -> Option<Vec<f32>> {
        let surface = self.surface();
        let reach = surface.floor(NOISE);
        let near = self.above(&surface).filter(|above| above.abs() <= reach).count();
        if near * 5 < self.values.len() * 3 {
            return None;
        }
        let light: Vec<f32> = (0..self.values.len()).map(|i| surface.at(self.place(i))).collect();
        let most = light.iter().copied().fold(0.0, f32::max);
        (most > 0.0).then(|| light.iter().map(|value| (value / most).max(0.05)).collect())
    }

    /// The brightness along the edge: half of the pixels there are darker.
    pub fn edge(&self) -> f32 {
        median(self.edge_pixels().map(|i| self.values[i]).collect())
    }

    /// Pixels with contrast to `ground`, at least the share `faintest` of the largest contrast. `None` if there are none.
    pub fn figure(&self, ground: Ground, faintest: f32) -> Option<Figure> {
        let surface = self.surface();
        let floor = surface.floor(NOISE);
        let mut relief: Vec<f32> = Vec::with_capacity(self.values.len());
        for (i, above) in self.above(&surface).enumerate() {
            let under = self.values[i] - above;
            let (height, room) = match ground {
                Ground::Light => (-above, under),
                Ground::Dark => (above, 1.0 - under),
            };
            relief.push(if height > floor { (height / room.max(LEAST)).min(1.0) } else { 0.0 });
        }
        let mut out: Vec<f32> = relief.iter().copied().filter(|height| *height > 0.0).collect();
        if out.is_empty() {
            return None;
        }
        let rank = out.len() * 9 / 10; // below the length, whatever that is
        let (_, peak, _) = out.select_nth_unstable_by(rank, f32::total_cmp);
        let least = floor.max(*peak * faintest);
        let frame = self.keep_figure(&mut relief, least)?;
        Some(Figure { relief, frame })
    }

    /// Of the connected parts that stand out by `least`, the ones that are the figure: no specks, and nothing that runs
    /// out of the picture unless the largest part does. The others are wiped out. The frame of what is kept.
    fn keep_figure(&self, relief: &mut [f32], least: f32) -> Option<(usize, usize, usize, usize)> {
        let mut parts: Vec<Part> = Vec::new();
        let mut seen = vec![false; relief.len()];
        for start in 0..relief.len() {
            if !seen[start] && relief[start] >= least {
                parts.push(self.part(relief, least, start, &mut seen));
            }
        }
        let largest = parts.iter().max_by_key(|part| part.pixels.len())?;
        let (size, runs_out) = (largest.pixels.len(), largest.runs_out);
        let mut frame: Option<(usize, usize, usize, usize)> = None;
        for part in &parts {
            if part.pixels.len() * SPECK < size || (part.runs_out && !runs_out) {
                part.pixels.iter().for_each(|&i| relief[i] = 0.0);
                continue;
            }
            for &i in &part.pixels {
                let (x, y) = (i % self.width, i / self.width);
                let (left, top, right, bottom) = frame.unwrap_or((x, y, x, y));
                frame = Some((left.min(x), top.min(y), right.max(x), bottom.max(y)));
            }
        }
        frame.map(|(left, top, right, bottom)| (left, top, right - left + 1, bottom - top + 1))
    }

    /// The pixels connected with `start`, corners included, that stand out by `least`.
    fn part(&self, relief: &[f32], least: f32, start: usize, seen: &mut [bool]) -> Part {
        let mut part = Part { pixels: Vec::new(), runs_out: false };
        let mut queue = VecDeque::from([start]);
        seen[start] = true;
        while let Some(i) = queue.pop_front() {
            part.pixels.push(i);
            let (x, y) = (i % self.width, i / self.width);
            part.runs_out |= x == 0 || y == 0 || x + 1 == self.width || y + 1 == self.height;
            for y in y.saturating_sub(1)..=(y + 1).min(self.height - 1) {
                for x in x.saturating_sub(1)..=(x + 1).min(self.width - 1) {
                    let near = y * self.width + x;
                    if !seen[near] && relief[near] >= least {
                        seen[near] = true;
                        queue.push_back(near);
                    }
                }
            }
        }
        part
    }

    /// Brightness of each pixel above the ground.
    fn above(&self, surface: &Surface) -> impl Iterator<Item = f32> {
        self.values.iter().enumerate().map(move |(i, value)| value - surface.at(self.place(i)))
    }

    /// The ground along the edge, and what that makes of it further in. A large figure cannot bend it.
    fn surface_of_edge(&self) -> Surface {
        let edge = thinned(self.edge_pixels().collect());
        let mut surface = Surface::level(self.edge());
        surface.deviation = self.deviation(&surface, &edge);
        self.refined(surface, &edge)
    }

    /// The ground everywhere. Light that falls off towards one place is followed into the middle of the picture.
    fn surface(&self) -> Surface {
        self.refined(self.surface_of_edge(), &thinned((0..self.values.len()).collect()))
    }

    /// Fitted again and again to those pixels that are near it: what is far from the ground is figure.
    fn refined(&self, mut surface: Surface, pixels: &[usize]) -> Surface {
        for _ in 0..ROUNDS {
            let reach = surface.floor(3.0);
            let is_near = |&i: &usize| (self.values[i] - surface.at(self.place(i))).abs() <= reach;
            let near: Vec<usize> = pixels.iter().copied().filter(is_near).collect();
            let points = near.iter().map(|&i| (self.place(i), self.values[i]));
            let Some(fitted) = Surface::fit(points) else { break };
            surface = fitted;
            surface.deviation = self.deviation(&surface, &near);
        }
        surface
    }

    /// The standard deviation from the surface, by the median, which a figure at the edge does not move much.
    fn deviation(&self, surface: &Surface, pixels: &[usize]) -> f32 {
        1.4826 * median(pixels.iter().map(|&i| (self.values[i] - surface.at(self.place(i))).abs()).collect())
    }

    /// Position of a pixel, from -1 to 1 in both directions.
    fn place(&self, i: usize) -> (f32, f32) {
        let along = |at: usize, len: usize| (2 * at + 1) as f32 / len as f32 - 1.0;
        (along(i % self.width, self.width), along(i / self.width, self.height))
    }

    fn edge_pixels(&self) -> impl Iterator<Item = usize> {
        let depth = (self.width.min(self.height) / EDGE).max(1);
        let (width, height) = (self.width, self.height);
        (0..width * height).filter(move |i| {
            let (x, y) = (i % width, i / width);
            x < depth || y < depth || x + depth >= width || y + depth >= height
        })
    }
}

/// Connected pixels.
struct Part {
    pixels: Vec<usize>,
    /// True if it touches the edge of the picture.
    runs_out: bool,
}

/// Brightness of the ground: `a + b x + c y + d x² + e x y + f y²`.
struct Surface {
    terms: [f32; 6],
    /// Of the pixels that it was fitted to.
    deviation: f32,
}

impl Surface {
    fn level(value: f32) -> Surface {
        Surface { terms: [value, 0.0, 0.0, 0.0, 0.0, 0.0], deviation: 0.0 }
    }

    /// A smaller difference from it is none.
    fn floor(&self, deviations: f32) -> f32 {
        (deviations * self.deviation).max(LEAST)
    }

    fn at(&self, place: (f32, f32)) -> f32 {
        powers(place).iter().zip(self.terms).map(|(power, term)| power * term).sum::<f32>().clamp(0.0, 1.0)
    }

    /// By least squares; nothing where the points do not determine it.
    fn fit(points: impl Iterator<Item = ((f32, f32), f32)>) -> Option<Surface> {
        // The normal equations, with the right-hand side as a seventh column.
        let mut rows = [[0.0_f64; 7]; 6];
        for (place, value) in points {
            let powers = powers(place).map(f64::from);
            for (row, power) in rows.iter_mut().zip(powers) {
                for (cell, other) in row.iter_mut().zip(powers.into_iter().chain([f64::from(value)])) {
                    *cell += power * other;
                }
            }
        }
        let terms = solve(rows)?;
        Some(Surface { terms: terms.map(|term| term as f32), deviation: 0.0 })
    }
}

fn powers((x, y): (f32, f32)) -> [f32; 6] {
    [1.0, x, y, x * x, x * y, y * y]
}

/// Gauss and Jordan's elimination with pivots.
fn solve(mut rows: [[f64; 7]; 6]) -> Option<[f64; 6]> {
    let scale = rows[0][0];
    for column in 0..6 {
        let pivot = (column..6).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, pivot);
        if rows[column][column].abs() <= 1e-6 * scale {
            return None;
        }
        let chosen = rows[column];
        for (number, row) in rows.iter_mut().enumerate() {
            if number != column {
                let factor = row[column] / chosen[column];
                row.iter_mut().zip(chosen).for_each(|(cell, other)| *cell -= factor * other);
            }
        }
    }
    Some(std::array::from_fn(|i| rows[i][6] / rows[i][i]))
}

/// Evenly spread, at most [`FITTED`] of them.
fn thinned(pixels: Vec<usize>) -> Vec<usize> {
    // An odd stride does not keep to the columns of a picture whose width is a power of two.
    let stride = pixels.len().div_ceil(FITTED).max(1) | 1;
    pixels.into_iter().step_by(stride).collect()
}

/// 0 for none.
fn median(mut values: Vec<f32>) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};
    use crate::types::Seed;

    const WIDTH: usize = 120;
    const HEIGHT: usize = 90;

    /// A bar of `ink` at 60..70 x 20..60 on paper whose light falls off to the right and to the corners, with noise.
    fn photograph(ink: f32, drawn: impl Fn(usize, usize) -> bool) -> Shades {
        let mut chance = Stream::new(Seed(1), Purpose::Test, 0, 0);
        let mut bytes = Vec::new();
        for i in 0..WIDTH * HEIGHT {
            let (x, y) = (i % WIDTH, i / WIDTH);
            let (u, v) = (x as f32 / WIDTH as f32 - 0.5, y as f32 / HEIGHT as f32 - 0.5);
            let light = 0.6 - 0.25 * u - 0.4 * (u * u + v * v);
            let value = if drawn(x, y) { light * ink } else { light };
            bytes.push(((value + chance.uniform(-0.03, 0.03)) * 255.0).clamp(0.0, 255.0) as u8);
        }
        Shades::new(WIDTH, HEIGHT, &bytes)
    }

    fn bar(x: usize, y: usize) -> bool {
        (60..70).contains(&x) && (20..60).contains(&y)
    }

    #[test]
    fn uneven_light_is_no_figure() {
        let empty = photograph(1.0, bar);
        assert_eq!(empty.ground(), None);
        assert!(empty.figure(Ground::Light, 0.3).is_none() && empty.figure(Ground::Dark, 0.3).is_none());
    }

    #[test]
    fn ink_is_found_where_it_is() {
        let dark = photograph(0.4, bar);
        assert_eq!(dark.ground(), Some(Ground::Light));
        let figure = dark.figure(Ground::Light, 0.3).unwrap();
        assert_eq!(figure.frame, (60, 20, 10, 40));
        let heights = figure.relief.iter().filter(|height| **height > 0.0);
        assert!(heights.clone().count() >= 400 && heights.clone().all(|height| (0.3..0.8).contains(height)));
        let light = photograph(1.5, bar);
        assert_eq!(light.ground(), Some(Ground::Dark));
        assert_eq!(light.figure(Ground::Dark, 0.3).unwrap().frame, (60, 20, 10, 40));
    }

    #[test]
    fn specks_and_what_runs_out_of_the_picture_are_left_out() {
        let shades = photograph(0.4, |x, y| bar(x, y) || (x == 10 && y == 10) || (y > 80 && x < 30));
        let figure = shades.figure(Ground::Light, 0.3).unwrap();
        assert_eq!(figure.frame, (60, 20, 10, 40));
        assert_eq!((figure.relief[10 * WIDTH + 10], figure.relief[85 * WIDTH + 10]), (0.0, 0.0));
        // Unless nothing else is as large.
        let shades = photograph(0.4, |x, _| (50..60).contains(&x));
        assert_eq!(shades.figure(Ground::Light, 0.3).unwrap().frame, (50, 0, 10, HEIGHT));
    }

    #[test]
    fn the_smallest_pictures_have_a_ground_or_none() {
        for (width, height) in [(1, 1), (1, 2), (2, 2), (3, 1), (1, 30), (5, 5)] {
            for byte in [0, 100, 255] {
                let shades = Shades::new(width, height, &vec![byte; width * height]);
                assert_eq!(shades.ground(), None, "{width}x{height} of {byte}");
                assert!(shades.figure(Ground::Light, 0.3).is_none());
            }
        }
        let mut dot = [255; 25];
        dot[12] = 0;
        let shades = Shades::new(5, 5, &dot);
        assert_eq!(shades.ground(), Some(Ground::Light));
        assert_eq!(shades.figure(Ground::Light, 0.3).unwrap().frame, (2, 2, 1, 1));
    }

    #[test]
    fn a_surface_is_fitted_to_the_last_digit() {
        let want = Surface { terms: [0.5, 0.1, -0.05, -0.2, 0.03, 0.07], deviation: 0.0 };
        let places = (0..100).map(|i| ((i % 10) as f32 / 5.0 - 0.9, (i / 10) as f32 / 5.0 - 0.9));
        let fitted = Surface::fit(places.map(|place| (place, want.at(place)))).unwrap();
        assert!(fitted.terms.iter().zip(want.terms).all(|(got, want)| (got - want).abs() < 1e-5), "{:?}", fitted.terms);
        assert!(Surface::fit([((0.0, 0.0), 1.0); 9].into_iter()).is_none(), "one place determines no surface");
    }
}
