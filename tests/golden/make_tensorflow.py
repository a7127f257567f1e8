"""Writes tests/golden/tensorflow.tfevents with TensorFlow's own writer.

    python -m venv v && v/bin/pip install tensorflow-cpu==2.21.0 tensorboard==2.21.0 && v/bin/python tests/golden/make_tensorflow.py
"""

import glob
import os
import shutil
import tempfile

import numpy as np
import tensorflow as tf

HERE = os.path.dirname(os.path.abspath(__file__))


def values():
    """Numbers with the same float32 form on every platform; tests/golden.rs recomputes them."""
    i = np.arange(1000, dtype=np.int64)
    return ((i * i * 7919 % 10007).astype(np.float32) / np.float32(10007) - np.float32(0.25)).astype(np.float32)


with tempfile.TemporaryDirectory() as logdir:
    writer = tf.summary.create_file_writer(logdir)
    with writer.as_default():
        for step in range(5):
            tf.summary.scalar("epoch_loss", 1.0 / (step + 1), step=step, description="the *loss*" if step == 0 else None)
        tf.summary.histogram("dense/kernel/histogram", values(), step=0)
        tf.summary.histogram("dense/kernel/histogram", np.full(7, 2.5, np.float32), step=1)
        tf.summary.histogram("dense/kernel/histogram", np.zeros(0, np.float32), step=2)
        picture = np.zeros((2, 4, 6, 3), np.uint8)
        picture[0, 1, 2] = (255, 128, 0)
        tf.summary.image("picture", picture, step=3)
        tf.summary.text("notes", "# Title\n\nsome *text*", step=0)
        tf.summary.audio("tone", np.zeros((1, 100, 1), np.float32), 8000, step=0)

        @tf.function
        def double(x):
            return x * 2.0

        tf.summary.graph(double.get_concrete_function(tf.TensorSpec([3], tf.float32)).graph)
    writer.close()
    [path] = glob.glob(os.path.join(logdir, "*tfevents*"))
    shutil.copyfile(path, os.path.join(HERE, "tensorflow.tfevents"))
