"""Enlarge a picture by a diffusion model: drawn in windows at each step, decoded in tiles, within a memory target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgedit import spill
from imgedit.backends import memory
from imgedit.backends.diffusion import _windows
from imgedit.backends.diffusion._enlarge import Decoder, Denoiser, step_of
from imgedit.backends.diffusion._load import Loaded
from imgedit.backends.diffusion._memory import Plan
from imgedit.backends.tiles import SMALLEST, Floats, Layout, Read, Tiles
from imgedit.backends.upscale._by_network import Runner, Traits
from imgedit.jobs import Resources
from imgedit.ops.bands import bands

#: context round a tile: this part of the side that the model was trained at, and never less, in pixels
_CONTEXT, _LEAST = 8, 8
#: a picture up to this many times as wide as what the model was trained at goes through it as a whole
_WHOLE = 3
#: windows over a larger one are at most so many times as wide. They, and the tiles in which it is decoded, take at most
#: this share of what the whole would, guided and decoded at once: the fewer and larger, the less is computed twice
_WIDEST, _OF_WHOLE = 6, 0.42
#: samples that go through the model together where there is memory for them, under guidance two for each window; a
#: single one keeps a CPU busy, and two after the other take half the memory of both
_AT_ONCE = {"cuda": 8}
#: values alive for each pixel beside what the model takes: latents, picture, and what the sampler makes of them
_STATE = 48
#: a planned tile takes this share of what it may: allocators round up
_SHARE = 0.85
#: pixels of the picture that are read at a time
_BAND = 1 << 20


@dataclass(frozen=True, slots=True)
class _Needs:
    """What windows and tiles over a picture of *shape* take, in bytes.

    *overlap*: pixels on each side of a tile; *ramp*: pixels over which tiles are blended; *row*: bytes for each row of
    tiles that is not yet full.
    """

    plan: Plan
    shape: tuple[int, int]
    step: int
    overlap: int
    ramp: int
    row: int

    @property
    def sides(self) -> tuple[int, int]:
        """The picture filled up to what the UNet takes."""
        rows, columns = (-(-side // self.step) * self.step for side in self.shape)
        return rows, columns

    @property
    def whole(self) -> int:
        """All in a single pass, under guidance."""
        sides = [side * self.plan.grid for side in self.sides]
        return max(self.plan.crop(*sides), self.plan.pixel * math.prod(sides))

    def length(self, tile: int) -> int:
        """Return the length of windows at most."""
        return -(-(tile + 2 * self.overlap) // self.step) * self.step

    def window(self, tile: int) -> tuple[int, int]:
        down, across = (
            _windows.along(side, self.length(tile), 2 * self.overlap, self.step).length for side in self.sides
        )
        return down, across

    def drawn(self, rows: int, columns: int) -> int:
        """Return what a sample of a window takes in the UNet."""
        return self.plan.sample(rows * self.plan.grid, columns * self.plan.grid)

    def decoded(self, tile: int) -> int:
        """Return what a tile takes in the VAE."""
        shown = [(side if self.undivided(tile) else self._shown(side, tile)) * self.plan.grid for side in self.shape]
        return self.plan.pixel * math.prod(shown) + self.row * min(tile + self.ramp, self.shape[0])

    def undivided(self, tile: int) -> bool:
        """Return whether the picture is decoded whole: with its context a tile would reach over all of it."""
        return max(self.shape) <= self.length(tile)

    def _shown(self, side: int, tile: int) -> int:
        """Return how much the VAE is shown of a side at most: tiles are even, and those at the edges have context on
        one side alone."""
        count = -(-side // tile)
        beyond = self.overlap + -(-self.ramp // 2)
        return min(side, -(-side // count) + min(count - 1, 2) * beyond)

    def most(self, tile: int) -> int:
        """Return the more of both."""
        return max(self.drawn(*self.window(tile)), self.decoded(tile))


class Drawing(Runner):
    """Runs *model* on pictures. *plan*: what it takes of memory; *draw*: makes latents of a picture by a denoiser.

    A tile of the picture is drawn in a window with context on each side, which it shares with the next one.
    """

    def __init__(self, model: Loaded, plan: Plan, draw: Callable[[Denoiser, Floats], Floats]) -> None:
        # a model with attention sees everything: there is nothing to measure
        super().__init__(Decoder(model), model.device, Traits(None, 1, 0.0))
        self._model, self._plan, self._draw = model, plan, draw
        self._denoiser = Denoiser(model, (0, 0), 0)

    def _layout(
        self, shape: tuple[int, ...], target: NDArray[Any], most: int | None, resources: Resources
    ) -> tuple[Layout, int | None]:
        """Return how the latents of a picture of *shape* are decoded, and the bytes in use by then; set the windows."""
        grid, on_gpu = self._model.layout.grid, self.device.startswith("cuda")
        native = self._model.layout.native // grid
        overlap = resources.overlap if resources.overlap is not None else max(_LEAST, native // _CONTEXT)
        row = 0 if on_gpu else 2 * 4 * 3 * target.shape[1] * grid
        needs = _Needs(self._plan, (shape[0], shape[1]), step_of(self._model), overlap, max(overlap, _LEAST), row)
        held = 0 if on_gpu else spill.in_memory(target)
        left = memory.budget(resources.memory_target_gb, self.device) - held
        state = _STATE * self._model.dtype.itemsize * shape[0] * shape[1] + self._plan.held * self._plan.offload
        room = int(_SHARE * left - state)

        tile = max(SMALLEST, most or _WHOLE * native - 2 * overlap)
        while needs.most(tile) > room:
            tile -= needs.step
            if tile < SMALLEST:
                wanted = memory.in_use(self.device) + held + (state + needs.most(SMALLEST)) / _SHARE
                raise memory.too_little(left, wanted)
        window = needs.window(tile)
        if most is None and window == needs.sides:
            room = min(room, needs.whole)
        elif most is None:
            room = min(room, max(int(_OF_WHOLE * needs.whole), needs.drawn(*window)))
            window = _windows.fewest(
                needs.sides,
                lambda rows, columns: max(rows, columns) <= _WIDEST * native and needs.drawn(rows, columns) <= room,
                2 * overlap,
                needs.step,
                window,
            )
            while tile - needs.step >= max(native, SMALLEST) and needs.decoded(tile) > room:
                tile -= needs.step
        fit = room // max(1, needs.drawn(*window))
        at_once = max(1, min(_AT_ONCE.get(self.device.partition(":")[0], 1), fit))
        self._denoiser = Denoiser(self._model, window, 2 * overlap, at_once)
        taken = max(at_once * needs.drawn(*window), needs.decoded(tile))
        planned = int(memory.in_use(self.device) + held + state + taken)
        if needs.undivided(tile):
            return Layout(max(shape[:2]), 0), planned
        return Layout(tile, overlap, needs.ramp), planned

    def _once(self, source: NDArray[Any], target: NDArray[Any], grey: bool, layout: Layout) -> dict[str, Any]:
        notes = super()._once(source, target, grey, layout)
        denoiser = self._denoiser
        windows = math.prod(len(lines) + 1 for lines in denoiser.lines)
        return {
            **notes,
            "windows": windows,
            "window": max(denoiser.lengths),
            "exact": notes["exact"] and windows == 1 and not notes["halved"],
            "halved": notes["halved"] + denoiser.halved,
        }

    def _tiles(self, read: Read, size: tuple[int, int], layout: Layout) -> Tiles:
        picture = np.empty((3, *size), np.float32)
        for band in bands(*size, _BAND):
            picture[:, band] = read(band, slice(0, size[1]))
        latents = self._draw(self._denoiser, picture)
        # what the UNet took in many small pieces is not what the VAE can use
        memory.give_back(self.device, search=False)
        tiles = _Decoded(self.network, lambda rows, columns: latents[:, rows, columns], size, layout, self.device)
        tiles.windows = self._denoiser.lines
        return tiles


class _Decoded(Tiles):
    """Tiles of latents that were drawn in windows: their lines count as well."""

    windows: tuple[list[int], list[int]] = ([], [])

    @property
    def lines(self) -> tuple[list[int], list[int]]:
        scale = self.network.scale
        rows, columns = (
            sorted({*own, *(line * scale for line in drawn)}) for own, drawn in zip(super().lines, self.windows)
        )
        return rows, columns
