"""The quick part of `make reliability`: killed, failed, stopped and contested runs must give equal results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
TRAINER = Path(os.environ.get("TRAINER", TARGET / "release" / "trainer"))
# R4, R5 and a part of R8 are cargo tests. R15 needs too many epochs.
GOALS = ("audit", "R1", "R2", "R3", "R6", "R7", "R8", "R9", "R10", "R11", "R12", "R14", "R16")
PATIENCE = 3600


@pytest.fixture(scope="module")
def said():
    if not TRAINER.exists():
        pytest.exit(f"{TRAINER} is not there; run `make build`", returncode=2)
    goals = ",".join(GOALS)
    command = [sys.executable, ROOT / "scripts" / "reliability", "--quick", "--seed", "1", "--only", goals,
               "--trainer", TRAINER]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize("goal", GOALS)
def test_runs_survive(said, goal):
    """Goals without the strace or root they need are skipped and say so in their row."""
    lines = said.stdout.splitlines()
    row = next((line.split() for line in lines if line.startswith(f"{goal} ")), None)
    assert row is not None, said.stdout + said.stderr
    if "not tried: " in " ".join(row):
        pytest.skip(" ".join(row).partition("not tried: ")[2])
    points, failures = int(row[1].replace(",", "")), int(row[2])
    assert points > 0 and failures == 0, said.stdout + said.stderr
