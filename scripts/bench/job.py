"""The whole main job, from the start of the process to its exit: five epochs with everything logged; and its memory."""

import tempfile

import measuring
from bench.figures import US, costs, median, ratio, rounds
from bench.limits import Limit

TITLE = "Main job"
PACKAGES = {"peer_python": ["torch", "tensorboard"], "keras_python": ["keras", "tensorflow-cpu"]}
EPOCHS = 5
KERAS, TORCH = "Keras 3, TensorBoard callback", "PyTorch eager, SummaryWriter"
LIMITS = {
    "keras": Limit("seconds of the main job, Keras with its callback to the trainer", least=2.0),
    "peak": Limit("peak memory of the main job", most=400, unit="MiB"),
}


def measure(options, _earlier):
    """subject -> one number a round of: seconds, peak memory in MiB, accuracy."""
    found = {kind: {subject: [] for subject in (US, KERAS, TORCH)} for kind in ("seconds", "peak", "accuracy")}
    for number, subject in rounds(options, "main job", found["seconds"]):
        training = run(options, subject, number)
        found["seconds"][subject].append(training.seconds)
        found["peak"][subject].append(training.peak)
        found["accuracy"][subject].append(training.epochs[-1]["val_accuracy"])
    return found


def run(options, subject, seed):
    common = ["--epochs", EPOCHS, "--seed", seed, "--limit-train", options.limit_train]
    with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
        if subject == US:
            return measuring.run_trainer_in(directory, options, *common)
        if subject == KERAS:
            return measuring.run_keras(options, *common, "--tensorboard", directory)
        return measuring.run_peer(options, *common, "--summary-writer", directory)


def held(found):
    return {"keras": ratio(found["seconds"][KERAS], found["seconds"][US]), "peak": max(found["peak"][US])}


def text(options, found):
    accuracy = {subject: f"{median(values):.4f}" for subject, values in found["accuracy"].items()}
    return (
        f"Seconds from the start of the process to its exit: {EPOCHS} epochs of {options.limit_train:,} MNIST images "
        "with a validation after each and full logging. The trainer runs with its defaults and also writes "
        "checkpoints and weights; the others log as in the section on epochs and save nothing.\n\n"
        f"{costs('s', found['seconds'], {'accuracy': accuracy})}\n\n"
        "Peak resident memory of the process:\n\n"
        f"{costs('MiB', found['peak'])}\n")
