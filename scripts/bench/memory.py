"""Peak memory of the main job, and whether memory grows with epochs."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import measuring
from bench import job
from bench.figures import US, costs, median, spread
from bench.limits import Limit

TITLE = "Memory"
PACKAGES = {"peer_python": ["torch", "tensorboard"], "keras_python": ["keras", "tensorflow-cpu"]}
# Films are made after the last epoch, once: what that takes is told, and is no growth.
SETTLED, LATE, LAST = 20, 200, 201
SMALL = ["--epochs", LAST, "--limit-train", 320, "--limit-validation", 100]
LIMITS = {
    "peak": Limit("peak memory of the main job", most=400, unit="MiB"),
    "growth": Limit(f"growth of memory from epoch {SETTLED} to {LATE}", most=1, unit="MiB"),
}


def measure(options, earlier):
    """subject -> peak resident memory of the main job, and the growth of small runs, in MiB, one number a round."""
    jobs = earlier.get("job") or job.measure(options, earlier)
    found = {"peak": jobs["peak"], "growth": [], "films": []}
    for number in range(options.rounds):
        print(f"memory over {LAST} epochs, round {number + 1} of {options.rounds}", flush=True)
        resident = resident_by_epoch(options, number)
        found["growth"].append(resident[LATE] - resident[SETTLED])
        found["films"].append(resident[LAST] - resident[LATE])
    return found


def resident_by_epoch(options, seed):
    """Resident memory in MiB at the end of the epochs that count."""
    with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
        command = [options.trainer, "--logdir", f"{directory}/fit", "--seed", seed, "--threads", options.threads,
                   "--log-format", "json", *SMALL]
        process = subprocess.Popen([str(word) for word in command], cwd=measuring.ROOT, env=measuring.environment(),
                                   stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        resident = {}
        for line in process.stderr:
            epoch = json.loads(line).get("fields", {}).get("epoch") if line.startswith("{") else None
            if epoch in (SETTLED, LATE, LAST):
                resident[epoch] = resident_memory(process.pid)
        if process.wait() != 0 or len(resident) != 3:
            raise measuring.Failed(f"the run of {LAST} epochs ended with {process.returncode}")
    return resident


def resident_memory(pid):
    """MiB."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def held(found):
    return {"peak": max(found["peak"][US]), "growth": median(found["growth"])}


def text(options, found):
    return (
        f"Peak resident memory of the main job: {job.EPOCHS} epochs of {options.limit_train:,} MNIST images, "
        "everything logged.\n\n"
        f"{costs('MiB', found['peak'])}\n\n"
        f"Over {LAST} epochs of 320 images, with every observer at its default, the trainer's resident memory grows by "
        f"**{median(found['growth']):.2f} MiB** ({spread(found['growth'], '{:.2f}'.format)}) from the end of epoch "
        f"{SETTLED} to that of epoch {LATE}. The films, made at the very end, take {median(found['films']):.2f} MiB more.\n")
