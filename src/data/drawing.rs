//! A written figure: found in a picture, freed of what surrounds it, and laid out as a data set's strokes are.

use image::{DynamicImage, ImageBuffer, Luma, imageops};

use super::ink::{Ink, Plane, quantile};
use super::lines::without_lines;
use super::look::Ground;
use super::parts::{Choice, Frame, Mask};

/// The longer side, in pixels, of what a figure is looked for in.
const LOOKED_AT: u32 = 400;
/// The longer side of the figure that is laid out.
const DETAIL: f32 = 96.0;
/// A figure has at least this share of the picture's pixels; what is smaller is noise or dirt.
const SMALLEST: f32 = 1.0 / 5000.0;
/// A ground is believed if this share of the figure's surroundings has it.
const SURROUNDED: f32 = 0.6;
/// Width of a stroke, as a share of the figure's longer side, that thinner ones are drawn with.
const PEN: f32 = 0.105;

/// Settings of a search for a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Search {
    /// Strokes are narrower than this share of the picture's shorter side.
    pub window: f32,
    /// Least contrast of a stroke, as a share of that of the darkest.
    pub faintest: f32,
    /// True if ruled lines and boxes are removed.
    pub without_lines: bool,
}

/// Settings of a figure's layout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    /// Share of [`PEN`].
    pub pen: f32,
    /// Clockwise, in degrees.
    pub turn: f32,
    /// To the right, in pixels of the layout.
    pub shift: (f32, f32),
    /// Share of the usual size.
    pub size: f32,
}

impl Default for Search {
    fn default() -> Search {
        Search { window: 0.3, faintest: 0.4, without_lines: true }
    }
}

impl Default for Layout {
    fn default() -> Layout {
        Layout { pen: 1.0, turn: 0.0, shift: (0.0, 0.0), size: 1.0 }
    }
}

impl Search {
    /// Other ways, that find the same figure if it is clear.
    pub fn others(with_lines: bool) -> Vec<Search> {
        let usual = Search::default();
        let mut others = vec![
            Search { faintest: 0.25, ..usual },
            Search { faintest: 0.55, ..usual },
            Search { window: 0.2, ..usual },
        ];
        if with_lines {
            others.push(Search { without_lines: false, ..usual });
        }
        others
    }
}

impl Layout {
    /// Other ways, that make no difference to a person.
    pub fn others() -> [Layout; 12] {
        let usual = Layout::default();
        let turned = |turn| Layout { turn, ..usual };
        let moved = |x, y| Layout { shift: (x, y), ..usual };
        [
            turned(8.0),
            turned(-8.0),
            turned(15.0),
            turned(-15.0),
            moved(1.0, 0.0),
            moved(-1.0, 0.0),
            moved(0.0, 1.0),
            moved(0.0, -1.0),
            Layout { pen: 0.7, ..usual },
            Layout { pen: 1.35, ..usual },
            Layout { size: 0.9, ..usual },
            Layout { size: 1.1, ..usual },
        ]
    }
}

/// A figure, cut out.
pub(super) struct Drawing {
    /// The share of full ink, 0 to 1.
    ink: Plane,
    /// `x`, `y`, `width` and `height` in the picture.
    pub frame: (u32, u32, u32, u32),
    /// Contrast of strokes to their ground, darker or lighter.
    pub contrast: f32,
    /// Separate figures of like size.
    pub others: usize,
    /// Lines that were removed.
    pub lines: usize,
    /// True if it runs out of the picture.
    pub is_cut_off: bool,
    /// The share of its surroundings that has its ground; nothing if the picture ends there.
    surrounded: Option<f32>,
    /// The share of a box round it that it fills.
    fill: f32,
    /// Ink, in shares of the picture.
    mass: f32,
}

/// The picture in which figures are looked for.
pub(super) fn reduced(image: &DynamicImage) -> DynamicImage {
    let longer = image.width().max(image.height());
    if longer <= LOOKED_AT { image.clone() } else { image.thumbnail(LOOKED_AT, LOOKED_AT) }
}

/// The ground that a picture's figure stands on; nothing where that is not to be told, or nothing stands out.
///
/// Strokes on paper are taken for what is light between them if that is closer together than the closing's window, but
/// then their ground ends with them, and they fill more of the place round them.
pub(super) fn ground(image: &DynamicImage) -> Option<Ground> {
    let on = |ground| Sheet::new(image, ground).drawing(&Search::default());
    let (dark, light) = (on(Ground::Light), on(Ground::Dark));
    let score = |drawing: &Drawing, surrounded: f32| {
        surrounded.powi(2) * drawing.mass.powf(0.25) * (1.0 - drawing.fill).max(0.0).powi(2)
    };
    match (&dark, &light) {
        (None, None) => None,
        (Some(_), None) => Some(Ground::Light),
        (None, Some(_)) => Some(Ground::Dark),
        (Some(dark), Some(light)) => match (dark.surrounded, light.surrounded) {
            (Some(share), _) if share >= SURROUNDED && dark.fill < 0.7 => Some(Ground::Light),
            (Some(of_dark), Some(of_light)) if 1.5 * score(dark, of_dark) >= score(light, of_light) => {
                Some(Ground::Light)
            }
            (Some(_), Some(_)) => Some(Ground::Dark),
            _ => None,
        },
    }
}

