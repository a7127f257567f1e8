"""Writes tests/golden/torch.tfevents with torch.utils.tensorboard.

    python -m venv v && v/bin/pip install torch==2.13.0 tensorboard numpy && v/bin/python tests/golden/make_torch.py
"""

import glob
import os
import shutil
import tempfile

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

HERE = os.path.dirname(os.path.abspath(__file__))

with tempfile.TemporaryDirectory() as logdir:
    writer = SummaryWriter(logdir, purge_step=0)
    for step in range(0, 50, 10):
        writer.add_scalar("Loss/train", 1.0 / (step + 1), step)
        writer.add_scalar("Loss/new", 1.0 / (step + 1), step, new_style=True)
    writer.add_histogram("weight", np.linspace(-1, 1, 100, dtype=np.float32), 1)
    writer.add_image("picture", np.zeros((3, 4, 6), np.uint8), 2)
    writer.add_text("notes", "# Title", 3)
    writer.add_graph(torch.nn.Linear(2, 1), torch.zeros(1, 2))
    writer.close()
    [path] = glob.glob(os.path.join(logdir, "*tfevents*"))
    shutil.copyfile(path, os.path.join(HERE, "torch.tfevents"))
