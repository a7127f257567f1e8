//! A saved run: the network that a finished run left in its directory, ready to be asked.

use std::path::{Path, PathBuf};

use tch::{Device, Kind};

use crate::config::{Config, ConfigError, Layers};
use crate::data::{Look, Specimen, images_nchw};
use crate::exit::{Classify, Exit};
use crate::model::{Network, Parameters, ShapeError, host_values};
use crate::records::RunResult;
use crate::run_dir::{CONFIG, RESULT, WEIGHTS};
use crate::weights::{self, WeightsError};

/// Images that are looked at at once.
const BATCH: usize = 64;
/// Neighbours of a wrong directory that are looked at for the right one.
const NEIGHBOURS: usize = 1000;

/// A network with its weights, and how it was trained.
#[derive(Debug)]
pub struct SavedRun {
    pub dir: PathBuf,
    pub config: Config,
    pub network: Network,
    pub parameters: Parameters,
    /// By label.
    pub classes: Vec<String>,
}

/// Why a directory cannot be used as a saved run.
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
    Shape { dir: PathBuf, source: ShapeError },
    #[error("run {} cannot be used: {source}", dir.display())]
    Weights { dir: PathBuf, source: WeightsError },
    #[error("run {} cannot be used: {WEIGHTS} holds values that are not finite", dir.display())]
    NotFinite { dir: PathBuf },
}

impl Classify for SavedRunError {
    fn exit(&self) -> Exit {
        match self {
            SavedRunError::Read { source, .. } => Exit::of_input(source),
            SavedRunError::File { .. } | SavedRunError::NotARun { .. } | SavedRunError::Unfinished { .. } => {
                Exit::NoInput
            }
            SavedRunError::Config { source, .. } => source.exit(),
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
    /// Reads configuration and weights. Neither the data set nor the environment is looked at, and nothing is written.
    pub fn open(dir: &Path, device: Device) -> Result<SavedRun, SavedRunError> {
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

        let classes: Vec<String> = config.dataset.classes().map(str::to_owned).to_vec();
        let network = Network::build(&config.architecture, config.dataset.shape(), classes.len())
            .map_err(|source| SavedRunError::Shape { dir: own(), source })?;
        let file = dir.join(WEIGHTS);
        if is_missing(&file) {
            return Err(SavedRunError::Unfinished { dir: own() });
        }
        let parameters = Parameters::initialise(&network, config.seed, device);
        // Of a run that goes on the result is gone, and the weights are those of before.
        let result = RunResult::read(&dir.join(RESULT)).ok();
        let blake3 = result.as_ref().and_then(|result| result.weights_blake3.as_deref());
        weights::load(&file, &parameters, blake3).map_err(|source| SavedRunError::Weights { dir: own(), source })?;
        if !bool::try_from(parameters.flat().isfinite().all()).unwrap_or(false) {
            return Err(SavedRunError::NotFinite { dir: own() });
        }
        Ok(SavedRun { dir: own(), config, network, parameters, classes })
    }

    /// How an image has to look for the network to know it.
    pub fn look(&self) -> Look {
        self.config.dataset.look()
    }

    /// The probability of every class, by label, for each picture.
    ///
    /// # Errors
    /// When one of them is infinite or NaN: weights may be finite and what they add up to is not.
    pub fn answers(&self, specimens: &[Specimen]) -> Result<Vec<Vec<f32>>, NotFinite> {
        let images: Vec<&[u8]> = specimens.iter().map(|specimen| specimen.pixels.as_slice()).collect();
        let answers = self.probabilities(&images);
        let is_finite = |answer: &Vec<f32>| answer.iter().all(|probability| probability.is_finite());
        match specimens.iter().zip(&answers).find(|(_, answer)| !is_finite(answer)) {
            Some((specimen, _)) => Err(NotFinite { name: specimen.name.clone() }),
            None => Ok(answers),
        }
    }

    /// The probability of every class, by label, for each image of `H x W x C` bytes.
    ///
    /// # Panics
    /// When an image has not as many bytes as the network's input: a bug in the caller.
    pub fn probabilities(&self, images: &[&[u8]]) -> Vec<Vec<f32>> {
        let shape = self.network.input();
        let mut found = Vec::with_capacity(images.len());
        for batch in images.chunks(BATCH) {
            let images_nchw = images_nchw(&batch.concat(), batch.len(), shape, self.parameters.device());
            let probabilities_nk =
                tch::no_grad(|| self.network.forward(self.parameters.views(), &images_nchw).softmax(-1, Kind::Float));
            found.extend(host_values(&probabilities_nk).chunks_exact(self.classes.len()).map(<[f32]>::to_vec));
        }
        found
    }
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
        let network = Network::build(&config.architecture, config.dataset.shape(), 10).unwrap();
        weights::save(&dir.join(WEIGHTS), &Parameters::initialise(&network, Seed(5), Device::Cpu)).unwrap();
    }

    fn run(config: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), config).unwrap();
        dir
    }

    const SMALL: &str = "dataset = \"synthetic\"\nconv-filters = [3]\ndense-units = 4\nlogdir = \"elsewhere\"\n";

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
        assert_eq!(saved.answers(&specimens).unwrap().len(), 2);
        // Every weight is finite, sums of them are not, and nothing adds up where the image is black.
        for view in saved.parameters.views() {
            let _ = view.shallow_clone().fill_(if view.dim() == 1 { 0.0 } else { f64::from(f32::MAX) });
        }
        let error = saved.answers(&specimens).unwrap_err();
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
