"""Fill backend: a masked-image network from a file of weights: LaMa, and what else spandrel knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imgedit.backends.protocols import Filled

if TYPE_CHECKING:
    from imgedit.backends.networks import Network
    from imgedit.frame import Pixels, Plane

#: pixels of a crop up to which a network sees it as it is; a larger one is halved until it fits: these networks were
#: trained on some hundred pixels a side; LaMa takes 0.75 kB a pixel
LARGEST = 1_500_000


class Spandrel:
    """Fills a crop in one pass of the network; known pixels stay, and what the hole held is not looked at."""

    summary: ClassVar[str] = "a network from a file, spandrel:FILE: LaMa and other masked-image networks"
    requires: ClassVar[tuple[str, ...]] = ("torch", "spandrel", "safetensors")
    extra: ClassVar[str] = "models"
    deterministic: ClassVar[bool] = True
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)
    takes_file: ClassVar[bool] = True
    uses: ClassVar[str] = "erase --backend spandrel:FILE"

    def __init__(self, file: str) -> None:
        from imgedit.backends import networks

        self.network: Network = networks.load(file, "fill")
        if self.network.channels != (3, 3):
            from imgedit.errors import DataError

            raise DataError(
                f"{self.network.name} takes {self.network.channels[0]} channels and gives {self.network.channels[1]}",
                "give a network for pictures in colour",
            )

    @property
    def fingerprint(self) -> dict[str, str]:
        """Architecture, file and digest of the network, for the record of the step."""
        return self.network.fingerprint

    def fill(self, pixels: Pixels, mask: Plane, *, seed: int) -> Filled:
        """Return *pixels* with the network's fill where *mask* > 0, rounded from float32; grey stays grey."""
        from imgedit.ops.reduced import half, levels_of

        hole = mask > 0
        levels, small, times = levels_of(pixels, hole), hole, 1
        while small.size > LARGEST:
            levels, small = half(levels, small)
            times *= 2
        filled = self._run(levels[..., :3] / np.float32(255), small)
        if times > 1:
            import cv2

            size = (filled.shape[1] * times, filled.shape[0] * times)
            filled = np.asarray(cv2.resize(filled, size, interpolation=cv2.INTER_CUBIC))
            filled = filled[: hole.shape[0], : hole.shape[1]]
        values = filled[hole]
        known = pixels[~hole]
        if known.size and (known == known[:, :1]).all():
            values = values.mean(axis=1, keepdims=True)
        out = pixels.copy()
        out[hole] = np.rint(np.clip(values, 0, 1) * np.float32(np.iinfo(pixels.dtype).max))
        name = f"{self.network.architecture} {self.network.name}"
        return Filled(out, "spandrel", name if times == 1 else f"{name}; worked on at 1/{times} of the scale")

    def _run(self, pixels: NDArray[np.float32], hole: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the network's result for (rows, columns, 3) *pixels* in 0…1, of which those in the *hole* are 0."""
        import torch

        from imgedit.backends import memory
        from imgedit.errors import DataError, OutOfMemory

        rows, columns = hole.shape
        more = self._more(rows, columns)
        # mirrored, and not as black: what lies beyond the crop looks like what is in it
        image = np.ascontiguousarray(np.pad(pixels, (*more, (0, 0)), mode="symmetric").transpose(2, 0, 1)[None])
        mask = np.pad(hole, more, mode="symmetric").astype(np.float32)[None, None]
        device = self.network.device
        try:
            with torch.inference_mode(), _repeatable():
                result = self.network.descriptor(torch.from_numpy(image).to(device), torch.from_numpy(mask).to(device))
                filled = result[0].float().cpu().numpy().transpose(1, 2, 0)[:rows, :columns]
        except Exception as error:
            if not memory.is_lack(error):
                raise
            raise OutOfMemory(
                f"{self.network.name} ran out of memory on {columns}×{rows} pixels",
                "show it less: a smaller --margin, or holes one at a time; or free some memory",
            ) from error
        if not np.isfinite(filled).all():
            raise DataError(f"{self.network.name} gives no finite numbers", "its weights are damaged: get them again")
        return np.asarray(filled, np.float32)

    def _more(self, rows: int, columns: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the rows and columns to add below and on the right, so that the network takes the crop."""
        step, least = self.network.multiple_of, self.network.minimum
        sides = [max(-(-side // step) * step, -(-least // step) * step) for side in (rows, columns)]
        if self.network.square:
            sides = [max(sides)] * 2
        return (0, sides[0] - rows), (0, sides[1] - columns)


def _repeatable() -> Any:
    """Return a context in which CUDA takes the same way through a network each time."""
    import torch

    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
