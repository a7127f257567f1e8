"""MNIST as numpy arrays, for peers."""

import struct
import sys

import numpy


def read_idx(path):
    """The bytes of an IDX file as an array of its shape."""
    data = path.read_bytes()
    zero, kind, rank = struct.unpack(">HBB", data[:4])
    if zero != 0 or kind != 8:
        sys.exit(f"{path}: not an IDX file of bytes")
    shape = struct.unpack(f">{rank}I", data[4:4 + 4 * rank])
    return numpy.frombuffer(data, numpy.uint8, offset=4 + 4 * rank).reshape(shape)


def load(directory, part):
    """Images and labels as bytes, `part` being `train` or `t10k`."""
    return (read_idx(directory / f"{part}-images-idx3-ubyte"), read_idx(directory / f"{part}-labels-idx1-ubyte"))
