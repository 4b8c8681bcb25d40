"""The closed loop: what remains is found, filled again from the input with a larger mask, and said."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from conftest import picture

from imgedit import engine, registry
from imgedit.backends.adapter import adapt
from imgedit.backends.protocols import Filled
from imgedit.engine import Engine
from imgedit.errors import DataError, GateFailed, Unavailable
from imgedit.frame import Frame, Region, Sidecar, Step
from imgedit.ops import masks, remains

INK = (255, 0, 255)


class Ink:
    """Takes groups of magenta pixels for text: what the fills of these tests never make by themselves."""

    requires: tuple[str, ...] = ()
    reads = True
    fingerprint = None

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def detect(self, pixels: Any, *, read: bool, part: bool = False) -> list[Region]:
        self.seen.append(pixels)
        eight = pixels.astype(int)
        ink = ((eight[..., 0] > 180) & (eight[..., 1] < 70) & (eight[..., 2] > 180)).view(np.uint8)
        grouped = cv2.dilate(ink, np.ones((3, 9), np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(grouped)
        found = []
        for x, y, width, height, _ in stats[1:].tolist():
            corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
            found.append(Region(tuple((float(a), float(b)) for a, b in corners), "text", "ink", 0.9))
        return found


class Inventive:
    """Fills with text."""

    requires: tuple[str, ...] = ()
    bit_depths = (8,)
    fingerprint = None

    def fill(self, pixels: Any, mask: Any, *, seed: int) -> Filled:
        out = pixels.copy()
        out[mask > 0] = INK
        return Filled(out, "inventive", "", seamless=True)


class Stubborn:
    """Finds one text at (60, 70) of 60×12 pixels, whatever the picture shows."""

    requires: tuple[str, ...] = ()
    reads = False
    fingerprint = None

    def detect(self, pixels: Any, *, read: bool, part: bool = False) -> list[Region]:
        return [Region(((60.0, 70.0), (120.0, 70.0), (120.0, 82.0), (60.0, 82.0)), "text", None, 0.9)]


@pytest.fixture
def ink(monkeypatch: pytest.MonkeyPatch) -> Ink:
    """Let every detector be :class:`Ink`, and ``--backend inventive`` be what it says."""
    found, real = Ink(), registry.backend

    def backend(kind: str, name: str, *folder: Any) -> Any:
        if kind == "detect":
            return adapt(kind, found)
        return adapt(kind, Inventive()) if name == "inventive" else real(kind, name, *folder)

    monkeypatch.setattr(registry, "backend", backend)
    return found


def written(*places: tuple[int, int], rows: int = 160, columns: int = 240) -> Frame:
    """Return a picture with a word of 12 pixels' height at each of *places* (x, y)."""
    pixels = np.clip(picture("grey8", rows, columns).pixels, 60, 190)
    for x, y in places:
        for letter in range(6):
            pixels[y : y + 12, x + 10 * letter : x + 10 * letter + 3] = INK
            pixels[y + 5 : y + 7, x + 10 * letter : x + 10 * letter + 6] = INK
    return Frame(pixels)


def masked(frame: Frame, *rects: tuple[int, int, int, int], value: int = 255) -> Frame:
    mask = masks.empty(frame.rows, frame.columns)
    for x, y, width, height in rects:
        mask[y : y + height, x : x + width] = value
    return frame.replace(mask=mask)


def erased(frame: Frame, rounds: int = 3, *, first: tuple[str, ...] = (), **options: Any) -> Frame:
    options = {"backend": "harmonic", "force": True, **options}
    calls = [engine.call(name) for name in first]
    return Engine([*calls, engine.call("erase", until_clean=rounds, **options)]).run(frame)


def steps(frame: Frame) -> list[Step]:
    return [step for step in frame.sidecar.steps if step.stage == "erase"]


def ink_left(frame: Frame) -> int:
    return len(Ink().detect(frame.pixels, read=False))


def test_what_the_mask_missed_is_taken_in(ink: Ink) -> None:
    frame = masked(written((60, 70)), (58, 68, 44, 16))
    result = erased(frame)
    assert ink_left(erased(frame, 10)) == 0 == ink_left(result)
    done = steps(result)
    assert 2 <= len(done) <= 3
    assert [step.notes["round"] for step in done] == list(range(1, len(done) + 1))
    assert all(step.notes["remains"] for step in done[:-1]) and done[-1].notes["remains"] == ()
    assert done[0].notes["remains"][0]["text"] == "ink"
    assert Sidecar.from_json(result.sidecar.to_json()) == result.sidecar
    assert frame.mask is not None and result.mask is not None
    assert (result.mask >= frame.mask).all() and (result.mask > frame.mask).any()
    # only there: nothing far from the word is masked
    far = result.mask.copy()
    far[60:92, 50:130] = 0
    assert not far.any()


