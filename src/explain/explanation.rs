//! One way to ask for every explanation, and what comes back.

use std::cell::OnceCell;

use tch::Tensor;

use super::grad_cam::LayerGradients;
use super::integrated_gradients::IntegratedGradients;
use super::method::Method;
use super::occlusion::Occlusion;
use super::passes::{Outcome, Passes};
use super::smooth_grad::SmoothGrad;
use super::{guided, integrated_gradients, occlusion, score_cam, smooth_grad};
use crate::model::{LayerKind, Network};
use crate::render::Map;

/// The numbers that some methods take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    pub integrated_gradients: IntegratedGradients,
    pub smooth_grad: SmoothGrad,
    pub occlusion: Occlusion,
}

/// What one method says of one image and one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    pub method: Method,
    /// Raw values: of the layer's height and width for what looks at a layer's channels (the CAMs), else of the
    /// image's. For an image of several channels the sum over them, which keeps the completeness of integrated
    /// gradients.
    pub map: Map,
    /// One map a channel of the image, before they were summed; none for methods that do not tell channels apart.
    pub channels: Vec<Map>,
    /// Whether values below 0 mean something; else there are none.
    pub signed: bool,
    /// By how much the attributions miss the change of the logit that they should sum up to; integrated gradients only.
    pub completeness_gap: Option<f32>,
}

/// The spread of a map's values, as a share of the largest magnitude, up to which the map is [uniform](Content::Uniform):
/// less than colours show on a scale that begins at 0.
const UNIFORM: f32 = 0.05;

/// What there is to see in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Some places count more than others.
    Values,
    /// Every value is 0: a defined answer, nothing in this place speaks for the class.
    Zero,
    /// All places count alike, or nearly so: of a blank image, or where a layer has a single place.
    Uniform,
    /// So many values are infinite or NaN: the network has diverged.
    NotFinite(usize),
}

impl Content {
    pub fn of(map: &Map) -> Content {
        match (map.non_finite(), Map::range([map])) {
            (0, None | Some((0.0, 0.0))) => Content::Zero,
            // Halved, so that no difference overflows.
            (0, Some((low, high))) if high / 2.0 - low / 2.0 <= high.max(-low) / 2.0 * UNIFORM => Content::Uniform,
            (0, Some(_)) => Content::Values,
            (count, _) => Content::NotFinite(count),
        }
    }

    /// True if the map's colours tell places apart.
    pub fn is_drawn(self) -> bool {
        matches!(self, Content::Values | Content::NotFinite(_))
    }
}

impl Explanation {
    pub fn content(&self) -> Content {
        Content::of(&self.map)
    }

    /// The map enlarged bilinearly to `height` x `width` and scaled for comparison: from -1 to 1 by the largest
    /// magnitude if signed, else stretched to 0..=1 from its least to its largest value, as pytorch-grad-cam does. A
    /// map without differences, such as one of zeros, becomes 0; values that are not finite stay.
    pub fn normalised(&self, height: usize, width: usize) -> Map {
        let map = self.map.resized(height, width);
        let (low, high) = Map::range([&map]).unwrap_or((0.0, 0.0));
        let (base, extent) = if self.signed { (0.0, high.max(-low)) } else { (low, high - low) };
        let scaled = |&value: &f32| match (value.is_finite(), extent > 0.0) {
            (false, _) => value,
            (true, true) => (value - base) / extent,
            (true, false) => 0.0,
        };
        Map::new(map.height(), map.width(), map.values().iter().map(scaled).collect()).unwrap_or(map)
    }
}

/// The layer that methods look at where none is named: the last convolution, where position and meaning are both there.
pub fn usual_layer(network: &Network) -> Option<usize> {
    network.layers().iter().rposition(|layer| matches!(layer.kind, LayerKind::Conv2d { .. }))
}

/// One explanation for each image, why it might be of its target class.
///
/// `images_nchw` is `N x C x H x W` with values in 0..=1, on the device of the weights; `targets` names one class for
/// each image. `layer` is for methods that need one (`None`: the [`usual_layer`]); where its output has no maps, or
/// there is no such layer, they have nothing to say and the result is empty.
///
/// Nothing that is passed in changes, no gradient is left behind, and equal calls give equal results, on the CPU to the
/// bit. At most 128 images go through the network at once, whatever a method multiplies them to.
///
/// # Panics
/// When the targets are not one for each image or no classes of the network, or the shapes of the weights or images are
/// not the network's: a bug in the caller.
pub fn explain(
    method: Method,
    network: &Network,
    weights: &[Tensor],
    images_nchw: &Tensor,
    layer: Option<usize>,
    targets: &[usize],
    settings: &Settings,
) -> Vec<Explanation> {
    Explainer::new(network, weights, images_nchw, layer, targets, settings).explain(method)
}

