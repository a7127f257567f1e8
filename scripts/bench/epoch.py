"""Images per second of an epoch with logging, compared with PyTorch, Keras, and the limit of matrix products."""

import json
import tempfile

import measuring
from bench.figures import US, figure, median, rates, ratio, rounds, spread
from bench.limits import Limit

TITLE = "Epoch"
PACKAGES = {"peer_python": ["torch", "tensorboard"], "keras_python": ["keras", "tensorflow-cpu"]}
VALIDATION = 10_000

EAGER, TUNED, LIMIT = "PyTorch eager", "PyTorch tuned", "limit: matrix products"
COMPILED, KERAS = "PyTorch tuned, torch.compile", "Keras 3, TensorBoard callback"
TUNING = ["--in-memory", "--channels-last", "--fused"]
TRAINERS = {US: [], f"{US}, curves only": measuring.UNWATCHED}
TORCHES = {EAGER: [], TUNED: TUNING, "PyTorch tuned, pooling before ReLU": [*TUNING, "--pool-first"],
           COMPILED: [*TUNING, "--compile"]}

LIMITS = {
    "tuned": Limit("images/s of an epoch, to PyTorch tuned", least=1.6),
    "eager": Limit("images/s of an epoch, to PyTorch eager", least=2.0),
    "keras": Limit("images/s of an epoch, to Keras with its callback", least=1.9),
    "limit": Limit("images/s of an epoch, to the limit of matrix products", least=0.65),
}

# The network's layers that multiply: multiply-adds of one image forward. Outputs x inputs of each output.
MULTIPLY_ADDS = {
    "conv2d": 26 * 26 * 32 * (1 * 3 * 3),
    "conv2d_1": 11 * 11 * 64 * (32 * 3 * 3),
    "dense": 128 * (64 * 5 * 5),
    "dense_1": 10 * 128,
}
# A multiply-add is two operations. Backward is two products of the same size for each layer, one for the weights and
# one for the input; nobody needs the gradient of the images.
FORWARD = 2 * sum(MULTIPLY_ADDS.values())
STEP = 3 * FORWARD - 2 * MULTIPLY_ADDS["conv2d"]


def measure(options, _earlier):
    """subject -> one number a round of: images/s of the whole epoch, of its steps alone, the accuracy, and how many
    seconds longer the first epoch took; `gflops` of matrix products; and which subjects `failed`, with their words."""
    subjects = [*TRAINERS, *TORCHES, KERAS, LIMIT]
    found = {"whole": {name: [] for name in subjects}, "steps": {name: [] for name in subjects}, "accuracy": {},
             "longer": {}, "gflops": [], "failed": {}}
    for number, subject in rounds(options, "epoch", subjects):
        if subject in found["failed"]:
            continue
        if subject == LIMIT:
            limit(options, found)
            continue
        try:
            first, second = two_epochs(options, subject, number)
        except measuring.Failed as error:
            if subject in TRAINERS:
                raise
            found["failed"][subject] = said(str(error))
            continue
        found["whole"][subject].append(options.limit_train / second["seconds"])
        found["steps"][subject].append(second["images_per_second"])
        found["accuracy"].setdefault(subject, []).append(second["val_accuracy"])
        found["longer"].setdefault(subject, []).append(first["seconds"] - second["seconds"])
    # A subject that fails once, in whatever round, has no number to compare.
    for subject in found["failed"]:
        for values in (found["whole"], found["steps"], found["accuracy"], found["longer"]):
            values.pop(subject, None)
    return found


def said(words):
    """The line of a traceback that names the error, in a form for the page."""
    lines = [line for line in words.splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line]
    return (named or lines)[-1].replace("|", "/")[:200]


def two_epochs(options, subject, seed):
    """Results of its two epochs."""
    common = ["--epochs", 2, "--seed", seed, "--limit-train", options.limit_train]
    if subject in TRAINERS:
        return measuring.run_trainer(options, *common, *TRAINERS[subject]).epochs
    with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
        if subject == KERAS:
            return measuring.run_keras(options, *common, "--tensorboard", directory).epochs
        return measuring.run_peer(options, *common, *TORCHES[subject], "--summary-writer", directory).epochs


def limit(options, found):
    done = measuring.run(options.peer_python, measuring.PEERS / "matmul.py", "--threads", options.threads)
    gflops = json.loads(done.output)["limit"]
    found["gflops"].append(gflops)
    epoch = options.limit_train * STEP + VALIDATION * FORWARD
    found["whole"][LIMIT].append(options.limit_train * gflops * 1e9 / epoch)
    found["steps"][LIMIT].append(gflops * 1e9 / STEP)


def held(found):
    whole = found["whole"]
    others = {"tuned": TUNED, "eager": EAGER, "keras": KERAS, "limit": LIMIT}
    return {key: ratio(whole[US], whole[subject]) for key, subject in others.items() if subject in whole}


def text(options, found):
    more = {
        "steps alone, images/s": {name: figure(median(values)) for name, values in found["steps"].items()},
        "accuracy": {name: f"{median(values):.4f}" for name, values in found["accuracy"].items()},
    }
    longer = [f"{name} {median(values):.1f} s" for name, values in found["longer"].items() if name in (COMPILED, KERAS)]
    failed = [f"\n{subject} did not work: {words}\n" for subject, words in found["failed"].items()]
    return (
        f"Training images per second in the second of two epochs of {options.limit_train:,} MNIST images: batches, "
        f"steps, logging, and the validation of {VALIDATION:,} images, timed by each program itself. The second "
        "epoch includes no compilation, but does include writes left over from the first. All use the same network, "
        "initialisation, batch size (64) and Adam (1e-3). `steps alone` covers the training steps with their "
        "batches, without the validation and the logging at the end of an epoch. `accuracy` is the median on the "
        "test set after both epochs.\n\n"
        f"- `{US}` runs every observer at its default and logs more than any of the others; `curves only` logs loss, "
        "accuracy and speed of each epoch and every 50 steps.\n"
        f"- {EAGER} is typical code: a DataLoader over a tensor data set, convolution, ReLU, pooling, and "
        "SummaryWriter with a point every 100 steps, histograms, feature maps and the graph. Tuned: channels-last, "
        "fused Adam, the data in memory as bytes with one gather a batch; SummaryWriter as before. Pooling before "
        "ReLU is an optimisation of this project.\n"
        "- Keras fits arrays, with histograms and images of the weights each epoch and the graph from its callback.\n"
        "- The limit is the rate of matrix products alone, at their speed measured in the same round "
        f"({figure(median(found['gflops']))} GFLOP/s, {spread(found['gflops'])}; the best of two shapes, with threads "
        "and with processes): a training image takes 2 operations x (3 x multiply-adds forward - those of the first "
        f"convolution, whose input needs no gradient) = {STEP / 1e6:.1f} MFLOP, one of the validation "
        f"{FORWARD / 1e6:.1f}.\n\n"
        f"{rates('images/s', found['whole'], more)}\n\n"
        f"Additional time of the first epoch, which includes compilation: {', '.join(longer) or 'not measured'}.\n"
        + "".join(failed))
