"""A classifier's evaluation by scikit-learn and by TensorBoard's own code: the golden values in evaluation.json.

    python -m venv /tmp/evaluation
    /tmp/evaluation/bin/pip install scikit-learn==1.9.1 tensorboard==2.21.0
    /tmp/evaluation/bin/python tests/golden/make_evaluation.py > tests/golden/evaluation.json

Probabilities come from a formula of whole numbers that the Rust test computes too, exact in single precision.
"""

import json
import sys
import types

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

# TensorBoard's module imports TensorFlow to make a message of what it has computed; the numbers need only numpy.
for name in ("tensorflow", "tensorflow.compat", "tensorflow.compat.v1"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["tensorflow.compat"].v1 = sys.modules["tensorflow.compat.v1"]
from tensorboard.plugins.pr_curve import summary  # noqa: E402

summary.raw_data_pb = lambda name, **rows: rows

SAMPLES, CLASSES, BINS, THRESHOLDS = 500, 6, 15, 201

probabilities = np.zeros((SAMPLES, CLASSES), np.float32)
labels = np.zeros(SAMPLES, int)
for n in range(SAMPLES):
    guess = (n * n + n // 3) % 5
    weights = [(n * 7919 + k * 104729 + n * n * 31) % 700 + 1 + (500 if k == guess else 0) for k in range(CLASSES)]
    weights[5] = 1
    squares = [weight * weight for weight in weights]
    assert sum(squares) < 1 << 24
    probabilities[n] = [np.float32(square) / np.float32(sum(squares)) for square in squares]
    labels[n] = guess % 4
predicted = probabilities.argmax(axis=1)
confidence = probabilities.max(axis=1).astype(float)
right = predicted == labels

names = list(range(CLASSES))
precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=names, zero_division=0)
# Without `labels`: means over the classes that occur.
means = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)[:3]
bin_accuracy, bin_confidence = calibration_curve(right, confidence, n_bins=BINS)
which = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
gaps = [abs(right[which == m].mean() - confidence[which == m].mean()) * (which == m).mean() for m in np.unique(which)]
curves = []
for k in range(CLASSES):
    rows = summary.pb("curve", labels == k, probabilities[:, k], num_thresholds=THRESHOLDS)
    keep = ["true_positive_counts", "false_positive_counts", "true_negative_counts", "false_negative_counts"]
    curve = {row: [int(value) for value in rows[row]] for row in keep}
    curve |= {row: [float(f"{value:.7g}") for value in rows[row]] for row in ("precision", "recall")}
    curves.append(curve)

golden = {
    "confusion": confusion_matrix(labels, predicted, labels=names).tolist(),
    "scores": [[*map(float, row[:3]), int(row[3])] for row in zip(precision, recall, f1, support)],
    "mean": [float(value) for value in means],
    "bin_accuracy": bin_accuracy.tolist(),
    "bin_confidence": bin_confidence.tolist(),
    "expected_calibration_error": float(sum(gaps)),
    "pr_curves": curves,
}
print(json.dumps(golden, separators=(",", ":")))
