"""Models of other families, run whole by the pipeline that diffusers has for them: crops in, pictures out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imgedit.backends.diffusion import _economy
from imgedit.backends.diffusion._layout import Layout
from imgedit.backends.diffusion._load import quiet
from imgedit.backends.diffusion._memory import Plan
from imgedit.backends.diffusion._schedule import TABLE, make
from imgedit.errors import DataError, Unavailable, UsageError
from imgedit.jobs import Crop, Sampling, Synthesized
from imgedit.models import hub, packages, weights
from imgedit.models.locating import NEVER
from imgedit.ops.cells import to_cells
from imgedit.ops.depth import to8

#: the name that stands for the checkpoint's own sampler where this family does not know it
_DEFAULT = "ddim"


@dataclass(slots=True, eq=False)
class Running:
    """A pipeline in memory, with the configuration of its own sampler; *economy*: as in ``Loaded``."""

    layout: Layout
    pipeline: Any
    device: str
    scheduler: Any
    economy: list[str] = field(default_factory=list)

    def shrink(self) -> bool:
        """Take less memory and more time from now on; False where no more can be done."""
        if "tiled" not in self.economy:
            self.pipeline.enable_attention_slicing()
            _economy.tile(getattr(self.pipeline, "vae", None))
            self.economy.append("tiled")
        elif "parked" not in self.economy and self.device.startswith("cuda"):
            self.pipeline.enable_model_cpu_offload(device=self.device)
            self.economy.append("parked")
        else:
            return False
        return True


def refuse(sampling: Sampling) -> None:
    """Raise UsageError for what cannot be asked of a pipeline that is run whole."""
    asked = {
        "mixed schedulers": "," in sampling.scheduler,
        "a profile for recentring": sampling.profile is not None,
        "translated prompts": sampling.consistency is not None,
        "the mean of the latents": sampling.latents == "mean",
    }
    for what, given in asked.items():
        if given:
            raise UsageError(
                f"{sampling.model!r:.80} is of a family that diffusers runs as a whole: it does not take {what}",
                "leave that out, or take a model of the Stable Diffusion 1, 2 or XL families",
            )


def load(layout: Layout, device: str, dtype: Any, plan: Plan) -> Running:
    """Return the pipeline on *device*.

    Raises DataError where diffusers has none that fills holes with this model, Unavailable where that needs a package
    that is not here.
    """
    _refuse_programs(layout)
    quiet()
    import diffusers

    name = str(layout.index.get("_class_name", ""))
    with packages.importing("diffusers"):
        own = getattr(diffusers, name, None) if "Inpaint" in name or "Fill" in name else None
        kind = own or diffusers.AutoPipelineForInpainting
    variants = {layout.located.variant(part) for part in layout.located.files}
    # newer pipelines call it dtype, and warn of the former name
    called = "dtype" if hasattr(diffusers.utils, "_resolve_dtype") else "torch_dtype"
    absent = [part for part, value in layout.index.items() if value == [None, None]]
    options = {called: dtype, **dict.fromkeys((*NEVER, *absent))}
    try:
        pipeline = kind.from_pretrained(
            layout.located.path,
            use_safetensors=True,
            local_files_only=True,
            variant="fp16" if variants == {"fp16"} else None,
            **options,
        )
    except Exception as error:
        reason = " ".join(str(error).split())
        if "AutoPipeline can" in reason:
            raise DataError(
                f"diffusers has no pipeline that fills holes with a {name or 'model of this kind'}",
                "imgedit models list shows models for inpaint",
            ) from error
        said = f"{layout.located.name:.80} could not be loaded: {reason:.200}"
        if isinstance(error, ImportError):  # tokenizers of some families are in packages of their own
            raise Unavailable(said, "install the package that it names, or take another --model") from error
        if isinstance(error, (OSError, ValueError, KeyError, TypeError)):
            raise DataError(said, weights.AGAIN) from error
        raise
    pipeline.set_progress_bar_config(disable=True)
    running = Running(layout, pipeline, device, pipeline.scheduler)
    if plan.vae_tiling or plan.attention_slicing:
        running.shrink()
    if plan.offload:
        running.shrink()
    else:
        pipeline.to(device)
    return running


def _refuse_programs(layout: Layout) -> None:
    """Raise DataError for a folder that holds programs: some releases of diffusers run them without being told to."""
    programs = [path for path in hub.files(layout.located.path) if path.suffix == ".py"]
    if programs:
        raise DataError(
            f"{Path(layout.located.name).name:.80} holds a program, {programs[0].name:.80}, which loading it could run",
            "leave out what does not end in .safetensors, .json or .txt",
        )


def synthesize(
    running: Running, sampling: Sampling, crops: Sequence[Crop], watch: Callable[[int, int], None] | None
) -> list[Synthesized]:
    """Return what the pipeline makes of each of *crops*, one after the other: what it does with lists is its own."""
    return [_one(running, sampling, crop, watch) for crop in crops]


def _one(running: Running, sampling: Sampling, crop: Crop, watch: Callable[[int, int], None] | None) -> Synthesized:
    import torch
    from PIL import Image

    takes = inspect.signature(running.pipeline.__call__).parameters
    sampler, steps = _sampler(running, sampling)
    running.pipeline.scheduler = sampler
    grid = running.layout.grid
    rows, columns = crop.mask.shape
    # whole cells: the pipeline looks at one pixel of each
    cells = to_cells(crop.mask, grid, sampling.dilate_cells).repeat(grid, axis=0).repeat(grid, axis=1)
    options: dict[str, Any] = {
        "prompt": sampling.prompt,
        "image": Image.fromarray(to8(crop.pixels)),
        "mask_image": Image.fromarray(cells[:rows, :columns]),
        "height": rows,
        "width": columns,
        "num_inference_steps": steps,
        "output_type": "np",
        **_optional(running, sampling, takes),
    }
    if "generator" in takes:
        options["generator"] = torch.Generator("cpu").manual_seed(crop.seed)
    if watch is not None and "callback_on_step_end" in takes:
        options["callback_on_step_end"] = _told(watch, steps)
    try:
        pixels = np.asarray(running.pipeline(**options).images[0], np.float32)
    except ValueError as error:  # what a pipeline says of its options
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{type(running.pipeline).__name__} refuses this: {reason:.200}", "change that, or take another model"
        ) from error
    if not np.isfinite(pixels).all():
        raise DataError("the model gave what is no number", "compute more widely: --dtype float32")
    if pixels.shape != crop.pixels.shape:
        raise DataError(
            f"the model gave {pixels.shape[1]} × {pixels.shape[0]} pixels for {columns} × {rows}",
            "this model cannot be used here: imgedit models list shows others",
        )
    notes = {"pipeline": type(running.pipeline).__name__, "sampler": type(sampler).__name__, "batch": 1}
    if cut := _cut(running, takes, sampling.prompt):
        notes["tokens_cut"] = cut
    if sampling.guidance_scale > 1 and (cut := _cut(running, takes, sampling.negative_prompt)):
        notes["negative_tokens_cut"] = cut
    return Synthesized(pixels.clip(0, 1), notes)


def _cut(running: Running, takes: Mapping[str, Any], text: str) -> int:
    """Return how many tokens of *text* no encoder reads: of several, one may read on where the others stop."""
    cuts = []
    for number in ("", "_2", "_3"):
        tokenizer = getattr(running.pipeline, f"tokenizer{number}", None)
        encoder = getattr(running.pipeline, f"text_encoder{number}", None)
        if tokenizer is None or encoder is None:
            continue
        # an encoder that could read on for ever reads what its pipeline hands to it
        given = takes["max_sequence_length"].default if "max_sequence_length" in takes else tokenizer.model_max_length
        most = getattr(encoder.config, "max_position_embeddings", given)
        cuts.append(len(tokenizer(text).input_ids) - min(most, given, tokenizer.model_max_length))
    return max(0, min(cuts, default=0))


def _optional(running: Running, sampling: Sampling, takes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that not every pipeline has; UsageError where one is needed that this one lacks."""
    options: dict[str, Any] = {}
    if "guidance_scale" in takes:
        options["guidance_scale"] = sampling.guidance_scale
    if "strength" in takes:
        options["strength"] = sampling.strength
    elif sampling.strength < 1:
        raise _lacks(running, "--strength")
    if sampling.negative_prompt:
        if "negative_prompt" not in takes:
            raise _lacks(running, "--negative-prompt")
        options["negative_prompt"] = sampling.negative_prompt
        if "true_cfg_scale" in takes:
            options["true_cfg_scale"] = sampling.guidance_scale
    return options


def _sampler(running: Running, sampling: Sampling) -> tuple[Any, int]:
    """Return the sampler that is asked for, or the checkpoint's own for the default one, and the steps."""
    name, _, count = sampling.scheduler.partition(":")
    steps = int(count) if count else sampling.steps
    known = [kind.__name__ for kind in running.scheduler.compatibles]
    if TABLE.get(name, ("",))[0] in known:
        # as the file has it: in memory, what it leaves open has the defaults of the checkpoint's own class
        return make(name, running.layout.config("scheduler")), steps
    if name != _DEFAULT:
        raise _lacks(running, f"--scheduler {name}")
    return type(running.scheduler).from_config(running.scheduler.config), steps


def _lacks(running: Running, option: str) -> UsageError:
    return UsageError(
        f"{type(running.pipeline).__name__} does not take {option}", "leave it out, or take another model"
    )


def _told(watch: Callable[[int, int], None], steps: int) -> Callable[..., dict[str, Any]]:
    def tell(pipeline: Any, step: int, _t: Any, _given: Any) -> dict[str, Any]:
        total = int(getattr(pipeline, "num_timesteps", steps))
        watch(min(step + 1, total), total)
        return {}

    return tell
