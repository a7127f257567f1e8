"""Tests runs under faults of disks, signals and clocks, and reports the results.

    make reliability                                    all goals, docs/reliability.md (an hour)
    make reliability ARGS=--quick                       a part of each, three minutes
    make reliability ARGS='--only R1,R9 --seed 7'       some goals
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from reliability import audit, clocks, faults, kills, owners, programs, settings, soak, space, stops, table, tails
from reliability.bench import Bench
from reliability.job import ROOT, Trainer
from reliability.tally import Tally

# In the order in which they are tried: what is quick to fail comes first.
GOALS = {
    "audit": audit.prove, "R12": space.refused, "R14": settings.prove, "R16": soak.starts, "R10": stops.surroundings,
    "R8": clocks.prove, "R11": space.full, "R9": stops.stops, "R7": owners.prove, "R6": tails.prove, "R2": faults.kills,
    "R3": faults.errors, "R1": kills.prove, "R15": soak.soak, "R4": programs.prove, "R8p": programs.clocks,
}
# Goals that are a part of others: R5 comes with R4, and R13 (never without a good checkpoint) with R2.
WITH = {"R5": "R4", "X": "R4", "R13": "R2"}
SAID_AGAIN = 3  # failures of a goal that are repeated at the end
TARGET = os.environ.get("CARGO_TARGET_DIR", "target")
PAGE = ROOT / "docs" / "reliability.md"


def arguments():
    parser = argparse.ArgumentParser(prog="make reliability", description=__doc__.splitlines()[0])
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", dest="amount", action="store_const", const="quick", help="a part of each goal")
    amount.add_argument("--long", dest="amount", action="store_const", const="long", help="several times as much")
    parser.set_defaults(amount="full")
    parser.add_argument("--only", default="", help="goals to try, with commas: " + ",".join(GOALS))
    parser.add_argument("--point", type=int, help="one point of the goal, as a failure names it")
    parser.add_argument("--seed", type=int, help="seed of all randomness; printed if it is not given")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="runs at the same time")
    parser.add_argument("--trainer", type=Path, default=ROOT / TARGET / "release" / "trainer")
    parser.add_argument("--work", type=Path, help="directory for runs under test, default: a temporary one")
    parser.add_argument("--keep", type=Path, default=ROOT / "target" / "reliability", help="directory for failed runs")
    parser.add_argument("--write", action="store_true", help="write the results into docs/reliability.md")
    options = parser.parse_args()
    wanted = [WITH.get(goal, goal) for goal in options.only.split(",") if goal]
    if unknown := [goal for goal in wanted if goal not in GOALS]:
        parser.error(f"--only: there is no goal {', '.join(unknown)}")
    if not options.trainer.exists():
        parser.error(f"{options.trainer} is not there; make build")
    options.goals = [goal for goal in GOALS if not wanted or goal in wanted]
    return options


def main():
    options = arguments()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    parent = Path(tempfile.mkdtemp(prefix="reliability-", dir=options.work))
    trainer = Trainer(options.trainer)
    commit = trainer.commit()
    print(f"reliability of {trainer.program} ({commit}), seed {seed}", flush=True)
    bench = Bench(trainer, parent, options.keep, seed, options.amount, options.jobs, options.point)
    tallies = []
    try:
        for goal in options.goals:
            for tally in tried(goal, bench):
                tallies.append(tally)
                print(table.text([tally]).splitlines()[1], flush=True)
            if options.write:
                table.write(PAGE, tallies, commit)
    finally:
        shutil.rmtree(parent, ignore_errors=True)
    print("\n" + table.text(tallies))
    failures = [failure for tally in tallies for failure in tally.failures]
    if failures:
        print(f"\n{len(failures)} failures, seed {seed}:")
        for tally in tallies:
            for failure in tally.failures[:SAID_AGAIN]:
                print(f"{tally.goal} {failure}")
            if more := tally.failures[SAID_AGAIN:]:
                print(f"{tally.goal} and {len(more)} more, above")
    return 1 if failures else 0


def tried(goal, bench):
    """The tallies of a goal; a goal that cannot be completed is a failure."""
    began = time.monotonic()
    try:
        found = GOALS[goal](bench)
    except Exception as error:  # the other goals are tried all the same
        tally = Tally(goal, "")
        tally.fail("the goal itself", f"{type(error).__name__}: {error}", [bench.again(goal, 0)])
        tally.seconds = time.monotonic() - began
        return [tally]
    return found if isinstance(found, list) else [found]


if __name__ == "__main__":
    sys.exit(main())
