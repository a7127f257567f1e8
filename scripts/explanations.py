#!/usr/bin/env python3
"""Compare our explanations of a network trained on MNIST with pytorch-grad-cam's and Captum's; test their validity.

Trains a network with the trainer (or takes a finished run), lets the Rust test `maps_for_the_script` explain the same
images, and writes the measurements into docs/explanations.md. Fails if a limit is exceeded.
"""

import argparse
import collections
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from captum.attr import GuidedBackprop, GuidedGradCam, IntegratedGradients, NoiseTunnel, Occlusion, Saliency
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy.stats import spearmanr
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "explanations.md"
MARKS = ("<!-- measured by `make explanations` -->\n", "<!-- end -->\n")
CAMS = {"gradcam": GradCAM, "gradcam++": GradCAMPlusPlus, "layercam": LayerCAM, "scorecam": ScoreCAM}
METHODS = [*CAMS, "guided-backprop", "guided-gradcam", "integrated-gradients", "smoothgrad", "occlusion"]
# Images of each digit that are compared, and images of the tests of meaning.
EACH, MEANING, SANITY = 5, 500, 50
# The defaults of src/explain/.
STEPS, NOISE, WINDOW, STRIDE = 50, 0.15, 7, 2
LARGEST_DIFFERENCE = 1e-4
# Maps that are not 0 and so prove something; an early layer often has nothing that speaks for a class on the average.
FEWEST = 5
SHARE = 0.2
LEAST_MARGIN = 0.2
LARGEST_CORRELATION = 0.5


def read_safetensors(path):
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length:]
    return {name: np.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"]).copy()
            for name, entry in header.items()}


def write_safetensors(path, arrays):
    header, body = {}, b""
    for name, array in arrays.items():
        values = np.ascontiguousarray(array, "<f4").tobytes()
        offsets = [len(body), len(body) + len(values)]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        body += values
    text = json.dumps(header).encode()
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + body)


