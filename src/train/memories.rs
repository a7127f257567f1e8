//! State of observers between moments, in a form that outlives the process.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Each observer's memory under its name. Equal memories have equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memories {
    by_name: BTreeMap<String, Vec<u8>>,
}

/// Bytes that are no memories, or not those of this observer.
#[derive(Debug, thiserror::Error)]
#[error("cannot read what {what} remembered: {source}")]
pub struct MemoryError {
    what: String,
    source: postcard::Error,
}

impl Memories {
    /// Keeps `value` under `name`, in place of what was there.
    ///
    /// A value that cannot be encoded is not kept (no type of ours); its observer then starts afresh.
    pub fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        match to_bytes(value) {
            Ok(bytes) => {
                self.by_name.insert(name.to_owned(), bytes);
            }
            Err(error) => tracing::warn!("what {name} remembers cannot be kept: {error}"),
        }
    }

    /// The value stored under `name`, if any.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, MemoryError> {
        let Some(bytes) = self.by_name.get(name) else { return Ok(None) };
        postcard::from_bytes(bytes).map(Some).map_err(|source| MemoryError { what: name.to_owned(), source })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(&self.by_name).unwrap_or_default()
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Memories, MemoryError> {
        let by_name =
            postcard::from_bytes(bytes).map_err(|source| MemoryError { what: "the observers".to_owned(), source })?;
        Ok(Memories { by_name })
    }
}

/// Into memory of just the size: growing by doubling would take up to three times as much, and films are large.
fn to_bytes<T: Serialize + ?Sized>(value: &T) -> postcard::Result<Vec<u8>> {
    let size = postcard::serialize_with_flavor(value, postcard::ser_flavors::Size::default())?;
    postcard::to_extend(value, Vec::with_capacity(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_come_back_to_the_bit() {
        let mut memories = Memories::default();
        memories.put("best", &0.1_f64);
        memories.put("layout", &Some((vec![1_usize, 2], vec![[0.5_f64, f64::MIN_POSITIVE]])));
        let back = Memories::from_bytes(&memories.to_bytes()).unwrap();
        assert_eq!(back, memories);
        assert_eq!(back.get::<f64>("best").unwrap(), Some(0.1));
        assert_eq!(back.get::<f64>("none").unwrap(), None);
        type Earlier = Option<(Vec<usize>, Vec<[f64; 2]>)>;
        let layout = back.get::<Earlier>("layout").unwrap();
        assert_eq!(layout.unwrap().unwrap().1, [[0.5, f64::MIN_POSITIVE]]);
    }

    #[test]
    fn what_is_no_memory_is_an_error() {
        assert!(Memories::from_bytes(&[]).is_err());
        assert!(Memories::from_bytes(&[255; 40]).is_err());
        let mut memories = Memories::default();
        memories.put("best", &u64::MAX);
        let error = memories.get::<Vec<String>>("best").unwrap_err().to_string();
        assert!(error.starts_with("cannot read what best remembered: "), "{error}");
    }
}
