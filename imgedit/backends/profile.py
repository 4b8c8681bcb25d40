"""What a backend takes: time and memory over sizes of pictures and tiles."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgedit.backends import memory
from imgedit.jobs import Resources


def enlarging(
    backend: Any, sizes: Sequence[int], tiles: Sequence[int | None], scale: float, target: float | None
) -> Iterator[dict[str, Any]]:
    """Yield a row for each side in *sizes* and each of *tiles* that is smaller, in pixels: seconds and bytes in use.

    *backend*: an adapted upscaler; a tile of None is planned. *target*: memory target, 10⁹ bytes. Each is run once on a
    picture with texture, after one that is not counted: what is loaded and measured once is no part of the rows.
    """
    tiled = getattr(backend, "tiled", False)
    # a tile that is asked for has the network measured, once for all rows
    _run(backend, _picture(64), scale, Resources(target, 32))
    for size in sizes:
        picture = _picture(size)
        planned: Any = None
        for tile in tiles if tiled else [None]:
            if tile is not None and (tile >= size or planned is None):
                continue  # a backend with tiles of its own says none
            memory.give_back()
            with memory.Watch() as watch:
                wall, processor = time.perf_counter(), time.process_time()
                notes = _run(backend, picture, scale, Resources(target, tile))
                wall, processor = time.perf_counter() - wall, time.process_time() - processor
            planned = notes.get("tile") if tile is None else planned
            pixels = size * size * scale**2
            yield {
                "rows": size,
                "columns": size,
                "scale": scale,
                "tile": notes.get("tile"),
                "overlap": notes.get("overlap"),
                "seconds": round(wall, 3),
                "cpu_seconds": round(processor, 3),
                "megapixels_per_second": round(pixels / 1e6 / max(wall, 1e-9), 4),
                "peak_gb": notes.get("memory", {}).get("measured_gb", memory.as_gb(watch.peak)),
                "taken_gb": memory.as_gb(watch.taken),
            }


def _run(backend: Any, picture: NDArray[Any], scale: float, resources: Resources) -> dict[str, Any]:
    size = round(picture.shape[0] * scale)
    return dict(backend.upscale(picture, size, size, resources=resources).notes)


def _picture(size: int) -> NDArray[np.uint8]:
    """Return (size, size, 3) pixels with edges and noise, the same each time."""
    random = np.random.default_rng(size)
    y, x = np.mgrid[:size, :size]
    shapes = 128 + 90 * np.sin(x / 9)[..., None] * np.cos(y[..., None] / np.array((7, 11, 17)))
    noisy: NDArray[Any] = np.clip(shapes + random.normal(0, 6, (size, size, 3)), 0, 255)
    return noisy.astype(np.uint8)
