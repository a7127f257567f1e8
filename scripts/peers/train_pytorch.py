#!/usr/bin/env python3
"""The network, initialisation and optimizer of `trainer` in PyTorch, as typical code, or tuned.

Without flags: a DataLoader over tensors, convolution, ReLU and pooling in this order, the default Adam. `--in-memory`,
`--channels-last`, `--fused`, `--pool-first` and `--compile` are what can be tuned; `--summary-writer` logs.

Prints one JSON object. Of each epoch it has `val_accuracy`; `seconds` of all of it, with what is logged and the
validation; and `images_per_second` of its training steps alone, which includes the batches and what is logged in
between.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from mnist import load
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

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
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--in-memory", action="store_true", help="a batch is one gather from bytes; no DataLoader")
    parser.add_argument("--channels-last", action="store_true", help="NHWC strides for images and filters")
    parser.add_argument("--fused", action="store_true", help="the fused Adam")
    parser.add_argument("--pool-first", action="store_true", help="pooling before ReLU: the same, for less work")
    parser.add_argument("--compile", action="store_true", help="torch.compile for the network")
    parser.add_argument("--summary-writer", type=Path, metavar="DIR",
                        help="write curves, histograms, the graph and feature maps with torch.utils.tensorboard")
    parser.add_argument("--update-freq", type=int, default=100, help="iterations between two points of a batch curve")
    parser.add_argument("--json", action="store_true", help="only the JSON object, no line an epoch")
    return parser.parse_args()


class Cnn(nn.Module):
    """225,034 parameters; Keras's initialisation: Glorot uniform weights, zero biases."""

    def __init__(self, pool_first):
        super().__init__()
        self.pool_first = pool_first
        self.conv2d = nn.Conv2d(1, 32, 3)
        self.conv2d_1 = nn.Conv2d(32, 64, 3)
        self.dense = nn.Linear(1600, 128)
        self.dense_1 = nn.Linear(128, 10)
        for layer in self.children():
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def activated(self, x):
        if self.pool_first:
            return functional.relu(functional.max_pool2d(x, 2))
        return functional.max_pool2d(functional.relu(x), 2)

    def forward(self, images_nchw):
        x = self.activated(self.conv2d(images_nchw))
        x = self.activated(self.conv2d_1(x))
        x = functional.relu(self.dense(x.flatten(1)))
        return self.dense_1(x)


class Gather:
    """Batches of a data set that lies in memory as bytes: what a DataLoader does, with one gather a batch."""

    def __init__(self, images, labels, batch_size, shuffle, memory_format):
        self.images, self.labels, self.memory_format = images, labels, memory_format
        self.batch_size, self.shuffle = batch_size, shuffle

    def __iter__(self):
        order = torch.randperm if self.shuffle else torch.arange
        for indices in order(len(self.labels)).split(self.batch_size):
            images = self.images[indices].to(torch.float32).div_(255)
            yield images.contiguous(memory_format=self.memory_format), self.labels[indices]


def batches(options, part, batch_size, limit, shuffle, memory_format):
    """Yields (images_nchw, labels) each time it is iterated over."""
    images, labels = load(options.data_dir, part)
    images = torch.tensor(images[:limit]).unsqueeze(1)
    labels = torch.tensor(labels[:limit], dtype=torch.int64)
    if options.in_memory:
        return Gather(images, labels, batch_size, shuffle, memory_format)
    # As transforms.ToTensor() leaves them, but once and for all: it would cost more than the training, image by image.
    return DataLoader(TensorDataset(images.float() / 255, labels), batch_size=batch_size, shuffle=shuffle)


@torch.no_grad()
def evaluate(model, validation):
    correct = count = 0
    for images, labels in validation:
        correct += (model(images).argmax(1) == labels).sum().item()
        count += len(labels)
    return correct / count


class Watcher:
    """Manual logging that shows about as much as `trainer` does."""

    def __init__(self, directory, model, probe):
        from torch.utils.tensorboard import SummaryWriter
        self.writer = SummaryWriter(str(directory))
        self.writer.add_graph(model, probe)
        self.model, self.probe = model, probe

    def step(self, loss, iteration):
        self.writer.add_scalar("batch_loss", loss.item(), iteration)

    def epoch(self, epoch, loss, accuracy):
        self.writer.add_scalar("epoch_loss", loss, epoch)
        self.writer.add_scalar("epoch_accuracy", accuracy, epoch)
        for name, parameter in self.model.named_parameters():
            self.writer.add_histogram(name, parameter, epoch)
        with torch.no_grad():
            maps = functional.relu(self.model.conv2d(self.probe))
            tiles = maps.transpose(0, 1)[:, :1]
            self.writer.add_images("feature_maps/conv2d", tiles / tiles.amax().clamp(min=1e-12), epoch)

    def close(self):
        self.writer.close()


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    training = batches(options, "train", options.batch_size, options.limit_train, True, memory_format)
    validation = batches(options, "t10k", 1000, None, False, memory_format)
    model = Cnn(options.pool_first).to(memory_format=memory_format)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=options.fused or None)
    watcher = None
    if options.summary_writer:
        watcher = Watcher(options.summary_writer, model, next(iter(validation))[0][:8])
    forward = model
    if options.compile:
        # An empty compilation cache, so that the time of compilation can be measured.
        cache = tempfile.TemporaryDirectory(prefix="trainer-")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.name
        forward = torch.compile(model)

    epochs = []
    iteration = 0
    for epoch in range(options.epochs):
        start = time.perf_counter()
        total_loss, count = torch.zeros(()), 0
        for images, labels in training:
            optimizer.zero_grad()
            loss = functional.cross_entropy(forward(images), labels)
            loss.backward()
            optimizer.step()
            total_loss += loss.detach() * len(labels)
            count += len(labels)
            iteration += 1
            if watcher and iteration % options.update_freq == 0:
                watcher.step(loss, iteration)
            if iteration == options.steps:
                break
        trained = time.perf_counter()
        if iteration == options.steps:
            break
        accuracy = evaluate(forward, validation)
        if watcher:
            watcher.epoch(epoch, total_loss.item() / count, accuracy)
        epochs.append({
            "epoch": epoch + 1,
            "loss": total_loss.item() / count,
            "val_accuracy": accuracy,
            "images_per_second": count / (trained - start),
            "seconds": time.perf_counter() - start,
        })
        if not options.json:
            print(json.dumps(epochs[-1]), file=sys.stderr, flush=True)
    if watcher:
        watcher.close()
    print(json.dumps({
        "torch": torch.__version__,
        "seed": options.seed,
        "threads": options.threads,
        "val_accuracy": epochs[-1]["val_accuracy"] if epochs else None,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "epochs": epochs,
    }))


if __name__ == "__main__":
    main()
