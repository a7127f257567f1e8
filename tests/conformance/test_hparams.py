"""A sweep of six trials as stock TensorBoard's HParams shows it, by both of its loaders."""

import json
import time
import urllib.error
import urllib.request

import pytest
import reading
from serving import TensorBoard
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

RATES = ["0.0003", "0.001", "0.003", "0.01", "0.03", "100"]
DIVERGES = "100"
# TensorBoard sorts each of the two by name, and shows five columns until it is asked for more: those that differ, which is
# the learning rate alone, and those that usually do.
SHOWN_FIRST = ["batch-size", "conv-filters", "dense-units", "learning-rate", "optimizer"]
COLUMNS = [*SHOWN_FIRST, "dataset", "epochs", "kernel-size", "limit-train", "limit-validation", "momentum",
           "precision", "seed", "weight-decay"]
METRICS = [("validation", "best/val_accuracy"), ("validation", "epoch_accuracy"), ("validation", "epoch_loss"),
           ("train", "epoch_accuracy"), ("train", "epoch_loss")]
DATA_ERROR = 65


def trial(trainer, sweep, rate, *more):
    done = trainer("--logdir", sweep / f"lr={rate}", "--learning-rate", rate, "--dataset", "synthetic",
                   "--limit-train", "256", "--limit-validation", "100", "--epochs", "2", "--conv-filters", "4",
                   "--dense-units", "16", "--image-freq", "0", "--quiet", *more, check=False)
    assert done.returncode == (DATA_ERROR if rate == DIVERGES else 0), done.stderr
    return done


@pytest.fixture(scope="module")
def sweep(trainer, tmp_path_factory):
    sweep = tmp_path_factory.mktemp("hparams") / "sweep"
    for rate in RATES:
        trial(trainer, sweep, rate)
    return sweep


@pytest.fixture(scope="module", params=["true", "false"], ids=["data-server", "python-loader"])
def table(request, sweep, tmp_path_factory):
    stderr = tmp_path_factory.mktemp("tensorboard") / "stderr"
    with TensorBoard(sweep, stderr, f"--load_fast={request.param}") as board:
        board.wait_for(lambda: complete(board), "all sessions")
        yield board


