//! Activation maximisation of filters and classes, with what images of the data reach.

use super::Record;
use super::card::{self, BODY, GREY, LINE, LINES, MARGIN, NOTE, PAPER, RED, RIGHT, STRONG};
use crate::data::Dataset;
use crate::evaluation::Predictions;
use crate::eventlog::Value;
use crate::explain::{self, Ascent, Optimum, Target};
use crate::graph::{Graph, Layer, Op};
use crate::picture::Picture;
use crate::render::text::{Face, Style, fitted};
use crate::render::{Canvas, ColourMap, Map, NON_FINITE, Rgb, Scale, Zoom, number};
use crate::train::{Moment, Observer};
use crate::types::{Percent, Seed, Tag};
use crate::weights::{Weights, host_values};

/// Filters of a layer, at most: six rows of six.
const FILTERS: usize = 36;
/// Classes, at most: four rows of five.
const CLASSES: usize = 20;
const FILTER_TILES: Tiles = Tiles { columns: 6, side: 48, gap: 8, below: 12 };
const CLASS_TILES: Tiles = Tiles { columns: 5, side: 60, gap: 8, below: 52 };
/// Training images whose mean brightness the images of classes start from.
const SAMPLED: usize = 1000;
/// The least difference between what is drawn black and what is drawn white, in units of the data's range: a flat image
/// stays flat.
const LEAST_CONTRAST: f32 = 0.2;
/// Steps of a class's ascent without regularisers.
const BARE: usize = 4;
const BAR: Rgb = [66, 133, 244];
const SMALL: Style = Style { face: Face::Regular, size: 9, colour: GREY };

/// The images that maximise the filters of each convolution, under `layers/activation_max/<layer>`, and the logits of the
/// classes, under `layers/activation_max/classes`.
#[derive(Clone, Copy, Debug)]
pub struct ActivationMax {
    seed: Seed,
}

impl ActivationMax {
    /// `seed` decides the noise that every image starts from.
    pub fn new(seed: Seed) -> ActivationMax {
        ActivationMax { seed }
    }
}

impl Observer<Record> for ActivationMax {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        // Fewer and longer steps than the default's sixteen: the same forms, and training waits for them.
        let settings = Ascent { steps: 12, rate: 0.25, seed: self.seed, ..Ascent::default() };
        let of_filters = |layer: &Layer| match layer.op {
            Op::Conv2d { filters, .. } => Some(filter_value(moment, layer, filters, settings)),
            _ => None,
        };
        let mut values: Vec<Value> = moment.network.layers().iter().filter_map(of_filters).collect();
        values.extend(class_value(moment, settings));
        let (run, step) = moment.place();
        out.push(run, step, values);
    }
}

fn filter_value(moment: &Moment<'_>, layer: &Layer, filters: usize, settings: Ascent) -> Value {
    let name = &layer.name;
    let channels: Vec<usize> = (0..filters.min(FILTERS)).collect();
    let target = Target::Channels { convolution: layer.node, channels: &channels };
    let optima = explain::maximise(moment.network, moment.parameters.views(), target, &settings);
    let picture = filter_picture(name, moment.epoch, filters, &optima);
    Value::images(Tag::of(format!("layers/activation_max/{name}")), vec![picture]).described(format!(
        "Activation maximisation (Erhan et al. 2009) of each filter of `{name}`: gradient ascent on the input from grey noise, \
         regularised by jitter, blur and total variation (Olah et al. 2017), so a tile is a smooth texture with a high \
         activation and not the highest possible one. Before training the tiles look alike; edges and strokes appear as \
         filters form, and a tile that no longer changes belongs to a filter that has settled. A tile is only as large as a \
         filter needs to show its texture, and its contrast is stretched on its own; grey does not matter to the filter, a \
         flat tile means that it responds to brightness or darkness alone. The bar below is the filter's mean activation on \
         its tile, after the ReLU, relative to the largest, which is stated above. The ascent follows the value before the \
         ReLU where that is below 0; an *inactive* filter stays at 0 even so, and is dead if it remains so."
    ))
}

