"""Measure inpainting at full size against diffusers' own pipelines: seconds a picture, memory, and the same outcome.

    python scripts/bench/diffusion.py [--small] [--device auto] [--batches 1 4 8] [--steps 20] [--json FILE]

The architectures are those of SD 1.5 and SDXL for inpainting; the weights are random, so that nothing is downloaded and
what is painted means nothing. Half precision on CUDA. --small runs the small models, on a CPU in seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import small_models  # noqa: E402

# a torchvision that the torch here was not built for is to load beside it, as in the tests
runpy.run_path(str(Path(__file__).parents[2] / "tests/operators/sitecustomize.py"))

from imgedit import registry  # noqa: E402
from imgedit.backends.memory import Watch, give_back  # noqa: E402
from imgedit.jobs import Crop, Sampling  # noqa: E402

PROMPT = "an old brick wall"
_SCHEDULER = ("DDIMScheduler", {"steps_offset": 1, "set_alpha_to_one": False})
_UNET = {"out_channels": 4, "in_channels": 9, "layers_per_block": 2}
_CROSS, _DOWN, _UP = "CrossAttnDownBlock2D", "DownBlock2D", "UpBlock2D"
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_L = {"intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12, "vocab_size": 49408}
_G = {"intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32, "vocab_size": 49408}
#: pipeline, UNet, VAE, text encoders (width, whether it projects, what else)
Parts = tuple[str, dict[str, Any], dict[str, Any], list[tuple[int, bool, dict[str, Any]]]]
FULL: dict[str, Parts] = {
    "SD 1.5": (
        "StableDiffusionInpaintPipeline",
        {
            **_UNET,
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            "down_block_types": (_CROSS, _CROSS, _CROSS, _DOWN),
            "up_block_types": (_UP, "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        {**_VAE, "sample_size": 512, "scaling_factor": 0.18215},
        [(768, False, _L)],
    ),
    "SDXL": (
        "StableDiffusionXLInpaintPipeline",
        {
            **_UNET,
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": (_DOWN, _CROSS, _CROSS),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", _UP),
            "transformer_layers_per_block": (1, 2, 10),
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
        [(768, False, _L), (1280, True, _G)],
    ),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: seconds a picture, peak memory in GB, and how far the outcomes are apart, 0…1."""

    model: str
    batch: int
    ours_s: float
    theirs_s: float
    ours_gb: float
    theirs_gb: float
    largest: float
    mean: float


