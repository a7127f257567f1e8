"""Observers' output for known predictions, in both of TensorBoard's loaders, compared with values computed here."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from serving import TensorBoard, served_series

ROOT = Path(__file__).resolve().parents[2]
WRITER = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / "predictions"
RUN = "formula/validation"
EPOCHS = [0, 1]
SAMPLES, CLASSES, THRESHOLDS, BINS = 500, 6, 201, 15
# Names as in tags: `T-shirt/top` would open a group.
NAMES = ["T-shirt_top", "Ankle boot", "a|b", "größe", "no image", "never"]


def formula(epoch):
    """Probabilities, in single precision, and labels: the input of examples/predictions.rs."""
    probabilities = np.zeros((SAMPLES, CLASSES), np.float32)
    labels = np.zeros(SAMPLES, int)
    for n in range(SAMPLES):
        guess = (n * n + n // 3) % 5
        bonus = 400 + 200 * epoch
        weights = [(n * 7919 + k * 104729 + n * n * 31) % 700 + 1 + (bonus if k == guess else 0) for k in range(CLASSES)]
        weights[5] = 1
        squares = [weight * weight for weight in weights]
        assert sum(squares) < 1 << 24
        probabilities[n] = [np.float32(square) / np.float32(sum(squares)) for square in squares]
        labels[n] = guess % 4
    return probabilities, labels


@pytest.fixture(scope="module")
def prediction_logs(tmp_path_factory):
    if not WRITER.exists():
        pytest.exit(f"{WRITER} is not there; run `cargo build --release --examples`", returncode=2)
    logs = tmp_path_factory.mktemp("predictions") / "logs"
    subprocess.run([WRITER, logs], check=True, timeout=60)
    return logs


@pytest.fixture(scope="module", params=["true", "false"], ids=["data-server", "python-loader"])
def known(request, prediction_logs, tmp_path_factory):
    stderr = tmp_path_factory.mktemp("tensorboard") / "stderr"
    with TensorBoard(prediction_logs, stderr, f"--load_fast={request.param}") as board:
        board.wait_for(lambda: "errors/most_confident" in served_series(board).get(RUN, {}).get("images", {}), "all")
        yield board


def test_curves_are_those_of_the_predictions(known):
    tags = [f"pr_curve/{name}" for name in NAMES]
    assert known.json("plugin/pr_curves/tags")[RUN].keys() == set(tags)
    for k, tag in enumerate(tags):
        points = known.json("plugin/pr_curves/pr_curves", run=RUN, tag=tag)[RUN]
        assert [point["step"] for point in points] == EPOCHS
        for epoch, point in zip(EPOCHS, points, strict=True):
            probabilities, labels = formula(epoch)
            # Each threshold is computed by itself, not by TensorBoard's sums over buckets.
            bucket = np.floor(probabilities[:, k] * np.float32(THRESHOLDS - 1))
            taken = bucket[None, :] >= np.arange(THRESHOLDS)[:, None]
            tp, fp = (taken & (labels == k)).sum(axis=1), (taken & (labels != k)).sum(axis=1)
            fn, tn = (~taken & (labels == k)).sum(axis=1), (~taken & (labels != k)).sum(axis=1)
            # Thresholds without a prediction of the class are not shown.
            shown = int(np.flatnonzero(tp + fp)[-1]) + 1
            want = {
                "true_positives": tp, "false_positives": fp, "true_negatives": tn, "false_negatives": fn,
                "precision": tp / np.maximum(tp + fp, 1), "recall": tp / np.maximum(tp + fn, 1),
                "thresholds": np.arange(THRESHOLDS) / (THRESHOLDS - 1),
            }
            for name, row in want.items():
                assert point[name] == pytest.approx(row[:shown].tolist(), abs=1e-6), f"{tag}: {name} of epoch {epoch}"


def test_scores_are_those_of_the_predictions(known):
    scalars = served_series(known)[RUN]["scalars"]
    for epoch in EPOCHS:
        probabilities, labels = formula(epoch)
        predicted = probabilities.argmax(axis=1)
        want = {}
        for k, name in enumerate(NAMES):
            right, found = ((predicted == k) & (labels == k)).sum(), (predicted == k).sum()
            support = (labels == k).sum()
            want[f"per_class/precision/{name}"] = right / max(found, 1)
            want[f"per_class/recall/{name}"] = right / max(support, 1)
            want[f"per_class/f1/{name}"] = 2 * right / max(found + support, 1)
        # The last class has no image and no prediction.
        for score in ("precision", "recall", "f1"):
            want[f"macro_average/{score}"] = np.mean([want[f"per_class/{score}/{name}"] for name in NAMES[:5]])
        confidence = probabilities.max(axis=1).astype(float)
        bins = np.ceil(confidence * BINS)
        right = predicted == labels
        want["reliability/ece"] = sum(
            abs(right[bins == m].sum() - confidence[bins == m].sum()) for m in np.unique(bins)) / SAMPLES
        assert scalars.keys() == want.keys()
        got = {tag: points[epoch][2] for tag, points in scalars.items()}
        assert all(points[epoch][0] == epoch for points in scalars.values())
        assert got == pytest.approx(want, abs=1e-6)


def test_the_table_survives_odd_names(known):
    for _, _, html in served_series(known)[RUN]["text"]["per_class/scores"]:
        rows = html.split("<tr>")[2:]
        assert len(rows) == CLASSES, html
        for row, name in zip(rows, ["T-shirt/top", "Ankle boot", "a|b", "größe", "no image", "never"], strict=True):
            assert f"<code>{name}</code>" in row, row
            assert row.count("<td>") == 7, row
        assert "lowest" in html


def test_the_loader_does_not_mind(known):
    assert known.complaints() == []
