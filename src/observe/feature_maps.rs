//! Outputs of each convolution and pooling for the probe images, channel by channel.

use super::animation::Frames;
use super::card::{self, BODY, GREY, LINES, Legend, MARGIN, NOTE, RIGHT};
use super::probe::Probes;
use super::{Record, film, keep_frame};
use crate::eventlog::{Summary, Value};
use crate::explain;
use crate::picture::Picture;
use crate::render::text::{Face, Style};
use crate::render::{self, ColourMap, Grid, Map, Scale, Zoom};
use crate::train::{Memories, MemoryError, Moment, Observer};
use crate::types::{Seed, Tag};

/// Channels shown at most.
const SHOWN: usize = 64;
/// Pixels of the longer side of the input's thumbnail, at most.
const THUMBNAIL: u32 = 64;
/// Start of the tiles, to the right of the channel numbers.
const LEFT: u32 = 18;
const INDEX: Style = Style { face: Face::Regular, size: 9, colour: GREY };
/// The share of positive values that are told apart; the few above look the same.
const BRIGHTEST: f64 = 0.99;
/// The name of what is remembered.
const MEMORY: &str = "feature-maps";
const COLOURS: ColourMap = ColourMap::Magma;

/// The maps of every convolution and pooling, under `layers/feature_maps/<layer>`, one picture for each probe image; at the end
/// a film of the first layer's answer to the first image.
#[derive(Clone, Debug)]
pub struct FeatureMaps {
    probes: usize,
    probe_seed: Seed,
    frames: Frames,
}

impl FeatureMaps {
    /// For `probes` images of different classes.
    pub fn new(probes: usize, probe_seed: Seed) -> FeatureMaps {
        FeatureMaps { probes, probe_seed, frames: Frames::default() }
    }
}

impl Observer<Record> for FeatureMaps {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let probes = Probes::choose(moment.dataset, self.probes, self.probe_seed);
        let (run, step) = moment.place();
        let mut values = values(moment, &probes);
        if let Some(Value { tag, summary: Summary::Images(pictures), .. }) = values.first()
            && let Some(first) = pictures.first()
        {
            let (tag, text) = (format!("{tag}/animation"), format!("The first picture of `{tag}` over the run."));
            keep_frame(&mut self.frames, first);
            values.extend(moment.last.then(|| film(tag, &self.frames, text)).flatten());
        }
        out.push(run, step, values);
    }

    fn remember(&self, memories: &mut Memories) {
        memories.put(MEMORY, &self.frames);
    }

    fn recall(&mut self, memories: &Memories) -> Result<(), MemoryError> {
        self.frames = memories.get(MEMORY)?.unwrap_or_default();
        Ok(())
    }
}

fn values(moment: &Moment<'_>, probes: &Probes) -> Vec<Value> {
    if probes.is_empty() {
        return Vec::new();
    }
    let images_nchw = probes.images_nchw(moment.parameters.device());
    let layers = explain::feature_maps(moment.network, moment.parameters.views(), &images_nchw);
    let value = |layer: &explain::FeatureMaps<'_>| {
        let name = &layer.layer.name;
        let each = probes.images().zip(probes.labels()).zip(&layer.images);
        let pictures = each.map(|((pixels, &label), maps)| {
            let class = card::class_name(&moment.dataset.classes, label);
            picture(name, moment.epoch, &render::image(pixels, probes.shape()), &class, maps)
        });
        Value::images(Tag::of(format!("layers/feature_maps/{name}")), pictures.collect()).described(format!(
            "What `{name}` answers to {}, one picture each: a tile is a channel, the brighter the stronger its answer \
             there. All tiles of a picture share the scale above them, which ends where 99 % of the positive values do; \
             numbers at the left count channels; silent channels are 0 everywhere.",
            card::counted(probes.len(), "validation image")
        ))
    };
    layers.iter().map(value).collect()
}

fn picture(layer: &str, epoch: u64, input: &Picture, class: &str, maps: &[Map]) -> Picture {
    let shown = &maps[..maps.len().min(SHOWN)];
    let scale = Scale::to_quantile(maps, BRIGHTEST);
    let (height, width) = maps.first().map_or((1, 1), |map| (map.height(), map.width()));
    let grid = |tallest| Grid::fitting(shown.len(), (height, width), (WIDE, tallest), 112, 2);
    // Square where it can be; taller rather than with maps below their own size.
    let grid = Some(grid(348)).filter(|grid| matches!(grid.zoom, Zoom::In(_))).unwrap_or_else(|| grid(900));

    let zoom = Zoom::fitting(input.height() as usize, input.width() as usize, THUMBNAIL);
    let text = MARGIN + zoom.apply(input.width() as usize) + 10;
    let top = (MARGIN + zoom.apply(input.height() as usize)).max(LINES[2] + 6) + 10;
    let mut canvas = card::card(top + grid.height() + MARGIN, text, layer, &card::moment(epoch));
    card::framed(&mut canvas, (MARGIN, MARGIN), input, zoom);

    let x = canvas.text(text, LINES[1], "class ", NOTE);
    let x = card::line(&mut canvas, x, LINES[1], x + 90, class, BODY);
    let note = format!(" · {}, {height}x{width}", card::shown_of(shown.len(), maps.len(), "channel"));
    card::line(&mut canvas, x, LINES[1], RIGHT, &note, NOTE);
    let non_finite = maps.iter().map(Map::non_finite).sum();
    let beyond = Map::range(maps).map(|(_, max)| max).filter(|&max| max > scale.high());
    Legend { colours: COLOURS, scale, beyond, non_finite }.draw(&mut canvas, text, LINES[2]);
    let silent = maps.iter().filter(|map| map.values().iter().all(|&v| v == 0.0)).count();
    if silent > 0 && non_finite == 0 {
        canvas.text_right(RIGHT, LINES[2], &format!("silent: {silent}"), NOTE);
    }

    for (index, map) in shown.iter().enumerate() {
        let (x, y) = grid.corner(index);
        if x == 0 {
            let baseline = top + y + grid.tile_height / 2 + 3;
            canvas.text_right(LEFT - 3, baseline, &index.to_string(), INDEX);
        }
        canvas.place((LEFT + x, top + y), &COLOURS.paint(map, scale), grid.zoom);
    }
    canvas.into_picture()
}

/// Pixels across that the tiles may take: six tiles of 26 pixels, doubled, fill them.
const WIDE: u32 = card::WIDTH - LEFT - 4;
