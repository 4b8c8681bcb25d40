"""The metrics by name: what each means, where it is defined, and the limits that a comparison may be held to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2

from imgedit.errors import DataError, Unavailable, UsageError, nearest
from imgedit.ops import gradients, pixelwise, structure
from imgedit.ops.pairs import Look, Pair

#: metric → region → value
Measured = dict[str, dict[str, float]]

REGIONS = ("whole", "inside", "ring", "outside")
#: PSNR of equal pictures: JSON has no infinity, and no two different pictures of fewer than 7·10⁹ pixels reach it
PSNR_EQUAL = 200.0
RESERVED = {
    "fid": "FID compares sets of pictures by a network that is not part of this version",
    "lpips": "LPIPS needs the weights of a network that are not part of this version",
}


def measure(pair: Pair, names: Sequence[str]) -> Measured:
    """Return the metrics *names* (of :data:`METRICS`) of *pair*, for every region they are defined in.

    A metric or region without a value (the picture is too small, the region empty) is left out; there is no NaN.
    Where pictures have an alpha, what is seen is measured over black and over white, and the worse counts.
    """
    wanted = [METRICS[name] for name in names]
    shared = _Shared(pair, quantiles="de2000_p95" in names)
    views = [_View(look, pair) for look in shared.looks] if any(metric.of_view for metric in wanted) else []
    found: Measured = {}
    for metric in wanted:
        if metric.of_view:
            values = _worst([metric.of_view(view) for view in views], metric.good)
        else:
            assert metric.of_pair is not None
            values = metric.of_pair(shared)
        values = {region: float(value) for region, value in values.items() if region in metric.regions}
        if values:
            found[metric.name] = values
    return found


class _Shared:
    """What several metrics of the stored values are read from, counted once."""

    def __init__(self, pair: Pair, quantiles: bool) -> None:
        self.pair = pair
        self.quantiles = quantiles
        self.full = 256**pair.picture.dtype.itemsize - 1

    @cached_property
    def looks(self) -> list[Look]:
        return self.pair.looks()

    @cached_property
    def tally(self) -> dict[str, pixelwise.Tally]:
        found = pixelwise.tally(self.pair.picture, self.pair.reference, self.pair.regions, self.pair.alphas)
        return {region: counts for region, counts in found.items() if counts.pixels}

    @cached_property
    def colours(self) -> list[dict[str, pixelwise.Colours]]:
        found = [pixelwise.colours(*look, self.pair.regions, steps=self.quantiles) for look in self.looks]
        return [{region: sums for region, sums in part.items() if sums.pixels} for part in found]

    def rmse(self) -> dict[str, float]:
        return {
            region: math.sqrt(counts.squares / (counts.pixels * counts.channels)) / self.full
            for region, counts in self.tally.items()
        }

    def psnr(self) -> dict[str, float]:
        return {
            region: min(PSNR_EQUAL, -20 * math.log10(value)) if value else PSNR_EQUAL
            for region, value in self.rmse().items()
        }

    def alpha_max(self) -> dict[str, float]:
        if self.pair.alphas is None:
            return {"whole": 0.0}
        return {"whole": float(cv2.absdiff(*self.pair.alphas).max()) / self.full}

    def colour(self, value: Callable[[pixelwise.Colours], float]) -> dict[str, float]:
        return _worst([{region: value(sums) for region, sums in look.items()} for look in self.colours], 0.0)


class _View:
    """What several metrics of one look are read from, computed once."""

    def __init__(self, look: Look, pair: Pair) -> None:
        self.picture, self.reference = look
        self.regions = pair.regions
        self.reach = pair.reach
        self.smallest = min(self.picture.shape[:2])

    @cached_property
    def sums(self) -> list[dict[str, gradients.Gradients]]:
        return [gradients.gradients(picture, self.regions) for picture in (self.picture, self.reference)]

    def gradient(self, value: Callable[..., float | None]) -> dict[str, float]:
        if self.smallest < 2:
            return {}
        first, second = self.sums
        found = {region: value(first[region], second[region]) for region in first}
        return {region: number for region, number in found.items() if number is not None}

    def ssim(self) -> dict[str, float]:
        if self.smallest < structure.WINDOW:
            return {}
        found = structure.ssim(self.picture, self.reference, self.regions)
        return {region: both for region, (both, _) in found.items()}

    def ms_ssim(self) -> dict[str, float]:
        if self.smallest < structure.smallest_ms_ssim():
            return {}
        return {"whole": structure.ms_ssim(self.picture, self.reference)}

    def gmsd(self) -> dict[str, float]:
        return {} if self.smallest < 6 else structure.gmsd(self.picture, self.reference, self.regions)

    @cached_property
    def steps(self) -> tuple[float, float] | None:
        ring, mask = self.regions.get("ring"), self.regions.get("inside")
        if ring is None or mask is None:
            return None
        return gradients.halo(self.picture, self.reference, mask, ring)

    def halo(self, which: int) -> dict[str, float]:
        return {} if self.steps is None else {"ring": self.steps[which]}

    @cached_property
    def seams(self) -> tuple[float, float] | None:
        mask = self.regions.get("inside")
        return None if mask is None else gradients.seam(self.picture, mask, self.reach)

    def seam(self, which: int) -> dict[str, float]:
        return {} if self.seams is None else {"ring": self.seams[which]}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. *good*: its value for equal pictures; *needs*: what a picture must have for it to be defined."""

    name: str
    help: str
    good: float
    of_pair: Callable[[_Shared], dict[str, float]] | None = None
    of_view: Callable[[_View], dict[str, float]] | None = None
    regions: tuple[str, ...] = REGIONS
    needs: str = ""


