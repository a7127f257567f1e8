"""Golden logits for src/model/network.rs: `python make_network.py > network.json` (written with torch 2.13.0).

Every weight tensor is 0.3 * sin(i) over its elements in PyTorch's order, the images are |sin(i)|.
"""

import json

import torch
from torch import nn


def wave(shape, scale):
    count = int(torch.tensor(shape).prod())
    return (torch.arange(count, dtype=torch.float64).sin() * scale).float().reshape(shape)


model = nn.Sequential(
    nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5),
)
with torch.no_grad():
    for parameter in model.parameters():
        parameter.copy_(wave(parameter.shape, 0.3))
    print(json.dumps(model(wave((2, 3, 12, 10), 1.0).abs()).tolist()))
