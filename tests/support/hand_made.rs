//! Hand-made runs in any state, and directory listings.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::Sandbox;

/// Creates a finished run that ended `minutes` after the start of 2020.
pub fn finished(sandbox: &Sandbox, name: &str, minutes: u64, accuracy: f64) {
    unfinished(sandbox, name, minutes);
    let result = serde_json::json!({
        "version": 1, "status": "finished", "epochs": 3, "iterations": 12, "validation_accuracy": accuracy,
        "best_validation_accuracy": accuracy,
    });
    sandbox.write(&format!("{name}/model.safetensors"), "weights");
    dated(&sandbox.write(&format!("{name}/result.json"), result.to_string()), minutes);
}

pub fn unfinished(sandbox: &Sandbox, name: &str, minutes: u64) {
    for (file, content) in [
        ("config.toml", "epochs = 5  # command line\ndataset = \"synthetic\"\n"),
        ("run.lock", "1\n"),
        ("train/x", "x"),
    ] {
        dated(&sandbox.write(&format!("{name}/{file}"), content), minutes);
    }
}

pub fn stopped(sandbox: &Sandbox, name: &str, minutes: u64) {
    unfinished(sandbox, name, minutes);
    let manifest = r#"{"step": 938, "facts": {"epoch": 2, "validation_accuracy": 0.5}}"#;
    sandbox.write(&format!("{name}/checkpoints/ckpt-000000000938/manifest.json"), manifest);
    let checkpoints = sandbox.path(name).join("checkpoints");
    dated(&checkpoints.join("ckpt-000000000938"), minutes);
    dated(&checkpoints, minutes);
}

fn dated(path: &Path, minutes: u64) {
    const YEAR_2020: u64 = 1_577_836_800;
    File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(YEAR_2020 + 60 * minutes)).unwrap();
}

/// The names in a directory.
pub fn names(sandbox: &Sandbox, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.path(dir)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
