"""Reading an event file, against TensorBoard's own readers."""

import json
import tempfile

import measuring
from bench.figures import US, costs, ratio, rounds
from bench.limits import Limit

TITLE = "Reader"
PACKAGES = {"peer_python": ["tensorboard", "tensorboard-data-server"]}
SCALARS = 1_000_000
EXPORT = "trainer inspect --export csv"
SERVER, CHECKED = "TensorBoard's data server", "TensorBoard's data server, --checksum"
PYTHON = {"EventFileLoader in Python": "loader", "EventAccumulator in Python": "accumulator"}
LIMITS = {"server": Limit("seconds for an event file, to TensorBoard's data server", most=1.5)}


def measure(options, _earlier):
    """subject -> seconds for the same file, one number a round."""
    found = {subject: [] for subject in (US, EXPORT, SERVER, CHECKED, *PYTHON)}
    with tempfile.TemporaryDirectory(prefix="trainer-") as directory:
        measuring.run(options.keras_python, measuring.PEERS / "scalars_file.py", directory, SCALARS)
        for _, subject in rounds(options, "reader", found):
            found[subject].append(seconds(options, subject, directory))
    return found


def seconds(options, subject, directory):
    if subject == US:
        return measuring.run(options.trainer, "inspect", directory).seconds
    if subject == EXPORT:
        with tempfile.TemporaryDirectory(prefix="trainer-") as rows:
            output = f"{rows}/points.csv"
            return measuring.run(options.trainer, "inspect", directory, "--export", "csv", "--output", output).seconds
    if subject in PYTHON:
        command = ["read_python.py", PYTHON[subject], directory, SCALARS - 1]
    else:
        command = ["read_data_server.py", directory, SCALARS - 1, *(["--checksum"] if subject == CHECKED else [])]
    done = measuring.run(options.peer_python, measuring.PEERS / command[0], *command[1:])
    return json.loads(done.output)["seconds"]


def held(found):
    return {"server": ratio(found[US], found[SERVER])}


def text(options, found):
    return (
        f"Seconds for one event file of {SCALARS:,} scalars under eight tags, written with TensorFlow and already in "
        "the page cache. No overhead is subtracted. `trainer inspect` is measured from its start to its exit, with "
        "every checksum verified and every point counted, and once more with every point written to a file as a "
        "row. The data server is measured from its start, as TensorBoard starts it, until it returns the last step over gRPC; it keeps a "
        "sample of 1,000 points for each tag, and verifies checksums only with `--checksum`. The Python loaders read "
        "all events; the time of their imports is not counted.\n\n"
        f"{costs('s', found)}\n")
