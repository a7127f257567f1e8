#!/usr/bin/env python3
"""The network, initialisation and optimizer of `trainer` in Keras 3 on TensorFlow, as typical code: `fit` of arrays.

Nothing is tuned away: Keras compiles the step with XLA by itself. `--tensorboard` adds its callback, with curves,
histograms and pictures of the weights each epoch, and the graph. It writes no curves between epochs: where
`update_freq` is a number, Keras 3.15 leaves out all that belongs to an epoch unless its last step is a multiple of that
number.

Prints one JSON object. Of each epoch it has `val_accuracy`; `seconds` of all of it, with what is logged and the
validation; and `images_per_second` of its training steps alone, which includes the batches and what is logged in
between.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

# Both are read when the modules are imported.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import tensorflow  # noqa: E402
from keras import layers  # noqa: E402
from mnist import load  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data" / "mnist",
                        help="directory of the four IDX files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--limit-train", type=int)
    parser.add_argument("--steps", type=int, help="stop after so many training steps, without a validation")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="log with keras.callbacks.TensorBoard")
    parser.add_argument("--json", action="store_true", help="only the JSON object, no line an epoch")
    return parser.parse_args()


def floats(directory, part, limit=None):
    """Images from 0 to 1 in NHWC, and labels."""
    images, labels = load(directory, part)
    return images[:limit, :, :, None].astype("float32") / 255, labels[:limit].astype("int64")


def network():
    """225,034 parameters."""
    return keras.Sequential([
        layers.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ])


class Clock(keras.callbacks.Callback):
    """Times epochs. It has to be the last callback, so that what the others do at the end of an epoch counts."""

    def __init__(self, images):
        super().__init__()
        self.images, self.epochs = images, []

    def on_epoch_begin(self, epoch, logs=None):
        self.began, self.trained = time.perf_counter(), None

    def on_test_begin(self, logs=None):
        self.trained = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append({
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "val_accuracy": float(logs["val_accuracy"]),
            "images_per_second": self.images / (self.trained - self.began),
            "seconds": time.perf_counter() - self.began,
        })


def main():
    options = arguments()
    tensorflow.config.threading.set_intra_op_parallelism_threads(options.threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(options.threads)
    keras.utils.set_random_seed(options.seed)
    images, labels = floats(options.data_dir, "train", options.limit_train)
    validation = floats(options.data_dir, "t10k")
    model = network()
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = Clock(len(labels))
    if options.steps:
        count = options.steps * options.batch_size
        model.fit(images[:count], labels[:count], batch_size=options.batch_size, verbose=0)
    else:
        callbacks = []
        if options.tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(
                options.tensorboard, histogram_freq=1, write_graph=True, write_images=True))
        model.fit(images, labels, batch_size=options.batch_size, epochs=options.epochs, validation_data=validation,
                  callbacks=[*callbacks, clock], verbose=0 if options.json else 2)
    print(json.dumps({
        "keras": keras.__version__,
        "tensorflow": tensorflow.__version__,
        "seed": options.seed,
        "threads": options.threads,
        "val_accuracy": clock.epochs[-1]["val_accuracy"] if clock.epochs else None,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "epochs": clock.epochs,
    }))


if __name__ == "__main__":
    main()
