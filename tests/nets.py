"""Small networks for tests of tiles: some whose reach is known, some of real architectures with seeded weights."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np


class Shifting:
    """Sums each pixel and the one *distance* above, below, left and right of it: its reach is known exactly."""

    channels = 3

    def __init__(self, distance: int = 3, scale: int = 2, multiple: int = 1, smallest: int = 1) -> None:
        self.distance, self.scale, self.multiple, self.smallest = distance, scale, multiple, smallest
        self.calls = 0
        self.largest = 0
        #: numbers of calls that run out of memory
        self.fail: set[int] = set()
        self.error: type[Exception] = MemoryError

    def __call__(self, window: Any) -> Any:
        self.calls += 1
        self.largest = max(self.largest, *window.shape[1:])
        if self.calls in self.fail:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        assert window.dtype == np.float32
        assert all(side % self.multiple == 0 and side >= self.smallest for side in window.shape[1:])
        n = self.distance
        # zeros beyond the edges, as convolutions have them
        wide = np.pad(window, ((0, 0), (n, n), (n, n)))
        rows, columns = window.shape[1:]
        total = sum(
            weight * wide[:, down : down + rows, across : across + columns]
            for weight, down, across in ((0.4, n, n), (0.2, 0, n), (0.1, 2 * n, n), (0.2, n, 0), (0.1, n, 2 * n))
        )
        return total.repeat(self.scale, axis=1).repeat(self.scale, axis=2).astype(np.float32)


class Knowing(Shifting):
    """Also adds a share of the mean of all that it sees."""

    def __call__(self, window: Any) -> Any:
        return super().__call__(window) * np.float32(0.8) + np.float32(0.2) * window.mean(dtype=np.float32)


class Windowed(Shifting):
    """Takes means over windows that it lays out from the corner of what it sees."""

    def __call__(self, window: Any) -> Any:
        values = super().__call__(window)
        side = 8 * self.scale
        for top in range(0, values.shape[1], side):
            for left in range(0, values.shape[2], side):
                part = values[:, top : top + side, left : left + side]
                part += part.mean(axis=(1, 2), keepdims=True)
        return values / 2


#: name → (module of spandrel's architectures, class, arguments)
REAL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "esrgan4": ("ESRGAN.__arch.RRDB", "RRDBNet", {"num_filters": 8, "num_blocks": 2, "scale": 4}),
    "unshuffled2": (
        "ESRGAN.__arch.RRDB",
        "RRDBNet",
        {"num_filters": 8, "num_blocks": 1, "scale": 2, "shuffle_factor": 2},
    ),
    "compact2": ("Compact.__arch.SRVGG", "SRVGGNetCompact", {"num_feat": 8, "num_conv": 3, "upscale": 2}),
    "compact4": ("Compact.__arch.SRVGG", "SRVGGNetCompact", {"num_feat": 8, "num_conv": 3, "upscale": 4}),
    "grey2": (
        "Compact.__arch.SRVGG",
        "SRVGGNetCompact",
        {"num_in_ch": 1, "num_out_ch": 1, "num_feat": 8, "num_conv": 3, "upscale": 2},
    ),
    "swinir2": (
        "SwinIR.__arch.SwinIR",
        "SwinIR",
        {
            "embed_dim": 12,
            "depths": [2],
            "num_heads": [2],
            "window_size": 8,
            "upscale": 2,
            "upsampler": "pixelshuffle",
        },
    ),
    "hat2": (
        "HAT.__arch.HAT",
        "HAT",
        {
            "embed_dim": 12,
            "depths": (2,),
            "num_heads": (2,),
            "window_size": 8,
            "upscale": 2,
            "upsampler": "pixelshuffle",
            "squeeze_factor": 6,
        },
    ),
    "dat2": (
        "DAT.__arch.DAT",
        "DAT",
        {"embed_dim": 16, "depth": [2], "num_heads": [2], "split_size": [8, 8], "upscale": 2},
    ),
}


def real(name: str, folder: Path) -> Path:
    """Return a file of seeded random weights for one of REAL, in *folder*."""
    import torch
    from safetensors.torch import save_file

    path = folder / f"{name}.safetensors"
    if not path.exists():
        module, kind, arguments = REAL[name]
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")  # of the architectures' own code
            torch.manual_seed(7)
            network = getattr(importlib.import_module(f"spandrel.architectures.{module}"), kind)(**arguments)
            save_file({key: value.clone().contiguous() for key, value in network.state_dict().items()}, path)
    return path
