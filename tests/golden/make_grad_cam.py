"""Grad-CAM maps of a small network, computed by PyTorch's autograd: the golden values in grad_cam.json.

    python tests/golden/make_grad_cam.py > tests/golden/grad_cam.json

Weights and images come from formulas that the Rust test computes too. Made with torch 2.13.0.
"""

import json
import math

import torch
from torch import nn

HEIGHT, WIDTH, CHANNELS, IMAGES = 14, 12, 3, 3
TARGETS = [7, 0, 3]

layers = [
    ("conv2d", nn.Sequential(nn.Conv2d(CHANNELS, 4, 3), nn.ReLU())),
    ("max_pooling2d", nn.MaxPool2d(2)),
    ("conv2d_1", nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())),
    ("max_pooling2d_1", nn.MaxPool2d(2)),
    ("flatten", nn.Flatten()),
    ("dense", nn.Sequential(nn.Linear(6 * 2 * 1, 8), nn.ReLU())),
    ("dense_1", nn.Linear(8, 10)),
]
model = nn.Sequential(*(layer for _, layer in layers))
with torch.no_grad():
    for p, parameter in enumerate(model.parameters()):
        values = [math.sin(0.7 * i * i + p) for i in range(parameter.numel())]
        parameter.copy_(torch.tensor(values, dtype=torch.float64).reshape(parameter.shape))
pixels = [0.5 + 0.5 * math.sin(1.3 * i * i) for i in range(IMAGES * CHANNELS * HEIGHT * WIDTH)]
images = torch.tensor(pixels, dtype=torch.float64).float().reshape(IMAGES, CHANNELS, HEIGHT, WIDTH)

golden = {}
for index, (name, _) in enumerate(layers[:3]):
    maps = model[: index + 1](images)
    maps.retain_grad()
    logits = model[index + 1 :](maps)
    model.zero_grad()
    logits.gather(1, torch.tensor(TARGETS)[:, None]).sum().backward()
    weights = maps.grad.mean(dim=(2, 3), keepdim=True)
    cam = (weights * maps).sum(dim=1).relu()
    golden[name] = [float(f"{v:.8g}") for v in cam.flatten().tolist()]
print(json.dumps(golden, separators=(",", ":")))
