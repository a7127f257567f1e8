"""Runs a program as a container engine would, without one: needs root, nothing else.

    contained.py --root DIR --data DIR --logs DIR --report FILE [--env NAME=VALUE]... [--memory BYTES]
                 -- /usr/local/bin/trainer ARGUMENT...

The program is process 1 of its own namespaces: a root file system that is read-only, `/data` read-only, `/logs` the only
place to write, `/proc`, `/sys`, five devices, a network without an interface that is up. It is user 65532 without a
capability, and cannot get one. FILE then holds one JSON object a line: {"pid": ..} once it runs, as seen from outside,
and {"status": .., "peak_kib": ..} when it has ended. With --memory the kernel kills the program if it takes more, where
the machine has a control group for that which may be used: {"limited": true or false} says so. The exit status is the program's, as a shell has it.
"""

import argparse
import ctypes
import json
import os
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
USER = 65532
# <sched.h>, <sys/mount.h>, <sys/prctl.h>
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
SIGKILL, EINVAL = 9, 22
DEVICES = ["full", "null", "random", "urandom", "zero"]
# Exit code of the launcher if the machine does not permit containment; 125, as in `docker run`.
REFUSED = 125


def call(function, *arguments):
    if function(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function.__name__}{arguments}: {os.strerror(error)}")


def mount(source, target, kind, flags):
    call(LIBC.mount, source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags), None)


def bind(source, target, flags):
    mount(source, target, None, MS_BIND)
    mount(source, target, None, MS_BIND | MS_REMOUNT | flags)


def limit_memory(limit):
    """A control group of this process and its children with no more memory than this, or None if there can be none."""
    for parent, key in ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")):
        group = parent / f"contained-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            # The files do not exist on a file system that is no control group.
            for name, value in ((key, limit), ("cgroup.procs", os.getpid())):
                with open(group / name, "r+", encoding="utf-8") as file:
                    file.write(str(value))
            return group
        except OSError:
            group.rmdir()
    return None


def leave(group):
    (group.parent / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")
    group.rmdir()


def prepare(root, data, logs):
    """Namespaces and mounts that can be made from outside."""
    call(LIBC.unshare, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    bind(root, root, MS_RDONLY | MS_NOSUID | MS_NODEV)
    bind(data, f"{root}/data", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    bind(logs, f"{root}/logs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", f"{root}/sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", f"{root}/dev", "tmpfs", MS_NOSUID | MS_NOEXEC)
    for name in DEVICES:
        os.close(os.open(f"{root}/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o644))
        mount(f"/dev/{name}", f"{root}/dev/{name}", None, MS_BIND)
    mount("tmpfs", f"{root}/dev", None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC)


def become_contained(root):
    """The part that runs as process 1 in the new process namespace."""
    call(LIBC.prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    os.chroot(root)
    os.chdir("/logs")
    for capability in range(64):
        if LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            if ctypes.get_errno() != EINVAL:  # past the last one
                raise OSError(ctypes.get_errno(), "prctl(PR_CAPBSET_DROP)")
            break
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    call(LIBC.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def main():
    parser = argparse.ArgumentParser()
    for name in ("--root", "--data", "--logs", "--report"):
        parser.add_argument(name, required=True)
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--memory", type=int)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    root = os.path.realpath(arguments.root)
    environment = dict(pair.split("=", 1) for pair in arguments.env)
    with open(arguments.report, "w", encoding="utf-8") as report:
        def tell(**what):
            print(json.dumps(what), file=report, flush=True)

        group = limit_memory(arguments.memory) if arguments.memory else None
        tell(limited=group is not None)
        try:
            prepare(root, os.path.realpath(arguments.data), os.path.realpath(arguments.logs))
        except OSError as error:
            tell(refused=str(error))
            if group:
                leave(group)
            return REFUSED
        pid = os.fork()
        if pid == 0:
            try:
                become_contained(root)
                os.execve(arguments.command[0], arguments.command, environment)
            except OSError as error:
                tell(refused=str(error))
                os._exit(REFUSED)
        tell(pid=pid)
        _, status, usage = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        code = 128 - code if code < 0 else code
        if group:
            leave(group)
        tell(status=code, peak_kib=usage.ru_maxrss)
        return code


if __name__ == "__main__":
    sys.exit(main())
