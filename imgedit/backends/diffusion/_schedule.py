"""From noise to picture: samplers by name, one or several one after the other, with their timesteps and noise levels.

A sampler keeps its latents in one of two scales. Where ᾱ is the share of the picture in the variance (Ho et al. 2020,
eq. 4) and σ² = (1 - ᾱ) / ᾱ, they are √ᾱ · picture + √(1 - ᾱ) · noise, or picture + σ · noise (Karras et al. 2022);
the second is the first times √(1 + σ²). At a switch the latents go from one scale to the other at the same σ.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from imgedit.errors import DataError, Unavailable, UsageError, nearest

#: a checkpoint's own configuration may say one of these, and only one may be
_KARRAS = {"use_karras_sigmas": True, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_EXPONENTIAL = {"use_karras_sigmas": False, "use_exponential_sigmas": True, "use_beta_sigmas": False}
_SDE = {"algorithm_type": "sde-dpmsolver++"}
#: name → diffusers' class, and what is set in it beside the checkpoint's own configuration
TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-karras": ("EulerDiscreteScheduler", _KARRAS),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm-solver": ("DPMSolverMultistepScheduler", {}),
    "dpm-solver-karras": ("DPMSolverMultistepScheduler", _KARRAS),
    "dpm-solver-sde": ("DPMSolverMultistepScheduler", _SDE),
    "dpm-solver-sde-karras": ("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "unipc-exponential": ("UniPCMultistepScheduler", _EXPONENTIAL),
    "lcm": ("LCMScheduler", {}),
}
#: packages beyond those of every model
_NEEDS = {"lms": "scipy"}
#: those whose latents are picture + σ · noise
_BY_SIGMA = (
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
)
#: the order of the linear multistep method where nothing else is said
_LMS_ORDER = 4


class Part(NamedTuple):
    """A sampler's name and its steps, a share of the whole schedule."""

    name: str
    steps: int


def parse(text: str, steps: int) -> list[Part]:
    """Return the parts of ``ddim`` (with *steps*), ``ddim:30`` or ``ddim:30,ddpm:20``; UsageError for another name."""
    parts = []
    for item in text.split(","):
        name, _, count = item.strip().partition(":")
        if name not in TABLE:
            raise UsageError(f"there is no scheduler {name!r}", nearest(name, TABLE))
        parts.append(Part(name, int(count) if count else steps))
    return parts


class Schedule:
    """The way of one synthesis through the noise: ``begin``, then for each ``timesteps`` ``scaled`` and ``step``.

    *config*: the checkpoint's scheduler configuration. *strength*: the last share of the schedule that is run. One
    sampler alone runs exactly as in diffusers' pipelines. In a mix each part does its share of the timesteps of all
    steps together, and starts anew: what a multi-step sampler knows of the steps before its share is not its own.
    Where the samplers' timesteps differ under the checkpoint's spacing, or it is ``linspace``, all take the spacing
    ``trailing``, in which they agree; *spacing* says so. Raises UsageError where they differ even then, or where no
    step is left to run, and DataError where *config* makes no sampler.
    """

    def __init__(self, config: Mapping[str, Any], text: str, steps: int, strength: float, device: str = "cpu") -> None:
        parts = parse(text, steps)
        self.steps = sum(part.steps for part in parts)
        run = min(int(self.steps * strength), self.steps)
        if run < 1:
            raise UsageError(
                f"a strength of {strength:g} leaves none of {self.steps} steps to run",
                f"at least --strength {math.ceil(1000 / self.steps) / 1000:g}, or more --steps",
            )
        self.strength = strength
        self.spacing: str | None = None
        self._alone = len(parts) == 1
        self._shares = _shares(parts, self.steps - run)
        self._samplers = _samplers(config, self._shares, self.steps, device)
        # linspace is no multiple of the steps that ddim and its like take: they would end between two timesteps
        if len(self._shares) > 1 and (config.get("timestep_spacing") == "linspace" or not self._agree()):
            self.spacing = "trailing"
            spaced = {**config, "timestep_spacing": "trailing"}
            self._samplers = _samplers(spaced, self._shares, self.steps, device)
            if not self._agree():
                raise UsageError(
                    f"the schedulers of {text!r} have no common timesteps to switch at",
                    "mix others, such as ddim, ddpm, pndm, euler, heun, dpm-solver, unipc; or use one alone",
                )
        self._plan = [self._of_part(number) for number in range(len(self._shares))]
        self._part = self._number = 0
        self.stochastic = any(_takes(sampler, "generator") for sampler in self._samplers)

    @property
    def timesteps(self) -> Iterator[Any]:
        """The timesteps at which the model is asked, in order: one for each call of ``step``."""
        for part, timesteps in enumerate(self._plan):
            for number, t in enumerate(timesteps):
                self._part, self._number = part, number
                yield t

    @property
    def evaluations(self) -> int:
        """How often the model is asked."""
        return sum(len(timesteps) for timesteps in self._plan)

    def begin(self, noise: Any, image: Any) -> Any:
        """Return the latents to start from: *noise* alone at full strength, else the latents *image* with it."""
        first = self._samplers[0]
        if self.strength == 1:
            return noise * first.init_noise_sigma
        return first.add_noise(image, noise, self._plan[0][:1].repeat(len(noise)))

    def scaled(self, latents: Any, t: Any) -> Any:
        """Return *latents* as the model is to see them at *t*."""
        return self._samplers[self._part].scale_model_input(latents, t)

    def step(self, predicted: Any, t: Any, latents: Any, generators: Sequence[Any]) -> Any:
        """Return the latents of the next noise level, in the scale of the sampler that goes on from there."""
        sampler = self._samplers[self._part]
        options: dict[str, Any] = {"generator": list(generators)} if _takes(sampler, "generator") else {}
        if type(sampler).__name__ == "LMSDiscreteScheduler":
            # left to itself it reckons with steps that were not run where it does not begin at the first
            options["order"] = min(self._number + 1, _LMS_ORDER)
        latents = sampler.step(predicted, t, latents, **options, return_dict=False)[0]
        if self._at_switch:
            latents = latents / self._scale(sampler, sampler.step_index) if _by_sigma(sampler) else latents
            after = self._samplers[self._part + 1]
            latents = latents * self._scale(after, after.begin_index) if _by_sigma(after) else latents
        return latents

    def noised(self, image: Any, noise: Any) -> Any:
        """Return the latents *image* with *noise*, at the level and in the scale that the last step came to."""
        import torch

        if self._at_switch:
            return self._samplers[self._part + 1].add_noise(image, noise, self._plan[self._part + 1][:1].cpu())
        timesteps = self._plan[self._part]
        if self._number + 1 == len(timesteps):
            return image
        return self._samplers[self._part].add_noise(image, noise, torch.tensor([timesteps[self._number + 1]]))

    @property
    def _at_switch(self) -> bool:
        return self._number + 1 == len(self._plan[self._part]) and self._part + 1 < len(self._plan)

    @staticmethod
    def _scale(sampler: Any, number: int) -> float:
        return math.sqrt(1 + float(sampler.sigmas[number]) ** 2)

    def _agree(self) -> bool:
        """Say whether at each switch the sampler that ends and the one that begins mean the same timestep.

        One timestep apart is equal: some samplers round where others do not.
        """
        ends = [end for _, _, end in self._shares[:-1]]
        grids = [_grid(sampler) for sampler in self._samplers]
        return all(
            end < len(left) and end < len(right) and abs(float(left[end]) - float(right[end])) <= 1
            for end, left, right in zip(ends, grids, grids[1:], strict=False)
        )

    def _of_part(self, number: int) -> Any:
        """Return the timesteps of a part, and tell its sampler where it begins."""
        import torch

        name, first, end = self._shares[number]
        sampler = self._samplers[number]
        order = sampler.order
        if hasattr(sampler, "set_begin_index"):
            sampler.set_begin_index(first * order)
        if self._alone:
            return sampler.timesteps[first * order :]
        if name == "pndm":
            # it asks twice at the second timestep of its share, as it does at that of the whole schedule
            share = _grid(sampler)[first:end]
            return torch.cat([share[:2], share[1:]])
        return sampler.timesteps[first * order : end * order]


