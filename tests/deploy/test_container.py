"""A complete training run in the files of the image, confined as in the Kubernetes manifest."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import contained
import pytest
from test_manifests import exits, instructions

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
MNIST = ROOT / "data" / "mnist" / "train-images-idx3-ubyte"
# Grace period of a pod in the manifest, seconds.
GRACE = 30
# Timeout of every action here, even on the slowest machine, seconds.
PATIENCE = 600
SMALL = ["--dataset", "synthetic", "--limit-train", "256", "--limit-validation", "64"]
MEMORY_KIB = 512 * 1024

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts need root")


class Container:
    """A container that runs, or has run."""

    def __init__(self, rootfs, logs, report, arguments, stderr=subprocess.PIPE, data=ROOT / "data", memory=None):
        self.report = report
        report.unlink(missing_ok=True)
        entry = next(json.loads(arguments) for keyword, arguments in instructions() if keyword == "ENTRYPOINT")
        environment = [arguments for keyword, arguments in instructions() if keyword == "ENV" and "$" not in arguments]
        command = [sys.executable, contained.__file__, "--root", rootfs, "--data", data, "--logs", logs,
                   "--report", report]
        for pair in environment:
            command += ["--env", pair]
        if memory:
            command += ["--memory", memory]
        command += ["--", f"/usr/local/bin/{entry[0]}", *arguments]
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=stderr, text=True)

    def told(self, key):
        """The launcher's message, or None before it arrives."""
        if not self.report.exists():
            return None
        lines = [json.loads(line) for line in self.report.read_text(encoding="utf-8").splitlines(True)
                 if line.endswith("\n")]
        return next((line[key] for line in lines if key in line), None)

    def wait_for(self, condition, what):
        started = time.monotonic()
        while not (found := condition()):
            assert self.process.poll() is None, f"it ended before {what}: {self.process.communicate()}"
            assert time.monotonic() - started < PATIENCE, f"waited in vain for {what}"
            time.sleep(0.005)
        return found

    def ended(self, timeout=PATIENCE):
        """Exit code and all output."""
        try:
            said = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.kill(self.told("pid"), signal.SIGKILL)
            raise
        if reason := self.told("refused"):
            pytest.skip(f"this machine lets nobody make a container: {reason}")
        return self.process.returncode, "".join(filter(None, said))


@pytest.fixture(scope="module")
def rootfs():
    program = Path(os.environ.get("TRAINER", TARGET / "release" / "trainer"))
    out = TARGET / "rootfs"
    subprocess.run([sys.executable, ROOT / "scripts" / "rootfs.py", "--program", program, "--out", out], check=True,
                   stdout=subprocess.DEVNULL)
    return out


@pytest.fixture
def logs(tmp_path):
    """A volume that belongs to the image's user."""
    volume = tmp_path / "volume"
    volume.mkdir()
    os.chown(volume, contained.USER, contained.USER)
    tmp_path.chmod(0o755)
    return volume


@pytest.fixture
def container(rootfs, logs, tmp_path):
    def start(*arguments, **how):
        return Container(rootfs, logs, tmp_path / "report", arguments, **how)

    return start


def finished(run):
    return json.loads((run / "result.json").read_text(encoding="utf-8"))


def events(run):
    return [path for path in run.glob("*/*tfevents*") if path.stat().st_size > 0]


def test_the_program_brings_all_it_needs(container):
    code, said = container("--version").ended()
    assert code == 0 and said.startswith("trainer "), said


