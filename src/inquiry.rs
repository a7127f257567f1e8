//! Explanations of a saved network's predictions: methods applied to images, results as pictures, an event file, and raw
//! numbers.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::data::{Doubt, Specimen, doubt, images_nchw};
use crate::durable;
use crate::evaluation::most_probable;
use crate::eventlog::event::EncodeError;
use crate::eventlog::{Value, event};
use crate::exit::{Classify, Exit};
use crate::explain::{Explainer, Explanation, Method, Settings};
use crate::files::Dir;
use crate::graph::NodeId;
use crate::nesting;
use crate::observe::{Question, sheet, tile};
use crate::picture::{Picture, PngError};
use crate::render::{self, Zoom};
use crate::saved::{Answer, NotFinite, SavedRun};
use crate::types::{ImageShape, Step, Tag, WallTime};

/// Images that are asked about at once: what the methods keep of them stays in few megabytes.
const BATCH: usize = 16;
/// Pixels of the longer side of a single map's picture, at most.
const SIDE: u32 = 336;
const EVENTS: &str = "events.out.tfevents.explanations";
const MAPS: &str = "maps.safetensors";

/// What is asked of a saved network about every image.
#[derive(Clone, Debug)]
pub struct Inquiry {
    pub methods: Vec<Method>,
    /// For methods that need a node with feature maps; `None` for the last convolution.
    pub node: Option<NodeId>,
    /// The class that is explained; `None` for the one that the network predicts.
    pub target: Option<usize>,
}

/// What the network says of one image, and why.
#[derive(Clone, Debug)]
pub struct Reply {
    pub specimen: Specimen,
    /// The class that is explained.
    pub target: usize,
    /// Its probability, 0 to 1.
    pub probability: f32,
    /// Reasons to doubt what it says.
    pub doubts: Vec<Doubt>,
    /// In the order of the methods; those that the network has no layer for are left out.
    pub explanations: Vec<Explanation>,
}

/// Why the replies are not on disk, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum InquiryError {
    #[error("cannot create directory {}: {source}", path.display())]
    Create { path: PathBuf, source: std::io::Error },
    #[error("{} is part of run {}; choose a directory outside it for pictures", path.display(), run.display())]
    InRun { path: PathBuf, run: PathBuf },
    #[error("{} is one of the pictures to explain, and would be replaced; choose another --out", path.display())]
    IsInput { path: PathBuf },
    #[error(transparent)]
    Write(#[from] durable::WriteError),
    #[error(transparent)]
    Png(#[from] PngError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("cannot put maps into {MAPS}: {0}")]
    Maps(#[from] safetensors::SafeTensorError),
}

impl Classify for InquiryError {
    fn exit(&self) -> Exit {
        match self {
            InquiryError::Create { source, .. } => Exit::of_output(source),
            InquiryError::InRun { .. } | InquiryError::IsInput { .. } => Exit::CantCreate,
            InquiryError::Write(error) => error.exit(),
            InquiryError::Encode(error) => error.exit(),
            InquiryError::Png(_) | InquiryError::Maps(_) => Exit::Software,
        }
    }
}

impl Inquiry {
    /// One reply for each image, in their order.
    ///
    /// Beside them those to which the network has no answer.
    pub fn ask(&self, saved: &SavedRun, specimens: Vec<Specimen>) -> (Vec<Reply>, Vec<NotFinite>) {
        let (mut replies, mut refused) = (Vec::new(), Vec::new());
        let answers = saved.answers(&specimens);
        for (specimen, answer) in specimens.into_iter().zip(answers) {
            match answer {
                Ok(Answer { probabilities, doubts }) => {
                    let target = self.target.unwrap_or_else(|| most_probable(&probabilities));
                    let probability = probabilities[target];
                    replies.push(Reply { specimen, target, probability, doubts, explanations: Vec::new() });
                }
                Err(error) => refused.push(error),
            }
        }
        for batch in replies.chunks_mut(BATCH) {
            self.explain(saved, batch);
        }
        (replies, refused)
    }

    fn explain(&self, saved: &SavedRun, replies: &mut [Reply]) {
        let pixels: Vec<u8> = replies.iter().flat_map(|reply| reply.specimen.pixels.iter().copied()).collect();
        let (weights, device) = (saved.parameters.views(), saved.parameters.device());
        let images_nchw = images_nchw(&pixels, replies.len(), saved.network.input(), device);
        let targets: Vec<usize> = replies.iter().map(|reply| reply.target).collect();
        let settings = Settings::default();
        let mut explainer = Explainer::new(&saved.network, weights, &images_nchw, self.node, &targets, &settings);
        for &method in &self.methods {
            for (reply, explanation) in replies.iter_mut().zip(explainer.explain(method)) {
                reply.explanations.push(explanation);
            }
        }
    }
}

/// Writes into `out`, which is made if need be: for each image `<name>.explanations.png` with all methods side by side and
/// `<name>.<method>.png`, an event file with the same pictures, and, if `raw`, `maps.safetensors` with each map as
/// `<name>/<method>`. Gives the paths of the former, one for each reply. Files of an earlier inquiry that have the same names are replaced.
pub fn write(
    out: &Path,
    saved: &SavedRun,
    replies: &[Reply],
    raw: bool,
    now: WallTime,
) -> Result<Vec<PathBuf>, InquiryError> {
    if let Some(run) = nesting::holding(out) {
        return Err(InquiryError::InRun { path: out.to_owned(), run });
    }
    let names = names(replies);
    refuse_inputs(out, replies, &names)?;
    std::fs::create_dir_all(out).map_err(|source| InquiryError::Create { path: out.to_owned(), source })?;
    refuse_foreign(out, replies, &names)?;
    let shape = saved.network.input();
    let mut sheets = Vec::new();
    let mut values = Vec::new();
    for (reply, name) in replies.iter().zip(&names) {
        let input = render::image(&reply.specimen.pixels, shape);
        let sheet = sheet(&question(saved, reply), &input, &reply.explanations);
        let path = out.join(sheet_name(name));
        durable::write(&path, &sheet.png()?)?;
        sheets.push(path);
        for explanation in &reply.explanations {
            let picture = single(explanation, &input, shape);
            durable::write(&out.join(map_name(name, explanation.method)), &picture.png()?)?;
        }
        values.push(
            Value::images(Tag::of(format!("explanations/{name}")), vec![sheet]).described(description(saved, reply)),
        );
    }
    durable::write(&out.join(EVENTS), &event::file(now, Step::ZERO, &values)?)?;
    if raw {
        durable::write(&out.join(MAPS), &maps(replies, &names)?)?;
    }
    Ok(sheets)
}

fn sheet_name(name: &str) -> String {
    format!("{name}.explanations.png")
}

fn map_name(name: &str, method: Method) -> String {
    format!("{name}.{method}.png")
}

/// Nothing is written where a file cannot be replaced.
fn refuse_foreign(out: &Path, replies: &[Reply], names: &[String]) -> Result<(), InquiryError> {
    let dir = Dir::open(out).map_err(|source| InquiryError::Create { path: out.to_owned(), source })?;
    let maps = replies
        .iter()
        .zip(names)
        .flat_map(|(reply, name)| reply.explanations.iter().map(|explanation| map_name(name, explanation.method)));
    let files = names.iter().map(|name| sheet_name(name)).chain(maps).chain([EVENTS.to_owned(), MAPS.to_owned()]);
    for file in files {
        dir.has_own_file(&file).map_err(|source| durable::WriteError { path: out.join(&file), source })?;
    }
    Ok(())
}

/// No picture that somebody asks about is written over.
fn refuse_inputs(out: &Path, replies: &[Reply], names: &[String]) -> Result<(), InquiryError> {
    let inputs: Vec<PathBuf> =
        replies.iter().filter_map(|reply| Path::new(&reply.specimen.name).canonicalize().ok()).collect();
    let of_reply = |name: &String| Method::ALL.map(|m| map_name(name, m)).into_iter().chain([sheet_name(name)]);
    let clash = names
        .iter()
        .flat_map(of_reply)
        .map(|file| out.join(file))
        .find(|path| path.canonicalize().is_ok_and(|resolved| inputs.contains(&resolved)));
    clash.map_or(Ok(()), |path| Err(InquiryError::IsInput { path }))
}

fn question<'a>(saved: &'a SavedRun, reply: &Reply) -> Question<'a> {
    let name = Path::new(&reply.specimen.name).file_name();
    Question {
        classes: &saved.classes,
        target: reply.target,
        probability: reply.probability,
        label: reply.specimen.label,
        when: name.map_or_else(|| reply.specimen.name.clone(), |name| name.to_string_lossy().into_owned()),
    }
}

