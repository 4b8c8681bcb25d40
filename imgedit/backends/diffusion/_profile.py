"""What a model expects of its latents: the profile that `imgedit calibrate` measures, and what is done about it.

What the facts of a model (``Diffusers.facts``) hold, for this and for :mod:`imgedit.ops.handoff`::

    {"model": its name without folders of this disk, "revision": text or None, "vae": class name,
     "vae_encoder": digest, "vae_decoder": digest,                    # of _digests.parts()
     "channels": 4, "grid": 8, "native": 512,
     "encoders": [{"digest": text, "tokens": 77, "width": 768}, …],   # in the order of embed(), of _digests.parts()
     "prediction": "epsilon", "scheduler": class name}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from imgedit.errors import DataError, FileError, GateFailed
from imgedit.ops import recenter
from imgedit.strict_json import build, no_constant, plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgedit.frame import Plane

SCHEMA = "imgedit-profile/1"
HINT = "measure one: imgedit calibrate MODEL PICTURES... -o profile.json"
#: a crop with fewer visible cells says too little to be judged
FEWEST_CELLS = 16
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """One text encoder: digest of its weights, tokens of a prompt, numbers for each token."""

    digest: str
    tokens: int
    width: int


@dataclass(frozen=True, slots=True)
class Vae:
    """Which VAE: its class, and digests of the weights of either half."""

    name: str
    encoder: str
    decoder: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What a model expects. Latents are scaled as its UNet sees them; all lists have a number for each channel.

    *mean*, *std*: over all cells of the calibration pictures. *mean_spread*, *std_spread*: how much those of single
    crops vary about them, as robust standard deviations; six of them are the tolerance. *pictures*, *crops*, *cells*:
    what was measured. *native*: side of a crop, pixels; *grid*: pixels per latent cell. *prediction*, *scheduler*: as
    the checkpoint says. *guidance*: the usual range of the guidance scale.
    """

    model: str
    vae: Vae
    native: int
    grid: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mean_spread: tuple[float, ...]
    std_spread: tuple[float, ...]
    pictures: int
    crops: int
    cells: int
    prediction: str
    scheduler: str
    guidance: tuple[float, float]
    encoders: tuple[TextEncoder, ...] = ()
    revision: str | None = None

    def __post_init__(self) -> None:
        lists = (self.mean, self.std, self.mean_spread, self.std_spread)
        if len({len(values) for values in lists}) != 1 or not self.mean:
            raise DataError("the profile has not the same number of channels everywhere", HINT)
        if any(value < 0 for values in lists[1:] for value in values) or not all(self.std):
            raise DataError("the profile has a standard deviation that is none", HINT)

    @property
    def expected(self) -> recenter.Expected:
        """What single crops are compared with."""
        return recenter.Expected(
            *(np.array(values) for values in (self.mean, self.std, self.mean_spread, self.std_spread))
        )

    def to_json(self) -> str:
        """Return the profile as JSON text, a key a line."""
        data = {"schema": SCHEMA, **plain(self)}
        lines = (
            f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
            for key, value in data.items()
        )
        return "{\n" + ",\n".join(lines) + "\n}\n"