_ALL = (
    Metric("rmse", "root mean square difference of all channels, share of full scale 0…1", 0, _Shared.rmse),
    Metric("psnr", "peak signal to noise ratio of all channels, dB; 200 where equal", PSNR_EQUAL, _Shared.psnr),
    Metric(
        "max",
        "largest difference of any channel, alpha included, share of full scale",
        0,
        lambda s: {region: counts.largest / s.full for region, counts in s.tally.items()},
    ),
    Metric(
        "changed",
        "share of pixels that differ in any channel, alpha included",
        0,
        lambda s: {region: counts.changed / counts.pixels for region, counts in s.tally.items()},
    ),
    Metric("alpha_max", "largest difference of alpha, share of full scale", 0, _Shared.alpha_max, regions=("whole",)),
    Metric("de2000", "mean CIEDE2000", 0, lambda s: s.colour(lambda c: c.total / c.pixels)),
    Metric("de2000_max", "largest CIEDE2000", 0, lambda s: s.colour(lambda c: c.largest)),
    Metric(
        "de2000_p95",
        "CIEDE2000 that 95 % of the pixels do not exceed, in steps of 1/64",
        0,
        lambda s: s.colour(lambda c: c.quantile(0.95)),
    ),
    Metric("ssim", "SSIM of luma, 1 where equal", 1, of_view=_View.ssim, needs="at least 11×11 pixels"),
    Metric(
        "ms_ssim",
        "MS-SSIM of luma over five scales, 1 where equal",
        1,
        of_view=_View.ms_ssim,
        regions=("whole",),
        needs="at least 176×176 pixels",
    ),
    Metric(
        "gmsd",
        "deviation of the similarity of gradient magnitudes, 0 where equal",
        0,
        of_view=_View.gmsd,
        needs="at least 6×6 pixels",
    ),
    Metric(
        "gradient_ratio",
        "gradient energy over that of the reference: below 1 texture was lost, above 1 added",
        1,
        of_view=lambda v: v.gradient(gradients.energy_ratio),
        needs="at least 2×2 pixels",
    ),
    Metric(
        "gradient_distance",
        "earth mover's distance of the gradient histograms, relative to the mean gradients, 0…1",
        0,
        of_view=lambda v: v.gradient(gradients.distance),
        needs="at least 2×2 pixels",
    ),
    Metric(
        "blockiness",
        "excess of steps on one line in eight, over that of the reference",
        0,
        of_view=lambda v: v.gradient(gradients.blockiness),
        needs="64 steps at each phase of a grid of eight, about 23×23 pixels",
    ),
    Metric(
        "halo",
        "step in luma across the mask's edge that the reference lacks: mean size, share of full scale",
        0,
        of_view=lambda v: v.halo(0),
        regions=("ring",),
        needs="a mask with an edge inside the picture",
    ),
    Metric(
        "halo_signed",
        "the same with its sign: positive where the inside is too bright",
        0,
        of_view=lambda v: v.halo(1),
        regions=("ring",),
        needs="a mask with an edge inside the picture",
    ),
    Metric(
        "seam",
        "step in luma across the mask's edge, less that beside it: mean sizes, share of full scale; needs no truth",
        0,
        of_view=lambda v: v.seam(0),
        regions=("ring",),
        needs="a mask with an edge and some room beside it",
    ),
    Metric(
        "seam_signed",
        "the same with its sign: positive where the inside is too bright",
        0,
        of_view=lambda v: v.seam(1),
        regions=("ring",),
        needs="a mask with an edge and some room beside it",
    ),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
#: names for several at once; a group leaves out what is not defined for a picture
GROUPS: Mapping[str, tuple[str, ...]] = {
    "quick": ("rmse", "psnr", "max", "changed", "de2000"),
    "all": tuple(METRICS),
}


def known(name: str) -> str:
    """Return *name* as it is written here: ``ms-ssim`` → ``ms_ssim``. Raises UsageError, or Unavailable if reserved."""
    plain = name.strip().lower().replace("-", "_")
    if plain in RESERVED:
        hint = "use de2000, ssim, ms_ssim or gmsd, which need no weights"
        raise Unavailable(f"metric {plain!r} is not available: {RESERVED[plain]}", hint)
    if plain not in METRICS:
        known = [word.replace("_", "-") for word in (*METRICS, *GROUPS)]
        raise UsageError(f"{name!r} is not a metric", nearest(name, known))
    return plain


@dataclass(frozen=True, slots=True)
class Limit:
    """A metric in a region, and the value that it must not exceed, or not fall below (*least*)."""

    metric: str
    region: str
    value: float
    least: bool

    def failure(self, value: float) -> str | None:
        """Return what is wrong with *value*, or None: ``rmse whole 0.031 > 0.02``."""
        if value < self.value if self.least else value > self.value:
            return f"{self.metric} {self.region} {value:.6g} {'<' if self.least else '>'} {self.value:g}"
        return None


def limits(most: Mapping[str, float], least: Mapping[str, float]) -> list[Limit]:
    """Return the limits written as ``rmse@outside`` → value; without a region the metric's first is meant."""
    return [
        Limit(*_target(name), value, is_least)
        for given, is_least in ((most, False), (least, True))
        for name, value in given.items()
    ]


def names(asked: Sequence[str], held: Sequence[Limit]) -> tuple[list[str], set[str]]:
    """Return the metrics to measure, in the order of :data:`METRICS`, and those of them that must not be missing.

    *asked*: metrics and :data:`GROUPS`. *held*: limits, whose metrics are measured whether asked for or not.
    """
    grouped = {name for word in asked for name in GROUPS.get(word.strip().lower(), ())}
    singly = {known(word) for word in asked if word.strip().lower() not in GROUPS}
    singly |= {limit.metric for limit in held}
    return [name for name in METRICS if name in grouped | singly], singly


def require(measured: Measured, metric: str, region: str | None = None) -> float:
    """Return a value that was asked for by name. Raises DataError, with the reason, where there is none."""
    values = measured.get(metric, {})
    if region is None and values:
        return next(iter(values.values()))
    if region in values:
        return values[region]
    needs = METRICS[metric].needs
    if region not in (None, "whole"):
        needs = f"a mask with pixels in region {region!r}" + (f", and {needs}" if needs else "")
    at = f" in region {region!r}" if region else ""
    raise DataError(f"{metric}{at} is not defined for this picture: it needs {needs}", "leave it out for such pictures")


def _target(gate: str) -> tuple[str, str]:
    name, _, region = gate.partition("@")
    metric = METRICS[known(name)]
    region = region.strip().lower() or metric.regions[0]
    if region not in metric.regions:
        raise UsageError(f"{gate!r}: {metric.name} has no region {region!r}", nearest(region, metric.regions))
    return metric.name, region


def _worst(looks: Iterable[dict[str, float]], good: float) -> dict[str, float]:
    """Return for each region the value of all *looks* that is furthest from *good*."""
    found: dict[str, float] = {}
    for look in looks:
        for region, value in look.items():
            if region not in found or abs(value - good) > abs(found[region] - good):
                found[region] = value
    return found