/// As large as fits, pixels of the image as squares.
fn single(explanation: &Explanation, input: &Picture, shape: ImageShape) -> Picture {
    tile(explanation, input, Zoom::fitting(shape.height, shape.width, SIDE))
}

fn description(saved: &SavedRun, reply: &Reply) -> String {
    let class = saved.classes.get(reply.target).map_or("", String::as_str);
    let methods: Vec<String> = reply
        .explanations
        .iter()
        .map(|e| format!("- **{}** ({}): {}", e.method.title(), e.method.source(), e.method.reading()))
        .collect();
    let doubts = match reply.doubts.as_slice() {
        [] => String::new(),
        doubts => format!(" To be doubted: {}.", doubt::sentence(doubts)),
    };
    format!(
        "Attributions of the network of `{}` ({}) for class {class} in `{}`.{doubts}\n\n{}",
        saved.dir.display(),
        saved.origin,
        reply.specimen.name,
        methods.join("\n")
    )
}

/// A name for each reply's files: letters, digits, `.`, `_` and `-` of the image's name without its ending; those that
/// come again get a number.
fn names(replies: &[Reply]) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut name = |reply: &Reply| {
        let path = Path::new(&reply.specimen.name);
        let stem = path.file_stem().map_or_else(|| reply.specimen.name.clone(), |s| s.to_string_lossy().into_owned());
        let plain: String = stem
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .take(100)
            .collect();
        // Names that differ in case alone are one on some file systems.
        let count = seen.entry(plain.to_lowercase()).or_default();
        *count += 1;
        if *count == 1 { plain } else { format!("{plain}~{count}") }
    };
    replies.iter().map(&mut name).collect()
}

fn maps(replies: &[Reply], names: &[String]) -> Result<Vec<u8>, InquiryError> {
    let mut tensors = Vec::new();
    for (reply, name) in replies.iter().zip(names) {
        for explanation in &reply.explanations {
            let map = &explanation.map;
            let bytes: Vec<u8> = map.values().iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((format!("{name}/{}", explanation.method), vec![map.height(), map.width()], bytes));
        }
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    Ok(safetensors::serialize(views, None::<HashMap<String, String>>)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(name: &str) -> Reply {
        let specimen = Specimen {
            name: name.to_owned(),
            pixels: vec![0],
            label: None,
            changes: vec![],
            doubts: vec![],
            variants: vec![],
        };
        Reply { specimen, target: 0, probability: 1.0, doubts: vec![], explanations: vec![] }
    }

    #[test]
    fn files_have_names_of_their_own() {
        let replies = ["a/three.png", "b/Three.jpg", "validation 7", "../..", "ünter \n.png", "three"].map(reply);
        assert_eq!(names(&replies), ["three", "Three~2", "validation-7", "..-..", "-nter--", "three~3"]);
    }
}
