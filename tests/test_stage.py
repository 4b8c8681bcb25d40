"""One signature, one judge: what parameters accept and refuse, from a shell, from YAML and from Python."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgedit import registry
from imgedit.errors import UsageError
from imgedit.frame import Frame, ToneStats
from imgedit.stage import Limits, Opt, Polygon, Rect, Stage, stage


def _even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


@stage(needs=["mask"], keeps=["size"], backend="fill:auto")
def sample(
    frame: Frame,
    backend: Any,
    *,
    margin: Annotated[int, Opt("Context, pixels.", min=0, max=512)] = 64,
    pairs: Annotated[int, Opt("An even number.", check=_even)] = 2,
    strength: Annotated[float, Opt("Share.", min=0, max=1)] = 1.0,
    fit: Annotated[Literal["box", "glyph"], Opt("Form.")] = "box",
    invert: Annotated[bool, Opt("Turn round.")] = False,
    match: Annotated[str | None, Opt("Pattern.")] = None,
    rect: Annotated[tuple[Rect, ...], Opt("Places.")] = (),
    polygon: Annotated[tuple[Polygon, ...], Opt("Places.")] = (),
    metric: Annotated[tuple[str, ...], Opt("Names.")] = ("rmse",),
    max_: Annotated[Limits, Opt("Bounds.")] = {},  # noqa: B006
    reference: Annotated[Frame | None, Opt("Picture.")] = None,
    tone: Annotated[ToneStats | None, Opt("Tone.")] = None,
) -> Frame:
    """Do nothing."""
    return frame


STAGE: Stage = sample.stage  # type: ignore[attr-defined]


def one(name: str, value: Any) -> Any:
    return STAGE.check({name: value})[STAGE.param(name).name]


def test_defaults_fill_in_and_the_backend_is_an_option() -> None:
    values = STAGE.check({})
    assert values["margin"] == 64 and values["backend"] == "auto" and values["reference"] is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("margin", "3", 3),
        ("margin", 3, 3),
        ("strength", "0.5", 0.5),
        ("invert", "yes", True),
        ("invert", False, False),
        ("match", 2019, "2019"),
        ("rect", ["1,2,3,4"], ((1, 2, 3, 4),)),
        ("rect", "-40,-20,30,10", ((-40, -20, 30, 10),)),
        ("rect", [1, 2, 3, 4], ((1, 2, 3, 4),)),
        ("rect", [[1, 2, 3, 4], [5, 6, 7, 8]], ((1, 2, 3, 4), (5, 6, 7, 8))),
        ("polygon", ["0,0 4,0 2,3"], (((0.0, 0.0), (4.0, 0.0), (2.0, 3.0)),)),
        ("polygon", [[0, 0], [4, 0], [2, 3]], (((0.0, 0.0), (4.0, 0.0), (2.0, 3.0)),)),
        ("polygon", [[[0, 0], [4, 0], [2, 3]]], (((0.0, 0.0), (4.0, 0.0), (2.0, 3.0)),)),
        ("polygon", [[0, 0, 4, 0, 2, 3]], (((0.0, 0.0), (4.0, 0.0), (2.0, 3.0)),)),
        ("metric", "rmse,ssim", ("rmse", "ssim")),
        ("metric", ["rmse", "ssim"], ("rmse", "ssim")),
        ("max", ["rmse=0.1", "de2000=2"], {"rmse": 0.1, "de2000": 2.0}),
        ("max", {"rmse": 0.1}, {"rmse": 0.1}),
        ("reference", "a.png", "a.png"),
    ],
)
def test_text_and_values_mean_the_same(name: str, value: Any, expected: Any) -> None:
    assert one(name, value) == expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("margin", "x", "whole number"),
        ("margin", 1.5, "whole number"),
        ("margin", True, "whole number"),
        ("margin", 513, "0 to 512"),
        ("margin", None, "whole number"),
        ("pairs", 3, "odd"),
        ("strength", "nan", "finite"),
        ("strength", "inf", "finite"),
        ("strength", "1.5", "too large, it must be 0 to 1"),
        ("fit", "glyhp", "glyph"),
        ("invert", "maybe", "neither"),
        ("rect", "1,2,3", "x,y,width,height"),
        ("rect", "1,2,0,4", "at least 1"),
        ("polygon", "1,2 3,4", "three corners"),
        ("polygon", [[]], "three corners"),
        ("polygon", [[1, 2], 3], "corners"),
        ("polygon", [[[1, 2], 3, [4, 5]]], "not a number"),
        ("max", "rmse", "name=number"),
        ("max", {"rmse": "x"}, "number"),
        ("reference", 3, "file"),
    ],
)
def test_wrong_values_are_named_with_what_is_right(name: str, value: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        one(name, value)
    assert words in caught.value.message + caught.value.hint
    assert f"--{name}" in caught.value.message


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        STAGE.check({"marign": 3})
    assert "'margin'" in caught.value.hint


def test_names_with_dashes_and_underscores_are_one() -> None:
    assert registry.stage("detect-text").check({"min_score": 0.5}) == registry.stage("detect-text").check(
        {"min-score": "0.5"}
    )


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none(), st.lists(st.integers())))
def test_a_judge_never_breaks(value: Any) -> None:
    for name in STAGE.params:
        try:
            one(name, value)
        except UsageError as error:
            assert error.hint  # anything else would be a traceback for the user


@pytest.mark.parametrize("name", registry.stage_names())
def test_every_stage_documents_itself(name: str) -> None:
    found = registry.stage(name)
    assert found.name == name
    assert found.help.partition("\n")[0].endswith(".")
    for param in found.params.values():
        assert param.opt.help.endswith("."), f"{name} --{param.option}"
        if param.default is not None and not isinstance(param.default, dict):
            assert param.check(param.default) == param.default, f"{name} --{param.option}"
