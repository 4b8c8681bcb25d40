"""Fill thin holes by few waves: in a window round each block of a hole, a sparse spectrum is fitted to what is known.

Source: Seiler, Kaup, "Complex-valued frequency selective extrapolation for fast image and video signal
extrapolation" (2010): weighted matching pursuit over the Fourier basis, worked out in the frequency domain. Here all
windows are worked on at once, and the hole is filled in rings from its edge inwards.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]
Floats = NDArray[np.float32]
Waves = NDArray[np.complex64]

WINDOW = 32  # pixels; also the length of the transform
BLOCK = 8  # pixels in the middle of a window that are taken from its model
DECAY = 0.7  # weight of a known pixel, per pixel of distance from the middle
TRUST = 0.2  # weight of a pixel that an earlier ring has filled
STEP = 0.5  # share of each coefficient that is taken: the waves are not orthogonal under the weights
ROUNDS = (20, 5, 5)  # waves fitted to luma and to the two chroma channels
RING = 3.5  # thickness of a ring, pixels: half of most strokes
RINGS = 6  # deeper pixels are left to the caller's fill: so far from the edge a model is a guess
LEAST = 0.01  # sum of weights in a window, below which it says nothing: a known pixel 13 away
TOGETHER = 128  # windows worked on at once, 60 kB each: what stays in a cache is faster

#: full-range YCbCr of ITU-R BT.601 without its offsets
_YCC = np.array([[0.299, -0.1687, 0.5], [0.587, -0.3313, -0.4187], [0.114, 0.5, -0.0813]], np.float32)
_RGB = np.linalg.inv(_YCC.astype(np.float64)).astype(np.float32)


def spectral(base: Floats, mask: Plane, block: int = BLOCK) -> Floats:
    """Return *base* (rows, columns, 3), float32 levels of 0…255, filled anew where *mask* > 0.

    *block*: pixels that are taken from one model, rows and columns; 12 take half of the time of 8, and cost .04 dB. The
    fill that *base* holds stays where the hole is deeper than RINGS rings.
    """
    hole = np.pad(mask > 0, WINDOW)
    edge = ((WINDOW, WINDOW), (WINDOW, WINDOW), (0, 0))
    values = np.pad(base @ _YCC, edge, mode="edge")
    trust = np.pad(mask == 0, WINDOW).astype(np.float32)
    # beyond the picture's edge nothing is known either
    outside = np.pad(np.zeros(mask.shape, bool), WINDOW, constant_values=True)
    rest = hole
    for _ in range(RINGS):
        if not rest.any():
            break
        ring = rest & (cv2.distanceTransform((rest | outside).view(np.uint8), cv2.DIST_L2, 3) <= RING)
        _fill_ring(values, trust, ring, block)
        trust[ring] = TRUST
        rest = rest & ~ring
    inner = (slice(WINDOW, -WINDOW), slice(WINDOW, -WINDOW))
    filled = np.clip(values[inner] @ _RGB, 0, 255)
    done = (hole & ~rest)[inner]
    return np.where(done[..., None], filled, base).astype(np.float32)


def _fill_ring(values: Floats, trust: Floats, ring: NDArray[np.bool_], side: int) -> None:
    """Fill *values* where *ring*, in blocks of *side* pixels, each from the model of the window round it."""
    rows, columns = (length - 2 * WINDOW for length in ring.shape)
    tops, lefts = np.arange(WINDOW, WINDOW + rows, side), np.arange(WINDOW, WINDOW + columns, side)
    within = ring[WINDOW:-WINDOW, WINDOW:-WINDOW]
    cells = np.logical_or.reduceat(np.logical_or.reduceat(within, tops - WINDOW, axis=0), lefts - WINDOW, axis=1)
    down, right = np.nonzero(cells)
    margin = (WINDOW - side) // 2
    steps = np.arange(WINDOW)
    middle = np.arange(WINDOW) - (WINDOW - 1) / 2
    decay = (DECAY ** np.hypot(middle[:, None], middle)).astype(np.float32)
    block = slice(margin, margin + side)
    for first in range(0, len(down), TOGETHER):
        part = slice(first, first + TOGETHER)
        y = (tops[down[part]] - margin)[:, None, None] + steps[:, None]
        x = (lefts[right[part]] - margin)[:, None, None] + steps
        weight = trust[y, x] * decay
        models = _models(values[y, x], weight)[:, block, block]
        own = ring[y, x][:, block, block] & (weight.sum(axis=(1, 2)) > LEAST)[:, None, None]
        values[y[:, block], x[:, :, block]] = np.where(own[..., None], models, values[y[:, block], x[:, :, block]])


def _models(values: Floats, weight: Floats) -> Floats:
    """Return the sparse spectra of *values* (windows, WINDOW, WINDOW, 3) under *weight*, back as values."""
    total = np.maximum(weight.sum(axis=(1, 2)), 1e-6)
    mean = np.einsum("nyxc,nyx->nc", values, weight) / total[:, None]
    spectrum = np.tile(np.fft.fft2(weight).astype(np.complex64), (1, 2, 2))
    out = np.empty_like(values)
    for channel, rounds in enumerate(ROUNDS):
        residual = np.fft.rfft2((values[..., channel] - mean[:, None, None, channel]) * weight)
        waves = _pursuit(residual.astype(np.complex64), spectrum, total, rounds)
        found = np.fft.irfft2(waves, (WINDOW, WINDOW), norm="forward")
        out[..., channel] = found + mean[:, None, None, channel]
    return out


def _pursuit(residual: Waves, spectrum: Waves, total: Floats, rounds: int) -> Waves:
    """Return (windows, WINDOW, WINDOW // 2 + 1) coefficients, half of a spectrum; *spectrum* is the weight's, tiled."""
    count, size, half = residual.shape
    # two views of one memory, however the transform laid it out
    flat = np.ascontiguousarray(residual).reshape(count, -1)
    residual = flat.reshape(count, size, half)
    waves = np.zeros_like(residual)
    every = np.arange(count)
    frequency = np.minimum(np.arange(size), size - np.arange(size)) / size
    # low frequencies are likelier in pictures: the weight falls from 1 to 0 along the diagonal
    prior = (1 - np.sqrt(2) * np.hypot(frequency[:, None], frequency[:half])).astype(np.float32).ravel()
    # every window of the tiled spectrum is the weight's spectrum moved by a wave
    moved = np.lib.stride_tricks.sliding_window_view(spectrum, (size, half), axis=(1, 2))
    for _ in range(rounds):
        power = np.square(flat.real)
        power += np.square(flat.imag)
        power *= prior
        best = power.argmax(axis=1)
        down, right = best // half, best % half
        share = STEP * flat[every, best] / total
        # a wave and its mirror image make a real one; four waves are their own mirror images
        alone = (down % (size // 2) == 0) & (right % (size // 2) == 0)
        share = np.where(alone, share.real, share).astype(np.complex64)
        mirror = np.where(alone, 0, share.conj()).astype(np.complex64)
        waves[every, down, right] += share
        # of the mirror image, the half holds what lies in its first and last column
        edge = right % (size // 2) == 0
        waves[every[edge], -down[edge] % size, right[edge]] += mirror[edge]
        for at, to_y, to_x in ((share, -down % size, -right % size), (mirror, down, right)):
            shifted = moved[every, to_y, to_x]
            shifted *= at[:, None, None]
            residual -= shifted
    return waves