/// Nothing for a network without classes.
fn class_value(moment: &Moment<'_>, settings: Ascent) -> Option<Value> {
    let count = moment.network.classes();
    let classes: Vec<usize> = (0..count.min(CLASSES)).collect();
    // Longer steps, and the last ones bare: of 70 classes of MNIST, Fashion-MNIST and the drawn set these leave no validation
    // image a larger logit, and the filters' settings seven.
    let settings = Ascent { start: mean_brightness(moment.dataset), rate: 0.35, bare: BARE, ..settings };
    let weights = moment.parameters.views();
    let optima = explain::maximise(moment.network, weights, Target::Classes(&classes), &settings);
    if optima.is_empty() {
        return None;
    }
    let largest = moment.predictions.and_then(|all| largest_logits(moment.network, moment.parameters, all));
    let picture = class_picture(&moment.dataset.classes, moment.epoch, count, &optima, largest.as_deref());
    Some(Value::images(Tag::of("layers/activation_max/classes"), vec![picture]).described(
        "Activation maximisation of each class (Simonyan et al. 2013): an image with a large logit, found by a few steps of \
         gradient ascent from noise around the mean brightness of the training images. Not the largest logit there is: most \
         steps are held to smooth images by jitter, blur and total variation. Below it the class's name, its probability \
         and logit for that image, and, where the evaluation has kept what it takes, the largest logit of any validation \
         image, in red where that is larger. Strokes that belong to a class stand out; a network that is sure of images in \
         which you recognise nothing has learned parts, not shapes. The contrast of each tile is stretched on its own."
            .to_owned(),
    ))
}

/// The largest logit of each class over the validation images, by the last layer from the features that the evaluation has
/// kept; none where it kept none, or those of another layer.
fn largest_logits(network: &Graph, parameters: &Weights, predictions: &Predictions) -> Option<Vec<f32>> {
    let last = network.node(network.layer_of(network.taps().logits)?.node);
    let [weights, bias] = parameters.views().get(last.parameters.clone())? else { return None };
    let [weights, bias] = [weights, bias].map(host_values);
    let features = predictions.features(0)?.len();
    if weights.len() != features * bias.len() {
        return None;
    }
    // By feature: the logits of an image are then sums of rows, and features that are 0, most of them, cost nothing.
    let by_feature: Vec<f32> =
        (0..weights.len()).map(|at| weights[at % bias.len() * features + at / bias.len()]).collect();
    let mut largest = vec![f32::NEG_INFINITY; bias.len()];
    let mut logits = bias.clone();
    for image in 0..predictions.len() {
        logits.copy_from_slice(&bias);
        for (row, &feature) in by_feature.chunks_exact(bias.len()).zip(predictions.features(image)?) {
            if feature != 0.0 {
                logits.iter_mut().zip(row).for_each(|(logit, weight)| *logit += feature * weight);
            }
        }
        largest.iter_mut().zip(&logits).for_each(|(largest, &logit)| *largest = largest.max(logit));
    }
    Some(largest)
}

/// 0 to 1.
fn mean_brightness(dataset: &Dataset) -> f32 {
    let split = &dataset.train;
    let pixels = &split.pixels()[..split.len().min(SAMPLED) * split.shape().len()];
    let sum: u64 = pixels.iter().map(|&pixel| u64::from(pixel)).sum();
    (sum as f64 / (pixels.len().max(1) as f64 * 255.0)) as f32
}

/// Rows of square tiles with something written below each.
#[derive(Clone, Copy)]
struct Tiles {
    columns: u32,
    side: u32,
    gap: u32,
    below: u32,
}

impl Tiles {
    /// The upper left corner of tile number `index`.
    fn corner(&self, index: usize, top: u32) -> (u32, u32) {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let (row, column) = (index / self.columns, index % self.columns);
        let left = (card::WIDTH - self.columns * (self.side + self.gap) + self.gap) / 2;
        (left + column * (self.side + self.gap), top + row * self.pitch())
    }

    fn pitch(&self) -> u32 {
        self.side + self.below + self.gap
    }

    fn height(&self, count: usize) -> u32 {
        u32::try_from(count).unwrap_or(u32::MAX).div_ceil(self.columns).max(1) * self.pitch() - self.gap
    }

    /// The image as large as fits the tile, in its middle.
    fn draw(&self, canvas: &mut Canvas, (x, y): (u32, u32), optimum: &Optimum) {
        if !optimum.activation.is_finite() {
            canvas.fill((x, y), (self.side, self.side), NON_FINITE);
            let style = Style { face: Face::Bold, size: 10, colour: PAPER };
            canvas.text_centred(x + self.side / 2, y + self.side / 2 - 2, "not", style);
            canvas.text_centred(x + self.side / 2, y + self.side / 2 + 10, "finite", style);
            return;
        }
        let Some(picture) = stretched(&optimum.image, self.side) else {
            return;
        };
        let middle = |length: u32| self.side.saturating_sub(length) / 2;
        let corner = (x + middle(picture.width()), y + middle(picture.height()));
        card::framed(canvas, corner, &picture, Zoom::In(1));
    }
}

