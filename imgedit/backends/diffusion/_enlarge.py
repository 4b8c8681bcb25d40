"""Enlarging by a model that draws latents beside the small picture: the denoising in windows, the decoding in tiles.

The model is Stable Diffusion's ×4 one: a latent cell is a pixel of the picture; the UNet sees the picture, with some
noise, as three more channels, and how much noise that is as a class (Ho et al. 2021, sec. 4).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgedit.backends.diffusion import _denoise, _windows
from imgedit.backends.diffusion._load import Loaded
from imgedit.backends.diffusion._prompts import Said
from imgedit.backends.diffusion._schedule import Schedule
from imgedit.backends.memory import give_back, is_lack
from imgedit.backends.tiles import SMALLEST, Floats
from imgedit.errors import DataError, OutOfMemory

log = logging.getLogger("imgedit")

#: noise that the small picture is given, of a thousand levels: what the ×4 model is run with where nothing is said
NOISE_LEVEL = 20
#: channels of the small picture
_COLOURS = 3


class Words(NamedTuple):
    """What the model is told: the prompt, its opposite, and how closely to follow it; 1: there is nothing to follow."""

    positive: Said
    negative: Said
    scale: float

    @property
    def texts(self) -> list[Said]:
        """Return what the model is asked with: the prompt, and before it the opposite where there is guidance."""
        return [self.negative, self.positive] if self.scale > 1 else [self.positive]


@dataclass(slots=True, eq=False)
class Denoiser:
    """Draws the latents of a whole picture step by step, each step in windows.

    *lengths*: of the windows, in cells, by rows and columns; *shared*: cells that neighbours share; *at_once*: samples
    that go through the model together; under guidance a window is two, one with each of the words. Where memory runs
    out there are first fewer at once, then smaller windows, from the step on at which it did: those before stay.
    *halved*: how often that happened; *lines*: cells before which windows meet, by rows and columns.
    """

    model: Loaded
    lengths: tuple[int, int]
    shared: int
    at_once: int = 1
    halved: int = 0
    lines: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))

    def draw(
        self,
        picture: Floats,
        schedule: Schedule,
        words: Words,
        seed: int,
        watch: Callable[[int, int], None] | None = None,
    ) -> Floats:
        """Return (channels, rows, columns) latents for a (3, rows, columns) *picture*, 0…1.

        Its last row and column are repeated up to a size that the model takes. All noise is drawn for the whole
        picture, that of the picture before that of the latents, so that it does not depend on the windows.
        Raises OutOfMemory, and DataError where numbers ran over.
        """
        import torch
        from diffusers.utils.torch_utils import randn_tensor

        model = self.model
        rows, columns = picture.shape[1:]
        extra = [-side % step_of(model) for side in (rows, columns)]
        padded = np.pad(picture, ((0, 0), (0, extra[0]), (0, extra[1])), mode="edge")
        generator = torch.Generator("cpu").manual_seed(seed)
        with torch.inference_mode():
            image = (2 * torch.from_numpy(padded)[None] - 1).to(model.device, model.dtype)
            shape = (1, model.vae.config.latent_channels, *image.shape[2:])
            noise = [
                randn_tensor(size, generator=generator, device=torch.device("cpu"), dtype=model.dtype).to(model.device)
                for size in (image.shape, shape)
            ]
            image = _noised(model, image, noise[0])
            latents = schedule.begin(noise[1], None)
            del noise
            for done, t in enumerate(schedule.timesteps, start=1):
                predicted = self._predicted(schedule.scaled(latents, t), image, t, words)
                # the sampler adds up small differences: it reckons in full even where the model does not
                latents = schedule.step(predicted.float(), t, latents.float(), [generator]).to(model.dtype)
                if watch is not None:
                    watch(done, schedule.evaluations)
            _check(latents, model)
            return np.asarray(latents[0, :, :rows, :columns].float().cpu().numpy(), np.float32)

    def _predicted(self, latents: Any, image: Any, t: Any, words: Words) -> Any:
        while True:
            try:
                return self._in_windows(latents, image, t, words)
            except Exception as error:
                if not is_lack(error):
                    raise
                why = " ".join(str(error).split())
            # outside the handler: what is to be freed hangs on the traceback
            self._halve(why)

    def _in_windows(self, latents: Any, image: Any, t: Any, words: Words) -> Any:
        import torch

        step = step_of(self.model)
        down, across = (
            _windows.along(size, length, self.shared, step) for size, length in zip(latents.shape[2:], self.lengths)
        )
        self.lines = down.lines, across.lines
        self.lengths = down.length, across.length
        given = torch.cat([latents, image], dim=1)
        total = torch.zeros_like(latents, dtype=torch.float32)
        texts = words.texts
        for part in _windows.parts(down, across, max(1, self.at_once // len(texts))):
            shown = torch.cat([given[..., rows, columns] for rows, columns, _ in part])
            told = [texts] if self.at_once >= len(texts) else [[text] for text in texts]
            predicted = torch.cat([_asked(self.model, shown, t, some) for some in told])
            if len(texts) > 1:
                predicted = _denoise.led(predicted, words.scale)
            for (rows, columns, weights), found in zip(part, predicted):
                total[0, :, rows, columns] += found.float() * torch.from_numpy(weights).to(found.device)
        return total.to(latents.dtype)

    def _halve(self, why: str) -> None:
        give_back(self.model.device)
        step = step_of(self.model)
        if self.at_once > 1:
            self.at_once //= 2
            log.info("memory ran out; going on with %d samples at once", self.at_once)
        else:
            rows, columns = self.lengths
            tile = (max(rows, columns) - self.shared) // 2
            if tile < max(SMALLEST, step):
                raise OutOfMemory(
                    f"not enough memory even for a window of {columns}×{rows} pixels: {why:.200}",
                    "free some memory, give a larger --memory-target-gb, or a smaller picture",
                )
            length = -(-(tile + self.shared) // step) * step
            self.lengths = min(rows, length), min(columns, length)
            log.info("memory ran out; going on with windows of %d pixels", length)
        self.halved += 1


def step_of(model: Loaded) -> int:
    """Return what the sides of latents must be a multiple of: each level of the UNet halves them."""
    return int(2 ** (len(model.unet.config.block_out_channels) - 1))


def _noised(model: Loaded, image: Any, noise: Any) -> Any:
    import torch
    from diffusers import DDPMScheduler

    made: Any = DDPMScheduler
    config = model.layout.config("low_res_scheduler")
    scheduler = made.from_config({key: value for key, value in config.items() if not key.startswith("_")})
    return scheduler.add_noise(image, noise, torch.tensor([NOISE_LEVEL], device=image.device))


def _asked(model: Loaded, shown: Any, t: Any, texts: Sequence[Said]) -> Any:
    """Return what the UNet predicts for each window in *shown*, told each of *texts*; all noise levels are the same."""
    import torch

    count = len(shown) * len(texts)
    return model.unet(
        torch.cat([shown] * len(texts)),
        t,
        encoder_hidden_states=torch.cat([text.tokens.repeat(len(shown), 1, 1) for text in texts]),
        class_labels=torch.full((count,), NOISE_LEVEL, dtype=torch.long, device=shown.device),
        return_dict=False,
    )[0]


class Decoder:
    """The second half of the VAE as tiles are run on it: four channels of latents in, colours 0…1 out."""

    multiple, smallest, made = 1, 1, _COLOURS

    def __init__(self, model: Loaded) -> None:
        self._model = model
        self.scale = model.layout.grid
        self.channels = int(model.vae.config.latent_channels)

    def __call__(self, window: NDArray[np.float32]) -> Floats:
        import torch

        with torch.inference_mode():
            given = torch.from_numpy(np.ascontiguousarray(window))[None].to(self._model.device)
            pixels = _denoise.decoded(self._model, given)
            _check(pixels, self._model)
            return np.asarray((pixels[0] / 2 + 0.5).clamp(0, 1).float().cpu().numpy(), np.float32)


def _check(values: Any, model: Loaded) -> None:
    import torch

    if not torch.isfinite(values).all():
        name = str(model.dtype).removeprefix("torch.")
        raise DataError(
            f"the model gave what is no number, computing in {name}", "check its files: imgedit models verify MODEL"
        )
