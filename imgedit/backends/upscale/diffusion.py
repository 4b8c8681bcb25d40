"""Upscale backend: a latent diffusion model of the kind of Stable Diffusion ×4, in overlapping windows at each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from imgedit.backends.diffusion._enlarge import Denoiser
    from imgedit.backends.diffusion._layout import Layout as Model
    from imgedit.backends.diffusion._load import Loaded
    from imgedit.backends.diffusion._memory import Plan
    from imgedit.backends.tiles import Floats
    from imgedit.frame import Pixels
    from imgedit.jobs import Enlarged, Resources

#: a predictor and corrector of second order (Zhao et al. 2023) whose noise levels fall by the same factor at each step.
#: Where the answer is known it comes nearer to it, on average, than 75 steps of ddim, which diffusers' pipeline takes:
#: for Gaussian data, for five modes, and led from one distribution to another; for two modes those 75 are nearer, and
#: 20 steps of dpm-solver-karras less near
SCHEDULER, STEPS = "unipc-exponential", 16
#: as diffusers' pipeline
GUIDANCE = 9.0


class Diffusion:
    """Enlarges four times by drawing anew, led by the picture and by a prompt: it invents, another detail per seed.

    Each denoising step is done in windows that overlap, and what they predict is blended; the result of all steps is
    decoded in tiles. No part is drawn for itself, so that none has a line to its neighbour. *watch*, set on the class,
    is called after each step with how many are done, of how many.
    """

    summary: ClassVar[str] = "a diffusion model, diffusion:MODEL: Stable Diffusion ×4; invents detail, follows a prompt"
    requires: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers", "safetensors", "accelerate")
    extra: ClassVar[str] = "models"
    deterministic: ClassVar[bool] = True
    native_scale: ClassVar[int | None] = None
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)
    takes_file: ClassVar[bool] = True
    uses: ClassVar[str] = "upscale --backend diffusion:ID"
    tiled: ClassVar[bool] = True
    own: ClassVar[tuple[str, ...]] = ("prompt", "steps", "seed")
    watch: ClassVar[Callable[[int, int], None] | None] = None

    def __init__(self, file: str) -> None:
        self._model = _found(file)
        self._loaded: tuple[Loaded, Plan] | None = None

    @property
    def fingerprint(self) -> dict[str, str]:
        """Id, revision and digests of the files, for the record of the step."""
        return dict(self._model.located.record)

    def upscale(
        self,
        pixels: Pixels,
        rows: int,
        columns: int,
        *,
        sharpen: float,
        resources: Resources,
        prompt: str = "",
        steps: int = STEPS,
        seed: int = 0,
    ) -> Enlarged:
        """Return *pixels* (rows, columns, 3 or 4) enlarged to *rows* × *columns*, same dtype, centre-aligned.

        *prompt*: what the picture shows; without one the model has the picture alone, and is asked half as often.
        *sharpen* has no meaning here. Raises UsageError where the result would be smaller than *pixels* or the steps
        are more than the model knows, OutOfMemory, and DataError for weights that do not fit or overflow.
        """
        from imgedit.backends.diffusion import _enlarge, _prompts
        from imgedit.backends.diffusion._schedule import Schedule
        from imgedit.backends.upscale._by_diffusion import Drawing
        from imgedit.jobs import Sampling

        scale = GUIDANCE if prompt else 1.0
        name = self._model.located.name
        sampling = Sampling(name, prompt, guidance_scale=scale, steps=steps, scheduler=SCHEDULER)

        def schedule(device: str) -> Schedule:
            return Schedule(self._model.config("scheduler"), sampling.scheduler, steps, 1.0, device)

        schedule("cpu")  # what it refuses comes before the weights are read
        model, plan = self._hold(resources)
        said = _prompts.said(model, sampling, lambda _: [])

        def draw(denoiser: Denoiser, picture: Floats) -> Floats:
            words = _enlarge.Words(said[0], said[1], sampling.guidance_scale)
            return denoiser.draw(picture, schedule(model.device), words, seed, type(self).watch)

        done = Drawing(model, plan, draw).enlarge(pixels, rows, columns, resources)
        made = {"scheduler": SCHEDULER, "steps": steps, "seed": seed}
        notes = {**done.notes, **made, "dtype": str(model.dtype).removeprefix("torch.")}
        return done._replace(notes={**notes, **({"tokens_cut": said[0].cut} if said[0].cut else {})})

    def _hold(self, resources: Resources) -> tuple[Loaded, Plan]:
        """Return the model, loaded once in a process, and how much memory it takes."""
        import torch

        from imgedit.backends.diffusion import _load, _memory
        from imgedit.backends.tiles import SMALLEST

        if self._loaded is None:
            device = _load.device_of("auto")
            dtype = _load.dtype_of("auto", device)
            wide = 4 if _load.wide_vae(self._model, dtype) else dtype.itemsize
            least = 2 * SMALLEST * self._model.grid
            plan = _memory.plan(self._model, device, dtype.itemsize, wide, resources.memory_target_gb, least)
            model = _load.load(self._model, device, dtype, plan)
            # else convolutions rearrange what they are given in each call: a quarter of the time of the VAE on a CPU
            for part in (model.unet, model.vae):
                part.to(memory_format=torch.channels_last)
            self._loaded = model, plan
        return self._loaded


def _found(given: str) -> Model:
    """Return the layout of a model that is run as the ×4 one; DataError for another, without reading its weights."""
    from imgedit.backends.diffusion import _layout
    from imgedit.errors import DataError
    from imgedit.models import kinds, locate, weights

    # many networks that enlarge at once cannot be told by the names of their tensors: spandrel may know them
    located = locate(given, tasks=(kinds.UPSCALE, "unknown"), meant=(kinds.UPSCALE,))
    # the configuration of a single file is looked for by what is in it
    if located.single and not kinds.diffuses(weights.header(located.path)):
        raise DataError(
            f"{located.path.name} holds no diffusion model, but perhaps a network that enlarges at once",
            f"imgedit upscale --backend spandrel:{given}",
        )
    model = _layout.read(given, (kinds.UPSCALE,))
    unet, noise = model.config("unet"), model.config("low_res_scheduler")
    # three channels of the small picture beside the latents, and the level of its noise as a class
    latents = model.config("vae").get("latent_channels", 4)
    if (
        model.family != _layout.SD
        or unet.get("in_channels") != latents + 3
        or not (unet.get("num_class_embeds") and noise)
    ):
        raise DataError(
            f"{model.located.name:.200} is a model that enlarges in another way than Stable Diffusion ×4: "
            f"{model.index.get('_class_name', 'unknown')}",
            "imgedit upscale --backend diffusion:stabilityai/stable-diffusion-x4-upscaler",
        )
    return model
