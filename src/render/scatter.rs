//! Anti-aliased marks on a plane, with a colour and shape for each class.

use super::canvas::Canvas;
use super::colour::Rgb;

/// Ten colours for any colour vision, in an order without a trend in lightness: Petroff, "Accessible Color Sequences
/// for Data Visualization" (2021).
const COLOURS: [Rgb; 10] = [
    [0x3f, 0x90, 0xda],
    [0xff, 0xa9, 0x0e],
    [0xbd, 0x1f, 0x01],
    [0x94, 0xa4, 0xa2],
    [0x83, 0x2d, 0xb6],
    [0xa9, 0x6b, 0x59],
    [0xe7, 0x63, 0x00],
    [0xb9, 0xac, 0x70],
    [0x71, 0x75, 0x81],
    [0x92, 0xda, 0xdd],
];

/// The form of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Disc,
    Square,
    Diamond,
    Triangle,
}

const SHAPES: [Shape; 4] = [Shape::Disc, Shape::Square, Shape::Diamond, Shape::Triangle];

/// Number of distinct marks. Later classes start again with the first.
pub const CLASSES: usize = COLOURS.len() * SHAPES.len();

/// The mark of a class: ten colours in one shape, then in the next.
pub fn class_mark(class: usize) -> (Shape, Rgb) {
    (SHAPES[class / COLOURS.len() % SHAPES.len()], COLOURS[class % COLOURS.len()])
}

/// A square that shows a plane, with one scale for both axes and y pointing up.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    middle: [f64; 2],
    /// In pixels.
    centre: [f64; 2],
    scale: f64,
}

impl Plane {
    /// So large that all places fit a square of `side` pixels, less `margin` at each edge. Places that are not finite
    /// are ignored.
    pub fn fitting(places: &[[f32; 2]], corner: (u32, u32), side: u32, margin: u32) -> Plane {
        let range = |axis: usize| {
            let values =
                places.iter().filter(|place| place.iter().all(|v| v.is_finite())).map(|place| f64::from(place[axis]));
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        };
        let ranges = [range(0), range(1)];
        let extent = ranges.iter().map(|(low, high)| high - low).fold(0.0, f64::max);
        let room = f64::from(side.saturating_sub(2 * margin));
        let middle = ranges.map(|(low, high)| if low <= high { f64::midpoint(low, high) } else { 0.0 });
        let half = f64::from(side) / 2.0;
        let centre = [f64::from(corner.0) + half, f64::from(corner.1) + half];
        Plane { middle, centre, scale: if extent > 0.0 { room / extent } else { 0.0 } }
    }

    /// Position of a place on the canvas, in pixels from its upper left corner.
    pub fn at(&self, place: [f32; 2]) -> (f32, f32) {
        let [x, y] = [0, 1].map(|axis| (f64::from(place[axis]) - self.middle[axis]) * self.scale);
        ((self.centre[0] + x) as f32, (self.centre[1] - y) as f32)
    }
}

/// A filled mark; `radius` in pixels, `alpha` from 0 to 1.
pub fn mark(canvas: &mut Canvas, centre: (f32, f32), radius: f32, (shape, colour): (Shape, Rgb), alpha: f32) {
    draw(canvas, centre, 1.5 * radius, colour, alpha, |x, y| shape.distance(x, y, radius));
}

/// A circle's line, `width` pixels wide, centred on `radius`.
pub fn ring(canvas: &mut Canvas, centre: (f32, f32), radius: f32, width: f32, colour: Rgb) {
    draw(canvas, centre, radius + width, colour, 1.0, |x, y| (length(x, y) - radius).abs() - width / 2.0);
}

