//! Published files of the data sets, with their checksums.

use std::io;
use std::path::PathBuf;

use super::name::DatasetName;
use crate::exit::{Classify, Exit};

/// A published file of a data set.
#[derive(Debug)]
pub(crate) struct File {
    /// The name it has uncompressed.
    pub stem: &'static str,
    /// Of the uncompressed bytes, as lower-case hex.
    pub sha256: &'static str,
    /// Uncompressed.
    pub bytes: u64,
}

/// In the order training images, training labels, validation images, validation labels.
pub(crate) const MNIST_FILES: [File; 4] = [
    File {
        stem: "train-images-idx3-ubyte",
        sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        bytes: 47_040_016,
    },
    File {
        stem: "train-labels-idx1-ubyte",
        sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        bytes: 60_008,
    },
    File {
        stem: "t10k-images-idx3-ubyte",
        sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        bytes: 7_840_016,
    },
    File {
        stem: "t10k-labels-idx1-ubyte",
        sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        bytes: 10_008,
    },
];

pub(super) const FASHION_MNIST_FILES: [File; 4] = [
    File {
        stem: "train-images-idx3-ubyte",
        sha256: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        bytes: 47_040_016,
    },
    File {
        stem: "train-labels-idx1-ubyte",
        sha256: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        bytes: 60_008,
    },
    File {
        stem: "t10k-images-idx3-ubyte",
        sha256: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        bytes: 7_840_016,
    },
    File {
        stem: "t10k-labels-idx1-ubyte",
        sha256: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        bytes: 10_008,
    },
];

/// The published files of a data set; none of a drawn one.
pub(crate) fn files(name: DatasetName) -> &'static [File] {
    match name {
        DatasetName::Mnist => &MNIST_FILES,
        DatasetName::FashionMnist => &FASHION_MNIST_FILES,
        DatasetName::Synthetic => &[],
    }
}

/// The data set that has a file with this checksum.
pub(super) fn published_as(sha256: &str) -> Option<DatasetName> {
    DatasetName::ALL.into_iter().find(|name| files(*name).iter().any(|file| file.sha256 == sha256))
}

/// A file or directory that cannot be read, for a reason that lies with the machine.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be read: {error}", path.display())]
pub struct Unreadable {
    pub path: PathBuf,
    pub error: io::Error,
}

impl Classify for Unreadable {
    fn exit(&self) -> Exit {
        Exit::of_input(&self.error)
    }
}
