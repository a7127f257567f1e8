#!/usr/bin/env python3
"""Put the program and its run-time files into a root file system: target/rootfs.

The Dockerfile copies the result into an empty image, and tests/deploy runs it without a container engine, so there is
one list of an image's contents:

    /usr/local/bin/trainer      the stripped program
    /usr/local/lib/trainer/     libtorch and its libraries; the program searches here first (build.rs)
    /lib, /lib64                the loader, the C and the C++ library of this machine, at their own paths
    /etc/passwd, /etc/group     the user 65532
    /data, /logs                mount points: data sets, to be read only; runs, to be written by that user
    /dev, /proc, /sys, /tmp     mount points of the engine

There is no shell and no package manager in it. Certificate authorities are compiled into the program.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
USER = 65532
PROGRAM = "usr/local/bin/trainer"
LIBRARIES = "usr/local/lib/trainer"
LICENSES = "usr/local/share/doc/trainer"
# Libraries in these directories belong to the system and keeps its path; other libraries come with the program.
SYSTEM = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")
MOUNT_POINTS = {"data": 0o755, "dev": 0o755, "logs": 0o755, "proc": 0o555, "sys": 0o555, "tmp": 0o1777}
PASSWD = f"root:x:0:0:root:/:/sbin/nologin\ntrainer:x:{USER}:{USER}:trainer:/:/sbin/nologin\n"
GROUP = f"root:x:0:\ntrainer:x:{USER}:\n"


def fail(message):
    sys.exit(f"rootfs: {message}")


def run(*command):
    try:
        # Keeps `ldd` from translating its output.
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    except OSError as error:
        fail(f"cannot run {command[0]}: {error.strerror}; install it (Debian: apt install binutils libc-bin)")
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def needed(program):
    """The shared libraries that the loader finds for a program, and the loader itself."""
    found = set()
    for line in run("ldd", str(program)).splitlines():
        if "linux-vdso" in line or "linux-gate" in line:
            continue
        match = re.fullmatch(r"\s*(?:(\S+) => )?(/\S+|not found)(?: \(0x[0-9a-f]+\))?", line)
        if match is None or match[2] == "not found":
            fail(f"{program}: a library is not found: {line.strip()}")
        found.add(Path(match[2]))
    return sorted(found)


def place(library):
    """Path of a library in the root file system."""
    return str(library).lstrip("/") if str(library).startswith(SYSTEM) else f"{LIBRARIES}/{library.name}"


def copy(source, target, mode):
    """Copies a file by its resolved name, unless it is already there."""
    source = source.resolve()
    fresh = source.stat()
    if target.exists() and (target.stat().st_size, target.stat().st_mtime_ns) == (fresh.st_size, fresh.st_mtime_ns):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    os.utime(target, ns=(fresh.st_atime_ns, fresh.st_mtime_ns))
    target.chmod(mode)


def build(program, out):
    """Makes the root file system and returns the paths of its files, relative to it."""
    if not program.exists():
        fail(f"{program} is not there; run `make build`")
    files = [PROGRAM, "etc/passwd", "etc/group"]
    for directory in ("usr/local/bin", "etc"):
        (out / directory).mkdir(parents=True, exist_ok=True)
    run("strip", "--strip-all", "-o", str(out / PROGRAM), str(program))
    (out / PROGRAM).chmod(0o755)
    (out / "etc/passwd").write_text(PASSWD)
    (out / "etc/group").write_text(GROUP)
    libraries = needed(program)
    for library in libraries:
        copy(library, out / place(library), 0o755)
        files.append(place(library))
    texts = [ROOT / "LICENSE-APACHE", ROOT / "LICENSE-MIT"]
    torch = next((library.resolve() for library in libraries if library.name == "libtorch_cpu.so"), None)
    if torch is None:
        fail(f"{program} is not linked against libtorch_cpu.so")
    texts.append(torch.parent.parent / "LICENSE")
    for text in filter(Path.exists, texts):
        name = "LICENSE-LIBTORCH" if text.name == "LICENSE" else text.name
        copy(text, out / LICENSES / name, 0o644)
        files.append(f"{LICENSES}/{name}")
    for name, mode in MOUNT_POINTS.items():
        (out / name).mkdir(exist_ok=True)
        (out / name).chmod(mode)
    if os.geteuid() == 0:
        os.chown(out / "logs", USER, USER)
    return sorted(files)


def remove_others(out, files):
    """Keeps stale files of an earlier run out of an image."""
    for path in sorted(out.rglob("*"), reverse=True):
        name = str(path.relative_to(out))
        if path.is_dir() and not path.is_symlink():
            if name not in MOUNT_POINTS and not any(path.iterdir()):
                path.rmdir()
        elif name not in files:
            path.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=TARGET / "release" / "trainer")
    parser.add_argument("--out", type=Path, default=TARGET / "rootfs")
    arguments = parser.parse_args()
    files = build(arguments.program, arguments.out)
    remove_others(arguments.out, files)
    sizes = {name: (arguments.out / name).stat().st_size for name in files}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{size / 2**20:8.2f} MiB  /{name}")
    print(f"{sum(sizes.values()) / 2**20:8.2f} MiB  in {arguments.out}")


if __name__ == "__main__":
    main()