def test_it_is_shut_in(container, logs):
    running = container(*SMALL, "--logdir", "/logs/run", "--epochs", "1000000")
    pid = running.wait_for(lambda: running.told("pid"), "its process")
    running.wait_for(lambda: events(logs / "run"), "the first events")
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text(encoding="utf-8").splitlines()
                  if ":\t" in line)
    mounts = [line.split() for line in (process / "mountinfo").read_text(encoding="utf-8").splitlines()]
    network = (process / "net" / "dev").read_text(encoding="utf-8").splitlines()[2:]
    links = {path.name: os.readlink(path) for path in (process / "root").iterdir() if path.is_symlink()}
    os.kill(pid, signal.SIGKILL)
    assert running.ended()[0] == 128 + signal.SIGKILL
    assert status["NSpid"].split()[-1] == "1"
    assert status["Uid"].split() == status["Gid"].split() == ["65532"] * 4 and status["Groups"].split() == []
    assert {status[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {""}
    assert status["NoNewPrivs"] == "1"
    writable = {mount[4] for mount in mounts if "ro" not in mount[5].split(",")}
    devices = {f"/dev/{name}" for name in contained.DEVICES}
    assert writable - devices == {"/logs", "/proc"}, "nothing but the volume can be written"
    assert [line.split(":")[0].strip() for line in network] == ["lo"] and links == {}


def test_a_whole_training_passes_and_writes_nowhere_else(container, logs):
    code, said = container(*SMALL, "--logdir", "/logs/run", "--epochs", "2").ended()
    assert code == 0, said
    assert "validation_accuracy" in finished(logs / "run") and (logs / "run" / "model.safetensors").exists()
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in logs.rglob("*")}
    assert owners == {(contained.USER, contained.USER)}


@pytest.mark.skipif(not MNIST.exists(), reason=f"{MNIST} is not there; run `make data`")
def test_mnist_fits_into_512_mib(container, logs):
    running = container("--logdir", "/logs/mnist", "--epochs", "1", memory=MEMORY_KIB * 1024)
    code, said = running.ended()
    assert code == 0, said
    assert finished(logs / "mnist")["validation_accuracy"] > 0.95
    # The whole data set and all observers: more epochs take no more memory, except for the frames of an animation.
    assert running.told("peak_kib") < MEMORY_KIB


def test_too_little_memory_ends_it_as_the_kernel_does(container, logs):
    running = container(*SMALL, "--logdir", "/logs/run", "--epochs", "1", memory=16 * 2**20)
    code, said = running.ended()
    if not running.told("limited"):
        pytest.skip("this machine lets nobody limit the memory of a process")
    assert code == 128 + signal.SIGKILL, said


def test_sigterm_ends_process_1_and_the_same_command_goes_on(container, logs):
    command = [*SMALL, "--logdir", "/logs/run", "--epochs", "12"]
    running = container(*command)
    running.wait_for(lambda: events(logs / "run"), "the first events")
    os.kill(running.told("pid"), signal.SIGTERM)
    code, said = running.ended(timeout=GRACE)
    assert code == exits()["TemporaryFailure"], said
    assert not (logs / "run" / "result.json").exists()
    kept = sorted((logs / "run" / "checkpoints").glob("ckpt-*/manifest.json"))
    assert kept, "75 promises a checkpoint"
    code, said = container(*command).ended()
    assert code == 0, said
    assert str(int(kept[-1].parent.name.removeprefix("ckpt-"))) in said, "the second start goes on from there"
    before = finished(logs / "run")
    code, said = container(*command).ended()
    assert code == 0 and finished(logs / "run") == before, "a third has nothing to do"


def test_a_console_that_is_full_harms_nothing(container, logs):
    with open("/dev/full", "w", encoding="utf-8") as full:
        code, said = container(*SMALL, "--logdir", "/logs/run", "--epochs", "1", stderr=full).ended()
    assert code == 0, said
    assert finished(logs / "run")


def test_a_volume_of_somebody_else_and_a_place_outside_are_refused_at_once(container, logs):
    code, said = container(*SMALL, "--logdir", "/tmp/run").ended()
    assert code == exits()["CantCreate"] and "/tmp" in said, said
    os.chown(logs, 0, 0)
    code, said = container(*SMALL, "--logdir", "/logs/run").ended()
    assert code == exits()["NoPermission"] and "/logs" in said, said
    assert not any(logs.iterdir())


def test_the_image_s_health_check_is_a_command_line_of_this_program(container):
    health = next(arguments for keyword, arguments in instructions() if keyword == "HEALTHCHECK")
    command = json.loads(health.split(" CMD ")[1])
    flags = [word for word in command if word.startswith("--")]
    _, said = container(command[1], "--help").ended()
    missing = [flag for flag in flags if flag not in said]
    if missing:
        pytest.skip(f"`trainer {command[1]}` has no {', '.join(missing)} yet")
    code, said = container(*command[1:]).ended()
    assert code not in (exits()["Usage"], exits()["Config"], exits()["Software"]), said
