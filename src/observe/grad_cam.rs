//! Grad-CAM of the probe images, for the true class and for its strongest rival.

use tch::{Kind, Tensor};

use super::Record;
use super::card::{self, BODY, GREEN, GREY, INK, LINES, MARGIN, NOTE, RED, RIGHT, STRONG};
use super::heat::{self, Heat};
use super::probe::Probes;
use crate::eventlog::Value;
use crate::explain::{self, Content};
use crate::forward;
use crate::picture::Picture;
use crate::render::text::{Face, Style, fitted, width};
use crate::render::{self, Canvas, Map, Rgb, Zoom, number};
use crate::train::{Moment, Observer};
use crate::types::{Percent, Seed, Tag};
use crate::weights::host_values;

/// Pixels of the longer side of the input and across the list below it, at most.
const SIDE: u32 = 84;
/// Start of the maps.
const LEFT: u32 = MARGIN + SIDE + 8;
/// Pixels of the longer side of a map, at most: two of them and a scale fit a card.
const TILE: u32 = 96;
/// Classes in the list of probabilities.
const LISTED: usize = 5;
const LIST_LINE: u32 = 17;
const GAP: u32 = 6;
/// Pixels below the rows for a line on their scale.
const FOOTER: u32 = 15;
/// Pixels that a number at the scale takes in height.
const NUMBER: u32 = 10;
/// Behind the true class in the list, and behind the others.
const TRUE_BAR: Rgb = [168, 218, 181];
const BAR: Rgb = [210, 227, 252];
const LIST: Style = Style { face: Face::Regular, size: 10, colour: INK };
const SMALL: Style = Style { face: Face::Regular, size: 9, colour: GREY };

/// Grad-CAM at the last convolution, under `grad_cam/<layer>`, one picture for each probe image.
#[derive(Clone, Copy, Debug)]
pub struct GradCam {
    probes: usize,
    probe_seed: Seed,
}

impl GradCam {
    /// For `probes` images of different classes.
    pub fn new(probes: usize, probe_seed: Seed) -> GradCam {
        GradCam { probes, probe_seed }
    }
}

impl Observer<Record> for GradCam {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let probes = Probes::choose(moment.dataset, self.probes, self.probe_seed);
        let (run, step) = moment.place();
        out.push(run, step, value(moment, &probes).into_iter().collect());
    }
}

/// Nothing for a network without convolutions, or without probes.
fn value(moment: &Moment<'_>, probes: &Probes) -> Option<Value> {
    let (network, weights) = (moment.network, moment.parameters.views());
    let node = network.taps().last_maps?;
    if probes.is_empty() {
        return None;
    }
    let images_nchw = probes.images_nchw(moment.parameters.device());
    let logits_nk = tch::no_grad(|| forward::logits(network, weights, &images_nchw));
    let probabilities = probabilities(&logits_nk).into_iter();
    let answers: Vec<Answer> = probabilities.zip(probes.labels()).map(|(p, &label)| Answer::new(p, label)).collect();
    let rivals: Vec<usize> = answers.iter().map(Answer::rival).collect();
    let targets = [probes.labels(), &rivals];
    let [for_true, for_rival] = explain::grad_cam_pair(network, weights, &images_nchw, node, targets);

    let name = &network.layer_of(node)?.name;
    let each = probes.images().zip(&answers).zip(for_true.iter().zip(&for_rival));
    let pictures = each.map(|((pixels, answer), (for_true, for_rival))| {
        let view = View { layer: name, epoch: moment.epoch, classes: &moment.dataset.classes, answer };
        view.picture(&render::image(pixels, probes.shape()), for_true, for_rival)
    });
    Some(Value::images(Tag::of(format!("grad_cam/{name}")), pictures.collect()).described(format!(
        "Grad-CAM (Selvaraju et al. 2017) at `{name}`: evidence for a class, from blue, none, to red, most, as a map and \
         over the image. Above for the true class; below for the predicted class if that is another, else for the \
         runner-up. Both maps share one scale, stated at the right, so weak evidence looks weak; a mark on the scale is \
         the map's own maximum. A map marked *uniform*, of which all values are within 5 % of each other, singles out no \
         place and is drawn cold, as is one without positive evidence. The list holds the most probable classes, the true \
         one green."
    )))
}

/// Prediction for one image.
struct Answer {
    label: usize,
    /// Class and probability, most probable first.
    ranked: Vec<(usize, f32)>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    /// The network has diverged and says nothing.
    NotFinite,
}

impl Answer {
    fn new(probabilities: Vec<f32>, label: usize) -> Answer {
        let mut ranked: Vec<(usize, f32)> = probabilities.into_iter().enumerate().collect();
        // Stable, so that equal ones keep the order of their classes.
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let verdict = match ranked.first() {
            Some((_, p)) if !p.is_finite() => Verdict::NotFinite,
            Some(&(class, _)) if class != label => Verdict::Wrong,
            _ => Verdict::Right,
        };
        Answer { label, ranked, verdict }
    }

    /// The predicted class if it is wrong, else the runner-up.
    fn rival(&self) -> usize {
        self.ranked.iter().map(|&(class, _)| class).find(|&class| class != self.label).unwrap_or(self.label)
    }

    fn probability(&self, class: usize) -> f32 {
        self.ranked.iter().find(|&&(c, _)| c == class).map_or(0.0, |&(_, p)| p)
    }
}

impl Verdict {
    fn words(self) -> (&'static str, Rgb) {
        match self {
            Verdict::Right => ("✓ right", GREEN),
            Verdict::Wrong => ("✗ wrong", RED),
            Verdict::NotFinite => ("✗ not finite", RED),
        }
    }
}

