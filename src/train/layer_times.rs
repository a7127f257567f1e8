//! Times of the operations of a training step, measured on a batch before the first step by the passes that train.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Reduction, Tensor};

use crate::data::{Batch, Split};
use crate::engine::{CrossEntropy, Engine, FusedEngine, Objective, SHARD};
use crate::floats::floats;
use crate::forward::Program;
use crate::graph::{Graph, Plan, Step};
use crate::model::Precision;
use crate::trace::{Part, Trace};
use crate::weights::Weights;

/// Multiply-accumulates of a forward pass that the number of images on the CPU is cut to: a large network then costs its
/// run little more than a small one does.
const MACS: usize = 100_000_000;
/// Passes, of whose times the shortest counts: what disturbs a measurement only ever adds to it.
const PASSES: usize = 3;
/// Time after which no further pass begins, once there are two; the first one warms up.
const LONG_ENOUGH: Duration = Duration::from_millis(10);
/// The name of the loss among the layers of a trace.
const LOSS: &str = "loss";

/// Times of a step's passes through one batch, on one thread of the CPU or on the device.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTimes {
    /// Images in the batch.
    pub images: usize,
    /// In the order of the steps of the [`Plan`] for the logits.
    pub operations: Vec<OperationTime>,
    pub loss: PassTime,
}

/// Time of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationTime {
    Own(PassTime),
    /// Computed in one sweep with the operation of this position, whose time is that of both.
    Within(usize),
}

/// Forward, and all of the backward pass that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassTime {
    pub forward: Duration,
    pub backward: Duration,
}

impl LayerTimes {
    /// The shortest times of a few passes through the first images of `split`, by what a step of so many images in
    /// `precision` uses on the parameters' device. Large batches on the CPU are not measured whole: there a batch takes as
    /// long as its images do. Nothing of the run is touched.
    pub fn measure(
        network: &Graph,
        parameters: &Weights,
        split: &Split,
        batch_size: usize,
        precision: Precision,
    ) -> LayerTimes {
        let device = parameters.device();
        let images = batch_size.clamp(1, split.len().max(1));
        let is_sharded = device == Device::Cpu && precision == Precision::F32;
        let fused = if is_sharded { FusedEngine::of(network) } else { None };
        let affordable = (MACS / network.macs().max(1)).max(1);
        let most = match device {
            Device::Cpu if is_sharded => affordable.min(SHARD),
            Device::Cpu => affordable,
            _ => images,
        };
        let measured = images.min(most).min(split.len());
        let times = match (fused, floats(parameters.flat())) {
            (Some(mut engine), Some(values)) => {
                let samples: Vec<u32> = (0..).take(measured).collect();
                let labels: Vec<u16> = (0..measured).map(|sample| split.label(sample)).collect();
                engine.load(split, &samples);
                shortest(|| by_kernels(&mut engine, values, &labels, network))
            }
            _ => {
                let libtorch = Libtorch::new(network, parameters, split, measured, precision);
                shortest(|| libtorch.pass())
            }
        };
        times.of_batch(images, measured)
    }

    /// The times of `images` images from those of `measured`.
    fn of_batch(mut self, images: usize, measured: usize) -> LayerTimes {
        let scaled = |time: Duration| time.mul_f64(images as f64 / measured.max(1) as f64);
        let times = self.operations.iter_mut().filter_map(|time| match time {
            OperationTime::Own(time) => Some(time),
            OperationTime::Within(_) => None,
        });
        for time in times.chain([&mut self.loss]) {
            *time = PassTime { forward: scaled(time.forward), backward: scaled(time.backward) };
        }
        self.images = images;
        self
    }

    fn shorter(self, other: LayerTimes) -> LayerTimes {
        let shorter = |a: PassTime, b: PassTime| PassTime {
            forward: a.forward.min(b.forward),
            backward: a.backward.min(b.backward),
        };
        let each = self.operations.into_iter().zip(other.operations).map(|pair| match pair {
            (OperationTime::Own(a), OperationTime::Own(b)) => OperationTime::Own(shorter(a, b)),
            (other, _) => other,
        });
        LayerTimes { images: self.images, operations: each.collect(), loss: shorter(self.loss, other.loss) }
    }
}

fn shortest(mut pass: impl FnMut() -> LayerTimes) -> LayerTimes {
    let started = Instant::now();
    let mut times = pass();
    for done in 1..PASSES {
        if done >= 2 && started.elapsed() > LONG_ENOUGH {
            break;
        }
        times = times.shorter(pass());
    }
    times
}

/// Times of one shard, from the spans that the fused kernels record.
fn by_kernels(engine: &mut FusedEngine, parameters: &[f32], labels: &[u16], network: &Graph) -> LayerTimes {
    let trace = Trace::start();
    *engine.spans() = trace.spans();
    engine.forward(parameters);
    let mut probabilities = Vec::new();
    let started = engine.spans().start_layer();
    CrossEntropy.judge(engine.logits(), labels, &mut probabilities);
    engine.spans().end(started, Part::Forward, LOSS);
    let started = engine.spans().start_layer();
    CrossEntropy.cotangents(labels, 1.0, &mut probabilities);
    engine.spans().end(started, Part::Backward, LOSS);
    engine.backward(parameters, &probabilities);
    engine.spans().flush();
    of_spans(&layers(network), &trace.totals(Part::Forward), &trace.totals(Part::Backward))
}

