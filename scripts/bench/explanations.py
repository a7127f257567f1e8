"""Grad-CAM of many images, against pytorch-grad-cam."""

import json
import tempfile
from pathlib import Path

import measuring
from bench.figures import US, rates, rounds

TITLE = "Explanations"
PACKAGES = {"peer_python": ["torch", "grad-cam"]}
IMAGES = 500
DRAWN, MAPS = "pytorch-grad-cam", "pytorch-grad-cam, maps alone"
LIMITS = {}


def measure(options, _earlier):
    """subject -> images per second, one number a round."""
    found = {subject: [] for subject in (US, DRAWN, MAPS)}
    with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
        measuring.run_trainer_in(directory, options, "--epochs", 1, "--limit-train", min(options.limit_train, 6_400),
                                 "--observe", "none")
        run = Path(directory) / "logs" / "fit"
        for _, subject in rounds(options, "explanations", found):
            found[subject].append(ours(options, run) if subject == US else theirs(options, run, subject))
    return found


def ours(options, run):
    one, many = (explained(options, run, indices) for indices in ("0", f"0-{IMAGES - 1}"))
    return (IMAGES - 1) / (many - one)


def explained(options, run, indices):
    """Seconds from the start to the exit."""
    with tempfile.TemporaryDirectory(prefix="trainer-") as out:
        return measuring.run(options.trainer, "explain", "--run", run, "--weights", "last", "--indices", indices,
                             "--method", "gradcam", "--out", out).seconds


def theirs(options, run, subject):
    with tempfile.TemporaryDirectory(prefix="trainer-") as out:
        drawn = ["--out", out] if subject == DRAWN else []
        done = measuring.run(options.peer_python, measuring.PEERS / "explain_pytorch.py", "--weights",
                             run / "model.safetensors", "--data-dir", options.data_dir, "--threads", options.threads,
                             "--images", IMAGES, *drawn)
    return json.loads(done.output)["images_per_second"]


def held(_found):
    return {}


def text(options, found):
    return (
        f"Images explained per second by Grad-CAM of the predicted class, over {IMAGES} test images with the weights "
        "of one training run, without start-up: for `trainer explain` the time for one image is subtracted, for "
        f"{DRAWN} imports and the first batch are excluded. `trainer explain` writes two images and a point of an event file "
        f"for each input, {DRAWN} one image of the same size; with `maps alone` nothing is drawn or written. Both use "
        "batches of 16.\n\n"
        f"{rates('images/s', found)}\n")
