//! A saved run: the network that a finished run left in its directory, ready to be asked.

use std::fmt;
use std::path::{Path, PathBuf};

use tch::{Device, Kind};

use crate::config::{Config, ConfigError, Layers};
use crate::data::{Description, DescriptionError, Doubt, Look, Specimen, images_nchw};
use crate::evaluation::most_probable;
use crate::exit::{Classify, Exit};
use crate::forward;
use crate::graph::{Graph, ShapeError};
use crate::records::{BestEpoch, RunResult};
use crate::run_dir::{BEST, CONFIG, DATASET, RESULT, WEIGHTS};
use crate::weights::{self, Weights, WeightsError, host_values};

/// Images that are looked at at once.
const BATCH: usize = 64;
/// Neighbours of a wrong directory that are looked at for the right one.
const NEIGHBOURS: usize = 1000;

/// The epoch of a run whose weights are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Epoch {
    /// The best one, or the last one where the run does not say which was the best.
    #[default]
    BestKnown,
    /// The best one, by accuracy on the validation set.
    Best,
    Last,
}

/// The weights that a run is asked with.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The name of their file in the run's directory.
    pub file: String,
    /// The epoch after which they were, from 1. None where the run has no result, as one that goes on.
    pub epoch: Option<u64>,
    /// Epochs of the run.
    pub epochs: Option<u64>,
    /// From 0 to 1, after that epoch.
    pub validation_accuracy: Option<f64>,
}

/// An answer is doubted if its probability, over all ways to prepare the picture, is less than this on average.
const STABLE: f32 = 0.85;

/// A network's answer about one image.
#[derive(Clone, Debug)]
pub struct Answer {
    /// By class.
    pub probabilities: Vec<f32>,
    /// Reasons to doubt it.
    pub doubts: Vec<Doubt>,
}

/// A network with its weights, and how it was trained.
#[derive(Debug)]
pub struct SavedRun {
    pub dir: PathBuf,
    pub config: Config,
    pub network: Graph,
    pub parameters: Weights,
    pub origin: Origin,
    /// By label.
    pub classes: Vec<String>,
}

/// Error in opening a saved run.
#[derive(Debug, thiserror::Error)]
pub enum SavedRunError {
    #[error("cannot read run {}: {source}", dir.display())]
    Read { dir: PathBuf, source: std::io::Error },
    #[error("{} is a file, want the directory of a run, which --logdir named when it was trained", dir.display())]
    File { dir: PathBuf },
    #[error(
        "{} is not the directory of a run: there is no {CONFIG} in it; {}", dir.display(),
        match near {
            Some(near) => format!("did you mean {}?", near.display()),
            None => "want what --logdir named when it was trained, such as logs/fit".to_owned(),
        }
    )]
    NotARun { dir: PathBuf, near: Option<PathBuf> },
    #[error(
        "run {0} is not finished: there is no {WEIGHTS} in it, which is written at the end of training; wait for that, or \
         train again with `trainer --config {0}/{CONFIG} --logdir {0}`", dir.display()
    )]
    Unfinished { dir: PathBuf },
    #[error("run {} cannot be used: {source}", dir.display())]
    Config { dir: PathBuf, source: ConfigError },
    #[error("run {} cannot be used: {source}", dir.display())]
    Dataset { dir: PathBuf, source: DescriptionError },
    #[error("run {} cannot be used: {source}", dir.display())]
    Shape { dir: PathBuf, source: ShapeError },
    #[error("run {} cannot be used: {source}", dir.display())]
    Weights { dir: PathBuf, source: WeightsError },
    #[error("run {} cannot be used: {file} holds values that are not finite", dir.display())]
    NotFinite { dir: PathBuf, file: String },
    #[error(
        "run {} does not say which epoch was the best: it is not finished, or an older trainer trained it; ask the last one \
         with --weights last", dir.display()
    )]
    NoBest { dir: PathBuf },
    #[error("run {}: there is no {file} in it, with the weights of the best epoch; ask the last one with --weights last", dir.display())]
    LostBest { dir: PathBuf, file: String },
}

