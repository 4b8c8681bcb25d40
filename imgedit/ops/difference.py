"""CIEDE2000: the colour difference that people see, for planes of CIELAB values."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: float32 or float64
Floats = NDArray[Any]

#: buffers that :func:`delta_e` works in
BUFFERS = 12


def _hue_weight() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return P and Q with T = P(cos h) + sin h · Q(cos h), the coefficients lowest power first.

    T (Sharma, Wu, Dalal 2005, equation 15) is a sum of cosines of multiples of the mean hue; cos nh is the Chebyshev
    polynomial of the first kind in cos h, and sin nh is sin h times one of the second kind.
    """
    turn = math.radians
    cosines = [1, -0.17 * math.cos(turn(30)), 0.24, 0.32 * math.cos(turn(6)), -0.20 * math.cos(turn(63))]
    sines = [-0.17 * math.sin(turn(30)), 0, -0.32 * math.sin(turn(6)), -0.20 * math.sin(turn(63))]
    second = np.zeros(4)
    for weight, chebyshev in zip(sines, ([1], [0, 2], [-1, 0, 4], [0, -4, 0, 8])):
        second[: len(chebyshev)] += weight * np.array(chebyshev)
    return tuple(map(float, np.polynomial.chebyshev.cheb2poly(cosines))), tuple(map(float, second))


_P, _Q = _hue_weight()
_BLUE = math.radians(275)
# -(θ / 25°)² as a power series of 1 - cos θ; exact to 1e-5 in its exponential, which vanishes before it diverges
_GAUSSIAN = tuple(-term / math.radians(25) ** 2 for term in (0.0, 2.0, 1 / 3, 4 / 45, 1 / 35))


def delta_e(first: Floats, second: Floats, work: Floats | None = None) -> Floats:
    """Return CIEDE2000 between *first* and *second*, planes (3, n) of L*, a*, b*; (n,) of the same dtype.

    *work*: (BUFFERS, n), to be overwritten; the result is one of its rows. kL = kC = kH = 1. Sharma, Wu, Dalal: "The
    CIEDE2000 color-difference formula", Color Research and Application 30 (2005). The hue angles of the paper never
    appear: the mean hue is the direction of C2'·v1 + C1'·v2, where v = (a', b'), and
    ΔH'² = Δa'² + Δb² - ΔC'², which loses nothing to cancellation when the colours are close.
    """
    if work is None:
        work = np.empty((BUFFERS, first.shape[1]), first.dtype)
    l1, a1, b1 = first[:, None]
    l2, a2, b2 = second[:, None]
    p1, p2, c1, c2, da, db, dc, dh, x, y, t, u = work[:BUFFERS, None]  # each (1, n): OpenCV wants rows

    _length(a1, b1, c1)
    _length(a2, b2, c2)
    c1 += c2
    _saturation(c1, t, u)
    cv2.addWeighted(t, -0.5, t, 0, 1.5, t)  # 1 + G
    np.multiply(a1, t, out=p1)  # a'
    np.multiply(a2, t, out=p2)
    _length(p1, b1, c1)  # C'
    _length(p2, b2, c2)
    np.subtract(p2, p1, out=da)
    np.subtract(b2, b1, out=db)
    np.subtract(c2, c1, out=dc)
    np.multiply(da, da, out=dh)
    cv2.accumulateSquare(db, dh)
    dh -= np.multiply(dc, dc, out=t)
    cv2.sqrt(np.abs(dh, out=dh), dh)  # abs: rounding may leave -1e-12
    db *= p1
    da *= b1
    db -= da
    np.copysign(dh, db, out=dh)  # ΔH', with the sign of the turn from first to second
    _mean_hue((p1, b1, c1), (p2, b2, c2), (x, y), (t, db))  # x = cos h, y = sin h
    c1 += c2  # twice the mean chroma, here and below
    _polynomial(_Q, x, t)
    _polynomial(_P, x, u)
    cv2.accumulateProduct(t, y, u)  # T
    cv2.multiply(u, c1, u, 0.015 / 2)
    u += 1
    dh /= u  # by S_H
    cv2.addWeighted(c1, 0.045 / 2, c1, 0, 1, t)
    dc /= t  # by S_C
    _rotation(x, y, c1, t, u)
    u *= dc
    u *= dh
    cv2.accumulateSquare(dc, u)
    cv2.accumulateSquare(dh, u)
    cv2.accumulateSquare(_lightness(l1, l2, x, y, t), u)
    cv2.sqrt(np.abs(u, out=u), u)
    result: Floats = u[0]
    return result


