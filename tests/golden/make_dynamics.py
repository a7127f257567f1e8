"""Effect of one step of SGD on a small network, computed by PyTorch: the golden values in dynamics.json.

    python tests/golden/make_dynamics.py > tests/golden/dynamics.json

Weights and images come from formulas that tests/dynamics.rs computes too. Made with torch 2.13.0.
"""

import json
import math

import torch
from torch import nn

HEIGHT, WIDTH, CHANNELS, IMAGES = 14, 12, 3, 3
TARGETS = [7, 0, 3]
LEARNING_RATE = 0.01

layers = {
    "conv2d": nn.Sequential(nn.Conv2d(CHANNELS, 4, 3), nn.ReLU()),
    "max_pooling2d": nn.MaxPool2d(2),
    "conv2d_1": nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()),
    "max_pooling2d_1": nn.MaxPool2d(2),
    "flatten": nn.Flatten(),
    "dense": nn.Sequential(nn.Linear(6 * 2 * 1, 8), nn.ReLU()),
    "dense_1": nn.Linear(8, 10),
}
with_weights = ["conv2d", "conv2d_1", "dense", "dense_1"]
model = nn.Sequential(*layers.values())
with torch.no_grad():
    for p, parameter in enumerate(model.parameters()):
        values = [math.sin(0.7 * i * i + p) for i in range(parameter.numel())]
        parameter.copy_(torch.tensor(values, dtype=torch.float64).reshape(parameter.shape))
    # One channel and one unit that no image activates.
    layers["conv2d"][0].bias[1] = -100.0
    layers["dense"][0].bias[2] = -100.0
# Bytes, rows from the top and channels interleaved, as in a data set.
pixels = [math.floor(127.5 + 127.5 * math.sin(1.3 * i * i)) for i in range(IMAGES * HEIGHT * WIDTH * CHANNELS)]
images = (torch.tensor(pixels).float() / 255).reshape(IMAGES, HEIGHT, WIDTH, CHANNELS).permute(0, 3, 1, 2)

golden = {}
x = images
with torch.no_grad():
    for name, layer in layers.items():
        x = layer(x)
        if name not in with_weights:
            continue
        flat = x.double().flatten()
        units = x.transpose(0, 1).flatten(1)
        golden[f"layers/activation_mean/{name}"] = flat.mean().item()
        golden[f"layers/activation_deviation/{name}"] = flat.std(correction=0).item()
        golden[f"layers/activation_low/{name}"] = (flat.mean() - flat.std(correction=0)).item()
        golden[f"layers/activation_high/{name}"] = (flat.mean() + flat.std(correction=0)).item()
        if name != "dense_1":
            golden[f"layers/activation_zeros/{name}"] = (flat == 0).double().mean().item()
            golden[f"layers/dead_units/{name}"] = (units == 0).all(dim=1).double().mean().item()

before = {name: layer.state_dict() for name, layer in layers.items() if name in with_weights}
before = {name: {key: value.clone() for key, value in state.items()} for name, state in before.items()}
optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
nn.functional.cross_entropy(model(images), torch.tensor(TARGETS)).backward()
optimizer.step()
golden["gradient_norm"] = torch.cat([p.grad.double().flatten() for p in model.parameters()]).norm().item()
for name in with_weights:
    gradients = [p.grad.double().flatten() for p in layers[name].parameters()]
    golden[f"layers/gradient_norm/{name}"] = torch.cat(gradients).norm().item()
    (key,) = [key for key in before[name] if key.endswith("weight")]
    old, new = before[name][key], layers[name].state_dict()[key]
    golden[f"layers/update_ratio/{name}"] = ((new - old).double().norm() / old.double().norm()).item()
print(json.dumps({name: float(f"{value:.8g}") for name, value in golden.items()}, indent=0))