def test_each_round_is_proved_against_the_input_and_the_last_mask_goes_along(ink: Ink) -> None:
    frame = masked(written((60, 70)), (58, 68, 44, 16))
    result = erased(frame)
    for step in steps(result):
        assert step.source == frame.digest and step.outside == {"outside_changed": 0, "outside_max": 0}
    assert len({step.result for step in steps(result)}) == len(steps(result))
    assert steps(result)[-1].result == result.digest
    assert result.mask is not None and result.sidecar.mask is not None
    outside = result.mask == 0
    assert np.array_equal(result.pixels[outside], frame.pixels[outside])
    assert np.array_equal(result.planes["hint"] == 0, ~outside)
    assert result.sidecar.mask.coverage == pytest.approx(1 - outside.mean(), abs=1e-6)


def test_no_fill_is_filled_again(ink: Ink) -> None:
    frame = masked(written((60, 70)), (58, 68, 44, 16))
    result = erased(frame)
    once = Engine([engine.call("erase", backend="harmonic", force=True)]).run(frame.replace(mask=result.mask))
    assert np.array_equal(once.pixels, result.pixels)


def test_a_clean_result_takes_one_round_and_one_look(ink: Ink) -> None:
    frame = masked(written((60, 70)), (55, 66, 70, 20))
    result = erased(frame, 5)
    plain = Engine([engine.call("erase", backend="harmonic", force=True)]).run(frame)
    assert len(steps(result)) == 1 and len(ink.seen) == 1
    assert np.array_equal(result.pixels, plain.pixels) and np.array_equal(result.mask, frame.mask)


def test_text_that_was_not_to_go_is_left_alone(ink: Ink) -> None:
    # a word far away, a line below at a distance of four pixels, and one behind it on the same line
    places = ((60, 50), (20, 130), (60, 66), (150, 50))
    frame = masked(written(*places), (55, 46, 70, 18))
    result = erased(frame)
    assert len(steps(result)) == 1 and steps(result)[0].notes["elsewhere"] == 3
    # the word itself is covered in part only: the others must not be touched while it is cleared
    frame = masked(written(*places), (58, 48, 44, 16))
    result = erased(frame)
    assert result.mask is not None and len(steps(result)) > 1
    others = np.zeros(result.mask.shape, bool)
    for x, y in places[1:]:
        others[y : y + 12, x : x + 56] = True
    assert not result.mask[others].any() and ink_left(result) == 3


def test_regions_say_what_was_to_go(ink: Ink) -> None:
    """A mask that holds a third of a line: with the region it was drawn for all of it goes, by hand only that."""
    frame = written((60, 70))
    found = Engine([engine.call("detect-text"), engine.call("mask", fit="box")]).run(frame)
    assert found.mask is not None
    third = found.mask.copy()
    third[:, 80:] = 0
    by_region = erased(found.replace(mask=third))
    assert ink_left(by_region) == 0 and len(steps(by_region)) > 1
    by_hand = Engine([engine.call("mask", rect="80,0,160,160", mode="subtract")]).run(found)
    assert np.array_equal(by_hand.mask, third)
    kept = erased(by_hand)
    assert len(steps(kept)) == 1 and np.array_equal(kept.pixels[:, 80:], frame.pixels[:, 80:])


def test_regions_of_a_later_look_are_not_what_the_mask_was_drawn_for(ink: Ink) -> None:
    frame = written((60, 70))
    hidden = frame.pixels.copy()
    hidden[:, 80:] = frame.pixels[:1, 80:]
    first = Engine([engine.call("detect-text"), engine.call("mask", fit="box")]).run(Frame(hidden))
    seen = Frame(frame.pixels, mask=first.mask, sidecar=first.sidecar)
    result = erased(seen, first=("detect-text",))
    assert len(steps(result)) == 1 and np.array_equal(result.mask, first.mask)


def test_more_that_comes_up_along_the_line_goes_too(ink: Ink) -> None:
    frame = written((60, 70))
    hidden = frame.pixels.copy()
    hidden[:, 92:] = frame.pixels[:1, 92:]  # what the first look does not find
    first = Engine([engine.call("detect-text"), engine.call("mask", fit="box")]).run(Frame(hidden))
    seen = Frame(frame.pixels, mask=first.mask, sidecar=first.sidecar)
    result = erased(seen)
    assert ink_left(result) == 0 and len(steps(result)) > 1


