"""The engine: what it refuses, what it checks, what it records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import pytest
from conftest import picture, with_mask
from hypothesis import given
from hypothesis import strategies as st

from imgedit import codec, engine
from imgedit.cli import ahead
from imgedit.describe import described
from imgedit.engine import Call, Engine
from imgedit.errors import BrokenPromise, DataError, GateFailed, OutOfMemory, UsageError
from imgedit.frame import Frame, Sidecar
from imgedit.ops import bands, learned, nearest
from imgedit.promises import outside_difference
from imgedit.stage import Expect, Opt, stage


def apply(function: Callable[..., Frame], frame: Frame, strict: bool = False, **params: Any) -> Frame:
    declared = function.stage  # type: ignore[attr-defined]
    return Engine([Call(declared, declared.check(params), declared.name)], strict=strict).run(frame)


def broken(what: str) -> Callable[..., Frame]:
    """Return a stage that promises everything and breaks one promise."""
    keeps = ["pixels", "size", "alpha"] if what != "outside" else ["size", "outside-mask", "alpha"]

    @stage(keeps=keeps, makes=["mask"] if what == "makes" else [])
    def liar(frame: Frame) -> Frame:
        """Lie."""
        pixels = frame.pixels.copy()
        if what == "size":
            return frame.replace(pixels=pixels[:-1], alpha=None, mask=None)
        if what == "dtype":
            return frame.replace(pixels=pixels.astype(np.uint16), alpha=None)
        if what == "icc":
            return frame.replace(icc=b"other")
        if what == "alpha":
            alpha = np.array(frame.alpha)
            alpha[0, 0] ^= 1
            return frame.replace(alpha=alpha)
        if what in ("pixels", "outside"):
            pixels[-1, -1, 2] ^= 1
            return frame.replace(pixels=pixels)
        if what == "makes":
            return frame.replace(mask=None)
        return None if what == "frame" else frame  # type: ignore[return-value]

    return liar


@pytest.mark.parametrize("what", ["size", "dtype", "icc", "alpha", "pixels", "outside", "makes", "frame"])
def test_a_broken_promise_is_named(what: str) -> None:
    frame = with_mask(picture("rgba8", 12, 13))
    with pytest.raises(BrokenPromise) as caught:
        apply(broken(what), frame)
    assert "liar" in caught.value.message
    assert caught.value.exit_code == 70


def test_an_honest_stage_passes_and_is_recorded() -> None:
    frame = with_mask(picture("rgba8", 40, 50))
    result = apply(broken("nothing"), frame)
    step = result.sidecar.steps[-1]
    assert step.stage == "liar" and step.source == step.result == frame.digest
    assert step.tone_before == step.tone_after == result.sidecar.tone
    assert step.latents_before == result.sidecar.latents
    assert result.sidecar.latents is not None and result.sidecar.latents.encoder == "pool8"
    assert step.peak_memory_mb > 1
    assert Sidecar.from_json(result.sidecar.to_json()) == result.sidecar


def test_the_proof_is_counted_not_asserted() -> None:
    @stage(keeps=["size", "outside-mask", "alpha"])
    def inside(frame: Frame) -> Frame:
        """Change all inside."""
        pixels = frame.pixels.copy()
        assert frame.mask is not None
        pixels[frame.mask > 0] = 255 - pixels[frame.mask > 0]
        return frame.replace(pixels=pixels)

    result = apply(inside, with_mask(picture("rgb8", 40, 50)))
    assert result.sidecar.steps[-1].outside == {"outside_changed": 0, "outside_max": 0}
    assert result.sidecar.steps[-1].source != result.sidecar.steps[-1].result


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 20))
def test_outside_difference_counts_as_a_plain_loop_would(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    after = before.copy()
    for _ in range(rng.integers(0, 6)):
        after[rng.integers(rows), rng.integers(columns), rng.integers(3)] = rng.integers(256)
    mask = (rng.random((rows, columns)) < 0.5).astype(np.uint8)
    distance = np.abs(before.astype(int) - after).max(axis=2) * (mask == 0)
    found = outside_difference(Frame(before, mask=mask), Frame(after, mask=mask))
    assert found == (np.count_nonzero(distance), distance.max())


def test_needs_are_refused_with_what_to_type() -> None:
    @stage(needs=["mask"])
    def needy(frame: Frame) -> Frame:
        """Need a mask."""
        raise AssertionError("must not be called")

    with pytest.raises(DataError) as caught:
        apply(needy, picture("rgb8", 8, 8))
    assert "imgedit mask" in caught.value.hint


def test_latents_that_move_too_far_fail_under_strict_only(caplog: pytest.LogCaptureFixture) -> None:
    @stage(latents=Expect(mean=0.1, std=0.5))
    def darken(frame: Frame) -> Frame:
        """Make dark."""
        return frame.replace(pixels=frame.pixels // 4)

    apply(darken, picture("rgb8", 64, 64))
    assert "moved latent channel" in caplog.text
    with pytest.raises(GateFailed):
        apply(darken, picture("rgb8", 64, 64), strict=True)


def test_named_frames_are_held_only_where_a_step_wants_them() -> None:
    @stage(keeps=["size"])
    def against(frame: Frame, *, reference: Annotated[Frame | None, Opt("Picture.")] = None) -> Frame:
        """Take the reference's pixels."""
        assert reference is not None
        return frame.replace(pixels=reference.pixels)

    @stage(keeps=["size"])
    def invert(frame: Frame) -> Frame:
        """Turn round."""
        return frame.replace(pixels=255 - frame.pixels)

    calls = [
        Call(invert.stage, {}, "invert"),  # type: ignore[attr-defined]
        Call(against.stage, {"reference": "@before-invert"}, "against"),  # type: ignore[attr-defined]
    ]
    frame = picture("rgb8", 9, 9)
    assert np.array_equal(Engine(calls).run(frame).pixels, frame.pixels)
    with pytest.raises(UsageError):
        Engine([Call(calls[1].stage, {"reference": "@after-nothing"}, "against")]).run(frame)


