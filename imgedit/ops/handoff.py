"""What one latent step hands to the next: what has changed since the last one, and latents that a profile refuses.

Findings have the codes IL2xx; `imgedit inpaint --explain` documents them. Needs no array package.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from imgedit.errors import UsageError
from imgedit.ops import codes
from imgedit.ops.codes import Code, Record

#: guidance scales closer than this are the same
GUIDANCE_RATIO = 1.1
#: samplers that add fresh noise at each step
_STOCHASTIC = ("ddpm", "lcm", "tcd")
#: parts of names of others that do
_STOCHASTIC_PARTS = ("ancestral", "sde")
#: crops that are wider than this times what a model was made for are said to be
WIDE = 1.5
#: between two steps there are only pixels
ANEW = "the pixels are encoded anew, and nothing else is carried over"

CODES: dict[str, Code] = {
    "IL201": Code(
        "warning",
        "another VAE",
        "the last latent step, by {was}, had another VAE than {now}: " + ANEW,
        "look at colours and fine texture round what the last step made; or give the same --model to both",
        "Each VAE loses something else of a picture. What the last step decoded is a picture like any other for the "
        "next VAE, so latents are never mixed up; but two fills side by side may differ in colour and fine texture.",
    ),
    "IL202": Code(
        "warning",
        "another latent grid",
        "latent cells are {now} px now, {was} px in the last latent step: the mask is laid on the new grid",
        "lay the mask on the new grid where it was made: imgedit mask --grid {now}",
        "The mask is reduced to cells anew, without losing a stroke. A mask that was grown to whole cells of the old "
        "grid covers more or less than whole cells of the new one, which costs pixels and harms nothing.",
    ),
    "IL203": Code(
        "warning",
        "another guidance scale",
        "the guidance scale is {now:g} now, {was:g} in the last latent step: " + ANEW,
        "give the same --guidance-scale to both, where their fills are to look alike",
        "A higher guidance scale gives more contrast and stronger colours. Two fills of one picture that are made with "
        "different scales can be told apart. Scales within a tenth count as the same.",
    ),
    "IL204": Code(
        "warning",
        "another family of samplers",
        "the sampler is {now} now, {was} in the last latent step: " + ANEW,
        "give the same --scheduler to both, where their fills are to look alike",
        "A deterministic sampler (ddim, pndm, euler, …) follows one path from its noise; a stochastic one (ddpm, "
        "euler-ancestral, …) adds fresh noise at each step, and ends in other texture. Nothing of a sampler's state "
        "goes from one step to the next, so no noise level can be wrong.",
    ),
    "IL205": Code(
        "info",
        "another prediction type",
        "the model predicts {now} now, {was} in the last latent step: " + ANEW,
        "nothing is to be done: each model is sampled by its own prediction type",
        "Models predict the noise (epsilon), the picture (sample) or a velocity between both (v_prediction). It "
        "belongs to the model, and is read from its configuration.",
    ),
    "IL206": Code(
        "info",
        "other text encoders",
        "prompts are {now} now, {was} in the last latent step: they are embedded anew",
        "to keep what a prompt meant there: imgedit calibrate-prompts --from A --to B, then inpaint --consistency MAP",
        "The number of tokens says where a prompt is cut off, the width which encoders read it. The same words may "
        "mean something else to another encoder.",
    ),
    "IL211": Code(
        "info",
        "recentred",
        "latents lay beyond the tolerance of the profile and were moved to it ({channels})",
        "nothing is to be done; where this comes with every picture, see to the VAE's encoder",
        "Mean and standard deviation of the latents outside the mask were further from the profile's than crops of "
        "the calibration pictures are by themselves: six robust standard deviations. The step records the move.",
    ),
    "IL212": Code(
        "warning",
        "beyond the profile",
        "latents lie beyond the tolerance of the profile ({channels}) and were left there",
        "move them: --recenter auto; or measure pictures of this kind: imgedit calibrate MODEL PICTURES...",
        "As IL211, with --recenter off. The model sees latents unlike those that it was made for, or the picture is "
        "unlike those that the profile was measured on.",
    ),
    "IL213": Code(
        "warning",
        "unusual guidance scale",
        "the guidance scale is {now:g}; the profile says that {low:g} to {high:g} is usual for this model",
        "give --guidance-scale {low:g} to {high:g}, or change the range in the profile",
        "Distilled models are made for a scale near 1, and burn out with the usual 7.5; others ignore the prompt "
        "at that scale. The range is in the profile, from the checkpoint's sampler, and can be changed there.",
    ),
    "IL221": Code(
        "warning",
        "far above the model's size",
        "crops of {now} px are {times:.2g} times as wide as what the model was made for, {native} px",
        "give --resolution {most} or less, or leave it out: larger holes are then seen reduced",
        "A model that sees much more than it was made for repeats what it paints, as a second horizon or a second "
        "head, and takes time and memory with the square of the area. Up to one and a half times the size is usual.",
    ),
    "IL222": Code(
        "warning",
        "a prompt that is too long",
        "the {which} is longer than what the model reads: {cut} of its tokens, from the end, were left out",
        "say it in fewer words, what matters first",
        "A text encoder reads so many tokens, 77 for those of Stable Diffusion, two of which say where the prompt "
        "begins and ends. A common word is one token, a rare one several. The step records how many were left out.",
    ),
}


_noticed = partial(codes.record, CODES)


def explain(code: str) -> str:
    """Return the documentation of a code of a latent step, or the list of all for "". UsageError for an unknown one."""
    if code.upper() in codes.CODES:  # inpaint says these too
        raise UsageError(
            f"inpaint has no code {code!r}: the check before it found that", f"imgedit preflight --explain {code}"
        )
    return codes.explain(code, CODES, "inpaint")


def terms(facts: Mapping[str, Any], *, guidance_scale: float, scheduler: str) -> dict[str, Any]:
    """Return what a latent step is to record for the next one, as plain values, under ``terms`` in its notes.

    *facts*: of the model (see ``imgedit.backends.diffusion._profile``); what one lacks is not compared.
    """
    keys = ("model", "vae_encoder", "vae_decoder", "channels", "grid", "prediction")
    found = {key: facts[key] for key in keys if facts.get(key) is not None}
    found["tokens"] = tuple((each["tokens"], each["width"]) for each in facts.get("encoders", ()))
    return found | {"guidance_scale": float(guidance_scale), "sampler": family(scheduler)}


def family(scheduler: str) -> str:
    """Return the family of ``ddim`` or ``ddim:30,ddpm:20``: deterministic, stochastic, or one, then the other."""
    kinds = []
    for part in scheduler.split(","):
        name = part.partition(":")[0].strip()
        noisy = name in _STOCHASTIC or any(word in name.split("-") for word in _STOCHASTIC_PARTS)
        kinds.append("stochastic" if noisy else "deterministic")
    return ", then ".join(kind for number, kind in enumerate(kinds) if number == 0 or kinds[number - 1] != kind)


def changed(last: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[Record]:
    """Return what differs between the terms of the last latent step, None where there was none, and of this one.

    Each finding says what was done about it. Terms of a sidecar are data from anywhere: what has not the form of
    terms is not compared.
    """
    return list(_changed(last, now)) if isinstance(last, Mapping) else []


def _changed(last: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Record]:
    def pair(key: str, kind: type) -> tuple[Any, Any] | None:
        both = last.get(key), now.get(key)
        return both if all(isinstance(value, kind) for value in both) and both[0] != both[1] else None

    # either half of a VAE says what its latents are
    halves = [last.get(half) == now.get(half) for half in ("vae_encoder", "vae_decoder")]
    if pair("channels", int) or (not any(halves) and pair("vae_decoder", str)):
        names = (value.get("model") for value in (last, now))
        was, this = (repr(name)[:80] if isinstance(name, str) else "another model" for name in names)
        yield _noticed("IL201", was=was, now=this)
    if both := pair("grid", int):
        yield _noticed("IL202", was=both[0], now=both[1])
    if both := pair("guidance_scale", float):
        least, most = sorted(both)
        if least <= 0 or most / least > GUIDANCE_RATIO:
            yield _noticed("IL203", was=both[0], now=both[1])
    if both := pair("sampler", str):
        yield _noticed("IL204", was=f"{both[0]:.60}", now=both[1])
    if both := pair("prediction", str):
        yield _noticed("IL205", was=f"{both[0]:.60}", now=both[1])
    if both := pair("tokens", tuple):
        was, this = (_tokens(value) for value in both)
        if was and this:
            yield _noticed("IL206", was=was, now=this)


def _tokens(value: tuple[Any, ...]) -> str:
    if not all(isinstance(each, tuple) and len(each) == 2 for each in value):
        return ""
    return " and ".join(f"{each[0]!s:.12} tokens × {each[1]!s:.12}" for each in value)


def measured(notes: Iterable[Mapping[str, Any]], guidance_scale: float) -> list[Record]:
    """Return what the crops of a step say of the model's profile, each code once.

    *notes*: what was noted of each crop's latents on entry (``imgedit.backends.diffusion._profile.reconcile``).
    """
    moved: set[int] = set()
    left: set[int] = set()
    usual: tuple[float, float] | None = None
    for each in notes:
        if each.get("beyond"):
            (moved if each.get("profile") == "moved" else left).update(each["beyond"])
        usual = each.get("usual_guidance", usual)
    found = []
    for code, channels in (("IL211", moved), ("IL212", left)):
        if channels:
            listed = ("channel " if len(channels) == 1 else "channels ") + ", ".join(map(str, sorted(channels)))
            found.append(_noticed(code, channels=listed))
    if usual and not usual[0] <= guidance_scale <= usual[1]:
        found.append(_noticed("IL213", now=guidance_scale, low=usual[0], high=usual[1]))
    return found


def sized(resolution: int | None, native: int) -> list[Record]:
    """Return what is to be said of crops of *resolution* pixels, None for the model's own size, *native*."""
    if resolution is None or resolution <= WIDE * native:
        return []
    return [_noticed("IL221", now=resolution, times=resolution / native, native=native, most=int(WIDE * native))]


def cut(positive: int, negative: int) -> list[Record]:
    """Return what is to be said of prompts of which so many tokens, 0 for none, were left out."""
    both = (("prompt", positive), ("negative prompt", negative))
    return [_noticed("IL222", which=which, cut=count) for which, count in both if count > 0]


def refusal(found: Iterable[Record]) -> tuple[str, str] | None:
    """Return message and hint of a refusal where --strict is asked for and something is a warning, else None."""
    grave = [each for each in found if each.severity != "info"]
    if not grave:
        return None
    hints = dict.fromkeys(each.hint for each in grave)
    return "; ".join(f"{each.code} {each.message}" for each in grave), "; ".join([*hints, "or leave out --strict"])