def test_what_a_fill_invents_is_filled_smoothly(ink: Ink) -> None:
    frame = masked(written((60, 70)), (55, 66, 70, 20), (10, 10, 4, 4))
    result = erased(frame, backend="inventive", margin=8)
    assert ink_left(result) == 0 and steps(result)[-1].notes["methods"].get("harmonic")
    last = steps(result)[-1]
    assert last.backend == "inventive" and last.params["smooth"]
    again = Engine([engine.call("erase", backend="inventive", margin=8, force=True, smooth=last.params["smooth"])])
    assert np.array_equal(again.run(frame.replace(mask=result.mask)).pixels, result.pixels)


def test_the_places_to_fill_smoothly_that_were_asked_for_stay(ink: Ink) -> None:
    mine = (10, 10, 4, 4)
    frame = masked(written((60, 70)), (55, 66, 70, 20), mine)
    result = erased(frame, backend="inventive", margin=8, smooth=(mine,))
    done = steps(result)
    assert len(done) == 2 and all(mine in step.params["smooth"] for step in done)
    assert len(set(done[1].params["smooth"])) == len(done[1].params["smooth"]) > 1


def stubborn(monkeypatch: pytest.MonkeyPatch, rounds: int, margin: int) -> GateFailed:
    """Return the verdict on a mask that reaches *margin* pixels beyond what is found again and again."""
    real = registry.backend
    monkeypatch.setattr(registry, "backend", lambda k, n, *f: adapt(k, Stubborn()) if k == "detect" else real(k, n, *f))
    frame = masked(written(), (60 - margin, 70 - margin, 60 + 2 * margin, 12 + 2 * margin))
    with pytest.raises(GateFailed) as verdict:
        erased(frame, rounds)
    return verdict.value


def test_a_round_that_would_be_the_last_again_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = stubborn(monkeypatch, 10, 20)
    assert verdict.frame is not None
    done = [(step.params["smooth"], step.result) for step in steps(verdict.frame)]
    assert len({smooth for smooth, _ in done}) == len(done) < 4
    assert "the same again" in verdict.message and f"after {len(done)} rounds" in verdict.message
    assert "--until-clean" not in verdict.hint and verdict.hint


def test_no_round_is_lost_to_a_step_that_takes_nothing_in(monkeypatch: pytest.MonkeyPatch) -> None:
    # the mask reaches further than the first two steps; the second round begins to fill smoothly
    last = stubborn(monkeypatch, 3, 3).frame
    assert last is not None and last.mask is not None and len(steps(last)) == 3
    assert np.count_nonzero(last.mask) > 66 * 18


def test_a_gate_that_is_not_reached_says_what_remains_and_carries_the_frame(ink: Ink) -> None:
    frame = masked(written((60, 70)), (58, 68, 44, 16))
    with pytest.raises(GateFailed) as verdict:
        erased(frame, 1)
    assert verdict.value.exit_code == 1 and "after 1 round" in verdict.value.message
    assert "'ink' at 95,69" in verdict.value.message and "--until-clean" in verdict.value.hint
    last = verdict.value.frame
    assert last is not None and len(steps(last)) == 1 and not np.array_equal(last.pixels, frame.pixels)
    (finding,) = [f for f in last.sidecar.findings if f.code == "text-remains"]
    assert finding.severity == "error" and finding.where is not None
    # once it is clean, the finding is gone
    clean = erased(frame.with_sidecar(findings=last.sidecar.findings))
    assert not [f for f in clean.sidecar.findings if f.code == "text-remains"]


def test_a_larger_mask_that_is_refused_ends_the_loop(ink: Ink, monkeypatch: pytest.MonkeyPatch) -> None:
    real = engine._guarded
    given = masked(written((60, 70)), (58, 68, 44, 16))

    def guarded(guard: str, frame: Frame, **options: Any) -> Frame:
        if frame.mask is not None and np.count_nonzero(frame.mask) > 44 * 16:
            raise GateFailed("IE199 too large", "mask less")
        return real(guard, frame, **options)

    monkeypatch.setattr(engine, "_guarded", guarded)
    with pytest.raises(GateFailed) as verdict:
        erased(given)
    assert "after 1 round" in verdict.value.message and "IE199" in verdict.value.message
    assert verdict.value.frame is not None and len(steps(verdict.value.frame)) == 1


