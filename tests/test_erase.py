"""The stages erase and inpaint: crops, blending, notes, hint plane, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgedit import engine, registry
from imgedit.backends.adapter import adapt
from imgedit.backends.protocols import Filled
from imgedit.engine import Engine
from imgedit.errors import GateFailed, UsageError
from imgedit.frame import Frame
from imgedit.stages.erase import LISTED, erase

Array = NDArray[Any]


class Counting:
    """Fills white and counts the pixels that it was handed; has a use for *wanted* pixels round each hole."""

    bit_depths = (8, 16)

    def __init__(self, wanted: int = 0) -> None:
        self.calls = self.pixels = 0
        self.wanted, self.sizes = wanted, list[tuple[int, ...]]()

    def context(self, mask: Array) -> int:
        assert mask.any()
        return self.wanted

    def fill(self, pixels: Array, mask: Array, *, seed: int) -> Filled:
        self.calls, self.pixels = self.calls + 1, self.pixels + mask.size
        self.sizes.append(mask.shape)
        out = pixels.copy()
        out[mask > 0] = np.iinfo(pixels.dtype).max
        return Filled(out, "white", "counting", seamless=True)


def framed(rows: int, columns: int, *boxes: tuple[int, int, int, int], value: int = 255, kind: str = "rgb8") -> Frame:
    mask = np.zeros((rows, columns), np.uint8)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = value
    return picture(kind, rows, columns).replace(mask=mask)


def fill(name: str) -> Any:
    return registry.backend("fill", name)


@pytest.mark.parametrize("name", ["flat", "harmonic", "telea", "ns", "patch", "learned", "auto"])
@pytest.mark.parametrize("kind", ["rgb8", "rgba8", "rgb16", "rgba16"])
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.002, 0.02, 0.3]))
@settings(max_examples=4, deadline=None)
def test_everything_outside_is_bit_identical(name: str, kind: str, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 90)), int(rng.integers(2, 90))
    mask = np.where(rng.random((rows, columns)) < share, rng.integers(1, 256, (rows, columns)), 0).astype(np.uint8)
    mask[0, 0] = 0
    frame = picture(kind, rows, columns, seed=seed).replace(mask=mask)
    result = erase(frame, fill(name), margin=int(rng.integers(1, 20)))
    assert np.array_equal(result.pixels[mask == 0], frame.pixels[mask == 0])
    assert result.alpha is frame.alpha and result.mask is frame.mask and result.pixels.dtype == frame.pixels.dtype


def test_mask_values_between_blend() -> None:
    frame = framed(60, 80, (20, 20, 10, 10), value=100)
    result = erase(frame, Counting())
    old = frame.pixels[25, 25].astype(float)
    assert np.array_equal(result.pixels[25, 25], np.rint((old * 155 + 255 * 100) / 255))


def test_a_hole_is_blended_once_however_crops_lie() -> None:
    # two soft holes, each in the other's context: a second blending would show
    frame = framed(300, 700, (100, 50, 10, 10), (100, 250, 10, 10), value=100)
    both = erase(frame, Counting(), margin=150).pixels
    one = erase(framed(300, 700, (100, 50, 10, 10), value=100), Counting(), margin=150).pixels
    assert np.array_equal(both[:, :200], one[:, :200])


def test_cost_follows_the_hole_and_not_the_picture() -> None:
    handed = []
    for rows, columns in ((300, 400), (1500, 2000)):
        backend = Counting()
        erase(framed(rows, columns, (100, 100, 20, 60)), backend)
        handed.append(backend.pixels)
    assert handed == [148 * 188, 148 * 188]
    backend = Counting()
    erase(framed(1500, 2000, (10, 10, 20, 60), (1450, 1900, 20, 60)), backend)
    assert backend.calls == 2 and backend.pixels < 0.02 * 1500 * 2000


def test_more_is_shown_to_a_backend_that_has_a_use_for_it_unless_that_is_other_holes() -> None:
    frame = framed(600, 600, (200, 200, 80, 80))
    for wanted, margin, side in ((0, 20, 120), (50, 20, 180), (50, 64, 208)):
        backend = Counting(wanted)
        shown = erase(frame, backend, margin=margin)
        assert backend.sizes == [(side, side)]
        assert np.array_equal(shown.pixels[shown.mask == 0], frame.pixels[shown.mask == 0])
    # each hole would show both of the others: three times the work
    near = Counting(150)
    erase(framed(600, 600, (200, 60, 80, 80), (200, 200, 80, 80), (200, 340, 80, 80)), near, margin=4)
    assert near.sizes == [(380, 290), (88, 88), (380, 380)]
    # a backend that says nothing has a use for none
    silent = type("Silent", (), {"bit_depths": (8,), "fill": Counting.fill})()
    assert adapt("fill", silent).context(frame.mask) == 0 and fill("flat").context(frame.mask) == 0


def test_wide_holes_have_a_use_for_context_and_strokes_have_none() -> None:
    for name in ("auto", "learned"):
        wide, line = (framed(400, 400, (100, 100, *size)).mask for size in ((60, 90), (30, 200)))
        assert fill(name).context(wide) >= 100 and fill(name).context(line) == 0


def test_notes_say_where_how_and_why() -> None:
    notes = erase(framed(300, 400, (100, 120, 20, 60)), fill("auto")).notes
    (listed,) = notes["listed"]
    assert listed["where"] == (120, 100, 60, 20) and notes["methods"] == {listed["method"]: 1}
    assert "levels per pixel" in listed["why"]


def test_the_list_of_holes_is_capped() -> None:
    boxes = [(y, x, 2, 2) for y in range(10, 900, 90) for x in range(10, 900, 90)]
    notes = erase(framed(900, 900, *boxes), Counting(), margin=4).notes
    assert notes["holes"] == len(boxes) == 100 and len(notes["listed"]) == LISTED


def test_the_hint_plane_marks_what_is_invented() -> None:
    frame = framed(60, 80, (20, 20, 10, 10))
    hint = erase(frame, Counting()).planes["hint"]
    assert np.array_equal(hint, np.where(frame.mask > 0, 0, 255))
    earlier = np.full((60, 80), 200, np.uint8)
    earlier[:5] = 0
    again = erase(frame.replace(planes={"hint": earlier, "depth": earlier}), Counting()).planes
    assert np.array_equal(again["hint"], np.where(frame.mask > 0, 0, earlier))
    assert np.array_equal(again["depth"], earlier)


def test_an_empty_mask_passes_through() -> None:
    frame = framed(60, 80)
    result = erase(frame, Counting())
    assert result.pixels is frame.pixels and result.notes["result"] == "nothing to erase" and not result.planes


def test_preflight_errors_refuse_unless_forced() -> None:
    frame = framed(100, 100, (2, 0, 90, 100))
    with pytest.raises(GateFailed) as verdict:
        Engine([engine.call("erase")]).run(frame)
    assert "IE104" in verdict.value.message and "--force" in verdict.value.hint
    assert verdict.value.frame is not None and verdict.value.frame.pixels is frame.pixels
    result = Engine([engine.call("erase", force=True)]).run(frame)
    assert [f.code for f in result.sidecar.findings] and result.digest != frame.digest


def test_warnings_are_recorded_without_refusing() -> None:
    result = Engine([engine.call("erase")]).run(framed(100, 100, (0, 20, 10, 10), value=200))
    assert {"IE108", "IE114"} <= {f.code for f in result.sidecar.findings}


def test_a_margin_of_one_still_finds_something_to_fill_from() -> None:
    frame = framed(60, 80, (20, 20, 10, 10))
    for name in ("flat", "harmonic", "telea", "ns", "auto"):
        assert erase(frame, fill(name), margin=1).notes["holes"] == 1


def test_the_adapter_lets_no_broken_fill_through() -> None:
    class Leaky(Counting):
        def fill(self, pixels: Array, mask: Array, *, seed: int) -> Filled:
            return Filled(255 - pixels, "leaky", "")

    with pytest.raises(Exception, match="'leaky' changed pixels outside"):
        erase(framed(60, 80, (20, 20, 10, 10)), adapt("fill", Leaky()))


class Offset(Counting):
    """Fills with what was there, too dark."""

    def fill(self, pixels: Array, mask: Array, *, seed: int) -> Filled:
        out = pixels.copy()
        out[mask > 0] -= 12
        return Filled(out, "offset", "")


def test_a_fill_that_does_not_meet_its_surroundings_is_blended() -> None:
    frame = framed(90, 120, (30, 30, 30, 50))
    frame = frame.replace(pixels=frame.pixels // 8 + 100)
    filled = erase(frame, Offset())
    inside = frame.mask > 0
    error = filled.pixels.astype(int) - frame.pixels
    assert np.abs(error[inside].mean()) < 3 and not error[~inside].any()


def test_some_places_can_be_filled_smoothly() -> None:
    frame = framed(120, 300, (40, 40, 20, 20), (40, 220, 20, 20))
    smooth = erase(frame, Counting(), margin=8, smooth=((-90, 50, 20, 5),))
    assert smooth.notes["methods"] == {"white": 1, "harmonic": 1}
    assert (smooth.pixels[40:60, 40:60] == 255).all()
    harmonic = erase(frame, fill("harmonic"), margin=8)
    assert np.array_equal(smooth.pixels[40:60, 220:240], harmonic.pixels[40:60, 220:240])


def test_repeated_erases_add_up_in_the_hint_plane() -> None:
    frame = framed(60, 80, (20, 20, 10, 10))
    once = erase(frame, Counting())
    other = np.zeros((60, 80), np.uint8)
    other[40:50, 50:60] = 7  # faint weights are invented too
    twice = erase(once.replace(mask=other), Counting())
    assert np.array_equal(twice.planes["hint"] == 0, (frame.mask > 0) | (other > 0))


# --- inpaint ---------------------------------------------------------------------------------------------


def checked(**given: Any) -> dict[str, Any]:
    return registry.stage("inpaint").check(given)


def test_scheduler_mixes_are_checked() -> None:
    assert checked(scheduler="DDIM:30, ddpm:20")["scheduler"] == "ddim:30,ddpm:20"
    assert checked(scheduler="ddim")["scheduler"] == "ddim"
    for wrong in (
        "",
        "ddim:",
        "ddim:0",
        "ddim:1001",
        "ddim,ddpm:3",
        "ddim:3,,ddpm:3",
        "dddim:4",
        "ddim:3.5",
        "ddim:-1",
    ):
        with pytest.raises(UsageError):
            checked(scheduler=wrong)
    with pytest.raises(UsageError, match="did you mean 'euler'"):
        checked(scheduler="eulr:30")


def test_inpaint_options_have_ranges() -> None:
    defaults = checked()
    assert defaults["guidance_scale"] == 7.5 and defaults["strength"] is None and "/" in defaults["model"]
    for wrong in ({"guidance-scale": 51}, {"strength": 1.5}, {"steps": 0}, {"latents": "median"}, {"seed": -1}):
        with pytest.raises(UsageError):
            checked(**wrong)
