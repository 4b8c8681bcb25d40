"""Whether `erase --until-clean` ends without text: drawn text is found, masked, filled and looked for again.

    python scripts/bench/until_clean.py [--tuning-only] [--rounds N] [--seeds N] [--quality Q]

Every photo is brought to 512×512 and stamped in every kind. Found: cases in which `detect-text` finds the drawn text.
Clean: of these, cases that end with exit 0. Free: of these, cases in whose result another search finds no region on
the drawn text, whatever the loop says of itself. Unseen: cases in which the drawn text was never found. Outside: pixels
that differ from the input where the last mask is 0, counted here and not taken from the proof.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "scripts/bench"), str(ROOT)]

import numpy as np  # noqa: E402
import sample  # noqa: E402
from detect import GROUPS, SIZES, brought  # noqa: E402

from imgedit import engine  # noqa: E402
from imgedit.errors import GateFailed  # noqa: E402
from imgedit.frame import Frame  # noqa: E402
from imgedit.ops import masks  # noqa: E402

#: a region is on the drawn text if this share of it lies within so many pixels of it
SHARE, NEAR = 0.1, 3


class Ended(NamedTuple):
    """How one case ended. *rounds*: 0 where there was nothing to fill; *why*: what the gate said, if it failed."""

    found: bool
    free: bool
    rounds: int
    outside: int
    seconds: float
    why: str

    @property
    def clean(self) -> bool:
        return not self.why


def on_text(regions: Any, text: Any) -> bool:
    """Tell whether one of *regions* lies on *text*, (rows, columns) bool."""
    near = masks.dilate(text.view(np.uint8) * np.uint8(255), NEAR) > 0
    for region in regions:
        one = masks.empty(*text.shape)
        masks.draw(one, masks.points(region.polygon))
        if near[one > 0].any() and near[one > 0].mean() >= SHARE:
            return True
    return False


def ended(pixels: Any, truth: Any, find: Callable[[Frame], Frame], rounds: int) -> Ended:
    """Run find → mask → erase --until-clean on *pixels*; *truth*: (rows, columns) uint8, the share of drawn text."""
    text, why = truth > 127, ""
    seen = find(Frame(pixels))
    start = time.process_time()
    chain = engine.Engine([engine.call("mask"), engine.call("erase", until_clean=rounds)])
    try:
        result = chain.run(seen)
    except GateFailed as verdict:
        why = verdict.message
        result = verdict.frame or seen
    seconds = time.process_time() - start
    outside = (result.pixels != pixels).any(axis=2)
    if result.mask is not None:
        outside &= result.mask == 0
    return Ended(
        on_text(seen.sidecar.regions, text),
        not on_text(find(Frame(result.pixels)).sidecar.regions, text),
        sum(step.stage == "erase" for step in result.sidecar.steps),
        int(outside.sum()),
        seconds,
        why,
    )


def cases(group: str, kind: str, seeds: int, quality: int) -> Iterator[tuple[str, Any, Any]]:
    """Yield photo, stamped pixels and truth."""
    for number, (photo, pixels) in enumerate(sample.photos(GROUPS[group]).items()):
        for seed in range(seeds):
            stamped, truth = sample.stamp(brought(pixels, SIZES["512"]), kind=kind, seed=1000 * seed + number)
            yield photo, sample.jpeg(stamped, quality) if quality else stamped, truth


def table(group: str, options: argparse.Namespace) -> None:
    detector = engine.Engine([engine.call("detect-text")])
    print(f"\n{group} photos, {options.seeds} stamps each, at most {options.rounds} rounds")
    print("| kind | cases | found | clean | free | unseen | rounds | outside | s |\n|" + " --- |" * 9)
    every: list[Ended] = []
    for kind in (*sample.KINDS, "all"):
        rows = [] if kind != "all" else every
        if kind != "all":
            for photo, pixels, truth in cases(group, kind, options.seeds, options.quality):
                one = ended(pixels, truth, detector.run, options.rounds)
                rows.append(one)
                if one.found and not (one.clean and one.free):
                    print(f"<!-- {photo}, {kind}: {one.why or 'exit 0, and text is found again'} -->", flush=True)
        found = [one for one in rows if one.found]
        count = max(len(found), 1)
        cells = (
            len(rows),
            len(found),
            f"{sum(one.clean for one in found) / count:.1%}",
            f"{sum(one.free for one in found) / count:.1%}",
            len(rows) - len(found),
            f"{sum(one.rounds for one in found) / count:.2f}",
            sum(one.outside for one in rows),
            f"{np.median([one.seconds for one in rows]):.2f}",
        )
        print(f"| {kind} | " + " | ".join(map(str, cells)) + " |", flush=True)
        every += rows if kind != "all" else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuning-only", action="store_true", help="leave the held-out photos alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quality", type=int, default=0, help="JPEG quality of the stamped picture; 0 for none")
    options = parser.parse_args()
    for group in ("tuning",) if options.tuning_only else tuple(GROUPS):
        table(group, options)


if __name__ == "__main__":
    main()
