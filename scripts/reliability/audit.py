"""Check that published files are durable: on a recorded trace, write < fsync < rename < fsync of the directory."""

import os

from reliability import trace
from reliability.job import SHORT, shown
from reliability.tally import Tally


def prove(bench):
    tally = Tally("audit", "strace of whole runs: write < fsync < rename < fsync of directory; events first")
    if reason := trace.available():
        tally.skipped = reason
        return tally.close()
    parent = bench.fresh("audit")
    parent.mkdir(parents=True)
    found = [0, 0]
    # The second one finds the log directory in use: what the first wrote there does not have to be written again.
    for name in ("first", "second"):
        command = bench.trainer.command(parent / name, SHORT)
        ended, calls = trace.record(bench.trainer, command)
        points, faults = audit(calls, parent / name)
        if ended.code != 0:
            faults.append(f"the run that is audited: {ended}")
        tally.add(points)
        for fault in faults:
            tally.fail(f"the {name} run in a log directory", fault, [shown([*trace.recording("trace"), *command])])
        found[0] += sum(map(is_checkpoint, calls))
        found[1] += len(calls)
    tally.found.append(f"{found[0]} checkpoints, {found[1]} calls")
    return tally.close()


def is_checkpoint(call):
    return is_publication(call) and is_checkpoint_path(call.to)


def is_publication(call):
    """A rename that publishes a finished file, not one that removes it."""
    if not (call.renames and call.worked):
        return False
    return not is_temporary(os.path.basename(call.to)) and not call.to.endswith(".old")


def is_temporary(name):
    return name.startswith(".tmp-") or name.endswith(".part")


class Disk:
    """Data that a power cut could still lose: contents since the last sync, and names since their directory's."""

    def __init__(self):
        self.unsynced = {}  # file -> why
        self.unnamed = {}  # path -> why its name may be lost

    def see(self, call):
        if not call.worked:
            return
        if call.creates and call.path not in self.unnamed:
            self.unnamed.setdefault(call.path, f"{call.name} of {call.path}")
        elif call.name in ("mkdir", "mkdirat"):
            self.unnamed[call.path] = f"{call.name} of {call.path}"
        elif call.name in ("write", "pwrite64", "ftruncate"):
            self.unsynced[call.path] = f"{call.name} to {call.path}"
        elif call.name in ("fsync", "fdatasync"):
            self.unsynced.pop(call.path, None)
            if call.name == "fsync":
                for path in [path for path in self.unnamed if os.path.dirname(path) == call.path]:
                    del self.unnamed[path]
        elif call.renames:
            self._move(call.path, call.to)
            self.unnamed[call.to] = f"rename to {call.to}"
        elif call.name in ("unlink", "unlinkat", "rmdir"):
            self.unsynced.pop(call.path, None)
            self.unnamed.pop(call.path, None)

    def _move(self, path, to):
        for kept in (self.unsynced, self.unnamed):
            for name in [name for name in kept if trace.below(name, path)]:
                kept[to + name[len(path):]] = kept.pop(name)
        self.unnamed.pop(path, None)

    def at_risk(self, path):
        """Data that could be lost of a path and of everything below it, without the names above it."""
        found = [why for name, why in self.unsynced.items() if trace.below(name, path)]
        return found + [why for name, why in self.unnamed.items() if trace.below(name, path) and name != path]


def audit(calls, logdir):
    """Number of publications checked, and their faults."""
    logdir = os.path.normpath(str(logdir))
    mine = [call for call in calls if trace.below(call.path, logdir)
            or (call.name == "fsync" and trace.below(logdir, call.path))]
    disk, faults, points = Disk(), [], 0
    awaiting = {}  # published path -> its rename, until the directory is synced
    for call in mine:
        if is_publication(call):
            points += 1
            faults += [f"{call.to} is published before this is durable: {why}" for why in disk.at_risk(call.path)]
            if is_checkpoint(call):
                faults += [f"checkpoint {call.to} is published before the log of its steps is durable: {why}"
                           for why in events_at_risk(disk, logdir)]
        if call.worked and takes_away(call):
            # Nothing is removed while what replaces it could still be lost.
            faults += [f"{call.path} is taken away before {path} is sure to be there"
                       for path in awaiting if is_checkpoint_path(path)]
        disk.see(call)
        if is_publication(call):
            awaiting[call.to] = call
        if call.name == "fsync" and call.worked:
            for path in [path for path in awaiting if os.path.dirname(path) == call.path]:
                del awaiting[path]
    faults += [f"{path} was renamed into its place, and its directory was never synced"
               for path in awaiting if "/plugins/" not in path]
    faults += [f"the name could be lost for ever, its directory was never synced: {why}"
               for path, why in disk.unnamed.items() if matters(path, logdir)]
    if not any(is_checkpoint(call) for call in mine):
        faults.append("no checkpoint was published in this trace")
    return points, list(dict.fromkeys(faults))


def takes_away(call):
    base = os.path.basename(call.path)
    if call.renames:
        return base.startswith("ckpt-") and is_temporary(os.path.basename(call.to))
    return call.name in ("unlink", "unlinkat", "rmdir") and "/ckpt-" in call.path


def is_checkpoint_path(path):
    return os.path.basename(path).startswith("ckpt-")


def events_at_risk(disk, logdir):
    """Event files of curves that could lose bytes or their name."""
    def is_event(path):
        return "tfevents" in path and "/projector/" not in path
    return [why for kept in (disk.unsynced, disk.unnamed) for path, why in kept.items()
            if is_event(path) and trace.below(path, logdir)]


def matters(path, logdir):
    """True if a run would be lost with this name: the directories that a resume reads."""
    return path in (logdir, f"{logdir}/checkpoints", f"{logdir}/train", f"{logdir}/validation")
