"""Whether memory grows with epochs."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import measuring
from bench.figures import median, spread
from bench.limits import Limit

TITLE = "Memory"
PACKAGES = {}
# Freed memory is kept for some seconds, so that what one epoch shows goes up and down by several MiB.
EARLY, LATE = range(11, 31), range(181, 201)
# Films are made after the last epoch, once: what that takes is told, and is no growth.
LAST = LATE.stop
SMALL = ["--epochs", LAST, "--limit-train", 320, "--limit-validation", 100]
LIMITS = {"growth": Limit("growth of memory over 200 epochs", most=1, unit="MiB")}


def measure(options, _earlier):
    """What resident memory gains with epochs, and with the films of a run's end, in MiB, one number a round."""
    found = {"early": [], "growth": [], "films": []}
    for number in range(options.rounds):
        print(f"memory over {LAST} epochs, round {number + 1} of {options.rounds}", flush=True)
        resident = resident_by_epoch(options, number)
        early, late = (median([resident[epoch] for epoch in epochs]) for epochs in (EARLY, LATE))
        found["early"].append(early)
        found["growth"].append(late - early)
        found["films"].append(resident[LAST] - resident[LAST - 1])
    return found


def resident_by_epoch(options, seed):
    """Resident memory in MiB at the end of each epoch."""
    with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
        command = [options.trainer, "--logdir", f"{directory}/fit", "--seed", seed, "--threads", options.threads,
                   "--log-format", "json", *SMALL]
        process = subprocess.Popen([str(word) for word in command], cwd=measuring.ROOT, env=measuring.environment(),
                                   stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        resident = {}
        for line in process.stderr:
            epoch = json.loads(line).get("fields", {}).get("epoch") if line.startswith("{") else None
            if isinstance(epoch, int):
                resident[epoch] = resident_memory(process.pid)
        if process.wait() != 0 or set(resident) != set(range(1, LAST + 1)):
            raise measuring.Failed(f"the run of {LAST} epochs ended with {process.returncode}")
    return resident


def resident_memory(pid):
    """MiB."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def held(found):
    return {"growth": median(found["growth"])}


def text(_options, found):
    number = "{:.2f}".format
    return (
        f"In a run of {LAST} epochs of 320 images, with every observer at its default, the trainer's resident memory is "
        f"{median(found['early']):.0f} MiB at first: the median of the ends of epochs {shown(EARLY)}. At the ends of "
        f"epochs {shown(LATE)} it is **{median(found['growth']):.2f} MiB** ({spread(found['growth'], number)}) more. The "
        f"films, made at the very end, take {median(found['films']):.2f} MiB more "
        f"({spread(found['films'], number)}).\n")


def shown(epochs):
    return f"{epochs.start} to {epochs.stop - 1}"
