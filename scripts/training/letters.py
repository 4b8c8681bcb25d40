"""Text to find on: lines of letters of every kind over pictures, the boxes that a detector may put round them."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from training.holes import fonts
from training.scenes import SOURCES, Array, Scenes, Source, mixed
from training.sharp import Sharp, grainy

from imgedit.ops import regions

#: what is learned are strokes and not words: letters are drawn at random; digits are what stamps are made of
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" * 3 + ".,:;-/'&©%@#!?()äöüßéñåøšžłçÉÄÖÜ"
_DIGITS = "0123456789" * 4 + ".-/:' "
_OTHERS = "абвгдежзиклмнопрстуфхцчшщыэюяАБВГДЕЖЗИКЛМНОПРСТαβγδεζηθικλμνξοπρστυφχψωΔΘΛΞΠΣΦΨΩ"
#: how often a sample shows no text at all, two lines of text, and another text beside it
EMPTY, LINES, BESIDE = 0.1, 0.1, 0.15
#: coverage from which a pixel is changed by text
CHANGED = 0.1
#: text that changes its strokes by less than this is not to be seen, levels
FAINTEST = 5.0


class Sample(NamedTuple):
    """*picture*: (rows, columns, 3) uint8; *text*: (rows, columns) uint8, 255 on strokes; *box*: (n, 2) of (x, y)."""

    picture: Array
    text: Array
    box: Array


class Letters:
    """Draws pictures with text, *size* pixels on a side."""

    def __init__(self, size: int, leave_out: tuple[str, ...] = (), sources: tuple[Source, ...] = SOURCES) -> None:
        self.size = size
        self.sharp = Sharp(size, leave_out, sources)
        self.scenes: Scenes = self.sharp.scenes
        self.faces = fonts()

    def scene(self, rng: np.random.Generator) -> Array:
        """Return a picture without text: three of four are photographs."""
        made = self.sharp.photograph(rng) if rng.random() < 0.75 else self.scenes.leaves(rng)
        made = mixed(made, rng)
        if rng.random() < 0.3:
            made = grainy(made, rng)
        return np.ascontiguousarray(made)

    def draw(self, scene: Array, rng: np.random.Generator) -> Sample | None:
        """Return *scene* with text on it and a box; None where the text did not come out or cannot be seen."""
        rows, columns = scene.shape[:2]
        height = float(np.exp(rng.uniform(np.log(9), np.log(80))))
        coverages, corners = self._line(height, (rows, columns), rng)
        if corners is None:
            return None
        box = regions.clip(loosened(corners, rng), rows, columns)
        if len(box) < 3:
            return None
        picture, text = scene, np.zeros((rows, columns), np.uint8)
        if rng.random() >= EMPTY:
            picture, seen = inked(scene, coverages, rng)
            if not seen:
                return None
            text = changed(coverages)
            if rng.random() < BESIDE:
                other, _ = self._line(height, (rows, columns), rng)
                apart = cv2.dilate(changed(other), np.ones((5, 5), np.uint8)) & text
                if not apart.any():
                    picture, _ = inked(picture, other, rng)
                    text |= changed(other)
        if rng.random() < 0.5:
            _, packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 101))])
            picture = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        return Sample(np.ascontiguousarray(picture), text, box)

    def _line(
        self, height: float, shape: tuple[int, int], rng: np.random.Generator
    ) -> tuple[tuple[Array, Array], Array | None]:
        """Return the coverage with outline or shadow, and that of the letters alone, and the corners round both.

        Both are (rows, columns) float32 of 0…1; there are no corners where nothing is in the picture.
        """
        inner = self._letters(height, rng)
        outer = surrounded(inner, height, rng)
        matrix, angle = placed(inner.shape, shape, rng)
        size = (shape[1], shape[0])
        outer, inner = (
            np.clip(cv2.warpAffine(layer, matrix, size, flags=cv2.INTER_CUBIC), 0, 1) for layer in (outer, inner)
        )
        y, x = np.nonzero(np.maximum(outer, inner) > CHANGED)
        if len(x) < 30:
            return (outer, inner), None
        # some boxes lie upright, however the text is turned
        turn = np.eye(2) if rng.random() < 0.15 else rotation(angle).T
        turned = np.stack([x + 0.5, y + 0.5]).T @ turn.T
        (left, top), (right, bottom) = turned.min(axis=0), turned.max(axis=0)
        return (outer, inner), np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) @ turn

    def _letters(self, height: float, rng: np.random.Generator) -> Array:
        """Return (rows, columns) float32 coverage of some letters, *height* pixels to the em."""
        kind = rng.random()
        alphabet = _DIGITS if kind < 0.25 else _OTHERS if kind > 0.93 else _LETTERS
        faces = [face for face in self.faces if "DejaVu" in face] if alphabet is _OTHERS else self.faces
        count = int(rng.integers(3, 24))
        text = "".join(rng.choice(list(alphabet), count))
        if alphabet is not _DIGITS:
            for _ in range(count // 6):
                at = int(rng.integers(1, len(text)))
                text = f"{text[:at]} {text[at:]}"
        text = text.upper() if rng.random() < 0.25 else text.lower() if rng.random() < 0.3 else text
        if rng.random() < LINES and len(text) > 8:
            text = f"{text[: len(text) // 2]}\n{text[len(text) // 2 :]}"
        plain = rng.random() < 0.12
        face = faces[int(rng.integers(len(faces)))]
        font = ImageFont.load_default(height) if plain else ImageFont.truetype(face, height)
        bold = int(rng.choice([0, 0, 0, 1])) if height > 20 else 0
        probe = ImageDraw.Draw(Image.new("L", (1, 1)))
        left, top, right, bottom = probe.multiline_textbbox((0, 0), text, font=font, stroke_width=bold)
        pad = int(0.25 * height) + 6
        layer = Image.new("L", (int(right - left) + 2 * pad, int(bottom - top) + 2 * pad))
        pen = ImageDraw.Draw(layer)
        pen.multiline_text((pad - left, pad - top), text, fill=255, font=font, stroke_width=bold)
        return np.asarray(layer, np.float32) / np.float32(255)


def placed(letters: tuple[int, ...], shape: tuple[int, int], rng: np.random.Generator) -> tuple[Array, float]:
    """Return the 2 × 3 matrix that lays *letters* (rows, columns) somewhere in a picture, and how they are turned.

    Turned, stretched and slanted at random; the angle is in degrees.
    """
    rows, columns = shape
    kind = rng.random()
    angle = 0.0 if kind < 0.45 else rng.uniform(-15, 15) if kind < 0.65 else rng.uniform(-180, 180)
    angle = float(rng.choice([-90, 90, 180])) if kind > 0.9 else angle
    stretch = np.exp(rng.uniform(-0.25, 0.25)) if rng.random() < 0.4 else 1.0
    slant = rng.uniform(-0.1, 0.35) if rng.random() < 0.25 else 0.0
    linear = rotation(angle) @ np.array([[stretch, slant], [0, 1]])
    middle, centre = np.array([columns / 2, rows / 2]), np.array([letters[1] / 2, letters[0] / 2])
    place = np.array([rng.uniform(0.15, 0.85) * columns, rng.uniform(0.1, 0.9) * rows])
    # long lines run out of the picture; short ones stay in it
    room = np.maximum(middle - np.abs(linear) @ centre, 0)
    shift = np.clip(place, middle - room, middle + room) - linear @ centre
    # most text is drawn upright on whole pixels, and is sharp
    shift = np.rint(shift) if angle == 0 and stretch == 1 and not slant else shift
    return np.column_stack([linear, shift]), angle


def rotation(angle: float) -> Array:
    """Return the matrix that turns (x, y) by *angle* degrees, clockwise as pictures are seen."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cosine, -sine], [sine, cosine]])


