"""Evaluation of numbers by `make bench`: order, ratios, the page, and missed limits. Nothing is measured here."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import measuring  # noqa: E402
import scaling  # noqa: E402
from bench import epoch, figures, limits, report  # noqa: E402
from bench.__main__ import SECTIONS  # noqa: E402
from bench.limits import Limit  # noqa: E402


def section(title):
    """A section that finds a number with a lower limit of 2."""
    return SimpleNamespace(
        TITLE=title, PACKAGES={}, LIMITS={"a": Limit(f"speed of {title}", least=2)}, held=lambda found: found,
        text=lambda options, found: f"found {found}")


def test_every_other_round_is_in_the_other_order():
    options = SimpleNamespace(rounds=3)
    assert list(figures.rounds(options, "x", "ab")) == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]


def test_ratios_are_taken_within_a_round():
    assert figures.ratio([2, 40, 6], [1, 10, 3]) == 2
    table = figures.costs("s", {"trainer": [1, 2], "other": [3, 8]}, {"accuracy": {"trainer": "0.9"}})
    assert table.splitlines()[0] == "|  | median, s | range | this / trainer (range) | accuracy |"
    assert table.splitlines()[3] == "| other | 5.5 | 3 to 8 | **3.50** (3.00 to 4.00) |  |"


def test_limits_hold_or_are_named():
    sections = {"x": section("X"), "y": section("Y"), "z": section("Z")}
    said = list(limits.shortcomings(sections, {"x": {"a": 2}, "y": {"a": 1.5}, "z": {}}))
    assert said == ["speed of Y: 1.5 times, at least 2 times wanted",
                    "speed of Z: not measured, at least 2 times wanted"]
    assert Limit("", most=3).holds(3) and not Limit("", most=3).holds(3.01)


def test_a_page_keeps_what_was_not_measured(tmp_path):
    options = SimpleNamespace(out=tmp_path / "page.md", rounds=1, threads=1)
    sections = {"x": section("X"), "y": section("Y")}
    report.write(options, sections, {"x": {"a": 3}, "y": {"a": 1}})
    first = options.out.read_text() + "\n## What was tried\n\n| much | little |\n"
    options.out.write_text(first)
    report.write(options, sections, {"y": {"a": 4}})
    page = options.out.read_text()
    assert "| speed of X | at least 2 times | 3 times | yes |" in page
    assert "| speed of Y | at least 2 times | 4 times | yes |" in page and "1 times" not in page
    assert "## X\n\nfound {'a': 3}\n\nMeasured " in page and "## Y\n\nfound {'a': 4}\n\nMeasured " in page
    assert page.endswith("\n## What was tried\n\n| much | little |\n")
    report.write(options, sections, {})
    assert options.out.read_text() == page


def test_commands_take_turns_and_one_that_fails_says_why():
    spin = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    seconds = measuring.by_turns([[sys.executable, "-c", spin]] * 2, seconds=0.01)
    assert len(seconds) == 2 and all(spent >= 0.2 for spent in seconds)
    with pytest.raises(measuring.Failed, match="status 3:\nas told"):
        measuring.by_turns([["true"], ["sh", "-c", "echo as told >&2; exit 3"]])


def test_a_step_is_taken_from_what_a_run_says(tmp_path, monkeypatch):
    """scripts/scaling.py, with a fake run."""
    training = measuring.Training([{"images_per_second": 1.0}, {"images_per_second": 6400.0}], 0, 0)
    monkeypatch.setattr(measuring, "run_trainer_in", lambda *_: training)
    series = SimpleNamespace(Reload=lambda: None, Tensors=lambda tag: [SimpleNamespace(tensor_proto=0.25)])
    monkeypatch.setattr(scaling, "EventAccumulator", lambda *_, **__: series)
    monkeypatch.setattr(scaling, "make_ndarray", lambda number: number)
    step, parts = scaling.step_of(SimpleNamespace(trainer="trainer", images=64), 64, 1)
    assert step == 10 and set(parts.values()) == {2.5}


def test_the_limit_counts_the_networks_operations():
    """A network of 225,034 parameters has 2,631,040 multiply-adds forward."""
    assert epoch.FORWARD == 2 * 2_631_040
    assert epoch.STEP == 3 * epoch.FORWARD - 2 * 194_688


def test_the_page_has_every_section_and_every_limit():
    head, sections = report.parts_of((measuring.ROOT / "docs" / "benchmarks.md").read_text())
    assert set(sections) == {section.TITLE for section in SECTIONS.values()}
    assert set(limits.rows_of(head)) == {limit.what for section in SECTIONS.values() for limit in section.LIMITS.values()}
