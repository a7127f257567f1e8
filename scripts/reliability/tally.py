"""Results of one goal: number of points, failures, and commands that repeat them."""

import threading
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Failure:
    """One point that failed: the action, the fault, and the commands that repeat it."""

    what: str
    why: str
    commands: tuple = ()
    kept: str = ""

    def __str__(self):
        lines = [f"{self.what}: {self.why}"]
        lines += [f"    {command}" for command in self.commands]
        if self.kept:
            lines.append(f"    kept in {self.kept}")
        return "\n".join(lines)


@dataclass
class Tally:
    """The points of one goal. Safe to fill from several threads."""

    goal: str
    tried: str  # for the table: what a point is
    points: int = 0
    failures: list = field(default_factory=list)
    found: list = field(default_factory=list)  # for the table: figures
    skipped: str = ""  # why nothing was tried
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _began: float = field(default_factory=time.monotonic)

    def add(self, count=1):
        with self._lock:
            self.points += count

    def fail(self, what, why, commands=(), kept=""):
        failure = Failure(what, why, tuple(commands), str(kept))
        with self._lock:
            self.failures.append(failure)
        print(f"FAILED {self.goal} {failure}", flush=True)

    def close(self):
        self.seconds = time.monotonic() - self._began
        return self


def percentile(values, share):
    """The value below which this share of the values lies, by the nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -(-int(share * len(ranked) * 1000) // 1000) - 1))] if ranked else 0.0
