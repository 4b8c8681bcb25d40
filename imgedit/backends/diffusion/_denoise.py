"""The synthesis itself: crops to latents, from noise to a picture under guidance, latents to pixels.

Classifier-free guidance: Ho & Salimans 2022, eq. 6, with the scale that diffusers counts from 1. A UNet with nine
channels sees the mask and the masked picture beside the latents; under one with four, what lies outside the mask is
set anew at each noise level (Lugmayr et al. 2022, eq. 8), and to the picture itself at the last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imgedit.backends.diffusion import _profile
from imgedit.backends.diffusion._load import Loaded
from imgedit.backends.diffusion._prompts import Said
from imgedit.backends.diffusion._schedule import Schedule
from imgedit.errors import DataError
from imgedit.jobs import Crop, Sampling, Synthesized
from imgedit.ops.cells import to_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: encodings of crops that are kept; one of 512 × 512 pixels takes 130 kB
_MOST = 64
#: numbers to each side of the embedding of a guidance scale, for UNets that were distilled to take one
_GUIDED = 1000.0


class Encoded(NamedTuple):
    """The VAE's distribution of a crop: (1, channels, rows, columns) mean and standard deviation, as it gives them."""

    mean: Any
    std: Any


class _State(NamedTuple):
    """What a batch starts from, all with one entry for each crop."""

    latents: Any
    image: Any
    noise: Any
    mask: Any
    masked: Any


def synthesize(
    model: Loaded,
    schedule: Schedule,
    sampling: Sampling,
    crops: Sequence[Crop],
    said: tuple[Said, Said],
    profile: _profile.Profile | None,
    watch: Callable[[int, int], None] | None = None,
) -> list[Synthesized]:
    """Return what the model makes of each of *crops*, all of one size; each has a generator of its own.

    *watch* is told after each evaluation how many are done, of how many.
    Raises DataError where numbers ran over; what ``_profile.reconcile`` raises.
    """
    import torch

    generators = [torch.Generator("cpu").manual_seed(crop.seed) for crop in crops]
    with torch.inference_mode():
        moves, notes = _reconciled(model, sampling, crops, profile)
        state = _start(model, sampling, crops, moves, schedule, generators)
        latents = _denoised(model, sampling, schedule, state, said, generators, watch)
        if not torch.isfinite(latents).all():
            raise _overflow(model)
        pixels = decode(model, latents, crops)
    common = {
        "native": model.layout.native,
        "grid": model.layout.grid,
        "evaluations": schedule.evaluations,
        "batch": len(crops),
        "device": model.device.partition(":")[0],
        "dtype": str(model.dtype).removeprefix("torch."),
        **({"economy": list(model.economy)} if model.economy else {}),
        **({"spacing": schedule.spacing} if schedule.spacing else {}),
        **({"tokens_cut": said[0].cut} if said[0].cut else {}),
        **({"negative_tokens_cut": said[1].cut} if said[1].cut and _guided(model, sampling) else {}),
    }
    return [Synthesized(values, {**common, "latents": note}) for values, note in zip(pixels, notes)]


def _guided(model: Loaded, sampling: Sampling) -> bool:
    """Return whether the negative prompt has a part in it: some models are told the scale itself instead."""
    return sampling.guidance_scale > 1 and model.unet.config.time_cond_proj_dim is None


def led(predicted: Any, scale: float) -> Any:
    """Return the predictions of the second half, led away from those of the first, without the prompt, by *scale*."""
    without, following = predicted.chunk(2)
    return without + scale * (following - without)


def encode(model: Loaded, pixels: Sequence[Any], blanked: Sequence[Any] | None = None) -> list[Encoded]:
    """Return the VAE's distributions of (rows, columns, 3) uint8 or uint16 *pixels*; each crop is encoded once.

    *blanked*: (rows, columns) masks; what they cover is grey to the VAE, as diffusers makes it.
    """
    masks = blanked or [None] * len(pixels)
    keys = [_key(values, mask) for values, mask in zip(pixels, masks)]
    kept = model.memory.setdefault("encodings", {})
    new = [number for number, key in enumerate(keys) if key not in kept and keys.index(key) == number]
    made: dict[Any, Encoded] = {}
    for number in new:  # one by one: at these sizes the VAE takes far more memory than the UNet
        given = _signed(pixels[number], masks[number])[None].to(model.device, model.vae_dtype)
        found = model.vae.encode(given).latent_dist
        made[keys[number]] = Encoded(found.mean, found.std)
    encoded = [made.get(key) or kept[key] for key in keys]
    for key, value in made.items():
        model.keep("encodings", key, value, _MOST)
    return encoded


