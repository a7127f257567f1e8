"""Stock TensorBoard as a child process, and its data over HTTP."""

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

URL = re.compile(r"at (http://127\.0\.0\.1:\d+)/")
# Messages of the data server and of TensorBoard's own loader about faulty input.
COMPLAINT = re.compile(r"\b(WARN|WARNING|ERROR|error|Traceback|panicked)\b|^[WE]\d{4} ", re.MULTILINE)


class TensorBoard:
    """Serves a log directory from a free port of the loopback interface until the `with` block ends."""

    def __init__(self, logdir, stderr, *flags):
        self.logdir = logdir
        self.log = stderr
        self.command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1",
                        "--port", "0", "--reload_interval", "1", *flags]

    def __enter__(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.url = self.wait_for(self._address, "its address")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _address(self):
        if self.process.poll() is not None:
            raise AssertionError(f"TensorBoard ended with {self.process.returncode}:\n{self.log.read_text()}")
        found = URL.search(self.log.read_text())
        return found and found.group(1)

    def wait_for(self, condition, what, seconds=90):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if result := condition():
                return result
            time.sleep(0.2)
        raise AssertionError(f"TensorBoard did not show {what} within {seconds} s:\n{self.log.read_text()}")

    def get(self, path, **query):
        """The body of a successful answer, and its content type."""
        url = f"{self.url}/data/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{url}: {error.code} {error.read()[:500]!r}") from error

    def json(self, path, **query):
        return json.loads(self.get(path, **query)[0])

    def complaints(self):
        """Lines of the log that report faulty input."""
        return [line for line in self.log.read_text().splitlines() if COMPLAINT.search(line)]


def served_series(board):
    """run -> plugin -> tag -> points as the HTTP API gives them; runs without data are left out."""
    found = {}

    def put(run, plugin, tag, points):
        found.setdefault(run, {}).setdefault(plugin, {})[tag] = points

    for plugin in ("scalars", "histograms"):
        for run, tags in board.json(f"plugin/{plugin}/tags").items():
            for tag in tags:
                points = board.json(f"plugin/{plugin}/{plugin}", run=run, tag=tag)
                put(run, plugin, tag, [(step, wall, value) for wall, step, value in points])
    for run, tags in board.json("plugin/pr_curves/tags").items():
        for tag in tags:
            points = board.json("plugin/pr_curves/pr_curves", run=run, tag=tag)[run]
            put(run, "pr_curves", tag, [(point["step"], point["wall_time"], point) for point in points])
    for run, tags in board.json("plugin/text/tags").items():
        for tag in tags:
            points = board.json("plugin/text/text", run=run, tag=tag)
            put(run, "text", tag, [(point["step"], point["wall_time"], point["text"]) for point in points])
    for run, tags in board.json("plugin/images/tags").items():
        for tag, about in tags.items():
            points = []
            for sample in range(about["samples"]):
                for point in board.json("plugin/images/images", run=run, tag=tag, sample=sample):
                    points.append((point["step"], point["wall_time"], (sample, point["query"])))
            put(run, "images", tag, sorted(points, key=lambda point: (point[0], point[2][0])))
    for run, about in board.json("plugin/graphs/info").items():
        for tag, kinds in about["tags"].items():
            if kinds["conceptual_graph"]:
                graph, _ = board.get("plugin/graphs/graph", run=run, tag=tag, conceptual="true")
                put(run, "graphs", tag, [(0, None, graph.decode())])
    return found


def steps_of(all_series):
    """run -> plugin -> tag -> its steps, each once, in order."""
    return {
        run: {
            plugin: {tag: sorted({point[0] for point in points}) for tag, points in tags.items()}
            for plugin, tags in plugins.items()
        }
        for run, plugins in all_series.items()
    }
