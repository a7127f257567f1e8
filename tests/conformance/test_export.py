"""Rows of `trainer inspect --export` compared with the points of both of TensorBoard's loaders, for logs of this program
after kills and for logs of other writers; and the examples of docs/records.md that read event files."""

import csv
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from expected import COMMAND
from reading import Event, crc32c, event_files, masked
from serving import TensorBoard

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
WRITERS = ["tensorboard_rs", "tensorboardx", "tensorflow", "torch"]
FIRST_FILE = "events.out.tfevents.1700000000.host.1.0"
KILLS = 3
EPOCHS = 100
CHECKPOINT_STEPS = 200  # takes longer than the second after which the log is written


@pytest.fixture(scope="module")
def killed(trainer, tmp_path_factory):
    """A run that was killed a few times after a checkpoint, and then finished."""
    run = tmp_path_factory.mktemp("killed") / "logs" / "fit"
    arguments = [*COMMAND, "--epochs", str(EPOCHS), "--checkpoint-every", f"{CHECKPOINT_STEPS}steps", "--update-freq", "1",
                 "--observe", "none,scalars=every:1epoch,steps=every:1step,texts=start", "--logdir", str(run)]
    program = os.environ.get("TRAINER", ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "trainer")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRAINER")}
    for checkpoints in range(1, KILLS + 1):
        process = subprocess.Popen([program, *arguments], env=environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not has_written_behind(run, checkpoints):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    trainer(*arguments)
    return run.parent


def has_written_behind(run, checkpoints):
    """True if the log has grown since this number of checkpoints existed."""
    try:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if line.endswith("}")]
    except FileNotFoundError:
        return False
    times = [line["time"] for line in lines if line["kind"] == "checkpoint"]
    written = max((path.stat().st_mtime for path in run.rglob("*tfevents*")), default=0)
    return len(times) >= checkpoints and written > times[-1] + 0.2


def framed(event):
    return framed_payload(event.SerializeToString())


def framed_payload(payload):
    length = len(payload).to_bytes(8, "little")
    return (length + masked(crc32c(length)).to_bytes(4, "little") + payload
            + masked(crc32c(payload)).to_bytes(4, "little"))


def version():
    return Event(wall_time=1.0, file_version="brain.Event:2")


def start(step):
    event = Event(wall_time=1.0, step=step)
    event.session_log.status = event.session_log.START
    return event


def scalar(tag, step, number, wall_time=None):
    event = Event(wall_time=100.0 + step if wall_time is None else wall_time, step=step)
    event.summary.value.add(tag=tag, simple_value=number)
    return event


def losses(steps, number):
    return [scalar("loss", step, number) for step in steps]


