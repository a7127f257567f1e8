"""Gain of each idea for a faster step, one after another, in PyTorch and here."""

import copy

import measuring
from bench import step
from bench.figures import figure, markdown, median, ratio_cell, ratios, rounds, spread

TITLE = "What was tried"
PACKAGES = {"peer_python": ["torch"]}
LIMITS = {}
# Enough for a few seconds; a second epoch is measured, when everything is warm.
IMAGES = 9_600

IN_MEMORY = ["--in-memory"]
LAST = [*IN_MEMORY, "--channels-last"]
FUSED = [*LAST, "--fused"]
POOLED = [*FUSED, "--pool-first"]

EAGER, ONE = "PyTorch eager", "on one thread"
LEFT = "libtorch from Rust: one flat buffer of parameters, own Adam, jemalloc, one thread"
OWN, OWN_ALL = "own passes over what pooling and ReLU left, one thread", "shards of 32 images on all threads"
# Runner of each idea: PyTorch, or benches/step.rs with an environment.
TORCH, RUST, GIVES_BACK = "torch", {}, measuring.GIVES_BACK
# An idea, what it is compared with, how it is run, flags, and threads (none: all).
IDEAS = {
    EAGER: (None, TORCH, [], None),
    "data in memory, one gather a batch": (EAGER, TORCH, IN_MEMORY, None),
    "channels-last": ("data in memory, one gather a batch", TORCH, LAST, None),
    "fused Adam": ("channels-last", TORCH, FUSED, None),
    "pooling before ReLU": ("fused Adam", TORCH, POOLED, None),
    "torch.compile of that": ("pooling before ReLU", TORCH, [*POOLED, "--compile"], None),
    ONE: ("pooling before ReLU", TORCH, POOLED, 1),
    LEFT: (ONE, RUST, ["--subject", "whole batches"], 1),
    "libtorch from Rust, freed memory given back at once": (LEFT, GIVES_BACK, ["--subject", "whole batches"], 1),
    OWN: (LEFT, RUST, ["--subject", "fused"], 1),
    "own passes, freed memory given back at once": (OWN, GIVES_BACK, ["--subject", "fused"], 1),
    OWN_ALL: (OWN, RUST, ["--subject", "fused"], None),
}


def measure(options, _earlier):
    """idea -> images per second, one number a round; and which `failed`."""
    found = {"rates": {idea: [] for idea in IDEAS}, "failed": set()}
    for number, idea in rounds(options, "tried", IDEAS):
        _, how, flags, threads = IDEAS[idea]
        own = copy.copy(options)
        own.threads = threads or options.threads
        if how != TORCH:
            found["rates"][idea] += step.bench(own, *flags, environment=how)["images_per_second"]
        elif idea not in found["failed"]:
            try:
                training = measuring.run_peer(own, "--epochs", 2, "--seed", number, "--limit-train",
                                              min(options.limit_train, IMAGES), *flags)
                found["rates"][idea].append(training.epochs[-1]["images_per_second"])
            except measuring.Failed:
                # Not every machine has the tools to compile.
                found["failed"].add(idea)
    for idea in found["failed"]:
        del found["rates"][idea]
    return found


def held(_found):
    return {}


def text(options, found):
    rows = []
    for idea, (before, *_) in IDEAS.items():
        values = found["rates"].get(idea)
        if not values:
            rows.append([idea, "did not work", "", "", ""])
            continue
        gain = ratio_cell(ratios(values, found["rates"][before])) if before in found["rates"] else ""
        rows.append([idea, figure(median(values)), spread(values), before or "", gain])
    return (
        "Training images per second of the steps alone, one idea after another. PyTorch trains on "
        f"{min(options.limit_train, IMAGES):,} MNIST images, the Rust programs on the synthetic ones of the section "
        "on steps: libtorch's part takes the same time for both. Each idea is kept in the rows below it, except "
        "torch.compile and freed memory given back at once.\n\n"
        f"{markdown(['idea', 'median, images/s', 'range', 'compared with', 'gain (range)'], rows)}\n\n"
        "Tried and rejected: libtorch's passes for shards of 32 images, one per thread; own passes replaced them. "
        "Not built: a thread that assembles batches ahead of the step, since each thread gathers the images of its "
        "own shard (column `data` of the section on steps). Not tried: own passes for CUDA.\n")
