"""Strokes of one colour and opacity, parted from their ground: the mask whose removal leaves the picture smoothest.

Strokes of colour c and opacity a turn the ground b into p = (1 - a) b + a c (Porter, Duff, "Compositing digital
images", 1984), so that log |c - p| is log |c - b| lowered by t = -log(1 - a) everywhere on them. The mask m in 0…1
minimises the total variation of log |c - p| + t m, each step weighted so that it counts in levels, plus a share of
what its own outline could explain at best. That is convex and has a binary solution (Chan, Esedoglu, Nikolova,
"Algorithms for finding global minimizers", 2006), found by the primal-dual method of Chambolle and Pock with the
diagonal preconditioning of Pock and Chambolle (2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]
Floats = NDArray[np.float32]

#: share of an outline's step that the picture must show, plus half: 0.6 asks for 0.8 of the step
DEMAND = 0.6
#: cost of an outline, levels for each pixel of its length; cost of a pixel, levels
LENGTH, AREA = 2.0, 0.3
#: differences from the colour below this are noise, levels
NOISE = 6.0
#: pixels of strokes may be off what their colour and opacity allow by this, levels
SLACK = 6.0


class Overlay(NamedTuple):
    """What strokes are made of. *colour*: RGB, 0…255; *opacity*: over 0, under 1."""

    colour: tuple[float, float, float]
    opacity: float


class Cut(NamedTuple):
    """Strokes of one overlay. *soft*: (rows, columns) float32, 0…1; *gain*: levels of steps that they explain, net."""

    soft: Floats
    gain: float


def possible(crop: Plane, overlay: Overlay, slack: float = SLACK) -> NDArray[np.bool_]:
    """Return where (rows, columns, 3) uint8 pixels, or a neighbour, may be strokes over a ground of 0…255."""
    base = [overlay.opacity * value for value in overlay.colour]
    lowest = [math.ceil(max(value - slack, 0)) for value in base]
    highest = [math.floor(min(value + (1 - overlay.opacity) * 255 + slack, 255)) for value in base]
    inside = cv2.inRange(np.ascontiguousarray(crop), np.array(lowest), np.array(highest))
    # where strokes fade into the ground over a pixel, their rim need not be
    return np.asarray(cv2.dilate(inside, np.ones((3, 3), np.uint8)) > 0)


def cut(
    crop: Plane, allowed: NDArray[np.bool_], overlays: Sequence[Overlay], *, rounds: int, channels: bool
) -> list[Cut]:
    """Return the strokes of each of *overlays* in (rows, columns, 3) uint8 *crop*, as if it were alone there.

    Only where *allowed* (rows, columns); *channels*: every channel must show the steps, not their mean alone: three
    times slower. *rounds*: 25 rank overlays, 80 part them.
    """
    problems = [_problem(crop, overlay, channels) for overlay in overlays]
    steps = np.stack([step for step, _ in problems])
    rates = np.stack([rate for _, rate in problems])
    free = np.stack([allowed & possible(crop, overlay) for overlay in overlays]).astype(np.float32)
    soft = _minimise(steps, rates, free, rounds)
    gains = _gains(steps, rates, soft)
    return [Cut(mask, float(gain)) for mask, gain in zip(soft, gains)]


def _problem(crop: Plane, overlay: Overlay, channels: bool) -> tuple[Floats, Floats]:
    """Return the steps of the picture and what an outline would add to them: (2, planes, rows, columns) levels.

    First those to the right, then those down; the last column and row have none.
    """
    apart = crop.astype(np.float32) - np.array(overlay.colour, np.float32)
    if channels:
        levels = np.ascontiguousarray(np.abs(apart).transpose(2, 0, 1))
    else:
        levels = np.sqrt((apart * apart).mean(axis=2))[None]
    levels += np.float32(NOISE)
    logs = np.log(levels)
    steps = np.zeros((2, *levels.shape), np.float32)
    rates = np.zeros_like(steps)
    for k, (step, rate) in enumerate(zip(steps, rates)):
        here, ahead = (np.s_[:, :, :-1], np.s_[:, :, 1:]) if k == 0 else (np.s_[:, :-1], np.s_[:, 1:])
        change, ratio = levels[ahead] - levels[here], logs[ahead] - logs[here]
        step[here] = change
        # the logarithmic mean of both sides turns steps of the logarithm into levels
        even = np.abs(ratio) < 1e-3
        rate[here] = np.where(even, levels[here], change / np.where(even, 1, ratio))
    rates *= np.float32(-math.log(1 - overlay.opacity))
    steps /= np.float32(len(levels))
    rates /= np.float32(len(levels))
    return steps, rates


def _minimise(steps: Floats, rates: Floats, free: Floats, rounds: int) -> Floats:
    """Return (overlays, rows, columns) of 0…1; *steps*, *rates*: (overlays, 2, planes, rows, columns)."""
    toll = np.float32(DEMAND) * rates.sum(axis=2)
    toll[:, 0, :, :-1] += np.float32(LENGTH)
    toll[:, 1, :-1] += np.float32(LENGTH)
    pull = rates.sum(axis=2) + toll
    column = pull[:, 0] + pull[:, 1]
    column[:, :, 1:] += pull[:, 0, :, :-1]
    column[:, 1:] += pull[:, 1, :-1]
    pace = np.where(column > 0, 1 / np.maximum(column, 1e-6), 0).astype(np.float32) * free
    push = steps / np.maximum(2 * rates, np.float32(1e-6))
    soft = np.zeros_like(free)
    ahead = soft.copy()
    duals, tolls = np.zeros_like(steps), np.zeros_like(toll)
    slope, flow, work = np.zeros_like(toll), np.empty_like(toll), np.empty_like(steps)
    for _ in range(rounds):
        np.subtract(ahead[:, :, 1:], ahead[:, :, :-1], out=slope[:, 0, :, :-1])
        np.subtract(ahead[:, 1:], ahead[:, :-1], out=slope[:, 1, :-1])
        slope *= np.float32(0.5)
        duals += slope[:, :, None]
        duals += push
        np.clip(duals, -1, 1, out=duals)
        tolls += slope
        np.clip(tolls, -1, 1, out=tolls)
        np.multiply(toll, tolls, out=flow)
        np.multiply(rates, duals, out=work)
        for plane in range(work.shape[2]):
            flow += work[:, :, plane]
        # the step against the gradient: what flows in less what flows out
        down = flow[:, 0] + flow[:, 1]
        down[:, :, 1:] -= flow[:, 0, :, :-1]
        down[:, 1:] -= flow[:, 1, :-1]
        down -= np.float32(AREA)
        down *= pace
        down += soft
        np.clip(down, 0, 1, out=down)
        np.multiply(down, 2, out=ahead)
        ahead -= soft
        soft = down
    return soft


def _gains(steps: Floats, rates: Floats, soft: Floats) -> NDArray[np.float64]:
    slope = np.zeros((len(soft), 2, 1, *soft.shape[1:]), np.float32)
    slope[:, 0, 0, :, :-1] = soft[:, :, 1:] - soft[:, :, :-1]
    slope[:, 1, 0, :-1] = soft[:, 1:] - soft[:, :-1]
    changed = rates * slope
    explained = np.abs(steps) - np.abs(steps + changed) - np.float32(DEMAND) * np.abs(changed)
    return np.asarray(explained.sum(axis=(1, 2, 3, 4), dtype=np.float64))