def make_full(
    folder: Path,
    made: Parts,
    device: str,
    dtype: Any,
    scheduler: tuple[str, dict[str, Any]] = _SCHEDULER,
    low_res: dict[str, Any] | None = None,
) -> None:
    """Write a full-size model with random weights, made on *device*; *low_res*: as of a kind of small model."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    pipeline, unet, vae, encoders = made
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        torch.manual_seed(0)
        with torch.device(device):
            parts = UNet2DConditionModel(**unet), AutoencoderKL(**vae)
            texts = [
                (CLIPTextModelWithProjection if projected else CLIPTextModel)(
                    small_models.text_config(width, projected=projected, **other)
                )
                for width, projected, other in encoders
            ]
        small_models.save(folder, pipeline, *(part.to(dtype) for part in parts), texts, scheduler, low_res)
    finally:
        torch.set_default_dtype(before)


def crops(count: int, side: int, seed: int) -> list[Crop]:
    """Return crops of smooth noise with a hole of whole cells in the middle."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    quarter = side // 32 * 8
    mask[quarter:-quarter, quarter:-quarter] = 255
    return [
        Crop(rng.integers(0, 256, (side // 16, side // 16, 3), np.uint8).repeat(16, 0).repeat(16, 1), mask, seed + i)
        for i in range(count)
    ]


def theirs(folder: Path, device: str, dtype: Any) -> Callable[[Sampling, Sequence[Crop]], Any]:
    """Return diffusers' own pipeline as a function of what ours takes."""
    import diffusers
    import torch
    from PIL import Image

    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    called = "dtype" if hasattr(diffusers.utils, "_resolve_dtype") else "torch_dtype"
    pipeline = getattr(diffusers, name).from_pretrained(folder, local_files_only=True, **{called: dtype}).to(device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)

    def run(given: Sampling, batch: Sequence[Crop]) -> Any:
        return pipeline(
            prompt=[given.prompt] * len(batch),
            image=[Image.fromarray(crop.pixels) for crop in batch],
            mask_image=[Image.fromarray(crop.mask) for crop in batch],
            generator=[torch.Generator().manual_seed(crop.seed) for crop in batch],
            strength=given.strength,
            guidance_scale=given.guidance_scale,
            num_inference_steps=given.steps,
            height=batch[0].mask.shape[0],
            width=batch[0].mask.shape[1],
            output_type="np",
        ).images

    return run


def measure(
    run: Callable[[Sampling, Sequence[Crop]], Any], given: Sampling, batches: Sequence[int], side: int, device: str
) -> list[tuple[float, float, Any]]:
    """Return seconds a picture, peak memory in GB and the pictures for each batch; a short run before warms up."""
    found = []
    for batch in batches:
        run(dataclasses.replace(given, steps=2), crops(batch, side, 1000))
        with Watch(device) as watch:
            start = time.perf_counter()
            pixels = run(given, crops(batch, side, batch))
            seconds = time.perf_counter() - start
        found.append((seconds / batch, watch.peak / 1e9, np.asarray(pixels)))
    return found


def rows(folder: Path, name: str, device: str, batches: Sequence[int], steps: int) -> list[Row]:
    """Return the table of one model: ours first, then diffusers' pipeline, one of the two in memory at a time."""
    from imgedit.backends.diffusion import _load

    backend = registry.backend_class("diffusion", "diffusers")()
    given = Sampling(str(folder), PROMPT, steps=steps, device=device)
    side = backend.geometry(given).native
    dtype = _load.dtype_of("auto", device)

    def ours(asked: Sampling, batch: Sequence[Crop]) -> Any:
        return np.stack([made.pixels for made in backend.synthesize(asked, batch)])

    own = measure(ours, given, batches, side, device)
    backend._loaded = None
    gc.collect()
    give_back(device)
    other = measure(theirs(folder, device, dtype), given, batches, side, device)
    return [
        Row(
            name,
            batch,
            a[0],
            b[0],
            a[1],
            b[1],
            float(np.abs(a[2] - b[2]).max()),
            float(np.abs(a[2] - b[2]).mean()),
        )
        for batch, a, b in zip(batches, own, other, strict=True)
    ]


def run(*, small: bool, device: str, batches: Sequence[int], steps: int) -> list[Row]:
    """Return the whole table."""
    from imgedit.backends.diffusion import _load

    device = _load.device_of(device)
    _load.quiet()
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("sd-inpaint", "xl-inpaint") if small else FULL:
            folder = Path(scratch) / name.replace(" ", "-")
            if small:
                small_models.make(Path(scratch), [name])
            else:
                make_full(folder, FULL[name], device, _load.dtype_of("auto", device))
                give_back(device)
            table += rows(folder, name, device, batches, steps)
            give_back(device)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the small models")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as well")
    given = parser.parse_args()
    import torch

    small = given.small
    if not small and given.device == "auto" and not torch.cuda.is_available():
        print("no GPU here: the small models, on the CPU; what they measure is the code around a model, not a model\n")
        small = True
    table = run(small=small, device=given.device, batches=given.batches, steps=given.steps)
    print(f"{given.steps} steps, guidance 7.5; seconds a picture, peak GB, difference of the pictures 0…1")
    print(
        f"{'model':<12}{'batch':>6}{'ours s':>9}{'theirs s':>10}{'ours GB':>9}{'theirs GB':>11}{'max':>10}{'mean':>10}"
    )
    for row in table:
        print(
            f"{row.model:<12}{row.batch:>6}{row.ours_s:>9.3f}{row.theirs_s:>10.3f}"
            f"{row.ours_gb:>9.2f}{row.theirs_gb:>11.2f}{row.largest:>10.5f}{row.mean:>10.6f}"
        )
    if given.json:
        given.json.write_text(json.dumps([dataclasses.asdict(row) for row in table], indent=1) + "\n")


if __name__ == "__main__":
    main()
