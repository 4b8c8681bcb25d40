"""Pictures to train on: crops of photographs with their colours mixed, and generated scenes of occluding shapes.

The photographs ship with scikit-image and matplotlib, WALLPAPERS with a package of Debian's; for each it is said where
it comes from and under which licence.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]


class Source(NamedTuple):
    """A photograph: the package that brings it, its file, where it is from, and its licence."""

    package: str
    file: str
    origin: str
    licence: str

    @property
    def name(self) -> str:
        return self.file.rsplit(".", 1)[0]


_POLICY = "none stated there; free, by the policy of the package"
#: What is said of origin and licence is from the packages' own notes.
SOURCES = (
    Source("skimage", "brick.png", "CC0Textures, Bricks25", "CC0"),
    Source("skimage", "grass.png", "linolafett, DeviantArt", "CC0"),
    Source("skimage", "gravel.png", "CC0Textures, Gravel04", "CC0"),
    Source("skimage", "camera.png", "Lav Varshney", "CC0"),
    Source("skimage", "coins.png", "Brooklyn Museum Collection", "no known restrictions"),
    Source("skimage", "ihc.png", "Center for Microscopy And Molecular Imaging", "no known restrictions"),
    Source("skimage", "hubble_deep_field.jpg", "NASA", "public domain"),
    Source("skimage", "retina.jpg", "Mikael Häggström", "CC0"),
    Source("skimage", "motorcycle_left.png", "Middlebury 2014 stereo benchmark", _POLICY),
    Source("skimage", "motorcycle_right.png", "Middlebury 2014 stereo benchmark", _POLICY),
    Source("matplotlib", "grace_hopper.jpg", "U.S. Navy", "public domain"),
)
_DEBIAN = "lomiri-wallpapers-16.04"
#: Photographs of landscapes, rooms and things; the licences are those that the package states for each.
WALLPAPERS = (
    Source(_DEBIAN, "aitzgorri_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0"),
    Source(_DEBIAN, "friends_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0"),
    Source(_DEBIAN, "life_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0"),
    Source(_DEBIAN, "picosdeeuropa_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0"),
    Source(_DEBIAN, "sunset_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0"),
    Source(_DEBIAN, "Picture_0B_by_freespace.jpg", "Trevor Freespace", "CC-BY-4.0"),
    Source(_DEBIAN, "Picture_1A_by_freespace.jpg", "Trevor Freespace", "CC-BY-4.0"),
    Source(_DEBIAN, "Wine_by_Jakkub_Mede.jpg", "Jakub Mede", "CC-BY-4.0"),
    Source(_DEBIAN, "seeding_by_Clements_Engelhardt.jpg", "Clemens Engelhardt", "CC0-1.0"),
)
_FOLDERS = {"skimage": "data", "matplotlib": "mpl-data/sample_data"}
_SHARED = Path("/usr/share/backgrounds")
#: larger photographs are reduced so that their longer side is this, pixels: at full size a camera's pixels are soft
LONGEST = 1600


def used(sources: tuple[Source, ...], leave_out: tuple[str, ...]) -> list[Source]:
    """Return those of *sources* whose name, that of the file without its ending, is not in *leave_out*."""
    return [source for source in sources if source.name not in leave_out]


def photographs(leave_out: tuple[str, ...] = (), sources: tuple[Source, ...] = SOURCES) -> dict[str, Array]:
    """Return name → (rows, columns, 3) uint8 RGB of *sources*, less those named in *leave_out*."""
    found = {}
    for source in used(sources, leave_out):
        with Image.open(_path(source)) as picture:
            picture.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
            found[source.name] = np.asarray(picture.convert("RGB"))
    return found


def _path(source: Source) -> Path:
    if source.package == _DEBIAN:
        folder, hint = _SHARED, f"apt-get install {_DEBIAN}"
    else:
        spec = importlib.util.find_spec(source.package)
        folder = Path(spec.origin).parent / _FOLDERS[source.package] if spec and spec.origin else None
        hint = "pip install '.[train]'"
    if folder is None or not (folder / source.file).is_file():
        raise SystemExit(f"error: {source.package} is not installed\nhint: {hint}")
    return folder / source.file


class Scenes:
    """Draws square pictures without end: two of three from photographs, the others generated."""

    def __init__(self, size: int, leave_out: tuple[str, ...] = (), sources: tuple[Source, ...] = SOURCES) -> None:
        self.size = size
        self.photos = photographs(leave_out, sources)
        # natural scenes are drawn more often than bare textures: they are what users have
        often = {"motorcycle_left": 3, "motorcycle_right": 3, "grace_hopper": 3, "camera": 3, "coins": 2}
        often |= {source.name: 3 for source in WALLPAPERS}
        self.names = [name for name in self.photos for _ in range(often.get(name, 1))]

    def draw(self, rng: np.random.Generator) -> Array:
        """Return (size, size, 3) uint8."""
        scene = self.crop(rng) if rng.random() < 0.65 else self.leaves(rng)
        scene = mixed(scene, rng)
        if rng.random() < 0.2:
            quality = int(rng.integers(60, 96))
            _, packed = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, quality])
            scene = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        return np.ascontiguousarray(scene)

    def crop(self, rng: np.random.Generator) -> Array:
        """Return a crop of a photograph at a random scale, mirrored and turned at random."""
        photo = self.photos[self.names[int(rng.integers(len(self.names)))]]
        smallest = self.size / min(photo.shape[:2])
        scale = float(np.clip(np.exp(rng.uniform(np.log(0.4), np.log(1.25))), smallest, 1.25))
        reach = min(int(np.ceil(self.size / scale)), *photo.shape[:2])
        top, left = (int(rng.integers(0, length - reach + 1)) for length in photo.shape[:2])
        part = photo[top : top + reach, left : left + reach]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        part = cv2.resize(part, (self.size, self.size), interpolation=method)
        return turned(part, int(rng.integers(8)))

    def leaves(self, rng: np.random.Generator) -> Array:
        """Return shapes that occlude each other, each with a colour of a photograph and a texture of its own.

        Sizes follow a power law, as things in photographs do (Lee, Mumford, Huang, "Occlusion models for natural
        images", 2001). Drawn at twice the size and reduced, so that edges are as soft as a camera's.
        """
        size = 2 * self.size
        palette = self.photos[self.names[int(rng.integers(len(self.names)))]].reshape(-1, 3)
        out = self._texture(size, palette, rng)
        smallest, largest = rng.uniform(4, 40), rng.uniform(size / 6, size / 1.2)
        for _ in range(int(rng.integers(10, 120))):
            u = rng.random()
            radius = 1 / np.sqrt(u / largest**2 + (1 - u) / smallest**2)
            mask = np.zeros((size, size), np.uint8)
            cv2.fillPoly(mask, [_outline(radius, size, rng)], 255, cv2.LINE_AA)
            x, y, width, height = cv2.boundingRect(mask)
            if not width:
                continue
            box = (slice(y, y + height), slice(x, x + width))
            patch = self._texture(max(width, height, 8), palette, rng)[:height, :width].astype(np.float32)
            weight = mask[box][..., None].astype(np.float32) / 255
            out[box] = np.rint(out[box] * (1 - weight) + patch * weight).astype(np.uint8)
        if rng.random() < 0.3:
            out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 2.5))
        return cv2.resize(out, (self.size, self.size), interpolation=cv2.INTER_AREA)

    def _texture(self, size: int, palette: Array, rng: np.random.Generator) -> Array:
        """Return (size, size, 3) uint8: a flat or shaded colour, waves, noise of some roughness, or a photograph."""
        colours = palette[rng.integers(0, len(palette), 2)].astype(np.float32)
        y, x = np.mgrid[0:size, 0:size].astype(np.float32)
        kind = rng.random()
        if kind < 0.35:
            angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(1, 4) * size
            weight = 0.5 + (np.cos(angle) * (x - size / 2) + np.sin(angle) * (y - size / 2)) / length
        elif kind < 0.55:
            angle, period, phase = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(5), np.log(60))), rng.uniform(0, 6)
            wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / period + phase)
            weight = 0.5 + 0.5 * np.tanh(wave * rng.uniform(0.5, 4))
        elif kind < 0.8:
            weight = _noise(size, rng.uniform(0.4, 1.6), rng)
        else:
            photo = self.photos[self.names[int(rng.integers(len(self.names)))]]
            reach = min(size, *photo.shape[:2])
            top, left = (int(rng.integers(0, length - reach + 1)) for length in photo.shape[:2])
            return np.array(cv2.resize(photo[top : top + reach, left : left + reach], (size, size)))
        weight = np.clip(weight, 0, 1)[..., None] * np.float32(rng.uniform(0.2, 1.0))
        grain = rng.standard_normal((size, size, 1), np.float32) * np.float32(rng.choice([0, 0, 4, 12]))
        return np.clip(np.rint(colours[0] * (1 - weight) + colours[1] * weight + grain), 0, 255).astype(np.uint8)


def _outline(radius: float, size: int, rng: np.random.Generator) -> Array:
    """Return the corners of a disc, a box, a beam or a rough polygon, turned at random."""
    kind = rng.random()
    if kind < 0.35:
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        corners = np.stack([np.cos(angles), rng.uniform(0.4, 1) * np.sin(angles)], axis=1)
    elif kind < 0.8:
        flat = rng.uniform(0.03, 0.2) if kind < 0.55 else rng.uniform(0.3, 1)
        corners = np.array([(-1, -flat), (1, -flat), (1, flat), (-1, flat)]) * (3 if flat < 0.2 else 1)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.5, 1, (len(angles), 1))
    turn = rng.choice([0, np.pi / 2, rng.uniform(0, 2 * np.pi)])
    spin = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    return np.rint(corners @ spin * radius + rng.uniform(0, size, 2)).astype(np.int32)


def _noise(size: int, slope: float, rng: np.random.Generator) -> Array:
    """Return (size, size) float32 around 0.5 whose amplitude falls with frequency to the power *slope*."""
    spectrum = np.fft.rfft2(rng.standard_normal((size, size), np.float32))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1
    values = np.fft.irfft2(spectrum / frequency**slope, (size, size)).astype(np.float32)
    return 0.5 + 0.25 * (values - values.mean()) / max(float(values.std()), 1e-6)


def mixed(scene: Array, rng: np.random.Generator) -> Array:
    """Return *scene* with channels exchanged, saturation, contrast and brightness moved at random."""
    values = scene[..., rng.permutation(3)].astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * np.float32(rng.choice([0, 0.5, 1, 1, 1.3]))
    mix = np.eye(3, dtype=np.float32) + rng.uniform(-0.15, 0.15, (3, 3)).astype(np.float32)
    values = values @ mix
    mean = float(values.mean())
    values = (values - mean) * np.float32(rng.uniform(0.6, 1.15)) + mean + np.float32(rng.uniform(-30, 30))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def turned(values: Array, way: int) -> Array:
    """Return *values* (rows, columns, …) turned by quarter turns, and mirrored for *way* of 4 and above (0…7)."""
    out = np.rot90(values, way % 4)
    return out[:, ::-1] if way >= 4 else out
