"""Measures what models expect: profiles of latents from pictures, and maps between text encoders from prompts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from imgedit.backends.diffusion._profile import Profile, TextEncoder, Vae
from imgedit.backends.diffusion._translation import Side, Translation
from imgedit.errors import DataError
from imgedit.jobs import Sampling
from imgedit.ops import recenter, translate
from imgedit.ops.translate import Report

__all__ = ["FEW_PICTURES", "FEW_PROMPTS", "Measuring", "Report", "translation"]

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgedit.frame import Pixels

#: crops along each side of a large picture: more of one picture says little of others
MOST_ALONG = 4
#: fewer pictures say little of how pictures vary
FEW_PICTURES = 12
#: and fewer prompts little of how words do
FEW_PROMPTS = 200
#: prompts that go through a text encoder at once
_BATCH = 32
#: embeddings of one model beyond this lie on disk until the other's are there
_IN_MEMORY = 256 << 20
#: schedulers of models that are distilled to do without guidance
_DISTILLED = ("LCMScheduler", "TCDScheduler")


@dataclass(slots=True)
class Measuring:
    """Measures the profile of a model picture by picture; what is kept of a crop is its mean and deviation.

    *backend*: what has ``geometry``, ``facts`` and ``encode``.
    """

    backend: Any
    sampling: Sampling
    pictures: int = 0
    _crops: list[recenter.Moments] = field(default_factory=list)

    def prepare(self) -> None:
        """Refuse early a model that is not here, or is none; no picture is to blame for that."""
        self.backend.geometry(self.sampling)

    def add(self, pixels: Pixels) -> None:
        """Encode (rows, columns, 3) *pixels* by crops of the model's native size, at most 4 × 4 evenly spread.

        A side shorter than that is cut to the multiple that the model asks for. Raises DataError for a picture smaller
        than one multiple, and where the encoder gives no numbers.
        """
        geometry = self.backend.geometry(self.sampling)
        sides = [_along(size, geometry.native, geometry.multiple_of) for size in pixels.shape[:2]]
        for (top, rows), (left, columns) in product(*sides):
            crop = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
            found = recenter.moments(self.backend.encode(self.sampling, crop))
            if not (np.isfinite(found.mean).all() and np.isfinite(found.std).all()):
                raise DataError(
                    "the encoder gave latents that are not numbers", "compute more precisely: --dtype float32"
                )
            self._crops.append(found)
        self.pictures += 1

    def profile(self) -> Profile:
        """Return the profile of what was added. Raises DataError for nothing, and for pictures of one colour only."""
        if not self._crops:
            raise DataError("no picture was measured", "give pictures of the kind that the model is to work on")
        found = recenter.expected(self._crops)
        if not found.std.all():
            raise DataError("a latent channel does not vary at all in these pictures", "give photographs")
        facts = self.backend.facts(self.sampling)
        return Profile(
            model=facts["model"],
            vae=Vae(facts["vae"], facts["vae_encoder"], facts["vae_decoder"]),
            native=facts["native"],
            grid=facts["grid"],
            **{name: tuple(round(float(v), 8) for v in values) for name, values in found._asdict().items()},
            pictures=self.pictures,
            crops=len(self._crops),
            cells=sum(crop.cells for crop in self._crops),
            prediction=facts["prediction"],
            scheduler=facts["scheduler"],
            guidance=(0.0, 2.0) if facts["scheduler"] in _DISTILLED else (1.0, 20.0),
            encoders=tuple(TextEncoder(**each) for each in facts["encoders"]),
            revision=facts["revision"],
        )


def _along(size: int, native: int, multiple: int) -> list[tuple[int, int]]:
    """Return (start, length) of the crops along one side of *size* pixels."""
    if size < native:
        length = size // multiple * multiple
        if not length:
            raise DataError(f"a picture of {size} pixels is too small for this model", f"give {native} or more")
        return [((size - length) // 2, length)]
    count = min(MOST_ALONG, size // native)
    return [(int(start), native) for start in np.linspace(0, size - native, count).round()]


def translation(backend: Any, source: Sampling, target: Sampling, prompts: Sequence[str]) -> Translation:
    """Return the map from the text encoders of *source*'s model to those of *target*'s, fitted on *prompts*.

    *backend*: what has ``facts`` and ``embed``. Each prompt is counted once, blank ones not at all. Each model embeds
    all prompts before the other does, so that each is loaded once. Raises DataError for too few prompts, and for models
    that cut prompts into different numbers of tokens.
    """
    prompts = list(dict.fromkeys(prompt.strip() for prompt in prompts if prompt.strip()))
    if len(prompts) < translate.FEWEST_PROMPTS:
        raise DataError(
            f"{len(prompts)} different prompts are too few for a map",
            f"give at least {translate.FEWEST_PROMPTS}, one a line; better some hundred",
        )
    first, second = (Side.of(backend.facts(sampling), sampling.model) for sampling in (source, target))
    tokens = [sorted({encoder.tokens for encoder in side.encoders}) for side in (first, second)]
    if tokens[0] != tokens[1] or len(tokens[0]) != 1:
        raise DataError(
            f"the encoders cut prompts into {tokens[0]} and {tokens[1]} tokens, which cannot be paired",
            "give two models whose prompts have the same number of tokens",
        )

    def embedded(sampling: Sampling) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(prompts), _BATCH):
            batch = prompts[start : start + _BATCH]
            found = np.concatenate(backend.embed(sampling, batch), axis=2)
            yield np.asarray(found, np.float32)

    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        for part in embedded(source):
            file.write(part.tobytes())
        file.seek(0)

        def paired() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
            for part in embedded(target):
                shape = (len(part), part.shape[1], first.width)
                yield np.frombuffer(file.read(4 * int(np.prod(shape))), np.float32).reshape(shape), part

        found, report = translate.fit(paired())
    return Translation(found, first, second, report)
