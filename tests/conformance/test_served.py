"""Data served by stock TensorBoard over HTTP, by both of its loaders."""

import io
import json
import math
import re
import struct
import zlib

import pytest
import reading
from expected import (
    EXPECTED, FIRST_IMAGES, FIRST_SCALARS, GRAPH_RUN, LAYERS, PROJECTOR_POINTS, PROJECTOR_RUN, RUNS, SERVED, SNAPSHOTS,
    VALIDATION_SAMPLES,
)
from google.protobuf import text_format
from PIL import Image
from serving import TensorBoard, served_series, steps_of
from tensorboard.compat.proto.config_pb2 import RunMetadata
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.util.tensor_util import make_ndarray


def test_the_loader_is_the_one_asked_for(board, request):
    provider = board.json("environment")["debug"]["data_provider"]
    fast = "data-server" in request.node.callspec.id
    assert ("GrpcDataProvider" in provider) == fast, provider


def test_every_run_is_listed(board):
    assert sorted(board.json("runs")) == RUNS
    # TensorBoard selects none of more than 40 entries, and shows nothing: a sweep of ten has to stay below.
    assert 1 + 10 * (len(RUNS) - 1) <= 40


def in_tensorboards_order(tags):
    """As its `compareTagNames`: `/`, `_` and digits come before letters."""
    return sorted(tags, key=lambda tag: [(0, int(part)) if part.isdigit() else (0, -1) if part in "/_" else (1, part)
                                         for part in re.findall(r"\d+|.", tag)])


def test_what_people_come_for_stands_first(board):
    def tags(plugin):
        return in_tensorboards_order({tag for run in board.json(f"plugin/{plugin}/tags").values() for tag in run})
    assert tags("scalars")[:len(FIRST_SCALARS)] == FIRST_SCALARS
    assert tags("images")[:len(FIRST_IMAGES)] == FIRST_IMAGES
    behind = [tag for tag in tags("scalars") if tag.startswith(("layers/", "per_class/", "reliability/", "non_finite/", "time/"))]
    assert tags("scalars")[-len(behind) - 3:] == in_tensorboards_order([*behind, *(
        f"macro_average/{score}" for score in ("f1", "precision", "recall"))])


def test_the_projector_opens_on_the_newest_snapshot(board):
    board.wait_for(lambda: board.json("plugins_listing")["projector"]["enabled"], "the projector's tab")
    assert board.json("plugin/projector/runs") == [PROJECTOR_RUN]
    embeddings = board.json("plugin/projector/info", run=PROJECTOR_RUN)["embeddings"]
    # It opens the points with the largest count, and among equal counts the first by name.
    assert {embedding["tensorShape"][0] for embedding in embeddings} == {PROJECTOR_POINTS}
    assert sorted(embedding["tensorName"] for embedding in embeddings) == SNAPSHOTS
    bodies = []
    for name in SNAPSHOTS:
        labels, _ = board.get("plugin/projector/metadata", run=PROJECTOR_RUN, name=name)
        assert len(labels.decode().splitlines()) == 1 + PROJECTOR_POINTS
        sheet, _ = board.get("plugin/projector/sprite_image", run=PROJECTOR_RUN, name=name)
        with Image.open(io.BytesIO(sheet)) as picture:
            # Dark parts of a thumbnail have the colour of their class.
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 10
        bodies.append(board.get("plugin/projector/tensor", run=PROJECTOR_RUN, name=name)[0])
    assert bodies[0] != bodies[1]


def test_every_tag_is_served_with_every_step(served):
    check_series(served)


def check_series(served):
    assert steps_of(served) == SERVED


def test_every_tab_is_active(board):
    plugins = board.json("plugins_listing")
    names = ["timeseries", "scalars", "images", "graphs", "distributions", "histograms", "text", "hparams",
             "pr_curves", "custom_scalars"]
    for plugin in names:
        assert plugins[plugin]["enabled"], plugin


def test_scalars_are_those_of_the_files(served, contents):
    for run, events in contents.items():
        for tag, points in reading.series(events)["scalars"].items():
            read = [(step, wall, float(make_ndarray(tensor))) for step, wall, tensor in points]
            assert served[run]["scalars"][tag] == read, f"{run}: {tag}"
            assert all(math.isfinite(value) for *_, value in read), f"{run}: {tag}"


