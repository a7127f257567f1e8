"""Measures the trainer side by side with its peers, and writes docs/benchmarks.md.

    make bench                                          all sections (about two hours, an idle machine)
    make bench ARGS='--only epoch,memory --rounds 3'    some of them; the others keep their section of the page
    make bench ARGS='--limit-train 6400 --out x.md'     a quick check of the script

Fails, after everything is written, if a limit is missed.
"""

import argparse
import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import measuring
from bench import (checkpoints, epoch, eventlog, explanations, job, large, limits, memory, reader, report, startup,
                   step, tried, watching)

# A section is a module with a TITLE, the PACKAGES whose versions it names (by the option for their Python, or `cargo`),
# its LIMITS, and three functions: `measure(options, earlier)` returns its results and gets those of the earlier
# sections; `held(found)` gives the number for each limit; `text(options, found)` is its part of the page.
SECTIONS = {
    "step": step, "tried": tried, "epoch": epoch, "job": job, "watching": watching, "eventlog": eventlog,
    "reader": reader, "explanations": explanations, "large": large, "checkpoints": checkpoints, "startup": startup,
    "memory": memory,
}


def arguments():
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.split("\n")[0])
    measuring.add_arguments(parser)
    parser.add_argument("--keras-python", type=Path,
                        default=measuring.ROOT / ".deps" / "peers-keras" / "bin" / "python",
                        help="a Python that has keras")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit-train", type=int, default=60_000, help="training images of whatever is trained")
    parser.add_argument("--only", default="", help="sections to measure, with commas: " + ",".join(SECTIONS))
    parser.add_argument("--out", type=Path, default=measuring.ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name]
    if unknown := [name for name in wanted if name not in SECTIONS]:
        parser.error(f"--only: there is no section {', '.join(unknown)}")
    if options.rounds < 1:
        parser.error("at least one round")
    options.sections = [name for name in SECTIONS if not wanted or name in wanted]
    measuring.check_arguments(options)
    if not options.keras_python.exists():
        parser.error(f"{options.keras_python} is not there; make bench makes it")
    return options


def main():
    options = arguments()
    measured = {}
    for name in options.sections:
        measured[name] = SECTIONS[name].measure(options, measured)
        # Written at once: a failure of the next section would lose hours of results.
        report.write(options, SECTIONS, measured)
        print(f"written: {options.out}", flush=True)
    if short := list(limits.shortcomings(SECTIONS, measured)):
        sys.exit("bench: " + "; ".join(short))


if __name__ == "__main__":
    main()