impl Shape {
    /// Pixels from the shape's edge, negative inside. All shapes of one radius look about equally large.
    fn distance(self, x: f32, y: f32, radius: f32) -> f32 {
        match self {
            Shape::Disc => length(x, y) - radius,
            Shape::Square => x.abs().max(y.abs()) - 0.9 * radius,
            Shape::Diamond => (x.abs() + y.abs()) * std::f32::consts::FRAC_1_SQRT_2 - 0.9 * radius,
            Shape::Triangle => y.max(x.abs() * 0.866 - y * 0.5) - 0.7 * radius,
        }
    }
}

/// Faster than `hypot`, which guards against overflow: squares of a few pixels do not overflow.
fn length(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

/// Blends the colour into each pixel within `reach`, by the distance of the pixel's centre from the shape's edge.
fn draw(
    canvas: &mut Canvas,
    (x, y): (f32, f32),
    reach: f32,
    colour: Rgb,
    alpha: f32,
    distance: impl Fn(f32, f32) -> f32,
) {
    if !x.is_finite() || !y.is_finite() {
        return;
    }
    let pixels = |at: f32| (at - reach - 1.0).floor() as i32..=(at + reach + 1.0).ceil() as i32;
    for row in pixels(y) {
        for column in pixels(x) {
            let covered = 0.5 - distance(column as f32 + 0.5 - x, row as f32 + 0.5 - y);
            if covered > 0.0 {
                canvas.cover(column, row, colour, covered.min(1.0) * alpha);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_differ_in_colour_or_shape() {
        let marks: Vec<(Shape, Rgb)> = (0..CLASSES).map(class_mark).collect();
        for (index, mark) in marks.iter().enumerate() {
            assert!(!marks[..index].contains(mark), "class {index}");
        }
        assert_eq!(class_mark(CLASSES), class_mark(0));
    }

    #[test]
    fn places_fill_a_square_and_up_is_up() {
        let plane = Plane::fitting(&[[0.0, 0.0], [4.0, 2.0], [f32::NAN, 9.0]], (10, 20), 100, 10);
        assert_eq!((plane.at([0.0, 1.0]), plane.at([4.0, 1.0])), ((20.0, 70.0), (100.0, 70.0)));
        assert_eq!(plane.at([2.0, 2.0]), (60.0, 50.0));
        let point = Plane::fitting(&[[7.0, 7.0]; 3], (0, 0), 50, 5);
        assert_eq!(point.at([7.0, 7.0]), (25.0, 25.0));
        assert_eq!(Plane::fitting(&[], (0, 0), 50, 5).at([0.0, 0.0]), (25.0, 25.0));
        let wide = Plane::fitting(&[[f32::MIN, 0.0], [f32::MAX, 0.0]], (0, 0), 50, 5);
        assert_eq!(wide.at([f32::MAX, 0.0]), (45.0, 25.0));
    }

    #[test]
    fn marks_are_as_large_as_their_radius_and_clipped() {
        for shape in SHAPES {
            let mut canvas = Canvas::new(21, 21, [255; 3]);
            mark(&mut canvas, (10.5, 10.5), 6.0, (shape, [0; 3]), 1.0);
            let area: f32 = canvas.into_picture().pixels().iter().map(|p| 1.0 - f32::from(p[0]) / 255.0).sum();
            assert!((85.0..125.0).contains(&area), "{shape:?} covers {area}, a disc {}", 36.0 * std::f32::consts::PI);
        }
        let mut canvas = Canvas::new(8, 8, [255; 3]);
        for centre in [(-1e9, 3.0), (1e9, 1e9), (f32::NAN, 0.0), (f32::INFINITY, 0.0)] {
            mark(&mut canvas, centre, 3.0, (Shape::Disc, [0; 3]), 1.0);
            ring(&mut canvas, centre, 3.0, 1.0, [0; 3]);
        }
        ring(&mut canvas, (4.0, 4.0), 2.5, 1.0, [0; 3]);
        let picture = canvas.into_picture();
        assert_eq!(picture.get(4, 4), Some([255; 3]), "a ring is hollow");
        assert!(picture.get(1, 4).is_some_and(|p| p[0] < 60), "{:?}", picture.get(1, 4));
    }
}
