"""The quick part of `make reliability`: runs are killed, failed, stopped, raced for, and have to come out the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
TRAINER = Path(os.environ.get("TRAINER", TARGET / "release" / "trainer"))
PATIENCE = 1800


# What needs strace or root says so in its row and is not tried; R4, R5 and the rest of R8 are tests of cargo.
@pytest.mark.parametrize("goal", ["audit", "R1", "R2", "R3", "R6", "R7", "R8", "R9", "R10", "R11", "R12", "R14", "R16"])
def test_runs_survive(goal):
    if not TRAINER.exists():
        pytest.exit(f"{TRAINER} is not there; run `make build`", returncode=2)
    command = [sys.executable, ROOT / "scripts" / "reliability", "--quick", "--only", goal, "--trainer", TRAINER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith(f"{goal} "))
    if "not tried: " in row:
        pytest.skip(row.partition("not tried: ")[2])
    assert int(row.split()[1]) > 0, row
