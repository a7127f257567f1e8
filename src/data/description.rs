//! Description of a run's data set: `dataset.json`.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::name::DatasetName;
use crate::exit::{Classify, Exit};
use crate::files;
use crate::types::ImageShape;

const VERSION: u32 = 1;
/// Maximum length in bytes: room for 65,536 long names.
const LONGEST: u64 = 1 << 24;
/// Maximum number of classes: labels are `u16`.
const MOST_CLASSES: usize = 1 << 16;
const LARGEST_SIDE: usize = 1 << 16;

/// Everything about a data set that its readers need later, without its images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    version: u32,
    pub name: String,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub normalisation: Normalisation,
    pub train_images: usize,
    pub validation_images: usize,
    /// [`Dataset::blake3`].
    pub blake3: String,
}

/// Transformation of a pixel from \[0, 1\] to the input of the first layer: `(pixel - mean) / std`, by channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
}

/// A description that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not the description of a data set: {reason}", path.display())]
    Format { path: PathBuf, reason: String },
    #[error("{} has version {found}, want {VERSION}: a newer trainer wrote it", path.display())]
    Version { path: PathBuf, found: u64 },
}

impl Classify for DescriptionError {
    fn exit(&self) -> Exit {
        match self {
            DescriptionError::Read { source, .. } => Exit::of_input(source),
            DescriptionError::Format { .. } | DescriptionError::Version { .. } => Exit::Data,
        }
    }
}

impl Description {
    /// `blake3` is [`Dataset::blake3`], which takes a pass over all data.
    pub fn of(dataset: &Dataset, blake3: String) -> Description {
        let ImageShape { height, width, channels } = dataset.train.shape();
        Description {
            version: VERSION,
            name: dataset.name.clone(),
            classes: dataset.classes.clone(),
            height,
            width,
            channels,
            normalisation: Normalisation::identity(channels),
            train_images: dataset.train.len(),
            validation_images: dataset.validation.len(),
            blake3,
        }
    }

    /// The description of a named data set for runs without a `dataset.json`, as older versions made them.
    pub fn of_older_run(name: DatasetName) -> Description {
        let ImageShape { height, width, channels } = name.shape();
        Description {
            version: VERSION,
            name: name.to_string(),
            classes: name.classes().iter().map(|&class| class.to_owned()).collect(),
            height,
            width,
            channels,
            normalisation: Normalisation::identity(channels),
            train_images: 0,
            validation_images: 0,
            blake3: String::new(),
        }
    }

    /// `None` if there is no such file.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or was written by a newer version.
    pub fn read(path: &Path) -> Result<Option<Description>, DescriptionError> {
        match files::read(path, LONGEST) {
            Ok(bytes) => Description::parse(path, &bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DescriptionError::Read { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Description, DescriptionError> {
        let format = |reason| DescriptionError::Format { path: path.to_owned(), reason };
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let Versioned { version } = serde_json::from_slice(bytes).map_err(|error| format(error.to_string()))?;
        if version != u64::from(VERSION) {
            return Err(DescriptionError::Version { path: path.to_owned(), found: version });
        }
        let found: Description = serde_json::from_slice(bytes).map_err(|error| format(error.to_string()))?;
        found.fault().map_or(Ok(()), |fault| Err(format(fault)))?;
        Ok(found)
    }

    fn fault(&self) -> Option<String> {
        let sides = [self.height, self.width, self.channels];
        if !(1..=MOST_CLASSES).contains(&self.classes.len()) {
            return Some(format!("got {} classes, want 1 to {MOST_CLASSES}", self.classes.len()));
        }
        if !sides.iter().all(|side| (1..=LARGEST_SIDE).contains(side)) {
            return Some(format!("images are {}, want sides from 1 to {LARGEST_SIDE}", self.shape()));
        }
        if self.normalisation != Normalisation::identity(self.channels) {
            return Some("its images are normalised, which this version cannot do; use a newer trainer".to_owned());
        }
        None
    }

    pub fn shape(&self) -> ImageShape {
        ImageShape { height: self.height, width: self.width, channels: self.channels }
    }

    /// Contents of `dataset.json`.
    ///
    /// # Errors
    /// Never for a description of finite numbers.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Normalisation {
    /// Leaves pixels as they are.
    pub fn identity(channels: usize) -> Normalisation {
        Normalisation { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic;
    use crate::types::Seed;

    fn description() -> Description {
        let dataset = synthetic::dataset(Seed(0));
        Description::of(&dataset, dataset.blake3())
    }

    fn parse(bytes: &[u8]) -> Result<Description, String> {
        Description::parse(Path::new("dataset.json"), bytes).map_err(|error| {
            assert_eq!(error.exit(), Exit::Data);
            error.to_string()
        })
    }

    #[test]
    fn it_reads_back_and_knows_what_older_runs_imply() {
        let want = description();
        assert_eq!(parse(&want.to_json().unwrap()).unwrap(), want);
        let older = Description::of_older_run(DatasetName::Synthetic);
        assert_eq!((older.classes.as_slice(), older.shape()), (want.classes.as_slice(), want.shape()));
        assert_eq!(Description::read(Path::new("/nonexistent/dataset.json")).unwrap(), None);
    }

    #[test]
    fn damage_is_told_with_the_name_of_the_file() {
        let whole = description().to_json().unwrap();
        assert!(
            parse(&whole[..whole.len() / 2])
                .unwrap_err()
                .starts_with("dataset.json is not the description of a data set: ")
        );
        assert!(parse(b"").is_err() && parse(b"[]").is_err() && parse(&[b'['; 10_000]).is_err());
        let changed = |change: fn(&mut serde_json::Value)| {
            let mut value = serde_json::from_slice(&whole).unwrap();
            change(&mut value);
            parse(value.to_string().as_bytes()).unwrap_err()
        };
        assert_eq!(
            changed(|v| v["version"] = 2.into()),
            "dataset.json has version 2, want 1: a newer trainer wrote it"
        );
        let not = "dataset.json is not the description of a data set: ";
        assert_eq!(changed(|v| v["classes"] = serde_json::json!([])), format!("{not}got 0 classes, want 1 to 65536"));
        assert_eq!(changed(|v| v["width"] = 0.into()), format!("{not}images are 28x0x1, want sides from 1 to 65536"));
        assert_eq!(
            changed(|v| v["normalisation"]["std"][0] = 0.5.into()),
            format!("{not}its images are normalised, which this version cannot do; use a newer trainer")
        );
    }
}