def test_histograms_are_those_of_the_files(served, contents):
    for tag, points in reading.series(contents["fit/train"])["histograms"].items():
        for (step, wall, buckets), (read_step, read_wall, tensor) in zip(
                served["fit/train"]["histograms"][tag], points, strict=True):
            assert (step, wall) == (read_step, read_wall)
            # One of the loaders returns them in single precision.
            for bucket, row in zip(buckets, make_ndarray(tensor).tolist(), strict=True):
                assert bucket == pytest.approx(row, rel=1e-6, abs=1e-12), tag


def test_distributions_follow_from_the_histograms(board):
    tags = board.json("plugin/distributions/tags")["fit/train"]
    assert sorted(tags) == sorted(EXPECTED["fit/train"]["histograms"])
    for tag in tags:
        points = board.json("plugin/distributions/distributions", run="fit/train", tag=tag)
        assert [step for _, step, _ in points] == EXPECTED["fit/train"]["histograms"][tag]
        for _, _, percentiles in points:
            values = [value for _, value in percentiles]
            assert values == sorted(values), tag


def test_texts_are_those_of_the_files(served, contents):
    for run in ("fit/train", "fit/validation"):
        for tag, points in reading.series(contents[run])["text"].items():
            assert all(make_ndarray(tensor).item().decode().strip() for _, _, tensor in points), tag
            for _, _, html in served[run]["text"][tag]:
                assert html.strip(), tag
    assert "<pre>" in served["fit/train"]["text"]["model/summary"][0][2], "the summary is not fenced"
    for layer in LAYERS:
        assert layer in served["fit/train"]["text"]["model/summary"][0][2]


def test_curves_are_of_every_validation_image(served):
    for tag, points in served["fit/validation"]["pr_curves"].items():
        for _, _, point in points:
            rows = ("true_positives", "false_positives", "true_negatives", "false_negatives")
            assert {sum(column) for column in zip(*(point[row] for row in rows), strict=True)} == {VALIDATION_SAMPLES}


def test_every_chart_of_the_custom_scalars_has_curves(board, served):
    steps = {}  # tag -> its steps, of any run
    for series in served.values():
        steps |= {tag: [step for step, *_ in points] for tag, points in series.get("scalars", {}).items()}
    categories = board.json("plugin/custom_scalars/layout")["category"]
    assert [category["title"] for category in categories] == [
        "Learning", "Gradients and updates", "Activations", "Speed"]
    for chart in (chart for category in categories for chart in category["chart"]):
        for pattern in chart.get("multiline", {}).get("tag", []):
            assert any(re.match(pattern, tag) for tag in steps), f"{chart['title']}: nothing matches {pattern}"
        for band in chart.get("margin", {}).get("series", []):
            assert steps[band["value"]] == steps[band["lower"]] == steps[band["upper"]], chart["title"]
    bands = [chart["title"] for category in categories for chart in category["chart"] if "margin" in chart]
    # The browser shows them in reverse order.
    assert [title.split(":")[0] for title in bands] == [
        f"activations of {layer}" for layer in ("dense_1", "dense", "conv2d_1", "conv2d")]


@pytest.mark.parametrize("run", ["fit/train", "fit/validation"])
def test_images_are_png_or_gif_files_of_the_stated_size(board, served, contents, run):
    for tag, points in reading.series(contents[run])["images"].items():
        read = {}
        for step, _, tensor in points:
            width, height, *pictures = [bytes(item) for item in make_ndarray(tensor).tolist()]
            for sample, picture in enumerate(pictures):
                read[step, sample] = picture
                size = decode_gif(picture) if picture.startswith(b"GIF") else decode_png(picture)
                if sample == 0:
                    assert size == (int(width), int(height)), f"{tag} at step {step}"
        for step, _, (sample, query) in served[run]["images"][tag]:
            body, content_type = board.get(f"plugin/images/individualImage?{query}")
            assert content_type == ("image/gif" if body.startswith(b"GIF") else "image/png"), tag
            assert body == read.pop((step, sample)), f"{tag} at step {step}, sample {sample}"
        assert not read, f"{tag}: not served: {sorted(read)}"


def decode_gif(data):
    """Width and height of a GIF file that plays for ever and has more than one frame."""
    with Image.open(io.BytesIO(data)) as film:
        assert (film.format, film.info["loop"]) == ("GIF", 0)
        assert film.n_frames > 1
        for frame in range(film.n_frames):
            film.seek(frame)
            film.load()
        return film.size


