"""Every stage on every kind of frame keeps what it declares: a new stage is tested the day its file appears."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import KINDS, SIZES, picture, with_mask

from imgedit import engine, registry
from imgedit.engine import Engine
from imgedit.errors import GateFailed, ImgeditError, Unavailable
from imgedit.frame import Frame, Region, Sidecar
from imgedit.stage import Stage


def prepared(stage: Stage, frame: Frame) -> tuple[Frame, dict[str, Any]]:
    """Return *frame* with all that *stage* needs, and its parameters."""
    params: dict[str, Any] = {}
    if stage.name == "compare":
        params["reference"] = frame.replace(pixels=frame.pixels // 2)
    elif stage.name == "match-hist":
        params["reference"] = engine.measured_tone(frame.replace(pixels=frame.pixels // 2))
    elif stage.backend and stage.backend[0] == "detect":
        params["backend"] = "opencv"
    if "mask" in stage.needs or stage.name in ("match-hist", "upscale"):
        frame = with_mask(frame)
    polygon = ((0.0, 0.0), (frame.columns / 2, 0.0), (frame.columns / 2, frame.rows / 2), (0.0, frame.rows / 2))
    return frame.with_sidecar(regions=(Region(polygon),)), params


@pytest.mark.parametrize("name", registry.stage_names())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_promises_hold(name: str, kind: str, size: tuple[int, int]) -> None:
    stage = registry.stage(name)
    frame, params = prepared(stage, picture(kind, *size).replace(icc=b"profile"))
    copies = [np.array(a) for a in (frame.pixels, frame.alpha, frame.mask) if a is not None]
    call = engine.call(name, **params)
    try:
        result = Engine([call]).run(frame)
    except GateFailed as verdict:  # a verdict is an answer; the engine has checked what came with it
        assert verdict.hint
        return
    except Unavailable as error:
        assert name == "inpaint" and error.hint
        return
    except ImgeditError as error:
        assert error.exit_code == 65 and frame.rows * frame.columns == 1, f"{error.message} ({error.hint})"
        return
    step = result.sidecar.steps[-1]
    assert step.stage == name and step.source == frame.digest and step.result == result.digest
    assert Sidecar.from_json(result.sidecar.to_json()) == result.sidecar
    assert result.icc == frame.icc and (result.alpha is None) == (frame.alpha is None)
    if "outside-mask" in stage.keeps:
        assert step.outside == {"outside_changed": 0, "outside_max": 0}
        outside = frame.mask == 0
        assert np.array_equal(result.pixels[outside], frame.pixels[outside])
        assert frame.alpha is None or np.array_equal(result.alpha, frame.alpha)
    # pure: what came in is as it was, and a second call gives the same pixels
    assert all(
        np.array_equal(a, b)
        for a, b in zip(copies, (x for x in (frame.pixels, frame.alpha, frame.mask) if x is not None))
    )
    assert Engine([call]).run(frame).digest == result.digest


def test_the_contract_test_sees_the_stages() -> None:
    assert {"detect-text", "mask", "preflight", "erase", "inpaint", "upscale", "match-hist", "compare"} <= set(
        registry.stage_names()
    )
