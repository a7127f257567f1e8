"""R7: eight processes race for one run; one owns it, the others say who, and a killed owner leaves it free."""

import signal
import subprocess
import threading
import time

from reliability.comparison import checkpoints
from reliability.job import ENDLESS, owner
from reliability.tally import Tally, percentile
from reliability.watching import wait_for

RACERS = 8
PATIENCE = 120


def prove(bench):
    tally = Tally("R7", f"{RACERS} processes race for a run; one wins, the rest exit 73 with its id; SIGKILL frees it")
    rounds = bench.of(2, 100, 500)
    waits = []
    for number in range(rounds) if bench.only_point is None else [bench.only_point]:
        logdir = bench.fresh("R7")
        command = bench.trainer.command(logdir, ENDLESS)
        commands = [bench.again("R7", number), f"for i in $(seq {RACERS}); do {' '.join(command)} & done"]
        tally.add()
        faults, freed = race(bench, logdir, command)
        waits += freed
        if faults:
            tally.fail(f"round {number}", "; ".join(faults[:4]), commands, logdir)
    if waits:
        tally.found.append(f"owned again {percentile(waits, 0.5):.2f} s after the kill, at most {max(waits):.2f} s "
                           "(start of a process included)")
    return tally.close()


def race(bench, logdir, command):
    """Lets processes race; what went wrong, and the seconds until the next one owned the run of a killed owner."""
    barrier, racers, lock = threading.Barrier(RACERS), [], threading.Lock()

    def start():
        barrier.wait()
        process = bench.trainer.start(command)
        with lock:
            racers.append(process)

    threads = [threading.Thread(target=start) for _ in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        return judged(bench, logdir, command, racers)
    finally:
        for process in racers:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stderr.close()


def judged(bench, logdir, command, racers):
    wait_for(lambda: sum(process.poll() is None for process in racers) <= 1, PATIENCE)
    left = [process for process in racers if process.poll() is None]
    if len(left) != 1:
        return [f"{len(left)} of {len(racers)} processes run, want one"], []
    (winner,) = left
    faults = []
    for process in racers:
        if process is winner:
            continue
        _, said = process.communicate()
        if process.returncode != 73:
            faults.append(f"a loser ended with {process.returncode}: {said.strip()[-200:]}")
        elif f"in use by process {winner.pid}" not in said and "is in use;" not in said:
            faults.append(f"a loser does not name the owner {winner.pid}: {said.strip()[-200:]}")
    if owner(logdir) != winner.pid:
        faults.append(f"the lock names {owner(logdir)}, the owner is {winner.pid}")
    # Let it come to a checkpoint, so that the next one has something to go on from.
    wait_for(lambda: checkpoints(logdir) or winner.poll() is not None, PATIENCE)
    winner.send_signal(signal.SIGKILL)
    winner.wait()
    killed = time.monotonic()
    following = bench.trainer.start(command, stderr=subprocess.PIPE)
    owned = wait_for(lambda: owner(logdir) == following.pid or following.poll() is not None, PATIENCE)
    took = time.monotonic() - killed
    following.kill()
    _, said = following.communicate()
    if not owned or following.returncode != -9:
        faults.append(f"after the owner was killed: status {following.returncode}, {said.strip()[-200:]}")
    return faults, [took]
