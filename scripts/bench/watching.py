"""What watching costs: every observer at its default, and scalars at every step, against nothing at all."""

import json
import tempfile
from pathlib import Path

import measuring
from bench.figures import figure, markdown, median, rounds, spread
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
    """subject -> seconds by the run's own clock and by the wall, one number a round; of the watched ones what they
    wrote in MiB, their own account of the observers' share, and silhouettes."""
    found = {"own": {subject: [] for subject in SUBJECTS}, "wall": {subject: [] for subject in SUBJECTS},
             "logged": [], "shares": [], "silhouettes": {"tsne": [], "pca": []}}
    for number, subject in rounds(options, "watching", SUBJECTS):
        with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
            training = measuring.run_trainer_in(directory, options, "--epochs", EPOCHS, "--seed", number,
                                                "--limit-train", options.limit_train, *SUBJECTS[subject])
            run = Path(directory) / "logs" / "fit"
            result = json.loads((run / "result.json").read_text())
            found["own"][subject].append(result["seconds"])
            found["wall"][subject].append(training.seconds)
            if subject == DEFAULT:
                found["logged"].append(sum(result["log_bytes"].values()) / 2**20)
                found["shares"].append(result["observers_share"])
                for layout, values in found["silhouettes"].items():
                    values.append(last_scalar(run / "train", f"embedding/silhouette_{layout}"))
    return found


def last_scalar(directory, tag):
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    events.Reload()
    return float(make_ndarray(events.Tensors(tag)[-1].tensor_proto))


def times(seconds, subject):
    """The ratio of the medians: runs of a round lie minutes apart, and the machine changes in between."""
    return median(seconds[subject]) / median(seconds[NOTHING])


def held(found):
    return {
        # Its own clock leaves out the start of the process, which would hide a part of the cost.
        "default": times(found["own"], DEFAULT),
        "every step": times(found["own"], EVERY_STEP),
        "logged": max(found["logged"]),
        "silhouette": min(found["silhouettes"]["tsne"]),
    }


def text(options, found):
    rows = []
    for subject in SUBJECTS:
        cells = [subject]
        for clock in ("own", "wall"):
            values = found[clock][subject]
            share = "1" if subject == NOTHING else f"**{times(found[clock], subject):.3f}**"
            cells += [figure(median(values)), spread(values), share]
        rows.append(cells)
    heads = ["", "own clock, s", "range", "to nothing", "wall, s", "range", "to nothing"]
    return (
        f"Seconds of the main job, {EPOCHS} epochs of {options.limit_train:,} MNIST images, by the run's own clock "
        "(`seconds` in `result.json`) and by the wall from start to exit. Ratios are those of the medians. With "
        "scalars at every step loss, accuracy, speed and shares of time are written after each, and nothing else.\n\n"
        f"{markdown(heads, rows)}\n\n"
        f"By default it writes {median(found['logged']):.1f} MiB of logs. By its own account the trainer spent "
        f"{median(found['shares']):.3f} of the time of steps and observers on observers (`time/observers_of_run`), "
        "which leaves out what is written on another thread.\n\n"
        f"Silhouette of the t-SNE layout after the last epoch: {median(found['silhouettes']['tsne']):.2f}; of the two "
        "principal components, which are no layout by neighbourhood: "
        f"{median(found['silhouettes']['pca']):.2f}.\n")
