"""How many failures preflight catches, how often it is wrong on clean cases, and what it costs at 12 megapixels.

    python scripts/bench/preflight.py [EACH]

EACH cases (40) of every kind from photos that chose no threshold, ten times as many clean ones;
processor time on one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests"), str(ROOT)]

from corpus import CONFIRM, FAILURES, Case, cases  # noqa: E402
from sample import photos, stamp  # noqa: E402

from imgedit.ops import preflight  # noqa: E402

SEED = 3000
ROUNDS = 5


def codes(case: Case) -> dict[str, str]:
    return {r.code: r.severity for r in preflight.check(case.pixels, case.mask, grid=case.grid)}


def rates(each: int) -> None:
    print("| failure | code | by its code | by any that fits | cases |\n| --- | --- | --- | --- | --- |")
    means = np.zeros(2)
    for kind in FAILURES:
        found = [(case, codes(case)) for case in cases(CONFIRM, SEED, each, (kind,))]
        count = max(len(found), 1)  # of few tries none may be a case of its kind
        own = sum(case.codes[0] in seen for case, seen in found) / count
        fits = sum(bool(set(case.codes) & set(seen)) for case, seen in found) / count
        means += (own, fits)
        listed = "/".join(sorted({case.codes[0] for case, _ in found}))
        print(f"| {kind} | {listed} | {own:.0%} | {fits:.0%} | {len(found)} |")
    own, fits = means / len(FAILURES)
    print(f"| mean | | {own:.1%} | {fits:.1%} | |\n")
    clean = [codes(case) for case in cases(CONFIRM, SEED, 10 * each, ("clean",))]
    alarms = Counter(code for seen in clean for code, severity in seen.items() if severity != "info")
    wrong = sum(any(severity != "info" for severity in seen.values()) for seen in clean)
    print(f"clean cases: {len(clean)}, warned of: {wrong / len(clean):.1%} {dict(alarms)}\n")


def large() -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Return name → picture of 12 megapixels and mask."""
    rng = np.random.default_rng(0)
    photo = photos(["motorcycle_left"])["motorcycle_left"]
    pixels = cv2.resize(photo, (4000, 3000), interpolation=cv2.INTER_CUBIC)
    found = {}
    for kind in ("date", "caption", "watermark"):
        given, drawn = stamp(pixels, kind=kind, seed=1)
        found[kind] = given, cv2.dilate((drawn > 8).astype(np.uint8) * 255, np.ones((5, 5), np.uint8))
    holes = np.zeros(pixels.shape[:2], np.uint8)
    for y, x in rng.integers(0, 2900, (60, 2)):
        holes[y : y + 30, x : x + 90] = 255
    found["60 boxes"] = pixels, holes
    holes = np.zeros(pixels.shape[:2], np.uint8)
    holes[200:2000, 300:2000] = 255
    for y, x in rng.integers(0, 2990, (300, 2)):
        holes[y : y + 2, x : x + 2] = 255
    found["large hole and 300 specks"] = pixels, holes
    blobs = np.zeros(pixels.shape[:2], np.uint8)
    for row in (500, 1500, 2500):
        cv2.ellipse(blobs, (2000, row), (900, 350), 0, 0, 360, 255, -1)
    found["three large blobs"] = pixels, blobs
    return found


def cost() -> None:
    print("| 12 megapixels | ms |\n| --- | --- |")
    for name, (pixels, mask) in large().items():
        times = []
        for _ in range(ROUNDS):
            start = time.process_time()
            preflight.check(pixels, mask)
            times.append(time.process_time() - start)
        print(f"| {name} | {1e3 * min(times):.0f} |")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("each", type=int, nargs="?", default=40)
    rates(parser.parse_args().each)
    cost()
