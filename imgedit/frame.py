"""The values that travel: a frame, and the sidecar that states what is known of it (JSON both ways)."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from imgedit.errors import DataError
from imgedit.strict_json import HINT, build, no_constant, plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    #: (rows, columns, 3) RGB or (rows, columns) alpha: uint8 or uint16
    Pixels = NDArray[Any]
    #: (rows, columns) uint8
    Plane = NDArray[np.uint8]

SCHEMA = "imgedit/1"
MASK_CONVENTION = "255=change"
SEVERITIES = ("info", "warning", "error")
#: no picture has more rows or columns
MOST_PIXELS = 1 << 31


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DataError(otherwise, HINT)


@dataclass(frozen=True, slots=True)
class Region:
    """A place in the picture. *polygon*: ``[[x, y], …]`` in pixels, x to the right, y down; score 0…1."""

    polygon: tuple[tuple[float, float], ...]
    label: str = "text"
    text: str | None = None
    score: float | None = None

    def __post_init__(self) -> None:
        _check(len(self.polygon) >= 3, "a region has fewer than three corners")
        _check(all(abs(v) <= MOST_PIXELS for point in self.polygon for v in point), "a region lies beyond any picture")
        _check(self.score is None or 0 <= self.score <= 1, "a region's score is not in 0…1")


@dataclass(frozen=True, slots=True)
class LatentStats:
    """Mean and standard deviation per channel of the latents that *encoder* gives for the pixels.

    *grid*: pixels per latent cell; *shape*: (channels, rows, columns) of the latents.
    Statistics of different encoders are never compared.
    """

    encoder: str
    grid: int
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        _check(
            len(self.shape) == 3 and len(self.mean) == len(self.std) == self.shape[0],
            "the latents are not of their shape",
        )


@dataclass(frozen=True, slots=True)
class ToneStats:
    """The tone of the pixels outside the mask.

    *quantiles*: per RGB channel, at equally spaced probabilities from 0 to 1; *mean*, *std*: per RGB
    channel; all as shares of full scale (0…1). *lab_mean*, *lab_std*: CIELAB (D65), of a sample.
    *masked*: there was a mask, so that what is compared with this is to be measured outside its mask too.
    """

    quantiles: tuple[tuple[float, ...], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    lab_mean: tuple[float, ...]
    lab_std: tuple[float, ...]
    masked: bool = False

    def __post_init__(self) -> None:
        rows = (*self.quantiles, self.mean, self.std)
        lengths = [len(row) for row in self.quantiles]
        _check(len(lengths) == 3 and len(set(lengths)) == 1 and lengths[0] >= 2, "the tone is not of three channels")
        _check(
            all(len(row) == 3 for row in (self.mean, self.std, self.lab_mean, self.lab_std)), "the tone is incomplete"
        )
        _check(all(0 <= value <= 1 for row in rows for value in row), "the tone has values outside 0…1")
        _check(all(abs(value) <= 1000 for value in (*self.lab_mean, *self.lab_std)), "the tone is no colour")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a check noticed. *severity*: info, warning, error; *where*: (x, y, width, height)."""

    code: str
    severity: str
    message: str
    hint: str = ""
    where: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        _check(self.severity in SEVERITIES, f"a finding's severity is none of {', '.join(SEVERITIES)}")
        _check(all(abs(value) <= MOST_PIXELS for value in self.where or ()), "a finding lies beyond any picture")


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the picture is. *mode* is the source's own (L, P, RGBA, …); *source* its name, for people only."""

    digest: str
    rows: int
    columns: int
    dtype: str
    mode: str
    source: str | None = None


