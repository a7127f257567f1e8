#!/usr/bin/env python3
"""The same network, data, initialisation, optimizer and batches in eager PyTorch: the peer of `trainer`.

Prints one JSON object: accuracy on the test set after each epoch, images per second, seconds, peak memory. The data set
lies in memory as bytes and a batch is one gather, so no data loader stands in the way of the comparison.
"""

import argparse
import json
import resource
import struct
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data" / "mnist", help="directory of the four IDX files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--limit-train", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--channels-last", action="store_true", help="NHWC strides for images and filters")
    parser.add_argument("--fused", action="store_true", help="the fused Adam")
    parser.add_argument("--summary-writer", type=Path, metavar="DIR",
                        help="write curves, histograms, the graph and feature maps with torch.utils.tensorboard")
    parser.add_argument("--update-freq", type=int, default=100, help="iterations between two points of a batch curve")
    parser.add_argument("--json", action="store_true", help="only the JSON object, no line an epoch")
    return parser.parse_args()


def read_idx(path):
    data = path.read_bytes()
    zero, kind, rank = struct.unpack(">HBB", data[:4])
    if zero != 0 or kind != 8:
        sys.exit(f"{path}: not an IDX file of bytes")
    shape = struct.unpack(f">{rank}I", data[4:4 + 4 * rank])
    values = torch.frombuffer(bytearray(data[4 + 4 * rank:]), dtype=torch.uint8)
    return values.reshape(shape)


def load(directory, part):
    images = read_idx(directory / f"{part}-images-idx3-ubyte").unsqueeze(1)
    labels = read_idx(directory / f"{part}-labels-idx1-ubyte").long()
    return images, labels


class Cnn(nn.Module):
    """225,034 parameters; Keras's initialisation: Glorot uniform weights, zero biases."""

    def __init__(self):
        super().__init__()
        self.conv2d = nn.Conv2d(1, 32, 3)
        self.conv2d_1 = nn.Conv2d(32, 64, 3)
        self.dense = nn.Linear(1600, 128)
        self.dense_1 = nn.Linear(128, 10)
        for layer in self.children():
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, images_nchw):
        x = functional.relu(functional.max_pool2d(self.conv2d(images_nchw), 2))
        x = functional.relu(functional.max_pool2d(self.conv2d_1(x), 2))
        x = functional.relu(self.dense(x.flatten(1)))
        return self.dense_1(x)


def batch_of(images, indices, memory_format):
    return images[indices].to(torch.float32).div_(255).contiguous(memory_format=memory_format)


@torch.no_grad()
def evaluate(model, images, labels, memory_format):
    correct = 0
    for indices in torch.arange(len(labels)).split(500):
        correct += (model(batch_of(images, indices, memory_format)).argmax(1) == labels[indices]).sum().item()
    return correct / len(labels)


class Watcher:
    """What a person would log by hand to see about as much as `trainer` shows."""

    def __init__(self, directory, model, probe):
        from torch.utils.tensorboard import SummaryWriter
        self.writer = SummaryWriter(str(directory))
        self.writer.add_graph(model, probe)
        self.probe = probe

    def step(self, loss, iteration):
        self.writer.add_scalar("batch_loss", loss.item(), iteration)

    def epoch(self, model, epoch, loss, accuracy):
        self.writer.add_scalar("epoch_loss", loss, epoch)
        self.writer.add_scalar("epoch_accuracy", accuracy, epoch)
        for name, parameter in model.named_parameters():
            self.writer.add_histogram(name, parameter, epoch)
        with torch.no_grad():
            maps = functional.relu(model.conv2d(self.probe))
            tiles = maps.transpose(0, 1)[:, :1]
            self.writer.add_images("feature_maps/conv2d", tiles / tiles.amax().clamp(min=1e-12), epoch)

    def close(self):
        self.writer.close()


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    images, labels = load(options.data_dir, "train")
    if options.limit_train:
        images, labels = images[:options.limit_train], labels[:options.limit_train]
    test_images, test_labels = load(options.data_dir, "t10k")
    model = Cnn().to(memory_format=memory_format)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=options.fused or None)
    watcher = None
    if options.summary_writer:
        watcher = Watcher(options.summary_writer, model, batch_of(test_images, torch.arange(8), memory_format))

    epochs = []
    iteration = 0
    for epoch in range(options.epochs):
        start = time.perf_counter()
        total_loss = torch.zeros(())
        for indices in torch.randperm(len(labels)).split(options.batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(model(batch_of(images, indices, memory_format)), labels[indices])
            loss.backward()
            optimizer.step()
            total_loss += loss.detach() * len(indices)
            iteration += 1
            if watcher and iteration % options.update_freq == 0:
                watcher.step(loss, iteration)
        trained = time.perf_counter()
        accuracy = evaluate(model, test_images, test_labels, memory_format)
        if watcher:
            watcher.epoch(model, epoch, total_loss.item() / len(labels), accuracy)
        epochs.append({
            "epoch": epoch + 1,
            "loss": total_loss.item() / len(labels),
            "val_accuracy": accuracy,
            "images_per_second": len(labels) / (trained - start),
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