pub(super) fn probabilities(logits_nk: &Tensor) -> Vec<Vec<f32>> {
    let probabilities = tch::no_grad(|| logits_nk.softmax(-1, Kind::Float));
    let classes = logits_nk.size().last().map_or(1, |&k| k as usize).max(1);
    let values = host_values(&probabilities);
    values.chunks_exact(classes).map(<[f32]>::to_vec).collect()
}

/// One picture's words.
struct View<'a> {
    layer: &'a str,
    epoch: u64,
    classes: &'a [String],
    answer: &'a Answer,
}

impl View<'_> {
    /// At the left the image and the most probable classes; at the right a row for the true class and one for its rival.
    fn picture(&self, input: &Picture, for_true: &Map, for_rival: &Map) -> Picture {
        let sides = (input.height() as usize, input.width() as usize);
        let zoom = Zoom::fitting(sides.0, sides.1, TILE);
        let list_height = LISTED.min(self.answer.ranked.len()) as u32 * LIST_LINE;
        let row_height = zoom.apply(sides.0).max(list_height);
        let first = LINES[1] + 8;
        let second = first + row_height + 24;
        let height = second + row_height + FOOTER + MARGIN / 2;
        let title = format!("Grad-CAM of {}", self.layer);
        let mut canvas = card::card(height, MARGIN, &title, &card::moment(self.epoch));

        canvas.text(MARGIN, LINES[1], "input", NOTE);
        card::framed(&mut canvas, (MARGIN, first), input, Zoom::fitting(sides.0, sides.1, SIDE));
        let (text, colour) = self.answer.verdict.words();
        canvas.text(MARGIN, second - 8, text, Style { colour, ..STRONG });
        self.list(&mut canvas, (MARGIN, second));

        let (true_role, rival_role, style) = match self.answer.verdict {
            Verdict::Right => ("true = predicted", "runner-up", BODY),
            Verdict::Wrong => ("true", "predicted", Style { colour: RED, ..STRONG }),
            Verdict::NotFinite => ("true", "another", BODY),
        };
        self.caption(&mut canvas, LINES[1], true_role, self.answer.label, STRONG);
        let heat = Heat::of([for_true, for_rival]);
        evidence(&mut canvas, first, input, for_true, heat, zoom);
        self.caption(&mut canvas, second - 8, rival_role, self.answer.rival(), style);
        evidence(&mut canvas, second, input, for_rival, heat, zoom);
        let footer = match heat.scale.high() {
            0.0 => "no map singles out a place".to_owned(),
            high => format!("both maps on one scale, 0 to {}", number(high)),
        };
        card::line(&mut canvas, LEFT, second + row_height + FOOTER - 3, RIGHT, &footer, SMALL);
        canvas.into_picture()
    }

    /// `true: 7  99.8 %`
    fn caption(&self, canvas: &mut Canvas, baseline: u32, role: &str, class: usize, style: Style) {
        let percent = Percent(self.answer.probability(class)).to_string();
        let end = RIGHT - width(&percent, NOTE) - GAP;
        let text = format!("{role}: {}", card::class_name(self.classes, class));
        let x = card::line(canvas, LEFT, baseline, end, &text, style);
        canvas.text(x + GAP, baseline, &percent, NOTE);
    }

    /// The most probable classes, each over a bar as long as its probability.
    fn list(&self, canvas: &mut Canvas, (x, y): (u32, u32)) {
        for (index, &(class, probability)) in self.answer.ranked.iter().take(LISTED).enumerate() {
            let y = y + index as u32 * LIST_LINE;
            let share = if probability.is_finite() { probability.clamp(0.0, 1.0) } else { 0.0 };
            let colour = if class == self.answer.label { TRUE_BAR } else { BAR };
            canvas.fill((x, y), ((share * SIDE as f32).round() as u32, LIST_LINE - 2), colour);
            let percent = Percent(probability).rounded(0);
            canvas.text_right(x + SIDE - 2, y + 11, &percent, SMALL);
            let room = SIDE - 4 - width(&percent, SMALL);
            canvas.text(x + 2, y + 11, &fitted(&card::class_name(self.classes, class), LIST, room), LIST);
        }
    }
}

/// A row from `y`: the map, the map over the image, and the scale with the map's own maximum.
fn evidence(canvas: &mut Canvas, y: u32, input: &Picture, map: &Map, heat: Heat, zoom: Zoom) {
    let (wide, high) = (zoom.apply(input.width() as usize), zoom.apply(input.height() as usize));
    card::framed(canvas, (LEFT, y), &heat.alone(map, (wide, high)), Zoom::In(1));
    card::framed(canvas, (LEFT + wide + GAP, y), &heat.over(map, input, zoom), Zoom::In(1));
    heat::remark(canvas, (LEFT, y), (wide, high), Content::of(map));

    if heat.scale.high() == 0.0 {
        return;
    }
    let bar = LEFT + 2 * (wide + GAP);
    canvas.bar_upright((bar, y), (7, high), heat::COLOURS);
    canvas.text(bar + 10, y + 7, &number(heat.scale.high()), SMALL);
    canvas.text(bar + 10, y + high, "0", SMALL);
    let (_, most) = Map::range([map]).unwrap_or_default();
    let whole = heat.scale.high();
    if most > 0.0 && most < whole {
        let down = ((1.0 - most / whole) * high.saturating_sub(1) as f32).round() as u32;
        canvas.fill((bar.saturating_sub(2), y + down), (11, 1), INK);
        // Between the two ends, where there is room.
        if (NUMBER..high.saturating_sub(NUMBER)).contains(&down) {
            canvas.text(bar + 10, y + down + 4, &number(most), SMALL);
        }
    }
}
