"""The checks of `make reliability` detect faults: each is given something broken."""

import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "scripts"))

from reliability import audit, programs, table, trace  # noqa: E402
from reliability.bench import Bench  # noqa: E402
from reliability.comparison import Batch, checkpoints, series_faults  # noqa: E402
from reliability.job import SHORT, Trainer  # noqa: E402
from reliability.tally import Tally, percentile  # noqa: E402
from tensorboard.compat.proto.event_pb2 import Event  # noqa: E402

sys.path.append(str(ROOT / "tests" / "conformance"))
import reading  # noqa: E402

PROGRAM = Path(os.environ.get("TRAINER", ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "trainer"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    if not PROGRAM.exists():
        pytest.exit(f"{PROGRAM} is not there; run `make build`", returncode=2)
    work = tmp_path_factory.mktemp("bench")
    return Bench(Trainer(PROGRAM), work, work / "kept", 1, "quick", 1)


@pytest.fixture(scope="module")
def reference(bench):
    return bench.reference(SHORT)


@pytest.fixture
def run(reference, tmp_path):
    """A copy of the finished run, to be broken."""
    return Path(shutil.copytree(reference.logdir, tmp_path / "run"))


def judged(reference, run, tmp_path):
    """Faults that a batch finds in a run, in its files and with both loaders."""
    tally = Tally("T", "")
    (tmp_path / "batch").mkdir()
    batch = Batch(tally, tmp_path / "batch", tmp_path / "kept")
    batch.add(reference, run, "this run")
    batch.flush()
    return "\n".join(map(str, tally.failures))


def event_file(run, of):
    (path,) = reading.curve_files(run)[of]
    return path


def framed(payload):
    head = len(payload).to_bytes(8, "little")
    sums = [reading.masked(reading.crc32c(data)).to_bytes(4, "little") for data in (head, payload)]
    return head + sums[0] + payload + sums[1]


def rewrite(path, change):
    """Rewrites an event file with each event passed through `change`, which returns a list."""
    events = [changed for event in reading.events(path) for changed in change(event)]
    path.write_bytes(b"".join(framed(event.SerializeToString()) for event in events))


def has(event, tag):
    return any(value.tag == tag for value in event.summary.value)


def test_a_run_that_was_not_interrupted_is_like_itself(reference, run, tmp_path):
    assert reference.points > 60
    assert judged(reference, run, tmp_path) == ""


def test_an_event_file_that_a_second_process_appended_to_is_found(reference, run, tmp_path):
    """A torn tail makes the data server lose everything that the second process wrote."""
    path = event_file(run, ".")
    records = list(reading.records(path))
    content = path.read_bytes()
    middle = records[len(records) // 2].offset
    path.write_bytes(content[:middle + 9] + content[:24 + len(records[0].payload) - 8] + content[middle:])
    assert "slow loader" in judged(reference, run, tmp_path)


def test_a_whole_file_appended_to_a_whole_file_is_found(reference, run, tmp_path):
    """Without a torn tail both loaders continue: repeated steps occur twice."""
    path = event_file(run, ".")
    events = reading.events(path)
    again = [event for event in events if not event.HasField("session_log") and event.step >= 5]
    path.write_bytes(path.read_bytes() + b"".join(framed(event.SerializeToString()) for event in again))
    assert judged(reference, run, tmp_path) != ""


def test_a_step_that_is_there_twice_is_found(reference, run, tmp_path):
    twice = lambda event: [event] * (2 if has(event, "batch_loss") and event.step == 3 else 1)  # noqa: E731
    rewrite(event_file(run, "."), twice)
    said = judged(reference, run, tmp_path)
    assert "slow loader: . batch_loss: steps [3] are there more than once" in said


def test_a_step_that_is_missing_is_found(reference, run, tmp_path):
    rewrite(event_file(run, "."), lambda event: [] if has(event, "batch_loss") and event.step == 3 else [event])
    assert ". batch_loss: steps [3] are missing" in judged(reference, run, tmp_path)


@pytest.mark.parametrize("tag", ["batch_loss", "conv2d/kernel/histogram", "layers/filters/conv2d"])
def test_another_value_is_found(reference, run, tmp_path, tag):
    def change(event):
        event = Event.FromString(event.SerializeToString())
        for value in event.summary.value:
            if value.tag == tag:
                if value.tensor.string_val:
                    value.tensor.string_val[-1] = value.tensor.string_val[-1][:-1] + b"!"
                elif value.tensor.float_val:
                    value.tensor.float_val[0] += 1e-6
                else:
                    last = value.tensor.tensor_content
                    value.tensor.tensor_content = last[:-2] + bytes([last[-2] ^ 1]) + last[-1:]
        return [event]
    rewrite(event_file(run, "." if tag == "batch_loss" else "train"), change)
    assert f"{tag}: other values at steps" in judged(reference, run, tmp_path)


def test_values_that_tell_of_time_may_differ_and_their_steps_may_not():
    want = {("steps", "time/data"): [(1, "a"), (2, "b")]}
    assert series_faults(want, {("steps", "time/data"): [(1, "x"), (2, "y")]}, "loader") == []
    assert series_faults(want, {("steps", "time/data"): [(1, "x")]}, "loader") != []
    assert series_faults(want, {("steps", "time/data"): [(1, "x")]}, "loader", [""]) == []
    assert series_faults(want, {("steps", "time/data"): [(1, "x"), (2, "y"), (3, "z")]}, "loader", [""]) != []


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_checkpoint_that_was_tampered_with_is_found(bench, reference, run, tmp_path, name):
    step, newest = list(checkpoints(run).items())[-1]
    states = bench.states(SHORT)
    assert states.faults(run) == []
    content = bytearray((newest / name).read_bytes())
    content[-1] ^= 1
    (newest / name).write_bytes(content)
    assert any(f"not the bytes of step {step}" in fault for fault in states.faults(run))
    assert name in judged(reference, run, tmp_path)


def test_half_a_checkpoint_is_found(bench, run):
    states, newest = bench.states(SHORT), list(checkpoints(run).values())[-1]
    observers, manifest = newest / "observers.bin", newest / "manifest.json"
    observers.write_bytes(observers.read_bytes()[:-1])
    (fault,) = states.faults(run)
    assert "observers.bin: " in fault and "the manifest says" in fault
    manifest.write_text(manifest.read_text()[:100])
    (fault,) = states.faults(run)
    assert "manifest.json: of step {'unreadable'" in fault
    newest.rename(newest.with_name("ckpt-000000000099"))
    (fault,) = states.faults(run)
    assert "no run has a checkpoint of step 99" in fault


def test_other_weights_another_result_and_a_lost_snapshot_are_found(reference, run):
    assert reference.file_faults(run) == []
    (run / "model.safetensors").write_bytes(b"other")
    result = run / "result.json"
    result.write_text(result.read_text().replace('"iterations": 8', '"iterations": 9'))
    journal = run / "metrics.jsonl"
    lines = journal.read_text().splitlines(True)
    journal.write_text("".join(line for line in lines if '"epoch":1,"seconds' not in line))
    shutil.rmtree(next((run / "plugins").iterdir()))
    said = "; ".join(reference.file_faults(run))
    assert "model.safetensors has other bytes" in said and "result.iterations: 9" in said and "plugins/" in said
    assert "metrics.jsonl.epoch 1: None" in said


@pytest.fixture(scope="module")
def recorded(bench):
    if reason := trace.available():
        pytest.skip(reason)
    logdir = bench.work / "recorded-1" / "run"
    logdir.parent.mkdir(parents=True)
    log = bench.work / "log"
    assert bench.trainer.run([*trace.recording(log), *bench.trainer.command(logdir, SHORT)]).code == 0
    return logdir, log.read_text().splitlines()


def audited(recorded, leave_out):
    logdir, lines = recorded
    kept = [line for line in lines if not leave_out(line)]
    assert leave_out is nothing or len(kept) < len(lines)
    return audit.audit(trace.parse("\n".join(kept)), logdir)


def nothing(_):
    return False


def test_a_durable_trace_passes(recorded):
    points, faults = audited(recorded, nothing)
    assert points >= 5 and faults == []


@pytest.mark.parametrize(("what", "leave_out"), [
    ("model.safetensors", lambda line: "fsync" in line and "model.safetensors>" in line and ".tmp-" in line),
    ("manifest.json", lambda line: "fsync" in line and "manifest.json>" in line),
    ("was never synced", lambda line: "fsync" in line and "/checkpoints>" in line),
    ("before this is durable", lambda line: "fsync" in line and "/checkpoints/.tmp-" in line and "." not in
     line.rpartition("/.tmp-")[2]),
    ("before the log of its steps is durable", lambda line: "fdatasync" in line and "/train/" in line),
    ("before the log of its steps is durable", lambda line: "fsync" in line and "/train>" in line),
    ("mkdir of", lambda line: "fsync" in line and line.partition("<")[2].partition(">")[0].endswith("/recorded-1")),
    ("no checkpoint was published", lambda line: "rename" in line and "ckpt-" in line),
])
def test_a_trace_without_a_sync_or_a_rename_is_found(recorded, what, leave_out):
    _, faults = audited(recorded, leave_out)
    assert any(what in fault for fault in faults), faults


def test_a_trace_is_read_with_calls_that_wait_for_each_other():
    calls = trace.parse('7 fsync(4</r/a> <unfinished ...>\n8 write(5</r/b>, ""..., 3) = 3\n7 <... fsync resumed>) = 0\n'
                        '7 renameat2(AT_FDCWD</x>, "/r/a", AT_FDCWD</x>, "/r/c", RENAME_NOREPLACE) = -1 EEXIST (Is)\n'
                        '7 mkdirat(5</r>, "d", 0777) = 0\n7 renameat(5</r>, "e", 5</r>, "f") = 0\n'
                        '8 write(5</r/b>, ""..., 3) = ?\n9 +++ exited with 0 +++\n')
    assert [(call.tid, call.name, call.path, call.to, call.worked, call.ordinal) for call in calls] == [
        (8, "write", "/r/b", "", True, 1), (7, "fsync", "/r/a", "", True, 1),
        (7, "renameat2", "/r/a", "/r/c", False, 1), (7, "mkdirat", "/r/d", "", True, 1),
        (7, "renameat", "/r/e", "/r/f", True, 1), (8, "write", "/r/b", "", False, 2)]


def test_what_programs_say_of_themselves_is_added_up():
    said = ("running 2 tests\nproof: R4 power cuts: 10,000 points, 0 failures\nproof: R4: 5 points, 1 failures\n"
            "proof: R5 every bit: 7 points, 0 failures\nproof: X parsers of IDX: 3 points, 0 failures\n"
            "proof: R2 kill at every call: 1,539 points, 0 failures\n"
            "proof: R4 test of the test, without it: 12 found\n")
    found = programs.tallies_of(said)
    assert {goal: (tally.points, len(tally.failures)) for goal, tally in found.items()} == {
        "R4": (10_005, 1), "R5": (7, 0), "X": (3, 0), "R2 in process": (1539, 0)}


def test_the_table_keeps_rows_of_goals_that_were_not_tried():
    page = f"# Page\n\n{table.BEGIN}\n\n{table.END}\n\nafter\n"
    first, second = Tally("R9", "signals", points=1200), Tally("R10", "a | b", points=7)
    again = Tally("R9", "x", points=3)
    again.fail("one", "wrong")
    page = table.merged(page, [second, first], "abc")
    assert page.index("| R9 | signals | 1,200 | 0 |") < page.index("| R10 | a \\| b | 7 | 0 |")
    page = table.merged(page, [again], "def")
    assert "| R9 | x | 3 | 1 |" in page and "| R10 |" in page and "1,200" not in page and page.endswith("\n\nafter\n")
    with pytest.raises(ValueError, match="the page has no"):
        table.merged("# Page", [first], "abc")


def test_percentiles_are_of_the_nearest_rank():
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([3.0], 0.99) == 3.0 and percentile([], 0.5) == 0.0