def decode_png(data):
    """Width and height of a PNG file, after all checksums and all of its pixel data were verified."""
    stream = io.BytesIO(data)
    assert stream.read(8) == b"\x89PNG\r\n\x1a\n"
    pixels = b""
    while True:
        length, kind = struct.unpack(">I4s", stream.read(8))
        body = stream.read(length)
        assert zlib.crc32(kind + body) == struct.unpack(">I", stream.read(4))[0], kind
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
        elif kind == b"IDAT":
            pixels += body
        elif kind == b"IEND":
            break
    assert stream.read() == b""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    rows = zlib.decompress(pixels)
    assert len(rows) == height * (1 + (width * channels * depth + 7) // 8)
    assert len(set(rows)) > 1, "a picture of one colour"
    return width, height


def test_the_graph_is_served_as_it_was_written(board, contents):
    info = board.json("plugin/graphs/info")
    assert info[GRAPH_RUN]["run_graph"] is True
    text, _ = board.get("plugin/graphs/graph", run=GRAPH_RUN)
    served = text_format.Parse(text.decode(), GraphDef())
    (written,) = [event.graph_def for event in contents[GRAPH_RUN] if event.HasField("graph_def")]
    assert served.node == GraphDef.FromString(written).node


def test_the_profile_gives_every_layer_a_time_forward_and_backward(board, contents):
    tag = "profile/one_batch"
    assert board.json("plugin/graphs/info")[GRAPH_RUN]["tags"][tag]["profile"] is True
    text, _ = board.get("plugin/graphs/run_metadata", run=GRAPH_RUN, tag=tag)
    (device,) = text_format.Parse(text.decode(), RunMetadata()).step_stats.dev_stats
    (written,) = [event.graph_def for event in contents[GRAPH_RUN] if event.HasField("graph_def")]
    nodes = {node.name: node for node in GraphDef.FromString(written).node}
    times = {cost.node_name: cost.all_end_rel_micros for cost in device.node_stats}
    assert set(times) <= set(nodes), "costs of nodes that are not in the graph"
    assert all(nodes[name].device == device.device for name in times)
    within = {name: node.attr["computed_with"].s.decode() for name, node in nodes.items() if "computed_with" in node.attr}
    assert within["max_pooling2d/MaxPool"] == "conv2d/Conv2D"
    assert within["gradients/max_pooling2d/ReluGrad"] == "gradients/conv2d/Conv2DGrad"
    for scope in [*LAYERS, *(f"gradients/{layer}" for layer in LAYERS)]:
        own = {name: time for name, time in times.items() if name.startswith(f"{scope}/") and name not in within}
        # Max-pooling is fused with the convolution, which includes its time.
        assert any(time > 0 for time in own.values()) or "max_pooling2d" in scope, scope
    assert all(times[name] == 0 and times[leader] > 0 for name, leader in within.items())


def test_the_conceptual_graph_is_a_chain_of_the_layers(board, contents):
    ((_, _, tensor),) = reading.series(contents["fit/train"])["graphs"]["keras"]
    model = json.loads(make_ndarray(tensor).item())
    names = [layer["config"]["name"] for layer in model["config"]["layers"]]
    assert [name for name in names if name in LAYERS] == LAYERS
    text, _ = board.get("plugin/graphs/graph", run="fit/train", tag="keras", conceptual="true")
    nodes = text_format.Parse(text.decode(), GraphDef()).node
    chain = [node for node in nodes if node.name.split("/")[-1] in LAYERS]
    assert [node.name.split("/")[-1] for node in chain] == LAYERS
    for before, node in zip(chain, chain[1:]):
        assert list(node.input) == [before.name]


def test_time_series_serves_scalars_histograms_and_images(board):
    tags = board.json("plugin/timeseries/tags")
    assert set(tags["scalars"]["runTagInfo"]["fit/train"]) == set(EXPECTED["fit/train"]["scalars"])
    assert set(tags["histograms"]["runTagInfo"]["fit/train"]) == set(EXPECTED["fit/train"]["histograms"])
    assert set(tags["images"]["tagRunSampledInfo"]) == {
        tag for run in EXPECTED.values() for tag in run.get("images", {})}


def test_the_loader_does_not_complain(board, served):
    assert board.complaints() == []


def test_the_data_server_verifies_every_checksum(logs, tmp_path):
    with TensorBoard(logs, tmp_path / "stderr", "--load_fast=true", "--extra_data_server_flags=--checksum") as board:
        board.wait_for(lambda: steps_of(served_series(board)) == SERVED, "all series")
        assert board.complaints() == []
