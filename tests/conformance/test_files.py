"""The files themselves, checked by independent readers."""

import json
import re
import subprocess
import sys

import pytest
import reading
from expected import EPOCHS, EXPECTED, GRAPH_RUN, HPARAMS, ITERATIONS, LAYERS, LEAST_ACCURACY
from expected import RUNS as ENTRIES
from serving import COMPLAINT, steps_of
from tbparse import SummaryReader
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.util.tensor_util import make_ndarray

RUNS = sorted(EXPECTED)


def test_the_checksum_is_the_published_one():
    assert reading.crc32c(b"123456789") == 0xE3069283
    assert reading.masked(reading.crc32c(b"")) == 0xA282EAD8


def test_a_run_is_a_directory_with_one_event_file(logs):
    assert sorted(reading.event_files(logs)) == ENTRIES
    files = reading.curve_files(logs)
    for run in RUNS:
        paths = files[run]
        assert len(paths) == 1, f"{run}: {paths}"
        assert re.fullmatch(r"events\.out\.tfevents\.\d{10}\..+", paths[0].name)


def test_every_checksum_verifies_and_nothing_trails(logs):
    check_checksums(logs)


def check_checksums(logdir):
    for paths in reading.event_files(logdir).values():
        for path in paths:
            assert list(reading.records(path)), f"{path}: empty"


def test_tensorboard_reads_every_record(logs, contents):
    check_raw_loader(logs, {run: len(events) for run, events in contents.items()})


def check_raw_loader(logdir, counts):
    for run, paths in reading.curve_files(logdir).items():
        if run not in counts:
            continue
        read = sum(1 for path in paths for _ in RawEventFileLoader(str(path)).Load())
        assert read == counts[run], f"{run}: TensorBoard's own loader read {read} of {counts[run]} records"


def test_what_hparams_want_to_know_stands_in_files_of_its_own(logs):
    for run, tags in HPARAMS.items():
        paths = [path for path in reading.event_files(logs)[run] if path not in reading.curve_files(logs).get(run, [])]
        assert len(paths) == len(tags)
        for path, tag in zip(paths, tags, strict=True):
            version, event = reading.events(path)
            assert version.file_version == "brain.Event:2"
            (value,) = event.summary.value
            step = ITERATIONS if tag.endswith("end_info") else 0
            assert (value.tag, value.metadata.plugin_data.plugin_name, event.step) == (tag, "hparams", step)


def test_the_end_of_a_session_is_read_last(logs):
    """TensorBoard's own loader reads files in the order of their names, and never returns to an earlier one."""
    first, curves, last = reading.event_files(logs)["fit"]
    assert "session.0-start" in first.name and "session" not in curves.name and last.name.endswith(".session-end.v2")


def test_the_result_counts_every_byte_of_the_log(logs):
    log_bytes = json.loads((logs / "fit" / "result.json").read_text())["log_bytes"]
    written = sum(path.stat().st_size for path in (logs / "fit").rglob("*")
                  if path.is_file() and ("tfevents" in path.name or "plugins" in path.parts))
    assert sum(log_bytes.values()) == written
    assert set(log_bytes) >= {"scalars", "histograms", "images", "text", "graphs", "hparams", "headers"}


@pytest.mark.parametrize("run", RUNS)
def test_a_file_opens_with_its_version_and_the_start_of_a_session(contents, run):
    first, second = contents[run][:2]
    assert first.file_version == "brain.Event:2"
    assert 0 < len(first.source_metadata.writer) <= 128
    # The run's own directory holds the settings for HParams at step 0, and a session start there would void them.
    assert (second.session_log.status, second.step) == (SessionLog.START, 1 if run == "fit" else 0)
    assert sum(event.HasField("file_version") for event in contents[run]) == 1