def read_idx(path):
    data = Path(path).read_bytes()
    axes = data[3]
    shape = [int.from_bytes(data[4 + 4 * axis:8 + 4 * axis], "big") for axis in range(axes)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def model_of(weights):
    """The trainer's network as PyTorch modules, under the names of its weights file."""
    layers = collections.OrderedDict()
    convolutions = sorted(name[:-7] for name in weights if name.startswith("conv2d") and name.endswith(".weight"))
    for number, name in enumerate(convolutions):
        filters, channels, kernel, _ = weights[f"{name}.weight"].shape
        layers[name] = nn.Conv2d(channels, filters, kernel)
        layers[f"{name}_relu"] = nn.ReLU()
        layers[f"max_pooling2d_{number}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["dense"] = nn.Linear(*weights["dense.weight"].shape[::-1])
    layers["dense_relu"] = nn.ReLU()
    layers["dense_1"] = nn.Linear(*weights["dense_1.weight"].shape[::-1])
    model = nn.Sequential(layers)
    model.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    return model.eval(), convolutions


def train(options, directory):
    command = [options.trainer, "--logdir", directory / "run", "--dataset", "mnist", "--data-dir", options.data_dir,
               "--epochs", str(options.epochs), "--seed", str(options.seed), "--histogram-freq", "0",
               "--image-freq", "0", "--log-format", "json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"`{' '.join(map(str, command))}` failed with status {done.returncode}:\n{done.stderr[-4000:]}")
    return directory / "run"


def ours(options, weights, images, targets, methods):
    """Maps computed in Rust, by name."""
    with tempfile.TemporaryDirectory(prefix="explanations-") as name:
        directory = Path(name)
        write_safetensors(directory / "model.safetensors", weights)
        write_safetensors(directory / "inputs.safetensors", {"images": images, "targets": targets.astype("<f4")})
        environment = {**os.environ, "EXPLANATIONS": name, "METHODS": ",".join(methods)}
        command = [options.cargo, "test", "--release", "--quiet", "--locked", "--test", "explanations", "--",
                   "--ignored", "--exact", "maps_for_the_script"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if not (directory / "outputs.safetensors").exists():
            sys.exit(f"`{' '.join(command)}` made no maps:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return read_safetensors(directory / "outputs.safetensors")


def signed(attributions):
    """Summed over channels, then scaled by the largest magnitude: the normalisation of ours."""
    maps = attributions.detach().sum(1).numpy()
    largest = np.abs(maps).max((1, 2), keepdims=True)
    return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


def theirs(model, layers, images, targets, noise):
    """The same maps by the reference libraries, and the gaps of integrated gradients."""
    images, targets = torch.from_numpy(images), torch.from_numpy(targets)
    wanted = [ClassifierOutputTarget(int(target)) for target in targets]
    maps = {}
    for layer in layers:
        module = model.get_submodule(f"{layer}_relu")
        for method, cam in CAMS.items():
            with contextlib.redirect_stderr(open(os.devnull, "w")):
                maps[f"{method}/{layer}"] = cam(model=model, target_layers=[module])(images, wanted)
        guided = GuidedGradCam(model, module).attribute(images, targets, interpolate_mode="bilinear")
        maps[f"guided-gradcam/{layer}"] = signed(guided)
    maps["guided-backprop/input"] = signed(GuidedBackprop(model).attribute(images, targets))
    channels = images.shape[1]
    occluded = Occlusion(model).attribute(images, (channels, WINDOW, WINDOW), (channels, STRIDE, STRIDE), 0.0,
                                          targets, perturbations_per_eval=8)
    maps["occlusion/input"] = signed(occluded[:, :1])
    averages, gaps = averaged(model, images, targets, noise)
    return {**maps, **averages}, gaps


def averaged(model, images, targets, noise):
    """The methods that average gradients over many points, by Captum, and the gaps of integrated gradients."""
    maps = {}
    integral, gaps = IntegratedGradients(model).attribute(images, 0.0, targets, n_steps=STEPS,
                                                          return_convergence_delta=True)
    maps["integrated-gradients/input"] = signed(integral)
    deviation = NOISE * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))

    def add_noise(image, _stdev, samples):
        """Gives Captum our noise instead of its own."""
        scaled = deviation[:, None, None, None, None] * torch.from_numpy(noise)[None, :samples]
        return image.repeat_interleave(samples, dim=0) + scaled.flatten(0, 1)

    NoiseTunnel._add_noise_to_input = staticmethod(add_noise)
    smooth = NoiseTunnel(Saliency(model)).attribute(images, nt_samples=len(noise), target=targets, abs=False)
    maps["smoothgrad/input"] = signed(smooth)
    return maps, gaps.numpy()


def predict(model, images):
    with torch.no_grad():
        return model(torch.from_numpy(images)).softmax(1).numpy()


def compare(options, weights, model, layers, images, labels, faults):
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:EACH] for digit in range(10)])
    images = images[chosen]
    targets = predict(model, images).argmax(1)
    got = ours(options, weights, images, targets, METHODS)
    want, want_gaps = theirs(model, layers, images, targets, got["noise"])
    # One of so many points may lie so close to the kink of a ReLU or the tie of a pooling that rounding decides on
    # which side. Then PyTorch differs from itself in another layout of memory: each image has to equal one of both.
    turned = model_of(weights)[0].to(memory_format=torch.channels_last)
    other, _ = averaged(turned, torch.from_numpy(images), torch.from_numpy(targets), got["noise"])
    lines = ["| method | of | reference | maps that are not 0 | largest difference | images above the limit |",
             "| --- | --- | --- | --- | --- | --- |"]
    for method in METHODS:
        for name in (name for name in want if name.split("/")[0] == method):
            differences = np.abs(got[name] - want[name]).max((1, 2))
            shown = int((np.abs(want[name]).max((1, 2)) > 0).sum())
            library = "pytorch-grad-cam" if method in CAMS else "Captum"
            row = f"| {method} | {name.split('/')[1]} | {library}%s | {shown} of {len(images)} | %.1e | %s |"
            lines.append(row % ("", differences.max(), (differences > LARGEST_DIFFERENCE).sum()))
            if name in other:
                turned_differences = np.abs(got[name] - other[name]).max((1, 2))
                above = (turned_differences > LARGEST_DIFFERENCE).sum()
                lines.append(row % (", channels-last", turned_differences.max(), above))
                differences = np.minimum(differences, turned_differences)
            difference = float(differences.max())
            if not difference <= LARGEST_DIFFERENCE:
                faults.append(f"{name}: the maps differ by {difference:.1e}, at most {LARGEST_DIFFERENCE} is wanted")
            if shown < FEWEST:
                faults.append(f"{name}: only {shown} of {len(images)} maps are not 0; too few to compare")
    gaps = float(np.abs(got["integrated-gradients/gap"] - want_gaps).max())
    largest = float(np.abs(got["integrated-gradients/gap"]).max())
    lines += ["", f"Completeness gap of integrated gradients: at most {largest:.3f} in units of the logit; it differs "
              f"from Captum's convergence delta by at most {gaps:.1e}."]
    if not gaps <= LARGEST_DIFFERENCE:
        faults.append(f"the completeness gaps differ by {gaps:.1e}, at most {LARGEST_DIFFERENCE} is wanted")
    return lines


