//! Trained weights as a safetensors file, under the names and in the shapes of PyTorch's `state_dict`.

use std::io::Read;
use std::path::{Path, PathBuf};

use tch::Tensor;

use super::Weights;
use crate::checkpoint::tensors::{self, TensorsError};
use crate::durable::{self, Disk};
use crate::exit::{Classify, Exit};
use crate::files;
use crate::graph::ParameterSpec;

/// Error in saving or loading weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error(transparent)]
    Write(#[from] durable::WriteError),
    #[error("cannot read weights {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is no safetensors file of weights: {reason}", path.display())]
    Format { path: PathBuf, reason: String },
    #[error("weights {} do not fit this network: `{name}`: got {got}, want {want}", path.display())]
    Mismatch { path: PathBuf, name: String, got: String, want: String },
    #[error("weights {} are damaged: their checksum is not that in the run's result", path.display())]
    Checksum { path: PathBuf },
}

impl WeightsError {
    fn of(error: TensorsError, path: &Path) -> WeightsError {
        let path = path.to_owned();
        match error {
            TensorsError::Mismatch { name, got, want } => WeightsError::Mismatch { path, name, got, want },
            error => WeightsError::Format { path, reason: error.to_string() },
        }
    }
}

impl Classify for WeightsError {
    fn exit(&self) -> Exit {
        match self {
            WeightsError::Write(error) => error.exit(),
            WeightsError::Read { source, .. } => Exit::of_input(source),
            WeightsError::Format { .. } | WeightsError::Mismatch { .. } | WeightsError::Checksum { .. } => Exit::Data,
        }
    }
}

/// Writes every parameter, `f32`, whole or not at all, and gives the file's BLAKE3 in hexadecimal. Equal weights give equal
/// bytes.
pub fn save(path: &Path, parameters: &Weights) -> Result<String, WeightsError> {
    save_on(&Disk::default(), path, parameters)
}

/// As [`save`], below a directory that is held.
pub fn save_on(disk: &Disk, path: &Path, parameters: &Weights) -> Result<String, WeightsError> {
    let bytes = encode(parameters).map_err(|error| WeightsError::of(error, path))?;
    durable::write_on(disk, path, &bytes)?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// Fills `parameters` from a file, of which the BLAKE3 may be known. Every name, shape and type is compared before the first
/// value is copied.
pub fn load(path: &Path, parameters: &Weights, blake3: Option<&str>) -> Result<(), WeightsError> {
    let bytes = read(path, parameters)?;
    let found = blake3::hash(&bytes).to_hex();
    if blake3.is_some_and(|known| known != found.as_str()) {
        return Err(WeightsError::Checksum { path: path.to_owned() });
    }
    decode(&bytes, parameters).map_err(|error| WeightsError::of(error, path))
}

/// The bytes of the file of these weights.
pub fn encode(parameters: &Weights) -> Result<Vec<u8>, TensorsError> {
    let values: Vec<(String, Vec<usize>, Vec<f32>)> =
        parameters.host().map(|(spec, values)| (spec.state_name(), shape(spec), values)).collect();
    let tensors: Vec<_> =
        values.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_slice())).collect();
    tensors::encode(&tensors)
}

/// Fills `parameters` from the bytes of such a file, or leaves them unchanged.
pub fn decode(bytes: &[u8], parameters: &Weights) -> Result<(), TensorsError> {
    fill(parameters, &values(bytes, parameters)?);
    Ok(())
}

/// Values of the bytes of such a file, in the order of the parameters. Changes nothing.
pub(crate) fn values(bytes: &[u8], parameters: &Weights) -> Result<Vec<Vec<f32>>, TensorsError> {
    tensors::decode(bytes, &wanted(parameters))
}

/// Copies [`values`] into `parameters`; nothing if there are none.
pub(crate) fn fill(parameters: &Weights, values: &[Vec<f32>]) {
    tch::no_grad(|| {
        for ((view, spec), values) in parameters.views().iter().zip(parameters.specs()).zip(values) {
            view.shallow_clone().copy_(&Tensor::from_slice(values).view(&spec.shape[..]));
        }
    });
}

fn shape(spec: &ParameterSpec) -> Vec<usize> {
    spec.shape.iter().map(|&d| d as usize).collect()
}

