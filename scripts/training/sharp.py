"""Pictures to learn enlarging from: crisp crops of photographs, occluding shapes, and drawings of lines and letters."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image
from training.holes import boxes, fonts, lettering, scratches
from training.scenes import SOURCES, Array, Scenes, Source, mixed, turned

#: how photographs are reduced, which makes them crisp: all of these are in use
_WAYS = (Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BOX, Image.Resampling.HAMMING)
#: smallest scale of a photograph
_LEAST = 0.3


class Sharp:
    """Draws square pictures without end."""

    def __init__(self, size: int, leave_out: tuple[str, ...] = (), sources: tuple[Source, ...] = SOURCES) -> None:
        self.size = size
        self.scenes = Scenes(size, leave_out, sources)
        self.faces = fonts()

    def draw(self, rng: np.random.Generator) -> Array:
        """Return (size, size, 3) uint8."""
        kind = rng.random()
        make = self.photograph if kind < 0.66 else self.scenes.leaves if kind < 0.84 else self.drawing
        scene = mixed(make(rng), rng)
        if rng.random() < 0.2:
            scene = grainy(scene, rng)
        if rng.random() < 0.08:
            _, packed = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 98))])
            scene = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        return np.ascontiguousarray(scene)

    def photograph(self, rng: np.random.Generator) -> Array:
        """Return a crop of a photograph as it is, reduced or, seldom, enlarged; mirrored and turned at random."""
        names, photos = self.scenes.names, self.scenes.photos
        photo = photos[names[int(rng.integers(len(names)))]]
        smallest = min(1.0, self.size / min(photo.shape[:2]))
        kind = rng.random()
        # one in eight is soft: there is nothing to add, and the network must know that too
        span = (1.2, 2.5) if kind < 0.12 else (1.0, 1.0) if kind < 0.4 else (_LEAST, 1.0)
        scale = max(float(np.exp(rng.uniform(*np.log(span)))), smallest)
        reach = min(int(np.ceil(self.size / scale)), *photo.shape[:2])
        top, left = (int(rng.integers(0, length - reach + 1)) for length in photo.shape[:2])
        part = photo[top : top + reach, left : left + reach]
        if reach != self.size:
            way = Image.Resampling.BICUBIC if scale > 1 else _WAYS[int(rng.integers(len(_WAYS)))]
            part = np.asarray(Image.fromarray(part).resize((self.size, self.size), way))
        return turned(part, int(rng.integers(8)))

    def drawing(self, rng: np.random.Generator) -> Array:
        """Return letters, thin lines and boxes on a photograph or a flat ground, drawn large and reduced."""
        factor = int(rng.integers(2, 5))
        size = factor * self.size
        palette = self.scenes.photos[self.scenes.names[int(rng.integers(len(self.scenes.names)))]].reshape(-1, 3)
        ground = np.array(palette[int(rng.integers(len(palette)))], np.float32)
        out = np.broadcast_to(ground, (size, size, 3)).astype(np.float32)
        if rng.random() < 0.4:
            out = cv2.resize(self.photograph(rng), (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        for _ in range(int(rng.integers(1, 4))):
            kind = rng.random()
            if kind < 0.6:
                mask = lettering(size, self.faces, rng)
            else:
                mask = scratches(size, rng) if kind < 0.85 else boxes(size, rng)
            colour = rng.uniform(0, 255, 3) if rng.random() < 0.5 else rng.choice([0.0, 255.0], 1).repeat(3)
            weight = (mask > 0)[..., None] * np.float32(rng.uniform(0.4, 1))
            out += (colour.astype(np.float32) - out) * weight
        return np.rint(np.clip(cv2.resize(out, (self.size, self.size), interpolation=cv2.INTER_AREA), 0, 255)).astype(
            np.uint8
        )


def grainy(scene: Array, rng: np.random.Generator) -> Array:
    """Return *scene* with grain of up to some levels, fine or coarser, of one colour or of all."""
    grain = rng.standard_normal((*scene.shape[:2], int(rng.choice([1, 3])))).astype(np.float32)
    if rng.random() < 0.4:
        grain = cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.4, 0.9)).reshape(grain.shape)
        grain /= grain.std()
    grain *= np.float32(np.exp(rng.uniform(np.log(0.6), np.log(5))))
    return np.clip(np.rint(scene + grain), 0, 255).astype(np.uint8)
