"""Pipeline files: what they accept, and errors with file, line, step and the nearest right word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imgedit import pipeline, registry
from imgedit.errors import FileError, ImgeditError, UsageError

SHIPPED = sorted((Path(__file__).parents[1] / "pipelines").glob("*.yaml"))


def parse(text: str) -> pipeline.Pipeline:
    return pipeline.parse(text, "p.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_pipelines_are_found_by_name_and_round_trip(path: Path) -> None:
    found = pipeline.find(path.stem)
    again = parse(found.to_yaml())
    assert again.calls == found.calls


def test_ids_options_and_resources() -> None:
    found = parse(
        "steps:\n  - mask: {rect: [1, 2, 3, 4]}\n  - erase\n  - upscale: {scale: 3}\n    id: big\n"
        "  - match-hist: {reference: '@before-big'}\nresources: {memory_target_gb: 12}\n"
    )
    assert [c.id for c in found.calls] == ["mask", "erase", "big", "match-hist"]
    assert found.calls[2].params["scale"] == 3.0
    assert found.resources == {"memory_target_gb": 12}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", "", "mapping"),
        ("steps: []", ":1", "at least one step"),
        ("stepz: [erase]", ":1", "'steps'"),
        ("steps:\n  - erase\n  - upscal\n", ":3", "'upscale'"),
        ("steps:\n  - erase: {marign: 3}\n", ":2", "'margin'"),
        ("steps:\n  - erase: {margin: -3}\n", ":2", "1 to 4096"),
        ("steps:\n  - {erase: {}, mask: {}}\n", ":2", "one command"),
        ("steps:\n  - erase\nsteps:\n  - erase\n", ":3", "twice"),
        ("steps:\n  - upscale: {scale: 2}\n    id: a\n  - upscale: {scale: 2}\n    id: a\n", ":4", "taken"),
        ("steps:\n  - match-hist: {reference: '@before-upscale'}\n", ":2", "no earlier step"),
        ("steps:\n  - upscale\n  - match-hist: {reference: '@before-upscal'}\n", ":3", "'@before-upscale'"),
        ("steps: [erase]\nresources: {tile: 3}\n", ":2", "unknown key"),
        ("steps: [erase]\nresources: {overlap: -3}\n", ":2", "above 0"),
        ("steps: [erase\n", ":2", "YAML"),
        ("steps: [!!python/object/apply:os.system [ls]]", ":1", "mapping"),
        ("steps:\n  - erase: {margin: !!python/name:os.system ''}\n", ":2", "YAML"),
        ("- erase", ":1", "mapping"),
        ("\x00", "", "YAML"),
        ("[" * 5000, "", "YAML"),
    ],
)
def test_errors_name_file_line_and_the_right_word(text: str, line: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.message.startswith(f"p.yaml{line}")
    assert words in caught.value.message + " " + caught.value.hint


def test_an_alias_bomb_stays_small() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    with pytest.raises(UsageError):
        parse("\n".join(lines))
    with pytest.raises(UsageError):
        parse("steps:\n  - erase: {margin: &m [*m]}\n")


def test_a_missing_file_names_the_nearest_shipped_one() -> None:
    with pytest.raises(FileError) as caught:
        pipeline.find("remove-date-stmap")
    assert "remove-date-stamp" in caught.value.hint


def test_settings_change_one_option() -> None:
    found = pipeline.find("remove-date-stamp").override("upscale.scale=4")
    assert next(c for c in found.calls if c.id == "upscale").params["scale"] == 4.0
    for wrong in ("upscale", "upscal.scale=3", "upscale.scal=3", "upscale.scale=x"):
        with pytest.raises(UsageError):
            found.override(wrong)


def _values() -> st.SearchStrategy[Any]:
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8))
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    )


_STEP = st.one_of(
    st.sampled_from(registry.stage_names()),
    st.dictionaries(st.sampled_from([*registry.stage_names(), "id", "x", "loop"]), _values(), max_size=2),
    st.fixed_dictionaries({"loop": st.dictionaries(st.sampled_from(["steps", "rounds", "until"]), _values())}),
)


@given(st.one_of(_values(), st.fixed_dictionaries({"steps": st.lists(_STEP, max_size=3)})))
def test_any_yaml_is_a_pipeline_or_an_error_for_people(data: Any) -> None:
    try:
        found = parse(yaml.safe_dump(data))
    except ImgeditError as error:
        assert error.hint and error.message.startswith("p.yaml")
    else:
        assert parse(found.to_yaml()).calls == found.calls


def test_a_loop_is_its_steps_with_rounds_on_what_can_be_done_again() -> None:
    found = parse("steps:\n  - upscale\n  - loop: {until: clean, rounds: 4, steps: [detect-text, mask, erase]}\n")
    assert [c.stage.name for c in found.calls] == ["upscale", "detect-text", "mask", "erase"]
    assert found.calls[3].params["until_clean"] == 4
    plain = parse("steps: [upscale, detect-text, mask, erase: {until-clean: 4}]")
    assert plain.calls == found.calls == parse(found.to_yaml()).calls
    assert parse("steps: [loop: {steps: [erase]}]").calls[0].params["until_clean"] == 3
    own = parse("steps: [loop: {rounds: 9, steps: [erase: {until-clean: 2}, erase]}]")
    assert [c.params["until_clean"] for c in own.calls] == [2, 9]
    assert found.override("erase.until-clean=7").calls[3].params["until_clean"] == 7


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("steps:\n  - loop: {steps: [mask]}\n", ":2", "done again"),
        ("steps:\n  - loop:\n      rounds: 0\n      steps: [erase]\n", ":3", "1 to 10"),
        ("steps:\n  - loop:\n      rounds: null\n      steps: [erase]\n", ":3", "rounds: 3"),
        ("steps:\n  - loop:\n      steps: [erase: {until-clean: 2}]\n      rounds:\n", ":4", "rounds: 3"),
        ("steps:\n  - loop:\n      until: never\n      steps: [erase]\n", ":3", "until: clean"),
        ("steps:\n  - loop: {steps: [erase], round: 2}\n", ":2", "'rounds'"),
        ("steps:\n  - loop: {steps: [erase]}\n    id: a\n", ":2", "another name"),
        ("steps:\n  - loop: 3\n", ":2", "mapping"),
        ("steps:\n  - loop:\n      steps:\n        - loop: {steps: [erase]}\n", ":4", "no other loop"),
        ("steps:\n  - loop: {steps: []}\n", ":2", "at least one"),
        ("steps:\n  - loop:\n      steps:\n        - mask\n        - eras\n", ":5", "'erase'"),
        ("steps:\n  - loop:\n      steps:\n        - erase\n        - match-hist: {reference: '@no'}\n", ":5", "no e"),
    ],
)
def test_mistakes_in_a_loop_have_their_line(text: str, line: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.message.startswith(f"p.yaml{line}:")
    assert words in caught.value.message + " " + caught.value.hint


@given(
    margin=st.integers(1, 400),
    rects=st.lists(st.tuples(*[st.integers(-999, 999)] * 2, *[st.integers(1, 999)] * 2), min_size=1, max_size=3),
    scale=st.floats(1, 8),
)
def test_checked_pipelines_round_trip(margin: int, rects: list[Any], scale: float) -> None:
    data = {
        "steps": [{"mask": {"rect": rects}}, {"erase": {"margin": margin}}, {"upscale": {"scale": scale}, "id": "u"}]
    }
    found = parse(yaml.safe_dump(json.loads(json.dumps(data))))
    assert parse(found.to_yaml()).calls == found.calls


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps:\n  - erase: {margin: !!bool foo}\n", "bool"),
        ("steps:\n  - erase: {margin: !!timestamp foo}\n", "timestamp"),
        ("steps:\n  - {upscale: {scale: 2}, id: match-hist}\n  - match-hist\n", "taken"),
        ("steps:\n  - mask: {rect: 10,10,20,20}\n", "brackets"),
        (
            "steps:\n  - upscale\n  - upscale\n  - match-hist: {reference: '@before-upscale'}\n",
            "more than one",
        ),
    ],
)
def test_further_mistakes_have_a_line_and_a_hint(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.message.startswith("p.yaml:")
    assert words in caught.value.message + caught.value.hint


def test_settings_are_checked_as_the_file_is(tmp_path: Path) -> None:
    twice = parse("steps: [mask: {rect: [1, 1, 2, 2]}, erase, mask]")
    with pytest.raises(UsageError):
        twice.override("mask.dilate=3")
    found = pipeline.find("upscale-photo")
    with pytest.raises(UsageError):
        found.override("match-hist.reference=@before-nothing")
    changed = found.override("match-hist.reference=some/file.png")
    assert changed.calls[-1].params["reference"] == str(Path("some/file.png").absolute())


@pytest.mark.parametrize("name", ["remove-date-stamp", "upscale-photo"])
def test_shipped_pipelines_enlarge_photos_by_what_is_for_photos(name: str) -> None:
    (enlarging,) = (call for call in pipeline.find(name).calls if call.stage.name == "upscale")
    assert enlarging.params["backend"] == "hybrid"
