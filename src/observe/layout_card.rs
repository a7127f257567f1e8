//! A card that shows where the points of a feature space lie on a plane.

use super::card::{self, BODY, GREY, INK, LINE, LINES, MARGIN, NOTE, PAPER, RIGHT, STRONG};
use super::feature_space::Sample;
use crate::picture::Picture;
use crate::render::Canvas;
use crate::render::scatter::{self, Plane};
use crate::render::text::{Face, Style, fitted, width};

/// The square that the points lie in.
const SIDE: u32 = RIGHT - MARGIN;
const TOP: u32 = LINES[2] + 8;
/// Free at the square's edges, so that marks and names stay inside.
const FREE: u32 = 12;
const RADIUS: f32 = 2.7;
const RING: f32 = 4.6;
/// Classes that are named on the plane and in the legend, at most.
const NAMED: usize = 20;
/// Pixels of a name in the legend, at most, and on the plane.
const NAME: u32 = 90;
const LABEL_WIDTH: u32 = 120;
const LEGEND_LINE: u32 = 16;
const LABEL: Style = Style { face: Face::Bold, size: 11, colour: INK };
const MESSAGE: Style = Style { face: Face::Bold, size: 11, colour: GREY };

/// Contents of a card.
pub struct LayoutCard<'a> {
    pub title: &'a str,
    pub when: &'a str,
    /// Reading instructions in a few words.
    pub note: &'a str,
    pub sample: &'a Sample,
    pub classes: &'a [String],
    /// Positions in the sample of the points that have a place, and their places.
    pub kept: &'a [usize],
    pub places: &'a [[f32; 2]],
    pub silhouette: Option<f64>,
}

