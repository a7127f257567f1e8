"""Every kind that the event log can write, as stock TensorBoard serves it with both of its loaders."""

import json
import math
import os
import struct
import subprocess
from pathlib import Path

import pytest
import reading
from google.protobuf import text_format
from serving import TensorBoard
from tensorboard.compat.proto.config_pb2 import RunMetadata
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.util.tensor_util import make_ndarray
from test_served import decode_png

ROOT = Path(__file__).resolve().parents[2]
WRITER = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / "plugins"
RUN = "all/train"
STEPS = [0, 1, 2]


@pytest.fixture(scope="module")
def plugin_logs(tmp_path_factory):
    """The log written by `examples/plugins.rs`."""
    if not WRITER.exists():
        pytest.exit(f"{WRITER} is not there; run `cargo build --release --examples`", returncode=2)
    logs = tmp_path_factory.mktemp("plugins") / "logs"
    subprocess.run([WRITER, logs], check=True, timeout=60)
    return logs


@pytest.fixture(scope="module")
def written(plugin_logs):
    """plugin -> tag -> [(step, wall time, tensor)], by the independent reader."""
    return reading.series(reading.contents(plugin_logs)[RUN])


@pytest.fixture(scope="module", params=["true", "false"], ids=["data-server", "python-loader"])
def plugins(request, plugin_logs, tmp_path_factory):
    stderr = tmp_path_factory.mktemp("tensorboard") / "stderr"
    with TensorBoard(plugin_logs, stderr, f"--load_fast={request.param}") as board:
        board.wait_for(lambda: "custom_scalars__config__" in served_tags(board), "the last value written")
        yield board


def served_tags(board):
    return json.loads(board.get("plugin/custom_scalars/layout")[0]) and ["custom_scalars__config__"]


def test_precision_and_recall_at_every_threshold(plugins, written):
    assert plugins.json("plugin/pr_curves/tags")[RUN].keys() == {"pr_curve/three"}
    points = plugins.json("plugin/pr_curves/pr_curves", run=RUN, tag="pr_curve/three")[RUN]
    assert [point["step"] for point in points] == STEPS
    for point, (_, _, tensor) in zip(points, written["pr_curves"]["pr_curve/three"], strict=True):
        rows = make_ndarray(tensor)
        assert rows.shape == (6, 201)
        shown = len(point["precision"])
        assert shown > 100, "columns were cut off"
        names = ["true_positives", "false_positives", "true_negatives", "false_negatives", "precision", "recall"]
        for name, row in zip(names, rows, strict=True):
            assert point[name] == pytest.approx(row[:shown].tolist()), name
        assert point["thresholds"] == pytest.approx([column / 200 for column in range(shown)])


def test_the_layout_of_custom_scalars(plugins):
    layout = plugins.json("plugin/custom_scalars/layout")
    assert [category["title"] for category in layout["category"]] == ["Lines", "Bands"]
    assert layout["category"][1]["closed"] is True
    exact, band = layout["category"][0]["chart"]
    (loss,) = exact["multiline"]["tag"]
    assert list(lines(plugins, loss)) == ["loss"]
    (pattern,) = band["multiline"]["tag"]
    assert sorted(lines(plugins, pattern)) == ["band/high", "band/low"]
    (margin,) = layout["category"][1]["chart"][0]["margin"]["series"]
    assert margin == {"value": "loss", "lower": "band/low", "upper": "band/high"}


def lines(board, pattern):
    answer = board.json("plugin/custom_scalars/scalars", run=RUN, tag=pattern)
    assert answer["regex_valid"]
    return {tag: points for tag, points in answer["tag_to_events"].items() if points}


