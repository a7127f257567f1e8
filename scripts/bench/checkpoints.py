"""Cost of checkpoints."""

import tempfile
from pathlib import Path

import measuring
from bench.figures import median, ratios, rounds, spread
from bench.limits import Limit

TITLE = "Checkpoints"
PACKAGES = {}
OFF, OFTEN = "off", "200steps"
LIMITS = {
    "single": Limit("a checkpoint", most=60, unit="ms"),
    "share": Limit("share of an epoch that checkpoints every 200 steps take", most=0.02, unit=""),
}


def measure(options, _earlier):
    """Seconds of single checkpoints; their share of an epoch by the trainer's own clock; and images per second of
    epochs with and without them, one number a round."""
    found = {"single": [], "shares": [], "rates": {OFF: [], OFTEN: []}}
    for number, cadence in rounds(options, "checkpoints", found["rates"]):
        with tempfile.TemporaryDirectory(prefix="trainer-", dir=measuring.ROOT / "target") as directory:
            measuring.run_trainer_in(directory, options, "--epochs", 1, "--seed", number, "--limit-train",
                                     options.limit_train, *measuring.UNWATCHED, "--checkpoint-every", cadence)
            lines = list(measuring.json_lines((Path(directory) / "logs" / "fit" / "metrics.jsonl").read_text()))
        epoch = next(line for line in lines if line["kind"] == "epoch")
        checkpoints = [line["seconds"] for line in lines if line["kind"] == "checkpoint"]
        wall = lines[-1]["time"] - lines[0]["time"]
        found["rates"][cadence].append(options.limit_train / wall)
        if checkpoints:
            found["single"] += checkpoints
            found["shares"].append(sum(checkpoints) / epoch["seconds"])
    return found


def held(found):
    return {"single": median(found["single"]) * 1000, "share": median(found["shares"])}


def text(options, found):
    single, shares = found["single"], found["shares"]
    longer = ratios(found["rates"][OFF], found["rates"][OFTEN])
    return (
        f"One epoch of {options.limit_train:,} MNIST images with a checkpoint every 200 steps and at its end, "
        "alternating with an epoch without checkpoints; no images or histograms. The time of a checkpoint covers "
        "the weights and Adam's moments (checksummed, written, synced and renamed) and the removal of old ones.\n\n"
        f"A checkpoint takes **{median(single) * 1000:.0f} ms** ({min(single) * 1000:.0f} to {max(single) * 1000:.0f}, "
        f"{len(single)} of them). All checkpoints of an epoch take **{median(shares):.4f}** of its time "
        f"({spread(shares, '{:.4f}'.format)}). From the first to the last line of the journal, an epoch with "
        f"checkpoints takes {median(longer):.3f} times as long ({spread(longer, '{:.3f}'.format)}), mostly noise of the machine.\n")
