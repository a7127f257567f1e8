//! Tensors of `f32` as the bytes of a safetensors file, both ways, with a reader that believes nothing.
//!
//! Two things are checked before the crate `safetensors` sees a header, since it takes the last of two equal names and adds
//! up offsets that need not be in the file: every name stands once, and every offset is in the file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// No header is longer, in bytes.
pub const MAX_HEADER_LEN: u64 = 1 << 20;
/// No file holds more tensors.
pub const MAX_TENSORS: usize = 10_000;

/// The header's length stands before it, as a `u64`.
const LEN: usize = 8;
/// The header's key that is not a tensor.
const METADATA: &str = "__metadata__";

/// Bytes of the file of so many values, at most.
pub fn longest(values: u64) -> u64 {
    values.saturating_mul(size_of::<f32>() as u64).saturating_add(LEN as u64 + MAX_HEADER_LEN)
}

/// Why tensors cannot be written, or bytes are not the tensors that are wanted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorsError {
    #[error("it is {what}, want a safetensors file; {advice}")]
    Foreign { what: &'static str, advice: &'static str },
    #[error("{0}")]
    Format(String),
    #[error("`{name}`: got {got}, want {want}")]
    Mismatch { name: String, got: String, want: String },
}

/// The file of these tensors: names, shapes, values in the order of the shape. Equal tensors give equal bytes, in
/// whatever order they come.
pub fn encode(tensors: &[(String, Vec<usize>, &[f32])]) -> Result<Vec<u8>, TensorsError> {
    let mut views = BTreeMap::new();
    for (name, shape, values) in tensors {
        if name == METADATA || views.insert(name, Floats { shape, values }).is_some() {
            return Err(TensorsError::Format(format!("the name `{name}` is taken")));
        }
        if count(shape) != Some(values.len()) {
            let (got, want) = (format!("{} values", values.len()), format!("F32 {shape:?}"));
            return Err(TensorsError::Mismatch { name: name.clone(), got, want });
        }
    }
    // One key only: the crate writes them in the order of a hash map, which no two processes share.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|error| TensorsError::Format(error.to_string()))?;
    header(&bytes, bytes.len() as u64)?;
    Ok(bytes)
}

/// The values of the tensors that are wanted, by name and shape and in that order, from a file that holds them and no
/// others. Every name, shape and type is compared before the first value is copied.
pub fn decode(bytes: &[u8], want: &[(String, Vec<usize>)]) -> Result<Vec<Vec<f32>>, TensorsError> {
    let format = |error: safetensors::SafeTensorError| TensorsError::Format(error.to_string());
    header(bytes, bytes.len() as u64)?;
    let file = SafeTensors::deserialize(bytes).map_err(format)?;
    let mismatch = |name: &str, got: String, want: String| TensorsError::Mismatch { name: name.to_owned(), got, want };
    let mut found = Vec::with_capacity(want.len());
    for (name, shape) in want {
        let Ok(tensor) = file.tensor(name) else {
            return Err(mismatch(name, "nothing".to_owned(), format!("F32 {shape:?}")));
        };
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            let got = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
            return Err(mismatch(name, got, format!("F32 {shape:?}")));
        }
        found.push(tensor);
    }
    let extra = file.names().into_iter().filter(|name| !want.iter().any(|(known, _)| known == name)).min();
    if let Some(extra) = extra {
        return Err(mismatch(extra, "a tensor".to_owned(), "none of that name".to_owned()));
    }
    let floats = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(found.iter().map(|tensor| floats(tensor.data())).collect())
}

