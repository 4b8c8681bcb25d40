"""Enlarge a picture by a network of a scale of its own, to any size, within a memory target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgedit import spill
from imgedit.backends import memory
from imgedit.backends.hint import plain
from imgedit.backends.reach import OVERLAPS, measure, probe_side
from imgedit.backends.tiles import LARGEST, SMALLEST, Floats, Layout, Network, Read, Tiles, warn_of
from imgedit.backends.upscale._sizes import check_larger
from imgedit.errors import DataError
from imgedit.jobs import Enlarged, Resources
from imgedit.ops import seams
from imgedit.ops.area import Area
from imgedit.ops.bands import bands

#: input pixels over which neighbouring tiles are blended where they cannot be equal
RAMP = 32
#: the colours of transparent pixels are taken from those that are seen within this many pixels
_BLEED = 8
#: what is worked on at a time beside the tiles, in pixels
_BAND = 1 << 20
#: a planned tile takes this share of what it may: allocators round up
_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a network: how far pixels matter (None: everywhere), the grid of its tiles, both in pixels, and
    bytes taken per pixel shown."""

    reach: int | None
    step: int
    bytes_per_pixel: float


class Runner:
    """Runs *network* on pictures. What is measured of it, once, serves all of them.

    *device*: where it runs, for measuring; *traits*: what is known of it already.
    """

    def __init__(self, network: Network, device: str = "cpu", traits: Traits | None = None) -> None:
        self.network, self.device = network, device
        self._traits = traits

    def traits(self) -> Traits:
        """Return what is measured of the network; the first time this takes some runs on small pictures."""
        if self._traits is None:
            memory.give_back(self.device)
            # several runs on pictures of one size: a peak too short to be seen in one of them is seen in another
            with memory.Watch(self.device) as watch:
                found = measure(self.network)
            # what goes in and what comes out, twice each: a run of a small network may be too short to be seen
            least = 2 * 4 * self.network.channels * (1 + self.network.scale**2)
            self._traits = Traits(found.reach, found.step, max(watch.taken / probe_side(self.network) ** 2, least))
        return self._traits

    def enlarge(self, pixels: NDArray[Any], rows: int, columns: int, resources: Resources) -> Enlarged:
        """Return (rows, columns, 3 or 4) uint8 or uint16 *pixels* enlarged to *rows* × *columns*, centre-aligned.

        The network is applied as often as it takes to be at least as large, and the rest is the mean over areas. A
        fourth channel is straight alpha; it is enlarged plainly, and colours that nobody sees are replaced by those
        nearby first. Grey stays grey. Raises UsageError where the result would be smaller than *pixels*, OutOfMemory
        where the memory target is too small for the smallest tile.
        """
        check_larger(pixels, rows, columns)
        factor = max(rows / pixels.shape[0], columns / pixels.shape[1])
        passes = max(1, math.ceil(math.log(factor) / math.log(self.network.scale) - 1e-9))
        result = spill.empty((rows, columns, pixels.shape[2]), pixels.dtype)
        grey = _is_grey(pixels)
        notes: dict[str, Any] = {"network_scale": self.network.scale, "passes": passes, "device": self.device}
        planned = []
        if not self._at_once(pixels.shape, resources):
            self.traits()
        memory.give_back(self.device, search=False)
        with memory.Watch(self.device) as watch:
            source = pixels
            for number in range(passes):
                if number == passes - 1:
                    target = result[..., :3]
                else:
                    size = [side * self.network.scale for side in source.shape[:2]]
                    target = spill.empty((*size, 3), pixels.dtype)
                tile = resources.refine_tile if number else resources.coarse_tile
                layout, taken = self._layout(source.shape, target, tile, resources)
                planned.append(taken)
                notes |= self._once(source, target, grey, layout)
                source = target
            if pixels.shape[2] == 4:
                _enlarge_alpha(pixels, result)
        notes["memory"] = {
            "target_gb": resources.memory_target_gb,
            "planned_gb": None if None in planned else memory.as_gb(max(filter(None, planned), default=0)),
            "measured_gb": memory.as_gb(watch.peak),
        }
        return Enlarged(result, notes)

    def _at_once(self, shape: tuple[int, ...], resources: Resources) -> bool:
        """Say whether a picture is so small that measuring the network would take longer than the work."""
        asked = (resources.memory_target_gb, resources.coarse_tile, resources.refine_tile, resources.overlap)
        return max(shape[:2]) <= probe_side(self.network) and not any(asked) and self._traits is None

    def _layout(
        self, shape: tuple[int, ...], target: NDArray[Any], most: int | None, resources: Resources
    ) -> tuple[Layout, int | None]:
        """Return how a picture of *shape* is cut, with tiles of *most* pixels at most, and the bytes in use by then."""
        if self._at_once(shape, resources):
            return Layout(max(shape[:2]), 0), None
        traits = self.traits()
        overlap = resources.overlap if resources.overlap is not None else traits.reach or OVERLAPS[-1]
        ramp = 0 if traits.reach is not None and overlap >= traits.reach else RAMP
        memory.give_back(self.device)
        held = 0 if self.device.startswith("cuda") else spill.in_memory(target)
        kept = getattr(self.network, "kept", 0)
        left = memory.budget(resources.memory_target_gb, self.device, kept) - held
        before = memory.in_use(self.device) + held - kept
        scale, step = self.network.scale, math.lcm(16, traits.step)

        def taken(tile: int) -> float:
            shown = [min(side, tile + 2 * overlap + ramp + traits.step) for side in shape[:2]]
            # beside the network: the values of a tile twice over, and of a row of tiles what is not yet full
            kept = 2 * 4 * 3 * scale**2 * min(tile + ramp, shape[0]) * min(tile + ramp, shape[1])
            row = 0 if self.device.startswith("cuda") else 2 * 4 * 3 * target.shape[1] * min(tile, shape[0]) * scale
            reduced = target.shape[0] != shape[0] * scale
            return traits.bytes_per_pixel * shown[0] * shown[1] + kept + (row if reduced or ramp else 0)

        tile = min(most or LARGEST, -(-max(shape[:2]) // step) * step)
        while taken(tile) > _SHARE * left:
            tile -= step
            if tile < SMALLEST:
                raise memory.too_little(left, before + taken(max(SMALLEST, step)) / _SHARE)
        if ramp and traits.reach is not None and tile < max(shape[:2]):
            warn_of(overlap, traits.reach)
        return Layout(tile, overlap, ramp, traits.step), int(before + taken(tile))

    def _once(self, source: NDArray[Any], target: NDArray[Any], grey: bool, layout: Layout) -> dict[str, Any]:
        """Write what the network makes of *source* into *target*, reduced to its size; return what is to be noted."""
        full = _full(source)
        tiles = self._tiles(_reader(source, full), source.shape[:2], layout)
        size = (source.shape[0] * self.network.scale, source.shape[1] * self.network.scale)
        area = None if size == target.shape[:2] else Area(3, size, target.shape[:2])
        for part in tiles:
            if not np.isfinite(part.values).all():
                raise DataError("the network makes values that are no numbers", "its weights are damaged: get others")
            if area is None:
                _write(target, part.top, part.left, part.values, grey, full)
            else:
                top, values = area.add(part.top, part.left, part.values)
                if values.shape[1]:
                    _write(target, top, 0, values, grey, full)
        exact = layout.ramp == 0
        lines = [[round(at * n / m) for at in found] for found, n, m in zip(tiles.lines, target.shape, size)]
        notes = {"tile": layout.tile, "overlap": layout.overlap, "exact": exact, "halved": tiles.halved}
        return notes if exact else {**notes, "seam": round(seams.score(target, *lines), 3)}

    def _tiles(self, read: Read, size: tuple[int, int], layout: Layout) -> Tiles:
        """Return the parts of the result for the picture of *size* that *read* gives."""
        return Tiles(self.network, read, size, layout, self.device)


def _full(pixels: NDArray[Any]) -> int:
    return 255 if pixels.dtype.itemsize == 1 else 65535


def _is_grey(pixels: NDArray[Any]) -> bool:
    for part in spill.parts(pixels):
        if not (np.array_equal(part[..., 0], part[..., 1]) and np.array_equal(part[..., 0], part[..., 2])):
            return False
    return True


def _reader(pixels: NDArray[Any], full: int) -> Read:
    """Return what gives parts of *pixels* to tiles: colours, and for those that nobody sees the ones nearby."""

    def read(rows: slice, columns: slice) -> Floats:
        part = spill.fetch(pixels[rows, columns])
        if pixels.shape[2] == 4 and not part[..., 3].all():
            part = _seen(pixels, rows, columns, full)
        values: Floats = np.multiply(part[..., :3].transpose(2, 0, 1), np.float32(1 / full), dtype=np.float32)
        return values

    return read


def _seen(pixels: NDArray[Any], rows: slice, columns: slice, full: int) -> NDArray[Any]:
    """Return colours at *rows* and *columns* in which what is transparent is the mean of what is seen within _BLEED."""
    import cv2

    starts = [max(0, part.start - _BLEED) for part in (rows, columns)]
    near = spill.fetch(pixels[starts[0] : rows.stop + _BLEED, starts[1] : columns.stop + _BLEED])
    around = near.astype(np.float32)
    window = (2 * _BLEED + 1, 2 * _BLEED + 1)
    weighted, weights = (
        cv2.boxFilter(np.ascontiguousarray(plane), cv2.CV_64F, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
        for plane in (around[..., :3] * around[..., 3:], around[..., 3])
    )
    mean = np.where(weights[..., None] > 0, weighted / np.maximum(weights, 1)[..., None], full / 2)
    colours = np.where(around[..., 3:] > 0, around[..., :3], mean)
    top, left = rows.start - starts[0], columns.start - starts[1]
    kept: NDArray[Any] = colours[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
    return kept


def _write(target: NDArray[Any], top: int, left: int, values: Floats, grey: bool, full: int) -> None:
    """Write (3, rows, columns) *values*, 0…1, to *target* from *top*, *left* on, rounded."""
    if grey:
        values = np.broadcast_to(values.mean(axis=0, keepdims=True), values.shape)
    place = target[top : top + values.shape[1], left : left + values.shape[2]]
    for band in bands(place.shape[0], place.shape[1], _BAND):
        levels = np.rint(np.clip(values[:, band], 0, 1) * np.float32(full))
        spill.store(place[band], levels.transpose(1, 2, 0).astype(target.dtype))


def _enlarge_alpha(pixels: NDArray[Any], result: NDArray[Any]) -> None:
    """Write the alpha of *pixels*, enlarged plainly, into *result*."""
    levels = {value for part in spill.parts(pixels) for value in (part[..., 3].min(), part[..., 3].max())}
    large = None
    if len(levels) > 1:
        alone = spill.made(lambda part: part[..., 3:].repeat(3, axis=2), (*pixels.shape[:2], 3), pixels.dtype, pixels)
        large = plain(alone, result.shape[0], result.shape[1])
    for band in bands(result.shape[0], result.shape[1], _BAND):
        part = spill.fetch(result[band])
        part[..., 3] = min(levels) if large is None else spill.fetch(large[band])[..., 0]
        spill.store(result[band], part)
