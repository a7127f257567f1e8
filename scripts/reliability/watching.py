"""The kernel's account of what happens in a directory (inotify), to act right after it."""

import ctypes
import os
import select
import struct
import time
from pathlib import Path

MODIFY, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
IS_DIR = 0x40000000
PERSISTING = MODIFY | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE
HEAD = struct.Struct("iIII")


class Watch:
    """Sees files of a directory and of those below it being made, written, renamed and removed; a context manager."""

    def __init__(self, directory):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self.paths = {}
        self._add(Path(directory))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def _add(self, directory):
        descriptor = self.libc.inotify_add_watch(self.fd, os.fsencode(directory), ctypes.c_uint32(PERSISTING))
        if descriptor < 0:
            return  # gone already
        self.paths[descriptor] = directory
        for entry in directory.iterdir():
            if entry.is_dir():
                self._add(entry)

    def events(self, until):
        """(kind, path) as it happens, until `until()` is true."""
        while not until():
            if not select.select([self.fd], [], [], 0.05)[0]:
                continue
            data = os.read(self.fd, 65536)
            offset = 0
            while offset < len(data):
                descriptor, mask, _, length = HEAD.unpack_from(data, offset)
                name = data[offset + HEAD.size:offset + HEAD.size + length].rstrip(b"\0").decode(errors="replace")
                offset += HEAD.size + length
                path = self.paths.get(descriptor, Path("?")) / name
                if mask & IS_DIR and mask & (CREATE | MOVED_TO):
                    try:
                        self._add(path)
                    except OSError:
                        pass
                yield mask & PERSISTING, path


def wait_for(condition, seconds):
    """True if a condition became true in time; polled every 2 ms."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.002)
    return False
