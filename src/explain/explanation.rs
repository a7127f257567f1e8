//! One entry point for all explanation methods, and the type of their results.

use std::cell::OnceCell;

use tch::Tensor;

use super::grad_cam::NodeGradients;
use super::integrated_gradients::IntegratedGradients;
use super::method::Method;
use super::occlusion::Occlusion;
use super::passes::Passes;
use super::smooth_grad::SmoothGrad;
use super::{guided, integrated_gradients, occlusion, score_cam, smooth_grad};
use crate::graph::{Graph, NodeId};
use crate::render::Map;

/// Parameters of the methods that have any.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    pub integrated_gradients: IntegratedGradients,
    pub smooth_grad: SmoothGrad,
    pub occlusion: Occlusion,
}

/// Result of one method for one image and one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    pub method: Method,
    /// Raw values, in the layer's height and width for Grad-CAM, Grad-CAM++, LayerCAM and Score-CAM, else in the
    /// image's. Summed over the channels of an image with several, which keeps the completeness of integrated
    /// gradients.
    pub map: Map,
    /// One map per channel of the image, before the sum; empty for methods that do not tell channels apart.
    pub channels: Vec<Map>,
    /// True if values below 0 have a meaning; otherwise there are none.
    pub signed: bool,
    /// Sum of the attributions less the change of the logit, which it should equal; integrated gradients only.
    pub completeness_gap: Option<f32>,
}

/// Largest spread of a [uniform](Content::Uniform) map's values, as a share of the largest magnitude. Colours on a
/// scale that begins at 0 do not show a smaller one.
const UNIFORM: f32 = 0.05;

/// Kind of content of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Some places count more than others.
    Values,
    /// Every value is 0. A valid result: nothing here supports the class.
    Zero,
    /// All places count alike, or nearly so, as in a blank image or a layer with a single place.
    Uniform,
    /// Number of infinite or NaN values: the network has diverged.
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

    /// True if the map is drawn: its values differ, or some are not finite.
    pub fn is_drawn(self) -> bool {
        matches!(self, Content::Values | Content::NotFinite(_))
    }
}

impl Explanation {
    pub fn content(&self) -> Content {
        Content::of(&self.map)
    }

    /// The map enlarged bilinearly to `height` x `width` and scaled for comparison. Signed maps are divided by their
    /// largest magnitude (-1 to 1), others are stretched from their minimum and maximum to 0..=1, as in
    /// pytorch-grad-cam. A map without differences, such as one of zeros, becomes 0; values that are not finite stay.
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

/// One explanation for each image and its target class.
///
/// `images_nchw` is `N x C x H x W` with values in 0..=1, on the device of the weights; `targets` names one class for
/// each image. `node` is for methods that need one. Without it they take the last convolution, which has both
/// positions and high-level features. Their result is empty if its value has no maps.
///
/// The arguments do not change, no gradient is left behind, and equal calls give equal results, on the CPU to the
/// bit. At most 128 images go through the network at once, however many copies a method makes of them.
///
/// # Panics
/// If `targets` is not one class of the network for each image, or the weights or images do not have the network's
/// shapes: a bug in the caller.
pub fn explain(
    method: Method,
    network: &Graph,
    weights: &[Tensor],
    images_nchw: &Tensor,
    node: Option<NodeId>,
    targets: &[usize],
    settings: &Settings,
) -> Vec<Explanation> {
    Explainer::new(network, weights, images_nchw, node, targets, settings).explain(method)
}

/// Explanations of one batch by several methods. Intermediate results that several methods need are computed once. A
/// method's result does not depend on the methods called before it.
pub struct Explainer<'a> {
    network: &'a Graph,
    weights: &'a [Tensor],
    images_nchw: &'a Tensor,
    /// `None` if the network has no convolution.
    node: Option<NodeId>,
    targets: &'a [usize],
    settings: Settings,
    passes: Option<Passes<'a>>,
    node_gradients: OnceCell<Option<NodeGradients>>,
    guided: OnceCell<Vec<Vec<Map>>>,
}

impl<'a> Explainer<'a> {
    /// Arguments as for [`explain`].
    pub fn new(
        network: &'a Graph,
        weights: &'a [Tensor],
        images_nchw: &'a Tensor,
        node: Option<NodeId>,
        targets: &'a [usize],
        settings: &Settings,
    ) -> Explainer<'a> {
        Explainer {
            network,
            weights,
            images_nchw,
            node: node.or(network.taps().last_maps),
            targets,
            settings: *settings,
            passes: None,
            node_gradients: OnceCell::new(),
            guided: OnceCell::new(),
        }
    }

    /// Same as [`explain`], panics included.
    pub fn explain(&mut self, method: Method) -> Vec<Explanation> {
        let signed = method.is_signed();
        let of_map = |map: Map| Explanation { method, map, channels: Vec::new(), signed, completeness_gap: None };
        let of_channels = |channels: Vec<Map>| {
            let map = sum(&channels)?;
            Some(Explanation { method, map, channels, signed, completeness_gap: None })
        };
        let maps = |maps: Vec<Map>| maps.into_iter().map(of_map).collect();
        let channels = |all: Vec<Vec<Map>>| all.into_iter().filter_map(of_channels).collect();
        let Explainer { network, weights, images_nchw, node, targets, settings, .. } = *self;
        let shape = network.input();
        match method {
            Method::GradCam => maps(self.of_node(NodeGradients::grad_cam)),
            Method::GradCamPlusPlus => maps(self.of_node(NodeGradients::grad_cam_plus_plus)),
            Method::LayerCam => maps(self.of_node(NodeGradients::layer_cam)),
            Method::ScoreCam => maps(node.map_or_else(Vec::new, |node| {
                score_cam::by_passes(self.passes(), network, weights, images_nchw, node, targets)
            })),
            Method::Occlusion => {
                maps(occlusion::by_passes(self.passes(), shape, images_nchw, targets, &settings.occlusion))
            }
            Method::GuidedBackprop => channels(self.guided().to_vec()),
            Method::GuidedGradCam => match self.of_node(NodeGradients::grad_cam) {
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
        self.passes.get_or_insert_with(|| Passes::new(network, weights))
    }

    /// Maps of the node; empty if its value has none.
    fn of_node(&self, maps: impl FnOnce(&NodeGradients) -> Vec<Map>) -> Vec<Map> {
        let Explainer { network, weights, images_nchw, node, targets, .. } = *self;
        let gradients = || NodeGradients::of(network, weights, images_nchw, node?, targets);
        let found = self.node_gradients.get_or_init(gradients);
        found.as_ref().map_or_else(Vec::new, maps)
    }

    fn guided(&self) -> &[Vec<Map>] {
        let Explainer { network, weights, images_nchw, targets, .. } = *self;
        self.guided.get_or_init(|| guided::guided_backprop(network, weights, images_nchw, targets))
    }
}

/// Pixelwise sum of maps of one size; `None` if there are no maps.
fn sum(maps: &[Map]) -> Option<Map> {
    let first = maps.first()?;
    let at = |i: usize| maps.iter().map(|map| map.values()[i]).sum();
    Map::new(first.height(), first.width(), (0..first.values().len()).map(at).collect()).ok()
}
