"""Latent diffusion by diffusers' and transformers' classes: Stable Diffusion 1, 2 and XL, and what else they load."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from imgedit.backends.diffusion import (
    _denoise,
    _digests,
    _layout,
    _load,
    _memory,
    _pipeline,
    _profile,
    _prompts,
    _translation,
)
from imgedit.backends.diffusion._schedule import Schedule
from imgedit.backends.memory import give_back, is_lack
from imgedit.errors import DataError, OutOfMemory, UsageError
from imgedit.jobs import Crop, Geometry, Sampling, Synthesized
from imgedit.models import weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgedit.backends.diffusion._layout import Layout
    from imgedit.backends.diffusion._load import Loaded
    from imgedit.backends.diffusion._memory import Plan

log = logging.getLogger("imgedit")

#: text encoders of models that a translation leads from, kept beside the model that runs
_MOST_READERS = 1


class Diffusers:
    """Runs one model at a time, loaded once in a process.

    *watch*, set on the class, is called after each evaluation of the model with how many are done, of how many.
    """

    summary: ClassVar[str] = "Stable Diffusion 1, 2, XL and other models that diffusers loads; follows a prompt"
    requires: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers", "safetensors", "accelerate")
    extra: ClassVar[str] = "models"
    deterministic: ClassVar[bool] = True
    uses: ClassVar[str] = "inpaint --model"
    watch: ClassVar[Callable[[int, int], None] | None] = None

    def __init__(self) -> None:
        self._loaded: Loaded | _pipeline.Running | None = None
        self._key: tuple[Any, ...] = ()
        self._plan: Plan | None = None
        self._readers: dict[tuple[Any, ...], list[tuple[Any, Any]]] = {}
        self._encoders: dict[tuple[Any, ...], Loaded] = {}
        self._profiles: dict[str, _profile.Profile] = {}

    def geometry(self, sampling: Sampling) -> Geometry:
        """Return what the model asks of crops; reads its configuration, not its weights."""
        layout = _layout.read(sampling.model)
        return Geometry(layout.native, layout.grid, layout.multiple_of)

    def most(self, sampling: Sampling, rows: int, columns: int) -> int:
        """Return how many crops of this size go through the model at once within the memory target.

        Raises OutOfMemory where not even one does.
        """
        return self._prepared(sampling).most(rows, columns)

    def model(self, sampling: Sampling) -> Mapping[str, str]:
        """Return id, revision and digests of the files."""
        return _layout.read(sampling.model).located.record

    def synthesize(self, sampling: Sampling, crops: Sequence[Crop]) -> list[Synthesized]:
        """Return one result for each of *crops*, all of one size; none depends on what else is in the list.

        Where memory runs out, with half as many crops at once, then in slices, then with parts of the model parked in
        main memory; OutOfMemory where even that is too much. Other errors: a model that is not here or damaged, an
        unknown scheduler, a profile or a map of another model, numbers that ran over.
        """
        try:
            return self._run(sampling, crops)
        except Exception as error:
            if not is_lack(error):
                raise
            reason = " ".join(str(error).split()) or "none could be had"
        # outside the handler: what is to be freed hangs on the traceback
        give_back(_load.device_of(sampling.device))
        if len(crops) > 1:
            log.info("memory ran out with %d crops at once; going on with half as many", len(crops))
            half = len(crops) // 2
            return [*self.synthesize(sampling, crops[:half]), *self.synthesize(sampling, crops[half:])]
        if self._loaded is not None and self._loaded.shrink():
            log.info("memory ran out; going on in smaller pieces, which takes longer")
            return self.synthesize(sampling, crops)
        rows, columns = crops[0].mask.shape
        raise OutOfMemory(
            f"the model {sampling.model!r:.80} needs more memory for a crop of {columns} × {rows} than there is "
            f"({reason:.120})",
            "end other programs, take a smaller model, or --device cpu",
        )

    def encode(self, sampling: Sampling, pixels: Any) -> NDArray[np.float32]:
        """Return (channels, rows/grid, columns/grid) latents of (rows, columns, 3) uint8 or uint16 *pixels*.

        They are the mean of the VAE's distribution, scaled as the UNet sees them. Sides: multiples of the grid. Where
        the model does not run already, only its VAE is loaded.
        """
        import torch

        model = self._eyes(sampling)
        with torch.inference_mode():
            found = _denoise.encode(model, [pixels])[0]
            return np.asarray(_denoise.scaled(model, found.mean)[0].float().cpu().numpy(), np.float32)

    def embed(self, sampling: Sampling, prompts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return (prompts, tokens, width) embeddings for each text encoder of the model, without any translation."""
        layout = self._own(sampling)
        device = _load.device_of(sampling.device)
        dtype = _load.dtype_of(sampling.dtype, device)
        key = (sampling.model, device, dtype)
        if self._loaded is not None and key == self._key[:3]:
            encoders = self._parts(sampling).encoders
        else:
            if key not in self._readers:
                while len(self._readers) >= _MOST_READERS:
                    del self._readers[next(iter(self._readers))]
                self._readers[key] = _load.texts(layout, device, dtype)
            encoders = self._readers[key]
        found = [_prompts.embed(encoders, prompt, xl=layout.family == _layout.XL)[0] for prompt in prompts]
        return [np.concatenate([part[i].float().cpu().numpy() for part in found]) for i in range(len(encoders))]

    def facts(self, sampling: Sampling) -> dict[str, Any]:
        """Return what identifies the model's latents and embeddings, as ``_profile`` says; no weights are loaded."""
        layout = self._own(sampling)
        located = layout.located
        digests = _digests.parts(located.files)
        lacking = [part for part in ("vae_encoder", "vae_decoder", *layout.encoders) if part not in digests]
        if lacking:
            raise DataError(f"{Path(sampling.model).name:.80} holds no weights of {lacking[0]}", weights.AGAIN)
        vae, scheduler = layout.config("vae"), layout.config("scheduler")
        texts = [(name, layout.config(name)) for name in layout.encoders]
        return {
            "model": sampling.model if located.revision else Path(sampling.model).name,
            "revision": located.revision,
            "vae": vae["_class_name"],
            "vae_encoder": digests["vae_encoder"],
            "vae_decoder": digests["vae_decoder"],
            "channels": vae["latent_channels"],
            "grid": layout.grid,
            "native": layout.native,
            "encoders": [
                {"digest": digests[name], "tokens": text["max_position_embeddings"], "width": text["hidden_size"]}
                for name, text in texts
            ],
            "prediction": scheduler.get("prediction_type", "epsilon"),
            "scheduler": scheduler.get("_class_name", ""),
        }

    def convert(self, path: Path) -> list[Path]:
        """Return the safetensors files that stand for pickles, written where they lacked: see ``_convert.convert``."""
        from imgedit.backends.diffusion import _convert

        return _convert.convert(path)

    def _run(self, sampling: Sampling, crops: Sequence[Crop]) -> list[Synthesized]:
        layout = _layout.read(sampling.model)
        if layout.family == _layout.OTHER:
            _pipeline.refuse(sampling)
            running = self._hold(sampling, _pipeline.load)
            return _pipeline.synthesize(running, sampling, crops, type(self).watch)
        # what the configuration alone can refuse comes before the weights are loaded
        device = _load.device_of(sampling.device)
        schedule = Schedule(layout.config("scheduler"), sampling.scheduler, sampling.steps, sampling.strength, device)
        profile = self._profile(sampling)
        model = self._parts(sampling)
        said = _prompts.said(model, sampling, lambda text: _translation.embed(self, sampling, [text]))
        return _denoise.synthesize(model, schedule, sampling, crops, said, profile, type(self).watch)

    def _profile(self, sampling: Sampling) -> _profile.Profile | None:
        if sampling.profile is None:
            return None
        if sampling.profile not in self._profiles:
            found = _profile.read(sampling.profile)
            _profile.check(found, self.facts(sampling))
            self._profiles[sampling.profile] = found
        return self._profiles[sampling.profile]

    def _own(self, sampling: Sampling) -> Layout:
        """Return the layout of a model whose latents and embeddings are known here; UsageError for another family."""
        layout = _layout.read(sampling.model)
        if layout.family == _layout.OTHER:
            raise UsageError(
                f"{sampling.model!r:.80} is of a family that runs as a whole: its latents cannot be looked at",
                "take a model of the Stable Diffusion 1, 2 or XL families",
            )
        return layout

    def _eyes(self, sampling: Sampling) -> Loaded:
        """Return what encodes by the model: itself where it is loaded, else its VAE alone, the last one kept."""
        layout = self._own(sampling)
        device = _load.device_of(sampling.device)
        dtype = _load.dtype_of(sampling.dtype, device)
        key = (sampling.model, device, dtype)
        if self._loaded is not None and key == self._key[:3]:
            return self._parts(sampling)
        if key not in self._encoders:
            self._encoders.clear()
            self._encoders[key] = _load.eyes(layout, device, dtype)
        return self._encoders[key]

    def _parts(self, sampling: Sampling) -> Loaded:
        self._own(sampling)
        loaded: Loaded = self._hold(sampling, _load.load)
        return loaded

    def _prepared(self, sampling: Sampling) -> Plan:
        """Return how the model is run; another one is let go first, so that its memory is there for this one."""
        device = _load.device_of(sampling.device)
        dtype = _load.dtype_of(sampling.dtype, device)
        key = (sampling.model, device, dtype, sampling.memory_target_gb)
        if key != self._key or self._plan is None:
            if self._loaded is not None or self._encoders:
                self._loaded = None
                self._encoders.clear()
                give_back(device)
            self._profiles.clear()
            layout = _layout.read(sampling.model)
            wide = 4 if _load.wide_vae(layout, dtype) else dtype.itemsize
            self._plan = _memory.plan(layout, device, dtype.itemsize, wide, sampling.memory_target_gb)
            self._key = key
        return self._plan

    def _hold(self, sampling: Sampling, load: Callable[[Layout, str, Any, Plan], Any]) -> Any:
        """Return the model that is asked for, loaded if it is not yet."""
        plan = self._prepared(sampling)
        if self._loaded is None:
            _, device, dtype, _ = self._key
            self._loaded = load(_layout.read(sampling.model), device, dtype, plan)
        return self._loaded
