"""R8: clocks that were wrong. Event files from the future do not hide what a process writes today."""

import re
import shutil
import sys
import time

from reliability.comparison import checkpoints
from reliability.faults import stop_in_the_middle
from reliability.job import ROOT, SHORT
from reliability.tally import Tally

sys.path.append(str(ROOT / "tests" / "conformance"))
import reading  # noqa: E402

NAME = re.compile(r"events\.out\.tfevents\.(\d+)\.")
DAY = 86400


def prove(bench):
    tally = Tally("R8", "event files named by clocks that were ahead, past the year 2038: new names sort last")
    reference = bench.reference(SHORT)
    batch = bench.batch(tally)
    stopped = bench.fresh("R8")
    stop_in_the_middle(bench, stopped)
    before = max(checkpoints(stopped))
    shifts = {"by a second": int(time.time()) + 1, "by a day": int(time.time()) + DAY, "from the year 2038": 2**31,
              "with the last name of ten digits but some": 9_999_999_000, "from 1970": 7}
    for what, stamp in shifts.items():
        logdir = bench.fresh("R8")
        shutil.copytree(stopped, logdir)
        renamed = {}
        for run, paths in reading.curve_files(logdir).items():
            for path in paths if run in (".", "train", "validation") else []:
                later = path.with_name(NAME.sub(f"events.out.tfevents.{stamp:010}.", path.name))
                path.rename(later)
                renamed.setdefault(run, []).append(later.name)
        command = bench.trainer.command(logdir, SHORT)
        tally.add()
        ended = bench.trainer.run(command)
        faults = [] if ended.code == 0 else [f"cannot be finished: {ended}"]
        for run, names in renamed.items():
            new = sorted({path.name for path in reading.curve_files(logdir)[run]} - set(names))
            if new and new[0] <= max(names):
                faults.append(f"{run}: {new[0]} sorts before {max(names)}")
        if faults:
            batch.fail(logdir, f"named {what}, gone on after step {before}", faults, [command])
        else:
            batch.add(reference, logdir, f"named {what}, gone on after step {before}", [command])
    batch.flush()
    tally.found.append("clocks that jump while a process runs: cargo test (below)")
    return tally.close()