/// From the time of each span by its name, which is that of a layer, or those of several with `+` between: then the first
/// of them has the time.
fn of_spans(
    layers: &[String],
    forward: &BTreeMap<String, Duration>,
    backward: &BTreeMap<String, Duration>,
) -> LayerTimes {
    let of = |name: &str| PassTime {
        forward: forward.get(name).copied().unwrap_or_default(),
        backward: backward.get(name).copied().unwrap_or_default(),
    };
    let leader = |name: &str| {
        let span = forward.keys().find(|span| span.split('+').any(|layer| layer == name))?;
        let first = span.split('+').next()?;
        let position = layers.iter().position(|other| other == first)?;
        Some((position, span))
    };
    let time = |(index, name): (usize, &String)| match leader(name) {
        Some((position, _)) if position != index => OperationTime::Within(position),
        Some((_, span)) => OperationTime::Own(of(span)),
        None => OperationTime::Own(PassTime::default()),
    };
    let operations = layers.iter().enumerate().map(time).collect();
    LayerTimes { images: 0, operations, loss: of(LOSS) }
}

/// Name of the layer in whose scope each step of a forward pass is.
fn layers(network: &Graph) -> Vec<String> {
    let layer = |step: &Step| network.layers().get(step.layer).map(|layer| layer.name.clone());
    Plan::new(network, &[network.taps().logits]).steps().iter().filter_map(layer).collect()
}

/// libtorch's operations, one after the other, each with a backward pass of its own. Gradients are of copies of the leaves
/// and go nowhere.
struct Libtorch {
    program: Program,
    /// In the precision of the steps.
    weights: Vec<Tensor>,
    leaves: Vec<Tensor>,
    batch: Batch,
    precision: Precision,
    device: Device,
}

impl Libtorch {
    fn new(network: &Graph, parameters: &Weights, split: &Split, images: usize, precision: Precision) -> Libtorch {
        let indices: Vec<u32> = (0..).take(images).collect();
        let device = parameters.device();
        let batch = Batch::gather(split, &indices, device);
        let weights: Vec<Tensor> =
            parameters.views().iter().map(|view| view.detach().to_kind(precision.kind())).collect();
        let leaves = weights.iter().map(|weight| weight.detach().set_requires_grad(true)).collect();
        let program = Program::new(network, &[network.taps().logits]);
        Libtorch { program, weights, leaves, batch, precision, device }
    }

    fn pass(&self) -> LayerTimes {
        let Libtorch { program, weights, leaves, batch, precision, device } = self;
        let steps = program.plan().steps();
        let parameters: Vec<Range<usize>> = program.parameters().collect();
        let first = parameters.iter().position(|own| !own.is_empty()).unwrap_or(steps.len());
        let mut times = Vec::with_capacity(steps.len());
        let mut values: Vec<Option<Tensor>> = (0..program.plan().slots()).map(|_| None).collect();
        values[0] = Some(batch.images_nchw.to_kind(precision.kind()));
        let mut x = batch.images_nchw.shallow_clone();
        for (index, step) in steps.iter().enumerate() {
            let read: Vec<&Tensor> = step.inputs.iter().flat_map(|id| &values[id.index()]).collect();
            let (output, forward) = timed(*device, || tch::no_grad(|| program.apply(index, weights, &read)));
            let mut backward = Duration::ZERO;
            if index >= first {
                let own: Vec<Tensor> =
                    read.iter().map(|value| value.detach().set_requires_grad(index > first)).collect();
                let mut inputs: Vec<Tensor> =
                    own.iter().filter(|leaf| leaf.requires_grad()).map(Tensor::shallow_clone).collect();
                inputs.extend(leaves[parameters[index].clone()].iter().map(Tensor::shallow_clone));
                let own: Vec<&Tensor> = own.iter().collect();
                // A backward pass begins at a number. What the step to that number takes is not of the operation.
                let ones = output.ones_like();
                let whole = self.backward_of(&(program.apply(index, leaves, &own) * &ones), &inputs);
                let end = output.detach().set_requires_grad(true);
                let less = self.backward_of(&(&end * &ones), std::slice::from_ref(&end));
                backward = whole.saturating_sub(less);
            }
            times.push(OperationTime::Own(PassTime { forward, backward }));
            x = output.shallow_clone();
            step.drops.iter().for_each(|id| values[id.index()] = None);
            values[step.output.index()] = Some(output);
        }
        let logits = x.detach().to_kind(Kind::Float).set_requires_grad(true);
        let entropy = |reduction| logits.cross_entropy_loss::<Tensor>(&batch.labels_n, None, reduction, -100, 0.0);
        let (_, forward) = timed(*device, || tch::no_grad(|| entropy(Reduction::None)));
        let mean = entropy(Reduction::Mean);
        let (_, backward) = timed(*device, || Tensor::run_backward(&[&mean], &[&logits], false, false));
        LayerTimes { images: 0, operations: times, loss: PassTime { forward, backward } }
    }

