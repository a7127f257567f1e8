"""The tiny training that is interrupted, and the program that runs it."""

import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600  # seconds after which a process counts as hanging


@dataclass(frozen=True)
class Job:
    """The flags of a run, except its directory."""

    name: str
    flags: tuple
    epochs: int = 3
    steps: int = 12  # in all epochs together


# Twelve steps with a checkpoint after every third, and at the end of an epoch.
TINY = ("--dataset", "synthetic", "--conv-filters", "4,6", "--dense-units", "8", "--epochs", "3", "--batch-size", "50",
        "--limit-train", "200", "--limit-validation", "40", "--threads", "1", "--checkpoint-every", "3steps",
        "--update-freq", "1", "--learning-rate", "0.01", "--probes", "2", "--quiet")
# Scalars, histograms, pictures, texts, curves, graphs and the projector: what costs most is left out.
CALM = Job("calm", (*TINY, "--observe", "explanations=off,activation-max=off,gradcam=off,tsne=off,confusion=off,"
                    "errors=off,calibration=off,classes=off"))
# All default observers.
WHOLE = Job("whole", TINY)
# The least with all kinds of files: for as many processes as there are system calls.
SHORT = Job("short", (*TINY, "--epochs", "2", "--keep-last", "1", "--observe",
                      "none,scalars=every:1epochs,steps=every:1steps,weights=every:1epochs,filters=every:1epochs,"
                      "projector=every:1epochs"), epochs=2, steps=8)
# Only curves are observed, and the run does not end by itself within the time of a test.
ENDLESS = Job("endless", (*TINY, "--epochs", "100000", "--observe", "none,scalars=every:1epochs"), epochs=100000)


@dataclass(frozen=True)
class Ended:
    """End of a process: its status in the convention of `subprocess`, its output, and its duration."""

    code: int
    stderr: str
    seconds: float

    @property
    def killed(self):
        return self.code in (-9, 137)

    def __str__(self):
        said = self.stderr.strip().splitlines()
        return f"status {self.code}" + (f", said: {said[-1][:400]}" if said else "")


class Trainer:
    """The built program."""

    def __init__(self, program):
        self.program = Path(program).resolve()
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("TRAINER")}

    def command(self, logdir, job, *more):
        return [str(self.program), "--logdir", str(logdir), *job.flags, *map(str, more)]

    def start(self, command, stderr=subprocess.PIPE, **how):
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                                env=self.environment, text=True, errors="replace", **how)

    def end(self, process, began):
        """Waits for a process and reports its end; one that hangs is killed."""
        try:
            _, said = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            _, said = process.communicate()
            return Ended(process.returncode, (said or "") + f"\nhung for {PATIENCE} s", time.monotonic() - began)
        return Ended(process.returncode, said or "", time.monotonic() - began)

    def run(self, command, **how):
        began = time.monotonic()
        return self.end(self.start(command, **how), began)

    def commit(self):
        """The revision of the sources, with what the program says it is where there are none."""
        asked = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        if asked.returncode == 0:
            return asked.stdout.strip()
        said = subprocess.run([self.program, "--version"], capture_output=True, text=True, env=self.environment).stdout
        return said.strip().partition("(")[2].rstrip(")") or "unknown"


def shown(command):
    """A command as a shell would take it."""
    return shlex.join(map(str, command))


def owner(logdir):
    """The process that says in the run's lock that the run is its own; None while there is none."""
    try:
        return int((Path(logdir) / "run.lock").read_text())
    except (OSError, ValueError):
        return None