def surrounded(inner: Array, height: float, rng: np.random.Generator) -> Array:
    """Return the coverage of an outline, a shadow or a glow of the letters *inner*; for most, none."""
    kind = rng.random()
    if kind < 0.62:
        return np.zeros_like(inner)
    if kind < 0.8:
        reach = max(1, round(height * rng.uniform(0.02, 0.07)))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        return np.asarray(cv2.dilate(inner, kernel))
    far = height * (rng.uniform(0.03, 0.09, 2) * rng.choice([-1, 1], 2) if kind < 0.9 else np.zeros(2))
    moved = cv2.warpAffine(inner, np.array([[1, 0, far[0]], [0, 1, far[1]]]), inner.shape[::-1])
    soft = cv2.GaussianBlur(moved, (0, 0), max(0.4, height * rng.uniform(0.01, 0.08)))
    return np.asarray(np.maximum(soft, inner) if kind > 0.9 else soft)


def inked(scene: Array, coverages: tuple[Array, Array], rng: np.random.Generator) -> tuple[Array, bool]:
    """Return *scene* with the letters in some ink, and whether they can be seen at all."""
    outer, inner = coverages
    under = scene[inner > 0.5].astype(np.float32)
    if len(under) < 20:
        return scene, False
    mean = under.mean(axis=0) if rng.random() < 0.5 else scene.reshape(-1, 3).mean(axis=0)
    kind = rng.random()
    opacity = 1.0
    if kind < 0.38:
        # a shade of what is there: nearly a grey step, or of another tint
        step = float(rng.choice([-1, 1])) * rng.uniform(12, 60)
        colour = mean + step + rng.normal(0, 1, 3) * (rng.uniform(0, 25) if rng.random() < 0.4 else 0)
    elif kind < 0.72:
        opacity = float(rng.uniform(0.12, 0.7))
        colour = np.full(3, float(rng.choice([0, 255, 255]))) if rng.random() < 0.8 else rng.uniform(0, 255, 3)
    else:
        colour = rng.uniform(0, 255, 3) if rng.random() < 0.6 else np.full(3, float(rng.choice([0, 255])))
        opacity = 1.0 if rng.random() < 0.8 else float(rng.uniform(0.7, 1))
    colour = np.clip(np.rint(colour), 0, 255).astype(np.float32)
    edge = np.full(3, 0.0 if colour.mean() > 100 else 255.0) if rng.random() < 0.7 else rng.uniform(0, 255, 3)
    edge_opacity = opacity * float(rng.uniform(0.4, 1))
    out = scene.astype(np.float32)
    for cover, ink, strength in ((outer, np.asarray(edge, np.float32), edge_opacity), (inner, colour, opacity)):
        weight = (cover * np.float32(strength))[..., None]
        out += (ink - out) * weight
    drawn = np.rint(np.clip(out, 0, 255)).astype(np.uint8)
    shift = np.abs(drawn[inner > 0.5].astype(np.float32) - under).mean()
    return drawn, bool(shift > FAINTEST)


def changed(coverages: tuple[Array, Array]) -> Array:
    return ((np.maximum(*coverages) > CHANGED) * np.uint8(255)).astype(np.uint8)


def loosened(corners: Array, rng: np.random.Generator) -> Array:
    """Return the box with *corners* (clockwise, the first side along the line) as a detector may find it.

    Too high by up to three times, more seldom too wide, moved, turned a little.
    """
    right, down = corners[1] - corners[0], corners[3] - corners[0]
    wide, high = float(np.hypot(*right)), float(np.hypot(*down))
    right, down = right / max(wide, 1e-6), down / max(high, 1e-6)
    loose = rng.random() < 0.5
    above, below = rng.uniform(-0.06, 0.25, 2) if not loose else rng.uniform(0, 1, 2) * rng.uniform(0.2, 2)
    before, after = rng.uniform(-0.2, 0.5, 2) if rng.random() < 0.8 else rng.uniform(0, 3, 2)
    first = corners[0] - right * before * high - down * above * high
    along = right * (wide + (before + after) * high)
    across = down * high * (1 + above + below)
    box = np.array([first, first + along, first + along + across, first + across])
    centre = box.mean(axis=0)
    return np.asarray((box - centre) @ rotation(rng.normal(0, 2)).T + centre)
