"""Activation maximisation in a small network, computed by PyTorch's autograd: the golden values in activation_max.json.

    python tests/golden/make_activation_max.py > tests/golden/activation_max.json

Weights and the start come from formulas that the Rust test computes too; nothing is shifted. Made with torch 2.13.0.
"""

import json
import math

import torch
from torch import nn
from torch.nn import functional as F

HEIGHT, WIDTH, CHANNELS = 14, 12, 3
STEPS, RATE, START, BLUR, TV, L2 = 4, 0.2, 0.4, 0.3, 0.2, 0.2
# Objective -> the layers that are computed, the targets, the height and the width of the images.
OBJECTIVES = {
    "conv2d": (1, [0, 2, 3], 12, 12),
    "conv2d_1": (4, [1, 5], 14, 12),
    "classes": (9, [7, 0, 3], HEIGHT, WIDTH),
}

model = nn.Sequential(
    nn.Conv2d(CHANNELS, 4, 3),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(4, 6, 3),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(6 * 2 * 1, 8),
    nn.ReLU(),
    nn.Linear(8, 10),
)
with torch.no_grad():
    for p, parameter in enumerate(model.parameters()):
        values = [math.sin(0.7 * i * i + p) for i in range(parameter.numel())]
        parameter.copy_(torch.tensor(values, dtype=torch.float64).reshape(parameter.shape))


def variation(images):
    differences = [images.diff(dim=2), images.diff(dim=3)]
    return sum((d.square() + 0.01).sqrt().sum() for d in differences)


def gradient(f, images):
    images = images.clone().requires_grad_(True)
    return torch.autograd.grad(f(images), images)[0]


def blurred(images):
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(kernel, kernel).expand(CHANNELS, 1, 3, 3)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=CHANNELS)


golden = {}
for name, (depth, targets, height, width) in OBJECTIVES.items():
    layers = model if name == "classes" else model[:depth]
    own = torch.arange(len(targets)), torch.tensor(targets)

    def score(images):
        answers = layers(images)[own]
        return answers.sum() if name == "classes" else F.leaky_relu(answers, 0.1).mean(dim=(1, 2)).sum()

    size = (CHANNELS, height, width)
    pixels = [START + 0.05 * math.sin(1.3 * i * i) for i in range(math.prod(size))]
    images = torch.tensor(pixels, dtype=torch.float64).float().reshape(1, *size).repeat(len(targets), 1, 1, 1)
    for step in range(STEPS):
        remaining = 1 - step / STEPS
        g = gradient(score, images)
        g = g / g.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        direction = g - TV * gradient(variation, images) - L2 * (images - START)
        moved = images + RATE * remaining * direction
        images = torch.lerp(moved, blurred(moved), BLUR * remaining).clamp(0, 1)
    answers = layers(images)[own].detach()
    activations = answers if name == "classes" else answers.relu().mean(dim=(1, 2))
    golden[name] = {
        "images": [float(f"{v:.6g}") for v in images.flatten().tolist()],
        "activations": [float(f"{v:.6g}") for v in activations.tolist()],
    }
print(json.dumps(golden, separators=(",", ":")))
