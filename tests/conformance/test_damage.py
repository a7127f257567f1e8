"""One changed byte is found, by the checks of the other tests and by `trainer inspect`."""

import shutil
import struct

import pytest
import reading
from expected import EXPECTED, SERVED
from serving import TensorBoard, served_series, steps_of
from test_files import check_checksums, check_raw_loader
from test_served import check_series

DATA_ERROR = 65


@pytest.fixture(scope="module", params=sorted(EXPECTED))
def damaged(request, logs, tmp_path_factory):
    """A copy of the log directory with one payload byte of one file changed, and the offset of the record it is in."""
    copy = tmp_path_factory.mktemp("damaged") / "logs"
    shutil.copytree(logs, copy)
    (path,) = reading.curve_files(copy)[request.param]
    # The last value of a scalar: flipped in its lowest bit it still is a number, so only checksums can tell.
    record = [record for record in reading.records(path) if ends_with_a_scalar(record)][-1]
    data = bytearray(path.read_bytes())
    tensor = reading.Event.FromString(record.payload).summary.value[-1].tensor
    value = tensor.tensor_content or struct.pack("<f", tensor.float_val[0])
    at = record.offset + 12 + record.payload.rindex(value)
    data[at] ^= 1
    path.write_bytes(data)
    return copy, path, record.offset


def ends_with_a_scalar(record):
    values = reading.Event.FromString(record.payload).summary.value
    return bool(values) and values[-1].metadata.plugin_data.plugin_name == "scalars"


def test_the_independent_reader_finds_it(damaged):
    logdir, path, offset = damaged
    with pytest.raises(reading.BadRecord, match="payload checksum") as found:
        check_checksums(logdir)
    assert found.value.offset == offset


def test_tensorboards_own_loader_stops_there(damaged, contents):
    logdir, *_ = damaged
    with pytest.raises(AssertionError, match="loader read"):
        check_raw_loader(logdir, {run: len(events) for run, events in contents.items()})


def test_the_python_loader_serves_less(damaged, tmp_path):
    logdir, *_ = damaged
    with TensorBoard(logdir, tmp_path / "stderr", "--load_fast=false") as board:
        board.wait_for(lambda: set(steps_of(served_series(board))) == set(EXPECTED), "all runs")
        with pytest.raises(AssertionError):
            board.wait_for(lambda: steps_of(served_series(board)) == SERVED, "all series", seconds=8)
        with pytest.raises(AssertionError):
            check_series(served_series(board))


def test_the_data_server_with_checksums_complains(damaged, tmp_path):
    logdir, path, _ = damaged
    with TensorBoard(logdir, tmp_path / "stderr", "--load_fast=true", "--extra_data_server_flags=--checksum") as board:
        board.wait_for(lambda: any(path.name in line for line in board.complaints()), f"a complaint about {path.name}")


def test_inspect_names_file_and_offset(damaged, trainer):
    logdir, path, offset = damaged
    done = trainer("inspect", logdir, check=False)
    assert done.returncode == DATA_ERROR, done.stdout + done.stderr
    assert path.name in done.stdout + done.stderr
    assert f"byte {offset}" in done.stdout + done.stderr
    assert "panicked" not in done.stderr


def test_inspect_finds_nothing_in_the_original(logs, trainer):
    done = trainer("inspect", logs)
    for run in EXPECTED:
        assert run in done.stdout