impl Classify for SavedRunError {
    fn exit(&self) -> Exit {
        match self {
            SavedRunError::Read { source, .. } => Exit::of_input(source),
            SavedRunError::File { .. }
            | SavedRunError::NotARun { .. }
            | SavedRunError::Unfinished { .. }
            | SavedRunError::NoBest { .. }
            | SavedRunError::LostBest { .. } => Exit::NoInput,
            SavedRunError::Config { source, .. } => source.exit(),
            SavedRunError::Dataset { source, .. } => source.exit(),
            SavedRunError::Shape { source, .. } => source.exit(),
            SavedRunError::Weights { source, .. } => source.exit(),
            SavedRunError::NotFinite { .. } => Exit::Data,
        }
    }
}

/// No class can be told from an answer that is infinite or NaN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: the network's answer is not finite: it has diverged")]
pub struct NotFinite {
    /// Of the picture.
    pub name: String,
}

impl Classify for NotFinite {
    fn exit(&self) -> Exit {
        Exit::Data
    }
}

impl SavedRun {
    /// Reads configuration and the weights of the last epoch. Neither the data set nor the environment is looked at, and
    /// nothing is written.
    pub fn open(dir: &Path, device: Device) -> Result<SavedRun, SavedRunError> {
        SavedRun::of_epoch(dir, Epoch::Last, device)
    }

    /// The same with the weights of another epoch.
    pub fn of_epoch(dir: &Path, epoch: Epoch, device: Device) -> Result<SavedRun, SavedRunError> {
        let own = || dir.to_owned();
        match std::fs::metadata(dir) {
            Err(source) => return Err(SavedRunError::Read { dir: own(), source }),
            Ok(found) if !found.is_dir() => return Err(SavedRunError::File { dir: own() }),
            Ok(_) => {}
        }
        let config = dir.join(CONFIG);
        if is_missing(&config) {
            return Err(SavedRunError::NotARun { dir: own(), near: near(dir) });
        }
        let mut layers = Layers::new();
        let resolved = layers.file(&config).and_then(|()| layers.resolve());
        let config = resolved.map_err(|source| SavedRunError::Config { dir: own(), source })?.config;

        let dataset = Description::read(&dir.join(DATASET))
            .map_err(|source| SavedRunError::Dataset { dir: own(), source })?
            .unwrap_or_else(|| Description::of_older_run(config.dataset));
        let network = config
            .architecture
            .build(dataset.shape(), dataset.classes.len())
            .map_err(|source| SavedRunError::Shape { dir: own(), source })?;
        let file = dir.join(WEIGHTS);
        if is_missing(&file) {
            return Err(SavedRunError::Unfinished { dir: own() });
        }
        let parameters = Weights::initialise(&network, config.seed, device);
        // Of a run that goes on the result is gone, and the weights are those of before.
        let result = RunResult::read(&dir.join(RESULT)).inspect_err(|reason| {
            let run = dir.display();
            tracing::warn!("{reason}; the weights of run {run} are used without comparing their checksum");
        });
        let result = result.ok();
        let (origin, blake3) = origin(result.as_ref(), epoch).ok_or_else(|| SavedRunError::NoBest { dir: own() })?;
        let file = dir.join(&origin.file);
        if is_missing(&file) {
            return Err(SavedRunError::LostBest { dir: own(), file: origin.file });
        }
        weights::load(&file, &parameters, blake3).map_err(|source| SavedRunError::Weights { dir: own(), source })?;
        if !bool::try_from(parameters.flat().isfinite().all()).unwrap_or(false) {
            return Err(SavedRunError::NotFinite { dir: own(), file: origin.file });
        }
        Ok(SavedRun { dir: own(), config, network, parameters, origin, classes: dataset.classes })
    }

