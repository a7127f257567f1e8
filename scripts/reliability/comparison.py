"""Comparison of an interrupted with an uninterrupted run: weights, optimizer, manifest, result, every point.

Values that describe time, process and directory are not compared; their presence, once and at the same steps, is.
"""

import json
import re
import shutil
import tempfile
import threading
from pathlib import Path

from reliability import loaders
from reliability.job import shown

# Values that describe time, the process or its directory.
VOLATILE = ("images_per_second", "time/", "run/", "profile/", "_hparams_/")
# Entries of manifests and results for times and the number of attempts.
TIMES = {"seconds", "images_per_second", "attempts", "attempt", "log_bytes", "observers_share", "started", "ended",
         "finished", "wall", "wall_time", "program", "lost_log_entries", "lost_entries", "host", "pid", "run_id"}
LOSSES = "event_log/lost_entries"  # there where something was lost, and only there
FILES = ("model.safetensors", "optimizer.safetensors", "best.safetensors")


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [without_times(item) for item in value]
    return value


def read_json(path):
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        return {"unreadable": f"{error}"}


def checkpoints(logdir):
    """step -> directory of each published checkpoint."""
    found = {}
    for path in Path(logdir).glob("checkpoints/ckpt-" + "[0-9]" * 12):
        found[int(path.name[5:])] = path
    return dict(sorted(found.items()))


class States:
    """The weights and the optimizer state after every step of the uninterrupted run."""

    def __init__(self, logdir):
        self.of = {step: {name: (path / name).read_bytes() for name in FILES if (path / name).exists()}
                   for step, path in checkpoints(logdir).items()}

    def faults(self, logdir):
        """Faults in the published checkpoints of a run: each has to hold one of these states completely."""
        found = []
        for step, path in checkpoints(logdir).items():
            if step not in self.of:
                found.append(f"{path}: no run has a checkpoint of step {step}")
                continue
            manifest = read_json(path / "manifest.json")
            if manifest.get("step") != step:
                found.append(f"{path}/manifest.json: of step {manifest.get('step', manifest)}")
            sizes = {entry["name"]: entry["bytes"] for entry in manifest.get("files", [])}
            for name, size in sizes.items():
                there = (path / name).stat().st_size if (path / name).exists() else None
                if there != size:
                    found.append(f"{path / name}: {there} bytes, the manifest says {size}")
            for name, want in self.of[step].items():
                if not (path / name).exists() or (path / name).read_bytes() != want:
                    found.append(f"{path / name}: not the bytes of step {step}")
        return found


class Reference:
    """The uninterrupted run, and the comparisons with it."""

    def __init__(self, logdir):
        self.logdir = Path(logdir)
        self.slow = loaders.slow(self.logdir)
        with tempfile.TemporaryDirectory() as parent:
            (Path(parent) / "run").symlink_to(self.logdir.resolve())
            copied = Path(parent) / "copied"
            copy_events(self.logdir, copied / "run")
            self.fast = loaders.fast(copied)["run"]
        self.files = files(self.logdir)
        self.facts = facts(self.logdir)

    @property
    def points(self):
        return sum(map(len, self.slow.values()))

    def file_faults(self, logdir, lost=False):
        """Differences that need no loader; `lost`: the run said that points are missing, and snapshots are points."""
        found, ours = [], files(logdir)
        for name in sorted(self.files.keys() | ours.keys()):
            if name not in ours:
                if not (lost and name.startswith("plugins/")):
                    found.append(f"{name} is missing")
            elif name not in self.files:
                found.append(f"{name} is not there in a run that was not interrupted")
            elif ours[name] != self.files[name]:
                # A configuration leads to the points that are there.
                if lost and name.endswith("/projector_config.pbtxt"):
                    found += dangling(Path(logdir) / name)
                else:
                    found.append(f"{name} has other bytes")
        return found + differences(self.facts, facts(logdir))

    def slow_faults(self, logdir, may_miss=()):
        return series_faults(self.slow, loaders.slow(logdir), "slow loader", may_miss)

    def fast_faults(self, series, may_miss=()):
        return series_faults(self.fast, series, "fast loader", may_miss)


def dangling(config):
    """Files that a configuration of the Projector leads to and that are not there: one such hides the tab for all runs."""
    leads = re.findall(r'_path: "([^"]*)"', config.read_text())
    return [f"{config}: {name} is not there" for name in leads if not (config.parent / name).is_file()]


def copy_events(logdir, to):
    """Event files alone, as links if possible."""
    for path in Path(logdir).rglob("*tfevents*"):
        target = to / path.relative_to(logdir)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, target)


def files(logdir):
    """Files that must have equal bytes: weights, the newest checkpoint's state, the projector's files."""
    logdir = Path(logdir)
    found = {}
    for path in [logdir / "model.safetensors", logdir / "best.safetensors", *sorted(logdir.glob("plugins/**/*"))]:
        if path.is_file() and "tfevents" not in path.name:
            found[path.relative_to(logdir).as_posix()] = path.read_bytes()
    newest = list(checkpoints(logdir).items())[-1:]
    for step, path in newest:
        for name in FILES:
            if (path / name).exists():
                found[f"newest checkpoint ({step})/{name}"] = (path / name).read_bytes()
    return found


