//! Attributions for the predicted class: every method's map of a few probe images side by side.

use super::Record;
use super::card::{self, BODY, GREEN, GREY, LINE, LINES, MARGIN, NOTE, RED, RIGHT, STRONG};
use super::grad_cam::probabilities;
use super::heat::{self, Heat};
use super::probe::Probes;
use crate::evaluation::most_probable;
use crate::eventlog::Value;
use crate::explain::{Explainer, Explanation, Method, Settings};
use crate::forward;
use crate::picture::Picture;
use crate::render::text::{Face, Style, fitted};
use crate::render::{self, Canvas, ColourMap, Scale, Zoom, number};
use crate::train::{Moment, Observer};
use crate::types::{ImageShape, Percent, Seed, Tag};

/// Tiles in a row: four of 84 pixels, three times the side of an MNIST image, fill a card.
const COLUMNS: u32 = 4;
/// Pixels of the longer side of a tile, at most.
const TILE: u32 = 84;
const GAP: u32 = 1;
const LEFT: u32 = (card::WIDTH - COLUMNS * TILE - (COLUMNS - 1) * GAP) / 2;
/// Pixels above a tile for its name.
const NAME: u32 = 15;
/// Of maps in which pixels count for the class or against it; the others are heat over the image.
const SIGNED: ColourMap = ColourMap::Diverging;
/// The share of a signed map's values that are told apart; the few above look the same.
const STRONGEST: f64 = 0.995;
const LABEL: Style = Style { face: Face::Regular, size: 9, colour: GREY };

/// Every explanation method at the last convolution, under `explanations/<layer>`, one picture for each probe image.
#[derive(Clone, Copy, Debug)]
pub struct Explanations {
    probes: usize,
    probe_seed: Seed,
}

impl Explanations {
    /// For `probes` images of different classes.
    pub fn new(probes: usize, probe_seed: Seed) -> Explanations {
        Explanations { probes, probe_seed }
    }
}

impl Observer<Record> for Explanations {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let probes = Probes::choose(moment.dataset, self.probes, self.probe_seed);
        let (run, step) = moment.place();
        out.push(run, step, value(moment, &probes).into_iter().collect());
    }
}

/// Nothing without probes. A network without convolutions is explained by the methods that need none.
fn value(moment: &Moment<'_>, probes: &Probes) -> Option<Value> {
    let (network, weights) = (moment.network, moment.parameters.views());
    if probes.is_empty() {
        return None;
    }
    let images_nchw = probes.images_nchw(moment.parameters.device());
    let logits_nk = tch::no_grad(|| forward::logits(network, weights, &images_nchw));
    let probabilities = probabilities(&logits_nk);
    let targets: Vec<usize> = probabilities.iter().map(|row| most_probable(row)).collect();
    let mut by_image: Vec<Vec<Explanation>> = targets.iter().map(|_| Vec::new()).collect();
    // Those of `trainer explain`: the same image has the same maps there.
    let settings = Settings::default();
    let mut explainer = Explainer::new(network, weights, &images_nchw, None, &targets, &settings);
    for method in Method::ALL {
        for (explanations, explanation) in by_image.iter_mut().zip(explainer.explain(method)) {
            explanations.push(explanation);
        }
    }
    let each = probes.images().zip(probes.labels()).zip(targets.iter().zip(&probabilities)).zip(&by_image);
    let pictures = each.map(|(((pixels, &label), (&target, probabilities)), explanations)| {
        let input = render::image(pixels, probes.shape());
        let question = Question {
            classes: &moment.dataset.classes,
            target,
            probability: probabilities[target],
            label: Some(label),
            when: card::moment(moment.epoch),
        };
        sheet(&question, &input, explanations)
    });
    let layer = network.taps().last_maps.and_then(|node| network.layer_of(node));
    let layer = layer.map_or("image", |layer| &layer.name);
    let tag = Tag::of(format!("explanations/{layer}"));
    Some(Value::images(tag, pictures.collect()).described(description(layer, &settings, network.input())))
}

