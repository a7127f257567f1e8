//! A thousand explanations leave memory level. The test is a process of its own, so nothing else changes the
//! measurement.

#![allow(clippy::unwrap_used, reason = "a test program: whatever fails, fails the test")]

use tch::{Device, Kind, Tensor};

use trainer::explain::{IntegratedGradients, Method, Occlusion, Settings, SmoothGrad, explain};
use trainer::model::Architecture;
use trainer::types::{ImageShape, Seed};
use trainer::weights::Weights;

/// Makes the allocator return freed memory at once: memory kept from earlier calls would hide growth in later ones.
const SETTING: (&str, &str) = ("MALLOC_CONF", "abort_conf:true,dirty_decay_ms:0,muzzy_decay_ms:0");
/// Explanations that are measured, and those before them.
const CALLS: usize = 1000;
const WARM_UP: usize = 180;
const MIB: u64 = 1 << 20;
/// The smallest page size; with larger pages growth is underestimated, and still seen.
const PAGE: u64 = 4096;

/// Resident bytes of this process.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * PAGE
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_explanations_leave_memory_level() {
    let (variable, value) = SETTING;
    if std::env::var_os(variable).is_none_or(|set| set != value) {
        // The allocator reads it before `main`.
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        assert!(again.arg("--nocapture").env(variable, value).status().unwrap().success());
        return;
    }
    // Waiting threads cost more than these small tensors.
    tch::set_num_threads(1);
    let shape = ImageShape { height: 16, width: 16, channels: 3 };
    let architecture = Architecture { conv_filters: vec![4, 8], kernel_size: 3, dense_units: 16 };
    let network = architecture.build(shape, 10).unwrap();
    let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
    let images = Tensor::arange(2 * 3 * 16 * 16, (Kind::Float, Device::Cpu)).sin().abs().view([2, 3, 16, 16]);
    let settings = Settings {
        integrated_gradients: IntegratedGradients { steps: 8, ..IntegratedGradients::default() },
        smooth_grad: SmoothGrad { samples: 8, ..SmoothGrad::default() },
        occlusion: Occlusion { stride: Some(4), ..Occlusion::default() },
    };
    let mut values = 0;
    let mut call = |number: usize| {
        let method = Method::ALL[number % Method::ALL.len()];
        let node = network.layer(["conv2d", "conv2d_1"][number % 2]).map(|layer| layer.value);
        let found = explain(method, &network, parameters.views(), &images, node, &[number % 10, 3], &settings);
        values += found.iter().map(|explanation| explanation.map.values().len()).sum::<usize>();
    };
    (0..WARM_UP).for_each(&mut call);
    let before = resident();
    (0..CALLS).for_each(&mut call);
    let grown = resident().saturating_sub(before);
    assert!(values > CALLS * 2 * 25, "something was explained");
    // A leak of 6 kB per call would exceed the limit.
    assert!(grown < 5 * MIB, "{CALLS} explanations took {grown} bytes and kept them");
}
