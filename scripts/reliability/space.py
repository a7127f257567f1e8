"""R11 and R12: disks that fill up, and directories that cannot be written."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from reliability.comparison import checkpoints, lost_entries
from reliability.job import CALM, shown
from reliability.tally import Tally
from reliability.watching import wait_for

SIZE = 8 << 20
PROMPT = 0.5  # seconds that a refusal may take, over the start of the program
NOBODY = "65534"


def cannot_mount():
    if os.geteuid() != 0:
        return "mounting needs root"
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        return "unshare and nsenter are not installed"
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"unshare -m: {tried.stderr.strip()[:200]}"


class Mounts:
    """A mount namespace of its own; a context manager. Nothing that is mounted there outlives it."""

    def __enter__(self):
        self.process = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sleep", "86400"])
        ours = os.readlink("/proc/self/ns/mnt")
        wait_for(lambda: os.readlink(f"/proc/{self.process.pid}/ns/mnt") != ours, 10)
        wait_for(lambda: b"sleep" in Path(f"/proc/{self.process.pid}/cmdline").read_bytes().split(b"\0")[0], 10)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def inside(self, command):
        return ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", f"--wd={os.getcwd()}", *map(str, command)]

    def mount(self, *arguments):
        subprocess.run(self.inside(["mount", *arguments]), check=True, capture_output=True)

    def seen(self, path):
        """A path of the namespace, from outside."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the process that holds the mounts ended with {self.process.returncode}")
        return Path(f"/proc/{self.process.pid}/root{path}")


def full(bench):
    """R11."""
    tally = Tally("R11", "8 MiB file systems that fill: the log's alone, the whole run's; then room again")
    if reason := cannot_mount():
        tally.skipped = reason
        return tally.close()
    weights = (bench.reference(CALM).logdir / "model.safetensors").read_bytes()
    states = bench.states(CALM)
    losses = []
    for run in ("train", "validation", "plugins"):
        with Mounts() as mounts:
            logdir = bench.fresh("R11")
            (logdir / run).mkdir(parents=True)
            mounts.mount("-t", "tmpfs", "-o", "size=16k", "tmpfs", str(logdir / run))
            command = bench.trainer.command(logdir, CALM)
            tally.add()
            ended = bench.trainer.run(mounts.inside(command))
            faults = [] if ended.code == 0 else [f"want status 0: {ended}"]
            faults += states.faults(logdir)
            if not faults:
                losses.append(lost_entries(logdir))
                if not losses[-1]:
                    faults.append("nothing is said to be lost")
                if (logdir / "model.safetensors").read_bytes() != weights:
                    faults.append("other weights")
            if faults:
                mounted = f"mount -t tmpfs -o size=16k tmpfs {logdir / run}"
                tally.fail(f"no room for {run}/", "; ".join(faults), [mounted, shown(command)], logdir)
    for free in (0, 40, 200, 700) if not bench.is_quick else (200,):
        with Mounts() as mounts:
            mounted = bench.fresh("R11")
            mounted.mkdir(parents=True)
            mounts.mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(mounted))
            logdir, inner = mounted / "run", mounts.seen(mounted / "run")
            command = bench.trainer.command(logdir, CALM)
            tally.add()
            faults = fill_up(bench, mounts, mounted, command, free, states, weights)
            if faults:
                tally.fail(f"{free} KiB left", "; ".join(faults), [f"mount -t tmpfs -o size={SIZE} tmpfs {mounted}",
                                                                   shown(command)], inner)
    if losses:
        tally.found.append(f"{min(losses)} to {max(losses)} entries counted as lost, weights equal")
    return tally.close()


def fill_up(bench, mounts, mounted, command, free, states, weights):
    """Stops a run after a checkpoint, leaves so many KiB, goes on until the disk is full, makes room, goes on."""
    inner, logdir = mounts.seen(mounted), mounts.seen(mounted / "run")
    process = bench.trainer.start(mounts.inside(command))
    wait_for(lambda: checkpoints(logdir) or process.poll() is not None, 120)
    process.kill()
    bench.trainer.end(process, time.monotonic())
    before = checkpoints(logdir)
    if not before:
        return ["no first checkpoint"]
    ballast = inner / "ballast"
    room = os.statvfs(inner)
    ballast.write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - (free << 10))))
    ended = bench.trainer.run(mounts.inside(command))
    faults = states.faults(logdir)
    if ended.code not in (73, 74) or "panicked" in ended.stderr:
        faults.append(f"want status 74 on a full disk: {ended}")
    elif str(mounted) not in ended.stderr:
        faults.append(f"the message has no path: {ended}")
    if max(checkpoints(logdir), default=0) < max(before):
        faults.append(f"the checkpoint of step {max(before)} is gone")
    ballast.unlink()
    ended = bench.trainer.run(mounts.inside(command))
    if ended.code != 0:
        faults.append(f"does not go on when there is room again: {ended}")
    elif (logdir / "model.safetensors").read_bytes() != weights:
        faults.append("other weights in the end")
    return faults


