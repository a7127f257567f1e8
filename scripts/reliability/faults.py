"""R2 and R3: every system call of a short run that persists something, killed at or failed, and on until finished.

The calls are those of a recorded trace. strace counts for each thread by itself: the first thread is traced alone, and
so hit exactly; to the one that writes the event log strace is attached as soon as there is one.
"""

import itertools
import os
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from reliability import trace
from reliability.comparison import checkpoints, lost_entries
from reliability.job import PATIENCE, SHORT
from reliability.tally import Tally
from reliability.watching import wait_for

ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS")
FAILING = ("openat", "write", "fsync", "fdatasync", "rename", "renameat", "renameat2", "mkdir", "mkdirat")
# Exit codes for output that cannot be written: a disk error, a bad path, a missing permission.
FAIR = (0, 73, 74, 77)
MOST_WAIT = 60
NO_ROW = "HParams may not show this run"
LOG_THREAD = "event-log"


@dataclass(frozen=True)
class Place:
    """A call to tamper with."""

    name: str
    when: int
    in_log: bool  # in the thread that writes the event log, not in the first thread
    resumed: bool  # of a process that goes on with a run, not of one that begins it
    path: str

    def __str__(self):
        return (f"{self.name} {self.when} of the {'log' if self.in_log else 'first'} thread, "
                f"{'going on' if self.resumed else 'beginning'}: {self.path}")


def places(bench, resumed):
    """Every persisting call below the run directory, first thread and others; and where the first cycle ends."""
    logdir = begun(bench, resumed)
    _, calls = trace.record(bench.trainer, bench.trainer.command(logdir, SHORT))
    first = calls[0].tid
    mine = [call for call in calls if trace.below(call.path, logdir)]
    shutil.rmtree(logdir, ignore_errors=True)
    published = [index for index, call in enumerate(mine)
                 if call.renames and call.worked and Path(call.to).name.startswith("ckpt-")]
    # With one kept, the second publication removes the first: that is a whole cycle.
    end = published[min(1, len(published) - 1)] + 25 if published else len(mine)
    found, seen = [], set()
    for index, call in enumerate(mine):
        key = (call.name, call.ordinal, call.tid != first)
        if key not in seen:
            seen.add(key)
            path = call.path[len(str(logdir)) + 1:] or "."
            found.append((index <= end, Place(call.name, call.ordinal, call.tid != first, resumed, path)))
    return found


def tampered(bench, command, place, what, when, log=os.devnull):
    """Runs a command of which one call is tampered with."""
    if not place.in_log:
        return bench.trainer.run([*trace.injecting(place.name, what, when, log), *command])
    began = time.monotonic()
    process = bench.trainer.start(command)
    wait_for(lambda: trace.thread_named(process.pid, LOG_THREAD) or process.poll() is not None, PATIENCE)
    thread = trace.thread_named(process.pid, LOG_THREAD)
    tracing = None
    if thread is not None and process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        tracing = trace.inject_into(thread, place.name, what, when, log)
        process.send_signal(signal.SIGCONT)
    ended = bench.trainer.end(process, began)
    if tracing is not None:
        tracing.wait()
    return ended


def begun(bench, resumed):
    """A run directory: empty, or that of a run that was stopped after its fifth step."""
    logdir = bench.fresh("faults")
    if resumed:
        template = bench.work / "stopped"
        if not template.exists():
            stop_in_the_middle(bench, template)
        shutil.copytree(template, logdir, symlinks=True)
    return logdir


def stop_in_the_middle(bench, logdir):
    """A run that is killed when it has published a checkpoint, and is not at its end."""
    for _ in range(20):
        shutil.rmtree(logdir, ignore_errors=True)
        process = bench.trainer.start(bench.trainer.command(logdir, SHORT))
        wait_for(lambda: checkpoints(logdir) or process.poll() is not None, PATIENCE)
        process.send_signal(signal.SIGKILL)
        bench.trainer.end(process, 0)
        if 0 < max(checkpoints(logdir), default=0) < SHORT.steps:
            return
    raise RuntimeError("no run could be killed between its first checkpoint and its end")


def chosen(bench, names=None):
    """The places to try: with --quick every seventh of a cycle."""
    found = [place for resumed in (False, True) for place in places(bench, resumed)
             if names is None or place[1].name in names]
    if bench.is_quick:
        found = [place for place in found if place[0] and not place[1].resumed][::7]
    return [place for _, place in found]


