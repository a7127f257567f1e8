//! Trained weights as a safetensors file, under the names and in the shapes of PyTorch's `state_dict`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tch::Tensor;

use crate::checkpoint::tensors::{self, TensorsError};
use crate::durable;
use crate::exit::{Classify, Exit};
use crate::model::{ParameterSpec, Parameters};

/// Larger files than this are not weights of ours.
const MAX_LEN: u64 = 4 << 30;

/// Why weights could not be saved or loaded.
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
pub fn save(path: &Path, parameters: &Parameters) -> Result<String, WeightsError> {
    let bytes = encode(parameters).map_err(|error| WeightsError::of(error, path))?;
    durable::write(path, &bytes)?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// Fills `parameters` from a file, of which the BLAKE3 may be known. Every name, shape and type is compared before the first
/// value is copied.
pub fn load(path: &Path, parameters: &Parameters, blake3: Option<&str>) -> Result<(), WeightsError> {
    let bytes = read(path, MAX_LEN)?;
    let found = blake3::hash(&bytes).to_hex();
    if blake3.is_some_and(|known| known != found.as_str()) {
        return Err(WeightsError::Checksum { path: path.to_owned() });
    }
    decode(&bytes, parameters).map_err(|error| WeightsError::of(error, path))
}

/// The bytes of the file of these weights.
pub fn encode(parameters: &Parameters) -> Result<Vec<u8>, TensorsError> {
    let values: Vec<(String, Vec<usize>, Vec<f32>)> =
        parameters.host().map(|(spec, values)| (spec.state_name(), shape(spec), values)).collect();
    let tensors: Vec<_> =
        values.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_slice())).collect();
    tensors::encode(&tensors)
}

/// Fills `parameters` from the bytes of such a file, or leaves them as they are.
pub fn decode(bytes: &[u8], parameters: &Parameters) -> Result<(), TensorsError> {
    let want: Vec<_> = parameters.specs().iter().map(|spec| (spec.state_name(), shape(spec))).collect();
    let values = tensors::decode(bytes, &want)?;
    tch::no_grad(|| {
        for ((view, spec), values) in parameters.views().iter().zip(parameters.specs()).zip(&values) {
            view.shallow_clone().copy_(&Tensor::from_slice(values).view(&spec.shape[..]));
        }
    });
    Ok(())
}

fn shape(spec: &ParameterSpec) -> Vec<usize> {
    spec.shape.iter().map(|&d| d as usize).collect()
}

/// All of a file, which may be a pipe or a device: those have no length to look at first.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, WeightsError> {
    let failed = |source| WeightsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        let reason = format!("it is longer than {limit} bytes");
        return Err(WeightsError::Format { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Network};
    use crate::types::{ImageShape, Seed};
    use tch::Device;

    fn parameters(seed: u64, dense_units: usize) -> Parameters {
        let architecture = Architecture { conv_filters: vec![3], kernel_size: 3, dense_units };
        let input = ImageShape { height: 8, width: 8, channels: 2 };
        Parameters::initialise(&Network::build(&architecture, input, 4).unwrap(), Seed(seed), Device::Cpu)
    }

    #[test]
    fn a_file_without_end_is_not_read_to_it() {
        let error = read(Path::new("/dev/zero"), 1000).unwrap_err();
        assert_eq!(error.to_string(), "/dev/zero is no safetensors file of weights: it is longer than 1000 bytes");
        assert_eq!(error.exit(), Exit::Data);
        assert!(read(Path::new("/dev/null"), 1000).unwrap().is_empty());
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
