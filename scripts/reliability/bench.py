"""Settings shared by all goals: the program, the work directory, the seed, the amount of work, and reference runs."""

import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reliability.comparison import Batch, Reference, States
from reliability.job import shown


class Bench:
    def __init__(self, trainer, work, keep, seed, amount, jobs, only_point=None):
        self.trainer, self.work, self.keep = trainer, Path(work), Path(keep)
        self.seed, self.amount, self.jobs, self.only_point = seed, amount, jobs, only_point
        self._references, self._states, self._lock = {}, {}, threading.Lock()
        self._count = 0

    def of(self, quick, full, long=None):
        """The number for the requested amount of work."""
        return {"quick": quick, "full": full, "long": full if long is None else long}[self.amount]

    @property
    def is_quick(self):
        return self.amount == "quick"

    def chance(self, goal, point):
        """A generator that depends only on the seed, the goal and the point: a point can be repeated by itself."""
        return random.Random(f"{self.seed}/{goal}/{point}")

    def again(self, goal, point):
        """The command that repeats one point."""
        flag = "" if self.amount == "full" else f" --{self.amount}"
        return f"make reliability ARGS='--only {goal} --point {point} --seed {self.seed}{flag}'"

    def fresh(self, name):
        """An unused path."""
        with self._lock:
            self._count += 1
            path = self.work / f"{name}-{self._count}"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def batch(self, tally, **how):
        return Batch(tally, self.fresh(f"{tally.goal}-batch"), self.keep, **how)

    def finish(self, logdir, job, *more):
        """Runs to the end, or reports the failure."""
        return self.trainer.run(self.trainer.command(logdir, job, *more))

    def reference(self, job):
        """The uninterrupted run of this job."""
        with self._lock:
            found = self._references.get(job.name)
        if found is None:
            logdir = self.work / f"reference-{job.name}"
            shutil.rmtree(logdir, ignore_errors=True)
            self._demand(logdir, job)
            found = Reference(logdir)
            with self._lock:
                self._references[job.name] = found
        return found

    def states(self, job):
        """The state after every step of this job."""
        with self._lock:
            found = self._states.get(job.name)
        if found is None:
            logdir = self.work / f"states-{job.name}"
            shutil.rmtree(logdir, ignore_errors=True)
            self._demand(logdir, job, "--checkpoint-every", "1steps", "--keep-last", "1000")
            found = States(logdir)
            with self._lock:
                self._states[job.name] = found
        return found

    def _demand(self, logdir, job, *more):
        ended = self.finish(logdir, job, *more)
        if ended.code != 0:
            raise RuntimeError(f"the run to compare with did not come to its end: {ended}\n"
                               f"{shown(self.trainer.command(logdir, job, *more))}")

    def each(self, points, act):
        """Calls a function for every point, or for the requested one, with the requested concurrency."""
        points = list(points)
        if self.only_point is not None:
            points = [point for point in points if point == self.only_point]
        if self.jobs == 1:
            for point in points:
                act(point)
            return
        with ThreadPoolExecutor(self.jobs) as pool:
            for _ in pool.map(act, points):
                pass
