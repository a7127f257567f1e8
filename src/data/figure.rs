//! Figure and ground: which of the two is the lighter, and where the figure is.
//!
//! The ground is what lies along the edge of a picture. Paper that is photographed is not equally light everywhere, so
//! the ground is a surface of second degree, fitted to what lies along the edge and then to all that is near it.

use std::collections::VecDeque;

use super::look::Ground;

/// The edge of a picture is this part of its shorter side wide, or one pixel.
const EDGE: usize = 16;
/// At most this many pixels take part in a fit.
const FITTED: usize = 1 << 14;
const ROUNDS: usize = 5;
/// A smaller difference in brightness than this is none, whatever the noise; brightness is from 0 to 1.
const LEAST: f32 = 0.06;
/// Noise reaches this many standard deviations.
const NOISE: f32 = 4.0;
/// A part with less than this share of the largest one's pixels is a speck.
const SPECK: usize = 20;

/// A picture in shades of grey, 0 to 1, rows from the top, both sides at least 1.
pub(super) struct Shades {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

/// What stands out from the ground.
pub(super) struct Figure {
    /// Of each pixel of the picture, how far it stands out, from 0, ground, to 1, as far as a picture can show it.
    pub relief: Vec<f32>,
    /// `x`, `y`, `width` and `height` of what stands out.
    pub frame: (usize, usize, usize, usize),
}

impl Shades {
    /// # Panics
    /// When the number of bytes is not `width * height`, or 0: a bug in the caller.
    pub fn new(width: usize, height: usize, bytes: &[u8]) -> Shades {
        assert!(width * height == bytes.len() && !bytes.is_empty(), "{width}x{height} pixels in {} bytes", bytes.len());
        Shades { width, height, values: bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect() }
    }

    /// The ground that the picture has: the one that more stands out from, in the other direction. Nothing for a
    /// picture that shows nothing.
    pub fn ground(&self) -> Option<Ground> {
        let surface = self.surface();
        let (mut darker, mut lighter) = (0.0_f64, 0.0_f64);
        for (above, floor) in self.above(&surface) {
            lighter += f64::from((above - floor).max(0.0));
            darker += f64::from((-above - floor).max(0.0));
        }
        match darker.total_cmp(&lighter) {
            std::cmp::Ordering::Greater => Some(Ground::Light),
            std::cmp::Ordering::Less => Some(Ground::Dark),
            std::cmp::Ordering::Equal => None,
        }
    }

    /// The brightness along the edge: half of the pixels there are darker.
    pub fn edge(&self) -> f32 {
        median(self.edge_pixels().map(|i| self.values[i]).collect())
    }

    /// What stands out from `ground`, with everything that stands out at least by the share `faintest` of what stands out
    /// most. Nothing where nothing does.
    pub fn figure(&self, ground: Ground, faintest: f32) -> Option<Figure> {
        let surface = self.surface();
        let mut floor = 0.0;
        let mut relief: Vec<f32> = Vec::with_capacity(self.values.len());
        for (i, (above, noise)) in self.above(&surface).enumerate() {
            floor = noise;
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

    /// How much each pixel is lighter than the ground, with the size of the difference that is noise yet.
    fn above(&self, surface: &Surface) -> impl Iterator<Item = (f32, f32)> {
        let floor = (NOISE * surface.deviation).max(LEAST);
        self.values.iter().enumerate().map(move |(i, value)| (value - surface.at(self.place(i)), floor))
    }

    fn surface(&self) -> Surface {
        let edge: Vec<usize> = thinned(self.edge_pixels().collect());
        let all: Vec<usize> = thinned((0..self.values.len()).collect());
        let mut surface = Surface::level(self.edge());
        surface.deviation = self.deviation(&surface, &edge);
        for round in 0..ROUNDS {
            // From the edge inwards: what is far from the ground is figure, and takes no part.
            let candidates = if round == 0 { &edge } else { &all };
            let reach = (3.0 * surface.deviation).max(LEAST);
            let near: Vec<usize> = candidates
                .iter()
                .copied()
                .filter(|&i| (self.values[i] - surface.at(self.place(i))).abs() <= reach)
                .collect();
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

    /// Where a pixel is, from -1 to 1 in both directions.
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
    /// Whether it touches the edge of the picture.
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
