"""R1: SIGKILL at random moments, half of them right after something was written, and on until the run is finished."""

import shutil
import threading
import time

from reliability.comparison import checkpoints
from reliability.job import CALM, WHOLE, owner
from reliability.tally import Tally
from reliability.watching import Watch, wait_for

CHAIN = 4  # kills of one run at most
WHOLE_EVERY = 8  # every so many runs, one with everything that can be looked at


def prove(bench):
    tally = Tally("R1", "SIGKILL at random, half of them right after a write or a rename; resumed until finished")
    wanted = bench.of(12, 500, 2000)
    batch = bench.batch(tally)
    jobs = (CALM,) if bench.is_quick else (CALM, WHOLE)
    spans = {job.name: span(bench, job) for job in jobs}
    for job in jobs:
        bench.reference(job), bench.states(job)
    lock, at = threading.Lock(), [0, 0]

    def chain(number):
        with lock:
            if at[0] >= wanted:
                return
        job = jobs[-1] if number % WHOLE_EVERY == WHOLE_EVERY - 1 else CALM
        killed = run_chain(bench, tally, batch, job, number, spans[job.name])
        with lock:
            at[0] += killed
            at[1] += 1

    bench.each(range(wanted), chain)
    batch.flush()
    tally.found.append(f"{at[1]} runs of {bench.reference(CALM).points} points each")
    return tally.close()


def span(bench, job):
    """Seconds from the moment a process owns its run to its end, and how often it writes, renames or removes."""
    logdir = bench.fresh("span")
    logdir.mkdir(parents=True)
    process = bench.trainer.start(bench.trainer.command(logdir, job))
    count, began = 0, time.monotonic()
    with Watch(logdir) as watch:
        for _ in watch.events(lambda: process.poll() is not None):
            count = count or 0
            if count == 0:
                began = time.monotonic()
            count += 1
    bench.trainer.end(process, began)
    shutil.rmtree(logdir, ignore_errors=True)
    return time.monotonic() - began, max(count, 10)


def kill_once(bench, command, logdir, chance, seconds, writes):
    """Starts a process and kills it at a moment that chance chooses: what was done, and how the process ended."""
    process = bench.trainer.start(command)
    began = time.monotonic()
    if chance.random() < 0.5:
        after = chance.uniform(0, seconds)
        how = f"{after:.3f} s after it owned the run"
        wait_for(lambda: owner(logdir) == process.pid or process.poll() is not None, 60)
        deadline = time.monotonic() + after
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(min(0.005, max(0, deadline - time.monotonic())))
    else:
        nth = chance.randint(1, writes)
        how = f"after write {nth}"
        seen = 0
        with Watch(logdir) as watch:
            for _, path in watch.events(lambda: process.poll() is not None):
                seen += 1
                if seen >= nth:
                    how += f", to {path.relative_to(logdir) if path.is_relative_to(logdir) else path}"
                    break
    process.kill()
    return how, bench.trainer.end(process, began)


def run_chain(bench, tally, batch, job, number, measured):
    """One run, killed up to CHAIN times, then let go on to its end. The number of kills that hit."""
    chance = bench.chance("R1", number)
    logdir = bench.fresh("R1")
    logdir.mkdir(parents=True)
    command = bench.trainer.command(logdir, job)
    killed, story, newest = 0, [], 0
    what = lambda: f"run {number} ({job.name}), killed " + "; ".join(story)  # noqa: E731
    commands = [bench.again("R1", number), command]
    for _ in range(chance.randint(1, CHAIN)):
        how, ended = kill_once(bench, command, logdir, chance, *measured)
        if not ended.killed:
            if ended.code != 0:
                tally.add()
                batch.fail(logdir, what(), [f"before it was killed: {ended}"], commands)
                return killed + 1
            break  # it was finished first
        killed += 1
        tally.add()
        story.append(how)
        faults = bench.states(job).faults(logdir)
        now = max(checkpoints(logdir), default=0)
        if now < newest:
            faults.append(f"the newest checkpoint was of step {newest}, and is of step {now} now")
        newest = now
        if faults:
            batch.fail(logdir, what(), faults, commands)
            return killed
    ended = bench.trainer.run(command)
    if ended.code != 0:
        batch.fail(logdir, what(), [f"cannot be finished: {ended}"], commands)
    else:
        batch.add(bench.reference(job), logdir, what(), commands)
    return killed
