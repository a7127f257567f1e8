"""R4, R5, R8 and other tests inside the process: test programs that print the number of their points."""

import os
import re
import subprocess
import time

from reliability.job import ROOT
from reliability.tally import Tally

PROOF = re.compile(r"^proof: (?P<goal>[A-Z]\d*)\b:? ?(?P<what>.*?): (?P<points>[\d,]+) points, "
                   r"(?P<failures>[\d,]+) failures", re.MULTILINE)
RAN = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed", re.MULTILINE)
CARGO = os.environ.get("CARGO", "cargo")
# In one process, under clocks that are an argument.
CLOCKS = ("a_new_file_sorts_last_whatever_the_clock_says", "times_of_a_run_do_not_go_back_when_the_clock_does",
          "wall_time_is_finite_and_not_negative", "a_name_that_nothing_sorts_after_is_an_error")
TRIED = {
    "R4": "in process: power cuts at every operation of seeded histories; unsynced data dropped, torn, reordered",
    "R5": "in process: a checkpoint cut at every length, every bit flipped, random edits: none is taken for good",
    "R2 in process": "a kill at every call of the store of checkpoints, also while it removes them",
    "R3 in process": "an error from every call of the store of checkpoints",
    "X": "in process: parsers on mutated input: no panic, memory bounded",
}


def prove(bench):
    """R4, R5, and whatever else the programs of tests/ say of themselves."""
    names = [name for name in ("durable", "mutations") if (ROOT / "tests" / f"{name}.rs").exists()]
    seeds = str(bench.of(1000, 10_000, 1_000_000))
    tallies = {}
    for name in names:
        began = time.monotonic()
        command = [CARGO, "test", "--release", "--locked", "--test", name, "--", "--nocapture"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                              env={**os.environ, "TRAINER_TEST_SEEDS": seeds})
        found = tallies_of(done.stdout + done.stderr)
        if done.returncode != 0 or not found:
            goal = "R4" if name == "durable" else "X"
            tally = found.setdefault(goal, Tally(goal, TRIED[goal]))
            tally.fail(name, f"status {done.returncode}: {(done.stdout + done.stderr).strip()[-600:]}",
                       [f"TRAINER_TEST_SEEDS={seeds} {' '.join(command)}"])
        for goal, tally in found.items():
            tally.seconds = time.monotonic() - began
            if goal in tallies:
                tallies[goal].points += tally.points
                tallies[goal].found += tally.found
                tallies[goal].failures += tally.failures
            else:
                tallies[goal] = tally
    if "R4" not in tallies:
        missing = Tally("R4", TRIED["R4"])
        missing.skipped = "tests/durable.rs is not there"
        tallies["R4"] = missing
    return list(tallies.values())


def tallies_of(said):
    """goal -> the sum of what the programs printed of it."""
    found = {}
    for line in PROOF.finditer(said):
        # Tests from outside have rows of their own.
        goal = line["goal"] if line["goal"] in TRIED else f"{line['goal']} in process"
        tally = found.setdefault(goal, Tally(goal, TRIED.get(goal, line["what"])))
        points, failures = (int(line[key].replace(",", "")) for key in ("points", "failures"))
        tally.points += points
        if line["what"]:
            tally.found.append(f"{line['what']} {points:,}")
        if failures:
            tally.fail(line["what"], f"{failures} of {points} points", [line[0]])
    return found


def clocks(bench):
    """R8, inside: tests under clocks that go back, jump, and stand still."""
    tally = Tally("R8 in process", "clocks that go back and jump, as an argument: names sort last, times never go back")
    for name in CLOCKS:
        command = [CARGO, "test", "--release", "--locked", "--lib", name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        passed, failed = (sum(int(match[at]) for match in RAN.finditer(done.stdout)) for at in (1, 2))
        tally.add(passed + failed)
        if done.returncode != 0 or passed == 0:
            tally.fail(name, f"status {done.returncode}, {passed} passed: {(done.stdout + done.stderr).strip()[-300:]}",
                       [" ".join(command)])
    return tally.close()