def test_python_calls_are_judged_alike() -> None:
    frame = with_mask(picture("rgb8", 64, 64))
    result = Engine([engine.call("erase", backend="harmonic", margin="16")]).run(frame)
    assert result.sidecar.steps[-1].params["margin"] == 16
    with pytest.raises(UsageError):
        engine.call("erase", marign=3)


def test_a_picture_matched_to_itself_stays_as_it_is_whatever_its_mask(tmp_path: Path) -> None:
    frame = picture("rgb8", 60, 80).replace(mask=None)
    pixels = frame.pixels.copy()
    pixels[:, :40] //= 5
    codec.write_file(frame.replace(pixels=pixels), tmp_path / "same.png")
    mask = np.zeros((60, 80), np.uint8)
    mask[:, :35] = 255
    masked = frame.replace(pixels=pixels, mask=mask)
    for reference in (str(tmp_path / "same.png"), "@input"):
        result = Engine([engine.call("match-hist", reference=reference)], knows_input=True).run(masked)
        assert result.digest == masked.digest
    record = Engine([engine.call("match-hist", reference=str(tmp_path / "same.png"))]).run(masked).sidecar.steps[-1]
    assert record.params["reference"] == {"file": "same.png", "digest": masked.digest}
    # a mask made after the step whose tone is wanted
    chain = [engine.call("upscale", scale=2), engine.call("mask", rect="0,0,70,120"), engine.call("match-hist")]
    result = Engine(chain).run(frame.replace(pixels=pixels))
    upscaled = Engine(chain[:1]).run(frame.replace(pixels=pixels))
    assert np.abs(result.pixels.astype(int) - upscaled.pixels).mean() < 2