def write(directory, *files):
    directory.mkdir(parents=True)
    for number, events in enumerate(files):
        (directory / f"events.out.tfevents.170000000{number}.host.1.0").write_bytes(b"".join(map(framed, events)))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Logs of other programs, and sessions as they write them, on which both loaders agree."""
    logs = tmp_path_factory.mktemp("others") / "logs"
    for writer in WRITERS:
        (logs / writer).mkdir(parents=True)
        shutil.copyfile(GOLDEN / f"{writer}.tfevents", logs / writer / FIRST_FILE)
    first = [version(), start(0), *losses(range(10), 0.5)]
    write(logs / "restarted", first, [version(), start(6), *losses(range(6, 12), 0.25)])
    write(logs / "restarted_twice", first, [version(), start(6), *losses(range(6, 9), 0.25)],
          [version(), start(7), *losses(range(7, 12), 0.125)])
    write(logs / "without_version", losses([0, 10, 20, 30, 15, 25], 0.5))
    write(logs / "first_version",
          [Event(wall_time=1.0, file_version="brain.Event:1"), *losses([0, 10, 20, 15, 25], 0.5)])
    write(logs / "without_start", [version(), *losses(range(5), 0.5)], [version(), *losses(range(5, 9), 0.25)])
    write(logs / "strange", [version(), scalar("näm/e \"x\", 'y'\n", 0, 1e-30), scalar("loss", 1, math.inf),
                             scalar("loss", 2, -math.inf), scalar("loss", 3, math.nan), scalar("loss", 1 << 40, -0.0)])
    named = scalar("named", 0, 0.5)
    named.summary.value[0].metadata.plugin_data.plugin_name = "of its own"
    write(logs / "old_form", [version(), named])
    write(logs / "deep" / "er" / "run", [version(), *losses([0], 0.1)])
    dead = logs / "dead"
    write(dead, [version(), *losses(range(3), 0.5)], [version(), *losses(range(3, 5), 0.5)])
    with (dead / FIRST_FILE).open("ab") as file:
        file.write(bytes(64))
    torn = logs / "torn"
    write(torn, [version(), start(0), *losses(range(5), 0.5)], [version(), start(4), *losses(range(4, 6), 0.25)])
    (torn / FIRST_FILE).write_bytes((torn / FIRST_FILE).read_bytes()[:-7])
    return logs


def exported(trainer, logs, form="jsonl"):
    done = trainer("inspect", logs, "--export", form, check=False)
    assert done.returncode in (0, 65), done.stderr
    if form == "jsonl":
        rows = [json.loads(line) for line in done.stdout.splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    found = {}
    for row in rows:
        point = (int(row["step"]), comparable(row["wall_time"]), comparable(row["value"]))
        found.setdefault((row["run"], row["tag"]), []).append(point)
    return found


def comparable(number):
    number = float(number)
    return "NaN" if math.isnan(number) else number


def served(board):
    found = {}
    for run, tags in board.json("plugin/scalars/tags").items():
        for tag in tags:
            points = board.json("plugin/scalars/scalars", run=run, tag=tag)
            found[run, tag] = [(step, comparable(wall), comparable(value)) for wall, step, value in points]
    return found


@pytest.mark.parametrize("loader", ["true", "false"], ids=["data-server", "python-loader"])
@pytest.mark.parametrize("which", ["killed", "others"])
def test_rows_are_the_points_that_tensorboard_serves(which, loader, trainer, request, tmp_path):
    logs = request.getfixturevalue(which)
    want = exported(trainer, logs)
    assert len(want) > 5 and sum(map(len, want.values())) > 30
    assert exported(trainer, logs, "csv") == want
    flags = [f"--load_fast={loader}", "--samples_per_plugin=scalars=1000000"]
    with TensorBoard(logs, tmp_path / "stderr", *flags) as board:
        try:
            board.wait_for(lambda: served(board) == want, "the points that were exported", seconds=60)
        except AssertionError:
            assert served(board) == want


def test_a_killed_run_has_points_that_were_taken_back(killed, trainer):
    report = json.loads(trainer("inspect", killed, "--json").stdout)
    tags = [tag for run in report["runs"] for tag in run["tags"] if tag["plugin"] == "scalars"]
    assert sum(tag["count"] - tag["shown"] for tag in tags) > 0
    assert all(tag["out_of_order"] == 0 for tag in tags)


def test_steps_out_of_order_are_as_the_data_server_has_them(trainer, tmp_path):
    """TensorBoard's default; its loader in Python shows all points of such a file."""
    write(tmp_path / "logs" / "ooo", [version(), *losses([0, 10, 20, 30, 5, 15, 25, 25], 0.5)])
    want = exported(trainer, tmp_path / "logs")
    assert [step for step, *_ in want["ooo", "loss"]] == [0, 5, 15, 25]
    with TensorBoard(tmp_path / "logs", tmp_path / "stderr", "--load_fast=true") as board:
        board.wait_for(lambda: served(board) == want, "the points that were exported", seconds=20)


NO_EVENTS = {"wire type": b"\xff" * 20, "cut": b"\x09\0", "text": b"hello, this is no event",
             "name": scalar("qqqq", 2, 0.5).SerializeToString().replace(b"qqqq", b"q\xff\xfeq")}


