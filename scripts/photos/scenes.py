"""Pictures of a digit as cameras and scanners take them, ten kinds, composed of light, paper, lines, ink and noise.

A picture is an array of height x width x 3, 0 to 1, until it is encoded.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from photos.digits import ink

INKS = {
    "black": (0.08, 0.08, 0.1), "grey": (0.3, 0.3, 0.32), "blue": (0.1, 0.15, 0.5), "red": (0.7, 0.1, 0.12),
    "green": (0.05, 0.4, 0.15), "brown": (0.35, 0.2, 0.1), "purple": (0.35, 0.1, 0.45),
}
PAPERS = {
    "white": (0.95, 0.95, 0.94), "cream": (0.95, 0.91, 0.8), "yellow": (0.96, 0.9, 0.5), "pink": (0.95, 0.76, 0.8),
    "pale blue": (0.75, 0.85, 0.95), "pale green": (0.78, 0.92, 0.78), "kraft": (0.72, 0.58, 0.42), "grey": (0.7, 0.7, 0.7),
}


def choose(chance, names, *table):
    return np.array(table[0][names[chance.integers(len(names))]], dtype=np.float32)


def smooth_noise(chance, size, cells):
    """Noise without fine detail, about -1 to 1."""
    coarse = chance.normal(0, 0.5, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.BICUBIC))


def paper(chance, size, colour):
    grain = chance.normal(0, 0.008, (size[1], size[0])).astype(np.float32) + 0.012 * smooth_noise(chance, size, 6)
    return np.clip(colour[None, None] * (1 + grain[..., None]), 0, 1)


def write(image, coverage, colour, strength=1.0):
    cover = (coverage * strength)[..., None]
    return image * (1 - cover) + colour[None, None] * cover


def place(chance, size, heights=(0.35, 0.7), off=0.1):
    """Centre and height of a digit somewhere near the middle."""
    short = min(size)
    height = short * chance.uniform(*heights)
    x = size[0] * (0.5 + chance.uniform(-off, off))
    y = size[1] * (0.5 + chance.uniform(-off / 2, off / 2))
    return (x, y), height


def size_of(chance):
    short = int(chance.uniform(240, 560))
    long = int(short * chance.choice([1.0, 4 / 3, 1.5]))
    return (short, long) if chance.random() < 0.5 else (long, short)


def light(chance, size, strength):
    """Brightness that falls off across the picture."""
    angle = chance.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1:1:size[1] * 1j, -1:1:size[0] * 1j].astype(np.float32)
    slope = x * np.cos(angle) + y * np.sin(angle)
    vignette = (x ** 2 + y ** 2) * chance.uniform(0, 0.3)
    return (1 - strength * (0.5 + 0.35 * slope) - strength * vignette)[..., None].astype(np.float32)


def coefficients(corners, size):
    """Of the perspective that puts the corners of a rectangle of `size` at `corners`, as Pillow wants them."""
    rows, right = [], []
    for (x, y), (u, v) in zip(corners, [(0, 0), (size[0], 0), (size[0], size[1]), (0, size[1])]):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
        right += [u, v]
    return np.linalg.solve(np.array(rows, dtype=float), np.array(right, dtype=float))


def laid(chance, sheet, ground, share, tilt, lean):
    """A sheet on a ground, turned by up to `tilt` degrees, seen with a perspective of up to `lean` of its side."""
    height, width = ground.shape[:2]
    scale = share * min(width / sheet.shape[1], height / sheet.shape[0])
    w, h = sheet.shape[1] * scale / 2, sheet.shape[0] * scale / 2
    turn = np.radians(chance.uniform(-tilt, tilt))
    middle = np.array([width * (0.5 + chance.uniform(-0.04, 0.04)), height * (0.5 + chance.uniform(-0.04, 0.04))])
    corners = []
    for x, y in [(-w, -h), (w, -h), (w, h), (-w, h)]:
        x, y = x * (1 + chance.uniform(-lean, lean)), y * (1 + chance.uniform(-lean, lean))
        corners.append(middle + [x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)])
    transform = coefficients(corners, (sheet.shape[1], sheet.shape[0]))
    mask = Image.new("L", (sheet.shape[1], sheet.shape[0]), 255)
    # Twice as fine, and reduced: Pillow's transform does not smooth.
    pixels = Image.fromarray((sheet * 255).astype(np.uint8))
    warped = np.asarray(pixels.transform((width, height), Image.PERSPECTIVE, transform, Image.BICUBIC), dtype=np.float32) / 255
    inside = np.asarray(mask.transform((width, height), Image.PERSPECTIVE, transform, Image.BILINEAR).filter(
        ImageFilter.GaussianBlur(0.7)), dtype=np.float32)[..., None] / 255
    shade = np.roll(np.asarray(Image.fromarray((inside[..., 0] * 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(5)), dtype=np.float32)[..., None] / 255, 4, axis=0)
    return ground * (1 - 0.35 * shade * (1 - inside)) * (1 - inside) + warped * inside


def table(chance, size):
    """Wood, cloth or stone, darker than paper."""
    kind = chance.integers(3)
    colour = np.array([(0.32, 0.2, 0.12), (0.12, 0.13, 0.16), (0.28, 0.29, 0.3)][kind], dtype=np.float32)
    colour = colour * chance.uniform(0.6, 1.4)
    y, x = np.mgrid[0:size[1], 0:size[0]].astype(np.float32)
    if kind == 0:
        grain = 0.18 * np.sin((y + 12 * smooth_noise(chance, size, 5)) * chance.uniform(0.12, 0.35)) + 0.1 * smooth_noise(chance, size, 24)
    elif kind == 1:
        grain = 0.12 * np.sin(x * 1.1) * np.sin(y * 1.1) + chance.normal(0, 0.06, x.shape)
    else:
        grain = 0.25 * smooth_noise(chance, size, 40) + chance.normal(0, 0.05, x.shape)
    return np.clip(colour[None, None] * (1 + grain[..., None].astype(np.float32)), 0, 1)


def lines(size, segments, width):
    """Coverage of straight lines."""
    canvas = Image.new("L", (size[0] * 2, size[1] * 2))
    draw = ImageDraw.Draw(canvas)
    for x0, y0, x1, y1 in segments:
        draw.line([x0 * 2, y0 * 2, x1 * 2, y1 * 2], fill=255, width=max(round(width * 2), 1))
    return np.asarray(canvas.resize(size, Image.BOX), dtype=np.float32) / 255


def turned(size, segments, angle):
    turn = np.radians(angle)
    c, s, cx, cy = np.cos(turn), np.sin(turn), size[0] / 2, size[1] / 2
    around = lambda x, y: (cx + (x - cx) * c - (y - cy) * s, cy + (x - cx) * s + (y - cy) * c)
    return [(*around(x0, y0), *around(x1, y1)) for x0, y0, x1, y1 in segments]


def parallels(size, gap, start, upright=False):
    length, across = (size[1], size[0]) if upright else (size[0], size[1])
    found = []
    at = start - gap * np.ceil((start + 0.3 * across) / gap)
    while at < across * 1.3:
        found.append((at, -length * 0.3, at, length * 1.3) if upright else (-length * 0.3, at, length * 1.3, at))
        at += gap
    return found


def written(chance, size, image, digit, colour, heights=(0.35, 0.7), strength=1.0, pens=(0.05, 0.13), off=0.1):
    centre, height = place(chance, size, heights, off)
    cover = ink(chance, size, digit, centre, height, height * chance.uniform(*pens), chance.normal(0, 4))
    return write(image, cover, colour, strength)


DARK_INKS = ["black", "black", "blue", "grey", "purple"]


def plain(chance, size, digit):
    image = paper(chance, size, choose(chance, ["white", "cream", "white", "grey"], PAPERS))
    image = written(chance, size, image, digit, choose(chance, DARK_INKS, INKS), (0.25, 0.8))
    return image * light(chance, size, chance.uniform(0, 0.25))


def coloured(chance, size, digit):
    """Coloured pens on coloured papers; one in five is chalk on a board or a light pen on dark card."""
    if chance.random() < 0.2:
        board = np.array([(0.1, 0.2, 0.15), (0.08, 0.08, 0.09), (0.1, 0.12, 0.3)][chance.integers(3)], dtype=np.float32)
        image = paper(chance, size, board)
        chalk = np.array([(0.9, 0.9, 0.88), (0.95, 0.85, 0.4), (0.9, 0.6, 0.7)][chance.integers(3)], dtype=np.float32)
        image = written(chance, size, image, digit, chalk)
    else:
        pairs = [(i, p) for i in INKS for p in PAPERS if p != "grey"
                 and not (i == "brown" and p == "kraft") and not (i == "red" and p == "kraft")]
        pen, sheet = pairs[chance.integers(len(pairs))]
        image = paper(chance, size, np.array(PAPERS[sheet], dtype=np.float32))
        image = written(chance, size, image, digit, np.array(INKS[pen], dtype=np.float32))
    return image * light(chance, size, chance.uniform(0, 0.25))


def on_table(chance, size, digit):
    sheet_size = size_of(chance)
    sheet = paper(chance, sheet_size, choose(chance, ["white", "cream", "yellow", "white"], PAPERS))
    sheet = written(chance, sheet_size, sheet, digit, choose(chance, DARK_INKS, INKS), (0.4, 0.7), pens=(0.06, 0.13), off=0.08)
    image = laid(chance, sheet, table(chance, size), chance.uniform(0.6, 0.95), 12, 0.05)
    return image * light(chance, size, chance.uniform(0, 0.3))


def scanned(chance, size, digit):
    """A scanner's lid is dark along one to four sides; the sheet may be askew."""
    sheet = paper(chance, size, choose(chance, ["white", "cream"], PAPERS))
    sheet = written(chance, size, sheet, digit, choose(chance, DARK_INKS, INKS), (0.35, 0.65), pens=(0.04, 0.12))
    dark = np.full_like(sheet, chance.uniform(0.02, 0.18)) * (1 + chance.normal(0, 0.1, sheet.shape[:2])[..., None].astype(np.float32))
    if chance.random() < 0.5:
        return np.clip(laid(chance, sheet, dark, chance.uniform(0.85, 0.97), 4, 0.01), 0, 1)
    image = sheet.copy()
    for side in chance.permutation(4)[:chance.integers(1, 5)]:
        band = int(min(size) * chance.uniform(0.02, 0.12))
        part = [np.s_[:band], np.s_[-band:], np.s_[:, :band], np.s_[:, -band:]][side]
        image[part] = dark[part]
    return np.clip(image, 0, 1)


