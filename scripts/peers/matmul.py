#!/usr/bin/env python3
"""Speed of 32-bit matrix products on this machine, in GFLOP/s, as one JSON object.

Two shapes, that of the second convolution over 32 images and a square one; each in one process with all threads, and in
as many processes with one thread each, which run at the same time and whose speeds are added. The largest is the limit.
"""

import argparse
import json
import multiprocessing
import time

import torch

# Rows, inner length, columns. 3872 = 32 images x 11 x 11 pixels, 288 = 32 channels x 3 x 3.
SHAPES = {"convolution": (3872, 288, 64), "square": (1024, 1024, 1024)}
SECONDS = 0.5


def speed(shape, threads):
    """GFLOP/s of products of this shape, over half a second."""
    torch.set_num_threads(threads)
    rows, inner, columns = shape
    left, right, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
    torch.mm(left, right, out=out)
    products, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SECONDS:
        torch.mm(left, right, out=out)
        products += 1
    return products * 2 * rows * inner * columns / elapsed / 1e9


def share(barrier):
    """Runs in each process of the pool."""
    global together
    together = barrier


def speed_together(shape):
    together.wait()
    return speed(shape, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    threads = parser.parse_args().threads
    found = {}
    context = multiprocessing.get_context("spawn")
    with context.Pool(threads, share, [context.Barrier(threads)]) as pool:
        for name, shape in SHAPES.items():
            found[f"{name}, {threads} processes"] = sum(pool.map(speed_together, [shape] * threads, chunksize=1))
    for name, shape in SHAPES.items():
        found[f"{name}, {threads} threads"] = speed(shape, threads)
    print(json.dumps({"gflops": found, "limit": max(found.values())}))


if __name__ == "__main__":
    main()
