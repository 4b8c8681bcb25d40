"""Fill the mask with what a diffusion model imagines: `imgedit inpaint`."""

from __future__ import annotations

import importlib.util
import re
from typing import Annotated, Literal

from imgedit.errors import Unavailable, nearest
from imgedit.frame import Frame
from imgedit.stage import Expect, Opt, stage

SCHEDULERS = ("ddim", "ddpm", "pndm", "lms", "euler", "euler-ancestral", "heun", "dpm-solver", "unipc")
PACKAGES = ("torch", "diffusers", "transformers")
MOST_STEPS = 1000


def _scheduler(text: str) -> str:
    """Return *text*, ``ddim`` or ``ddim:30,ddpm:20``, in lower case without spaces; ValueError where it is not that."""
    parts = [part.strip().lower() for part in text.split(",")]
    for part in parts:
        match = re.fullmatch(r"([a-z0-9+-]+)(?::(\d{1,6}))?", part)
        if match is None:
            raise ValueError(f"{part!r} is not NAME or NAME:STEPS")
        name, steps = match.groups()
        if name not in SCHEDULERS:
            raise ValueError(f"there is no scheduler {name!r}, {nearest(name, SCHEDULERS)}")
        if steps is None and len(parts) > 1:
            raise ValueError(f"{part!r} in a mix needs its number of steps: {name}:20")
        if steps is not None and not 1 <= int(steps) <= MOST_STEPS:
            raise ValueError(f"{part!r} has not 1 to {MOST_STEPS} steps")
    return ",".join(parts)


@stage(needs=["mask"], keeps=["size", "outside-mask", "alpha"], guard="preflight", latents=Expect(mean=0.5, std=1.0))
def inpaint(
    frame: Frame,
    *,
    prompt: Annotated[str, Opt("What is to be seen in the hole.")] = "",
    negative_prompt: Annotated[str, Opt("What is not to be seen there.")] = "",
    model: Annotated[str | None, Opt("Model: a Hub id, a folder, or a single file.")] = None,
    guidance_scale: Annotated[float, Opt("How closely the prompt is followed; 0 to 1 is not at all.", 0, 50)] = 7.5,
    strength: Annotated[
        float, Opt("Share of the noise schedule that is run: 1 invents anew, less keeps some of what is there.", 0, 1)
    ] = 1.0,
    steps: Annotated[int, Opt("Denoising steps, where the scheduler is given without a number.", 1, MOST_STEPS)] = 50,
    seed: Annotated[int, Opt("Seed of the random numbers.", min=0)] = 0,
    scheduler: Annotated[
        str, Opt("Sampler, or several one after the other with their steps: ddim:30,ddpm:20.", check=_scheduler)
    ] = "ddim",
    latents: Annotated[
        Literal["sample", "mean"], Opt("Take a sample of the encoder's distribution, or its mean.")
    ] = "sample",
    staged: Annotated[bool, Opt("Erase first, then start the model from that fill.")] = False,
    margin: Annotated[int, Opt("Context shown to the model on each side of a hole, pixels.", min=0, max=4096)] = 64,
) -> Frame:
    """Fill the mask with a diffusion model; every pixel outside the mask is kept bit for bit.

    No model runs in this version: options and mask are checked, and then what is missing is said. `erase` needs none.
    """
    assert frame.mask is not None
    raise Unavailable(*_nothing_here(model))


def _nothing_here(model: str | None) -> tuple[str, str]:
    lacking = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    message = "no inpainting model is available here: this version of imgedit has no backend that runs one"
    if lacking:
        message += f", and {', '.join(lacking)} are not installed"
    if model is not None:
        message += f" (asked for: {model!r:.80})"
    return message, (
        "imgedit erase fills without any model; a version that runs models needs "
        "pip install 'imgedit[models]' and --model FOLDER"
    )
