#!/usr/bin/env python3
"""Grad-CAM of test images by pytorch-grad-cam, with the weights of a run of `trainer`.

Prints a JSON object: images per second, of all images but the first batch, which warms up. With `--out` each map is
laid over its image, 336 pixels wide as `trainer explain` makes them, and written as PNG.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy
import torch
from mnist import load
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from train_pytorch import Cnn

SIDE = 336


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, required=True, help="model.safetensors of a run")
    parser.add_argument("--data-dir", type=Path, required=True, help="directory of the four IDX files")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="directory for pictures")
    return parser.parse_args()


def read_safetensors(path):
    """name -> tensor; all are 32-bit floats."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length:]
    return {name: torch.tensor(numpy.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"]))
            for name, entry in header.items()}


def write_picture(path, image, cam):
    colours = numpy.repeat(image[:, :, None], 3, axis=2)
    colours = cv2.resize(colours, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    picture = show_cam_on_image(colours, cv2.resize(cam, (SIDE, SIDE)), use_rgb=True)
    Image.fromarray(picture).save(path)


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    images, _ = load(options.data_dir, "t10k")
    images = images[:options.images].astype(numpy.float32) / 255
    model = Cnn(pool_first=False)
    model.load_state_dict(read_safetensors(options.weights))
    model.eval()
    with GradCAM(model=model, target_layers=[model.conv2d_1]) as cam:

        def explain(start, stop):
            maps = cam(torch.from_numpy(images[start:stop, None]), targets=None)  # of the predicted class
            for index in range(start, stop) if options.out else ():
                write_picture(options.out / f"{index}.png", images[index], maps[index - start])

        size = options.batch_size
        explain(0, size)
        began = time.perf_counter()
        for start in range(size, len(images), size):
            explain(start, min(start + size, len(images)))
        seconds = time.perf_counter() - began
    print(json.dumps({"images_per_second": (len(images) - size) / seconds}))


if __name__ == "__main__":
    main()