def ruled(chance, size, digit):
    image = paper(chance, size, choose(chance, ["white", "cream", "white", "yellow"], PAPERS))
    (x, y), height = place(chance, size, (0.3, 0.6))
    gap = height * chance.uniform(0.7, 1.4) if chance.random() < 0.7 else height * chance.uniform(0.3, 0.5)
    segments = parallels(size, gap, y + height * chance.uniform(0.3, 0.6))
    if chance.random() < 0.3:
        segments += [(size[0] * 0.12, -9, size[0] * 0.12, size[1] * 1.3)]
    tilt = chance.normal(0, 2.5)
    colour = np.array([(0.45, 0.6, 0.8), (0.4, 0.4, 0.45), (0.55, 0.7, 0.85), (0.7, 0.45, 0.5)][chance.integers(4)], dtype=np.float32)
    image = write(image, lines(size, turned(size, segments, tilt), max(1.0, min(size) * chance.uniform(0.003, 0.008))), colour)
    cover = ink(chance, size, digit, (x, y), height, height * chance.uniform(0.06, 0.13), tilt + chance.normal(0, 3))
    return write(image, cover, choose(chance, DARK_INKS, INKS)) * light(chance, size, chance.uniform(0, 0.25))


def squared(chance, size, digit):
    image = paper(chance, size, choose(chance, ["white", "cream", "white"], PAPERS))
    (x, y), height = place(chance, size, (0.3, 0.65))
    gap = height * (chance.uniform(0.25, 0.5) if chance.random() < 0.6 else chance.uniform(0.5, 1.1))
    tilt = chance.normal(0, 2.5)
    segments = parallels(size, gap, x + chance.uniform(0, gap), True) + parallels(size, gap, y + chance.uniform(0, gap))
    colour = np.array([(0.55, 0.68, 0.85), (0.6, 0.6, 0.62), (0.5, 0.75, 0.6)][chance.integers(3)], dtype=np.float32)
    image = write(image, lines(size, turned(size, segments, tilt), max(1.0, min(size) * chance.uniform(0.002, 0.006))), colour)
    cover = ink(chance, size, digit, (x, y), height, height * chance.uniform(0.06, 0.13), tilt + chance.normal(0, 3))
    return write(image, cover, choose(chance, DARK_INKS, INKS)) * light(chance, size, chance.uniform(0, 0.25))


