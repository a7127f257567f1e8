"""Growth of memory with epochs."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import measuring
from bench.figures import markdown, median, rounds, spread
from bench.limits import Limit

TITLE = "Memory"
PACKAGES = {}
EARLY, LATE = range(11, 31), range(181, 201)
# Animations are made once, after the last epoch, and are no growth.
LAST = LATE.stop
SMALL = ["--epochs", LAST, "--limit-train", 320, "--limit-validation", 100]
# The allocator keeps freed memory for some seconds, and what a process holds goes up and down by several MiB. Told to keep
# none it shows what is in use, to a tenth of that.
USUAL, IN_USE = "as it is", "in use"
SETTINGS = {USUAL: {}, IN_USE: measuring.GIVES_BACK}
SPAN = f"from epochs {EARLY.start}-{EARLY.stop - 1} to {LATE.start}-{LATE.stop - 1}"
LIMITS = {
    USUAL: Limit(f"growth of resident memory {SPAN}", most=1, unit="MiB"),
    IN_USE: Limit(f"growth of memory in use {SPAN}, in the worst round", most=1, unit="MiB"),
}


def measure(options, _earlier):
    """setting -> resident memory at first, and what it gains with epochs, in MiB, one number a round."""
    found = {setting: {"early": [], "growth": []} for setting in SETTINGS}
    for number, setting in rounds(options, f"memory over {LAST} epochs", SETTINGS):
        resident = resident_by_epoch(options, number, SETTINGS[setting])
        early, late = (median([resident[epoch] for epoch in epochs]) for epochs in (EARLY, LATE))
        found[setting]["early"].append(early)
        found[setting]["growth"].append(late - early)
    return found


def resident_by_epoch(options, seed, setting):
    """Resident memory in MiB at the end of each epoch."""
    with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
        command = [options.trainer, "--logdir", f"{directory}/fit", "--seed", seed, "--threads", options.threads,
                   "--log-format", "json", *SMALL]
        process = subprocess.Popen([str(word) for word in command], cwd=measuring.ROOT, env={**measuring.environment(), **setting},
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
    return {USUAL: median(found[USUAL]["growth"]), IN_USE: max(found[IN_USE]["growth"])}


def text(_options, found):
    rows = [[setting, f"{median(values['early']):.1f}", f"{median(values['growth']):+.2f}",
             spread(values["growth"], "{:+.2f}".format)] for setting, values in found.items()]
    return (
        f"Resident memory in a run of {LAST} epochs of 320 images, with every observer at its default: the median at "
        f"the ends of epochs {EARLY.start} to {EARLY.stop - 1}, and the growth from there to the median of epochs {LATE.start} to "
        f"{LATE.stop - 1}. `as it is`: the allocator keeps memory freed in the last seconds, including that "
        "of the run's start. `in use`: the allocator is told to keep nothing (`MALLOC_CONF`).\n\n"
        f"{markdown(['', 'at first, MiB', 'growth, MiB', 'range'], rows)}\n")
