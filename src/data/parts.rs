//! Connected parts of a mask, and the choice of those that are the figure.

use std::collections::VecDeque;

use super::ink::Plane;

/// A part with less than this share of the largest one's pixels is a speck.
const SPECK: usize = 25;
/// A part that touches the edge of the picture has to have this many times the ink of one that does not.
const OUTSIDER: f32 = 8.0;

/// And one that lies along a third of all edges, as a scanner's border does.
const BORDER: f32 = 1000.0;

/// Pixels that belong to something.
#[derive(Clone)]
pub(super) struct Mask {
    pub width: usize,
    pub height: usize,
    pub set: Vec<bool>,
}

/// Left, top, right and bottom, all within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub left: usize,
    pub top: usize,
    pub right: usize,
    pub bottom: usize,
}

/// Connected pixels.
#[derive(Clone)]
pub(super) struct Part {
    pub pixels: Vec<usize>,
    pub frame: Frame,
    /// Sum of the relief.
    pub ink: f32,
    /// Pixels on the left, upper, right and lower edge of the picture.
    pub contact: [usize; 4],
}

/// The parts of a figure, and what else is there.
pub(super) struct Choice {
    pub parts: Vec<Part>,
    pub frame: Frame,
    /// Separate figures of like size.
    pub others: usize,
}

impl Frame {
    pub fn width(&self) -> usize {
        self.right - self.left + 1
    }

    pub fn height(&self) -> usize {
        self.bottom - self.top + 1
    }

    pub fn longer(&self) -> usize {
        self.width().max(self.height())
    }

