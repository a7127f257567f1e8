#!/usr/bin/env python3
"""Seconds that a loader of TensorBoard in Python takes for an event file, as a JSON object: LOADER DIRECTORY LAST_STEP

`accumulator` is EventAccumulator with its default sizes; `loader` goes through the events of EventFileLoader and keeps
nothing. Imports are not part of the time.
"""

import json
import sys
import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader


def accumulator(directory):
    events = EventAccumulator(str(directory))
    events.Reload()
    return max(events.Tensors(tag)[-1].step for tag in events.Tags()["tensors"])


def loader(directory):
    step = -1
    for path in directory.iterdir():
        for event in EventFileLoader(str(path)).Load():
            step = max(step, event.step)
    return step


def main():
    load, directory, last_step = {"accumulator": accumulator, "loader": loader}[sys.argv[1]], sys.argv[2], sys.argv[3]
    began = time.perf_counter()
    step = load(Path(directory))
    seconds = time.perf_counter() - began
    if step != int(last_step):
        sys.exit(f"came to step {step}, not to {last_step}")
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
