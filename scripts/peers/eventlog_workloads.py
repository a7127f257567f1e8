"""The event log's workloads, for any writer that has torch.utils.tensorboard's interface.

The same as in benches/eventlog.rs, from the first call to a closed file; fewer events, since these writers take longer.
"""

import json
import tempfile
import time

import numpy

SCALARS = 30_000
HISTOGRAMS, HISTOGRAM_VALUES = 30, 100_000
LARGE_HISTOGRAMS, LARGE_HISTOGRAM_VALUES = 3, 10_000_000
IMAGES, IMAGE_SIDE = 200, 64


# Each workload makes its input first, and returns the number of events and when it began to write.


def scalars(writer):
    tags = [f"loss/layer_{i:03}" for i in range(8)]
    start = time.perf_counter()
    for step in range(SCALARS):
        writer.add_scalar(tags[step % 8], float(step), step)
    return SCALARS, start


def histograms(writer):
    return _histograms(writer, HISTOGRAMS, HISTOGRAM_VALUES)


def large_histograms(writer):
    return _histograms(writer, LARGE_HISTOGRAMS, LARGE_HISTOGRAM_VALUES)


def _histograms(writer, count, size):
    random = numpy.random.default_rng(0)
    values = sum(random.random(size, dtype=numpy.float32) - numpy.float32(0.5) for _ in range(4))
    start = time.perf_counter()
    for step in range(count):
        writer.add_histogram(f"loss/layer_{step % 8:03}", values, step)
    return count, start


def images(writer):
    random = numpy.random.default_rng(0)
    x, y = numpy.arange(IMAGE_SIDE)[None, :], numpy.arange(IMAGE_SIDE)[:, None]
    pictures = []
    for _ in range(16):
        red = x * 3 + random.integers(0, 16, (IMAGE_SIDE, IMAGE_SIDE))
        pictures.append(numpy.stack(numpy.broadcast_arrays(red, y * 3, x + y), axis=2).astype(numpy.uint8))
    start = time.perf_counter()
    for step in range(IMAGES):
        writer.add_image(f"loss/layer_{step % 8:03}", pictures[step % 16], step, dataformats="HWC")
    return IMAGES, start


def measure(subject, make_writer):
    """One JSON line a workload."""
    for workload in (scalars, histograms, large_histograms, images):
        with tempfile.TemporaryDirectory() as directory:
            writer = make_writer(directory)
            events, start = workload(writer)
            writer.close()
            seconds = time.perf_counter() - start
        print(json.dumps({"subject": subject, "workload": workload.__name__.replace("_", "-"),
                          "events_per_second": events / seconds}), flush=True)
