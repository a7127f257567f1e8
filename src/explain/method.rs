//! Explanation methods by name.

use std::fmt;
use std::str::FromStr;

use crate::exit::{Classify, Exit};

/// A method that attributes the logit of a class to parts of an image. The function that computes it documents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    GradCam,
    GradCamPlusPlus,
    LayerCam,
    ScoreCam,
    GuidedBackprop,
    GuidedGradCam,
    IntegratedGradients,
    SmoothGrad,
    Occlusion,
}

/// Text that is not the name of a method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no explanation method is called `{got}`{}; there are {}", hint(got), names())]
pub struct UnknownMethod {
    pub got: String,
}

impl Classify for UnknownMethod {
    fn exit(&self) -> Exit {
        Exit::Config
    }
}

impl Method {
    /// Methods with maps of a layer's size first, then those with maps of the image's size; cheap before expensive.
    pub const ALL: [Method; 9] = [
        Method::GradCam,
        Method::GradCamPlusPlus,
        Method::LayerCam,
        Method::ScoreCam,
        Method::GuidedBackprop,
        Method::GuidedGradCam,
        Method::IntegratedGradients,
        Method::SmoothGrad,
        Method::Occlusion,
    ];

    /// Name, as users type it.
    pub fn name(self) -> &'static str {
        match self {
            Method::GradCam => "gradcam",
            Method::GradCamPlusPlus => "gradcam++",
            Method::LayerCam => "layercam",
            Method::ScoreCam => "scorecam",
            Method::GuidedBackprop => "guided-backprop",
            Method::GuidedGradCam => "guided-gradcam",
            Method::IntegratedGradients => "integrated-gradients",
            Method::SmoothGrad => "smoothgrad",
            Method::Occlusion => "occlusion",
        }
    }

    /// Title above a picture.
    pub fn title(self) -> &'static str {
        match self {
            Method::GradCam => "Grad-CAM",
            Method::GradCamPlusPlus => "Grad-CAM++",
            Method::LayerCam => "LayerCAM",
            Method::ScoreCam => "Score-CAM",
            Method::GuidedBackprop => "Guided backpropagation",
            Method::GuidedGradCam => "Guided Grad-CAM",
            Method::IntegratedGradients => "Integrated gradients",
            Method::SmoothGrad => "SmoothGrad",
            Method::Occlusion => "Occlusion",
        }
    }

    /// Title for narrow columns.
    pub fn short_title(self) -> &'static str {
        match self {
            Method::GuidedBackprop => "Guided backprop",
            Method::IntegratedGradients => "Integrated grads",
            other => other.title(),
        }
    }

    /// Authors and year of the paper.
    pub fn source(self) -> &'static str {
        match self {
            Method::GradCam => "Selvaraju et al. 2017",
            Method::GradCamPlusPlus => "Chattopadhay et al. 2018",
            Method::LayerCam => "Jiang et al. 2021",
            Method::ScoreCam => "Wang et al. 2020",
            Method::GuidedBackprop => "Springenberg et al. 2015",
            Method::GuidedGradCam => "Selvaraju et al. 2017",
            Method::IntegratedGradients => "Sundararajan et al. 2017",
            Method::SmoothGrad => "Smilkov et al. 2017",
            Method::Occlusion => "Zeiler and Fergus 2014",
        }
    }

    /// One sentence on how to read the map.
    pub fn reading(self) -> &'static str {
        match self {
            Method::GradCam => {
                "Regions where channels that increase the class's logit are active; a channel's weight is its mean gradient."
            }
            Method::GradCamPlusPlus => {
                "As Grad-CAM, with weights from positive gradients only, so several instances of the class show."
            }
            Method::LayerCam => {
                "Regions where an activation and its positive gradient coincide, pixel by pixel: finer than Grad-CAM."
            }
            Method::ScoreCam => {
                "Regions of channels that increase the class's logit as masks of the input; uses no gradient."
            }
            Method::GuidedBackprop => {
                "Gradient of the class's logit, without negative parts at each ReLU: fine detail, hardly specific to the class."
            }
            Method::GuidedGradCam => {
                "Guided backpropagation multiplied by Grad-CAM: its detail, in the class's regions."
            }
            Method::IntegratedGradients => {
                "Contribution of each pixel to the change of the class's logit from a black baseline to the image; the pixels \
                 sum up to that change."
            }
            Method::SmoothGrad => {
                "Gradient of the class's logit, averaged over noisy copies: positive where a brighter pixel increases it."
            }
            Method::Occlusion => {
                "Decrease of the class's logit when a window over the pixel is black: positive where the image supports it."
            }
        }
    }

    /// True if the method explains the output of one layer, and not the image alone.
    pub fn needs_layer(self) -> bool {
        match self {
            Method::GradCam | Method::GradCamPlusPlus | Method::LayerCam | Method::ScoreCam | Method::GuidedGradCam => {
                true
            }
            Method::GuidedBackprop | Method::IntegratedGradients | Method::SmoothGrad | Method::Occlusion => false,
        }
    }

    /// True if the map has values on both sides of a meaningful 0; otherwise 0 is its minimum.
    pub fn is_signed(self) -> bool {
        match self {
            Method::GradCam | Method::GradCamPlusPlus | Method::LayerCam | Method::ScoreCam => false,
            Method::GuidedBackprop
            | Method::GuidedGradCam
            | Method::IntegratedGradients
            | Method::SmoothGrad
            | Method::Occlusion => true,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = UnknownMethod;

    /// Accepts upper case, and `_` for `-`.
    fn from_str(text: &str) -> Result<Method, UnknownMethod> {
        let plain = plain(text);
        let found = Method::ALL.into_iter().find(|method| method.name() == plain);
        found.ok_or_else(|| UnknownMethod { got: text.to_owned() })
    }
}

fn plain(text: &str) -> String {
    text.trim().to_lowercase().replace('_', "-")
}

fn hint(got: &str) -> String {
    let got = plain(got);
    let likeness = |method: &Method| {
        // Users also type the title, as the papers spell it.
        let title = method.title().to_lowercase().replace(' ', "-");
        strsim::jaro_winkler(&got, method.name()).max(strsim::jaro_winkler(&got, &title))
    };
    let nearest = Method::ALL.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest
        .filter(|method| likeness(method) > 0.8)
        .map_or_else(String::new, |method| format!(": did you mean `{method}`?"))
}

fn names() -> String {
    Method::ALL.map(Method::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back() {
        for method in Method::ALL {
            assert_eq!(method.to_string().parse(), Ok(method));
            assert!(!method.title().is_empty() && method.reading().ends_with('.') && !method.source().is_empty());
        }
        assert_eq!(" Guided_Backprop ".parse(), Ok(Method::GuidedBackprop));
    }

    #[test]
    fn a_slip_is_answered_with_what_was_meant() {
        let error = "grad-cam".parse::<Method>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no explanation method is called `grad-cam`: did you mean `gradcam`?; there are gradcam, gradcam++, layercam, \
             scorecam, guided-backprop, guided-gradcam, integrated-gradients, smoothgrad, occlusion"
        );
        assert_eq!(error.exit(), Exit::Config);
        for (slip, meant) in [
            ("grad-cam++", "gradcam++"),
            ("score-cam", "scorecam"),
            ("guided backpropagation", "guided-backprop"),
            ("integrated gradient", "integrated-gradients"),
            ("oclusion", "occlusion"),
        ] {
            let error = slip.parse::<Method>().unwrap_err().to_string();
            assert!(error.contains(&format!("did you mean `{meant}`?")), "{error}");
        }
        assert!(!"lime".parse::<Method>().unwrap_err().to_string().contains("did you mean"));
    }
}
