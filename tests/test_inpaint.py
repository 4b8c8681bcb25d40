"""The stage inpaint: nothing outside the mask changes, whatever is synthesized; crops, notes, refusals."""

from __future__ import annotations

import hashlib
import io
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import KINDS, SIZES, picture, with_mask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from noise import NATIVE, Noise, assert_outside_kept, behind_inpaint, many

from imgedit import codec, engine, pipeline
from imgedit.cli import talk
from imgedit.cli.batch import Batch
from imgedit.cli.sources import Source
from imgedit.engine import Engine
from imgedit.errors import BrokenPromise, DataError, FileError, GateFailed, OutOfMemory, UsageError
from imgedit.frame import Frame, Sidecar
from imgedit.jobs import Crop, Sampling, Synthesized
from imgedit.together import together


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Noise:
    """The backend behind `inpaint`, which every test here may set."""
    return behind_inpaint(monkeypatch)


def inpainted(frame: Frame, *, strict: bool = False, **params: Any) -> Frame:
    params = {"prompt": "x", "force": True, **params}
    return Engine([engine.call("inpaint", **params)], strict=strict).run(frame)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"staged": True},
    {"margin": 0, "dilate_cells": 2},
    {"resolution": 96, "strength": 0.3},
    {"staged": True, "strength": 1, "seed": 7},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [*SIZES[:2], SIZES[4], (200, 150)], ids=str)
def test_nothing_outside_the_mask_changes(kind: str, size: tuple[int, int], options: Any, noise: Noise) -> None:
    frame = with_mask(picture(kind, *size)).replace(icc=b"profile")
    done = inpainted(frame, **options)
    assert_outside_kept(frame, done)
    assert frame.mask is not None
    inside = frame.mask == 255
    if inside.sum() > 20:
        assert (done.pixels[inside] != frame.pixels[inside]).mean() > 0.5
    notes = done.sidecar.steps[-1].notes
    if frame.mask.any():
        assert notes["strokes_lost"] == 0 and notes["cells"] > 0
    assert Sidecar.from_json(done.sidecar.to_json()) == done.sidecar
    if kind == "grey8" and size[0] * size[1] > 1 and (frame.mask == 0).any():
        assert (done.pixels == done.pixels[..., :1]).all(), "grey stays grey"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(1, 170), st.integers(1, 170), st.booleans(), st.sampled_from(KINDS))
