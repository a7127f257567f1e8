"""R15 and R16: cost of many epochs in memory and descriptors, and start-up cost of a resume."""

import os
import shutil
import statistics
import time

from reliability.faults import stop_in_the_middle
from reliability.job import SHORT, TINY, Job
from reliability.tally import Tally
from reliability.watching import wait_for

SLOPE = 1024  # KiB in 1,000 epochs
SETTLES = 0.4  # share of the run after which buffers and caches have their size
PAGE = os.sysconf("SC_PAGE_SIZE") // 1024
NOISE = 1024  # KiB: an allocator's arenas come and go by so much; over few epochs no slope stands out from it
START = 1.0  # seconds


def soak(bench):
    """R15."""
    epochs = bench.of(200, 2000, 10000)
    tally = Tally("R15", f"{epochs:,} epochs with a checkpoint after each: resident memory and open files")
    flags = [*TINY, "--epochs", str(epochs), "--batch-size", "50", "--limit-train", "50", "--limit-validation", "10",
             "--checkpoint-every", "1epoch", "--observe",
             "none,scalars=every:1epochs,steps=every:1steps,weights=every:10epochs,filters=every:50epochs"]
    job = Job("soak", tuple(flags), epochs=epochs, steps=epochs)
    logdir = bench.fresh("R15")
    command = bench.trainer.command(logdir, job)
    process = bench.trainer.start(command)
    began, samples = time.monotonic(), []
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/statm") as file:
                resident = int(file.read().split()[1]) * PAGE
            files = len(os.listdir(f"/proc/{process.pid}/fd"))
            samples.append((time.monotonic() - began, resident, files))
        except (OSError, IndexError):
            break
        time.sleep(0.05)
    ended = bench.trainer.end(process, began)
    tally.add(epochs)
    if ended.code != 0:
        tally.fail("the run", f"{ended}", [" ".join(command)])
        return tally.close()
    settled = [sample for sample in samples if sample[0] > SETTLES * ended.seconds and sample[0] < 0.97 * ended.seconds]
    times, resident, files = zip(*settled, strict=True)
    slope = statistics.linear_regression(times, resident).slope * ended.seconds / epochs * 1000
    grown = slope * epochs / 1000
    if slope > SLOPE and grown > NOISE:
        tally.fail("memory", f"grows by {slope:.0f} KiB in 1,000 epochs, at most {SLOPE} are allowed",
                   [" ".join(command)])
    third = len(files) // 3
    if max(files[-third:]) > max(files[:third]):
        tally.fail("open files", f"{max(files[:third])} at first, {max(files[-third:])} at last", [" ".join(command)])
    tally.found.append(f"{slope:+.0f} KiB in 1,000 epochs at {resident[-1] / 1024:.0f} MiB, {min(files)} to "
                       f"{max(files)} open files, {epochs / ended.seconds:.0f} epochs a second")
    return tally.close()


def starts(bench):
    """R16."""
    tally = Tally("R16", "from start to the first event file of the process, beginning and going on by turns; medians")
    stopped = bench.fresh("R16")
    stop_in_the_middle(bench, stopped)
    begins, resumes = [], []
    for _ in range(bench.of(3, 5, 15)):
        tally.add()
        begins.append(until_it_writes(bench, bench.fresh("R16")))
        resumes.append(until_it_writes(bench, copied(bench, stopped)))
    more = statistics.median(resumes) - statistics.median(begins)
    if more > START:
        tally.fail("medians", f"going on takes {more:.2f} s more than beginning, at most {START} s are allowed")
    tally.found.append(f"beginning {statistics.median(begins):.2f} s, going on {statistics.median(resumes):.2f} s")
    return tally.close()


def copied(bench, logdir):
    target = bench.fresh("R16")
    shutil.copytree(logdir, target)
    return target


def until_it_writes(bench, logdir):
    """Seconds until a process opens its first event file."""
    there = set(logdir.glob("*/*tfevents*"))
    began = time.monotonic()
    process = bench.trainer.start(bench.trainer.command(logdir, SHORT))
    wait_for(lambda: set(logdir.glob("*/*tfevents*")) - there or process.poll() is not None, 60)
    took = time.monotonic() - began
    process.kill()
    bench.trainer.end(process, began)
    return took
