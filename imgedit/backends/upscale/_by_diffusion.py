"""Enlarge a picture by a diffusion model: drawn in windows at each step, decoded in tiles, within a memory target."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgedit import spill
from imgedit.backends import memory
from imgedit.backends.diffusion._enlarge import Decoder, Denoiser, step_of
from imgedit.backends.diffusion._load import Loaded
from imgedit.backends.diffusion._memory import Plan
from imgedit.backends.tiles import SMALLEST, Floats, Layout, Read, Tiles
from imgedit.backends.upscale._by_network import Runner, Traits
from imgedit.errors import OutOfMemory
from imgedit.jobs import Resources
from imgedit.ops.bands import bands

#: context round a tile: this part of the side that the model was trained at, and never less, in pixels
_CONTEXT, _LEAST = 8, 8
#: windows that go through the model together where there is memory for them; a single one keeps a CPU busy
_AT_ONCE = {"cuda": 4}
#: values alive for each pixel beside what the model takes: latents, picture, and what the sampler makes of them
_STATE = 48
#: a planned tile takes this share of what it may: allocators round up
_SHARE = 0.85
#: pixels of the picture that are read at a time
_BAND = 1 << 20


class Drawing(Runner):
    """Runs *model* on pictures. *plan*: what it takes of memory; *draw*: makes latents of a picture by a denoiser.

    A tile of the picture is drawn in a window with context on each side, which it shares with the next one.
    """

    def __init__(self, model: Loaded, plan: Plan, draw: Callable[[Denoiser, Floats], Floats]) -> None:
        # a model with attention sees everything: there is nothing to measure
        super().__init__(Decoder(model), model.device, Traits(None, 1, 0.0))
        self._model, self._plan, self._draw = model, plan, draw
        self._denoiser = Denoiser(model, 0, 0)

    def _layout(
        self, shape: tuple[int, ...], target: NDArray[Any], most: int | None, resources: Resources
    ) -> tuple[Layout, int | None]:
        """Return how the latents of a picture of *shape* are decoded, and the bytes in use by then; set the windows."""
        grid, step = self._model.layout.grid, step_of(self._model)
        native = self._model.layout.native // grid
        overlap = resources.overlap if resources.overlap is not None else max(_LEAST, native // _CONTEXT)
        ramp = max(overlap, _LEAST)
        on_gpu = self.device.startswith("cuda")
        held = 0 if on_gpu else spill.in_memory(target)
        left = memory.budget(resources.memory_target_gb, self.device) - held
        state = _STATE * self._model.dtype.itemsize * shape[0] * shape[1] + self._plan.held * self._plan.offload
        row = 0 if on_gpu else 2 * 4 * 3 * target.shape[1] * grid

        def length(tile: int) -> int:
            return -(-(tile + 2 * overlap) // step) * step

        def taken(tile: int) -> tuple[int, float]:
            cells = [min(-(-side // step) * step, length(tile)) * grid for side in shape[:2]]
            shown = [min(side, tile + 2 * overlap + ramp) * grid for side in shape[:2]]
            return self._plan.crop(*cells), self._plan.pixel * shown[0] * shown[1] + row * min(tile + ramp, shape[0])

        tile = max(SMALLEST, most or native - 2 * overlap)
        while state + max(taken(tile)) > _SHARE * left:
            tile -= step
            if tile < SMALLEST:
                needs = memory.in_use(self.device) + held + (state + max(taken(SMALLEST))) / _SHARE
                raise OutOfMemory(
                    f"even the smallest tile needs more memory than there is to take: {memory.as_gb(max(left, 0))} GB",
                    f"--memory-target-gb {math.ceil(needs / memory.GB * 20) / 20:g} would do, if the machine has that",
                )
        window, decoded = taken(tile)
        fit = int((_SHARE * left - state) // max(1, window))
        at_once = max(1, min(_AT_ONCE.get(self.device.partition(":")[0], 1), fit))
        self._denoiser = Denoiser(self._model, length(tile), 2 * overlap, at_once)
        planned = int(memory.in_use(self.device) + held + state + max(at_once * window, decoded))
        if max(shape[:2]) <= length(tile):
            return Layout(max(shape[:2]), 0), planned
        return Layout(tile, overlap, ramp), planned

    def _once(self, source: NDArray[Any], target: NDArray[Any], grey: bool, layout: Layout) -> dict[str, Any]:
        notes = super()._once(source, target, grey, layout)
        denoiser = self._denoiser
        windows = math.prod(len(lines) + 1 for lines in denoiser.lines)
        return {
            **notes,
            "windows": windows,
            "window": denoiser.length,
            "exact": notes["exact"] and windows == 1 and not notes["halved"],
            "halved": notes["halved"] + denoiser.halved,
        }

    def _tiles(self, read: Read, size: tuple[int, int], layout: Layout) -> Tiles:
        picture = np.empty((3, *size), np.float32)
        for band in bands(*size, _BAND):
            picture[:, band] = read(band, slice(0, size[1]))
        latents = self._draw(self._denoiser, picture)
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
