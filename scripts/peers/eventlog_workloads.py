"""The event log's workloads, for any writer that has torch.utils.tensorboard's interface.

The same as in benches/eventlog.rs, from the first call to a closed file; fewer events, since these writers take longer.
"""

import json
import tempfile
import time

import numpy

SCALARS = 30_000
HISTOGRAMS, HISTOGRAM_VALUES = 30, 100_000
IMAGES, IMAGE_SIDE = 200, 64


# Each workload makes its input first, and returns the number of events and when it began to write.


def scalars(writer):
    start = time.perf_counter()
    for step in range(SCALARS):
        writer.add_scalar("batch_loss", 1 / (1 + step), step)
    return SCALARS, start


def histograms(writer):
    values = numpy.random.default_rng(0).standard_normal(HISTOGRAM_VALUES, dtype=numpy.float32)
    start = time.perf_counter()
    for step in range(HISTOGRAMS):
        writer.add_histogram("dense/kernel/histogram", values, step)
    return HISTOGRAMS, start


def images(writer):
    # A ramp with some noise: neither free nor hopeless for the PNG encoder.
    ramp = numpy.linspace(0, 200, IMAGE_SIDE * IMAGE_SIDE * 3).reshape(IMAGE_SIDE, IMAGE_SIDE, 3)
    noise = numpy.random.default_rng(0).integers(0, 50, ramp.shape)
    picture = (ramp + noise).astype(numpy.uint8)
    start = time.perf_counter()
    for step in range(IMAGES):
        writer.add_image("feature_maps/conv2d", picture, step, dataformats="HWC")
    return IMAGES, start


def measure(subject, make_writer):
    """One JSON line a workload."""
    for workload in (scalars, histograms, images):
        with tempfile.TemporaryDirectory() as directory:
            writer = make_writer(directory)
            events, start = workload(writer)
            writer.close()
            seconds = time.perf_counter() - start
        print(json.dumps({"subject": subject, "workload": workload.__name__, "events_per_second": events / seconds}),
              flush=True)
