//! Lines that are no part of what is written: ruled and squared paper, boxes.
//!
//! A line is straight, long, thin and nearly level or upright, and it goes on beyond what is written: out of the picture,
//! or past the figure on both sides. Where a stroke crosses it, the stroke stays (the way staff lines are removed from
//! sheet music).

use super::ink::Plane;
use super::parts::{Frame, Mask};

/// Slopes that are tried, to both sides of level, in steps of [`STEP`].
const SLOPES: i32 = 16;
const STEP: f32 = 0.014;
/// Shorter lines than this share of the picture's shorter side are strokes.
const SHORTEST: f32 = 0.2;
/// Thicker ones, too.
const THICKEST: f32 = 0.05;
/// Every so many pixels of a line are looked at first.
const STRIDE: usize = 5;
/// Smaller pictures are not searched.
const SMALLEST: usize = 64;

/// Course of a line: `y = start + slope (x - left)`; of an upright one, with `x` and `y` exchanged.
#[derive(Clone, Debug)]
struct Line {
    left: usize,
    right: usize,
    start: f32,
    slope: f32,
    pixels: Vec<usize>,
    thickness: usize,
    /// Mean of the relief.
    strength: f32,
    /// True if it runs on to the edge of the picture at either end.
    runs_out: bool,
}

impl Line {
    fn y(&self, x: usize) -> f32 {
        self.start + self.slope * (x - self.left) as f32
    }

    fn len(&self) -> usize {
        self.right - self.left + 1
    }
}

/// A mask without its lines, and their number.
pub(super) fn without_lines(mask: &Mask, relief: &Plane) -> (Mask, usize) {
    if mask.width.min(mask.height) < SMALLEST {
        return (mask.clone(), 0);
    }
    let level = lines(mask, &|x, y| relief.as_raw()[y * mask.width + x]);
    let mut rest = mask.clone();
    level.iter().for_each(|line| erase(&mut rest, line));
    let turned = turn(&rest);
    let mut upright: Vec<Line> = lines(&turned, &|x, y| relief.as_raw()[x * mask.width + y]);
    for line in &mut upright {
        line.pixels.iter_mut().for_each(|i| *i = (*i % mask.height) * mask.width + *i / mask.height);
        erase(&mut rest, line);
    }
    // Lines that turn out to be strokes are restored, and may reveal further strokes.
    let mut doubtful: Vec<(Line, bool)> =
        level.into_iter().map(|line| (line, true)).chain(upright.into_iter().map(|line| (line, false))).collect();
    for _ in 0..4 {
        let Some(choice) = rest.choice(relief) else { return (mask.clone(), 0) };
        let frame = choice.frame;
        let ink: usize = choice.parts.iter().map(|part| part.pixels.len()).sum();
        let pen = choice.stroke_width(&rest);
        let strength = choice.parts.iter().map(|part| part.ink).sum::<f32>() / ink as f32;
        let before = doubtful.len();
        let is_boxed =
            doubtful.iter().map(|(line, is_level)| side(line, &frame, *is_level)).fold(0, |a, b| a | b).count_ones()
                >= 3;
        doubtful.retain(|(line, is_level)| {
            let is_distinct = line.thickness as f32 <= 0.6 * pen || line.strength <= 0.7 * strength;
            let is_outside = side(line, &frame, *is_level) != 0;
            let stays_away = goes_beyond(line, &frame, *is_level)
                && (is_distinct || line.runs_out || (is_boxed && is_outside))
                && ink * 5 >= line.pixels.len().min(line.len());
            if !stays_away {
                line.pixels.iter().for_each(|&i| rest.set[i] = true);
            }
            stays_away
        });
        if doubtful.len() == before {
            break;
        }
    }
    let count = doubtful.len();
    (rest, count)
}

fn goes_beyond(line: &Line, frame: &Frame, is_level: bool) -> bool {
    let (first, last) = if is_level { (frame.left, frame.right) } else { (frame.top, frame.bottom) };
    let size = frame.longer();
    let (before, after) = (first as f32 - line.left as f32, line.right as f32 - last as f32);
    let margin = (size as f32 * 0.06).max(2.0);
    (before >= margin && after >= margin) || (line.runs_out && before.max(after) >= margin)
}

/// The side of the figure that a line passes, as a bit; none if it crosses.
fn side(line: &Line, frame: &Frame, is_level: bool) -> u8 {
    let (first, last) = if is_level { (frame.top, frame.bottom) } else { (frame.left, frame.right) };
    let (from, to) = (line.y(line.left), line.y(line.right));
    let slack = (last - first) as f32 * 0.1;
    let bit = if from.max(to) <= first as f32 + slack {
        1
    } else if from.min(to) >= last as f32 - slack {
        2
    } else {
        0
    };
    if is_level { bit } else { bit << 2 }
}

