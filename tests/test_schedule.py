"""Samplers and their mixes: timesteps, noise levels at a switch, and a loop written out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from imgedit.errors import Unavailable, UsageError

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

CONFIG = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "timestep_spacing": "leading",
    "clip_sample": False,
}
SHAPE = (2, 4, 8, 8)
MIXABLE = ("ddim", "ddpm", "pndm", "lms", "euler", "euler-ancestral", "heun", "dpm-solver", "dpm-solver-sde", "unipc")
BY_SIGMA = ("lms", "euler", "euler-ancestral", "heun")


def schedule(text: str, steps: int = 50, strength: float = 1.0, **config: Any) -> Any:
    from imgedit.backends.diffusion._schedule import Schedule

    return Schedule({**CONFIG, **config}, text, steps, strength)


def alpha_bar(timestep: float) -> float:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return float(torch.cumprod(1 - betas, 0)[round(timestep)])


def asked(given: Any) -> list[float]:
    """Return the timesteps of a schedule without running it."""
    return [float(t) for t in given.timesteps]


def run(given: Any, model: Any, latents: Any, seed: int = 0) -> Any:
    generators = [torch.Generator().manual_seed(seed + number) for number in range(len(latents))]
    for t in given.timesteps:
        latents = given.step(model(given.scaled(latents, t), t), t, latents, generators)
    return latents


def guess(latents: Any, t: Any) -> Any:
    """Stand for a UNet: smooth in the latents and the time."""
    return torch.tanh(0.7 * latents + float(t) / 2000)


def noise(seed: int = 3) -> Any:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("text", ["ddim", "ddim:{}"])
def test_one_sampler_alone_is_that_of_diffusers(text: str, steps: int) -> None:
    ours = run(schedule(text.format(steps), steps), guess, noise())
    sampler = diffusers.DDIMScheduler.from_config({k: v for k, v in CONFIG.items() if k[0] != "_"})
    sampler.set_timesteps(steps)
    latents = noise()
    for t in sampler.timesteps:
        latents = sampler.step(guess(latents, t), t, latents).prev_sample
    assert torch.equal(ours, latents)


def test_a_mix_equals_a_loop_written_by_hand() -> None:
    """DDIM (Song et al. 2021, eq. 12 with σ = 0), then DDPM (Ho et al. 2020, algorithm 2), on one row of timesteps."""
    given = schedule("ddim:30,ddpm:20")
    ours = run(given, guess, noise(), seed=11)
    timesteps = [981 - 20 * step for step in range(50)]
    generators = [torch.Generator().manual_seed(11 + number) for number in range(SHAPE[0])]
    latents = noise().double()
    for step, t in enumerate(timesteps):
        now, before = alpha_bar(t), alpha_bar(t - 20) if t >= 20 else None
        predicted = guess(latents, t)
        clean = (latents - math.sqrt(1 - now) * predicted) / math.sqrt(now)
        if step < 30:
            assert before is not None
            latents = math.sqrt(before) * clean + math.sqrt(1 - before) * predicted
        else:
            before = 1.0 if before is None else before
            share = now / before
            mean = math.sqrt(before) * (1 - share) / (1 - now) * clean
            mean = mean + math.sqrt(share) * (1 - before) / (1 - now) * latents
            drawn = torch.cat([torch.randn((1, *SHAPE[1:]), generator=generator) for generator in generators])
            spread = math.sqrt(max(0.0, (1 - before) / (1 - now) * (1 - share)))
            latents = mean + spread * drawn.double()
    assert given.evaluations == 50
    assert float((ours - latents).abs().max()) < 1e-4


def test_euler_into_ddim_equals_a_loop_written_by_hand() -> None:
    """Without noise added both are one method, Euler's on picture + σ · noise: so the mix is either of them alone."""
    mixed = run(schedule("ddim:20,euler:30"), guess, noise())
    latents = noise()
    for step in range(50):
        t = 981 - 20 * step
        sigma = math.sqrt((1 - alpha_bar(t)) / alpha_bar(t))
        if step == 0:
            latents = latents * math.sqrt(1 + sigma**2)
        after = math.sqrt((1 - alpha_bar(t - 20)) / alpha_bar(t - 20)) if t >= 20 else 0.0
        latents = latents + (after - sigma) * guess(latents / math.sqrt(1 + sigma**2), t)
    assert float((mixed - latents).abs().max()) < 1e-3


