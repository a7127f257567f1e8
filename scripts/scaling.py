#!/usr/bin/env python3
"""Measure how a training step scales with threads, and write docs/scaling.md: what part of it is serial, and what 16
threads would give.

Two threads are held against two runs of one thread that go on at the same time, so that a second core that is slower, or
busy with something else, is not taken for a fault of the step. A figure is the median of the rounds.
"""

import argparse
import datetime
import math
import os
import platform
import statistics
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measuring
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

ROOT = measuring.ROOT
SHARD = 32  # images, as in src/engine/mod.rs
BATCHES = [64, 128, 256, 512, 1024, 2048]
WANTED = 16
PARTS = ["data", "forward", "backward", "optimizer", "observers"]


def step_of(options, batch, threads):
    """Milliseconds of one step, and of its parts as the first thread sees them, in the second of two epochs: the first one
    has memory to ask for."""
    with tempfile.TemporaryDirectory(prefix="scaling-") as directory:
        epochs = measuring.run_trainer_in(
            directory, argparse.Namespace(trainer=options.trainer, threads=threads), "--epochs", 2, "--batch-size", batch,
            "--limit-train", options.images, "--limit-validation", SHARD, "--observe", "none,steps=every:1epoch",
            "--checkpoint-every", "off").epochs
        events = EventAccumulator(f"{directory}/logs/fit", size_guidance={"tensors": 0})
        events.Reload()
        step = 1000 * batch / epochs[-1]["images_per_second"]
        parts = {part: step * float(make_ndarray(events.Tensors(f"time/{part}")[-1].tensor_proto)) for part in PARTS}
    return step, parts


def measure(options):
    """batch -> a list of rounds, each with the steps of two runs of one thread, side by side, and of a run of two."""
    found = {batch: [] for batch in BATCHES}
    with ThreadPoolExecutor(2) as pool:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            for batch in BATCHES:
                pair = list(pool.map(lambda _: step_of(options, batch, 1), range(2)))
                found[batch].append({"one": pair, "two": step_of(options, batch, 2)[0]})
    return found


def speed_up(one, serial, batch, threads):
    """By Amdahl's law, with the parallel part in whole waves of a shard a thread."""
    shards = batch // SHARD
    return one / (serial + (one - serial) * math.ceil(shards / threads) / shards)


def report(found):
    columns = ["batch", "shards", "step, 1 thread", "step, 2 threads", "speed-up (range)", "loop", "optimizer",
               "serial by Amdahl", "16 threads, by the loop alone", "16 threads, by Amdahl"]
    yield "| " + " | ".join(columns) + " |"
    yield "| " + " | ".join(["---"] * len(columns)) + " |"
    each = []
    for batch, rounds in found.items():
        # Two runs side by side do together as many steps as their mean rate says.
        ones = [statistics.harmonic_mean([step for step, _ in entry["one"]]) for entry in rounds]
        ups = [one / entry["two"] for one, entry in zip(ones, rounds)]
        one, two, up = statistics.median(ones), statistics.median(entry["two"] for entry in rounds), statistics.median(ups)
        parts = [pair for entry in rounds for pair in entry["one"]]
        loop = statistics.median(step - sum(part.values()) for step, part in parts)
        optimizer = statistics.median(part["optimizer"] for _, part in parts)
        # T(2) = serial + (T(1) - serial) / 2. No less than what is known to be serial.
        serial = min(max((2 / up - 1) * one, loop), one)
        each.append(one * SHARD / batch)
        yield (f"| {batch} | {batch // SHARD} | {one:.2f} ms | {two:.2f} ms | {up:.2f} ({min(ups):.2f} to {max(ups):.2f}) "
               f"| {1000 * loop:.0f} us | {1000 * optimizer:.0f} us | {serial:.2f} ms, {100 * serial / one:.1f} % "
               f"| {speed_up(one, loop, batch, WANTED):.1f} | {speed_up(one, serial, batch, WANTED):.1f} |")
    yield ""
    yield f"A shard takes {statistics.median(each):.2f} ms of a step on one thread."


def page(found, options):
    yield """# Scaling of a training step with threads

Made by `make scaling`, which measures every figure of the table. A batch is cut into shards of 32 images. Each shard goes
forward and backward on one thread. Then all threads together add the gradients of the threads' shards, and at the end update
the weights, each thread for a part of the parameters. Three factors limit the speed-up:

- **Shards**: no more threads than shards have work. Shards are processed in waves of one shard per thread: 32 shards on 16
  threads are two waves, 33 would be three.
- **The loop**: the single-threaded code between the parts of a step, which chooses a batch, sums loss and hits, and checks
  the triggers of observers.
- **Shared work**: sums of gradients and the update are limited by memory bandwidth rather than computation (at least 8,192
  floats a thread, 28 pieces in the usual network), and threads wait for the slowest.

`step, 1 thread` is the time with two concurrent runs of one thread each; `speed-up` compares it with one run of two threads in
the same round. `loop` is measured: a step of one thread, less its parts. `optimizer` is the update on one thread. `serial by
Amdahl` is solved from the speed-up, T(n) = serial + (T(1) - serial) / n: it includes everything that keeps two threads from
being twice as fast, also waiting and noise; if they were faster than that, it is the loop. A wide range of the speed-up means
that two cores were not available all the time, and that the column describes the machine more than the step. The last two
columns are T(1) / T(16) with the parallel part in whole waves, for a machine with 16 cores and memory to match.
They are a model: no measurement used more than two threads.
"""
    yield from report(found)
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True,
                            check=False)
    yield ""
    yield (f"Measured {datetime.date.today()}, commit {commit.stdout.strip() or 'unknown'}; {platform.machine()}, "
           f"{len(os.sched_getaffinity(0))} cores, Linux {platform.release().split('-')[0]}; median of {options.rounds} rounds, "
           f"each the second epoch of {options.images:,} images.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--trainer", type=Path, default=ROOT / "target" / "release" / "trainer", help="the program")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "scaling.md")
    options = parser.parse_args()
    text = "\n".join(page(measure(options), options)) + "\n"
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
