//! Manifest of a checkpoint: each file's length and BLAKE3, metadata of the run, and a seal over all of it.
//!
//! ```text
//! {
//!   "format": 1,
//!   "program": "0.1.0",
//!   "step": 4690,
//!   "facts": { .. },
//!   "files": [ { "name": "model.safetensors", "bytes": 1234, "blake3": "<64 hex digits>" }, .. ],
//!   "blake3": "<64 hex digits>"
//! }
//! ```
//!
//! The seal, in the last line, is the BLAKE3 of every byte before that line, and is checked before anything is parsed. What
//! is parsed must have the very bytes that this program would write: there is one way to write a manifest, so no flipped
//! bit, no cut and no key that stands there twice goes unseen. Later formats keep the seal.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The name of the manifest within a checkpoint.
pub const NAME: &str = "manifest.json";
/// No manifest is longer.
pub const MAX_LEN: u64 = 1 << 20;
/// No file of a checkpoint is longer.
pub const MAX_FILE_LEN: u64 = 4 << 30;
/// No checkpoint has more files.
pub const MAX_FILES: usize = 64;
/// The format that this program writes, and the only one that it reads.
pub const FORMAT: u64 = 1;

/// The last line but its digits.
const SEAL: (&str, &str) = ("  \"blake3\": \"", "\"\n}\n");
const HEX_LEN: usize = 2 * blake3::OUT_LEN;
const SEAL_LEN: usize = SEAL.0.len() + HEX_LEN + SEAL.1.len();
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// The content of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u64,
    /// Version of the program that wrote it.
    pub program: String,
    pub step: u64,
    /// Whatever the run wants to know again; kept as it is.
    pub facts: Map<String, Value>,
    pub files: Vec<FileEntry>,
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub name: String,
    pub bytes: u64,
    /// 64 lower-case hexadecimal digits.
    pub blake3: String,
}

/// Step and facts of a manifest for a listing, as far as they are there. Neither version nor seal is checked: nothing
/// may be resumed from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    pub step: Option<u64>,
    pub facts: Value,
}

impl Overview {
    /// # Errors
    /// If `bytes` are not JSON.
    pub fn parse(bytes: &[u8]) -> serde_json::Result<Overview> {
        let manifest: Value = serde_json::from_slice(bytes)?;
        Ok(Overview { step: manifest["step"].as_u64(), facts: manifest["facts"].clone() })
    }
}

/// Why bytes are no manifest, or what is wanted cannot be one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("got {0} bytes, want at most {MAX_LEN}")]
    TooLong(u64),
    #[error("damaged: it does not end with the seal of a manifest")]
    NoSeal,
    #[error("damaged: its seal says BLAKE3 {want}, its bytes have {got}")]
    Broken { got: String, want: String },
    #[error(
        "format version {found}, written by trainer {program}; this is trainer {PROGRAM}, which reads version {FORMAT}"
    )]
    Version { found: u64, program: String },
    #[error("not a manifest of format version {FORMAT}: {0}")]
    Content(String),
}

impl FileEntry {
    pub fn of(name: &str, content: &[u8]) -> FileEntry {
        let blake3 = blake3::hash(content).to_hex().to_string();
        FileEntry { name: name.to_owned(), bytes: content.len() as u64, blake3 }
    }

    /// `Err` with what is wrong with `content`.
    pub fn check(&self, content: &[u8]) -> Result<(), String> {
        let got = FileEntry::of(&self.name, content);
        if got.bytes != self.bytes {
            return Err(format!("{}: got {} bytes, the manifest says {}", self.name, got.bytes, self.bytes));
        }
        if got.blake3 != self.blake3 {
            return Err(format!(
                "{}: damaged: got BLAKE3 {}, the manifest says {}",
                self.name, got.blake3, self.blake3
            ));
        }
        Ok(())
    }
}

impl Manifest {
    pub fn new(step: u64, facts: Map<String, Value>, files: Vec<FileEntry>) -> Manifest {
        Manifest { format: FORMAT, program: PROGRAM.to_owned(), step, facts, files }
    }

    /// The bytes of the file. Fails if they could not be read back.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        let bytes = self.sealed()?;
        let back = Manifest::decode(&bytes)?;
        if back == *self { Ok(bytes) } else { Err(ManifestError::Content("facts do not read back as they are".into())) }
    }

    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let content = |error: serde_json::Error| ManifestError::Content(error.to_string());
        let text = unsealed(bytes)?;
        // The version first: what else there is depends on it.
        let Head { format, program } = serde_json::from_slice(&text).map_err(content)?;
        if format != FORMAT {
            return Err(ManifestError::Version { found: format, program });
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(content)?;
        manifest.check()?;
        if manifest.sealed()? != bytes {
            return Err(ManifestError::Content("it is not written as this program writes it".into()));
        }
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let wrong = |reason: String| Err(ManifestError::Content(reason));
        if self.files.len() > MAX_FILES {
            return wrong(format!("got {} files, want at most {MAX_FILES}", self.files.len()));
        }
        for (i, file) in self.files.iter().enumerate() {
            if !is_file_name(&file.name) {
                return wrong(format!("file name: got {:?}, want letters, digits, `.`, `_` and `-`", file.name));
            }
            if self.files[..i].iter().any(|other| other.name == file.name) {
                return wrong(format!("file {} is listed twice", file.name));
            }
            if file.bytes > MAX_FILE_LEN {
                return wrong(format!("file {}: got {} bytes, want at most {MAX_FILE_LEN}", file.name, file.bytes));
            }
        }
        Ok(())
    }

    fn sealed(&self) -> Result<Vec<u8>, ManifestError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| ManifestError::Content(error.to_string()))?;
        // The brace and the line break before it give way to another key.
        bytes.truncate(bytes.len().saturating_sub(2));
        bytes.extend(b",\n");
        let digest = blake3::hash(&bytes).to_hex();
        for part in [SEAL.0, digest.as_str(), SEAL.1] {
            bytes.extend(part.as_bytes());
        }
        let len = bytes.len() as u64;
        if len > MAX_LEN { Err(ManifestError::TooLong(len)) } else { Ok(bytes) }
    }
}