@pytest.mark.parametrize("second", MIXABLE)
@pytest.mark.parametrize("first", MIXABLE)
def test_the_noise_level_is_the_same_on_both_sides_of_a_switch(first: str, second: str) -> None:
    """A model that knows the picture: whatever the samplers, the latents then hold it with the noise of the level."""
    picture = torch.linspace(-1, 1, math.prod(SHAPE)).reshape(SHAPE)
    given = schedule(f"{first}:12,{second}:13")
    levels = []

    def knows(latents: Any, t: Any) -> Any:
        share = alpha_bar(float(t))
        rest = (latents - math.sqrt(share) * picture) / math.sqrt(1 - share)
        levels.append(float(rest.pow(2).mean().sqrt()))
        return rest

    last = run(given, knows, given.begin(noise(), None))
    # what is not the picture is noise of the strength that the timestep stands for; random draws alone move it a little
    assert all(0.8 < level < 1.2 for level in levels), levels
    assert float((last - picture).abs().max()) < 0.2


@pytest.mark.parametrize("text", ["ddim:9,ddpm:1", "pndm:1,ddim:9", "heun:1,euler:9", "lms:4,dpm-solver:1,ddim:5"])
def test_a_mix_is_at_its_timesteps_whatever_the_spacing_of_the_checkpoint(text: str) -> None:
    picture = torch.linspace(-1, 1, math.prod(SHAPE)).reshape(SHAPE)
    for spacing in ("leading", "trailing", "linspace"):
        given = schedule(text, timestep_spacing=spacing)
        levels = []

        def knows(latents: Any, t: Any, levels: list[float] = levels) -> Any:
            share = alpha_bar(float(t))
            rest = (latents - math.sqrt(share) * picture) / math.sqrt(1 - share)
            levels.append(float(rest.pow(2).mean().sqrt()))
            return rest

        run(given, knows, given.begin(noise(), None))
        assert all(0.8 < level < 1.2 for level in levels), (spacing, levels)


@pytest.mark.parametrize(("text", "steps"), [("ddim:30,ddpm:20", 50), ("euler:10,unipc:10", 20), ("pndm:5,heun:5", 10)])
def test_parts_share_the_timesteps_of_all_steps(text: str, steps: int) -> None:
    given = schedule(text)
    asked_for = asked(given)
    assert asked_for == sorted(asked_for, reverse=True)
    assert len(set(asked_for)) == steps == given.steps
    assert len(asked_for) == given.evaluations


def test_a_mix_keeps_the_spacing_of_the_checkpoint_where_its_samplers_agree() -> None:
    given = schedule("ddim:30,ddpm:20")
    assert given.spacing is None and asked(given) == [981 - 20 * step for step in range(50)]
    other = schedule("ddim:10,unipc:40")
    assert other.spacing == "trailing" and asked(other) == [999 - 20 * step for step in range(50)]


@pytest.mark.parametrize(
    "text", ["lcm:10,ddim:20", "ddim:10,dpm-solver-karras:10", "ddim:9,unipc-exponential:9", "euler-karras:5,euler:5"]
)
def test_samplers_without_common_timesteps_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no common timesteps"):
        schedule(text)


