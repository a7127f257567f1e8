"""Runs as read by both of TensorBoard's loaders: every point of every series, values as bytes.

The slow loader is TensorBoard's own, in this process; the fast one is its data server, asked over gRPC as TensorBoard
does. Both keep every point here: nothing is sampled.
"""

import functools
import hashlib
import logging
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.context import RequestContext
from tensorboard.data import grpc_provider, server_ingester
from tensorboard.util import tensor_util

PLUGINS = ("scalars", "histograms", "images", "text", "pr_curves", "graph_keras_model", "graph_run_metadata", "graphs",
           "custom_scalars", "hparams")
BLOBS = ("images", "graph_keras_model", "graphs", "graph_run_metadata")
MANY = 1 << 20
PATIENCE = 120
AT_ONCE = 16

# It warns of each point that a restart voids, which is expected here.
logging.getLogger("tensorboard").setLevel(logging.ERROR)
# It computes checksums in Python, byte by byte, and is given the same pictures again and again.
pywrap_tensorflow.crc32c = functools.lru_cache(maxsize=1024)(pywrap_tensorflow.crc32c)


def digest(value):
    return hashlib.blake2b(value, digest_size=16).hexdigest()


def slow(logdir):
    """(run, tag) -> [(step, value)] from TensorBoard's Python loader; `.` is the directory itself."""
    found = {}
    for directory in sorted({path.parent for path in Path(logdir).rglob("*tfevents*")}):
        loader = EventAccumulator(str(directory), size_guidance={"tensors": 0},
                                  tensor_size_guidance=dict.fromkeys(PLUGINS, 0))
        loader.Reload()
        run = directory.relative_to(logdir).as_posix()
        for tag in loader.Tags()["tensors"]:
            found[run, tag] = [(event.step, _value(event.tensor_proto)) for event in loader.Tensors(tag)]
    return found


def _value(tensor):
    """The same bytes for the same numbers, however the message holds them."""
    if not tensor.dtype:
        return "nothing"
    return _array(tensor_util.make_ndarray(tensor))


def _array(array):
    if array.dtype == object:
        return digest(b"\0".join(item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()))
    return digest(f"{array.dtype.name} {array.shape} ".encode() + array.tobytes())


class DataServer:
    """TensorBoard's data server over a directory of runs, read once; a context manager."""

    def __init__(self, logdir):
        self.logdir = Path(logdir)

    def __enter__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="data-server-")
        port_file = Path(self.dir.name) / "port"
        self.log = Path(self.dir.name) / "stderr"
        command = [server_ingester.get_server_binary().path, f"--logdir={self.logdir}", "--reload=once",
                   "--host=127.0.0.1", "--port=0", f"--port-file={port_file}", "--die-after-stdin", "-vv", "--checksum",
                   "--samples-per-plugin=" + ",".join(f"{name}=all" for name in PLUGINS)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        port = self._wait(lambda: port_file.exists() and port_file.read_text().endswith("\n") and port_file.read_text())
        self._wait(lambda: "Finished load cycle" in self.log.read_text(errors="replace"))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{int(port)}", [("grpc.max_receive_message_length", -1)])
        self.provider = grpc_provider.GrpcDataProvider("", grpc_provider.make_stub(self.channel))
        return self

    def __exit__(self, *_):
        if hasattr(self, "channel"):
            self.channel.close()
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.dir.cleanup()

    def _wait(self, condition):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if result := condition():
                return result
            time.sleep(0.02)
        raise RuntimeError(f"the data server did not come up:\n{self.log.read_text(errors='replace')[-2000:]}")

    def series(self):
        """(run, tag) -> [(step, value)]."""
        context, found = RequestContext(), {}
        for plugin in PLUGINS:
            asked = {"experiment_id": "", "plugin_name": plugin, "downsample": MANY}
            if plugin in BLOBS:
                answer = self.provider.read_blob_sequences(context, **asked)
                content = self._blobs(answer)
                value = lambda datum, content=content: digest(  # noqa: E731
                    b"\0".join(content[reference.blob_key] for reference in datum.values))
            elif plugin == "scalars":
                answer = self.provider.read_scalars(context, **asked)
                value = lambda datum: datum.value.hex()  # noqa: E731
            else:
                answer = self.provider.read_tensors(context, **asked)
                value = lambda datum: _array(datum.numpy)  # noqa: E731
            for run, tags in answer.items():
                for tag, points in tags.items():
                    found[run, tag] = [(datum.step, value(datum)) for datum in points]
        return found

    def _blobs(self, answer):
        """key -> content of all blobs in an answer. A request for each costs little but waits long."""
        keys = [reference.blob_key for tags in answer.values() for points in tags.values() for datum in points
                for reference in datum.values]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            read = lambda key: self.provider.read_blob(RequestContext(), blob_key=key)  # noqa: E731
            return dict(zip(keys, pool.map(read, keys), strict=True))


def fast(logdir):
    """name -> (run, tag) -> [(step, value)] for every directory of runs below `logdir`, as the data server has it."""
    with DataServer(logdir) as server:
        found = server.series()
    split = {}
    for (run, tag), points in found.items():
        name, _, inner = run.partition("/")
        split.setdefault(name, {})[inner or ".", tag] = points
    return split
