"""Run the trainer and its peers, and read what they report. For parity.py and bench/."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "scripts" / "peers"
# Curves only, for comparisons of the training alone.
UNWATCHED = ["--observe", "none,scalars=every:1epoch,steps=every:50steps"]

# Runs a command and adds the peak resident memory of this one child, in MiB, and the seconds from its start to its exit
# as the last line of standard error.
_MEASURED = """
import resource, subprocess, sys, time
started = time.monotonic()
status = subprocess.run(sys.argv[1:]).returncode
seconds = time.monotonic() - started
print(f"\\n{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024} {seconds}", file=sys.stderr)
sys.exit(status)
"""


class Failed(SystemExit):
    """A required command failed: unless the caller handles this, the program ends with the command's output."""


@dataclass(frozen=True)
class Done:
    """A command that succeeded: its output, its peak resident memory in MiB, seconds from its start to its exit."""

    output: str
    errors: str
    peak: float
    seconds: float


@dataclass(frozen=True)
class Training:
    """Results of each epoch of a training run, its peak resident memory in MiB, and seconds from its start to its exit.

    Each epoch is a dictionary: `val_accuracy`; `seconds` of all of it, with what is logged and the validation; and
    `images_per_second` of its training steps alone.
    """

    epochs: list
    peak: float
    seconds: float


def add_arguments(parser):
    parser.add_argument("--trainer", type=Path, default=ROOT / "target" / "release" / "trainer", help="the program")
    parser.add_argument("--peer-python", type=Path, default=ROOT / ".deps" / "peers" / "bin" / "python",
                        help="a Python that has torch")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data" / "mnist",
                        help="the peers' IDX files; the trainer finds its own")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))


def check_arguments(options):
    for path, remedy in ((options.trainer, "make build"), (options.peer_python, "make bench makes it"),
                         (options.data_dir, "make data")):
        if not path.exists():
            sys.exit(f"{path} is not there; {remedy}")


# For the environment of the trainer and of its benchmarks: the allocator gives back what is freed at once, where it
# otherwise keeps it for some seconds.
GIVES_BACK = {"MALLOC_CONF": "abort_conf:true,dirty_decay_ms:0,muzzy_decay_ms:0"}


def environment():
    """The environment without settings of the trainer."""
    return {key: value for key, value in os.environ.items() if not key.startswith("TRAINER_")}


def run(*command):
    """A command that must succeed."""
    done = subprocess.run([sys.executable, "-c", _MEASURED, *map(str, command)], cwd=ROOT, env=environment(),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    errors, _, measured = done.stderr.rstrip("\n").rpartition("\n")
    if done.returncode != 0:
        raise Failed(f"`{' '.join(map(str, command))}` failed with status {done.returncode}:\n{errors[-4000:]}")
    peak, seconds = map(float, measured.split())
    return Done(done.stdout, errors.rstrip("\n"), peak, seconds)


def by_turns(commands, seconds=0.05):
    """Seconds of each command, all of which must succeed, without those in which it was made to wait: one runs at a time,
    for some hundredths of a second, then the next. What the machine does besides hits all of them alike, so that times
    compare to a percent where they would differ by ten if the commands ran one after the other. This is for what computes:
    what a command waits for, such as a disk, goes on while it stands still, and counts in part."""
    processes, spent = [], [0.0] * len(commands)
    errors = [tempfile.TemporaryFile("w+") for _ in commands]
    try:
        for command, said in zip(commands, errors):
            processes.append(subprocess.Popen([str(word) for word in command], cwd=ROOT, env=environment(),
                                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said))
            processes[-1].send_signal(signal.SIGSTOP)
        while any(process.returncode is None for process in processes):
            for number, process in enumerate(processes):
                if process.returncode is not None:
                    continue
                started = time.monotonic()
                process.send_signal(signal.SIGCONT)
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGSTOP)
                spent[number] += time.monotonic() - started
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for command, process, said in zip(commands, processes, errors):
        with said:
            said.seek(0)
            if process.returncode != 0:
                raise Failed(f"`{' '.join(map(str, command))}` failed with status {process.returncode}:\n"
                             f"{said.read()[-4000:]}")
    return spent


def json_lines(text):
    """The JSON objects among the lines of a text."""
    for line in text.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def run_trainer(options, *arguments):
    """Results of the epochs of a training run; its files are removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
        return run_trainer_in(directory, options, *arguments)


def trainer_in(directory, options, *arguments):
    """The command of a training whose run is in `logs/fit` below a directory."""
    return [options.trainer, "--logdir", f"{directory}/logs/fit", "--threads", options.threads, *arguments]


def run_trainer_in(directory, options, *arguments):
    """The same, with the run in `logs/fit` below a directory that is left behind."""
    done = run(*trainer_in(directory, options, "--log-format", "json", *arguments))
    messages = [line.get("fields", {}) for line in json_lines(done.errors)]
    epochs = [fields for fields in messages if {"epoch", "val_accuracy", "images_per_second"} <= fields.keys()]
    if not epochs:
        raise Failed(f"{options.trainer} reported no epoch; it said:\n{done.errors[-4000:]}")
    return Training(epochs, done.peak, done.seconds)


def run_peer(options, *arguments):
    """The same for PyTorch."""
    return _run_script(options, options.peer_python, PEERS / "train_pytorch.py", *arguments)


def run_keras(options, *arguments):
    """The same for Keras, in the environment `keras_python`."""
    return _run_script(options, options.keras_python, PEERS / "train_keras.py", *arguments)


def _run_script(options, python, script, *arguments):
    done = run(python, script, "--json", "--data-dir", options.data_dir, "--threads", options.threads, *arguments)
    return Training(json.loads(done.output.splitlines()[-1])["epochs"], done.peak, done.seconds)
