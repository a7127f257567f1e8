#!/usr/bin/env python3
"""CPU seconds of first builds: two revisions built alternately from scratch, medians and their ratio.

    python3 scripts/build_times.py main HEAD --rounds 3
    python3 scripts/build_times.py main HEAD --rounds 3 -- -p moxcms -p rustls    # these crates and their dependencies

CPU seconds (user and system, of cargo and all it starts) vary less than wall time on a machine with other work. Crates
have to be in cargo's cache and libtorch in .deps/libtorch (`make setup`), or elsewhere with LIBTORCH set.
"""

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def build(source, options, log):
    """CPU seconds of one build of `source` into an empty target directory."""
    with tempfile.TemporaryDirectory(prefix="build-times-") as target:
        environment = os.environ | {"CARGO_TARGET_DIR": target}
        environment.setdefault("LIBTORCH", str(ROOT / ".deps/libtorch"))
        before = cpu_seconds()
        command = ["cargo", "build", "--release", "--locked", "--offline", *options]
        done = subprocess.run(command, cwd=source, env=environment, stdout=log, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            log.seek(0)
            tail = "".join(log.readlines()[-15:])
            sys.exit(f"build of {source} failed with status {done.returncode}:\n{tail}")
        return cpu_seconds() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="revision to compare with")
    parser.add_argument("after", help="revision to judge")
    parser.add_argument("--rounds", type=int, default=3, help="builds of each revision (default 3)")
    parser.epilog = "Options after `--` go to `cargo build`."
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    arguments = parser.parse_args(given[:end])
    options = given[end + 1:]
    if arguments.rounds < 1:
        parser.error(f"--rounds: got {arguments.rounds}, want at least 1")
    seconds = {"before": [], "after": []}
    with tempfile.TemporaryDirectory(prefix="build-times-") as directory:
        for name in seconds:
            source = pathlib.Path(directory) / name
            source.mkdir()
            archive = pathlib.Path(directory) / f"{name}.tar"
            revision = getattr(arguments, name)
            subprocess.run(["git", "archive", "--output", archive, revision], cwd=ROOT, check=True)
            subprocess.run(["tar", "-xf", archive, "-C", source], check=True)
        for number in range(1, arguments.rounds + 1):
            for name, taken in seconds.items():
                with tempfile.TemporaryFile("w+") as log:
                    taken.append(build(pathlib.Path(directory) / name, options, log))
                print(f"round {number}, {name}: {taken[-1]:.1f} CPU seconds", file=sys.stderr, flush=True)
    before, after = (statistics.median(seconds[name]) for name in ("before", "after"))
    print(f"median before {before:.1f} s, after {after:.1f} s, ratio {after / before:.3f}")


if __name__ == "__main__":
    main()