@pytest.mark.parametrize("run", RUNS)
def test_every_value_carries_its_metadata_and_the_shape_its_plugin_wants(contents, run):
    for event in contents[run]:
        for value in event.summary.value:
            plugin = value.metadata.plugin_data.plugin_name
            where = f"{run}: {value.tag} at step {event.step}"
            assert value.HasField("tensor"), f"{where}: an old-style value"
            array = make_ndarray(value.tensor)
            if plugin == "scalars":
                assert (array.dtype.name, array.shape) == ("float32", ()), where
            elif plugin == "histograms":
                assert array.dtype.name == "float64" and array.ndim == 2 and array.shape[1] == 3, where
                assert (array[:, 0] <= array[:, 1]).all() and (array[1:, 0] == array[:-1, 1]).all(), where
            elif plugin == "images":
                assert array.ndim == 1 and len(array) >= 3, where
            elif plugin in ("text", "custom_scalars"):
                assert array.shape == (), where
            elif plugin == "pr_curves":
                assert (array.dtype.name, array.shape) == ("float32", (6, 201)), where
            elif plugin == "graph_keras_model":
                assert value.metadata.plugin_data.content == b"1", where
            else:
                raise AssertionError(f"{where}: plugin {plugin!r}")


@pytest.mark.parametrize("run", RUNS)
def test_steps_and_wall_times_do_not_go_back(contents, run):
    times = [event.wall_time for event in contents[run]]
    assert times == sorted(times)
    for tags in reading.series(contents[run]).values():
        for tag, points in tags.items():
            steps = [step for step, *_ in points]
            assert steps == sorted(set(steps)), f"{run}: {tag}: {steps}"


def test_the_files_hold_exactly_the_expected_series(contents):
    assert steps_of({run: reading.series(events) for run, events in contents.items()}) == EXPECTED


def test_the_network_learned(contents):
    points = reading.series(contents["fit/validation"])["scalars"]["epoch_accuracy"]
    accuracy = float(make_ndarray(points[EPOCHS - 1][2]))
    assert LEAST_ACCURACY <= accuracy <= 1, accuracy


def test_histograms_count_the_weights(contents):
    histograms = reading.series(contents["fit/train"])["histograms"]
    weights = [tag for tag in histograms if tag.endswith(("/kernel/histogram", "/bias/histogram"))]
    assert weights
    for tag in weights:
        points = histograms[tag]
        counts = {make_ndarray(tensor)[:, 2].sum() for _, _, tensor in points}
        assert len(counts) == 1 and counts.pop() >= 10, tag


def test_the_graph_connects_every_layer(contents):
    graphs = [event.graph_def for event in contents[GRAPH_RUN] if event.HasField("graph_def")]
    assert len(graphs) == 1
    nodes = {node.name: node for node in GraphDef.FromString(graphs[0]).node}
    assert "/" in "".join(nodes), "no scopes"
    for layer in LAYERS:
        own = [name for name in nodes if layer in name.split("/")]
        assert own, f"no node for {layer}"
        assert any(nodes[name].attr["_output_shapes"].list.shape for name in own), f"{layer}: no _output_shapes"
    for node in nodes.values():
        for source in node.input:
            assert source.lstrip("^").split(":")[0] in nodes, f"{node.name} takes {source}, which is not there"


def test_inspect_reads_the_files_without_complaint(logs):
    done = subprocess.run([sys.executable, "-m", "tensorboard.main", "--inspect", "--logdir", str(logs)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not COMPLAINT.search(done.stderr), done.stderr
    for run in RUNS:
        assert f"{logs / run}" in done.stdout
        for tag in tags_of(run):
            assert re.search(rf"^ +{re.escape(tag)}$", done.stdout, re.MULTILINE), f"{tag}:\n{done.stdout}"
    # It reads the files of a directory in no order, and `fit` has three.
    of_runs = re.split(r"^Event statistics for ", done.stdout, flags=re.MULTILINE)[1:]
    assert len(of_runs) >= len(RUNS)
    for said in of_runs:
        if not said.startswith(f"{logs / 'fit'}:"):
            assert set(re.findall(r"outoforder_steps +(.*)", said)) == {"[]"}, said


def tags_of(run):
    return [tag for tags in EXPECTED[run].values() for tag in tags]


@pytest.mark.parametrize("run", RUNS)
def test_tbparse_reads_the_same_scalars(logs, contents, run):
    reader = SummaryReader(str(logs / run), extra_columns={"wall_time"})
    scalars = reading.series(contents[run])["scalars"]
    found = {tag: [] for tag in scalars}
    # A scalar in a tensor is a tensor to this reader, as TensorFlow's are.
    for row in reader.tensors.itertuples():
        if row.tag in scalars:
            found[row.tag].append((row.step, row.wall_time, float(row.value)))
    for tag, points in scalars.items():
        assert found[tag] == [(step, wall, float(make_ndarray(tensor))) for step, wall, tensor in points], tag