def write_with_no_event(directory, payload, *later):
    write(directory, [version(), *losses([0, 1], 0.5)], *later)
    with (directory / FIRST_FILE).open("ab") as file:
        file.write(framed_payload(payload) + b"".join(map(framed, losses([3, 4], 0.5))))


@pytest.mark.parametrize("loader", ["true", "false"], ids=["data-server", "python-loader"])
@pytest.mark.parametrize("what", NO_EVENTS)
def test_nothing_of_a_file_is_exported_behind_a_payload_that_is_no_event(what, loader, trainer, tmp_path):
    """Only one run, since the Python loader would omit points of other runs as well."""
    write_with_no_event(tmp_path / "logs" / "odd", NO_EVENTS[what])
    want = exported(trainer, tmp_path / "logs")
    assert [step for step, *_ in want["odd", "loss"]] == [0, 1]
    with TensorBoard(tmp_path / "logs", tmp_path / "stderr", f"--load_fast={loader}") as board:
        board.wait_for(lambda: served(board) == want, "the points that were exported", seconds=20)
        time.sleep(3)  # some more reloads
        assert served(board) == want


def test_files_behind_one_with_a_payload_that_is_no_event_are_exported(trainer, tmp_path):
    """As the data server reads them; the loader in Python has ended."""
    write_with_no_event(tmp_path / "logs" / "odd", NO_EVENTS["cut"], [version(), *losses([6, 7], 0.5)])
    want = exported(trainer, tmp_path / "logs")
    assert [step for step, *_ in want["odd", "loss"]] == [0, 1, 6, 7]
    with TensorBoard(tmp_path / "logs", tmp_path / "stderr", "--load_fast=true") as board:
        board.wait_for(lambda: served(board) == want, "the points that were exported", seconds=20)


def test_nothing_is_exported_behind_a_wall_time_that_is_no_number(trainer, tmp_path):
    write(tmp_path / "logs" / "odd", [version(), scalar("loss", 0, 0.5), scalar("loss", 1, 0.5, math.inf),
                                      scalar("loss", 2, 0.5), scalar("loss", 3, 0.5, math.nan), scalar("loss", 4, 0.5)])
    want = exported(trainer, tmp_path / "logs")
    assert [step for step, *_ in want["odd", "loss"]] == [0, 2]
    with TensorBoard(tmp_path / "logs", tmp_path / "stderr", "--load_fast=true") as board:
        board.wait_for(lambda: served(board) == want, "the points that were exported", seconds=20)


def snippet(name):
    """The Python block of docs/records.md that holds `name`."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "records.md").read_text(), re.DOTALL)
    (found,) = [block for block in blocks if name in block]
    return found


@pytest.mark.parametrize("name", ["EventAccumulator", "tbparse", "read_csv"])
def test_the_lines_in_the_document_show_each_point_once(name, killed, trainer, tmp_path, monkeypatch):
    shutil.copytree(killed, tmp_path / "logs")
    monkeypatch.chdir(tmp_path)
    trainer("inspect", "logs", "--export", "csv", "--output", "points.csv")
    found = {}
    exec(snippet(name), found)
    points = found["points"]
    want = exported(trainer, "logs")
    if name == "EventAccumulator":
        assert found["log"].Tags().get("scalars", []) == []
        want = {(run, tag): rows for (run, tag), rows in want.items() if run == "fit/train"}
        points = points.assign(run="fit/train")
    if name == "tbparse":
        assert found["log"].scalars.empty
        points = points.rename(columns={"dir_name": "run"})
    got = {}
    for row in points.sort_values("step", kind="stable").to_dict("records"):
        got.setdefault((row["run"], row["tag"]), []).append((row["step"], comparable(row["value"])))
    assert got == {key: [(step, value) for step, _, value in rows] for key, rows in want.items()}


def test_the_logs_of_a_killed_run_are_several_files(killed):
    assert all(len(files) == KILLS + 1 for run, files in event_files(killed).items() if run == "fit/train")
