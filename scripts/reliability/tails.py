"""R6: the last records of an event file torn at every byte, as a crash leaves them, then a process that goes on."""

import shutil
import sys

from reliability import loaders
from reliability.comparison import checkpoints, copy_events, series_faults
from reliability.job import CALM, ROOT
from reliability.tally import Tally

sys.path.append(str(ROOT / "tests" / "conformance"))
import reading  # noqa: E402

RECORDS = 3
BATCH = 250


def prove(bench):
    tally = Tally("R6", "an event file cut at every byte of its last 3 records (pictures: 1 byte in 997), then resumed")
    reference = bench.reference(CALM)
    for number, run in enumerate((".", "validation", "train")):
        logdir = bench.fresh("R6")
        back_to(bench, logdir, CALM, 6)
        (torn,) = reading.curve_files(logdir)[run]
        cuts = list(cuts_of(torn, bench.of(97, 1) if run == "." else bench.of(49_999, 997)))
        chance = bench.chance("R6", number)
        # For real: cut, and gone on by a process.
        batch = bench.batch(tally)
        for cut in chance.sample(cuts, min(len(cuts), bench.of(1, 12, 100))):
            attempt = bench.fresh("R6")
            shutil.copytree(logdir, attempt)
            path = attempt / torn.relative_to(logdir)
            path.write_bytes(path.read_bytes()[:cut])
            command = bench.trainer.command(attempt, CALM)
            ended = bench.trainer.run(command)
            tally.add()
            what, commands = f"{torn.relative_to(logdir)} cut at byte {cut}", [bench.again("R6", number), command]
            if ended.code != 0:
                batch.fail(attempt, what, [f"cannot be finished: {ended}"], commands)
            elif path.stat().st_size != cut:
                batch.fail(attempt, what, ["the torn file was written to"], commands)
            else:
                batch.add(reference, attempt, what, commands)
        batch.flush()
        # At every byte: a process that goes on never looks at this file, so one is enough for all.
        went_on = bench.fresh("R6")
        shutil.copytree(logdir, went_on)
        ended = bench.finish(went_on, CALM)
        if ended.code != 0:
            tally.fail(run, f"cannot be finished: {ended}")
            continue
        every_cut(bench, tally, reference, went_on, torn.relative_to(logdir), cuts)
        shutil.rmtree(went_on)
        shutil.rmtree(logdir)
    tally.found.append("both loaders")
    return tally.close()


def back_to(bench, logdir, job, step):
    """A run whose log goes on to its end and whose newest checkpoint is earlier: killed before the next one."""
    ended = bench.finish(logdir, job, "--keep-last", "1000")
    if ended.code != 0:
        raise RuntimeError(f"the run to cut did not come to its end: {ended}")
    for later, path in checkpoints(logdir).items():
        if later > step:
            shutil.rmtree(path)
    for name in ("result.json", "model.safetensors"):
        (logdir / name).unlink()
    for path in logdir.glob("*session-end*"):
        path.unlink()


def cuts_of(path, stride):
    """Lengths at which to cut: every byte of the last records, or one in so many and all of their frames."""
    offsets = [record.offset for record in reading.records(path)]
    size = path.stat().st_size
    first = offsets[-RECORDS]
    borders = {offset + byte for offset in [*offsets[-RECORDS:], size] for byte in range(-4, 13)}
    return [cut for cut in range(first, size + 1) if cut in borders or (cut - first) % stride == 0]


def every_cut(bench, tally, reference, went_on, torn, cuts):
    """Both loaders' view of the run with one file cut at each of these lengths."""
    content = (went_on / torn).read_bytes()
    run = torn.parent.as_posix()
    inner = lambda series: {key: points for key, points in series.items() if key[0] == run}  # noqa: E731
    want_slow, want_fast = inner(reference.slow), inner(reference.fast)
    for first in range(0, len(cuts), BATCH):
        parent = bench.fresh("R6-batch")
        some = cuts[first:first + BATCH]
        for cut in some:
            directory = parent / f"cut-{cut:08}"
            copy_events(went_on / run, directory / run)
            target = directory / torn
            target.unlink()
            target.write_bytes(content[:cut])
        seen = loaders.fast(parent)
        for cut in some:
            name = f"cut-{cut:08}"
            faults = series_faults(want_fast, inner(seen.get(name, {})), "fast loader")
            faults += series_faults(want_slow, inner(loaders.slow(parent / name)), "slow loader")
            tally.add()
            if faults:
                kept = bench.keep / f"R6-{run}-{cut}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(parent / name, kept)
                tally.fail(f"{run} cut at byte {cut}", "; ".join(faults[:3]), [bench.again("R6", 0)], kept)
        shutil.rmtree(parent)
