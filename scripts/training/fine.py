"""Pictures that are harder to enlarge: patterns about as fine as the pixels, what cameras do to them, soft grain."""

from __future__ import annotations

import cv2
import numpy as np
from training.scenes import Array, mixed
from training.sharp import Sharp, grainy

#: periods of a pattern, pixels: from what no small picture can hold to what each holds
_PERIODS = (2.2, 18.0)


class Fine(Sharp):
    """Draws square pictures without end; more than half are as :class:`Sharp` draws them."""

    def draw(self, rng: np.random.Generator) -> Array:
        """Return (size, size, 3) uint8."""
        kind = rng.random()
        if kind < 0.55:
            return super().draw(rng)
        make = self.pattern if kind < 0.82 else self.decimated if kind < 0.91 else self.soft
        scene = mixed(make(rng), rng)
        if kind < 0.91:
            if rng.random() < 0.4:
                scene = _crisped(scene, rng)
            if rng.random() < 0.25:
                scene = grainy(scene, rng)
        if rng.random() < 0.4:
            _, packed = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(72, 97))])
            scene = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        return np.ascontiguousarray(scene)

    def pattern(self, rng: np.random.Generator) -> Array:
        """Return tiles, stripes, lattices or dots, some seen at an angle, whole or on a photograph; drawn large."""
        factor = int(rng.integers(2, 5))
        weight = _form(*_plane(self.size, factor, rng), rng)
        palette = self.scenes.photos[self._name(rng)].reshape(-1, 3)
        colours = palette[rng.integers(0, len(palette), 2)].astype(np.float32)
        if rng.random() < 0.5:
            colours[1] = colours[0] + rng.uniform(40, 160) * (1 if colours[0].mean() < 128 else -1)
        out = colours[0] + weight[..., None] * (colours[1] - colours[0])
        light = rng.uniform(0.5, 1.2, (4, 4)).astype(np.float32)
        out *= cv2.resize(light, weight.shape[::-1], interpolation=cv2.INTER_CUBIC)[..., None]
        out = cv2.resize(out, (self.size, self.size), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            part = np.zeros((self.size, self.size), np.uint8)
            corners = rng.integers(-20, self.size + 20, (5, 2)).astype(np.int32)
            cv2.fillPoly(part, [cv2.convexHull(corners)], 255, cv2.LINE_AA)
            share = part[..., None] / np.float32(255)
            out = out * share + self.photograph(rng) * (1 - share)
        return np.rint(np.clip(out, 0, 255)).astype(np.uint8)

    def decimated(self, rng: np.random.Generator) -> Array:
        """Return every second or third pixel of a crop, or means of few: crisp, and false detail among the true."""
        photo = self.scenes.photos[self._name(rng)]
        step = int(rng.integers(2, 4))
        if min(photo.shape[:2]) < step * self.size:
            return self.photograph(rng)
        top, left = (int(rng.integers(0, length - step * self.size + 1)) for length in photo.shape[:2])
        part = photo[top : top + step * self.size, left : left + step * self.size]
        if rng.random() < 0.5:
            part = cv2.GaussianBlur(part, (0, 0), rng.uniform(0.3, 0.8))
        return np.ascontiguousarray(part[::step, ::step])

    def soft(self, rng: np.random.Generator) -> Array:
        """Return a blurred crop with faint grain that is blurred too: nothing is lost but noise."""
        scene = cv2.GaussianBlur(self.photograph(rng), (0, 0), rng.uniform(0.8, 3)).astype(np.float32)
        grain = cv2.GaussianBlur(rng.standard_normal(scene.shape).astype(np.float32), (0, 0), rng.uniform(0.4, 1.5))
        if rng.random() < 0.5:
            grain[:] = grain[..., :1]
        grain *= np.float32(np.exp(rng.uniform(np.log(0.3), np.log(3)))) / grain.std()
        return np.clip(np.rint(scene + grain), 0, 255).astype(np.uint8)

    def _name(self, rng: np.random.Generator) -> str:
        return self.scenes.names[int(rng.integers(len(self.scenes.names)))]


def _plane(size: int, factor: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return two coordinates of a turned plane in periods, on *size* pixels of *factor* by *factor* each."""
    y, x = (np.mgrid[0 : factor * size, 0 : factor * size] / factor).astype(np.float32)
    period = float(np.exp(rng.uniform(*np.log(_PERIODS))))
    turn = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)]) + rng.normal(0, 0.04)
    # lengths grow along one axis, as they do on a roof that is seen from below
    depth = 1 + rng.choice([0, 0, rng.uniform(0.2, 1.5)]) * (x if rng.random() < 0.5 else y) / size
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    return along / depth / period, across / depth / period / np.float32(np.exp(rng.uniform(-0.7, 1.2)))


def _form(u: Array, v: Array, rng: np.random.Generator) -> Array:
    """Return a pattern, 0…1, on the plane whose periods are 1 in *u* and *v*: from a wave to hard edges."""
    kind, edge, share = rng.random(), np.exp(rng.uniform(np.log(0.8), np.log(12))), rng.uniform(-0.6, 0.6)
    if kind < 0.25:
        wave = np.sin(2 * np.pi * u)
    elif kind < 0.45:
        wave = np.maximum(np.sin(2 * np.pi * u), np.sin(2 * np.pi * v))
    elif kind < 0.6:
        wave = np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v)
    elif kind < 0.8:
        # bricks: each row begins half a period later
        wave = np.maximum(np.sin(2 * np.pi * v), np.cos(2 * np.pi * (u + 0.5 * np.floor(v - 0.25))) - 0.2)
    else:
        # rows of roof tiles: arcs with a shadow below
        fall = v + 0.25 * np.cos(2 * np.pi * u)
        wave = 1 - 2 * (fall - np.floor(fall)) + 0.5 * np.cos(2 * np.pi * u)
    return 0.5 + 0.5 * np.tanh(np.float32(edge) * (wave.astype(np.float32) - np.float32(share)))


def _crisped(scene: Array, rng: np.random.Generator) -> Array:
    """Return *scene* sharpened by an unsharp mask, as cameras do it."""
    values = scene.astype(np.float32)
    detail = values - cv2.GaussianBlur(values, (0, 0), rng.uniform(0.5, 1.2))
    return np.clip(np.rint(values + detail * np.float32(rng.uniform(0.3, 1.5))), 0, 255).astype(np.uint8)