def test_strength_cuts_a_mix_from_its_noisy_end() -> None:
    whole = asked(schedule("ddim:30,ddpm:20"))
    assert asked(schedule("ddim:30,ddpm:20", strength=0.6)) == whole[20:]
    assert asked(schedule("ddim:30,ddpm:20", strength=0.3)) == whole[35:]
    # cut down to its second part, the mix is what is left of that sampler alone
    picture = torch.zeros(SHAPE)
    left, alone = schedule("ddim:30,ddpm:20", strength=0.3), schedule("ddpm", strength=0.3)
    assert torch.equal(run(left, guess, left.begin(noise(), picture)), run(alone, guess, alone.begin(noise(), picture)))


@pytest.mark.parametrize("name", MIXABLE)
def test_pictures_are_noised_to_the_level_of_the_next_step(name: str) -> None:
    given = schedule(f"{name}:4,ddim:4")
    picture = torch.full(SHAPE, 2.0)
    latents = given.begin(noise(), None)
    rest = asked(schedule(f"{name}:4,ddim:4"))[1:]
    for number, t in enumerate(given.timesteps):
        latents = given.step(guess(given.scaled(latents, t), t), t, latents, [torch.Generator() for _ in latents])
        found = given.noised(picture, noise())
        if number == given.evaluations - 1:
            assert torch.equal(found, picture)
            continue
        share = alpha_bar(rest[number])
        wanted = math.sqrt(share) * picture + math.sqrt(1 - share) * noise()
        by_sigma = name in BY_SIGMA and given._part == 0 and not given._at_switch
        scale = math.sqrt(1 / share) if by_sigma else 1.0
        assert float((found - scale * wanted).abs().max()) < 1e-3 * scale


@pytest.mark.parametrize("own", ["use_karras_sigmas", "use_exponential_sigmas"])
@pytest.mark.parametrize("name", ["unipc-exponential", "euler-karras", "dpm-solver-karras"])
def test_a_spacing_that_is_asked_for_replaces_that_of_the_checkpoint(name: str, own: str) -> None:
    assert asked(schedule(name, 8, **{own: True})) == asked(schedule(name, 8))


def test_lms_begins_anew_in_the_middle() -> None:
    """Of a constant direction every linear multistep method takes exact steps, wherever it begins."""
    given = schedule("lms", strength=0.4)
    latents = given.begin(noise(), torch.zeros(SHAPE))
    assert torch.allclose(latents, noise() * sigma(asked(schedule("lms", strength=0.4))[0]), rtol=1e-4)
    last = run(given, lambda x, t: noise(), latents)
    assert float(last.abs().max()) < 1e-3


def sigma(timestep: float) -> float:
    return math.sqrt((1 - alpha_bar(timestep)) / alpha_bar(timestep))


@pytest.mark.parametrize(
    ("text", "steps", "strength", "says"),
    [
        ("dimm", 10, 1.0, "no scheduler 'dimm'"),
        ("ddim", 10, 0.05, "leaves none"),
        ("lcm", 500, 1.0, "cannot run 500 steps"),
        ("ddim", 1000, 1.0, "cannot run 1000 steps"),  # the offset of 1 leads beyond the last noise level
        ("ddim:600,ddpm:600", 1, 1.0, "cannot run 1200 steps"),
    ],
)
def test_what_cannot_run_is_said(text: str, steps: int, strength: float, says: str) -> None:
    with pytest.raises(UsageError, match=says) as said:
        schedule(text, steps, strength)
    assert said.value.hint


def test_the_hint_for_a_strength_that_is_too_small_works() -> None:
    for steps in range(1, 60):
        with pytest.raises(UsageError) as said:
            schedule("ddim", steps, 1e-6)
        least = float(said.value.hint.split("--strength ")[1].split(",")[0])
        assert schedule("ddim", steps, least).evaluations >= 1


def test_lms_without_its_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from imgedit.backends.diffusion import _schedule
    from imgedit.errors import Unavailable

    monkeypatch.setattr(_schedule, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="needs scipy"):
        schedule("lms")


def test_a_model_with_scalings_of_its_own_is_refused() -> None:
    with pytest.raises(Unavailable, match="EDMEulerScheduler"):
        schedule("ddim", _class_name="EDMEulerScheduler")
