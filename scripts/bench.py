#!/usr/bin/env python3
"""Measure the event log, the epoch and the memory against peers, what watching and checkpoints cost; write
docs/benchmarks.md.

Runs alternate, so that a busy machine slows everybody; what is compared are the ratios within one round. Leave the
machine alone while this runs. Parts that are not measured keep their section of the file.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measuring
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

ROOT = measuring.ROOT
US = "trainer"
LEAST_SCALARS = 1_000_000  # events a second
LEAST_RATIO = 2  # of scalar events, to tensorboard-rs
LIMIT = "bytes-with-checksums"
LEAST_OF_LIMIT = 0.5  # of scalar events, to their bytes
LEAST_TO_TORCH = {"histograms": 20, "images": 50}  # of events, to torch.utils.tensorboard
MOST_MEMORY = 450  # MiB
MOST_WATCHING = 1.05  # times as long as without observers
MOST_CHECKPOINT = 0.060  # seconds
MOST_CHECKPOINTS = 0.02  # of an epoch with one every 200 steps
LEAST_SILHOUETTE = 0.3  # of the t-SNE layout of MNIST features after 5 epochs
MOST_LOGGED = 30  # MiB of a run of 5 epochs
PARTS = ["eventlog", "epoch", "memory", "observers", "checkpoints"]
OURS_ALONE = ["observers", "checkpoints"]
EVENTLOG_PEERS = ["eventlog_torch.py", "eventlog_tensorboardx.py"]
# The step itself: neither side draws pictures or histograms.
EPOCH_SUBJECTS = {
    US: measuring.UNWATCHED,
    "PyTorch eager": [],
    "PyTorch eager, channels-last, fused Adam": ["--channels-last", "--fused"],
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    measuring.add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit-train", type=int, default=60_000, help="training images of the epoch that is timed")
    parser.add_argument("--only", choices=PARTS, action="append", help="parts to measure")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    options.only = options.only or PARTS
    if options.rounds < 1:
        parser.error("at least one round")
    return options


def json_lines(text):
    for line in text.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def measure_eventlog(options):
    """workload -> subject -> events per second, one number a round."""
    found = {}
    for number in range(options.rounds):
        print(f"event log, round {number + 1} of {options.rounds}", flush=True)
        outputs = [measuring.run(["cargo", "bench", "--locked", "--quiet", "--bench", "eventlog", "--",
                                  "--rounds", "1"])[0]]
        for peer in EVENTLOG_PEERS:
            outputs.append(measuring.run([options.peer_python, ROOT / "scripts" / "peers" / peer])[0])
        for output in outputs:
            for line in json_lines(output):
                rates = line["events_per_second"]
                values = found.setdefault(line["workload"], {}).setdefault(line["subject"], [])
                values.extend(rates if isinstance(rates, list) else [rates])
    return found


def measure_epoch(options):
    """subject -> training images per second, one number a round."""
    found = {subject: [] for subject in EPOCH_SUBJECTS}
    for number in range(options.rounds):
        for subject, flags in EPOCH_SUBJECTS.items():
            print(f"epoch, round {number + 1} of {options.rounds}: {subject}", flush=True)
            run = measuring.run_trainer if subject == US else measuring.run_peer
            epochs, _ = run(options, "--epochs", 1, "--seed", number, "--limit-train", options.limit_train, *flags)
            found[subject].append(epochs[-1]["images_per_second"])
    return found


def measure_memory(options):
    """subject -> peak resident memory in MiB of the whole job with everything that is shown, one number a round."""
    found = {US: [], "PyTorch with SummaryWriter": []}
    for number in range(min(options.rounds, 3)):
        print(f"memory, round {number + 1}", flush=True)
        found[US].append(measuring.run_trainer(options, "--epochs", 1, "--seed", number)[1])
        found["PyTorch with SummaryWriter"].append(
            measuring.run_peer(options, "--epochs", 1, "--seed", number, "--summary-writer",
                               ROOT / "target" / "bench-summary-writer")[1])
    return found


def measure_observers(options):
    """Seconds of the whole job of 5 epochs, with all observers at their defaults and with none, one number a round;
    and what the watched ones wrote, in MiB."""
    found = {"--observe none": [], "default": []}
    logged, shares, silhouettes = [], [], {"tsne": [], "pca": []}
    for number in range(options.rounds):
        pair = [("--observe none", ["--observe", "none"]), ("default", [])]
        # Whoever comes first finds the machine as the other left it: each does so in turn.
        for subject, flags in pair if number % 2 == 0 else reversed(pair):
            print(f"observers, round {number + 1} of {options.rounds}: {subject}", flush=True)
            with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
                started = time.monotonic()
                measuring.run_trainer_in(directory, options, "--epochs", 5, "--seed", number)
                found[subject].append(time.monotonic() - started)
                if subject == "default":
                    logged.append(bytes_below(Path(directory)) / 2**20)
                    run = Path(directory) / "logs" / "fit"
                    shares.append(json.loads((run / "result.json").read_text())["observers_share"])
                    for layout, values in silhouettes.items():
                        values.append(last_scalar(run / "train", f"embedding/silhouette_{layout}"))
    return {"seconds": found, "logged": logged, "shares": shares, "silhouettes": silhouettes}


def measure_checkpoints(options):
    """Seconds of single checkpoints; their share of an epoch by the trainer's own clock; and images per second of epochs
    with and without them, one number a round."""
    cadences = ["off", "200steps"]
    found = {"single": [], "shares": [], "rates": {cadence: [] for cadence in cadences}}
    for number in range(options.rounds):
        # Whoever comes first finds the machine as the other left it: each does so in turn.
        for cadence in cadences if number % 2 == 0 else reversed(cadences):
            print(f"checkpoints, round {number + 1} of {options.rounds}: {cadence}", flush=True)
            with tempfile.TemporaryDirectory(prefix="trainer-", dir=ROOT / "target") as directory:
                measuring.run_trainer_in(directory, options, "--epochs", 1, "--seed", number, "--limit-train",
                                         options.limit_train, *measuring.UNWATCHED, "--checkpoint-every", cadence)
                lines = list(json_lines((Path(directory) / "logs" / "fit" / "metrics.jsonl").read_text()))
            epoch = next(line for line in lines if line["kind"] == "epoch")
            checkpoints = [line["seconds"] for line in lines if line["kind"] == "checkpoint"]
            wall = lines[-1]["time"] - lines[0]["time"]
            found["rates"][cadence].append(options.limit_train / wall)
            if checkpoints:
                found["single"] += checkpoints
                found["shares"].append(sum(checkpoints) / epoch["seconds"])
    return found


def last_scalar(directory, tag):
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    events.Reload()
    return float(make_ndarray(events.Tensors(tag)[-1].tensor_proto))


def bytes_below(directory):
    """Of everything but the weights: what TensorBoard reads."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.suffix != ".safetensors")
    return sum(path.stat().st_size for path in files)


