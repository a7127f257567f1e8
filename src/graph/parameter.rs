//! Parameters of a graph: names, shapes, roles, and their layout in a flat buffer.

use std::fmt;
use std::ops::Range;

use super::op::Op;
use super::path::Path;
use super::shape::Shape;

/// Parameters start at multiples of this many floats, a cache line.
const ALIGNMENT: usize = 16;

/// Purpose of a parameter. It decides the name in files, the update, and the decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Kernel,
    Bias,
    /// Factor of a normalisation, one for each channel.
    Scale,
    /// Summand of a normalisation, one for each channel.
    Offset,
    /// Statistics of batch normalisation, used by evaluation.
    RunningMean,
    RunningVariance,
}

impl Role {
    /// False for statistics: saved, but set by moments of the data instead of the optimizer.
    pub fn is_trained(self) -> bool {
        !matches!(self, Role::RunningMean | Role::RunningVariance)
    }

    /// True for kernels. Weight decay may leave out biases and normalisations, which have too few values to overfit
    /// (Goyal et al., "Accurate, Large Minibatch SGD" 2017, section 5.1, for batch normalisation).
    pub fn decays(self) -> bool {
        self == Role::Kernel
    }

    /// Keras's name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Kernel => "kernel",
            Role::Bias => "bias",
            Role::Scale => "gamma",
            Role::Offset => "beta",
            Role::RunningMean => "moving_mean",
            Role::RunningVariance => "moving_variance",
        }
    }

    /// Name in PyTorch's `state_dict`.
    pub fn state_name(self) -> &'static str {
        match self {
            Role::Kernel | Role::Scale => "weight",
            Role::Bias | Role::Offset => "bias",
            Role::RunningMean => "running_mean",
            Role::RunningVariance => "running_var",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One parameter tensor of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Path of its node.
    pub layer: String,
    pub role: Role,
    /// PyTorch's shape: `O x I x H x W` for convolutions, `O x I` for dense layers, `O` for biases.
    pub shape: Vec<i64>,
    /// Values that one output reads, and outputs that read one value; of the kernel, for biases too.
    pub(crate) fan_in: usize,
    pub(crate) fan_out: usize,
}

impl ParameterSpec {
    /// The parameters of a node, in the order of its operation's arguments.
    pub(super) fn of_node(path: &Path, op: Op, input: Shape) -> Vec<ParameterSpec> {
        let (shape, fan_in, fan_out) = match op {
            Op::Conv2d { filters, kernel } => {
                let channels = input.channels();
                let shape = [filters, channels, kernel, kernel].map(|d| d as i64).to_vec();
                (shape, channels * kernel * kernel, filters * kernel * kernel)
            }
            Op::Linear { units } => (vec![units as i64, input.len() as i64], input.len(), units),
            Op::Input | Op::MaxPool2d { .. } | Op::Activation(_) | Op::Flatten => return Vec::new(),
        };
        let out = shape[0];
        let spec = |role, shape| ParameterSpec { layer: path.as_str().to_owned(), role, shape, fan_in, fan_out };
        vec![spec(Role::Kernel, shape), spec(Role::Bias, vec![out])]
    }

    /// Name in TensorBoard, as Keras writes it: `conv2d/kernel`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.layer.replace('.', "/"), self.role)
    }

    /// Name in a weights file, as in PyTorch's `state_dict`: `conv2d.weight`.
    pub fn state_name(&self) -> String {
        format!("{}.{}", self.layer, self.role.state_name())
    }

    pub fn len(&self) -> usize {
        self.shape.iter().map(|&d| d as usize).product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Strides of the view: channels last for convolution kernels, which oneDNN runs faster on a CPU.
    pub(crate) fn strides(&self) -> Vec<i64> {
        match self.shape[..] {
            [_, i, h, w] => vec![i * h * w, 1, w * i, i],
            [_, i] => vec![i, 1],
            _ => vec![1],
        }
    }
}

fn padded(len: usize) -> usize {
    len.div_ceil(ALIGNMENT) * ALIGNMENT
}

/// Length of the flat buffer of the trained parameters, gaps included.
pub(crate) fn flat_len(specs: &[ParameterSpec]) -> usize {
    specs.iter().filter(|spec| spec.role.is_trained()).map(|spec| padded(spec.len())).sum()
}

/// Range of each parameter in its flat buffer: trained parameters share one, statistics another.
pub(crate) fn ranges(specs: &[ParameterSpec]) -> Vec<Range<usize>> {
    let mut next = [0; 2];
    let range = |spec: &ParameterSpec| {
        let next = &mut next[usize::from(spec.role.is_trained())];
        let start = *next;
        *next += padded(spec.len());
        start..start + spec.len()
    };
    specs.iter().map(range).collect()
}
