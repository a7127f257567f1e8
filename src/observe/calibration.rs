//! Calibration: the reliability diagram and the expected calibration error.

use super::card::{self, BODY, INK, LINE, LINES, MARGIN, NOTE, PAPER, RED, RIGHT};
use super::{Record, epoch_step};
use crate::evaluation;
use crate::eventlog::Value;
use crate::picture::Picture;
use crate::render::text::{Face, Style, width};
use crate::render::{Canvas, Rgb, blend};
use crate::train::{Moment, Observer};
use crate::types::{Run, Tag};

/// As Guo et al. have it, so that errors compare with published ones.
const BINS: usize = 15;
/// Pixels of a bin, and between bins.
const BIN: u32 = 20;
const GAP: u32 = 1;
/// Axes in pixels: the left one, the upper end of accuracy, its zero, the zero of the counts.
const LEFT: u32 = 34;
const TOP: u32 = LINES[2] + 14;
const BASE: u32 = TOP + 200;
const COUNTS: u32 = BASE + 74;
const HEIGHT: u32 = COUNTS + 54;
/// Pixels of the largest count.
const TALLEST: f64 = 44.0;

const BAR: Rgb = [138, 180, 248];
/// Colours of bars that end below the confidence and above it.
const OVERCONFIDENT: Rgb = [242, 184, 181];
const UNDERCONFIDENT: Rgb = [215, 174, 251];
const AXIS: Rgb = [154, 160, 166];
const SMALL: Style = Style { face: Face::Regular, size: 9, colour: card::GREY };
const TINY: Style = Style { face: Face::Regular, size: 8, colour: card::GREY };

/// The reliability diagram of the validation images, under `reliability/diagram`, and the expected calibration
/// error, under `reliability/ece`.
#[derive(Clone, Copy, Debug)]
pub struct Calibration;

impl Observer<Record> for Calibration {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let Some(predictions) = moment.predictions else { return };
        let calibration = evaluation::Calibration::of(predictions, BINS);
        let error = calibration.expected_error().unwrap_or(f64::NAN);
        let values = vec![
            Value::scalar(Tag::of("reliability/ece"), error as f32).described(format!(
                "Expected calibration error (ECE) of the validation images (Guo et al. 2017): the gap between confidence, \
                 the probability of the predicted class, and accuracy in {BINS} bins of confidence, averaged over the \
                 images; 0 to 1, 0 is best. Accuracy is another thing: networks often become overconfident while it \
                 still improves."
            )),
            Value::images(Tag::of("reliability/diagram"), vec![picture(&calibration, moment.epoch)]).described(
                "Reliability diagram of the validation images by confidence, the probability of the predicted class: a bar \
                 is the accuracy of its bin, the black mark its mean confidence, and the gap between them red where the \
                 network is overconfident, violet where it is underconfident. Bars of a calibrated network end at the \
                 dashed diagonal. The thin line is the 95 % confidence interval of the accuracy (Wilson 1927): a long \
                 one means that there are too few images to tell. Below, the images of each bin; heights are \
                 logarithmic.",
            ),
        ];
        out.push(Run::Validation, epoch_step(moment.epoch), values);
    }
}

fn picture(calibration: &evaluation::Calibration, epoch: u64) -> Picture {
    let mut canvas = card::card(HEIGHT, MARGIN, "Reliability diagram", &card::moment(epoch));
    notes(&mut canvas, calibration);
    axes(&mut canvas);
    for (index, bin) in calibration.bins.iter().enumerate() {
        let x = LEFT + 1 + index as u32 * BIN;
        accuracy(&mut canvas, x, bin);
    }
    diagonal(&mut canvas);
    for (index, bin) in calibration.bins.iter().enumerate() {
        marks(&mut canvas, LEFT + 1 + index as u32 * BIN, bin);
    }
    counts(&mut canvas, calibration);
    legend(&mut canvas);
    canvas.into_picture()
}

/// The numbers of all images.
fn notes(canvas: &mut Canvas, calibration: &evaluation::Calibration) {
    let all = calibration.all();
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let (Some(accuracy), Some(confidence)) = (all.accuracy(), all.confidence()) else {
        let text = if calibration.not_finite > 0 { "the probabilities are not finite" } else { "no images" };
        canvas.text(MARGIN, LINES[1], text, Style { colour: RED, ..BODY });
        return;
    };
    let (error, largest) = (calibration.expected_error(), calibration.maximum_error());
    let x = canvas.text(MARGIN, LINES[1], &format!("accuracy {}", percent(accuracy)), BODY);
    let x = canvas.text(x, LINES[1], &format!(", confidence {}", percent(confidence)), BODY);
    let verdict = match accuracy - confidence {
        gap if gap.abs() < 0.0005 => "",
        gap if gap < 0.0 => " · overconfident",
        _ => " · underconfident",
    };
    card::line(canvas, x, LINES[1], RIGHT, verdict, NOTE);
    let number = |error: Option<f64>| format!("{:.2} %", error.unwrap_or(0.0) * 100.0);
    let mut text = format!("ECE {}, maximum of a bin {}", number(error), number(largest));
    if calibration.not_finite > 0 {
        text += &format!("; not finite: {}", calibration.not_finite);
    }
    card::line(canvas, MARGIN, LINES[2], RIGHT, &text, NOTE);
}

