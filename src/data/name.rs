//! Names of data sets.

use std::fmt;
use std::str::FromStr;

use crate::exit::{Classify, Exit};
use crate::types::ImageShape;

/// Classes of the drawn set.
const SHAPES: [&str; 10] =
    ["disc", "ring", "square", "frame", "triangle", "cross", "x", "horizontal bars", "vertical bars", "checker"];

/// A data set known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DatasetName {
    /// Handwritten digits, 28x28x1, 60,000 and 10,000 images.
    Mnist,
    /// Zalando's articles, in MNIST's form.
    FashionMnist,
    /// Shapes drawn by the program; needs no files.
    Synthetic,
}

/// A text that is not the name of a data set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown dataset `{text}`; known are {}{}", known(), suggestion(self.near()))]
pub struct UnknownDataset {
    pub text: String,
}

impl DatasetName {
    pub const ALL: [DatasetName; 3] = [DatasetName::Mnist, DatasetName::FashionMnist, DatasetName::Synthetic];

    /// The name as typed.
    pub fn as_str(self) -> &'static str {
        match self {
            DatasetName::Mnist => "mnist",
            DatasetName::FashionMnist => "fashion-mnist",
            DatasetName::Synthetic => "synthetic",
        }
    }

    /// Names of the classes, by label. Runs read theirs from their [`Description`](super::Description).
    pub fn classes(self) -> &'static [&'static str] {
        match self {
            DatasetName::Mnist => &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            DatasetName::FashionMnist => &[
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ],
            DatasetName::Synthetic => &SHAPES,
        }
    }

    /// Height, width and channels of each image. Runs read theirs from their [`Description`](super::Description).
    pub fn shape(self) -> ImageShape {
        ImageShape { height: 28, width: 28, channels: 1 }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DatasetName {
    type Err = UnknownDataset;

    fn from_str(text: &str) -> Result<DatasetName, UnknownDataset> {
        DatasetName::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| UnknownDataset { text: text.to_owned() })
    }
}

impl UnknownDataset {
    /// The most similar name, if one is similar enough to have been meant.
    pub fn near(&self) -> Option<DatasetName> {
        let typed = self.text.to_lowercase().replace(['_', ' '], "-");
        DatasetName::ALL
            .into_iter()
            .map(|name| (strsim::jaro_winkler(&typed, name.as_str()), name))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness > 0.75)
            .map(|(_, name)| name)
    }
}

impl Classify for UnknownDataset {
    fn exit(&self) -> Exit {
        Exit::Config
    }
}

fn known() -> String {
    DatasetName::ALL.map(|name| format!("`{name}`")).join(", ")
}

fn suggestion(near: Option<DatasetName>) -> String {
    near.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_are_shown() {
        for name in DatasetName::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }

    #[test]
    fn a_typo_is_answered_with_what_was_meant() {
        let refuse = |text: &str| text.parse::<DatasetName>().unwrap_err().to_string();
        let known = "known are `mnist`, `fashion-mnist`, `synthetic`";
        assert_eq!(refuse("minst"), format!("unknown dataset `minst`; {known}; did you mean `mnist`?"));
        assert_eq!(refuse("MNIST"), format!("unknown dataset `MNIST`; {known}; did you mean `mnist`?"));
        assert_eq!(
            refuse("fashion_mnist"),
            format!("unknown dataset `fashion_mnist`; {known}; did you mean `fashion-mnist`?")
        );
        assert_eq!(refuse("sintetic"), format!("unknown dataset `sintetic`; {known}; did you mean `synthetic`?"));
        assert_eq!(refuse("cifar10"), format!("unknown dataset `cifar10`; {known}"));
        assert_eq!(refuse(""), format!("unknown dataset ``; {known}"));
    }
}
