"""Images a second of training steps alone: the fused kernels and libtorch, in the same program."""

import os

import measuring
from bench.figures import US, median, rates, rounds

TITLE = "Step"
PACKAGES = {}
LIMITS = {}
ONE_THREAD, LIBTORCH, LIBTORCH_ONE = f"{US}, 1 thread", "libtorch engine", "libtorch engine, 1 thread"
# subject -> its name in benches/step.rs, and True if it has all threads.
SUBJECTS = {US: ("fused", True), ONE_THREAD: ("fused", False),
            LIBTORCH: ("libtorch", True), LIBTORCH_ONE: ("libtorch", False)}


def measure(options, _earlier):
    """subject -> images per second, one number a round; and the seconds of each phase of a step on one thread."""
    found = {"rates": {subject: [] for subject in SUBJECTS}, "phases": {}}
    for _, subject in rounds(options, "step", SUBJECTS):
        name, all_threads = SUBJECTS[subject]
        line = bench(options, "--subject", name, *([] if all_threads else ["--threads", 1]))
        found["rates"][subject] += line["images_per_second"]
        for phase, seconds in line["seconds_per_step"].items():
            found["phases"].setdefault(subject, {}).setdefault(phase, []).append(seconds)
    return found


def bench(options, *arguments, environment=None):
    """Result of one round of benches/step.rs for its subject, with `environment` in addition to the common one."""
    settings = [f"{name}={value}" for name, value in (environment or {}).items()]
    done = measuring.run("env", *settings, os.environ.get("CARGO", "cargo"), "bench", "--locked", "--quiet",
                         "--bench", "step", "--", "--rounds", 1, "--threads", options.threads, *arguments)
    return next(measuring.json_lines(done.output))


def held(_found):
    return {}


def text(_options, found):
    more = {f"{phase}, ms": {subject: f"{median(phases[phase]) * 1000:.2f}" for subject, phases in found["phases"].items()}
            for phase in found["phases"][US]}
    return (
        "Training images per second in steps of 64 images of the synthetic data set, without logging and evaluation, after "
        "300 warm-up steps. `trainer` uses its fused kernels; the libtorch engine differentiates the same "
        "network automatically, channels-last and with pooling before ReLU, and trains every network that the kernels do "
        "not know. Both cut a batch into shards of 32 images, each on one thread. On several threads a phase is that of "
        "the calling thread, and its waiting for the others counts as backward.\n\n"
        f"{rates('images/s', found['rates'], more)}\n")