def meaning(options, weights, model, layers, images, faults):
    """Tests that black pixels lower the predicted class more at Grad-CAM's locations than elsewhere."""
    images = images[:MEANING]
    before = predict(model, images)
    targets = before.argmax(1)
    maps = ours(options, weights, images, targets, ["gradcam"])[f"gradcam/{layers[-1]}"].reshape(len(images), -1)
    count = int(SHARE * maps.shape[1])
    generator = np.random.default_rng(0)
    chosen = {"that Grad-CAM ranks highest": np.argsort(-maps, axis=1, kind="stable")[:, :count],
              "at random": np.stack([generator.permutation(maps.shape[1])[:count] for _ in maps])}
    rows, lines = np.arange(len(images)), ["| black pixels | mean fall of the probability |", "| --- | --- |"]
    falls = []
    for name, pixels in chosen.items():
        covered = images.reshape(len(images), images.shape[1], -1).copy()
        np.put_along_axis(covered, np.repeat(pixels[:, None], images.shape[1], 1), 0.0, axis=2)
        after = predict(model, covered.reshape(images.shape))
        falls.append(float((before[rows, targets] - after[rows, targets]).mean()))
        lines.append(f"| {count} {name} | {falls[-1]:.3f} |")
    margin = falls[0] - falls[1]
    lines += ["", f"The difference is {margin:.3f}; at least {LEAST_MARGIN} is wanted."]
    if not margin >= LEAST_MARGIN:
        faults.append(f"what Grad-CAM points at costs {margin:.3f} more than random pixels, at least {LEAST_MARGIN} is "
                      "wanted")
    return lines


def sanity(options, weights, model, layers, images, faults):
    """Adebayo et al. 2018: tests that maps change with random weights."""
    images = images[:SANITY]
    targets = predict(model, images).argmax(1)
    generator = np.random.default_rng(1)
    # As they were before training: uniform kernels, biases of 0.
    random = {name: generator.uniform(-1, 1, array.shape).astype("<f4") * np.abs(array).max() * name.endswith("weight")
              for name, array in weights.items()}
    trained = ours(options, weights, images, targets, METHODS)
    untrained = ours(options, random, images, targets, METHODS)
    lines = ["| method | of | rank correlation |", "| --- | --- | --- |"]
    for method in METHODS:
        name = next(name for name in (f"{method}/{layers[-1]}", f"{method}/input") if name in trained)
        pairs = [(a, b) for a, b in zip(trained[name], untrained[name]) if np.ptp(a) > 0 and np.ptp(b) > 0]
        if len(pairs) < len(images) // 2:
            faults.append(f"{name}: only {len(pairs)} of {len(images)} maps are not 0; too few to compare")
            continue
        mean = float(np.mean([spearmanr(a, b, axis=None).statistic for a, b in pairs]))
        lines.append(f"| {method} | {name.split('/')[1]} | {mean:.2f} |")
        if method == "gradcam" and not abs(mean) <= LARGEST_CORRELATION:
            faults.append(f"{name}: rank correlation {mean:.2f} with random weights, at most {LARGEST_CORRELATION} is "
                          "wanted")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trainer", type=Path, default=ROOT / "target" / "release" / "trainer", help="the program")
    parser.add_argument("--cargo", default=os.environ.get("CARGO", "cargo"))
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data")
    parser.add_argument("--run", type=Path, help="a finished run on MNIST; trained here by default")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    mnist = options.data_dir / "mnist"
    images = read_idx(mnist / "t10k-images-idx3-ubyte")[:, None].astype(np.float32) / np.float32(255)
    labels = read_idx(mnist / "t10k-labels-idx1-ubyte")

    scratch = Path(tempfile.mkdtemp(prefix="explanations-"))
    try:
        run = options.run or train(options, scratch)
        weights = read_safetensors(run / "model.safetensors")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    model, layers = model_of(weights)
    answers = np.concatenate([predict(model, part).argmax(1) for part in np.array_split(images, 20)])
    accuracy = float((answers == labels).mean())

    faults = []
    what = options.run.name if options.run else f"MNIST, --epochs {options.epochs} --seed {options.seed}"
    sections = [f"The network: {what}; validation accuracy {accuracy:.4f}.", "",
                "### Equal to the references", "",
                f"Largest difference of any pixel of the normalised maps, {EACH} images of each digit, target: the "
                f"predicted class; the limit is {LARGEST_DIFFERENCE}.", "",
                *compare(options, weights, model, layers, images, labels, faults), "",
                "### Relevance of the pixels that Grad-CAM ranks highest", "",
                f"{MEANING} images of the validation set, {layers[-1]}, {SHARE:.0%} of the pixels made black.", "",
                *meaning(options, weights, model, layers, images, faults), "",
                "### Trained weights matter", "",
                f"Spearman's rank correlation between the maps of the trained and of random weights, mean of {SANITY} "
                f"images; for Grad-CAM at most {LARGEST_CORRELATION} is wanted.", "",
                *sanity(options, weights, model, layers, images, faults)]
    text = "\n".join(sections) + "\n"
    print(text)
    if faults:
        sys.exit("explanations: " + "\nexplanations: ".join(faults))
    before, _, rest = DOCUMENT.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    DOCUMENT.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