    /// Appearance that the network expects of an image.
    pub fn look(&self) -> Look {
        Look { shape: self.network.input(), ..self.config.dataset.look() }
    }

    /// An answer for each image, doubted where other ways to prepare its picture lead elsewhere. None that is infinite or
    /// NaN: weights may be finite and what they add up to is not.
    pub fn answers(&self, specimens: &[Specimen]) -> Vec<Result<Answer, NotFinite>> {
        let images: Vec<&[u8]> = specimens.iter().map(|specimen| specimen.pixels.as_slice()).collect();
        let answer = |(specimen, probabilities): (&Specimen, Vec<f32>)| {
            if !probabilities.iter().all(|probability| probability.is_finite()) {
                return Err(NotFinite { name: specimen.name.clone() });
            }
            let variants: Vec<&[u8]> = specimen.variants.iter().map(Vec::as_slice).collect();
            let mut doubts = specimen.doubts.clone();
            doubts.extend(unstable(&probabilities, &self.probabilities(&variants)));
            Ok(Answer { probabilities, doubts })
        };
        specimens.iter().zip(self.probabilities(&images)).map(answer).collect()
    }

    /// The probability of every class, by label, for each image of `H x W x C` bytes.
    ///
    /// # Panics
    /// If the length of an image is not that of the network's input: a bug in the caller.
    pub fn probabilities(&self, images: &[&[u8]]) -> Vec<Vec<f32>> {
        let shape = self.network.input();
        let mut found = Vec::with_capacity(images.len());
        for batch in images.chunks(BATCH) {
            let images_nchw = images_nchw(&batch.concat(), batch.len(), shape, self.parameters.device());
            let probabilities_nk = tch::no_grad(|| {
                forward::logits(&self.network, self.parameters.views(), &images_nchw).softmax(-1, Kind::Float)
            });
            found.extend(host_values(&probabilities_nk).chunks_exact(self.classes.len()).map(<[f32]>::to_vec));
        }
        found
    }
}

/// The weights of an epoch, and the checksum of their file. None where the best epoch is wanted and not known.
fn origin(result: Option<&RunResult>, epoch: Epoch) -> Option<(Origin, Option<&str>)> {
    // A result may have been written by anybody, and is not to name a file elsewhere.
    let is_ours = |best: &&BestEpoch| [BEST, WEIGHTS].contains(&best.weights.as_str());
    let best = result.and_then(|result| result.best.as_ref()).filter(is_ours).filter(|_| epoch != Epoch::Last);
    if let (Some(best), Some(result)) = (best, result) {
        let origin = Origin {
            file: best.weights.clone(),
            epoch: Some(best.epoch),
            epochs: Some(result.epochs),
            validation_accuracy: Some(best.validation_accuracy),
        };
        return Some((origin, Some(best.weights_blake3.as_str())));
    }
    if epoch == Epoch::Best {
        return None;
    }
    let origin = Origin {
        file: WEIGHTS.to_owned(),
        epoch: result.map(|result| result.epochs),
        epochs: result.map(|result| result.epochs),
        validation_accuracy: result.map(|result| result.validation_accuracy),
    };
    Some((origin, result.and_then(|result| result.weights_blake3.as_deref())))
}

/// `best.safetensors, epoch 4 of 5, validation accuracy 99.20 %`
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match (self.epoch, self.epochs) {
            (Some(epoch), Some(epochs)) => write!(f, ", epoch {epoch} of {epochs}")?,
            _ => f.write_str(", of a run without a result")?,
        }
        match self.validation_accuracy {
            Some(accuracy) if accuracy.is_finite() => write!(f, ", validation accuracy {:.2} %", accuracy * 100.0),
            _ => Ok(()),
        }
    }
}

