"""What a stage asks of a backend that works on many crops at once, and what comes back: frozen values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgedit.frame import Pixels, Plane


@dataclass(frozen=True, slots=True)
class Sampling:
    """All that decides a synthesis but the crop; crops of equal sampling and size can share a forward pass.

    *model*: a Hub id, a folder or a single file. *scheduler*: ``ddim`` with *steps*, or ``ddim:30,ddpm:20``.
    *strength*: share of the noise schedule that is run, 0…1. *latents*: take a sample of the encoder's distribution,
    or its mean. *dilate_cells*: latent cells by which the mask is grown beyond those that it touches.
    *recenter*: move the latents to the mean and standard deviation of *profile* (a file that `imgedit calibrate`
    wrote): beyond its tolerance (auto), always (on), never (off); *strict*: refuse what is beyond it instead.
    *consistency*: a file that `imgedit calibrate-prompts` wrote; prompts go through it. *device*, *dtype*: what torch
    calls them, or auto. *memory_target_gb*: what the process may take, None for what is free.
    """

    model: str
    prompt: str = ""
    negative_prompt: str = ""
    guidance_scale: float = 7.5
    strength: float = 1.0
    steps: int = 50
    scheduler: str = "ddim"
    latents: str = "sample"
    dilate_cells: int = 0
    recenter: str = "auto"
    profile: str | None = None
    strict: bool = False
    consistency: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    memory_target_gb: float | None = None


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a model asks of crops: *native*, the side in pixels that it was trained at; *grid*, pixels per latent cell;
    *multiple_of*, what rows and columns must be a multiple of, pixels."""

    native: int
    grid: int
    multiple_of: int


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A part of a picture in the model's size: (rows, columns, 3) uint8 or uint16 pixels, (rows, columns) uint8 mask
    (above 0: to be invented), and the seed of its noise."""

    pixels: Pixels
    mask: Plane
    seed: int


@dataclass(frozen=True, slots=True)
class Ask:
    """What a stage that is a generator yields; it is sent one :class:`Synthesized` for each of the crops."""

    sampling: Sampling
    crops: Sequence[Crop]


class Synthesized(NamedTuple):
    """What a model made of one crop: (rows, columns, 3) float32 *pixels*, 0…1, before anything is composited, and
    what the step records: JSON-like *notes*."""

    pixels: NDArray[np.float32]
    notes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resources:
    """What enlarging may take. *memory_target_gb*: what the process may hold, in 10⁹ bytes; None: half of what is free.

    *coarse_tile*, *refine_tile*: side of the tiles, in pixels of what they are cut from, of a network's first pass and
    of those over its own result; *overlap*: context round a tile; None: as is planned and measured.
    """

    memory_target_gb: float | None = None
    coarse_tile: int | None = None
    refine_tile: int | None = None
    overlap: int | None = None


class Enlarged(NamedTuple):
    """An enlarged picture, and how it was made (for the step's notes)."""

    pixels: Pixels
    notes: Mapping[str, Any]