fn erase(mask: &mut Mask, line: &Line) {
    line.pixels.iter().for_each(|&i| mask.set[i] = false);
}

/// Rows become columns.
fn turn(mask: &Mask) -> Mask {
    let set = (0..mask.set.len()).map(|i| mask.set[(i % mask.height) * mask.width + i / mask.height]).collect();
    Mask { width: mask.height, height: mask.width, set }
}

/// The lines that are nearly level, the longest first, none of them twice.
fn lines(mask: &Mask, relief: &dyn Fn(usize, usize) -> f32) -> Vec<Line> {
    let shortest = (mask.width.min(mask.height) as f32 * SHORTEST) as usize;
    let gap = (mask.width / 80).max(2);
    let thickest = (mask.width.min(mask.height) as f32 * THICKEST).max(3.0) as usize;
    let mut found: Vec<Line> = Vec::new();
    let mut candidates: Vec<Line> = Vec::new();
    let thick = thickened(mask);
    for step in -SLOPES..=SLOPES {
        let slope = step as f32 * STEP;
        let drop = slope * mask.width as f32;
        let (lowest, highest) = ((-drop.max(0.0)) as i32, mask.height as i32 + (-drop).max(0.0) as i32);
        for start in lowest..highest {
            runs(&thick, start as f32, slope, shortest, gap, &mut candidates);
        }
    }
    candidates.sort_by_key(|line| std::cmp::Reverse(line.len()));
    let mut taken = vec![false; mask.set.len()];
    for mut line in candidates {
        let on = |x: usize| (line.y(x).round().clamp(0.0, mask.height as f32 - 1.0)) as usize * mask.width + x;
        let known = (line.left..=line.right).filter(|&x| taken[on(x)]).count();
        if known * 3 > line.len() {
            continue;
        }
        let columns: Vec<(usize, usize, usize)> =
            (line.left..=line.right).filter_map(|x| column(mask, x, line.y(x))).collect();
        let mut heights: Vec<usize> = columns.iter().map(|(_, top, bottom)| bottom - top + 1).collect();
        if heights.is_empty() {
            continue;
        }
        let middle = heights.len() * 2 / 5;
        let thickness = *heights.select_nth_unstable(middle).1;
        for &(x, top, bottom) in &columns {
            // Neighbouring slopes and starts see the same line.
            let (above, below) =
                (top.saturating_sub(thickness.min(4)), (bottom + thickness.min(4)).min(mask.height - 1));
            if bottom - top < 3 * thickness {
                (above..=below).for_each(|y| taken[y * mask.width + x] = true);
            }
        }
        if thickness > thickest {
            continue;
        }
        let thin = columns.iter().filter(|(_, top, bottom)| bottom - top < 2 * thickness + 1);
        line.pixels = thin.flat_map(|&(x, top, bottom)| (top..=bottom).map(move |y| y * mask.width + x)).collect();
        if line.pixels.is_empty() {
            continue;
        }
        line.thickness = thickness;
        let sum: f32 = line.pixels.iter().map(|&i| relief(i % mask.width, i / mask.width)).sum();
        line.strength = sum / line.pixels.len() as f32;
        found.push(line);
    }
    found
}

/// The set pixels of a column that hang together at a height, if there are any.
fn column(mask: &Mask, x: usize, y: f32) -> Option<(usize, usize, usize)> {
    let middle = y.round() as i64;
    let is_set = |y: i64| y >= 0 && y < mask.height as i64 && mask.set[y as usize * mask.width + x];
    let on = [middle, middle - 1, middle + 1].into_iter().find(|&y| is_set(y))?;
    let (mut top, mut bottom) = (on, on);
    while is_set(top - 1) {
        top -= 1;
    }
    while is_set(bottom + 1) {
        bottom += 1;
    }
    Some((x, top as usize, bottom as usize))
}

