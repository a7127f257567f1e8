"""Writes tests/golden/tensorboardx.tfevents with tensorboardX.

    python -m venv v && v/bin/pip install tensorboardX==2.6.5 numpy soundfile pillow && v/bin/python tests/golden/make_tensorboardx.py
"""

import glob
import os
import shutil
import tempfile

import numpy as np
from tensorboardX import SummaryWriter

HERE = os.path.dirname(os.path.abspath(__file__))

with tempfile.TemporaryDirectory() as logdir:
    writer = SummaryWriter(logdir, write_to_disk=True)
    for step in range(5):
        writer.add_scalar("loss/train", 1.0 / (step + 1), step)
    writer.add_histogram("weight", np.linspace(-1, 1, 100, dtype=np.float32), 1)
    writer.add_image("picture", np.zeros((3, 4, 6), np.uint8), 2)
    writer.add_text("notes", "# Title", 3)
    writer.close()
    [path] = glob.glob(os.path.join(logdir, "*tfevents*"))
    shutil.copyfile(path, os.path.join(HERE, "tensorboardx.tfevents"))