fn wanted(parameters: &Weights) -> Vec<(String, Vec<usize>)> {
    parameters.specs().iter().map(|spec| (spec.state_name(), shape(spec))).collect()
}

/// All of a file that is no longer than one of these parameters can be. Of a longer one no more than the header is read.
fn read(path: &Path, parameters: &Weights) -> Result<Vec<u8>, WeightsError> {
    let failed = |source| WeightsError::Read { path: path.to_owned(), source };
    let want = wanted(parameters);
    let values: usize = want.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let file = files::open(path).map_err(failed)?;
    let (bytes, most) = (file.metadata().map_err(failed)?.len(), tensors::longest(values as u64));
    let is_long = bytes > most;
    let mut content = Vec::new();
    // It may grow while it is read.
    file.take(if is_long { tensors::longest(0) } else { most }).read_to_end(&mut content).map_err(failed)?;
    if is_long {
        return Err(WeightsError::of(tensors::refuse_long(&content, bytes, &want), path));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::types::{ImageShape, Seed};
    use tch::Device;

    fn parameters(seed: u64, dense_units: usize) -> Weights {
        let architecture = Architecture { conv_filters: vec![3], kernel_size: 3, dense_units };
        let input = ImageShape { height: 8, width: 8, channels: 2 };
        Weights::initialise(&architecture.build(input, 4).unwrap(), Seed(seed), Device::Cpu)
    }

    #[test]
    fn a_file_that_is_longer_than_the_weights_is_not_read_to_its_end() {
        let error = load(Path::new("/dev/zero"), &parameters(1, 5), None).unwrap_err();
        assert_eq!(error.to_string(), "cannot read weights /dev/zero: it is a device, want a regular file");
        assert_eq!(error.exit(), Exit::NoInput);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let long = |beginning: &[u8], other: &Weights| {
            std::fs::write(&path, beginning).unwrap();
            // More than there is memory for; it takes no room on the disk.
            std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
            let error = load(&path, other, None).unwrap_err();
            assert_eq!(error.exit(), Exit::Data);
            error.to_string().replace(&path.display().to_string(), "FILE")
        };
        let says = long(b"", &parameters(1, 5));
        assert!(
            says.starts_with("FILE is no safetensors file of weights: its header is not what it should be: "),
            "{says}"
        );
        let saved = encode(&parameters(1, 5)).unwrap();
        assert_eq!(
            long(&saved, &parameters(2, 6)),
            "weights FILE do not fit this network: `dense.weight`: got F32 [5, 27], want F32 [6, 27]"
        );
        assert_eq!(
            long(&saved, &parameters(2, 5)),
            "FILE is no safetensors file of weights: it has 1099511627776 bytes, and 221 values take at most 1049468"
        );
        assert!(long(b"PK\x03\x04 archive/data.pkl", &parameters(1, 5)).contains("it is an archive of torch.save"));
    }

    #[test]
    fn weights_come_back_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let (saved, other) = (parameters(1, 5), parameters(2, 5));
        assert_ne!(saved.flat(), other.flat());
        let blake3 = save(&path, &saved).unwrap();
        let error = load(&path, &other, Some(&"0".repeat(64))).unwrap_err();
        assert!(error.to_string().ends_with("are damaged: their checksum is not that in the run's result"), "{error}");
        assert_eq!(error.exit(), Exit::Data);
        assert_ne!(saved.flat(), other.flat());
        load(&path, &other, Some(&blake3)).unwrap();
        assert_eq!(saved.flat(), other.flat());
    }

    #[test]
    fn weights_of_another_network_are_refused_and_nothing_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        save(&path, &parameters(1, 5)).unwrap();
        let other = parameters(2, 6);
        let before = other.flat().copy();
        let error = load(&path, &other, None).unwrap_err();
        let want = "do not fit this network: `dense.weight`: got F32 [5, 27], want F32 [6, 27]";
        assert!(error.to_string().ends_with(want), "{error}");
        assert_eq!(error.exit(), Exit::Data);
        assert_eq!(*other.flat(), before);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let parameters = parameters(1, 5);
        save(&path, &parameters).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for len in [0, 4, 8, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(matches!(load(&path, &parameters, None), Err(WeightsError::Format { .. })), "{len} bytes");
        }
        let missing = load(&dir.path().join("none"), &parameters, None).unwrap_err();
        assert_eq!(missing.exit(), Exit::NoInput);
    }
}
