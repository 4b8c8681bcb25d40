"""What the joints cost: pipes of commands against the same steps in one run, and start-up against plain Python."""

from __future__ import annotations

import argparse
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

IMGEDIT = f"{shlex.quote(sys.executable)} -m imgedit"
LIGHT = ["mask --rect 500,500,120,40", "erase", "match-hist"]
LIGHT_YAML = "steps: [mask: {rect: [500, 500, 120, 40]}, erase, match-hist]\n"
FIVE = ["detect-text", "mask --dilate 3", "erase", "upscale --scale 2", "match-hist"]
FIVE_YAML = "steps: [detect-text, mask: {dilate: 3}, erase, upscale: {scale: 2}, match-hist]\n"


def photo(rows: int, columns: int) -> Image.Image:
    """Return a picture with the statistics of a photo: smooth, some edges, sensor noise, a stamp."""
    import sample

    base = Image.fromarray(sample.photos(["motorcycle_left"])["motorcycle_left"])
    pixels = np.asarray(base.resize((columns, rows), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels = pixels + np.random.default_rng(0).normal(0, 2, pixels.shape).astype(np.int16)
    stamped, _ = sample.stamp(np.clip(pixels, 0, 255).astype(np.uint8), "2019-07-14", kind="date", seed=1)
    return Image.fromarray(stamped)


def seconds(command: str, folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def pipe(steps: list[str], source: str) -> str:
    name, _, options = steps[0].partition(" ")
    commands = [f"{IMGEDIT} {name} {source} {options}", *(f"{IMGEDIT} {step}" for step in steps[1:])]
    return " | ".join(commands) + " > out.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--columns", type=int, default=4000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo(options.rows, options.columns).save(folder / "in.png", compress_level=1)
        (folder / "light.yaml").write_text(LIGHT_YAML)
        (folder / "five.yaml").write_text(FIVE_YAML)
        print(f"{options.columns}×{options.rows}, medians of {options.runs} runs, in turn\n")
        print(f"{'chain':<22}{'pipe, s':>10}{'run, s':>10}{'difference':>12}{'ratio':>8}")
        for title, steps, file in (("three light commands", LIGHT, "light"), ("five commands", FIVE, "five")):
            pairs = [
                (seconds(pipe(steps, "in.png"), folder), seconds(f"{IMGEDIT} run {file}.yaml in.png > out.png", folder))
                for _ in range(options.runs)
            ]
            piped, ran = (statistics.median(column) for column in zip(*pairs))
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{title:<22}{piped:>10.2f}{ran:>10.2f}{piped - ran:>12.2f}{ratio:>8.2f}")
        print(f"\n{'start':<22}{'ms':>10}{'ratio to python -c pass':>26}")
        plain = f"{shlex.quote(sys.executable)} -c pass"
        for arguments in ("--version", "--help", "erase --help", "compare --help", "run --help"):
            pairs = [(seconds(f"{IMGEDIT} {arguments}", folder), seconds(plain, folder)) for _ in range(9)]
            print(f"{arguments:<22}{1000 * statistics.median(a for a, _ in pairs):>10.0f}", end="")
            print(f"{statistics.median(a / b for a, b in pairs):>26.1f}")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"\npeak memory of the largest process: {peak:.0f} MiB")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
