"""Trains a tiny run once, and serves it to the tests with both of TensorBoard's loaders."""

import os
import subprocess
from pathlib import Path

import pytest
import reading
from expected import COMMAND, SERVED
from serving import TensorBoard, served_series, steps_of

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


@pytest.fixture(scope="session")
def trainer():
    """Runs the built program; TRAINER names another one."""
    program = Path(os.environ.get("TRAINER", TARGET / "release" / "trainer"))
    if not program.exists():
        pytest.exit(f"{program} is not there; run `make build`", returncode=2)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRAINER")}

    def run(*arguments, check=True):
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=600,
                              stdin=subprocess.DEVNULL, env=environment)
        if check and done.returncode != 0:
            raise AssertionError(f"trainer {' '.join(map(str, arguments))}: status {done.returncode}\n{done.stderr}")
        return done

    return run


@pytest.fixture(scope="session")
def logs(trainer, tmp_path_factory):
    """A log directory that holds the finished run `fit`."""
    parent = tmp_path_factory.mktemp("conformance") / "logs"
    trainer(*COMMAND, "--logdir", parent / "fit")
    return parent


@pytest.fixture(scope="session")
def contents(logs):
    """run -> [Event] of the runs that hold series, read by the independent reader."""
    return reading.contents(logs)


@pytest.fixture(scope="session", params=["true", "false"], ids=["data-server", "python-loader"])
def board(request, logs, tmp_path_factory):
    """TensorBoard with everything loaded, or with the data loaded before a timeout."""
    stderr = tmp_path_factory.mktemp("tensorboard") / "stderr"
    with TensorBoard(logs, stderr, f"--load_fast={request.param}") as board:
        try:
            board.wait_for(lambda: steps_of(served_series(board)) == SERVED, "all series")
        except AssertionError:
            pass  # the tests say what is missing
        yield board


@pytest.fixture(scope="session")
def served(board):
    return served_series(board)
