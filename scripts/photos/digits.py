"""Digits in several handwritings, drawn as strokes of a pen.

A style is a list of strokes; a stroke is a list of points in a box of 1 by 1, y downwards, through which a smooth curve
goes. Every hand moves the points, slants and narrows the box, and presses unevenly.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

# Steps of the curve between two points of a stroke.
STEPS = 14


def arc(cx, cy, rx, ry, start, end, points=9):
    """Points of an ellipse, angles in degrees, 0 to the right and 90 downwards."""
    angles = np.radians(np.linspace(start, end, points))
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


STYLES = {
    0: [
        [arc(0.5, 0.5, 0.48, 0.5, -95, 268, 13)],
        [arc(0.5, 0.5, 0.40, 0.5, -60, 320, 13)],
        [arc(0.5, 0.5, 0.5, 0.48, -120, 250, 13)],
    ],
    1: [
        [[(0.5, 0.0), (0.5, 0.5), (0.5, 1.0)]],
        [[(0.56, 0.0), (0.5, 0.5), (0.44, 1.0)]],
        [[(0.36, 0.2), (0.46, 0.1), (0.54, 0.0)], [(0.54, 0.0), (0.53, 0.5), (0.52, 1.0)]],
        [[(0.36, 0.16), (0.46, 0.08), (0.52, 0.0)], [(0.52, 0.0), (0.52, 0.5), (0.52, 1.0)], [(0.3, 1.0), (0.52, 0.99), (0.74, 1.0)]],
    ],
    2: [
        [[(0.08, 0.22), (0.25, 0.04), (0.55, 0.0), (0.82, 0.14), (0.8, 0.36), (0.55, 0.62), (0.05, 0.97)],
         [(0.05, 0.97), (0.5, 0.97), (0.98, 0.95)]],
        [[(0.1, 0.2), (0.35, 0.0), (0.72, 0.05), (0.82, 0.28), (0.6, 0.62), (0.2, 0.92), (0.06, 0.9), (0.14, 0.78),
          (0.36, 0.84), (0.62, 0.98), (0.98, 0.9)]],
        [[(0.06, 0.16), (0.4, 0.0), (0.78, 0.12), (0.74, 0.4), (0.4, 0.7), (0.08, 1.0)], [(0.08, 1.0), (0.9, 1.0)]],
    ],
    3: [
        [[(0.1, 0.12), (0.4, 0.0), (0.78, 0.12), (0.76, 0.34), (0.42, 0.46)],
         [(0.42, 0.46), (0.8, 0.56), (0.86, 0.8), (0.5, 1.0), (0.08, 0.88)]],
        [[(0.12, 0.02), (0.82, 0.02)], [(0.82, 0.02), (0.45, 0.4)],
         [(0.45, 0.4), (0.8, 0.5), (0.86, 0.78), (0.5, 1.0), (0.08, 0.9)]],
        [[(0.14, 0.16), (0.42, 0.0), (0.76, 0.14), (0.7, 0.36), (0.44, 0.47), (0.76, 0.56), (0.84, 0.8), (0.46, 1.0),
          (0.1, 0.84)]],
    ],
    4: [
        [[(0.16, 0.02), (0.08, 0.56)], [(0.08, 0.56), (0.9, 0.54)], [(0.7, 0.0), (0.68, 0.5), (0.66, 1.0)]],
        [[(0.66, 0.0), (0.04, 0.66)], [(0.04, 0.66), (0.96, 0.66)], [(0.66, 0.0), (0.66, 1.0)]],
        [[(0.2, 0.0), (0.1, 0.34), (0.24, 0.5), (0.7, 0.44)], [(0.78, 0.0), (0.72, 0.5), (0.66, 1.0)]],
    ],
    5: [
        [[(0.22, 0.02), (0.18, 0.44)], [(0.18, 0.44), (0.5, 0.36), (0.84, 0.52), (0.82, 0.84), (0.46, 1.0), (0.08, 0.9)],
         [(0.22, 0.02), (0.86, 0.0)]],
        [[(0.84, 0.0), (0.3, 0.04)], [(0.3, 0.04), (0.2, 0.46)],
         [(0.2, 0.46), (0.58, 0.38), (0.86, 0.62), (0.7, 0.92), (0.36, 1.0), (0.06, 0.86)]],
        [[(0.26, 0.06), (0.22, 0.42), (0.6, 0.42), (0.82, 0.66), (0.66, 0.94), (0.3, 1.0), (0.06, 0.9)],
         [(0.26, 0.06), (0.88, 0.04)]],
    ],
    6: [
        [[(0.7, 0.0), (0.36, 0.22), (0.12, 0.62), (0.24, 0.94), (0.56, 1.0), (0.82, 0.8), (0.68, 0.56), (0.38, 0.58),
          (0.16, 0.78)]],
        [[(0.56, 0.0), (0.22, 0.4), (0.14, 0.76), (0.36, 1.0), (0.7, 0.96), (0.8, 0.7), (0.56, 0.54), (0.2, 0.7)]],
        [[(0.8, 0.06), (0.5, 0.04), (0.2, 0.34), (0.12, 0.72), (0.34, 0.98), (0.7, 0.94), (0.8, 0.7), (0.54, 0.54),
          (0.18, 0.66)]],
    ],
    7: [
        [[(0.08, 0.04), (0.88, 0.02)], [(0.88, 0.02), (0.6, 0.46), (0.4, 1.0)]],
        [[(0.06, 0.14), (0.1, 0.03)], [(0.1, 0.03), (0.9, 0.03)], [(0.9, 0.03), (0.56, 0.5), (0.42, 1.0)]],
        [[(0.1, 0.03), (0.88, 0.03)], [(0.88, 0.03), (0.6, 0.5), (0.44, 1.0)], [(0.32, 0.5), (0.86, 0.48)]],
    ],
    8: [
        [[(0.72, 0.14), (0.46, 0.0), (0.2, 0.16), (0.34, 0.38), (0.68, 0.6), (0.8, 0.82), (0.5, 1.0), (0.18, 0.84),
          (0.3, 0.6), (0.66, 0.38), (0.74, 0.16)]],
        [arc(0.5, 0.24, 0.30, 0.24, -90, 275, 11), arc(0.5, 0.74, 0.40, 0.26, -90, 275, 11)],
        [arc(0.5, 0.25, 0.28, 0.25, 90, 455, 11), arc(0.5, 0.75, 0.36, 0.25, -90, 275, 11)],
    ],
    9: [
        [arc(0.46, 0.27, 0.36, 0.27, -10, 345, 11), [(0.82, 0.1), (0.8, 0.5), (0.74, 1.0)]],
        [[(0.8, 0.2), (0.5, 0.0), (0.16, 0.2), (0.3, 0.5), (0.62, 0.48), (0.82, 0.18)],
         [(0.82, 0.18), (0.8, 0.6), (0.64, 0.94), (0.22, 0.98)]],
        [[(0.78, 0.12), (0.46, 0.0), (0.18, 0.22), (0.34, 0.48), (0.68, 0.42), (0.8, 0.1)], [(0.8, 0.1), (0.6, 1.0)]],
    ],
}


def curve(points):
    """A Catmull-Rom spline through the points."""
    points = np.array(points, dtype=float)
    if len(points) == 2:
        return points[0] + np.linspace(0, 1, 2 * STEPS)[:, None] * (points[1] - points[0])
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    parts = []
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:]):
        t = np.linspace(0, 1, STEPS)[:, None]
        parts.append(0.5 * (2 * start + (end - before) * t + (2 * before - 5 * start + 4 * end - after) * t ** 2
                            + (3 * start - before - 3 * end + after) * t ** 3))
    return np.vstack(parts)


def strokes(chance, digit):
    """One hand's strokes of a digit, as curves, the box between -0.5 and 0.5 in height, upright but for its slant."""
    style = STYLES[digit][chance.integers(len(STYLES[digit]))]
    width = chance.uniform(0.55, 0.82) if digit != 1 else chance.uniform(0.5, 0.7)
    slant = chance.normal(0.12, 0.12)
    curves = []
    moved = {}
    for stroke in style:
        points = []
        for point in stroke:
            # Strokes with a common point keep it.
            if point not in moved:
                moved[point] = np.array(point) + chance.normal(0, 0.018, 2)
            points.append(moved[point])
        points = curve(points) - 0.5
        points[:, 0] = points[:, 0] * width - points[:, 1] * slant
        curves.append(points)
    return curves


def ink(chance, size, digit, centre, height, pen, angle=0.0):
    """Coverage of each pixel by a digit's ink, 0 to 1: `size` is (width, height), lengths in pixels, `angle` in
    degrees clockwise."""
    scale = 2
    canvas = Image.new("L", (size[0] * scale, size[1] * scale))
    draw = ImageDraw.Draw(canvas)
    turn = math.radians(angle)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    phase = chance.uniform(0, 6.28)
    for points in strokes(chance, digit):
        path = (points * height) @ rotation + np.array(centre)
        for number, (x, y) in enumerate(path):
            pressure = 1 + 0.12 * math.sin(phase + number / 9)
            radius = max(pen * pressure / 2, 0.6) * scale
            if number:
                draw.line([tuple(last), (x * scale, y * scale)], fill=255, width=max(int(2 * radius), 1))
            draw.ellipse([x * scale - radius, y * scale - radius, x * scale + radius, y * scale + radius], fill=255)
            last = (x * scale, y * scale)
    return np.asarray(canvas.resize(size, Image.BOX), dtype=np.float32) / 255