/// The image with its longer side `side` pixels, from black, its lowest value, to white, its highest. Interpolated: what
/// counts is the pattern, not the pixel.
fn stretched(image: &[Map], side: u32) -> Option<Picture> {
    let (low, high) = Map::range(image)?;
    // As wide as the least contrast, around what there is, and within what can be.
    let spare = (LEAST_CONTRAST - (high - low)).max(0.0);
    let low = (low - spare / 2.0).clamp(0.0, 1.0 - LEAST_CONTRAST).min(low);
    let scale = Scale::new(low, high.max(low + LEAST_CONTRAST));
    let first = image.first()?;
    let longest = first.height().max(first.width()).max(1);
    let length = |pixels: usize| (pixels * side as usize).div_ceil(longest);
    let (height, width) = (length(first.height()), length(first.width()));
    let planes: Vec<Picture> =
        image.iter().map(|map| ColourMap::Grey.paint(&map.resized(height, width), scale)).collect();
    // Of other counts than red, green and blue the first is shown, as for images of the data.
    let colours = if planes.len() == 3 { [0, 1, 2] } else { [0; 3] };
    let shades: [u8; 256] = std::array::from_fn(|value| shade(value as u8));
    let mut picture = planes.first()?.clone();
    for y in 0..picture.height() {
        for x in 0..picture.width() {
            let shade = |plane: usize| planes[plane].get(x, y).map_or(0, |[value, ..]| shades[usize::from(value)]);
            picture.set(x, y, colours.map(shade));
        }
    }
    Some(picture)
}

/// The nearest of 32 shades: in a texture the eye sees no difference, and the picture takes a third less in the event
/// file.
fn shade(value: u8) -> u8 {
    const STEPS: f32 = 31.0;
    ((f32::from(value) / 255.0 * STEPS).round() / STEPS * 255.0).round() as u8
}

fn filter_picture(layer: &str, epoch: u64, filters: usize, optima: &[Optimum]) -> Picture {
    let tiles = FILTER_TILES;
    let top = LINES[2] + 12;
    let height = top + tiles.height(optima.len()) + MARGIN;
    let mut canvas = card::card(height, MARGIN, &format!("Maximising inputs: {layer}"), &card::moment(epoch));
    let size = optima.first().and_then(|optimum| optimum.image.first()).map_or((0, 0), |m| (m.height(), m.width()));
    let shown = card::shown_of(optima.len(), filters, "filter");
    let note = format!("{shown} · tiles of {}x{} pixels, contrast stretched", size.0, size.1);
    card::line(&mut canvas, MARGIN, LINES[1], RIGHT, &note, NOTE);

    let most = optima.iter().map(|o| o.activation).filter(|a| a.is_finite()).fold(0.0, f32::max);
    let x = canvas.text(MARGIN, LINES[2], "mean activation ", NOTE);
    canvas.fill((x, LINES[2] - 6), (24, 4), BAR);
    let end = canvas.text(x + 29, LINES[2], &number(most), BODY);
    let silent = optima.iter().filter(|optimum| optimum.activation == 0.0).count();
    if silent > 0 {
        canvas.text(end + 12, LINES[2], &format!("inactive: {silent}"), Style { colour: RED, ..NOTE });
    }

    for (index, optimum) in optima.iter().enumerate() {
        let (x, y) = tiles.corner(index, top);
        tiles.draw(&mut canvas, (x, y), optimum);
        let baseline = y + tiles.side + 10;
        let label = index.to_string();
        let left = canvas.text(x, baseline, &label, SMALL).max(x + 14) + 2;
        let room = (x + tiles.side).saturating_sub(left);
        if optimum.activation == 0.0 {
            canvas.text_right(x + tiles.side, baseline, "inactive", Style { colour: RED, ..SMALL });
        } else if optimum.activation.is_finite() {
            let share = if most > 0.0 { (optimum.activation / most).clamp(0.0, 1.0) } else { 0.0 };
            canvas.fill((left, baseline - 5), (room, 4), LINE);
            canvas.fill((left, baseline - 5), ((share * room as f32).round() as u32, 4), BAR);
        }
    }
    canvas.into_picture()
}

