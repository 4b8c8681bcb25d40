"""Every stage on every kind of frame keeps what it declares: a new stage is tested the day its file appears."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import KINDS, SIZES, picture, with_mask
from noise import behind_inpaint

from imgedit import describe, engine, registry
from imgedit.engine import Engine
from imgedit.frame import Finding, Frame, Region, Sidecar
from imgedit.stage import Stage

CHUNKS = (("tEXt", b"Author\0somebody"), ("pHYs", bytes(9)))
FINDING = Finding("XX001", "info", "from elsewhere", where=(0, 0, 1, 1))


def prepared(stage: Stage, frame: Frame) -> tuple[Frame, dict[str, Any]]:
    """Return *frame* with all that *stage* needs and all that it must hand on, and its parameters."""
    params: dict[str, Any] = {}
    if stage.name == "compare":
        params["reference"] = frame.replace(pixels=frame.pixels // 2)
    elif stage.name == "match-hist":
        params["reference"] = describe.measured_tone(frame.replace(pixels=frame.pixels // 2))
    elif stage.backend and stage.backend[0] == "detect":
        params["backend"] = "opencv"
    if "mask" in stage.needs or stage.name in ("match-hist", "upscale"):
        frame = with_mask(frame)
    size = (frame.rows, frame.columns)
    hint, other = np.full(size, 255, np.uint8), np.arange(frame.rows * frame.columns).reshape(size).astype(np.uint8)
    hint[-1, -1] = 0
    frame = frame.replace(icc=b"profile", chunks=CHUNKS, planes={"hint": hint, "depth": other})
    polygon = ((0.0, 0.0), (frame.columns / 2, 0.0), (frame.columns / 2, frame.rows / 2), (0.0, frame.rows / 2))
    regions = (Region(polygon, text="2019", score=0.5), Region(polygon, label="face"))
    return frame.with_sidecar(regions=regions, findings=(FINDING,)), params


def arrays(frame: Frame) -> list[Any]:
    return [a for a in (frame.pixels, frame.alpha, frame.mask, *frame.planes.values()) if a is not None]


@pytest.mark.parametrize("name", registry.stage_names())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_promises_hold(name: str, kind: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    behind_inpaint(monkeypatch)
    stage = registry.stage(name)
    frame, params = prepared(stage, picture(kind, *size))
    copies = [np.array(a) for a in arrays(frame)]
    call = engine.call(name, **params)
    result = Engine([call]).run(frame)
    step = result.sidecar.steps[-1]
    assert step.stage == name and step.source == frame.digest and step.result == result.digest
    assert Sidecar.from_json(result.sidecar.to_json()) == result.sidecar
    if "outside-mask" in stage.keeps:
        assert step.outside == {"outside_changed": 0, "outside_max": 0}
        outside = frame.mask == 0
        assert np.array_equal(result.pixels[outside], frame.pixels[outside])
    if "pixels" in stage.keeps:
        assert np.array_equal(result.pixels, frame.pixels)
    if "alpha" in stage.keeps and frame.alpha is not None:
        assert np.array_equal(result.alpha, frame.alpha)
    assert_handed_on(stage, frame, result)
    # pure: what came in is as it was, and a second call gives the same pixels
    assert all(np.array_equal(a, b) for a, b in zip(copies, arrays(frame), strict=True))
    assert Engine([call]).run(frame).digest == result.digest


def assert_handed_on(stage: Stage, frame: Frame, result: Frame) -> None:
    """Everything that is not the stage's own business is still there."""
    assert result.icc == frame.icc and result.chunks == frame.chunks
    assert (result.alpha is None) == (frame.alpha is None)
    assert result.pixels.dtype == frame.pixels.dtype and not any(a.flags.writeable for a in arrays(result))
    assert result.mask is not None if frame.mask is not None or "mask" in stage.makes else result.mask is None
    assert set(frame.planes) <= set(result.planes)
    # text is what detect-text makes anew; other places are not its own
    places, before = (
        [r for r in f.sidecar.regions if stage.name != "detect-text" or r.label == "face"] for f in (result, frame)
    )
    assert [(r.label, r.text, r.score) for r in places] == [(r.label, r.text, r.score) for r in before]
    assert FINDING.code in [f.code for f in result.sidecar.findings]
    if result.pixels.shape != frame.pixels.shape:
        return
    assert places == before
    assert FINDING in result.sidecar.findings
    assert "mask" in stage.makes or frame.mask is None or np.array_equal(result.mask, frame.mask)
    assert np.array_equal(result.planes["depth"], frame.planes["depth"])
    kept = np.ones(frame.pixels.shape[:2], bool) if "outside-mask" not in stage.keeps else frame.mask == 0
    assert stage.name == "plane" or np.array_equal(result.planes["hint"][kept], frame.planes["hint"][kept])


def test_stages_do_their_work_on_these_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """What promises alone do not say: a stage that hands its frame back keeps all of them."""
    behind_inpaint(monkeypatch)
    done = {}
    for name in registry.stage_names():
        frame, params = prepared(registry.stage(name), picture("rgba16", 96, 133))
        done[name] = frame, Engine([engine.call(name, **params)]).run(frame)
    for name in ("erase", "inpaint", "upscale", "match-hist"):
        frame, result = done[name]
        assert result.digest != frame.digest, name
    assert done["upscale"][1].pixels.shape == (192, 266, 3)
    erased = done["erase"][1]
    assert erased.mask is not None and not erased.planes["hint"][erased.mask > 0].any()
    mask = done["mask"][1].mask
    assert mask is not None and mask.any() and not mask.all()
    assert done["compare"][1].sidecar.metrics["rmse"]["whole"] > 0.1
    nothing = picture("rgb8", 20, 30).replace(mask=np.zeros((20, 30), np.uint8))
    assert "IE101" in [f.code for f in Engine([engine.call("preflight")]).run(nothing).sidecar.findings]
    assert [r.label for r in done["detect-text"][1].sidecar.regions] == ["face"]


def test_the_contract_test_sees_the_stages() -> None:
    assert {"detect-text", "mask", "preflight", "erase", "inpaint", "upscale", "match-hist", "compare"} <= set(
        registry.stage_names()
    )
