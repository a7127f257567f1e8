//! Where in the probe images the network finds what speaks for the true and for the predicted class.

use tch::{Kind, Tensor};

use super::Findings;
use super::card::{self, BODY, GREEN, GREY, INK, LINES, MARGIN, NOTE, PAPER, RED, RIGHT, STRONG};
use super::probe::Probes;
use crate::eventlog::Value;
use crate::explain;
use crate::model::{LayerKind, host_values};
use crate::picture::Picture;
use crate::render::text::{Face, Style, fitted, width};
use crate::render::{self, Canvas, ColourMap, Map, Rgb, Scale, Zoom, number};
use crate::train::{Moment, Observer};
use crate::types::{Seed, Tag};

/// Pixels of the longer side of the input and across the list below it, at most.
const SIDE: u32 = 84;
/// Where the maps start.
const LEFT: u32 = MARGIN + SIDE + 8;
/// Pixels of the longer side of a map, at most: two of them and a scale fit a card.
const TILE: u32 = 96;
/// Classes in the list of probabilities.
const LISTED: usize = 5;
const LIST_LINE: u32 = 17;
const GAP: u32 = 6;
const COLOURS: ColourMap = ColourMap::Turbo;
const ALPHA: f32 = 0.7;
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

impl Observer<Findings> for GradCam {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Findings) {
        let probes = Probes::choose(moment.dataset, self.probes, self.probe_seed);
        let (run, step) = moment.place();
        out.push(run, step, value(moment, &probes).into_iter().collect());
    }
}

/// Nothing for a network without convolutions, or without probes.
fn value(moment: &Moment<'_>, probes: &Probes) -> Option<Value> {
    let (network, weights) = (moment.network, moment.parameters.views());
    let layers = network.layers();
    let layer = layers.iter().rposition(|layer| matches!(layer.kind, LayerKind::Conv2d { .. }))?;
    if probes.is_empty() {
        return None;
    }
    let images_nchw = probes.images_nchw(moment.parameters.device());
    let logits_nk = tch::no_grad(|| network.forward(weights, &images_nchw));
    let probabilities = probabilities(&logits_nk).into_iter();
    let answers: Vec<Answer> = probabilities.zip(probes.labels()).map(|(p, &label)| Answer::new(p, label)).collect();
    let maps = |targets: Vec<usize>| explain::grad_cam(network, weights, &images_nchw, layer, &targets);
    let for_true = maps(answers.iter().map(|answer| answer.label).collect());
    let for_rival = maps(answers.iter().map(Answer::rival).collect());

    let name = &layers[layer].name;
    let each = probes.images().zip(&answers).zip(for_true.iter().zip(&for_rival));
    let pictures = each.map(|((pixels, answer), (for_true, for_rival))| {
        let view = View { layer: name, epoch: moment.epoch, classes: &moment.dataset.classes, answer };
        view.picture(&render::image(pixels, probes.shape()), for_true, for_rival)
    });
    Some(Value::images(Tag::of(format!("grad_cam/{name}")), pictures.collect()).described(format!(
        "Where `{name}` finds what speaks for a class (Grad-CAM, Selvaraju et al. 2017), from blue, little, to red, most: \
         as a map, and over the image. Above for the true class; below for the predicted class where that is another, \
         else for the second guess. Each map has its own scale, stated at its right; the list holds the most probable \
         classes, the true one green."
    )))
}

/// What the network says about one image.
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

    /// The predicted class if it is wrong, else the second guess.
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
        let height = second + row_height + MARGIN;
        let title = format!("Grad-CAM of {}", self.layer);
        let mut canvas = card::card(height, MARGIN, &title, &card::moment(self.epoch));

        canvas.text(MARGIN, LINES[1], "input", NOTE);
        card::framed(&mut canvas, (MARGIN, first), input, Zoom::fitting(sides.0, sides.1, SIDE));
        let (text, colour) = self.answer.verdict.words();
        canvas.text(MARGIN, second - 8, text, Style { colour, ..STRONG });
        self.list(&mut canvas, (MARGIN, second));

        let (true_role, rival_role, style) = match self.answer.verdict {
            Verdict::Right => ("true = predicted", "second guess", BODY),
            Verdict::Wrong => ("true", "predicted", Style { colour: RED, ..STRONG }),
            Verdict::NotFinite => ("true", "another", BODY),
        };
        self.caption(&mut canvas, LINES[1], true_role, self.answer.label, STRONG);
        evidence(&mut canvas, first, input, for_true, zoom);
        self.caption(&mut canvas, second - 8, rival_role, self.answer.rival(), style);
        evidence(&mut canvas, second, input, for_rival, zoom);
        canvas.into_picture()
    }

    /// `true: 7  99.8 %`
    fn caption(&self, canvas: &mut Canvas, baseline: u32, role: &str, class: usize, style: Style) {
        let percent = percent(self.answer.probability(class));
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
            let percent =
                if share > 0.0 && share < 0.005 { "<1%".to_owned() } else { format!("{:.0}%", probability * 100.0) };
            canvas.text_right(x + SIDE - 2, y + 11, &percent, SMALL);
            let room = SIDE - 4 - width(&percent, SMALL);
            canvas.text(x + 2, y + 11, &fitted(&card::class_name(self.classes, class), LIST, room), LIST);
        }
    }
}

/// A row from `y`: the map, the map over the image, and the map's scale.
fn evidence(canvas: &mut Canvas, y: u32, input: &Picture, map: &Map, zoom: Zoom) {
    let (wide, high) = (zoom.apply(input.width() as usize), zoom.apply(input.height() as usize));
    let scale = Scale::from_zero([map]);
    let map = map.resized(high as usize, wide as usize);
    let mut enlarged = Canvas::new(wide, high, PAPER);
    enlarged.place((0, 0), input, zoom);
    let overlay = render::overlay(&enlarged.into_picture(), &map, COLOURS, scale, ALPHA);
    card::framed(canvas, (LEFT, y), &COLOURS.paint(&map, scale), Zoom::In(1));
    card::framed(canvas, (LEFT + wide + GAP, y), &overlay, Zoom::In(1));

    let bar = LEFT + 2 * (wide + GAP);
    canvas.bar_upright((bar, y), (7, high), COLOURS);
    canvas.text(bar + 10, y + 7, &number(scale.high()), SMALL);
    canvas.text(bar + 10, y + high, "0", SMALL);
    let words = match (map.non_finite(), scale.high()) {
        (1.., _) => ["not", "finite"],
        (0, 0.0) => ["no positive", "evidence"],
        _ => return,
    };
    let style = Style { face: Face::Bold, size: 10, colour: PAPER };
    if words.iter().all(|line| width(line, style) <= wide) {
        canvas.text_centred(LEFT + wide / 2, y + high / 2 - 3, words[0], style);
        canvas.text_centred(LEFT + wide / 2, y + high / 2 + 10, words[1], style);
    }
}

fn percent(probability: f32) -> String {
    format!("{:.1} %", probability * 100.0)
}