fn axes(canvas: &mut Canvas) {
    let right = LEFT + 1 + BINS as u32 * BIN;
    for tick in 0..=5 {
        let share = f64::from(tick) / 5.0;
        let (y, x) = (height(share), LEFT + 1 + (share * f64::from(BINS as u32 * BIN)).round() as u32);
        canvas.fill((LEFT + 1, y), (right - LEFT - 1, 1), if tick == 0 { AXIS } else { blend(PAPER, LINE, 0.6) });
        canvas.text_right(LEFT - 3, y + 3, &format!("{}", tick * 20), SMALL);
        canvas.fill((x, COUNTS + 1), (1, 3), AXIS);
        canvas.text_centred(x.min(right - 6), COUNTS + 14, &format!("{}", tick * 20), SMALL);
    }
    canvas.fill((LEFT, TOP), (1, BASE - TOP + 1), AXIS);
    canvas.fill((LEFT, COUNTS), (right - LEFT, 1), AXIS);
    let middle = |text: &str, from: u32, to: u32| (from + to + width(text, NOTE)) / 2;
    canvas.text_up(MARGIN + 3, middle("accuracy, %", TOP, BASE), "accuracy, %", NOTE);
    canvas.text_up(MARGIN + 3, middle("images", BASE, COUNTS), "images", NOTE);
    canvas.text_centred((LEFT + right) / 2, COUNTS + 27, "confidence, %", NOTE);
}

/// The y coordinate of an accuracy.
fn height(share: f64) -> u32 {
    BASE - (share.clamp(0.0, 1.0) * f64::from(BASE - TOP)).round() as u32
}

/// A bar up to the accuracy, and the gap between it and the confidence.
fn accuracy(canvas: &mut Canvas, x: u32, bin: &evaluation::Bin) {
    let (Some(accuracy), Some(confidence)) = (bin.accuracy(), bin.confidence()) else { return };
    let (right, sure) = (height(accuracy), height(confidence));
    let wide = BIN - GAP;
    canvas.fill((x, right), (wide, BASE - right), BAR);
    let colour = if accuracy < confidence { OVERCONFIDENT } else { UNDERCONFIDENT };
    canvas.fill((x, right.min(sure)), (wide, right.abs_diff(sure)), colour);
}

/// Diagonal: ends of the bars of a well calibrated network.
fn diagonal(canvas: &mut Canvas) {
    let across = BINS as u32 * BIN;
    for x in (0..across).filter(|x| x % 8 < 5) {
        let y = height(f64::from(x) / f64::from(across - 1));
        canvas.fill((LEFT + 1 + x, y), (1, 1), INK);
    }
}

/// The confidence, and where the accuracy may lie.
fn marks(canvas: &mut Canvas, x: u32, bin: &evaluation::Bin) {
    let (Some(confidence), Some((low, high))) = (bin.confidence(), bin.interval()) else { return };
    canvas.fill((x, height(confidence)), (BIN - GAP, 2), INK);
    let colour = blend(PAPER, INK, 0.7);
    let (top, bottom) = (height(high), height(low));
    let middle = x + (BIN - GAP) / 2;
    canvas.fill((middle, top), (1, bottom - top + 1), colour);
    for y in [top, bottom] {
        canvas.fill((middle - 2, y), (5, 1), colour);
    }
}

fn counts(canvas: &mut Canvas, calibration: &evaluation::Calibration) {
    let size = |count: u64| (count as f64).ln_1p();
    let largest = calibration.bins.iter().map(|bin| size(bin.count)).fold(1.0, f64::max);
    for (index, bin) in calibration.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
        let x = LEFT + 1 + index as u32 * BIN;
        let tall = (size(bin.count) / largest * TALLEST).round().max(1.0) as u32;
        canvas.fill((x, COUNTS - tall), (BIN - GAP, tall), LINE);
        canvas.text_centred(x + BIN / 2, COUNTS - tall - 3, &short(bin.count), TINY);
    }
}

fn legend(canvas: &mut Canvas) {
    let baseline = HEIGHT - MARGIN;
    let mut x = MARGIN;
    for (colour, height, text) in [
        (BAR, 8, "accuracy"),
        (OVERCONFIDENT, 8, "overconfident"),
        (UNDERCONFIDENT, 8, "underconfident"),
        (INK, 2, "confidence"),
    ] {
        canvas.fill((x, baseline - height - (8 - height) / 2), (8, height), colour);
        x = canvas.text(x + 12, baseline, text, SMALL) + 12;
    }
}

/// A count in at most four characters.
fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..10_000 => format!("{:.1}k", (count / 100) as f64 / 10.0),
        10_000..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}M", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short_and_never_too_large() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1.0k"), (9_999, "9.9k"), (10_000, "10k"), (60_123, "60k")];
        for (count, want) in cases.into_iter().chain([(999_999, "999k"), (1_500_000, "1M")]) {
            assert_eq!(short(count), want);
        }
    }
}
