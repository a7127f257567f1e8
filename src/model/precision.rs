//! Precision of a step's forward and backward pass. Weights, updates and losses are always `f32`.

use std::fmt;

use tch::Kind;

/// Number format of a step's activations and gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    F32,
    /// The range of `f32` with 8 bits of precision.
    Bf16,
    /// 11 bits of precision, up to 65,504.
    F16,
}

impl Precision {
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::F16];

    pub fn as_str(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
            Precision::F16 => Kind::Half,
        }
    }

    /// Factor of the loss before a backward pass; the gradient is divided by it afterwards. `f16` has no number between 0
    /// and 6e-8, the range of most gradients of a mean over a batch; a power of two changes no other digit.
    pub(crate) fn loss_scale(self) -> f64 {
        match self {
            Precision::F32 | Precision::Bf16 => 1.0,
            Precision::F16 => 1024.0,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