def test_the_profile_joins_the_graph(plugins):
    info = plugins.json("plugin/graphs/info")[RUN]
    assert info["run_graph"] is True
    assert info["tags"]["profile/one_step"]["profile"] is True
    graph, _ = plugins.get("plugin/graphs/graph", run=RUN)
    nodes = {node.name for node in text_format.Parse(graph.decode(), GraphDef()).node}
    profile, _ = plugins.get("plugin/graphs/run_metadata", run=RUN, tag="profile/one_step")
    (device,) = text_format.Parse(profile.decode(), RunMetadata()).step_stats.dev_stats
    assert device.device == "/device:CPU:0"
    costs = {cost.node_name: cost for cost in device.node_stats}
    assert set(costs) == nodes
    relu = costs["dense/Relu"]
    assert (relu.all_start_micros, relu.all_end_rel_micros) == (9, 3)
    assert [memory.total_bytes for memory in relu.memory] == [2560]
    (output,) = relu.output
    assert [dim.size for dim in output.tensor_description.shape.dim] == [64, 10]


def test_snapshots_of_embeddings_are_tensors_of_one_run(plugins, plugin_logs):
    snapshots = ["circle/epoch_0000", "circle/at_epoch_0001"]
    run = "all"
    plugins.wait_for(lambda: plugins.json("plugins_listing")["projector"]["enabled"], "the projector's tab")
    assert plugins.json("plugin/projector/runs") == [run]
    embeddings = {found["tensorName"]: found for found in plugins.json("plugin/projector/info", run=run)["embeddings"]}
    assert sorted(embeddings) == sorted(snapshots)
    for step, name in enumerate(snapshots):
        assert embeddings[name]["tensorShape"] == [7, 3]
        assert embeddings[name]["sprite"]["singleImageDim"] == [5, 4]
        body, _ = plugins.get("plugin/projector/tensor", run=run, name=name, num_rows=100)
        points = list(struct.iter_unpack("<3f", body))
        want = [(math.sin(angle), math.cos(angle), 0) for angle in (i / 7 * math.tau + step for i in range(7))]
        assert points == [pytest.approx(point, rel=1e-4, abs=1e-6) for point in want]
        labels, _ = plugins.get("plugin/projector/metadata", run=run, name=name, num_rows=100)
        assert labels.decode().split("\n") == [
            "name\tclass", *(f"point {i}\t{i % 2}" for i in range(7)), ""]
        sheet, content_type = plugins.get("plugin/projector/sprite_image", run=run, name=name)
        assert content_type == "image/png"
        assert decode_png(sheet) == (15, 12)
        points = plugin_logs / run / "plugins" / "org_tensorflow_tensorboard_projector" / f"epoch_{step:04}"
        assert sheet == (points / "sprite.png").read_bytes()


def test_an_animation_is_served_as_a_gif(plugins, written):
    (point,) = plugins.json("plugin/images/images", run=RUN, tag="animation", sample=0)
    body, content_type = plugins.get(f"plugin/images/individualImage?{point['query']}")
    assert content_type == "image/gif"
    ((_, _, tensor),) = written["images"]["animation"]
    assert body == bytes(make_ndarray(tensor)[2])
    assert struct.unpack("<6sHH", body[:10]) == (b"GIF89a", 6, 4)
    assert body.count(b"\x21\xf9\x04") == 8, "a control block for each frame"
    assert body.endswith(b"\x3b")


def test_inspect_names_every_kind(trainer, plugin_logs):
    runs = {run["name"]: run for run in json.loads(trainer("inspect", plugin_logs, "--json").stdout)["runs"]}
    kinds = {tag["name"]: tag["plugin"] for tag in runs[RUN]["tags"]}
    assert kinds["pr_curve/three"] == "pr_curves"
    assert kinds["custom_scalars__config__"] == "custom_scalars"
    assert kinds["profile/one_step"] == "graph_run_metadata"
    (points,) = [tag for tag in runs["all"]["tags"] if tag["plugin"] == "projector"]
    assert (points["name"], points["plugin"], points["form"]) == ("circle", "projector", "files")
    assert points["bytes"] > 0


def test_no_loader_complains(plugins):
    assert plugins.complaints() == []
