//! The kernels of the first convolution: the patterns the network looks for in an image.

use super::Record;
use super::card::{self, LINES, Legend, MARGIN, NOTE, RIGHT};
use crate::eventlog::Value;
use crate::graph::Role;
use crate::picture::Picture;
use crate::render::{self, ColourMap, Grid, Map, Scale};
use crate::train::{Moment, Observer};
use crate::types::Tag;
use crate::weights::Weights;

/// Kernels shown at most.
const SHOWN: usize = 64;

/// The kernels of the first convolution as tiles, under `layers/filters/<layer>`.
#[derive(Clone, Copy, Debug)]
pub struct Filters;

impl Observer<Record> for Filters {
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Record) {
        let (run, step) = moment.place();
        out.push(run, step, value(moment).into_iter().collect());
    }
}

/// Nothing for a network without convolutions.
fn value(moment: &Moment<'_>) -> Option<Value> {
    let layers = moment.network.layers();
    let layer = layers.iter().find(|layer| layer.op.is_convolution())?;
    let kernels = Kernels::of(&layer.name, moment.parameters)?;
    let picture = kernels.picture(&layer.name, moment.epoch);
    Some(Value::images(Tag::of(format!("layers/filters/{}", layer.name)), vec![picture]).described(format!(
        "Kernels of the first convolution, `{}`: the patterns it looks for. Blue weights are negative, white ones 0, red \
         ones positive; kernels over red, green and blue are shown in these colours, with 0 as middle grey. All share one \
         scale.",
        layer.name
    )))
}

/// The kernels of a layer, drawn.
struct Kernels {
    tiles: Vec<Picture>,
    /// Of which `tiles` shows the first.
    count: usize,
    height: usize,
    width: usize,
    /// Display of input channels.
    channels: &'static str,
    legend: Legend,
}

impl Kernels {
    fn of(layer: &str, parameters: &Weights) -> Option<Kernels> {
        let (spec, values) = parameters.host().find(|(spec, _)| spec.layer == layer && spec.role == Role::Kernel)?;
        let &[count, channels, height, width] = spec.shape.as_slice() else {
            return None;
        };
        let [count, channels, height, width] = [count, channels, height, width].map(|side| side as usize);
        let planes = values.chunks_exact((height * width).max(1));
        let maps: Vec<Map> = planes.map(|p| Map::new(height, width, p.to_vec())).collect::<Result<_, _>>().ok()?;
        let scale = Scale::symmetric(&maps);
        let kernels = maps.chunks(channels.max(1)).take(SHOWN);
        let (colours, text, tiles): (_, _, Vec<Picture>) = match channels {
            3 => {
                let draw = |kernel: &[Map]| match kernel {
                    [r, g, b] => Some(render::signed_image([r, g, b], scale)),
                    _ => None,
                };
                (ColourMap::Grey, ", red, green and blue", kernels.filter_map(draw).collect())
            }
            _ => {
                let draw = |kernel: &[Map]| Some(ColourMap::Diverging.paint(kernel.first()?, scale));
                let text = if channels > 1 { ", of the first channel" } else { "" };
                (ColourMap::Diverging, text, kernels.filter_map(draw).collect())
            }
        };
        let non_finite = maps.iter().map(Map::non_finite).sum();
        let legend = Legend { colours, scale, beyond: None, non_finite };
        Some(Kernels { tiles, count, height, width, channels: text, legend })
    }

    fn picture(&self, layer: &str, epoch: u64) -> Picture {
        let grid = Grid::fitting(self.tiles.len(), (self.height, self.width), (RIGHT - MARGIN, 340), 48, 6);
        let top = LINES[2] + 12;
        let height = top + grid.height() + MARGIN;
        let mut canvas = card::card(height, MARGIN, &format!("Filters of {layer}"), &card::moment(epoch));
        let count = card::shown_of(self.tiles.len(), self.count, "filter");
        let note = format!("{count}, {}x{}{}", self.height, self.width, self.channels);
        card::line(&mut canvas, MARGIN, LINES[1], RIGHT, &note, NOTE);
        self.legend.draw(&mut canvas, MARGIN, LINES[2]);
        for (index, tile) in self.tiles.iter().enumerate() {
            let (x, y) = grid.corner(index);
            card::framed(&mut canvas, (MARGIN + x, top + y), tile, grid.zoom);
        }
        canvas.into_picture()
    }
}
