//! Mirrors of data sets: the well-known ones, and addresses of files on them, of which no secret is told.

use reqwest::Url;

use super::name::DatasetName;

const MNIST_MIRRORS: [&str; 2] =
    ["https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"];
const FASHION_MNIST_MIRRORS: [&str; 2] = [
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
];

/// Stands for name and password, and for a query, in displayed addresses.
const HIDDEN: &str = "***";

/// A text that is no base address of a mirror.
#[derive(Debug, thiserror::Error)]
#[error("mirror `{shown}` is no address to fetch from: {reason}; want one like https://example.org/mnist")]
pub struct MirrorError {
    /// Without what may be a secret in it.
    pub shown: String,
    pub reason: String,
}

/// A mirror's address of one file. It may hold a password or a token, so only `shown` is ever told.
pub(super) struct Address {
    pub url: Url,
    pub shown: String,
}

impl Address {
    /// The file `name` below the base address `mirror`.
    pub fn new(mirror: &str, name: &str) -> Result<Address, MirrorError> {
        let refuse = |reason: String| Err(MirrorError { shown: hidden(mirror), reason });
        let mut url = match Url::parse(mirror) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => url,
            Ok(url) if mirror.contains("://") => return refuse(format!("its scheme is {}", url.scheme())),
            Ok(_) => return refuse("it has no scheme".to_owned()),
            Err(error) => return refuse(error.to_string()),
        };
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(name);
        }
        url.set_fragment(None);
        let mut shown = url.clone();
        // These fail for an address without a host alone, which http has.
        if !url.username().is_empty() || url.password().is_some() {
            let _ = shown.set_password(None);
            let _ = shown.set_username(HIDDEN);
        }
        if url.query().is_some() {
            shown.set_query(Some(HIDDEN));
        }
        Ok(Address { url, shown: shown.into() })
    }
}

/// The well-known mirrors of a data set, as base addresses.
pub(super) fn public_mirrors(name: DatasetName) -> &'static [&'static str] {
    match name {
        DatasetName::Mnist => &MNIST_MIRRORS,
        DatasetName::FashionMnist => &FASHION_MNIST_MIRRORS,
        DatasetName::Synthetic => &[],
    }
}

/// A text that is no address to fetch from, without what may be a name and password in it, and without what follows a `?`.
fn hidden(text: &str) -> String {
    let (start, rest) = text.find("://").map_or(("", text), |at| text.split_at(at + 3));
    let (before, query) = rest.split_once('?').map_or((rest, ""), |(before, _)| (before, "?***"));
    match rest.rsplit_once('@') {
        Some((_, host)) => {
            let host = host.split_once('?').map_or(host, |(host, _)| host);
            format!("{start}{HIDDEN}@{host}{query}")
        }
        None => format!("{start}{before}{query}"),
    }
}
