"""Mean and standard deviation of latents, how far they may lie from a profile's, and the move that puts them there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: robust standard deviations between crops within which latents are what pictures do by themselves: dark or bright,
#: flat or busy is no fault, and a shifted encoder moves every crop by the same
TOLERANCE = 6.0
#: pictures that are all alike would leave no tolerance: at least this share of the profile's standard deviation
LEAST_TOLERANCE = 0.1
#: a median absolute deviation of a normal distribution, times this, is its standard deviation
_NORMAL = 1.4826
#: below this share of the profile's standard deviation a channel is flat, and what is left of it is rounding
_FLAT = 0.01


class Moments(NamedTuple):
    """*mean* and *std*, each (channels,) float64, over *cells* latent cells."""

    cells: int
    mean: NDArray[np.float64]
    std: NDArray[np.float64]


class Expected(NamedTuple):
    """What a profile says of latents, all (channels,): mean and standard deviation, and how much those of single crops
    vary about them, as robust standard deviations."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    mean_spread: NDArray[np.float64]
    std_spread: NDArray[np.float64]


class Move(NamedTuple):
    """The affine move of each channel: latents · *scale* + *shift*, both (channels,) float64."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def apply(self, latents: NDArray[Any]) -> NDArray[Any]:
        """Return (…, channels, rows, columns) *latents* moved, computed in float64, same dtype."""
        wide = np.asarray(latents, np.float64)
        return (wide * self.scale[:, None, None] + self.shift[:, None, None]).astype(latents.dtype)


def moments(latents: NDArray[Any], masked: NDArray[Any] | None = None) -> Moments:
    """Return the moments of (channels, rows, columns) *latents* over the cells where *masked* (rows, columns) is 0.

    Computed in float64. Without any such cell, all are 0.
    """
    flat = np.asarray(latents, np.float64).reshape(len(latents), -1)
    if masked is not None:
        flat = flat[:, np.asarray(masked).ravel() == 0]
    if not flat.shape[1]:
        return Moments(0, np.zeros(len(latents)), np.zeros(len(latents)))
    return Moments(flat.shape[1], flat.mean(axis=1), flat.std(axis=1))


def expected(crops: Sequence[Moments]) -> Expected:
    """Return what the moments of single *crops* say together; at least one crop.

    Mean and standard deviation are those over all cells of all crops. A spread is 1.4826 times the median of the
    distances that the crops' own values have from them: robust, and about the very value that a crop is compared with.
    One crop says nothing of how crops vary: then the standard deviation itself stands for both spreads.
    """
    cells = np.array([crop.cells for crop in crops], np.float64)[:, None]
    means = np.array([crop.mean for crop in crops])
    stds = np.array([crop.std for crop in crops])
    mean = (cells * means).sum(axis=0) / cells.sum()
    # the variance within crops and that between them: no difference of large squares
    std = np.sqrt((cells * (stds**2 + (means - mean) ** 2)).sum(axis=0) / cells.sum())
    if len(crops) < 2:
        return Expected(mean, std, std, std)
    spreads = (_NORMAL * np.median(np.abs(values - centre), axis=0) for values, centre in ((means, mean), (stds, std)))
    return Expected(mean, std, *spreads)


def beyond(found: Moments, expect: Expected) -> NDArray[np.bool_]:
    """Tell for each channel whether mean or standard deviation lie further from the profile's than its tolerance.

    The tolerance is :data:`TOLERANCE` robust standard deviations of what crops do by themselves.
    """
    least = LEAST_TOLERANCE * expect.std
    far_mean = np.abs(found.mean - expect.mean) > np.maximum(TOLERANCE * expect.mean_spread, least)
    far_std = np.abs(found.std - expect.std) > np.maximum(TOLERANCE * expect.std_spread, least)
    return np.asarray(far_mean | far_std)


def move(found: Moments, expect: Expected, channels: NDArray[np.bool_]) -> Move:
    """Return the move after which *channels* of latents with the moments *found* have those that are expected.

    Exact up to the rounding of the latents' own dtype. Of a channel without spread only the mean moves: to stretch it
    would make a picture of rounding errors. Channels not chosen stay as they are.
    """
    stretched = channels & (found.std > _FLAT * expect.std)
    scale = np.where(stretched, expect.std / np.where(stretched, found.std, 1), 1.0)
    shift = np.where(channels, expect.mean - scale * found.mean, 0.0)
    return Move(scale, shift)