/// The doubt that follows from what the network says of other ways to prepare the same picture.
fn unstable(answer: &[f32], others: &[Vec<f32>]) -> Option<Doubt> {
    let class = most_probable(answer);
    let sum: f32 = [answer].into_iter().chain(others.iter().map(Vec::as_slice)).map(|of| of[class]).sum();
    let differ = others.iter().filter(|other| most_probable(other) != class).count();
    let is_stable = others.is_empty() || sum >= STABLE * (others.len() + 1) as f32;
    (!is_stable).then_some(Doubt::Unstable { differ, of: others.len() })
}

fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The run that was probably meant: the one that `dir` is a part of, or the first one in it.
fn near(dir: &Path) -> Option<PathBuf> {
    let is_run = |dir: &PathBuf| dir.join(CONFIG).is_file();
    let above = dir.parent().map(Path::to_owned).filter(|above| !above.as_os_str().is_empty());
    let inside = || {
        let entries = std::fs::read_dir(dir).ok()?.take(NEIGHBOURS).flatten();
        entries.map(|entry| entry.path()).filter(is_run).min()
    };
    above.filter(is_run).or_else(inside)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::data::Split;
    use crate::types::Seed;

    /// The weights that training begins with, for the configuration in `dir`.
    pub(crate) fn write_weights(dir: &Path) {
        let mut layers = Layers::new();
        layers.file(&dir.join(CONFIG)).unwrap();
        let config = layers.resolve().unwrap().config;
        let network = config.architecture.build(config.dataset.shape(), 10).unwrap();
        weights::save(&dir.join(WEIGHTS), &Weights::initialise(&network, Seed(5), Device::Cpu)).unwrap();
    }

    fn run(config: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), config).unwrap();
        dir
    }

    const SMALL: &str = "dataset = \"synthetic\"\nconv-filters = [3]\ndense-units = 4\nlogdir = \"elsewhere\"\n";

    #[test]
    fn an_answer_that_other_preparations_do_not_share_is_doubted() {
        let answer = [0.9, 0.1];
        let doubt = |others: &[[f32; 2]]| unstable(&answer, &others.iter().map(|row| row.to_vec()).collect::<Vec<_>>());
        assert_eq!(doubt(&[]), None);
        assert_eq!(doubt(&[[0.9, 0.1], [0.8, 0.2], [1.0, 0.0]]), None);
        assert_eq!(doubt(&[[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]), Some(Doubt::Unstable { differ: 2, of: 3 }));
        assert_eq!(doubt(&[[0.6, 0.4], [0.6, 0.4]]), Some(Doubt::Unstable { differ: 0, of: 2 }));
    }

    #[test]
    fn a_run_answers_as_its_network_does() {
        let dir = run(SMALL);
        write_weights(dir.path());
        let saved = SavedRun::open(dir.path(), Device::Cpu).unwrap();
        assert_eq!((saved.classes[3].as_str(), saved.network.input()), ("frame", saved.look().shape));
        // More than a batch.
        let images: Vec<Vec<u8>> = (0..150).map(|i| vec![i; 784]).collect();
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        let found = saved.probabilities(&images);
        assert_eq!(found.len(), 150);
        for (image, found) in images.iter().zip(&found) {
            assert!((found.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            let alone = &saved.probabilities(&[image])[0];
            assert!(alone.iter().zip(found).all(|(a, b)| (a - b).abs() < 1e-6));
        }
        assert_ne!(found[0], found[149]);
        assert!(saved.probabilities(&[]).is_empty());
    }

    #[test]
    fn a_directory_that_is_no_run_is_refused_with_the_way_on() {
        let logs = tempfile::tempdir().unwrap();
        let place = |text: &str| text.replace(&logs.path().display().to_string(), "logs");
        let refuse = |dir: PathBuf| {
            let error = SavedRun::open(&dir, Device::Cpu).unwrap_err();
            (place(&error.to_string()), error.exit())
        };
        let said = |text: &str| (text.to_owned(), Exit::NoInput);
        assert_eq!(
            refuse(logs.path().join("none")),
            said("cannot read run logs/none: No such file or directory (os error 2)")
        );
        assert_eq!(
            refuse(logs.path().to_owned()),
            said(
                "logs is not the directory of a run: there is no config.toml in it; want what --logdir named when it was \
                  trained, such as logs/fit"
            )
        );
        std::fs::create_dir_all(logs.path().join("fit/train")).unwrap();
        std::fs::write(logs.path().join("fit/config.toml"), SMALL).unwrap();
        let meant = "is not the directory of a run: there is no config.toml in it; did you mean logs/fit?";
        assert_eq!(refuse(logs.path().to_owned()), said(&format!("logs {meant}")));
        assert_eq!(refuse(logs.path().join("fit/train")), said(&format!("logs/fit/train {meant}")));
        assert_eq!(
            refuse(logs.path().join("fit/config.toml")),
            said(
                "logs/fit/config.toml is a file, want the directory of a run, which --logdir named when it was trained"
            )
        );
        assert_eq!(
            refuse(logs.path().join("fit")),
            said(
                "run logs/fit is not finished: there is no model.safetensors in it, which is written at the end of \
                  training; wait for that, or train again with `trainer --config logs/fit/config.toml --logdir logs/fit`"
            )
        );
    }

    #[test]
    fn a_damaged_run_is_refused() {
        let exit = |dir: &tempfile::TempDir, says: &str| {
            let error = SavedRun::open(dir.path(), Device::Cpu).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            error.exit()
        };
        assert_eq!(exit(&run("epochs = many"), "is not TOML"), Exit::Config);
        assert_eq!(exit(&run("dataset = \"cifar\""), "dataset from file"), Exit::Config);
        assert_eq!(exit(&run("dataset = \"synthetic\"\nkernel-size = 29"), "conv2d"), Exit::Config);
        let dir = run(SMALL);
        write_weights(dir.path());
        std::fs::write(dir.path().join(CONFIG), SMALL.replace("[3]", "[4]")).unwrap();
        assert_eq!(exit(&dir, "do not fit this network: `conv2d.weight`"), Exit::Data);
        std::fs::write(dir.path().join(WEIGHTS), "not weights").unwrap();
        assert_eq!(exit(&dir, "is no safetensors file"), Exit::Data);
    }

    #[test]
    fn an_answer_that_is_no_number_is_refused() {
        let dir = run(SMALL);
        write_weights(dir.path());
        let saved = SavedRun::open(dir.path(), Device::Cpu).unwrap();
        let split = Split::new(saved.network.input(), 10, [vec![0; 784], vec![255; 784]].concat(), vec![0, 1]).unwrap();
        let specimens = [0, 1].map(|index| Specimen::of_split(&split, index).unwrap());
        assert!(saved.answers(&specimens).iter().all(Result::is_ok));
        // Every weight is finite, sums of them are not, and nothing adds up where the image is black.
        for view in saved.parameters.views() {
            let _ = view.shallow_clone().fill_(if view.dim() == 1 { 0.0 } else { f64::from(f32::MAX) });
        }
        let answers = saved.answers(&specimens);
        assert!(answers[0].is_ok(), "one without an answer is no reason against the others");
        let error = answers[1].as_ref().unwrap_err();
        assert_eq!(error.to_string(), "validation 1: the network's answer is not finite: it has diverged");
        assert_eq!(error.exit(), Exit::Data);
    }

    #[test]
    fn weights_that_are_no_numbers_are_refused() {
        let dir = run(SMALL);
        write_weights(dir.path());
        let mut bytes = std::fs::read(dir.path().join(WEIGHTS)).unwrap();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&f32::INFINITY.to_le_bytes());
        std::fs::write(dir.path().join(WEIGHTS), bytes).unwrap();
        let error = SavedRun::open(dir.path(), Device::Cpu).unwrap_err();
        assert!(error.to_string().ends_with("model.safetensors holds values that are not finite"), "{error}");
        assert_eq!(error.exit(), Exit::Data);
    }
}
