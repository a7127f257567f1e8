#!/usr/bin/env python3
"""Measure how a training step scales with threads, and write docs/scaling.md: what part of it is serial, and what 16
threads would give.

Each figure is the best of the rounds: what else the machine does can only make a step slower.
"""

import argparse
import datetime
import math
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import measuring
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

ROOT = measuring.ROOT
SHARD = 32  # images, as in src/train/chain_pass.rs
BATCHES = [64, 128, 256, 512, 1024, 2048]
THREADS = [1, 2]
WANTED = 16
PARTS = ["data", "forward", "backward", "optimizer", "observers"]


def step_of(options, batch, threads):
    """Milliseconds of one step, and of its parts as the first thread sees them, in the second of two epochs: the first one
    has memory to ask for."""
    with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
        options.threads = threads
        epochs, _ = measuring.run_trainer_in(
            directory, options, "--epochs", 2, "--batch-size", batch, "--limit-train", options.images,
            "--limit-validation", SHARD, "--observe", "none,steps=every:1epoch", "--checkpoint-every", "off")
        events = EventAccumulator(f"{directory}/logs/fit/steps", size_guidance={"tensors": 0})
        events.Reload()
        step = 1000 * batch / epochs[-1]["images_per_second"]
        parts = {part: step * float(make_ndarray(events.Tensors(f"time/{part}")[-1].tensor_proto)) for part in PARTS}
    return step, parts


def measure(options):
    """(batch, threads) -> the fastest step and its parts."""
    best = {}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", flush=True)
        for batch in BATCHES:
            for threads in THREADS if number % 2 == 0 else reversed(THREADS):
                found = step_of(options, batch, threads)
                best[batch, threads] = min(best.get((batch, threads), found), found, key=lambda pair: pair[0])
    return best


def line_through(points):
    """Intercept and slope of least squares of the relative error: small batches count as much as large ones."""
    weights = [1 / (y * y) for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points)) / total
    slope = (sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points))
             / sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points)))
    return mean_y - slope * mean_x, slope


def report(best):
    loops, fitted = {}, {}
    for batch in BATCHES:
        one, parts = best[batch, 1]
        loops[batch] = max(one - sum(parts.values()), 0.0)
        # Amdahl: T(n) = serial + (T(1) - serial) / n, solved for two threads. No less than what is known to be serial.
        fitted[batch] = min(max(2 * best[batch, 2][0] - one, loops[batch]), one)
    fixed, shard = line_through([(batch / SHARD, best[batch, 1][0]) for batch in BATCHES])

    def at(batch, threads, serial):
        shards = batch // SHARD
        waves = math.ceil(shards / min(threads, shards)) / shards
        return best[batch, 1][0] / (serial + (best[batch, 1][0] - serial) * waves)

    yield "| batch | shards | step, 1 thread | step, 2 threads | speed-up | loop | optimizer | serial by Amdahl | most threads | 16 threads, by the loop alone | 16 threads, by Amdahl |"
    yield "| " + " | ".join(["---"] * 11) + " |"
    for batch in BATCHES:
        (one, parts), (two, _) = best[batch, 1], best[batch, 2]
        yield (f"| {batch} | {batch // SHARD} | {one:.2f} ms | {two:.2f} ms | {one / two:.2f} | {1000 * loops[batch]:.0f} us "
               f"| {1000 * parts['optimizer']:.0f} us | {fitted[batch]:.2f} ms, {100 * fitted[batch] / one:.1f} % | {batch // SHARD} "
               f"| {at(batch, WANTED, loops[batch]):.1f} | {at(batch, WANTED, fitted[batch]):.1f} |")
    yield ""
    yield (f"On one thread a step takes {max(fixed, 0):.2f} ms whatever its batch, and {shard:.2f} ms for each shard "
           "(a line through the column of one thread).")


def page(best, options):
    words = """# How a step scales with threads

Made by `make scaling`; every figure of the table comes from it. A batch is cut into shards of 32 images. Each shard goes
forward and backward on one thread; then the gradients of the threads' shards are added, and at the end the weights are
updated, both by all threads together, each on some of the parameters. So three things bound what more threads give:

- **Shards**: a batch has as many as there are threads that find work. They are done in waves of one shard a thread: 32 shards
  on 16 threads are two waves, 33 would be three.
- **The loop**: what stands between the parts of a step, on one thread: choosing a batch, sums of loss and hits, asking
  observers whether they want to look.
- **What threads share**: sums of gradients and the update move memory more than they compute (at least 8,192 floats a
  thread, 28 pieces in the usual network); and threads wait for the slowest.

`loop` is measured: a step of one thread, less its parts. `optimizer` is the update on one thread. `serial by Amdahl` is
solved from both columns of steps, T(n) = serial + (T(1) - serial) / n; all that two threads do less than twice as fast is in
it, also what the machine did meanwhile, and where two threads were faster than that it is the loop's. The last two columns are
T(1) / T(16) with the parallel part in whole waves, for a machine that has 16 cores and the memory for them: the truth lies
between the two if it is as the model says. It is a model: nobody has measured it with more than two threads.
"""
    yield words
    yield from report(best)
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    load = os.getloadavg()[2]
    yield ""
    yield (f"Measured {datetime.date.today()}, commit {commit.stdout.strip() or 'unknown'}; {platform.machine()}, "
           f"{len(os.sched_getaffinity(0))} cores, Linux {platform.release()}; best of {options.rounds} rounds, each the second "
           f"epoch of {options.images:,} images; load average of the quarter of an hour before the end {load:.1f} (2 is what "
           "is measured here).")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--trainer", type=Path, default=ROOT / "target" / "release" / "trainer", help="the program")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "scaling.md")
    options = parser.parse_args()
    text = "\n".join(page(measure(options), options)) + "\n"
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
