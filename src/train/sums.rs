//! Sums over steps: losses, hits, samples, and times of the phases.

use std::time::Instant;

use tch::{Device, Tensor};

use super::observer::{PhaseSeconds, Totals};
use super::stepper::StepOutput;

/// The running sums; loss and hits stay on the device until somebody reads them.
pub(super) struct Sums {
    loss_sum: Tensor,
    correct: Tensor,
    samples: u64,
    pub seconds: PhaseSeconds,
    /// Start of the running stretch of training; the wall clock stands still between stretches.
    running_since: Option<Instant>,
}

impl Sums {
    pub fn new(totals: &Totals, device: Device) -> Sums {
        Sums {
            loss_sum: Tensor::from(totals.loss_sum).to_device(device),
            correct: Tensor::from(totals.correct as i64).to_device(device),
            samples: totals.samples,
            seconds: totals.seconds,
            running_since: None,
        }
    }

    pub fn start_clock(&mut self) {
        self.running_since = Some(Instant::now());
    }

    pub fn stop_clock(&mut self) {
        self.seconds.total += self.running_since.take().map_or(0.0, |since| since.elapsed().as_secs_f64());
    }

    pub fn add(&mut self, output: &StepOutput) {
        let _ = self.loss_sum.g_add_(&output.loss_sum);
        let _ = self.correct.g_add_(&output.correct);
        self.samples += output.samples as u64;
        self.seconds = self.seconds.plus(&output.seconds);
    }

    /// Waits for the device.
    pub fn read(&mut self) -> Totals {
        let (loss_sum, correct) = (self.loss_sum.double_value(&[]), self.correct.int64_value(&[]) as u64);
        if self.running_since.is_some() {
            self.stop_clock();
            self.start_clock();
        }
        Totals { loss_sum, correct, samples: self.samples, seconds: self.seconds }
    }
}
