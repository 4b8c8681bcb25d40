"""How well text is found and masked: stamps, captions and watermarks drawn on real photos.

python scripts/bench/detect.py [--backend rapidocr|opencv] [--tuning-only] [--size 512|12mp] [--seeds N] [--large]
python scripts/bench/detect.py --megapixels 12 [--backend …] [--tuning-only] [--quality N] [--photo NAME]...

Every photo is brought to 512×512, and to 4000×3000, before it is stamped. Recall: share of the drawn text (pixels
covered by more than half) that the regions cover, and the mask that `mask` makes of them by default. Seen: the same of
those pixels alone that the text has changed, by 3 levels or more: white on snow is there for nobody. Precision: share
of the mask that lies within 3 pixels of drawn text, which is what may change. IoU: of the
strokes, grown by 2, with the text, grown by 2, where the box found it. Left: stamps of which text is found again after
cv2.inpaint has filled the mask.

With --megapixels each photo, enlarged and given grain, carries one stamp of each kind, of heights that go round over
the photos: a row for each kind and height, then time and memory. False: regions off all stamps (lettering of the
photos themselves included).
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import sample  # noqa: E402

from imgedit import registry  # noqa: E402
from imgedit.frame import Frame  # noqa: E402
from imgedit.ops import masks  # noqa: E402
from imgedit.stage import Around  # noqa: E402
from imgedit.stages.detect_text import detect_text  # noqa: E402
from imgedit.stages.mask import mask  # noqa: E402

GROUPS = {"tuning": sample.TUNING, "held-out": sample.HELD_OUT}
#: name → rows, columns
SIZES = {"512": (512, 512), "12mp": (3000, 4000)}
#: less recall than this is listed by photo
ENOUGH = 0.97
#: as the engine hands it to `mask`: the network that finds strokes
AROUND = Around(partial(registry.backend, "strokes", "learned"))
#: heights of the letters in large pictures, pixels, and how far their grain is from none, levels
HEIGHTS, GRAIN = (20, 40, 90, 180), 5.0
#: where each kind goes in a large picture: top, left, bottom, right as shares
PARTS = {
    "rotated": (0.0, 0.0, 0.5, 0.36),
    "watermark": (0.5, 0.0, 1.0, 0.36),
    "date": (0.0, 0.36, 0.25, 1.0),
    "caption": (0.25, 0.36, 0.5, 1.0),
    "low-contrast": (0.5, 0.36, 0.75, 1.0),
    "small": (0.75, 0.36, 1.0, 1.0),
}
COLUMNS = ("box recall", "box precision", "mask recall", "seen recall", "mask precision", "IoU", "false", "left")
#: levels, in some channel, by which text that can be seen has changed a pixel
SEEN = 3


def backend_of(name: str) -> Any:
    return getattr(importlib.import_module(f"imgedit.backends.detect.{name}"), name.capitalize())()


def brought(pixels: Any, size: tuple[int, int]) -> Any:
    """Return the middle of *pixels* of the asked shape, enlarged or reduced to *size* (rows, columns)."""
    scale = max(size[0] / pixels.shape[0], size[1] / pixels.shape[1])
    rows, columns = (min(have, round(want / scale)) for have, want in zip(pixels.shape, size))
    top, left = (pixels.shape[0] - rows) // 2, (pixels.shape[1] - columns) // 2
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(
        np.ascontiguousarray(pixels[top : top + rows, left : left + columns]), size[::-1], interpolation=way
    )


def measure(backend: Any, pixels: Any, truth: Any, clean: Any) -> tuple[float, ...]:
    """Return what COLUMNS names, for *clean* with text drawn on it, which gave *pixels*, where *truth* says."""
    frame = detect_text(Frame(pixels), backend)
    text = truth > 127
    seen = cv2.absdiff(pixels, clean).max(axis=2) >= SEEN
    near = masks.dilate(text.view(np.uint8) * np.uint8(255), 3) > 0
    hits, false = [], 0
    for region in frame.sidecar.regions:
        one = masks.empty(*truth.shape)
        masks.draw(one, masks.points(region.polygon))
        if near[one > 0].mean() >= 0.1:
            hits.append(region)
        else:
            false += 1
    found = frame.with_sidecar(regions=tuple(hits))
    boxes, strokes, final = (mask(found, AROUND, **o).mask for o in ({"fit": "polygon"}, {"dilate": 2}, {}))
    left = 0.0
    if hits:
        filled = cv2.inpaint(pixels, (final > 0).astype(np.uint8), 3, cv2.INPAINT_TELEA)
        again = detect_text(Frame(filled), backend).sidecar.regions
        rest = masks.empty(*truth.shape)
        for region in again:
            masks.draw(rest, masks.points(region.polygon))
        left = float(((rest > 0) & text & (boxes > 0)).sum() > 0.2 * text.sum())
    return (
        (boxes[text] > 0).mean(),
        near[boxes > 0].mean() if hits else np.nan,
        (final[text] > 0).mean(),
        (final[text & seen] > 0).mean() if (text & seen).any() else np.nan,
        near[final > 0].mean() if hits else np.nan,
        iou(strokes, truth, boxes),
        false,
        left,
    )


def iou(strokes: Any, truth: Any, boxes: Any) -> float:
    """Return the IoU of *strokes*, grown by 2, with the text, grown by 2, in the *boxes*; NaN where both are empty."""
    within = masks.dilate(np.where(boxes > 0, np.uint8(255), np.uint8(0)), 4) > 0
    drawn = (masks.dilate((truth > 25).view(np.uint8) * np.uint8(255), 2) > 0) & within
    union = ((strokes > 0) | drawn).sum()
    return float(((strokes > 0) & drawn).sum() / union) if union else float("nan")


def one_backend(name: str, group: str, seeds: int, size: str) -> None:
    backend = backend_of(name)
    photos = {photo: brought(pixels, SIZES[size]) for photo, pixels in sample.photos(GROUPS[group]).items()}
    print(f"\n{name}: {backend.summary}; {len(photos)} {group} photos at {size}, {seeds} stamps each")
    print(f"{'':14}" + "".join(f"{column:>15}" for column in COLUMNS))
    for kind in sample.KINDS:
        rows = []
        for number, (photo, pixels) in enumerate(photos.items()):
            for seed in range(seeds):
                stamped, truth = sample.stamp(pixels, kind=kind, seed=1000 * seed + number)
                rows.append(measure(backend, stamped, truth, pixels))
                if rows[-1][2] < ENOUGH:
                    print(f"  {photo}: {kind}: boxes {rows[-1][0]:.2f}, mask {rows[-1][2]:.2f}", flush=True)
        table = np.array(rows)
        # precision and IoU have a meaning only where something was found
        rates, counts = table[:, :-2], table[:, -2:].sum(axis=0)
        values = np.nansum(rates, axis=0) / np.maximum((~np.isnan(rates)).sum(axis=0), 1)
        print(f"{kind:14}" + "".join(f"{v:15.3f}" for v in values) + "".join(f"{v:15.0f}" for v in counts))
    said = []
    seconds, busy = [], []
    for photo, pixels in photos.items():
        start, used = time.perf_counter(), time.process_time()
        found = detect_text(Frame(pixels), backend, read=backend.reads).sidecar.regions
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - used)
        said += [f"{photo} {region.text or '?'} {region.score:.2f}" for region in found]
    print(f"clean photos: {len(said)} regions{': ' if said else ''}{'; '.join(said)}")
    print(f"{np.median(seconds):.2f} s a clean photo (median), {np.median(busy):.2f} s of processor time", flush=True)


def large(name: str) -> None:
    """Time and memory in a process of its own: 512×512, then a stamp of 20 pixels in 12 megapixels."""
    backend = backend_of(name)
    photo = sample.photos(["retina"])["retina"]
    result: dict[str, Any] = {"backend": name}
    for label, size in (("512×512", (512, 512)), ("4000×3000", (4000, 3000))):
        style = sample.Style(20, (255, 140, 0), place=(0.97, 0.97))
        pixels, truth = sample.stamp(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), "2019-07-14", style=style)
        frame = Frame(pixels)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = []
        for _ in range(2):
            start = time.perf_counter()
            found = detect_text(frame, backend)
            times.append(round(time.perf_counter() - start, 2))
        start = time.perf_counter()
        made = mask(found, AROUND).mask
        result[label] = {
            "seconds first, again": times,
            "mask seconds": round(time.perf_counter() - start, 3),
            "recall": round(float((made[truth > 127] > 0).mean()), 3),
            "regions": len(found.sidecar.regions),
            "MB before, peak": [before // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024],
        }
    print(json.dumps(result, ensure_ascii=False))


def grained(pixels: Any, seed: int) -> Any:
    """Return *pixels* with the grain of a sensor: enlarged photos are smoother than any taken at their size."""
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.standard_normal(pixels.shape[:2], np.float32), (0, 0), 0.7)
    grain *= np.float32(GRAIN / grain.std())
    result = np.empty_like(pixels)
    for channel in range(3):
        result[..., channel] = np.clip(pixels[..., channel] + grain, 0, 255)
    return result


def sheet(pixels: Any, number: int) -> tuple[Any, dict[str, tuple[int, tuple[slice, slice], Any]]]:
    """Return *pixels* with a stamp of each kind, and kind → its height, where it is, and its truth over the picture."""
    result, truths = pixels.copy(), {}
    rows, columns = pixels.shape[:2]
    for place, (kind, (top, left, bottom, right)) in enumerate(PARTS.items()):
        part = slice(round(top * rows), round(bottom * rows)), slice(round(left * columns), round(right * columns))
        height = HEIGHTS[(number + place) % len(HEIGHTS)]
        truth = masks.empty(rows, columns)
        result[part], truth[part] = sample.stamp(result[part], kind=kind, seed=7 * number + place, size=height)
        truths[kind] = (height, part, truth)
    return result, truths


def spread(name: str, group: str, megapixels: float, quality: int, only: list[str]) -> None:
    """Print the recall of boxes and masks over kinds and heights, on pictures that carry all kinds."""
    backend = backend_of(name)
    size = round((0.75e6 * megapixels) ** 0.5), round((megapixels * 1e6 / 0.75) ** 0.5)
    rates: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    seconds, false = [], 0
    names = [photo for photo in GROUPS[group] if not only or photo in only]
    if not names:
        return
    for number, (photo, pixels) in enumerate(sample.photos(names).items()):
        stamped, truths = sheet(grained(brought(pixels, size), number), number)
        frame = Frame(sample.jpeg(stamped, quality) if quality else stamped)
        start, used = time.perf_counter(), time.process_time()
        frame = detect_text(frame, backend)
        seconds.append((time.perf_counter() - start, time.process_time() - used))
        boxes, final = mask(frame, fit="polygon").mask > 0, mask(frame, AROUND).mask > 0
        strokes = mask(frame, AROUND, dilate=2).mask > 0
        for kind, (height, own, truth) in truths.items():
            text = truth > 127
            found = float(boxes[text].mean()), float(final[text].mean()), iou(strokes[own], truth[own], boxes[own])
            rates.setdefault((kind, height), []).append(found)
            if min(found[:2]) < ENOUGH:
                print(f"  {photo}: {kind} of {height} pixels: boxes {found[0]:.2f}, mask {found[1]:.2f}", flush=True)
        everything = np.logical_or.reduce([truth > 127 for *_, truth in truths.values()])
        for region in frame.sidecar.regions:
            one = masks.empty(*size)
            masks.draw(one, masks.points(region.polygon))
            if not everything[one > 0].any():
                false += 1
                left, top = np.min(region.polygon, axis=0)
                print(f"  {photo}: a region off all stamps, at {left:.0f},{top:.0f}", flush=True)
    print(f"{name}: {len(seconds)} {group} photos of {megapixels:g} megapixels, JPEG quality {quality or 'none'}")
    print(f"{'kind':14}{'height':>7}{'stamps':>8}{'box recall':>12}{'mask recall':>13}{'IoU':>8}")
    for kind in sample.KINDS:
        each = {height: rates[kind, height] for height in HEIGHTS if (kind, height) in rates}
        each_kind = [one for some in each.values() for one in some]
        for label, some in (*each.items(), ("all", each_kind)):
            # without a box there is no IoU
            values = [np.mean(column[~np.isnan(column)]) for column in np.array(some).T]
            print(f"{kind:14}{label:>7}{len(some):8}{values[0]:12.3f}{values[1]:13.3f}{values[2]:8.2f}")
    wall, busy = np.median(seconds, axis=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"false regions: {false}; detection: {wall:.1f} s, {busy:.1f} s of processor time (medians); peak {peak} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("rapidocr", "opencv"), action="append")
    parser.add_argument("--tuning-only", action="store_true", help="leave the held-out photos alone")
    parser.add_argument("--size", choices=tuple(SIZES), action="append")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--large", action="store_true", help="only time and memory at 12 megapixels")
    parser.add_argument("--megapixels", type=float, help="all kinds on each photo at this size, in four heights")
    parser.add_argument("--quality", type=int, default=0, help="with --megapixels: JPEG quality; 0 for none")
    parser.add_argument("--photo", action="append", default=[], help="with --megapixels: only this one")
    options = parser.parse_args()
    # the light one first: the peak that its child begins with is that of imports alone
    for name in options.backend or ("opencv", "rapidocr"):
        if options.large:
            large(name)
            continue
        if options.megapixels:
            for group in ("tuning",) if options.tuning_only else tuple(GROUPS):
                spread(name, group, options.megapixels, options.quality, options.photo)
            continue
        # a process of its own and before all else: a child begins with the peak of its parent
        subprocess.run([sys.executable, __file__, "--backend", name, "--large"], check=True)
        for size in options.size or tuple(SIZES):
            for group in ("tuning",) if options.tuning_only else tuple(GROUPS):
                one_backend(name, group, options.seeds, size)


if __name__ == "__main__":
    main()
