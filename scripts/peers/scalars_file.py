#!/usr/bin/env python3
"""Write an event file of scalars with TensorFlow's record writer, as tf.summary.scalar makes them: DIRECTORY COUNT.

Steps and times grow; the last event has the step COUNT - 1. For readers that are compared.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow  # noqa: E402
from tensorflow.core.util.event_pb2 import Event  # noqa: E402

TAGS = 8
BEGAN = 1_700_000_000


def main():
    directory, count = sys.argv[1], int(sys.argv[2])
    with tensorflow.io.TFRecordWriter(f"{directory}/events.out.tfevents.{BEGAN}.bench.1.0.v2") as file:
        file.write(Event(wall_time=BEGAN, file_version="brain.Event:2").SerializeToString())
        event = Event()
        value = event.summary.value.add()
        value.metadata.plugin_data.plugin_name = "scalars"
        value.tensor.dtype = 1  # DT_FLOAT
        value.tensor.tensor_shape.SetInParent()
        value.tensor.float_val.append(0)
        for step in range(count):
            event.wall_time, event.step = BEGAN + step / 100, step
            value.tag = f"loss/layer_{step % TAGS:03}"
            value.tensor.float_val[0] = step / count
            file.write(event.SerializeToString())


if __name__ == "__main__":
    main()