def slowdown(found):
    return [watched / plain for watched, plain in zip(found["seconds"]["default"], found["seconds"]["--observe none"])]


def figure(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def row(subject, values, ours):
    """Median and range, and how many times as much as this subject the trainer does, within each round."""
    cells = [subject, figure(statistics.median(values)), f"{figure(min(values))} to {figure(max(values))}"]
    if values is ours:
        cells.append("1")
    else:
        ratios = [mine / theirs for mine, theirs in zip(ours, values)]
        cells.append(f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})")
    return f"| {' | '.join(cells)} |"


def table(unit, values):
    ours = values[US]
    lines = [f"| | median, {unit} | range | trainer / this (range) |", "| --- | --- | --- | --- |"]
    return "\n".join(lines + [row(subject, numbers, ours) for subject, numbers in values.items()])


def output_of(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def locked(crate):
    lines = (ROOT / "Cargo.lock").read_text().splitlines()
    version = lines[lines.index(f'name = "{crate}"') + 1].split('"')[1]
    return f"{crate} {version}"


def shortcomings(found):
    """What is less than the project promises of itself."""
    if "eventlog" in found:
        scalars = found["eventlog"]["scalars"]
        rate = statistics.median(scalars[US])
        if rate < LEAST_SCALARS:
            yield f"{rate:,.0f} scalar events a second, at least {LEAST_SCALARS:,} are wanted"
        ratio = statistics.median(ours / theirs for ours, theirs in zip(scalars[US], scalars["tensorboard-rs"]))
        if ratio < LEAST_RATIO:
            yield f"{ratio:.2f} times the scalar events of tensorboard-rs, at least {LEAST_RATIO} times are wanted"
        share = statistics.median(ours / limit for ours, limit in zip(scalars[US], scalars[LIMIT]))
        if share < LEAST_OF_LIMIT:
            yield f"{share:.2f} times the scalars of {LIMIT}, at least {LEAST_OF_LIMIT} times are wanted"
        for workload, least in LEAST_TO_TORCH.items():
            rates = found["eventlog"][workload]
            ratio = statistics.median(ours / theirs for ours, theirs in zip(rates[US], rates["torch.utils.tensorboard"]))
            if ratio < least:
                yield f"{ratio:.1f} times the {workload} of torch.utils.tensorboard, at least {least} times are wanted"
    if "memory" in found:
        peak = max(found["memory"][US])
        if peak > MOST_MEMORY:
            yield f"{peak:.0f} MiB of memory, at most {MOST_MEMORY} are wanted"
    if "observers" in found:
        times = statistics.median(slowdown(found["observers"]))
        if times > MOST_WATCHING:
            yield f"{times:.3f} times as long with observers, at most {MOST_WATCHING} times are wanted"
        logged = max(found["observers"]["logged"])
        if logged > MOST_LOGGED:
            yield f"{logged:.1f} MiB of logs, at most {MOST_LOGGED} are wanted"
        silhouette = min(found["observers"]["silhouettes"]["tsne"])
        if silhouette < LEAST_SILHOUETTE:
            yield f"a silhouette of {silhouette:.2f}, at least {LEAST_SILHOUETTE} is wanted"
    if "checkpoints" in found:
        single, share = (statistics.median(found["checkpoints"][key]) for key in ("single", "shares"))
        if single > MOST_CHECKPOINT:
            yield f"{single:.3f} s for a checkpoint, at most {MOST_CHECKPOINT} are wanted"
        if share > MOST_CHECKPOINTS:
            yield f"{share:.3f} of an epoch for checkpoints, at most {MOST_CHECKPOINTS} is wanted"


def circumstances(options, part):
    dirty = " with changes" if output_of("git", "status", "--porcelain", "--untracked-files=no") else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    words = [
        f"{datetime.date.today()}, commit {output_of('git', 'rev-parse', '--short=12', 'HEAD')}{dirty}",
        f"{processor()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release().split('-')[0]}",
        output_of("rustc", "--version").split(" (")[0],
        locked("tch"),
    ]
    if part not in OURS_ALONE:
        words += [locked("tensorboard-rs"), output_of(
            options.peer_python, "-c", "import torch, tensorboardX, tensorboard, sys; print("
            "f'torch {torch.__version__}, tensorboardX {tensorboardX.__version__}, '"
            "f'tensorboard {tensorboard.__version__}, Python {sys.version.split()[0]}')")]
    return f"Measured {'; '.join(words)}; {options.rounds} rounds, {options.threads} threads.\n"


def eventlog_section(options, found):
    text = ("Events per second, from the first call to a closed file. Histograms are made from 100,000 values, images are "
            "64 x 64 RGB and compressed as PNG by each writer. `trainer` writes on the caller's thread, "
            f"`trainer-background` through the queue of a training run. `{LIMIT}` is the limit: the same records, encoded "
            f"beforehand, framed with their checksums and written; of scalars at least {LEAST_OF_LIMIT} of it are wanted. "
            "`Reader` is the file of scalars, read, checked and decoded.\n")
    tables = [f"### {workload.capitalize()}\n\n{table('events/s', values)}\n" for workload, values in found.items()]
    return "\n".join([text, *tables])


def epoch_section(options, found):
    return (f"Training images per second over one epoch of {options.limit_train:,} MNIST images, batch 64, the same network "
            "and optimizer, without evaluation; the trainer writes curves, and no pictures or histograms; PyTorch writes "
            f"nothing, its data lie in memory.\n\n{table('images/s', found)}\n")


def memory_section(options, found):
    return ("Peak resident memory of a job of one epoch with everything shown that is shown by default.\n\n"
            f"{table('MiB', found)}\n")


def observers_section(options, found):
    times, seconds = slowdown(found), found["seconds"]
    rows = [f"| {subject} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} |"
            for subject, values in seconds.items()]
    return "\n".join([
        "Seconds from start to exit of the main job, 5 epochs of MNIST, with every observer at its default and with none; "
        "the runs alternate.\n",
        "| | median, s | range |", "| --- | --- | --- |", *rows, "",
        f"Watching takes **{statistics.median(times):.3f}** times as long as not watching ({min(times):.3f} to "
        f"{max(times):.3f}); at most {MOST_WATCHING} is wanted. It writes {statistics.median(found['logged']):.1f} MiB, at "
        f"most {MOST_LOGGED} are wanted. By its own clock the trainer spent {statistics.median(found['shares']):.3f} of the "
        "time of steps and observers on observers (`time/observers_of_run`).\n",
        f"Silhouette of the t-SNE layout after the last epoch: {statistics.median(found['silhouettes']['tsne']):.2f}, at "
        f"least {LEAST_SILHOUETTE} is wanted; of the two principal components, which are no layout by neighbourhood: "
        f"{statistics.median(found['silhouettes']['pca']):.2f}.\n",
    ])


def checkpoints_section(options, found):
    single, shares, rates = found["single"], found["shares"], found["rates"]
    ratios = [off / on for off, on in zip(rates["off"], rates["200steps"])]
    return (
        f"One epoch of {options.limit_train:,} MNIST images with a checkpoint every 200 steps and at its end, and one without, "
        "by turns; no pictures or histograms. A checkpoint is the weights and Adam's moments, checksummed, written, synced "
        "and renamed, and the removal of old ones.\n\n"
        f"A checkpoint takes **{statistics.median(single) * 1000:.0f} ms** ({min(single) * 1000:.0f} to "
        f"{max(single) * 1000:.0f}, {len(single)} of them); at most {MOST_CHECKPOINT * 1000:.0f} are wanted. All of an epoch "
        f"take **{statistics.median(shares):.4f}** of its time ({min(shares):.4f} to {max(shares):.4f}); at most "
        f"{MOST_CHECKPOINTS} is wanted. From the first to the last line of the journal an epoch with them takes "
        f"{statistics.median(ratios):.3f} times as long ({min(ratios):.3f} to {max(ratios):.3f}), which is mostly the "
        "machine's noise.\n")


SECTIONS = {
    "eventlog": ("Event log", eventlog_section),
    "epoch": ("Epoch", epoch_section),
    "memory": ("Memory", memory_section),
    "observers": ("Watching", observers_section),
    "checkpoints": ("Checkpoints", checkpoints_section),
}


def report(options, found):
    """Replaces the sections of what was measured."""
    old = options.out.read_text() if options.out.exists() else ""
    sections = dict(section.split("\n", 1) for section in ("\n" + old).split("\n## ")[1:])
    parts = [
        "# Benchmarks\n\nMade by `make bench`. The subjects take turns; a ratio is taken within a round, its median and "
        "range over the rounds. More than 1 means that the trainer does more in the same time (for memory: that it needs "
        "more).\n"]
    for part, (title, section) in SECTIONS.items():
        if part in found:
            parts.append(f"## {title}\n\n{section(options, found[part])}\n{circumstances(options, part)}")
        elif title in sections:
            parts.append(f"## {title}\n{sections[title]}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(part.rstrip("\n") + "\n" for part in parts))
    print(f"written: {options.out}")


def main():
    options = arguments()
    measuring.check_arguments(options)
    measures = {"eventlog": measure_eventlog, "epoch": measure_epoch, "memory": measure_memory,
                "observers": measure_observers, "checkpoints": measure_checkpoints}
    found = {part: measures[part](options) for part in PARTS if part in options.only}
    report(options, found)
    if short := list(shortcomings(found)):
        sys.exit("bench: " + "; ".join(short))


if __name__ == "__main__":
    main()