/// What every format has.
#[derive(Deserialize)]
struct Head {
    format: u64,
    program: String,
}

/// The bytes without the seal and closed again, if the seal is theirs.
fn unsealed(bytes: &[u8]) -> Result<Vec<u8>, ManifestError> {
    let len = bytes.len() as u64;
    if len > MAX_LEN {
        return Err(ManifestError::TooLong(len));
    }
    let (text, seal) = bytes.len().checked_sub(SEAL_LEN).map(|at| bytes.split_at(at)).ok_or(ManifestError::NoSeal)?;
    let want = seal
        .strip_prefix(SEAL.0.as_bytes())
        .and_then(|rest| rest.strip_suffix(SEAL.1.as_bytes()))
        .filter(|digits| digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .ok_or(ManifestError::NoSeal)?;
    let got = blake3::hash(text).to_hex();
    if got.as_str() != want {
        return Err(ManifestError::Broken { got: got.to_string(), want: want.to_owned() });
    }
    let body = text.strip_suffix(b",\n").ok_or(ManifestError::NoSeal)?;
    Ok([body, b"\n}"].concat())
}

/// A plain name within a checkpoint: no path, not hidden, not the manifest's.
fn is_file_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=100).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain) && name != NAME
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Manifest {
        let facts = json!({"z": 0.1 + 0.2, "a": [1e-308, -0.0, 18_446_744_073_709_551_615_u64, "\u{e9}\n\"", null]});
        let files = vec![FileEntry::of("model.safetensors", b"abc"), FileEntry::of("observers.bin", b"")];
        Manifest::new(4690, facts.as_object().unwrap().clone(), files)
    }

    fn sealed(text: &str) -> Vec<u8> {
        format!("{text}{}{}{}", SEAL.0, blake3::hash(text.as_bytes()).to_hex(), SEAL.1).into_bytes()
    }

    fn text() -> String {
        let bytes = manifest().encode().unwrap();
        String::from_utf8(bytes[..bytes.len() - SEAL_LEN].to_vec()).unwrap()
    }

    #[test]
    fn it_comes_back_to_the_bit_and_people_can_read_it() {
        let bytes = manifest().encode().unwrap();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest());
        assert_eq!(sealed(&text()), bytes);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["format", "program", "step", "facts", "files", "blake3"]);
        // b3sum of three letters, from the BLAKE3 team's program.
        assert_eq!(value["files"][0]["blake3"], "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
    }

    #[test]
    fn what_is_sealed_but_not_ours_is_refused() {
        let says = |text: String| Manifest::decode(&sealed(&text)).unwrap_err().to_string();
        assert_eq!(
            says(text().replace("\"format\": 1", "\"format\": 3").replace("\"step\"", "\"steps\"")),
            format!("format version 3, written by trainer {PROGRAM}; this is trainer {PROGRAM}, which reads version 1")
        );
        let other = "not a manifest of format version 1: it is not written as this program writes it";
        assert_eq!(says(text().replace("4690", " 4690")), other);
        assert_eq!(
            says(text().replace("    \"z\"", "    \"z\": 1,\n    \"z\"")),
            other,
            "a key that stands there twice"
        );
        assert!(says(text().replace("  \"step\"", "  \"step\": 1,\n  \"step\"")).contains("duplicate field"));
        assert!(says(text().replace("  \"step\"", "  \"more\": 1,\n  \"step\"")).contains("unknown field"));
        assert!(says(text().replace("observers.bin", "../bin")).contains("file name: got \"../bin\""));
        assert!(says(text().replace("observers.bin", "model.safetensors")).contains("listed twice"));
        assert!(says(text().replace("\"bytes\": 3", "\"bytes\": 4294967297")).contains("want at most 4294967296"));
        assert!(says(text().replace("\"bytes\": 3", "\"bytes\": -3")).contains("invalid value"));
    }

    #[test]
    fn without_its_seal_nothing_is_parsed() {
        let bytes = manifest().encode().unwrap();
        let says = |bytes: &[u8]| Manifest::decode(bytes).unwrap_err();
        assert_eq!(says(&[]), ManifestError::NoSeal);
        assert_eq!(says(text().as_bytes()), ManifestError::NoSeal);
        assert_eq!(says(&bytes.to_ascii_uppercase()), ManifestError::NoSeal);
        assert_eq!(says(&[bytes.as_slice(), b"\n"].concat()), ManifestError::NoSeal);
        assert_eq!(says(&vec![b' '; MAX_LEN as usize + 1]), ManifestError::TooLong(MAX_LEN + 1));
        let ManifestError::Broken { got, want } = says(&[b" ", bytes.as_slice()].concat()) else { panic!() };
        assert!(got != want && got.len() == 64 && want.len() == 64);
    }

    #[test]
    fn a_file_that_is_not_the_one_is_told_apart() {
        let entry = FileEntry::of("a", b"abc");
        assert_eq!(entry.check(b"abc"), Ok(()));
        assert_eq!(entry.check(b"ab").unwrap_err(), "a: got 2 bytes, the manifest says 3");
        assert!(entry.check(b"abd").unwrap_err().starts_with("a: damaged: got BLAKE3 "));
    }
}
