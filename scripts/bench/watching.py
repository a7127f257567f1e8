"""Cost of observers: every observer at its default, and scalars at every step, compared with none."""

import json
import tempfile
from pathlib import Path

import measuring
from bench.figures import figure, markdown, median, ratio, ratio_cell, ratios, spread, turns
from bench.limits import Limit
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

TITLE = "Watching"
PACKAGES = {}
EPOCHS = 5
NOTHING, DEFAULT, EVERY_STEP = "nothing", "every observer at its default", "scalars at every step"
SUBJECTS = {
    NOTHING: ["--observe", "none"],
    DEFAULT: [],
    EVERY_STEP: ["--observe", "none,scalars=every:1epoch,steps=every:1steps"],
}
LIMITS = {
    "default": Limit("time with every observer at its default, to watching nothing", most=1.03),
    "every step": Limit("time with scalars at every step, to watching nothing", most=1.01),
    "logged": Limit("logs of the main job", most=30, unit="MiB"),
    "silhouette": Limit("silhouette of the t-SNE layout of MNIST features after 5 epochs", least=0.3, unit=""),
}


def measure(options, _earlier):
    """subject -> seconds, one number a round; of the watched ones what they wrote in MiB, their own account of the
    observers' share, and silhouettes."""
    found = {"seconds": {subject: [] for subject in SUBJECTS}, "logged": [], "shares": [],
             "silhouettes": {"tsne": [], "pca": []}}
    for number in range(options.rounds):
        print(f"watching, round {number + 1} of {options.rounds}: all by turns", flush=True)
        with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
            order = turns(SUBJECTS, number)
            places = {subject: Path(directory) / str(place) for place, subject in enumerate(order)}
            commands = [measuring.trainer_in(places[subject], options, "--quiet", "--epochs", EPOCHS, "--seed", number,
                                             "--limit-train", options.limit_train, *SUBJECTS[subject])
                        for subject in order]
            for subject, seconds in zip(order, measuring.by_turns(commands)):
                found["seconds"][subject].append(seconds)
            run = places[DEFAULT] / "logs" / "fit"
            result = json.loads((run / "result.json").read_text())
            found["logged"].append(sum(result["log_bytes"].values()) / 2**20)
            found["shares"].append(result["observers_share"])
            for layout, values in found["silhouettes"].items():
                values.append(last_scalar(run / "train", f"features/silhouette_{layout}"))
    return found


def last_scalar(directory, tag):
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    events.Reload()
    return float(make_ndarray(events.Tensors(tag)[-1].tensor_proto))


def held(found):
    seconds = found["seconds"]
    return {
        "default": ratio(seconds[DEFAULT], seconds[NOTHING]),
        "every step": ratio(seconds[EVERY_STEP], seconds[NOTHING]),
        "logged": max(found["logged"]),
        "silhouette": min(found["silhouettes"]["tsne"]),
    }


def text(options, found):
    rows = []
    for subject, values in found["seconds"].items():
        cell = "1" if subject == NOTHING else ratio_cell(ratios(values, found["seconds"][NOTHING]), "{:.3f}")
        rows.append([subject, figure(median(values)), spread(values), cell])
    return (
        f"Seconds of the main job, {EPOCHS} epochs of {options.limit_train:,} MNIST images, from the start of the "
        "process to its exit. In a round all three run concurrently in alternating slices of 50 ms: one computes, "
        "the others are paused, and only its own slices count. Consecutive runs would differ by more than the "
        "measured effect. Disk activity for a paused process is not counted. `scalars at every step` writes loss, "
        "accuracy, speed and shares of time after each step, and nothing else.\n\n"
        f"{markdown(['', 'median, s', 'range', 'to nothing (range)'], rows)}\n\n"
        f"The default observers write {median(found['logged']):.1f} MiB of logs. The trainer's own measurement: it "
        f"spent {median(found['shares']):.3f} of the time of steps and observers on observers (`time/observers_of_run`), "
        "not counting writes on another thread.\n\n"
        f"Silhouette of the t-SNE layout after the last epoch: {median(found['silhouettes']['tsne']):.2f}; of the "
        "two principal components, which do not preserve neighbourhoods: "
        f"{median(found['silhouettes']['pca']):.2f}.\n")