/// Long runs of set pixels along a line across the picture; `thick` is the mask with a pixel more above and below.
fn runs(thick: &Mask, start: f32, slope: f32, shortest: usize, gap: usize, found: &mut Vec<Line>) {
    let (width, height) = (thick.width, thick.height);
    let is_set = |x: usize| {
        let y = start + slope * x as f32 + 0.5;
        y >= 0.0 && (y as usize) < height && thick.set[y as usize * width + x]
    };
    // A look at a part of them rules out most lines.
    let (mut hits, mut most) = (0, 0);
    for x in (0..width).step_by(STRIDE) {
        hits = if is_set(x) { hits + 1 } else { hits / 2 };
        most = most.max(hits);
    }
    if most * STRIDE * 2 < shortest {
        return;
    }
    let mut run: Option<(usize, usize, usize)> = None;
    for x in 0..=width {
        let set = x < width && is_set(x);
        match &mut run {
            Some((_, last, count)) if set => (*last, *count) = (x, *count + 1),
            None if set => run = Some((x, x, 1)),
            Some((left, last, count)) if x > *last + gap || x == width => {
                let len = *last - *left + 1;
                if len >= shortest && *count * 10 >= len * 8 {
                    let y = |x: usize| start + slope * x as f32;
                    let near = |x: usize| {
                        let (y, high) = (y(x), height as f32 - 1.0);
                        x <= gap || x + gap + 1 >= width || y <= 1.0 || y >= high - 1.0
                    };
                    let runs_out = near(*left) || near(*last);
                    let (left, right) = (*left, *last);
                    found.push(Line {
                        left,
                        right,
                        start: y(left),
                        slope,
                        pixels: Vec::new(),
                        thickness: 0,
                        strength: 0.0,
                        runs_out,
                    });
                }
                run = set.then_some((x, x, 1));
            }
            _ => {}
        }
    }
}

/// With a pixel more above and below each one.
fn thickened(mask: &Mask) -> Mask {
    let w = mask.width;
    let set = &mask.set;
    let near = |i: usize| set[i] || (i >= w && set[i - w]) || (i + w < set.len() && set[i + w]);
    Mask { width: w, height: mask.height, set: (0..set.len()).map(near).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma};

    const WIDTH: u32 = 200;
    const HEIGHT: u32 = 150;

    /// Strokes and lines after the removal, and the number of removed lines; lines have half the relief of strokes.
    fn left(stroke: impl Fn(u32, u32) -> bool, line: impl Fn(u32, u32) -> bool) -> (Vec<bool>, usize) {
        let relief: Plane = ImageBuffer::from_fn(WIDTH, HEIGHT, |x, y| {
            Luma([if stroke(x, y) {
                0.8
            } else if line(x, y) {
                0.5
            } else {
                0.0
            }])
        });
        let (rest, lines) = without_lines(&Mask::of(&relief, 0.3), &relief);
        (rest.set, lines)
    }

    fn pixels(stroke: impl Fn(u32, u32) -> bool) -> Vec<bool> {
        (0..WIDTH * HEIGHT).map(|i| stroke(i % WIDTH, i / WIDTH)).collect()
    }

    /// A four: an upright, a bar that it crosses, and what joins them.
    fn four(x: u32, y: u32) -> bool {
        let upright = (110..118).contains(&x) && (30..120).contains(&y);
        let bar = (70..130).contains(&x) && (80..88).contains(&y);
        let slant = (30..88).contains(&y) && (70 + (88 - y) * 2 / 3..78 + (88 - y) * 2 / 3).contains(&x);
        upright || bar || slant
    }

    #[test]
    fn rules_go_and_strokes_that_cross_them_stay() {
        let ruled = |x: u32, y: u32| (y + x / 20) % 40 < 2;
        let (rest, lines) = left(four, ruled);
        assert!((3..=4).contains(&lines), "{lines}");
        let wrong = rest.iter().zip(pixels(four)).filter(|(a, b)| **a != *b).count();
        assert!(wrong < 60, "{wrong} of {}", pixels(four).iter().filter(|set| **set).count());
        let (rest, lines) = left(four, |x, y| x % 30 < 2 || y % 30 < 2);
        assert!(lines >= 9, "{lines}");
        let wrong = rest.iter().zip(pixels(four)).filter(|(a, b)| **a != *b).count();
        assert!(wrong < 150, "{wrong}");
    }

    #[test]
    fn a_box_goes() {
        let outer =
            |by: u32| move |x: u32, y: u32| (50 + by..150 - by).contains(&x) && (15 + by..140 - by).contains(&y);
        let (rest, lines) = left(|x, y| four(x, y) || (outer(0)(x, y) && !outer(5)(x, y)), |_, _| false);
        assert!(lines >= 4, "{lines}");
        assert!(rest == pixels(four));
    }

    #[test]
    fn strokes_are_no_lines() {
        let one = |x: u32, y: u32| (95..103).contains(&x) && (10..140).contains(&y);
        let with_foot = move |x: u32, y: u32| one(x, y) || ((70..130).contains(&x) && (132..140).contains(&y));
        let seven = |x: u32, y: u32| {
            let top = (60..130).contains(&x) && (20..28).contains(&y);
            top || ((28..130).contains(&y) && (122 - (y - 28) / 2..130 - (y - 28) / 2).contains(&x))
        };
        assert!(left(four, |_, _| false) == (pixels(four), 0), "four");
        assert!(left(one, |_, _| false) == (pixels(one), 0), "one");
        assert!(left(with_foot, |_, _| false) == (pixels(with_foot), 0), "one with a foot");
        assert!(left(seven, |_, _| false) == (pixels(seven), 0), "seven");
    }
}