@dataclass(frozen=True, slots=True)
class MaskInfo:
    """What the mask is. *coverage*: share of pixels above 0; *grid*: pixels per latent cell, if it was gridded."""

    digest: str
    coverage: float
    convention: str = MASK_CONVENTION
    grid: int | None = None
    dilation_cells: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done, with what is needed to do it again and to check it.

    *source*, *result*: digests of the pixels before and after; *mask*: of the mask after. *id*: what a pipeline file
    calls the step, where this is not the stage. *outside*: the proof, counted over the pixels whose mask is 0:
    ``{"outside_changed": 0, "outside_max": 0}``. *peak_memory_mb*: of the process.
    """

    stage: str
    params: Mapping[str, Any]
    source: str
    result: str
    id: str | None = None
    mask: str | None = None
    backend: str | None = None
    model: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    latents_before: LatentStats | None = None
    latents_after: LatentStats | None = None
    tone_before: ToneStats | None = None
    tone_after: ToneStats | None = None
    outside: Mapping[str, int] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Everything that is known of one picture. The steps are history, lock file and cache key in one."""

    #: scripts read the lists of a sidecar without asking whether they are there
    LISTS_ALWAYS: ClassVar[bool] = True

    image: ImageInfo | None = None
    mask: MaskInfo | None = None
    regions: tuple[Region, ...] = ()
    latents: LatentStats | None = None
    tone: ToneStats | None = None
    findings: tuple[Finding, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()

    def to_json(self, *, lines: bool = False) -> str:
        """Return the sidecar as JSON text on one line; with *lines*, a line for each key and each list item."""
        data = {"schema": SCHEMA, **plain(self)}
        if not lines:
            return _dumps(data)
        return "{\n" + ",\n".join(f"{_dumps(key)}: {_lines(value)}" for key, value in data.items()) + "\n}"

    @classmethod
    def from_json(cls, text: str | bytes) -> Sidecar:
        """Read a sidecar. Raises DataError for anything that is not exactly one: unknown keys included."""
        try:
            data = json.loads(text, parse_constant=no_constant)
        except (ValueError, RecursionError) as error:
            raise DataError(f"the sidecar is not valid JSON: {error}", HINT) from None
        if not isinstance(data, dict):
            raise DataError("the sidecar is not a JSON object", HINT)
        schema = data.pop("schema", None)
        if schema != SCHEMA:
            raise DataError(f"the sidecar has schema {schema!r:.60}, not {SCHEMA!r}", HINT)
        try:
            return typing.cast(Sidecar, build(cls, data, "sidecar"))
        except RecursionError:
            raise DataError("the sidecar is nested too deeply", HINT) from None


@dataclass(frozen=True, slots=False, eq=False)
class Frame:
    """Pixels, planes and a sidecar.

    *pixels*: (rows, columns, 3) uint8 or uint16, RGB, EXIF orientation already applied. *alpha*: (rows,
    columns) of the same dtype, straight, or None. *mask*: (rows, columns) uint8 or None; 0 keeps, 255
    changes, values between are blending weights. *planes*: name → (rows, columns) uint8. *icc*: colour
    profile. *chunks*: further PNG chunks (type, data) that are carried as they came. *notes*: what the
    last stage wants to have written into its step; the engine takes them.
    Arrays are made read-only. Raises DataError where shapes or dtypes do not fit.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    mask: Plane | None = None
    planes: Mapping[str, Plane] = field(default_factory=dict)
    icc: bytes | None = None
    chunks: tuple[tuple[str, bytes], ...] = ()
    sidecar: Sidecar = field(default_factory=Sidecar)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pixels = self.pixels
        if pixels.ndim != 3 or pixels.shape[2] != 3 or str(pixels.dtype) not in ("uint8", "uint16"):
            raise DataError(
                f"pixels are {pixels.dtype} {pixels.shape}, not (rows, columns, 3) uint8 or uint16",
                "convert the picture to 8- or 16-bit RGB",
            )
        size = pixels.shape[:2]
        if 0 in size:
            raise DataError("the picture has no pixels", "give a picture of at least 1×1")
        if self.alpha is not None:
            _fits("alpha", self.alpha, size, str(pixels.dtype))
        if self.mask is not None:
            _fits("mask", self.mask, size, "uint8")
        for name, plane in self.planes.items():
            _fits(f"plane {name!r}", plane, size, "uint8")
        object.__setattr__(self, "planes", types.MappingProxyType(dict(self.planes)))
        for array in (pixels, self.alpha, self.mask, *self.planes.values()):
            if array is not None and array.flags.writeable:
                array.flags.writeable = False

    @property
    def rows(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def columns(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def full_scale(self) -> int:
        """The value of white: 255 or 65535."""
        return 255 if self.pixels.dtype.itemsize == 1 else 65535

    def replace(self, **changes: Any) -> Frame:
        """Return a copy with *changes*; a digest already computed is kept while the pixels are the same."""
        new = dataclasses.replace(self, **changes)
        if "pixels" not in changes and "alpha" not in changes and "digest" in self.__dict__:
            new.__dict__["digest"] = self.__dict__["digest"]
        return new

    def with_sidecar(self, **changes: Any) -> Frame:
        """Return a copy whose sidecar has *changes*."""
        return self.replace(sidecar=dataclasses.replace(self.sidecar, **changes))

    @cached_property
    def digest(self) -> str:
        """``sha256:…`` over size, dtype, RGB values and alpha: what the sidecar is about."""
        import hashlib

        pixels = self.pixels
        state = hashlib.sha256(f"{self.rows}x{self.columns} {pixels.dtype} alpha={self.alpha is not None}\n".encode())
        for array in (pixels, self.alpha):
            if array is not None:
                _update(state, array)
        return "sha256:" + state.hexdigest()


def plane_digest(plane: Plane) -> str:
    """Return ``sha256:…`` over size and values of a (rows, columns) uint8 plane."""
    import hashlib

    state = hashlib.sha256(f"{plane.shape[0]}x{plane.shape[1]}\n".encode())
    _update(state, plane)
    return "sha256:" + state.hexdigest()


def plane_coverage(plane: Plane) -> float:
    """Return the share of the pixels of a plane that are above 0, rounded to 6 decimals."""
    import numpy as np

    from imgedit import spill

    return round(sum(int(np.count_nonzero(part)) for part in spill.parts(plane)) / plane.size, 6)


def _update(state: Any, array: Pixels) -> None:
    import numpy as np

    from imgedit import spill

    for part in spill.parts(array):
        # little-endian on every machine, so that digests travel
        known = part.astype("<u2", copy=False) if part.dtype.itemsize > 1 else part
        state.update(np.ascontiguousarray(known).data.cast("B"))


def _fits(what: str, array: Any, size: tuple[int, ...], dtype: str) -> None:
    if array.shape != size or str(array.dtype) != dtype:
        raise DataError(
            f"{what} is {array.shape[1] if array.ndim > 1 else '?'}×{array.shape[0]} {array.dtype}, "
            f"the picture {size[1]}×{size[0]}: it must be {dtype} of the same size",
            f"make {what} for this very picture",
        )


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _lines(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return _dumps(value)
    return "[\n" + ",\n".join(_dumps(item) for item in value) + "\n]"
