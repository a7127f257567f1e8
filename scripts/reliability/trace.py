"""System calls as strace records them: thread, call, files, and success."""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from reliability.watching import wait_for

# Calls that persist data, or create files and directories for it.
CALLS = ("openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat",
         "ftruncate", "mkdir", "mkdirat", "rmdir")
LINE = re.compile(r"^(?P<tid>\d+)\s+(?P<name>\w+)\((?P<arguments>.*)\)\s+=\s+(?P<result>-?\d+|\?)(?P<rest>.*)$")
UNFINISHED = re.compile(r"^(\d+)\s+(\w+\(.*?),? *<unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+)\s+<\.\.\. (\w+) resumed>,? ?(.*)$")
# A name, and the open directory that it is in, where one is given.
NAMED = re.compile(r'(?:\d+<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")
OPENED = re.compile(r"^<([^>]*)>")


@dataclass(frozen=True)
class Call:
    """One system call. `path` is the file it is about, `to` the new name of one that is renamed."""

    tid: int
    name: str
    path: str
    to: str
    result: int
    flags: str
    ordinal: int  # counts the calls of this name in this thread, from 1

    @property
    def worked(self):
        return self.result >= 0

    @property
    def creates(self):
        return self.name == "openat" and "O_CREAT" in self.flags and self.worked

    @property
    def renames(self):
        return self.name in ("rename", "renameat", "renameat2")


def available():
    """Reason why strace is unusable here, or nothing."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-f", "--seccomp-bpf", "-qq", "-o", os.devnull, "-e", "trace=openat", "true"],
                           capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"strace cannot trace here: {tried.stderr.strip()[:200]}"


def recording(log):
    """The prefix of a command whose calls are recorded."""
    return ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "0", "-o", str(log), "-e", "signal=none", "-e",
            "trace=" + ",".join(CALLS)]


def injecting(name, what, when, log=os.devnull):
    """The prefix of a command of which one call is tampered with, in its first thread alone.

    strace counts for each thread by itself, so that with `-f` another thread could be the first to make so many calls.
    With `--seccomp-bpf` it would deliver no signal.
    """
    return ["strace", "-qq", *_tampering(name, what, when, log)]


def inject_into(thread, name, what, when, log=os.devnull):
    """Tampers with one call of one running thread, counted from now on; returns when strace has it, with strace."""
    process = subprocess.Popen(["strace", "-qq", "-p", str(thread), *_tampering(name, what, when, log)],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: tracer(thread) == process.pid or process.poll() is not None, 30)
    return process


def _tampering(name, what, when, log):
    return ["-y", "-s", "0", "-o", str(log), "-e", "signal=none", "-e", f"trace={name}", "-e",
            f"inject={name}:{what}:when={when}"]


def tracer(thread):
    """The process that traces a thread; 0 for none, None if the thread is gone."""
    try:
        status = Path(f"/proc/{thread}/status").read_text()
    except OSError:
        return None
    return int(re.search(r"^TracerPid:\s+(\d+)", status, re.MULTILINE)[1])


def thread_named(pid, name):
    """The id of a process's thread of this name, or None."""
    for path in Path(f"/proc/{pid}/task").glob("*/comm"):
        try:
            if path.read_text().strip() == name:
                return int(path.parent.name)
        except OSError:
            continue
    return None


def record(trainer, command):
    """Exit of a command, and its calls."""
    with tempfile.TemporaryDirectory() as parent:
        log = Path(parent) / "trace"
        ended = trainer.run([*recording(log), *command])
        return ended, parse(log.read_text(errors="replace"))


def parse(text):
    """Calls in the order in which they returned."""
    found, open_calls, counts = [], {}, {}
    for line in text.splitlines():
        if match := UNFINISHED.match(line):
            open_calls[match[1]] = match[2]
            continue
        if match := RESUMED.match(line):
            begun = open_calls.pop(match[1], None)
            if begun is None:
                continue
            line = f"{match[1]} {begun}{', ' if match[3] and not match[3].startswith(')') else ''}{match[3]}"
        match = LINE.match(line)
        if match is None or match["name"] not in CALLS:
            continue
        tid, name = int(match["tid"]), match["name"]
        counts[tid, name] = counts.get((tid, name), 0) + 1
        found.append(_call(tid, name, match["arguments"], match["result"], match["rest"], counts[tid, name]))
    return found


def _call(tid, name, arguments, result, rest, ordinal):
    names = [os.path.join(directory, name) for directory, name in NAMED.findall(arguments)]
    path, to, flags = "", "", ""
    if name in ("write", "pwrite64", "fsync", "fdatasync", "ftruncate"):
        descriptor = DESCRIPTOR.match(arguments)
        path = descriptor[1] if descriptor else ""
    else:
        path = names[0] if names else ""
        to = names[1] if len(names) > 1 else ""
        if name == "openat":
            flags = arguments.rpartition('"')[2]
            opened = OPENED.match(rest)
            path = opened[1] if opened else path
        if name == "unlinkat" and "AT_REMOVEDIR" in arguments:
            flags = "AT_REMOVEDIR"
    return Call(tid, name, os.path.normpath(path) if path else "", os.path.normpath(to) if to else "",
                int(result) if result != "?" else -1, flags, ordinal)


def below(path, directory):
    return path == str(directory) or path.startswith(f"{directory}/")
