"""R9 and R10: signals at random moments, and the odd surroundings of containers and terminals."""

import os
import shutil
import signal
import subprocess
import time

from reliability.comparison import checkpoints
from reliability.job import CALM, PATIENCE, WHOLE, owner, shown
from reliability.kills import span
from reliability.tally import Tally, percentile
from reliability.watching import wait_for

HARD_CAP = 10.0  # seconds: a third of the grace of a pod
PROMPT = 1.0
# Seconds after which another signal is a second request: more than the half second of the program.
LATE = 0.6


def longest_step(bench, job):
    """Seconds between two steps at most, with what is looked at in between: a stop waits for that."""
    logdir = bench.fresh("steps")
    command = bench.trainer.command(logdir, job, "--checkpoint-every", "1steps", "--keep-last", "1000")
    process = bench.trainer.start(command)
    began = time.monotonic()
    times, seen = [], 0
    while process.poll() is None:
        now = len(checkpoints(logdir))
        if now > seen:
            times.append(time.monotonic())
            seen = now
        time.sleep(0.003)
    bench.trainer.end(process, began)
    shutil.rmtree(logdir, ignore_errors=True)
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    return max(gaps, default=0.0)


def stops(bench):
    """R9."""
    tally = Tally("R9", "SIGTERM or SIGINT at random, pictures included: exit 75, then resumed; a second later: 128+n")
    jobs = (CALM,) if bench.is_quick else (CALM, WHOLE)
    spans = {job.name: span(bench, job)[0] for job in jobs}
    allowed = {job.name: PROMPT + longest_step(bench, job) for job in jobs}
    for job in jobs:
        bench.reference(job), bench.states(job)
    batch = bench.batch(tally)
    took, twice = [], []
    count = bench.of(6, 50, 500)
    for number in range(count) if bench.only_point is None else [bench.only_point]:
        chance = bench.chance("R9", number)
        job = jobs[-1] if number % 5 == 4 else CALM
        # At once, as GNU timeout signals a child and its group, is one request.
        gap = {3: 0.001, 7: LATE}.get(number % 8)
        first = chance.choice((signal.SIGTERM, signal.SIGINT))
        logdir = bench.fresh("R9")
        command = bench.trainer.command(logdir, job)
        latest = spans[job.name] * 0.9
        for _ in range(8):
            shutil.rmtree(logdir, ignore_errors=True)
            ended, stopped, after = signalled(bench, command, logdir, first, gap, chance.uniform(0, latest))
            if ended.code != 0:
                break
            latest = after * 0.9  # it was finished before the signal came: the machine is faster than it was
        tally.add()
        what = f"stop {number} ({job.name}): {first.name}{f' and again {gap} s later' if gap else ''} {after:.3f} s into the run"
        commands = [bench.again("R9", number), command]
        faults = bench.states(job).faults(logdir)
        if gap == LATE and ended.code != 75:
            twice.append(stopped)
            if ended.code != 128 + other(first):
                faults.append(f"want status {128 + other(first)} after the second signal: {ended}")
            if stopped > PROMPT:
                faults.append(f"took {stopped:.2f} s after the second signal")
        else:
            took.append(stopped)
            if ended.code != 75:
                faults.append(f"want status 75: {ended}")
            elif not checkpoints(logdir):
                faults.append("there is no checkpoint")
            if stopped > min(allowed[job.name], HARD_CAP):
                faults.append(f"took {stopped:.2f} s, at most {allowed[job.name]:.2f} s are allowed")
        if not faults:
            ended = bench.trainer.run(command)
            if ended.code != 0:
                faults.append(f"cannot be finished: {ended}")
        if faults:
            batch.fail(logdir, what, faults, commands)
        else:
            batch.add(bench.reference(job), logdir, what, commands)
    batch.flush()
    if took:
        tally.found.append(f"stopped in p50 {percentile(took, 0.5):.2f} s, p99 {percentile(took, 0.99):.2f} s, at most "
                           f"{max(took):.2f} s; a step and a look take up to {max(allowed.values()) - PROMPT:.2f} s")
    if twice:
        tally.found.append(f"after a second signal at most {max(twice):.2f} s")
    return tally.close()


