"""The main job on a real photo: a date stamp erased, the picture twice as large, and the proof."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import sample
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
PHOTO = "coffee"


def imgedit(*arguments: object) -> str:
    """Run the command as a person would; show what was typed."""
    shown = " ".join(map(str, arguments))
    print(f"$ imgedit {shown}")
    result = subprocess.run(
        [sys.executable, "-m", "imgedit", *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    )
    return result.stdout


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("demo")
    folder.mkdir(exist_ok=True)
    truth = sample.photos([PHOTO])[PHOTO]
    stamped, _ = sample.stamp(truth, "2019-07-14", kind="date", seed=1)
    Image.fromarray(truth).save(folder / "truth.png")
    Image.fromarray(stamped).save(folder / "stamped.png")

    before, after = folder / "stamped.png", folder / "repaired.png"
    imgedit("run", "remove-date-stamp", before, "-o", after)
    sidecar = json.loads(after.with_name("repaired.png.json").read_text())
    against = ("--reference", folder / "truth.png", "--scale", "down", "--metric", "psnr,ssim", "--json")
    metrics = json.loads(imgedit("compare", after, *against))["metrics"]

    erase = next(step for step in sidecar["steps"] if step["stage"] == "erase")
    found = [region.get("text") or region["label"] for region in sidecar["regions"]]
    tones = [_step(sidecar, "upscale", "tone_before")["mean"], sidecar["tone"]["mean"]]
    drift = [255 * abs(a - b) for a, b in zip(*tones)]
    rows = [
        ("found", ", ".join(map(repr, found)) or "nothing"),
        ("erased by", ", ".join(sorted(erase["notes"].get("methods", {})))),
        ("size", f"{stamped.shape[1]}×{stamped.shape[0]} → {sidecar['image']['columns']}×{sidecar['image']['rows']}"),
        ("PSNR in the hole", f"{metrics['psnr']['inside']:.1f} dB against the photo without a stamp"),
        ("SSIM of the whole", f"{metrics['ssim']['whole']:.4f}"),
        ("outside changed", f"{erase['outside']['outside_changed']} pixels by the repair"),
        ("colour drift", f"{max(drift):.2f} of 255, the largest of three channel means"),
        ("seconds", f"{sum(step['seconds'] for step in sidecar['steps']):.1f} in {len(sidecar['steps'])} steps"),
    ]
    width = max(len(name) for name, _ in rows)
    print("\n" + "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows))
    sheet(stamped, np.asarray(Image.open(after)), folder / "before-after.png")
    print(f"\nbefore and after: {folder / 'before-after.png'}")
    return 0 if erase["outside"]["outside_changed"] == 0 and found else 1


def _step(sidecar: dict[str, Any], stage: str, key: str) -> Any:
    return next(step[key] for step in sidecar["steps"] if step["stage"] == stage)


def sheet(before: Any, after: Any, path: Path) -> None:
    """Write *before* (enlarged by plain repetition) and *after* side by side."""
    rows, columns = after.shape[:2]
    picture = Image.new("RGB", (2 * columns + 24, rows + 48), "white")
    picture.paste(Image.fromarray(before).resize((columns, rows), Image.Resampling.NEAREST), (0, 48))
    picture.paste(Image.fromarray(after).convert("RGB"), (columns + 24, 48))
    draw = ImageDraw.Draw(picture)
    for x, text in ((0, "before (shown twice as large)"), (columns + 24, "after")):
        draw.text((x + 4, 8), text, fill="black", font=ImageFont.load_default(28))
    picture.save(path)


if __name__ == "__main__":
    sys.exit(main())