def _shares(parts: Sequence[Part], skipped: int) -> list[tuple[str, int, int]]:
    """Return (name, first step, one after the last) of each part that is left when *skipped* steps are not run."""
    shares, start = [], 0
    for name, count in parts:
        end = start + count
        if end > skipped:
            shares.append((name, max(start, skipped), end))
        start = end
    return shares


def _samplers(config: Mapping[str, Any], shares: Sequence[tuple[str, int, int]], steps: int, device: str) -> list[Any]:
    made = []
    for name, _, _ in shares:
        try:
            sampler = make(name, config)
        except (AssertionError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"the scheduler {name!r} cannot be set up as the model's configuration says: {reason:.120}",
                "try another --scheduler, or check the files: imgedit models verify MODEL",
            ) from None
        try:
            sampler.set_timesteps(steps, device=device)
            # an offset can lead beyond what the model was trained on
            fits = float(sampler.timesteps.max()) < sampler.config.num_train_timesteps
        except (IndexError, ValueError):
            fits = False
        if not fits:
            raise UsageError(
                f"the scheduler {name!r} cannot run {steps} steps in all with this model",
                "give fewer, such as --steps 50, or fewer in --scheduler",
            )
        made.append(sampler)
    return made


def make(name: str, config: Mapping[str, Any]) -> Any:
    """Return the sampler *name* for a checkpoint whose scheduler has *config*.

    What the checkpoint leaves open is set as latents need it: they are not cut off at ±1, as pixels would be. Raises
    Unavailable for a checkpoint with scalings of its own (Karras et al. 2022, table 1), which these samplers lack.
    """
    if str(config.get("_class_name")).startswith("EDM"):
        raise Unavailable(
            f"this model was made for samplers of the kind {config['_class_name']}, and imgedit has none",
            "take another --model: imgedit models list",
        )
    class_name, own = TABLE[name]
    package = _NEEDS.get(name)
    if package and find_spec(package) is None:
        raise Unavailable(f"the scheduler {name!r} needs {package}, not installed here", f"pip install {package}")
    kind = getattr(importlib.import_module("diffusers"), class_name)
    # what other samplers alone understand it would warn of
    known = inspect.signature(kind.__init__).parameters
    given = {key: value for key, value in {"clip_sample": False, **config}.items() if key in known}
    return kind.from_config(given, **own)


def _grid(sampler: Any) -> Any:
    """Return the timestep at which each step begins."""
    if type(sampler).__name__ == "PNDMScheduler":
        timesteps = sampler.timesteps
        return timesteps if len(timesteps) < 3 else timesteps[[0, *range(2, len(timesteps))]]
    return sampler.timesteps[:: sampler.order]


def _by_sigma(sampler: Any) -> bool:
    return type(sampler).__name__ in _BY_SIGMA


def _takes(sampler: Any, option: str) -> bool:
    return option in inspect.signature(sampler.step).parameters
