"""Fill the mask with what a diffusion model imagines: `imgedit inpaint`."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Annotated, Any, Literal

from imgedit.errors import GateFailed, UsageError, nearest
from imgedit.frame import Finding, Frame
from imgedit.jobs import Ask, Crop, Sampling, Synthesized
from imgedit.stage import Around, Expect, File, Model, Opt, stage

SCHEDULERS = (
    *("ddim", "ddpm", "pndm", "lms", "euler", "euler-karras", "euler-ancestral", "heun", "dpm-solver"),
    *("dpm-solver-karras", "dpm-solver-sde", "dpm-solver-sde-karras", "unipc", "unipc-exponential", "lcm"),
)
MOST_STEPS = 1000
#: unless told: an open inpainting model of moderate size
MODEL = Model("stable-diffusion-v1-5/stable-diffusion-inpainting")
#: share of the noise schedule unless told: all, and from a fill that is there already
STRENGTH, STAGED_STRENGTH = 1.0, 0.6
#: findings of preflight that say that there is too little to fill from: a prompt says what is to be there, and that
#: one is wanted where nothing at all is left is said here
WHOLE, LITTLE = "IE102", "IE104"
#: context of a hole that the pixel fill of --staged is shown, pixels: as erase does
FILL_MARGIN = 64
#: crops of a picture that are asked for at once, so that memory does not grow with their number
AT_ONCE = 16
#: crops listed one by one in the notes; the rest is counted
LISTED = 50


def _scheduler(text: str) -> str:
    """Return *text*, ``ddim`` or ``ddim:30,ddpm:20``, in lower case without spaces; UsageError where it is not that."""
    try:
        return _mix(text)
    except ValueError as error:  # with a hint of its own: the help of the option lists all names
        hint = "--scheduler ddim, or several with their steps: --scheduler ddim:30,ddpm:20"
        raise UsageError(f"--scheduler: {error}", hint) from None


def _mix(text: str) -> str:
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


def _explain(code: str) -> str:
    """Return the documentation of a code of a latent step, or the list of all for an empty one."""
    from imgedit.ops import handoff

    return handoff.explain(code)


@stage(
    needs=["mask"],
    keeps=["size", "outside-mask", "alpha"],
    backend="diffusion:diffusers",
    also="fill:auto",
    guard="preflight",
    spares=lambda params: (WHOLE, LITTLE) if params["prompt"].strip() else (WHOLE,),
    latents=Expect(mean=0.5, std=1.0),
    explain=_explain,
)
def inpaint(
    frame: Frame,
    backend: Any,
    around: Around,
    *,
    prompt: Annotated[str, Opt("What is to be seen in the hole.")] = "",
    negative_prompt: Annotated[str, Opt("What is not to be seen there.")] = "",
    model: Annotated[Model, Opt("A Hub id, a folder, or a single file; `imgedit models list` knows some.")] = MODEL,
    guidance_scale: Annotated[float, Opt("How closely the prompt is followed; 0 to 1 is not at all.", 0, 50)] = 7.5,
    strength: Annotated[
        float | None,
        Opt(
            "Share of the noise schedule that is run: 1 invents anew, less keeps some of what is there. "
            "Default 1, with --staged 0.6.",
            0,
            1,
        ),
    ] = None,
    steps: Annotated[int, Opt("Denoising steps, where the scheduler is given without a number.", 1, MOST_STEPS)] = 50,
    seed: Annotated[int, Opt("Seed of the random numbers.", min=0, max=10**12)] = 0,
    scheduler: Annotated[
        str,
        Opt(
            f"Sampler, or several one after the other with their steps, ddim:30,ddpm:20: {', '.join(SCHEDULERS)}.",
            check=_scheduler,
        ),
    ] = "ddim",
    latents: Annotated[
        Literal["sample", "mean"], Opt("Take a sample of the encoder's distribution, or its mean.")
    ] = "sample",
    staged: Annotated[bool, Opt("Erase first, then start the model from that fill.")] = False,
    margin: Annotated[int, Opt("Least context shown to the model round each hole, pixels.", min=0, max=4096)] = 64,
    dilate_cells: Annotated[int, Opt("Grow the mask that the model sees by this, latent cells.", min=0, max=64)] = 0,
    resolution: Annotated[
        int | None, Opt("Side of the crops that the model works on, pixels; default what it was made for.", 64, 4096)
    ] = None,
    profile: Annotated[File | None, Opt("What the model expects of latents: a file of `imgedit calibrate`.")] = None,
    recenter: Annotated[
        Literal["auto", "on", "off"],
        Opt("With --profile: move latents to what it says where they are beyond its tolerance, always, or never."),
    ] = "auto",
    consistency: Annotated[
        File | None, Opt("Let prompts mean what they mean to another model: a file of `imgedit calibrate-prompts`.")
    ] = None,
    device: Annotated[str, Opt("Where the model runs: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"], Opt("Numbers that the model computes in.")
    ] = "auto",
    memory_target_gb: Annotated[
        float | None, Opt("Memory that the model may take, in 10⁹ bytes; default what is free.", min=0.1)
    ] = None,
) -> Generator[Ask, list[Synthesized], Frame]:
    """Fill the mask with a diffusion model; every pixel outside the mask is kept bit for bit.

    Works on crops of the model's own size, each round as many holes as it holds; a hole that is larger is seen by the
    model reduced, and enlarged again. A latent cell is masked if any of its pixels is, so that no stroke is lost. Crops
    of several pictures go through the model together, and no result depends on which. The step that a fill leaves along
    the edge of the hole is spread over the hole; mask values between 0 and 255 blend. The plane ``hint`` is 0 where
    pixels were invented. An empty mask changes nothing; one over everything needs a --prompt, and is the whole picture
    invented from it.

    With --staged the mask is first filled as erase does, the model starts from that, and the detail of its result is
    brought up to that of the surroundings.
    """
    from imgedit.ops import crops, holes

    assert frame.mask is not None
    mask = frame.mask
    if recenter == "on" and profile is None:
        raise UsageError("--recenter on needs to know where to", "--profile FILE, one that imgedit calibrate wrote")
    if not mask.any():
        return frame.replace(notes={"crops": 0, "result": "nothing to inpaint"})
    if not prompt.strip() and mask.all():
        raise UsageError("the mask covers everything, and no prompt says what is to be there", "--prompt 'a meadow'")
    default = STAGED_STRENGTH if staged else STRENGTH
    sampling = Sampling(
        model,
        prompt,
        negative_prompt,
        guidance_scale,
        default if strength is None else strength,
        steps,
        scheduler,
        latents,
        dilate_cells,
        recenter,
        profile,
        around.strict,
        consistency,
        device,
        dtype,
        memory_target_gb,
    )
    geometry = backend.geometry(sampling)
    terms, frame = _terms(frame, backend, sampling, resolution, geometry.native)
    base, filled = _erased(frame, around, seed) if staged else (frame.pixels, {})
    planned = crops.plan(mask, resolution or geometry.native, geometry.multiple_of, margin)
    grey = crops.is_grey(frame.pixels, mask)
    pixels = frame.pixels.copy()
    seen: list[dict[str, Any]] = []
    for first in range(0, len(planned), AT_ONCE):
        part = planned[first : first + AT_ONCE]
        asked = [_shown(base, mask, crop, seed + number) for number, crop in enumerate(part, first)]
        results = yield Ask(sampling, asked)
        for crop, shown, result in zip(part, asked, results):
            _put(pixels, frame, crop, result, detail=staged or crop.reduced, grey=grey)
            seen.append({**_seen(mask, crop, shown, geometry.grid, dilate_cells), **result.notes})
    planes = {**frame.planes, "hint": holes.invented(frame.planes.get("hint"), mask)}
    notes = {
        "model": backend.model(sampling),
        "crops": len(planned),
        "native": geometry.native,
        "grid": geometry.grid,
        "strength": sampling.strength,
        "cells": sum(one["cells"] for one in seen),
        "strokes_lost": sum(one.pop("lost") for one in seen),
        "terms": terms,
        "listed": tuple(seen[:LISTED]),
        **({"staged": filled} if staged else {}),
        **({"grey": True} if grey else {}),
    }
    return _measured(frame.replace(pixels=pixels, planes=planes, notes=notes), seen, sampling)


def _shown(base: Any, mask: Any, crop: Any, seed: int) -> Crop:
    """Return what the model is shown of *base* and *mask*."""
    from imgedit.ops import crops

    pixels, masked = crops.cut(base, crop), crops.cut(mask, crop)
    return Crop(crops.for_model(pixels, crop), crops.mask_for_model(masked, crop), seed)


def _put(pixels: Any, frame: Frame, crop: Any, result: Synthesized, *, detail: bool, grey: bool) -> None:
    """Write the result into *pixels* where the mask of *frame* is above 0 in the holes of *crop*, by its weights."""
    from imgedit.ops import crops, holes

    assert frame.mask is not None
    known, unknown = crops.cut(frame.pixels, crop), crops.cut(frame.mask, crop)
    fill = crops.from_model(result.pixels, crop, frame.pixels.dtype)
    fill = crops.finished(known, fill, unknown, detail=detail, grey=grey)
    for hole in crop.holes:
        weights, part = frame.mask[hole.slices], fill[hole.within(crop.box)]
        pixels[hole.slices] = holes.composite(frame.pixels[hole.slices], part, weights)


def _seen(mask: Any, crop: Any, shown: Crop, grid: int, dilate: int) -> dict[str, Any]:
    """Return what the step records of a crop: place, size, and the mask in latent cells."""
    from imgedit.ops.cells import lost, to_cells
    from imgedit.ops.crops import cut

    cells = to_cells(shown.mask, grid, dilate)
    rows, columns = crop.shape
    return {
        "where": crop.box.where,
        "size": (crop.columns, crop.rows),
        **({"scale": round(crop.rows / rows, 4)} if crop.reduced else {}),
        "holes": len(crop.holes),
        "seed": shown.seed,
        "cells": int((cells > 0).sum()),
        "lost": lost(cut(mask, crop), cells, grid * rows / crop.rows, grid * columns / crop.columns),
    }


def _erased(frame: Frame, around: Around, seed: int) -> tuple[Any, dict[str, Any]]:
    """Return the pixels with the mask filled as erase does, whatever its weights, and which methods did it."""
    from imgedit.ops import blend, holes

    assert frame.mask is not None
    mask, pixels = frame.mask, frame.pixels.copy()
    if mask.all():
        return pixels, {"result": "nothing to fill from"}
    filler = around.other()
    methods: dict[str, int] = {}
    for hole in holes.find(mask, FILL_MARGIN):
        crop = holes.shown(hole, mask, FILL_MARGIN, filler.context)
        known, unknown = frame.pixels[crop.slices], mask[crop.slices]
        fill, method, _, seamless = filler.fill(known, unknown, seed=seed)
        fill = fill if seamless else blend.blend(known, fill, unknown)
        inside = mask[hole.slices] > 0
        pixels[hole.slices][inside] = fill[hole.within(crop)][inside]
        methods[method] = methods.get(method, 0) + 1
    return pixels, {"methods": methods}


def _terms(
    frame: Frame, backend: Any, sampling: Sampling, resolution: int | None, native: int
) -> tuple[dict[str, Any], Frame]:
    """Return what this step hands to the next latent one, and *frame* with what has changed since the last one.

    Crops of *resolution* pixels that are far above the *native* size are noticed too. Raises GateFailed for what is a
    warning of these where *sampling* is strict.
    """
    from imgedit.ops import handoff

    try:
        facts = backend.facts(sampling)
    except UsageError:  # of a family that runs as a whole
        facts = {}
    terms = handoff.terms(facts, guidance_scale=sampling.guidance_scale, scheduler=sampling.scheduler)
    last = next((step for step in reversed(frame.sidecar.steps) if step.stage == "inpaint"), None)
    changed = handoff.changed(last.notes.get("terms") if last else None, terms)
    changed += handoff.sized(resolution, native)
    others = (finding for finding in frame.sidecar.findings if finding.code not in handoff.CODES)
    frame = _with_findings(frame.with_sidecar(findings=tuple(others)), changed)
    refusal = handoff.refusal(changed) if sampling.strict else None
    if refusal:
        raise GateFailed(*refusal)
    return terms, frame


def _measured(done: Frame, seen: Sequence[Mapping[str, Any]], sampling: Sampling) -> Frame:
    """Return *done* with what its latents say of the profile, and of prompts cut off; GateFailed where refused."""
    from imgedit.ops import handoff

    latents = [found for one in seen if isinstance(found := one.get("latents"), Mapping)]
    measured = handoff.measured(latents, sampling.guidance_scale)
    measured += handoff.cut(*(max(one.get(f"{which}tokens_cut", 0) for one in seen) for which in ("", "negative_")))
    done = _with_findings(done, measured)
    refusal = handoff.refusal(measured) if sampling.strict else None
    if refusal:
        raise GateFailed(*refusal, done)
    return done


def _with_findings(frame: Frame, noticed: Sequence[Any]) -> Frame:
    return frame.with_sidecar(findings=(*frame.sidecar.findings, *(Finding(*each) for each in noticed)))