def post(board, path, body):
    request = urllib.request.Request(f"{board.url}/data/plugin/hparams/{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def experiment(board):
    return post(board, "experiment", {"experimentName": "0"})


def rows(board):
    """session -> its row."""
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    answer = post(board, "session_groups", {"experimentName": "0", "allowedStatuses": statuses, "colParams": [],
                                            "startIndex": 0, "sliceSize": 100})
    return {group["sessions"][0]["name"]: group for group in answer.get("sessionGroups", [])}


def complete(board):
    """True if everything is loaded: the loaders take a while."""
    try:
        found = rows(board)
        done = [row for row in found.values() if len(row["metricValues"]) == len(METRICS)]
        return len(found) == len(RATES) and len(done) == len(RATES) - 1
    except urllib.error.HTTPError:
        return False


def check(board, rates=RATES):
    found = rows(board)
    assert sorted(found) == sorted(f"lr={rate}" for rate in rates)
    for rate in rates:
        row = found[f"lr={rate}"]
        (session,) = row["sessions"]
        failed = rate == DIVERGES
        assert session["status"] == ("STATUS_FAILURE" if failed else "STATUS_SUCCESS"), rate
        assert session["endTimeSecs"] >= session["startTimeSecs"] > 1.7e9
        values = row["hparams"]
        assert values["learning-rate"] == float(rate)
        want = {"batch-size": 64, "optimizer": "adam", "conv-filters": "4", "dense-units": 16, "weight-decay": 0,
                "momentum": 0, "epochs": 2, "seed": 0, "kernel-size": 3, "dataset": "synthetic", "limit-train": 256,
                "limit-validation": 100, "precision": "f32"}
        assert {name: values[name] for name in want} == want
        metrics = {(value["name"]["group"], value["name"]["tag"]): value for value in row["metricValues"]}
        if not failed:
            assert set(metrics) == set(METRICS), rate
            best, last = (metrics["validation", tag] for tag in ("best/val_accuracy", "epoch_accuracy"))
            assert best["trainingStep"] == last["trainingStep"] == 1
            assert 1 >= best["value"] >= last["value"] >= 0


def test_the_columns_are_the_settings_and_the_metrics(table):
    columns = experiment(table)
    assert [info["name"] for info in columns["hparamInfos"]] == COLUMNS
    kinds = {info["name"]: info["type"] for info in columns["hparamInfos"]}
    assert {name for name, kind in kinds.items() if kind == "DATA_TYPE_STRING"} == {
        "optimizer", "conv-filters", "dataset", "precision"}
    assert set(kinds.values()) == {"DATA_TYPE_STRING", "DATA_TYPE_FLOAT64"}
    assert all(info["description"] for info in columns["hparamInfos"])
    metrics = columns["metricInfos"]
    assert [(info["name"]["group"], info["name"]["tag"]) for info in metrics] == METRICS
    assert all(info["datasetType"] == f"DATASET_{'TRAINING' if info['name']['group'] == 'train' else 'VALIDATION'}"
               for info in metrics)


def test_every_trial_is_a_row_with_its_values_metrics_and_status(table):
    check(table)


def test_no_loader_complains(table):
    assert table.complaints() == []


def test_a_trial_that_ran_again_has_one_row_with_its_new_values(trainer, sweep, tmp_path):
    """And the same with a finished run, whose directory is refused without `--fresh`."""
    before = {path: path.read_bytes() for path in sweep.iterdir() if path.is_file()}
    again = RATES[1]
    old = len(reading.event_files(sweep)[f"lr={again}"])
    trial(trainer, sweep, again, "--fresh")
    assert len(reading.event_files(sweep)[f"lr={again}"]) == old
    assert {path: path.read_bytes() for path in sweep.iterdir() if path.is_file()} == before, "written once"
    for fast in ("true", "false"):
        with TensorBoard(sweep, tmp_path / fast, f"--load_fast={fast}") as board:
            board.wait_for(lambda: complete(board), "all sessions")
            check(board)


QUICK = ("--dataset", "synthetic", "--limit-validation", "100", "--conv-filters", "4", "--dense-units", "16",
         "--observe", "none,scalars=every:1epoch", "--quiet")


def start_time(logdir):
    (path,) = [path for path in logdir.glob("*tfevents*") if path.name.endswith("session.0-start.v2")]
    (value,) = reading.events(path)[1].summary.value
    return metadata.parse_session_start_info_plugin_data(value.metadata.plugin_data.content).start_time_secs


def test_a_resumed_run_began_when_its_first_process_did(trainer, tmp_path):
    logdir = tmp_path / "fit"
    trainer("--logdir", logdir, *QUICK, "--limit-train", "128", "--epochs", "1")
    began = start_time(logdir)
    time.sleep(1.1)
    trainer("--logdir", logdir, *QUICK, "--limit-train", "128", "--epochs", "2")
    assert start_time(logdir) == began
    ends = [path for path in logdir.glob("*tfevents*") if "session-end" in path.name]
    assert len(ends) == 1, "the first end is void"


def test_all_settings_that_differ_are_shown_first(trainer, tmp_path):
    """For any settings: the table shows five before the first click."""
    sweep = tmp_path / "sweep"
    for number, flags in enumerate([("--epochs", 2), ("--epochs", 1, "--threads", 1), ("--epochs", 1, "--seed", 3)]):
        trainer("--logdir", sweep / f"r{number}", *QUICK, "--limit-train", 128 * (number + 1), *flags)
    with TensorBoard(sweep, tmp_path / "stderr") as board:
        board.wait_for(lambda: experiment(board).get("hparamInfos"), "the columns")
        columns = experiment(board)["hparamInfos"]
    first = [info["name"] for info in columns if info.get("differs")]
    assert first == ["epochs", "learning-rate", "limit-train", "seed", "threads"], "and one that usually differs"


def hparams_value(tag, content):
    value = summary_pb2.Summary.Value(tag=tag)
    value.metadata.plugin_data.plugin_name = "hparams"
    value.metadata.plugin_data.content = content.SerializeToString()
    value.tensor.CopyFrom(metadata.NULL_TENSOR)
    return value


def foreign(logdir, settings=None, columns=None, metrics=(), scalars=()):
    """An event file of another writer: a session's settings, an experiment's columns, scalars."""
    values = []
    if columns is not None:
        data = plugin_data_pb2.HParamsPluginData()
        for name in columns:
            data.experiment.hparam_infos.add(name=name, type=api_pb2.DATA_TYPE_STRING)
        for tag in metrics:
            data.experiment.metric_infos.add(name=api_pb2.MetricName(tag=tag))
        values.append(hparams_value(metadata.EXPERIMENT_TAG, data))
    if settings is not None:
        data = plugin_data_pb2.HParamsPluginData()
        for name, value in settings.items():
            kind = "string_value" if isinstance(value, str) else "number_value"
            setattr(data.session_start_info.hparams[name], kind, value)
        values.append(hparams_value(metadata.SESSION_START_INFO_TAG, data))
    values += [summary_pb2.Summary.Value(tag=tag, simple_value=0.5) for tag in scalars]
    writer = EventFileWriter(str(logdir))
    writer.add_event(event_pb2.Event(wall_time=100, file_version="brain.Event:2"))
    writer.add_event(event_pb2.Event(wall_time=100, summary=summary_pb2.Summary(value=values)))
    writer.close()


# HParams data of other writers: as TensorFlow's and Keras's callbacks with an experiment above all runs, as
# PyTorch's and tensorboardX's `add_hparams` with one in every run, and with none.
def as_tensorflow(logs):
    foreign(logs, columns=["units"], metrics=["top5"])
    for units in (16, 32):
        foreign(logs / f"keras{units}", {"units": str(units)}, scalars=["top5", "unnamed"])


def as_pytorch(logs):
    for units in (16, 32):
        foreign(logs / "torch" / f"17000000{units}.5", {"units": str(units)}, ["units"], ["top5"], ["top5", "unnamed"])


def without_an_experiment(logs):
    for units in (16, 32):
        foreign(logs / "deep" / "er" / f"run{units}", {"units": float(units)}, scalars=["top5"])
        foreign(logs / "deep" / "er" / f"run{units}" / "validation", scalars=["f1"])


@pytest.mark.parametrize("place", ["fit", "nested/fit"])
@pytest.mark.parametrize("write", [as_tensorflow, as_pytorch, without_an_experiment])
def test_runs_of_other_writers_keep_their_columns(trainer, tmp_path, write, place):
    logs = tmp_path / "logs"
    write(logs)
    trainer("--logdir", logs / place, *QUICK, "--limit-train", "128", "--epochs", "1")
    inferred = write is without_an_experiment
    for fast in ("true", "false"):
        with TensorBoard(logs, tmp_path / fast, f"--load_fast={fast}") as board:
            board.wait_for(lambda: len(found(board)) == 3, "three sessions")
            columns = experiment(board)
            if write is as_pytorch and (fast == "true" or place != "fit"):
                # Every run of theirs has an experiment, and the data server takes any: with theirs alone it is the same.
                assert "units" in {info["name"] for info in columns["hparamInfos"]}
                continue
            names = {info["name"] for info in columns["hparamInfos"]}
            assert names == {*COLUMNS, "units"}
            metrics = {(info["name"].get("group", ""), info["name"]["tag"]) for info in columns["metricInfos"]}
            assert metrics == {*METRICS, ("", "top5"), *([("validation", "f1")] if inferred else [])}
            theirs = [row for name, row in found(board).items() if name != place]
            assert sorted(float(row["hparams"]["units"]) for row in theirs) == [16, 32]
            assert found(board)[place]["hparams"]["learning-rate"] == 0.001


def found(board):
    try:
        return rows(board)
    except urllib.error.HTTPError:
        return {}
