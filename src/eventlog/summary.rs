//! Values of a tag: a number, a distribution, pictures, a text, a curve, a Keras graph.

use std::sync::Arc;

use prost::Message;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::animation::{Animation, GifError};
use super::histogram::{BUCKETS, Histogram};
use super::layout::{self, Layout};
use super::plugin;
use super::pr_curve::PrCurve;
use super::proto;
use super::proto::summary::value::Value as Wire;
use super::tally::Kind;
use crate::picture::{Picture, PngError};
use crate::types::Tag;

/// One point of one series.
///
/// A tag belongs to one kind of summary for the whole of its run: TensorBoard drops or garbles what comes later in
/// another kind. Every value carries its metadata, as the first one seen decides, and files can be deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub tag: Tag,
    pub summary: Summary,
    /// Markdown, shown behind the tag's info icon.
    pub description: Option<Arc<str>>,
}

/// Not yet encoded, so that making one is cheap where the training loop runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Summary {
    /// NaN and the infinities are allowed, and shown as markers.
    Scalar(f32),
    Histogram(Histogram),
    /// Samples of one step; TensorBoard shows the size of the first.
    Images(Vec<Picture>),
    /// One sample that moves, beside other pictures in the Images tab.
    Animation(Animation),
    /// Either of the two above, as files already.
    PictureFiles(PictureFiles),
    /// Markdown.
    Text(String),
    /// A Keras model's JSON, shown as the conceptual graph. Keras's own tag is `keras`.
    KerasGraph(String),
    PrCurve(PrCurve),
    /// Scalars that share a chart; the tag is always [`layout::TAG`].
    Layout(Layout),
}

/// Samples of one step as PNG or GIF, and the width and height of the first, in pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureFiles {
    size: (u32, u32),
    files: Vec<Vec<u8>>,
}

