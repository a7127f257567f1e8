"""R14: each setting that makes a run what it is, changed for a process that would go on with it."""

import os

from reliability.comparison import checkpoints, read_json
from reliability.faults import stop_in_the_middle
from reliability.job import SHORT
from reliability.tally import Tally

# Another value for each; the run's own are those of job.SHORT and the defaults.
OTHERS = {
    "seed": "1", "dataset": "mnist", "limit-train": "201", "limit-validation": "39", "batch-size": "49",
    "optimizer": "sgd", "learning-rate": "0.02", "momentum": "0.5", "weight-decay": "0.1", "conv-filters": "3",
    "kernel-size": "5", "dense-units": "7", "update-freq": "4", "histogram-freq": "2", "image-freq": "2",
    "observe": "default", "probes": "3", "precision": "bf16", "probe-seed": "1", "warm-start": "latest",
}


def prove(bench):
    tally = Tally("R14", "every fixed setting changed on the way: exit 78, a diff that names it, nothing written")
    logdir = bench.fresh("R14")
    stop_in_the_middle(bench, logdir)
    manifest = read_json(list(checkpoints(logdir).values())[-1] / "manifest.json")
    fixed = sorted(manifest["facts"]["settings"])
    for key in fixed:
        tally.add()
        if key not in OTHERS:
            tally.fail(key, "is fixed, and scripts/reliability/settings.py knows no other value to try")
            continue
        command = bench.trainer.command(logdir, SHORT)
        command = without(command, f"--{key}") + [f"--{key}", OTHERS[key], "--data-dir", "data"]
        before = standing(logdir)
        ended = bench.trainer.run(command)
        faults = []
        if ended.code != 78:
            faults.append(f"want status 78: {ended}")
        elif f"{key}: was " not in ended.stderr or f"now {OTHERS[key]}" not in ended.stderr:
            faults.append(f"the message does not say what was changed: {ended.stderr.strip()[-300:]}")
        changed = sorted(name for name, _ in before ^ standing(logdir))
        if changed:
            faults.append(f"{', '.join(changed)} changed")
        if faults:
            tally.fail(key, "; ".join(faults), [" ".join(command)])
    for key, value in (("threads", "2"), ("keep-last", "3"), ("checkpoint-every", "5steps"), ("epochs", "3")):
        tally.add()
        ended = bench.trainer.run(without(bench.trainer.command(logdir, SHORT), f"--{key}") + [f"--{key}", value])
        if ended.code != 0:
            tally.fail(key, f"may be changed, and the run does not go on: {ended}")
    return tally.close()


def without(command, flag):
    """A command without a flag and its value."""
    at = command.index(flag) if flag in command else len(command)
    return command[:at] + command[at + 2:]


def standing(logdir):
    """Every file with its content and time; the lock apart, which says who holds it."""
    found = set()
    for parent, _, names in os.walk(logdir):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                if name != "run.lock":
                    found.add((os.path.relpath(path, logdir), (file.read(), os.stat(path).st_mtime_ns)))
    return found