fn description(layer: &str, settings: &Settings, shape: ImageShape) -> String {
    let (window, stride) = settings.occlusion.window_and_stride(shape);
    let methods: Vec<String> = Method::ALL
        .iter()
        .map(|method| format!("- **{}** ({}): {}", method.title(), method.source(), method.reading()))
        .collect();
    format!(
        "Attributions for the predicted class by nine methods; the CAMs are of `{layer}`. Each map has its own scale; one \
         marked *uniform*, of which all values are within 5 % of each other, singles out no place and has no colours.\n\n\
         Settings, those of `trainer explain`: integrated gradients by {} points from black, SmoothGrad over {} copies with \
         noise of {:.0} % of the image's range, occlusion by windows of {window}x{window} pixels in steps of {stride}.\n\n{}",
        settings.integrated_gradients.steps,
        settings.smooth_grad.samples,
        settings.smooth_grad.noise * 100.0,
        methods.join("\n")
    )
}

/// The class that is explained, and how the network answered.
pub struct Question<'a> {
    pub classes: &'a [String],
    pub target: usize,
    /// The network's, of the target, 0 to 1.
    pub probability: f32,
    /// The true class, where it is known.
    pub label: Option<usize>,
    /// Shown at the right of the title.
    pub when: String,
}

/// The input and one tile for each explanation, in one picture as wide as the Images tab shows it.
pub fn sheet(question: &Question<'_>, input: &Picture, explanations: &[Explanation]) -> Picture {
    let zoom = Zoom::fitting(input.height() as usize, input.width() as usize, TILE);
    let high = zoom.apply(input.height() as usize);
    let tiles = explanations.len() as u32 + 1;
    // The legend takes two cells.
    let rows = (tiles + 2).div_ceil(COLUMNS);
    let top = LINES[1] + 6;
    let corner = |cell: u32| {
        let (row, column) = (cell / COLUMNS, cell % COLUMNS);
        (LEFT + column * (TILE + GAP), top + row * (NAME + high + 2))
    };
    let height = top + rows * (NAME + high + 2) + MARGIN / 2;
    let class = card::class_name(question.classes, question.target);
    let mut canvas = card::card(height, LEFT, &format!("Attributions for {class}"), &question.when);
    verdict(&mut canvas, question);

    let (x, y) = corner(0);
    canvas.text(x, y + NAME - 4, "Input", LABEL);
    card::framed(&mut canvas, (x, y + NAME), input, zoom);
    for (cell, explanation) in (1..).zip(explanations) {
        let (x, y) = corner(cell);
        canvas.text(x, y + NAME - 4, &fitted(explanation.method.short_title(), LABEL, TILE), LABEL);
        card::framed(&mut canvas, (x, y + NAME), &tile(explanation, input, zoom), Zoom::In(1));
    }
    let (x, y) = corner(tiles);
    // Not across the edge: a legend that does not fit beside the last tile starts below it.
    let (x, y) = if x + 2 * TILE > card::WIDTH { corner(tiles.div_ceil(COLUMNS) * COLUMNS) } else { (x, y) };
    legend(&mut canvas, (x + 8, y + NAME), explanations);
    canvas.into_picture()
}

/// `probability 99.8 %  ✓ correct`
fn verdict(canvas: &mut Canvas, question: &Question<'_>) {
    let percent = Percent(question.probability).to_string();
    let x = canvas.text(LEFT, LINES[1], "probability ", NOTE);
    let x = canvas.text(x, LINES[1], &percent, BODY) + 10;
    let Some(label) = question.label else { return };
    if label == question.target {
        canvas.text(x, LINES[1], "✓ correct", Style { colour: GREEN, ..STRONG });
    } else {
        let text = format!("✗ true class {}", card::class_name(question.classes, label));
        card::line(canvas, x, LINES[1], RIGHT, &text, Style { colour: RED, ..STRONG });
    }
}

/// A signed map alone, any other over the image, enlarged as the image is with `zoom`. One without places of its own is
/// drawn in the colour of nothing, and says what it is.
pub fn tile(explanation: &Explanation, input: &Picture, zoom: Zoom) -> Picture {
    let (wide, high) = (zoom.apply(input.width() as usize), zoom.apply(input.height() as usize));
    let (map, content) = (&explanation.map, explanation.content());
    let mut canvas = Canvas::new(wide, high, SIGNED.at(0.5));
    if !explanation.signed {
        canvas.place((0, 0), &Heat::of([map]).over(map, input, zoom), Zoom::In(1));
    } else if content.is_drawn() {
        canvas.place((0, 0), &SIGNED.paint(map, Scale::symmetric_to_quantile(map, STRONGEST)), zoom);
    }
    heat::remark(&mut canvas, (0, 0), (wide, high), content);
    canvas.into_picture()
}

