"""Upscale backend: any super-resolution network in a file that spandrel knows: ESRGAN, Compact, SwinIR, HAT, DAT …"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from imgedit.backends import networks
    from imgedit.backends.tiles import Floats
    from imgedit.frame import Pixels
    from imgedit.jobs import Enlarged, Resources


class Spandrel:
    """Enlarges by the network, tile by tile, to any size: its own scale and the one asked for are two things."""

    summary: ClassVar[str] = "a network from a file, spandrel:FILE: ESRGAN, Compact, SwinIR, HAT, DAT and others"
    requires: ClassVar[tuple[str, ...]] = ("torch", "spandrel", "safetensors")
    extra: ClassVar[str] = "models"
    deterministic: ClassVar[bool] = True
    native_scale: ClassVar[int | None] = None
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)
    takes_file: ClassVar[bool] = True
    uses: ClassVar[str] = "upscale --backend spandrel:FILE"
    tiled: ClassVar[bool] = True

    def __init__(self, file: str) -> None:
        from imgedit.backends import networks
        from imgedit.backends.upscale._by_network import Runner
        from imgedit.errors import DataError

        network = networks.load(file, "upscale")
        if network.scale < 2:
            raise DataError(f"{network.name} is of scale {network.scale}: it does not enlarge", "give another network")
        if network.channels not in ((3, 3), (1, 1)):
            raise DataError(
                f"{network.name} takes {network.channels[0]} channels and gives {network.channels[1]}",
                "give a network for pictures in colour or in grey",
            )
        self.fingerprint: dict[str, str] = network.fingerprint
        self._runner = Runner(_Run(network), network.device)

    def upscale(self, pixels: Pixels, rows: int, columns: int, *, sharpen: float, resources: Resources) -> Enlarged:
        """Return *pixels* (rows, columns, 3 or 4) enlarged to *rows* × *columns*, same dtype, centre-aligned.

        *sharpen* has no meaning here: the network says how sharp the result is. Raises UsageError where the result
        would be smaller than *pixels*, OutOfMemory, and DataError where the network gives values that are no numbers.
        """
        return self._runner.enlarge(pixels, rows, columns, resources)


class _Run:
    """The network as tiles are run on it; one for grey pictures sees the channels one by one."""

    channels = 3

    def __init__(self, network: networks.Network) -> None:
        self._network = network
        self.scale, self.multiple, self.smallest = network.scale, network.multiple_of, max(1, network.minimum)

    def __call__(self, window: Floats) -> Floats:
        import torch

        rows, columns = window.shape[1:]
        if self._network.square and rows != columns:
            side = max(rows, columns)
            window = np.pad(window, ((0, 0), (0, side - rows), (0, side - columns)), mode="edge")
        given = torch.from_numpy(window).to(self._network.device)
        with torch.inference_mode(), _repeatable():
            result = self._network.descriptor(given[None] if self._network.channels[0] == 3 else given[:, None])
            found = result.float().cpu().numpy().reshape(3, *result.shape[2:])
        return np.asarray(found[:, : rows * self.scale, : columns * self.scale], np.float32)


def _repeatable() -> Any:
    """Return a context in which CUDA takes the same way through a network each time."""
    import torch

    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
