"""From the start of the process to the first training step, with the data in the page cache."""

import measuring
from bench.figures import US, costs, median, rounds
from bench.limits import Limit

TITLE = "Start"
PACKAGES = {"peer_python": ["torch"], "keras_python": ["keras", "tensorflow-cpu"]}
TORCH, KERAS = "PyTorch", "Keras 3"
# One step of one batch, and as little after it as there can be.
ONE_STEP = ["--epochs", 1, "--limit-train", 64, "--limit-validation", 64, "--observe", "none",
            "--checkpoint-every", "off"]
LIMITS = {"seconds": Limit("process start to the first step", most=1.5, unit="s")}


def measure(options, _earlier):
    """subject -> seconds, one number a round."""
    found = {US: [], TORCH: [], KERAS: []}
    for _, subject in rounds(options, "start", found):
        if subject == US:
            training = measuring.run_trainer(options, *ONE_STEP)
        elif subject == TORCH:
            training = measuring.run_peer(options, "--steps", 1)
        else:
            training = measuring.run_keras(options, "--steps", 1)
        found[subject].append(training.seconds)
    return found


def held(found):
    return {"seconds": median(found[US])}


def text(options, found):
    return (
        "Seconds from start to exit of a process that makes one training step, slightly more than the time to its "
        "first step. All read MNIST from the page cache and log nothing; the trainer also validates 64 images and "
        f"writes its weights.\n\n{costs('s', found)}\n")