def test_a_picture_that_no_step_changed_has_its_tone(tmp_path: Path) -> None:
    frame = picture("rgb8", 60, 80)
    # as a photo in which no text was found: nothing is masked, nothing erased
    chain = [engine.call("mask"), engine.call("erase", force=True), engine.call("match-hist")]
    result = Engine(chain).run(frame)
    assert result.digest == frame.digest and "nothing to match" in result.sidecar.steps[-1].notes["result"]
    # without any step nothing is known of an earlier tone
    with pytest.raises(UsageError, match="no earlier tone"):
        Engine([engine.call("match-hist")]).run(frame)


def test_the_input_has_a_name_only_where_all_steps_are_known() -> None:
    frame = picture("rgb8", 9, 9)
    for call in (engine.call("match-hist", reference="@input"), engine.call("compare", reference="@input")):
        with pytest.raises(UsageError):
            Engine([call]).run(frame)
        Engine([call], knows_input=True).run(frame)


def test_a_refused_edit_leaves_no_step_of_its_own() -> None:
    mask = np.full((120, 120), 255, np.uint8)
    mask[:2] = 0
    with pytest.raises(GateFailed) as verdict:
        Engine([engine.call("erase")]).run(picture("rgb8", 120, 120).replace(mask=mask))
    assert verdict.value.frame is not None and verdict.value.frame.sidecar.steps == ()
    assert verdict.value.frame.sidecar.findings


def test_findings_are_said_when_they_are_found(caplog: pytest.LogCaptureFixture) -> None:
    mask = np.zeros((40, 40), np.uint8)
    Engine([engine.call("erase")]).run(picture("rgb8", 40, 40).replace(mask=mask))
    assert "IE101" in caplog.text


def test_results_beyond_the_limit_are_refused_beforehand() -> None:
    limits = codec.Limits(pixels=100 * 100)
    frame = picture("rgb8", 60, 60)
    with pytest.raises(DataError) as caught:
        Engine([engine.call("upscale", scale=2)], limits).run(frame)
    assert "--max-pixels 14400" in caught.value.hint
    assert Engine([engine.call("upscale", scale=1.5)], limits).run(frame).rows == 90


@pytest.mark.parametrize("kind", ["rgb8", "rgba16"])
def test_the_tone_that_an_edit_keeps_is_that_of_its_result(kind: str) -> None:
    # tone is measured outside the mask, so that an edit inside leaves it, and it is not measured again
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:50] = 255
    done = Engine([engine.call("erase", force=True)]).run(picture(kind, 60, 80).replace(mask=mask))
    assert done.sidecar.tone == described(done.with_sidecar(tone=None)).sidecar.tone
    # without an outside, all pixels count
    everything = np.full((60, 80), 200, np.uint8)
    before = described(picture(kind, 60, 80).replace(mask=everything))
    filled = before.replace(pixels=picture(kind, 60, 80, seed=3).pixels)
    moved = described(filled, since=before, outside_kept=True)
    assert moved.sidecar.tone == described(filled.with_sidecar(tone=None)).sidecar.tone != before.sidecar.tone


@pytest.mark.parametrize(
    "work",
    [
        lambda frame: bands.each(str, [1, 2]),
        lambda frame: ahead.ordered(iter([SimpleNamespace(pixels=1)] * 2), str, 2),
        lambda frame: nearest.estimates(frame.pixels, frame.mask),
        lambda frame: learned.fills(frame.pixels, frame.mask),
    ],
    ids=["bands", "ahead", "nearest", "learned"],
)
def test_threads_that_cannot_start_are_a_lack_of_memory(
    work: Callable[[Frame], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    frame = with_mask(picture("RGB", 40, 50))
    monkeypatch.setattr("threading.Thread.start", fail)
    monkeypatch.setattr(bands, "_THREADS", 2)
    with pytest.raises(MemoryError, match="thread"):
        list(work(frame))
    with pytest.raises(OutOfMemory, match="memory"):
        Engine([]).run(frame)