def scaled(model: Loaded, latents: Any) -> Any:
    """Return the VAE's *latents* as the UNet sees them."""
    mean, std = _centre(model)
    return (latents - mean) * (model.vae.config.scaling_factor / std)


def decode(model: Loaded, latents: Any, crops: Sequence[Crop]) -> NDArray[np.float32]:
    """Return (crops, rows, columns, 3) pixels, 0…1, of the UNet's *latents*; DataError where numbers ran over."""
    import torch

    pixels = decoded(model, latents, crops)
    if not torch.isfinite(pixels).all():
        raise _overflow(model)
    return np.asarray((pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy(), np.float32)


def decoded(model: Loaded, latents: Any, crops: Sequence[Crop] = ()) -> Any:
    """Return (crops, 3, rows, columns), about -1…1, of the UNet's *latents*: what the VAE makes of them one by one.

    A decoder that was made for inpainting (Zhu et al. 2023, sec. 3.1) is shown what lies outside the mask of *crops*.
    """
    import torch

    mean, std = _centre(model)
    values = latents.to(model.vae_dtype) / (model.vae.config.scaling_factor / std) + mean
    beside: list[dict[str, Any]] = [{}] * len(values)
    if crops and type(model.vae).__name__ == "AsymmetricAutoencoderKL":
        beside = [_outside(model, crop) for crop in crops]
    shown = zip(values.split(1), beside, strict=True)
    return torch.cat([model.vae.decode(part, **more, return_dict=False)[0] for part, more in shown])


def _outside(model: Loaded, crop: Crop) -> dict[str, Any]:
    import torch

    mask = torch.from_numpy((crop.mask > 0)[None, None])
    given = {"image": _signed(crop.pixels, None)[None], "mask": mask}
    return {name: value.to(model.device, model.vae_dtype) for name, value in given.items()}


def _centre(model: Loaded) -> tuple[Any, Any]:
    """Return the mean and deviation that a VAE's latents have by its configuration: 0 and 1 where it says nothing."""
    import torch

    config = model.vae.config
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or std is None:
        return 0.0, 1.0
    as_given = {"device": model.device, "dtype": model.dtype}
    return torch.tensor(mean, **as_given).view(1, -1, 1, 1), torch.tensor(std, **as_given).view(1, -1, 1, 1)


def _key(pixels: Any, mask: Any) -> bytes:
    taken = hashlib.blake2b(f"{pixels.dtype}{pixels.shape}".encode(), digest_size=16)
    taken.update(np.ascontiguousarray(pixels).tobytes())
    if mask is not None:
        taken.update(np.packbits(mask > 0).tobytes())
    return taken.digest()


def _signed(pixels: Any, mask: Any) -> Any:
    """Return (3, rows, columns) float32 from -1 to 1, 0 where *mask* is above 0."""
    import torch

    full = np.float32(65535 if pixels.dtype == np.uint16 else 255)
    values = 2 * torch.from_numpy(pixels.astype(np.float32) / full).permute(2, 0, 1) - 1
    return values if mask is None else values * torch.from_numpy(mask == 0)


def _reconciled(
    model: Loaded, sampling: Sampling, crops: Sequence[Crop], profile: _profile.Profile | None
) -> tuple[list[Any], list[Mapping[str, Any]]]:
    """Return for each crop the move of its latents, or None, and what is recorded of them."""
    moves: list[Any] = []
    notes: list[Mapping[str, Any]] = []
    for crop, found in zip(crops, encode(model, [crop.pixels for crop in crops])):
        latents = scaled(model, found.mean)[0].float().cpu().numpy()
        cells = to_cells(crop.mask, model.layout.grid)
        move, note = _profile.reconcile(latents, cells, profile, mode=sampling.recenter, strict=sampling.strict)
        moves.append(move)
        notes.append(note)
    return moves, notes


def _start(
    model: Loaded,
    sampling: Sampling,
    crops: Sequence[Crop],
    moves: Sequence[Any],
    schedule: Schedule,
    generators: Sequence[Any],
) -> _State:
    """Return what the batch starts from; each generator is drawn from in the order of diffusers' pipelines."""
    import torch
    from diffusers.utils.torch_utils import randn_tensor

    def sampled(found: Sequence[Encoded]) -> Any:
        parts = []
        for value, move, generator in zip(found, moves, generators):
            latents = value.mean
            if sampling.latents == "sample":
                drawn = randn_tensor(
                    latents.shape, generator=generator, device=torch.device(model.device), dtype=latents.dtype
                )
                latents = latents + value.std * drawn
            latents = scaled(model, latents.to(model.dtype))
            if move is not None:
                by = [torch.from_numpy(part).to(model.device, torch.float32).view(1, -1, 1, 1) for part in move]
                latents = (latents.float() * by[0] + by[1]).to(model.dtype)
            parts.append(latents)
        return torch.cat(parts)

    nine = model.unet.config.in_channels == 9
    pixels, masks = [crop.pixels for crop in crops], [crop.mask for crop in crops]
    grid, rows, columns = model.layout.grid, *crops[0].mask.shape
    shape = (len(crops), model.vae.config.latent_channels, rows // grid, columns // grid)
    cells = np.stack([to_cells(mask, grid, sampling.dilate_cells) for mask in masks])
    image = sampled(encode(model, pixels)) if not nine or sampling.strength < 1 else None
    noise = randn_tensor(shape, generator=list(generators), device=torch.device(model.device), dtype=model.dtype)
    # a UNet with four channels does not see the masked picture, but samplers draw on after its sample
    masked = None
    if nine:
        masked = sampled(encode(model, pixels, masks))
    elif schedule.stochastic and sampling.latents == "sample":
        randn_tensor(shape, generator=list(generators), device=torch.device("cpu"), dtype=model.vae_dtype)
    mask = torch.from_numpy((cells > 0)[:, None]).to(model.device, model.dtype)
    return _State(schedule.begin(noise, image), image, noise, mask, masked)


def _denoised(
    model: Loaded,
    sampling: Sampling,
    schedule: Schedule,
    state: _State,
    said: tuple[Said, Said],
    generators: Sequence[Any],
    watch: Callable[[int, int], None] | None,
) -> Any:
    import torch

    guided = _guided(model, sampling)
    condition = _condition(model, said, state.latents, guided=guided)
    if model.unet.config.time_cond_proj_dim is not None:
        condition["timestep_cond"] = _scale_embedding(model, sampling.guidance_scale, len(state.latents))
    times = 2 if guided else 1
    beside = () if state.masked is None else (torch.cat([state.mask] * times), torch.cat([state.masked] * times))
    latents = state.latents
    for done, t in enumerate(schedule.timesteps, start=1):
        given = schedule.scaled(torch.cat([latents] * times), t)
        predicted = model.unet(torch.cat([given, *beside], dim=1), t, **condition, return_dict=False)[0]
        if guided:
            predicted = led(predicted, sampling.guidance_scale)
        latents = schedule.step(predicted, t, latents, generators).to(model.dtype)
        if state.masked is None:
            outside = schedule.noised(state.image, state.noise).to(model.dtype)
            latents = (1 - state.mask) * outside + state.mask * latents
        if watch is not None:
            watch(done, schedule.evaluations)
    return latents


def _condition(model: Loaded, said: tuple[Said, Said], latents: Any, *, guided: bool) -> dict[str, Any]:
    """Return what the UNet is told beside the latents: embeddings, and for XL pooled ones and the picture's size.

    The size is the crop's own, uncropped: the model was trained to be told of pictures that are as large as it paints.
    """
    import torch

    texts = (said[1], said[0]) if guided else (said[0],)
    count = len(latents)
    condition: dict[str, Any] = {
        "encoder_hidden_states": torch.cat([text.tokens.repeat(count, 1, 1) for text in texts])
    }
    if model.xl:
        rows, columns = (side * model.layout.grid for side in latents.shape[-2:])
        sizes = torch.tensor([[rows, columns, 0, 0, rows, columns]], dtype=model.dtype, device=model.device)
        condition["added_cond_kwargs"] = {
            "text_embeds": torch.cat([text.pooled.repeat(count, 1) for text in texts]),
            "time_ids": sizes.repeat(count * len(texts), 1),
        }
    return condition


def _scale_embedding(model: Loaded, scale: float, count: int) -> Any:
    """Return the guidance scale as a UNet takes it that was distilled to follow it (Luo et al. 2023, sec. 4.1)."""
    import torch

    half = model.unet.config.time_cond_proj_dim // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * (-np.log(10000.0) / (half - 1)))
    angles = (scale - 1) * _GUIDED * rates
    return torch.cat([angles.sin(), angles.cos()])[None].repeat(count, 1).to(model.device, model.dtype)


def _overflow(model: Loaded) -> DataError:
    name = str(model.dtype).removeprefix("torch.")
    if name == "float32":
        return DataError(
            "the model gave what is no number, computing in float32",
            "try another --scheduler, or check the files: imgedit models verify MODEL",
        )
    return DataError(f"the model gave what is no number: it ran over in {name}", "compute more widely: --dtype float32")
