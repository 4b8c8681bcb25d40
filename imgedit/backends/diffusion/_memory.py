"""How a diffusion model fits into memory: planned from the sizes in its files before any weights are read.

The numbers of values that are alive at once were counted on SD 1.5 and XL at full size, on tensors without storage,
with attention that keeps no matrix of all pairs (as torch's does on CUDA and on a CPU). They are proportional to the
crop: in the UNet 8330 a latent cell and sample for SD 1.5 (within 26 × its first width), and where its first level does
not attend 5060 for XL and 3904 for SD ×4 (within 16 ×), in the VAE 768 a pixel to decode (3 × its second width) and
643 to encode (5 × its first). What a CPU really took grew 1.3 times (UNet) and 1.45 times (VAE) as fast with the crop,
beside 0.1 GB that its libraries take for themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgedit.backends import memory
from imgedit.errors import OutOfMemory
from imgedit.models import weights

if TYPE_CHECKING:
    from imgedit.backends.diffusion._layout import Layout

#: values alive in the UNet, for each latent cell and sample, as multiples of the width of its first level, and where
#: that has no attention
_UNET, _PLAIN_UNET = 26, 16
#: values alive in the VAE, for each pixel, as multiples of the width of its first level and its second
_ENCODE, _DECODE = 5, 3
#: what is taken for each value that is alive: allocators round up, and convolutions rearrange what they are given
_REAL = 1.45
#: with guidance each crop goes through the UNet twice, with and without the prompt
_SAMPLES = 2
#: what libraries take beside weights and activations, bytes: workspaces, kernels, and what allocators round up
_BESIDE = {"cuda": 700_000_000, "mps": 500_000_000, "cpu": 400_000_000}
#: more crops at once than this gain nothing
MOST = 16
#: of what is free, without a target
_SHARE = 0.9
#: pixels a side that the VAE takes at once where it works in tiles, if its configuration says nothing
_TILE = 512
#: attention that keeps the matrix of all pairs: heads that hold it at once
_HEADS = 8
#: parts of names in a single file → component
_IN_FILE = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is run on a device. *budget*: bytes that it may take; *held*: bytes of weights on the device at once.

    *offload*: only the component that works is on the device, the others wait in the memory of the machine (CUDA).
    *attention_slicing*: one attention head after another, where attention keeps the matrix of all pairs (MPS).
    *vae_tiling*: the VAE works in tiles. It takes one crop at a time in any case; the UNet takes what `most` says.
    """

    budget: int
    held: int
    beside: int
    offload: bool
    attention_slicing: bool
    vae_tiling: bool
    cell: int
    pixel: int
    grid: int
    pairs: int
    tile: int

    def sample(self, rows: int, columns: int) -> int:
        """Return the bytes that a crop of this size takes in the UNet where it goes through it once."""
        cells = rows * columns // self.grid**2
        return cells * self.cell + (1 if self.attention_slicing else _HEADS) * cells**2 * self.pairs

    def crop(self, rows: int, columns: int) -> int:
        """Return the bytes that one more crop of this size takes in the UNet, with guidance."""
        return _SAMPLES * self.sample(rows, columns)

    def needs(self, rows: int, columns: int) -> int:
        """Return the bytes that a single crop of this size takes with all that is held beside it."""
        side = self.tile if self.vae_tiling else max(rows, columns)
        vae = min(rows, side) * min(columns, side) * self.pixel
        return self.held + self.beside + max(self.crop(rows, columns), vae)

    def most(self, rows: int, columns: int) -> int:
        """Return how many crops of this size may go through the UNet at once, at least 1."""
        room = self.budget - self.held - self.beside
        return max(1, min(MOST, room // max(1, self.crop(rows, columns))))


def plan(
    layout: Layout, device: str, itemsize: int, vae_itemsize: int, target_gb: float | None, side: int | None = None
) -> Plan:
    """Return how to run a model within what the process may take; made before it is loaded, and kept while it is.

    *itemsize*, *vae_itemsize*: bytes per value in which the UNet and the VAE compute. *target_gb*: what the process
    may hold in all, 10⁹ bytes; without one, most of what is free. What costs least time is taken of what fits.
    *side*: of the crop that must fit, pixels; None: the native one.

    Raises OutOfMemory, with what is needed, where one crop of that size does not fit in any way.
    """
    budget = memory.budget(target_gb, device) if target_gb is not None else int(_SHARE * memory.available(device))
    values = sizes(layout)
    parts = [count * (vae_itemsize if name == "vae" else itemsize) for name, count in values.items()]
    unet, vae = layout.config("unet"), layout.config("vae")
    # where no configuration says it, the widths of the usual ones
    width, (first, second) = (_widths(unet) or [320])[0], (_widths(vae) * 2 or [128, 256])[:2]
    blocks = unet.get("down_block_types")
    alive = _PLAIN_UNET if isinstance(blocks, list | tuple) and blocks and blocks[0] == "DownBlock2D" else _UNET
    kind = device.partition(":")[0]

    def made(*, offload: bool, sliced: bool, tiled: bool) -> Plan:
        return Plan(
            budget=budget,
            held=max(parts, default=0) if offload else sum(parts),
            beside=_BESIDE.get(kind, 0),
            offload=offload,
            attention_slicing=sliced,
            vae_tiling=tiled,
            cell=int(_REAL * alive * width * itemsize),
            pixel=int(_REAL * max(_ENCODE * first, _DECODE * second) * vae_itemsize),
            grid=layout.grid or 8,
            pairs=itemsize if kind == "mps" else 0,
            tile=int(vae.get("sample_size") or _TILE),
        )

    ways = [
        made(offload=offload, sliced=less and kind == "mps", tiled=less)
        for offload in ((False, True) if kind == "cuda" else (False,))
        for less in (False, True)
    ]
    side = side or layout.native
    found = next((way for way in ways if way.needs(side, side) <= budget), None)
    if found is None:
        needed = ways[-1].needs(side, side)
        room = f"{memory.said(budget)} may be taken"
        if target_gb is not None:
            room = f"--memory-target-gb {target_gb:g} leaves {memory.said(budget)} beside what is in use"
        raise OutOfMemory(
            f"the model {layout.located.name!r:.200} needs about {memory.said(needed)} on {device} "
            f"at {side}×{side}, and {room}",
            _hint(target_gb, needed + memory.in_use(device), itemsize),
        )
    return found


def _hint(target_gb: float | None, needed: int, itemsize: int) -> str:
    less = "--dtype bfloat16 takes half of it; " if itemsize == 4 else ""
    enough = math.ceil(needed / 1e8 + 1) / 10  # a tenth more: what is in use grows until it is asked again
    more = f"--memory-target-gb {enough:.1f} where there is as much; " if target_gb is not None else ""
    return f"{more}{less}or free some memory; imgedit erase fills without a model"


def sizes(layout: Layout) -> dict[str, int]:
    """Return component → how many values its weights have, from the headers of the files alone."""
    if not layout.located.single:
        return {
            name: sum(weights.header(file).values for file in files) for name, files in layout.located.files.items()
        }
    found = dict.fromkeys(("unet", "vae", "text_encoder"), 0)
    for name, shape in weights.header(layout.located.path).shapes.items():
        count = math.prod(shape)
        part = next((part for part, prefix in _IN_FILE.items() if name.startswith(prefix)), "text_encoder")
        found[part] += count
    return found


def _widths(config: Mapping[str, object]) -> list[int]:
    found = config.get("block_out_channels")
    return [int(width) for width in found] if isinstance(found, list | tuple) else []
