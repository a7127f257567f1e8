#!/usr/bin/env python3
"""Count the instructions of fixed pieces of work under valgrind and compare them with benches/instructions.json.

A count does not depend on other load of the machine, so a loss of a few percent is visible. It does depend on the
processor's instruction set and on the compiler: both are kept with the counts, and counts of others are not compared.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "benches" / "instructions.json"
CASES = ["scalars", "histograms", "images", "reader", "step"]
MOST = 1.03  # times as many instructions as kept
MEASURED = "instructions::measured*"
# Otherwise the allocator returns memory after some seconds.
UNTIMED = {"MALLOC_CONF": "abort_conf:true,dirty_decay_ms:-1,muzzy_decay_ms:-1"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="keep the counts instead of comparing them")
    parser.add_argument("--optional", action="store_true", help="succeed without valgrind: for tests")
    parser.add_argument("--only", choices=CASES, action="append", help="cases to count")
    return parser.parse_args()


def program():
    """Builds the benchmark and returns its path."""
    done = subprocess.run(
        [os.environ.get("CARGO", "cargo"), "bench", "--locked", "--bench", "instructions", "--no-run",
         "--message-format", "json-render-diagnostics"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    paths = [message["executable"] for message in map(json.loads, done.stdout.splitlines())
             if message["reason"] == "compiler-artifact" and message["target"]["name"] == "instructions"]
    if done.returncode != 0 or not paths:
        sys.exit("instructions: the benchmark cannot be built")
    return paths[-1]


def count(path, case):
    """The instructions of a case, and what the program says of the processor that it sees under valgrind."""
    with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
        out = Path(directory) / "callgrind"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no",
             f"--toggle-collect={MEASURED}", path, case],
            cwd=directory, env={**os.environ, **UNTIMED}, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"instructions: valgrind failed with status {done.returncode}:\n{done.stderr[-2000:]}")
        instructions = int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)[1])
    if instructions == 0:
        sys.exit(f"instructions: {case}: nothing was counted; is `{MEASURED}` still the function's name?")
    seen = json.loads(done.stdout)
    return instructions, {"arch": seen["arch"], "features": seen["features"]}


def version(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(" (")[0].strip()


def differences(kept, circumstances):
    """Reasons against a comparison of counts, as text."""
    return [f"{key} is {circumstances[key]!r}, kept were counts with {kept.get(key)!r}"
            for key in circumstances if circumstances[key] != kept.get(key)]


def verdict(case, now, kept):
    """A line of text, and True if it reports a regression."""
    if kept is None:
        return f"{case}: {now:,} instructions, none kept; `make instructions ARGS=--write` keeps them", True
    line = f"{case}: {now:,} instructions, kept {kept:,}, {now / kept:.3f} times as many"
    return (f"{line}, at most {MOST} are allowed", True) if now > kept * MOST else (line, False)


def main():
    options = arguments()
    if shutil.which("valgrind") is None:
        print("instructions: valgrind is not there: install it (apt-get install valgrind)", file=sys.stderr)
        return 0 if options.optional else 1
    path = program()
    found, circumstances = {}, {}
    for case in options.only or CASES:
        found[case], seen = count(path, case)
        circumstances = {**seen, "rustc": version("rustc", "--version"), "valgrind": version("valgrind", "--version")}
        print(f"{case}: {found[case]:,}" if options.write else f"{case}: counted", flush=True)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {"circumstances": {}, "instructions": {}}
    other = differences(kept["circumstances"], circumstances)
    if options.write:
        instructions = found if other else kept["instructions"] | found
        KEPT.write_text(json.dumps({"circumstances": circumstances, "instructions": instructions}, indent=2) + "\n")
        return 0
    if other and kept["instructions"]:
        print("instructions: not compared: " + "; ".join(other))
        return 0
    verdicts = [verdict(case, now, kept["instructions"].get(case)) for case, now in found.items()]
    for line, _ in verdicts:
        print(line)
    return 1 if any(bad for _, bad in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