impl LayoutCard<'_> {
    pub fn picture(&self) -> Picture {
        let legend = self.legend();
        let rows = legend.last().map_or(0, |entry| entry.row + 1);
        let mut canvas = card::card(TOP + SIDE + 8 + rows * LEGEND_LINE + 2, MARGIN, self.title, self.when);
        self.head(&mut canvas);
        canvas.frame((MARGIN, TOP), (SIDE, SIDE), LINE);
        let plane = Plane::fitting(self.places, (MARGIN, TOP), SIDE, FREE);
        self.marks(&mut canvas, &plane);
        self.names(&mut canvas, &plane);
        if let Some(message) = self.message() {
            canvas.text_edged(MARGIN + SIDE / 2, TOP + SIDE / 2 - 12, message, MESSAGE, PAPER);
        }
        for entry in &legend {
            let baseline = TOP + SIDE + 8 + entry.row * LEGEND_LINE + 11;
            if let Some(class) = entry.class {
                let centre = (entry.x as f32 + 4.0, baseline as f32 - 4.0);
                scatter::mark(&mut canvas, centre, 4.0, scatter::class_mark(class), 1.0);
            }
            canvas.text(entry.x + 11, baseline, &entry.text, BODY);
        }
        canvas.into_picture()
    }

    /// The two lines below the title.
    fn head(&self, canvas: &mut Canvas) {
        let score = self.silhouette.map_or("silhouette undefined".to_owned(), |score| format!("silhouette {score:.2}"));
        canvas.text_right(RIGHT, LINES[1], &score, STRONG);
        let end = RIGHT - width(&score, STRONG) - MARGIN;
        let counted = format!("{} · ", card::counted(self.sample.points.len(), "validation image"));
        let x = card::line(canvas, MARGIN, LINES[1], end, &counted, NOTE);
        let missing = self.sample.points.len() - self.kept.len();
        let (text, style) = match missing {
            0 => (format!("{} wrong", self.wrong().count()), BODY),
            n => (format!("{n} not finite"), Style { colour: card::RED, ..STRONG }),
        };
        let x = if missing == 0 {
            scatter::ring(canvas, (x as f32 + 5.0, LINES[1] as f32 - 4.0), 4.0, 1.3, INK);
            x + 13
        } else {
            x
        };
        card::line(canvas, x, LINES[1], end, &text, style);
        card::line(canvas, MARGIN, LINES[2], RIGHT, self.note, NOTE);
    }

    /// Points that are classified wrong, in the order of the places.
    fn wrong(&self) -> impl Iterator<Item = usize> {
        (0..self.kept.len()).filter(|&point| !self.sample.predictions.is_right(self.kept[point]))
    }

    fn class(&self, point: usize) -> usize {
        self.sample.predictions.label(self.kept[point])
    }

    fn marks(&self, canvas: &mut Canvas, plane: &Plane) {
        for (point, &place) in self.places.iter().enumerate() {
            let (shape, colour) = scatter::class_mark(self.class(point));
            scatter::mark(canvas, plane.at(place), RADIUS + 0.8, (shape, PAPER), 0.8);
            scatter::mark(canvas, plane.at(place), RADIUS, (shape, colour), 0.9);
        }
        // Last, so that none is hidden.
        for point in self.wrong() {
            scatter::ring(canvas, plane.at(self.places[point]), RING, 1.1, INK);
        }
    }

    /// Each class's name at the point that is nearest to all others of its class, where it does not hide another.
    fn names(&self, canvas: &mut Canvas, plane: &Plane) {
        if self.classes.len() > NAMED || self.message().is_some() {
            return;
        }
        let mut taken: Vec<[f32; 4]> = Vec::new();
        for (class, name) in self.classes.iter().enumerate() {
            let places: Vec<(f32, f32)> =
                (0..self.kept.len()).filter(|&p| self.class(p) == class).map(|p| plane.at(self.places[p])).collect();
            let Some((x, y)) = middle(&places) else { continue };
            let text = fitted(name, LABEL, LABEL_WIDTH);
            let half = width(&text, LABEL) as f32 / 2.0 + 1.0;
            // As far inside as the name is long.
            let (left, right) = (MARGIN as f32 + half, RIGHT as f32 - half);
            let x = x.clamp(left.min(right), right);
            let boxed = |y: f32| [x - half, x + half, y - 6.0, y + 6.0];
            let free = |y: &f32| {
                let inside = *y > TOP as f32 + 8.0 && *y < (TOP + SIDE) as f32 - 8.0;
                let [left, right, top, bottom] = boxed(*y);
                inside && taken.iter().all(|b| right < b[0] || left > b[1] || bottom < b[2] || top > b[3])
            };
            let Some(y) = [0.0, -13.0, 13.0, -26.0, 26.0].map(|by| y + by).into_iter().find(free) else { continue };
            taken.push(boxed(y));
            canvas.text_edged(x.round() as u32, (y + 4.0).round() as u32, &text, LABEL, PAPER);
        }
    }

    /// Message for an empty card.
    fn message(&self) -> Option<&'static str> {
        match self.places {
            [] => Some("no features are finite"),
            [_] => Some("one point"),
            [first, rest @ ..] if rest.iter().all(|place| place == first) => Some("all features are equal"),
            _ => None,
        }
    }

    fn legend(&self) -> Vec<Entry> {
        let mut texts: Vec<(Option<usize>, String)> = (self.classes.iter().take(NAMED).enumerate())
            .map(|(class, name)| (Some(class), fitted(name, BODY, NAME).into_owned()))
            .collect();
        let unnamed = self.classes.len().saturating_sub(NAMED);
        if unnamed > 0 {
            texts.push((None, format!("and {unnamed} more")));
        }
        let widest = texts.iter().map(|(_, text)| 11 + width(text, BODY)).max().unwrap_or(0);
        // In columns, which end where the square does.
        let columns = (SIDE / (widest + 8)).clamp(1, texts.len().max(1) as u32);
        let rows = (texts.len() as u32).div_ceil(columns).max(1);
        let columns = (texts.len() as u32).div_ceil(rows).max(1);
        (0..)
            .zip(texts)
            .map(|(index, (class, text))| {
                let (row, column) = (index / columns, index % columns);
                Entry { class, text, x: MARGIN + column * SIDE / columns, row }
            })
            .collect()
    }
}

/// A place in the legend.
struct Entry {
    class: Option<usize>,
    text: String,
    x: u32,
    row: u32,
}

/// The place from which the others are nearest in all.
fn middle(places: &[(f32, f32)]) -> Option<(f32, f32)> {
    let far = |&(x, y): &(f32, f32)| -> f32 { places.iter().map(|(u, v)| (x - u).hypot(y - v)).sum() };
    places.iter().map(|place| (far(place), *place)).min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, place)| place)
}