def test_the_mask_keeps_its_grid_and_its_weights(ink: Ink) -> None:
    found = Engine([engine.call("detect-text"), engine.call("mask", rect="58,68,44,16", grid=8)]).run(written((60, 70)))
    result = erased(found)
    assert result.mask is not None and result.sidecar.mask is not None and result.sidecar.mask.grid == 8
    cells = result.mask.reshape(20, 8, 30, 8)
    assert np.array_equal(cells.max(axis=(1, 3)), cells.min(axis=(1, 3)))
    soft = Engine([engine.call("mask", rect="58,68,44,16", feather=6)]).run(written((60, 70)))
    result = erased(soft)
    assert soft.mask is not None and result.mask is not None and (result.mask >= soft.mask).all()
    outside = result.mask == 0
    assert np.array_equal(result.planes["hint"] == 0, ~outside)
    assert np.array_equal(result.pixels[outside], soft.pixels[outside])


@pytest.mark.parametrize("cell", [1, 8, 13])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_whole_cells_keep_out_of_the_text_that_stays(cell: int, number: int) -> None:
    frame = written((60, 50), (60, 66))
    find, text = (
        np.array([(58, y), (120, y), (120, y + 14), (58, y + 14)], np.float32) for y in (49, 65)
    )  # two pixels lie between them
    mask = masks.to_grid(masked(frame, (100, 52, 8, 4)).mask, cell, 0)
    larger = remains.tighten(mask, frame.pixels, [find], [text], number, cell)
    added = (larger > 0) & (mask == 0)
    assert added.any() and (larger >= mask).all()
    assert not added[65:79, 58:120].any()
    assert np.array_equal(masks.to_grid(larger, cell, 0), larger)


def test_an_empty_mask_is_clean_whatever_stands_in_the_picture(ink: Ink) -> None:
    result = erased(masked(written((60, 70))))
    assert len(steps(result)) == 1 and steps(result)[0].notes["elsewhere"] == 1
    with pytest.raises(DataError):
        erased(written((60, 70)))


def test_the_look_is_that_of_the_history_and_history_is_data(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = registry.backend

    def backend(kind: str, name: str, *folder: Any) -> Any:
        if kind == "detect":
            asked.append(name)
            return adapt(kind, Ink())
        return real(kind, name, *folder)

    monkeypatch.setattr(registry, "backend", backend)
    frame = masked(written((60, 70)), (58, 68, 44, 16))
    digest = frame.digest

    def after(**params: Any) -> Frame:
        return frame.with_sidecar(steps=(Step("detect-text", params, digest, digest),))

    by_opencv = erased(after(backend="opencv", tile=512))
    assert ink_left(by_opencv) == 0 and asked[-1] == "opencv"
    # and every round says who looked
    looked = [step.notes["looked"] for step in steps(by_opencv)]
    assert all(
        (who["stage"], who["backend"], who["params"]["tile"]) == ("detect-text", "opencv", 512) for who in looked
    )
    assert Sidecar.from_json(by_opencv.sidecar.to_json()) == by_opencv.sidecar
    # the score of what is found is 0.9: with the setting that the picture was searched with, nothing is found
    assert len(steps(erased(after(**{"min-score": 0.95, "match": "("})))) == 1
    assert asked[-1] == "rapidocr"
    for garbage in ({"backend": "../evil"}, {"backend": ["x"]}, {"min-score": "many"}, {"tile": -4}, {"tile": None}):
        assert ink_left(erased(after(**garbage))) == 0 and asked[-1] == "rapidocr"


def test_the_loop_is_refused_before_anything_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry.backend

    def backend(kind: str, name: str, *folder: Any) -> Any:
        if kind == "detect":
            raise Unavailable("no detector", "install one")
        assert kind != "fill", "filled in vain"
        return real(kind, name, *folder)

    monkeypatch.setattr(registry, "backend", backend)
    with pytest.raises(Unavailable):
        erased(masked(written((60, 70)), (58, 68, 44, 16)))


def test_a_batch_is_refused_where_nothing_can_look(monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry.backend

    def backend(kind: str, name: str, *folder: Any) -> Any:
        if (kind, name) == ("detect", "rapidocr"):
            raise Unavailable("no detector", "install one")
        return real(kind, name, *folder)

    monkeypatch.setattr(registry, "backend", backend)
    loop = engine.call("erase", until_clean=3)
    with pytest.raises(Unavailable):
        Engine([engine.call("mask"), loop]).prepare()
    Engine([engine.call("mask"), engine.call("erase")]).prepare()
    Engine([engine.call("detect-text", backend="opencv"), engine.call("mask"), loop]).prepare()


def test_the_model_that_looked_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stubborn, "fingerprint", {"det": "net sha256:1"})
    last = stubborn(monkeypatch, 1, 3).frame
    assert last is not None and steps(last)[0].notes["looked"]["model"] == {"det": "net sha256:1"}