    fn backward_of(&self, output: &Tensor, inputs: &[Tensor]) -> Duration {
        let root = output.sum(Kind::Float);
        timed(self.device, || Tensor::run_backward(&[&root], inputs, false, false)).1
    }
}

/// Result and time of `work`, on the device too.
fn timed<T>(device: Device, work: impl FnOnce() -> T) -> (T, Duration) {
    let wait = || {
        if let Device::Cuda(index) = device {
            tch::Cuda::synchronize(index as i64);
        }
    };
    wait();
    let started = Instant::now();
    let result = work();
    wait();
    (result, started.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use crate::types::{ImageShape, Seed};

    const SHAPE: ImageShape = ImageShape { height: 12, width: 10, channels: 1 };

    fn network(conv_filters: &[usize]) -> Graph {
        let architecture = Architecture { conv_filters: conv_filters.to_vec(), kernel_size: 3, dense_units: 8 };
        architecture.build(SHAPE, 5).unwrap()
    }

    fn measured(conv_filters: &[usize], precision: Precision) -> LayerTimes {
        let network = network(conv_filters);
        let parameters = Weights::initialise(&network, Seed(1), Device::Cpu);
        let before = parameters.flat().copy();
        let split = Split::new(SHAPE, 5, vec![100; 70 * SHAPE.len()], vec![1; 70]).unwrap();
        let times = LayerTimes::measure(&network, &parameters, &split, 64, precision);
        assert_eq!(*parameters.flat(), before);
        assert!(parameters.views().iter().all(|view| !view.requires_grad() && !view.grad().defined()));
        assert_eq!((times.images, times.operations.len()), (64, layers(&network).len()));
        times
    }

    fn own(times: &LayerTimes) -> Vec<PassTime> {
        let own = times.operations.iter().filter_map(|time| match time {
            OperationTime::Own(time) => Some(*time),
            OperationTime::Within(_) => None,
        });
        own.collect()
    }

    #[test]
    fn what_trains_is_what_is_measured() {
        use OperationTime::{Own, Within};
        // conv2d, pooling, ReLU; conv2d_1, pooling, ReLU; flatten; dense, ReLU; dense_1.
        let fused = measured(&[4, 6], Precision::F32);
        let within: Vec<Option<usize>> = fused
            .operations
            .iter()
            .map(|time| match time {
                Own(_) => None,
                Within(position) => Some(*position),
            })
            .collect();
        assert_eq!(within, [None, Some(0), Some(0), None, Some(3), Some(3), None, None, Some(7), None]);
        // Steps in other numbers are libtorch's, of which each operation is one of its own.
        let libtorchs = measured(&[4, 6], Precision::Bf16);
        assert!(libtorchs.operations.iter().all(|time| matches!(time, Own(_))));
        for times in [&fused, &libtorchs] {
            assert!(own(times).iter().all(|time| time.forward > Duration::ZERO));
            assert!(times.loss.forward > Duration::ZERO && times.loss.backward > Duration::ZERO);
        }
        assert!(own(&fused).iter().all(|time| time.backward > Duration::ZERO));
        // Nothing goes back through a flatten that has no weights below it.
        assert_eq!(own(&measured(&[], Precision::F32))[0].backward, Duration::ZERO);
    }

    #[test]
    fn the_time_of_a_sweep_is_at_the_first_of_its_layers() {
        let network = network(&[4]);
        let micros = |spans: &[(&str, u64)]| -> BTreeMap<String, Duration> {
            spans.iter().map(|&(name, micros)| (name.to_owned(), Duration::from_micros(micros))).collect()
        };
        let forward = micros(&[("conv2d+max_pooling2d", 9), ("flatten", 1), ("dense", 5), ("dense_1", 2), ("loss", 3)]);
        let backward = micros(&[("conv2d+max_pooling2d", 7), ("dense", 6), ("dense_1", 4), ("loss", 8)]);
        let times = of_spans(&layers(&network), &forward, &backward).of_batch(64, 32);
        let time = |forward, backward| PassTime {
            forward: Duration::from_micros(forward),
            backward: Duration::from_micros(backward),
        };
        // conv2d, pooling, ReLU, flatten, dense, ReLU, dense_1
        let want = [
            OperationTime::Own(time(18, 14)),
            OperationTime::Within(0),
            OperationTime::Within(0),
            OperationTime::Own(time(2, 0)),
            OperationTime::Own(time(10, 12)),
            OperationTime::Within(4),
            OperationTime::Own(time(4, 8)),
        ];
        assert_eq!((times.operations.as_slice(), times.loss), (want.as_slice(), time(6, 16)));
    }
}