def other(first):
    return signal.SIGINT if first == signal.SIGTERM else signal.SIGTERM


def signalled(bench, command, logdir, first, gap, after):
    """Starts a process and signals it so many seconds after it owns the run: how it ended, and how long that took."""
    process = bench.trainer.start(command)
    began = time.monotonic()
    wait_for(lambda: owner(logdir) == process.pid or process.poll() is not None, PATIENCE)
    time.sleep(after)
    process.send_signal(first)
    sent = time.monotonic()
    if gap:
        try:
            process.wait(gap)
        except subprocess.TimeoutExpired:
            process.send_signal(other(first))
            sent = time.monotonic() if gap == LATE else sent
    ended = bench.trainer.end(process, began)
    return ended, time.monotonic() - sent, after


def surroundings(bench):
    """R10."""
    tally = Tally("R10", "as process 1, with closed or full outputs, SIGHUP, SIGPIPE: none ends or changes a run")
    reference = bench.reference(CALM)
    batch = bench.batch(tally)
    loud = [flag for flag in CALM.flags if flag != "--quiet"]

    def case(what, run, *, codes=(0,)):
        logdir = bench.fresh("R10")
        command = [str(bench.trainer.program), "--logdir", str(logdir), *loud]
        tally.add()
        ended = run(command, logdir)
        if ended.code not in codes or "panicked" in ended.stderr:
            batch.fail(logdir, what, [f"want status {codes[0]}: {ended}"], [command])
            return
        if ended.code != 0:
            ended = bench.trainer.run(command)
        if ended.code != 0:
            batch.fail(logdir, what, [f"cannot be finished: {ended}"], [command])
        else:
            batch.add(reference, logdir, what, [command])

    def shell(tail):
        return lambda command, _: bench.trainer.run(["sh", "-c", f"exec {shown(command)} {tail}"])

    case("standard output and error closed", shell(">&- 2>&-"))
    case("everything closed", shell("<&- >&- 2>&-"))
    case("standard error on a full device", shell("2>/dev/full"))
    case("both outputs on a full device", shell(">/dev/full 2>/dev/full"))
    case("the reader of standard error goes away", lambda command, _: unread(bench, command))
    for sent in (signal.SIGHUP, signal.SIGPIPE):
        case(f"{sent.name} while it trains",
             lambda command, logdir, sent=sent: while_it_runs(bench, command, logdir, sent))
    if os.geteuid() == 0 and shutil.which("unshare"):
        case("as process 1", lambda command, _: bench.trainer.run([*ALONE, *command]))
        case("SIGTERM to process 1", lambda command, logdir: stop_alone(bench, command, logdir), codes=(75,))
    else:
        tally.found.append("not as process 1: that needs root and unshare")
    batch.flush()
    return tally.close()


ALONE = ["unshare", "--pid", "--fork", "--kill-child"]


def unread(bench, command):
    """The reader of its output goes away: the pipe is closed as soon as training begins."""
    began = time.monotonic()
    process = bench.trainer.start(command)
    process.stderr.readline()
    process.stderr.close()
    process.stderr = None
    return bench.trainer.end(process, began)


def while_it_runs(bench, command, logdir, sent):
    began = time.monotonic()
    process = bench.trainer.start(command)
    wait_for(lambda: checkpoints(logdir) or process.poll() is not None, PATIENCE)
    process.send_signal(sent)
    return bench.trainer.end(process, began)


def stop_alone(bench, command, logdir):
    """SIGTERM to process 1 of a namespace, from outside, as a container's runtime sends it."""
    began = time.monotonic()
    process = bench.trainer.start([*ALONE, *command])
    wait_for(lambda: checkpoints(logdir) or process.poll() is not None, PATIENCE)
    asked = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
    for pid in subprocess.run(asked, capture_output=True, text=True).stdout.split():
        os.kill(int(pid), signal.SIGTERM)
    return bench.trainer.end(process, began)