/// Inks of a picture by their window, made when they are asked for.
pub(super) struct Sheet<'a> {
    image: &'a DynamicImage,
    reduced: DynamicImage,
    ground: Ground,
    inks: Vec<(f32, Ink)>,
}

impl<'a> Sheet<'a> {
    pub fn new(image: &'a DynamicImage, ground: Ground) -> Sheet<'a> {
        Sheet { image, reduced: reduced(image), ground, inks: Vec::new() }
    }

    fn ink(&mut self, window: f32) -> &Ink {
        let at = self.inks.iter().position(|(known, _)| *known == window).unwrap_or_else(|| {
            self.inks.push((window, Ink::of(&self.reduced, self.ground, window)));
            self.inks.len() - 1
        });
        &self.inks[at].1
    }

    /// The figure, if anything stands out.
    pub fn drawing(&mut self, search: &Search) -> Option<Drawing> {
        let scale = f64::from(self.image.width()) / f64::from(self.reduced.width());
        let ink = self.ink(search.window);
        let relief = &ink.relief;
        let peak = peak(ink);
        if peak <= ink.floor {
            return None;
        }
        let of_figure = |choice: &Choice| {
            quantile(choice.parts.iter().flat_map(|part| part.pixels.iter().map(|&i| relief.as_raw()[i])), 0.75)
        };
        let mut found: Option<(Choice, Mask, usize)> = None;
        let mut least = (peak * search.faintest).max(ink.floor);
        // Other things than the figure may have set the threshold.
        for _ in 0..3 {
            let mask = Mask::of(relief, least);
            let (mask, lines) = if search.without_lines { without_lines(&mask, relief) } else { (mask, 0) };
            let Some(choice) = mask.choice(relief) else { break };
            let own = (of_figure(&choice) * search.faintest).max(ink.floor);
            found = Some((choice, mask, lines));
            if (own / least - 1.0).abs() < 0.2 {
                break;
            }
            least = own;
        }
        let (choice, mask, lines) = found?;
        let size = choice.parts.iter().map(|part| part.pixels.len()).sum::<usize>() as f32;
        if size < relief.len() as f32 * SMALLEST {
            return None;
        }
        let strength = of_figure(&choice);
        let frame = choice.frame;
        let mut own = vec![false; mask.set.len()];
        choice.parts.iter().flat_map(|part| &part.pixels).for_each(|&i| own[i] = true);
        let cut = cut(relief, &mask, &own, &frame, least, strength);
        let contact: [usize; 4] = std::array::from_fn(|side| choice.parts.iter().map(|part| part.contact[side]).sum());
        let mass = choice.parts.iter().map(|part| part.ink).sum::<f32>() / relief.len() as f32;
        let [x, y, width, height] =
            [frame.left, frame.top, frame.width(), frame.height()].map(|n| (n as f64 * scale).round() as u32);
        Some(Drawing {
            ink: cut,
            frame: (x, y, width.max(1), height.max(1)),
            contrast: strength,
            others: choice.others,
            lines,
            // A crop that is tight touches opposite sides.
            is_cut_off: (0..4).any(|side| contact[side] > 1 && contact[(side + 2) % 4] == 0),
            surrounded: surrounded(ink, &frame, strength),
            fill: size / (frame.longer() * frame.width().min(frame.height()).max(frame.longer() * 3 / 5)) as f32,
            mass,
        })
    }
}

/// The mean of the relief that stands out, in which what stands out more counts more.
fn peak(ink: &Ink) -> f32 {
    let (mut squares, mut cubes) = (0.0_f64, 0.0_f64);
    for value in ink.relief.iter().filter(|value| **value > ink.floor) {
        let value = f64::from(*value);
        squares += value * value;
        cubes += value * value * value;
    }
    if squares > 0.0 { (cubes / squares) as f32 } else { 0.0 }
}

/// Full ink where the figure is, and what fades beside it, without what belongs to something else.
fn cut(relief: &Plane, mask: &Mask, own: &[bool], frame: &Frame, least: f32, strength: f32) -> Plane {
    let width = mask.width;
    let (foot, full) = (least * 0.5, (strength * 0.75).max(least * 1.05));
    // A margin for what fades.
    ImageBuffer::from_fn(frame.width() as u32 + 2, frame.height() as u32 + 2, |x, y| {
        let (x, y) = (frame.left as i64 + i64::from(x) - 1, frame.top as i64 + i64::from(y) - 1);
        if x < 0 || y < 0 || x >= width as i64 || y >= mask.height as i64 {
            return Luma([0.0]);
        }
        let (x, y) = (x as usize, y as usize);
        let i = y * width + x;
        let near = || {
            (y.saturating_sub(1)..=(y + 1).min(mask.height - 1))
                .any(|y| (x.saturating_sub(1)..=(x + 1).min(width - 1)).any(|x| own[y * width + x]))
        };
        let value = relief.as_raw()[i];
        let is_in = own[i] || (!mask.set[i] && value < least && near());
        Luma([if is_in { ((value - foot) / (full - foot)).clamp(0.0, 1.0) } else { 0.0 }])
    })
}

/// The share of what lies round the frame that has the ground of what lies within.
fn surrounded(ink: &Ink, frame: &Frame, strength: f32) -> Option<f32> {
    let (width, height) = (ink.ground.width() as usize, ink.ground.height() as usize);
    let margin = (frame.longer() * 2 / 5).max(2);
    let inner = |x: usize, y: usize| (frame.left..=frame.right).contains(&x) && (frame.top..=frame.bottom).contains(&y);
    let (mut within, mut around) = (Vec::new(), Vec::new());
    for y in frame.top.saturating_sub(margin)..=(frame.bottom + margin).min(height - 1) {
        for x in frame.left.saturating_sub(margin)..=(frame.right + margin).min(width - 1) {
            let ground = ink.ground.as_raw()[y * width + x];
            if inner(x, y) { within.push(ground) } else { around.push(ground) }
        }
    }
    if around.len() * 4 < within.len() {
        return None;
    }
    let ground = quantile(within.into_iter(), 0.5);
    let same = around.iter().filter(|value| (*value - ground).abs() <= 0.5 * strength * ground.max(0.2)).count();
    Some(same as f32 / around.len() as f32)
}

impl Drawing {
    /// As `width` x `height` pixels, the longer side of the figure `side`, its centre of mass in the middle.
    pub fn laid_out(&self, (width, height): (u32, u32), side: f32, layout: &Layout) -> Vec<f32> {
        let (w, h) = (self.ink.width() as f32, self.ink.height() as f32);
        // Without the margin.
        let detail = DETAIL / (w.max(h) - 2.0);
        let to = |len: f32| ((len * detail).round() as u32).max(1);
        let fine = imageops::resize(&self.ink, to(w), to(h), imageops::FilterType::Triangle);
        let fine = inked(fine, PEN * DETAIL * layout.pen);
        let (mass_x, mass_y) = centre_of_mass(&fine);
        let extent = extent(&fine);
        let longer = (extent.2 - extent.0).max(extent.3 - extent.1).max(1.0);
        let step = longer / (side * layout.size);
        let (sin, cos) = layout.turn.to_radians().sin_cos();
        // The figure stays within the layout, wherever its mass is.
        let (half_w, half_h) = (width as f32 / 2.0, height as f32 / 2.0);
        let inside = |half: f32, before: f32, after: f32| {
            let (low, high) = (before / step - half, half - after / step);
            if low <= high { 0.0_f32.clamp(low, high) } else { (low + high) / 2.0 }
        };
        // In whole pixels, as in MNIST: an edge that is sharp stays so.
        let aligned = |half: f32, before: f32, moved: f32| {
            let edge = half + moved - before / step;
            moved + edge.round() - edge
        };
        let move_x = aligned(half_w, mass_x - extent.0, inside(half_w, mass_x - extent.0, extent.2 - mass_x));
        let move_y = aligned(half_h, mass_y - extent.1, inside(half_h, mass_y - extent.1, extent.3 - mass_y));
        let (move_x, move_y) = (move_x + layout.shift.0, move_y + layout.shift.1);
        const FINER: usize = 4;
        let mut field = Vec::with_capacity((width * height) as usize);
        for y in 0..height {
            for x in 0..width {
                let mut sum = 0.0;
                for part in 0..FINER * FINER {
                    let at = |whole: u32, part: usize| whole as f32 + (part as f32 + 0.5) / FINER as f32;
                    let dx = (at(x, part % FINER) - half_w - move_x) * step;
                    let dy = (at(y, part / FINER) - half_h - move_y) * step;
                    sum += sampled(&fine, mass_x + dx * cos + dy * sin, mass_y - dx * sin + dy * cos);
                }
                field.push(sum / (FINER * FINER) as f32);
            }
        }
        let peak = field.iter().copied().fold(0.0, f32::max);
        if peak > 0.0 {
            field.iter_mut().for_each(|value| *value = (*value / peak).min(1.0));
        }
        field
    }

