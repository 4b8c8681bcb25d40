"""Measure enlarging by diffusion: the whole picture at once against windows and tiles; images a minute, memory, seams.

    python scripts/bench/upscale_diffusion.py [--full] [--side N]... [--steps N] [--tile N]... [--repeat N]
        [--json FILE]

Each way runs with the sampler and the steps that are its default; with --steps all take so many. Ratios are to
diffusers' own pipeline, which takes the picture in a single pass; our single pass takes our sampler. Two stages: drawn,
at each step in windows where the picture is too large for one, then decoded in tiles. Pictures of up to three times the
side that the model was made for, the small one's 96 pixels, go through as a whole: there both stages are one.

Without --full a small model enlarges on this machine, on a CPU in some minutes; with it the architecture of Stable
Diffusion ×4 at full size, which wants a GPU. The weights are random, so that nothing is downloaded and what is drawn
means nothing. The small model has all layers of the full one at a sixteenth of their width and takes a quarter of its
side: attention, which grows with the square of the area, then has the same share, and 128 pixels stand for 512.

Each run has a process of its own, in which a small picture is enlarged first: then the libraries are at work and hold
what they take once. Memory is the peak of a few steps and the decoding; "taken" is what lies beyond what was held
before, the model included. Where that can be asked for it is the peak that the system kept, else what was seen by
looking each millisecond. Minutes are of processor time on a CPU, in one thread, as others may work beside and threads
that wait for each other spin; and as they pass on a GPU. With --repeat N each number is the median of N runs, and each
share that of medians.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median_low
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
#: the first line: what the others are compared with
THEIRS = "diffusers, at once"
#: a model of the same layers has widths that are this share, and at most these sides, latent cells and pixels
_NARROW, _CELLS, _PIXELS = 16, 32, 128
#: sides of the pictures, pixels: the small model was made for 32, the full one for 128
SMALL_SIDES, FULL_SIDES = (96, 128, 256), (512,)
#: where memory is measured: more steps take no more
_FEW = 2
#: side of the picture that is enlarged before anything is measured
_FIRST = 16
#: what tells Linux to forget the most memory that a process held
_FORGET = Path("/proc/self/clear_refs")
#: what mallopt calls the size from which on memory is taken from the system, and given back to it, block by block; and
#: how much is kept of what is freed. Who sets one has to set both: they no longer follow what the process does
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _LEAST_BLOCK, _USUAL_BLOCK = -3, -1, 1 << 16, 1 << 25


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: images a minute, memory at most, in all and beyond what was held before, 10⁹ bytes, the
    seam score along the lines where parts meet (None: there are none), and the first two as shares of the first line.
    *evaluations*: how often the UNet is asked for each window.
    """

    side: int
    way: str
    windows: int
    evaluations: int
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