def facts(logdir):
    """The newest manifest and the result, without times."""
    newest = [read_json(path / "manifest.json") for path in list(checkpoints(logdir).values())[-1:]]
    manifest = newest[0] if newest else {}
    return {"manifest": without_times({"step": manifest.get("step"), "facts": manifest.get("facts")}),
            "result": without_times(read_json(Path(logdir) / "result.json")),
            "metrics.jsonl": journal(logdir)}


def journal(logdir):
    """The journal's entries for each epoch and for the end, by its reading rules: the last attempt wins."""
    path = Path(logdir) / "metrics.jsonl"
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            said = json.loads(line)
        except ValueError:
            found["damaged"] = line[:100]
            continue
        if said["kind"] in ("epoch", "final"):
            key = f"epoch {said['epoch']}" if said["kind"] == "epoch" else "final"
            found[key] = without_times({**said, "time": None})
    return found


def differences(want, ours, where=""):
    """The leaves in which two values made of dictionaries differ."""
    if isinstance(want, dict) and isinstance(ours, dict):
        found = []
        for key in sorted(want.keys() | ours.keys()):
            found += differences(want.get(key), ours.get(key), f"{where}.{key}" if where else key)
        return found
    return [] if want == ours else [f"{where}: {str(ours)[:200]}, want {str(want)[:200]}"]


def is_volatile(tag):
    return tag.startswith(VOLATILE)


def series_faults(want, ours, who, may_miss=()):
    """Differences of one loader from the expected points. For tags with these prefixes the run reported missing points."""
    found = []
    for run, tag in sorted(want.keys() | ours.keys()):
        excused = tag.startswith(tuple(may_miss))
        if excused and tag == LOSSES:
            continue
        expected, shown_points = want.get((run, tag), []), ours.get((run, tag), [])
        name = f"{who}: {run} {tag}"
        steps = [step for step, _ in shown_points]
        if len(set(steps)) != len(steps):
            twice = sorted({step for step in steps if steps.count(step) > 1})
            found.append(f"{name}: steps {twice[:5]} are there more than once")
        elif steps != sorted(steps):
            found.append(f"{name}: steps out of order: {steps[:10]}")
        wanted, got = dict(expected), dict(shown_points)
        missing = [step for step in wanted if step not in got]
        extra = [step for step in got if step not in wanted]
        if missing and not excused:
            found.append(f"{name}: steps {missing[:5]} are missing")
        if extra:
            found.append(f"{name}: steps {extra[:5]} are too many")
        if not is_volatile(tag):
            other = [step for step in wanted if step in got and wanted[step] != got[step]]
            if other:
                found.append(f"{name}: other values at steps {other[:5]}")
    return found


def lost_entries(logdir):
    """Number of log entries that the run reports as lost."""
    return read_json(Path(logdir) / "result.json").get("lost_log_entries", 0)


class Batch:
    """Finished runs that wait to be read by the data server together: starting it costs more than a run does."""

    def __init__(self, tally, parent, keep, size=40):
        self.tally, self.parent, self.keep, self.size = tally, Path(parent), Path(keep), size
        self.waiting, self.lock = [], threading.Lock()
        self.count = 0

    def add(self, reference, logdir, what, commands=(), faults=(), rowless=False):
        """Judges a finished run: files and the slow loader's view now, the fast one's later. Removes the directory."""
        logdir = Path(logdir)
        lost = lost_entries(logdir) > 0
        # Losses are counted, but for a row of HParams, of which a warning tells.
        may_miss = ("",) if lost else ("_hparams_/",) if rowless else ()
        faults = [*faults, *reference.file_faults(logdir, lost), *reference.slow_faults(logdir, may_miss)]
        if faults:
            self.fail(logdir, what, faults, commands)
            return
        with self.lock:
            name = f"run-{self.count:06}"
            self.count += 1
            copy_events(logdir, self.parent / name)
            self.waiting.append((reference, name, what, tuple(commands), may_miss))
            full = len(self.waiting) >= self.size
        shutil.rmtree(logdir, ignore_errors=True)
        if full:
            self.flush()

    def fail(self, logdir, what, faults, commands):
        kept = ""
        if Path(logdir).exists():
            kept = self.keep / f"{self.tally.goal}-{len(self.tally.failures)}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(kept, ignore_errors=True)
            shutil.move(logdir, kept)
        more = f" (and {len(faults) - 4} more)" if len(faults) > 4 else ""
        commands = [command if isinstance(command, str) else shown(command) for command in commands]
        self.tally.fail(what, "; ".join(faults[:4]) + more, commands, kept)

    def flush(self):
        with self.lock:
            if not self.waiting:
                return
            seen = loaders.fast(self.parent)
            for reference, name, what, commands, may_miss in self.waiting:
                faults = reference.fast_faults(seen.get(name, {}), may_miss)
                if faults:
                    self.fail(self.parent / name, what, faults, commands)
                shutil.rmtree(self.parent / name, ignore_errors=True)
            self.waiting.clear()