/// The colour scales, in two cells' width.
fn legend(canvas: &mut Canvas, (x, y): (u32, u32), explanations: &[Explanation]) {
    const BAR: (u32, u32) = (100, 8);
    let bar = |canvas: &mut Canvas, y: u32, colours, words: [&str; 2], of: &str| {
        canvas.text(x, y, of, LABEL);
        canvas.frame((x, y + 5), BAR, LINE);
        canvas.bar((x, y + 5), BAR, colours);
        canvas.text(x, y + 23, words[0], LABEL);
        canvas.text_right(x + BAR.0, y + 23, words[1], LABEL);
    };
    bar(canvas, y + 8, heat::COLOURS, ["none", "most"], "CAM: evidence for the class");
    bar(canvas, y + 46, SIGNED, ["negative", "positive"], "others: attribution of a pixel");
    let gap = explanations.iter().find_map(|explanation| explanation.completeness_gap);
    if let Some(gap) = gap {
        canvas.text(x, y + 84, &format!("completeness gap {}", number(gap)), LABEL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Map;

    fn explanation(method: Method, values: Vec<f32>) -> Explanation {
        let map = Map::new(2, 2, values).unwrap();
        Explanation { method, map, channels: vec![], signed: method.is_signed(), completeness_gap: Some(0.25) }
    }

    #[test]
    fn a_sheet_is_as_wide_as_it_is_shown_whatever_is_in_it() {
        let classes = ["a rather long name of a class".to_owned(), "b".to_owned()];
        for (height, width) in [(28, 28), (3, 90), (200, 40), (1, 1)] {
            let input = Picture::filled(width, height, [9; 3]);
            for count in 0..=Method::ALL.len() {
                let all: Vec<Explanation> =
                    Method::ALL[..count].iter().map(|&m| explanation(m, vec![0.0, 1.0, -1.0, 2.0])).collect();
                let label = Some(count % 2);
                let when = "after epoch 1".to_owned();
                let question = Question { classes: &classes, target: 0, probability: 0.5, label, when };
                assert_eq!(sheet(&question, &input, &all).width(), card::WIDTH);
            }
        }
    }

    #[test]
    fn a_map_that_singles_out_no_place_has_no_colours() {
        let input = Picture::filled(2, 2, [9; 3]);
        let colourful = |method: Method, values: Vec<f32>| {
            let shown = tile(&explanation(method, values), &input, Zoom::In(30));
            let far_apart =
                |pixel: &&[u8; 3]| pixel.iter().max().zip(pixel.iter().min()).is_some_and(|(a, b)| a - b > 40);
            shown.pixels().iter().filter(far_apart).count()
        };
        for method in Method::ALL {
            assert!(colourful(method, vec![0.0, 1.0, 0.5, 2.0]) > 400, "{method}");
            for flat in [0.0, 0.7, 1e-30, 3e38] {
                assert_eq!(colourful(method, vec![flat; 4]), 0, "{method}: {flat}");
            }
            assert_eq!(colourful(method, vec![1.0, 0.99, 0.98, 1.0]), 0, "{method}: nearly uniform");
        }
        assert_eq!(colourful(Method::Occlusion, vec![-0.3; 4]), 0);
    }

    #[test]
    fn a_map_without_evidence_says_so() {
        let question = |when: &str| Question {
            classes: &[],
            target: 0,
            probability: f32::NAN,
            label: None,
            when: when.to_owned(),
        };
        let input = Picture::filled(28, 28, [9; 3]);
        let with = |values: Vec<f32>| sheet(&question(""), &input, &[explanation(Method::GradCam, values)]);
        let all = [vec![0.0; 4], vec![0.5; 4], vec![f32::NAN; 4], vec![0.0, 0.0, 0.0, 1.0]].map(with);
        for (index, sheet) in all.iter().enumerate() {
            assert!(!all[..index].contains(sheet), "{index}");
        }
    }
}
