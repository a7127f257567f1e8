"""Events a second of this project's event log and of other writers."""

import os

import measuring
from bench.figures import US, median, rates, ratio, rounds
from bench.limits import Limit

TITLE = "Event log"
PACKAGES = {"cargo": ["tensorboard-rs"], "peer_python": ["torch", "tensorboard", "tensorboardX"],
            "keras_python": ["tensorflow-cpu"]}
RUST, TORCH = "tensorboard-rs", "torch.utils.tensorboard"
# As a run writes: what is logged waits for another thread, and pictures are encoded on several.
QUEUED = "trainer-background"
# Writes the same bytes with their checksums from memory: a subject of `cargo bench`, as tensorboard-rs is.
BYTES = "bytes-with-checksums"
BENCH = "cargo bench"
# Workloads of a tenth of a second are repeated within a round.
TRIES = 3
PEERS = {"eventlog_torch.py": "peer_python", "eventlog_tensorboardx.py": "peer_python",
         "eventlog_tensorflow.py": "keras_python"}
LIMITS = {
    "rate": Limit("scalars a second", least=1_000_000, unit=""),
    ("scalars", RUST): Limit("scalars a second, to tensorboard-rs", least=4),
    ("scalars", TORCH): Limit("scalars a second, to torch", least=150),
    ("scalars", BYTES): Limit("scalars a second, to writing the same bytes with their checksums", least=0.5),
    ("histograms", TORCH): Limit("histograms of 100,000 values a second, to torch", least=20),
    ("images", RUST): Limit("images a second, to tensorboard-rs", least=2),
    ("images", TORCH): Limit("images a second through the queue of a run, to torch", least=50),
}
# Subjects whose number counts instead of the single-threaded one.
COUNTED = {("images", TORCH): QUEUED}


def measure(options, _earlier):
    """workload -> subject -> events per second, one number a round; both as the programs name them."""
    found = {}
    for number, subject in rounds(options, "event log", [BENCH, *PEERS]):
        if subject == BENCH:
            command = [os.environ.get("CARGO", "cargo"), "bench", "--locked", "--quiet", "--bench", "eventlog", "--",
                       "--rounds", TRIES, "--begin-with", number]
        else:
            command = [getattr(options, PEERS[subject]), measuring.PEERS / subject]
        for line in measuring.json_lines(measuring.run(*command).output):
            rate = line["events_per_second"]
            values = found.setdefault(line["workload"], {}).setdefault(line["subject"], [])
            values.append(median(rate) if isinstance(rate, list) else rate)
    return found


def held(found):
    numbers = {}
    if US in found.get("scalars", {}):
        numbers["rate"] = min(found["scalars"][US])
    for workload, subject in (key for key in LIMITS if key != "rate"):
        values, ours = found.get(workload, {}), COUNTED.get((workload, subject), US)
        if ours in values and subject in values:
            numbers[workload, subject] = ratio(values[ours], values[subject])
    return numbers


def text(options, found):
    words = ("Events per second, from the first call to a closed file. Histograms are made from 100,000 values, large "
             "ones from 10 million; images are 64 x 64 RGB and compressed as PNG by each writer. `trainer` writes on "
             "the caller's thread alone, to series with prepared tags; `trainer-background` writes through the queue "
             "of a training run, with a tag for each event and images encoded on several threads. "
             "`bytes-with-checksums` writes finished records from memory: the upper bound of an event log whose "
             "values cost nothing to make. Histograms and images are far below it: nearly all of their time goes "
             "into buckets and compression.\n")
    tables = [f"### {workload.replace('-', ' ').capitalize()}\n\n{rates('events/s', values)}\n"
              for workload, values in found.items()]
    return "\n".join([words, *tables])
