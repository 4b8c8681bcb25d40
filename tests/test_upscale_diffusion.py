"""Enlarging by diffusion: equal to diffusers' pipeline, windows without seams, any size, memory, wrong models."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import real

from imgedit import registry
from imgedit.backends import memory
from imgedit.backends.diffusion import _windows
from imgedit.backends.hint import plain
from imgedit.errors import DataError, ImgeditError, OutOfMemory, UsageError
from imgedit.jobs import Resources
from imgedit.ops import seams

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts/bench"))

import upscale_diffusion as bench

#: seam scores: 1 is none to be seen
GATE = 1.3


def smooth(rows: int, columns: int, dtype: Any = np.uint8) -> Any:
    y, x = np.mgrid[:rows, :columns] / 32
    waves = np.stack([np.sin(2 * x + y), np.cos(2 * y - x), np.sin(x * y)], axis=2)
    return np.rint((0.5 + 0.35 * waves) * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture(scope="module")
def backend(small_models: Path) -> Any:
    return registry.backend("upscale", f"diffusion:{small_models / 'x4-upscaler'}")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all noise be 0: what an untrained model leaves of it would hide every seam."""
    import diffusers.utils.torch_utils
    import torch

    def zeros(shape: Sequence[int], *, dtype: Any, **_: Any) -> Any:
        return torch.zeros(tuple(shape), dtype=dtype)

    monkeypatch.setattr(diffusers.utils.torch_utils, "randn_tensor", zeros)


def enlarged(backend: Any, pixels: Any, scale: float = 4, *, steps: int = 2, **options: Any) -> Any:
    resources = Resources(**{key: options.pop(key) for key in list(options) if key in Resources.__slots__})
    rows, columns = (round(side * scale) for side in pixels.shape[:2])
    return backend.upscale(pixels, rows, columns, own={"steps": steps, **options}, resources=resources)


