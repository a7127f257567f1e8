#!/usr/bin/env python3
"""Throughput of TensorFlow's summary writer (tf.summary), as JSON lines."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow  # noqa: E402
from eventlog_workloads import measure  # noqa: E402
from tensorflow import summary  # noqa: E402


class SummaryWriter:
    """tf.summary with torch.utils.tensorboard's interface; the writer is the default one from beginning to end."""

    def __init__(self, directory):
        self.writer = summary.create_file_writer(directory)
        self.default = self.writer.as_default()
        self.default.__enter__()

    def add_scalar(self, tag, value, step):
        summary.scalar(tag, value, step)

    def add_histogram(self, tag, values, step):
        summary.histogram(tag, values, step)

    def add_image(self, tag, picture, step, dataformats):
        assert dataformats == "HWC"
        summary.image(tag, picture[None], step)

    def close(self):
        self.default.__exit__(None, None, None)
        self.writer.close()


# TensorFlow's one-time initialisation is not part of the measurement.
tensorflow.constant(0) + 1
measure("TensorFlow", SummaryWriter)
