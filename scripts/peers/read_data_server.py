#!/usr/bin/env python3
"""Seconds that TensorBoard's Rust data server takes for a log directory, as a JSON object: DIRECTORY LAST_STEP FLAG...

It is started as TensorBoard starts it, but told to load only once, and asked every few milliseconds for the newest step
of its scalars. The clock runs from before the start until it knows the last step.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import tensorboard_data_server
from tensorboard.data.proto.data_provider_pb2 import ListScalarsRequest
from tensorboard.data.proto.data_provider_pb2_grpc import TensorBoardDataProviderStub

PATIENCE = 300
EVERY = 0.003


def port_in(path, began):
    while time.perf_counter() - began < PATIENCE:
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return int(text)
        time.sleep(EVERY)
    sys.exit("the data server opened no port")


def newest_step(stub):
    request = ListScalarsRequest(experiment_id="", plugin_filter={"plugin_name": "scalars"})
    return max((tag.metadata.max_step for run in stub.ListScalars(request).runs for tag in run.tags), default=-1)


def main():
    logdir, last_step, flags = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    with tempfile.TemporaryDirectory() as directory:
        port_file = Path(directory) / "port"
        began = time.perf_counter()
        server = subprocess.Popen(
            [tensorboard_data_server.server_binary(), f"--logdir={logdir}", "--reload=once", "--samples-per-plugin=",
             "--port=0", f"--port-file={port_file}", "--die-after-stdin", *flags], stdin=subprocess.PIPE)
        try:
            with grpc.insecure_channel(f"localhost:{port_in(port_file, began)}") as channel:
                stub = TensorBoardDataProviderStub(channel)
                while newest_step(stub) < last_step:
                    if time.perf_counter() - began > PATIENCE:
                        sys.exit(f"the data server did not come to step {last_step}")
                    time.sleep(EVERY)
            seconds = time.perf_counter() - began
        finally:
            server.kill()
            server.wait()
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