def boxed(chance, size, digit):
    """A printed or drawn box, the digit inside, now and then touching it."""
    image = paper(chance, size, choose(chance, ["white", "cream", "white"], PAPERS))
    (x, y), height = place(chance, size, (0.35, 0.6), 0.06)
    w, h = height * chance.uniform(0.55, 0.8), height * chance.uniform(0.56, 0.75)
    by_hand = chance.random() < 0.4
    wobble = (lambda: chance.normal(0, 0.02) * height) if by_hand else (lambda: 0.0)
    corners = [(x + sx * w + wobble(), y + sy * h + wobble()) for sx, sy in [(-1, -1), (1, -1), (1, 1), (-1, 1)]]
    segments = [(*a, *b) for a, b in zip(corners, corners[1:] + corners[:1])]
    if chance.random() < 0.25:  # one field of a row of them
        segments += [(x + w, y - h, x + 3 * w, y - h), (x + w, y + h, x + 3 * w, y + h), (x - w, y - h, x - 3 * w, y - h),
                     (x - w, y + h, x - 3 * w, y + h)]
    pen = choose(chance, DARK_INKS, INKS)
    frame = pen if by_hand else choose(chance, ["black", "grey", "blue", "red"], INKS)
    tilt = chance.normal(0, 2.5)
    image = write(image, lines(size, turned(size, segments, tilt), max(1.2, height * chance.uniform(0.01, 0.045))), frame)
    cover = ink(chance, size, digit, (x, y), height, height * chance.uniform(0.06, 0.13), tilt + chance.normal(0, 3))
    return write(image, cover, pen) * light(chance, size, chance.uniform(0, 0.2))