def kills(bench):
    """R2: SIGKILL at every call."""
    tally = Tally("R2", "SIGKILL at every open, write, sync, rename, removal, mkdir of a run, begun and resumed")
    if reason := trace.available():
        tally.skipped = reason
        return tally.close()
    reference, states = bench.reference(SHORT), bench.states(SHORT)
    at, hit = chosen(bench), []
    batch = bench.batch(tally)

    def one(number):
        place = at[number]
        logdir = begun(bench, place.resumed)
        before = max(checkpoints(logdir), default=0)
        command = bench.trainer.command(logdir, SHORT)
        ended = tampered(bench, command, place, "signal=SIGKILL", place.when)
        tally.add()
        what, commands = f"point {number}, {place}", [bench.again("R2", number), command]
        faults = states.faults(logdir)
        if ended.killed:
            hit.append(number)
        elif ended.code != 0:
            faults.append(f"not killed, and yet {ended}")
        after = max(checkpoints(logdir), default=0)
        if after < before:
            faults.append(f"the newest checkpoint was of step {before}, and is of step {after} now")
        if faults:
            batch.fail(logdir, what, faults, commands)
            return
        ended = bench.trainer.run(command)
        if ended.code != 0:
            batch.fail(logdir, what, [f"cannot be finished: {ended}"], commands)
        else:
            batch.add(reference, logdir, what, commands)

    bench.each(range(len(at)), one)
    batch.flush()
    tally.found.append(f"{len(hit)} processes died at their call")
    return tally.close()


def errors(bench):
    """R3: an error from every call, once and from then on."""
    tally = Tally("R3", f"{', '.join(ERRORS)} from every such call, once and from then on; then again without faults")
    if reason := trace.available():
        tally.skipped = reason
        return tally.close()
    reference, states = bench.reference(SHORT), bench.states(SHORT)
    failing = chosen(bench, FAILING)
    every = list(itertools.product(failing, ERRORS, (False, True)))
    # Every error at every call, and from that call on one of them, in turn: for each of them there is --long.
    full = [*itertools.product(failing, ERRORS, (False,)),
            *((place, ERRORS[number % len(ERRORS)], True) for number, place in enumerate(failing))]
    at = bench.of(every[::11], full, every)
    codes, hit = {}, []
    batch = bench.batch(tally)

    def one(number):
        place, error, lasting = at[number]
        logdir = begun(bench, place.resumed)
        before = {step: {path.name: path.read_bytes() for path in directory.iterdir()}
                  for step, directory in checkpoints(logdir).items()}
        command = bench.trainer.command(logdir, SHORT)
        when = f"{place.when}+" if lasting else place.when
        with tempfile.NamedTemporaryFile(prefix="injected-") as log:
            ended = tampered(bench, command, place, f"error={error}", when, log.name)
            if "(INJECTED)" in Path(log.name).read_text(errors="replace"):
                hit.append(number)
        tally.add()
        codes[ended.code] = codes.get(ended.code, 0) + 1
        what = f"point {number}, {error} {'from then on' if lasting else 'once'} at {place}"
        commands = [bench.again("R3", number), command]
        faults = states.faults(logdir) + blamed(ended, logdir, place, lasting)
        if ended.code != 0 and before and not checkpoints(logdir):
            faults.append(f"no checkpoint is left of {sorted(before)}")
        for step, directory in checkpoints(logdir).items():
            for name, content in before.get(step, {}).items():
                if not (directory / name).exists() or (directory / name).read_bytes() != content:
                    faults.append(f"{directory / name} was changed")
        rowless = NO_ROW in ended.stderr
        if not faults:
            ended = bench.trainer.run(command)
            if ended.code != 0:
                faults.append(f"cannot be finished without faults: {ended}")
        if faults:
            batch.fail(logdir, what, faults, commands)
        else:
            if lost_entries(logdir):
                codes["with gaps"] = codes.get("with gaps", 0) + 1
            batch.add(reference, logdir, what, commands, rowless=rowless)

    bench.each(range(len(at)), one)
    batch.flush()
    tally.found.append(f"{len(at):,} of {len(every):,} combinations, {len(hit):,} met their error")
    tally.found.append("exit codes " + ", ".join(f"{code}: {count}" for code, count in sorted(codes.items(), key=str)))
    return tally.close()


def blamed(ended, logdir, place, lasting):
    """Faults in the exit of a process that met an error."""
    if "panicked" in ended.stderr or ended.code not in FAIR:
        return [f"ended badly: {ended}"]
    if ended.seconds > MOST_WAIT:
        return [f"took {ended.seconds:.0f} s"]
    # A lasting error of `write` affects standard error as well, so no message is possible.
    mute = place.name == "write" and lasting and not place.in_log
    if ended.code != 0 and not mute and str(logdir) not in ended.stderr and str(logdir.name) not in ended.stderr:
        return [f"the message has no path: {ended}"]
    return []