/// Why a file is none of the tensors that are wanted that has more bytes than they have, from its beginning with the
/// header: the rest need not be read.
pub fn refuse_long(beginning: &[u8], bytes: u64, want: &[(String, Vec<usize>)]) -> TensorsError {
    let header = match header(beginning, bytes) {
        Ok(header) => header,
        Err(error) => return error,
    };
    let found: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).unwrap_or_default();
    for (name, shape) in want {
        let want = format!("F32 {shape:?}");
        let got = found.get(name).map_or_else(
            || "nothing".to_owned(),
            |tensor| {
                let lengths = tensor["shape"].as_array().into_iter().flatten().map(ToString::to_string);
                let dtype = tensor["dtype"].as_str().unwrap_or_default();
                format!("{dtype} [{}]", lengths.collect::<Vec<_>>().join(", "))
            },
        );
        if got != want {
            return TensorsError::Mismatch { name: name.clone(), got, want };
        }
    }
    let values = want.iter().filter_map(|(_, shape)| count(shape)).sum::<usize>();
    TensorsError::Format(format!("it has {bytes} bytes, and {values} values take at most {}", longest(values as u64)))
}

/// The header of a file of so many bytes that begins so. Refuses other formats, headers that are too long, too many tensors, names that stand twice, offsets beyond the end.
fn header(bytes: &[u8], total: u64) -> Result<&[u8], TensorsError> {
    let wrong = |reason: String| Err(TensorsError::Format(reason));
    let Some((len, rest)) = bytes.split_first_chunk::<LEN>() else {
        return wrong(format!("got {} bytes, which hold no header", bytes.len()));
    };
    let len = u64::from_le_bytes(*len);
    if (len > MAX_HEADER_LEN || rest.first() != Some(&b'{'))
        && let Some((what, advice)) = foreign(bytes)
    {
        return Err(TensorsError::Foreign { what, advice });
    }
    if len > MAX_HEADER_LEN {
        return wrong(format!("its header has {len} bytes, want at most {MAX_HEADER_LEN}"));
    }
    let Some((header, _)) = rest.split_at_checked(len as usize) else {
        return wrong(format!("its header has {len} bytes, of which {} are there", rest.len()));
    };
    let Entries(entries) = match serde_json::from_slice(header) {
        Ok(entries) => entries,
        Err(error) => return wrong(format!("its header is not what it should be: {error}")),
    };
    let data = total.saturating_sub(LEN as u64 + len);
    let beyond = entries.iter().find(|(_, extent)| extent.is_some_and(|end| end > data));
    match beyond {
        Some((name, _)) => wrong(format!("tensor `{name}` ends beyond the end of the file")),
        None => Ok(header),
    }
}

/// What a file is that is not safetensors, by its content, and what to do about it.
fn foreign(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let save = "save it with safetensors.torch.save_file; pickles can run code and are not read";
    let holds = |word: &[u8]| {
        // Names stand at both ends of an archive: before the first member, and in the directory at the end.
        let ends = [&bytes[..bytes.len().min(4096)], &bytes[bytes.len().saturating_sub(1 << 16)..]];
        ends.iter().any(|end| end.windows(word.len()).any(|window| window == word))
    };
    match bytes {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(if holds(b"/constants.pkl") || holds(b"/code/") {
            ("a TorchScript archive", save)
        } else if holds(b"/data.pkl") {
            ("an archive of torch.save", save)
        } else if holds(b".npy") {
            ("an npz archive of NumPy", "save it with safetensors.numpy.save_file")
        } else if holds(b"model.weights.h5") {
            ("a Keras archive", "save its weights with safetensors.numpy.save_file")
        } else {
            ("a zip archive", "unpack it if it holds one")
        }),
        [0x80, 2..=5, ..] => Some(("a Python pickle", save)),
        [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n', ..] => {
            Some(("an HDF5 file", "save its weights with safetensors.numpy.save_file"))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            Some(("a npy array of NumPy", "save it with safetensors.numpy.save_file"))
        }
        [0x1f, 0x8b, ..] => Some(("a gzip archive", "unpack it first")),
        _ => None,
    }
}

fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &d| product.checked_mul(d))
}