/// Explanations of one batch by several methods: what more than one of them needs is computed once. What a method says does
/// not depend on who was asked before.
pub struct Explainer<'a> {
    network: &'a Network,
    weights: &'a [Tensor],
    images_nchw: &'a Tensor,
    /// Past the last layer, where there are no maps, if the network has none.
    layer: usize,
    targets: &'a [usize],
    settings: Settings,
    passes: Option<Passes<'a>>,
    layer_gradients: OnceCell<Option<LayerGradients>>,
    guided: OnceCell<Vec<Vec<Map>>>,
}

impl<'a> Explainer<'a> {
    /// Arguments as for [`explain`].
    pub fn new(
        network: &'a Network,
        weights: &'a [Tensor],
        images_nchw: &'a Tensor,
        layer: Option<usize>,
        targets: &'a [usize],
        settings: &Settings,
    ) -> Explainer<'a> {
        Explainer {
            network,
            weights,
            images_nchw,
            layer: layer.or_else(|| usual_layer(network)).unwrap_or(network.layers().len()),
            targets,
            settings: *settings,
            passes: None,
            layer_gradients: OnceCell::new(),
            guided: OnceCell::new(),
        }
    }

    /// As [`explain`], panics included.
    pub fn explain(&mut self, method: Method) -> Vec<Explanation> {
        let signed = method.is_signed();
        let of_map = |map: Map| Explanation { method, map, channels: Vec::new(), signed, completeness_gap: None };
        let of_channels = |channels: Vec<Map>| {
            let map = sum(&channels)?;
            Some(Explanation { method, map, channels, signed, completeness_gap: None })
        };
        let maps = |maps: Vec<Map>| maps.into_iter().map(of_map).collect();
        let channels = |all: Vec<Vec<Map>>| all.into_iter().filter_map(of_channels).collect();
        let Explainer { network, weights, images_nchw, layer, targets, settings, .. } = *self;
        let shape = network.input();
        match method {
            Method::GradCam => maps(self.of_layer(LayerGradients::grad_cam)),
            Method::GradCamPlusPlus => maps(self.of_layer(LayerGradients::grad_cam_plus_plus)),
            Method::LayerCam => maps(self.of_layer(LayerGradients::layer_cam)),
            Method::ScoreCam => {
                maps(score_cam::by_passes(self.passes(), network, weights, images_nchw, layer, targets))
            }
            Method::Occlusion => {
                maps(occlusion::by_passes(self.passes(), shape, images_nchw, targets, &settings.occlusion))
            }
            Method::GuidedBackprop => channels(self.guided().to_vec()),
            Method::GuidedGradCam => match self.of_layer(LayerGradients::grad_cam) {
                cams if cams.is_empty() => Vec::new(),
                cams => channels(guided::products(self.guided(), &cams, shape)),
            },
            Method::SmoothGrad => {
                channels(smooth_grad::by_passes(self.passes(), shape, images_nchw, targets, &settings.smooth_grad))
            }
            Method::IntegratedGradients => {
                let settings = &settings.integrated_gradients;
                let all = integrated_gradients::by_passes(self.passes(), shape, images_nchw, targets, settings);
                let with_gap = all.into_iter().filter_map(|integral| {
                    let explanation = of_channels(integral.channels)?;
                    Some(Explanation { completeness_gap: Some(integral.completeness_gap), ..explanation })
                });
                with_gap.collect()
            }
        }
    }

    fn passes(&mut self) -> &mut Passes<'a> {
        let Explainer { network, weights, .. } = *self;
        self.passes.get_or_insert_with(|| Passes::new(network, weights, Outcome::Logits))
    }

    /// None where the layer has no maps.
    fn of_layer(&self, maps: impl FnOnce(&LayerGradients) -> Vec<Map>) -> Vec<Map> {
        let Explainer { network, weights, images_nchw, layer, targets, .. } = *self;
        let found =
            self.layer_gradients.get_or_init(|| LayerGradients::of(network, weights, images_nchw, layer, targets));
        found.as_ref().map_or_else(Vec::new, maps)
    }

    fn guided(&self) -> &[Vec<Map>] {
        let Explainer { network, weights, images_nchw, targets, .. } = *self;
        self.guided.get_or_init(|| guided::guided_backprop(network, weights, images_nchw, targets))
    }
}

/// Pixel by pixel, of maps of one size; `None` for none.
fn sum(maps: &[Map]) -> Option<Map> {
    let first = maps.first()?;
    let at = |i: usize| maps.iter().map(|map| map.values()[i]).sum();
    Map::new(first.height(), first.width(), (0..first.values().len()).map(at).collect()).ok()
}
