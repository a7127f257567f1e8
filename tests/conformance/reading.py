"""A reader of event files that shares no code with the writer, nor its framing with TensorBoard."""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event

CASTAGNOLI = 0x82F63B78  # reflected


def _table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (CASTAGNOLI if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = _table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked(crc):
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class BadRecord(AssertionError):
    """A record whose frame is wrong; `offset` is that of its first byte."""

    def __init__(self, path, offset, fault):
        super().__init__(f"{path}: record at byte {offset}: {fault}")
        self.offset = offset


@dataclass(frozen=True)
class Record:
    offset: int
    payload: bytes


def records(path):
    """The framed records of a file, every checksum verified."""
    data = Path(path).read_bytes()
    offset = 0
    while offset < len(data):
        if len(data) - offset < 16:
            raise BadRecord(path, offset, f"{len(data) - offset} bytes are no record")
        head = data[offset:offset + 8]
        (length,) = struct.unpack("<Q", head)
        (head_crc,) = struct.unpack_from("<I", data, offset + 8)
        if masked(crc32c(head)) != head_crc:
            raise BadRecord(path, offset, "length checksum")
        end = offset + 12 + length
        if end + 4 > len(data):
            raise BadRecord(path, offset, "truncated")
        payload = data[offset + 12:end]
        (payload_crc,) = struct.unpack_from("<I", data, end)
        if masked(crc32c(payload)) != payload_crc:
            raise BadRecord(path, offset, "payload checksum")
        yield Record(offset, payload)
        offset = end + 4


def events(path):
    return [Event.FromString(record.payload) for record in records(path)]


def event_files(logdir):
    """run -> its event files, in the order in which TensorBoard reads them."""
    runs = {}
    for path in sorted(Path(logdir).rglob("*tfevents*")):
        runs.setdefault(path.parent.relative_to(logdir).as_posix(), []).append(path)
    return runs


def curve_files(logdir):
    """run -> its event files but for those that only HParams reads; runs without any are left out."""
    runs = {}
    for run, paths in event_files(logdir).items():
        if curves := [path for path in paths if not re.search(r"\.hparams\.|session", path.name)]:
            runs[run] = curves
    return runs


def contents(logdir):
    """run -> [Event], over all files of the run with curves."""
    return {run: [event for path in paths for event in events(path)] for run, paths in curve_files(logdir).items()}


PLUGINS = {"graph_keras_model": "graphs"}


def series(run_events):
    """plugin -> tag -> [(step, wall time, tensor)], the plugin by the metadata on the values."""
    found = {}
    for event in run_events:
        for value in event.summary.value:
            name = value.metadata.plugin_data.plugin_name
            tags = found.setdefault(PLUGINS.get(name, name), {})
            tags.setdefault(value.tag, []).append((event.step, event.wall_time, value.tensor))
    return found