/// A picture that could not be put in bytes.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    #[error(transparent)]
    Png(#[from] PngError),
    #[error(transparent)]
    Gif(#[from] GifError),
}

impl Value {
    pub fn new(tag: Tag, summary: Summary) -> Value {
        Value { tag, summary, description: None }
    }

    pub fn scalar(tag: Tag, value: f32) -> Value {
        Value::new(tag, Summary::Scalar(value))
    }

    pub fn histogram(tag: Tag, histogram: Histogram) -> Value {
        Value::new(tag, Summary::Histogram(histogram))
    }

    pub fn images(tag: Tag, pictures: Vec<Picture>) -> Value {
        Value::new(tag, Summary::Images(pictures))
    }

    pub fn animation(tag: Tag, animation: Animation) -> Value {
        Value::new(tag, Summary::Animation(animation))
    }

    pub fn text(tag: Tag, markdown: impl Into<String>) -> Value {
        Value::new(tag, Summary::Text(markdown.into()))
    }

    pub fn keras_graph(tag: Tag, model_json: impl Into<String>) -> Value {
        Value::new(tag, Summary::KerasGraph(model_json.into()))
    }

    pub fn pr_curve(tag: Tag, curve: PrCurve) -> Value {
        Value::new(tag, Summary::PrCurve(curve))
    }

    pub fn layout(layout: Layout) -> Value {
        Value::new(Tag::of(layout::TAG), Summary::Layout(layout))
    }

    #[must_use]
    pub fn described(mut self, markdown: impl Into<Arc<str>>) -> Value {
        self.description = Some(markdown.into());
        self
    }

    /// Bytes that the value holds, roughly: what a queue that is bounded by memory counts.
    pub fn size(&self) -> usize {
        size_of::<Value>() + self.summary.size() + self.description.as_deref().map_or(0, str::len)
    }

    /// Puts pictures in files, on the threads of the rayon pool that this is called in. One that cannot be stays as it is,
    /// and whoever writes it is told.
    pub(super) fn encode_pictures(&mut self) {
        let files = match &self.summary {
            Summary::Images(pictures) => PictureFiles::of_each(pictures, |pictures| {
                pictures.par_iter().map(Picture::png).collect::<Result<_, _>>()
            }),
            Summary::Animation(animation) => PictureFiles::of_animation(animation),
            _ => return,
        };
        if let Ok(files) = files {
            self.summary = Summary::PictureFiles(files);
        }
    }

    /// Number of pictures to encode.
    pub(super) fn pictures(&self) -> usize {
        match &self.summary {
            Summary::Images(pictures) => pictures.len(),
            Summary::Animation(_) => 1,
            _ => 0,
        }
    }

    /// The message, with pictures as PNG and GIF.
    pub(super) fn to_wire(&self) -> Result<proto::summary::Value, PictureError> {
        Ok(proto::summary::Value {
            tag: self.tag.as_str().to_owned(),
            metadata: Some(self.summary.metadata(self.description.as_deref())),
            value: Some(Wire::Tensor(self.summary.tensor()?)),
            ..Default::default()
        })
    }
}

impl PictureFiles {
    fn of_each(
        pictures: &[Picture],
        encode: impl FnOnce(&[Picture]) -> Result<Vec<Vec<u8>>, PngError>,
    ) -> Result<PictureFiles, PictureError> {
        let size = pictures.first().map_or((0, 0), |first| (first.width(), first.height()));
        Ok(PictureFiles { size, files: encode(pictures)? })
    }

    fn of_animation(animation: &Animation) -> Result<PictureFiles, PictureError> {
        Ok(PictureFiles { size: animation.size(), files: vec![animation.gif()?] })
    }

    /// As many strings as there are files and two more. Width comes first.
    fn tensor(self) -> proto::TensorProto {
        let (width, height) = self.size;
        let sizes = [width, height].map(|side| side.to_string().into_bytes());
        vector(sizes.into_iter().chain(self.files).collect())
    }
}

impl Summary {
    pub fn kind(&self) -> Kind {
        match self {
            Summary::Scalar(_) => Kind::Scalars,
            Summary::Histogram(_) => Kind::Histograms,
            Summary::Images(_) | Summary::Animation(_) | Summary::PictureFiles(_) => Kind::Images,
            Summary::Text(_) => Kind::Text,
            Summary::KerasGraph(_) => Kind::Graphs,
            Summary::PrCurve(_) => Kind::PrCurves,
            Summary::Layout(_) => Kind::CustomScalars,
        }
    }

    fn size(&self) -> usize {
        match self {
            Summary::Scalar(_) => 0,
            Summary::Histogram(histogram) => size_of_val(histogram.buckets()),
            Summary::Images(pictures) => pictures.iter().map(|picture| size_of_val(picture.pixels())).sum(),
            Summary::Animation(animation) => animation.frames().iter().map(|frame| size_of_val(frame.pixels())).sum(),
            Summary::PictureFiles(pictures) => pictures.files.iter().map(Vec::len).sum(),
            Summary::Text(text) | Summary::KerasGraph(text) => text.len(),
            Summary::PrCurve(curve) => 6 * 4 * curve.thresholds(),
            Summary::Layout(layout) => layout.size(),
        }
    }

    fn metadata(&self, description: Option<&str>) -> proto::SummaryMetadata {
        use proto::DataClass::{BlobSequence, Scalar, Tensor, Unknown};
        let none = Vec::new();
        let (name, content, class) = match self {
            Summary::Scalar(_) => (plugin::SCALARS, none, Scalar),
            Summary::Histogram(_) => (plugin::HISTOGRAMS, none, Tensor),
            Summary::Images(_) | Summary::Animation(_) | Summary::PictureFiles(_) => {
                (plugin::IMAGES, none, BlobSequence)
            }
            Summary::Text(_) => (plugin::TEXT, none, Tensor),
            // A rank-0 graph with a data class would not be converted by the readers, and so not be shown.
            Summary::KerasGraph(_) => (plugin::KERAS_GRAPH, b"1".to_vec(), Unknown),
            Summary::PrCurve(curve) => {
                let num_thresholds = u32::try_from(curve.thresholds()).unwrap_or(u32::MAX);
                let content = proto::PrCurvePluginData { version: 0, num_thresholds }.encode_to_vec();
                (plugin::PR_CURVES, content, Tensor)
            }
            Summary::Layout(_) => (plugin::CUSTOM_SCALARS, none, Tensor),
        };
        proto::SummaryMetadata {
            plugin_data: Some(proto::summary_metadata::PluginData { plugin_name: name.to_owned(), content }),
            summary_description: description.unwrap_or_default().to_owned(),
            data_class: class.into(),
            ..Default::default()
        }
    }

    fn tensor(&self) -> Result<proto::TensorProto, PictureError> {
        Ok(match self {
            Summary::Scalar(value) => proto::TensorProto {
                dtype: proto::DataType::DtFloat.into(),
                tensor_shape: Some(shape(&[])),
                float_val: vec![*value],
                ..Default::default()
            },
            Summary::Histogram(histogram) => proto::TensorProto {
                dtype: proto::DataType::DtDouble.into(),
                tensor_shape: Some(shape(&[BUCKETS as i64, 3])),
                tensor_content: histogram
                    .buckets()
                    .iter()
                    .flat_map(|bucket| [bucket.left, bucket.right, bucket.count])
                    .flat_map(f64::to_le_bytes)
                    .collect(),
                ..Default::default()
            },
            Summary::Images(pictures) => {
                PictureFiles::of_each(pictures, |pictures| pictures.iter().map(Picture::png).collect())?.tensor()
            }
            Summary::Animation(animation) => PictureFiles::of_animation(animation)?.tensor(),
            Summary::PictureFiles(pictures) => pictures.clone().tensor(),
            // Rank 0: rank 1 would be shown as a table.
            Summary::Text(text) | Summary::KerasGraph(text) => string(text.clone().into_bytes()),
            Summary::Layout(layout) => string(layout.encode()),
            Summary::PrCurve(curve) => proto::TensorProto {
                dtype: proto::DataType::DtFloat.into(),
                tensor_shape: Some(shape(&[6, curve.thresholds() as i64])),
                tensor_content: curve.values().flat_map(f32::to_le_bytes).collect(),
                ..Default::default()
            },
        })
    }
}

fn vector(strings: Vec<Vec<u8>>) -> proto::TensorProto {
    proto::TensorProto {
        dtype: proto::DataType::DtString.into(),
        tensor_shape: Some(shape(&[strings.len() as i64])),
        string_val: strings,
        ..Default::default()
    }
}

fn string(bytes: Vec<u8>) -> proto::TensorProto {
    proto::TensorProto {
        dtype: proto::DataType::DtString.into(),
        tensor_shape: Some(shape(&[])),
        string_val: vec![bytes],
        ..Default::default()
    }
}

fn shape(sizes: &[i64]) -> proto::TensorShapeProto {
    let dim = sizes.iter().map(|&size| proto::tensor_shape_proto::Dim { size, ..Default::default() }).collect();
    proto::TensorShapeProto { dim, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(value: &Value) -> (proto::SummaryMetadata, proto::TensorProto, Vec<i64>) {
        let wire = value.to_wire().unwrap();
        let Some(Wire::Tensor(tensor)) = wire.value else { panic!("{wire:?}") };
        let dims = tensor.tensor_shape.as_ref().unwrap().dim.iter().map(|dim| dim.size).collect();
        (wire.metadata.unwrap(), tensor, dims)
    }

    #[test]
    fn a_histogram_is_thirty_rows_of_three_doubles() {
        let (metadata, tensor, dims) = wire(&Value::histogram(Tag::of("h"), Histogram::of(&[1.0, 31.0])));
        assert_eq!(metadata.plugin_data.unwrap().plugin_name, "histograms");
        assert_eq!((tensor.dtype(), dims), (proto::DataType::DtDouble, vec![30, 3]));
        let doubles: Vec<f64> =
            tensor.tensor_content.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!((doubles.len(), &doubles[..6]), (90, &[1.0, 2.0, 1.0, 2.0, 3.0, 0.0][..]));
        assert_eq!(doubles[87..], [30.0, 31.0, 1.0]);
    }

    #[test]
    fn images_are_width_then_height_then_pngs() {
        let pictures = vec![Picture::filled(3, 2, [1, 2, 3]), Picture::filled(3, 2, [9, 9, 9])];
        let (metadata, tensor, dims) = wire(&Value::images(Tag::of("i"), pictures).described("two"));
        assert_eq!(metadata.summary_description, "two");
        assert_eq!(metadata.plugin_data.unwrap().plugin_name, "images");
        assert_eq!((tensor.dtype(), dims), (proto::DataType::DtString, vec![4]));
        assert_eq!(tensor.string_val[..2], [b"3".to_vec(), b"2".to_vec()]);
        assert!(tensor.string_val[2..].iter().all(|png| png.starts_with(b"\x89PNG")));
    }

    #[test]
    fn an_animation_is_one_sample() {
        let frames = vec![Picture::filled(3, 2, [1, 2, 3]), Picture::filled(3, 2, [9, 9, 9])];
        let (metadata, tensor, dims) = wire(&Value::animation(Tag::of("i"), Animation::new(frames, 100).unwrap()));
        assert_eq!(metadata.plugin_data.unwrap().plugin_name, "images");
        assert_eq!((&tensor.string_val[..2], dims), (&[b"3".to_vec(), b"2".to_vec()][..], vec![3]));
        assert!(tensor.string_val[2].starts_with(b"GIF89a"));
    }

    #[test]
    fn texts_and_keras_graphs_are_rank_zero() {
        let (metadata, tensor, dims) = wire(&Value::text(Tag::of("t"), "# Title"));
        assert_eq!(metadata.plugin_data.unwrap().plugin_name, "text");
        assert_eq!((tensor.string_val, dims), (vec![b"# Title".to_vec()], vec![]));
        let (metadata, _, dims) = wire(&Value::keras_graph(Tag::of("keras"), "{}"));
        let data = metadata.plugin_data.unwrap();
        assert_eq!((data.plugin_name.as_str(), data.content.as_slice()), ("graph_keras_model", &b"1"[..]));
        assert_eq!((metadata.data_class, dims), (0, vec![]));
    }

    #[test]
    fn a_curve_is_six_rows_and_says_how_many_thresholds() {
        let counts = crate::eventlog::Counts {
            true_positives: vec![1; 201],
            false_positives: vec![0; 201],
            true_negatives: vec![3; 201],
            false_negatives: vec![1; 201],
        };
        let (metadata, tensor, dims) = wire(&Value::pr_curve(Tag::of("c"), PrCurve::of_counts(&counts).unwrap()));
        let data = metadata.plugin_data.unwrap();
        assert_eq!((data.plugin_name.as_str(), data.content.as_slice()), ("pr_curves", &b"\x10\xc9\x01"[..]));
        assert_eq!((tensor.dtype(), dims), (proto::DataType::DtFloat, vec![6, 201]));
        let row = |row: usize| f32::from_le_bytes(tensor.tensor_content[row * 804..][..4].try_into().unwrap());
        assert_eq!((tensor.tensor_content.len(), [0, 1, 2, 3, 4, 5].map(row)), (4824, [1.0, 0.0, 3.0, 1.0, 1.0, 0.5]));
    }

    #[test]
    fn a_layout_has_its_own_tag() {
        let value = Value::layout(Layout::new([layout::Category::new("Loss", [])]));
        assert_eq!(value.tag.as_str(), "custom_scalars__config__");
        let (metadata, tensor, dims) = wire(&value);
        assert_eq!(metadata.plugin_data.unwrap().plugin_name, "custom_scalars");
        assert_eq!((tensor.string_val, dims), (vec![b"\x12\x06\x0a\x04Loss".to_vec()], vec![]));
    }

    #[test]
    fn the_size_counts_pixels() {
        let value = Value::images(Tag::of("i"), vec![Picture::filled(100, 10, [0; 3]); 2]);
        assert!(value.size() >= 6000);
    }
}