fn class_picture(names: &[String], epoch: u64, count: usize, optima: &[Optimum], largest: Option<&[f32]>) -> Picture {
    let tiles = CLASS_TILES;
    let top = LINES[1] + 12;
    let height = top + tiles.height(optima.len()) + MARGIN;
    let mut canvas = card::card(height, MARGIN, "Maximising inputs: classes", &card::moment(epoch));
    let shown = match optima.len() {
        n if n < count => format!("{n} of {count} classes"),
        1 => "1 class".to_owned(),
        n => format!("{n} classes"),
    };
    let compared = if largest.is_some() { "; data: largest logit of an image" } else { "" };
    let note = format!("{shown} · probability, logit{compared}");
    card::line(&mut canvas, MARGIN, LINES[1], RIGHT, &note, NOTE);

    for (class, optimum) in optima.iter().enumerate() {
        let (x, y) = tiles.corner(class, top);
        tiles.draw(&mut canvas, (x, y), optimum);
        let (first, second) = (y + tiles.side + 13, y + tiles.side + 25);
        canvas.text(x, first, &fitted(&card::class_name(names, class), STRONG, tiles.side), STRONG);
        let percent = match optimum.probability {
            Some(p) if p.is_finite() => Percent(p).rounded(0),
            _ => "–".to_owned(),
        };
        canvas.text(x, second, &percent, NOTE);
        let mut row = |baseline: u32, name: &str, logit: f32, style: Style| {
            let end = canvas.text(x, baseline, name, style) + 2;
            let room = (x + tiles.side).saturating_sub(end);
            canvas.text_right(x + tiles.side, baseline, &fitted(&number(logit), style, room), style);
        };
        row(second + 11, "logit", optimum.activation, SMALL);
        let of_data = largest.and_then(|all| all.get(class)).copied().filter(|logit| logit.is_finite());
        if let Some(of_data) = of_data {
            let is_larger = of_data > optimum.activation;
            row(second + 22, "data", of_data, if is_larger { Style { colour: RED, ..SMALL } } else { SMALL });
        }
    }
    canvas.into_picture()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::rng::{Purpose, Stream};
    use crate::types::ImageShape;

    fn image(values: &[f32]) -> Vec<Map> {
        vec![Map::new(1, values.len(), values.to_vec()).unwrap()]
    }

    fn ends(values: &[f32]) -> (u8, u8) {
        let pixels = stretched(&image(values), values.len() as u32).unwrap().pixels().to_vec();
        (pixels[0][0], pixels[pixels.len() - 1][0])
    }

    #[test]
    fn contrast_is_stretched_but_not_made_up() {
        assert_eq!(ends(&[0.3, 0.4, 0.9]), (0, 255));
        assert_eq!(ends(&[1.0, 1.0]), (255, 255), "a white image stays white");
        assert_eq!(ends(&[0.0, 0.0]), (0, 0), "and a black one black");
        let (low, high) = ends(&[0.49, 0.51]);
        assert!(low > 100 && high < 155 && low < high, "{low} {high}");
        assert_eq!(ends(&[0.95, 1.0]), (189, 255));
    }

    #[test]
    fn the_largest_logit_of_the_data_is_that_of_the_network() {
        let shape = ImageShape { height: 10, width: 9, channels: 1 };
        let architecture = Architecture { conv_filters: vec![3], kernel_size: 3, dense_units: 7 };
        let network = architecture.build(shape, 4).unwrap();
        let parameters = Weights::initialise(&network, Seed(1), tch::Device::Cpu);
        let mut draws = Stream::new(Seed(1), Purpose::Test, 0, 0);
        let pixels: Vec<f32> = (0..20 * shape.len()).map(|_| draws.uniform(0.0, 1.0)).collect();
        let images_nchw = tch::Tensor::from_slice(&pixels).view([20, 1, 10, 9]);
        let features = explain::features(&network, parameters.views(), &images_nchw).unwrap();
        let predictions = Predictions::new(4, features.probabilities, vec![0; 20]);
        assert_eq!(largest_logits(&network, &parameters, &predictions), None, "nothing was kept");
        let other = predictions.clone().with_features(vec![1.0; 20 * 6]);
        assert_eq!(largest_logits(&network, &parameters, &other), None, "of another layer");
        let predictions = predictions.with_features(features.points.rows().flatten().copied().collect());
        let got = largest_logits(&network, &parameters, &predictions).unwrap();
        let logits = host_values(&crate::forward::logits(&network, parameters.views(), &images_nchw));
        for (class, got) in got.into_iter().enumerate() {
            let want = logits.iter().skip(class).step_by(4).fold(f32::MIN, |most, &logit| most.max(logit));
            assert!((got - want).abs() < 1e-5, "class {class}: {got}, want {want}");
        }
    }

    #[test]
    fn three_channels_are_colours() {
        let channels: Vec<Map> = [0.0, 1.0, 0.5].iter().map(|&v| Map::new(1, 1, vec![v]).unwrap()).collect();
        assert_eq!(stretched(&channels, 1).unwrap().pixels(), [[0, 255, 132]]);
        assert_eq!(stretched(&channels[..2], 1).unwrap().pixels(), [[0, 0, 0]], "two are shown by their first");
        assert_eq!(stretched(&[], 1), None);
    }

    #[test]
    fn tiles_stay_on_the_card() {
        for tiles in [FILTER_TILES, CLASS_TILES] {
            let (x, _) = tiles.corner(tiles.columns as usize - 1, 0);
            assert!(x + tiles.side + tiles.corner(0, 0).0 <= card::WIDTH && tiles.corner(0, 0).0 >= MARGIN);
        }
    }
}