def read(path: str | Path) -> Profile:
    """Return the profile in the file *path*. Raises FileError, or DataError for what is not exactly a profile."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise FileError(
            f"the profile {str(path)!r} could not be read: {getattr(error, 'strerror', None) or error}", HINT
        ) from None
    if len(text) > MOST_BYTES:
        raise DataError(f"{str(path)!r} is too large to be a profile", HINT)
    try:
        data = json.loads(text, parse_constant=no_constant)
        if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
            raise DataError(f'it has no "schema": "{SCHEMA}"', HINT)
        return cast(Profile, build(Profile, data, "profile"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{str(path)!r} is not valid JSON: {error}", HINT) from None
    except DataError as error:
        raise DataError(f"{str(path)!r} is no profile: {error.message}", HINT) from None


def check(profile: Profile, facts: Mapping[str, Any]) -> None:
    """Raise DataError where *profile* is of a VAE with other latents than those of the model with *facts*.

    Latents are the same where either half of the VAE is: a decoder tuned for another encoder's latents reads the same
    latents, and an encoder that gives shifted ones for the same decoder is what recentring is for. Where both halves
    differ, mean and deviation say nothing, whatever their values.
    """
    reasons = []
    for what, was, now in (
        ("latent channels", len(profile.mean), facts["channels"]),
        ("pixels per latent cell", profile.grid, facts["grid"]),
    ):
        if was != now:
            reasons.append(f"{was} {what}, not {now}")
    halves = (profile.vae.encoder == facts["vae_encoder"], profile.vae.decoder == facts["vae_decoder"])
    if not reasons and not any(halves):
        reasons.append(f"other weights in encoder and decoder ({profile.vae.name}, now {facts['vae']})")
    if reasons:
        raise DataError(
            f"the profile is of a foreign VAE, that of {profile.model!r:.80}: {'; '.join(reasons)}",
            "measure this model: imgedit calibrate MODEL PICTURES... -o profile.json",
        )


def reconcile(
    latents: NDArray[Any], masked: Plane | None, profile: Profile | None, *, mode: str = "auto", strict: bool = False
) -> tuple[recenter.Move | None, dict[str, Any]]:
    """Return the move that puts one crop's latents where *profile* wants them, None for none, and notes for the step.

    *latents*: (channels, rows, columns) float, as the UNet sees them: the mean of the encoder's distribution for the
    picture itself. *masked*: (rows, columns) uint8, above 0 where a cell is to be invented: what is there is not the
    picture's, and is left out of the measurement. *mode*: auto moves the channels that are beyond the tolerance, both
    their mean and their deviation; on moves all channels; off only notes. *strict*: GateFailed where one is beyond it.

    The same move (``move.apply``) is for all that was encoded from this crop: the latents it starts from, those kept
    round the hole, and those of the masked picture. It is not undone before decoding: the decoder expects what the
    profile says too, so that a shifted encoder is put right and colours are those of the picture. It is for encoders,
    not for pictures: a dark picture moved by ``on`` is seen as a brighter one, and what is invented then is too bright
    for its surroundings. That is why auto allows what crops do by themselves, six robust standard deviations, and why
    it finds in one crop no shift that is smaller than that. Raises DataError for latents that are not finite.
    """
    if not np.isfinite(latents).all():
        raise DataError("the encoder gave latents that are not numbers", "compute more precisely: --dtype float32")
    found = recenter.moments(latents, masked)
    notes: dict[str, Any] = {"cells": found.cells}
    if found.cells:
        notes |= {"mean": _rounded(found.mean), "std": _rounded(found.std)}
    if profile is None:
        return None, notes
    notes["usual_guidance"] = profile.guidance
    if found.cells < FEWEST_CELLS:
        return None, notes | {"profile": "too few cells to compare"}
    far = recenter.beyond(found, profile.expected)
    channels = tuple(int(channel) for channel in np.flatnonzero(far))
    notes["beyond"] = channels
    if strict and channels:
        ways = ("they are moved there", "with --recenter off left as they are")
        if mode == "off":
            ways = ("they stay as they are", "with --recenter auto are moved there")
        raise GateFailed(_beyond(found, profile, channels), f"leave out --strict: then {ways[0]}, or {ways[1]}")
    chosen = np.ones_like(far) if mode == "on" else far if mode == "auto" else np.zeros_like(far)
    if not chosen.any():
        return None, notes | {"profile": "not moved" if channels else "within tolerance"}
    move = recenter.move(found, profile.expected, chosen)
    return move, notes | {"profile": "moved", "scale": _rounded(move.scale), "shift": _rounded(move.shift)}


def _beyond(found: recenter.Moments, profile: Profile, channels: Sequence[int]) -> str:
    says = (
        f"channel {c} is {found.mean[c]:.3f} ± {found.std[c]:.3f}, the profile {profile.mean[c]:.3f} ± "
        f"{profile.std[c]:.3f}"
        for c in channels
    )
    return f"latents lie beyond the tolerance of the profile: {'; '.join(says)}"


def _rounded(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) + 0.0 for value in values)