def _length(x: Floats, y: Floats, out: Floats) -> None:
    """Fill *out* with sqrt(x² + y²). cv2.magnitude rounds by where the buffer happens to lie in memory."""
    np.multiply(x, x, out=out)
    cv2.accumulateSquare(y, out)
    cv2.sqrt(out, out)


def _mean_hue(first: Any, second: Any, out: Any, spare: Any) -> None:
    """Fill *out* with cosine and sine of the mean hue of two colours (a', b', C'), along the shorter arc."""
    (p1, b1, c1), (p2, b2, c2), (x, y), (t, norm) = first, second, out, spare
    np.multiply(p1, c2, out=x)
    cv2.accumulateProduct(p2, c1, x)
    np.multiply(b1, c2, out=y)
    cv2.accumulateProduct(b2, c1, y)
    _length(x, y, norm)
    # opposite hues: the arcs are equally long, and the paper goes up from the smaller angle; no matter for near greys
    limit = 4 * float(np.finfo(t.dtype).eps)
    cv2.multiply(c1, c2, t, limit)
    t -= limit * 1e-3
    at = (0, np.flatnonzero(norm < t))
    if at[1].size:
        up = np.where((b1[at] > 0) | ((b1[at] == 0) & (p1[at] > 0)), c2[at], -c2[at])
        x[at], y[at], norm[at] = -b1[at] * up, p1[at] * up, c1[at] * c2[at]
    norm += float(np.finfo(t.dtype).tiny)  # one of them grey: the hue has no weight, but 0/0 would spread
    x /= norm
    y /= norm


def _polynomial(coefficients: tuple[float, ...], x: Floats, out: Floats) -> Floats:
    np.multiply(x, coefficients[-1], out=out)
    for coefficient in coefficients[-2:0:-1]:
        out += coefficient
        out *= x
    out += coefficients[0]
    return out


def _saturation(twice: Floats, out: Floats, spare: Floats) -> Floats:
    """Fill *out* with sqrt(C⁷ / (C⁷ + 25⁷)), C being half of *twice*."""
    np.multiply(twice, twice, out=spare)
    np.multiply(spare, spare, out=out)
    out *= spare
    out *= twice
    np.add(out, 50.0**7, out=spare)
    out /= spare
    cv2.sqrt(out, out)
    return out


def _rotation(x: Floats, y: Floats, twice: Floats, spare: Floats, out: Floats) -> None:
    """Fill *out* with R_T (equations 16 to 18), the interaction of chroma and hue in the blue; *x* is used up."""
    cv2.addWeighted(x, -math.cos(_BLUE), y, -math.sin(_BLUE), 1, spare)
    _polynomial(_GAUSSIAN, spare, out)
    cv2.exp(out, out)
    out *= math.radians(60)
    np.sin(out, out=out)
    cv2.multiply(out, _saturation(twice, spare, x), out, -2)


def _lightness(l1: Floats, l2: Floats, x: Floats, y: Floats, out: Floats) -> Floats:
    """Fill *out* with ΔL / S_L; *x* and *y* are used up."""
    cv2.addWeighted(l1, 1, l2, 1, -100, x)
    x *= x  # four times the square in the paper
    np.add(x, 80, out=y)
    cv2.sqrt(y, y)
    cv2.divide(x, y, x, 0.015 / 2)
    x += 1
    np.subtract(l2, l1, out=out)
    out /= x
    return out
