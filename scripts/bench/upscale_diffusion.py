"""Measure enlarging by diffusion: the whole picture at once against windows and tiles; images a minute, memory, seams.

    python scripts/bench/upscale_diffusion.py [--full] [--side N] [--steps 20] [--tile N]... [--json FILE]

Without --full a small model enlarges on this machine, on a CPU in a minute; with it the architecture of Stable
Diffusion ×4 at full size, which wants a GPU. The weights are random, so that nothing is downloaded and what is drawn
means nothing. Each way is run once before it is measured. Two stages: drawn in windows at each step, then decoded in
tiles. Minutes are of processor time on a CPU, where others may work beside, and as they pass on a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import small_models  # noqa: E402
from diffusion import Parts, make_full  # noqa: E402

from imgedit import registry  # noqa: E402
from imgedit.backends.memory import GB, Watch, give_back  # noqa: E402
from imgedit.jobs import Resources  # noqa: E402

PROMPT = "an old brick wall"
_CROSS, _DOWN, _UP = "CrossAttnDownBlock2D", "DownBlock2D", "UpBlock2D"
#: Stable Diffusion ×4: 473, 55 and 340 million parameters
FULL: Parts = (
    small_models.UPSCALER,
    {
        "in_channels": 7,
        "out_channels": 4,
        "layers_per_block": 2,
        "sample_size": 128,
        "block_out_channels": (256, 512, 512, 1024),
        "down_block_types": (_DOWN, _CROSS, _CROSS, _CROSS),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", _UP),
        "only_cross_attention": (True, True, True, False),
        "cross_attention_dim": 1024,
        "attention_head_dim": 8,
        "num_class_embeds": 1000,
        "use_linear_projection": True,
    },
    {
        "block_out_channels": (128, 256, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 256,
        "scaling_factor": 0.08333,
    },
    [
        (
            1024,
            False,
            {"intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23, "vocab_size": 49408},
        )
    ],
)
#: side of the picture, pixels: a window of the small model has 32, of the full one 128
SMALL_SIDE, FULL_SIDE = 160, 512


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: images a minute, memory at most, in all and beyond what was held before, 10⁹ bytes, the
    seam score along the lines where parts meet (None: there are none), and the first two as shares of the first line.
    """

    way: str
    windows: int
    per_minute: float
    peak_gb: float
    taken_gb: float
    seam: float | None
    speed: float = 1.0
    memory: float = 1.0


def picture(side: int) -> Any:
    """Return (side, side, 3) uint8 pixels with edges and noise, the same each time."""
    random = np.random.default_rng(side)
    y, x = np.mgrid[:side, :side]
    shapes = 128 + 90 * np.sin(x / 9)[..., None] * np.cos(y[..., None] / np.array((7, 11, 17)))
    return np.clip(shapes + random.normal(0, 6, (side, side, 3)), 0, 255).astype(np.uint8)


def measured(way: str, run: Callable[[], dict[str, Any]], device: str) -> Row:
    """Return the line of one way, without shares; it is run once before."""
    run()
    gc.collect()
    give_back(device)
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    with Watch(device) as watch:
        start = clock()
        notes = run()
        seconds = clock() - start
    return Row(way, notes["windows"], 60 / seconds, watch.peak / GB, watch.taken / GB, notes.get("seam"))


def theirs(folder: Path, device: str, dtype: Any, pixels: Any, steps: int) -> Row:
    """Return the line of diffusers' own pipeline, which takes the picture as a whole."""
    import diffusers
    import torch
    from PIL import Image

    called = "dtype" if hasattr(diffusers.utils, "_resolve_dtype") else "torch_dtype"
    pipe = diffusers.StableDiffusionUpscalePipeline.from_pretrained(folder, local_files_only=True, **{called: dtype})
    pipe.to(device).set_progress_bar_config(disable=True)

    def run() -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        pipe(PROMPT, Image.fromarray(pixels), num_inference_steps=steps, generator=generator)
        return {"windows": 1}

    return measured("diffusers", run, device)


def run(*, full: bool, side: int, steps: int, tiles: Sequence[int | None], pipeline: bool = True) -> list[Row]:
    """Return the table: the whole at once first, then each of *tiles* (None: the default), then diffusers' pipeline."""
    from imgedit.backends.diffusion import _load

    device = _load.device_of("auto")
    dtype = _load.dtype_of("auto", device)
    _load.quiet()
    pixels = picture(side)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "x4-upscaler"
        if full:
            scheduler = ("DDIMScheduler", {"prediction_type": "v_prediction", **small_models.LOW_RES})
            make_full(folder, FULL, device, dtype, scheduler, small_models.LOW_RES)
            give_back(device)
        else:
            small_models.make(Path(scratch), [folder.name])
        backend = registry.backend("upscale", f"diffusion:{folder}")

        def enlarge(tile: int | None) -> dict[str, Any]:
            own = {"steps": steps, "prompt": PROMPT}
            resources = Resources(memory_target_gb=1000, coarse_tile=tile)
            return dict(backend.upscale(pixels, 4 * side, 4 * side, own=own, resources=resources).notes)

        rows = [measured("single pass", lambda: enlarge(side), device)]
        for tile in tiles:
            name = "two stages, tiled" if tile is None else f"the same, tile {tile}"
            rows.append(measured(name, lambda tile=tile: enlarge(tile), device))  # type: ignore[misc]
        if pipeline:
            backend._backend._loaded = None
            rows.append(theirs(folder, device, dtype, pixels, steps))
    first = rows[0]
    on_gpu = device.startswith("cuda")
    return [
        dataclasses.replace(
            row,
            speed=row.per_minute / first.per_minute,
            # on a CPU the interpreter and its libraries are most of what is held
            memory=row.peak_gb / first.peak_gb if on_gpu else row.taken_gb / max(first.taken_gb, 1e-9),
        )
        for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the architecture at full size, with random weights")
    parser.add_argument("--side", type=int, help="of the picture, in pixels; the result has four times as many")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tile", type=int, action="append", default=[], help="another size of tiles; repeat")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as well")
    given = parser.parse_args()
    side = given.side or (FULL_SIDE if given.full else SMALL_SIDE)
    table = run(full=given.full, side=side, steps=given.steps, tiles=[None, *given.tile])
    size = "full size" if given.full else "small model"
    print(f"{size}, {side} × {side} pixels to four times as many, {given.steps} steps, guidance 9; ratios to the first")
    heads = {"windows": 8, "images/min": 12, "peak GB": 9, "taken GB": 10, "seam": 7, "speed": 7, "memory": 8}
    print("way".ljust(20) + "".join(head.rjust(width) for head, width in heads.items()))
    for row in table:
        seam = "-" if row.seam is None else f"{row.seam:.2f}"
        print(
            f"{row.way:<20}{row.windows:>8}{row.per_minute:>12.2f}{row.peak_gb:>9.2f}{row.taken_gb:>10.2f}"
            f"{seam:>7}{row.speed:>7.2f}{row.memory:>8.2f}"
        )
    if given.json:
        given.json.write_text(json.dumps([dataclasses.asdict(row) for row in table], indent=1) + "\n")


if __name__ == "__main__":
    main()