    /// True if its strokes are drawn wider than they are.
    pub fn is_thin(&self) -> bool {
        let longer = self.ink.width().max(self.ink.height()) as f32 - 2.0;
        stroke_width(&self.ink) < 0.8 * PEN * longer
    }

    /// Width through height.
    pub fn aspect(&self) -> f32 {
        (self.ink.width() as f32 - 2.0) / (self.ink.height() as f32 - 2.0)
    }
}

/// With strokes at least `pen` wide.
fn inked(ink: Plane, pen: f32) -> Plane {
    let width = stroke_width(&ink);
    let radius = ((pen - width) / 2.0).clamp(0.0, pen / 2.0);
    if radius < 0.3 {
        return ink;
    }
    let reach = radius.ceil() as i64;
    let (w, h) = (i64::from(ink.width()) + 2 * reach, i64::from(ink.height()) + 2 * reach);
    let disc: Vec<(i64, i64)> = (-reach..=reach)
        .flat_map(|y| (-reach..=reach).map(move |x| (x, y)))
        .filter(|(x, y)| ((x * x + y * y) as f32) <= radius * radius + 0.25)
        .collect();
    ImageBuffer::from_fn(w as u32, h as u32, |x, y| {
        let most = disc.iter().map(|(dx, dy)| {
            let (x, y) = (i64::from(x) - reach + dx, i64::from(y) - reach + dy);
            let is_in = x >= 0 && y >= 0 && x < i64::from(ink.width()) && y < i64::from(ink.height());
            if is_in { ink.get_pixel(x as u32, y as u32).0[0] } else { 0.0 }
        });
        Luma([most.fold(0.0, f32::max)])
    })
}

/// Twice the area through the perimeter, in pixels.
fn stroke_width(ink: &Plane) -> f32 {
    let (width, height) = (ink.width() as i64, ink.height() as i64);
    let is_in =
        |x: i64, y: i64| x >= 0 && y >= 0 && x < width && y < height && ink.get_pixel(x as u32, y as u32).0[0] >= 0.5;
    let (mut area, mut edge) = (0.0, 0.0);
    for y in 0..height {
        for x in 0..width {
            if is_in(x, y) {
                area += 1.0;
                edge +=
                    [(1, 0), (-1, 0), (0, 1), (0, -1)].iter().filter(|(dx, dy)| !is_in(x + dx, y + dy)).count() as f32;
            }
        }
    }
    // Of a slanting line every step is counted: 4 / pi of its length, on average.
    if edge > 0.0 { 2.0 * area / (edge * std::f32::consts::FRAC_PI_4) } else { 0.0 }
}

fn sampled(plane: &Plane, x: f32, y: f32) -> f32 {
    let (x, y) = (x - 0.5, y - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let at = |x: f32, y: f32| {
        let is_in = x >= 0.0 && y >= 0.0 && x < plane.width() as f32 && y < plane.height() as f32;
        if is_in { plane.get_pixel(x as u32, y as u32).0[0] } else { 0.0 }
    };
    let (u, v) = (x - left, y - top);
    let above = at(left, top) * (1.0 - u) + at(left + 1.0, top) * u;
    let below = at(left, top + 1.0) * (1.0 - u) + at(left + 1.0, top + 1.0) * u;
    above * (1.0 - v) + below * v
}

/// Left, top, right and bottom of what is inked, with most of what fades.
fn extent(plane: &Plane) -> (f32, f32, f32, f32) {
    let mut found: Option<(u32, u32, u32, u32)> = None;
    for (x, y, pixel) in plane.enumerate_pixels() {
        if pixel.0[0] >= 0.15 {
            let (left, top, right, bottom) = found.unwrap_or((x, y, x, y));
            found = Some((left.min(x), top.min(y), right.max(x), bottom.max(y)));
        }
    }
    let (left, top, right, bottom) = found.unwrap_or((0, 0, plane.width() - 1, plane.height() - 1));
    (left as f32, top as f32, right as f32 + 1.0, bottom as f32 + 1.0)
}

/// In pixels from the upper left corner; the middle where there is no mass.
fn centre_of_mass(image: &Plane) -> (f32, f32) {
    let (mut mass, mut x, mut y) = (0.0, 0.0, 0.0);
    for (column, row, pixel) in image.enumerate_pixels() {
        let value = f64::from(pixel.0[0]);
        mass += value;
        x += value * (f64::from(column) + 0.5);
        y += value * (f64::from(row) + 0.5);
    }
    if mass > 0.0 {
        ((x / mass) as f32, (y / mass) as f32)
    } else {
        (image.width() as f32 / 2.0, image.height() as f32 / 2.0)
    }
}
