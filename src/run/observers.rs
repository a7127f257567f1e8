//! Construction of the observers that a configuration enables, each with its trigger.

use std::path::Path;

use tch::Device;

use super::device_text;
use crate::config::{Config, OBSERVERS, Observed, Resolved};
use crate::observe::{
    ActivationMax, Activations, Calibration, Classes, Confusion, CustomScalars, EpochScalars, Errors, Explanations,
    FeatureMaps, FeatureSpace, Filters, GradCam, GradientHistograms, Graphs, Inputs, PcaPlane, PrCurves, Projector,
    Record, StepScalars, Table, Texts, TsnePlane, Updates, WeightHistograms,
};
use crate::train::{Observer, ScheduledObserver};

/// Maximum number of probe images for feature maps: each layer draws one large image for each.
const FEATURE_MAP_PROBES: usize = 3;

/// Maximum number of probe images for explanations: nine methods cost as much as a hundred passes.
const EXPLANATION_PROBES: usize = 3;

/// The observers that run at least once, in the order of [`OBSERVERS`].
pub(super) fn scheduled(resolved: &Resolved, device: Device, threads: usize) -> Vec<ScheduledObserver<Record>> {
    let config = &resolved.config;
    let space = FeatureSpace::new(config.probe_seed);
    let wanted = OBSERVERS.iter().map(|row| (row, config.trigger(row.observed)));
    wanted
        .filter(|(_, trigger)| !trigger.is_never())
        .map(|(row, trigger)| {
            ScheduledObserver::new(trigger, observer(row.observed, resolved, &space, device, threads), row.name)
        })
        .collect()
}

fn observer(
    observed: Observed,
    resolved: &Resolved,
    space: &FeatureSpace,
    device: Device,
    threads: usize,
) -> Box<dyn Observer<Record>> {
    let config = &resolved.config;
    let (probes, seed) = (config.probes, config.probe_seed);
    match observed {
        Observed::Texts => {
            let (configuration, environment) = (configuration(resolved), environment(device, threads));
            Box::new(Texts { configuration, environment })
        }
        Observed::Layout => Box::new(CustomScalars),
        Observed::Graph => Box::new(graphs(config, device)),
        Observed::Scalars => Box::new(EpochScalars::default()),
        Observed::Steps => Box::new(StepScalars::default()),
        Observed::Updates => Box::new(Updates::default()),
        Observed::Weights => Box::new(WeightHistograms),
        Observed::Gradients => Box::new(GradientHistograms),
        Observed::Activations => Box::new(Activations::new(seed)),
        Observed::Inputs => Box::new(Inputs),
        Observed::Filters => Box::new(Filters),
        Observed::FeatureMaps => Box::new(FeatureMaps::new(probes.min(FEATURE_MAP_PROBES), seed)),
        Observed::GradCam => Box::new(GradCam::new(probes, seed)),
        Observed::Explanations => Box::new(Explanations::new(probes.min(EXPLANATION_PROBES), seed)),
        Observed::Confusion => Box::new(Confusion),
        Observed::Classes => Box::new(Classes),
        Observed::PrCurves => Box::new(PrCurves),
        Observed::Calibration => Box::new(Calibration),
        Observed::Errors => Box::new(Errors),
        Observed::ActivationMax => Box::new(ActivationMax::new(seed)),
        Observed::Projector => Box::new(Projector::new(space.clone())),
        Observed::Pca => Box::new(PcaPlane::new(space.clone())),
        Observed::Tsne => Box::new(TsnePlane::new(space.clone())),
    }
}

fn graphs(config: &Config, device: Device) -> Graphs {
    Graphs {
        rule: config.rule(),
        device: tensorflow_device(device),
        batch_size: config.batch_size,
        precision: config.precision,
    }
}

fn configuration(resolved: &Resolved) -> Table<3> {
    let row = |(knob, text, source): (&crate::config::Knob, &str, &crate::config::Source)| {
        [knob.key.to_owned(), text.to_owned(), source.to_string()]
    };
    Table { headings: ["setting", "value", "from"], rows: resolved.values().map(row).collect() }
}

/// Environment details for reproducing the run.
fn environment(device: Device, threads: usize) -> Table<2> {
    let rows = [
        ("trainer", format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("TRAINER_REVISION"))),
        ("libtorch", env!("TRAINER_LIBTORCH_VERSION").to_owned()),
        ("device", device_text(device, threads).trim_start_matches("on ").to_owned()),
        ("processor", processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
        ("operating system", std::env::consts::OS.to_owned()),
        ("host", gethostname::gethostname().to_string_lossy().into_owned()),
        ("process", std::process::id().to_string()),
    ];
    let rows = rows.into_iter().map(|(name, value)| [name.to_owned(), value]).collect();
    Table { headings: ["what", "value"], rows }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/cpuinfo")).ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

fn tensorflow_device(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("/device:GPU:{index}"),
        _ => "/device:CPU:0".to_owned(),
    }
}