    pub fn with(&self, other: &Frame) -> Frame {
        Frame {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// Pixels between two frames, the larger of both directions.
    fn gap(&self, other: &Frame) -> usize {
        let between = |a: (usize, usize), b: (usize, usize)| a.0.saturating_sub(b.1).max(b.0.saturating_sub(a.1));
        between((self.left, self.right), (other.left, other.right))
            .max(between((self.top, self.bottom), (other.top, other.bottom)))
    }

    /// True if another lies well inside.
    fn surrounds(&self, other: &Frame) -> bool {
        self.left < other.left && self.top < other.top && self.right > other.right && self.bottom > other.bottom
    }
}

impl Choice {
    /// Twice the area through the perimeter, in pixels.
    pub fn stroke_width(&self, mask: &Mask) -> f32 {
        let (mut area, mut edge) = (0.0, 0.0);
        for &i in self.parts.iter().flat_map(|part| &part.pixels) {
            let (x, y) = (i % mask.width, i / mask.width);
            let near = [
                (x > 0).then(|| i - 1),
                (x + 1 < mask.width).then(|| i + 1),
                (y > 0).then(|| i - mask.width),
                (y + 1 < mask.height).then(|| i + mask.width),
            ];
            area += 1.0;
            edge += near.iter().filter(|near| near.is_none_or(|i| !mask.set[i])).count() as f32;
        }
        // Of a slanting line every step is counted: 4 / pi of its length, on average.
        if edge > 0.0 { 2.0 * area / (edge * std::f32::consts::FRAC_PI_4) } else { 0.0 }
    }
}

impl Part {
    pub fn touches_edge(&self) -> bool {
        self.contact.iter().any(|&pixels| pixels > 0)
    }
}

impl Mask {
    pub fn of(plane: &Plane, least: f32) -> Mask {
        Mask {
            width: plane.width() as usize,
            height: plane.height() as usize,
            set: plane.iter().map(|value| *value >= least).collect(),
        }
    }

    /// Parts connected over edges and corners, in the order of their first pixels.
    pub fn parts(&self, relief: &Plane) -> Vec<Part> {
        let mut seen = vec![false; self.set.len()];
        let mut found = Vec::new();
        for start in 0..self.set.len() {
            if self.set[start] && !seen[start] {
                found.push(self.part(relief, start, &mut seen));
            }
        }
        found
    }

    fn part(&self, relief: &Plane, start: usize, seen: &mut [bool]) -> Part {
        let (x, y) = (start % self.width, start / self.width);
        let frame = Frame { left: x, top: y, right: x, bottom: y };
        let mut part = Part { pixels: Vec::new(), frame, ink: 0.0, contact: [0; 4] };
        let mut queue = VecDeque::from([start]);
        seen[start] = true;
        while let Some(i) = queue.pop_front() {
            part.pixels.push(i);
            part.ink += relief.as_raw()[i];
            let (x, y) = (i % self.width, i / self.width);
            part.frame = part.frame.with(&Frame { left: x, top: y, right: x, bottom: y });
            let edges = [x == 0, y == 0, x + 1 == self.width, y + 1 == self.height];
            part.contact.iter_mut().zip(edges).for_each(|(count, is_on)| *count += usize::from(is_on));
            for y in y.saturating_sub(1)..=(y + 1).min(self.height - 1) {
                for x in x.saturating_sub(1)..=(x + 1).min(self.width - 1) {
                    let near = y * self.width + x;
                    if self.set[near] && !seen[near] {
                        seen[near] = true;
                        queue.push_back(near);
                    }
                }
            }
        }
        part
    }

    /// The figure: the part with most ink near the middle, and what belongs to it. Nothing where there is none.
    pub fn choice(&self, relief: &Plane) -> Option<Choice> {
        let mut parts = self.parts(relief);
        let (width, height) = (self.width as f32, self.height as f32);
        let weight = |part: &Part| {
            let x = (part.frame.left + part.frame.right) as f32 / width - 1.0;
            let y = (part.frame.top + part.frame.bottom) as f32 / height - 1.0;
            let outside = match part.contact.iter().sum::<usize>() {
                0 => 1.0,
                contact if contact * 3 > 2 * (self.width + self.height) => BORDER,
                _ => OUTSIDER,
            };
            part.ink * (-(x * x + y * y)).exp() / outside
        };
        let mut main = (0..parts.len()).max_by(|&a, &b| weight(&parts[a]).total_cmp(&weight(&parts[b])))?;
        // A frame round the figure that is not straight enough for lines.
        let inner = (0..parts.len())
            .filter(|&i| {
                parts[main].frame.surrounds(&parts[i].frame)
                    && parts[i].frame.height() * 10 >= parts[main].frame.height() * 3
                    && parts[i].pixels.len() * 12 >= parts[main].pixels.len()
            })
            .max_by(|&a, &b| weight(&parts[a]).total_cmp(&weight(&parts[b])));
        if let Some(inner) = inner {
            parts[main].pixels.clear();
            main = inner;
        }
        let chosen = parts.swap_remove(main);
        let (mut frame, size) = (chosen.frame, chosen.pixels.len());
        let mut kept = vec![chosen];
        let mut others = 0;
        // The nearest first: a part may belong to the figure by way of another one.
        parts.retain(|part| part.pixels.len() * SPECK >= size);
        parts.sort_by_key(|part| frame.gap(&part.frame));
        for part in parts {
            let main = kept[0].frame;
            if part.touches_edge() && !kept[0].touches_edge() {
                continue;
            }
            if is_like(&main, &part.frame) && part.pixels.len() * 4 >= size {
                others += 1;
            } else if part.frame.gap(&frame) * 6 <= main.longer() && part.frame.longer() <= 2 * main.longer() {
                frame = frame.with(&part.frame);
                kept.push(part);
            } else if part.frame.longer() * 2 >= main.longer() && part.pixels.len() * 3 >= size {
                others += 1;
            }
        }
        Some(Choice { parts: kept, frame, others })
    }
}

/// True if two frames stand side by side like the digits of a number.
fn is_like(a: &Frame, b: &Frame) -> bool {
    let near = |x: usize, y: usize, share: usize| x.abs_diff(y) * share <= a.height().max(b.height());
    let overlap = (a.right.min(b.right) + 1).saturating_sub(a.left.max(b.left));
    near(a.top, b.top, 4) && near(a.bottom, b.bottom, 4) && overlap * 5 <= a.width().min(b.width())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma};

    fn choice(set: impl Fn(u32, u32) -> bool) -> Option<Choice> {
        let relief: Plane = ImageBuffer::from_fn(100, 80, |x, y| Luma([if set(x, y) { 1.0 } else { 0.0 }]));
        Mask::of(&relief, 0.5).choice(&relief)
    }

    fn within(x: u32, y: u32, (left, top, right, bottom): (u32, u32, u32, u32)) -> bool {
        (left..=right).contains(&x) && (top..=bottom).contains(&y)
    }

    fn frame((left, top, right, bottom): (usize, usize, usize, usize)) -> Frame {
        Frame { left, top, right, bottom }
    }

    #[test]
    fn a_figure_may_have_parts_and_dirt_is_none() {
        let found =
            choice(|x, y| within(x, y, (40, 20, 46, 60)) || within(x, y, (50, 20, 62, 26)) || (x == 10 && y == 10));
        let found = found.unwrap();
        assert_eq!((found.parts.len(), found.frame, found.others), (2, frame((40, 20, 62, 60)), 0));
        assert!(choice(|_, _| false).is_none());
    }

    #[test]
    fn what_lies_at_the_edge_or_round_the_figure_is_left_out() {
        let figure = |x, y| within(x, y, (40, 25, 48, 55));
        let band = choice(|x, y| figure(x, y) || x < 12).unwrap();
        assert_eq!((band.frame, band.others), (frame((40, 25, 48, 55)), 0));
        let border = |x, y| !within(x, y, (9, 9, 90, 79));
        assert_eq!(choice(|x, y| figure(x, y) || border(x, y)).unwrap().frame, frame((40, 25, 48, 55)));
        let ring = |x, y| within(x, y, (20, 10, 70, 70)) && !within(x, y, (24, 14, 66, 66));
        assert_eq!(choice(|x, y| figure(x, y) || ring(x, y)).unwrap().frame, frame((40, 25, 48, 55)));
        // Unless nothing else is there.
        assert_eq!(choice(|x, y| within(x, y, (0, 20, 30, 60))).unwrap().parts[0].contact, [41, 0, 0, 0]);
        assert_eq!(choice(ring).unwrap().frame, frame((20, 10, 70, 70)));
    }

    #[test]
    fn digits_side_by_side_are_counted() {
        let number = |x: u32, y: u32| within(x % 25, y, (8, 20, 16, 50));
        let found = choice(number).unwrap();
        assert_eq!((found.parts.len(), found.others), (1, 3));
    }

    #[test]
    fn a_stroke_has_its_width() {
        let stroke = |x: u32, y: u32| within(x, y, (20, 30, 79, 39));
        let relief: Plane = ImageBuffer::from_fn(100, 80, |x, y| Luma([if stroke(x, y) { 1.0 } else { 0.0 }]));
        let mask = Mask::of(&relief, 0.5);
        let width = mask.choice(&relief).unwrap().stroke_width(&mask);
        assert!((8.0..13.0).contains(&width), "{width}");
    }
}
