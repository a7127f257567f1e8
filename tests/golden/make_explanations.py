"""Explanations of a small network by pytorch-grad-cam and Captum: the golden values in explanations.json.

    .deps/peers/bin/python tests/golden/make_explanations.py > tests/golden/explanations.json

Weights, images and noise come from formulas that the Rust test computes too. Made with torch 2.13.0, grad-cam 1.5.7 and
captum 0.9.0 (scripts/peers/requirements-explain.txt).
"""

import json
import math
import warnings

import torch
from captum.attr import (GuidedBackprop, GuidedGradCam, IntegratedGradients, LayerGradCam, NoiseTunnel, Occlusion,
                         Saliency)
from pytorch_grad_cam import GradCAMPlusPlus, LayerCAM, ScoreCAM
from torch import nn

warnings.filterwarnings("ignore")
HEIGHT, WIDTH, IMAGES, SAMPLES, NOISE_LEVEL = 14, 12, 2, 6, 0.2
TARGETS = [7, 3]


def wave(count, function):
    return torch.tensor([function(i) for i in range(count)], dtype=torch.float64).float()


def build(channels):
    layers = {
        "conv2d": nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU()),
        "max_pooling2d": nn.MaxPool2d(2),
        "conv2d_1": nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()),
        "max_pooling2d_1": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "dense": nn.Sequential(nn.Linear(6 * 2 * 1, 8), nn.ReLU()),
        "dense_1": nn.Linear(8, 10),
    }
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    with torch.no_grad():
        for p, parameter in enumerate(model.parameters()):
            values = wave(parameter.numel(), lambda i: math.sin(0.7 * i * i + p))
            parameter.copy_(values.reshape(parameter.shape))
    return model.eval()


def raw(cam_class, model, layer, images):
    """The CAM of pytorch-grad-cam before it is scaled to 0..1 and to the size of the image."""
    cam = cam_class(model=model, target_layers=[layer])
    kept = []
    inner = cam.get_cam_image
    cam.get_cam_image = lambda *arguments: kept.append(inner(*arguments)) or kept[-1]
    targets = [lambda logits, target=target: logits[target] for target in TARGETS]
    cam(images, targets)
    return torch.tensor(kept[0]).relu()


def explanations(channels):
    model = build(channels)
    images = wave(IMAGES * channels * HEIGHT * WIDTH, lambda i: 0.5 + 0.5 * math.sin(1.3 * i * i))
    images = images.reshape(IMAGES, channels, HEIGHT, WIDTH)
    noise = wave(SAMPLES * channels * HEIGHT * WIDTH, lambda i: 2.0 * math.sin(0.9 * i * i + 1.0))
    noise = noise.reshape(SAMPLES, channels, HEIGHT, WIDTH)
    targets = torch.tensor(TARGETS)
    golden = {}
    for name in ("conv2d", "max_pooling2d", "conv2d_1"):
        layer = model.get_submodule(name)
        golden[f"gradcam/{name}"] = LayerGradCam(model, layer).attribute(images, targets, relu_attributions=True)
        golden[f"gradcam++/{name}"] = raw(GradCAMPlusPlus, model, layer, images)
        golden[f"layercam/{name}"] = raw(LayerCAM, model, layer, images)
        golden[f"scorecam/{name}"] = raw(ScoreCAM, model, layer, images)
        guided = GuidedGradCam(model, layer).attribute(images, targets, interpolate_mode="bilinear")
        golden[f"guided-gradcam/{name}"] = guided
    golden["guided-backprop"] = GuidedBackprop(model).attribute(images, targets)
    for baseline in (0.0, 0.25):
        name = f"integrated-gradients/{baseline}"
        integrated = IntegratedGradients(model)
        golden[name], delta = integrated.attribute(images, baseline, targets, return_convergence_delta=True)
        golden[f"{name}/gap"] = delta
    golden["saliency"] = Saliency(model).attribute(images, targets, abs=False)
    # Replaces Captum's noise by ours, times each image's deviation.
    deviation = NOISE_LEVEL * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))

    def add_noise(image, _stdev, samples):
        scaled = deviation[:, None, None, None, None] * noise[None, :samples]
        return image.repeat_interleave(samples, dim=0) + scaled.flatten(0, 1)

    NoiseTunnel._add_noise_to_input = staticmethod(add_noise)
    golden["smoothgrad"] = NoiseTunnel(Saliency(model)).attribute(images, nt_samples=SAMPLES, target=targets, abs=False)
    for window, stride, baseline in ((3, 2, 0.0), (5, 3, 0.5), (12, 1, 0.0)):
        occluded = Occlusion(model).attribute(images, (channels, window, window), (channels, stride, stride),
                                              baselines=baseline, target=targets, perturbations_per_eval=16)
        golden[f"occlusion/{window}/{stride}/{baseline}"] = occluded[:, 0]
    return {name: [float(f"{v:.7g}") for v in values.detach().flatten().tolist()] for name, values in golden.items()}


print(json.dumps({str(channels): explanations(channels) for channels in (1, 3)}, separators=(",", ":")))