def narrow(made: Parts) -> Parts:
    """Return the parts of the same model at a fraction of the width."""
    name, unet, vae, _ = made

    def widths(config: dict[str, Any]) -> tuple[int, ...]:
        return tuple(width // _NARROW for width in config["block_out_channels"])

    said = unet["cross_attention_dim"] // _NARROW
    heads = max(1, unet["attention_head_dim"] // _NARROW)
    unet = {**unet, "block_out_channels": widths(unet), "cross_attention_dim": said, "norm_num_groups": 8}
    unet |= {"attention_head_dim": heads}
    vae = {**vae, "block_out_channels": widths(vae), "norm_num_groups": 4}
    return name, {**unet, "sample_size": _CELLS}, {**vae, "sample_size": _PIXELS}, [(said, False, {})]


#: enlarges pixels, in a few steps if so told; returns how many windows and evaluations that took, and the seam score
Way = Callable[[Any, bool], dict[str, Any]]


def theirs(folder: Path, device: str, dtype: Any, steps: int | None) -> Way:
    """Return diffusers' own pipeline, which takes the picture as a whole."""
    import diffusers
    import torch
    from PIL import Image

    called = "dtype" if hasattr(diffusers.utils, "_resolve_dtype") else "torch_dtype"
    pipe = diffusers.StableDiffusionUpscalePipeline.from_pretrained(folder, local_files_only=True, **{called: dtype})
    pipe.to(device).set_progress_bar_config(disable=True)

    def enlarge(pixels: Any, few: bool) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        given = {"num_inference_steps": _FEW if few else steps} if few or steps else {}
        pipe(PROMPT, Image.fromarray(pixels), generator=generator, **given)
        return {"windows": 1, "evaluations": len(pipe.scheduler.timesteps)}

    return enlarge


def ours(folder: Path, steps: int | None, tile: int | None) -> Way:
    """Return our backend with windows for tiles of *tile* pixels at most (None: the default)."""
    backend = registry.backend("upscale", f"diffusion:{folder}")

    def enlarge(pixels: Any, few: bool) -> dict[str, Any]:
        own = {"prompt": PROMPT, **({"steps": _FEW if few else steps} if few or steps else {})}
        resources = Resources(memory_target_gb=1000, coarse_tile=tile)
        size = [4 * side for side in pixels.shape[:2]]
        notes = dict(backend.upscale(pixels, *size, own=own, resources=resources).notes)
        return {**notes, "evaluations": notes["steps"]}

    return enlarge


def measured(way: Way, side: int, device: str) -> dict[str, Any]:
    """Return what one run of *way* on a picture of *side* took, by the names of a Row's fields.

    What the C library keeps of freed memory to use again is no need of any way, so that it is to keep none where memory
    is measured.
    """
    pixels = picture(side)
    way(picture(_FIRST), True)
    keep(_LEAST_BLOCK)
    give_back(device)
    with contextlib.suppress(OSError):
        _FORGET.write_text("5")
    with Watch(device) as watch:
        way(pixels, True)
    keep(_USUAL_BLOCK)
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    start = clock()
    notes = way(pixels, False)
    seconds = clock() - start
    counts = {name: notes[name] for name in ("windows", "evaluations")}
    sizes = {"peak_gb": watch.peak / GB, "taken_gb": watch.taken / GB}
    return {**counts, "per_minute": 60 / seconds, **sizes, "seam": notes.get("seam")}


def keep(block: int) -> None:
    """Let the C library keep what is freed in blocks smaller than *block*, twice as much in all."""
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, block)
        library.mallopt(_TRIM_THRESHOLD, 2 * block)


def once(folder: Path, side: int, steps: int | None, way: str, tile: int | None) -> dict[str, Any]:
    """Return what one run took; meant for a process of its own, of which all is then this way's."""
    import torch

    from imgedit.backends.diffusion import _load

    device = _load.device_of("auto")
    _load.quiet()
    if device == "cpu":
        torch.set_num_threads(1)
    if way == THEIRS:
        return measured(theirs(folder, device, _load.dtype_of("auto", device), steps), side, device)
    return measured(ours(folder, steps, tile), side, device)


def apart(function: Callable[..., Any], *given: Any) -> Any:
    """Return what *function* returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def middle(side: int, way: str, runs: Sequence[dict[str, Any]]) -> Row:
    """Return the line of *runs*, the median of each number, without shares."""
    numbers = {name: [run[name] for run in runs] for name in runs[0]}
    return Row(side, way, **{name: None if None in found else median_low(found) for name, found in numbers.items()})


def run(
    *,
    full: bool,
    sides: Sequence[int],
    steps: int | None,
    tiles: Sequence[int | None],
    repeat: int = 1,
    call: Callable[..., Any] = apart,
) -> list[Row]:
    """Return the table: for each of *sides* diffusers' pipeline first, then our single pass, then each of *tiles*.

    *call*: how a run is called, with the function and what it is given.
    """
    from imgedit.backends.diffusion import _load

    device = _load.device_of("auto")
    dtype = _load.dtype_of("auto", device)
    _load.quiet()
    table = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "x4-upscaler"
        scheduler = ("DDIMScheduler", {"prediction_type": "v_prediction", **small_models.LOW_RES})
        make_full(folder, FULL if full else narrow(FULL), device, dtype, scheduler, small_models.LOW_RES)
        give_back(device)
        for side in sides:
            ways = [(THEIRS, None), ("single pass", side)]
            ways += [("two stages, tiled" if tile is None else f"the same, tile {tile}", tile) for tile in tiles]
            # all ways by turns: what else the machine does falls on each of them
            runs = [[call(once, folder, side, steps, *way) for way in ways] for _ in range(repeat)]
            rows = [middle(side, way, found) for (way, _), found in zip(ways, zip(*runs))]
            first = rows[0]
            table += [
                dataclasses.replace(
                    row,
                    speed=row.per_minute / first.per_minute,
                    # on a CPU the interpreter and its libraries are most of what is held
                    memory=row.peak_gb / first.peak_gb
                    if device.startswith("cuda")
                    else row.taken_gb / max(first.taken_gb, 1e-9),
                )
                for row in rows
            ]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the architecture at full size, with random weights")
    parser.add_argument("--side", type=int, action="append", help="of a picture, pixels; the result has four times it")
    parser.add_argument("--steps", type=int, help="of all ways, instead of what is the default of each")
    parser.add_argument("--tile", type=int, action="append", default=[], help="another size of tiles; repeat")
    parser.add_argument("--repeat", type=int, help="runs of each way; the default is 3, with --full 1")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as well")
    given = parser.parse_args()
    from imgedit.backends.diffusion import _load

    on_gpu = _load.device_of("auto").startswith("cuda")
    sides = given.side or (FULL_SIDES if given.full else SMALL_SIDES)
    repeat = given.repeat or (1 if given.full else 3)
    table = run(full=given.full, sides=sides, steps=given.steps, tiles=[None, *given.tile], repeat=repeat)
    size = "full size" if given.full else "small model"
    kind = "peak" if on_gpu else "taken"
    print(
        f"{size}, to four times the side, guidance 9, medians of {repeat}; speed and memory: images/min and {kind} GB"
    )
    print("as shares of the first line of each side; taken: beyond what the process held with the model loaded")
    heads = {"steps": 6, "windows": 8, "images/min": 12, "peak GB": 9, "taken GB": 10}
    heads |= {"seam": 7, "speed": 7, "memory": 8}
    print("side  " + "way".ljust(20) + "".join(head.rjust(width) for head, width in heads.items()))
    for row in table:
        seam = "-" if row.seam is None else f"{row.seam:.2f}"
        print(
            f"{row.side:>4}  {row.way:<20}{row.evaluations:>6}{row.windows:>8}{row.per_minute:>12.2f}"
            f"{row.peak_gb:>9.2f}{row.taken_gb:>10.3f}{seam:>7}{row.speed:>7.2f}{row.memory:>8.2f}"
        )
    if given.json:
        given.json.write_text(json.dumps([dataclasses.asdict(row) for row in table], indent=1) + "\n")


if __name__ == "__main__":
    main()
