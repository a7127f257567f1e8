"""Golden values of torch.optim, for src/optim.rs: `python make_optim.py > optim.json` (written with torch 2.13.0).

Twelve parameters sin(i), gradients cos(i * t) at step t = 1..6 (in one case times 1e-7), learning rate 0.01; the
parameters after six steps.
"""

import json
import math

import torch

ADAM = {"betas": (0.9, 0.999), "eps": 1e-7}
RULES = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, **ADAM),
    "adam, gradients of 1e-7": lambda p: torch.optim.Adam(p, lr=0.01, **ADAM),
    "adam, weight decay 0.1": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, **ADAM),
    "adamw, weight decay 0.1": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, **ADAM),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "sgd, momentum 0.9": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "sgd, momentum 0.9, weight decay 0.1": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1),
}

golden = {}
for name, make in RULES.items():
    parameter = torch.nn.Parameter(torch.tensor([math.sin(i) for i in range(12)]))
    optimizer = make([parameter])
    scale = 1e-7 if name.endswith("1e-7") else 1.0
    for t in range(1, 7):
        parameter.grad = torch.tensor([math.cos(i * t) * scale for i in range(12)])
        optimizer.step()
    golden[name] = parameter.detach().tolist()
print(json.dumps(golden, indent=1))