struct Floats<'a> {
    shape: &'a [usize],
    values: &'a [f32],
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// The names of a header, each once, and where the data of each ends, if it is a tensor.
struct Entries(BTreeMap<String, Option<u64>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extent {
    #[serde(rename = "dtype")]
    _dtype: IgnoredAny,
    #[serde(rename = "shape")]
    _shape: IgnoredAny,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        use serde::de::Error;
        let (mut entries, mut tensors) = (BTreeMap::new(), 0);
        while let Some(name) = map.next_key::<String>()? {
            let extent = if name == METADATA {
                map.next_value::<Metadata>()?;
                None
            } else {
                Some(map.next_value::<Extent>()?.data_offsets.1)
            };
            if entries.contains_key(&name) {
                return Err(A::Error::custom(format!("`{name}` stands there twice")));
            }
            tensors += usize::from(extent.is_some());
            if tensors > MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            entries.insert(name, extent);
        }
        Ok(Entries(entries))
    }
}

/// Pairs of words, each key once.
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
        deserializer.deserialize_map(MetadataVisitor)
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of words")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        use serde::de::Error;
        let mut keys = BTreeMap::new();
        while let Some((key, _)) = map.next_entry::<String, String>()? {
            if keys.insert(key, ()).is_some() {
                return Err(A::Error::custom(format!("a key of `{METADATA}` stands there twice")));
            }
        }
        Ok(Metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want() -> Vec<(String, Vec<usize>)> {
        vec![("b".to_owned(), vec![2, 2]), ("a".to_owned(), vec![]), ("none".to_owned(), vec![0, 3])]
    }

    fn file() -> Vec<u8> {
        let [b, a, none] = want().try_into().unwrap();
        encode(&[(b.0, b.1, &[1.0, -0.0, f32::NAN, 1e-45]), (a.0, a.1, &[0.1]), (none.0, none.1, &[])]).unwrap()
    }

    fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn refusal(bytes: &[u8]) -> String {
        decode(bytes, &want()).unwrap_err().to_string()
    }

    #[test]
    fn values_come_back_to_the_bit_in_the_order_that_is_asked_for() {
        let values = decode(&file(), &want()).unwrap();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values[0]), bits(&[1.0, -0.0, f32::NAN, 1e-45]));
        assert_eq!((&values[1], &values[2]), (&vec![0.1], &vec![]));
        let [b, a, none] = want().try_into().unwrap();
        let other_order =
            encode(&[(none.0, none.1, &[]), (a.0, a.1, &[0.1]), (b.0, b.1, &[1.0, -0.0, f32::NAN, 1e-45])]).unwrap();
        assert_eq!(other_order, file());
        let read = SafeTensors::deserialize(&other_order).unwrap();
        assert_eq!(read.tensor("b").unwrap().shape(), [2, 2]);
        assert_eq!(encode(&[]).map(|bytes| decode(&bytes, &[])), Ok(Ok(vec![])));
    }

    #[test]
    fn tensors_that_cannot_be_written_are_refused() {
        let says = |tensors: &[(String, Vec<usize>, &[f32])]| encode(tensors).unwrap_err().to_string();
        let a = |shape: &[usize]| ("a".to_owned(), shape.to_vec(), &[1.0_f32, 2.0][..]);
        assert_eq!(says(&[a(&[2]), a(&[2])]), "the name `a` is taken");
        assert_eq!(says(&[a(&[3])]), "`a`: got 2 values, want F32 [3]");
        assert_eq!(says(&[a(&[usize::MAX, 2])]), format!("`a`: got 2 values, want F32 [{}, 2]", usize::MAX));
        assert_eq!(says(&[(METADATA.to_owned(), vec![0], &[])]), "the name `__metadata__` is taken");
    }

    #[test]
    fn only_the_tensors_that_are_wanted_are_taken() {
        let says = |name: &str, shape: &[usize]| {
            let [b, a, _] = want().try_into().unwrap();
            decode(&file(), &[b, a, (name.to_owned(), shape.to_vec())]).unwrap_err().to_string()
        };
        assert_eq!(says("c", &[1]), "`c`: got nothing, want F32 [1]");
        assert_eq!(says("none", &[3, 0]), "`none`: got F32 [0, 3], want F32 [3, 0]");
        assert_eq!(
            decode(&file(), &want()[..2]).unwrap_err().to_string(),
            "`none`: got a tensor, want none of that name"
        );
        let bytes = with_header(r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#, &[0; 4]);
        let error = decode(&bytes, &[("a".to_owned(), vec![2])]).unwrap_err();
        assert_eq!(error.to_string(), "`a`: got F16 [2], want F32 [2]");
    }

    #[test]
    fn a_header_is_not_believed() {
        let entry = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        let says = |header: &str| refusal(&with_header(header, &[0; 4]));
        assert!(says(&format!(r#"{{"a":{entry},"a":{entry}}}"#)).contains("`a` stands there twice"));
        assert!(says(&format!(r#"{{"a":{entry},"\u0061":{entry}}}"#)).contains("`a` stands there twice"));
        assert!(
            says(r#"{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}"#).contains("duplicate field")
        );
        assert!(says(r#"{"__metadata__":{"a":"1","a":"2"}}"#).contains("a key of `__metadata__` stands there twice"));
        assert!(
            says(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#).contains("beyond the end of the file")
        );
        // Without the check before it, the crate adds these up beyond 64 bits.
        let huge = |n: u64| {
            let size = (1_u64 << 61) - 1;
            format!(r#""{n}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{},{}]}}"#, n * size, (n + 1) * size)
        };
        let many: Vec<String> = (0..8).map(huge).collect();
        assert!(says(&format!("{{{}}}", many.join(","))).contains("beyond the end of the file"));
        let empty = |n| format!(r#""{n}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#);
        let many: Vec<String> = (0..=MAX_TENSORS).map(empty).collect();
        assert!(says(&format!("{{{}}}", many.join(","))).contains("more than 10000 tensors"));
        assert!(
            decode(&with_header(&format!("{{{}}}", many[1..].join(",")), &[]), &[])
                .is_err_and(|error| { matches!(error, TensorsError::Mismatch { .. }) })
        );
        let long = with_header(&" ".repeat(MAX_HEADER_LEN as usize + 1), &[]);
        assert_eq!(refusal(&long), "its header has 1048577 bytes, want at most 1048576");
        assert!(says("[]").contains("expected an object of tensors"));
    }

    #[test]
    fn every_truncation_and_every_byte_more_is_refused() {
        let file = file();
        for len in 0..file.len() {
            assert!(matches!(decode(&file[..len], &want()), Err(TensorsError::Format(_))), "{len} bytes");
        }
        assert!(matches!(decode(&[file.as_slice(), b"\0"].concat(), &want()), Err(TensorsError::Format(_))));
    }

    #[test]
    fn files_of_other_kinds_are_named() {
        let zip = |member: &str| [b"PK\x03\x04", &[0; 26][..], member.as_bytes(), &[0; 99]].concat();
        let cases: [(Vec<u8>, &str); 10] = [
            (
                zip("archive/data.pkl"),
                "it is an archive of torch.save, want a safetensors file; save it with safetensors",
            ),
            ([zip("archive/data.pkl"), zip("archive/constants.pkl")].concat(), "it is a TorchScript archive"),
            (zip("archive/code/__torch__.py"), "it is a TorchScript archive"),
            (zip("arr_0.npy"), "it is an npz archive of NumPy"),
            (zip("model.weights.h5"), "it is a Keras archive"),
            (zip("notes.txt"), "it is a zip archive"),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(), "it is a Python pickle"),
            (b"\x89HDF\r\n\x1a\n\0\0\0\0".to_vec(), "it is an HDF5 file"),
            (b"\x93NUMPY\x01\x00v\x00".to_vec(), "it is a npy array of NumPy"),
            (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec(), "it is a gzip archive"),
        ];
        for (bytes, want) in cases {
            assert!(refusal(&bytes).starts_with(want), "{}", refusal(&bytes));
        }
        // A header of 640 bytes begins like a pickle.
        let bytes = with_header(&format!("{{{}}}", " ".repeat(638)), &[]);
        assert_eq!(&bytes[..2], b"\x80\x02");
        assert_eq!(decode(&bytes, &[]), Ok(vec![]));
        assert_eq!(refusal(b"half a file"), "its header has 7358988582908617064 bytes, want at most 1048576");
    }
}
