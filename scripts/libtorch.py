#!/usr/bin/env python3
"""Set up libtorch 2.13.0 (CPU) in .deps/libtorch, from the Python package index.

The wheels are pinned by SHA-256 and asked for by explicit platform tags, so the version of the Python that runs this
script does not matter. Only files for the build and for the program are kept: headers, libtorch_cpu and its
dependencies, and an empty libtorch.so (torch-sys links `-ltorch`; the real one would pull in a GPU stack).

Nothing is fetched when LIBTORCH names a libtorch of your own, or when an earlier run finished.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPS = ROOT / ".deps"
DEST = DEPS / "libtorch"
DOWNLOADS = DEPS / "downloads"
MARKER = "setup-complete"

# requirement, file, megabytes, SHA-256
WHEELS = [
    (
        "torch==2.13.0",
        "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        527,
        "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
    ),
    (
        "nvidia-cuda-runtime==13.0.96",
        "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        3,
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    ),
    (
        "nvidia-cuda-cupti==13.0.85",
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        11,
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    ),
]
PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]
# libtorch_cpu.so of this wheel is linked against the two CUDA libraries; they load, and are never called, without a GPU.
LIBRARIES = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}


def fail(message):
    sys.exit(f"libtorch: {message}")


def say(message):
    print(f"libtorch: {message}", flush=True)


def sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def pip():
    """A pip that can resume a broken download; in a venv, since a distribution's own pip may be old or absent."""
    python = DEPS / "venv" / "bin" / "python"
    if not python.exists():
        fail(f"{python} is not there; `make setup` makes it first")
    return [str(python), "-m", "pip", "--disable-pip-version-check"]


def fetch(requirement, name, digest):
    path = DOWNLOADS / name
    if path.exists():
        if sha256(path) == digest:
            say(f"{name}: already here, checksum verified")
            return path
        path.unlink()
    command = pip() + ["download", "--no-deps", "--only-binary", ":all:", "--implementation", "cp", "--abi", "cp311",
                       "--abi", "none", "--python-version", "3.11", "--timeout", "15", "--resume-retries", "20",
                       "--dest", str(DOWNLOADS)]
    for tag in PLATFORMS:
        command += ["--platform", tag]
    say(f"fetching {requirement}")
    if subprocess.run(command + [requirement]).returncode != 0:
        fail(f"cannot fetch {requirement} from the Python package index; run again to go on, "
             "or set LIBTORCH to a libtorch 2.13.0 of your own")
    if not path.exists():
        fail(f"{requirement} was fetched, but not as the expected file {name}")
    if (found := sha256(path)) != digest:
        path.unlink()
        fail(f"{name}: SHA-256 is {found}, expected {digest}; the file was removed, run again")
    return path


def extract(wheels, dest):
    (dest / "lib").mkdir(parents=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                name = Path(entry.filename)
                if name.parts[:2] == ("torch", "include"):
                    target = dest / Path(*name.parts[1:])
                elif name.name in LIBRARIES:
                    target = dest / "lib" / name.name
                elif name.name == "LICENSE" and name.parts[-2] == "licenses" and name.parts[0].startswith("torch-"):
                    target = dest / "LICENSE"
                else:
                    continue
                if entry.is_dir():
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    missing = LIBRARIES - {path.name for path in (dest / "lib").iterdir()}
    if missing:
        fail(f"the wheels lack {', '.join(sorted(missing))}")
    compiler = os.environ.get("CC", "cc").split()
    stub = ["-shared", "-Wl,-soname,libtorch.so", "-o", str(dest / "lib" / "libtorch.so"), "-x", "c", "/dev/null"]
    if subprocess.run(compiler + stub).returncode != 0:
        fail(f"the C compiler `{' '.join(compiler)}` failed; install one (Debian: apt install g++) or set CC")


def check_own(own):
    """A wrong LIBTORCH would otherwise show as a page of C++ errors, minutes later."""
    include = own / "include" / "torch"
    # Older versions have the second.
    headers = [include / "headeronly" / "version.h", include / "csrc" / "api" / "include" / "torch" / "version.h"]
    header = next((path for path in headers if path.exists()), None)
    if header is None:
        fail(f"LIBTORCH is {own}, but there is no {headers[0]}; name the directory that holds include/ and lib/, "
             "or unset LIBTORCH to have libtorch fetched")
    defines = dict(line.split()[1:3] for line in header.read_text().splitlines()
                   if line.startswith("#define TORCH_VERSION_M") and len(line.split()) == 3)
    found = f"{defines.get('TORCH_VERSION_MAJOR', '?')}.{defines.get('TORCH_VERSION_MINOR', '?')}"
    if found != "2.13" and not os.environ.get("LIBTORCH_BYPASS_VERSION_CHECK"):
        fail(f"LIBTORCH is {own}: got version {found}, want 2.13; set LIBTORCH_BYPASS_VERSION_CHECK=1 to try it anyway")
    say(f"LIBTORCH is set, using {own}; nothing is fetched")


def main():
    if own := os.environ.get("LIBTORCH"):
        check_own(Path(own))
        return
    pins = "\n".join(digest for *_, digest in WHEELS) + "\n"
    marker = DEST / MARKER
    if marker.exists() and marker.read_text() == pins:
        say(f"{DEST.relative_to(ROOT)} is up to date")
        return
    if sys.platform != "linux" or platform.machine() != "x86_64":
        fail(f"these wheels are for Linux on x86_64, this is {sys.platform} on {platform.machine()}; "
             "set LIBTORCH to a libtorch 2.13.0 for this machine")
    total = sum(size for _, _, size, _ in WHEELS)
    say(f"setting up libtorch 2.13.0 for CPU in {DEST.relative_to(ROOT)}: {total} MB from the Python package index, "
        "500 MB on disk afterwards")
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(DEPS).free < 1_300_000_000:
        fail(f"{DEPS}: 1.3 GB of free disk are needed while unpacking")
    wheels = [fetch(requirement, name, digest) for requirement, name, _, digest in WHEELS]
    say("unpacking")
    with tempfile.TemporaryDirectory(dir=DEPS, prefix="libtorch-") as scratch:
        fresh = Path(scratch) / "libtorch"
        extract(wheels, fresh)
        (fresh / MARKER).write_text(pins)
        shutil.rmtree(DEST, ignore_errors=True)
        fresh.rename(DEST)
    for wheel in wheels:
        wheel.unlink()
    say("ready")


if __name__ == "__main__":
    main()
