"""Run the trainer and its PyTorch peer, and read what they report. For parity.py and bench.py."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / "scripts" / "peers" / "train_pytorch.py"
# Nothing but curves: for comparisons of the training alone.
UNWATCHED = ["--observe", "none,scalars=every:1epoch,steps=every:50steps"]

# Runs a command and adds the peak resident memory of this one child, in MiB, as the last line of standard error.
_MEASURED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, file=sys.stderr)
sys.exit(status)
"""


def add_arguments(parser):
    parser.add_argument("--trainer", type=Path, default=ROOT / "target" / "release" / "trainer", help="the program")
    parser.add_argument("--peer-python", type=Path, default=ROOT / ".deps" / "peers" / "bin" / "python",
                        help="a Python that has torch")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data" / "mnist",
                        help="the peer's IDX files; the trainer finds its own")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))


def check_arguments(options):
    for path, remedy in ((options.trainer, "make build"), (options.peer_python, "make bench makes it"),
                         (options.data_dir, "make data")):
        if not path.exists():
            sys.exit(f"{path} is not there; {remedy}")


def run(command):
    """Standard output, standard error and peak memory in MiB of a command that must succeed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRAINER_")}
    done = subprocess.run([sys.executable, "-c", _MEASURED, *map(str, command)], cwd=ROOT, env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    errors, _, peak = done.stderr.rstrip("\n").rpartition("\n")
    if done.returncode != 0:
        sys.exit(f"`{' '.join(map(str, command))}` failed with status {done.returncode}:\n{errors[-4000:]}")
    return done.stdout, errors, float(peak)


def run_trainer(options, *arguments):
    """What the trainer says at the end of each epoch, and its peak memory in MiB."""
    with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
        return run_trainer_in(directory, options, *arguments)


def run_trainer_in(directory, options, *arguments):
    """The same, with the run in `logs/fit` below a directory that is left behind."""
    _, errors, peak = run([options.trainer, "--logdir", f"{directory}/logs/fit", "--log-format", "json",
                           "--threads", options.threads, *arguments])
    epochs = []
    for line in errors.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        fields = event.get("fields", {}) if isinstance(event, dict) else {}
        if {"epoch", "val_accuracy", "images_per_second"} <= fields.keys():
            epochs.append(fields)
    if not epochs:
        sys.exit(f"{options.trainer} reported no epoch; it said:\n{errors[-4000:]}")
    return epochs, peak


def run_peer(options, *arguments):
    """The same for eager PyTorch."""
    output, _, peak = run([options.peer_python, PEER, "--json", "--data-dir", options.data_dir,
                           "--threads", options.threads, *arguments])
    return json.loads(output)["epochs"], peak