# --- windows -----------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(2, 16), st.integers(0, 20), st.sampled_from([1, 2, 8]))
def test_windows_cover_everything_once(size: int, length: int, shared: int, step: int) -> None:
    size, length = size * step, length * step
    shared = min(shared, length - step)
    axis = _windows.along(size, length, shared, step)
    total, seen = np.zeros(size), np.zeros(size, int)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        assert start % step == 0
        assert weights.min() > 0 and weights.shape == (axis.length,)
        total[start : start + axis.length] += weights
        seen[start : start + axis.length] += 1
    assert np.allclose(total, 1, atol=1e-6)
    assert seen.min() >= 1 and axis.length <= min(size, length)
    assert all(before + axis.length - start >= shared for before, start in zip(axis.starts, axis.starts[1:]))
    # as few as can be, and no longer than so many must be
    stride = length - -(-shared // step) * step
    assert stride <= 0 or len(axis.starts) == max(1, -(-(size - length) // stride) + 1)
    assert len(axis.starts) * (axis.length - step) < size + (len(axis.starts) - 1) * (shared + step)
    assert len(axis.lines) == len(axis.starts) - 1


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 8), st.sampled_from([1, 8]), st.integers(20, 400))
def test_the_windows_that_compute_fewest_fit(rows: int, columns: int, shared: int, step: int, most: int) -> None:
    sides, most = (rows * step, columns * step), most * step**2
    start = tuple(_windows.along(side, (shared + 4) * step, shared, step).length for side in sides)

    def computed(window: tuple[int, ...]) -> int:
        axes = [_windows.along(side, length, shared, step) for side, length in zip(sides, window)]
        return math.prod(axis.length * len(axis.starts) for axis in axes)

    found = _windows.fewest(sides, lambda down, across: down * across <= most, shared, step, start)  # type: ignore[arg-type]
    assert computed(found) <= computed(start)
    assert found == start or math.prod(found) <= most
    if math.prod(sides) <= most:
        assert found == sides


# --- the sampler: an answer that is known --------------------------------------------------------------------


#: (means, deviations, weights) of modes: one number's distribution
Modes = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
FIVE: Modes = ((-1.5, -0.6, 0.0, 0.5, 1.4), (0.05, 0.1, 0.03, 0.1, 0.2), (0.2,) * 5)
TWO: Modes = ((-0.8, 0.9), (0.1, 0.15), (0.5, 0.5))


def ends(name: str, steps: int, *modes: Modes, scale: float = 1.0) -> tuple[Any, Any]:
    """Return where a sampler ends and where it should, from some noise, for data of these modes.

    The ideal denoiser is the mean of what could have been (Vincent 2011); with two distributions the first is led to
    the second by *scale*. A single mode at 0 scales what it starts from; else many steps say where it should end.
    """
    import torch

    from imgedit.backends.diffusion._schedule import Schedule

    config = {
        **{"_class_name": "DDIMScheduler", "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"},
        **{"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "prediction_type": "v_prediction"},
    }
    shares = np.cumprod(1 - np.linspace(0.01, np.sqrt(0.02), 1000) ** 2)
    # as noise is spread, each of the values as likely as the others
    start = 2**0.5 * torch.erfinv(torch.linspace(-0.995, 0.995, 200, dtype=torch.float64))[:, None]

    def velocity(value: Any, share: float, of: Modes) -> Any:
        mean, spread, weight = (torch.tensor(numbers, dtype=torch.float64) for numbers in of)
        variance = share * spread**2 + 1 - share
        likely = weight.log() - variance.log() / 2 - (value - share**0.5 * mean) ** 2 / (2 * variance)
        each = (share**0.5 * spread**2 * value + (1 - share) * mean) / variance
        signal = (likely.softmax(dim=1) * each).sum(dim=1, keepdim=True)
        noise = (value - share**0.5 * signal) / (1 - share) ** 0.5
        return share**0.5 * noise - (1 - share) ** 0.5 * signal

    def run(name: str, steps: int) -> Any:
        schedule = Schedule(config, name, steps, 1.0)
        value = schedule.begin(start, None)
        for t in schedule.timesteps:
            share, given = float(shares[int(t)]), schedule.scaled(value, t)
            predicted, *led = (velocity(given, share, of) for of in modes)
            if led:
                predicted = predicted + scale * (led[0] - predicted)
            value = schedule.step(predicted, t, value, [])
        return value

    if len(modes) == 1 and modes[0][0] == (0.0,):
        spread = modes[0][1][0]
        return run(name, steps), start * spread / (shares[-1] * spread**2 + 1 - shares[-1]) ** 0.5
    return run(name, steps), run("dpm-solver", 900)


def off(name: str, steps: int, *modes: Modes, scale: float = 1.0) -> float:
    """Return how far a sampler ends from where it should, the root of the mean square."""
    found, right = ends(name, steps, *modes, scale=scale)
    return float((found - right).square().mean().sqrt())


def test_the_sampler_comes_nearer_than_that_of_diffusers_pipeline() -> None:
    from imgedit.backends.upscale.diffusion import SCHEDULER, STEPS

    def most(name: str, steps: int) -> float:
        """Return the largest error for Gaussian data, as a share of the answer."""
        found = (ends(name, steps, ((0.0,), (spread,), (1.0,))) for spread in (0.05, 0.1, 0.2, 0.5, 1.0))
        return max(float((made[0] / right[0] - 1).abs()) for made, right in found)

    ours, ddim, few = (most(*way) for way in ((SCHEDULER, STEPS), ("ddim", 75), ("ddim", STEPS)))
    assert ours < 0.02 < ddim < few
    strongly = ((-0.8, 0.9), (0.3, 0.4), (0.5, 0.5)), ((-0.7, 0.95), (0.28, 0.37), (0.4, 0.6))
    weakly = ((-0.8, 0.9), (0.3, 0.4), (0.5, 0.5)), ((-0.6, 1.0), (0.25, 0.3), (0.3, 0.7))
    for modes, scale in (((FIVE,), 1.0), (strongly, 9.0), (weakly, 3.0)):
        assert off(SCHEDULER, STEPS, *modes, scale=scale) < off("ddim", 75, *modes, scale=scale)
    # of two modes ddim's many steps are nearer, but not the solver that takes more steps than ours
    assert off(SCHEDULER, STEPS, TWO) < off("dpm-solver-karras", 20, TWO)


# --- one window: diffusers' own pipeline --------------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "seed", "size"), [("", 7, (32, 32)), ("an old brick wall", 3, (24, 32))])
def test_one_window_equals_the_pipeline(
    backend: Any, small_models: Path, prompt: str, seed: int, size: tuple[int, int]
) -> None:
    import diffusers
    import torch
    from PIL import Image

    pipe = diffusers.StableDiffusionUpscalePipeline.from_pretrained(small_models / "x4-upscaler", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    sampler = diffusers.UniPCMultistepScheduler
    pipe.scheduler = sampler.from_config(pipe.scheduler.config, use_exponential_sigmas=True)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    other = pipe(
        prompt=prompt,
        image=Image.fromarray(pixels),
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
    ).images[0]
    assert 0.05 < other.std() < 0.45, "the reference must show something"
    done = enlarged(backend, pixels.astype(np.uint16) * 257, steps=4, prompt=prompt, seed=seed)
    assert done.notes["windows"] == 1 and done.notes["exact"] is True
    assert np.abs(done.pixels / 65535 - other).max() < 2e-5  # of which rounding to 16 bits is 8e-6
    single = registry.backend("upscale", f"diffusion:{small_models / 'x4-upscaler.safetensors'}")
    again = enlarged(single, pixels.astype(np.uint16) * 257, steps=4, prompt=prompt, seed=seed)
    assert np.abs(again.pixels.astype(int) - done.pixels).max() <= 1


def test_the_seed_alone_decides(backend: Any) -> None:
    pixels = smooth(20, 26)
    first, again, other = (enlarged(backend, pixels, seed=seed).pixels for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert (first != other).mean() > 0.5


# --- windows of a real model --------------------------------------------------------------------------------


def test_windows_leave_no_seams_and_pieces_do(backend: Any, quiet: None) -> None:
    pixels = smooth(48, 64, np.uint16)
    done = enlarged(backend, pixels, coarse_tile=16)
    assert done.notes["windows"] == 6 and done.notes["exact"] is False
    pieces = np.zeros_like(done.pixels)
    for top in (0, 24):
        for left in (0, 32):
            part = enlarged(backend, np.ascontiguousarray(pixels[top : top + 24, left : left + 32])).pixels
            pieces[4 * top : 4 * top + 96, 4 * left : 4 * left + 128] = part
    lines = [96], [128]
    assert seams.score(pieces, *lines) > GATE
    assert seams.score(done.pixels, *lines) < GATE
    assert done.notes["seam"] < GATE


@pytest.mark.parametrize("prompt", ["", "an old brick wall"])
def test_samples_at_once_change_nothing(backend: Any, monkeypatch: pytest.MonkeyPatch, prompt: str) -> None:
    from imgedit.backends.upscale import _by_diffusion

    pixels = smooth(40, 48, np.uint16)
    one = enlarged(backend, pixels, seed=2, coarse_tile=16, prompt=prompt).pixels
    for most in (2, 4):
        monkeypatch.setattr(_by_diffusion, "_AT_ONCE", {"cpu": most})
        more = enlarged(backend, pixels, seed=2, coarse_tile=16, prompt=prompt).pixels
        assert np.abs(one.astype(int) - more).max() <= 7  # 1e-4 of full scale


# --- windows of a model whose answer is known ---------------------------------------------------------------


class Known:
    """A UNet that answers for each cell what it sees there; with *mean*, and what it sees on average."""

    config = SimpleNamespace(block_out_channels=(8, 16))

    def __init__(self, mean: float = 0.0) -> None:
        self.mean = mean
        self.seen: list[tuple[int, tuple[int, ...]]] = []
        self.fail: Callable[[int, tuple[int, ...]], bool] = lambda *_: False

    def __call__(self, shown: Any, t: Any, **_: Any) -> tuple[Any]:
        self.seen.append((int(t), tuple(shown.shape)))
        if self.fail(len(self.seen), tuple(shown.shape)):
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 byte")
        return (shown[:, :4] - shown[:, 4:5] + self.mean * shown[:, 4:].mean(dim=(1, 2, 3), keepdim=True),)


@pytest.fixture
def known(backend: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Return a function that draws latents of a picture by a Known with windows of a length and so many cells shared"""
    import torch
    from diffusers import DDIMScheduler

    from imgedit.backends.diffusion import _enlarge
    from imgedit.backends.diffusion._schedule import Schedule

    model, _ = backend._backend._hold(Resources())
    said = SimpleNamespace(tokens=torch.zeros(1, 77, 48))

    def draw(
        unet: Known, length: int, shared: int, at_once: int = 1, size: tuple[int, int] = (40, 72), scale: float = 1.0
    ) -> Any:
        monkeypatch.setattr(model, "unet", unet)
        denoiser = _enlarge.Denoiser(model, (length, length), shared, at_once)
        picture = np.ascontiguousarray(smooth(*size).transpose(2, 0, 1) / np.float32(255))
        schedule = Schedule(dict(DDIMScheduler(clip_sample=False).config), "ddim", 3, 1.0)
        return denoiser.draw(picture, schedule, _enlarge.Words(said, said, scale), 4), denoiser  # type: ignore[arg-type]

    yield draw


def test_noise_and_blending_do_not_depend_on_the_windows(known: Callable[..., Any]) -> None:
    whole, _ = known(Known(), 100, 0)
    assert whole.shape == (4, 40, 72) and whole.std() > 0.1
    for length, shared, at_once in ((16, 8, 1), (24, 4, 3), (32, 16, 16), (16, 0, 2)):
        cut, denoiser = known(Known(), length, shared, at_once)
        assert len(denoiser.lines[1]) >= 1
        assert np.abs(cut - whole).max() < 1e-5


def test_odd_sizes_are_filled_up(known: Callable[..., Any]) -> None:
    whole, _ = known(Known(), 100, 0, size=(37, 71))
    cut, _ = known(Known(), 16, 8, size=(37, 71))
    assert whole.shape == (4, 37, 71)
    assert np.abs(cut - whole).max() < 1e-5


def test_what_windows_see_differently_is_blended(known: Callable[..., Any], quiet: None) -> None:
    def steps(shared: int) -> Any:
        made, denoiser = known(Known(mean=2.0), 24, shared)
        picture = np.rint(32768 + 4000 * np.clip(made[:3], -8, 8)).astype(np.uint16).transpose(1, 2, 0)
        return seams.score(picture, *denoiser.lines)

    assert steps(12) < GATE < 2 < steps(0)


def test_out_of_memory_keeps_the_steps_that_are_done(known: Callable[..., Any]) -> None:
    size = (40, 160)
    whole, _ = known(Known(), 160, 0, size=size)
    unet = Known()
    unet.fail = lambda number, shape: shape[0] > 1 or shape[3] > 48 or number == 9
    made, denoiser = known(unet, 96, 8, 4, size=size)
    # 4 at once, 2, 1, windows of half the size, and of a quarter in the second step
    assert denoiser.halved == 4 and max(denoiser.lengths) == 28
    assert unet.seen[8][0] < unet.seen[0][0]
    assert np.abs(made - whole).max() < 1e-5
    order = [t for t, _ in unet.seen]
    assert order == sorted(order, reverse=True) and len(set(order)) == 3


def test_out_of_memory_parts_the_samples_of_guidance_first(known: Callable[..., Any]) -> None:
    whole, _ = known(Known(), 100, 0)
    unet = Known()
    unet.fail = lambda _, shape: shape[0] > 1
    made, denoiser = known(unet, 100, 0, 2, scale=3.0)
    assert denoiser.halved == 1 and max(denoiser.lengths) == 72
    assert np.abs(made - whole).max() < 1e-5


def test_out_of_memory_at_the_smallest_window_ends(known: Callable[..., Any]) -> None:
    unet = Known()
    unet.fail = lambda *_: True
    with pytest.raises(OutOfMemory) as error:
        known(unet, 48, 16, 2)
    assert error.value.exit_code == 75 and error.value.hint
    other = Known()
    other.fail = lambda *_: 1 // 0  # type: ignore[return-value]
    with pytest.raises(ZeroDivisionError):
        known(other, 48, 16, 2)


# --- sizes, depth, alpha ------------------------------------------------------------------------------------


def test_any_scale_comes_of_the_fourfold(backend: Any) -> None:
    pixels = smooth(14, 18, np.uint16)
    full = enlarged(backend, pixels)
    assert full.notes["passes"] == 1
    for scale in (1.5, 2, 3.3):
        done = enlarged(backend, pixels, scale)
        wanted = cv2.resize(full.pixels.astype(np.float32), done.pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(done.pixels - wanted).max() <= 1.5
    twice = enlarged(backend, smooth(5, 6), 7, steps=1)
    assert twice.notes["passes"] == 2 and twice.pixels.shape == (35, 42, 3)
    assert enlarged(backend, smooth(1, 1), steps=1).pixels.shape == (4, 4, 3)


def test_depth_grey_and_alpha(backend: Any) -> None:
    pixels = smooth(16, 20)
    fine, coarse = enlarged(backend, pixels.astype(np.uint16) * 257).pixels, enlarged(backend, pixels).pixels
    assert fine.dtype == np.uint16 and np.abs(fine / 257 - coarse).max() <= 0.51
    made = enlarged(backend, np.repeat(pixels[..., :1], 3, axis=2)).pixels
    assert (made == made[..., :1]).all()
    alpha = np.zeros((16, 20, 1), np.uint8)
    alpha[3:12, 5:15] = 255
    seen = np.concatenate((pixels, alpha), axis=2)
    hidden = seen.copy()
    hidden[alpha[..., 0] == 0, :3] = (255, 0, 255)
    one, two = (enlarged(backend, given).pixels for given in (seen, hidden))
    assert np.array_equal(one, two)
    assert np.array_equal(one[..., 3], plain(np.repeat(alpha, 3, axis=2), 64, 80)[..., 0])


def test_the_hint_is_obeyed(backend: Any) -> None:
    pixels = smooth(16, 20)
    hint = np.full((16, 20), 255, np.uint8)
    hint[:, :10] = 0
    free = enlarged(backend, pixels).pixels
    done = backend.upscale(pixels, 64, 80, own={"steps": 2}, hint=hint).pixels
    assert np.array_equal(done[:, 44:], free[:, 44:])
    assert np.array_equal(done[:, :36], plain(pixels, 64, 80)[:, :36])


# --- memory -------------------------------------------------------------------------------------------------


def test_the_memory_target_is_planned_kept_and_recorded(backend: Any) -> None:
    pixels = smooth(80, 100)
    enlarged(backend, pixels, steps=1)
    memory.give_back()
    target = memory.resident() / 1e9 + 0.015
    done = enlarged(backend, pixels, steps=1, memory_target_gb=target, coarse_tile=64)
    found = done.notes["memory"]
    assert found["planned_gb"] <= target and found["measured_gb"] <= 1.1 * target
    roomy = enlarged(backend, pixels, steps=1, coarse_tile=64)
    assert done.notes["window"] < roomy.notes["window"]
    with pytest.raises(OutOfMemory) as error:
        enlarged(backend, pixels, steps=1, memory_target_gb=0.05)
    assert error.value.hint.startswith("--memory-target-gb ")


def test_the_default_takes_as_few_windows_as_the_memory_of_the_whole_allows(backend: Any) -> None:
    from imgedit.backends.upscale._by_diffusion import Drawing

    model, plan = backend._backend._hold(Resources())
    drawing = Drawing(model, plan, lambda *_: pytest.fail("nothing is drawn"))

    def planned(rows: int, columns: int, **given: Any) -> tuple[int, int]:
        target = np.empty((4 * rows, 4 * columns, 3), np.uint8)
        resources = Resources(memory_target_gb=1000, **given)
        drawing._layout((rows, columns, 3), target, resources.coarse_tile, resources)
        return drawing._denoiser.lengths

    assert planned(96, 96) == (96, 96) and planned(50, 90) == (50, 90)
    assert planned(128, 128) == (128, 128)  # one sample after the other and decoded in tiles it takes little enough
    assert planned(200, 200) == (108, 108)  # larger than any picture that goes through as a whole
    assert max(planned(700, 500)) <= 6 * 32
    assert planned(128, 128, coarse_tile=16) == (32, 32)


def test_a_picture_that_is_decoded_whole_is_planned_whole(backend: Any) -> None:
    from imgedit.backends.upscale._by_diffusion import _Needs

    _, plan = backend._backend._hold(Resources())
    for shape in ((40, 40), (60, 97)):
        needs = _Needs(plan, shape, 8, 8, 8, 0)
        for tile in range(8, 128):
            pixels = shape[0] * shape[1] * plan.grid**2
            if needs.undivided(tile):
                assert needs.decoded(tile) == plan.pixel * pixels
            else:
                assert needs.decoded(tile) <= plan.pixel * pixels
        assert needs.undivided(127) and not needs.undivided(8)


# --- what is refused ----------------------------------------------------------------------------------------


def refused(given: str) -> ImgeditError:
    with pytest.raises(ImgeditError) as error:
        registry.backend("upscale", given)
    assert error.value.hint
    return error.value


def test_other_models_are_refused(small_models: Path, tmp_path: Path) -> None:
    for kind in ("sd-inpaint", "sd.safetensors", "xl"):
        error = refused(f"diffusion:{small_models / kind}")
        assert isinstance(error, DataError) and "not for upscale" in error.message
    for name in ("compact4", "esrgan4", "swinir2"):
        error = refused(f"diffusion:{real(name, tmp_path)}")
        assert isinstance(error, DataError) and f"spandrel:{tmp_path / name}.safetensors" in error.hint
        assert str(tmp_path) not in error.message
    error = refused(f"spandrel:{small_models / 'x4-upscaler'}")
    assert isinstance(error, DataError) and "upscale --backend diffusion:" in error.hint
    assert refused("diffusion:nothing.safetensors").exit_code == 69
    assert isinstance(refused("diffusion"), UsageError)


@pytest.mark.parametrize(("part", "changes"), [("unet", {"in_channels": 8}), ("unet", {"num_class_embeds": None})])
def test_models_that_enlarge_otherwise_are_refused(
    small_models: Path, tmp_path: Path, part: str, changes: dict[str, Any]
) -> None:
    folder = tmp_path / "other"
    for path in (small_models / "x4-upscaler").rglob("*"):
        if path.is_file():
            copy = folder / path.relative_to(small_models / "x4-upscaler")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    config = folder / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    error = refused(f"diffusion:{folder}")
    assert isinstance(error, DataError) and "StableDiffusionUpscalePipeline" in error.message


def test_others_have_no_prompt() -> None:
    with pytest.raises(UsageError, match="--prompt"):
        registry.backend("upscale", "lanczos").upscale(smooth(4, 4), 8, 8, own={"prompt": "a wall"})


def test_from_the_shell(run: Callable[..., Any], small_models: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), smooth(40, 30)[..., ::-1])
    model = small_models / "x4-upscaler"
    done = run(
        "upscale",
        "in.png",
        "--backend",
        f"diffusion:{model}",
        "--scale",
        3,
        "--steps",
        2,
        "-o",
        "out.png",
        "--coarse-tile",
        16,
    )
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "out.png")).shape == (120, 90, 3)
    step = json.loads((tmp_path / "out.png.json").read_text())["steps"][0]
    assert step["notes"]["steps"] == 2 and step["notes"]["windows"] > 1
    assert any("sha256:" in value for value in step["model"].values())


# --- the benchmark ------------------------------------------------------------------------------------------


def test_the_program_runs_with_a_small_model() -> None:
    def here(function: Callable[..., Any], *given: Any) -> Any:
        return function(*given)

    first, whole, default, tiled = bench.run(full=False, sides=[40], steps=1, tiles=[None, 16], repeat=2, call=here)
    assert (first.windows, whole.windows, default.windows, tiled.windows) == (1, 1, 1, 4)
    assert first.speed == 1 and first.evaluations == tiled.evaluations == 1
    assert min(row.per_minute for row in (first, whole, default, tiled)) > 0
    assert first.seam is whole.seam is None and tiled.seam is not None


@pytest.mark.gpu
@pytest.mark.timeout(1200)
def test_full_size_takes_less_memory_in_two_stages() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    theirs, _, tiled = bench.run(full=True, sides=bench.FULL_SIDES, steps=None, tiles=[None])
    print(theirs, tiled, sep="\n")
    assert tiled.memory < 0.45
    assert tiled.speed > 2.83
