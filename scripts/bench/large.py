"""A data set that is left in its file while it trains, against the same images in memory."""

import gzip
import os
import shutil
import struct
import tempfile
from pathlib import Path

import measuring
from bench.figures import US, rates, rounds

TITLE = "Large data"
PACKAGES = {}
LIMITS = {}
# MNIST so many times over: more than the 256 MiB from which plain images are left in their file. Gzipped ones never are.
COPIES = 6
IN_FILE = f"{US}, images left in their file"
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
HEADERS = {IMAGES: 16, LABELS: 8}


def measure(options, _earlier):
    """subject -> images per second of the steps of one epoch, one number a round."""
    found = {US: [], IN_FILE: []}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=measuring.ROOT / "target") as directory:
        plain, gzipped = (Path(directory) / name / "mnist" for name in ("plain", "gzipped"))
        make(options, plain, gzipped)
        for number, subject in rounds(options, "large data", found):
            data = plain if subject == IN_FILE else gzipped
            forget(plain / IMAGES)
            training = measuring.run_trainer(options, *measuring.UNWATCHED, "--data-dir", data.parent, "--epochs", 1, "--seed",
                                             number, "--limit-train", 2 * options.limit_train)
            found[subject].append(training.epochs[-1]["images_per_second"])
    return found


def make(options, plain, gzipped):
    """The same data set in two directories; its images are plain in one and gzipped in the other."""
    for directory in (plain, gzipped):
        directory.mkdir(parents=True)
        for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
            shutil.copy(options.data_dir / name, directory)
    for name, header in HEADERS.items():
        content = (options.data_dir / name).read_bytes()
        count = struct.unpack(">I", content[4:8])[0] * COPIES
        with open(plain / name, "wb") as file:
            file.write(content[:4] + struct.pack(">I", count) + content[8:header] + COPIES * content[header:])
    shutil.copy(plain / LABELS, gzipped)
    with open(plain / IMAGES, "rb") as file, gzip.open(gzipped / f"{IMAGES}.gz", "wb", compresslevel=1) as packed:
        shutil.copyfileobj(file, packed)


def forget(path):
    """Has the kernel drop a file from its page cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def held(_found):
    return {}


def text(options, found):
    return (
        f"Training images per second in the steps of an epoch of {2 * options.limit_train:,} images, the first of a "
        f"training set of MNIST {COPIES} times over. Its images, plain and {COPIES * 47} MB, stay in their file and are read on "
        "demand by each batch; before each run they are dropped from the page cache. Gzipped, they are unpacked "
        "into memory at the start, which is not counted.\n\n"
        f"{rates('images/s', found)}\n")