def test_random_masks_keep_all_outside(
    noise: Noise, seed: int, rows: int, columns: int, staged: bool, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((rows, columns), np.uint8)
    for _ in range(rng.integers(0, 6)):
        top, left = rng.integers(rows), rng.integers(columns)
        tall, broad = rng.integers(1, 1 + rng.choice([2, 20, 170]), 2)
        mask[top : top + tall, left : left + broad] = rng.choice([1, 100, 254, 255, 255])
    frame = picture(kind, rows, columns, seed=seed % 7).replace(mask=mask)
    assert_outside_kept(frame, inpainted(frame, staged=staged))


def test_weights_of_the_mask_blend(noise: Noise) -> None:
    frame = picture("rgb8", 64, 64)
    frame = frame.replace(pixels=np.full_like(frame.pixels, 40))
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    full = inpainted(frame.replace(mask=mask)).pixels.astype(int)
    for weight in (1, 100, 254):
        soft = np.where(mask > 0, np.uint8(weight), mask)
        done = inpainted(frame.replace(mask=soft)).pixels.astype(int)
        expected = (40 * (255 - weight) + full * weight) / 255
        assert np.abs(done - expected)[20:40, 20:40].max() <= 0.5
    half = mask.copy()
    half[20:40, 20:30] = 128
    assert np.array_equal(inpainted(frame.replace(mask=half)).pixels[:, 30:], full[:, 30:])


def test_sixteen_bits_are_more_than_eight(noise: Noise) -> None:
    frame = with_mask(picture("rgb16", 64, 64))
    done = inpainted(frame)
    assert frame.mask is not None
    assert len(np.unique(done.pixels[frame.mask == 255] % 257)) > 50


def test_two_far_stamps_are_two_crops_of_the_models_size(noise: Noise) -> None:
    frame = picture("rgb8", 300, 400)
    mask = np.zeros((300, 400), np.uint8)
    mask[5:15, 5:35] = mask[280:290, 360:390] = 255
    mask[40:43, 20:30] = 255  # near the first
    done = inpainted(frame.replace(mask=mask))
    assert [crop.pixels.shape for crop in noise.crops] == [(NATIVE, NATIVE, 3)] * 2
    assert len(noise.passes) == 1 and [crop.seed for crop in noise.crops] == [0, 1]
    first, second = done.sidecar.steps[-1].notes["listed"]
    assert first["holes"] == 2 and second["holes"] == 1 and first["size"] == (NATIVE, NATIVE)
    assert done.sidecar.steps[-1].model == {"id": engine.call("inpaint").params["model"], "digest": "sha256:0"}


def test_a_mark_repeated_all_over_is_asked_for_in_parts(noise: Noise) -> None:
    mask = np.zeros((700, 700), np.uint8)
    mask[10::80, 10::80] = 255
    frame = picture("rgb8", 700, 700).replace(mask=mask)
    done = inpainted(frame, seed=5)
    assert_outside_kept(frame, done)
    assert [crop.seed for crop in noise.crops] == list(range(5, 5 + 81))
    assert [len(crops) for crops in noise.passes] == [8] * 10 + [1]
    assert done.sidecar.steps[-1].notes["crops"] == 81 and len(done.sidecar.steps[-1].notes["listed"]) == 50
    assert (done.pixels[mask > 0] != frame.pixels[mask > 0]).any(axis=1).mean() > 0.9


def test_a_hole_larger_than_the_model_is_seen_reduced(noise: Noise) -> None:
    frame = picture("rgb8", 300, 400)
    mask = np.zeros((300, 400), np.uint8)
    mask[50:250, 100:300] = 255
    frame = frame.replace(mask=mask)
    done = inpainted(frame)
    assert_outside_kept(frame, done)
    (crop,) = noise.crops
    assert crop.pixels.shape[0] * crop.pixels.shape[1] <= NATIVE * NATIVE
    (listed,) = done.sidecar.steps[-1].notes["listed"]
    assert 0.1 < listed["scale"] < 0.35
    assert (done.pixels[mask > 0] != frame.pixels[mask > 0]).mean() > 0.5


def test_a_mask_over_everything_needs_a_prompt(noise: Noise) -> None:
    for rows, columns in ((30, 40), (64, 64), (200, 300), (1, 400), (1, 1)):
        frame = picture("rgb8", rows, columns).replace(mask=np.full((rows, columns), 255, np.uint8))
        done = Engine([engine.call("inpaint", prompt="white")], strict=True).run(frame)
        assert (done.pixels == 255).all()
        assert [f.severity for f in done.sidecar.findings if f.code == "IE102"] == ["info"]
        for prompt in ("", "  "):
            for force in (False, True):  # which is no way out, and is not named as one
                with pytest.raises(UsageError, match="covers everything") as error:
                    inpainted(frame, prompt=prompt, force=force)
                assert error.value.hint == "--prompt 'a meadow'"


def test_what_preflight_refuses_is_refused_before_the_model_is_asked(noise: Noise) -> None:
    frame = picture("rgb8", 100, 100)
    mask = np.zeros((100, 100), np.uint8)
    mask[2:92] = 255
    with pytest.raises(GateFailed) as verdict:
        Engine([engine.call("inpaint")]).run(frame.replace(mask=mask))
    assert "IE104" in verdict.value.message and "--force" in verdict.value.hint and not noise.passes
    # a prompt says what is to be there
    Engine([engine.call("inpaint", prompt="a wall")]).run(frame.replace(mask=mask))
    # but an inverted mask stays a mistake
    inverted = np.full((100, 100), 255, np.uint8)
    inverted[40:60, 40:60] = 0
    with pytest.raises(GateFailed) as verdict:
        Engine([engine.call("inpaint", prompt="a wall")]).run(frame.replace(mask=inverted))
    assert "IE103" in verdict.value.message


def test_an_empty_mask_changes_nothing_and_loads_nothing(noise: Noise) -> None:
    frame = picture("rgb8", 40, 50).replace(mask=np.zeros((40, 50), np.uint8))
    done = inpainted(frame)
    assert done.digest == frame.digest and not noise.passes
    assert done.sidecar.steps[-1].notes["result"] == "nothing to inpaint"


def test_staged_starts_from_the_fill_of_erase(noise: Noise) -> None:
    frame = picture("rgb8", 128, 128)
    mask = np.zeros((128, 128), np.uint8)
    mask[50:70, 40:70] = 255
    frame = frame.replace(mask=mask)
    erased = Engine([engine.call("erase")]).run(frame)
    done = inpainted(frame, staged=True)
    (crop,) = noise.crops
    at = done.sidecar.steps[-1].notes["listed"][0]["where"]
    part = erased.pixels[at[1] : at[1] + at[3], at[0] : at[0] + at[2]]
    assert np.array_equal(crop.pixels, part)
    assert noise.samplings[-1].strength == 0.6
    assert done.sidecar.steps[-1].notes["staged"]["methods"] == erased.sidecar.steps[-1].notes["methods"]
    inpainted(frame)
    part = frame.pixels[at[1] : at[1] + at[3], at[0] : at[0] + at[2]]
    assert noise.samplings[-1].strength == 1 and np.array_equal(noise.crops[-1].pixels, part)


def test_changes_since_the_last_latent_step_are_said_and_refused_when_strict(noise: Noise) -> None:
    frame = with_mask(picture("rgb8", 64, 64))
    once = inpainted(frame, guidance_scale=4)
    assert not [f for f in once.sidecar.findings if f.code.startswith("IL")]
    twice = inpainted(once, guidance_scale=9, scheduler="ddpm")
    assert {"IL203", "IL204"} <= {f.code for f in twice.sidecar.findings}
    with pytest.raises(GateFailed) as verdict:
        inpainted(once, guidance_scale=9, strict=True)
    assert "IL203" in verdict.value.message
    again = inpainted(twice, guidance_scale=9, scheduler="ddpm")
    assert not [f for f in again.sidecar.findings if f.code.startswith("IL")]


def test_a_prompt_that_the_model_does_not_read_to_its_end_is_said(
    noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = with_mask(picture("rgb8", 64, 64))

    def cut(sampling: Sampling, crops: Sequence[Crop]) -> list[Synthesized]:
        return [Synthesized(crop.pixels.astype(np.float32) / 255, {"batch": 1, "tokens_cut": 5}) for crop in crops]

    monkeypatch.setattr(noise, "synthesize", cut)
    (found,) = (f for f in inpainted(frame).sidecar.findings if f.code == "IL222")
    assert found.severity == "warning" and "the prompt is longer" in found.message and "5 of its" in found.message
    with pytest.raises(GateFailed) as verdict:
        inpainted(frame, strict=True)
    assert "IL222" in verdict.value.message


def test_files_lie_beside_the_pipeline_and_are_recorded_by_digest(noise: Noise, tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_bytes(b"{}")
    (tmp_path / "weights").mkdir()
    yaml = "steps: [inpaint: {profile: profile.json, model: weights, prompt: x, force: true}]"
    found = pipeline.parse(yaml, folder=tmp_path)
    assert pipeline.parse(found.to_yaml()).to_yaml() == found.to_yaml()
    frame = with_mask(picture("rgb8", 64, 64))
    for calls, folder in ((found.calls, tmp_path), (pipeline.parse(found.to_yaml()).calls, Path("elsewhere"))):
        step = Engine(calls, folder=folder).run(frame).sidecar.steps[-1]
        sampling = noise.samplings[-1]
        assert sampling.profile == str(tmp_path / "profile.json") and sampling.model == str(tmp_path / "weights")
        digest = "sha256:" + hashlib.sha256(b"{}").hexdigest()
        assert step.params["profile"] == {"file": "profile.json", "digest": digest}
    assert Engine(found.calls, folder=tmp_path).run(frame).sidecar.steps[-1].params["model"] == "weights"
    with pytest.raises(FileError, match=r"profile\.json"):
        Engine(found.calls, folder=tmp_path / "weights").run(frame)


# --- several frames at once ------------------------------------------------------------------------------


def streamed(pictures: Sequence[Frame], **window: int) -> list[Frame | Exception]:
    run = Engine([engine.call("inpaint", prompt="x")])
    items = ((i, run.work(frame), frame.rows * frame.columns) for i, frame in enumerate(pictures))
    found = list(together(items, **window))
    assert [tag for tag, _ in found] == list(range(len(pictures)))
    return [outcome for _, outcome in found]


def test_crops_of_many_pictures_share_passes_and_nothing_depends_on_it(noise: Noise) -> None:
    frames = many(40)
    alone = [inpainted(frame, force=False).digest for frame in frames]
    single = len(noise.passes)
    noise.passes.clear()
    done = streamed(frames)
    assert [frame.digest for frame in done if isinstance(frame, Frame)] == alone
    crops = len(noise.crops)
    assert crops >= 53 and len(noise.passes) == -(-crops // 8) < single
    for window in ({"frames": 1}, {"frames": 3}, {"pixels": 1}, {"frames": 100, "pixels": 1 << 40}):
        assert [frame.digest for frame in streamed(frames, **window) if isinstance(frame, Frame)] == alone


def test_the_window_is_bounded_and_no_larger_than_a_pass_needs(noise: Noise) -> None:
    under_way: list[int] = []
    taken = 0

    def lazily() -> Iterator[Any]:
        nonlocal taken
        run = Engine([engine.call("inpaint", prompt="x")])
        for frame in many(12):
            taken += 1
            yield None, run.work(frame), frame.rows * frame.columns

    for most, bound in ((1, 2), (4, 5), (100, 6)):
        noise.limit, taken = most, 0
        under_way.clear()
        for done, _ in enumerate(together(lazily(), frames=6)):
            under_way.append(taken - done)
        assert max(under_way) <= bound


def test_a_fault_in_one_frame_is_that_frames_alone(noise: Noise) -> None:
    frames = many(9)
    expected = [frame.digest for frame in streamed(frames) if isinstance(frame, Frame)]
    bad = streamed(frames[4:5]) and noise.crops[-1]
    for error in (OutOfMemory("no memory", "less"), GateFailed("refused", "else"), ValueError("a bug"), MemoryError()):
        noise.fail = lambda crops, error=error: (  # type: ignore[misc]
            error if any(np.array_equal(crop.pixels, bad.pixels) for crop in crops) else None
        )
        done = streamed(frames)
        assert [i for i, one in enumerate(done) if isinstance(one, Exception)] == [4]
        wrong = done[4]
        assert isinstance(wrong, OutOfMemory if isinstance(error, MemoryError) else type(error))
        assert [one.digest for one in done if isinstance(one, Frame)] == expected[:4] + expected[5:]


def test_frames_that_fail_before_their_crops_keep_their_turn(noise: Noise) -> None:
    frames = many(5)
    frames[2] = frames[2].replace(mask=None)
    done = streamed(frames)
    assert [type(one) for one in done] == [Frame, Frame, DataError, Frame, Frame]


def test_seconds_of_a_step_are_its_share(noise: Noise, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Noise.synthesize

    def slow(self: Noise, sampling: Sampling, crops: Sequence[Crop]) -> list[Synthesized]:
        threading.Event().wait(0.4)
        return real(self, sampling, crops)

    monkeypatch.setattr(Noise, "synthesize", slow)
    done = streamed(many(8)[1::3])  # two of one crop each
    (first, second) = (one.sidecar.steps[-1].seconds for one in done[:2] if isinstance(one, Frame))
    assert len(noise.passes) == 1
    share = 0.4 / len(noise.crops)
    assert share <= first < 2 * share + 0.2 and share <= second < 2 * share + 0.2


class Taken:
    """A sink that remembers names and frames."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, Frame]] = []

    def put(self, frame: Frame, source: Source) -> None:
        self.frames.append((Path(source.name).name, frame))


@pytest.mark.parametrize("keep_going", [True, False])
def test_a_batch_hands_on_in_order_and_goes_on_if_told(keep_going: bool, noise: Noise, tmp_path: Path) -> None:
    frames = many(7)
    paths = [tmp_path / f"{i}.png" for i in range(len(frames))]
    for frame, path in zip(frames, paths):
        codec.write_file(frame, path)
    paths[2].write_bytes(paths[2].read_bytes()[:200])
    full = np.full(frames[4].pixels.shape[:2], 255, np.uint8)
    full[40:60, 40:60] = 0
    codec.write_file(frames[4].replace(mask=full), paths[4])  # refused by preflight: a verdict
    sink = Taken()
    call = engine.call("inpaint", prompt="x")
    batch = Batch([call], [Source(path) for path in paths], sink, codec.Limits(), keep_going=keep_going)
    before = signal.getsignal(signal.SIGTERM)
    try:
        if keep_going:
            assert batch.run() == 3
        else:
            with pytest.raises(DataError):
                batch.run()
    finally:
        signal.signal(signal.SIGTERM, before)
    expected = ["0.png", "1.png", "3.png", "5.png", "6.png"][: None if keep_going else 2]
    assert [name for name, _ in sink.frames] == expected
    for name, frame in sink.frames:
        assert frame.digest == inpainted(frames[int(name[0])], force=False).digest


@pytest.mark.parametrize("what", ["count", "size", "dtype", "nan"])
def test_a_backend_that_returns_something_else_is_named(
    what: str, noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(sampling: Sampling, crop: Crop) -> Any:
        values = np.zeros(crop.pixels.shape, np.float64 if what == "dtype" else np.float32)
        values[0, 0] = np.nan if what == "nan" else 0
        return values[1:] if what == "size" else values

    monkeypatch.setattr(noise, "invent", wrong)
    if what == "count":
        monkeypatch.setattr(noise, "synthesize", lambda sampling, crops: [])
    with pytest.raises(BrokenPromise) as error:
        inpainted(with_mask(picture("rgb8", 64, 64)))
    assert "noise" in error.value.message


def test_steps_are_shown_on_a_terminal_only(noise: Noise, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for quiet, stream in ((False, io.StringIO()), (True, Terminal())):
        monkeypatch.setattr(sys, "stderr", stream)
        with talk.progress(1, quiet=quiet, steps=True) as bar:
            assert bar.step is None
        assert not stream.getvalue()
    monkeypatch.setattr(sys, "stderr", Terminal())
    with talk.progress(1, quiet=False, steps=True) as bar:
        assert bar.step is not None
        bar.step(1, 3)
        bar.step(3, 3)
        bar.advance()
