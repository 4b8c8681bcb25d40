"""Random holes to train on: lettering in many fonts and sizes, scratches, blobs and boxes."""

from __future__ import annotations

import importlib.util
import string
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Plane = NDArray[np.uint8]

_LETTERS = string.ascii_letters + string.digits + "  .,:;-/'&©%äöüß"
#: fonts of mathematical symbols have no letters
_NO_LETTERS = ("cmex", "cmsy", "cmmi", "STIXSiz", "STIXNonUni", "LastResort", "DejaVuSansDisplay", "DejaVuSerifDisplay")


def fonts() -> list[str]:
    """Return the files of the text fonts that matplotlib brings, sorted."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise SystemExit("error: matplotlib is not installed\nhint: pip install '.[train]'")
    every = sorted((Path(spec.origin).parent / "mpl-data/fonts/ttf").glob("*.ttf"))
    return [str(path) for path in every if not path.name.startswith(_NO_LETTERS)]


def hole(size: int, faces: list[str], rng: np.random.Generator) -> Plane:
    """Return a (size, size) uint8 mask, 255 = hole, that covers between 2 and 45 % of the square."""
    while True:
        kind = rng.random()
        if kind < 0.62:
            mask = lettering(size, faces, rng)
        elif kind < 0.76:
            mask = scratches(size, rng)
        elif kind < 0.88:
            mask = blobs(size, rng)
        else:
            mask = boxes(size, rng)
        share = float(np.count_nonzero(mask)) / mask.size
        if 0.02 <= share <= 0.45:
            return mask


def lettering(size: int, faces: list[str], rng: np.random.Generator) -> Plane:
    """Return lines of random letters, turned as a whole, grown as outlines, shadows and dilation do."""
    side = int(size * 1.5)
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    face = faces[int(rng.integers(len(faces)))]
    height = float(np.exp(rng.uniform(np.log(12), np.log(64))))
    font = ImageFont.truetype(face, height)
    outline = int(rng.choice([0, 0, 1, 2])) if height > 16 else int(rng.integers(2))
    y = float(rng.uniform(0, height))
    while y < side:
        text = "".join(rng.choice(list(_LETTERS), int(side / height * 2.2)))
        draw.text((rng.uniform(-height, 0), y), text, fill=255, font=font, stroke_width=outline)
        y += height * rng.uniform(1.1, 2.2)
    angle = float(rng.choice([0, 0, 90, rng.uniform(-45, 45)]))
    canvas = canvas.rotate(angle, Image.Resampling.BILINEAR)
    start = (side - size) // 2
    mask = (np.asarray(canvas)[start : start + size, start : start + size] > 0).astype(np.uint8) * 255
    return _grown(mask, int(rng.choice([1, 1, 2, 2, 3, 4])))


def scratches(size: int, rng: np.random.Generator) -> Plane:
    mask = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(2, 9))):
        t = np.linspace(0, 1, 24)[:, None]
        a, b, c = rng.uniform(-0.1 * size, 1.1 * size, (3, 2))
        curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        cv2.polylines(mask, [np.rint(curve).astype(np.int32)], False, 255, int(rng.integers(2, 12)))
    return mask


def blobs(size: int, rng: np.random.Generator) -> Plane:
    mask = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(2, 14))):
        radius = np.exp(rng.uniform(np.log(3), np.log(24)))
        centre = tuple(int(v) for v in rng.integers(0, size, 2))
        axes = (int(radius), max(1, int(radius * rng.uniform(0.4, 1))))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    return mask


def boxes(size: int, rng: np.random.Generator) -> Plane:
    mask = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        width, height = (int(v) for v in np.exp(rng.uniform(np.log(8), np.log(80), 2)))
        x, y = (int(v) for v in rng.integers(0, size, 2))
        mask[y : y + height, x : x + width] = 255
    return mask


def _grown(mask: Plane, reach: int) -> Plane:
    kernel: Any = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(mask, kernel))
