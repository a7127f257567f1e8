"""scripts/instructions.py: its messages about counts, and without valgrind."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "instructions.py"


@pytest.fixture
def instructions():
    spec = importlib.util.spec_from_file_location("instructions_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_more_than_three_percent_is_too_many(instructions):
    assert instructions.verdict("reader", 103, 100) == ("reader: 103 instructions, kept 100, 1.030 times as many", False)
    line, bad = instructions.verdict("reader", 1_040, 1_000)
    assert bad and line == "reader: 1,040 instructions, kept 1,000, 1.040 times as many, at most 1.03 are allowed"
    assert instructions.verdict("reader", 90, 100)[1] is False
    assert instructions.verdict("reader", 90, None)[1] is True


def test_another_processor_or_compiler_is_not_compared(instructions):
    kept = {"arch": "x86_64", "features": ["avx2"], "rustc": "rustc 1.95.0"}
    assert instructions.differences(kept, dict(kept)) == []
    assert instructions.differences(kept, {**kept, "features": []}) == [
        "features is [], kept were counts with ['avx2']"]


def test_every_case_is_kept(instructions):
    kept = json.loads((ROOT / "benches" / "instructions.json").read_text())
    assert list(kept["instructions"]) == instructions.CASES
    assert all(case in (ROOT / "benches" / "instructions.rs").read_text() for case in instructions.CASES)


@pytest.mark.parametrize("flags, status", [([], 1), (["--optional"], 0)])
def test_without_valgrind_it_says_what_to_install(tmp_path, flags, status):
    done = subprocess.run([sys.executable, SCRIPT, *flags], env={**os.environ, "PATH": str(tmp_path)},
                          capture_output=True, text=True)
    assert done.returncode == status
    assert "install it" in done.stderr