def refused(bench):
    """R12."""
    tally = Tally("R12", "read-only, no permission, a file in the way, dangling links: told before data is read")
    # The data does not exist: a process that reaches it exits 66.
    data = ["--dataset", "mnist", "--data-dir", str(bench.fresh("no-data"))]
    base = bench.fresh("R12")
    base.mkdir(parents=True)
    base.chmod(0o755)
    slow = []

    def case(what, logdir, codes, wrap=lambda command: command):
        tally.add()
        before = listing(base)
        command = wrap([str(bench.trainer.program), "--logdir", str(logdir), "--quiet", *data])
        tries, over = [], []
        # By turns with the start of the program alone, and again if that was slow: a busy machine is not its fault.
        while len(tries) < bench.of(1, 3) or (min(over) > PROMPT and len(tries) < 10):
            tries.append(bench.trainer.run(command))
            over.append(tries[-1].seconds - bench.trainer.run(wrap([str(bench.trainer.program), "--version"])).seconds)
        ended = tries[0]
        slow.append(max(0.0, min(over)))
        faults = []
        if any(tried.code not in codes for tried in tries):
            faults.append(f"want status {' or '.join(map(str, codes))}: {ended}")
        elif str(logdir) not in ended.stderr:
            faults.append(f"the message has no path: {ended}")
        if slow[-1] > PROMPT:
            faults.append(f"took {slow[-1]:.2f} s over the start of the program")
        if listing(base) != before:
            faults.append("something was written")
        if faults:
            tally.fail(what, "; ".join(faults), [shown(command)], base)

    (base / "file").write_text("a file")
    case("a file in its place", base / "file", (73,))
    case("a file above it", base / "file" / "run", (73,))
    (base / "link").symlink_to(base / "nowhere")
    case("a dangling link", base / "link", (73,))
    case("below a dangling link", base / "link" / "run", (73,))
    (base / "loop").symlink_to(base / "loop")
    case("a link to itself", base / "loop", (73, 77))
    case("no such directory at the root", "/no-such-root-of-logs/run", (73,))
    for name, make in (("train", lambda path: path.write_text("")), ("checkpoints", lambda path: path.write_text("")),
                       ("config.toml", Path.mkdir), ("result.json", Path.mkdir), ("run.lock", Path.mkdir)):
        run = base / f"with-{name}"
        run.mkdir()
        make(run / name)
        case(f"{name} is a {'directory' if (run / name).is_dir() else 'file'}", run, (73,))
    case("a name too long", base / ("n" * 300), (73,))
    if os.geteuid() == 0 and shutil.which("setpriv"):
        nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        if bench.trainer.run([*nobody, str(bench.trainer.program), "--version"]).code == 0:
            (base / "closed").mkdir(mode=0o755)
            case("no permission to write", base / "closed" / "run", (77,), lambda command: [*nobody, *command])
            case("no permission to write in the run", base / "closed", (77,), lambda command: [*nobody, *command])
            (base / "hidden").mkdir(mode=0o700)
            case("no permission to look", base / "hidden" / "run", (77,), lambda command: [*nobody, *command])
        else:
            tally.found.append("permissions not tried: another user cannot start the program here")
    if not cannot_mount():
        with Mounts() as mounts:
            (base / "fixed").mkdir()
            mounts.mount("--bind", str(base / "fixed"), str(base / "fixed"))
            mounts.mount("-o", "remount,ro,bind", str(base / "fixed"))
            case("read-only", base / "fixed" / "run", (73, 77), mounts.inside)
            case("read-only itself", base / "fixed", (73, 77), mounts.inside)
    else:
        tally.found.append(f"read-only not tried: {cannot_mount()}")
    tally.found.append(f"at most {max(slow) * 1000:.0f} ms over the start of the program")
    return tally.close()


def listing(base):
    return sorted((path.as_posix(), path.lstat().st_mtime_ns) for path in base.rglob("*"))
