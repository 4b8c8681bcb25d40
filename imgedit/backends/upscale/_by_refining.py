"""Run what refines the deterministic result on pictures of any size: in tiles, several at once, within a target."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from imgedit import spill
from imgedit.backends import memory
from imgedit.backends.tiles import SMALLEST, Floats, Parts, up, warn_of
from imgedit.jobs import Enlarged, Resources
from imgedit.ops import seams
from imgedit.ops.refine import TILE, Beyond, Network, Refined
from imgedit.ops.residual import SEED

#: tiles at work at once, at most: each needs memory
_THREADS = 4
#: bytes taken per small pixel shown, and for a tile besides, by the network's scale: measured on tiles of 64 to 192
_BYTES_PER_PIXEL = {2: 1900, 3: 2600, 4: 3600}
_BYTES = 14 << 20
#: small pixels over which tiles are blended where they are shown less than they depend on
_RAMP = 32
#: a planned tile takes this share of what it may: allocators round up
_SHARE = 0.85
#: tiles that are planned are multiples of this, small pixels
_STEP = 16


class Refining(Parts):
    """The parts of what *refined* makes, tiles of *tile* small pixels; *ramp*: small pixels in which they are blended.

    They are laid on the result, whose size need not be a multiple of the picture's.
    """

    def __init__(self, refined: Refined, tile: int = TILE, *, ramp: int = 0, workers: int = 1) -> None:
        self._refined, self._ratio = refined, min(refined.ratios)
        step = refined.step
        side = max(step, int(tile * self._ratio) // step * step)
        super().__init__(
            refined.size,
            side,
            step=step,
            # what is blended begins at multiples of the step too
            ramp=min(up(ramp * refined.scale, 2 * step), side // (2 * step) * 2 * step),
            least=max(step, int(SMALLEST * self._ratio)),
            workers=workers,
        )

    def _starts(self, size: int) -> list[int]:
        # where rounding falls in the last bit depends on the tiles: these do not move when a picture grows
        return list(range(0, size, self._limit))

    def _once(self, rows: range, columns: range) -> Floats:
        return self._refined.levels(rows, columns)


def enlarge(
    pixels: NDArray[Any],
    rows: int,
    columns: int,
    network: Network,
    sharpen: float = SEED,
    beyond: Beyond = Beyond(),  # noqa: B008 - frozen
    resources: Resources = Resources(),  # noqa: B008 - frozen
) -> Enlarged:
    """Return (rows, columns, 3 or 4) *pixels* enlarged to *rows* × *columns* as :class:`Refined` does it.

    The notes say how it was cut, and the memory that was planned and measured. Raises OutOfMemory where the memory
    target is too small for the smallest tile.
    """
    result = spill.empty((rows, columns, pixels.shape[2]), pixels.dtype)
    if pixels.shape == result.shape:
        spill.copy(pixels, result)
        return Enlarged(result, {})
    refined = Refined(pixels, (rows, columns), network, sharpen, beyond, resources.overlap)
    overlap = refined.context if resources.overlap is None else resources.overlap
    exact = overlap >= refined.context
    target = resources.memory_target_gb
    if target is not None:
        memory.give_back()
    tile, workers, planned = _plan(refined, pixels.shape, spill.in_memory(result), overlap, resources)
    if not exact and tile < max(pixels.shape[:2]):
        warn_of(overlap, refined.context)
    parts = Refining(refined, tile, ramp=0 if exact else _RAMP, workers=workers)
    with memory.Watch() as watch:
        for part in parts:
            refined.write(result, part.values, part.top, part.left)
    if target is not None:
        # what comes after has the same target
        memory.give_back()
    notes: dict[str, Any] = {"tile": tile, "overlap": overlap, "exact": exact, "halved": parts.halved}
    if not exact:
        notes["seam"] = round(seams.score(result, *parts.lines), 3)
    found = {"target_gb": target, "planned_gb": memory.as_gb(planned), "measured_gb": memory.as_gb(watch.peak)}
    return Enlarged(result, {**notes, "memory": found})


def _plan(
    refined: Refined, shape: tuple[int, ...], held: int, overlap: int, resources: Resources
) -> tuple[int, int, int]:
    """Return side of a tile, how many are at work at once, and bytes in use by then, for a picture of *shape*.

    Of what fits into memory that which is done soonest: small tiles do most of their work on what is around them.
    """
    import cv2

    left = memory.budget(resources.memory_target_gb) - held
    most = min(resources.coarse_tile or TILE, up(max(shape[:2]), _STEP))
    each = _BYTES_PER_PIXEL[refined.scale]

    def taken(tile: int, workers: int) -> int:
        shown = [min(side, tile + 2 * overlap) for side in shape[:2]]
        # beside what is at work, what is done and waits
        waits = 4 * shape[2] * int(refined.scale**2) * tile * tile
        return workers * (each * shown[0] * shown[1] + waits + _BYTES)

    def worth(plan: tuple[int, int]) -> float:
        tile, workers = plan
        return workers * (tile / (tile + 2 * overlap)) ** 2

    tiles = [most, *range(most // _STEP * _STEP, SMALLEST - 1, -_STEP)]
    workers = range(max(1, min(cv2.getNumThreads(), _THREADS)), 0, -1)
    plans = [(tile, count) for count in workers for tile in tiles if taken(tile, count) <= _SHARE * left]
    if not plans:
        needs = memory.in_use() + held + taken(min(tiles), 1) / _SHARE
        raise memory.too_little(left, needs)
    tile, count = max(plans, key=worth)
    return tile, count, memory.in_use() + held + taken(tile, count)