def shadowed(chance, size, digit):
    """The shadow of a hand, a head or a telephone falls across the sheet."""
    image = paper(chance, size, choose(chance, ["white", "cream", "white"], PAPERS))
    image = written(chance, size, image, digit, choose(chance, DARK_INKS, INKS), pens=(0.06, 0.13))
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    cx, cy = size[0] * chance.uniform(0.1, 0.9), size[1] * chance.uniform(0.1, 0.9)
    if chance.random() < 0.5:
        r = max(size) * chance.uniform(0.25, 0.5)
        draw.ellipse([cx - r, cy - r * chance.uniform(0.5, 1), cx + r, cy + r], fill=255)
    else:
        turn = np.array([[cx, cy]]) + max(size) * np.array([(0, 0), (1.5, chance.uniform(-0.8, 0.8)), (1.5, 2), (-1.5, 2), (-1.5, chance.uniform(-0.8, 0.8))])
        draw.polygon([tuple(point) for point in turn], fill=255)
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(min(size) * chance.uniform(0.004, 0.06))), dtype=np.float32) / 255
    return image * (1 - chance.uniform(0.3, 0.65) * soft[..., None]) * light(chance, size, chance.uniform(0, 0.2))


def faint(chance, size, digit):
    """Pencil or a dry pen, in light that is uneven."""
    image = paper(chance, size, choose(chance, ["white", "cream", "grey"], PAPERS))
    image = written(chance, size, image, digit, choose(chance, ["grey", "black", "blue"], INKS), strength=chance.uniform(0.2, 0.45),
                    pens=(0.05, 0.12))
    return image * light(chance, size, chance.uniform(0.2, 0.6))


def rough(chance, size, digit):
    """Out of focus or moved, noisy, compressed."""
    image = paper(chance, size, choose(chance, ["white", "cream", "grey"], PAPERS))
    image = written(chance, size, image, digit, choose(chance, DARK_INKS, INKS), (0.3, 0.7)) * light(chance, size, chance.uniform(0, 0.3))
    picture = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(min(size) * chance.uniform(0.002, 0.014)))
    image = np.asarray(picture, dtype=np.float32) / 255
    if chance.random() < 0.4:
        steps = int(min(size) * chance.uniform(0.01, 0.03)) + 1
        axis = chance.integers(2)
        image = np.mean([np.roll(image, step, axis=axis) for step in range(steps)], axis=0)
    return image + chance.normal(0, chance.uniform(0.02, 0.1), image.shape)


KINDS = {
    "plain paper": plain, "coloured pen or paper": coloured, "dark table": on_table, "scanner's border": scanned,
    "ruled paper": ruled, "squared paper": squared, "box": boxed, "shadow": shadowed, "faint": faint,
    "blur and noise": rough,
}


def picture(seed, kind, number):
    """The bytes of a picture, the ending of its format, and the digit in it; equal arguments give equal bytes."""
    chance = np.random.default_rng([seed, list(KINDS).index(kind), number])
    digit = number % 10
    size = size_of(chance)
    image = KINDS[kind](chance, size, digit)
    image = image + chance.normal(0, chance.uniform(0.003, 0.02), image.shape)
    pixels = Image.fromarray((np.clip(image, 0, 1) * 255).round().astype(np.uint8))
    out = io.BytesIO()
    if chance.random() < 0.15:
        pixels.save(out, "PNG", compress_level=1)
        return out.getvalue(), "png", digit
    low = 12 if kind == "blur and noise" else 55
    pixels.save(out, "JPEG", quality=int(chance.integers(low, 95)))
    return out.getvalue(), "jpg", digit
