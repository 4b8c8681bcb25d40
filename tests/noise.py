"""What tests of `inpaint` share: a backend that runs no model, pictures of many sizes, what must not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import picture

from imgedit import registry
from imgedit.backends import adapter
from imgedit.frame import Frame
from imgedit.jobs import Crop, Geometry, Sampling, Synthesized

NATIVE = 64


class Noise:
    """Synthesizes noise by the crop's seed, with a flat colour where the prompt names one; counts what it is asked."""

    summary: ClassVar[str] = "noise"
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True

    def __init__(self, native: int = NATIVE, multiple: int = 8, most: int = 8) -> None:
        self.of = Geometry(native, 8, multiple)
        self.limit = most
        self.passes: list[list[Crop]] = []
        self.samplings: list[Sampling] = []
        self.fail: Callable[[Sequence[Crop]], Exception | None] = lambda crops: None

    def geometry(self, sampling: Sampling) -> Geometry:
        return self.of

    def most(self, sampling: Sampling, rows: int, columns: int) -> int:
        return self.limit

    def model(self, sampling: Sampling) -> dict[str, str]:
        return {"id": sampling.model, "digest": "sha256:0"}

    def facts(self, sampling: Sampling) -> dict[str, Any]:
        return {"model": sampling.model, "channels": 4, "grid": 8, "prediction": "epsilon"}

    def synthesize(self, sampling: Sampling, crops: Sequence[Crop]) -> list[Synthesized]:
        assert len({crop.pixels.shape for crop in crops}) == 1
        self.passes.append(list(crops))
        self.samplings.append(sampling)
        error = self.fail(crops)
        if error:
            raise error
        return [Synthesized(self.invent(sampling, crop), {"batch": len(crops)}) for crop in crops]

    def invent(self, sampling: Sampling, crop: Crop) -> np.ndarray:
        noise = np.random.default_rng(crop.seed).random(crop.pixels.shape, np.float32)
        return np.where(sampling.prompt == "white", np.float32(1), noise)

    @property
    def crops(self) -> list[Crop]:
        return [crop for crops in self.passes for crop in crops]


def behind_inpaint(monkeypatch: pytest.MonkeyPatch) -> Noise:
    """Put a :class:`Noise` behind `inpaint` and return it."""
    backend = Noise()
    real, adapted = registry.backend, adapter.adapt("diffusion", backend)

    def found(kind: str, name: str, *rest: Any) -> Any:
        return adapted if kind == "diffusion" else real(kind, name, *rest)

    monkeypatch.setattr(registry, "backend", found)
    return backend


def assert_outside_kept(before: Frame, after: Frame) -> None:
    assert before.mask is not None
    outside = before.mask == 0
    assert np.array_equal(before.pixels[outside], after.pixels[outside])
    assert before.alpha is None or np.array_equal(before.alpha, after.alpha)
    assert before.icc == after.icc and before.pixels.dtype == after.pixels.dtype
    assert after.mask is not None and np.array_equal(before.mask, after.mask)
    assert after.sidecar.steps[-1].outside == {"outside_changed": 0, "outside_max": 0}
    hint = after.planes.get("hint")
    if before.mask.any():
        assert hint is not None and np.array_equal(hint == 0, before.mask > 0)


def many(count: int, sizes: int = 12) -> list[Frame]:
    """Return frames of *sizes* sizes with one or two holes each."""
    rng = np.random.default_rng(3)
    shapes = [tuple(rng.integers(70, 200, 2).tolist()) for _ in range(sizes)]
    frames = []
    for i in range(count):
        rows, columns = shapes[i % sizes]
        mask = np.zeros((rows, columns), np.uint8)
        mask[5:12, 5:30] = 255
        if i % 3 == 0:
            mask[rows - 13 : rows - 5, columns - 30 : columns - 5] = 255
        frames.append(picture("rgb8", rows, columns, seed=i).replace(mask=mask))
    return frames
