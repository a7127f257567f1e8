"""A sweep of six trials as stock TensorBoard's HParams shows it, by both of its loaders."""

import json
import urllib.error
import urllib.request

import pytest
import reading
from serving import TensorBoard

RATES = ["0.0003", "0.001", "0.003", "0.01", "0.03", "100"]
DIVERGES = "100"
# TensorBoard sorts each of the two by name, and shows five columns until it is asked for more.
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
    """Whether everything is there: the loaders take a while."""
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
    old = reading.event_files(sweep)[f"lr={again}"]
    trial(trainer, sweep, again, "--fresh")
    assert reading.event_files(sweep)[f"lr={again}"] == old
    assert {path: path.read_bytes() for path in sweep.iterdir() if path.is_file()} == before, "written once"
    for fast in ("true", "false"):
        with TensorBoard(sweep, tmp_path / fast, f"--load_fast={fast}") as board:
            board.wait_for(lambda: complete(board), "all sessions")
            check(board)
