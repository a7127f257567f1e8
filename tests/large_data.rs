//! Memory-mapped data sets: larger than the memory limit of the program, and truncated or overwritten during the run.

#![allow(clippy::unwrap_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::Stdio;

use support::{Running, Sandbox, TRAIN_IMAGES, TRAIN_LABELS, finish, idx, small_mnist, start};

/// Numbers of images: more than 2 GiB of pixels, and the smallest file that is mapped.
const MANY: u32 = 2_740_000;
const SOME: u32 = 400_000;

/// Limit in KiB on the program's own memory. `ulimit -d` does not count mapped files.
const MEMORY_KIB: u32 = 700 << 10;

const QUICK: &str = "--dataset mnist --logdir logs/fit --observe none,steps=every:1epoch --limit-validation 20";

/// MNIST with `count` black training images of class 0 in sparse files.
fn sparse_mnist(sandbox: &Sandbox, count: u32) {
    small_mnist(sandbox, 1, 20);
    for (name, header, len) in [
        (TRAIN_IMAGES, idx(&[count, 28, 28], &[]), 784 * u64::from(count)),
        (TRAIN_LABELS, idx(&[count], &[]), count.into()),
    ] {
        let mut file = File::create(sandbox.path(name)).unwrap();
        file.write_all(&header).unwrap();
        file.set_len(header.len() as u64 + len).unwrap();
    }
}

/// The program with a memory limit below the size of the data.
fn limited(sandbox: &Sandbox, flags: &str) -> Running {
    let script = format!("ulimit -d {MEMORY_KIB} && exec {} {QUICK} {flags}", support::program());
    start(sandbox.command("sh").args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

fn wait_for(running: &mut Running, sandbox: &Sandbox, kind: &str) {
    let journal = sandbox.path("logs/fit/metrics.jsonl");
    let line = format!("\"kind\":\"{kind}\"");
    running.wait_until(kind, || std::fs::read_to_string(&journal).is_ok_and(|text| text.contains(&line)));
}

fn cut(sandbox: &Sandbox, len: u64) {
    OpenOptions::new().write(true).open(sandbox.path(TRAIN_IMAGES)).unwrap().set_len(len).unwrap();
}

#[test]
fn a_data_set_larger_than_memory_trains() {
    let sandbox = Sandbox::new();
    sparse_mnist(&sandbox, MANY);
    let mut running = limited(&sandbox, "--batch-size 256 --checkpoint-every 3steps");
    wait_for(&mut running, &sandbox, "checkpoint");
    running.signal("TERM");
    let outcome = running.finish();
    assert_eq!(outcome.code(), 75, "{}", outcome.stderr);
    assert!(outcome.says(&format!("{MANY} images")), "{}", outcome.stderr);
}

#[test]
fn where_pixels_are_changes_no_bit() {
    let weights = |count: u32| {
        let sandbox = Sandbox::new();
        sparse_mnist(&sandbox, count);
        finish(&mut sandbox.trainer(format!("{QUICK} --epochs 1 --limit-train 300").split(' '))).succeeded();
        sandbox.read("logs/fit/model.safetensors")
    };
    assert!(weights(SOME) == weights(300));
}

#[test]
fn a_file_that_is_cut_ends_the_run_and_is_named() {
    let sandbox = Sandbox::new();
    sparse_mnist(&sandbox, SOME);
    let mut running = limited(&sandbox, "");
    wait_for(&mut running, &sandbox, "start");
    cut(&sandbox, 1 << 20);
    let outcome = running.finish();
    let words = "error: data/mnist/train-images-idx3-ubyte: cannot be read any more: it was cut off while it was in use, \
                 or its disk fails\n";
    assert!(outcome.code() == 74 && outcome.stderr.ends_with(words), "{}: {}", outcome.code(), outcome.stderr);
}

#[test]
fn nothing_is_kept_of_a_file_that_has_changed() {
    let sandbox = Sandbox::new();
    sparse_mnist(&sandbox, SOME);
    let mut running = limited(&sandbox, "--limit-train 64 --epochs 100000");
    wait_for(&mut running, &sandbox, "checkpoint");
    // Within the last page the kernel returns zeros and no error.
    let len = 16 + 784 * u64::from(SOME);
    cut(&sandbox, len - 1);
    let outcome = running.finish();
    let words = format!(
        "data/mnist/train-images-idx3-ubyte: its length has changed while it was in use: got {} bytes, want {len}",
        len - 1
    );
    assert!(outcome.code() == 74 && outcome.says(&words), "{}: {}", outcome.code(), outcome.stderr);
    assert!(!sandbox.path("logs/fit/result.json").exists() && !sandbox.path("logs/fit/model.safetensors").exists());
}
